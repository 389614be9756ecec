// Whatever a peer sends as HTTP/2: every request that the service was told of is gone once, and nothing is
// left.
#include <string.h>
#include "base/time.h"
#include "bytes.h"
#include "kube/limits.h"
#include "kube/rpc.h"

static int n_open;
static struct rpc_call *last;

static void request(void *context, struct rpc_call *call, const char *method, const uint8_t *data,
                    size_t size)
{
        (void)context;
        n_open++;
        MUST(strnlen(method, KUBE_PATH_MAX) < KUBE_PATH_MAX);
        if (method[1] == 'e') {
                rpc_send(call, data, size);
                rpc_end(call, GRPC_OK, NULL);
        } else if (method[1] == 'f') {
                rpc_end(call, GRPC_INTERNAL, method);
        } else {
                rpc_send(call, data, size);
                last = call;
        }
}

static void gone(void *context, struct rpc_call *call)
{
        (void)context;
        n_open--;
        last = last == call ? NULL : last;
}

static const struct rpc_service service = {request, NULL, gone};

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        struct bytes b = {data, data + size};
        size_t piece = bytes_take(&b) + 1, sent = 0;
        struct rpc *rpc = rpc_server(&service, NULL);
        const uint8_t *out;
        ptrdiff_t n;

        MUST(rpc);
        n_open = 0;
        last = NULL;
        for (uint64_t now = 0; b.at < b.end; now += TAKT_MS) {
                size_t part = (size_t)(b.end - b.at) < piece ? (size_t)(b.end - b.at) : piece;

                if (rpc_receive(rpc, b.at, part, now) < 0)
                        break;
                b.at += part;
                while ((n = rpc_transmit(rpc, &out)) > 0)
                        sent += (size_t)n;
                rpc_expire(rpc, now);
                if (last && part % 7 == 0)
                        rpc_end(last, GRPC_OK, NULL);
                MUST(n_open >= 0 && n_open <= KUBE_CALLS_MAX);
        }
        MUST(sent < (size_t)64 << 20);
        rpc_free(rpc);
        MUST(n_open == 0);
        return 0;
}
