// One device's lease: who holds it, when it is taken away, and how it passes on.
//
//          WANT, nobody holds                    the holder must go
//   FREE ─────────────────────▶ HELD ──────────────────────────────▶ DRAINING
//    ▲                           │ ▲                                    │
//    └───────────────────────────┘ └────────────────────────────────────┘
//          the holder leaves             its work is done: the next one's gate opens
//
// A lease is not taken from a decode step (its work is one piece), and not for a gap between two steps while
// the holder's next step would still be the earliest.
#include "core/internal.h"

// Granted + idle + switch = elapsed, always.
void lease_account(struct device *device, uint64_t now_ns)
{
        struct core_device_account *a = &device->account;
        uint64_t span = takt_time_since(now_ns, device->accounted_ns), in_switch;

        in_switch = takt_time_min(span, takt_time_since(device->switch_until_ns, device->accounted_ns));
        a->elapsed_ns += span;
        a->switch_ns += in_switch;
        if (device->holder == NO_SEAT) {
                a->idle_ns += span - in_switch;
        } else {
                a->granted_ns += span - in_switch;
                device->seat[device->holder].account.granted_ns += span - in_switch;
        }
        device->accounted_ns = now_ns;
}

// Whether the device is or was just given to the seat.
static int has_device(const struct device *device, const struct seat *seat)
{
        return device->holder == seat->place || device->overlap == seat->place;
}

// Time that nobody else wanted costs half: using it harms nobody, but whoever lives on it must not come with
// full buckets when the others return. (Tried: full price makes the chat late, 0.016 %.)
void lease_charge(struct core *core, struct seat *seat, uint64_t cost_ns)
{
        struct device *device = &core->device[seat->device];
        uint64_t now_ns = core->now_ns;

        if (!device->wanting)
                cost_ns /= 2;
        if (!cost_ns)
                return;
        switch (order_class(seat, now_ns)) {
        case CORE_CLASS_DEADLINE:
                core_budget_charge(&seat->sustained, cost_ns, now_ns, DEBT_NS);
                core_budget_charge(&seat->peak, cost_ns, now_ns, DEBT_NS);
                order_charged(seat);
                break;
        case CORE_CLASS_FAIR:
                seat->vruntime += cost_ns * 100 / seat->contract.weight;
                if (!has_device(device, seat)) // what it claims is not its class's
                        break;
                core_budget_charge(&device->fair, cost_ns, now_ns, FAIR_WAIT_NS);
                core_budget_charge(&device->left, cost_ns, now_ns, DEBT_NS);
                break;
        case CORE_CLASS_IDLE:
                break;
        }
}

// Holding the device idle costs as much as using it, from when somebody waits for it.
void lease_charge_linger(struct core *core, struct seat *seat, uint64_t until_ns)
{
        const struct device *device = &core->device[seat->device];
        uint64_t since = takt_time_max(seat->idle_since_ns, device->contended_ns);

        if (device->wanting)
                lease_charge(core, seat, takt_time_since(until_ns, since));
}

// Charges what the running burst has used so far, so that the order stays true while it runs.
static void charge_so_far(struct core *core, struct seat *seat)
{
        uint64_t used;

        if (!seat->busy)
                return;
        used = takt_time_since(core->now_ns, takt_time_max(seat->busy_since_ns, seat->opened_ns));
        lease_charge(core, seat, takt_time_since(used, seat->prepaid_ns));
        seat->prepaid_ns = takt_time_max(seat->prepaid_ns, used);
        pace_step_goes_on(seat, used);
}

