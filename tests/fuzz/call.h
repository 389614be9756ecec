// A caller of a service, in the same process: calls end with a status of gRPC's, whatever comes of them.
#pragma once
#include "bytes.h"
#include "kube/rpc.h"

static int n_ends;

static void on_message(void *context, const uint8_t *data, size_t size)
{
        (void)context, (void)data, (void)size;
}

static void on_end(void *context, int status, const char *text)
{
        (void)context, (void)text;
        MUST(status >= 0 && status <= 16);
        n_ends++;
}

static void carry(struct rpc *from, struct rpc *to)
{
        const uint8_t *data;
        ptrdiff_t n;

        while ((n = rpc_transmit(from, &data)) > 0)
                MUST(rpc_receive(to, data, (size_t)n, 0) == 0);
}
