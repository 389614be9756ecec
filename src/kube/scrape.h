// Who asks for the metrics, over HTTP: libmicrohttpd in the daemon's loop, without a thread of its own.
#pragma once
#include <stddef.h>
#include "kube/link.h"

struct MHD_Daemon;

struct scrape {
        const struct host *host;
        struct watch news; // of all its sockets
        struct MHD_Daemon *server;
        char path[108];  // of a unix socket; "": TCP
        uint64_t due_ns; // when scrape_tick is due
        // The answer to GET /metrics, to be freed with free(); NULL: out of memory.
        char *(*text)(void *context, size_t *ret_size);
        void *context;
};

// Listens at `where`: HOST:PORT, :PORT (every address), [IPV6]:PORT, all by number; or a unix socket's path,
// for root. GET /metrics and /healthz are answered, nothing else. Returns 0, or a negative errno with the
// reason in `why`.
int scrape_open(struct scrape *scrape, const struct host *host, const char *where,
                char *(*text)(void *context, size_t *ret_size), void *context, char *why, size_t size);
uint64_t scrape_due(const struct scrape *scrape);
void scrape_tick(struct scrape *scrape);
void scrape_close(struct scrape *scrape);
