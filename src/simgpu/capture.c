// Captures: a stream that begins one records its work into a graph instead of doing it, and draws in every
// stream that waits for an event of it.
#include "simgpu/driver.h"

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct stream *origins; // where captures began that go on
static int n_capturing;

int capture_active(void)
{
        return __atomic_load_n(&n_capturing, __ATOMIC_RELAXED);
}

static int begin_capture(struct stream *stream, int mode)
{
        (void)mode;
        if (!stream || stream->is_default)
                return CAPTURE_UNSUPPORTED;
        if (stream->capture)
                return INVALID_VALUE;
        pthread_mutex_lock(&lock);
        stream->capture = graph_new();
        stream->capture_id = stream_new_id();
        stream->is_origin = 1;
        stream->next_capturing = origins;
        origins = stream;
        pthread_mutex_unlock(&lock);
        __atomic_fetch_add(&n_capturing, 1, __ATOMIC_RELAXED);
        return SUCCESS;
}

static void take_out(struct stream **list, const struct stream *stream)
{
        for (; *list; list = &(*list)->next_capturing)
                if (*list == stream) {
                        *list = stream->next_capturing;
                        return;
                }
}

// The streams drawn in are free again. The graph is the caller's.
static struct graph *finish(struct stream *origin)
{
        struct graph *graph = origin->capture;

        take_out(&origins, origin);
        for (struct stream *s = origin->joined; s; s = s->next_capturing)
                s->capture = NULL;
        origin->joined = NULL;
        origin->capture = NULL;
        origin->is_origin = 0;
        __atomic_fetch_sub(&n_capturing, 1, __ATOMIC_RELAXED);
        return graph;
}

static int end_capture(struct stream *stream, struct graph **ret)
{
        if (!stream || !stream->capture || !stream->is_origin)
                return CAPTURE_UNMATCHED;
        pthread_mutex_lock(&lock);
        *ret = finish(stream);
        pthread_mutex_unlock(&lock);
        return SUCCESS;
}

static struct stream *origin_of(uint64_t id)
{
        struct stream *s = origins;

        while (s && s->capture_id != id)
                s = s->next_capturing;
        return s;
}

int capture_join(struct stream *stream, uint64_t id)
{
        int error = SUCCESS;
        struct stream *origin;

        pthread_mutex_lock(&lock);
        origin = origin_of(id);
        if (!origin) {
                error = INVALID_VALUE; // that capture is over
        } else if (stream->capture) {
                error = stream->capture_id == id ? SUCCESS : CAPTURE_MERGE;
        } else {
                stream->capture = origin->capture;
                stream->capture_id = id;
                stream->next_capturing = origin->joined;
                origin->joined = stream;
        }
        pthread_mutex_unlock(&lock);
        return error;
}

void capture_leave(struct stream *stream)
{
        struct stream *origin;

        if (!stream->capture)
                return;
        pthread_mutex_lock(&lock);
        origin = origin_of(stream->capture_id);
        if (stream->is_origin)
                graph_free(finish(stream));
        else if (origin)
                take_out(&origin->joined, stream);
        pthread_mutex_unlock(&lock);
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
