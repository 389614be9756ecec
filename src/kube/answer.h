// Answers that several services give: a message, "no such message", and those to the kubelet's plugin
// watcher.
#pragma once
#include <protobuf-c/protobuf-c.h>
#include "kube/rpc.h"

// One message, and the call has ended well.
void answer_message(struct rpc_call *call, const ProtobufCMessage *message);
// The request's bytes were not what its method takes.
void answer_bad_request(struct rpc_call *call);

// What a plugin says of itself to the watcher that has found its socket.
struct answer_info {
        const char *type, *name;
        const char *endpoint; // "": the same socket
        const char *const *versions;
        size_t n_versions;
        // What the kubelet made of it.
        void (*notified)(void *context, int is_registered, const char *error);
};

// Returns whether the method was one of the watcher's, and is answered.
int answer_watcher(const struct answer_info *info, void *context, struct rpc_call *call, const char *method,
                   const uint8_t *data, size_t size);
