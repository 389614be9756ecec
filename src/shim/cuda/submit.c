// The hooked calls themselves: one line of the fast path, made for each by hooks.inc.
#include <stddef.h>
#include "shim/cuda/arguments.h"
#include "shim/cuda/gate.h"

// Where CUlaunchConfig keeps its stream: seven unsigned numbers come before it.
static inline uintptr_t config_stream(uintptr_t config)
{
        return config ? *(const uintptr_t *)(config + 32) : 0;
}

static inline uintptr_t or_thread(uintptr_t handle)
{
        return handle ? handle : HANDLE_PER_THREAD;
}

#define AT(k) ARGUMENT##k
#define THREAD_AT(k) or_thread(ARGUMENT##k)
#define CONFIG config_stream(a0)
#define THREAD_CONFIG or_thread(config_stream(a0))
#define SIZE_2 (a2 <= SMALL_COPY_BYTES ? SMALL_COPY : 0)
#define LEGACY 0
#define THREAD HANDLE_PER_THREAD

#define LIKELY(x) __builtin_expect(!!(x), 1)

#define SLOW(name, n, graph, stream, after)                                                                  \
        static __attribute__((noinline)) int slow_##name(P##n)                                               \
        {                                                                                                    \
                uintptr_t handle = stream;                                                                   \
                stream_key key = gate_key(handle);                                                           \
                struct passage passage;                                                                      \
                int error = gate_enter(graph, handle, key, &passage);                                        \
                                                                                                             \
                if (error)                                                                                   \
                        return error;                                                                        \
                if (!door_real[HOOK_##name])                                                                 \
                        return CUDA_NOT_SUPPORTED;                                                           \
                error = ((int (*)(P##n))door_real[HOOK_##name])(A##n);                                       \
                if (passage.lane >= 0)                                                                       \
                        after;                                                                               \
                if (error)                                                                                   \
                        gate_failed(error);                                                                  \
                return error;                                                                                \
        }

#define FAST(name, n, stream)                                                                                \
        EXPORT int name(P##n);                                                                               \
        int name(P##n)                                                                                       \
        {                                                                                                    \
                if (LIKELY(lease_attention() == 0 &&                                                         \
                           atomic_load_explicit(&gate_last, memory_order_relaxed) == (stream)))              \
                        return ((int (*)(P##n))door_real[HOOK_##name])(A##n);                                \
                return slow_##name(A##n);                                                                    \
        }

#define NEVER_FAST(name, n)                                                                                  \
        EXPORT int name(P##n);                                                                               \
        int name(P##n)                                                                                       \
        {                                                                                                    \
                return slow_##name(A##n);                                                                    \
        }

#define SUBMIT(name, n, stream)                                                                              \
        SLOW(name, n, 0, stream, gate_leave(&passage, handle, 0))                                            \
        FAST(name, n, stream)
#define SUBMIT_COPY(name, n, stream)                                                                         \
        SLOW(name, n, SIZE_2, stream, gate_leave(&passage, handle, SIZE_2))                                  \
        FAST(name, n, stream)
#define SUBMIT_GRAPH(name, n, stream)                                                                        \
        SLOW(name, n, a0, stream, gate_leave(&passage, handle, a0))                                          \
        FAST(name, n, stream)
#define SUBMIT_SYNC(name, n, stream)                                                                         \
        SLOW(name, n, WAITED_FOR, stream, (gate_leave_done(&passage), error ? (void)0 : gate_done(key)))     \
        NEVER_FAST(name, n)
#define SUBMIT_SOON(name, n, stream)                                                                         \
        SLOW(name, n, 0, stream, (gate_leave_done(&passage), error ? (void)0 : gate_done(KEY_ANY)))          \
        NEVER_FAST(name, n)

#define DONE_AT(k) gate_done(gate_key(a##k))
#define DONE_THREAD_AT(k) gate_done(gate_key(or_thread(a##k)))
#define DONE_ANY gate_done(KEY_ANY)
#define DONE_CONTEXT gate_done_context(NULL)
#define DONE_CONTEXT_AT(k) gate_done_context((void *)a##k)

#define SYNC(name, n, stream)                                                                                \
        EXPORT int name(P##n);                                                                               \
        int name(P##n)                                                                                       \
        {                                                                                                    \
                int error;                                                                                   \
                                                                                                             \
                door_open();                                                                                 \
                if (!door_real[HOOK_##name])                                                                 \
                        return CUDA_NOT_SUPPORTED;                                                           \
                error = ((int (*)(P##n))door_real[HOOK_##name])(A##n);                                       \
                if (error == CUDA_SUCCESS)                                                                   \
                        DONE_##stream;                                                                       \
                else                                                                                         \
                        gate_failed(error);                                                                  \
                return error;                                                                                \
        }

#define OTHER(name)

#include "shim/cuda/hooks.inc"
