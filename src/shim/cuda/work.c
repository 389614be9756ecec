// Which streams have work in flight, and so whether this process is busy: the truth behind `activity` in the
// page.
#include "shim/cuda/lane.h"
#include <linux/futex.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>
#include "base/clock.h"
#include "base/time.h"

struct lane lanes[TAKT_PAGE_LANES] = {[0 ... TAKT_PAGE_LANES - 1] = {.lock = PTHREAD_MUTEX_INITIALIZER}};

static struct takt_lane_client *page_of(int lane)
{
        return &lease.client->lane[lane];
}

static struct dirty *find(struct lane *l, stream_key key, const void *context)
{
        for (uint32_t i = 0; i < l->n_dirty; i++)
                if (l->dirty[i].key == key && (!(key & 1) || l->dirty[i].context == context))
                        return &l->dirty[i];
        return NULL;
}

static void remove_entry(struct lane *l, struct dirty *entry)
{
        *entry = l->dirty[--l->n_dirty];
}

// Removes the entry, unless somebody is about to submit to its stream.
static void remove_done(struct lane *l, struct dirty *entry)
{
        if (entry && !(entry->inside && atomic_load_explicit(&l->n_inside, memory_order_relaxed)))
                remove_entry(l, entry);
}

// One entry that stands for streams of a context that have none of their own, and is waited for with all of
// it.
static struct dirty *add_rest(struct lane *l, void *context)
{
        struct dirty *entry = find(l, KEY_REST, context);

        if (!entry) {
                entry = &l->dirty[l->n_dirty < DIRTY_MAX ? l->n_dirty++ : DIRTY_MAX - 1];
                *entry = (struct dirty){.key = KEY_REST, .handle = HANDLE_PER_THREAD, .context = context};
        }
        entry->stamp = ++l->stamp;
        return entry;
}

// What is of its green ones is of a context too.
static int is_of(const struct dirty *entry, const void *context)
{
        return entry->context == context || green_primary(entry->context) == context;
}

// All entries of a context become that one of another, or of itself. Returns it.
static struct dirty *crowd(struct lane *l, const void *context, void *owner)
{
        struct dirty *rest;
        uint32_t inside = 0;

        for (uint32_t i = l->n_dirty; i-- > 0;)
                if (is_of(&l->dirty[i], context)) {
                        inside += l->dirty[i].inside;
                        remove_entry(l, &l->dirty[i]);
                }
        rest = add_rest(l, owner);
        rest->inside += inside;
        return rest;
}

// With the lock held. More streams than we can tell apart: those of one context become one entry.
static void make_room(struct lane *l)
{
        uint32_t i = 0;

        while (i + 1 < l->n_dirty && work_is_leaving(&l->dirty[i]))
                i++;
        crowd(l, l->dirty[i].context, l->dirty[i].context);
}

// With the lock held.
static struct dirty *add_entry(struct lane *l, uintptr_t handle, stream_key key, void *context)
{
        struct dirty *entry = find(l, key, context);

        if (!entry && l->n_dirty == DIRTY_MAX)
                make_room(l);
        if (!entry && l->n_dirty == DIRTY_MAX)
                return add_rest(l, context);
        if (!entry) {
                entry = &l->dirty[l->n_dirty++];
                entry->inside = 0;
        }
        *entry = (struct dirty){key, handle, context, ++l->stamp, entry->inside};
        l->last = (uint32_t)(entry - l->dirty);
        return entry;
}

// With the lock held.
static void enter(struct lane *l, struct dirty *entry)
{
        entry->inside++;
        atomic_fetch_add_explicit(&l->n_inside, 1, memory_order_relaxed);
}

struct dirty *work_again(struct lane *l, uintptr_t handle)
{
        struct dirty *entry = &l->dirty[l->last];

        if (l->last >= l->n_dirty || entry->handle != handle)
                return NULL;
        entry->stamp = ++l->stamp;
        enter(l, entry);
        return entry;
}

