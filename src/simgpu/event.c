// Events: a place in a stream, to be waited for.
#include <pthread.h>
#include <stdlib.h>
#include "simgpu/driver.h"

// One thread may record an event again while another waits for it: who waits does so for the place that it
// was when the wait began.
static pthread_mutex_t places = PTHREAD_MUTEX_INITIALIZER;

static struct event place_of(const struct event *event)
{
        struct event place;

        pthread_mutex_lock(&places);
        place = *event;
        pthread_mutex_unlock(&places);
        return place;
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

// A stream that has nothing to do is not in the past, where its last work was: times count from here.
static void begin_now(struct event *event)
{
        uint64_t *position = &event->position_ns[event->lane], done;
        struct sim_segment *sim = event->context->sim;

        sim_segment_lock(sim);
        done = sim->device.context[event->context->slot].lane[event->lane].done_ns;
        sim_segment_unlock(sim);
        if (*position < done)
                *position = done;
}

static int record(struct event *event, struct stream *stream, unsigned flags)
{
        (void)flags;
        if (!event || !stream)
                return INVALID_HANDLE;
        if (event->context != stream->context)
                return INVALID_HANDLE;
        if (stream->capture)
                graph_add(stream->capture, 5);
        pthread_mutex_lock(&places);
        event->capture_id = stream->capture ? stream->capture_id : 0;
        if (!stream->capture) {
                event->lane = stream->lane;
                event->copied_ns = stream->copied_ns;
                stream_positions(stream, event->position_ns);
                begin_now(event);
                event->recorded = 1;
        }
        pthread_mutex_unlock(&places);
        return SUCCESS;
}

BOTH(cuEventRecord, record, (struct event * event, struct stream *stream), (event, stream, 0))
BOTH(cuEventRecordWithFlags, record, (struct event * event, struct stream *stream, unsigned flags),
     (event, stream, flags))

API cuEventSynchronize(struct event *event)
{
        const struct event place = place_of(event);

        if (!place.recorded)
                return SUCCESS;
        return work_wait(place.context, place.position_ns, place.copied_ns,
                         !(place.flags & EVENT_BLOCKING_SYNC) && context_spins(place.context));
}

API cuEventQuery(struct event *event)
{
        const struct event place = place_of(event);

        return place.recorded ? work_is_done(place.context, place.position_ns, place.copied_ns) : SUCCESS;
}

// In device work rather than wall time: what lies between the two in the context's own queue. Between streams
// that overlap there is no such thing: the end's stream is asked.
API cuEventElapsedTime(float *ms, struct event *start, struct event *end)
{
        const struct event from = place_of(start), to = place_of(end);

        if (!from.recorded || !to.recorded)
                return INVALID_HANDLE;
        if (cuEventQuery(end) || cuEventQuery(start))
                return NOT_READY;
        *ms = (float)((double)to.position_ns[to.lane] - (double)from.position_ns[to.lane]) / 1e6f;
        return SUCCESS;
}

API cuEventElapsedTime_v2(float *ms, struct event *start, struct event *end)
{
        return cuEventElapsedTime(ms, start, end);
}
