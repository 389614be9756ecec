// From what a tenant used to the two token buckets that would have allowed it: burst + peak * t and depth +
// share * t.
#pragma once
#include <stdint.h>

struct advise_point {
        double span_ns, used_ns; // most device time used in any such span
};

struct advise_buckets {
        double share, peak;        // parts of the device, 0 to 1; share <= peak
        double depth_ns, burst_ns; // burst <= depth
};

// The share is the rate over the longest span that was lived through, the peak that over about a second;
// depth and burst are then what the rest of the curve needs. points: by growing span; n: at least 1. seen_ns:
// how long the tenant was watched; longer spans say nothing yet.
struct advise_buckets advise_fit(const struct advise_point *points, int n, double seen_ns);