void work_leave(struct lane *l, stream_key key, const void *context)
{
        struct dirty *entry = find(l, key, context);

        if (!entry)
                entry = find(l, KEY_REST, context);
        if (entry && entry->inside)
                entry->inside--;
        if (atomic_fetch_sub_explicit(&l->n_inside, 1, memory_order_release) == 1 && l->n_awaiting)
                syscall(SYS_futex, &l->n_inside, FUTEX_WAKE_PRIVATE, l->n_awaiting, NULL, NULL, 0);
}

void work_await(int lane)
{
        const struct timespec patience = {.tv_nsec = 100000000}; // then look whether the gate is still closed
        struct lane *l = &lanes[lane];
        uint32_t n;

        if (!atomic_load_explicit(&l->n_inside, memory_order_relaxed))
                return;
        pthread_mutex_lock(&l->lock);
        l->n_awaiting++;
        pthread_mutex_unlock(&l->lock);
        while (gate_state(lane) == TAKT_GATE_CLOSED &&
               (n = atomic_load_explicit(&l->n_inside, memory_order_acquire)))
                syscall(SYS_futex, &l->n_inside, FUTEX_WAIT_PRIVATE, n, &patience, NULL, 0);
        pthread_mutex_lock(&l->lock);
        l->n_awaiting--;
        pthread_mutex_unlock(&l->lock);
}

struct note work_add(int lane, uintptr_t handle, stream_key key, void *context, uint64_t now_ns)
{
        struct lane *l = &lanes[lane];
        struct takt_lane_client *page = page_of(lane);
        struct note note = {0};
        struct dirty *entry;

        pthread_mutex_lock(&l->lock);
        entry = add_entry(l, handle, key, context);
        note.stamp = l->stamp;
        note.is_inside = gate_state(lane) != TAKT_GATE_FREE;
        if (note.is_inside)
                enter(l, entry);
        gate_remember(lane, handle);
        note.was_idle = !(page->activity & 1);
        if (note.was_idle) {
                note.idle_since_ns = page->activity;
                l->began_ns = now_ns;
                atomic_store_explicit(&page->activity, takt_activity_busy(now_ns), memory_order_relaxed);
        }
        pthread_mutex_unlock(&l->lock);
        if (note.was_idle && takt_time_since(now_ns, note.idle_since_ns) > TAKT_PAUSE_NS)
                lease_kick();
        return note;
}

int work_retract(int lane, stream_key key, void *context, const struct note *note)
{
        struct lane *l = &lanes[lane];
        int alone;

        pthread_mutex_lock(&l->lock);
        if (note->is_inside)
                work_leave(l, key, context);
        alone = note->was_idle && note->stamp == l->stamp && l->n_dirty == 1;
        if (alone) {
                l->n_dirty = 0;
                atomic_store_explicit(&page_of(lane)->activity, takt_activity_idle(note->idle_since_ns),
                                      memory_order_release);
        }
        atomic_store_explicit(&gate_last, KEY_NONE, memory_order_relaxed);
        pthread_mutex_unlock(&l->lock);
        return alone;
}

uint32_t work_copy(int lane, struct dirty ret_dirty[DIRTY_MAX])
{
        struct lane *l = &lanes[lane];
        uint32_t n;

        pthread_mutex_lock(&l->lock);
        n = l->n_dirty;
        memcpy(ret_dirty, l->dirty, n * sizeof *ret_dirty);
        pthread_mutex_unlock(&l->lock);
        return n;
}

int work_has(int lane, const struct dirty *entry)
{
        struct lane *l = &lanes[lane];
        int found;

        pthread_mutex_lock(&l->lock);
        found = find(l, entry->key, entry->context) != NULL;
        pthread_mutex_unlock(&l->lock);
        return found;
}

// With the lock held. Returns whether the daemon must hear of it.
static int end_burst(struct lane *l, int lane, uint64_t now_ns)
{
        struct takt_lane_client *page = page_of(lane);
        const struct takt_page_daemon *daemon = atomic_load(&lease.daemon);
        uint64_t span = takt_time_since(now_ns, l->began_ns);
        int step;

        l->worked_ns += span;
        step = l->worked_ns >= TAKT_STEP_NS;
        bound_end(l, span);
        atomic_store_explicit(&gate_last, KEY_NONE, memory_order_relaxed);
        atomic_store_explicit(&page->busy_ns, page->busy_ns + span, memory_order_relaxed);
        if (step) {
                l->worked_ns = 0;
                atomic_store_explicit(&page->step_end_ns, now_ns, memory_order_relaxed);
                atomic_store_explicit(&page->steps, page->steps + 1, memory_order_relaxed);
        }
        atomic_store_explicit(&page->activity, takt_activity_idle(now_ns), memory_order_release);
        atomic_signal_fence(memory_order_seq_cst);
        if (gate_state(lane) == TAKT_GATE_CLOSED)
                return 1;
        return step && daemon && atomic_load_explicit(&daemon->lane[lane].waiters, memory_order_relaxed);
}

