#include "scenario.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "base/random.h"
#include "base/time.h"

#define WAITING_MAX 512
#define ACTIVE_MAX 512
#define MS 1e6

struct request {
        uint64_t id, arrival_ns, prefill_ns;
        unsigned tokens;
};

struct news {
        enum core_event_kind kind;
        uint64_t request;
};

struct agent {
        const struct scenario_agent *what;
        struct takt_random random, host_random;
        uint64_t next_arrival_ns, next_id;
        struct request waiting[WAITING_MAX], active[ACTIVE_MAX], current;
        uint32_t n_waiting, n_active;
        struct news untold[ACTIVE_MAX]; // of the last step
        uint32_t n_untold;
        enum { STEP_NONE, STEP_PREFILL, STEP_DECODE } step;
        uint64_t left_ns;      // of the step, not yet submitted
        uint64_t in_flight_ns; // submitted, not yet done
        uint64_t ready_ns;     // when the host is done between two steps
        // What taktd and the shim would know.
        int open, wants, told_busy, watched;
        uint64_t open_at_ns, busy_since_ns, busy_sum_ns, idle_since_ns;
        uint32_t steps;
};

struct world {
        const struct scenario *scenario;
        enum scenario_policy policy;
        struct agent *agent;
        uint32_t n, first; // agents first .. first + n - 1 take part
        uint64_t now_ns, end_ns, timer_ns, slice_end_ns, switch_left_ns;
        int owner; // whose context is on the device
        struct core *core;
        struct scenario_result *result;
};

static void tell(struct world *w, struct core_event event);
static void tell_one(struct world *w, struct core_event event);

static struct core_event event_of(struct world *w, enum core_event_kind kind, uint32_t seat)
{
        return (struct core_event){.kind = kind, .seat = seat, .now_ns = w->now_ns};
}

static int busy(const struct agent *a)
{
        return a->in_flight_ns > 0;
}

// Reads the agent's page, as taktd does.
static void read_page(struct world *w, uint32_t i)
{
        struct agent *a = &w->agent[i];
        struct core_event event = event_of(w, CORE_EVENT_IDLE, i);

        if (a->steps || (a->told_busy && !busy(a))) {
                event.at_ns = a->idle_since_ns;
                event.busy_ns = a->busy_sum_ns;
                event.steps = a->steps;
                a->busy_sum_ns = a->steps = 0;
                a->told_busy = 0;
                tell_one(w, event);
        }
        if (!a->told_busy && busy(a)) {
                a->told_busy = 1;
                event = event_of(w, CORE_EVENT_BUSY, i);
                event.at_ns = a->busy_since_ns;
                tell_one(w, event);
        }
}

static void apply(struct world *w, const struct core_effect *effect)
{
        struct agent *a = &w->agent[effect->seat];
        struct core_event event;

        switch (effect->kind) {
        case CORE_EFFECT_OPEN:
                if (a->open)
                        break;
                a->open = 1;
                a->wants = 0;
                a->open_at_ns = w->now_ns + w->scenario->handover_ns;
                break;
        case CORE_EFFECT_CLOSE:
                a->open = a->watched = 0;
                event = event_of(w, busy(a) ? CORE_EVENT_BUSY : CORE_EVENT_IDLE, effect->seat);
                event.at_ns = busy(a) ? a->busy_since_ns : a->idle_since_ns;
                event.busy_ns = a->busy_sum_ns;
                a->busy_sum_ns = 0;
                tell_one(w, event);
                break;
        case CORE_EFFECT_WATCH:
                a->watched = effect->on;
                break;
        case CORE_EFFECT_REFUSE:
                w->result->refused = (int)effect->seat + 1;
                w->result->refusal = effect->refusal;
                break;
        case CORE_EFFECT_OVERRUN:
                w->result->overruns++;
                break;
        case CORE_EFFECT_BYPASS:
                w->result->bypasses++;
                break;
        case CORE_EFFECT_ADMIT:
        case CORE_EFFECT_NUDGE:
                break;
        }
}

// Before anything is decided, the core hears what the holders' pages say now.
static void tell(struct world *w, struct core_event event)
{
        for (uint32_t i = w->first; i < w->first + w->n; i++)
                if (w->agent[i].open || i == event.seat)
                        read_page(w, i);
        tell_one(w, event);
}

