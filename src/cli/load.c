// takt load: open-loop user sessions. Latency counts from when a request was due, not from when it could be
// sent.
#include <dlfcn.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "base/time.h"
#include "base/units.h"
#include "cli/cli.h"
#include "cli/figure.h"
#include "cli/load_http.h"
#include "cli/load_plan.h"

static const char usage[] =
        "usage: takt load --url URL [OPTIONS]\n"
        "Open-loop load on an OpenAI-compatible server; latency counts from the scheduled time of each "
        "request.\n\n"
        "  --url URL             http://HOST:PORT (its /v1/completions is used)\n"
        "  --rate R              requests a second, Poisson (default: 1)\n"
        "  --model NAME          the model to ask for (default: the server's only one)\n"
        "  --trace FILE          or arrivals from a trace; FILE may lie in the folder of TAKT_TRACES\n"
        "  --speed X             play the trace X times as fast (default: 1)\n"
        "  --duration D          how long (default: 30s)\n"
        "  --seed N              the same seed, the same load (default: 1)\n"
        "  --prompt MIN:MAX      tokens of the prompt (default: 32:64)\n"
        "  --output MIN:MAX      tokens of the answer (default: 16:32)\n"
        "  --slo-ttft D          count answers whose first token is later than that\n"
        "  --slo-e2e D           count answers that end later than that\n"
        "  --timeout D           give an answer up after that (default: 5m)\n"
        "  --out FILE            one line of JSON a request\n"
        "  --json                the summary as JSON\n"
        "  --check               exit 1 if an objective was broken or a request failed\n";

struct options {
        struct load_wish wish;
        const char *url, *model, *trace, *out;
        double speed;
        uint64_t slo_ttft, slo_e2e, timeout;
        int json, check;
};

static const struct option options[] = {{"url", 1, 0, 'u'},
                                        {"rate", 1, 0, 'r'},
                                        {"trace", 1, 0, 't'},
                                        {"speed", 1, 0, 'x'},
                                        {"duration", 1, 0, 'd'},
                                        {"seed", 1, 0, 's'},
                                        {"prompt", 1, 0, 'p'},
                                        {"output", 1, 0, 'o'},
                                        {"slo-ttft", 1, 0, 'T'},
                                        {"slo-e2e", 1, 0, 'E'},
                                        {"out", 1, 0, 'f'},
                                        {"json", 0, 0, 'j'},
                                        {"check", 0, 0, 'c'},
                                        {"timeout", 1, 0, 'w'},
                                        {"model", 1, 0, 'm'},
                                        {"help", 0, 0, 'h'},
                                        {0}};

static int range(const char *text, uint32_t ret[2])
{
        const char *colon = strchr(text, ':');
        char low[16];
        uint64_t a, b;

        if (!colon || colon - text >= (long)sizeof low)
                return -EINVAL;
        snprintf(low, sizeof low, "%.*s", (int)(colon - text), text);
        if (cli_count(low, 1, LOAD_TOKENS_MAX, &a) || cli_count(colon + 1, a, LOAD_TOKENS_MAX, &b))
                return -EINVAL;
        ret[0] = (uint32_t)a;
        ret[1] = (uint32_t)b;
        return 0;
}

// From a millionth to a million.
static int factor(const char *text, double *ret)
{
        char *end;

        *ret = strtod(text, &end);
        return *end || end == text || !(*ret >= 1e-6 && *ret <= 1e6) ? -EINVAL : 0;
}

static int is_url(const char *text)
{
        return (!strncmp(text, "http://", 7) || !strncmp(text, "https://", 8)) && strlen(text) < 400;
}

