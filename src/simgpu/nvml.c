// The management library's view of the same device (NVML).
#include <errno.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include "simgpu/profile.h"
#include "simgpu/segment.h"

#define API __attribute__((visibility("default")))

enum {
        SUCCESS = 0,
        UNINITIALIZED = 1,
        INVALID_ARGUMENT = 2,
        NOT_SUPPORTED = 3,
        NOT_FOUND = 6,
        INSUFFICIENT_SIZE = 7,
        TIMEOUT = 10,
        GPU_IS_LOST = 15
};

static struct sim_segment *sim;
static char device;

API int nvmlInitWithFlags(unsigned flags)
{
        (void)flags;
        if (!sim)
                sim = sim_segment_open();
        return sim ? SUCCESS : UNINITIALIZED;
}

API int nvmlInit_v2(void)
{
        return nvmlInitWithFlags(0);
}

API int nvmlInit(void)
{
        return nvmlInitWithFlags(0);
}

API int nvmlShutdown(void)
{
        return SUCCESS;
}

static int ready(void)
{
        return !sim ? UNINITIALIZED : sim->lost ? GPU_IS_LOST : SUCCESS;
}

API const char *nvmlErrorString(int error)
{
        switch (error) {
        case SUCCESS:
                return "Success";
        case UNINITIALIZED:
                return "Uninitialized";
        case INVALID_ARGUMENT:
                return "Invalid Argument";
        case NOT_SUPPORTED:
                return "Not Supported";
        case NOT_FOUND:
                return "Not Found";
        case TIMEOUT:
                return "Timeout";
        case GPU_IS_LOST:
                return "GPU is lost";
        default:
                return "Unknown Error";
        }
}

static int text(char *to, unsigned size, const char *from)
{
        if (strlen(from) >= size)
                return INSUFFICIENT_SIZE;
        strcpy(to, from);
        return SUCCESS;
}

static int claimed_version(void)
{
        const char *claimed = sim_setting("SIMGPU_DRIVER_VERSION");

        return claimed && *claimed ? atoi(claimed) : 13000;
}

API int nvmlSystemGetDriverVersion(char *version, unsigned size)
{
        return text(version, size, claimed_version() >= 13000 ? "580.65.06" : "535.183.01");
}

API int nvmlSystemGetNVMLVersion(char *version, unsigned size)
{
        return text(version, size, "13.580.65.06");
}

API int nvmlSystemGetCudaDriverVersion(int *version)
{
        *version = claimed_version();
        return SUCCESS;
}

API int nvmlSystemGetCudaDriverVersion_v2(int *version)
{
        return nvmlSystemGetCudaDriverVersion(version);
}

API int nvmlDeviceGetCount_v2(unsigned *n)
{
        *n = 1;
        return ready();
}

API int nvmlDeviceGetCount(unsigned *n)
{
        return nvmlDeviceGetCount_v2(n);
}

API int nvmlDeviceGetHandleByIndex_v2(unsigned index, void **ret)
{
        *ret = &device;
        return index == 0 ? ready() : INVALID_ARGUMENT;
}

API int nvmlDeviceGetHandleByIndex(unsigned index, void **ret)
{
        return nvmlDeviceGetHandleByIndex_v2(index, ret);
}

// The same bytes as the driver's cuDeviceGetUuid.
static void uuid_text(char *to)
{
        const char *name = sim_segment_name();
        unsigned char u[16] = "SIMGPU\x40\x00\x80\x00";

        for (int i = 0; name[i]; i++)
                u[10 + i % 6] = (unsigned char)(u[10 + i % 6] * 31 + name[i]);
        sprintf(to, "GPU-%02x%02x%02x%02x-%02x%02x-%02x%02x-%02x%02x-%02x%02x%02x%02x%02x%02x", u[0], u[1],
                u[2], u[3], u[4], u[5], u[6], u[7], u[8], u[9], u[10], u[11], u[12], u[13], u[14], u[15]);
}

API int nvmlDeviceGetUUID(void *of, char *uuid, unsigned size)
{
        char own[64];

        (void)of;
        uuid_text(own);
        return text(uuid, size, own);
}

API int nvmlDeviceGetHandleByUUID(const char *uuid, void **ret)
{
        char own[64];

        uuid_text(own);
        *ret = &device;
        return strcmp(own, uuid) ? NOT_FOUND : ready();
}

API int nvmlDeviceGetHandleByPciBusId_v2(const char *bus, void **ret)
{
        *ret = &device;
        return strstr(bus, "07:00") ? ready() : NOT_FOUND;
}

API int nvmlDeviceGetName(void *of, char *name, unsigned size)
{
        (void)of;
        return text(name, size, "NVIDIA A100-SXM4-40GB");
}

API int nvmlDeviceGetIndex(void *of, unsigned *index)
{
        (void)of;
        *index = 0;
        return SUCCESS;
}

API int nvmlDeviceGetMinorNumber(void *of, unsigned *minor)
{
        return nvmlDeviceGetIndex(of, minor);
}

API int nvmlDeviceGetCudaComputeCapability(void *of, int *major, int *minor)
{
        (void)of;
        *major = 8;
        *minor = 0;
        return SUCCESS;
}

