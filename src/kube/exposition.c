#include "kube/exposition.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LABELS_MAX 4096 // a name of 384 bytes once whole and once in parts, escaped

enum kind { COUNTER, GAUGE };
enum unit { NUMBER, SECONDS }; // SECONDS: from ns

struct family {
        const char *name;
        enum kind kind;
        enum unit unit;
        size_t offset; // of a uint64_t in the account
        const char *help;
};

#define OF_TENANT(member) offsetof(struct door_tenant_account, member)
#define OF_DEVICE(member) offsetof(struct door_device_account, member)

static const struct family of_tenant[] = {
        {"takt_gpu_seconds_total", COUNTER, SECONDS, OF_TENANT(busy_ns), "Device time that the tenant used."},
        {"takt_held_seconds_total", COUNTER, SECONDS, OF_TENANT(held_ns),
         "Time for which the tenant held the device, pauses between its steps included."},
        {"takt_wait_seconds_total", COUNTER, SECONDS, OF_TENANT(wait_ns),
         "Time that the tenant waited for slices, counted when it got them."},
        {"takt_tail_seconds_total", COUNTER, SECONDS, OF_TENANT(tail_ns),
         "Time for which the tenant's work went on after its slices had ended."},
        {"takt_slices_total", COUNTER, NUMBER, OF_TENANT(slices), "Slices that the tenant was given."},
        {"takt_switches_total", COUNTER, NUMBER, OF_TENANT(switches),
         "Slices that took the device over from another tenant."},
        {"takt_steps_total", COUNTER, NUMBER, OF_TENANT(steps), "Steps (bursts of work) that ended."},
        {"takt_overruns_total", COUNTER, NUMBER, OF_TENANT(overruns),
         "Slices that did not end within their bound."},
        {"takt_arrivals_total", COUNTER, NUMBER, OF_TENANT(requests),
         "Requests that the tenant's server told of."},
        {"takt_memory_used_bytes", GAUGE, NUMBER, OF_TENANT(memory_bytes),
         "Device memory that the tenant has."},
};

static const struct family of_device[] = {
        {"takt_device_held_seconds_total", COUNTER, SECONDS, OF_DEVICE(held_ns),
         "Time for which some tenant held the device."},
        {"takt_device_idle_seconds_total", COUNTER, SECONDS, OF_DEVICE(idle_ns),
         "Time for which nobody held the device."},
        {"takt_device_switch_seconds_total", COUNTER, SECONDS, OF_DEVICE(switch_ns),
         "Time that the device's changes of holder took."},
        {"takt_device_switches_total", COUNTER, NUMBER, OF_DEVICE(switches),
         "Changes of the device's holder."},
        {"takt_device_promised_bytes", GAUGE, NUMBER, OF_DEVICE(promised_bytes),
         "Device memory that is promised to tenants."},
};

// From 10 us, a hand-over's own time, to 10 s, when the watchdog bites.
static const struct bound {
        uint64_t ns;
        const char *text;
} bounds[] = {
        {10 * TAKT_US, "1e-05"}, {100 * TAKT_US, "0.0001"}, {500 * TAKT_US, "0.0005"}, {1 * TAKT_MS, "0.001"},
        {2 * TAKT_MS, "0.002"},  {5 * TAKT_MS, "0.005"},    {10 * TAKT_MS, "0.01"},    {20 * TAKT_MS, "0.02"},
        {50 * TAKT_MS, "0.05"},  {100 * TAKT_MS, "0.1"},    {200 * TAKT_MS, "0.2"},    {500 * TAKT_MS, "0.5"},
        {1 * TAKT_S, "1"},       {2 * TAKT_S, "2"},         {5 * TAKT_S, "5"},         {10 * TAKT_S, "10"}};
#define N_BOUNDS (sizeof bounds / sizeof *bounds)

// The bytes of the UTF-8 character at `text`; 0: it is none. One wrong byte would cost the whole answer.
static size_t character(const char *text)
{
        const unsigned char *c = (const unsigned char *)text;
        size_t n = c[0] < 0x80                   ? 1
                   : c[0] >= 0xc2 && c[0] < 0xe0 ? 2
                   : (c[0] & 0xf0) == 0xe0       ? 3
                   : c[0] >= 0xf0 && c[0] < 0xf5 ? 4
                                                 : 0;

        for (size_t i = 1; i < n; i++)
                if ((c[i] & 0xc0) != 0x80)
                        return 0;
        if ((c[0] == 0xe0 && c[1] < 0xa0) || (c[0] == 0xed && c[1] > 0x9f) || (c[0] == 0xf0 && c[1] < 0x90) ||
            (c[0] == 0xf4 && c[1] > 0x8f))
                return 0;
        return n;
}

