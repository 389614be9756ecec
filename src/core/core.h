// The device scheduler as a pure function: events go in, effects come out, and nothing else happens.
//
// A *seat* is one tenant on one device. The caller numbers seats and devices from 0, the seats of all devices
// together; a tenant with several processes on a device has one seat there, and the caller tells only when
// the first becomes busy and the last becomes idle. core_step() reads no clock and allocates nothing; time
// comes with the event and never goes back.
//
// Decisions are made on what is known of the holder. So before each event of a device the caller looks at its
// holder's page (and the event's own seat's) and tells BUSY or IDLE first if they have news.
#pragma once
#include <stdint.h>
#include "core/contract.h"

#define CORE_SEATS_MAX 256 // of all devices
#define CORE_PLACES_MAX 64 // seats on one device
#define CORE_DEVICES_MAX 16
#define CORE_REQUESTS_MAX 64 // known requests per seat; more are counted, without a deadline
// Of one step: a TIMER decides for every device, and a decision is BYPASS, NUDGE and OVERRUN of two seats,
// OPEN, WATCH at most, or as many. A JOIN adds ADMIT and OPEN to that of its one device.
#define CORE_EFFECTS_MAX (CORE_DEVICES_MAX * 7 + 2)

enum core_event_kind {
        CORE_EVENT_JOIN = 1, // seat asks for a place on `device` with `contract`
        CORE_EVENT_LEAVE,    // seat is gone; whatever it held is free
        CORE_EVENT_WANT,     // seat waits at a closed gate
        CORE_EVENT_UNWANT,   // seat waits no more (a waiting process died)
        CORE_EVENT_BUSY,     // seat has work in flight since `at_ns`; bursts that ended before used `busy_ns`
        CORE_EVENT_IDLE, // seat has had none since `at_ns`; `steps` steps ended, `busy_ns` of GPU time were
                         // used
        CORE_EVENT_ARRIVED, // request `request` reached the seat's engine; `deadline_ns` is its own, 0: the
                            // contract's
        CORE_EVENT_FIRST_TOKEN, // the request's first token is out
        CORE_EVENT_FINISHED,    // the request is done, served or not
        CORE_EVENT_TIMER,       // the time asked for has come
        CORE_EVENT_AMEND,       // seat asks for another `contract` in the place of its own, which it keeps if
                                // refused
};

struct core_event {
        enum core_event_kind kind;
        uint32_t seat;   // all but TIMER
        uint32_t device; // JOIN
        uint64_t now_ns;
        union {
                const struct core_contract *contract; // JOIN, AMEND; completed; read during the call only
                struct {
                        uint64_t at_ns; // BUSY, IDLE: when it began; at most now
                        uint64_t busy_ns;
                        uint32_t steps;
                };
                struct {
                        uint64_t request;     // ARRIVED, FIRST_TOKEN, FINISHED
                        uint64_t deadline_ns; // ARRIVED: from now
                };
        };
};

enum core_effect_kind {
        CORE_EFFECT_ADMIT = 1, // JOIN or AMEND is granted
        CORE_EFFECT_REFUSE,    // it is not: `refusal`
        CORE_EFFECT_OPEN,      // open the seat's gate; `free`: nobody else has a seat on the device
        CORE_EFFECT_CLOSE,     // close the seat's gate; then tell BUSY or IDLE, as it is found
        CORE_EFFECT_WATCH,   // `on`: others wait for what this seat holds, so learn at once when a step of it
                             // ends
        CORE_EFFECT_NUDGE,   // the seat's drain takes long: have its process look at its work in flight
        CORE_EFFECT_OVERRUN, // the seat drained past its bound by `ns`
        CORE_EFFECT_BYPASS,  // `on`: the watchdog bit, `device` is first come first served from now on
};

