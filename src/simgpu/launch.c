// Submissions: kernels, copies and memsets. Copies and memsets are done at once in host memory, and take
// their time on the device: kernels compute nothing, so nothing that the device does later could change what
// they read.
#include <string.h>
#include "simgpu/driver.h"

static int launch(const struct function *f, const unsigned grid[3], const unsigned block[3], unsigned shared,
                  struct stream *stream, void **params)
{
        struct graph_node *node;
        uint64_t cost;

        if (!f || !stream)
                return INVALID_HANDLE;
        if (!grid[0] || !grid[1] || !grid[2] || !block[0] || (uint64_t)block[0] * block[1] * block[2] > 1024)
                return INVALID_VALUE;
        cost = cost_of_kernel(f, grid, block);
        if (!stream->capture)
                return stream_submit(stream, cost);
        node = graph_add(stream->capture, 0);
        node->function = f;
        memcpy(node->grid, grid, sizeof node->grid);
        memcpy(node->block, block, sizeof node->block);
        node->shared = shared;
        node->params = params;
        node->cost_ns = cost;
        return SUCCESS;
}

#define LAUNCH(name, stream_expression)                                                                      \
        API name(const struct function *f, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by,  \
                 unsigned bz, unsigned shared, struct stream *stream, void **params, void **extra)           \
        {                                                                                                    \
                (void)extra;                                                                                 \
                return launch(f, (unsigned[]){gx, gy, gz}, (unsigned[]){bx, by, bz}, shared,                 \
                              stream_of(stream_expression), params);                                         \
        }

LAUNCH(cuLaunchKernel, stream)
LAUNCH(cuLaunchKernel_ptsz, stream ? stream : STREAM_PER_THREAD)

#define LAUNCH_COOPERATIVE(name, stream_expression)                                                          \
        API name(const struct function *f, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by,  \
                 unsigned bz, unsigned shared, struct stream *stream, void **params)                         \
        {                                                                                                    \
                return launch(f, (unsigned[]){gx, gy, gz}, (unsigned[]){bx, by, bz}, shared,                 \
                              stream_of(stream_expression), params);                                         \
        }

LAUNCH_COOPERATIVE(cuLaunchCooperativeKernel, stream)
LAUNCH_COOPERATIVE(cuLaunchCooperativeKernel_ptsz, stream ? stream : STREAM_PER_THREAD)

// CUlaunchConfig
struct launch_config {
        unsigned grid[3], block[3], shared;
        struct stream *stream;
        void *attributes;
        unsigned n_attributes;
};

API cuLaunchKernelEx(const struct launch_config *c, const struct function *f, void **params, void **extra)
{
        (void)extra;
        return launch(f, c->grid, c->block, c->shared, stream_of(c->stream), params);
}

API cuLaunchKernelEx_ptsz(const struct launch_config *c, const struct function *f, void **params,
                          void **extra)
{
        (void)extra;
        return launch(f, c->grid, c->block, c->shared, stream_of(c->stream ? c->stream : STREAM_PER_THREAD),
                      params);
}

static int copy(void *to, const void *from, size_t size, struct stream *stream, int engine, int wait)
{
        struct graph_node *node;
        int error;

        if (!stream)
                return INVALID_CONTEXT;
        if (stream->capture) {
                node = graph_add(stream->capture, 1);
                node->to = to;
                node->from = from;
                node->size = size;
                node->cost_ns = cost_of_copy(size, engine == SIM_ENGINE_WITHIN);
                return SUCCESS;
        }
        if (size)
                memmove(to, from, size);
        error = stream_copy(stream, engine, cost_of_copy(size, engine == SIM_ENGINE_WITHIN));
        return error || !wait ? error : stream_wait(stream);
}

#define COPY(name, to_type, from_type, engine)                                                               \
        API name##_v2(to_type to, from_type from, size_t size)                                               \
        {                                                                                                    \
                return copy(to, from, size, stream_of(NULL), engine, 1);                                     \
        }                                                                                                    \
        API name##_v2_ptds(to_type to, from_type from, size_t size)                                          \
        {                                                                                                    \
                return copy(to, from, size, stream_of(STREAM_PER_THREAD), engine, 1);                        \
        }                                                                                                    \
        API name##Async_v2(to_type to, from_type from, size_t size, struct stream *stream)                   \
        {                                                                                                    \
                return copy(to, from, size, stream_of(stream), engine, 0);                                   \
        }                                                                                                    \
        API name##Async_v2_ptsz(to_type to, from_type from, size_t size, struct stream *stream)              \
        {                                                                                                    \
                return copy(to, from, size, stream_of(stream ? stream : STREAM_PER_THREAD), engine, 0);      \
        }

COPY(cuMemcpyHtoD, void *, const void *, SIM_ENGINE_IN)
COPY(cuMemcpyDtoH, void *, const void *, SIM_ENGINE_OUT)
COPY(cuMemcpyDtoD, void *, const void *, SIM_ENGINE_WITHIN)

static int engine_of(const void *to, const void *from)
{
        if (!memory_is_device(to))
                return SIM_ENGINE_OUT;
        return memory_is_device(from) ? SIM_ENGINE_WITHIN : SIM_ENGINE_IN;
}

API cuMemcpy(void *to, const void *from, size_t size)
{
        return copy(to, from, size, stream_of(NULL), engine_of(to, from), 1);
}