static void tell_one(struct world *w, struct core_event event)
{
        struct core_effects effects;

        core_step(w->core, &event, &effects);
        w->result->core_steps++;
        w->timer_ns = effects.timer_ns;
        for (uint32_t i = 0; i < effects.n; i++)
                apply(w, &effects.effect[i]);
}

static int gated(const struct world *w)
{
        return w->policy == SCENARIO_TAKT || w->policy == SCENARIO_BLIND;
}

static void tell_request(struct world *w, uint32_t i, enum core_event_kind kind, uint64_t id)
{
        struct core_event event;

        if (w->policy != SCENARIO_TAKT)
                return;
        event = event_of(w, kind, i);
        event.request = id;
        tell(w, event);
}

static void tell_later(struct world *w, uint32_t i, enum core_event_kind kind, uint64_t id)
{
        struct agent *a = &w->agent[i];

        a->untold[a->n_untold++] = (struct news){kind, id};
}

static void tell_untold(struct world *w, uint32_t i)
{
        struct agent *a = &w->agent[i];

        for (uint32_t n = 0; n < a->n_untold; n++)
                tell_request(w, i, a->untold[n].kind, a->untold[n].request);
        a->n_untold = 0;
}

static uint64_t uniform_ns(struct takt_random *random, const double range_ms[2])
{
        return (uint64_t)((range_ms[0] + takt_random_unit(random) * (range_ms[1] - range_ms[0])) * MS);
}

static void schedule_arrival(const struct world *w, struct agent *a)
{
        double mean_s = 1 / (a->what->rate * w->scenario->load);

        a->next_arrival_ns += (uint64_t)(-log(1 - takt_random_unit(&a->random)) * mean_s * 1e9);
}

static void arrive(struct world *w, uint32_t i)
{
        struct agent *a = &w->agent[i];
        struct request *r;

        if (a->n_waiting == WAITING_MAX) { // an overloaded server turns it away
                schedule_arrival(w, a);
                return;
        }
        r = &a->waiting[a->n_waiting++];
        *r = (struct request){
                a->next_id++, w->now_ns, uniform_ns(&a->random, a->what->prefill_ms),
                (unsigned)takt_random_range(&a->random, a->what->tokens[0], a->what->tokens[1])};
        schedule_arrival(w, a);
        if (a->next_arrival_ns > w->end_ns)
                a->next_arrival_ns = TAKT_NEVER;
        tell_request(w, i, CORE_EVENT_ARRIVED, r->id);
}

static void begin_step(const struct world *w, struct agent *a)
{
        uint32_t room = w->scenario->sequences ? w->scenario->sequences : ACTIVE_MAX;

        if (a->n_waiting && a->n_active < room) {
                a->step = STEP_PREFILL;
                a->current = a->waiting[0];
                memmove(a->waiting, a->waiting + 1, --a->n_waiting * sizeof *a->waiting);
                a->left_ns = a->current.prefill_ns;
        } else {
                a->step = STEP_DECODE;
                a->left_ns = (uint64_t)(a->what->decode_ms * (1 + .03 * (a->n_active - 1)) * MS);
        }
}

// Puts the next piece on the device, or waits at the gate.
static void submit(struct world *w, uint32_t i)
{
        struct agent *a = &w->agent[i];
        uint64_t piece = a->left_ns;

        if (gated(w) && !a->open) {
                if (!a->wants) {
                        a->wants = 1;
                        tell(w, event_of(w, CORE_EVENT_WANT, i));
                }
                return;
        }
        if (gated(w) && a->open_at_ns > w->now_ns)
                return;
        if (gated(w) && a->step == STEP_PREFILL)
                piece = takt_time_min(piece, w->scenario->piece_ns);
        a->left_ns -= piece;
        a->in_flight_ns = piece;
        a->busy_since_ns = w->now_ns;
}

static void record(struct scenario_samples *samples, uint64_t ns)
{
        if (samples->n < SCENARIO_SAMPLES_MAX)
                samples->ms[samples->n++] = (double)ns / MS;
}

