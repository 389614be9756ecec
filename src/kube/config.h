// The configuration: NVIDIA's time-slicing file as it is, and Takt's keys beside it.
#pragma once
#include "kube/api_where.h"
#include "kube/recipe.h"

struct config_devices {
        uint32_t n_first; // so many GPUs; 0: those listed; UINT32_MAX: all
        uint32_t n_listed;
        char listed[KUBE_DEVICES_MAX][44]; // UUID or index
};

struct config {
        char kubelet[80]; // folder of the kubelet's own
        struct injection injection;
        char metrics[108]; // where they are served; "": nowhere
        enum slots_policy policy;
        uint8_t watched;        // the kubelet's plugin watcher finds us
        char shims[96];         // where Takt's libraries are
        char node[64];          // this node's name; "": NODE_NAME's value
        uint8_t no_api;         // nothing is asked of the API server
        uint8_t no_annotations; // pods have no promises of their own
        struct api_where api;
        struct config_devices claimed; // which GPUs go by claims (DRA)
        uint32_t n_resources;
        struct config_resource {
                char name[64];
                uint32_t replicas;
                struct config_devices devices;
                struct core_contract contract;
                uint8_t single, has_class, own; // own: it has a `takt` section
        } resource[KUBE_RESOURCES_MAX];
};

// Returns 0, or -EINVAL with the line and the key in `why`.
int config_parse(const char *text, size_t size, struct config *ret, char *why, size_t why_size);
// Which GPUs each resource is on, and which go by claims; a line of the log names those that are listed and
// not on this node. Returns 0, or -EINVAL for one that would go both ways, or for a promise that none can
// keep.
int config_apply(const struct config *config, struct slots *slots, char *why, size_t why_size);