API cuMemcpy_ptds(void *to, const void *from, size_t size)
{
        return copy(to, from, size, stream_of(STREAM_PER_THREAD), engine_of(to, from), 1);
}

API cuMemcpyAsync(void *to, const void *from, size_t size, struct stream *stream)
{
        return copy(to, from, size, stream_of(stream), engine_of(to, from), 0);
}

API cuMemcpyAsync_ptsz(void *to, const void *from, size_t size, struct stream *stream)
{
        return copy(to, from, size, stream_of(stream ? stream : STREAM_PER_THREAD), engine_of(to, from), 0);
}

API cuMemcpyPeerAsync(void *to, void *a, const void *from, void *b, size_t size, struct stream *stream)
{
        (void)a, (void)b;
        return copy(to, from, size, stream_of(stream), SIM_ENGINE_WITHIN, 0);
}

API cuMemcpyPeerAsync_ptsz(void *to, void *a, const void *from, void *b, size_t size, struct stream *stream)
{
        return cuMemcpyPeerAsync(to, a, from, b, size, stream ? stream : STREAM_PER_THREAD);
}

// CUDA_MEMCPY2D; types of memory: 1 host, 2 device, 4 unified
struct copy_2d {
        size_t from_x, from_y;
        int from_type;
        const void *from_host;
        const char *from_device;
        void *from_array;
        size_t from_pitch;
        size_t to_x, to_y;
        int to_type;
        void *to_host;
        char *to_device;
        void *to_array;
        size_t to_pitch;
        size_t width, height;
};

static int copy_2d(const struct copy_2d *c, struct stream *stream, int wait)
{
        const char *from = c->from_type == 1 ? c->from_host : c->from_device;
        char *to = c->to_type == 1 ? c->to_host : c->to_device;
        int engine = c->to_type == 1 ? SIM_ENGINE_OUT : c->from_type == 1 ? SIM_ENGINE_IN : SIM_ENGINE_WITHIN;
        int error;

        if (!stream)
                return INVALID_CONTEXT;
        if (!from || !to)
                return NOT_SUPPORTED;
        for (size_t row = 0; row < c->height; row++)
                memmove(to + (c->to_y + row) * c->to_pitch + c->to_x,
                        from + (c->from_y + row) * c->from_pitch + c->from_x, c->width);
        error = stream_copy(stream, engine, cost_of_copy(c->width * c->height, engine == SIM_ENGINE_WITHIN));
        return error || !wait ? error : stream_wait(stream);
}

API cuMemcpy2DAsync_v2(const struct copy_2d *c, struct stream *stream)
{
        return copy_2d(c, stream_of(stream), 0);
}

API cuMemcpy2DAsync_v2_ptsz(const struct copy_2d *c, struct stream *stream)
{
        return copy_2d(c, stream_of(stream ? stream : STREAM_PER_THREAD), 0);
}

API cuMemcpy2D_v2(const struct copy_2d *c)
{
        return copy_2d(c, stream_of(NULL), 1);
}

API cuMemcpy2DUnaligned_v2(const struct copy_2d *c)
{
        return copy_2d(c, stream_of(NULL), 1);
}

static int fill(void *to, uint64_t value, unsigned width, size_t n, struct stream *stream)
{
        struct graph_node *node;

        if (!stream)
                return INVALID_CONTEXT;
        if (stream->capture) {
                node = graph_add(stream->capture, 2);
                node->to = to;
                node->value = value;
                node->size = n;
                node->width = width;
                node->cost_ns = cost_of_copy(n * width, 1);
                return SUCCESS;
        }
        memory_fill(to, value, width, n);
        return stream_copy(stream, SIM_ENGINE_WITHIN, cost_of_copy(n * width, 1));
}

#define FILL(bits, type)                                                                                     \
        API cuMemsetD##bits##_v2(void *to, type value, size_t n)                                             \
        {                                                                                                    \
                return fill(to, value, bits / 8, n, stream_of(NULL));                                        \
        }                                                                                                    \
        API cuMemsetD##bits##_v2_ptds(void *to, type value, size_t n)                                        \
        {                                                                                                    \
                return fill(to, value, bits / 8, n, stream_of(STREAM_PER_THREAD));                           \
        }                                                                                                    \
        API cuMemsetD##bits##Async(void *to, type value, size_t n, struct stream *stream)                    \
        {                                                                                                    \
                return fill(to, value, bits / 8, n, stream_of(stream));                                      \
        }                                                                                                    \
        API cuMemsetD##bits##Async_ptsz(void *to, type value, size_t n, struct stream *stream)               \
        {                                                                                                    \
                return fill(to, value, bits / 8, n, stream_of(stream ? stream : STREAM_PER_THREAD));         \
        }

FILL(8, unsigned char)
FILL(16, unsigned short)
FILL(32, unsigned)

#define PREFETCH(name)                                                                                       \
        API name(void *pointer, size_t size, int device, struct stream *stream)                              \
        {                                                                                                    \
                (void)pointer, (void)size, (void)device;                                                     \
                return stream_of(stream) ? SUCCESS : INVALID_CONTEXT;                                        \
        }

PREFETCH(cuMemPrefetchAsync)
PREFETCH(cuMemPrefetchAsync_ptsz)
