// All orders of events for three tenants, to a depth, and long random ones by seed. After each step every
// invariant is checked (the core is built with CORE_CHECK), and that each effect fits the world in which it
// is to be done. The world here obeys the protocol as the daemon does: it answers each CLOSE once all effects
// of a step are done.
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/random.h"
#include "base/time.h"
#include "core/core.h"
#include "core/internal.h"

#define SEATS 3
#define DEPTH 6
#define STEP_NS (3 * TAKT_MS)
#define RANDOM_RUNS 200
#define RANDOM_STEPS 3000

static const struct core_device_config config = {.memory_bytes = UINT64_C(40) << 30,
                                                 .switch_ns = 100 * TAKT_US,
                                                 .bound_ns = 2 * TAKT_MS,
                                                 .watchdog_ns = 200 * TAKT_MS,
                                                 .slice_ns = 2 * TAKT_MS};

// Who is there together: what each asks for when it comes, and what it asks for in the place of that.
static const struct company {
        const char *name;
        struct core_contract contract[SEATS][2];
} companies[] = {
        // A step of 30 ms, and somebody who is due sooner; beside others 90 % are refused.
        {"two with deadlines",
         {{{.slo_ns = 200 * TAKT_MS, .share_ppm = 200000, .burst_ns = 5 * TAKT_MS},
           {.slo_ns = 200 * TAKT_MS, .share_ppm = 900000, .burst_ns = 5 * TAKT_MS}},
          {{.ttft_ns = 2 * TAKT_S, .itl_ns = 100 * TAKT_MS, .share_ppm = 300000, .step_ns = 30 * TAKT_MS},
           {.class = CORE_CLASS_FAIR, .step_ns = 30 * TAKT_MS}},
          {{.class = CORE_CLASS_FAIR}, {.class = CORE_CLASS_FAIR, .weight = 300}}}},
        // Short pieces, so that drains are looked into soon.
        {"one of each class",
         {{{.ttft_ns = 2 * TAKT_S, .itl_ns = 100 * TAKT_MS, .share_ppm = 300000},
           {.slo_ns = 200 * TAKT_MS, .share_ppm = 200000}},
          {{.class = CORE_CLASS_FAIR, .step_ns = TAKT_MS},
           {.slo_ns = 200 * TAKT_MS, .share_ppm = 200000, .step_ns = TAKT_MS}},
          {{.class = CORE_CLASS_IDLE, .step_ns = TAKT_MS}, {.class = CORE_CLASS_FAIR}}}},
};
static const struct company *company;

// As the tenants and the daemon see it; one bit each.
struct world {
        uint64_t now_ns, timer_ns;
        unsigned joined, open, wants, busy, requests, amended;
        unsigned free, watched, nudged;
        unsigned owing; // closed gates whose answer is due
        int bypass;
        uint64_t since_ns[SEATS]; // busy or idle
};

// A core small enough to copy: the places that are not used lie at its end.
static const size_t core_bytes = offsetof(struct core, device[0].seat) + SEATS * sizeof(struct seat);
// An effect that never came was not tested.
static long seen[CORE_EFFECT_BYPASS + 1], seen_soft;

static void set(unsigned *mask, uint32_t seat, int on)
{
        *mask = (*mask & ~(1u << seat)) | (unsigned)on << seat;
}

static void obey_open(struct world *w, const struct core_event *event, const struct core_effect *e)
{
        unsigned bit = 1u << e->seat;

        assert(!e->soft || w->busy & ~bit);
        seen_soft += e->soft;
        set(&w->free, e->seat, e->free);
        if (w->open & bit) { // bounded from now on, or free
                assert(event->kind == CORE_EVENT_JOIN || event->kind == CORE_EVENT_LEAVE);
                assert(!e->soft);
                return;
        }
        assert(w->wants & bit);
        assert(!w->open);
        set(&w->open, e->seat, 1);
        set(&w->wants, e->seat, 0);
        set(&w->watched, e->seat, 0);
}

static void obey_refusal(const struct world *w, const struct core_event *event,
                         const struct core_refusal *refusal)
{
        assert(refusal->reason == CORE_REFUSAL_TIME);
        assert(refusal->demand_ns > refusal->span_ns);
        assert(refusal->seat == event->seat || w->joined & 1u << refusal->seat);
}

