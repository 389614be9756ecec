// gRPC's own part of the wire, without any I/O: messages with their length before them, timeouts, and status
// texts.
//
// After "gRPC over HTTP2" (doc/PROTOCOL-HTTP2.md of the grpc project).
#pragma once
#include <stddef.h>
#include <stdint.h>

#define GRPC_PREFIX_SIZE 5

enum grpc_status {
        GRPC_OK = 0,
        GRPC_CANCELLED = 1,
        GRPC_UNKNOWN = 2,
        GRPC_INVALID_ARGUMENT = 3,
        GRPC_DEADLINE_EXCEEDED = 4,
        GRPC_NOT_FOUND = 5,
        GRPC_RESOURCE_EXHAUSTED = 8,
        GRPC_FAILED_PRECONDITION = 9,
        GRPC_UNIMPLEMENTED = 12,
        GRPC_INTERNAL = 13,
        GRPC_UNAVAILABLE = 14,
        GRPC_UNAUTHENTICATED = 16, // the last there is
};

// Puts messages together from pieces of a stream. All zero but `max` is a reader at its start.
struct grpc_reader {
        uint32_t max; // bytes of a message
        uint8_t prefix[GRPC_PREFIX_SIZE];
        uint32_t n_prefix, want, size, room;
        uint8_t *data;
};

// Takes from the n bytes at `data` what belongs to the message that is being read. ret_whole: that message is
// whole now, in `data` and `size` of the reader, until the next call. Returns the number of bytes taken, or
// -EMSGSIZE (it would be over the maximum), -EPROTO (it is compressed, which we never agreed to) or -ENOMEM.
// Memory grows with what came, not with what was announced.
ptrdiff_t grpc_read(struct grpc_reader *reader, const uint8_t *data, size_t n, int *ret_whole);
// Whether the stream may end here: no message has begun.
int grpc_reader_idle(const struct grpc_reader *reader);
void grpc_reader_free(struct grpc_reader *reader);

void grpc_prefix(uint8_t to[GRPC_PREFIX_SIZE], uint32_t size);

// "200m", "1S": at most 8 digits and a unit. Returns 0 or -EINVAL.
int grpc_timeout_parse(const char *text, size_t size, uint64_t *ret_ns);
void grpc_timeout_print(char to[16], uint64_t ns);

// Percent-encoding of a status text, as headers carry ASCII only; cut where `size` ends, between two
// characters.
void grpc_text_encode(char *to, size_t size, const char *text);
void grpc_text_decode(char *to, size_t size, const char *text, size_t n);
