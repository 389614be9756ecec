// Streams and events: places in a context's work.
#include <stdlib.h>
#include <string.h>
#include "simgpu/driver.h"

static uint64_t next_id = 16;
static int n_capturing;
static __thread struct stream per_thread;

struct stream *stream_of(struct stream *handle)
{
        struct context *context = context_current();

        if (handle > STREAM_PER_THREAD)
                return handle;
        if (!context)
                return NULL;
        if (handle != STREAM_PER_THREAD)
                return &context->legacy;
        if (per_thread.context != context)
                per_thread = (struct stream){.context = context, .is_default = 1};
        return &per_thread;
}

int stream_submit(struct stream *stream, uint64_t cost_ns)
{
        struct context *context = stream->context;
        int lost;

        sim_segment_lock(sim);
        lost = sim->lost != 0;
        sim->device.context[context->slot].submitted_ns += cost_ns;
        context->position_ns = stream->position_ns = sim->device.context[context->slot].submitted_ns;
        sim_segment_unlock(sim);
        return lost ? UNKNOWN : SUCCESS;
}

// A copy takes its time beside the compute engine: it neither waits for other contexts nor keeps them
// waiting. It begins when the work before it is done (as far as that can be told now).
int stream_copy(struct stream *stream, uint64_t cost_ns)
{
        const struct sim_context *context = &sim->device.context[stream->context->slot];
        uint64_t from;
        int lost;

        sim_segment_lock(sim);
        lost = sim->lost != 0;
        from = sim->device.now_ns;
        if (context->done_ns < stream->position_ns)
                from += stream->position_ns - context->done_ns;
        sim_segment_unlock(sim);
        stream->copied_ns = (stream->copied_ns > from ? stream->copied_ns : from) + cost_ns;
        return lost ? UNKNOWN : SUCCESS;
}

static int wait(struct context *context, uint64_t position_ns)
{
        return sim_segment_wait(sim, context->slot, position_ns) ? UNKNOWN : SUCCESS;
}

int context_wait(struct context *context)
{
        return wait(context, context->position_ns);
}

// The legacy stream waits for all blocking streams; here, for everything.
int stream_wait(struct stream *stream)
{
        int error = wait(stream->context, stream == &stream->context->legacy ? stream->context->position_ns
                                                                             : stream->position_ns);

        if (!error)
                sim_sleep_until(stream->copied_ns);
        return error;
}

static int done(struct context *context, uint64_t position_ns)
{
        int is_done, lost;

        sim_segment_lock(sim);
        is_done = sim->device.context[context->slot].done_ns >= position_ns;
        lost = sim->lost != 0;
        sim_segment_unlock(sim);
        return lost ? UNKNOWN : is_done ? SUCCESS : NOT_READY;
}

API cuStreamCreateWithPriority(struct stream **ret, unsigned flags, int priority)
{
        struct stream *stream;

        if (!context_current())
                return INVALID_CONTEXT;
        stream = calloc(1, sizeof *stream);
        stream->context = context_current();
        stream->flags = flags;
        stream->priority = priority;
        stream->id = __atomic_fetch_add(&next_id, 1, __ATOMIC_RELAXED);
        *ret = stream;
        return SUCCESS;
}

API cuStreamCreate(struct stream **ret, unsigned flags)
{
        return cuStreamCreateWithPriority(ret, flags, 0);
}

API cuStreamDestroy_v2(struct stream *stream)
{
        if (stream <= STREAM_PER_THREAD)
                return INVALID_HANDLE;
        free(stream);
        return SUCCESS;
}

API cuStreamDestroy(struct stream *stream)
{
        return cuStreamDestroy_v2(stream);
}

static int synchronize(struct stream *stream)
{
        if (!stream)
                return INVALID_CONTEXT;
        return stream->capture ? CAPTURE_UNSUPPORTED : stream_wait(stream);
}

static int query(struct stream *stream)
{
        if (!stream)
                return INVALID_CONTEXT;
        return stream->capture ? CAPTURE_UNSUPPORTED : done(stream->context, stream->position_ns);
}

static int get_context(struct stream *stream, struct context **ret)
{
        if (!stream)
                return INVALID_CONTEXT;
        *ret = stream->context;
        return SUCCESS;
}

static int get_id(struct stream *stream, uint64_t *ret)
{
        if (!stream)
                return INVALID_CONTEXT;
        *ret = stream->id;
        return SUCCESS;
}

static int get_flags(struct stream *stream, unsigned *ret)
{
        *ret = stream ? stream->flags : 0;
        return SUCCESS;
}

