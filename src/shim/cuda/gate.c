#include "shim/cuda/gate.h"
#include <string.h>
#include "base/clock.h"
#include "base/time.h"
#include "shim/cuda/lane.h"
#include "shim/cuda/ledger.h"
#include "shim/cuda/place.h"

_Atomic stream_key gate_last = KEY_NONE;

static _Atomic int last_lane; // where gate_last's work was noted
static _Atomic unsigned primaries;
static _Atomic int n_contexts;

// A number of its own for each thread that ever used its default stream. Its address will not do: the next
// thread's storage may lie at the same place while the work of one that ended still runs.
static stream_key this_thread(void)
{
        static _Atomic stream_key n_threads = HANDLE_PER_THREAD;
        static __thread stream_key number __attribute__((tls_model("initial-exec")));

        if (!number)
                number = atomic_fetch_add(&n_threads, 2) + 3;
        return number;
}

stream_key gate_key(uintptr_t handle)
{
        if (handle == HANDLE_PER_THREAD)
                return this_thread();
        return handle ? handle : HANDLE_LEGACY;
}

void gate_context(int device)
{
        unsigned bit = device >= 0 && device < 32 ? 1u << device : 0;

        if (bit && atomic_fetch_or(&primaries, bit) & bit)
                return;
        atomic_fetch_add(&n_contexts, 1);
        atomic_store(&gate_last, KEY_NONE);
}

// A default stream is one in each context: with several contexts its handle does not say which.
void gate_remember(int lane, uintptr_t handle)
{
        int known =
                handle > HANDLE_PER_THREAD || (handle != HANDLE_PER_THREAD && atomic_load(&n_contexts) <= 1);

        atomic_store_explicit(&last_lane, lane, memory_order_relaxed);
        atomic_store(&gate_last, known ? handle : KEY_NONE);
        if (known && handle <= HANDLE_PER_THREAD && atomic_load(&n_contexts) > 1)
                atomic_store(&gate_last, KEY_NONE);
}

static int refusal(void)
{
        return lease.refuse_on_loss ? CUDA_NOT_READY : CUDA_SUCCESS;
}

// Past the gate of the place's lane, with the submission noted as work in flight. Returns 0, or 1: the daemon
// has gone.
static int pass(const struct place *place, uintptr_t graph, uintptr_t handle, stream_key key, uint64_t now)
{
        uint64_t idle_since = 0;

        for (;; now = takt_clock_now()) {
                int was_idle = work_add(place->lane, handle, key, place->context, now, &idle_since);

                atomic_signal_fence(memory_order_seq_cst); // the daemon's membarrier does the rest
                switch (gate_state(place->lane)) {
                case TAKT_GATE_FREE:
                        return 0;
                case TAKT_GATE_OPEN:
                        helper_start();
                        if (!bound_enter(place->lane, graph))
                                return 0;
                        break; // it took a while: the gate may have closed, and our note been settled
                default:
                        helper_start();
                        if (was_idle)
                                work_retract(place->lane, key, place->context, idle_since);
                        else
                                settle_wait(place->lane);
                        if (lease_wait((unsigned)place->lane))
                                return 1;
                }
        }
}

// Once more on the stream of the last submission, while others have a seat: the place is still the same, and
// the work is noted. Returns whether it may go on; if not, the long way says why.
static int again(uintptr_t graph, uintptr_t handle, struct passage *ret_passage)
{
        int lane = atomic_load_explicit(&last_lane, memory_order_relaxed), in = 0;
        struct lane *l = &lanes[lane];
        struct dirty *entry;

        if (atomic_load_explicit(&gate_last, memory_order_relaxed) != handle || settle_is_capturing(handle))
                return 0;
        pthread_mutex_lock(&l->lock);
        entry = work_last(l, handle);
        if (entry && gate_state(lane) == TAKT_GATE_OPEN && !bound_is_full(lane, graph)) {
                entry->stamp = ++l->stamp;
                *ret_passage = (struct passage){lane, entry->context};
                in = 1;
        }
        pthread_mutex_unlock(&l->lock);
        return in;
}

int gate_enter(uintptr_t graph, uintptr_t handle, stream_key key, struct passage *ret_passage)
{
        struct place place;

        if (again(graph, handle, ret_passage))
                return CUDA_SUCCESS;
        ret_passage->lane = -1;
        if (!lease_wanted())
                return door_open(), CUDA_SUCCESS;
        for (;;) { // a daemon may go and another come meanwhile
                uint64_t now = takt_clock_now();

                place = place_now(now);
                if (place.lane < 0)
                        return atomic_load(&lease.daemon) ? CUDA_SUCCESS : refusal();
                if (settle_is_capturing(handle))
                        return CUDA_SUCCESS;
                if (!pass(&place, graph, handle, key, now))
                        break;
        }
        *ret_passage = (struct passage){place.lane, place.context};
        return CUDA_SUCCESS;
}

void gate_leave(const struct passage *passage, uintptr_t handle, uintptr_t graph)
{
        if (gate_state(passage->lane) != TAKT_GATE_FREE)
                bound_leave(passage->lane, handle, passage->context, graph);
}

#define FOR_EACH_DIRTY_LANE(lane)                                                                            \
        for (int lane = 0; atomic_load_explicit(&place_lanes, memory_order_relaxed) >> lane; lane++)         \
                if (atomic_load_explicit(&lanes[lane].n_dirty, memory_order_relaxed))

void gate_done(stream_key key)
{
        void *context = NULL;

        FOR_EACH_DIRTY_LANE(lane)
        {
                if (!context && key != KEY_ANY && key & 1)
                        driver.current_context(&context);
                if (key != KEY_ANY)
                        work_done_stream(lane, key, context);
                if ((key == KEY_ANY || key == HANDLE_LEGACY) && atomic_load(&lanes[lane].n_dirty))
                        settle_query(lane);
        }
}

void gate_done_context(void *context)
{
        FOR_EACH_DIRTY_LANE(lane)
        {
                if (!context)
                        driver.current_context(&context);
                work_done_context(lane, context);
        }
}

void gate_forget_context(void *context)
{
        gate_done_context(context);
        for (int lane = 0; lane < TAKT_PAGE_LANES; lane++) {
                pthread_mutex_lock(&lanes[lane].lock);
                bound_forget(&lanes[lane], context);
                pthread_mutex_unlock(&lanes[lane].lock);
        }
        place_changed();
}

void gate_forget(uintptr_t handle)
{
        settle_lock(); // until our calls on it are over
        FOR_EACH_DIRTY_LANE(lane)
        settle_orphan(lane, handle);
        settle_capture_ended(handle);
        settle_unlock();
}

void gate_forget_graph(uintptr_t exec)
{
        for (int lane = 0; lane < TAKT_PAGE_LANES; lane++) {
                pthread_mutex_lock(&lanes[lane].lock);
                bound_forget_graph(&lanes[lane], exec);
                pthread_mutex_unlock(&lanes[lane].lock);
        }
        graphs_forget(exec);
}

// A forked child has nothing in flight, and its parent's other threads, who may have held locks, are not
// there.
void gate_in_child(void)
{
        for (int lane = 0; lane < TAKT_PAGE_LANES; lane++) {
                memset(&lanes[lane], 0, sizeof lanes[lane]);
                pthread_mutex_init(&lanes[lane].lock, NULL);
        }
        atomic_store(&gate_last, KEY_NONE);
        atomic_store(&place_lanes, 0);
        settle_in_child();
        helper_in_child();
        ledger_in_child();
}
