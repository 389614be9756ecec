// An agent without a model: requests come, prompts and tokens take the GPU the time that was asked for, as an
// LLM server with continuous batching would. It knows the CUDA driver and libtakt, and nothing of which
// device it runs on.
#include <errno.h>
#include <getopt.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <time.h>
#include "arrivals.h"
#include "base/clock.h"
#include "client/takt.h"
#include "gpu_work.h"

#define PREFILL_LAUNCH_NS 2e6
#define PIECE_LAUNCHES 8  // of a prompt, between which tokens of others are computed
#define STEP_LAUNCHES 260 // of a decode step: about 8 a layer of 32
#define SESSIONS_MAX 64

static const char usage[] =
        "usage: takt-synthetic [OPTIONS]\n"
        "A synthetic LLM agent: its prompts and tokens take the GPU the time that is asked for.\n\n"
        "  --rate R            requests a second, Poisson (default: 1)\n"
        "  --prefill-ms A-B    device time of a prompt (default: 20-40)\n"
        "  --tokens A-B        tokens of an answer; the prompt gives the first (default: 16-32)\n"
        "  --token-ms T        device time of a decode step, however many sessions it serves (default: 5)\n"
        "  --gap-us G          the host's pause after each step (default: 300)\n"
        "  --sessions N        served at once, up to 64; others wait their turn (default: 8)\n"
        "  --seconds S         how long requests come (default: 10)\n"
        "  --seed N            the same seed, the same requests (default: 1)\n"
        "  --slo-ms D          count what is later than that\n"
        "  --graph             a decode step is one graph, not 260 launches\n"
        "  --calibrate         only print what a launch takes here, as --cost wants it\n"
        "  --cost L,W          do not measure that: L ns a launch, W ns a wave of blocks\n"
        "  --wait              print \"ready\", then wait for a line of input\n"
        "  --json              the summary as JSON\n"
        "Exit: 2 usage; 69 no GPU.\n";

static struct {
        struct arrival_wish wish;
        double token_ms, slo_ms;
        unsigned gap_us;
        int sessions, graph, calibrate, wait, json;
        struct gpu_cost cost;
} o = {.wish = {1, 10, 1, {20, 40}, {16, 32}}, .token_ms = 5, .gap_us = 300, .sessions = 8};

static const struct option options[] = {
        {"rate", 1, 0, 'r'},   {"prefill-ms", 1, 0, 'p'}, {"tokens", 1, 0, 't'},    {"token-ms", 1, 0, 'm'},
        {"gap-us", 1, 0, 'g'}, {"sessions", 1, 0, 'n'},   {"seconds", 1, 0, 's'},   {"seed", 1, 0, 'e'},
        {"slo-ms", 1, 0, 'l'}, {"graph", 0, 0, 'G'},      {"calibrate", 0, 0, 'C'}, {"cost", 1, 0, 'c'},
        {"wait", 0, 0, 'w'},   {"json", 0, 0, 'j'},       {"help", 0, 0, 'h'},      {0}};

// Two numbers, the second not below the first where they are a range.
static int two(const char *text, char between, double ret[2])
{
        char mark, end;

        if (sscanf(text, "%lf%c%lf%c", &ret[0], &mark, &ret[1], &end) != 3 || mark != between)
                return -EINVAL;
        return ret[0] >= 0 && ret[1] >= (between == '-' ? ret[0] : 0) ? 0 : -EINVAL;
}

static int number(const char *text, double low, double high, double *ret)
{
        char *end;

        *ret = strtod(text, &end);
        return *end || end == text || !(*ret >= low && *ret <= high) ? -EINVAL : 0;
}

