// A connection on a unix socket: the glue between an rpc and the daemon's loop.
#pragma once
#include "kube/rpc.h"
#include "node/door.h"

// The loop that everything of a door runs in.
struct host {
        struct node *node;
        const struct door_services *services;
};

struct link {
        struct watch watch;
        const struct host *host;
        struct rpc *rpc;
        const uint8_t *out; // what the socket has not taken yet
        size_t n_out;
        uint8_t writing, lost;
        void (*ended)(struct link *link, void *context);
        void *context;
};

// Runs `rpc` on fd, both of which it takes over, in a link whose storage stays. `ended` (may be NULL) is
// called once the connection is gone and the rpc freed; not for link_close. Returns 0 or a negative errno
// (and has closed both).
int link_open(struct link *link, const struct host *host, int fd, struct rpc *rpc,
              void (*ended)(struct link *, void *), void *context);
// Sends what the rpc has; to be called after each use of it from outside.
void link_flush(struct link *link);
void link_expire(struct link *link, uint64_t now_ns);
// Ends at once; calls end as if it was lost.
void link_close(struct link *link);
int link_is_open(const struct link *link);

// Connects to a unix socket. Returns a descriptor or a negative errno.
int link_connect(const char *path);
