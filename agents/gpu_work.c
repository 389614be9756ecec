#include "gpu_work.h"
#include <dlfcn.h>
#include <stddef.h>
#include "base/clock.h"
#include "base/time.h"

#define THREADS 256
#define ROUNDS 32 // of 8 multiplications: some microseconds a wave
#define GRAPHS_MAX 8
#define WARM_NS (200 * TAKT_MS) // until the clocks are up
#define LAUNCHES 32
#define REPEATS 7
#define MULTIPROCESSORS 16 // CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT
#define NON_BLOCKING 1     // CU_STREAM_NON_BLOCKING

#define STEP "fma.rn.f32 %f1, %f1, 0f3F7FFF00, 0f3A83126F;\n"

// The store never happens, since the value stays positive; but the compiler cannot know, and so must compute
// it.
static const char ptx[] = ".version 5.0\n.target sm_50\n.address_size 64\n"
                          ".visible .entry work(.param .u64 out, .param .u32 rounds)\n{\n"
                          ".reg .pred %p<3>;\n.reg .f32 %f<2>;\n.reg .u32 %r<3>;\n.reg .u64 %d<2>;\n"
                          "ld.param.u64 %d1, [out];\nld.param.u32 %r1, [rounds];\n"
                          "mov.u32 %r2, %tid.x;\ncvt.rn.f32.u32 %f1, %r2;\n"
                          "again:\n" STEP STEP STEP STEP STEP STEP STEP STEP
                          "sub.u32 %r1, %r1, 1;\nsetp.ne.u32 %p1, %r1, 0;\n@%p1 bra again;\n"
                          "setp.lt.f32 %p2, %f1, 0f00000000;\n@%p2 st.global.f32 [%d1], %f1;\nret;\n}\n";

#define FUNCTIONS(F)                                                                                         \
        F(cuInit, (unsigned))                                                                                \
        F(cuDriverGetVersion, (int *))                                                                       \
        F(cuDeviceGet, (int *, int))                                                                         \
        F(cuDeviceGetAttribute, (int *, int, int))                                                           \
        F(cuDeviceTotalMem_v2, (size_t *, int))                                                              \
        F(cuDevicePrimaryCtxRetain, (void **, int))                                                          \
        F(cuCtxSetCurrent, (void *))                                                                         \
        F(cuModuleLoadData, (void **, const void *))                                                         \
        F(cuModuleGetFunction, (void **, void *, const char *))                                              \
        F(cuOccupancyMaxActiveBlocksPerMultiprocessor, (int *, void *, int, size_t))                         \
        F(cuMemAlloc_v2, (uint64_t *, size_t))                                                               \
        F(cuStreamCreate, (void **, unsigned))                                                               \
        F(cuStreamSynchronize, (void *))                                                                     \
        F(cuEventCreate, (void **, unsigned))                                                                \
        F(cuEventRecord, (void *, void *))                                                                   \
        F(cuEventSynchronize, (void *))                                                                      \
        F(cuEventElapsedTime, (float *, void *, void *))                                                     \
        F(cuLaunchKernel, (void *, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned,     \
                           void *, void **, void **))                                                        \
        F(cuStreamBeginCapture_v2, (void *, int))                                                            \
        F(cuStreamEndCapture, (void *, void **))                                                             \
        F(cuGraphInstantiateWithFlags, (void **, void *, unsigned long long))                                \
        F(cuGraphLaunch, (void *, void *))

static struct {
#define POINTER(name, parameters) int(*name) parameters;
        FUNCTIONS(POINTER)
} cu;

static struct {
        int device, version;
        size_t memory_bytes;
        unsigned wave_blocks;
        void *kernel, *stream, *from, *to, *mark[GPU_MARKS];
        uint64_t out;
        uint32_t rounds;
        struct gpu_cost cost;
} gpu = {.rounds = ROUNDS};

static struct graph {
        double ns;
        unsigned n;
        void *exec;
} graphs[GRAPHS_MAX];
static int n_graphs;

// Evaluates each call in turn, and returns the first error.
#define TRY(call)                                                                                            \
        do {                                                                                                 \
                int error_ = (call);                                                                         \
                if (error_)                                                                                  \
                        return error_;                                                                       \
        } while (0)

