// What is offered: resources, each with some slots on each of its GPUs, and who has which slot.
//
// A slot's id is its GPU's UUID and a number: the same after each restart. What a slot's holder may mount is
// the slot's folder, and the folder is also the record that the slot is held: it outlives the daemon, so that
// the next one takes the promise up again.
#pragma once
#include "kube/limits.h"
#include "kube/link.h"

struct resource {
        char name[64];
        struct core_contract contract; // of one slot
        uint32_t replicas;             // slots on each GPU
        uint32_t devices;              // bits of GPUs
        uint8_t single;                // a container may ask for one slot only
        uint8_t own;                   // its promise was made by the configuration, not by default
};

struct slot {
        char id[64], dir[112];
        uint32_t resource, device;
        int32_t tenant; // -1: it holds none itself
        int32_t with;   // the slot whose tenant this one strengthens; -1: none
        uint8_t ill;
        uint8_t listed, seen;          // the kubelet named its pod when it was asked last; or ever
        uint32_t n_missed;             // looks since, in which it did not
        char pod[37];                  // UID of the pod whose process came first; "": none yet
        char namespace[64], name[254]; // of its pod, as the kubelet says; "": it did not yet
        struct core_contract contract; // what is promised to it, and to each slot that strengthens it
        uint8_t is_lowered;            // of its class, when it was looked at last
        uint64_t overruns;             // of its tenant, likewise
        uint64_t judged;               // the pod's print whose promise was judged for it; 0: none was
};

struct slots {
        const struct host *host;
        char dir[80];
        uint32_t n_devices, n_resources, n_slots;
        uint32_t claimed; // bits of GPUs that go by claims, and have no slots
        enum slots_policy { SLOTS_DISTRIBUTED, SLOTS_PACKED, SLOTS_LEAST_DEGRADED } policy;
        struct door_device device[KUBE_DEVICES_MAX];
        struct resource resource[KUBE_RESOURCES_MAX];
        struct slot slot[KUBE_SLOTS_MAX];
};

// Makes the slots of the resources that are filled in, in folders below `dir`, and takes up
// what a daemon before this one held. Returns 0 or a negative errno.
int slots_open(struct slots *slots, const struct host *host, const char *dir);
// Its folder's name: short, and unique on the node.
const char *slots_folder(const struct slot *slot);
// The slot of a resource by id; -ENOENT.
int slots_find(const struct slots *slots, uint32_t resource, const char *id);
// Gives the slots (of one resource, on one GPU) to a new holder, together one tenant: whatever held them
// before is gone, as the kubelet gives away only what it holds free. contract: what is promised to each;
// NULL: what their resource promises. ret: the slot whose folder it is. Returns 0, or a negative errno with
// the reason in `why`; -ERANGE: it is too much for so many, and `why` begins with the key.
int slots_take(struct slots *slots, const uint32_t *which, uint32_t n, const struct core_contract *contract,
               uint32_t *ret, char *why, size_t size);
// Promises something else to a slot that has a tenant. Returns 0, or a negative errno with the reason, as
// slots_take: it keeps what it had.
int slots_amend(struct slots *slots, uint32_t slot, const struct core_contract *contract, char *why,
                size_t size);
// Makes sure that the slot is held, as after a restart without its record.
int slots_hold(struct slots *slots, uint32_t slot, char *why, size_t size);
void slots_free(struct slots *slots, uint32_t slot);
// Chooses n of the available slots, must[] among them: all on one GPU if there is one with so many, on one
// where what is promised to them together would be admitted if there is one, and of those by the policy: with
// the fewest slots taken, the most, or the least degradation of who is there. contract: what is promised to
// each; NULL: what their resource promises. ret has room for n. Returns how many were chosen.
uint32_t slots_prefer(const struct slots *slots, const uint32_t *available, uint32_t n_available,
                      const uint32_t *must, uint32_t n_must, const struct core_contract *contract, uint32_t n,
                      uint32_t *ret);
// A process of this pod comes to the slot: it is the pod's from the first one on. Returns 1: the first; 0; or
// -EPERM: it is another pod's.
int slots_claim(struct slots *slots, uint32_t slot, const char *pod);
// The slot that is this tenant's, or -1.
int slots_of_tenant(const struct slots *slots, uint32_t tenant);
