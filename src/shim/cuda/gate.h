// The gate: what a submission passes, and what is noted when work is done.
#pragma once
#include <stdatomic.h>
#include <stdint.h>
#include "shim/cuda/door.h"
#include "shim/cuda/green.h"
#include "shim/lease.h"

// A stream, told apart from all others of the process: its handle, or for a thread's own default stream a
// number of the thread. Odd: a default stream, one in each context.
typedef uintptr_t stream_key;

#define KEY_NONE ((stream_key)-1) // no stream
#define KEY_ANY ((stream_key)-2)  // an event: look which streams are done
#define KEY_REST ((stream_key)-3) // streams beyond those that are told apart
#define HANDLE_NONE 0 // of KEY_REST: of a context that is being destroyed, and is the host's alone
#define HANDLE_LEGACY 1
#define HANDLE_PER_THREAD 2

// The stream handle of the running burst's last tracked submission, if a further one on it needs no note.
extern _Atomic stream_key gate_last;

// What a submission that was let in is counted on.
struct passage {
        int lane; // -1: not counted
        stream_key key;
        void *context;
        int is_inside; // its stream is not done before it is with the driver
};

// What is submitted, where it is no executable graph. A small copy adds next to nothing to the work in
// flight, and an engine reads a step's tokens behind its kernels: waiting for room would only keep it from
// hearing at once that they are there. A submission that its caller waits for in the driver is followed by no
// other of that thread.
#define SMALL_COPY ((uintptr_t)2)
#define WAITED_FOR ((uintptr_t)3)
#define SMALL_COPY_BYTES ((uintptr_t)1 << 20) // 40 to 80 us on PCI Express 4

// Before a submission on a stream: joins, waits at a closed gate, keeps the work in flight bounded. graph:
// the executable graph that is launched, one of the above, or 0 for all else. Returns 0, or the CUDA error to
// give.
int gate_enter(uintptr_t graph, uintptr_t handle, stream_key key, struct passage *ret_passage);
// After it, if it was counted: the work is with the driver.
void gate_leave(const struct passage *passage, uintptr_t handle, uintptr_t graph);
// The same, of a call that leaves no work of its own behind.
void gate_leave_done(const struct passage *passage);
// After a call of the host's that waited for a stream, or asked whether it is done and heard yes.
void gate_done(stream_key key);
// A hooked submission or synchronisation came back with an error: what is broken is not in flight any more.
void gate_failed(int error);
// A whole context was waited for, or is no more.
void gate_done_context(void *context);
void gate_forget_context(void *context);
// One is about to be destroyed: its work goes by the mark until the driver has said what became of it.
void gate_leaving(void *context, void *mark);
void gate_left(void *context, void *mark, int error);
// A green context is about to go. Its work in flight goes on, and is its primary context's then.
void gate_forget_green(const struct green *green);
// A stream is no more. Before that is said to the driver.
void gate_forget(uintptr_t handle);
// A context was made: device's primary one, or (-1) another. With two, a default stream's handle names none.
void gate_context(int device);
// Another is no more, or was not made after all.
void gate_context_gone(void);
stream_key gate_key(uintptr_t handle);
// An executable graph was changed, or is no more: what its launches took says nothing of the next.
void gate_forget_graph(uintptr_t exec);
// With the lock of the stream's lane held, and work on it noted: further submissions to it need no note.
void gate_remember(int lane, uintptr_t handle);

// In a forked child.
void gate_in_child(void);

static inline uint32_t gate_state(int lane)
{
        const struct takt_page_daemon *page = atomic_load_explicit(&lease.daemon, memory_order_acquire);

        return page ? TAKT_GATE_STATE(atomic_load_explicit(&page->lane[lane].gate, memory_order_acquire))
                    : TAKT_GATE_FREE;
}
