// What happens to pods while they run, as events: overruns, a class that was lowered, a GPU that is lost.
#pragma once
#include "kube/claims.h"
#include "kube/wishes.h"

struct reports {
        struct wishes *wishes;
        const struct claims *claims; // NULL: no GPU goes by claims
        struct events *events;
        const char *node;
        uint32_t lost; // bits of GPUs
};

// After each look at who has which slot: what the core has counted since the last one.
void reports_look(struct reports *reports);
// GPUs' health has changed (lost: their bits): of the node, of each pod that has a slot there, and of each
// claim that is prepared there: of its pod, if it is the only one.
void reports_health(struct reports *reports, uint32_t lost);
