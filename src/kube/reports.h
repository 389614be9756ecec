// What happens to pods while they run, as events: overruns, a class that was lowered, a GPU that is lost; and
// annotations of a claim's pod, which are not read.
#pragma once
#include "kube/claims.h"
#include "kube/wishes.h"

struct reports {
        struct wishes *wishes;
        struct claims *claims; // NULL: no GPU goes by claims
        struct events *events;
        const char *node;
        uint32_t lost;        // bits of GPUs
        uint8_t said_overrun; // in this look
        uint64_t due_ns;      // of the next look
        uint64_t quiet_ns;    // until then no overrun is told of, but for a class that it costs
};

// What the core has counted since the last look. is_last: a slot whose pod is not known is told of in the
// log; else it is left until it is known.
void reports_look(struct reports *reports, int is_last, uint64_t now_ns);
// Looks, once a second.
uint64_t reports_due(const struct reports *reports);
void reports_tick(struct reports *reports, uint64_t now_ns);
// GPUs' health has changed (lost: their bits): of the node, of each pod that has a slot there, and of each
// claim that is prepared there: of its pod, if it is the only one.
void reports_health(struct reports *reports, uint32_t lost);
// What an event of a claim is of: its pod, if it is the only one; else the claim.
struct events_object reports_object_of(const struct claim *claim);
