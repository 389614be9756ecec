// takt load: open-loop user sessions. Latency counts from when a request was due, not from when it could be
// sent.
#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "base/units.h"
#include "cli/cli.h"
#include "cli/load_http.h"
#include "cli/load_plan.h"

static const char usage[] =
        "usage: takt load --url URL [OPTIONS]\n"
        "Open-loop load on an OpenAI-compatible server; latency counts from the scheduled time of each "
        "request.\n\n"
        "  --url URL             http://HOST:PORT (its /v1/completions is used)\n"
        "  --rate R              requests a second, Poisson (default: 1)\n"
        "  --trace FILE          or arrivals from a file: time_s,prompt_tokens,output_tokens\n"
        "  --speed X             play the trace X times as fast (default: 1)\n"
        "  --duration D          how long (default: 30s)\n"
        "  --seed N              the same seed, the same load (default: 1)\n"
        "  --prompt MIN:MAX      tokens of the prompt (default: 32:64)\n"
        "  --output MIN:MAX      tokens of the answer (default: 16:32)\n"
        "  --slo-ttft D          count answers whose first token is later than that\n"
        "  --slo-e2e D           count answers that end later than that\n"
        "  --out FILE            one line of JSON a request\n"
        "  --json                the summary as JSON\n"
        "  --check               exit 1 if an objective was broken\n";

struct options {
        struct load_wish wish;
        const char *url, *trace, *out;
        double speed;
        uint64_t slo_ttft, slo_e2e;
        int json, check;
};

static const struct option options[] = {
        {"url", 1, 0, 'u'},     {"rate", 1, 0, 'r'},     {"trace", 1, 0, 't'},
        {"speed", 1, 0, 'x'},   {"duration", 1, 0, 'd'}, {"seed", 1, 0, 's'},
        {"prompt", 1, 0, 'p'},  {"output", 1, 0, 'o'},   {"slo-ttft", 1, 0, 'T'},
        {"slo-e2e", 1, 0, 'E'}, {"out", 1, 0, 'f'},      {"json", 0, 0, 'j'},
        {"check", 0, 0, 'c'},   {"help", 0, 0, 'h'},     {0}};

static int range(const char *text, uint32_t ret[2])
{
        char end;

        if (sscanf(text, "%u:%u%c", &ret[0], &ret[1], &end) != 2 || !ret[0] || ret[1] < ret[0] ||
            ret[1] > 1000000)
                return -EINVAL;
        return 0;
}

static int positive(const char *text, double *ret)
{
        char *end;

        *ret = strtod(text, &end);
        return *end || end == text || !(*ret > 0) ? -EINVAL : 0;
}

static int take(struct options *o, int option, const char *value)
{
        switch (option) {
        case 'u':
                o->url = value;
                return strncmp(value, "http", 4) ? -EINVAL : 0;
        case 'r':
                return positive(value, &o->wish.rate);
        case 't':
                o->trace = value;
                return 0;
        case 'x':
                return positive(value, &o->speed);
        case 'd':
                return takt_duration_parse(value, &o->wish.duration_ns);
        case 's':
                o->wish.seed = strtoull(value, NULL, 10);
                return 0;
        case 'p':
                return range(value, o->wish.prompt);
        case 'o':
                return range(value, o->wish.output);
        case 'T':
                return takt_duration_parse(value, &o->slo_ttft);
        case 'E':
                return takt_duration_parse(value, &o->slo_e2e);
        case 'f':
                o->out = value;
                return 0;
        case 'j':
                return o->json = 1, 0;
        case 'c':
                return o->check = 1, 0;
        default:
                return -ENOENT;
        }
}

static int by_value(const void *a, const void *b)
{
        double x = *(const double *)a, y = *(const double *)b;

        return (x > y) - (x < y);
}

// One figure over all answers: sorted milliseconds.
struct figure {
        const char *name;
        double *ms;
        int n, late;
        double sum;
};

static void add(struct figure *f, uint64_t ns, uint64_t objective_ns)
{
        f->ms[f->n++] = (double)ns / 1e6;
        f->sum += (double)ns / 1e6;
        f->late += objective_ns && ns > objective_ns;
}

static double at(const struct figure *f, double part)
{
        int i = (int)(part * f->n);

        return f->n ? f->ms[i < f->n ? i : f->n - 1] : 0;
}