static int get_priority(struct stream *stream, int *ret)
{
        *ret = stream ? stream->priority : 0;
        return SUCCESS;
}

static int get_device(struct stream *stream, int *ret)
{
        *ret = 0;
        return stream ? SUCCESS : INVALID_CONTEXT;
}

// What waits for work of the same context is in order already.
static int wait_event(struct stream *stream, struct event *event, unsigned flags)
{
        (void)flags;
        if (!stream || !event)
                return INVALID_HANDLE;
        if (event->context != stream->context && event->recorded)
                return wait(event->context, event->position_ns);
        return SUCCESS;
}

struct host_call {
        void (*fn)(void *);
        void *arg;
        struct context *context;
        uint64_t position_ns;
};

static void *call_host(void *arg)
{
        struct host_call call = *(struct host_call *)arg;

        free(arg);
        wait(call.context, call.position_ns);
        call.fn(call.arg);
        return NULL;
}

static int host_function(struct stream *stream, void (*fn)(void *), void *arg)
{
        struct host_call *call;
        pthread_t thread;

        if (!stream || !fn)
                return INVALID_VALUE;
        if (stream->capture) {
                struct graph_node *node = graph_add(stream->capture, 3);

                node->host = fn;
                node->host_arg = arg;
                return SUCCESS;
        }
        call = malloc(sizeof *call);
        *call = (struct host_call){fn, arg, stream->context, stream->position_ns};
        if (pthread_create(&thread, NULL, call_host, call))
                return free(call), OUT_OF_MEMORY;
        pthread_detach(thread);
        return SUCCESS;
}

static int begin_capture(struct stream *stream, int mode)
{
        (void)mode;
        if (!stream || stream->is_default)
                return CAPTURE_UNSUPPORTED;
        if (stream->capture)
                return INVALID_VALUE;
        stream->capture = graph_new();
        stream->capture_id = __atomic_fetch_add(&next_id, 1, __ATOMIC_RELAXED);
        __atomic_fetch_add(&n_capturing, 1, __ATOMIC_RELAXED);
        return SUCCESS;
}

static int end_capture(struct stream *stream, struct graph **ret)
{
        if (!stream || !stream->capture)
                return CAPTURE_UNMATCHED;
        *ret = stream->capture;
        stream->capture = NULL;
        __atomic_fetch_sub(&n_capturing, 1, __ATOMIC_RELAXED);
        return SUCCESS;
}

int capture_active(void)
{
        return __atomic_load_n(&n_capturing, __ATOMIC_RELAXED);
}

static int is_capturing(struct stream *stream, int *ret)
{
        if (!stream)
                return INVALID_CONTEXT;
        *ret = stream->capture != NULL;
        return SUCCESS;
}

static int capture_info(struct stream *stream, int *status, uint64_t *id)
{
        if (!stream)
                return INVALID_CONTEXT;
        *status = stream->capture != NULL;
        if (id)
                *id = stream->capture_id;
        return SUCCESS;
}

static int capture_info_2(struct stream *stream, int *status, uint64_t *id, struct graph **graph,
                          const void **nodes, size_t *n)
{
        int error = capture_info(stream, status, id);

        if (error)
                return error;
        if (graph)
                *graph = stream->capture;
        if (nodes && stream->capture)
                *nodes = stream->capture->n ? &stream->capture->node[stream->capture->n - 1] : NULL;
        if (n)
                *n = stream->capture && stream->capture->n ? 1 : 0;
        return SUCCESS;
}

static int capture_info_3(struct stream *stream, int *status, uint64_t *id, struct graph **graph,
                          const void **nodes, const void **edges, size_t *n)
{
        if (edges)
                *edges = NULL;
        return capture_info_2(stream, status, id, graph, nodes, n);
}

// Each function and its per-thread variant, for which stream 0 is the calling thread's own.
#define BOTH(name, fn, params, args)                                                                         \
        API name params                                                                                      \
        {                                                                                                    \
                stream = stream_of(stream);                                                                  \
                return fn args;                                                                              \
        }                                                                                                    \
        API name##_ptsz params                                                                               \
        {                                                                                                    \
                stream = stream_of(stream ? stream : STREAM_PER_THREAD);                                     \
                return fn args;                                                                              \
        }

