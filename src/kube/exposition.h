// What the daemon counts, as text for Prometheus (exposition format 0.0.4): from plain numbers to lines, no
// more.
#pragma once
#include <stddef.h>
#include "kube/limits.h"
#include "node/door.h"

struct exposition {
        struct door_snapshot now;
        struct door_device device[DOOR_DEVICES_MAX];
        uint8_t lost[DOOR_DEVICES_MAX], watched[DOOR_DEVICES_MAX]; // watched: NVML tells of it
        uint32_t n_resources;
        struct exposition_resource {
                const char *name;
                uint32_t slots[DOOR_DEVICES_MAX], held[DOOR_DEVICES_MAX]; // on each device
        } resource[KUBE_RESOURCES_MAX];
};

// The text, the caller's to free; NULL: out of memory.
char *exposition_text(const struct exposition *exposition, size_t *ret_size);
