// Streams: places in a context's work. With more than one lane, what streams owe each other (the legacy
// stream's rule, events) becomes barriers of the device.
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "simgpu/driver.h"

#define NON_BLOCKING 1u

static __thread struct stream per_thread;

uint64_t stream_new_id(void)
{
        static uint64_t next = 16;

        return __atomic_fetch_add(&next, 1, __ATOMIC_RELAXED);
}

// The legacy stream has lane 0; the others share what is left, as hardware shares its queues.
static uint32_t take_lane(struct context *context)
{
        uint32_t n = context->sim->n_lanes;

        return n == 1 ? 0 : 1 + __atomic_fetch_add(&context->next_lane, 1, __ATOMIC_RELAXED) % (n - 1);
}

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
                per_thread = (struct stream){.context = context, .lane = take_lane(context)};
        return &per_thread;
}

// A fault on demand: the process dies with the device locked and half of a submission done.
static void die_if_told(struct sim_segment *sim)
{
        if (!sim->kill_pid || sim->kill_pid != (uint32_t)getpid())
                return;
        if (sim->kill_after--)
                return;
        sim->kill_pid = 0;
        kill(getpid(), SIGKILL);
}

// Holds the stream's next work up until all lanes have come so far. When the lane can hold no more barriers,
// the caller waits in its place. Called and left with the device locked.
static void bar(struct stream *stream, const uint64_t needed_ns[SIM_LANES_MAX])
{
        struct sim_segment *sim = stream->context->sim;
        uint32_t slot = stream->context->slot;

        while (sim->n_lanes > 1 && sim_device_bar(&sim->device, slot, stream->lane, needed_ns) == -EAGAIN) {
                const struct sim_lane *lane = &sim->device.context[slot].lane[stream->lane];
                uint64_t at_ns = lane->barrier[lane->first].at_ns + 1;

                sim_segment_unlock(sim);
                if (sim_segment_wait(sim, slot, stream->lane, at_ns, 0))
                        return sim_segment_lock(sim);
                sim_segment_lock(sim);
        }
}

// The legacy stream waits for all blocking streams, and they for it.
static void keep_legacy_rule(struct stream *stream)
{
        struct context *context = stream->context;
        uint64_t needed[SIM_LANES_MAX] = {context->legacy.position_ns};

        if (stream == &context->legacy)
                bar(stream, context->blocking_ns);
        else if (!(stream->flags & NON_BLOCKING))
                bar(stream, needed);
}

int stream_submit(struct stream *stream, uint64_t cost_ns)
{
        struct context *context = stream->context;
        struct sim_segment *sim = context->sim;
        uint64_t position;
        int lost;

        sim_segment_lock(sim);
        lost = sim->lost != 0;
        keep_legacy_rule(stream);
        position = sim_device_submit(&sim->device, context->slot, stream->lane, cost_ns);
        die_if_told(sim);
        stream->position_ns = context->position_ns[stream->lane] = position;
        if (!(stream->flags & NON_BLOCKING))
                context->blocking_ns[stream->lane] = position;
        sim_segment_unlock(sim);
        return lost ? UNKNOWN : SUCCESS;
}

// A copy takes its time beside the compute engine: it neither waits for other contexts' kernels nor keeps
// them waiting. It begins when the work before it is done (as far as that can be told now) and an engine is
// free.
int stream_copy(struct stream *stream, int engine, uint64_t cost_ns)
{
        struct sim_segment *sim = stream->context->sim;
        const struct sim_lane *lane = &sim->device.context[stream->context->slot].lane[stream->lane];
        uint64_t from;
        int lost;

        sim_segment_lock(sim);
        lost = sim->lost != 0;
        from = sim->device.now_ns;
        if (lane->done_ns < stream->position_ns)
                from += stream->position_ns - lane->done_ns;
        if (from < stream->copied_ns)
                from = stream->copied_ns;
        stream->copied_ns = sim_segment_copy(sim, engine, from, cost_ns);
        sim_segment_unlock(sim);
        return lost ? UNKNOWN : SUCCESS;
}

