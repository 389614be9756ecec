// All orders of events for three tenants, to a depth, and long random ones by seed; every invariant is
// checked after each step (the core is built with CORE_CHECK). The world here obeys the protocol: it answers
// each CLOSE.
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/random.h"
#include "base/time.h"
#include "core/core.h"
#include "core/internal.h"

#define SEATS 3
#define DEPTH 7
#define RANDOM_RUNS 200
#define RANDOM_STEPS 3000

struct world {
        uint64_t now_ns, timer_ns;
        int joined[SEATS], open[SEATS], wants[SEATS], busy[SEATS], requests[SEATS];
};

// A core small enough to copy: the seats that are not used lie at its end.
static const size_t core_bytes = offsetof(struct core, seat) + SEATS * sizeof(struct seat);

static struct core_contract contract_of(unsigned seat)
{
        static const struct core_contract contracts[SEATS] = {
                {.class = CORE_CLASS_DEADLINE, .slo_ns = 200 * TAKT_MS, .share_ppm = 200000},
                {.class = CORE_CLASS_DEADLINE,
                 .ttft_ns = 2 * TAKT_S,
                 .itl_ns = 100 * TAKT_MS,
                 .share_ppm = 300000},
                {.class = CORE_CLASS_FAIR},
        };

        return contracts[seat];
}

static void tell(struct core *core, struct world *w, enum core_event_kind kind, unsigned seat)
{
        struct core_contract contract = contract_of(seat % SEATS);
        struct core_event event = {.kind = kind, .seat = seat, .now_ns = w->now_ns};
        struct core_effects effects;

        if (kind == CORE_EVENT_JOIN)
                event.contract = &contract;
        else if (kind == CORE_EVENT_BUSY || kind == CORE_EVENT_IDLE)
                event.at_ns = w->now_ns, event.steps = kind == CORE_EVENT_IDLE, event.busy_ns = TAKT_MS;
        else
                event.request = 1;
        core_step(core, &event, &effects);
        w->timer_ns = effects.timer_ns;
        for (uint32_t i = 0; i < effects.n; i++) {
                const struct core_effect *e = &effects.effect[i];

                if (e->kind == CORE_EFFECT_OPEN)
                        w->open[e->seat] = 1, w->wants[e->seat] = 0;
                if (e->kind == CORE_EFFECT_CLOSE) {
                        w->open[e->seat] = 0;
                        tell(core, w, w->busy[e->seat] ? CORE_EVENT_BUSY : CORE_EVENT_IDLE, e->seat);
                }
        }
}

enum action { JOIN, LEAVE, WANT, BUSY, IDLE, ARRIVE, TOKEN, FINISH, N_ACTIONS };

// Does one thing that can happen now; 0 if it cannot.
static int act(struct core *core, struct world *w, unsigned seat, enum action action)
{
        if (action != JOIN && !w->joined[seat])
                return 0;
        switch (action) {
        case JOIN:
                if (w->joined[seat])
                        return 0;
                w->joined[seat] = 1;
                tell(core, w, CORE_EVENT_JOIN, seat);
                break;
        case LEAVE:
                w->joined[seat] = w->open[seat] = w->wants[seat] = w->busy[seat] = w->requests[seat] = 0;
                tell(core, w, CORE_EVENT_LEAVE, seat);
                break;
        case WANT:
                if (w->open[seat] || w->wants[seat])
                        return 0;
                w->wants[seat] = 1;
                tell(core, w, CORE_EVENT_WANT, seat);
                break;
        case BUSY:
                if (!w->open[seat] || w->busy[seat])
                        return 0;
                w->busy[seat] = 1;
                tell(core, w, CORE_EVENT_BUSY, seat);
                break;
        case IDLE:
                if (!w->busy[seat])
                        return 0;
                w->busy[seat] = 0;
                tell(core, w, CORE_EVENT_IDLE, seat);
                break;
        case ARRIVE:
        case TOKEN:
        case FINISH:
                if ((action == ARRIVE) == w->requests[seat])
                        return 0;
                if (action != TOKEN)
                        w->requests[seat] = action == ARRIVE;
                tell(core, w, (enum core_event_kind)(CORE_EVENT_ARRIVED + (int)(action - ARRIVE)), seat);
                break;
        default:
                return 0;
        }
        return 1;
}

static long tried;

static void explore(const struct core *core, const struct world *w, int depth)
{
        struct core *copy = aligned_alloc(64, (core_size() + 63) / 64 * 64);
        struct world then;

        for (unsigned seat = SEATS; seat < CORE_SEATS_MAX; seat++)
                copy->seat[seat].used = 0;
        for (unsigned seat = 0; seat < SEATS; seat++)
                for (enum action action = LEAVE; action < N_ACTIONS; action++) {
                        memcpy(copy, core, core_bytes);
                        then = *w;
                        then.now_ns += 3 * TAKT_MS;
                        if (then.timer_ns <= then.now_ns)
                                tell(copy, &then, CORE_EVENT_TIMER, 0);
                        if (!act(copy, &then, seat, action))
                                continue;
                        tried++;
                        if (depth > 1)
                                explore(copy, &then, depth - 1);
                }
        free(copy);
}

static struct core *fresh(struct world *w)
{
        struct core_device_config config = {UINT64_C(40) << 30, 100 * TAKT_US, 2 * TAKT_MS, TAKT_S,
                                            2 * TAKT_MS};

        *w = (struct world){.timer_ns = TAKT_NEVER};
        return core_init(aligned_alloc(64, (core_size() + 63) / 64 * 64), 1, &config, 0);
}

// Whoever waits gets the device in the end, if all who hold it give it back.
static int all_served(struct core *core, struct world *w)
{
        for (int i = 0; i < 20000; i++) {
                int waiting = 0;

                w->now_ns += TAKT_MS;
                for (unsigned seat = 0; seat < SEATS; seat++) {
                        act(core, w, seat, IDLE);
                        waiting |= w->wants[seat];
                }
                if (!waiting)
                        return 1;
                tell(core, w, CORE_EVENT_TIMER, 0);
        }
        return 0;
}

int main(void)
{
        struct world w;
        struct core *core = fresh(&w);
        struct takt_random random;

        for (unsigned seat = 0; seat < SEATS; seat++)
                act(core, &w, seat, JOIN);
        explore(core, &w, DEPTH);
        printf("%ld steps in all orders of %d events hold every invariant\n", tried, DEPTH);
        free(core);
        for (uint64_t seed = 1; seed <= RANDOM_RUNS; seed++) {
                core = fresh(&w);
                takt_random_seed(&random, seed);
                for (int i = 0; i < RANDOM_STEPS; i++) {
                        w.now_ns += takt_random_range(&random, 0, 5 * TAKT_MS);
                        if (w.timer_ns <= w.now_ns)
                                tell(core, &w, CORE_EVENT_TIMER, 0);
                        act(core, &w, (unsigned)takt_random_range(&random, 0, SEATS - 1),
                            (enum action)takt_random_range(&random, 0, N_ACTIONS - 1));
                }
                if (!all_served(core, &w))
                        return printf("seed %lu: somebody waits for ever\n", seed), 1;
                free(core);
        }
        printf("%d random runs of %d steps hold every invariant, and all are served\n", RANDOM_RUNS,
               RANDOM_STEPS);
        return 0;
}
