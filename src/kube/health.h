// Which GPUs are lost, and their slots with them: by what NVML says, and those of which DIR/lost has a file
// by the UUID's name. The files are an operator's, who wants a GPU for himself: only he writes and removes
// them.
#pragma once
#include "kube/helper.h"
#include "kube/slots.h"
#include "kube/vitals.h"

struct health {
        const struct host *host;
        struct slots *slots;
        struct vitals vitals[KUBE_DEVICES_MAX];
        struct helper helper;
        char folder[88];
        struct watch news;
        uint32_t lost; // bits of GPUs
        void (*changed)(void *context);
        void *context;
};

// Makes the folder, marks the slots by what is in it, and has NVML asked. Returns 0 or a negative errno.
int health_open(struct health *health, const struct host *host, struct slots *slots, const char *dir,
                void (*changed)(void *), void *context);
uint64_t health_due(const struct health *health);
void health_tick(struct health *health, uint64_t now_ns);
void health_close(struct health *health);
