// Which GPUs are lost: those of which DIR/lost has a file by the UUID's name. Whoever watches the hardware,
// or an operator who wants a GPU for himself, writes and removes it.
#pragma once
#include "kube/slots.h"

struct health {
        const struct host *host;
        struct slots *slots;
        char folder[88];
        struct watch news;
        uint32_t lost; // bits of GPUs
        void (*changed)(void *context);
        void *context;
};

// Makes the folder, and marks GPUs and their slots by what is in it. Returns 0 or a negative errno.
int health_open(struct health *health, const struct host *host, struct slots *slots, const char *dir,
                void (*changed)(void *), void *context);
