// What this process has in flight on one device. Everything here is guarded by the lane's lock, which is
// never held while the driver is called.
#pragma once
#include <pthread.h>
#include "shim/cuda/gate.h"

#define DIRTY_MAX 64
#define MARKERS_MAX 8
#define SPARE_MAX 32
#define COPIES_MAX 16         // small ones that are let in where there is no room, or no turn
#define CAPTURE_RELAXED 2     // CU_STREAM_CAPTURE_MODE_RELAXED
#define EVENT_BLOCKING_SYNC 1 // waiting for it costs no CPU
#define EVENT_NO_TIMING 2

// A stream with work that may not be done.
struct dirty {
        stream_key key;
        uintptr_t handle;
        void *context;   // the stream's; of a default stream, that was current when work was submitted
        uint32_t stamp;  // grows with each submission that was seen
        uint32_t inside; // of them, those that were let in while others have a seat, and are not with the
                         // driver yet: a thread may lose its core there
};

// A submission to come, as it was noted.
struct note {
        int was_idle; // the lane, until now
        uint64_t idle_since_ns;
        uint32_t stamp;
        int is_inside;
};

// Work in flight is bounded by markers: events of ours behind pieces of work of estimated length.
struct marker {
        void *event, *context;
        uint64_t estimate_ns;
        uint32_t n_launches;
        uintptr_t graph; // the exec, if the piece has one graph; 0: none; GRAPHS_MIXED: several, or much
                         // beside it
};

struct lane {
        pthread_mutex_t lock;
        struct dirty dirty[DIRTY_MAX];
        _Atomic uint32_t n_dirty;     // read without the lock
        uint32_t stamp, last;         // last: the entry that was noted last, while it is there
        _Atomic uint32_t n_inside;    // of all streams; a futex word for those who wait until it is 0
        uint32_t n_awaiting;          // who they are
        uint64_t began_ns, worked_ns; // the running burst; work since the last step's end
        struct marker marker[MARKERS_MAX], spare[SPARE_MAX];
        uint32_t first, n_markers, n_spare;
        uint32_t n_waiting;      // threads that wait for a marker
        uint64_t outstanding_ns; // behind markers
        uint32_t n_copies;       // small ones let in without room since a marker was reached
        uint32_t n_early;        // and at a closed gate since anything else was let in
        struct marker piece;     // what was submitted behind the last marker
        struct marker before;    // the last marker that was reached in this burst
        uint64_t kernel_ns;      // learned time of one launch
};

extern struct lane lanes[TAKT_PAGE_LANES];

#define GRAPHS_MIXED ((uintptr_t)1)

// work.c
// ------------------------------------------------------------------------------------------------------------

// Notes a submission to come; the lane is then published as busy. From now until the stream is seen to be
// done, further ones on it need no note.
struct note work_add(int lane, uintptr_t handle, stream_key key, void *context, uint64_t now_ns);
// With the lock held: notes one more on that stream, if it was the last to be noted. NULL: look again.
struct dirty *work_again(struct lane *l, uintptr_t handle);
// With the lock held: the work is with the driver, or will not be for now.
void work_leave(struct lane *l, stream_key key, const void *context);
// Back from a closed gate: nothing was submitted. Returns whether the lane is idle again, as it was.
int work_retract(int lane, stream_key key, void *context, const struct note *note);
// Waits, while the gate is closed, until who was let in before has submitted.
void work_await(int lane);
// Copies the streams with work; returns how many.
uint32_t work_copy(int lane, struct dirty ret_dirty[DIRTY_MAX]);
int work_has(int lane, const struct dirty *entry);
// A stream is no more, but its work goes on: it is waited for with its whole context.
void work_orphan(int lane, stream_key key, void *owner);
// A context is no more, but its work goes on: it is waited for with another one, that is not the same.
void work_adopt(int lane, const void *context, void *owner);
// A context is about to be destroyed: its work goes by the mark, and nobody but the host waits for it.
void work_leaving(int lane, const void *context, void *mark);
static inline int work_is_leaving(const struct dirty *entry)
{
        return entry->key == KEY_REST && entry->handle == HANDLE_NONE;
}
// There is a new session: its page says of our work in flight what the last one said.
void work_joined(void);
// These streams are done: the one of that key (and context, where the key is of a default stream); all of a
// context; or the one entry, if nothing was submitted to it since. Not those to which somebody is about to
// submit. The burst ends with the last.
void work_done_stream(int lane, stream_key key, void *context);
void work_done_context(int lane, void *context);
void work_done_entry(int lane, const struct dirty *entry);

// settle.c
// ----------------------------------------------------------------------------------------------------------

// Asks the driver which of the streams with work are done.
void settle_query(int lane);
// Waits until they are, so that the device can pass on. Streams that cannot be waited for from here (another
// thread's default stream while something captures) are left to the host.
void settle_wait(int lane);
// A context may be about to go, and our events with it: those that are waited for now are not touched again.
void settle_events_go(void);
// Held by us for calls on streams that another thread may be about to destroy or to capture; they never wait.
void settle_lock(void);
void settle_unlock(void);
void settle_in_child(void);
// A relaxed capture mode for the calling thread while we are in the driver for ourselves; returns what it
// was.
int settle_relax(int mode);
int settle_is_capturing(uintptr_t handle);
// With the settle lock held. A stream is about to be destroyed: what it has in flight is not forgotten.
void settle_orphan(int lane, uintptr_t handle);
// The same of all streams of a green context.
void settle_orphan_green(int lane, const struct green *green);
// With the settle lock held: captures that this process began and did not end.
void settle_capture_begun(uintptr_t handle);
void settle_capture_ended(uintptr_t handle); // or is no capture that we know

// bound.c
// -----------------------------------------------------------------------------------------------------------

// With the lane's lock held: whether one more submission would be more GPU time in flight than the daemon's
// bound.
int bound_is_full(int lane, uintptr_t graph);
// Waits while that is so.
void bound_wait(int lane, uintptr_t graph);
// With the lane's lock held, after a submission: counts it. Returns the piece that it completes, to be
// marked; or one of no launches.
struct marker bound_count(int lane, uintptr_t graph);
// Whether any of the running burst was counted: it was submitted while others have a seat.
int bound_is_kept(int lane);
// Marks the end of that piece.
void bound_mark(int lane, uintptr_t handle, void *context, struct marker piece);
// With the lane's lock held: the burst is over, after span_ns.
void bound_end(struct lane *l, uint64_t span_ns);
// With the lane's lock held: events of this context are no more.
void bound_forget(struct lane *l, void *context);
// With the lane's lock held: what this graph's launches took is not to be learned any more.
void bound_forget_graph(struct lane *l, uintptr_t exec);

// graphs.c: what one launch of an executable graph takes, ns; 0: not known
// ------------------------------------------

uint64_t graphs_estimate(uintptr_t exec);
void graphs_learn(uintptr_t exec, uint64_t ns);
void graphs_forget(uintptr_t exec);

// helper.c: a thread that looks at work in flight when the daemon asks; started with the first contended
// submission --

void helper_start(void);
void helper_in_child(void);
