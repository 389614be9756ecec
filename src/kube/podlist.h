// This node's pods that ask for slots, as the API server has them: who they are, and what their annotations
// say. Where GPUs go by claims, also pods that ask for no slot and have annotations of ours: a claim's pod
// may think that they are read.
#pragma once
#include "kube/api_watch.h"
#include "kube/promise.h"
#include "kube/slots.h"

enum pod_qos { POD_GUARANTEED, POD_BURSTABLE, POD_BEST_EFFORT };

struct pod {
        char uid[37], namespace[64], name[254]; // uid "": free
        enum pod_qos qos;
        uint8_t is_there;                  // the list that is being read has it
        uint8_t started;                   // the kubelet has taken it, or refused it, or it is over
        uint8_t wants[KUBE_RESOURCES_MAX]; // containers that ask for slots of the resource
        uint8_t taken[KUBE_RESOURCES_MAX]; // Allocate calls that can only have been its own
        struct promise_words words;
        // What is not understood of its annotations; of one that asks for no slot, all; "": nothing.
        char wrong[KUBE_WRONG_MAX];
        uint8_t said_wrong;
        uint64_t print; // changes with what it says; never 0
};

struct podlist {
        const struct slots *slots;
        struct api_watch watch;
        uint8_t synced;
        uint8_t full, strange;           // of the list that is being read, or what came after it
        uint8_t said_full, said_strange; // and of the one before
        uint32_t n_pods;                 // places that were ever used
        struct pod pod[KUBE_PODS_MAX];
        void (*changed)(void *context);
        void *context;
};

// Begins to watch the pods of a node. `changed` is called from the loop after each list and change. Returns 0
// or a negative errno: -EINVAL where `node` is no node's name. The storage is all 0.
int podlist_open(struct podlist *list, struct api *api, const struct slots *slots, const char *node,
                 void (*changed)(void *), void *context);
struct pod *podlist_by_uid(struct podlist *list, const char *uid);
// Whether it asks for any slot.
int podlist_wants_slots(const struct pod *pod);
struct pod *podlist_by_name(struct podlist *list, const char *namespace, const char *name);

// For the watch and the tests: one change.
void podlist_take(struct podlist *list, enum api_event event, const json_t *object);
