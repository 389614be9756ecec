#include "simgpu/device.h"
#include <errno.h>
#include <stddef.h>

#define HORIZON_NS UINT64_C(60000000000)

static uint64_t min(uint64_t a, uint64_t b)
{
        return a < b ? a : b;
}

static int is_met(const struct sim_context *c, const struct sim_barrier *b)
{
        for (int i = 0; i < SIM_LANES_MAX; i++)
                if (c->lane[i].done_ns < b->needed_ns[i])
                        return 0;
        return 1;
}

static const struct sim_barrier *first_unmet(const struct sim_context *c, const struct sim_lane *lane)
{
        for (uint32_t k = 0; k < lane->n; k++) {
                const struct sim_barrier *b = &lane->barrier[(lane->first + k) % SIM_BARRIERS_MAX];

                if (!is_met(c, b))
                        return b;
        }
        return NULL;
}

// What the lane can do before it has to wait.
static uint64_t lane_left(const struct sim_context *c, const struct sim_lane *lane)
{
        const struct sim_barrier *b = first_unmet(c, lane);

        return (b ? b->at_ns : lane->submitted_ns) - lane->done_ns;
}

// A lane always waits for work submitted before its own, so that of all lanes with work one can go on.
static int runnable(const struct sim_context *c)
{
        for (int i = 0; c->used && i < SIM_LANES_MAX; i++)
                if (c->lane[i].submitted_ns > c->lane[i].done_ns)
                        return 1;
        return 0;
}

static uint32_t count_runnable(const struct sim_device *d)
{
        uint32_t n = 0;

        for (uint32_t i = 0; i < SIM_CONTEXTS_MAX; i++)
                n += (uint32_t)runnable(&d->context[i]);
        return n;
}

// Round robin: the owner keeps the device while it has work and its slice is not over (or nobody else has
// work).
static void choose_owner(struct sim_device *d, uint32_t n_runnable)
{
        int32_t from = d->owner < 0 ? SIM_CONTEXTS_MAX - 1 : d->owner;
        int has_work = d->owner >= 0 && runnable(&d->context[d->owner]);

        if (has_work && d->now_ns >= d->slice_end_ns && n_runnable == 1)
                d->slice_end_ns = d->now_ns + d->slice_ns;
        if (has_work && d->now_ns < d->slice_end_ns)
                return;
        for (int32_t k = 1; k <= SIM_CONTEXTS_MAX; k++) {
                int32_t i = (from + k) % SIM_CONTEXTS_MAX;

                if (!runnable(&d->context[i]))
                        continue;
                if (i != d->owner && d->owner >= 0) {
                        d->switch_left_ns = d->switch_ns;
                        d->switches++;
                }
                d->owner = i;
                d->slice_end_ns = d->now_ns + d->switch_left_ns + d->slice_ns;
                return;
        }
}

static void note(const struct sim_device *d, uint64_t span_ns, enum sim_log_kind kind, int32_t context,
                 uint32_t n_runnable, sim_log_fn log, void *arg)
{
        struct sim_log_entry e = {.start_ns = d->now_ns,
                                  .end_ns = d->now_ns + span_ns,
                                  .context = (uint16_t)context,
                                  .kind = (uint8_t)kind,
                                  .n_runnable = (uint8_t)n_runnable};

        if (log)
                log(arg, &e);
}

static void work(struct sim_context *c, uint64_t span_ns)
{
        uint64_t goes_on[SIM_LANES_MAX];

        c->busy_ns += span_ns;
        for (int i = 0; i < SIM_LANES_MAX; i++)
                goes_on[i] = c->hung ? 0 : lane_left(c, &c->lane[i]);
        for (int i = 0; i < SIM_LANES_MAX; i++)
                if (goes_on[i])
                        c->lane[i].done_ns += span_ns;
}

// Until something changes: a lane ends or is held up, or has come so far as another one waits for.
static uint64_t left(const struct sim_context *c)
{
        uint64_t span = UINT64_MAX;

        if (c->hung)
                return UINT64_MAX;
        for (int i = 0; i < SIM_LANES_MAX; i++) {
                const struct sim_barrier *b = first_unmet(c, &c->lane[i]);
                uint64_t own = lane_left(c, &c->lane[i]);

                if (own)
                        span = min(span, own);
                for (int k = 0; b && k < SIM_LANES_MAX; k++)
                        if (b->needed_ns[k] > c->lane[k].done_ns)
                                span = min(span, b->needed_ns[k] - c->lane[k].done_ns);
        }
        return span;
}

