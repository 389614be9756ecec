// The DRA side put together: driver, slices, and the API server behind both. Nothing of it exists where no
// GPU goes by claims.
#pragma once
#include "kube/api_watch.h"
#include "kube/driver.h"
#include "kube/slices.h"

struct claiming {
        uint8_t is_open;
        struct claim_pool pool;
        struct cluster cluster;
        struct driver driver;
        struct slices slices;
        struct api_watch watch;
};

// node: this node's name; devices: bits of the GPUs that go by claims, at least one. The API server need not
// be there yet, but must be known. Returns 0, or a negative errno with the reason.
int claiming_open(struct claiming *claiming, const struct host *host, const struct slots *slots,
                  const struct injection *injection, struct api *api, const char *node, const char *kubelet,
                  const char *dir, char *why, size_t size);
void claiming_close(struct claiming *claiming);
// lost: bits of GPUs.
void claiming_health(struct claiming *claiming, uint32_t lost);
uint64_t claiming_due(const struct claiming *claiming);
void claiming_tick(struct claiming *claiming, uint64_t now_ns);
