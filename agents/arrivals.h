// Open-loop requests: each arrives when the plan says, whatever became of those before, and the daemon is
// told at once, even while the agent waits for its GPU.
#pragma once
#include <stdint.h>

struct request {
        uint64_t due_ns;           // after the start, in the plan; then of CLOCK_MONOTONIC, as the others are
        uint64_t first_ns, end_ns; // 0 until then
        double prefill_ns;         // left to compute
        uint32_t tokens;           // left to give
        char id[24];
};

struct arrival_wish {
        double rate; // Poisson arrivals a second
        double seconds;
        uint64_t seed;
        double prefill_ms[2]; // uniform, both ends included, as are
        uint32_t tokens[2];
};

// The number of requests, which are the caller's to free, or -ENOMEM. The same wish gives the same requests.
int arrivals_plan(const struct arrival_wish *wish, struct request **ret);
// The plan begins now. The requests must stay. 0 or a negative errno.
int arrivals_start(struct request *requests, int n);
// How many are there, waiting until there are more than `known`, which must be fewer than all.
int arrivals_wait(int known);
int arrivals_count(void);