BOTH(cuStreamSynchronize, synchronize, (struct stream * stream), (stream))
BOTH(cuStreamQuery, query, (struct stream * stream), (stream))
BOTH(cuStreamGetCtx, get_context, (struct stream * stream, struct context **ret), (stream, ret))
BOTH(cuStreamGetId, get_id, (struct stream * stream, uint64_t *ret), (stream, ret))
BOTH(cuStreamGetFlags, get_flags, (struct stream * stream, unsigned *ret), (stream, ret))
BOTH(cuStreamGetPriority, get_priority, (struct stream * stream, int *ret), (stream, ret))
BOTH(cuStreamGetDevice, get_device, (struct stream * stream, int *ret), (stream, ret))
BOTH(cuStreamWaitEvent, wait_event, (struct stream * stream, struct event *event, unsigned flags),
     (stream, event, flags))
BOTH(cuLaunchHostFunc, host_function, (struct stream * stream, void (*fn)(void *), void *arg),
     (stream, fn, arg))
BOTH(cuStreamBeginCapture, begin_capture, (struct stream * stream), (stream, 0))
BOTH(cuStreamBeginCapture_v2, begin_capture, (struct stream * stream, int mode), (stream, mode))
BOTH(cuStreamEndCapture, end_capture, (struct stream * stream, struct graph **ret), (stream, ret))
BOTH(cuStreamIsCapturing, is_capturing, (struct stream * stream, int *ret), (stream, ret))
BOTH(cuStreamGetCaptureInfo, capture_info, (struct stream * stream, int *status, uint64_t *id),
     (stream, status, id))
BOTH(cuStreamGetCaptureInfo_v2, capture_info_2,
     (struct stream * stream, int *status, uint64_t *id, struct graph **graph, const void **nodes, size_t *n),
     (stream, status, id, graph, nodes, n))
BOTH(cuStreamGetCaptureInfo_v3, capture_info_3,
     (struct stream * stream, int *status, uint64_t *id, struct graph **graph, const void **nodes,
      const void **edges, size_t *n),
     (stream, status, id, graph, nodes, edges, n))

API cuThreadExchangeStreamCaptureMode(int *mode)
{
        static __thread int current;
        int old = current;

        current = *mode;
        *mode = old;
        return SUCCESS;
}

API cuEventCreate(struct event **ret, unsigned flags)
{
        if (!context_current())
                return INVALID_CONTEXT;
        *ret = calloc(1, sizeof **ret);
        (*ret)->context = context_current();
        (*ret)->flags = flags;
        return SUCCESS;
}

API cuEventDestroy_v2(struct event *event)
{
        free(event);
        return SUCCESS;
}

API cuEventDestroy(struct event *event)
{
        return cuEventDestroy_v2(event);
}

static int record(struct event *event, struct stream *stream, unsigned flags)
{
        (void)flags;
        if (!event || !stream)
                return INVALID_HANDLE;
        if (stream->capture)
                return graph_add(stream->capture, 5), SUCCESS;
        event->context = stream->context;
        event->position_ns =
                stream == &stream->context->legacy ? stream->context->position_ns : stream->position_ns;
        event->recorded = 1;
        return SUCCESS;
}

#define BOTH_EVENT(name, params, args)                                                                       \
        API name params                                                                                      \
        {                                                                                                    \
                stream = stream_of(stream);                                                                  \
                return record args;                                                                          \
        }                                                                                                    \
        API name##_ptsz params                                                                               \
        {                                                                                                    \
                stream = stream_of(stream ? stream : STREAM_PER_THREAD);                                     \
                return record args;                                                                          \
        }

BOTH_EVENT(cuEventRecord, (struct event * event, struct stream *stream), (event, stream, 0))
BOTH_EVENT(cuEventRecordWithFlags, (struct event * event, struct stream *stream, unsigned flags),
           (event, stream, flags))

API cuEventSynchronize(struct event *event)
{
        return event->recorded ? wait(event->context, event->position_ns) : SUCCESS;
}

API cuEventQuery(struct event *event)
{
        return event->recorded ? done(event->context, event->position_ns) : SUCCESS;
}

// In device work rather than wall time: what lies between the two in the context's own queue.
API cuEventElapsedTime(float *ms, struct event *start, struct event *end)
{
        if (!start->recorded || !end->recorded)
                return INVALID_HANDLE;
        if (cuEventQuery(end) || cuEventQuery(start))
                return NOT_READY;
        *ms = (float)((double)end->position_ns - (double)start->position_ns) / 1e6f;
        return SUCCESS;
}

API cuEventElapsedTime_v2(float *ms, struct event *start, struct event *end)
{
        return cuEventElapsedTime(ms, start, end);
}