static void obey(struct world *w, const struct core_event *event, const struct core_effect *e)
{
        unsigned bit = 1u << e->seat;

        assert(e->seat < SEATS && e->device == 0);
        assert(w->joined & bit || e->kind == CORE_EFFECT_BYPASS || event->kind == CORE_EVENT_JOIN);
        seen[e->kind]++;
        switch (e->kind) {
        case CORE_EFFECT_ADMIT:
                assert(e->seat == event->seat);
                set(&w->joined, e->seat, 1);
                w->amended ^= event->kind == CORE_EVENT_AMEND ? bit : 0;
                break;
        case CORE_EFFECT_REFUSE:
                assert(e->seat == event->seat);
                obey_refusal(w, event, &e->refusal);
                break;
        case CORE_EFFECT_OPEN:
                obey_open(w, event, e);
                break;
        case CORE_EFFECT_CLOSE:
                assert(w->open & bit);
                set(&w->open, e->seat, 0);
                set(&w->nudged, e->seat, 0);
                set(&w->owing, e->seat, 1);
                break;
        case CORE_EFFECT_WATCH:
                assert(w->open & bit);
                assert(!e->on == !!(w->watched & bit));
                set(&w->watched, e->seat, e->on);
                break;
        case CORE_EFFECT_NUDGE:
                assert(w->busy & ~w->open & ~w->nudged & bit);
                set(&w->nudged, e->seat, 1);
                break;
        case CORE_EFFECT_OVERRUN:
                assert(w->nudged & bit);
                assert(e->ns >= config.bound_ns);
                break;
        case CORE_EFFECT_BYPASS:
                assert(w->bypass != e->on);
                w->bypass = e->on;
                break;
        }
}

static void tell_one(struct core *core, struct world *w, struct core_event event)
{
        struct core_effects effects;
        int asks = event.kind == CORE_EVENT_JOIN || event.kind == CORE_EVENT_AMEND, answers = 0;

        event.now_ns = w->now_ns;
        core_step(core, &event, &effects);
        w->timer_ns = effects.timer_ns;
        for (uint32_t i = 0; i < effects.n; i++) {
                obey(w, &event, &effects.effect[i]);
                answers += effects.effect[i].kind <= CORE_EFFECT_REFUSE;
        }
        assert(answers == asks);
}

// The seats are as the world is. Who waits, waits for a holder that is watched, or for work that runs, and is
// looked at again; a holder runs free while it is alone.
static void agree(const struct core *core, const struct world *w)
{
        for (unsigned i = 0; i < SEATS; i++) {
                struct core_account a;
                int used = core_account(core, i, &a) == 0;

                assert(used == (int)(w->joined >> i & 1));
                assert(!used || a.holds == (w->open >> i & 1));
                assert(!used || a.wants == (w->wants >> i & 1));
                assert(!used || a.busy == (w->busy >> i & 1));
        }
        assert(!w->wants || w->open || w->busy);
        assert(!w->wants || w->timer_ns > w->now_ns);
        assert(!w->open || !(w->watched & w->open) == !w->wants);
        assert(!w->open || !(w->free & w->open) == (w->joined != w->open));
}

static void tell(struct core *core, struct world *w, struct core_event event)
{
        tell_one(core, w, event);
        while (w->owing) {
                unsigned seat = (unsigned)__builtin_ctz(w->owing);

                set(&w->owing, seat, 0);
                event = (struct core_event){.kind = w->busy & 1u << seat ? CORE_EVENT_BUSY : CORE_EVENT_IDLE,
                                            .seat = seat,
                                            .at_ns = w->since_ns[seat]};
                tell_one(core, w, event);
        }
        agree(core, w);
}

// Named as the events are.
enum action { JOIN, LEAVE, WANT, UNWANT, BUSY, IDLE, ARRIVE, TOKEN, FINISH, AMEND, N_ACTIONS };
static const enum core_event_kind kind_of[] = {
        CORE_EVENT_JOIN, CORE_EVENT_LEAVE,   CORE_EVENT_WANT,        CORE_EVENT_UNWANT,   CORE_EVENT_BUSY,
        CORE_EVENT_IDLE, CORE_EVENT_ARRIVED, CORE_EVENT_FIRST_TOKEN, CORE_EVENT_FINISHED, CORE_EVENT_AMEND};

// Whom it can happen to now, one bit each.
static unsigned who_can(const struct world *w, enum action action)
{
        switch (action) {
        case JOIN:
                return ~w->joined;
        case LEAVE:
        case AMEND:
                return w->joined;
        case WANT:
                return w->joined & ~w->open & ~w->wants;
        case UNWANT:
                return w->wants;
        case BUSY:
                return w->open & ~w->busy;
        case IDLE:
                return w->busy;
        case ARRIVE:
                return w->joined & ~w->requests;
        case TOKEN:
        case FINISH:
                return w->requests;
        default:
                return 0;
        }
}

static void left(struct world *w, unsigned seat)
{
        unsigned *masks[] = {&w->joined,  &w->open, &w->wants,   &w->busy,  &w->requests,
                             &w->amended, &w->free, &w->watched, &w->nudged};

        for (size_t i = 0; i < sizeof masks / sizeof *masks; i++)
                set(masks[i], seat, 0);
}

