// One HTTP/2 connection that carries gRPC calls, either side of it. Bytes go in, bytes come out; nothing here
// reads a clock or a socket.
//
// nghttp2 speaks HTTP/2 (windows, PING, SETTINGS, HPACK); this adds the calls. A server's methods take one
// message; what they answer may be one message, a stream of them, or only a status, and may come later.
#pragma once
#include <stddef.h>
#include <stdint.h>
#include "kube/grpc.h"

struct rpc;
struct rpc_call;

// What a server is asked. May not free the connection.
struct rpc_service {
        // A request is whole. Answer with rpc_send and rpc_end, now or before `gone`.
        void (*request)(void *context, struct rpc_call *call, const char *method, const uint8_t *data,
                        size_t size);
        // An answer's messages have all been taken by the peer's window, and it has not ended. May be NULL.
        void (*drained)(void *context, struct rpc_call *call);
        // The call ended, was cancelled or lost: once for each request. May be NULL.
        void (*gone)(void *context, struct rpc_call *call);
};

// What whoever asked is told. May not free the connection.
struct rpc_answer {
        void (*message)(void *context, const uint8_t *data, size_t size);
        // Once for each call. status: enum grpc_status.
        void (*end)(void *context, int status, const char *text);
};

// NULL: no memory. `service` must stay as long as the connection.
struct rpc *rpc_server(const struct rpc_service *service, void *context);
struct rpc *rpc_client(void);
// Ends all calls (UNAVAILABLE) first.
struct rpc *rpc_free(struct rpc *rpc);

// Takes what came from the peer. Returns 0, or a negative errno: the connection is of no more use once what
// is left to send has been sent.
int rpc_receive(struct rpc *rpc, const uint8_t *data, size_t size, uint64_t now_ns);
// What is to be sent next: the number of bytes, 0: nothing now; they stay until the next call. Negative: as
// above.
ptrdiff_t rpc_transmit(struct rpc *rpc, const uint8_t **ret_data);
// Whether the connection has ended in order: nothing to send, nothing to come.
int rpc_done(const struct rpc *rpc);
// No more requests will be taken: GOAWAY; what runs may end.
void rpc_shut(struct rpc *rpc);

// When the next call expires, in ns of now_ns; TAKT_NEVER: none does.
uint64_t rpc_deadline(const struct rpc *rpc);
void rpc_expire(struct rpc *rpc, uint64_t now_ns);

// Calls method ("/package.Service/Method") with one message. `answer` and `context` must stay until it ended.
// ret_call (may be NULL) is good until then. Returns 0 or a negative errno, and then nobody is told anything.
int rpc_ask(struct rpc *rpc, const char *method, const uint8_t *data, size_t size, uint64_t now_ns,
            uint64_t deadline_ns, const struct rpc_answer *answer, void *context, struct rpc_call **ret_call);
// RST_STREAM. Whoever asked is told nothing more.
void rpc_cancel(struct rpc_call *call);

// Answers. -ENOBUFS: the peer takes nothing; -ENOMEM; else 0.
int rpc_send(struct rpc_call *call, const uint8_t *data, size_t size);
void rpc_end(struct rpc_call *call, enum grpc_status status, const char *text); // text: NULL for OK
// Bytes that wait for the peer's window.
size_t rpc_unsent(const struct rpc_call *call);