static void open_gate(struct core *core, uint32_t d, int32_t next, int soft, struct core_effects *effects)
{
        struct device *device = &core->device[d];
        struct seat *seat = &device->seat[next];
        struct core_effect *effect = effect_add(effects, CORE_EFFECT_OPEN, seat->number, d);
        uint64_t waited = takt_time_since(core->now_ns, seat->want_since_ns);

        assert(!seat->open);
        effect->free = device->seats == bit(next);
        effect->soft = (uint8_t)soft;
        if (device->last_holder != next) {
                device->switch_until_ns =
                        core->now_ns + (device->last_holder == NO_SEAT ? 0 : device->config.switch_ns);
                device->account.switches += device->last_holder != NO_SEAT;
                seat->account.switches += device->last_holder != NO_SEAT;
        }
        device->phase = PHASE_HELD;
        device->holder = device->last_holder = next;
        if (device->overlap == next)
                device->overlap = NO_SEAT;
        device->wanting &= ~bit(next);
        device->watched = 0;
        seat->open = 1;
        seat->wants = 0;
        seat->opened_ns = core->now_ns;
        seat->closed_ns = TAKT_NEVER;
        seat->prepaid_ns = 0;
        seat->idle_since_ns = core->now_ns;
        seat->account.grants++;
        seat->account.wait_ns += waited;
        seat->account.wait_max_ns = takt_time_max(seat->account.wait_max_ns, waited);
}

// How long a drain may take: the device's bound, or the longest piece that the tenant said it cannot split.
static uint64_t drain_ns(const struct device *device, const struct seat *seat)
{
        return takt_time_max(device->config.bound_ns, seat->contract.step_ns);
}

// When it is looked into. Two side by side take twice as long as by turns.
static uint64_t nudge_due(const struct device *device, const struct seat *seat)
{
        uint64_t bounds = (device->overlap == NO_SEAT ? 1 : 2) * NUDGE_BOUNDS;

        return seat->closed_ns + takt_time_min(bounds * drain_ns(device, seat), HANG_NS);
}

static void close_gate(struct core *core, uint32_t d, struct core_effects *effects)
{
        struct device *device = &core->device[d];
        struct seat *seat = &device->seat[device->holder];

        assert(seat->open);
        effect_add(effects, CORE_EFFECT_CLOSE, seat->number, d);
        if (!seat->busy)
                lease_charge_linger(core, seat, core->now_ns);
        seat->open = 0;
        device->phase = PHASE_DRAINING;
        seat->closed_ns = core->now_ns;
        seat->nudged = 0;
        device->timer_ns = nudge_due(device, seat);
        device->asked = 1;
}

static void watch(struct core *core, uint32_t d, int on, struct core_effects *effects)
{
        struct device *device = &core->device[d];

        if (device->watched == on)
                return;
        device->watched = (uint8_t)on;
        effect_add(effects, CORE_EFFECT_WATCH, device->seat[device->holder].number, d)->on = (uint8_t)on;
}

// A step is kept whole, unless it serves a new request (a prefill may be left between two submissions),
// belongs to no deadline, or has gone on for much longer than its like.
static uint64_t whole_until(const struct core *core, const struct seat *holder)
{
        uint64_t began = takt_time_max(holder->step_began_ns, holder->opened_ns);

        if (holder->is_first || !holder->in_step || order_class(holder, core->now_ns) != CORE_CLASS_DEADLINE)
                return core->now_ns;
        return began + takt_time_max(2 * holder->step_ns, holder->contract.step_ns);
}

// Soft: the waiter's gate opens while the holder's last piece still runs. Worth it where the waiter would be
// late otherwise, and the two sharing the device get it done sooner.
static int soft_is_better(const struct core *core, const struct device *device, int32_t best)
{
        const struct seat *h = &device->seat[device->holder], *w = &device->seat[best];
        uint64_t now = core->now_ns, rest = takt_time_since(h->step_began_ns + h->step_ns, now);
        uint64_t hard, soft;

        if (device->overlap != NO_SEAT || order_class(w, now) != CORE_CLASS_DEADLINE)
                return 0;
        hard = now + rest + device->config.switch_ns + w->step_ns;
        soft = now + 2 * (device->config.switch_ns + w->step_ns);
        return hard > order_key(core, w) && soft < hard;
}

// When the holder's claim is looked at again while it is the better one. Two deadlines change places only
// when the holder has used up its budget: no need to look at each slice.
static uint64_t next_look(const struct core *core, const struct device *device, int32_t best)
{
        int deadlines = order_class(&device->seat[device->holder], core->now_ns) == CORE_CLASS_DEADLINE &&
                        order_class(&device->seat[best], core->now_ns) == CORE_CLASS_DEADLINE;

        return core->now_ns + (deadlines ? LOOK_SLICES : 1) * device->config.slice_ns;
}

