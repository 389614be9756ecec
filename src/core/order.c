// Who is next: the earliest deadline, then the fair by EEVDF (Stoica and Abdel-Wahab 1995), then the idle.
#include "core/internal.h"
#include <stddef.h>

enum core_class order_class(const struct seat *seat, uint64_t now_ns)
{
        uint64_t strikes = takt_time_since(seat->strikes_ns, now_ns) / TAKT_S;

        if (seat->contract.class == CORE_CLASS_DEADLINE && strikes > STRIKES_MAX)
                return CORE_CLASS_FAIR;
        return seat->contract.class;
}

// A seat's budgets have changed.
void order_charged(struct core *core, const struct seat *seat)
{
        core->promise[seat - core->seat] = (struct promise){
                seat->contract.first_ns,
                takt_time_max(core_budget_recovered(&seat->sustained), core_budget_recovered(&seat->peak))};
}

// A seat in debt is promised nothing until it has recovered.
void order_promises(const struct core *core, struct device *device)
{
        uint64_t longest = 0, next = 0, whose = CORE_SEATS_MAX;

        FOR_EACH_SEAT(i, device->seats)
        {
                const struct promise *p = &core->promise[i];
                uint64_t first = p->recovered_ns > core->now_ns ? 0 : p->first_ns;

                next = takt_time_max(next, takt_time_min(first, longest));
                whose = first > longest ? i : whose;
                longest = takt_time_max(longest, first);
        }
        device->promised_ns = longest;
        device->promised_next_ns = next;
        device->promised_to = (int32_t)whose;
}

// When all that the others may be promised by now is due.
static uint64_t promised(const struct core *core, const struct seat *seat)
{
        const struct device *device = &core->device[seat->device];

        return core->now_ns +
               (device->promised_to == seat - core->seat ? device->promised_next_ns : device->promised_ns);
}

// A debtor's deadline counts no earlier than the time at which it is out of debt; or, if that is sooner, than
// all that the others are promised. So it lives on their slack, and never on their promises.
static uint64_t no_earlier_than_budget(const struct core *core, const struct seat *seat, uint64_t deadline_ns)
{
        return takt_time_max(deadline_ns, takt_time_min(core->promise[seat - core->seat].recovered_ns,
                                                        promised(core, seat)));
}

// The deadline of the step at hand. A queued step that holds up a new request inherits the request's
// deadline.
uint64_t order_key(const struct core *core, const struct seat *seat)
{
        return no_earlier_than_budget(core, seat,
                                      takt_time_min(seat->step_deadline_ns, seat->pending_deadline_ns));
}

// What the next step of an idle seat would be worth, if it began now.
uint64_t order_next_key(const struct core *core, const struct seat *seat)
{
        uint64_t next = takt_time_max(seat->clock_ns, core->now_ns) + seat->contract.pace_ns;

        if (seat->in_step)
                return order_key(core, seat);
        return no_earlier_than_budget(core, seat, takt_time_min(next, seat->pending_deadline_ns));
}

static uint64_t virtual_deadline(const struct device *device, const struct seat *seat)
{
        return seat->vruntime + device->config.slice_ns * 100 / seat->contract.weight;
}

// The weighted mean of the active seats' service: whoever is at or below it is owed time. 0: there are none.
static uint64_t virtual_time(const struct core *core, const struct device *device, const struct seat *without)
{
        uint64_t least = UINT64_MAX, sum = 0, weights = 0;
        uint64_t active = device->wanting;

        if (device->holder != NO_SEAT)
                active |= UINT64_C(1) << device->holder;
        if (without)
                active &= ~(UINT64_C(1) << (without - core->seat));
        FOR_EACH_SEAT(i, active)
        if (order_class(&core->seat[i], core->now_ns) == CORE_CLASS_FAIR)
                least = takt_time_min(least, core->seat[i].vruntime);
        if (least == UINT64_MAX)
                return 0;
        FOR_EACH_SEAT(i, active)
        {
                const struct seat *seat = &core->seat[i];

                if (order_class(seat, core->now_ns) != CORE_CLASS_FAIR)
                        continue;
                sum += (seat->vruntime - least) * seat->contract.weight;
                weights += seat->contract.weight;
        }
        return least + sum / weights;
}

// Who was away for a gap between two steps has the service that it had: its debt stays, and what it is owed,
// to a limit, as time in which it wanted nothing is not owed. After a longer time at most a slice of either
// is left.
void order_fair_enter(const struct core *core, const struct device *device, struct seat *seat)
{
        int64_t slice = (int64_t)device->config.slice_ns, lag = seat->lag_ns;
        uint64_t others = virtual_time(core, device, seat);

        if (!others)
                return;
        if (takt_time_since(core->now_ns, seat->left_ns) < FAIR_AWAY_NS) {
                seat->vruntime = takt_time_max(seat->vruntime, takt_time_since(others, FAIR_AWAY_NS));
                return;
        }
        lag = lag < -slice ? -slice : lag > slice ? slice : lag;
        seat->vruntime = lag > 0 && (uint64_t)lag > others ? 0 : others - (uint64_t)lag;
}

