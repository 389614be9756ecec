// A driver that does nothing and remembers everything: each of the exports of cudaTypedefs.h, with a model of
// contexts, streams, events and captures just good enough that the shim believes it. It shows what only a
// driver sees: what is called on a capturing stream, with which arguments, and while which thread is inside.
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include "fake.h"

#define EXPORT __attribute__((visibility("default")))
#define N_STREAMS 512
#define N_CONTEXTS 64
#define N_EVENTS 4096
#define NOT_READY 600
#define NOT_INITIALIZED 3
#define INVALID_CONTEXT 201
#define INVALID_HANDLE 400
#define ILLEGAL_STATE 401
#define STREAM_DETACHED 917

enum export {
#define SYMBOL(name, version, flag, export) AT_##export,
#include "simgpu/symbols.inc"
#undef SYMBOL
        N_EXPORTS
};

static const struct {
        const char *name;
        int version, flag;
        const char *export;
} rows[] = {
#define SYMBOL(name, version, flag, export) {name, version, flag, #export},
#include "simgpu/symbols.inc"
#undef SYMBOL
};

struct context {
        int device, is_there;
        int is_green; // another handle of its device's primary context; as a green context, the next address
};

struct stream {
        uintptr_t handle; // 1: legacy, 2: a thread's own
        const struct context *context;
        const void *thread;
        uint64_t submitted, done;
        int captures, is_there;
};

struct event {
        struct stream *stream;
        uint64_t behind;
        const struct context *context;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static int is_forked; // after cuInit: nothing of a driver's goes with a fork
static pthread_cond_t news = PTHREAD_COND_INITIALIZER;
static unsigned n_calls[N_EXPORTS], n_intrusions;
static uintptr_t last[N_EXPORTS][11];
static fake_answer answers[N_EXPORTS];
static int by_hand;
static struct context contexts[N_CONTEXTS] = {{0, 1, 0}, {1, 1, 0}};
static struct stream streams[N_STREAMS];
static struct event events[N_EVENTS];
static size_t n_events;
static uintptr_t next_address = 0x10000000;
static __thread struct context *stack[16];
static __thread int depth, capture_mode;

static struct context *current(void)
{
        return stack[depth];
}

// One that is destroyed goes when its work is done.
static int is_free(const struct stream *s)
{
        return !s->is_there && s->done == s->submitted;
}

// With the lock held.
static struct stream *stream_of(uintptr_t handle, int per_thread)
{
        const void *thread = handle == 2 || (!handle && per_thread) ? &depth : NULL;
        const struct context *context = handle > 2 ? NULL : current();
        struct stream *free_one = NULL;

        handle = handle > 2 ? handle : thread ? 2 : 1;
        if (handle > 2)
                return (struct stream *)handle;
        for (struct stream *s = streams; s < streams + N_STREAMS; s++) {
                if (s->is_there && s->handle == handle && s->context == context && s->thread == thread)
                        return s;
                if (is_free(s) && !free_one)
                        free_one = s;
        }
        *free_one = (struct stream){.handle = handle, .context = context, .thread = thread, .is_there = 1};
        return free_one;
}

static int submit(uintptr_t handle, int per_thread)
{
        struct stream *s = stream_of(handle, per_thread);

        if (s->captures)
                return 0;
        s->submitted++;
        if (!by_hand)
                s->done = s->submitted;
        return 0;
}

static int wait_for(struct stream *s, uint64_t until)
{
        while (s->done < until)
                pthread_cond_wait(&news, &lock);
        return 0;
}

// Events and memory of a green context are its primary context's, which waits for it too.
static const struct context *primary_of(const struct context *context)
{
        return context && context->is_green ? &contexts[context->device] : context;
}

static int wait_context(const struct context *context)
{
        for (struct stream *s = streams; s < streams + N_STREAMS; s++)
                if (!is_free(s) && (s->context == context || primary_of(s->context) == context))
                        wait_for(s, s->submitted);
        return 0;
}

static struct context *new_context(int device, int is_green)
{
        int i = 2;

