// The gate: what a submission passes, and what is noted when work is done.
#pragma once
#include <stdatomic.h>
#include <stdint.h>
#include "shim/cuda/door.h"
#include "shim/lease.h"

// A stream, told apart from all others of the process: its handle, or for a thread's own default stream an address of
// the thread.
typedef uintptr_t stream_key;

#define KEY_NONE ((stream_key)-1) // no burst is running
#define KEY_ANY ((stream_key)-2)  // an event: look which streams are done
#define KEY_ALL ((stream_key)-3)  // the whole context is done
#define HANDLE_LEGACY 1
#define HANDLE_PER_THREAD 2

// The stream handle of the running burst's last tracked submission, if a further one on it needs no note.
extern _Atomic stream_key gate_last;

// Before a submission on a stream: joins, waits at a closed gate, keeps the work in flight bounded. Returns 0, or the
// CUDA error to give. `tracked` says whether gate_leave has to be called after it.
int gate_enter(enum hook hook, uintptr_t handle, stream_key key, int *ret_tracked);
// After it.
void gate_leave(enum hook hook, uintptr_t handle, int error);
// After a call of the host's that waited for a stream, or asked whether it is done and heard yes.
void gate_done(stream_key key);
// Captures that run in this process: `by` is 1 or -1.
void gate_capture(int by);
// A stream is no more.
void gate_forget(stream_key key);
stream_key gate_key(uintptr_t handle);
// The lane of the current context's device; joins if need be. -1: not Takt's, or no daemon.
int gate_lane(void);
