// What a tenant really used: its arrival curve, the most device time that it took in any span of 20 ms, 40
// ms, to 41 s.
//
// For each span there is a ring of nine slots of an eighth of it, so the figure lies between the most in any
// span and the most in any nine eighths of it (Cruz 1991, "A calculus for network delay", for what such a
// curve is good for).
#pragma once
#include <stdint.h>
#include "base/time.h"

#define USAGE_SPANS 12
#define USAGE_SLOTS 9 // the last one is not full yet
#define USAGE_SPAN_NS(k) (20 * TAKT_MS << (k))

struct usage {
        uint64_t since_ns, total_ns; // of the first use; device time used since then
        uint64_t memory_max;         // bytes
        struct usage_span {
                uint64_t slot; // number of the newest slot since the clock's zero
                uint64_t used_ns[USAGE_SLOTS];
                uint64_t max_ns;
        } span[USAGE_SPANS];
};

// busy_ns of device time were used, the last of it at now_ns. When exactly is not known: it is taken to be
// one piece, as late as it can have been. A piece beyond what a ring remembers is cut off there. now_ns never
// goes back.
void usage_add(struct usage *usage, uint64_t busy_ns, uint64_t now_ns);
// The most that was used in a span of USAGE_SPAN_NS(k), in ns; at most the span. k: 0 to USAGE_SPANS - 1.
uint64_t usage_most(const struct usage *usage, unsigned k);