// key="value" for the first `size` bytes of the value.
static char *label(char *to, const char *key, const char *value, size_t size)
{
        const char *end = value + size;

        to += sprintf(to, "%s=\"", key);
        while (value < end) {
                size_t n = character(value);

                if (*value == '\\' || *value == '"' || *value == '\n') {
                        *to++ = '\\';
                        *to++ = *value == '\n' ? 'n' : *value;
                } else if (n == 0 || n > (size_t)(end - value)) {
                        *to++ = '?';
                        n = 1;
                } else {
                        to = mempcpy(to, value, n);
                }
                value += n;
        }
        *to++ = '"';
        *to = 0;
        return to;
}

// A door's tenant is called namespace/pod/container once its pod is known.
static char *pod_labels(char *to, const struct door_tenant_account *t)
{
        static const char *const keys[] = {"namespace", "pod", "container"};
        const char *at[4] = {t->name};
        int n = 1;

        for (const char *c = t->by_door ? t->name : ""; *c && n < 4; c++)
                if (*c == '/')
                        at[n++] = c + 1;
        for (int i = 0; i < 3; i++) {
                size_t size = n != 3 ? 0 : i < 2 ? (size_t)(at[i + 1] - at[i]) - 1 : strlen(at[i]);

                to = label(to, keys[i], n == 3 ? at[i] : "", size);
                *to++ = ',';
        }
        return to;
}

static void tenant_labels(char *to, const struct exposition *e, const struct door_tenant_account *t)
{
        const char *gpu = e->device[t->device].uuid;

        to = label(pod_labels(to, t), "tenant", t->name, strlen(t->name));
        to += sprintf(to, ",seat=\"%u\",", t->number);
        label(to, "gpu", gpu, strlen(gpu));
}

static void head(FILE *out, const char *name, const char *type, const char *help)
{
        fprintf(out, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, type);
}

static void put(FILE *out, const char *name, const char *labels, enum unit unit, uint64_t value)
{
        if (unit == SECONDS)
                fprintf(out, "%s{%s} %lu.%09lu\n", name, labels, value / TAKT_S, value % TAKT_S);
        else
                fprintf(out, "%s{%s} %lu\n", name, labels, value);
}

static void put_family(FILE *out, const struct family *f, char *const *labels, const void *accounts,
                       size_t size, uint32_t n)
{
        head(out, f->name, f->kind == COUNTER ? "counter" : "gauge", f->help);
        for (uint32_t i = 0; i < n; i++)
                put(out, f->name, labels[i], f->unit,
                    *(const uint64_t *)(const void *)((const char *)accounts + i * size + f->offset));
}

static void put_waits(FILE *out, const char *labels, const struct takt_histogram *waits)
{
        uint64_t ns[N_BOUNDS], n[N_BOUNDS];

        for (size_t b = 0; b < N_BOUNDS; b++)
                ns[b] = bounds[b].ns;
        takt_histogram_up_to(waits, ns, N_BOUNDS, n);
        for (size_t b = 0; b < N_BOUNDS; b++)
                fprintf(out, "takt_lease_wait_seconds_bucket{%s,le=\"%s\"} %lu\n", labels, bounds[b].text,
                        n[b]);
        fprintf(out, "takt_lease_wait_seconds_bucket{%s,le=\"+Inf\"} %lu\n", labels, waits->count);
        put(out, "takt_lease_wait_seconds_sum", labels, SECONDS, waits->sum_ns);
        put(out, "takt_lease_wait_seconds_count", labels, NUMBER, waits->count);
}

static void put_tenants(FILE *out, const struct exposition *e, char *const *labels)
{
        const struct door_tenant_account *t = e->now.tenant;
        uint32_t n = e->now.n_tenants;

        for (size_t f = 0; f < sizeof of_tenant / sizeof *of_tenant; f++)
                put_family(out, &of_tenant[f], labels, t, sizeof *t, n);
        head(out, "takt_lease_wait_seconds", "histogram", "How long the tenant waited for each slice.");
        for (uint32_t i = 0; i < n; i++)
                put_waits(out, labels[i], t[i].waits);
        head(out, "takt_requests_total", "counter",
             "Requests with a deadline, by whether their first token (their end, where no token was told) "
             "came "
             "by it.");
        for (uint32_t i = 0; i < n; i++)
                fprintf(out,
                        "takt_requests_total{%s,in_time=\"true\"} "
                        "%lu\ntakt_requests_total{%s,in_time=\"false\"} "
                        "%lu\n",
                        labels[i], t[i].in_time, labels[i], t[i].late);
        head(out, "takt_degradation_factor", "gauge",
             "Device time and the waits for it over device time, since the tenant began: 1 is a device of "
             "its own.");
        for (uint32_t i = 0; i < n; i++)
                if (t[i].busy_ns)
                        fprintf(out, "takt_degradation_factor{%s} %.4f\n", labels[i],
                                1 + (double)t[i].wait_ns / (double)t[i].busy_ns);
        head(out, "takt_memory_quota_bytes", "gauge",
             "Device memory that the tenant may have; none: no quota.");
        for (uint32_t i = 0; i < n; i++)
                if (t[i].quota_bytes)
                        put(out, "takt_memory_quota_bytes", labels[i], NUMBER, t[i].quota_bytes);
        head(out, "takt_share_ratio", "gauge", "Share of the device that is promised to the tenant.");
        for (uint32_t i = 0; i < n; i++)
                fprintf(out, "takt_share_ratio{%s} %.6f\n", labels[i], t[i].share_ppm / 1e6);
        head(out, "takt_processes", "gauge", "Processes of the tenant.");
        for (uint32_t i = 0; i < n; i++)
                put(out, "takt_processes", labels[i], NUMBER, t[i].n_processes);
}

