#include "kube/recipe.h"
#include <stdio.h>

static void env(struct recipe *recipe, const char *key, const char *value)
{
        recipe->env[recipe->n_envs++] = (struct recipe_env){key, value};
}

static void mount(struct recipe *recipe, const char *host, const char *container)
{
        recipe->mount[recipe->n_mounts++] = (struct recipe_mount){host, container};
}

static void shims(struct recipe *recipe, const struct injection *how)
{
        mount(recipe, how->lib, RECIPE_LIB_DIR);
        snprintf(recipe->library_path, sizeof recipe->library_path, RECIPE_LIB_DIR "%s%s",
                 how->library_path[0] ? ":" : "", how->library_path);
        if (how->preload)
                env(recipe, "LD_PRELOAD",
                    RECIPE_LIB_DIR "/libcuda.so.1:" RECIPE_LIB_DIR "/libnvidia-ml.so.1");
        else
                env(recipe, "LD_LIBRARY_PATH", recipe->library_path);
}

// Folders, never files: what lies in them may be made anew while the container runs.
void recipe_make(struct recipe *ret, const char *dir, const char *gpu, uint64_t quota,
                 const struct injection *how)
{
        *ret = (struct recipe){0};
        mount(ret, dir, RECIPE_RUN_DIR);
        env(ret, "TAKT_SOCKET", RECIPE_RUN_DIR "/join");
        env(ret, "TAKT_REQUESTS", RECIPE_RUN_DIR "/requests");
        env(ret, "NVIDIA_VISIBLE_DEVICES", gpu);
        if (quota) {
                snprintf(ret->quota, sizeof ret->quota, "%lu", quota);
                env(ret, "TAKT_MEMORY_QUOTA", ret->quota);
        }
        if (how->driver[0])
                mount(ret, how->driver, RECIPE_DRIVER_DIR);
        if (how->lib[0])
                shims(ret, how);
}

void recipe_make_slot(struct recipe *ret, const struct slots *slots, uint32_t index, uint32_t n,
                      const struct injection *how)
{
        const struct slot *slot = &slots->slot[index];

        recipe_make(ret, slot->dir, slots->device[slot->device].uuid, slot->contract.memory_bytes * n, how);
}
