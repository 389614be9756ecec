// The hooked exports of the CUDA driver, and the driver's own entries behind them.
#pragma once
#include <stdatomic.h>
#include <stdint.h>

// One number for each hooked export.
enum hook {
#define SUBMIT(name, n, stream) HOOK_##name,
#define SUBMIT_COPY(name, n, stream) HOOK_##name,
#define SUBMIT_GRAPH(name, n, stream) HOOK_##name,
#define SUBMIT_SYNC(name, n, stream) HOOK_##name,
#define SUBMIT_SOON(name, n, stream) HOOK_##name,
#define SYNC(name, n, stream) HOOK_##name,
#define OTHER(name) HOOK_##name,
#include "shim/cuda/hooks.inc"
#undef SUBMIT
#undef SUBMIT_COPY
#undef SUBMIT_GRAPH
#undef SUBMIT_SYNC
#undef SUBMIT_SOON
#undef SYNC
#undef OTHER
        N_HOOKS
};

#define EXPORT __attribute__((visibility("default")))

enum {
        CUDA_SUCCESS = 0,
        CUDA_OUT_OF_MEMORY = 2,
        CUDA_INVALID_CONTEXT = 201,
        CUDA_NOT_FOUND = 500,
        CUDA_NOT_READY = 600,     // it still runs
        CUDA_NOT_PERMITTED = 800, // here: in a host function nothing may be asked of the driver
        CUDA_NOT_SUPPORTED = 801,
        CUDA_SYSTEM_NOT_READY = 802, // what `refuse` gives while the daemon is gone
};

// The driver's entries; looked up once, NULL where the driver has none.
extern void *door_real[N_HOOKS];
extern _Atomic int door_is_open;
void door_find(void);
// Looks them up if that was not done yet. Any thread, any time, before cuInit too.
static inline void door_open(void)
{
        if (!atomic_load_explicit(&door_is_open, memory_order_acquire))
                door_find();
}

// Any other function of the driver, or NULL.
void *door_driver(const char *name);

// Calls the driver's own entry of a hooked export with the arguments that it has.
#define REAL(name, ...) ((uintptr_t(*)())door_real[HOOK_##name])(__VA_ARGS__)
