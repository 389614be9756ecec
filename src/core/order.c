// Who is next: the earliest deadline, then the fair by EEVDF (Stoica and Abdel-Wahab 1995), then the idle.
#include "core/internal.h"

static uint64_t first_ns(const struct device *device, uint64_t i)
{
        return device->seat[i].contract.first_ns;
}

void order_seated(struct device *device)
{
        uint64_t left_ppm = CORE_PPM;

        device->n_promises = 0;
        FOR_EACH_SEAT(i, device->seats)
        {
                uint32_t at = device->n_promises;

                if (device->seat[i].contract.class != CORE_CLASS_DEADLINE)
                        continue;
                left_ppm = takt_time_since(left_ppm, device->seat[i].contract.share_ppm);
                for (; at && first_ns(device, device->promise[at - 1]) < first_ns(device, i); at--)
                        device->promise[at] = device->promise[at - 1];
                device->promise[at] = (uint8_t)i;
                device->n_promises++;
        }
        device->left.rate_ppm = (uint32_t)takt_time_max(left_ppm, FAIR_GUARANTEE_PPM);
}

// A seat's budgets have changed.
void order_charged(struct seat *seat)
{
        seat->recovered_ns =
                takt_time_max(core_budget_recovered(&seat->sustained), core_budget_recovered(&seat->peak));
}

// A seat in debt is promised nothing until it has recovered.
void order_promises(const struct core *core, struct device *device)
{
        device->promised_ns = device->promised_next_ns = 0;
        device->promised_to = NO_SEAT;
        for (uint32_t n = 0; n < device->n_promises; n++) {
                uint8_t i = device->promise[n];

                if (device->seat[i].recovered_ns > core->now_ns)
                        continue;
                if (device->promised_to != NO_SEAT) {
                        device->promised_next_ns = first_ns(device, i);
                        return;
                }
                device->promised_ns = first_ns(device, i);
                device->promised_to = i;
        }
}

// When all that the others may be promised by now is due.
static uint64_t promised(const struct core *core, const struct seat *seat)
{
        const struct device *device = &core->device[seat->device];

        return core->now_ns +
               (device->promised_to == seat->place ? device->promised_next_ns : device->promised_ns);
}

