#include "kube/cdi.h"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include "kube/file.h"

// The folder's name: short, and unique on the node.
static const char *short_name(const struct slot *slot)
{
        const char *slash = strrchr(slot->dir, '/');

        return slash ? slash + 1 : slot->dir;
}

void cdi_name(const struct slot *slot, char *ret, size_t size)
{
        snprintf(ret, size, CDI_KIND "=%s", short_name(slot));
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
        json_t *devices = json_array();
        struct recipe recipe;

        for (uint32_t i = 0; i < slots->n_slots; i++) {
                recipe_make_slot(&recipe, slots, i, 1, injection);
                // How much memory there is depends on how many slots come together.
                json_array_append_new(devices, cdi_device(short_name(&slots->slot[i]), &recipe, 0));
        }
        return cdi_put(injection->cdi, "takt.dev-slot.json", CDI_KIND, devices);
}
