// The device plugin's methods, as one resource's socket answers them: messages in, messages out.
#pragma once
#include "kube/recipe.h"
#include "kube/wishes.h"

struct plugin {
        struct slots *slots;
        const struct injection *injection;
        uint32_t resource;
        struct wishes *wishes;     // NULL: pods have none of their own
        struct rpc_call *watching; // the ListAndWatch of the kubelet, if any
        uint8_t stale;             // it has not had the newest list
        uint8_t ended;             // it had a stream, and the stream ended
        // Where the kubelet's watcher finds plugins by themselves: our socket's path, and whom it tells what
        // came of it.
        const char *endpoint;
        void (*notified)(struct plugin *plugin, int registered, const char *error);
        // Asks who has which slot; NULL, or a negative errno: nobody knows. plugin_looked is called then.
        int (*look)(void);
        struct waiting {
                struct rpc_call *call; // NULL: none
                uint8_t *data;         // its request
                size_t size;
                uint64_t due_ns; // when it is tried for the last time; 0: it waits for the look
        } waiting[KUBE_WAITING_MAX];
};

// The rpc service of which the context is a struct plugin.
extern const struct rpc_service plugin_service;
// Sends the list again: health has changed.
void plugin_update(struct plugin *plugin);
// Judges again what was refused before it was known who has ended.
void plugin_looked(struct plugin *plugin);
// When the next Allocate is tried for the last time; those whose time has come.
uint64_t plugin_due(const struct plugin *plugin);
void plugin_tick(struct plugin *plugin, uint64_t now_ns);
// Ends the stream in order.
void plugin_farewell(struct plugin *plugin);
// The Register request's bytes in new memory (free). endpoint: the socket's file name.
uint8_t *plugin_registration(const struct plugin *plugin, const char *endpoint, size_t *ret_size);
