// The DRA driver's methods, as its socket answers them: claims in, devices of the container runtime out.
//
// The kubelet names claims only by name and UID, so each is read at the API server before it is prepared. If
// that gives no answer, what is prepared already stays prepared.
#pragma once
#include "kube/claims.h"
#include "kube/cluster.h"

struct dra;

struct prepare {
        struct rpc_call *call; // NULL: this one is free
        uint32_t n, n_waiting;
        struct wanted {
                struct dra *dra;
                struct prepare *prepare;
                struct claim_name of;
                char uid[CLAIM_UID_SIZE]; // as the kubelet wrote it
                char error[512];          // "": it is prepared
                uint8_t waiting;
        } one[KUBE_PREPARE_CLAIMS_MAX];
};

struct dra {
        const struct host *host;
        const struct claim_pool *pool;
        const struct cluster *cluster;
        struct claims claims;
        uint32_t lost;             // bits of GPUs that are unwell
        struct rpc_call *watching; // the kubelet's health stream, if any
        uint8_t stale;             // it has not had the newest
        uint64_t told_ns;          // when health was told last
        // What the kubelet made of our registration.
        void (*notified)(struct dra *dra, int is_registered, const char *error);
        uint8_t unsent; // answers came by themselves: all links are to be flushed, from the loop
        struct prepare prepare[KUBE_PREPARE_MAX];
};

// The rpc service of which the context is a struct dra.
extern const struct rpc_service dra_service;
// Takes up what was prepared. Returns 0 or a negative errno.
int dra_open(struct dra *dra, const struct host *host, const struct injection *injection,
             const struct claim_pool *pool, const struct cluster *cluster, const char *dir);
// Says which GPUs are lost now.
void dra_health(struct dra *dra, uint32_t lost);
// Ends the health stream in order.
void dra_close(struct dra *dra);
// When health is to be told again.
uint64_t dra_due(const struct dra *dra);
void dra_tick(struct dra *dra, uint64_t now_ns);
// Whether a process of the pod may join the tenant. 1: yes; 0: no; or not yet, as the claim is read again to
// see whether the pod has come since (the process tries again after a second); -ENOENT: no claim's tenant.
int dra_may_join(struct dra *dra, uint32_t tenant, const char *pod, uint64_t now_ns);
