// takt-health: asks NVML how its GPUs are, and writes what it hears, as kube/helper.h says.
//
// While a GPU is unwell it lets go of NVML between its looks: a driver resets no GPU that somebody has open.
#include <dlfcn.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>
#include "base/clock.h"
#include "base/time.h"
#include "kube/helper.h"
#include "kube/vitals.h"

#define WAIT_MS 5000            // between looks, unless something happens
#define UNEASY_MS 1000          // the same, while something is wrong
#define UNEASY_NS (10 * TAKT_S) // how long after an error

// NVML's own numbers (nvml.h).
enum { SUCCESS = 0, NOT_SUPPORTED = 3, NOT_FOUND = 6, TIMEOUT = 10 };
#define EVENT_XID UINT64_C(8)
#define FIELD_RECOVERY_ACTION 230 // of drivers from R570 on

enum recovery { RECOVERY_NONE = 0, RECOVERY_DRAIN_P2P = 3, RECOVERY_IMEX = 5 };

struct event {
        void *device;
        unsigned long long type, data;
        unsigned instance, compute;
};

struct field {
        unsigned id, scope;
        long long timestamp, latency_us;
        unsigned type;
        int error;
        union {
                double d;
                unsigned u;
                unsigned long long ull;
        } value;
};

static struct nvml {
        int (*init)(void), (*shutdown)(void);
        int (*by_uuid)(const char *, void **);
        int (*memory)(void *, uint64_t[3]);
        int (*new_set)(void **), (*free_set)(void *);
        int (*add)(void *, unsigned long long, void *);
        int (*wait)(void *, struct event *, unsigned);
        int (*fields)(void *, int, struct field *); // NULL: an old driver's
        const char *(*words)(int);
} nvml;

static int n_devices;
static char **uuid;
static void *handle[KUBE_DEVICES_MAX];
static uint8_t known[KUBE_DEVICES_MAX]; // has answered
static uint64_t uneasy_until_ns;

static int find(void *library, const char *name, void *to)
{
        void *symbol = dlsym(library, name);

        memcpy(to, &symbol, sizeof symbol);
        return symbol != NULL;
}

static int load(void)
{
        void *library = dlopen("libnvidia-ml.so.1", RTLD_NOW);

        if (!library)
                return 0;
        find(library, "nvmlDeviceGetFieldValues", &nvml.fields);
        return find(library, "nvmlInit_v2", &nvml.init) && find(library, "nvmlShutdown", &nvml.shutdown) &&
               find(library, "nvmlDeviceGetHandleByUUID", &nvml.by_uuid) &&
               find(library, "nvmlDeviceGetMemoryInfo", &nvml.memory) &&
               find(library, "nvmlEventSetCreate", &nvml.new_set) &&
               find(library, "nvmlEventSetFree", &nvml.free_set) &&
               find(library, "nvmlDeviceRegisterEvents", &nvml.add) &&
               find(library, "nvmlEventSetWait_v2", &nvml.wait) &&
               find(library, "nvmlErrorString", &nvml.words);
}

static void tell(const char *format, ...) __attribute__((format(printf, 1, 2)));

// Whoever listens is gone where this fails.
static void tell(const char *format, ...)
{
        char line[256];
        va_list args;
        int n;

        va_start(args, format);
        n = vsnprintf(line, sizeof line, format, args);
        va_end(args);
        if (n >= (int)sizeof line)
                n = sizeof line - 1;
        line[n - 1] = '\n';
        if (write(HELPER_FD, line, (size_t)n) != n)
                exit(0);
}

// What the driver says must be done before the GPU can be used again; one that knows no such thing says
// nothing.
static const char *wanted(void *device)
{
        struct field field = {.id = FIELD_RECOVERY_ACTION};

        if (!nvml.fields || nvml.fields(device, 1, &field) != SUCCESS || field.error != SUCCESS)
                return NULL;
        switch (field.value.u) {
        case RECOVERY_NONE:
        case RECOVERY_DRAIN_P2P: // between GPUs only
        case RECOVERY_IMEX:
                return NULL;
        default:
                return "the driver asks for a reset";
        }
}

static void look_at(int d)
{
        uint64_t memory[3];
        int error = nvml.by_uuid(uuid[d], &handle[d]);
        const char *why;

        if (!error)
                error = nvml.memory(handle[d], memory);
        why = error && error != NOT_SUPPORTED ? nvml.words(error) : wanted(handle[d]);
        known[d] |= !error;
        if (why && (known[d] || error != NOT_FOUND))
                uneasy_until_ns = takt_clock_now() + UNEASY_NS;
        if (why)
                tell("silent %s %.100s\n", uuid[d], why);
        else
                tell("answers %s\n", uuid[d]);
}

static void tell_event(const struct event *event)
{
        if (event->type != EVENT_XID)
                return;
        if (!vitals_is_applications((uint32_t)event->data))
                uneasy_until_ns = takt_clock_now() + UNEASY_NS;
        for (int d = 0; d < n_devices; d++)
                if (handle[d] == event->device)
                        tell("error %s %llu\n", uuid[d], event->data);
}

// Returns 0 when NVML is to be let go of.
static int wait_for_news(void *set)
{
        struct event event;
        int uneasy = takt_clock_now() < uneasy_until_ns;
        int error = nvml.wait(set, &event, uneasy ? UNEASY_MS : WAIT_MS);

        for (; error == SUCCESS; error = nvml.wait(set, &event, 0))
                tell_event(&event);
        return error == TIMEOUT && takt_clock_now() >= uneasy_until_ns;
}

// From one nvmlInit to its nvmlShutdown.
static void session(void)
{
        void *set = NULL;
        int all = nvml.new_set(&set) == SUCCESS;

        for (int d = 0; d < n_devices; d++)
                if (all && nvml.by_uuid(uuid[d], &handle[d]) == SUCCESS)
                        nvml.add(handle[d], EVENT_XID, set);
        do {
                for (int d = 0; d < n_devices; d++)
                        look_at(d);
                tell("turn\n");
        } while (all && wait_for_news(set));
        if (all)
                nvml.free_set(set);
}

int main(int argc, char **argv)
{
        n_devices = argc - 1 < KUBE_DEVICES_MAX ? argc - 1 : KUBE_DEVICES_MAX;
        uuid = argv + 1;
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (!load())
                return HELPER_NO_NVML;
        for (;;) {
                int error = nvml.init();

                if (error == SUCCESS) {
                        session();
                        nvml.shutdown();
                } else {
                        for (int d = 0; d < n_devices; d++)
                                tell("silent %s %.100s\n", uuid[d], nvml.words(error));
                        tell("turn\n");
                }
                usleep(UNEASY_MS * 1000);
        }
}