// Does one thing that can happen now; 0 if it cannot.
static int act(struct core *core, struct world *w, unsigned seat, enum action action)
{
        struct core_event event = {.kind = kind_of[action], .seat = seat};

        if (!(who_can(w, action) >> seat & 1))
                return 0;
        if (action == JOIN || action == AMEND) {
                event.contract = &company->contract[seat][action == AMEND && !(w->amended >> seat & 1)];
        } else if (action == LEAVE) {
                left(w, seat);
        } else if (action == WANT || action == UNWANT) {
                set(&w->wants, seat, action == WANT);
        } else if (action == BUSY || action == IDLE) {
                event.at_ns = w->now_ns;
                event.steps = action == IDLE;
                event.busy_ns = action == IDLE ? w->now_ns - w->since_ns[seat] : 0;
                set(&w->busy, seat, action == BUSY);
        } else {
                event.request = 1;
                set(&w->requests, seat, action != FINISH);
        }
        if (action == JOIN || action == BUSY || action == IDLE)
                w->since_ns[seat] = w->now_ns;
        tell(core, w, event);
        return 1;
}

static void timer(struct core *core, struct world *w)
{
        if (w->timer_ns <= w->now_ns)
                tell(core, w, (struct core_event){.kind = CORE_EVENT_TIMER});
}

static long tried;

static void explore(const struct core *core, const struct world *w, int depth)
{
        static struct core copies[DEPTH]; // what is never copied stays unused
        struct core *copy = &copies[depth - 1];
        struct world then;

        for (unsigned seat = 0; seat < SEATS; seat++)
                for (enum action action = JOIN; action < N_ACTIONS; action++) {
                        if (w->timer_ns > w->now_ns + STEP_NS && !(who_can(w, action) >> seat & 1))
                                continue; // and no timer changes that
                        memcpy(copy, core, core_bytes);
                        then = *w;
                        then.now_ns += STEP_NS;
                        timer(copy, &then);
                        if (!act(copy, &then, seat, action))
                                continue;
                        tried++;
                        if (depth > 1)
                                explore(copy, &then, depth - 1);
                }
}

static struct core *fresh(struct world *w)
{
        *w = (struct world){.timer_ns = TAKT_NEVER};
        return core_init(aligned_alloc(64, (core_size() + 63) / 64 * 64), 1, &config, 0);
}

// From when nobody is there, and from when all are.
static void explore_all(void)
{
        struct world w;
        struct core *core = fresh(&w);

        explore(core, &w, DEPTH);
        for (unsigned seat = 0; seat < SEATS; seat++)
                act(core, &w, seat, JOIN);
        assert(w.joined == (1u << SEATS) - 1);
        explore(core, &w, DEPTH);
        free(core);
}

// Whoever waits gets the device in the end, if all who hold it give it back.
static int all_served(struct core *core, struct world *w)
{
        for (int i = 0; i < 20000; i++) {
                w->now_ns += TAKT_MS;
                for (unsigned seat = 0; seat < SEATS; seat++)
                        act(core, w, seat, IDLE);
                if (!w->wants)
                        return 1;
                tell(core, w, (struct core_event){.kind = CORE_EVENT_TIMER});
        }
        return 0;
}

// Few leave: or nobody is there for long enough to trip the watchdog.
static enum action any(struct takt_random *random)
{
        enum action action = (enum action)takt_random_range(random, 0, N_ACTIONS - 1);

        return action == LEAVE && takt_random_range(random, 0, 9) ? WANT : action;
}

static int random_run(uint64_t seed)
{
        struct world w;
        struct core *core = fresh(&w);
        struct takt_random random;
        int served;

        takt_random_seed(&random, seed);
        for (int i = 0; i < RANDOM_STEPS; i++) {
                w.now_ns += takt_random_range(&random, 0, 5 * TAKT_MS);
                timer(core, &w);
                act(core, &w, (unsigned)takt_random_range(&random, 0, SEATS - 1), any(&random));
        }
        served = all_served(core, &w);
        free(core);
        return served;
}

int main(void)
{
        for (size_t c = 0; c < sizeof companies / sizeof *companies; c++) {
                company = &companies[c];
                explore_all();
                for (uint64_t seed = 1; seed <= RANDOM_RUNS; seed++)
                        if (!random_run(seed))
                                return printf("%s, seed %lu: somebody waits for ever\n", company->name, seed),
                                       1;
        }
        for (int kind = CORE_EFFECT_ADMIT; kind <= CORE_EFFECT_BYPASS; kind++)
                assert(seen[kind]);
        assert(seen_soft);
        printf("%ld steps in all orders of %d events, and %d random runs of %d: every invariant holds, all "
               "are "
               "served\n",
               tried, DEPTH, RANDOM_RUNS, RANDOM_STEPS);
        return 0;
}
