// A latency histogram of fixed size: 32 buckets an octave, so a percentile is right to within 3.2 %, from 1
// ns to 584 years.
#pragma once
#include <stdint.h>

#define TAKT_HISTOGRAM_BUCKETS (60 * 32)

struct takt_histogram {
        uint64_t count;
        uint64_t sum_ns;
        uint64_t max_ns;
        uint32_t bucket[TAKT_HISTOGRAM_BUCKETS];
};

void takt_histogram_init(struct takt_histogram *histogram);
void takt_histogram_add(struct takt_histogram *histogram, uint64_t value_ns);
// The smallest value that at least `permille`/1000 of all values do not exceed, rounded up to its bucket's
// end (never above the largest value seen); 0 when empty. permille: 0 to 1000.
uint64_t takt_histogram_at(const struct takt_histogram *histogram, unsigned permille);
// How many values are at most bound_ns[0], bound_ns[1], ... (n bounds, ascending), in one pass; one that
// shares its bucket with what is beyond the bound is left out, so a bound is right to within 3.2 %.
void takt_histogram_up_to(const struct takt_histogram *histogram, const uint64_t *bound_ns, unsigned n,
                          uint64_t *ret_n);
