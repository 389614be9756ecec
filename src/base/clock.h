// Reads the clock: the only place that does, so that the scheduler core (which may not) cannot by accident.
#pragma once
#include <stdint.h>
#include <time.h>

// Now, in ns of CLOCK_MONOTONIC. About 25 ns; never on the launch path.
static inline uint64_t takt_clock_now(void)
{
        struct timespec t;

        clock_gettime(CLOCK_MONOTONIC, &t);
        return (uint64_t)t.tv_sec * UINT64_C(1000000000) + (uint64_t)t.tv_nsec;
}
