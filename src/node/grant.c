// Pages become events, effects become gates. Nothing here allocates, logs or waits.
#include <errno.h>
#include <limits.h>
#include <linux/futex.h>
#include <linux/membarrier.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <unistd.h>
#include "base/clock.h"
#include "node/node.h"

static int holds(const struct node *node, const struct tenant *t)
{
        return node->holder[t->device] == t;
}

// Writes what the tenant's gate is into one session's page, and wakes who waits there.
static void show(struct node *node, struct session *s)
{
        const struct tenant *t = &node->tenant[s->tenant];
        struct takt_lane_daemon *lane = &s->daemon->lane[t->device];
        uint32_t state = !holds(node, t) ? TAKT_GATE_CLOSED : t->free_mode ? TAKT_GATE_FREE : TAKT_GATE_OPEN;
        uint32_t word = atomic_load_explicit(&lane->gate, memory_order_relaxed);
        int changes = TAKT_GATE_STATE(word) != state || !(word >> 2);

        atomic_store_explicit(&lane->waiters, t->watched, memory_order_relaxed);
        if (state != TAKT_GATE_FREE)
                atomic_store_explicit(&s->daemon->attention, 1, memory_order_release);
        if (changes)
                atomic_store_explicit(&lane->gate, ((word >> 2) + 1) << 2 | state, memory_order_release);
        if (state == TAKT_GATE_FREE)
                atomic_store_explicit(&s->daemon->attention, 0, memory_order_release);
        if (changes && state != TAKT_GATE_CLOSED)
                syscall(SYS_futex, &lane->gate, FUTEX_WAKE, INT_MAX, NULL, NULL, 0);
}

void grant_show(struct node *node, uint32_t session)
{
        show(node, &node->session[session]);
}

static void show_all(struct node *node, uint32_t tenant)
{
        for (struct session *s = node->tenant[tenant].sessions; s; s = s->next)
                show(node, s);
}

// Puts the sessions' lanes together: busy while any is, wanting while any does.
struct sum {
        uint64_t busy_since_ns, idle_since_ns, busy_ns;
        uint32_t steps, want;
        int busy;
};

static struct sum sum_of(struct node *node, uint32_t tenant, uint64_t now_ns)
{
        struct sum sum = {.busy_since_ns = TAKT_NEVER};

        for (struct session *s = node->tenant[tenant].sessions; s; s = s->next) {
                struct takt_lane_view view;

                session_read(node, s, now_ns, &view);
                sum.busy |= view.busy;
                if (view.busy)
                        sum.busy_since_ns = takt_time_min(sum.busy_since_ns, view.since_ns);
                else
                        sum.idle_since_ns = takt_time_max(sum.idle_since_ns, view.since_ns);
                sum.busy_ns += view.busy_ns - s->seen.busy_ns;
                sum.steps += view.steps - s->seen.steps;
                sum.want += view.want;
                s->seen = view;
        }
        return sum;
}

static void tell_one(struct node *node, struct core_event event, struct core_refusal *ret_refusal);

// Tells what the tenant's pages say that the core does not know yet.
static void tell_pages(struct node *node, uint32_t i, int answer)
{
        struct tenant *t = &node->tenant[i];
        uint64_t now = takt_clock_now();
        struct sum sum = sum_of(node, i, now);
        struct core_event event = {.seat = i, .now_ns = now};

        // The same burst goes on while none has finished, whatever time the page names now.
        if (sum.busy && t->busy && !sum.steps && !sum.busy_ns)
                sum.busy_since_ns = t->busy_since_ns;
        t->untold_ns += sum.busy_ns;
        t->untold_steps += sum.steps;
        // Behind a closed gate, idle means that the device is free: not while another process is still busy.
        if ((t->untold_steps && (holds(node, t) || !sum.busy)) || (t->busy && !sum.busy) ||
            (answer && !sum.busy)) {
                event.kind = CORE_EVENT_IDLE;
                event.at_ns = sum.busy ? sum.busy_since_ns : sum.idle_since_ns;
                event.busy_ns = t->untold_ns;
                event.steps = t->untold_steps;
                t->busy = 0;
                t->untold_ns = 0;
                t->untold_steps = 0;
                tell_one(node, event, NULL);
        }
        if (sum.busy && (!t->busy || answer || sum.busy_since_ns != t->busy_since_ns)) {
                event = (struct core_event){.kind = CORE_EVENT_BUSY,
                                            .seat = i,
                                            .now_ns = now,
                                            .at_ns = sum.busy_since_ns,
                                            .busy_ns = t->untold_ns};
                t->busy = 1;
                t->busy_since_ns = sum.busy_since_ns;
                t->untold_ns = 0;
                tell_one(node, event, NULL);
        }
        if ((sum.want > 0) != t->wants && (!sum.want || !holds(node, t))) {
                t->wants = sum.want > 0;
                if (t->wants)
                        t->want_since_ns = now;
                event = (struct core_event){
                        .kind = sum.want ? CORE_EVENT_WANT : CORE_EVENT_UNWANT, .seat = i, .now_ns = now};
                record_add(node->record, sum.want ? RECORD_WANT : RECORD_UNWANT, i, t->device, now);
                tell_one(node, event, NULL);
        }
}