int work_wait(struct context *context, const uint64_t position_ns[SIM_LANES_MAX], uint64_t copied_ns,
              int spins)
{
        for (uint32_t i = 0; i < SIM_LANES_MAX; i++)
                if ((position_ns[i] || i == 0) &&
                    sim_segment_wait(context->sim, context->slot, i, position_ns[i], spins))
                        return UNKNOWN;
        sim_wait_until(copied_ns, spins);
        return SUCCESS;
}

int work_is_done(struct context *context, const uint64_t position_ns[SIM_LANES_MAX], uint64_t copied_ns)
{
        struct sim_segment *sim = context->sim;
        const struct sim_context *c = &sim->device.context[context->slot];
        int is_done, lost;

        sim_segment_lock(sim);
        is_done = sim->device.now_ns >= copied_ns;
        for (uint32_t i = 0; i < SIM_LANES_MAX; i++)
                is_done = is_done && c->lane[i].done_ns >= position_ns[i];
        lost = sim->lost != 0;
        sim_segment_unlock(sim);
        return lost ? UNKNOWN : is_done ? SUCCESS : NOT_READY;
}

int context_wait(struct context *context)
{
        uint64_t position[SIM_LANES_MAX];

        sim_segment_lock(context->sim); // other threads submit meanwhile
        memcpy(position, context->position_ns, sizeof position);
        sim_segment_unlock(context->sim);
        return work_wait(context, position, 0, context_spins(context));
}

// The legacy stream waits for all blocking streams; here, for everything.
void stream_positions(const struct stream *stream, uint64_t ret_position_ns[SIM_LANES_MAX])
{
        struct sim_segment *sim = stream->context->sim;

        sim_segment_lock(sim);
        if (stream == &stream->context->legacy) {
                memcpy(ret_position_ns, stream->context->position_ns, sizeof stream->context->position_ns);
        } else {
                memset(ret_position_ns, 0, SIM_LANES_MAX * sizeof *ret_position_ns);
                ret_position_ns[stream->lane] = stream->position_ns;
        }
        sim_segment_unlock(sim);
}

int stream_wait(struct stream *stream)
{
        uint64_t position[SIM_LANES_MAX];

        stream_positions(stream, position);
        return work_wait(stream->context, position, stream->copied_ns, context_spins(stream->context));
}

API cuStreamCreateWithPriority(struct stream **ret, unsigned flags, int priority)
{
        struct stream *stream;

        if (!context_current())
                return INVALID_CONTEXT;
        stream = calloc(1, sizeof *stream);
        stream->context = context_current();
        stream->lane = take_lane(stream->context);
        stream->flags = flags;
        stream->priority = priority;
        stream->id = stream_new_id();
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
        capture_leave(stream);
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
        uint64_t position[SIM_LANES_MAX];

        if (!stream)
                return INVALID_CONTEXT;
        if (stream->capture)
                return CAPTURE_UNSUPPORTED;
        stream_positions(stream, position);
        return work_is_done(stream->context, position, stream->copied_ns);
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
        *ret = stream ? stream->context->device : 0;
        return stream ? SUCCESS : INVALID_CONTEXT;
}

// Within one lane all is in order already.
static int wait_event(struct stream *stream, struct event *event, unsigned flags)
{
        (void)flags;
        if (!stream || !event)
                return INVALID_HANDLE;
        if (event->capture_id)
                return capture_join(stream, event->capture_id);
        if (!event->recorded || stream->capture)
                return SUCCESS;
        if (event->context != stream->context)
                return work_wait(event->context, event->position_ns, event->copied_ns, 0);
        if (stream->copied_ns < event->copied_ns)
                stream->copied_ns = event->copied_ns;
        sim_segment_lock(stream->context->sim);
        bar(stream, event->position_ns);
        sim_segment_unlock(stream->context->sim);
        return SUCCESS;
}

struct host_call {
        void (*fn)(void *);
        void *arg;
        struct context *context;
        uint64_t position_ns[SIM_LANES_MAX], copied_ns;
};

static void *call_host(void *arg)
{
        struct host_call call = *(struct host_call *)arg;

        free(arg);
        work_wait(call.context, call.position_ns, call.copied_ns, 0);
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
        *call = (struct host_call){fn, arg, stream->context, {0}, stream->copied_ns};
        stream_positions(stream, call->position_ns);
        if (pthread_create(&thread, NULL, call_host, call))
                return free(call), OUT_OF_MEMORY;
        pthread_detach(thread);
        return SUCCESS;
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
