// What makes a container a tenant: the environment and the folders that it gets. Told to the kubelet in
// Allocate's answer, or to the container runtime by CDI.
#pragma once
#include "kube/slots.h"

// How a container comes to its slot.
struct injection {
        char lib[96];    // the host's folder of the shims; "": none, the image brings them
        char driver[96]; // the host's folder that is mounted as the driver's; "": the container has its own
        uint8_t preload;
        char library_path[128]; // what follows the shims' folder in LD_LIBRARY_PATH
        char cdi[96];           // the folder of CDI's files; "": by Allocate's own means
};

// Where containers find it.
#define RECIPE_RUN_DIR "/run/takt"
#define RECIPE_LIB_DIR "/opt/takt/lib"
#define RECIPE_DRIVER_DIR "/opt/takt/driver"

// Points into what it was made of and itself. All mounts are read-only.
struct recipe {
        uint32_t n_envs, n_mounts;
        struct recipe_env {
                const char *key, *value;
        } env[8];
        struct recipe_mount {
                const char *host, *container;
        } mount[4];
        char library_path[320], quota[24];
};

// dir: the tenant's folder; quota: bytes of memory, 0: none.
void recipe_make(struct recipe *ret, const char *dir, const char *gpu, uint64_t quota,
                 const struct injection *injection);
// The same of a container that has n slots.
void recipe_make_slot(struct recipe *ret, const struct slots *slots, uint32_t slot, uint32_t n,
                      const struct injection *injection);
