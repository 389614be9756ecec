// Whatever a server answers as HTTP/2: each call ends once, with a status of gRPC's, unless it was cancelled,
// and is told of no more than came.
#include "base/time.h"
#include "call.h"
#include "kube/limits.h"

#define N_CALLS 3

static size_t told;

static void count(void *context, const uint8_t *data, size_t size)
{
        on_message(context, data, size);
        told += size;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        static const struct rpc_answer answer = {count, on_end};
        struct bytes b = {data, data + size};
        size_t piece = bytes_take(&b) + 1, cancel_at = bytes_take(&b);
        struct rpc *rpc = rpc_client();
        struct rpc_call *call[N_CALLS];
        const uint8_t *out;
        int n_cancelled = 0;

        MUST(rpc);
        n_ends = 0;
        told = 0;
        for (int i = 0; i < N_CALLS; i++)
                MUST(rpc_ask(rpc, "/t/Ask", (const uint8_t *)"ask", 3, 0, i ? TAKT_NEVER : 5 * TAKT_MS,
                             &answer, NULL, &call[i]) == 0);
        for (uint64_t now = 0; b.at < b.end; now += TAKT_MS) {
                size_t part = (size_t)(b.end - b.at) < piece ? (size_t)(b.end - b.at) : piece;

                while (rpc_transmit(rpc, &out) > 0)
                        ;
                if (now == cancel_at * TAKT_MS && !n_ends && !n_cancelled) {
                        rpc_cancel(call[1]);
                        n_cancelled = 1;
                }
                if (rpc_receive(rpc, b.at, part, now) < 0)
                        break;
                b.at += part;
                rpc_expire(rpc, now);
        }
        rpc_free(rpc);
        MUST(n_ends + n_cancelled == N_CALLS);
        MUST(told <= size);
        return 0;
}
