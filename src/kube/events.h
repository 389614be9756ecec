// Events of Kubernetes: what `kubectl describe` shows of a pod or a node. One that comes again is counted,
// not written anew, and of a flood only so many are written.
#pragma once
#include "kube/api.h"

// What an event is of. The strings must last only for the call.
struct events_object {
        const char *kind;                   // "Pod", "Node" or "ResourceClaim"
        const char *namespace, *name, *uid; // a node has no namespace, and its name for a UID
};

struct event {
        uint64_t key;                // of object, reason and message; 0: free
        char namespace[64], at[254]; // where the event itself is kept, once it was written
        char involved[16], object_namespace[64], object[254], uid[40];
        char reason[32], text[KUBE_EVENT_TEXT_MAX];
        uint8_t warning;
        uint8_t dirty;   // there is more to tell than was written
        uint8_t asking;  // it is being written
        uint8_t written; // it is kept there
        uint32_t count;
        time_t first, last;
        uint64_t last_ns, sent_ns; // sent_ns 0: never
};

struct events {
        struct api *api;
        char node[64];
        uint32_t n_events;          // places that were ever used
        uint64_t n_lost, budget_ns; // budget_ns: when all of the burst may be used again
        struct event event[KUBE_EVENTS_MAX];
};

// Of an api that is not open, or without a node's name, nothing is written. The storage is all 0, of which
// what is not needed is never touched.
void events_open(struct events *events, struct api *api, const char *node);
// Says it; in the log, too. reason: one word; text: what happened, with the numbers. Never waits, never
// fails.
void events_say(struct events *events, const struct events_object *object, int warning, const char *reason,
                const char *format, ...) __attribute__((format(printf, 5, 6)));
// When events_tick is due.
uint64_t events_due(const struct events *events);
void events_tick(struct events *events, uint64_t now_ns);
