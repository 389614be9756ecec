// What a submission through an open gate costs more than the driver alone: both called in turns in one
// process, which `script/bench launch` runs under `takt run` with nobody else there.
#include <dlfcn.h>
#include <stdint.h>
#include <stdlib.h>
#include "bench.h"
#include "base/clock.h"

#define CALLS 100
#define ROUNDS 2001

static void *ours, *driver, *stream, *kernel, *exec;

static struct {
        unsigned dims[7];
        void *stream, *attributes;
        unsigned n;
} config = {.dims = {1, 1, 1, 1, 1, 1, 0}};

#define CALL(library, name, ...) ((int (*)())dlsym(library, #name))(__VA_ARGS__)

static double once(void *fn, int kind)
{
        int (*call)() = (int (*)())fn;
        uint64_t start, end;

        CALL(ours, cuLaunchKernel, kernel, 1, 1, 1, 1, 1, 1, 0, stream, NULL, NULL); // the burst begins
        start = takt_clock_now();
        for (int i = 0; i < CALLS; i++) {
                if (kind == 0)
                        call(kernel, 1, 1, 1, 1, 1, 1, 0, stream, NULL, NULL);
                else if (kind == 1)
                        call(&config, kernel, NULL, NULL);
                else
                        call(exec, stream);
        }
        end = takt_clock_now();
        CALL(ours, cuStreamSynchronize, stream);
        return (double)(end - start) / CALLS;
}

static int set_up(void)
{
        void *context, *module, *graph;

        ours = dlopen("libcuda.so.1", RTLD_NOW);
        driver = dlopen("libcuda-driver.so.1", RTLD_NOW);
        if (!ours || !driver || CALL(ours, cuInit, 0) || CALL(ours, cuDevicePrimaryCtxRetain, &context, 0))
                return -1;
        CALL(ours, cuCtxSetCurrent, context);
        CALL(ours, cuModuleLoadData, &module,
             ".version 7.0\n.target sm_70\n.address_size 64\n.visible .entry k(){ret;}\n");
        CALL(ours, cuModuleGetFunction, &kernel, module, "k");
        CALL(ours, cuStreamCreate, &stream, 1);
        CALL(ours, cuStreamBeginCapture_v2, stream, 0);
        CALL(ours, cuLaunchKernel, kernel, 1, 1, 1, 1, 1, 1, 0, stream, NULL, NULL);
        CALL(ours, cuStreamEndCapture, stream, &graph);
        config.stream = stream;
        return CALL(ours, cuGraphInstantiateWithFlags, &exec, graph, 0ull);
}

static int by_value(const void *a, const void *b)
{
        double x = *(const double *)a, y = *(const double *)b;

        return (x > y) - (x < y);
}

int main(int argc, char **argv)
{
        static const char *const names[] = {"cuLaunchKernel", "cuLaunchKernelEx", "cuGraphLaunch"};
        static double alone[ROUNDS], more[ROUNDS];
        struct bench bench;
        char what[80];

        if (bench_init(&bench, "launch", "added cost of a submission through an open gate", argc, argv))
                return 0;
        if (set_up() || dlsym(ours, names[0]) == dlsym(driver, names[0]))
                return fprintf(stderr, "bench launch: not under takt run, or no GPU\n"), 69;
        for (int kind = 0; kind < 3; kind++) {
                void *a = dlsym(driver, names[kind]), *b = dlsym(ours, names[kind]);

                for (int i = 0; i < ROUNDS; i++) {
                        alone[i] = once(a, kind);
                        more[i] = once(b, kind) - (alone[i] + once(a, kind)) / 2;
                }
                qsort(more, ROUNDS, sizeof(double), by_value);
                qsort(alone, ROUNDS, sizeof(double), by_value);
                snprintf(what, sizeof what, "%s, driver alone, median", names[kind]);
                bench_row(&bench, what, alone[ROUNDS / 2], -1, "ns");
                snprintf(what, sizeof what, "%s, added, median", names[kind]);
                bench_row(&bench, what, more[ROUNDS / 2], 5, "ns");
        }
        return bench_end(&bench);
}