static int find_functions(void)
{
        void *library = dlopen("libcuda.so.1", RTLD_NOW);
        int missing = !library;

#define FIND(name, parameters)                                                                               \
        if (library)                                                                                         \
                missing |= !(cu.name = (int(*) parameters)dlsym(library, #name));
        FUNCTIONS(FIND)
        return missing ? GPU_ABSENT : 0;
}

static int open_kernel(void)
{
        int multiprocessors, blocks;
        void *module;

        TRY(cu.cuModuleLoadData(&module, ptx));
        TRY(cu.cuModuleGetFunction(&gpu.kernel, module, "work"));
        TRY(cu.cuMemAlloc_v2(&gpu.out, sizeof(float)));
        TRY(cu.cuDeviceGetAttribute(&multiprocessors, MULTIPROCESSORS, gpu.device));
        TRY(cu.cuOccupancyMaxActiveBlocksPerMultiprocessor(&blocks, gpu.kernel, THREADS, 0));
        gpu.wave_blocks = (unsigned)multiprocessors * (unsigned)blocks;
        return 0;
}

int gpu_open(void)
{
        void *context;

        TRY(find_functions());
        TRY(cu.cuInit(0));
        TRY(cu.cuDriverGetVersion(&gpu.version));
        TRY(cu.cuDeviceGet(&gpu.device, 0));
        TRY(cu.cuDeviceTotalMem_v2(&gpu.memory_bytes, gpu.device));
        TRY(cu.cuDevicePrimaryCtxRetain(&context, gpu.device));
        TRY(cu.cuCtxSetCurrent(context));
        TRY(open_kernel());
        TRY(cu.cuStreamCreate(&gpu.stream, NON_BLOCKING));
        TRY(cu.cuEventCreate(&gpu.from, 0));
        TRY(cu.cuEventCreate(&gpu.to, 0));
        for (int i = 0; i < GPU_MARKS; i++)
                TRY(cu.cuEventCreate(&gpu.mark[i], 0));
        return 0;
}

uint64_t gpu_memory_bytes(void)
{
        return gpu.memory_bytes;
}

int gpu_driver_version(void)
{
        return gpu.version;
}

static int launch(unsigned waves)
{
        void *parameters[] = {&gpu.out, &gpu.rounds};

        return cu.cuLaunchKernel(gpu.kernel, waves * gpu.wave_blocks, 1, 1, THREADS, 1, 1, 0, gpu.stream,
                                 parameters, NULL);
}

// The shortest of some runs: whatever comes between makes it only longer.
static int measure(unsigned waves, double *ret_ns)
{
        float ms, best = 0;

        for (int repeat = 0; repeat < REPEATS; repeat++) {
                TRY(cu.cuEventRecord(gpu.from, gpu.stream));
                for (int i = 0; i < LAUNCHES; i++)
                        TRY(launch(waves));
                TRY(cu.cuEventRecord(gpu.to, gpu.stream));
                TRY(cu.cuEventSynchronize(gpu.to));
                TRY(cu.cuEventElapsedTime(&ms, gpu.from, gpu.to));
                if (repeat == 0 || ms < best)
                        best = ms;
        }
        *ret_ns = (double)best * 1e6 / LAUNCHES;
        return 0;
}

int gpu_calibrate(struct gpu_cost *ret)
{
        uint64_t warm = takt_clock_now() + WARM_NS;
        double few, many;

        while (takt_clock_now() < warm)
                TRY(measure(16, &few));
        TRY(measure(16, &few));
        TRY(measure(48, &many));
        if (!(many > few * 1.5))
                return GPU_UNEVEN;
        ret->wave_ns = (many - few) / 32;
        ret->launch_ns = few - 16 * ret->wave_ns;
        if (ret->launch_ns < 0)
                ret->launch_ns = 0;
        return 0;
}

void gpu_use(struct gpu_cost cost)
{
        gpu.cost = cost;
}

// As many waves as n launches of ns in all are made of: at least one each.
static uint64_t waves_of(double ns, unsigned n)
{
        double waves = (ns - n * gpu.cost.launch_ns) / gpu.cost.wave_ns + .5;

        return waves > n ? (uint64_t)waves : n;
}

double gpu_length_ns(double ns, unsigned n)
{
        return n * gpu.cost.launch_ns + (double)waves_of(ns, n) * gpu.cost.wave_ns;
}

int gpu_launch(double ns, unsigned n)
{
        uint64_t waves = waves_of(ns, n);

        for (unsigned i = 0; i < n; i++)
                TRY(launch((unsigned)(waves * (i + 1) / n - waves * i / n)));
        return 0;
}

static int make_graph(struct graph *g, double ns, unsigned n)
{
        void *graph;

        TRY(cu.cuStreamBeginCapture_v2(gpu.stream, 0));
        TRY(gpu_launch(ns, n));
        TRY(cu.cuStreamEndCapture(gpu.stream, &graph));
        TRY(cu.cuGraphInstantiateWithFlags(&g->exec, graph, 0));
        g->ns = ns;
        g->n = n;
        return 0;
}

int gpu_launch_graph(double ns, unsigned n)
{
        struct graph *g = graphs;

        while (g < graphs + n_graphs && (g->ns != ns || g->n != n))
                g++;
        if (g == graphs + GRAPHS_MAX)
                return gpu_launch(ns, n);
        if (g == graphs + n_graphs) {
                TRY(make_graph(g, ns, n));
                n_graphs++;
        }
        return cu.cuGraphLaunch(g->exec, gpu.stream);
}

int gpu_wait(void)
{
        return cu.cuStreamSynchronize(gpu.stream);
}

int gpu_mark(unsigned i)
{
        return cu.cuEventRecord(gpu.mark[i % GPU_MARKS], gpu.stream);
}

int gpu_wait_mark(unsigned i)
{
        return cu.cuEventSynchronize(gpu.mark[i % GPU_MARKS]);
}
