// A contract is what a tenant asks of a device: its class, its objectives, and the most it will use.
#pragma once
#include <stdint.h>

enum core_class {
        CORE_CLASS_DEADLINE = 0, // states objectives and a share; admitted only if they can be kept
        CORE_CLASS_FAIR = 1,     // a weight; gets the time that is left, and a guaranteed minimum
        CORE_CLASS_IDLE = 2,     // runs while nobody else wants the device
};

#define CORE_PPM UINT32_C(1000000) // the whole device, in parts per million
// The longest piece: more would be in the way of what is promised to the fair class within a second.
#define CORE_STEP_MAX_NS (900 * TAKT_MS)
#define CORE_WEIGHT_MAX 10000 // of a tenant

struct core_contract {
        enum core_class class;
        uint32_t weight; // fair class: 1 to CORE_WEIGHT_MAX

        // The objectives, as people state them. A tenant gives ttft and itl, or slo alone; 0 means not given.
        uint64_t slo_ns;  // end to end, for short answers
        uint64_t ttft_ns; // time to first token
        uint64_t itl_ns;  // time between tokens

        // The most it will ask of the device, of the deadline class only: in any span t at most min(burst +
        // peak * t, depth + share * t).
        uint32_t share_ppm; // sustained rate
        uint32_t peak_ppm;  // peak rate
        uint64_t depth_ns;  // depth of the sustained bucket
        uint64_t burst_ns;  // largest burst

        // What follows from the objectives (core_contract_complete).
        uint64_t first_ns; // deadline of a first burst, after the request's arrival
        uint64_t pace_ns;  // deadline distance of each burst after it

        uint64_t step_ns;      // the longest piece that cannot be split (a decode step): blocks the others
        uint64_t memory_bytes; // device memory; 0: no quota
};

// Fills in what is 0 by the rules in docs/SCHEDULER.md. Returns 0, or -EINVAL when the contract says too
// little or contradicts itself (a deadline class without objective or share, slo beside another objective,
// peak below share, a share above the device).
int core_contract_complete(struct core_contract *contract);