// Leaves the lock. A stream that is no longer noted must not be gate_last: its next submission has to be
// noted.
static void unlock_done(struct lane *l, int lane)
{
        int kick = 0;

        atomic_store_explicit(&gate_last, KEY_NONE, memory_order_relaxed);
        if (!l->n_dirty && page_of(lane)->activity & 1)
                kick = end_burst(l, lane, takt_clock_now());
        pthread_mutex_unlock(&l->lock);
        if (kick)
                lease_kick();
}

void work_done_stream(int lane, stream_key key, void *context)
{
        struct lane *l = &lanes[lane];

        pthread_mutex_lock(&l->lock);
        remove_done(l, find(l, key, context));
        unlock_done(l, lane);
}

void work_done_context(int lane, void *context)
{
        struct lane *l = &lanes[lane];

        pthread_mutex_lock(&l->lock);
        for (uint32_t i = l->n_dirty; i-- > 0;)
                if (is_of(&l->dirty[i], context))
                        remove_done(l, &l->dirty[i]);
        unlock_done(l, lane);
}

void work_done_entry(int lane, const struct dirty *entry)
{
        struct lane *l = &lanes[lane];
        struct dirty *found;

        pthread_mutex_lock(&l->lock);
        found = find(l, entry->key, entry->context);
        if (found && found->stamp == entry->stamp)
                remove_done(l, found);
        unlock_done(l, lane);
}

void work_orphan(int lane, stream_key key, void *owner)
{
        struct lane *l = &lanes[lane];
        struct dirty *found;

        pthread_mutex_lock(&l->lock);
        found = find(l, key, NULL);
        if (found) {
                void *context = owner ? owner : found->context;

                remove_entry(l, found); // whoever is submitting to it at the same time is beyond help
                add_rest(l, context);
                atomic_store_explicit(&gate_last, KEY_NONE, memory_order_relaxed);
        }
        pthread_mutex_unlock(&l->lock);
}

// With the lock held.
static int has_any(const struct lane *l, const void *context)
{
        uint32_t i = 0;

        while (i < l->n_dirty && !is_of(&l->dirty[i], context))
                i++;
        return i < l->n_dirty;
}

void work_adopt(int lane, const void *context, void *owner)
{
        struct lane *l = &lanes[lane];

        pthread_mutex_lock(&l->lock);
        if (has_any(l, context))
                crowd(l, context, owner);
        atomic_store_explicit(&gate_last, KEY_NONE, memory_order_relaxed);
        pthread_mutex_unlock(&l->lock);
}

void work_leaving(int lane, const void *context, void *mark)
{
        struct lane *l = &lanes[lane];
        struct dirty *rest;

        pthread_mutex_lock(&l->lock);
        if (has_any(l, context)) {
                rest = crowd(l, context, mark);
                rest->handle = HANDLE_NONE;
                rest->inside = 0; // whoever is submitting to it at the same time is beyond help
        }
        atomic_store_explicit(&gate_last, KEY_NONE, memory_order_relaxed);
        pthread_mutex_unlock(&l->lock);
}

void work_joined(void)
{
        for (int lane = 0; lane < TAKT_PAGE_LANES; lane++) {
                struct lane *l = &lanes[lane];
                struct takt_lane_client *page = page_of(lane);

                pthread_mutex_lock(&l->lock);
                if (l->n_dirty && !(page->activity & 1))
                        atomic_store(&page->activity, takt_activity_busy(l->began_ns));
                atomic_store_explicit(&gate_last, KEY_NONE, memory_order_relaxed);
                pthread_mutex_unlock(&l->lock);
        }
}
