// How the device is shared, seen from inside: one short kernel after another, and when each was done. While
// another process has the device none is done; how long that lasts, and how many are done between, are the
// slices.
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include "base/clock.h"
#include "gpu_work.h"

#define KERNEL_NS 100e3
#define AWAY_NS 400e3 // longer than that without a kernel done: another had the device

static const char usage[] =
        "usage: takt-probe --cost L,W [--seconds S] [--wait]\n"
        "Keeps the GPU busy with kernels of about 100 us and prints, as JSON, what it saw:\n"
        "  kernel_ns   time between two kernels done, over all of the run\n"
        "  turns       how often the device was away for longer than 400 us and came back\n"
        "  turn_ns     from one such coming back to the next, on average\n"
        "  kernels     how many were done in one turn, on average\n"
        "  away_ns     how long the device was away, the median\n"
        "--cost is what `takt-synthetic --calibrate` prints; --wait as there.\n";

static struct {
        struct gpu_cost cost;
        double seconds;
        int wait;
} o = {.seconds = 2};

// When each kernel was seen to be done, in ns; GPU_MARKS are in flight, so that the device always has work.
static int run(double *done_ns, int room, int *ret_n)
{
        uint64_t begin = takt_clock_now(), end = begin + (uint64_t)(o.seconds * 1e9), now = begin;
        int error = 0;
        unsigned n = 0;

        for (unsigned started = 0; !error && now < end && n < (unsigned)room; started++) {
                error = gpu_launch(KERNEL_NS, 1);
                if (!error)
                        error = gpu_mark(started);
                if (error || started + 1 < GPU_MARKS)
                        continue;
                error = gpu_wait_mark(n);
                now = takt_clock_now();
                done_ns[n++] = (double)(now - begin);
        }
        *ret_n = (int)n;
        return error ? error : gpu_wait();
}

static int by_value(const void *a, const void *b)
{
        double x = *(const double *)a, y = *(const double *)b;

        return (x > y) - (x < y);
}

// A host that looked late makes up for it with the next kernels; a device that was away does not. So a kernel
// counts as late by no more than the least that any later one is.
static void take_out_lateness(double *done_ns, int n, double kernel_ns)
{
        double least = 0;

        for (int i = n - 1; i >= 0; i--) {
                double late = done_ns[i] - i * kernel_ns;

                least = i == n - 1 || late < least ? late : least;
                done_ns[i] = least + i * kernel_ns;
        }
}

static void report(double *done_ns, int n)
{
        double kernel_ns = gpu_length_ns(KERNEL_NS, 1);
        double *away_ns = calloc((size_t)n + 1, sizeof *away_ns), turn_ns = 0, kernels = 0;
        int turns = 0, first = 0, last = 0;

        take_out_lateness(done_ns, n, kernel_ns);
        for (int i = 1; i < n; i++) {
                if (done_ns[i] - done_ns[i - 1] - kernel_ns < AWAY_NS)
                        continue;
                away_ns[turns++] = done_ns[i] - done_ns[i - 1] - kernel_ns;
                first = first ? first : i;
                last = i;
        }
        if (turns > 1) {
                turn_ns = (done_ns[last] - done_ns[first]) / (turns - 1);
                kernels = (double)(last - first) / (turns - 1);
        }
        qsort(away_ns, (size_t)turns, sizeof *away_ns, by_value);
        printf("{\"kernel_ns\":%.0f,\"turns\":%d,\"turn_ns\":%.0f,\"kernels\":%.2f,\"away_ns\":%.0f,\"memory_"
               "bytes\":%lu,"
               "\"driver_version\":%d}\n",
               n > 1 ? (done_ns[n - 1] - done_ns[0]) / (n - 1) : 0, turns, turn_ns, kernels,
               away_ns[turns / 2], gpu_memory_bytes(), gpu_driver_version());
        free(away_ns);
}

static int take(int argc, char **argv)
{
        static const struct option options[] = {
                {"cost", 1, 0, 'c'}, {"seconds", 1, 0, 's'}, {"wait", 0, 0, 'w'}, {"help", 0, 0, 'h'}, {0}};
        int option;

        while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
                if (option == 'c' && sscanf(optarg, "%lf,%lf", &o.cost.launch_ns, &o.cost.wave_ns) != 2)
                        return -1;
                else if (option == 's')
                        o.seconds = strtod(optarg, NULL);
                else if (option == 'w')
                        o.wait = 1;
                else if (option == 'h')
                        return fputs(usage, stdout), 1;
                else if (option == '?')
                        return -1;
        }
        return optind == argc && o.cost.wave_ns > 0 && o.seconds > 0 && o.seconds < 1000 ? 0 : -1;
}

int main(int argc, char **argv)
{
        int error = take(argc, argv), room, n = 0;
        double *done_ns;
        char line[16];

        if (error)
                return error > 0 ? 0 : (fputs(usage, stderr), 2);
        prctl(PR_SET_TIMERSLACK, 1);
        room = (int)(o.seconds * 1e9 / KERNEL_NS * 4) + GPU_MARKS;
        done_ns = calloc((size_t)room, sizeof *done_ns);
        if (!done_ns)
                return 71;
        gpu_use(o.cost);
        error = gpu_open();
        if (!error && o.wait && (puts("ready"), fflush(stdout), !fgets(line, sizeof line, stdin)))
                return 2;
        if (!error)
                error = run(done_ns, room, &n);
        if (error)
                return fprintf(stderr, "takt-probe: no GPU, or CUDA error %d\n", error), 69;
        report(done_ns, n);
        free(done_ns);
        return 0;
}
