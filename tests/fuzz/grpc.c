// Messages are the same however the stream was cut; timeouts and texts never overrun.
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include "bytes.h"
#include "kube/grpc.h"

// A sum over the messages; ret_error: why it ended.
static uint64_t sum_of(const uint8_t *data, size_t size, size_t piece, ptrdiff_t *ret_error)
{
        struct grpc_reader reader = {.max = 1000};
        uint64_t sum = 0;

        *ret_error = 0;
        for (size_t at = 0; at < size && !*ret_error;) {
                size_t n = piece < size - at ? piece : size - at;
                int whole;
                ptrdiff_t taken = grpc_read(&reader, data + at, n, &whole);

                MUST(taken < 0 || (size_t)taken <= n);
                *ret_error = taken < 0 ? taken : 0;
                at += taken < 0 ? 0 : (size_t)taken;
                MUST(reader.room <= 2048);
                if (taken >= 0 && whole) {
                        MUST(reader.size <= 1000);
                        for (uint32_t i = 0; i < reader.size; i++)
                                sum = sum * 31 + reader.data[i];
                        sum = sum * 31 + 997;
                }
        }
        grpc_reader_free(&reader);
        return sum;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        ptrdiff_t error, other;
        char encoded[100], decoded[100], text[200];
        uint64_t ns, sum = sum_of(data, size, size ? size : 1, &error);

        for (size_t piece = 1; piece < 9; piece++)
                MUST(sum_of(data, size, piece, &other) == sum && other == error);
        MUST(error == 0 || error == -EMSGSIZE || error == -EPROTO);
        if (grpc_timeout_parse((const char *)data, size, &ns) == 0)
                MUST(size <= 9);
        grpc_text_decode(decoded, sizeof decoded, (const char *)data, size);
        MUST(strlen(decoded) < sizeof decoded);
        snprintf(text, sizeof text, "%.*s", size < 150 ? (int)size : 150, (const char *)data);
        grpc_text_encode(encoded, sizeof encoded, text);
        grpc_text_decode(decoded, sizeof decoded, encoded, strlen(encoded));
        for (size_t i = 0; decoded[i]; i++)
                MUST(decoded[i] == text[i] || (unsigned char)text[i] < 0x20 || text[i] == 0x7f);
        return 0;
}
