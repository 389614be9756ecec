// What the scheduler may give away: this node's ResourceSlice, published and kept as it should be.
//
// The kubelet deletes it at its start, and whenever there was no driver for 30 s. So it is published after
// each registration, and looked at again whenever the API server has news of it.
#pragma once
#include "kube/claim.h"
#include "kube/cluster.h"

struct slices {
        const struct claim_pool *pool;
        const struct cluster *cluster;
        char name[254], owner[CLAIM_UID_SIZE]; // owner: the node's UID
        uint8_t published;                     // a kubelet has registered us
        uint8_t asking, again;                 // again: there was news meanwhile
        uint8_t unwell, no_owner;
        uint8_t different; // the server kept something else than was sent; said already
        uint32_t lost;     // bits of GPUs that nobody shall be given now
        uint64_t due_ns, wait_ns;
        json_int_t generation; // of the pool, the highest that was seen
        json_t *sent, *kept;   // our newest specification, and what the server made of it
};

void slices_open(struct slices *slices, const struct claim_pool *pool, const struct cluster *cluster);
// A kubelet has registered us, GPUs were lost or found, or the API server has news: it is looked at again.
void slices_publish(struct slices *slices);
void slices_health(struct slices *slices, uint32_t lost);
void slices_news(struct slices *slices);
// Forgets what was asked. The slice stays: the next daemon's is the same.
void slices_close(struct slices *slices);
uint64_t slices_due(const struct slices *slices);
void slices_tick(struct slices *slices, uint64_t now_ns);