// All contexts at once, each at its part of the speed.
static void advance_together(struct sim_device *d, uint64_t to_ns, uint32_t n, sim_log_fn log, void *arg)
{
        uint64_t span = (to_ns - d->now_ns + n - 1) / n;

        for (uint32_t i = 0; i < SIM_CONTEXTS_MAX; i++)
                if (runnable(&d->context[i]))
                        span = min(span, left(&d->context[i]));
        for (uint32_t i = 0; i < SIM_CONTEXTS_MAX; i++)
                if (runnable(&d->context[i])) {
                        note(d, span * n, SIM_LOG_RUN, (int32_t)i, n, log, arg);
                        work(&d->context[i], span);
                }
        d->busy_ns += span * n;
        d->now_ns += span * n;
}

static void advance_owner(struct sim_device *d, uint64_t to_ns, uint32_t n, sim_log_fn log, void *arg)
{
        struct sim_context *c;
        uint64_t span = to_ns - d->now_ns;

        choose_owner(d, n);
        if (d->switch_left_ns) {
                span = min(span, d->switch_left_ns);
                note(d, span, SIM_LOG_SWITCH, d->owner, n, log, arg);
                d->switch_left_ns -= span;
                d->switching_ns += span;
        } else {
                c = &d->context[d->owner];
                span = min(span, left(c));
                if (n > 1)
                        span = min(span, d->slice_end_ns - d->now_ns);
                note(d, span, SIM_LOG_RUN, d->owner, n, log, arg);
                work(c, span);
                d->busy_ns += span;
        }
        d->now_ns += span;
}

// A sample is told when it is over, as the real driver does: what NVML says is always about the past.
static void sample(struct sim_device *d)
{
        uint64_t span = d->now_ns - d->sample_ns;

        if (span < SIM_SAMPLE_NS)
                return;
        d->busy_percent = (uint32_t)(100 * (d->busy_ns - d->sample_busy_ns) / span);
        d->sample_ns = d->now_ns;
        d->sample_busy_ns = d->busy_ns;
}

void sim_device_advance(struct sim_device *d, uint64_t to_ns, sim_log_fn log, void *arg)
{
        uint32_t n;

        while (d->now_ns < to_ns) {
                uint64_t until = min(to_ns, d->sample_ns + SIM_SAMPLE_NS);

                n = count_runnable(d);
                if (n == 0)
                        d->now_ns = until;
                else if (d->mps)
                        advance_together(d, until, n, log, arg);
                else
                        advance_owner(d, until, n, log, arg);
                sample(d);
        }
}

uint64_t sim_device_submit(struct sim_device *d, uint32_t context, uint32_t lane, uint64_t cost_ns)
{
        return d->context[context].lane[lane].submitted_ns += cost_ns;
}

int sim_device_bar(struct sim_device *d, uint32_t context, uint32_t lane,
                   const uint64_t needed_ns[SIM_LANES_MAX])
{
        struct sim_context *c = &d->context[context];
        struct sim_lane *l = &c->lane[lane];
        struct sim_barrier b = {.at_ns = l->submitted_ns};

        for (int i = 0; i < SIM_LANES_MAX; i++)
                b.needed_ns[i] = needed_ns[i];
        if (is_met(c, &b))
                return 0;
        for (; l->n && is_met(c, &l->barrier[l->first]); l->n--)
                l->first = (l->first + 1) % SIM_BARRIERS_MAX;
        if (l->n == SIM_BARRIERS_MAX)
                return -EAGAIN;
        l->barrier[(l->first + l->n++) % SIM_BARRIERS_MAX] = b;
        return 0;
}

uint64_t sim_device_when(const struct sim_device *device, uint32_t context, uint32_t lane,
                         uint64_t position_ns)
{
        struct sim_device d = *device;
        struct sim_lane *l = &d.context[context].lane[lane];
        uint64_t horizon = d.now_ns + HORIZON_NS;

        if (d.context[context].hung)
                return UINT64_MAX;
        // Never past the end: the earliest it can be is with the device to itself.
        while (l->done_ns < position_ns && d.now_ns < horizon)
                sim_device_advance(&d, d.now_ns + position_ns - l->done_ns, NULL, NULL);
        return l->done_ns < position_ns || d.now_ns > horizon ? UINT64_MAX : d.now_ns;
}