API int nvmlDeviceGetMemoryInfo(void *of, uint64_t info[3]) // total, free, used
{
        (void)of;
        if (ready())
                return ready();
        info[0] = sim->memory_bytes;
        info[1] = sim->memory_bytes - sim->memory_used_bytes;
        info[2] = sim->memory_used_bytes;
        return SUCCESS;
}

struct memory_v2 {
        unsigned version;
        uint64_t total, reserved, free, used;
};

API int nvmlDeviceGetMemoryInfo_v2(void *of, struct memory_v2 *info)
{
        uint64_t plain[3];
        int error = nvmlDeviceGetMemoryInfo(of, plain);

        if (error)
                return error;
        info->total = plain[0];
        info->reserved = 0;
        info->free = plain[1];
        info->used = plain[2];
        return SUCCESS;
}

// nvmlProcessInfo_t of the v2 and v3 calls
struct process_info {
        unsigned pid;
        uint64_t memory;
        unsigned instance, compute;
};

// The first form of the call has only these.
struct process_info_v1 {
        unsigned pid;
        uint64_t memory;
};

// Up to `room` of the device's processes; how many there are.
static unsigned list_processes(struct process_info *infos, unsigned room)
{
        unsigned n = 0;

        sim_segment_lock(sim);
        sim_segment_sweep(sim);
        for (int p = 0; p < SIM_PROCESSES_MAX; p++) {
                if (!sim->process[p].pid)
                        continue;
                if (n < room)
                        infos[n] = (struct process_info){sim->process[p].pid, sim->process[p].memory_bytes,
                                                         ~0u, ~0u};
                n++;
        }
        sim_segment_unlock(sim);
        return n;
}

API int nvmlDeviceGetComputeRunningProcesses_v3(void *of, unsigned *n, struct process_info *infos)
{
        unsigned room = *n;

        (void)of;
        if (ready())
                return ready();
        *n = list_processes(infos, infos ? room : 0);
        return *n > room ? INSUFFICIENT_SIZE : SUCCESS;
}

API int nvmlDeviceGetComputeRunningProcesses_v2(void *of, unsigned *n, struct process_info *infos)
{
        return nvmlDeviceGetComputeRunningProcesses_v3(of, n, infos);
}

API int nvmlDeviceGetComputeRunningProcesses(void *of, unsigned *n, struct process_info_v1 *infos)
{
        struct process_info all[SIM_PROCESSES_MAX];
        unsigned room = *n;

        (void)of;
        if (ready())
                return ready();
        *n = list_processes(all, SIM_PROCESSES_MAX);
        for (unsigned i = 0; infos && i < *n && i < room; i++)
                infos[i] = (struct process_info_v1){all[i].pid, all[i].memory};
        return *n > room ? INSUFFICIENT_SIZE : SUCCESS;
}

// Sampled over the second before, as slowly as the real one.
API int nvmlDeviceGetUtilizationRates(void *of, unsigned rates[2])
{
        static uint64_t seen_ns, seen_busy_ns;
        static unsigned percent;

        (void)of;
        if (ready())
                return ready();
        sim_segment_lock(sim);
        if (sim->device.now_ns - seen_ns >= 1000000000u) {
                if (seen_ns)
                        percent = (unsigned)(100 * (sim->device.busy_ns - seen_busy_ns) /
                                             (sim->device.now_ns - seen_ns));
                seen_ns = sim->device.now_ns;
                seen_busy_ns = sim->device.busy_ns;
        }
        sim_segment_unlock(sim);
        rates[0] = percent;
        rates[1] = percent;
        return SUCCESS;
}

API int nvmlDeviceGetEccMode(void *of, unsigned *current, unsigned *pending)
{
        (void)of;
        *current = *pending = 1;
        return SUCCESS;
}

API int nvmlDeviceGetMigMode(void *of, unsigned *current, unsigned *pending)
{
        (void)of, (void)current, (void)pending;
        return NOT_SUPPORTED;
}

API int nvmlSystemGetConfComputeState(unsigned state[4])
{
        memset(state, 0, 4 * sizeof *state);
        return SUCCESS;
}

API int nvmlEventSetCreate(void **set)
{
        *set = calloc(1, sizeof(uint64_t));
        if (*set && sim)
                *(uint64_t *)*set = sim->n_xids;
        return *set ? SUCCESS : 999;
}

API int nvmlEventSetFree(void *set)
{
        free(set);
        return SUCCESS;
}

API int nvmlDeviceRegisterEvents(void *of, unsigned long long types, void *set)
{
        (void)of, (void)types, (void)set;
        return SUCCESS;
}

API int nvmlDeviceGetSupportedEventTypes(void *of, unsigned long long *types)
{
        (void)of;
        *types = 8; // XID
        return SUCCESS;
}

struct event_data {
        void *device;
        unsigned long long type, data;
        unsigned instance, compute;
};

// Looks every 10 ms: an error is rare, and nobody waits for it on a fast path.
API int nvmlEventSetWait_v2(void *set, struct event_data *data, unsigned timeout_ms)
{
        uint64_t *seen = set;

        for (unsigned waited = 0;; waited += 10) {
                if (sim->n_xids > *seen) {
                        ++*seen;
                        *data = (struct event_data){&device, 8, sim->xid, ~0u, ~0u};
                        return SUCCESS;
                }
                if (waited >= timeout_ms)
                        return TIMEOUT;
                usleep(10000);
        }
}