static int take(int option, const char *value)
{
        double pair[2], one = 0;
        int error;

        switch (option) {
        case 'r':
                return number(value, 1e-3, 1e4, &o.wish.rate);
        case 'p':
                return two(value, '-', o.wish.prefill_ms);
        case 't':
                error = two(value, '-', pair);
                if (error || pair[0] < 1 || pair[1] > 1e6)
                        return -EINVAL;
                o.wish.tokens[0] = (uint32_t)pair[0];
                o.wish.tokens[1] = (uint32_t)pair[1];
                return 0;
        case 'm':
                return number(value, 0, 1e4, &o.token_ms);
        case 'g':
                error = number(value, 0, 1e6, &one);
                o.gap_us = (unsigned)one;
                return error;
        case 'n':
                error = number(value, 1, SESSIONS_MAX, &one);
                o.sessions = (int)one;
                return error;
        case 's':
                return number(value, 0, 1e6, &o.wish.seconds);
        case 'e':
                o.wish.seed = strtoull(value, NULL, 10);
                return 0;
        case 'l':
                return number(value, 0, 1e9, &o.slo_ms);
        case 'c':
                error = two(value, ',', pair);
                o.cost = (struct gpu_cost){pair[0], pair[1]};
                return error || !(pair[1] > 0) ? -EINVAL : 0;
        default:
                *(option == 'G'   ? &o.graph
                  : option == 'C' ? &o.calibrate
                  : option == 'w' ? &o.wait
                                  : &o.json) = 1;
                return 0;
        }
}

static struct request *session[SESSIONS_MAX];
static int n_sessions;

static void pause_host(void)
{
        struct timespec t = {.tv_sec = o.gap_us / 1000000, .tv_nsec = (long)(o.gap_us % 1000000) * 1000};

        if (o.gap_us)
                nanosleep(&t, NULL);
}

static int ended(struct request *r, uint64_t now_ns)
{
        if (--r->tokens)
                return 0;
        r->end_ns = now_ns;
        takt_request_finished(r->id);
        return 1;
}

// The first that came of those whose prompt is not done: requests lie in the order of their arrival.
static int oldest_prompt(void)
{
        int oldest = -1;

        for (int i = 0; i < n_sessions; i++)
                if (!session[i]->first_ns && (oldest < 0 || session[i] < session[oldest]))
                        oldest = i;
        return oldest;
}

// One piece of one prompt; its last one gives the first token.
static int compute_prompt(void)
{
        int i = oldest_prompt(), error;
        struct request *r;
        double ns;

        if (i < 0)
                return 0;
        r = session[i];
        ns = fmin(r->prefill_ns, PIECE_LAUNCHES * PREFILL_LAUNCH_NS);
        error = gpu_launch(ns, (unsigned)fmax(1, ceil(ns / PREFILL_LAUNCH_NS)));
        if (error || (error = gpu_wait()))
                return error;
        r->prefill_ns -= ns;
        if (r->prefill_ns > 0)
                return 0;
        r->first_ns = takt_clock_now();
        takt_request_first_token(r->id);
        if (ended(r, r->first_ns))
                session[i] = session[--n_sessions];
        pause_host();
        return 0;
}

// One token for every session whose prompt is done.
static int compute_tokens(void)
{
        uint64_t now;
        int n = 0, error;

        for (int i = 0; i < n_sessions; i++)
                n += session[i]->first_ns != 0;
        if (!n)
                return 0;
        error = (o.graph ? gpu_launch_graph : gpu_launch)(o.token_ms * 1e6, STEP_LAUNCHES);
        if (error || (error = gpu_wait()))
                return error;
        now = takt_clock_now();
        for (int i = n_sessions - 1; i >= 0; i--)
                if (session[i]->first_ns && ended(session[i], now))
                        session[i] = session[--n_sessions];
        pause_host();
        return 0;
}

static int serve(struct request *requests, int n)
{
        int error = 0;

        for (int next = 0, due = 0; !error && (next < n || n_sessions);) {
                if (next < n)
                        due = n_sessions ? arrivals_count() : arrivals_wait(next);
                while (next < due && n_sessions < o.sessions)
                        session[n_sessions++] = &requests[next++];
                error = compute_prompt();
                if (!error)
                        error = compute_tokens();
        }
        return error;
}

static int by_value(const void *a, const void *b)
{
        double x = *(const double *)a, y = *(const double *)b;

        return (x > y) - (x < y);
}