void order_fair_leave(const struct core *core, const struct device *device, struct seat *seat)
{
        uint64_t others = virtual_time(core, device, seat);

        seat->lag_ns = others ? (int64_t)(others - seat->vruntime) : 0;
        seat->left_ns = core->now_ns;
}

// Whoever is not owed any time comes behind all who are.
static uint64_t fair_key(const struct device *device, const struct seat *seat, uint64_t fair_now)
{
        return virtual_deadline(device, seat) + (seat->vruntime > fair_now ? UINT64_MAX / 2 : 0);
}

// The best of one class so far.
struct choice {
        int32_t seat;
        uint64_t key;
};

static void consider_one(struct choice *best, uint64_t i, uint64_t key)
{
        if (best->seat == NO_SEAT || key < best->key)
                *best = (struct choice){(int32_t)i, key};
}

static void consider(const struct core *core, const struct device *device, uint64_t i, uint64_t fair_now,
                     struct choice best[3])
{
        const struct seat *seat = &core->seat[i];

        switch (order_class(seat, core->now_ns)) {
        case CORE_CLASS_DEADLINE:
                consider_one(&best[CORE_CLASS_DEADLINE], i, order_key(core, seat));
                break;
        case CORE_CLASS_FAIR:
                consider_one(&best[CORE_CLASS_FAIR], i, fair_key(device, seat, fair_now));
                break;
        case CORE_CLASS_IDLE:
                consider_one(&best[CORE_CLASS_IDLE], i, seat->want_since_ns);
                break;
        }
}

// When the fair class's guarantee makes its first in line as urgent as a deadline.
static uint64_t guarantee(const struct device *device, const struct seat *seat)
{
        return takt_time_max(seat->want_since_ns + FAIR_WAIT_NS, core_budget_recovered(&device->fair));
}

static int32_t first_come(const struct core *core, const struct device *device)
{
        int32_t first = NO_SEAT;

        FOR_EACH_SEAT(i, device->wanting)
        if (first == NO_SEAT || core->seat[i].want_since_ns < core->seat[first].want_since_ns)
                first = (int32_t)i;
        return first;
}

int32_t order_best(const struct core *core, const struct device *device)
{
        struct choice best[3] = {{NO_SEAT, 0}, {NO_SEAT, 0}, {NO_SEAT, 0}};
        const struct choice *deadline = &best[CORE_CLASS_DEADLINE], *fair = &best[CORE_CLASS_FAIR];
        uint64_t fair_now;

        if (device->bypass)
                return first_come(core, device);
        fair_now = virtual_time(core, device, NULL);
        FOR_EACH_SEAT(i, device->wanting)
        consider(core, device, i, fair_now, best);
        if (deadline->seat != NO_SEAT && fair->seat != NO_SEAT &&
            guarantee(device, &core->seat[fair->seat]) < deadline->key)
                return fair->seat;
        if (deadline->seat != NO_SEAT)
                return deadline->seat;
        return fair->seat != NO_SEAT ? fair->seat : best[CORE_CLASS_IDLE].seat;
}

static int slice_is_over(const struct core *core, const struct device *device, const struct seat *holder)
{
        return core->now_ns >= holder->opened_ns + device->config.slice_ns;
}

// A slice that is over ends only for who is before the holder: a large share is more than every other slice.
static int fair_before(const struct core *core, const struct device *device, const struct seat *waiter,
                       const struct seat *holder)
{
        uint64_t fair_now = virtual_time(core, device, NULL);

        return slice_is_over(core, device, holder) &&
               fair_key(device, waiter, fair_now) <= fair_key(device, holder, fair_now);
}

// Whether the waiter should have the device rather than the holder, if the holder can be split now.
int order_before(const struct core *core, const struct device *device, int32_t waiter, int32_t holder)
{
        const struct seat *w = &core->seat[waiter], *h = &core->seat[holder];
        enum core_class wc = order_class(w, core->now_ns), hc = order_class(h, core->now_ns);
        uint64_t wk, hk;

        if (device->bypass)
                return slice_is_over(core, device, h);
        if (wc == CORE_CLASS_DEADLINE && hc == CORE_CLASS_DEADLINE) {
                wk = order_key(core, w);
                hk = h->busy ? order_key(core, h) : order_next_key(core, h);
                return wk < hk;
        }
        if (wc == CORE_CLASS_FAIR && hc == CORE_CLASS_DEADLINE)
                return guarantee(device, w) < (h->busy ? order_key(core, h) : order_next_key(core, h));
        if (wc == CORE_CLASS_DEADLINE && hc == CORE_CLASS_FAIR) // the guarantee is a whole slice
                return core_budget_recovered(&device->fair) > core->now_ns ||
                       slice_is_over(core, device, h) ||
                       takt_time_since(h->opened_ns, h->want_since_ns) < FAIR_WAIT_NS;
        if (wc == CORE_CLASS_FAIR && hc == CORE_CLASS_FAIR)
                return fair_before(core, device, w, h);
        if (wc == hc)
                return slice_is_over(core, device, h);
        return wc < hc;
}
