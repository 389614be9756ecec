// A token bucket as one number: the time at which it would be full again (GCRA, ITU-T I.371).
//
// Charging moves that time on by cost / rate; waiting needs no work at all. The bucket is in debt while that
// time lies further ahead than it takes to fill the whole bucket, and has recovered from debt at `full -
// span`.
#pragma once
#include <stdint.h>
#include "base/time.h"
#include "core/contract.h"

struct core_budget {
        uint64_t full_ns;  // when the bucket is full again
        uint64_t span_ns;  // time to fill it from empty: depth / rate
        uint32_t rate_ppm; // 1 to CORE_PPM
};

static inline void core_budget_init(struct core_budget *budget, uint64_t depth_ns, uint32_t rate_ppm,
                                    uint64_t now_ns)
{
        budget->rate_ppm = rate_ppm;
        budget->span_ns = depth_ns * CORE_PPM / rate_ppm;
        budget->full_ns = now_ns;
}

// Takes cost_ns of device time out. Debt is forgiven past `debt_ns` of waiting, so that no one starves for
// hours of spare time that was used when nobody else wanted it.
static inline void core_budget_charge(struct core_budget *budget, uint64_t cost_ns, uint64_t now_ns,
                                      uint64_t debt_ns)
{
        budget->full_ns = takt_time_max(budget->full_ns, now_ns) + cost_ns * CORE_PPM / budget->rate_ppm;
        budget->full_ns = takt_time_min(budget->full_ns, now_ns + budget->span_ns + debt_ns);
}

// When the bucket is (or was) out of debt. In the past for a bucket that has credit.
static inline uint64_t core_budget_recovered(const struct core_budget *budget)
{
        return takt_time_since(budget->full_ns, budget->span_ns);
}
