#include "kube/cdi.h"
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

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

static json_t *device(const struct slots *slots, uint32_t index, const struct injection *injection)
{
        json_t *env = json_array(), *mounts = json_array();
        struct recipe recipe;
        char text[400];

        recipe_make(&recipe, slots, index, 1, injection);
        for (uint32_t i = 0; i < recipe.n_envs; i++) {
                if (!strcmp(recipe.env[i].key,
                            "TAKT_MEMORY_QUOTA")) // which depends on how many slots come together
                        continue;
                snprintf(text, sizeof text, "%s=%s", recipe.env[i].key, recipe.env[i].value);
                json_array_append_new(env, json_string(text));
        }
        for (uint32_t i = 0; i < recipe.n_mounts; i++)
                json_array_append_new(mounts,
                                      json_pack("{s:s,s:s,s:[s,s,s,s]}", "hostPath", recipe.mount[i].host,
                                                "containerPath", recipe.mount[i].container, "options", "ro",
                                                "nosuid", "nodev", "bind"));
        return json_pack("{s:s,s:{s:o,s:o}}", "name", short_name(&slots->slot[index]), "containerEdits",
                         "env", env, "mounts", mounts);
}

static int write_whole(const char *folder, const char *text)
{
        char path[160], new[160];
        size_t size = strlen(text);
        int fd, ok;

        snprintf(path, sizeof path, "%s/takt.dev-slot.json", folder);
        snprintf(new, sizeof new, "%s/.takt.dev-slot.new", folder);
        fd = open(new, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0644);
        if (fd < 0)
                return -errno;
        ok = write(fd, text, size) == (ssize_t)size && fsync(fd) == 0;
        ok &= close(fd) == 0;
        if (ok && rename(new, path) == 0)
                return 0;
        unlink(new);
        return -EIO;
}

int cdi_write(const struct slots *slots, const struct injection *injection)
{
        json_t *devices = json_array(), *file;
        char *text;
        int error;

        if (mkdir(injection->cdi, 0755) < 0 && errno != EEXIST)
                return json_decref(devices), -errno;
        for (uint32_t i = 0; i < slots->n_slots; i++)
                json_array_append_new(devices, device(slots, i, injection));
        file = json_pack("{s:s,s:s,s:o}", "cdiVersion", "0.5.0", "kind", CDI_KIND, "devices", devices);
        text = file ? json_dumps(file, JSON_INDENT(1)) : NULL;
        json_decref(file);
        error = text ? write_whole(injection->cdi, text) : -ENOMEM;
        free(text);
        return error;
}
