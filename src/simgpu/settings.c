#include "simgpu/settings.h"
#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "simgpu/profile.h"
#include "simgpu/segment.h"

#define LONGEST_US 60000000 // what lies further ahead would be taken for hung
#define TEXT_OF(x) #x
#define TEXT(x) TEXT_OF(x)
#define UP_TO_LONGEST " to " TEXT(LONGEST_US)
#define A_STATE "1, 0, on or off"

typedef int (*read_fn)(const char *text, uint64_t *ret);

static char refused[256];

// Digits and no more; what is too large for the type is the largest, and so out of every range.
static int whole(const char *text, uint64_t *ret)
{
        char *end;

        if (!isdigit((unsigned char)*text))
                return -EINVAL;
        *ret = strtoull(text, &end, 10);
        return *end ? -EINVAL : 0;
}

// A decimal number of us, as ns. Not by strtod: the program's locale decides what that takes for a point.
static int time_us(const char *text, uint64_t *ret)
{
        size_t n = strcspn(text, ".");
        uint64_t part = 100;
        char before[24];

        if (n >= sizeof before)
                return -EINVAL;
        snprintf(before, sizeof before, "%.*s", (int)n, text);
        if (whole(before, ret) || *ret > LONGEST_US)
                return -EINVAL;
        *ret *= 1000;
        if (text[n] && !text[n + 1])
                return -EINVAL;
        for (text += n + !!text[n]; *text; text++, part /= 10) {
                if (!isdigit((unsigned char)*text))
                        return -EINVAL;
                *ret += part * (uint64_t)(*text - '0');
        }
        return 0;
}

static int state(const char *text, uint64_t *ret)
{
        *ret = !strcmp(text, "on") || !strcmp(text, "1");
        return *ret || !strcmp(text, "off") || !strcmp(text, "0") ? 0 : -EINVAL;
}

// nvidia-smi compute-policy --set-timeslice. Default: SIMGPU_SLICE_US decides.
static int policy(const char *text, uint64_t *ret)
{
        static const struct {
                const char *name;
                uint64_t ns;
        } classes[] = {{"default", 0}, {"short", 1000000}, {"medium", 4000000}, {"long", 30000000}};

        for (size_t i = 0; i < sizeof classes / sizeof *classes; i++)
                if (!strcmp(text, classes[i].name))
                        return *ret = classes[i].ns, 0;
        return -EINVAL;
}

static int llm(const char *text, uint64_t *ret)
{
        struct sim_llm any;

        *ret = 0;
        return sim_llm_read(text, &any);
}

// A file's name, with room for a device's number behind it.
static int name(const char *text, uint64_t *ret)
{
        *ret = 0;
        return strlen(text) <= 60 && !strchr(text, '/') ? 0 : -EINVAL;
}

static const struct setting {
        const char *name;
        read_fn read;
        uint64_t otherwise, least, most;
        const char *may_be; // NULL: a whole number, least to most
} settings[] = {
        {"SIMGPU_NAME", name, 0, 0, 0, "a name of up to 60 characters without /"},
        {"SIMGPU_DEVICES", whole, 1, 1, SIM_DEVICES_MAX, NULL},
        {"SIMGPU_DRIVER_VERSION", whole, 13000, 11040, 13990, NULL},
        {"SIMGPU_MEMORY_MIB", whole, 40960, 1, 1 << 20, NULL},
        {"SIMGPU_SLICE_US", time_us, 2000000, 1000, UINT64_MAX, "1" UP_TO_LONGEST},
        {"SIMGPU_SWITCH_US", time_us, 100000, 0, UINT64_MAX, "0" UP_TO_LONGEST},
        {"SIMGPU_KERNEL_US", time_us, 1000, 0, UINT64_MAX, "0" UP_TO_LONGEST},
        {"SIMGPU_POLICY", policy, 0, 0, UINT64_MAX, "default, short, medium or long"},
        {"SIMGPU_LLM", llm, 0, 0, 0,
         "decode_us=, extra_percent=, prefill_us= and norms=, each with a number"},
        {"SIMGPU_CONCURRENT", whole, 1, 1, SIM_LANES_MAX, NULL},
        {"SIMGPU_MPS", state, 0, 0, 1, A_STATE},
        {"SIMGPU_CLEARED", state, 0, 0, 1, A_STATE},
        {"SIMGPU_SPIN", state, 0, 0, 1, A_STATE},
        {"SIMGPU_ECC", state, 1, 0, 1, A_STATE},
        {"SIMGPU_CC", state, 0, 0, 1, A_STATE},
        {"SIMGPU_TRACE", state, 0, 0, 1, A_STATE},
};