        while (contexts[i].is_there)
                i++;
        contexts[i] = (struct context){device, 1, is_green};
        return &contexts[i];
}

// The handle of one that is gone is nobody's to use, a green one's is for its own thread.
static int push(struct context *context)
{
        n_intrusions += !context->is_there || context->is_green;
        if (!context->is_there)
                return INVALID_CONTEXT;
        stack[++depth] = context;
        return 0;
}

static int is_detached(const struct stream *s)
{
        return s->context && s->context->is_green && !s->context->is_there;
}

static int new_stream(uintptr_t *ret, const struct context *context)
{
        for (struct stream *s = streams; s < streams + N_STREAMS; s++)
                if (is_free(s)) {
                        *s = (struct stream){.handle = (uintptr_t)s, .context = context, .is_there = 1};
                        *ret = (uintptr_t)s;
                        return 0;
                }
        return 2;
}

static int record(uintptr_t event, uintptr_t handle, int per_thread)
{
        struct event *e = &events[event - 1];
        struct stream *s = stream_of(handle, per_thread);

        n_intrusions += s->captures > 0;
        if (is_detached(s))
                return STREAM_DETACHED;
        if (primary_of(e->context) != primary_of(s->context))
                return INVALID_HANDLE;
        e->stream = s;
        e->behind = s->submitted;
        return 0;
}

static int new_event(uintptr_t *ret)
{
        events[n_events] = (struct event){.context = current()};
        *ret = ++n_events;
        return 0;
}

static int query(uintptr_t handle, int per_thread)
{
        const struct stream *s = stream_of(handle, per_thread);

        n_intrusions += s->captures > 0;
        if (is_detached(s))
                return STREAM_DETACHED;
        return s->done < s->submitted ? NOT_READY : 0;
}

static int captures(uintptr_t handle, int per_thread, int on)
{
        struct stream *s = stream_of(handle, per_thread);

        if (s->captures == on)
                return ILLEGAL_STATE;
        s->captures = on;
        return 0;
}

static int new_address(uintptr_t *ret)
{
        if (!ret)
                return 1;
        *ret = next_address;
        next_address += 0x100000;
        return 0;
}

static int lookup(const uintptr_t *a);

// With the lock held: what an export does by itself.
static int act(enum export which, const uintptr_t *a)
{
        uintptr_t *ret = (uintptr_t *)a[0];

        switch (which) {
        case AT_cuDeviceGetCount:
                return *(int *)ret = 2, 0;
        case AT_cuDeviceGetUuid:
        case AT_cuDeviceGetUuid_v2:
                return memset(ret, (int)a[1] + 1, 16), 0;
        case AT_cuCtxGetDevice:
                return current() ? (*(int *)ret = current()->device, 0) : INVALID_CONTEXT;
        case AT_cuCtxGetCurrent:
                return *ret = (uintptr_t)current(), 0;
        case AT_cuCtxSetCurrent:
                return stack[depth] = (struct context *)ret, 0;
        case AT_cuCtxPushCurrent_v2:
                return push((struct context *)ret);
        case AT_cuCtxPopCurrent_v2:
                return *ret = (uintptr_t)stack[depth--], 0;
        case AT_cuCtxCreate_v2:
                stack[depth] = new_context((int)a[2], 0);
                return *ret = (uintptr_t)current(), 0;
        case AT_cuGreenCtxCreate:
                return *ret = (uintptr_t)new_context((int)a[2], 1) + 1, 0;
        case AT_cuCtxFromGreenCtx:
                return *ret = a[1] - 1, 0;
        case AT_cuGreenCtxDestroy:
                return ((struct context *)(a[0] - 1))->is_there = 0, 0;
        case AT_cuGreenCtxStreamCreate:
                return new_stream(ret, (struct context *)(a[1] - 1));
        case AT_cuStreamGetGreenCtx: {
                const struct context *of = stream_of(a[0], 0)->context;

                return *(uintptr_t *)a[1] = of && of->is_green ? (uintptr_t)of + 1 : 0, 0;
        }
        case AT_cuCtxDestroy_v2:
                return ((struct context *)ret)->is_there = 0, 0;
        case AT_cuDevicePrimaryCtxRetain:
                return *ret = (uintptr_t)&contexts[a[1]], 0;
        case AT_cuDevicePrimaryCtxGetState:
                return *(unsigned *)a[1] = 0, *(int *)a[2] = 1, 0;
        case AT_cuCtxSynchronize:
                return wait_context(current());
        case AT_cuStreamCreate:
                return new_stream(ret, current());
        case AT_cuStreamDestroy_v2:
                return ((struct stream *)ret)->is_there = 0, 0;
        case AT_cuStreamGetCtx:
                return a[0] > 2 ? (*(const struct context **)a[1] = ((struct stream *)ret)->context, 0)
                                : INVALID_HANDLE;
        case AT_cuStreamQuery:
                return query(a[0], 0);
        case AT_cuStreamQuery_ptsz:
                return query(a[0], 1);
        case AT_cuStreamSynchronize:
                return wait_for(stream_of(a[0], 0), stream_of(a[0], 0)->submitted);
        case AT_cuStreamSynchronize_ptsz:
                return wait_for(stream_of(a[0], 1), stream_of(a[0], 1)->submitted);
        case AT_cuStreamIsCapturing:
                return *(int *)a[1] = stream_of(a[0], 0)->captures, 0;
        case AT_cuStreamBeginCapture_v2:
                return captures(a[0], 0, 1);
        case AT_cuStreamBeginCapture_v2_ptsz:
                return captures(a[0], 1, 1);
        case AT_cuStreamEndCapture:
                return captures(a[0], 0, 0);
        case AT_cuStreamEndCapture_ptsz:
                return captures(a[0], 1, 0);
        case AT_cuThreadExchangeStreamCaptureMode: {
                int before = capture_mode;

                capture_mode = *(int *)ret;
                *(int *)ret = before;
                return 0;
        }
        case AT_cuEventCreate:
                return new_event(ret);
        case AT_cuEventRecord:
                return record(a[0], a[1], 0);
        case AT_cuEventSynchronize:
                return a[0] && a[0] <= n_events ? wait_for(events[a[0] - 1].stream, events[a[0] - 1].behind)
                                                : INVALID_HANDLE;
        case AT_cuEventElapsedTime:
                return *(float *)ret = 1, 0;
        case AT_cuLaunchKernel:
                return submit(a[8], 0);
        case AT_cuLaunchKernel_ptsz:
                return submit(a[8], 1);
        case AT_cuGraphLaunch:
                return submit(a[1], 0);
        case AT_cuMemcpyHtoDAsync_v2:
                return submit(a[3], 0);
        case AT_cuMemcpyDtoH_v2:
                return submit(0, 0), wait_for(stream_of(0, 0), stream_of(0, 0)->submitted);
        case AT_cuMemAlloc_v2:
        case AT_cuMemAllocManaged:
        case AT_cuMemAllocPitch_v2:
        case AT_cuMemAllocAsync:
        case AT_cuMemAllocAsync_ptsz:
        case AT_cuMemAllocFromPoolAsync:
        case AT_cuMemAllocFromPoolAsync_ptsz:
        case AT_cuMemCreate:
        case AT_cuMemPoolCreate:
        case AT_cuArrayCreate_v2:
        case AT_cuArray3DCreate_v2:
        case AT_cuMipmappedArrayCreate:
                return new_address(ret);
        case AT_cuDeviceGetDefaultMemPool:
        case AT_cuDeviceGetMemPool:
                return *ret = (uintptr_t)which << 8 | a[1], 0;
        case AT_cuMemGetDefaultMemPool:
        case AT_cuMemGetMemPool:
                return *ret = (uintptr_t)which << 8 | ((unsigned *)a[1])[1], 0;
        case AT_cuMemGetInfo_v2:
                return *ret = *(uintptr_t *)a[1] = (uintptr_t)40 << 30, 0;
        case AT_cuDeviceTotalMem:
                return *(unsigned *)ret = (unsigned)-1, 0;
        case AT_cuDeviceTotalMem_v2:
                return *ret = (uintptr_t)40 << 30, 0;
        case AT_cuGetProcAddress_v2:
                return lookup(a);
        default:
                return 0;
        }
}

static void in_child(void)
{
        pthread_mutex_init(&lock, NULL);
        is_forked = n_calls[AT_cuInit] > 0;
}

static __attribute__((constructor)) void loaded(void)
{
        pthread_atfork(NULL, NULL, in_child);
}

static int called(enum export which, const uintptr_t *a)
{
        fake_answer answer;
        int error;

        pthread_mutex_lock(&lock);
        n_calls[which]++;
        memcpy(last[which], a, sizeof last[which]);
        answer = answers[which];
        error = answer ? 0 : is_forked ? NOT_INITIALIZED : act(which, a);
        pthread_mutex_unlock(&lock);
        return answer ? answer(a) : error;
}

#define SYMBOL(name, version, flag, export)                                                                  \
        EXPORT int export(uintptr_t, uintptr_t, uintptr_t, uintptr_t, uintptr_t, uintptr_t, uintptr_t,       \
                          uintptr_t, uintptr_t, uintptr_t, uintptr_t);                                       \
        int export(uintptr_t a0, uintptr_t a1, uintptr_t a2, uintptr_t a3, uintptr_t a4, uintptr_t a5,       \
                   uintptr_t a6, uintptr_t a7, uintptr_t a8, uintptr_t a9, uintptr_t a10)                    \
        {                                                                                                    \
                const uintptr_t a[11] = {a0, a1, a2, a3, a4, a5, a6, a7, a8, a9, a10};                       \
                                                                                                             \
                return called(AT_##export, a);                                                               \
        }
#include "simgpu/symbols.inc"
#undef SYMBOL

static void *const entries[] = {
#define SYMBOL(name, version, flag, export) (void *)export,
#include "simgpu/symbols.inc"
#undef SYMBOL
};

static int lookup(const uintptr_t *a)
{
        int best = -1;

        for (int i = 0; i < N_EXPORTS; i++)
                if (!strcmp(rows[i].name, (const char *)a[0]) && rows[i].version <= (int)a[2] &&
                    (uintptr_t)rows[i].flag == (a[3] & 2) &&
                    (best < 0 || rows[i].version > rows[best].version))
                        best = i;
        *(void **)a[1] = best < 0 ? NULL : entries[best];
        return best < 0 ? 500 : 0;
}

static enum export find(const char *export)
{
        int i = 0;

        while (strcmp(rows[i].export, export))
                i++;
        return (enum export)i;
}

static unsigned count(const char *export, uintptr_t ret_argument[11])
{
        enum export which = find(export);
        unsigned n;

        pthread_mutex_lock(&lock);
        n = n_calls[which];
        if (ret_argument)
                memcpy(ret_argument, last[which], sizeof last[which]);
        pthread_mutex_unlock(&lock);
        return n;
}

static void set(const char *export, fake_answer answer)
{
        pthread_mutex_lock(&lock);
        answers[find(export)] = answer;
        pthread_mutex_unlock(&lock);
}

static void manual(int on)
{
        pthread_mutex_lock(&lock);
        by_hand = on;
        pthread_mutex_unlock(&lock);
}

// The streams of the calling thread's context; 0: all of that handle's kind.
static void finish(uintptr_t handle)
{
        pthread_mutex_lock(&lock);
        for (struct stream *s = streams; s < streams + N_STREAMS; s++)
                if (handle > 2 ? (uintptr_t)s == handle : s->handle == (handle ? handle : 1))
                        s->done = s->submitted;
        pthread_cond_broadcast(&news);
        pthread_mutex_unlock(&lock);
}

static unsigned intrusions(void)
{
        unsigned n;

        pthread_mutex_lock(&lock);
        n = n_intrusions;
        pthread_mutex_unlock(&lock);
        return n;
}

EXPORT const struct fake fake_driver;
EXPORT const struct fake fake_driver = {count, set, manual, finish, intrusions};
