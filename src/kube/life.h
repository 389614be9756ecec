// One resource's life with the kubelet: listen, register, be watched; and again, whenever either side loses
// the other.
//
// The kubelet never dials a plugin twice, and a kubelet of 1.37 that hears of one socket name a second time
// while its stream is open is stuck. So every registration has a socket of its own, is made after the
// listening, and only once the kubelet has closed what came of the one before.
#pragma once
#include "kube/plugin.h"
#include "kube/server.h"

enum life_state {
        LIFE_DOWN = 0, // until `due_ns`
        LIFE_ASKING,   // Register is on its way, or the watcher has not found us yet
        LIFE_UP,       // registered
        LIFE_ENDING,   // the stream was ended; until the kubelet's connections are closed, or `due_ns`
};

struct life {
        enum life_state state;
        struct plugin plugin;
        const char *folder; // of the kubelet's socket and ours
        struct server server;
        struct link asking;
        uint8_t seen; // a kubelet has watched since the registration
        uint64_t due_ns, wait_ns;
};

// is_watched: the folder is that of the kubelet's plugin watcher, which finds us; else we register at its
// socket there.
void life_open(struct life *life, const struct host *host, const char *folder, int is_watched);
// Ends in order and removes the socket.
void life_close(struct life *life);
// Health has changed.
void life_update(struct life *life);
// It is known who has which slot.
void life_looked(struct life *life);
// A file appeared or went in the folder.
void life_news(struct life *life, const char *name, int is_there, uint64_t now_ns);
// When life_tick is due, at the latest; to be asked after each event.
uint64_t life_due(const struct life *life);
void life_tick(struct life *life, uint64_t now_ns);
