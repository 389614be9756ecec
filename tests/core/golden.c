// Golden traces: the scheduler's specification as text. A file is a list of events; under each stand the
// effects that the core must give, indented. The runner plays the events and compares. `test-golden --update
// FILE...` writes what the core does now, to be read before it is committed.
//
//   device switch=100us bound=2ms slice=2ms watchdog=10s memory=40960   (MiB; first line, once)
//   0 join 0 deadline slo=200ms share=20 burst=20ms          (times in ms; share in percent)
//     admit 0
//   5 want 0
//     open 0 free
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/time.h"
#include "core/core.h"

#define TEXT_MAX 65536

struct player {
        struct core *core;
        char out[TEXT_MAX];
        size_t size;
};

static void put(struct player *p, const char *text)
{
        size_t n = strlen(text);

        if (p->size + n + 1 > TEXT_MAX) {
                fprintf(stderr, "trace too long\n");
                exit(1);
        }
        memcpy(p->out + p->size, text, n + 1);
        p->size += n;
}

static uint64_t ms(const char *text)
{
        return (uint64_t)(strtod(text, NULL) * 1e6 + .5);
}

// "key=VALUEunit" anywhere in the line; `otherwise` when it is not there.
static uint64_t value(const char *line, const char *key, uint64_t otherwise)
{
        char pattern[32];
        const char *at;
        char *unit;
        double v;

        snprintf(pattern, sizeof pattern, " %s=", key);
        at = strstr(line, pattern);
        if (!at)
                return otherwise;
        v = strtod(at + strlen(pattern), &unit);
        if (!strncmp(unit, "us", 2))
                v *= 1e3;
        else if (!strncmp(unit, "ms", 2))
                v *= 1e6;
        else if (*unit == 's')
                v *= 1e9;
        return (uint64_t)(v + .5);
}

static struct core_contract contract_of(const char *line)
{
        struct core_contract c = {
                .class = strstr(line, " fair")   ? CORE_CLASS_FAIR
                         : strstr(line, " idle") ? CORE_CLASS_IDLE
                                                 : 0,
                .weight = (uint32_t)value(line, "weight", 0),
                .slo_ns = value(line, "slo", 0),
                .ttft_ns = value(line, "ttft", 0),
                .itl_ns = value(line, "itl", 0),
                .share_ppm = (uint32_t)value(line, "share", 0) * 10000,
                .peak_ppm = (uint32_t)value(line, "peak", 0) * 10000,
                .burst_ns = value(line, "burst", 0),
                .depth_ns = value(line, "depth", 0),
                .step_ns = value(line, "step", 0),
                .memory_bytes = value(line, "memory", 0) << 20,
        };

        return c;
}

static void say(struct player *p, const struct core_effect *e)
{
        static const char *const name[] = {"?",     "admit", "refuse",  "open",  "close",
                                           "watch", "nudge", "overrun", "bypass"};
        static const char *const reason[] = {"?", "time", "memory", "full", "invalid"};
        char line[256];
        int n = snprintf(line, sizeof line, "  %s %u", name[e->kind],
                         e->kind == CORE_EFFECT_BYPASS ? e->device : e->seat);

        if (e->kind == CORE_EFFECT_OPEN)
                n += snprintf(line + n, sizeof line - n, "%s%s", e->free ? " free" : "",
                              e->soft ? " soft" : "");
        if (e->kind == CORE_EFFECT_WATCH || e->kind == CORE_EFFECT_BYPASS)
                n += snprintf(line + n, sizeof line - n, " %s", e->on ? "on" : "off");
        if (e->kind == CORE_EFFECT_OVERRUN)
                n += snprintf(line + n, sizeof line - n, " by %.3f ms", (double)e->ns / 1e6);
        if (e->kind == CORE_EFFECT_REFUSE)
                n += snprintf(line + n, sizeof line - n, ": %s", reason[e->refusal.reason]);
        if (e->kind == CORE_EFFECT_REFUSE && e->refusal.reason == CORE_REFUSAL_TIME)
                n += snprintf(line + n, sizeof line - n, ", of seat %u, %.1f ms due within %.1f ms",
                              e->refusal.seat, (double)e->refusal.demand_ns / 1e6,
                              (double)e->refusal.span_ns / 1e6);
        if (e->kind == CORE_EFFECT_REFUSE && e->refusal.reason == CORE_REFUSAL_MEMORY)
                n += snprintf(line + n, sizeof line - n, ", %lu of %lu MiB", e->refusal.demand_bytes >> 20,
                              e->refusal.capacity_bytes >> 20);
        snprintf(line + n, sizeof line - n, "\n");
        put(p, line);
}