static void end_prefill(struct world *w, uint32_t i)
{
        struct agent *a = &w->agent[i];

        record(&w->result->ttft[i], w->now_ns - a->current.arrival_ns);
        tell_later(w, i, CORE_EVENT_FIRST_TOKEN, a->current.id);
        a->current.tokens--;
        a->active[a->n_active++] = a->current;
}

static void end_decode(struct world *w, uint32_t i)
{
        struct agent *a = &w->agent[i];

        for (uint32_t r = 0; r < a->n_active;) {
                if (--a->active[r].tokens > 0) {
                        r++;
                        continue;
                }
                record(&w->result->end_to_end[i], w->now_ns - a->active[r].arrival_ns);
                tell_later(w, i, CORE_EVENT_FINISHED, a->active[r].id);
                a->active[r] = a->active[--a->n_active];
        }
}

// What the host takes between two steps: more with more sessions, and now and then much more.
static uint64_t host_ns(const struct scenario *s, struct agent *a)
{
        double ms = s->host_ms + .37 * (a->n_active > 1 ? fmin(a->n_active, 4) - 1 : 0);

        if (s->host_more_ms > 0)
                ms -= log(1 - takt_random_unit(&a->host_random)) * s->host_more_ms;
        return (uint64_t)(ms * MS);
}

// The piece in flight is done: the next piece, or the host's time before that; or the end of the step.
static void piece_done(struct world *w, uint32_t i)
{
        struct agent *a = &w->agent[i];
        int was = (int)a->step;

        a->busy_sum_ns += w->now_ns - a->busy_since_ns;
        a->idle_since_ns = w->now_ns;
        if (a->left_ns && !w->scenario->pieces_are_steps) {
                submit(w, i);
                return;
        }
        a->steps++;
        a->ready_ns = w->now_ns + host_ns(w->scenario, a);
        if (!a->left_ns)
                a->step = STEP_NONE;
        if (gated(w) && (a->watched || !a->open))
                read_page(w, i);
        if (a->left_ns)
                return;
        if (was == STEP_PREFILL)
                end_prefill(w, i);
        else
                end_decode(w, i);
        if (!w->scenario->tells_late || (!a->n_waiting && !a->n_active))
                tell_untold(w, i);
}

// The device: round robin over contexts with work in flight, a slice each, a switch between.
static void pick_owner(struct world *w)
{
        int next = w->owner;

        if (w->owner >= 0 && busy(&w->agent[w->owner]) && w->now_ns < w->slice_end_ns)
                return;
        for (uint32_t k = 1; k <= w->first + w->n; k++) {
                uint32_t i = (uint32_t)(w->owner + (int)k) % (w->first + w->n);

                if (i >= w->first && busy(&w->agent[i])) {
                        next = (int)i;
                        break;
                }
        }
        if (next >= 0 && next != w->owner && busy(&w->agent[next])) {
                w->switch_left_ns = w->owner >= 0 ? w->scenario->device.switch_ns : 0;
                w->result->switches++;
                w->owner = next;
        }
        w->slice_end_ns = w->now_ns + w->switch_left_ns + 2 * TAKT_MS;
}

static uint64_t device_next_ns(const struct world *w)
{
        int others = 0;
        uint64_t done;

        if (w->owner < 0 || !busy(&w->agent[w->owner]))
                return TAKT_NEVER;
        for (uint32_t i = w->first; i < w->first + w->n; i++)
                others |= (int)i != w->owner && busy(&w->agent[i]);
        done = w->now_ns + w->switch_left_ns + w->agent[w->owner].in_flight_ns;
        return others ? takt_time_min(done, takt_time_max(w->slice_end_ns, w->now_ns + 1)) : done;
}

static void device_advance(struct world *w, uint64_t to_ns)
{
        uint64_t span = to_ns - w->now_ns, used;
        struct agent *a;
        int waiting = 0;

        for (uint32_t i = w->first; i < w->first + w->n; i++)
                waiting |= w->agent[i].wants;
        w->result->waited_ms += waiting ? (double)span / MS : 0;
        if (w->owner >= 0 && busy(&w->agent[w->owner])) {
                a = &w->agent[w->owner];
                used = takt_time_min(span, w->switch_left_ns);
                w->switch_left_ns -= used;
                used = takt_time_min(span - used, a->in_flight_ns);
                a->in_flight_ns -= used;
                w->result->busy_ms += (double)used / MS;
                if (w->now_ns < w->end_ns)
                        w->result->agent_ms[w->owner] += (double)used / MS;
        } else if (waiting) {
                w->result->wasted_ms += (double)span / MS;
        }
        w->now_ns = to_ns;
}