static void close_gate(struct node *node, uint32_t tenant)
{
        struct tenant *t = &node->tenant[tenant];

        node->holder[t->device] = NULL;
        t->watched = 0;
        show_all(node, tenant);
        record_add(node->record, RECORD_CLOSE, tenant, t->device, takt_clock_now());
        // Orders our store before our look at the pages, in every thread that runs now: the launch path has
        // no fence.
        syscall(SYS_membarrier, MEMBARRIER_CMD_GLOBAL_EXPEDITED, 0, 0);
        takt_bits_add(node->owing, tenant);
}

static void nudge(struct node *node, uint32_t tenant)
{
        uint64_t one = 1;

        for (const struct session *s = node->tenant[tenant].sessions; s; s = s->next) {
                ssize_t n = write(s->wake, &one, sizeof one);

                (void)n;
        }
}

static void apply(struct node *node, const struct core_effect *effect, struct core_refusal *ret_refusal)
{
        struct tenant *t = &node->tenant[effect->seat];
        uint64_t now;

        switch (effect->kind) {
        case CORE_EFFECT_OPEN:
                now = takt_clock_now();
                record_add(node->record, RECORD_OPEN, effect->seat, t->device, now);
                if (t->wants)
                        takt_histogram_add(&t->waits, takt_time_since(now, t->want_since_ns));
                node->holder[t->device] = t;
                t->wants = 0;
                t->free_mode = effect->free;
                show_all(node, effect->seat);
                break;
        case CORE_EFFECT_CLOSE:
                close_gate(node, effect->seat);
                break;
        case CORE_EFFECT_WATCH:
                t->watched = effect->on;
                show_all(node, effect->seat);
                break;
        case CORE_EFFECT_NUDGE:
                nudge(node, effect->seat);
                break;
        case CORE_EFFECT_REFUSE:
                if (ret_refusal)
                        *ret_refusal = effect->refusal;
                break;
        case CORE_EFFECT_ADMIT:
        case CORE_EFFECT_BYPASS: // status shows it
        case CORE_EFFECT_OVERRUN:
                break;
        }
}

// What a closed gate's pages say is told once all effects of the step are done. Telling may close another
// gate: that one's turn comes in the same loop, not inside it.
static void answer(struct node *node)
{
        int32_t tenant;

        if (node->answering)
                return;
        node->answering = 1;
        while ((tenant = takt_bits_first(node->owing, TAKT_BITS_WORDS(NODE_TENANTS_MAX))) >= 0) {
                takt_bits_drop(node->owing, (uint32_t)tenant);
                tell_pages(node, (uint32_t)tenant, 1);
        }
        node->answering = 0;
}

static void tell_one(struct node *node, struct core_event event, struct core_refusal *ret_refusal)
{
        struct core_effects effects;

        node->n_events++;
        core_step(node->core, &event, &effects);
        node->due_ns = effects.timer_ns;
        for (uint32_t i = 0; i < effects.n; i++)
                apply(node, &effects.effect[i], ret_refusal);
        answer(node);
}

// Before a decision the core hears what the holders' pages say now, and then this tenant's.
static void tell_holders(struct node *node, uint32_t tenant)
{
        for (uint32_t d = 0; d < node->n_devices; d++) {
                const struct tenant *holder = node->holder[d];

                if (holder && holder != &node->tenant[tenant])
                        tell_pages(node, (uint32_t)(holder - node->tenant), 0);
        }
        if (node->tenant[tenant].seated)
                tell_pages(node, tenant, 0);
}

void grant_tell(struct node *node, struct core_event event, struct core_refusal *ret_refusal)
{
        tell_holders(node, event.seat);
        event.now_ns = takt_clock_now();
        tell_one(node, event, ret_refusal);
}

void grant_read(struct node *node, uint32_t session)
{
        tell_holders(node, node->session[session].tenant);
}

void grant_look(struct node *node)
{
        for (uint32_t i = 0; i < NODE_TENANTS_MAX; i++)
                if (node->tenant[i].seated)
                        tell_pages(node, i, 0);
        if (node->core)
                core_look(node->core, takt_clock_now());
}

void grant_timer(struct node *node, struct watch *watch, uint32_t events)
{
        uint64_t n;

        (void)events;
        if (read(watch->fd, &n, sizeof n) != sizeof n)
                return;
        node->timer_ns = TAKT_NEVER;
        grant_tell(node, (struct core_event){.kind = CORE_EVENT_TIMER}, NULL);
}

void grant_arm(struct node *node)
{
        struct itimerspec spec = {0};

        if (node->due_ns == node->timer_ns)
                return;
        node->timer_ns = node->due_ns;
        if (node->due_ns != TAKT_NEVER) {
                spec.it_value.tv_sec = (time_t)(node->due_ns / TAKT_S);
                spec.it_value.tv_nsec = (long)(node->due_ns % TAKT_S) + 1;
        }
        timerfd_settime(node->timer.fd, TFD_TIMER_ABSTIME, &spec, NULL);
}
