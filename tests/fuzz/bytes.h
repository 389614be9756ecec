// Numbers out of a fuzzer's bytes; when they are used up, zeroes.
#pragma once
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

// Stays on however the target is built.
#define MUST(what) ((what) ? (void)0 : abort())

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct bytes {
        const uint8_t *at, *end;
};

static inline unsigned bytes_take(struct bytes *b)
{
        return b->at < b->end ? *b->at++ : 0;
}

// Any magnitude from two bytes: 0 to 255, shifted by 0 to 63.
static inline uint64_t bytes_take_scaled(struct bytes *b)
{
        uint64_t digits = bytes_take(b);

        return digits << bytes_take(b) % 64;
}