static uint64_t next_ns(const struct world *w)
{
        uint64_t next = takt_time_min(device_next_ns(w), w->timer_ns);

        for (uint32_t i = w->first; i < w->first + w->n; i++) {
                const struct agent *a = &w->agent[i];

                next = takt_time_min(next, a->next_arrival_ns);
                if (a->step == STEP_NONE && (a->n_waiting || a->n_active))
                        next = takt_time_min(next, a->ready_ns);
                if (a->step != STEP_NONE && !busy(a) && a->left_ns && !a->wants)
                        next = takt_time_min(next, takt_time_max(a->ready_ns, a->open ? a->open_at_ns : 0));
        }
        return next;
}

static void turn(struct world *w)
{
        int was_busy[SCENARIO_AGENTS_MAX];

        for (uint32_t i = w->first; i < w->first + w->n; i++)
                was_busy[i] = busy(&w->agent[i]);
        device_advance(w, takt_time_max(next_ns(w), w->now_ns));
        for (uint32_t i = w->first; i < w->first + w->n; i++)
                if (was_busy[i] && !busy(&w->agent[i]))
                        piece_done(w, i);
        for (uint32_t i = w->first; i < w->first + w->n; i++) {
                struct agent *a = &w->agent[i];

                while (a->next_arrival_ns <= w->now_ns)
                        arrive(w, i);
                if (a->step == STEP_NONE && (a->n_waiting || a->n_active) && a->ready_ns <= w->now_ns)
                        begin_step(w, a);
                if (a->step != STEP_NONE && !busy(a) && a->left_ns && a->ready_ns <= w->now_ns) {
                        submit(w, i);
                        tell_untold(w, i);
                }
        }
        if (w->timer_ns <= w->now_ns)
                tell(w, event_of(w, CORE_EVENT_TIMER, 0));
        pick_owner(w);
}

static void join_all(struct world *w)
{
        for (uint32_t i = w->first; i < w->first + w->n; i++) {
                struct core_event event = event_of(w, CORE_EVENT_JOIN, i);

                event.contract = &w->agent[i].what->contract;
                tell(w, event);
        }
}

static void simulate(struct world *w)
{
        w->owner = -1;
        w->timer_ns = TAKT_NEVER;
        for (uint32_t i = w->first; i < w->first + w->n; i++)
                schedule_arrival(w, &w->agent[i]);
        if (gated(w)) {
                w->core = core_init(aligned_alloc(64, (core_size() + 63) / 64 * 64), 1, &w->scenario->device,
                                    0);
                join_all(w);
        }
        while (!w->result->refused && next_ns(w) != TAKT_NEVER && w->now_ns < w->end_ns + 60 * TAKT_S)
                turn(w);
        w->result->elapsed_ms += (double)w->now_ns / MS;
        free(w->core);
}

static int by_value(const void *a, const void *b)
{
        double x = *(const double *)a, y = *(const double *)b;

        return (x > y) - (x < y);
}

static void sort(struct scenario_samples *samples, double objective_ms)
{
        qsort(samples->ms, samples->n, sizeof *samples->ms, by_value);
        for (uint32_t i = 0; i < samples->n; i++)
                samples->late += samples->ms[i] > objective_ms;
}

void scenario_run(const struct scenario *scenario, enum scenario_policy policy, uint64_t seed,
                  struct scenario_result *ret)
{
        struct agent *agents = calloc(SCENARIO_AGENTS_MAX, sizeof *agents);
        struct world w = {.scenario = scenario,
                          .policy = policy,
                          .agent = agents,
                          .n = scenario->n_agents,
                          .end_ns = (uint64_t)(scenario->minutes * 60e9),
                          .result = ret};

