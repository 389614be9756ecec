// What pods promise themselves by their annotations: judged at Allocate where it can only be one promise, and
// else, or again, once the pod that has a slot is known.
#pragma once
#include "kube/events.h"
#include "kube/podlist.h"

struct wishes {
        struct slots *slots;
        struct events *events;
        uint8_t deaf; // annotations are of no account
        struct podlist list;
};

// A promise that an Allocate can only mean.
struct wish {
        struct pod *pod; // NULL: none; of several who wish the same, one
        uint32_t n_pods; // how many they are
        struct core_contract contract;
};

// Begins to watch the node's pods. Returns 0 or a negative errno; then there are no wishes.
int wishes_open(struct wishes *wishes, struct slots *slots, struct api *api, struct events *events,
                const char *node);
// The promise of whoever is given the slot now: of this node's pods that ask for its resource and have no
// slot yet, if all wish the same. Returns 0, or -EAGAIN: they differ, and who has which slot should be asked
// before one more try.
int wishes_at_allocate(struct wishes *wishes, uint32_t slot, struct wish *ret_wish);
// Whether new pods are told of now. While they are not, a wish may be of another pod than the one that is
// given the slot: no refusal may rest on it.
int wishes_hear(const struct wishes *wishes);
// What came of it: error 0, or why the core refused. is_final: it is not tried again. An event tells the pod,
// if it is the only one; else the log does, and the kubelet's own event, which has the reason, names it.
void wishes_allocated(struct wishes *wishes, const struct wish *wish, uint32_t slot, int error,
                      const char *why, int is_final);
// Judges what was not judged yet, of pods that are known by now: after each look at who has which slot, and
// each change of the pods.
void wishes_settle(struct wishes *wishes);
// A process of the slot's pod comes, of which its cgroup says that it is of the class BestEffort, or not.
// Where the API server has not told of the pod, that decides what its annotations and its QoS class would.
void wishes_joined(struct wishes *wishes, uint32_t slot, int is_best_effort);
// The pod that has the slot; NULL: not known, or not for sure.
struct pod *wishes_pod_of(struct wishes *wishes, const struct slot *slot);