static void print_figure(const char *name, double *ms, int n)
{
        double sum = 0, part[4] = {.5, .95, .99, 1}, at[4] = {0}, jitter;
        int late = 0;

        qsort(ms, (size_t)n, sizeof *ms, by_value);
        for (int i = 0; i < n; i++) {
                sum += ms[i];
                late += o.slo_ms > 0 && ms[i] > o.slo_ms;
        }
        for (int i = 0; i < 4 && n; i++)
                at[i] = ms[(int)(part[i] * n) < n ? (int)(part[i] * n) : n - 1];
        jitter = at[0] > 0 ? at[2] / at[0] : 0;
        printf(o.json ? ",\"%s\":{\"mean\":%.3f,\"p50\":%.3f,\"p95\":%.3f,\"p99\":%.3f,\"max\":%.3f,"
                        "\"jitter\":%.3f,\"late\":%d}"
                      : "%-6s %8.1f %8.1f %8.1f %8.1f %8.1f %7.2f %6d\n",
               name, n ? sum / n : 0, at[0], at[1], at[2], at[3], jitter, late);
}

static void summarise(const struct request *r, int n)
{
        double *ms = calloc((size_t)n + 1, sizeof *ms);

        printf(o.json ? "{\"requests\":%d" : "%d requests; ms from the scheduled time\n", n);
        if (!o.json)
                printf("%-6s %8s %8s %8s %8s %8s %7s %6s\n", "", "mean", "p50", "p95", "p99", "max", "jitter",
                       "late");
        for (int i = 0; i < n; i++)
                ms[i] = (double)(r[i].first_ns - r[i].due_ns) / 1e6;
        print_figure("ttft", ms, n);
        for (int i = 0; i < n; i++)
                ms[i] = (double)(r[i].end_ns - r[i].due_ns) / 1e6;
        print_figure("e2e", ms, n);
        if (o.json)
                puts("}");
        free(ms);
}

static int fail(int error)
{
        if (error == GPU_ABSENT)
                fprintf(stderr, "takt-synthetic: no usable libcuda.so.1 (the NVIDIA driver)\n");
        else if (error == GPU_UNEVEN)
                fprintf(stderr,
                        "takt-synthetic: more work takes this GPU no longer: no length can be asked of it\n");
        else
                fprintf(stderr, "takt-synthetic: CUDA error %d\n", error);
        return 69;
}

// Whatever is done once is done before the first request: memory, code and graphs.
static int set_up(void)
{
        int error = gpu_open();

        if (!error && !(o.cost.wave_ns > 0))
                error = gpu_calibrate(&o.cost);
        if (error || o.calibrate)
                return error;
        gpu_use(o.cost);
        error = (o.graph ? gpu_launch_graph : gpu_launch)(o.token_ms * 1e6, STEP_LAUNCHES);
        return error ? error : gpu_wait();
}

int main(int argc, char **argv)
{
        struct request *requests;
        int option, error, n;
        char line[16];

        while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
                if (option == 'h')
                        return fputs(usage, stdout), 0;
                if (option == '?' || take(option, optarg))
                        return fprintf(stderr, "takt-synthetic: see --help%s%s\n",
                                       optarg ? ": not a value: " : "", optarg ? optarg : ""),
                               2;
        }
        if (optind < argc)
                return fputs(usage, stderr), 2;
        prctl(PR_SET_TIMERSLACK, 1);
        error = set_up();
        if (error)
                return fail(error);
        if (o.calibrate)
                return printf("%.1f,%.1f\n", o.cost.launch_ns, o.cost.wave_ns), 0;
        n = arrivals_plan(&o.wish, &requests);
        if (o.wait && (puts("ready"), fflush(stdout), !fgets(line, sizeof line, stdin)))
                return 2;
        if (n < 0 || (n && arrivals_start(requests, n)))
                return fprintf(stderr, "takt-synthetic: no memory or no thread\n"), 71;
        error = serve(requests, n);
        if (error)
                return fail(error);
        summarise(requests, n);
        free(requests);
        return 0;
}