static void decide_busy(struct core *core, uint32_t d, int32_t best, struct core_effects *effects)
{
        struct device *device = &core->device[d];
        struct seat *h = &device->seat[device->holder];
        uint64_t whole;

        charge_so_far(core, h);
        whole = whole_until(core, h);
        if (!order_before(core, device, best, device->holder)) {
                device->timer_ns = next_look(core, device, best);
                return;
        }
        if (core->now_ns >= whole) {
                close_gate(core, d, effects);
        } else if (soft_is_better(core, device, best)) {
                close_gate(core, d, effects);
                device->overlap = device->holder;
                open_gate(core, d, best, 1, effects);
        } else {
                device->timer_ns = whole;
        }
}

// Whoever gives the gap before its next step away has to wait for one whole piece of the other's. To a pace
// of many such pieces, with no first token due within as many, that is nothing, and the device idles for
// nobody.
static int gap_is_short(const struct core *core, const struct device *device, const struct seat *holder,
                        const struct seat *waiter)
{
        uint64_t cost = waiter->contract.step_ns + 2 * device->config.switch_ns;
        uint64_t slack = takt_time_since(holder->pending_deadline_ns, core->now_ns);

        return takt_time_min(holder->contract.pace_ns, slack) < GAP_PIECES * cost;
}

static int lingers(const struct core *core, const struct device *device, const struct seat *h, int32_t best)
{
        return pace_expects_step(h) && gap_is_short(core, device, h, &device->seat[best]) &&
               !order_before(core, device, best, device->holder);
}

static void decide_idle(struct core *core, uint32_t d, int32_t best, struct core_effects *effects)
{
        struct device *device = &core->device[d];
        const struct seat *h = &device->seat[device->holder];
        uint64_t until = takt_time_max(h->idle_since_ns, h->opened_ns) + pace_linger(h);
        uint64_t awake = h->opened_ns + WAKE_NS;

        if (core->now_ns < until && lingers(core, device, h, best))
                device->timer_ns = takt_time_min(until, core->now_ns + device->config.slice_ns); // a look
        else if (h->idle_since_ns == h->opened_ns && core->now_ns < awake)
                device->timer_ns =
                        awake; // or two could be let in and shut out in turns, before either has moved
        else
                close_gate(core, d, effects);
}

// Its drain takes too long: it is looked into, and counted.
static void overrun(struct core *core, struct seat *seat, struct core_effects *effects)
{
        uint32_t d = seat->device;

        seat->nudged = 1;
        seat->account.overruns++;
        seat->strikes_ns = takt_time_max(seat->strikes_ns, core->now_ns) + TAKT_S;
        effect_add(effects, CORE_EFFECT_NUDGE, seat->number, d);
        effect_add(effects, CORE_EFFECT_OVERRUN, seat->number, d)->ns =
                core->now_ns - seat->closed_ns - drain_ns(&core->device[d], seat);
}

static void tail_ended(struct seat *seat)
{
        seat->account.tail_ns += takt_time_since(seat->idle_since_ns, seat->closed_ns);
}

// It goes on beside the next one. Who did so already is looked into now, as nobody looks after two.
static void hung(struct core *core, struct device *device, struct core_effects *effects)
{
        if (device->overlap != NO_SEAT && !device->seat[device->overlap].nudged)
                overrun(core, &device->seat[device->overlap], effects);
        device->overlap = device->holder;
}

static void decide_draining(struct core *core, uint32_t d, int32_t best, struct core_effects *effects)
{
        struct device *device = &core->device[d];
        struct seat *h = &device->seat[device->holder];
        uint64_t nudge_ns = nudge_due(device, h);
        uint64_t hang_ns = h->closed_ns + HANG_NS;

        charge_so_far(core, h);
        if (!h->busy && device->asked)
                h->busy = 1; // until we hear otherwise
        if (h->busy && core->now_ns < nudge_ns) {
                device->timer_ns = nudge_ns;
                return;
        }
        if (h->busy && !h->nudged)
                overrun(core, h, effects);
        if (h->busy && core->now_ns < hang_ns) {
                device->timer_ns = hang_ns;
                return;
        }
        if (h->busy)
                hung(core, device, effects);
        else
                tail_ended(h);
        device->phase = PHASE_FREE;
        device->holder = NO_SEAT;
        if (best != NO_SEAT)
                open_gate(core, d, best, h->busy, effects);
}

