#include "base/histogram.h"
#include <string.h>

static unsigned bucket_of(uint64_t value)
{
        unsigned top, octave;

        if (value < 32)
                return (unsigned)value;
        top = 63 - (unsigned)__builtin_clzll(value);
        octave = top - 4;
        return octave * 32 + (unsigned)((value >> (top - 5)) & 31);
}

static uint64_t bucket_end(unsigned bucket)
{
        unsigned octave = bucket / 32;

        if (octave == 0)
                return bucket;
        return (((uint64_t)(bucket % 32) + 33) << (octave - 1)) - 1;
}

void takt_histogram_init(struct takt_histogram *histogram)
{
        memset(histogram, 0, sizeof *histogram);
}

void takt_histogram_add(struct takt_histogram *histogram, uint64_t value_ns)
{
        histogram->count++;
        histogram->sum_ns += value_ns;
        if (value_ns > histogram->max_ns)
                histogram->max_ns = value_ns;
        histogram->bucket[bucket_of(value_ns)]++;
}

uint64_t takt_histogram_at(const struct takt_histogram *histogram, unsigned permille)
{
        uint64_t rank = (histogram->count * permille + 999) / 1000, seen = 0, end;

        if (histogram->count == 0)
                return 0;
        for (unsigned i = 0; i < TAKT_HISTOGRAM_BUCKETS; i++) {
                seen += histogram->bucket[i];
                if (seen >= rank && seen > 0) {
                        end = bucket_end(i);
                        return end < histogram->max_ns ? end : histogram->max_ns;
                }
        }
        return histogram->max_ns;
}

void takt_histogram_up_to(const struct takt_histogram *histogram, const uint64_t *bound_ns, unsigned n,
                          uint64_t *ret_n)
{
        uint64_t seen = 0;
        unsigned i = 0;

        for (unsigned b = 0; b < n; b++) {
                for (; i < TAKT_HISTOGRAM_BUCKETS && bucket_end(i) <= bound_ns[b]; i++)
                        seen += histogram->bucket[i];
                ret_n[b] = seen;
        }
}
