// One event in, effects out: finds the seat, notes what the event says, and lets the device decide anew.
#include <errno.h>
#include <stddef.h>
#include <string.h>
#include "core/internal.h"

uint64_t core_size(void)
{
        return sizeof(struct core);
}

struct core *core_init(void *storage, uint32_t n_devices, const struct core_device_config *devices,
                       uint64_t now_ns)
{
        struct core *core = storage;

        assert(n_devices >= 1 && n_devices <= CORE_DEVICES_MAX);
        memset(core, 0, offsetof(struct core, device));
        core->now_ns = now_ns;
        core->n_devices = n_devices;
        for (uint32_t d = 0; d < n_devices; d++) {
                struct device *device = &core->device[d];

                // Seats are made when somebody joins: most of a large storage is never touched.
                memset(device, 0, offsetof(struct device, seat));
                device->config = devices[d];
                device->holder = device->last_holder = device->overlap = NO_SEAT;
                device->accounted_ns = now_ns;
                device->timer_ns = TAKT_NEVER;
                core_budget_init(&device->fair, devices[d].slice_ns, FAIR_GUARANTEE_PPM, now_ns);
                core_budget_init(&device->left, devices[d].slice_ns, CORE_PPM, now_ns);
        }
        return core;
}

static void take_contract(struct seat *seat, const struct device *device,
                          const struct core_contract *contract)
{
        seat->contract = *contract;
        core_contract_complete(&seat->contract);
        seat->turn_ns = device->config.slice_ns * 100 / seat->contract.weight;
        seat->recovered_ns = 0;
}

// At the lowest place that is free on the device.
static struct seat *sit_down(struct core *core, uint32_t number, uint32_t d)
{
        struct device *device = &core->device[d];
        uint8_t place = (uint8_t)__builtin_ctzll(~device->seats);
        struct seat *seat = &device->seat[place];

        assert(~device->seats);
        memset(seat, 0, sizeof *seat);
        seat->device = d;
        seat->place = place;
        seat->number = (uint16_t)number;
        device->seats |= bit(place);
        core->where[number].used = 1;
        core->where[number].device = (uint8_t)d;
        core->where[number].place = place;
        return seat;
}

static void join(struct core *core, const struct core_event *event, struct core_effects *effects)
{
        struct device *device = &core->device[event->device];
        struct seat *seat;
        struct core_refusal refusal = {.reason = CORE_REFUSAL_FULL, .seat = event->seat};

        if (core->where[event->seat].used ||
            admission_check(core, event->device, event->seat, event->contract, &refusal) < 0) {
                effect_add(effects, CORE_EFFECT_REFUSE, event->seat, event->device)->refusal = refusal;
                return;
        }
        seat = sit_down(core, event->seat, event->device);
        take_contract(seat, device, event->contract);
        pace_init(seat, event->now_ns);
        if (seat->contract.class == CORE_CLASS_DEADLINE) {
                core_budget_init(&seat->sustained, seat->contract.depth_ns, seat->contract.share_ppm,
                                 event->now_ns);
                core_budget_init(&seat->peak, seat->contract.burst_ns, seat->contract.peak_ppm,
                                 event->now_ns);
                order_charged(seat);
        }
        order_seated(device);
        effect_add(effects, CORE_EFFECT_ADMIT, event->seat, event->device);
        lease_mode(core, event->device, effects);
}

// What was used before is not forgiven: a bucket is full again when it would have been.
static void budget_amend(struct core_budget *budget, uint64_t depth_ns, uint32_t rate_ppm, uint64_t now_ns)
{
        uint64_t left_ns = takt_time_since(budget->full_ns, now_ns);

        core_budget_init(budget, depth_ns, rate_ppm, now_ns);
        budget->full_ns += takt_time_min(left_ns, budget->span_ns + DEBT_NS);
}

