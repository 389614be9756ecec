// A set of small numbers, one bit each, in words of the caller's: uint64_t set[TAKT_BITS_WORDS(n)] for
// numbers below n.
#pragma once
#include <stdint.h>

#define TAKT_BITS_WORDS(n) (((n) + 63) / 64)

static inline void takt_bits_add(uint64_t *set, uint32_t i)
{
        set[i / 64] |= UINT64_C(1) << i % 64;
}

static inline void takt_bits_drop(uint64_t *set, uint32_t i)
{
        set[i / 64] &= ~(UINT64_C(1) << i % 64);
}

static inline uint32_t takt_bits_count(const uint64_t *set, uint32_t n_words)
{
        uint32_t n = 0;

        for (uint32_t w = 0; w < n_words; w++)
                n += (uint32_t)__builtin_popcountll(set[w]);
        return n;
}

// The least number of the set, or -1.
static inline int32_t takt_bits_first(const uint64_t *set, uint32_t n_words)
{
        for (uint32_t w = 0; w < n_words; w++)
                if (set[w])
                        return (int32_t)(w * 64 + (uint32_t)__builtin_ctzll(set[w]));
        return -1;
}
