// One core_step with 64 tenants on a device: time, and that nothing is allocated (the core links no
// allocator).
#include <stdlib.h>
#include "bench.h"
#include "base/clock.h"
#include "base/random.h"
#include "base/time.h"
#include "core/core.h"

#define STEPS 1000000

static void join_all(struct core *core, struct core_effects *effects)
{
        for (uint32_t i = 0; i < CORE_SEATS_MAX; i++) {
                struct core_contract contract = {.class = i % 4 ? CORE_CLASS_DEADLINE : CORE_CLASS_FAIR,
                                                 .slo_ns = (20 + i) * TAKT_S,
                                                 .share_ppm = 5000};
                struct core_event event = {.kind = CORE_EVENT_JOIN, .seat = i, .contract = &contract};

                core_step(core, &event, effects);
        }
}

int main(int argc, char **argv)
{
        static const enum core_event_kind kinds[] = {CORE_EVENT_WANT,        CORE_EVENT_BUSY,
                                                     CORE_EVENT_IDLE,        CORE_EVENT_ARRIVED,
                                                     CORE_EVENT_FIRST_TOKEN, CORE_EVENT_FINISHED};
        struct core_device_config config = {0, 100 * TAKT_US, 2 * TAKT_MS, 1000 * TAKT_S, 2 * TAKT_MS};
        struct core *core = core_init(aligned_alloc(64, (core_size() + 63) / 64 * 64), 1, &config, 0);
        struct core_effects effects;
        struct takt_random random;
        struct bench bench;
        uint64_t start, now = 0;

        if (bench_init(&bench, "core", "one core_step, 64 tenants on one device", argc, argv))
                return 0;
        takt_random_seed(&random, 1);
        join_all(core, &effects);
        start = takt_clock_now();
        for (int i = 0; i < STEPS; i++) {
                uint64_t r = takt_random_next(&random);
                struct core_event event = {
                        .kind = kinds[r % 6], .seat = (r >> 8) % CORE_SEATS_MAX, .now_ns = now += 10000};

                if (event.kind >= CORE_EVENT_ARRIVED)
                        event.request = (r >> 16) % 8;
                else
                        event.at_ns = now, event.steps = 1, event.busy_ns = 5000;
                core_step(core, &event, &effects);
        }
        bench_row(&bench, "one core_step", (double)(takt_clock_now() - start) / STEPS, 1000, "ns");
        return bench_end(&bench);
}