// The promise that would break, and by how much.
struct core_refusal {
        enum core_refusal_reason {
                CORE_REFUSAL_NONE = 0,
                CORE_REFUSAL_TIME, // in some span of `span_ns`, `demand_ns` of device time would be due: over
                                   // it
                CORE_REFUSAL_MEMORY,  // the memory promised would be `demand_bytes` of `capacity_bytes`
                CORE_REFUSAL_FULL,    // no place is left on the device, or the seat is taken
                CORE_REFUSAL_INVALID, // the contract contradicts itself
        } reason;
        uint32_t seat; // whose promise breaks first: the seat with the nearest deadline in that span
        uint64_t span_ns, demand_ns;
        uint64_t demand_bytes, capacity_bytes;
};

struct core_effect {
        enum core_effect_kind kind;
        uint32_t seat;
        uint32_t device;
        union {
                struct core_refusal refusal;
                struct {
                        uint8_t free; // OPEN
                        uint8_t soft; // OPEN: the last holder's work may still run
                };
                uint8_t on;  // WATCH, BYPASS
                uint64_t ns; // OVERRUN
        };
};

struct core_effects {
        uint32_t n;
        uint64_t timer_ns; // when to send TIMER next; TAKT_NEVER: not at all
        struct core_effect effect[CORE_EFFECTS_MAX];
};

// What is known of a device at the start.
struct core_device_config {
        uint64_t memory_bytes;
        uint64_t switch_ns;   // what a change of holder costs
        uint64_t bound_ns;    // most work in flight while others have a seat (B)
        uint64_t watchdog_ns; // longest wait before the bypass (W)
        uint64_t slice_ns;    // fair and idle class: longest hold while somebody waits
};

// Accounts of one seat, for status and tests. All times in ns since JOIN; granted + idle + switch = elapsed
// per device.
struct core_account {
        uint64_t granted_ns, busy_ns, wait_ns, wait_max_ns;
        uint64_t tail_ns; // its work went on for so long after its gate was closed
        uint64_t grants, steps, requests, overruns;
        uint64_t switches;      // grants that took the device over from another seat
        uint64_t in_time, late; // requests with a deadline, by when their first token came (their end, where
                                // no token was told)
        uint64_t gap_ns, step_ns; // learned: host time between steps, length of a decode step
        uint32_t class;
        uint8_t holds, wants, busy;
};

struct core_device_account {
        uint64_t granted_ns, idle_ns, switch_ns, elapsed_ns;
        uint64_t switches;
        int32_t holder; // seat, or -1
        uint8_t bypass;
};

struct core;

// Bytes of caller's storage that a core needs (aligned to 64).
uint64_t core_size(void);
// Makes a core in `storage`. n_devices: 1 to CORE_DEVICES_MAX.
struct core *core_init(void *storage, uint32_t n_devices, const struct core_device_config *devices,
                       uint64_t now_ns);
// The scheduler. The event must be well formed (a known kind, numbers in range); what it says may be untrue,
// late or doubled: an event that does not fit the state changes nothing. `effects` is overwritten.
void core_step(struct core *core, const struct core_event *event, struct core_effects *effects);

// Brings the accounts up to a time, as an event then would, and decides nothing.
void core_look(struct core *core, uint64_t now_ns);
// Accounts as of the last event or look. Return 0, or -ENOENT for a seat or device that is not there.
int core_account(const struct core *core, uint32_t seat, struct core_account *ret_account);
int core_device_account(const struct core *core, uint32_t device, struct core_device_account *ret_account);

// Whether a JOIN of the contract on the device would be granted now. It changes nothing.
int core_would_admit(const struct core *core, uint32_t device, const struct core_contract *contract);

// The fullest span: the largest ratio, in ppm, of what the contracts may ask for within a span to the span
// itself, blocking included (Liebeherr, Wrege, Ferrari 1996). At most CORE_PPM means that every promise
// holds. ret_refusal (may be NULL) gets the span and the demand there.
uint64_t core_admission_fullest(const struct core_contract *contracts, uint32_t n_contracts,
                                uint64_t switch_ns, struct core_refusal *ret_refusal);

// Checks every invariant; the first that fails trips the assertion. Called by core_step in all builds with
// CORE_CHECK defined, and by the tests.
void core_check(const struct core *core);
