#include "simgpu/device.h"
#include <stddef.h>

#define HORIZON_NS UINT64_C(60000000000)

static uint64_t min(uint64_t a, uint64_t b)
{
        return a < b ? a : b;
}

static int runnable(const struct sim_context *c)
{
        return c->used && c->submitted_ns > c->done_ns;
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
        if (!c->hung)
                c->done_ns += span_ns;
        c->busy_ns += span_ns;
}

static uint64_t left(const struct sim_context *c)
{
        return c->hung ? UINT64_MAX : c->submitted_ns - c->done_ns;
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

void sim_device_advance(struct sim_device *d, uint64_t to_ns, sim_log_fn log, void *arg)
{
        uint32_t n;

        while (d->now_ns < to_ns) {
                n = count_runnable(d);
                if (n == 0)
                        d->now_ns = to_ns;
                else if (d->mps)
                        advance_together(d, to_ns, n, log, arg);
                else
                        advance_owner(d, to_ns, n, log, arg);
        }
}

uint64_t sim_device_when(const struct sim_device *device, uint32_t context, uint64_t position_ns)
{
        struct sim_device d = *device;
        uint64_t horizon = d.now_ns + HORIZON_NS, step;

        if (d.context[context].hung)
                return UINT64_MAX;
        while (d.context[context].done_ns < position_ns && d.now_ns < horizon) {
                // Never past the end: the earliest it can be is with the device to itself.
                step = position_ns - d.context[context].done_ns;
                sim_device_advance(&d, d.now_ns + step, NULL, NULL);
        }
        return d.context[context].done_ns < position_ns ? UINT64_MAX : d.now_ns;
}
