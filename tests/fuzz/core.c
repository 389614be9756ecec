// Any sequence of events, true or not: no invariant breaks (core_check, after each step), the effects fit
// each other, and once the liars fall silent everybody who waits is served.
#include <string.h>
#include "base/time.h"
#include "bytes.h"
#include "core/core.h"

#define SEATS 6
#define DEVICES_MAX 3
#define TURNS_MAX 10000 // of timer and answer, until all must have been served

struct world {
        struct core *core;
        uint32_t n_devices;
        uint64_t now_ns, timer_ns;
        uint8_t joined[SEATS], open[SEATS];
        uint32_t device_of[SEATS];
};

static void see(struct world *w, const struct core_event *event, const struct core_effect *effect)
{
        MUST(effect->device < w->n_devices && effect->seat < SEATS);
        switch (effect->kind) {
        case CORE_EFFECT_ADMIT:
                w->joined[effect->seat] = 1;
                w->device_of[effect->seat] = effect->device;
                break;
        case CORE_EFFECT_REFUSE:
                MUST((event->kind == CORE_EVENT_JOIN || event->kind == CORE_EVENT_AMEND) &&
                     effect->refusal.reason != CORE_REFUSAL_NONE);
                break;
        case CORE_EFFECT_OPEN:
                MUST(w->joined[effect->seat] && w->device_of[effect->seat] == effect->device);
                for (uint32_t s = 0; s < SEATS; s++)
                        MUST(s == effect->seat || !w->open[s] || w->device_of[s] != effect->device);
                w->open[effect->seat] = 1;
                break;
        case CORE_EFFECT_CLOSE:
                MUST(w->open[effect->seat]);
                w->open[effect->seat] = 0;
                break;
        case CORE_EFFECT_OVERRUN:
                MUST(effect->ns <= w->now_ns);
                break;
        case CORE_EFFECT_WATCH:
        case CORE_EFFECT_NUDGE:
        case CORE_EFFECT_BYPASS:
                break;
        default:
                abort();
        }
}

static void tell(struct world *w, struct core_event event)
{
        struct core_effects effects;

        event.now_ns = w->now_ns;
        if (event.kind == CORE_EVENT_LEAVE)
                w->joined[event.seat] = w->open[event.seat] = 0;
        core_step(w->core, &event, &effects);
        MUST(effects.n <= CORE_EFFECTS_MAX);
        for (uint32_t i = 0; i < effects.n; i++)
                see(w, &event, &effects.effect[i]);
        w->timer_ns = effects.timer_ns;
}

static struct core_contract take_contract(struct bytes *b)
{
        struct core_contract c = {.class = bytes_take(b) % 4, .weight = (uint32_t)bytes_take_scaled(b)};

        c.slo_ns = bytes_take_scaled(b);
        c.ttft_ns = bytes_take_scaled(b);
        c.itl_ns = bytes_take_scaled(b);
        c.share_ppm = bytes_take(b) * 4000;
        c.peak_ppm = bytes_take(b) * 4000;
        c.memory_bytes = bytes_take_scaled(b);
        if (bytes_take(b) % 2) {
                c.depth_ns = bytes_take_scaled(b);
                c.burst_ns = bytes_take_scaled(b);
                c.step_ns = bytes_take_scaled(b);
        }
        return c;
}

static void take_event(struct world *w, struct bytes *b)
{
        struct core_event event = {.kind = bytes_take(b) % CORE_EVENT_AMEND + 1,
                                   .seat = bytes_take(b) % SEATS};
        struct core_contract contract;

        w->now_ns += bytes_take_scaled(b) % (100 * TAKT_S);
        switch (event.kind) {
        case CORE_EVENT_AMEND:
        case CORE_EVENT_JOIN:
                event.device = bytes_take(b) % w->n_devices;
                contract = take_contract(b);
                event.contract = &contract;
                break;
        case CORE_EVENT_BUSY:
        case CORE_EVENT_IDLE:
                event.at_ns = bytes_take(b) % 2 ? w->now_ns - bytes_take_scaled(b) : w->now_ns;
                event.busy_ns = bytes_take_scaled(b);
                event.steps = (uint32_t)bytes_take_scaled(b);
                break;
        default:
                event.request = bytes_take(b);
                event.deadline_ns = bytes_take_scaled(b) % (1000000 * TAKT_S);
        }
        tell(w, event);
}

static int waiting(const struct world *w)
{
        struct core_account account;

        for (uint32_t s = 0; s < SEATS; s++)
                if (core_account(w->core, s, &account) == 0 && account.wants)
                        return 1;
        return 0;
}

// From here on all tell the truth: whoever has the device is done with it by the next timer.
static void all_are_served(struct world *w)
{
        for (int turn = 0; waiting(w); turn++) {
                MUST(turn < TURNS_MAX && w->timer_ns != TAKT_NEVER);
                w->now_ns = takt_time_max(w->now_ns, w->timer_ns);
                tell(w, (struct core_event){.kind = CORE_EVENT_TIMER});
                for (uint32_t s = 0; s < SEATS; s++)
                        if (w->joined[s])
                                tell(w, (struct core_event){
                                                .kind = CORE_EVENT_IDLE, .seat = s, .at_ns = w->now_ns});
        }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        static void *storage; // megabytes: anew for each input they would take longer than all else
        struct bytes b = {data, data + size};
        struct world w = {.now_ns = 1000 * TAKT_S, .timer_ns = TAKT_NEVER};
        struct core_device_config config[DEVICES_MAX];

        w.n_devices = bytes_take(&b) % DEVICES_MAX + 1;
        for (uint32_t d = 0; d < w.n_devices; d++)
                config[d] = (struct core_device_config){.memory_bytes = d ? UINT64_C(40) << 30 : 0,
                                                        .switch_ns = 100 * TAKT_US,
                                                        .bound_ns = 2 * TAKT_MS,
                                                        .watchdog_ns = 10 * TAKT_S,
                                                        .slice_ns = 2 * TAKT_MS};
        if (!storage)
                storage = aligned_alloc(64, (core_size() + 63) / 64 * 64);
        w.core = core_init(storage, w.n_devices, config, w.now_ns);
        while (b.at < b.end)
                take_event(&w, &b);
        all_are_served(&w);
        return 0;
}
