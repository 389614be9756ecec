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
#define STRETCH 64
#define AWAY_NS 400e3 // longer than that without a kernel done: another had the device

static const char usage[] =
        "usage: takt-probe --cost L,W [--seconds S] [--wait]\n"
        "Keeps the GPU busy with kernels of about 100 us and prints, as JSON, what it saw:\n"
        "  kernel_ns   time between two kernels done, the median over stretches of 64\n"
        "  turns       how often the device was away for longer than 400 us and came back, twice\n"
        "  turn_ns     from one such coming back to the next, the mean of the middle half\n"
        "  kernels     how many were done in one turn, likewise\n"
        "  away_ns     how long the device was away in one turn, in one piece, likewise\n"
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

// The usual time between two kernels done: the median over stretches of them, so that a late look does not
// count.
static double usual_kernel_ns(const double *done_ns, int n)
{
        double *stretch_ns = calloc((size_t)n + 1, sizeof *stretch_ns), ret;
        int m = n > STRETCH ? n - STRETCH : 0;

        for (int i = 0; i < m; i++)
                stretch_ns[i] = (done_ns[i + STRETCH] - done_ns[i]) / STRETCH;
        qsort(stretch_ns, (size_t)m, sizeof *stretch_ns, by_value);
        ret = stretch_ns[m / 2];
        free(stretch_ns);
        return ret;
}

// From one coming back of the device to the next.
struct turn {
        double ns, away_ns; // the last of it, in one piece
        int kernels;
};

static int by_length(const void *a, const void *b)
{
        return by_value(&((const struct turn *)a)->ns, &((const struct turn *)b)->ns);
}

static int find_turns(const double *done_ns, int n, double kernel_ns, struct turn *turn)
{
        int n_turns = 0, last = 0;
        double away_ns;

        for (int i = 1; i < n; i++) {
                away_ns = done_ns[i] - done_ns[i - 1] - kernel_ns;
                if (away_ns < AWAY_NS)
                        continue;
                if (last)
                        turn[n_turns++] = (struct turn){done_ns[i] - done_ns[last], away_ns, i - last};
                last = i;
        }
        return n_turns;
}

// The middle half of the turns, by length: a host that slept for so long that the device ran dry spoils a
// turn.
static void report(double *done_ns, int n)
{
        struct turn *turn = calloc((size_t)n + 1, sizeof *turn);
        double kernel_ns = gpu_length_ns(KERNEL_NS, 1), usual_ns = usual_kernel_ns(done_ns, n), ns = 0,
               away_ns = 0, kernels = 0;
        int turns, from, to;

        take_out_lateness(done_ns, n, kernel_ns);
        turns = find_turns(done_ns, n, kernel_ns, turn);
        qsort(turn, (size_t)turns, sizeof *turn, by_length);
        from = turns / 4;
        to = turns - turns / 4;
        for (int i = from; i < to; i++) {
                ns += turn[i].ns / (to - from);
                away_ns += turn[i].away_ns / (to - from);
                kernels += (double)turn[i].kernels / (to - from);
        }
        printf("{\"kernel_ns\":%.0f,\"turns\":%d,\"turn_ns\":%.0f,\"kernels\":%.2f,\"away_ns\":%.0f,\"memory_"
               "bytes\":%lu,"
               "\"driver_version\":%d}\n",
               usual_ns, turns, ns, kernels, away_ns, gpu_memory_bytes(), gpu_driver_version());
        free(turn);
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