static void amend(struct core *core, const struct core_event *event, struct core_effects *effects)
{
        struct seat *seat = seat_of(core, event->seat);
        struct device *device = &core->device[seat->device];
        int active = seat->wants || seat->busy || device->holder == seat->place;
        struct core_refusal refusal;

        if (admission_check(core, seat->device, event->seat, event->contract, &refusal) < 0) {
                effect_add(effects, CORE_EFFECT_REFUSE, event->seat, seat->device)->refusal = refusal;
                return;
        }
        if (active && order_class(seat, core->now_ns) == CORE_CLASS_FAIR)
                order_fair_leave(core, device, seat);
        take_contract(seat, device, event->contract);
        if (seat->contract.class == CORE_CLASS_DEADLINE) {
                budget_amend(&seat->sustained, seat->contract.depth_ns, seat->contract.share_ppm,
                             core->now_ns);
                budget_amend(&seat->peak, seat->contract.burst_ns, seat->contract.peak_ppm, core->now_ns);
                order_charged(seat);
        }
        order_seated(device);
        if (active && order_class(seat, core->now_ns) == CORE_CLASS_FAIR)
                order_fair_enter(core, device, seat);
        effect_add(effects, CORE_EFFECT_ADMIT, event->seat, seat->device);
}

static void leave(struct core *core, uint32_t s, struct core_effects *effects)
{
        struct seat *seat = seat_of(core, s);
        uint32_t device = seat->device;

        lease_drop(core, seat);
        core->where[s].used = 0;
        order_seated(&core->device[device]);
        lease_mode(core, device, effects);
}

static void want(struct core *core, uint32_t s, int on)
{
        struct seat *seat = seat_of(core, s);
        struct device *device = &core->device[seat->device];

        if (seat->wants == on || (on && seat->open))
                return;
        seat->wants = (uint8_t)on;
        if (!on) {
                device->wanting &= ~bit(seat->place);
                return;
        }
        seat->want_since_ns = core->now_ns;
        pace_step_begin(seat, core->now_ns);
        if (order_class(seat, core->now_ns) == CORE_CLASS_FAIR)
                order_fair_enter(core, device, seat);
        if (!device->wanting)
                device->contended_ns = core->now_ns;
        device->wanting |= bit(seat->place);
}

// Times told are between the last that we know of and now.
static uint64_t told(const struct core *core, uint64_t at_ns, uint64_t not_before_ns)
{
        return takt_time_max(takt_time_min(at_ns, core->now_ns), not_before_ns);
}

static void busy(struct core *core, const struct core_event *event)
{
        struct seat *seat = seat_of(core, event->seat);
        struct device *device = &core->device[seat->device];

        if (device->holder == seat->place)
                device->asked = 0;
        // What was charged of the burst before is settled: its true length is known now.
        lease_charge(core, seat, takt_time_since(event->busy_ns, seat->prepaid_ns));
        seat->account.busy_ns += event->busy_ns;
        if (seat->busy && event->at_ns <= seat->busy_since_ns)
                return;
        if (seat->busy) {
                seat->busy_since_ns = told(core, event->at_ns, seat->busy_since_ns);
                seat->prepaid_ns = 0;
                return;
        }
        seat->busy = 1;
        seat->busy_since_ns = told(core, event->at_ns, seat->idle_since_ns);
        seat->prepaid_ns = 0;
        if (device->holder == seat->place)
                lease_charge_linger(core, seat, seat->busy_since_ns);
        pace_step_begin(seat, seat->busy_since_ns);
}

static void idle(struct core *core, const struct core_event *event)
{
        struct seat *seat = seat_of(core, event->seat);
        struct device *device = &core->device[seat->device];
        uint64_t at = told(core, event->at_ns, seat->idle_since_ns);

        if (device->holder == seat->place)
                device->asked = 0;
        lease_charge(core, seat, takt_time_since(event->busy_ns, seat->prepaid_ns));
        seat->account.busy_ns += event->busy_ns;
        seat->prepaid_ns = 0;
        if (event->steps) {
                pace_step_begin(seat, takt_time_since(at, event->busy_ns));
                pace_step_end(seat, at, event->steps, event->busy_ns);
        }
        // Who was idle already has not begun to be, whatever it says: the device waits no longer for it.
        if (seat->busy || event->steps)
                seat->idle_since_ns = at;
        seat->busy = 0;
        if (order_class(seat, core->now_ns) == CORE_CLASS_FAIR && !seat->wants)
                order_fair_leave(core, device, seat);
}

