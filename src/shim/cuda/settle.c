// Seeing that work is done, without touching what the host does with its streams: by queries, and by events
// of ours that are recorded behind the work and waited for. The host's handles are used only in calls that
// never wait.
#include <stdatomic.h>
#include <string.h>
#include "shim/cuda/lane.h"
#include "shim/cuda/place.h"

#define CAPTURES_MAX 64
#define FIRST_OF_CAPTURE 900
#define LAST_OF_CAPTURE 908
#define NOT_FROM_HERE (-1)

static _Atomic int n_captures;
static stream_key capturing[CAPTURES_MAX]; // those of them that we can name

static _Atomic unsigned n_gone; // contexts that may have taken events of ours with them
static pthread_mutex_t handles = PTHREAD_MUTEX_INITIALIZER;

void settle_lock(void)
{
        pthread_mutex_lock(&handles);
}

void settle_unlock(void)
{
        pthread_mutex_unlock(&handles);
}

void settle_events_go(void)
{
        settle_lock();
        atomic_fetch_add(&n_gone, 1);
        settle_unlock();
}

void settle_in_child(void)
{
        pthread_mutex_init(&handles, NULL);
        atomic_store(&n_captures, 0);
        memset(capturing, 0, sizeof capturing);
}

void settle_capture_begun(uintptr_t handle)
{
        int n = atomic_fetch_add(&n_captures, 1);

        for (int i = 0; n < CAPTURES_MAX && i < CAPTURES_MAX; i++)
                if (!capturing[i]) {
                        capturing[i] = gate_key(handle);
                        break;
                }
}

// One beyond those that have a name is believed.
void settle_capture_ended(uintptr_t handle)
{
        stream_key key = gate_key(handle);
        int i = 0, n_named = 0;

        for (int k = 0; k < CAPTURES_MAX; k++)
                n_named += capturing[k] != 0;
        while (i < CAPTURES_MAX && capturing[i] != key)
                i++;
        if (i < CAPTURES_MAX)
                capturing[i] = 0;
        else if (atomic_load(&n_captures) == n_named)
                return;
        atomic_fetch_sub(&n_captures, 1);
}

int settle_relax(int mode)
{
        if (driver.capture_mode)
                driver.capture_mode(&mode);
        return mode;
}

int settle_is_capturing(uintptr_t handle)
{
        int status = 0;

        return atomic_load(&n_captures) > 0 && driver.is_capturing && !driver.is_capturing(handle, &status) &&
               status;
}

static int is_explicit(const struct dirty *entry)
{
        return entry->handle > HANDLE_PER_THREAD;
}

// A thread's default stream has no name that another thread could use; a green context's has one only while
// that is current, and it may be so to its host's thread.
static int is_elsewhere(const struct dirty *entry)
{
        if (is_explicit(entry))
                return 0;
        return (entry->handle == HANDLE_PER_THREAD && entry->key != gate_key(HANDLE_PER_THREAD)) ||
               green_primary(entry->context) != entry->context;
}

// While something captures, the legacy stream must be left alone: touching it breaks the capture.
static int is_untouchable(const struct dirty *entry)
{
        if (work_is_leaving(entry))
                return 1;
        if (!is_explicit(entry) && entry->handle != HANDLE_PER_THREAD)
                return atomic_load(&n_captures) > 0;
        return settle_is_capturing(entry->handle);
}

// Makes the entry's context current; a default stream means another one in each.
static int enter(const struct dirty *entry)
{
        void *context = entry->context, *owner = NULL;

        if (is_explicit(entry) && driver.stream_context && !driver.stream_context(entry->handle, &owner) &&
            owner)
                context = owner;
        return place_enter(context);
}

// What the driver says of work: done, or gone with a context that broke or is no more. A capture in the way
// says nothing, nor does a place where nothing may be asked.
static int is_over(int error)
{
        return error >= 0 && error != CUDA_NOT_READY && error != CUDA_NOT_PERMITTED &&
               (error < FIRST_OF_CAPTURE || error > LAST_OF_CAPTURE);
}

static int query(const struct dirty *entry)
{
        int error;

        if (is_explicit(entry)) {
                error = (int)REAL(cuStreamQuery, entry->handle);
                return error == CUDA_INVALID_CONTEXT ? NOT_FROM_HERE : error; // the thread has none
        }
        error = enter(entry);
        if (error)
                return error;
        error = (int)REAL(cuStreamQuery, entry->handle);
        place_leave();
        return error;
}

