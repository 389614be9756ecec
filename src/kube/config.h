// The configuration: NVIDIA's time-slicing file as it is, and Takt's keys beside it.
#pragma once
#include "kube/recipe.h"

struct config {
        char kubelet[80]; // folder of the kubelet's own
        struct injection injection;
        char metrics[108];       // where they are served; "": nowhere
        uint8_t packed, watched; // watched: the kubelet's plugin watcher finds us
        char shims[96];          // where Takt's libraries are
        uint32_t n_resources;
        struct config_resource {
                char name[64];
                uint32_t replicas;
                uint32_t n_first; // so many GPUs; 0: those listed; UINT32_MAX: all
                uint32_t n_devices;
                char device[KUBE_DEVICES_MAX][44]; // UUID or index
                struct core_contract contract;
                uint8_t single, has_class;
        } resource[KUBE_RESOURCES_MAX];
};

// Returns 0, or -EINVAL with the line and the key in `why`.
int config_parse(const char *text, size_t size, struct config *ret, char *why, size_t why_size);
// Which GPUs each resource is on. Returns 0, or -EINVAL for one that is not there, or for a promise that none
// can keep.
int config_apply(const struct config *config, struct slots *slots, char *why, size_t why_size);
