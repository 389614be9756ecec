// The DRA driver's socket: where the kubelet's plugin watcher finds us, and what it asks there.
//
// One socket of a name of its own in the watcher's folder serves registration, claims and health. Two daemons
// can so be side by side; what one that was killed has left is removed.
#pragma once
#include "kube/dra.h"
#include "kube/server.h"

struct driver {
        struct dra dra;
        struct server server;
        char folder[104];
        struct watch news;
        uint64_t due_ns, wait_ns; // when to listen (again); TAKT_NEVER: we do
        uint8_t unwell;           // that we do not was said already
};

// `dra` is open; kubelet: its own folder.
void driver_open(struct driver *driver, const struct host *host, const char *kubelet);
// Ends in order and removes the socket. Claims stay prepared, and what is offered stays offered, for the next
// daemon; the kubelet takes back what is offered after 30 s without one.
void driver_close(struct driver *driver);
// When driver_tick is due, at the latest; to be asked after each turn of the loop.
uint64_t driver_due(const struct driver *driver);
void driver_tick(struct driver *driver, uint64_t now_ns);