// A debtor's deadline counts no earlier than the time at which it is out of debt; or, if that is sooner, than
// all that the others are promised. So it lives on their slack, and never on their promises.
static uint64_t no_earlier_than_budget(const struct core *core, const struct seat *seat, uint64_t deadline_ns)
{
        return takt_time_max(deadline_ns, takt_time_min(seat->recovered_ns, promised(core, seat)));
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

// The fair among the seats that wait or hold.
static uint64_t active_fair(const struct core *core, const struct device *device)
{
        uint64_t active = device->wanting, fair = 0;

        if (device->holder != NO_SEAT)
                active |= bit(device->holder);
        FOR_EACH_SEAT(i, active)
        fair |= (uint64_t)(order_class(&device->seat[i], core->now_ns) == CORE_CLASS_FAIR) << i;
        return fair;
}

// The weighted mean of these seats' service: whoever is at or below it is owed time. 0: there are none. The
// sum may wrap; what is left of it above the least does not.
static uint64_t virtual_time(const struct device *device, uint64_t fair)
{
        uint64_t least = UINT64_MAX, sum = 0, weights = 0;

        FOR_EACH_SEAT(i, fair)
        {
                const struct seat *seat = &device->seat[i];

                least = takt_time_min(least, seat->vruntime);
                sum += seat->vruntime * seat->contract.weight;
                weights += seat->contract.weight;
        }
        return weights ? least + (sum - least * weights) / weights : 0;
}

static uint64_t virtual_time_of_others(const struct core *core, const struct device *device,
                                       const struct seat *seat)
{
        return virtual_time(device, active_fair(core, device) & ~bit(seat->place));
}

// Who was away for a gap between two steps has the service that it had: its debt stays, and what it is owed,
// to a limit, as time in which it wanted nothing is not owed. After a longer time at most a slice of either
// is left.
void order_fair_enter(const struct core *core, const struct device *device, struct seat *seat)
{
        int64_t slice = (int64_t)device->config.slice_ns, lag = seat->lag_ns;
        uint64_t others = virtual_time_of_others(core, device, seat);

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
        uint64_t others = virtual_time_of_others(core, device, seat);

        seat->lag_ns = others ? (int64_t)(others - seat->vruntime) : 0;
        seat->left_ns = core->now_ns;
}

// The best of one class so far.
struct choice {
        int32_t seat;
        uint64_t key;
};

static void consider(struct choice *best, uint64_t i, uint64_t key)
{
        if (best->seat == NO_SEAT || key < best->key)
                *best = (struct choice){(int32_t)i, key};
}

// Whoever is not owed any time comes behind all who are.
static uint64_t virtual_deadline(const struct seat *seat, uint64_t fair_now)
{
        return seat->vruntime + seat->turn_ns + (seat->vruntime > fair_now ? UINT64_MAX / 2 : 0);
}

// When the fair class's guarantee makes its first in line as urgent as a deadline.
static uint64_t guarantee(const struct device *device, const struct seat *seat)
{
        return takt_time_max(seat->want_since_ns + FAIR_WAIT_NS, core_budget_recovered(&device->fair));
}

// Whoever has used more than its share comes behind the fair class, while that has had less of what is
// promised to nobody.
static int yields_to_fair(const struct core *core, const struct device *device, const struct seat *seat)
{
        return seat->recovered_ns > core->now_ns && core_budget_recovered(&device->left) < seat->recovered_ns;
}

static int32_t first_come(const struct device *device)
{
        int32_t first = NO_SEAT;

        FOR_EACH_SEAT(i, device->wanting)
        if (first == NO_SEAT || device->seat[i].want_since_ns < device->seat[first].want_since_ns)
                first = (int32_t)i;
        return first;
}

int32_t order_best(const struct core *core, const struct device *device)
{
        struct choice deadline = {NO_SEAT, 0}, fair = {NO_SEAT, 0}, idle = {NO_SEAT, 0};
        uint64_t fair_seats, fair_now;

        if (device->bypass)
                return first_come(device);
        fair_seats = active_fair(core, device);
        fair_now = virtual_time(device, fair_seats);
        FOR_EACH_SEAT(i, device->wanting & fair_seats)
        consider(&fair, i, virtual_deadline(&device->seat[i], fair_now));
        FOR_EACH_SEAT(i, device->wanting & ~fair_seats)
        if (device->seat[i].contract.class == CORE_CLASS_DEADLINE)
                consider(&deadline, i, order_key(core, &device->seat[i]));
        else
                consider(&idle, i, device->seat[i].want_since_ns);
        if (deadline.seat != NO_SEAT && fair.seat != NO_SEAT &&
            (guarantee(device, &device->seat[fair.seat]) < deadline.key ||
             yields_to_fair(core, device, &device->seat[deadline.seat])))
                return fair.seat;
        if (deadline.seat != NO_SEAT)
                return deadline.seat;
        return fair.seat != NO_SEAT ? fair.seat : idle.seat;
}

static int slice_is_over(const struct core *core, const struct device *device, const struct seat *holder)
{
        return core->now_ns >= holder->opened_ns + device->config.slice_ns;
}

// A slice that is over ends only for who is before the holder: a large share is more than every other slice.
static int fair_before(const struct core *core, const struct device *device, const struct seat *waiter,
                       const struct seat *holder)
{
        uint64_t fair_now;

        if (!slice_is_over(core, device, holder))
                return 0;
        fair_now = virtual_time(device, active_fair(core, device));
        return virtual_deadline(waiter, fair_now) <= virtual_deadline(holder, fair_now);
}

// Whether the waiter should have the device rather than the holder, if the holder can be split now.
int order_before(const struct core *core, const struct device *device, int32_t waiter, int32_t holder)
{
        const struct seat *w = &device->seat[waiter], *h = &device->seat[holder];
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
                return guarantee(device, w) < (h->busy ? order_key(core, h) : order_next_key(core, h)) ||
                       yields_to_fair(core, device, h);
        if (wc == CORE_CLASS_DEADLINE && hc == CORE_CLASS_FAIR) // the guarantee is a whole slice
                return !yields_to_fair(core, device, w) &&
                       (core_budget_recovered(&device->fair) > core->now_ns ||
                        slice_is_over(core, device, h) ||
                        takt_time_since(h->opened_ns, h->want_since_ns) < FAIR_WAIT_NS);
        if (wc == CORE_CLASS_FAIR && hc == CORE_CLASS_FAIR)
                return fair_before(core, device, w, h);
        if (wc == hc)
                return slice_is_over(core, device, h);
        return wc < hc;
}
