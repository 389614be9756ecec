#include "node/usage.h"
#include <assert.h>

// Slots between the newest and that of `slot` were quiet.
static void move_on(struct usage_span *span, uint64_t slot)
{
        uint64_t n = takt_time_min(takt_time_since(slot, span->slot), USAGE_SLOTS);

        for (uint64_t i = 0; i < n; i++)
                span->used_ns[(slot - i) % USAGE_SLOTS] = 0;
        span->slot = takt_time_max(span->slot, slot);
}

// Lays the piece that ends at now_ns into the slots, the newest first.
static void lay(struct usage_span *span, uint64_t slot_ns, uint64_t busy_ns, uint64_t now_ns)
{
        uint64_t room = now_ns - span->slot * slot_ns, sum = 0;

        for (uint64_t i = 0; i < USAGE_SLOTS && i <= span->slot && busy_ns; i++, room = slot_ns) {
                uint64_t part = takt_time_min(busy_ns, room);

                span->used_ns[(span->slot - i) % USAGE_SLOTS] += part;
                busy_ns -= part;
        }
        for (unsigned i = 0; i < USAGE_SLOTS; i++)
                sum += span->used_ns[i];
        span->max_ns = takt_time_max(span->max_ns, sum);
}

void usage_add(struct usage *usage, uint64_t busy_ns, uint64_t now_ns)
{
        if (!busy_ns)
                return;
        if (!usage->since_ns)
                usage->since_ns = takt_time_since(now_ns, busy_ns);
        usage->total_ns += busy_ns;
        for (unsigned k = 0; k < USAGE_SPANS; k++) {
                uint64_t slot_ns = USAGE_SPAN_NS(k) / (USAGE_SLOTS - 1);

                move_on(&usage->span[k], now_ns / slot_ns);
                lay(&usage->span[k], slot_ns, busy_ns, now_ns);
        }
}

uint64_t usage_most(const struct usage *usage, unsigned k)
{
        assert(k < USAGE_SPANS);
        return takt_time_min(usage->span[k].max_ns, USAGE_SPAN_NS(k));
}
