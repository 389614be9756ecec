// A ResourceClaim as the API server gives it: what of it is ours, checked.
//
// Each result of its allocation that is our driver's becomes one tenant: the share and the memory are what
// the scheduler counted (consumedCapacity), the objectives are the opaque configuration of the class, and
// over it that of the claim. A claim without objectives is of the fair class, its weight in proportion to its
// share.
#pragma once
#include <jansson.h>
#include "kube/limits.h"
#include "node/door.h"

#define CLAIM_DRIVER "gpu.takt.dev"
#define CLAIM_SHARE "takt.dev/share"
#define CLAIM_UID_SIZE 37
// A GPU's name in ResourceSlices: its UUID in small letters.
#define CLAIM_DEVICE_SIZE 44

struct claim_name {
        char uid[CLAIM_UID_SIZE];
        char namespace[64], name[254];
};

struct claim {
        struct claim_name of;
        uint32_t n_results, n_pods;
        struct claim_result {
                char request[64]; // without a subrequest's name
                char share_id[CLAIM_UID_SIZE];
                uint32_t gpu; // index
                struct core_contract contract;
        } result[KUBE_CLAIM_RESULTS_MAX];
        // UIDs of the pods that it is reserved for.
        char pod[KUBE_CLAIM_PODS_MAX][CLAIM_UID_SIZE];
        char pod_name[254]; // of the only one; "": several, or none
};

// What may be claimed here.
struct claim_pool {
        char name[254];   // the node's
        uint32_t devices; // bits of the GPUs that go by claims
        uint32_t n_devices;
        struct door_device device[KUBE_DEVICES_MAX];
};

// Whether the words may stand in paths: of files and of the API server. Returns 0, or -EINVAL with the
// reason.
int claim_name_check(const char *uid, const char *namespace, const char *name, struct claim_name *ret,
                     char *why, size_t size);
// Reads the object that was found by this name. Returns 0, or -EINVAL with the reason, which names claim, key
// and value.
int claim_read(const json_t *object, const struct claim_name *of, const struct claim_pool *pool,
               struct claim *ret, char *why, size_t size);
// Only what claim_read reads, as a record of the claim that was found by this name (the object may say
// another): a new reference, or NULL.
json_t *claim_record(const json_t *object, const struct claim_name *of);
// Whether both are the same allocation: results and promises.
int claim_same(const struct claim *a, const struct claim *b);
int claim_has_pod(const struct claim *claim, const char *pod);
void claim_device_name(const struct door_device *gpu, char ret[CLAIM_DEVICE_SIZE]);
