// What an allocation and its free cost more behind the shim than on the driver alone, with nothing allocated
// and with 2,000 allocations alive: both called in turns in one process, under `takt run` with nobody else
// there.
#include <dlfcn.h>
#include <stdint.h>
#include <stdlib.h>
#include "bench.h"
#include "base/clock.h"

#define CALLS 20 // short turns: the driver's own time drifts by more than what is sought
#define ROUNDS 2001
#define ALIVE 2000
// What is alive costs nothing: the two differ by 7 ns from run to run on a busy machine, a search through
// them all would add microseconds, and a tree's eleven levels more than this.
#define FLAT_NS 40

static void *ours, *driver;

#define CALL(library, name, ...) ((int (*)())dlsym(library, #name))(__VA_ARGS__)

struct pair {
        int (*take)(uintptr_t *, size_t), (*give)(uintptr_t);
};

static struct pair pair_of(void *library)
{
        return (struct pair){(int (*)(uintptr_t *, size_t))dlsym(library, "cuMemAlloc_v2"),
                             (int (*)(uintptr_t))dlsym(library, "cuMemFree_v2")};
}

static double once(struct pair pair)
{
        uint64_t start = takt_clock_now();
        uintptr_t pointer;

        for (int i = 0; i < CALLS; i++)
                if (pair.take(&pointer, 4096) || pair.give(pointer))
                        exit(1);
        return (double)(takt_clock_now() - start) / CALLS;
}

static int by_value(const void *a, const void *b)
{
        double x = *(const double *)a, y = *(const double *)b;

        return (x > y) - (x < y);
}

// The median of what ours takes more than the driver before and after it.
static double added(void)
{
        static double more[ROUNDS];

        for (int i = 0; i < ROUNDS; i++) {
                double before = once(pair_of(driver));

                more[i] = once(pair_of(ours));
                more[i] -= (before + once(pair_of(driver))) / 2;
        }
        qsort(more, ROUNDS, sizeof *more, by_value);
        return more[ROUNDS / 2];
}

int main(int argc, char **argv)
{
        uintptr_t alive[ALIVE];
        struct bench bench;
        void *context;
        double none, many;

        if (bench_init(&bench, "memory", "added cost of an allocation and its free", argc, argv))
                return 0;
        ours = dlopen("libcuda.so.1", RTLD_NOW);
        driver = dlopen("libcuda-driver.so.1", RTLD_NOW);
        if (!ours || !driver || CALL(ours, cuInit, 0) || CALL(ours, cuDevicePrimaryCtxRetain, &context, 0) ||
            CALL(ours, cuCtxSetCurrent, context))
                return fprintf(stderr, "bench memory: not under takt run, or no GPU\n"), 69;
        none = added();
        for (int i = 0; i < ALIVE; i++)
                if (pair_of(ours).take(&alive[i], 4096))
                        return 1;
        bench_row(&bench, "malloc + free, driver alone, 2,000 alive", once(pair_of(driver)), -1, "ns");
        bench_row(&bench, "malloc + free, added, none alive", none, 100, "ns");
        many = added();
        bench_row(&bench, "malloc + free, added, 2,000 alive", many, 100, "ns");
        bench_row(&bench, "malloc + free, added, 2,000 alive against none", many - none, FLAT_NS, "ns");
        return bench_end(&bench);
}
