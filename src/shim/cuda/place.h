// Where the calling thread stands: its current context, or its stream's, and the lane of that context's
// device.
#pragma once
#include <stdatomic.h>
#include <stdint.h>

// The driver's functions that we call on our own account; NULL where this driver has none.
struct driver {
        int (*device_count)(int *), (*device_uuid)(uint8_t *, int), (*current_device)(int *);
        int (*current_context)(void **), (*push)(void *), (*pop)(void **), (*synchronize)(void);
        int (*stream_context)(uintptr_t, void **), (*stream_green)(uintptr_t, uintptr_t *);
        int (*is_capturing)(uintptr_t, int *), (*capture_mode)(int *);
        int (*event_create)(void **, unsigned), (*event_destroy)(void *), (*event_record)(void *, uintptr_t);
        int (*event_elapsed)(float *, void *, void *);
        int (*primary_retain)(void **, int), (*primary_release)(int),
                (*primary_state)(int, unsigned *, int *);
};

extern struct driver driver;
// Bits of the lanes that this process ever submitted to.
extern _Atomic unsigned place_lanes;

struct place {
        int lane;   // -1: not Takt's, or no daemon
        int device; // CUDA ordinal; -1: no context
        void *context;
};

// Of a stream; 0: of the current context. Joins the daemon if need be. now_ns 0: does not look whether it is
// still there.
struct place place_now(uint64_t now_ns, uintptr_t handle);
// Joins if need be; once the driver is initialised, without a context too.
void place_join(void);
// The CUDA ordinal of the current context's device, and that context; joins if need be. -1: no context, or
// Takt is not wanted.
int place_device(void **ret_context);
// The same of a stream and its context, which need not be the current one.
int place_stream(uintptr_t handle, void **ret_context);
// Makes a context current, of a green one its primary one, until the thread leaves it. Returns what the
// driver says.
int place_enter(void *context);
void place_leave(void);
// Contexts that were there may be no more: what threads remember of them is not to be believed.
void place_changed(void);
// Looks up the driver's functions, once.
void place_ready(void);
