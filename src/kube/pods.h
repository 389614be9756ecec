// Who has which slot, by the kubelet's word (pod-resources): gives tenants the names of their pods, and takes
// back the slots of pods that have ended, of which the kubelet tells device plugins nothing.
#pragma once
#include "kube/slots.h"

struct pods {
        const struct host *host;
        struct slots *slots;
        char path[108];
        struct link link;
        uint8_t asking, silent; // silent: that there is no answer was said already
        uint8_t urgent;         // a promise waits for what is found
        uint64_t due_ns;
        void (*looked)(void *context); // after each look, whatever came of it
        void *context;
};

void pods_open(struct pods *pods, const struct host *host, struct slots *slots, const char *kubelet,
               void (*looked)(void *), void *context);
// Looks now. urgent: a slot that was once seen with a pod and is no more is free at once; else after two
// looks. Returns 0: `looked` will be called; or a negative errno: there is nobody to ask.
int pods_look(struct pods *pods, int urgent);
uint64_t pods_due(const struct pods *pods);
void pods_tick(struct pods *pods, uint64_t now_ns);
void pods_close(struct pods *pods);

// What an answer says: marks the slots that are named in it, and names their tenants. Returns 0 or -EBADMSG.
int pods_read(struct slots *slots, const uint8_t *data, size_t size);
// Frees what is held and was not marked since; a slot with processes is never free.
void pods_reap(struct slots *slots, int urgent);