        memset(ret, 0, sizeof *ret);
        for (uint32_t i = 0; i < scenario->n_agents; i++) {
                agents[i].what = &scenario->agent[i];
                takt_random_seed(&agents[i].random, seed * 100 + i);
                takt_random_seed(&agents[i].host_random, seed * 100 + i + 50);
        }
        if (policy == SCENARIO_ALONE) {
                for (uint32_t i = 0; i < scenario->n_agents; i++) {
                        struct world one = w;

                        one.first = i;
                        one.n = 1;
                        simulate(&one);
                }
        } else {
                simulate(&w);
        }
        for (uint32_t i = 0; i < scenario->n_agents; i++) {
                sort(&ret->ttft[i], scenario->agent[i].objective_ms);
                sort(&ret->end_to_end[i], scenario->agent[i].objective_ms);
        }
        free(agents);
}

double scenario_at(const struct scenario_samples *samples, double part)
{
        uint32_t i = (uint32_t)(part * samples->n);

        return samples->n ? samples->ms[i < samples->n ? i : samples->n - 1] : 0;
}

double scenario_mean(const struct scenario_samples *samples)
{
        double sum = 0;

        for (uint32_t i = 0; i < samples->n; i++)
                sum += samples->ms[i];
        return samples->n ? sum / samples->n : 0;
}

const struct scenario_samples *scenario_judged(const struct scenario *scenario,
                                               const struct scenario_result *result, uint32_t agent)
{
        return scenario->agent[agent].end_to_end ? &result->end_to_end[agent] : &result->ttft[agent];
}

void scenario_demo(struct scenario *s)
{
        *s = (struct scenario){
                .agent = {{"router",
                           4,
                           {8, 12},
                           4,
                           {4, 8},
                           200,
                           1,
                           {.slo_ns = 200 * TAKT_MS,
                            .share_ppm = 260000,
                            .peak_ppm = 500000,
                            .burst_ns = 20 * TAKT_MS,
                            .depth_ns = 110 * TAKT_MS,
                            .step_ns = 5 * TAKT_MS}},
                          {"chat",
                           1.5,
                           {20, 40},
                           5,
                           {20, 60},
                           200,
                           0,
                           {.ttft_ns = 200 * TAKT_MS,
                            .itl_ns = 70 * TAKT_MS,
                            .share_ppm = 320000,
                            .peak_ppm = 340000,
                            .burst_ns = 50 * TAKT_MS,
                            .depth_ns = 300 * TAKT_MS,
                            .step_ns = 5 * TAKT_MS}},
                          {"summariser",
                           .35,
                           {300, 600},
                           5,
                           {60, 120},
                           2000,
                           0,
                           {.ttft_ns = 2000 * TAKT_MS,
                            .itl_ns = 150 * TAKT_MS,
                            .share_ppm = 260000,
                            .peak_ppm = 380000,
                            .burst_ns = 610 * TAKT_MS,
                            .depth_ns = 610 * TAKT_MS,
                            .step_ns = 5 * TAKT_MS}}},
                .n_agents = 3,
                .minutes = 20,
                .load = 1,
                .handover_ns = 60 * TAKT_US,
                .host_ms = .4,
                .piece_ns = 2 * TAKT_MS,
                .device = {.memory_bytes = UINT64_C(40) << 30,
                           .switch_ns = 100 * TAKT_US,
                           .bound_ns = 2 * TAKT_MS,
                           .watchdog_ns = 10 * TAKT_S,
                           .slice_ns = 2 * TAKT_MS},
        };
}

void scenario_engine(struct scenario *s)
{
        scenario_demo(s);
        s->host_ms = .2;
        s->host_more_ms = .22;
        s->piece_ns = 15 * TAKT_MS;
        s->tells_late = 1;
        s->pieces_are_steps = 1;
        for (uint32_t i = 1; i < s->n_agents; i++)
                s->agent[i].contract.step_ns = 16 * TAKT_MS;
}

void scenario_slow(struct scenario *s)
{
        scenario_engine(s);
        s->host_ms = .3;
        s->host_more_ms = .33;
        for (uint32_t i = 0; i < s->n_agents; i++) {
                s->agent[i].decode_ms *= 1.1;
                s->agent[i].prefill_ms[0] *= 1.1;
                s->agent[i].prefill_ms[1] *= 1.1;
        }
}