#define N_SETTINGS (sizeof settings / sizeof *settings)

static const struct setting *find(const char *name)
{
        for (size_t i = 0; i < N_SETTINGS; i++)
                if (!strcmp(settings[i].name, name))
                        return &settings[i];
        return NULL;
}

// An empty text is none. 0, or -EINVAL; the default then, too.
static int read_setting(const struct setting *s, uint64_t *ret)
{
        const char *text = sim_setting(s->name);
        uint64_t value;

        *ret = s->otherwise;
        if (!text || !*text)
                return 0;
        if (s->read(text, &value) || value < s->least || value > s->most)
                return -EINVAL;
        *ret = value;
        return 0;
}

uint64_t sim_number(const char *name)
{
        uint64_t value;

        read_setting(find(name), &value);
        return value;
}

int sim_driver_version(void)
{
        return (int)sim_number("SIMGPU_DRIVER_VERSION");
}

int sim_settings_has(const char *name)
{
        return find(name) != NULL;
}

static int llm_word(const char *word, struct sim_llm *ret)
{
        const struct {
                const char *key;
                read_fn read;
                uint64_t least, most, *to;
        } keys[] = {{"decode_us=", time_us, 0, UINT64_MAX, &ret->decode_ns},
                    {"prefill_us=", time_us, 0, UINT64_MAX, &ret->prefill_ns},
                    {"extra_percent=", whole, 0, 10000, &ret->extra_percent},
                    {"norms=", whole, 1, 1000000, &ret->norms}};

        for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
                size_t n = strlen(keys[i].key);

                if (strncmp(word, keys[i].key, n))
                        continue;
                if (keys[i].read(word + n, keys[i].to))
                        return -EINVAL;
                return *keys[i].to >= keys[i].least && *keys[i].to <= keys[i].most ? 0 : -EINVAL;
        }
        return -EINVAL;
}

int sim_llm_read(const char *text, struct sim_llm *ret)
{
        char words[256], *rest = words;

        *ret = (struct sim_llm){.decode_ns = 5000000, .extra_percent = 3, .prefill_ns = 100000, .norms = 9};
        if ((size_t)snprintf(words, sizeof words, "%s", text) >= sizeof words)
                return -EINVAL;
        for (char *word; (word = strsep(&rest, " \t"));)
                if (*word && llm_word(word, ret))
                        return -EINVAL;
        return 0;
}

static void refuse(const struct setting *s)
{
        char range[48];

        snprintf(range, sizeof range, "%llu to %llu", (unsigned long long)s->least,
                 (unsigned long long)s->most);
        snprintf(refused, sizeof refused, "%s=%.80s is not %s", s->name, sim_setting(s->name),
                 s->may_be ? s->may_be : range);
        fprintf(stderr, "simgpu: %s\n", refused);
}

int sim_settings_check(void)
{
        const char *profile = sim_profile_refused();
        int error = *profile ? -EINVAL : 0;
        uint64_t any;

        snprintf(refused, sizeof refused, "%s", profile);
        for (size_t i = 0; i < N_SETTINGS; i++)
                if (read_setting(&settings[i], &any)) {
                        refuse(&settings[i]);
                        error = -EINVAL;
                }
        return error;
}

const char *sim_settings_refused(void)
{
        return refused;
}
