// Seeing that work is done, without touching what the host does with its streams: by queries, and by events
// of ours that are recorded behind the work and waited for. The host's handles are used only in calls that
// never wait.
#include <stdatomic.h>
#include "shim/cuda/lane.h"
#include "shim/cuda/place.h"

_Atomic int settle_captures;

static pthread_mutex_t handles = PTHREAD_MUTEX_INITIALIZER;

void settle_lock(void)
{
        pthread_mutex_lock(&handles);
}

void settle_unlock(void)
{
        pthread_mutex_unlock(&handles);
}

void settle_in_child(void)
{
        pthread_mutex_init(&handles, NULL);
        atomic_store(&settle_captures, 0);
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

        return atomic_load(&settle_captures) > 0 && driver.is_capturing &&
               !driver.is_capturing(handle, &status) && status;
}

static int is_explicit(const struct dirty *entry)
{
        return entry->handle > HANDLE_PER_THREAD;
}

// A thread's default stream has no name that another thread could use.
static int is_elsewhere(const struct dirty *entry)
{
        return entry->handle == HANDLE_PER_THREAD && entry->key != gate_key(HANDLE_PER_THREAD);
}

// While something captures, the legacy stream must be left alone: touching it breaks the capture.
static int is_untouchable(const struct dirty *entry)
{
        if (!is_explicit(entry) && entry->handle != HANDLE_PER_THREAD)
                return atomic_load(&settle_captures) > 0;
        return settle_is_capturing(entry->handle);
}

// Makes the entry's context current; a default stream means another one in each.
static int enter(const struct dirty *entry)
{
        void *context = entry->context, *owner = NULL;

        if (is_explicit(entry) && driver.stream_context && !driver.stream_context(entry->handle, &owner) &&
            owner)
                context = owner;
        return driver.push && driver.pop ? driver.push(context) : CUDA_NOT_SUPPORTED;
}

static void leave(void)
{
        void *context;

        driver.pop(&context);
}

static int is_done(int lane, const struct dirty *entry)
{
        int done = 0;

        if (is_elsewhere(entry))
                return 0;
        settle_lock();
        if (work_has(lane, entry) && !is_untouchable(entry)) {
                if (is_explicit(entry)) {
                        done = REAL(cuStreamQuery, entry->handle) == CUDA_SUCCESS;
                } else if (!enter(entry)) {
                        done = REAL(cuStreamQuery, entry->handle) == CUDA_SUCCESS;
                        leave();
                }
        }
        settle_unlock();
        return done;
}

void settle_query(int lane)
{
        struct dirty entries[DIRTY_MAX];
        uint32_t n = work_copy(lane, entries);
        int mode = settle_relax(CAPTURE_RELAXED);

        for (uint32_t i = 0; i < n; i++)
                if (is_done(lane, &entries[i]))
                        work_done_entry(lane, &entries[i]);
        settle_relax(mode);
}

// An event of ours behind the entry's work; NULL where none can be.
static void *event_behind(int lane, const struct dirty *entry)
{
        void *event = NULL;

        settle_lock();
        if (work_has(lane, entry) && !is_untouchable(entry) && !enter(entry)) {
                if (driver.event_create(&event, EVENT_BLOCKING_SYNC | EVENT_NO_TIMING))
                        event = NULL;
                if (event && driver.event_record(event, entry->handle)) {
                        driver.event_destroy(event);
                        event = NULL;
                }
                leave();
        }
        settle_unlock();
        return event;
}

static int wait_context(const struct dirty *entry)
{
        int error;

        if (atomic_load(&settle_captures) > 0 || !driver.synchronize || driver.push(entry->context))
                return -1;
        error = driver.synchronize();
        leave();
        return error;
}

static int wait_entry(int lane, const struct dirty *entry)
{
        void *event;
        int error;

        if (is_elsewhere(entry))
                return wait_context(entry);
        event = event_behind(lane, entry);
        if (!event)
                return -1;
        error = (int)REAL(cuEventSynchronize, event);
        driver.event_destroy(event);
        return error;
}

void settle_wait(int lane)
{
        struct dirty entries[DIRTY_MAX];
        uint32_t n = work_copy(lane, entries);
        int mode = settle_relax(CAPTURE_RELAXED);

        for (uint32_t i = 0; i < n; i++)
                if (wait_entry(lane, &entries[i]) == CUDA_SUCCESS)
                        work_done_entry(lane, &entries[i]);
        settle_relax(mode);
}
