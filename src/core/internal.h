// What the files of the core share: the state of a seat, of a device, and of the whole.
#pragma once
#include <assert.h>
#include <stdint.h>
#include "base/time.h"
#include "core/budget.h"
#include "core/core.h"

#define NO_SEAT (-1)

// Numbers of the policy that no contract states. docs/SCHEDULER.md says why each is what it is.
#define GAP_START_NS (1 * TAKT_MS)      // a gap is this long until it is learned
#define GAP_LONGEST_NS (20 * TAKT_MS)   // longer pauses are idleness, not gaps between steps
#define PREFILL_STEPS 2                 // a step as long as this many of its like is a prefill
#define LINGER_LONGEST_NS (6 * TAKT_MS) // never hold an idle device longer than this for somebody's next step
#define LINGER_BLIND_MIN_NS (2 * TAKT_MS)
#define LINGER_BLIND_MAX_NS (4 * TAKT_MS)
#define GAP_PIECES 4                // a pace of more pieces of others than this lends its gaps to them
#define LOOK_SLICES 5               // between looks at a holder and a waiter that both have deadlines
#define DEBT_NS (2 * TAKT_S)        // longest wait that past use can cost
#define FAIR_AWAY_NS (10 * TAKT_MS) // a shorter time without work is a gap between two steps
#define FAIR_GUARANTEE_PPM 50000 // the fair class gets this much of the device whatever is promised to others
#define FAIR_WAIT_NS (1 * TAKT_S) // and its first in line gets it within this time
#define WAKE_NS TAKT_MS           // a grant is not taken back before its process had time to wake
#define NUDGE_BOUNDS 2            // a drain of this many bounds is looked into
#define HANG_NS (2 * TAKT_S)      // a drain this long is a hang: the device passes on all the same
#define STRIKES_MAX 9 // overruns that are not forgotten yet, one a second, for which a class is lowered

struct request {
        uint64_t id;
        uint64_t deadline_ns; // to the first token
        uint8_t has_token;    // the first token is out
        uint8_t is_judged;    // the deadline was promised
};

struct seat {
        // In one cache line: what the order asks of every waiting seat at each event.
        _Alignas(64) uint64_t want_since_ns;
        uint64_t strikes_ns; // as a budget: when all strikes are forgotten
        uint64_t step_deadline_ns;
        uint64_t pending_deadline_ns; // earliest of the pending requests'
        uint64_t recovered_ns;        // when both buckets are (or were) out of debt
        uint64_t vruntime;            // fair class: weighted service, ns
        uint64_t turn_ns;             // fair class: the device's slice by its weight
        struct core_contract contract;

        uint8_t place;   // on its device
        uint16_t number; // the caller's
        uint8_t open;
        uint8_t wants, busy;
        uint8_t in_step;  // between the first submission of a step and its end
        uint8_t nudged;   // since its gate was closed it was looked into: it ran on for too long
        uint8_t is_first; // the step began with a request that had no token yet: a prefill
        uint32_t device;

        uint64_t busy_since_ns, idle_since_ns, opened_ns;
        uint64_t closed_ns;  // when its gate was closed; TAKT_NEVER while it is open
        uint64_t prepaid_ns; // of the running burst, already charged

        uint64_t step_began_ns;
        uint64_t clock_ns; // pace clock
        uint64_t gap_ns, gap_deviation_ns, step_ns;
        struct core_budget sustained, peak;

        int64_t lag_ns;   // fair class: what was owed when it last went idle
        uint64_t left_ns; // and when that was

        uint32_t n_requests, n_pending; // known requests; those of them without a token
        uint32_t n_unlisted;            // requests past the table
        uint8_t seen;                   // requests are reported for this seat
        struct request request[CORE_REQUESTS_MAX];

        struct core_account account;
};

enum phase { PHASE_FREE, PHASE_HELD, PHASE_DRAINING };

