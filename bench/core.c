// One core_step with 64 tenants on a device: its time, and what it allocates. Linked so that every allocation
// by the core, or by this file, comes to the counters here first (bench/meson.build).
#include <stdlib.h>
#include "bench.h"
#include "base/clock.h"
#include "base/random.h"
#include "base/time.h"
#include "core/core.h"

#define STEPS 1000000

static unsigned long n_allocated;

#define COUNTED(name, parameters, ...)                                                                       \
        void *__real_##name parameters;                                                                      \
        void *__wrap_##name parameters;                                                                      \
        void *__wrap_##name parameters                                                                       \
        {                                                                                                    \
                n_allocated++;                                                                               \
                return __real_##name(__VA_ARGS__);                                                           \
        }

COUNTED(malloc, (size_t size), size)
COUNTED(calloc, (size_t n, size_t size), n, size)
COUNTED(realloc, (void *at, size_t size), at, size)
COUNTED(aligned_alloc, (size_t alignment, size_t size), alignment, size)

static void join_all(struct core *core, struct core_effects *effects)
{
        for (uint32_t i = 0; i < CORE_PLACES_MAX; i++) {
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
        uint64_t start, now = 0, took_ns;
        unsigned long n_before = n_allocated;

        if (bench_init(&bench, "core", "one core_step, 64 tenants on one device", argc, argv))
                return 0;
        if (!n_before) // the core's own storage was one
                return fprintf(stderr, "bench core: allocations are not seen\n"), 69;
        takt_random_seed(&random, 1);
        join_all(core, &effects);
        start = takt_clock_now();
        for (int i = 0; i < STEPS; i++) {
                uint64_t r = takt_random_next(&random);
                struct core_event event = {
                        .kind = kinds[r % 6], .seat = (r >> 8) % CORE_PLACES_MAX, .now_ns = now += 10000};

                if (event.kind >= CORE_EVENT_ARRIVED)
                        event.request = (r >> 16) % 8;
                else
                        event.at_ns = now, event.steps = 1, event.busy_ns = 5000;
                core_step(core, &event, &effects);
        }
        took_ns = takt_clock_now() - start;
        bench_row(&bench, "one core_step", (double)took_ns / STEPS, 1000, "ns");
        bench_row(&bench, "allocations in a million of them", (double)(n_allocated - n_before), 0, "");
        return bench_end(&bench);
}
