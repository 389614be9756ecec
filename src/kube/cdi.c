#include "kube/cdi.h"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include "kube/file.h"

#define SLOTS_FILE "takt.dev-slot.json"

void cdi_name(const struct slot *slot, char *ret, size_t size)
{
        snprintf(ret, size, CDI_KIND "=%s", slots_folder(slot));
}

json_t *cdi_device(const char *name, const struct recipe *recipe, int with_quota)
{
        json_t *env = json_array(), *mounts = json_array();
        char text[400];

        for (uint32_t i = 0; i < recipe->n_envs; i++) {
                if (!with_quota && !strcmp(recipe->env[i].key, "TAKT_MEMORY_QUOTA"))
                        continue;
                snprintf(text, sizeof text, "%s=%s", recipe->env[i].key, recipe->env[i].value);
                json_array_append_new(env, json_string(text));
        }
        for (uint32_t i = 0; i < recipe->n_mounts; i++)
                json_array_append_new(mounts,
                                      json_pack("{s:s,s:s,s:[s,s,s,s]}", "hostPath", recipe->mount[i].host,
                                                "containerPath", recipe->mount[i].container, "options", "ro",
                                                "nosuid", "nodev", "bind"));
        return json_pack("{s:s,s:{s:o,s:o}}", "name", name, "containerEdits", "env", env, "mounts", mounts);
}

int cdi_put(const char *folder, const char *name, const char *kind, json_t *devices)
{
        json_t *file = json_pack("{s:s,s:s,s:o}", "cdiVersion", "0.5.0", "kind", kind, "devices", devices);
        char *text = file ? json_dumps(file, JSON_INDENT(1)) : NULL;
        int error = text ? 0 : -ENOMEM;

        json_decref(file);
        if (!error && mkdir(folder, 0755) < 0 && errno != EEXIST)
                error = -errno;
        if (!error)
                error = file_write_whole(folder, name, text);
        free(text);
        return error;
}

int cdi_write(const struct slots *slots, const struct injection *injection)
{
        static struct stat written; // the file, when it was written last: each Allocate asks for it
        char path[sizeof injection->cdi + sizeof SLOTS_FILE + 1];
        struct recipe recipe;
        struct stat now;
        json_t *devices;
        int error;

        snprintf(path, sizeof path, "%s/" SLOTS_FILE, injection->cdi);
        if (stat(path, &now) == 0 && now.st_dev == written.st_dev && now.st_ino == written.st_ino &&
            now.st_size == written.st_size && now.st_mtim.tv_sec == written.st_mtim.tv_sec &&
            now.st_mtim.tv_nsec == written.st_mtim.tv_nsec)
                return 0;
        devices = json_array();
        for (uint32_t i = 0; i < slots->n_slots; i++) {
                recipe_make_slot(&recipe, slots, i, 1, injection);
                // How much memory there is depends on how many slots come together.
                json_array_append_new(devices, cdi_device(slots_folder(&slots->slot[i]), &recipe, 0));
        }
        error = cdi_put(injection->cdi, SLOTS_FILE, CDI_KIND, devices);
        return error || stat(path, &written) == 0 ? error : -errno;
}
