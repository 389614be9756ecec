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

// What is not known to us may go too: the devices' primary ones stay counted.
void gate_context_gone(void)
{
        int n = atomic_load(&n_contexts);

        while (n > __builtin_popcount(atomic_load(&primaries)) &&
               !atomic_compare_exchange_weak(&n_contexts, &n, n - 1))
                ;
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
        return lease.refuse_on_loss ? CUDA_SYSTEM_NOT_READY : CUDA_SUCCESS;
}

// While others have a seat: whether one more may be in flight. If not, waits until it may; as this takes a
// while, the gate may then have closed, and the note been settled.
static int has_room(const struct passage *passage, uintptr_t graph)
{
        struct lane *l = &lanes[passage->lane];
        int full;

        helper_start();
        pthread_mutex_lock(&l->lock);
        full = bound_is_full(passage->lane, graph);
        if (full && passage->is_inside)
                work_leave(l, passage->key, passage->context);
        pthread_mutex_unlock(&l->lock);
        if (full)
                bound_wait(passage->lane, graph);
        return !full;
}

// A small copy needs no turn: it takes the copy engine some microseconds, and nothing of the time in which
// kernels run. So a step's inputs are there when its turn comes, and its tokens are read though the gate has
// closed behind its kernels. It is not noted, and not charged. Who is to be refused when the daemon is gone
// waits, and so hears of that.
static int needs_no_turn(int lane, uintptr_t graph)
{
        struct lane *l = &lanes[lane];
        int passes;

        if (graph != SMALL_COPY || gate_state(lane) != TAKT_GATE_CLOSED || lease.refuse_on_loss)
                return 0;
        helper_start();
        pthread_mutex_lock(&l->lock);
        passes = l->n_early < COPIES_MAX;
        l->n_early += (uint32_t)passes;
        pthread_mutex_unlock(&l->lock);
        return passes;
}

// Past the gate of the passage's lane, with the submission noted as work in flight. Returns 0, or 1: the
// daemon has gone.
static int pass(struct passage *passage, uintptr_t graph, uintptr_t handle, uint64_t now)
{
        int lane = passage->lane;

        for (;; now = takt_clock_now()) {
                struct note note = work_add(lane, handle, passage->key, passage->context, now);

                passage->is_inside = note.is_inside;
                atomic_signal_fence(memory_order_seq_cst); // the daemon's membarrier does the rest
                switch (gate_state(lane)) {
                case TAKT_GATE_FREE:
                        return 0;
                case TAKT_GATE_OPEN:
                        if (has_room(passage, graph))
                                return 0;
                        break;
                default:
                        helper_start();
                        if (!work_retract(lane, passage->key, passage->context, &note))
                                settle_wait(lane);
                        if (lease_wait((unsigned)lane))
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
        if (gate_state(lane) == TAKT_GATE_OPEN && !bound_is_full(lane, graph)) {
                entry = work_again(l, handle);
                in = entry != NULL;
                if (in)
                        *ret_passage = (struct passage){lane, entry->key, entry->context, 1};
        }
        pthread_mutex_unlock(&l->lock);
        return in;
}

static int enter(uintptr_t graph, uintptr_t handle, stream_key key, struct passage *ret_passage)
{
        ret_passage->lane = -1;
        if (!lease_wanted())
                return door_open(), CUDA_SUCCESS;
        for (;;) { // a daemon may go and another come meanwhile
                uint64_t now = takt_clock_now();
                // With one context no stream can be another's.
                struct place place = place_now(now, atomic_load(&n_contexts) > 1 ? handle : 0);

                if (place.device < 0 && handle > HANDLE_PER_THREAD)
                        place = place_now(0, handle); // it needs no current context
                if (place.lane < 0)
                        return atomic_load(&lease.daemon) ? CUDA_SUCCESS : refusal();
                if (settle_is_capturing(handle))
                        return CUDA_SUCCESS;
                if (needs_no_turn(place.lane, graph))
                        return CUDA_SUCCESS;
                *ret_passage = (struct passage){.lane = place.lane, .key = key, .context = place.context};
                if (!pass(ret_passage, graph, handle, now))
                        return CUDA_SUCCESS;
                ret_passage->lane = -1;
        }
}

// A thread that is cancelled ends behind us: inside it would be counted at the gate for ever.
int gate_enter(uintptr_t graph, uintptr_t handle, stream_key key, struct passage *ret_passage)
{
        int error, cancel;

        if (again(graph, handle, ret_passage))
                return CUDA_SUCCESS;
        pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &cancel);
        error = enter(graph, handle, key, ret_passage);
        pthread_setcancelstate(cancel, NULL);
        return error;
}

void gate_leave(const struct passage *passage, uintptr_t handle, uintptr_t graph)
{
        struct lane *l = &lanes[passage->lane];
        struct marker piece = {0};

        if (!passage->is_inside)
                return;
        pthread_mutex_lock(&l->lock);
        work_leave(l, passage->key, passage->context);
        if (graph != SMALL_COPY)
                l->n_early = 0;
        if (gate_state(passage->lane) != TAKT_GATE_FREE)
                piece = bound_count(passage->lane, graph);
        pthread_mutex_unlock(&l->lock);
        if (piece.n_launches)
                bound_mark(passage->lane, handle, passage->context, piece);
}

void gate_leave_done(const struct passage *passage)
{
        struct lane *l = &lanes[passage->lane];

        if (!passage->is_inside)
                return;
        pthread_mutex_lock(&l->lock);
        work_leave(l, passage->key, passage->context);
        pthread_mutex_unlock(&l->lock);
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

void gate_failed(int error)
{
        if (error != CUDA_NOT_READY && error != CUDA_NOT_PERMITTED)
                gate_done(KEY_ANY);
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

static void forget_events(void *context)
{
        for (int lane = 0; lane < TAKT_PAGE_LANES; lane++) {
                pthread_mutex_lock(&lanes[lane].lock);
                bound_forget(&lanes[lane], context);
                pthread_mutex_unlock(&lanes[lane].lock);
        }
        place_changed();
}

void gate_forget_context(void *context)
{
        gate_done_context(context);
        forget_events(context);
}

void gate_leaving(void *context, void *mark)
{
        FOR_EACH_DIRTY_LANE(lane)
        work_leaving(lane, context, mark);
        forget_events(context);
        settle_events_go();
}

void gate_left(void *context, void *mark, int error)
{
        FOR_EACH_DIRTY_LANE(lane)
        {
                if (error)
                        work_adopt(lane, mark, context);
                else
                        work_done_context(lane, mark);
        }
        place_changed();
}

void gate_forget_green(const struct green *green)
{
        settle_lock(); // until our calls on its streams are over
        FOR_EACH_DIRTY_LANE(lane)
        {
                settle_orphan_green(lane, green);
                if (green->context)
                        work_adopt(lane, green->context, green->primary);
        }
        settle_unlock();
        if (green->context)
                forget_events(green->context);
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
        green_in_child();
}