// A device knows its seats by their places, 0 to CORE_PLACES_MAX - 1: its masks have a bit for each.
struct device {
        struct core_device_config config;
        enum phase phase;
        int32_t holder, last_holder;
        int32_t overlap; // a former holder whose work may still run beside the holder's (soft hand-over,
                         // hang)
        uint8_t watched, bypass;
        uint8_t asked;         // the gate was closed, and the answer (busy or idle?) is not here yet
        uint64_t contended_ns; // since when somebody waits
        uint64_t accounted_ns, switch_until_ns;
        uint64_t timer_ns;
        uint64_t wanting;        // seats at the gate
        uint64_t seats;          // seats on this device
        struct core_budget fair; // the fair class's guarantee
        struct core_budget left; // what is promised to nobody: the fair class's, before debtors have it
        uint8_t promise[CORE_PLACES_MAX]; // seats of the deadline class, the longest first deadline first
        uint32_t n_promises;
        // The longest first deadlines of the seats that keep to their budgets, and whose the longest is.
        uint64_t promised_ns, promised_next_ns;
        int32_t promised_to;
        struct core_device_account account;
        struct seat seat[CORE_PLACES_MAX]; // by place; what nobody ever sat on was never written
};

struct core {
        uint64_t now_ns;
        uint32_t n_devices;
        struct {
                uint8_t used, device, place;
        } where[CORE_SEATS_MAX]; // by the caller's numbers
        struct device device[CORE_DEVICES_MAX];
};

// The seat of a number that is used; to be written only where the core is.
static inline struct seat *seat_of(const struct core *core, uint32_t number)
{
        return (struct seat *)&core->device[core->where[number].device].seat[core->where[number].place];
}

// Of a place.
static inline uint64_t bit(int32_t place)
{
        return UINT64_C(1) << place;
}

// Iterates over the places in a mask, lowest first.
#define FOR_EACH_SEAT(i, mask)                                                                               \
        for (uint64_t rest_ = (mask), i; rest_ && (i = (uint64_t)__builtin_ctzll(rest_), 1);                 \
             rest_ &= rest_ - 1)

static inline struct core_effect *effect_add(struct core_effects *effects, enum core_effect_kind kind,
                                             uint32_t seat, uint32_t device)
{
        struct core_effect *effect;

        assert(effects->n < CORE_EFFECTS_MAX);
        effect = &effects->effect[effects->n++];
        *effect = (struct core_effect){.kind = kind, .seat = seat, .device = device};
        return effect;
}

// admission.c
// The contract on `device`, in the place of what the seat may have there.
int admission_check(const struct core *core, uint32_t device, uint32_t seat,
                    const struct core_contract *contract, struct core_refusal *ret_refusal);

// requests.c
void request_arrived(struct seat *seat, uint64_t id, uint64_t deadline_ns, uint64_t now_ns);
void request_first_token(struct seat *seat, uint64_t id, uint64_t now_ns);
void request_finished(struct seat *seat, uint64_t id, uint64_t now_ns);

// pace.c
void pace_init(struct seat *seat, uint64_t now_ns);
void pace_step_begin(struct seat *seat, uint64_t at_ns);
void pace_all_have_tokens(struct seat *seat, uint64_t now_ns);
void pace_step_goes_on(struct seat *seat, uint64_t busy_ns);
void pace_step_end(struct seat *seat, uint64_t at_ns, uint32_t steps, uint64_t busy_ns);
uint64_t pace_linger(const struct seat *seat);
int pace_expects_step(const struct seat *seat);

// order.c
// With STRIKES_MAX overruns left, a deadline is not heard.
static inline enum core_class order_class(const struct seat *seat, uint64_t now_ns)
{
        if (seat->contract.class == CORE_CLASS_DEADLINE &&
            takt_time_since(seat->strikes_ns, now_ns) >= STRIKES_MAX * TAKT_S)
                return CORE_CLASS_FAIR;
        return seat->contract.class;
}

uint64_t order_key(const struct core *core, const struct seat *seat);
uint64_t order_next_key(const struct core *core, const struct seat *seat);
// A seat came, went, or has another contract.
void order_seated(struct device *device);
void order_charged(struct seat *seat);
void order_promises(const struct core *core, struct device *device);
int32_t order_best(const struct core *core, const struct device *device);
int order_before(const struct core *core, const struct device *device, int32_t waiter, int32_t holder);
void order_fair_enter(const struct core *core, const struct device *device, struct seat *seat);
void order_fair_leave(const struct core *core, const struct device *device, struct seat *seat);

// lease.c
void lease_account(struct device *device, uint64_t now_ns);
void lease_charge(struct core *core, struct seat *seat, uint64_t cost_ns);
void lease_charge_linger(struct core *core, struct seat *seat, uint64_t until_ns);
void lease_decide(struct core *core, uint32_t device, struct core_effects *effects);
void lease_mode(struct core *core, uint32_t device, struct core_effects *effects);
void lease_drop(struct core *core, struct seat *seat);