// What still runs of a former holder is charged when its end is told, and looked into as any other drain.
static void decide_overlap(struct core *core, struct device *device, struct core_effects *effects)
{
        struct seat *seat = &device->seat[device->overlap];

        if (!seat->busy) {
                tail_ended(seat);
                device->overlap = NO_SEAT;
        } else if (!seat->nudged && core->now_ns >= nudge_due(device, seat)) {
                overrun(core, seat, effects);
        }
}

// Since when somebody waits whom the watchdog looks after; TAKT_NEVER: nobody does.
static uint64_t waits_since(const struct device *device)
{
        uint64_t since = TAKT_NEVER;

        FOR_EACH_SEAT(i, device->wanting)
        if (device->seat[i].contract.class != CORE_CLASS_IDLE)
                since = takt_time_min(since, device->seat[i].want_since_ns);
        return since;
}

static void watchdog(struct core *core, uint32_t d, uint64_t since_ns, struct core_effects *effects)
{
        struct device *device = &core->device[d];
        int bites = since_ns != TAKT_NEVER &&
                    takt_time_since(core->now_ns, since_ns) >= device->config.watchdog_ns;

        if (device->bypass ? device->wanting != 0 : !bites)
                return;
        device->bypass = !device->bypass;
        effect_add(effects, CORE_EFFECT_BYPASS, 0, d)->on = device->bypass;
}

void lease_decide(struct core *core, uint32_t d, struct core_effects *effects)
{
        struct device *device = &core->device[d];
        uint64_t wanting = device->wanting, since_ns = waits_since(device);
        int32_t best;

        device->timer_ns = TAKT_NEVER;
        if (device->overlap != NO_SEAT)
                decide_overlap(core, device, effects);
        watchdog(core, d, since_ns, effects);
        order_promises(core, device);
        best = order_best(core, device);
        if (device->phase == PHASE_DRAINING) {
                decide_draining(core, d, best, effects);
        } else if (device->phase == PHASE_FREE) {
                if (best != NO_SEAT)
                        open_gate(core, d, best, 0, effects);
        } else if (best != NO_SEAT) {
                watch(core, d, 1, effects);
                if (device->seat[device->holder].busy)
                        decide_busy(core, d, best, effects);
                else
                        decide_idle(core, d, best, effects);
        }
        // One more look: whom a grant left waiting decides whether the new holder is watched.
        if (device->phase == PHASE_HELD) {
                watch(core, d, device->wanting != 0, effects);
                if (device->wanting && device->timer_ns == TAKT_NEVER)
                        device->timer_ns = core->now_ns + device->config.slice_ns;
        }
        if (device->overlap != NO_SEAT && !device->seat[device->overlap].nudged)
                device->timer_ns =
                        takt_time_min(device->timer_ns, nudge_due(device, &device->seat[device->overlap]));
        if (device->wanting != wanting)
                since_ns = waits_since(device);
        if (!device->bypass && since_ns != TAKT_NEVER)
                device->timer_ns = takt_time_min(device->timer_ns, since_ns + device->config.watchdog_ns);
}

// A seat more or less on the device: a lone holder runs free, others are bounded.
void lease_mode(struct core *core, uint32_t d, struct core_effects *effects)
{
        struct device *device = &core->device[d];
        struct core_effect *effect;

        if (device->phase != PHASE_HELD)
                return;
        effect = effect_add(effects, CORE_EFFECT_OPEN, device->seat[device->holder].number, d);
        effect->free = device->seats == bit(device->holder);
}

void lease_drop(struct core *core, struct seat *seat)
{
        struct device *device = &core->device[seat->device];

        device->wanting &= ~bit(seat->place);
        device->seats &= ~bit(seat->place);
        if (device->overlap == seat->place)
                device->overlap = NO_SEAT;
        if (device->last_holder == seat->place)
                device->last_holder = NO_SEAT;
        if (device->holder != seat->place)
                return;
        device->holder = NO_SEAT;
        device->phase = PHASE_FREE;
        device->watched = device->asked = 0;
}