static void put_devices(FILE *out, const struct exposition *e, char *const *labels)
{
        const struct door_device_account *d = e->now.device;
        char model[160];

        head(out, "takt_device_info", "gauge", "A device; its model is a label.");
        for (uint32_t i = 0; i < e->now.n_devices; i++) {
                label(model, "model", e->device[i].name, strlen(e->device[i].name));
                fprintf(out, "takt_device_info{%s,%s} 1\n", labels[i], model);
        }
        head(out, "takt_device_healthy", "gauge", "1: the device is well; 0: it is lost.");
        for (uint32_t i = 0; i < e->now.n_devices; i++)
                put(out, "takt_device_healthy", labels[i], NUMBER, !e->lost[i]);
        head(out, "takt_device_watched", "gauge", "1: NVML tells of the device's health; 0: only files do.");
        for (uint32_t i = 0; i < e->now.n_devices; i++)
                put(out, "takt_device_watched", labels[i], NUMBER, e->watched[i]);
        head(out, "takt_device_memory_bytes", "gauge", "Memory of the device.");
        for (uint32_t i = 0; i < e->now.n_devices; i++)
                put(out, "takt_device_memory_bytes", labels[i], NUMBER, e->device[i].memory_bytes);
        for (size_t f = 0; f < sizeof of_device / sizeof *of_device; f++)
                put_family(out, &of_device[f], labels, d, sizeof *d, e->now.n_devices);
        head(out, "takt_device_promised_ratio", "gauge", "Share of the device that is promised to tenants.");
        for (uint32_t i = 0; i < e->now.n_devices; i++)
                fprintf(out, "takt_device_promised_ratio{%s} %.6f\n", labels[i], d[i].promised_ppm / 1e6);
        head(out, "takt_device_bypass", "gauge",
             "1: the watchdog bit, and the device is first come first served.");
        for (uint32_t i = 0; i < e->now.n_devices; i++)
                put(out, "takt_device_bypass", labels[i], NUMBER, d[i].bypass);
}

static void put_slots(FILE *out, const struct exposition *e, char *const *labels)
{
        for (int held = 0; held < 2; held++) {
                const char *name = held ? "takt_slots_held" : "takt_slots";

                head(out, name, "gauge",
                     held ? "Slots of the resource on the device that containers have."
                          : "Slots of the resource on the device.");
                for (uint32_t r = 0; r < e->n_resources; r++)
                        for (uint32_t d = 0; d < e->now.n_devices; d++)
                                if (e->resource[r].slots[d])
                                        fprintf(out, "%s{resource=\"%s\",%s} %u\n", name, e->resource[r].name,
                                                labels[d],
                                                held ? e->resource[r].held[d] : e->resource[r].slots[d]);
        }
}

static void put_all(FILE *out, const struct exposition *e, char *const *of_tenants, char *const *of_devices)
{
        head(out, "takt_build_info", "gauge", "The daemon; its version is a label.");
        fprintf(out, "takt_build_info{version=\"%s\"} 1\n", e->now.version);
        put_devices(out, e, of_devices);
        put_slots(out, e, of_devices);
        put_tenants(out, e, of_tenants);
}

// Every line of a tenant has the same labels: they are made once.
static int make_labels(const struct exposition *e, char **of_tenants, char **of_devices)
{
        char text[LABELS_MAX];
        int whole = 1;

        for (uint32_t i = 0; i < e->now.n_tenants; i++) {
                tenant_labels(text, e, &e->now.tenant[i]);
                whole &= (of_tenants[i] = strdup(text)) != NULL;
        }
        for (uint32_t i = 0; i < e->now.n_devices; i++) {
                label(text, "gpu", e->device[i].uuid, strlen(e->device[i].uuid));
                whole &= (of_devices[i] = strdup(text)) != NULL;
        }
        return whole;
}

char *exposition_text(const struct exposition *e, size_t *ret_size)
{
        char *of_tenants[DOOR_TENANTS_MAX] = {0}, *of_devices[DOOR_DEVICES_MAX] = {0}, *text = NULL;
        FILE *out = open_memstream(&text, ret_size);
        int failed = !out || !make_labels(e, of_tenants, of_devices);

        if (!failed)
                put_all(out, e, of_tenants, of_devices);
        if (out)
                failed |= fclose(out) != 0;
        for (uint32_t i = 0; i < DOOR_TENANTS_MAX; i++)
                free(of_tenants[i]);
        for (uint32_t i = 0; i < DOOR_DEVICES_MAX; i++)
                free(of_devices[i]);
        if (failed)
                free(text);
        return failed ? NULL : text;
}