static int take(struct options *o, int option, const char *value)
{
        switch (option) {
        case 'u':
                o->url = value;
                return is_url(value) ? 0 : -EINVAL;
        case 'r':
                return factor(value, &o->wish.rate);
        case 't':
                o->trace = value;
                return 0;
        case 'x':
                return factor(value, &o->speed);
        case 'd':
                return takt_duration_parse(value, &o->wish.duration_ns);
        case 's':
                return cli_count(value, 0, UINT64_MAX, &o->wish.seed);
        case 'p':
                return range(value, o->wish.prompt);
        case 'o':
                return range(value, o->wish.output);
        case 'T':
                return takt_duration_parse(value, &o->slo_ttft);
        case 'E':
                return takt_duration_parse(value, &o->slo_e2e);
        case 'w':
                return takt_duration_parse(value, &o->timeout) || o->timeout < TAKT_MS ? -EINVAL : 0;
        case 'm':
                o->model = value;
                return 0;
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

// What was not given is as usual, or the trace's. 0, or EXIT_USAGE and it is said what does not go together.
static int complete(struct options *o)
{
        struct load_wish *w = &o->wish;

        if (!o->url)
                return cli_fail(EXIT_USAGE, "--url is needed (see takt load --help)");
        if (o->speed > 0 && !o->trace)
                return cli_fail(EXIT_USAGE, "--speed is a trace's; without --trace see --rate");
        if (o->trace && (w->rate > 0 || *w->prompt || *w->output))
                return cli_fail(EXIT_USAGE,
                                "--rate, --prompt and --output do not go with --trace, which says them");
        o->speed = o->speed > 0 ? o->speed : 1;
        w->rate = w->rate > 0 ? w->rate : 1;
        if (!*w->prompt)
                w->prompt[0] = 32, w->prompt[1] = 64;
        if (!*w->output)
                w->output[0] = 16, w->output[1] = 32;
        return 0;
}

static void print_figure(const char *name, struct figure *f, int json)
{
        figure_sort(f);
        printf(json ? ",\"%s\":{\"n\":%zu,\"mean\":%.3f,\"p50\":%.3f,\"p95\":%.3f,\"p99\":%.3f,\"max\":%.3f,"
                      "\"jitter\":%.3f,\"late\":%zu}"
                    : "%-6s %8zu %8.1f %8.1f %8.1f %8.1f %8.1f %7.2f %6zu\n",
               name, f->n, figure_mean(f), figure_at(f, 500), figure_at(f, 950), figure_at(f, 990),
               figure_at(f, 1000), figure_jitter(f), f->late);
}

static int write_out(FILE *file, const struct load_answer *a, int n)
{
        for (int i = 0; i < n; i++)
                fprintf(file,
                        "{\"due_ns\":%lu,\"sent_ns\":%lu,\"first_ns\":%lu,\"end_ns\":%lu,\"tokens\":%u,"
                        "\"failed\":%u}\n",
                        a[i].due_ns, a[i].sent_ns, a[i].first_ns, a[i].end_ns, a[i].tokens, a[i].failed);
        return ferror(file) | fclose(file) ? -EIO : 0;
}

struct result {
        struct figure ttft, e2e;
        int answered, failed;
};

static struct result result_of(const struct options *o, const struct load_run *run)
{
        struct result r = {0};

        for (const struct load_answer *a = run->answers; a < run->answers + run->n_sent; a++) {
                if (!a->end_ns)
                        continue; // Ctrl-C came first
                r.failed += (int)a->failed;
                if (a->failed)
                        continue;
                r.answered++;
                figure_add(&r.ttft, a->first_ns - a->due_ns, o->slo_ttft);
                figure_add(&r.e2e, a->end_ns - a->due_ns, o->slo_e2e);
        }
        return r;
}

static void print_result(struct result *r, struct load_run *run, int json)
{
        printf(json ? "{\"requests\":%d,\"failed\":%d"
                    : "%d requests, %d failed; ms from the scheduled time\n",
               r->answered + r->failed, r->failed);
        if (!json)
                printf("%-6s %8s %8s %8s %8s %8s %8s %7s %6s\n", "", "n", "mean", "p50", "p95", "p99", "max",
                       "jitter", "late");
        print_figure("ttft", &r->ttft, json);
        print_figure("itl", &run->gaps, json);
        print_figure("e2e", &r->e2e, json);
        if (json)
                puts("}");
}

// A trace is a file, or lies in the folder of TAKT_TRACES.
static const char *find_trace(const char *name, char *path, size_t size)
{
        const char *folder = getenv("TAKT_TRACES");

        if (!folder || access(name, R_OK) == 0)
                return name;
        snprintf(path, size, "%s/%s", folder, name);
        return access(path, R_OK) == 0 ? path : name;
}

static int make_plan(const struct options *o, struct load_request **ret)
{
        char path[4096];
        const char *trace = o->trace ? find_trace(o->trace, path, sizeof path) : NULL;
        int line = 0;
        int n = trace ? load_plan_trace(trace, o->speed, o->wish.duration_ns, ret, &line)
                      : load_plan_poisson(&o->wish, ret);

        if (n == -E2BIG)
                cli_fail(EXIT_USAGE, "more than %d requests", LOAD_REQUESTS_MAX);
        else if (n == -EBADMSG)
                cli_fail(EXIT_USAGE, "%s: line %d is none of a trace (see takt-load(1))", trace, line);
        else if (n < 0)
                cli_fail(EXIT_USAGE, "%s: %s", trace ? trace : "plan", strerror(-n));
        return n;
}

// With or without a slash at its end.
static void url_of(const struct options *o, char *url, size_t size)
{
        size_t n = strlen(o->url);

        while (n > 1 && o->url[n - 1] == '/')
                n--;
        snprintf(url, size, "%.*s/v1/completions", (int)n, o->url);
}

// What speaks HTTP is a library of its own, for libcurl's many. NULL: it is not there.
static load_http_run_fn *find_http(void)
{
        char path[4160];
        void *library;

        cli_find(CLI_LOAD, path, sizeof path);
        library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
        return library ? (load_http_run_fn *)dlsym(library, "load_http_run") : NULL;
}

static int load(const struct options *o, struct load_run *run, FILE *out)
{
        load_http_run_fn *http = find_http();
        struct result r;
        int code = 0;

        if (!http)
                return cli_fail(EXIT_NOT_THERE, "takt-load.so is not beside takt, or cannot be loaded");
        http(run);
        r = result_of(o, run);
        print_result(&r, run, o->json);
        if (out && write_out(out, run->answers, run->n_sent) < 0)
                code = cli_fail(EXIT_NOT_WRITTEN, "%s: could not be written", o->out);
        else if (run->stopped)
                code = EXIT_INTERRUPTED;
        else if (run->n && !r.answered)
                code = cli_fail(EXIT_NOT_THERE, "no request was answered by %s: %s", o->url, run->why);
        else if (o->check && (r.ttft.late || r.e2e.late || r.failed))
                code = 1;
        figure_deinit(&r.ttft);
        figure_deinit(&r.e2e);
        figure_deinit(&run->gaps);
        return code;
}

int cmd_load(int argc, char **argv)
{
        struct options o = {.wish = {.duration_ns = 30 * TAKT_S, .seed = 1}, .timeout = 300 * TAKT_S};
        struct load_run run = {.show_progress = isatty(2)};
        struct load_request *plan = NULL;
        char url[512];
        FILE *out = NULL;
        int option, wrong, code;

        while ((option = cli_option(argc, argv, options)) != -1) {
                if (option == 'h')
                        return fputs(usage, stdout), 0;
                wrong = cli_wrong_option(option, take(&o, option, optarg), argv);
                if (wrong)
                        return wrong;
        }
        if (optind < argc)
                return cli_fail(EXIT_USAGE, "unexpected argument: %s (see takt load --help)", argv[optind]);
        if (complete(&o))
                return EXIT_USAGE;
        run.n = make_plan(&o, &plan);
        if (run.n < 0)
                return EXIT_USAGE;
        if (o.out && !(out = fopen(o.out, "we")))
                return free(plan), cli_fail(EXIT_NOT_WRITTEN, "%s: %s", o.out, strerror(errno));
        url_of(&o, url, sizeof url);
        run.url = url;
        run.model = o.model;
        run.plan = plan;
        run.seed = o.wish.seed;
        run.timeout_ns = o.timeout;
        run.answers = calloc((size_t)run.n + 1, sizeof *run.answers);
        code = run.answers ? load(&o, &run, out) : cli_fail(EXIT_NOT_THERE, "no memory");
        free(run.answers);
        free(plan);
        return code;
}
