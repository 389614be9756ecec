// Contexts, streams, captures and graphs come and go: noted, so that nothing of ours points to what is no
// more.
#include "shim/cuda/lane.h"
#include "shim/cuda/ledger.h"
#include "shim/cuda/place.h"

#define FORWARD(name, params, args, before, after)                                                           \
        EXPORT int name params;                                                                              \
        int name params                                                                                      \
        {                                                                                                    \
                int error;                                                                                   \
                                                                                                             \
                door_open();                                                                                 \
                if (!door_real[HOOK_##name])                                                                 \
                        return CUDA_NOT_SUPPORTED;                                                           \
                before;                                                                                      \
                error = ((int(*) params)door_real[HOOK_##name])args;                                         \
                after;                                                                                       \
                return error;                                                                                \
        }

#define U uintptr_t

// Contexts
#define CREATE(name, params, args)                                                                           \
        FORWARD(name, params, args, gate_context(-1), error ? gate_context_gone() : (void)0)

// Its memory goes with it, if it goes; its address may be another context's at once.
static void leaving(void *context, void *mark)
{
        gate_leaving(context, mark);
        ledger_rename(context, mark);
}

static void left(void *context, void *mark, int error)
{
        gate_left(context, mark, error);
        if (error)
                ledger_rename(mark, context);
        else
                ledger_forget(mark);
}

#define DESTROY(name)                                                                                        \
        FORWARD(name, (void *context), (context), char mark;                                                 \
                leaving(context, &mark), left(context, &mark, error); error ? (void)0 : gate_context_gone())

CREATE(cuCtxCreate, (U a, U b, U c), (a, b, c))
CREATE(cuCtxCreate_v2, (U a, U b, U c), (a, b, c))
CREATE(cuCtxCreate_v3, (U a, U b, U c, U d, U e), (a, b, c, d, e))
CREATE(cuCtxCreate_v4, (U a, U b, U c, U d), (a, b, c, d))
DESTROY(cuCtxDestroy)
DESTROY(cuCtxDestroy_v2)
FORWARD(cuDevicePrimaryCtxRetain, (U ret, int device), (ret, device), gate_context(device), )

// The primary context of a device, if it is there; NULL otherwise.
static void *primary_of(int device)
{
        void *context = NULL;
        unsigned flags;
        int active = 0;

        place_ready();
        if (!driver.primary_state || !driver.primary_retain || !driver.primary_release ||
            driver.primary_state(device, &flags, &active) || !active ||
            driver.primary_retain(&context, device))
                return NULL;
        driver.primary_release(device);
        return context;
}

// What was the primary context is no more, if this release was the last.
static void released(int device, void *context)
{
        unsigned flags;
        int active = 0;

        if (context && (driver.primary_state(device, &flags, &active) || !active))
                gate_forget_context(context), ledger_forget(context);
}

static void *before_release(int device)
{
        settle_events_go(); // it may be the last
        return primary_of(device);
}

#define RELEASE(name)                                                                                        \
        FORWARD(name, (int device), (device), void *context = before_release(device),                        \
                released(device, context))
#define RESET(name)                                                                                          \
        FORWARD(name, (int device), (device), void *context = primary_of(device); char mark;                 \
                leaving(context, &mark), left(context, &mark, error))

RELEASE(cuDevicePrimaryCtxRelease)
RELEASE(cuDevicePrimaryCtxRelease_v2)
RESET(cuDevicePrimaryCtxReset)
RESET(cuDevicePrimaryCtxReset_v2)

// Green contexts. What was made in one is its primary context's, and stays.
static struct green before_green(U handle)
{
        struct green gone = green_gone(handle);

        settle_events_go(); // its primary context may go with it
        if (gone.primary)
                gate_forget_green(&gone);
        if (gone.primary && gone.context)
                ledger_rename(gone.context, gone.primary);
        return gone;
}

FORWARD(cuGreenCtxCreate, (U * ret, U resources, int device, unsigned flags), (ret, resources, device, flags),
        , error ? (void)0 : green_made(*ret, device, primary_of(device)))
FORWARD(cuCtxFromGreenCtx, (void **ret, U green), (ret, green), gate_context(-1),
        error ? gate_context_gone() : green_named(green, *ret))
FORWARD(cuGreenCtxDestroy, (U green), (green), struct green gone = before_green(green),
        released(gone.device, gone.primary))

// Streams
FORWARD(cuStreamDestroy, (U stream), (stream), gate_forget(stream), )
FORWARD(cuStreamDestroy_v2, (U stream), (stream), gate_forget(stream), )

// Captures. Not while we record an event of ours on the stream: it would become part of the capture.
static void begun(uintptr_t handle, int error)
{
        if (!error)
                settle_capture_begun(handle);
        settle_unlock();
}

// One that failed to end may run on: at another stream than it began, or in another thread.
static void ended(uintptr_t handle, int error)
{
        settle_lock();
        if (!error || !settle_is_capturing(handle))
                settle_capture_ended(handle);
        settle_unlock();
}

#define OWN(stream) (stream ? stream : HANDLE_PER_THREAD)
#define BEGIN(name, handle, params, args) FORWARD(name, params, args, settle_lock(), begun(handle, error))
#define END(name, handle) FORWARD(name, (U s, U graph), (s, graph), , ended(handle, error))

BEGIN(cuStreamBeginCapture, s, (U s), (s))
BEGIN(cuStreamBeginCapture_ptsz, OWN(s), (U s), (s))
BEGIN(cuStreamBeginCapture_v2, s, (U s, int mode), (s, mode))
BEGIN(cuStreamBeginCapture_v2_ptsz, OWN(s), (U s, int mode), (s, mode))
BEGIN(cuStreamBeginCaptureToGraph, s, (U s, U g, U d, U e, size_t n, int m), (s, g, d, e, n, m))
BEGIN(cuStreamBeginCaptureToGraph_ptsz, OWN(s), (U s, U g, U d, U e, size_t n, int m), (s, g, d, e, n, m))
END(cuStreamEndCapture, s)
END(cuStreamEndCapture_ptsz, OWN(s))

// Executable graphs: one that was changed takes another time than it took.
#define CHANGE(name, params, args) FORWARD(name, params, args, gate_forget_graph(exec), )

CHANGE(cuGraphExecDestroy, (U exec), (exec))
CHANGE(cuGraphExecUpdate, (U exec, U a, U b, U c), (exec, a, b, c))
CHANGE(cuGraphExecUpdate_v2, (U exec, U a, U b), (exec, a, b))
CHANGE(cuGraphExecKernelNodeSetParams, (U exec, U a, U b), (exec, a, b))
CHANGE(cuGraphExecKernelNodeSetParams_v2, (U exec, U a, U b), (exec, a, b))
CHANGE(cuGraphExecMemcpyNodeSetParams, (U exec, U a, U b, U c), (exec, a, b, c))
CHANGE(cuGraphExecMemsetNodeSetParams, (U exec, U a, U b, U c), (exec, a, b, c))
CHANGE(cuGraphExecChildGraphNodeSetParams, (U exec, U a, U b), (exec, a, b))
CHANGE(cuGraphExecNodeSetParams, (U exec, U a, U b), (exec, a, b))
CHANGE(cuGraphNodeSetEnabled, (U exec, U a, unsigned on), (exec, a, on))
