// The claims that are prepared on this node: their tenants, and the records by which the next daemon finds
// them again.
//
// A claim's record is DIR/claims/UID, what was read of the API server's object; each of its results has a
// folder DIR/claim/HASH, which containers mount, and a device in the claim's own CDI file. The record is
// written last and removed last: what has none is swept away at the next start.
#pragma once
#include "kube/claim.h"
#include "kube/link.h"
#include "kube/recipe.h"

struct claims;

struct held {
        uint8_t used, stale; // stale: it could not be taken up again; it has no tenants
        int32_t tenant[KUBE_CLAIM_RESULTS_MAX];
        char dir[KUBE_CLAIM_RESULTS_MAX][112];
        char stranger[CLAIM_UID_SIZE]; // the pod that it did not name when it was last read for it
        uint8_t is_lowered[KUBE_CLAIM_RESULTS_MAX]; // a tenant's class, when it was looked at last
        uint64_t overruns[KUBE_CLAIM_RESULTS_MAX];  // of a tenant, likewise
        uint64_t reread_ns; // before then it is not read again because of a pod that it does not name
        struct claims *claims;
        struct claim claim;
};

struct claims {
        const struct host *host;
        const struct injection *injection;
        const struct claim_pool *pool;
        char dir[80];
        const char *cdi; // the folder of CDI's files
        struct held held[KUBE_CLAIMS_MAX];
};

#define CLAIMS_CDI_KIND "takt.dev/claim"

// Takes up what a daemon before this one had prepared, and sweeps the rest. Returns 0 or a negative errno.
int claims_open(struct claims *claims, const struct host *host, const struct injection *injection,
                const struct claim_pool *pool, const char *dir);
// Prepares the claim that `object` is, or does again what is missing of it; if its allocation has changed it
// is made anew. Returns 0, or a negative errno with the reason.
int claims_take(struct claims *claims, const json_t *object, const struct claim_name *of, char *why,
                size_t size);
// Learns which pods there are now; the allocation stays as it was prepared.
void claims_reread(struct claims *claims, struct held *held, const json_t *object);
// What is prepared under this UID, or NULL.
struct held *claims_find(struct claims *claims, const char *uid);
// Unprepares. Of what is not prepared nothing is left to do. Returns 0, or a negative errno with the reason.
int claims_drop(struct claims *claims, const char *uid, char *why, size_t size);
// The claim of a tenant, or NULL.
struct held *claims_of_tenant(struct claims *claims, uint32_t tenant);
// A claim that is reserved for this pod, by its UID, or NULL.
struct held *claims_of_pod(struct claims *claims, const char *pod);
// "takt.dev/claim=UID-0".
void claims_cdi_name(const struct held *held, uint32_t result, char *ret, size_t size);