// What the driver says of a stream's work, where it can be asked.
static int ask(int lane, const struct dirty *entry)
{
        int answer = NOT_FROM_HERE;

        if (is_elsewhere(entry))
                return answer;
        settle_lock();
        if (work_has(lane, entry) && !is_untouchable(entry))
                answer = query(entry);
        settle_unlock();
        return answer;
}

void settle_query(int lane)
{
        struct dirty entries[DIRTY_MAX];
        uint32_t n = work_copy(lane, entries);
        int mode = settle_relax(CAPTURE_RELAXED);

        for (uint32_t i = 0; i < n; i++)
                if (is_over(ask(lane, &entries[i])))
                        work_done_entry(lane, &entries[i]);
        settle_relax(mode);
}

void settle_orphan(int lane, uintptr_t handle)
{
        struct dirty entry = {.key = gate_key(handle), .handle = handle};
        void *owner = NULL;
        int mode;

        if (!is_explicit(&entry) || !work_has(lane, &entry))
                return;
        mode = settle_relax(CAPTURE_RELAXED);
        if (settle_is_capturing(handle) || !is_over(query(&entry))) {
                if (!driver.stream_context || driver.stream_context(handle, &owner))
                        owner = NULL;
                work_orphan(lane, entry.key, owner);
        } else {
                work_done_stream(lane, entry.key, NULL);
        }
        settle_relax(mode);
}

void settle_orphan_green(int lane, const struct green *green)
{
        struct dirty entries[DIRTY_MAX];
        uint32_t n = work_copy(lane, entries);
        uintptr_t its;

        for (uint32_t i = 0; driver.stream_green && i < n; i++)
                if (is_explicit(&entries[i]) && !driver.stream_green(entries[i].handle, &its) &&
                    its == green->handle)
                        work_orphan(lane, entries[i].key, green->primary);
}

// An event of ours behind the stream's work. Its context is current.
static int record(uintptr_t handle, void **ret_event)
{
        int error = driver.event_create(ret_event, EVENT_BLOCKING_SYNC | EVENT_NO_TIMING);

        if (error)
                return error;
        error = driver.event_record(*ret_event, handle);
        if (error)
                driver.event_destroy(*ret_event);
        return error;
}

static int event_behind(int lane, const struct dirty *entry, void **ret_event)
{
        int error = NOT_FROM_HERE;

        settle_lock();
        if (work_has(lane, entry) && !is_untouchable(entry)) {
                error = enter(entry);
                if (!error) {
                        error = record(entry->handle, ret_event);
                        place_leave();
                }
        }
        settle_unlock();
        return error;
}

static int wait_context(const struct dirty *entry)
{
        int error;

        if (atomic_load(&n_captures) > 0 || !driver.synchronize || !driver.push || !driver.pop)
                return NOT_FROM_HERE;
        error = place_enter(entry->context);
        if (error)
                return error;
        error = driver.synchronize();
        place_leave();
        return error;
}

// Where no event can be: a green context's stream takes none of the context that was current.
static int wait_entry(int lane, const struct dirty *entry)
{
        unsigned was_gone = atomic_load(&n_gone);
        void *event;
        int error;

        if (is_elsewhere(entry))
                return wait_context(entry);
        error = event_behind(lane, entry, &event);
        if (error)
                return error == NOT_FROM_HERE ? error : wait_context(entry);
        error = (int)REAL(cuEventSynchronize, event);
        settle_lock();
        if (atomic_load(&n_gone) == was_gone) // it may have gone with its context
                driver.event_destroy(event);
        settle_unlock();
        return error;
}

// While a process is alone nobody is counted on the way to the driver: what a thread that lost its core there
// submits behind our event is waited for if it comes before that is reached.
static int wait_late(int lane, const struct dirty *entry)
{
        int error;

        do
                error = wait_entry(lane, entry);
        while (is_over(error) && gate_state(lane) == TAKT_GATE_CLOSED && ask(lane, entry) == CUDA_NOT_READY);
        return error;
}

void settle_wait(int lane)
{
        struct dirty entries[DIRTY_MAX];
        uint32_t n;
        int mode, was_alone = !bound_is_kept(lane), error;

        work_await(lane);
        n = work_copy(lane, entries);
        mode = settle_relax(CAPTURE_RELAXED);
        for (uint32_t i = 0; i < n; i++) {
                error = was_alone ? wait_late(lane, &entries[i]) : wait_entry(lane, &entries[i]);
                if (is_over(error))
                        work_done_entry(lane, &entries[i]);
        }
        settle_relax(mode);
}