// "TIME KIND SEAT ..." into an event; exits on a line that is none.
static struct core_event event_of(const char *line, struct core_contract *contract)
{
        static const struct {
                const char *name;
                enum core_event_kind kind;
        } kinds[] = {{"join", CORE_EVENT_JOIN},         {"leave", CORE_EVENT_LEAVE},
                     {"want", CORE_EVENT_WANT},         {"unwant", CORE_EVENT_UNWANT},
                     {"busy", CORE_EVENT_BUSY},         {"idle", CORE_EVENT_IDLE},
                     {"arrived", CORE_EVENT_ARRIVED},   {"token", CORE_EVENT_FIRST_TOKEN},
                     {"finished", CORE_EVENT_FINISHED}, {"timer", CORE_EVENT_TIMER},
                     {"amend", CORE_EVENT_AMEND}};
        struct core_event event = {0};
        char when[32], kind[32];
        unsigned seat = 0;

        if (sscanf(line, "%31s %31s %u", when, kind, &seat) < 2)
                exit((fprintf(stderr, "not an event: %s\n", line), 1));
        for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++)
                if (!strcmp(kind, kinds[i].name))
                        event.kind = kinds[i].kind;
        if (!event.kind)
                exit((fprintf(stderr, "unknown event: %s\n", line), 1));
        event.seat = seat;
        event.now_ns = ms(when);
        event.device = (uint32_t)value(line, "device", 0);
        if (event.kind == CORE_EVENT_JOIN || event.kind == CORE_EVENT_AMEND) {
                *contract = contract_of(line);
                event.contract = contract;
        } else if (event.kind == CORE_EVENT_BUSY || event.kind == CORE_EVENT_IDLE) {
                event.at_ns = value(line, "at", event.now_ns);
                event.busy_ns = value(line, "busy", 0);
                event.steps = (uint32_t)value(line, "steps", 0);
        } else {
                event.request = value(line, "id", 0);
                event.deadline_ns = value(line, "deadline", 0);
        }
        return event;
}

static void play(struct player *p, const char *line)
{
        struct core_effects effects;
        struct core_contract contract;
        struct core_event event = event_of(line, &contract);
        char timer[64];

        core_step(p->core, &event, &effects);
        for (uint32_t i = 0; i < effects.n; i++)
                say(p, &effects.effect[i]);
        if (effects.timer_ns != TAKT_NEVER) {
                snprintf(timer, sizeof timer, "  timer %.3f\n", (double)effects.timer_ns / 1e6);
                put(p, timer);
        }
}

static void begin(struct player *p, const char *line)
{
        struct core_device_config config[2] = {{.memory_bytes = value(line, "memory", 0) << 20,
                                                .switch_ns = value(line, "switch", 100000),
                                                .bound_ns = value(line, "bound", 2000000),
                                                .watchdog_ns = value(line, "watchdog", 10 * TAKT_S),
                                                .slice_ns = value(line, "slice", 2000000)}};

        config[1] = config[0];
        p->core = core_init(aligned_alloc(64, (core_size() + 63) / 64 * 64), 2, config, 0);
}

static int run(const char *path, int update)
{
        static struct player p;
        static char text[TEXT_MAX];
        char copy[TEXT_MAX], *save, *line;
        FILE *file = fopen(path, "r");
        size_t n;
        int same;

        if (!file)
                return perror(path), 1;
        n = fread(text, 1, sizeof text - 1, file);
        text[n] = 0;
        fclose(file);
        p.size = 0;
        memcpy(copy, text, n + 1);
        for (line = strtok_r(copy, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
                if (*line == ' ')
                        continue;
                put(&p, line);
                put(&p, "\n");
                if (!strncmp(line, "device ", 7))
                        begin(&p, line);
                else if (*line != '#')
                        play(&p, line);
        }
        free(p.core);
        same = !strcmp(text, p.out);
        if (!same && update && (file = fopen(path, "w"))) {
                fputs(p.out, file);
                fclose(file);
        } else if (!same) {
                printf("%s: the core now does\n%s", path, p.out);
        }
        return !same && !update;
}

int main(int argc, char **argv)
{
        int update = argc > 1 && !strcmp(argv[1], "--update"), failed = 0;

        for (int i = 1 + update; i < argc; i++)
                failed += run(argv[i], update);
        printf("%d golden traces, %d differ\n", argc - 1 - update, failed);
        return failed > 0 || argc < 2;
}
