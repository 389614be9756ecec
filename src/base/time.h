// Time is one unsigned 64-bit count of nanoseconds of CLOCK_MONOTONIC; this header names its units.
#pragma once
#include <stdint.h>

#define TAKT_US UINT64_C(1000)
#define TAKT_MS UINT64_C(1000000)
#define TAKT_S UINT64_C(1000000000)

// A time that never comes.
#define TAKT_NEVER UINT64_MAX

static inline uint64_t takt_time_min(uint64_t a, uint64_t b)
{
        return a < b ? a : b;
}

static inline uint64_t takt_time_max(uint64_t a, uint64_t b)
{
        return a > b ? a : b;
}

// a - b in ns, or 0 where b is later than a.
static inline uint64_t takt_time_since(uint64_t a, uint64_t b)
{
        return a > b ? a - b : 0;
}