static void note(struct core *core, const struct core_event *event, struct core_effects *effects)
{
        struct seat *seat = seat_of(core, event->seat);

        switch (event->kind) {
        case CORE_EVENT_LEAVE:
                leave(core, event->seat, effects);
                break;
        case CORE_EVENT_WANT:
        case CORE_EVENT_UNWANT:
                want(core, event->seat, event->kind == CORE_EVENT_WANT);
                break;
        case CORE_EVENT_BUSY:
                busy(core, event);
                break;
        case CORE_EVENT_IDLE:
                idle(core, event);
                break;
        case CORE_EVENT_ARRIVED:
                request_arrived(seat, event->request, event->deadline_ns, core->now_ns);
                break;
        case CORE_EVENT_FIRST_TOKEN:
                request_first_token(seat, event->request, core->now_ns);
                break;
        case CORE_EVENT_FINISHED:
                request_finished(seat, event->request, core->now_ns);
                break;
        case CORE_EVENT_AMEND:
                amend(core, event, effects);
                break;
        case CORE_EVENT_JOIN:
        case CORE_EVENT_TIMER:
                break;
        }
}

static void decide_where_due(struct core *core, struct core_effects *effects)
{
        for (uint32_t d = 0; d < core->n_devices; d++) {
                if (core->device[d].timer_ns > core->now_ns)
                        continue;
                lease_account(&core->device[d], core->now_ns);
                lease_decide(core, d, effects);
        }
}

void core_step(struct core *core, const struct core_event *event, struct core_effects *effects)
{
        uint32_t device;

        assert(event->seat < CORE_SEATS_MAX);
        effects->n = 0;
        effects->timer_ns = TAKT_NEVER;
        core->now_ns = takt_time_max(core->now_ns, event->now_ns);
        if (event->kind == CORE_EVENT_TIMER) {
                decide_where_due(core, effects);
        } else if (event->kind == CORE_EVENT_JOIN || core->where[event->seat].used) {
                device = event->kind == CORE_EVENT_JOIN ? event->device : core->where[event->seat].device;
                assert(device < core->n_devices);
                lease_account(&core->device[device], core->now_ns);
                if (event->kind == CORE_EVENT_JOIN)
                        join(core, event, effects);
                else
                        note(core, event, effects);
                lease_decide(core, device, effects);
        }
        for (uint32_t d = 0; d < core->n_devices; d++)
                effects->timer_ns = takt_time_min(effects->timer_ns, core->device[d].timer_ns);
#ifdef CORE_CHECK
        core_check(core);
#endif
}

void core_look(struct core *core, uint64_t now_ns)
{
        core->now_ns = takt_time_max(core->now_ns, now_ns);
        for (uint32_t d = 0; d < core->n_devices; d++)
                lease_account(&core->device[d], core->now_ns);
}

int core_account(const struct core *core, uint32_t s, struct core_account *ret_account)
{
        const struct seat *seat;

        if (s >= CORE_SEATS_MAX || !core->where[s].used)
                return -ENOENT;
        seat = seat_of(core, s);
        *ret_account = seat->account;
        ret_account->gap_ns = seat->gap_ns;
        ret_account->step_ns = seat->step_ns;
        ret_account->class = order_class(seat, core->now_ns);
        ret_account->holds = seat->open;
        ret_account->wants = seat->wants;
        ret_account->busy = seat->busy;
        return 0;
}

int core_device_account(const struct core *core, uint32_t d, struct core_device_account *ret_account)
{
        const struct device *device = &core->device[d];

        if (d >= core->n_devices)
                return -ENOENT;
        *ret_account = device->account;
        ret_account->holder = device->holder == NO_SEAT ? NO_SEAT : device->seat[device->holder].number;
        ret_account->bypass = device->bypass;
        return 0;
}
