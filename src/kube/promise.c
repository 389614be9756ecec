#include "kube/promise.h"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/units.h"

enum kind { DURATION, PERCENT, SIZE, CLASS, NUMBER };

static const struct key {
        const char *name;
        enum kind kind;
        size_t at;
        const char *example;
} keys[] = {
        {"ttft", DURATION, offsetof(struct core_contract, ttft_ns), "200ms"},
        {"itl", DURATION, offsetof(struct core_contract, itl_ns), "50ms"},
        {"slo", DURATION, offsetof(struct core_contract, slo_ns), "150ms"},
        {"share", PERCENT, offsetof(struct core_contract, share_ppm), "30%"},
        {"memory", SIZE, offsetof(struct core_contract, memory_bytes), "12Gi"},
        {"class", CLASS, offsetof(struct core_contract, class), "deadline, fair or idle"},
        {"weight", NUMBER, offsetof(struct core_contract, weight), "1 to 10000"},
        {"peak", PERCENT, offsetof(struct core_contract, peak_ppm), "40%"},
        {"burst", DURATION, offsetof(struct core_contract, burst_ns), "60ms"},
        {"depth", DURATION, offsetof(struct core_contract, depth_ns), "300ms"},
        {"step", DURATION, offsetof(struct core_contract, step_ns), "5ms"},
};

static int class_of(const char *value)
{
        return !strcmp(value, "deadline") ? CORE_CLASS_DEADLINE
               : !strcmp(value, "fair")   ? CORE_CLASS_FAIR
               : !strcmp(value, "idle")   ? CORE_CLASS_IDLE
                                          : -EINVAL;
}

static int number_of(const char *value)
{
        char *end;
        long n = strtol(value, &end, 10);

        return end == value || *end || n < 1 || n > CORE_WEIGHT_MAX ? -EINVAL : (int)n;
}

// Nothing may be promised of which there is none: no key takes 0.
static int set(void *at, enum kind kind, const char *value)
{
        uint64_t *big = at;
        uint32_t *small = at;
        int n;

        switch (kind) {
        case DURATION:
                return takt_duration_parse(value, big);
        case SIZE:
                return takt_size_parse(value, big);
        case PERCENT:
                return takt_percent_parse(value, small);
        default:
                n = kind == CLASS ? class_of(value) : number_of(value);
                *small = n < 0 ? *small : (uint32_t)n;
                return n < 0 ? n : 0;
        }
}

static const struct key *find(const char *name)
{
        for (const struct key *k = keys; k < keys + sizeof keys / sizeof *keys; k++)
                if (!strcmp(name, k->name))
                        return k;
        return NULL;
}

int promise_set(struct core_contract *contract, const char *key, const char *value, char *why, size_t size)
{
        const struct key *k = find(key);

        if (!k)
                return snprintf(why, size, "unknown key \"%.40s\"", key), -ENOENT;
        if (set((char *)contract + k->at, k->kind, value) == 0)
                return 0;
        return snprintf(why, size, "%s: \"%.40s\" is no value for it (%s)", key, value, k->example), -EINVAL;
}

int promise_say(struct promise_words *words, const char *key, const char *value, char *why, size_t size)
{
        int error = promise_set(&words->said, key, value, why, size);

        if (!error)
                words->keys |= UINT32_C(1) << (find(key) - keys);
        return error;
}

static size_t size_of(enum kind kind)
{
        return kind == DURATION || kind == SIZE ? sizeof(uint64_t) : sizeof(uint32_t);
}

int promise_lay(const struct promise_words *words, struct core_contract *contract)
{
        int has_class = 0;

        for (const struct key *k = keys; k < keys + sizeof keys / sizeof *keys; k++)
                if (words->keys >> (k - keys) & 1) {
                        memcpy((char *)contract + k->at, (const char *)&words->said + k->at,
                               size_of(k->kind));
                        has_class |= k->kind == CLASS;
                }
        return has_class;
}

int promise_has_objective(const struct promise_words *words)
{
        return words->said.ttft_ns || words->said.itl_ns || words->said.slo_ns;
}

void promise_text(const struct core_contract *c, char *text, size_t size)
{
        static const char *const classes[] = {"deadline", "fair", "idle"};
        int n = snprintf(text, size, "class %s", classes[c->class]);

        for (const struct key *k = keys; k < keys + sizeof keys / sizeof *keys && n < (int)size; k++) {
                const void *at = (const char *)c + k->at;
                double big = k->kind == DURATION || k->kind == SIZE ? (double)*(const uint64_t *)at : 0;

                if (k->kind == DURATION && big > 0)
                        n += snprintf(text + n, size - (size_t)n, ", %s %g ms", k->name, big / 1e6);
                else if (k->kind == SIZE && big > 0)
                        n += snprintf(text + n, size - (size_t)n, ", %s %.4g GiB", k->name, big / (1 << 30));
                else if (k->kind == PERCENT && *(const uint32_t *)at)
                        n += snprintf(text + n, size - (size_t)n, ", %s %g %%", k->name,
                                      *(const uint32_t *)at / 1e4);
                else if (k->kind == NUMBER && *(const uint32_t *)at)
                        n += snprintf(text + n, size - (size_t)n, ", %s %u", k->name, *(const uint32_t *)at);
        }
}

int promise_check(struct core_contract *c, int has_class, uint64_t memory_bytes, char *why, size_t size)
{
        int objectives = c->slo_ns || c->ttft_ns || c->itl_ns;

        if (!has_class)
                c->class = objectives ? CORE_CLASS_DEADLINE : CORE_CLASS_FAIR;
        if (memory_bytes && c->memory_bytes > memory_bytes)
                return snprintf(why, size, "memory: %.1f GiB is more than the device's %.1f GiB",
                                (double)c->memory_bytes / (1 << 30), (double)memory_bytes / (1 << 30)),
                       -EINVAL;
        if (c->class != CORE_CLASS_DEADLINE)
                return 0;
        if (!c->share_ppm)
                return snprintf(why, size, "share: is missing, and objectives need one"), -EINVAL;
        if (c->slo_ns && (c->ttft_ns || c->itl_ns))
                return snprintf(why, size, "slo: goes with neither ttft nor itl"), -EINVAL;
        if (!c->slo_ns && !(c->ttft_ns && c->itl_ns))
                return snprintf(why, size, "%s: is missing (ttft and itl, or slo)",
                                c->ttft_ns  ? "itl"
                                : c->itl_ns ? "ttft"
                                            : "slo"),
                       -EINVAL;
        return 0;
}