static void print_figure(const struct figure *f, int json)
{
        double mean = f->n ? f->sum / f->n : 0, jitter = at(f, .5) > 0 ? at(f, .99) / at(f, .5) : 0;

        if (json)
                printf(",\"%s\":{\"n\":%d,\"mean\":%.3f,\"p50\":%.3f,\"p95\":%.3f,\"p99\":%.3f,\"max\":%.3f,"
                       "\"jitter\":%.3f,\"late\":%d}",
                       f->name, f->n, mean, at(f, .5), at(f, .95), at(f, .99), at(f, 1), jitter, f->late);
        else
                printf("%-6s %8.1f %8.1f %8.1f %8.1f %8.1f %7.2f %6d\n", f->name, mean, at(f, .5), at(f, .95),
                       at(f, .99), at(f, 1), jitter, f->late);
}

static void write_out(const char *path, const struct load_answer *a, int n)
{
        FILE *file = fopen(path, "we");

        for (int i = 0; file && i < n; i++)
                fprintf(file,
                        "{\"due_ns\":%lu,\"sent_ns\":%lu,\"first_ns\":%lu,\"end_ns\":%lu,\"tokens\":%u,"
                        "\"failed\":%u}\n",
                        a[i].due_ns, a[i].sent_ns, a[i].first_ns, a[i].end_ns, a[i].tokens, a[i].failed);
        if (file)
                fclose(file);
}

// Prints the summary; returns how many objectives were broken, or -1 when nothing was answered.
static int summarise(const struct options *o, const struct load_answer *answers, int n)
{
        struct figure f[3] = {{"ttft", calloc((size_t)n + 1, 8), 0, 0, 0},
                              {"itl", calloc((size_t)n + 1, 8), 0, 0, 0},
                              {"e2e", calloc((size_t)n + 1, 8), 0, 0, 0}};
        int failed = 0, broken;

        for (int i = 0; i < n; i++) {
                const struct load_answer *a = &answers[i];

                failed += a->failed && a->end_ns;
                if (a->failed || !a->end_ns)
                        continue;
                add(&f[0], a->first_ns - a->due_ns, o->slo_ttft);
                if (a->tokens > 1)
                        add(&f[1], a->gap_sum_ns / (a->tokens - 1), 0);
                add(&f[2], a->end_ns - a->due_ns, o->slo_e2e);
        }
        printf(o->json ? "{\"requests\":%d,\"failed\":%d"
                       : "%d requests, %d failed; ms from the scheduled time\n",
               n, failed);
        if (!o->json)
                printf("%-6s %8s %8s %8s %8s %8s %7s %6s\n", "", "mean", "p50", "p95", "p99", "max", "jitter",
                       "late");
        for (int i = 0; i < 3; i++) {
                qsort(f[i].ms, (size_t)f[i].n, sizeof(double), by_value);
                print_figure(&f[i], o->json);
                free(f[i].ms);
        }
        if (o->json)
                puts("}");
        broken = f[2].n || !n ? f[0].late + f[2].late : -1;
        return broken;
}

int cmd_load(int argc, char **argv)
{
        struct options o = {.wish = {1, 30000000000, 1, {32, 64}, {16, 32}}, .speed = 1};
        struct load_request *plan;
        struct load_answer *answers;
        char url[512];
        int option, error, n, line = 0, broken;

        while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
                if (option == 'h')
                        return fputs(usage, stdout), 0;
                error = take(&o, option, optarg);
                if (error == -EINVAL)
                        return cli_fail(EXIT_USAGE, "not a value for this option: %s (see takt load --help)",
                                        optarg);
                if (error)
                        return EXIT_USAGE;
        }
        if (!o.url || optind < argc)
                return cli_fail(EXIT_USAGE, o.url ? "unexpected argument: %s" : "--url is needed%s",
                                o.url ? argv[optind] : "");
        n = o.trace ? load_plan_trace(o.trace, o.speed, o.wish.duration_ns, &plan, &line)
                    : load_plan_poisson(&o.wish, &plan);
        if (n < 0)
                return cli_fail(EXIT_USAGE, "%s: line %d: %s", o.trace ? o.trace : "plan", line,
                                strerror(-n));
        snprintf(url, sizeof url, "%s/v1/completions", o.url);
        answers = calloc((size_t)n + 1, sizeof *answers);
        load_http_run(url, plan, n, o.wish.seed, answers, isatty(2));
        broken = summarise(&o, answers, n);
        if (o.out)
                write_out(o.out, answers, n);
        free(answers);
        free(plan);
        if (broken < 0)
                return cli_fail(EXIT_NOT_THERE, "no request was answered by %s", o.url);
        return o.check && broken ? 1 : 0;
}
