// The management library's view of the same device (NVML).
#include <errno.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
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
        DRIVER_NOT_LOADED = 9,
        TIMEOUT = 10,
        GPU_IS_LOST = 15,
        UNKNOWN = 999
};

static struct sim_segment *sim;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static int n_users; // initialisations that were not shut down
static char device;

API int nvmlInitWithFlags(unsigned flags)
{
        int error = SUCCESS;

        (void)flags;
        pthread_mutex_lock(&lock);
        if (!sim)
                sim = sim_segment_open();
        if (sim)
                __atomic_add_fetch(&n_users, 1, __ATOMIC_RELAXED);
        else
                error = DRIVER_NOT_LOADED;
        pthread_mutex_unlock(&lock);
        return error;
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
        int error = UNINITIALIZED;

        pthread_mutex_lock(&lock);
        if (n_users > 0) {
                __atomic_sub_fetch(&n_users, 1, __ATOMIC_RELAXED);
                error = SUCCESS;
        }
        pthread_mutex_unlock(&lock);
        return error;
}

static int ready(void)
{
        if (__atomic_load_n(&n_users, __ATOMIC_RELAXED) == 0)
                return UNINITIALIZED;
        return sim->lost ? GPU_IS_LOST : SUCCESS;
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
        case INSUFFICIENT_SIZE:
                return "Insufficient Size";
        case DRIVER_NOT_LOADED:
                return "Driver Not Loaded";
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

// The first driver of each version of CUDA for data centres (CUDA Toolkit release notes, table of driver
// versions).
static const struct {
        int cuda;
        const char *driver;
} drivers[] = {
        {13000, "580.65.06"}, {12090, "575.51.03"}, {12080, "570.26"},    {12060, "560.28.03"},
        {12050, "555.42.02"}, {12040, "550.54.14"}, {12030, "545.23.06"}, {12020, "535.54.03"},
        {12010, "530.30.02"}, {12000, "525.60.13"}, {11080, "520.61.05"}, {11070, "515.43.04"},
        {11060, "510.39.01"}, {11050, "495.29.05"}, {11040, "470.42.01"},
};

static const char *driver_text(void)
{
        size_t i = 0;

        while (i + 1 < sizeof drivers / sizeof *drivers && drivers[i].cuda > sim_driver_version())
                i++;
        return drivers[i].driver;
}

API int nvmlSystemGetDriverVersion(char *version, unsigned size)
{
        return text(version, size, driver_text());
}

API int nvmlSystemGetNVMLVersion(char *version, unsigned size)
{
        char own[32];

        snprintf(own, sizeof own, "%d.%s", sim_driver_version() / 1000, driver_text());
        return text(version, size, own);
}

API int nvmlSystemGetCudaDriverVersion(int *version)
{
        *version = sim_driver_version();
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

// Of the last sample that is over; how busy its memory was is not modelled, and taken to be the same.
API int nvmlDeviceGetUtilizationRates(void *of, unsigned rates[2])
{
        (void)of;
        if (ready())
                return ready();
        sim_segment_lock(sim);
        rates[0] = rates[1] = sim->device.busy_percent;
        sim_segment_unlock(sim);
        return SUCCESS;
}

API int nvmlDeviceGetEccMode(void *of, unsigned *current, unsigned *pending)
{
        (void)of;
        if (ready())
                return ready();
        *current = *pending = sim->ecc;
        return SUCCESS;
}

// type 0: corrected, 1: uncorrected
API int nvmlDeviceGetTotalEccErrors(void *of, unsigned type, unsigned counter, unsigned long long *n)
{
        (void)of, (void)counter;
        if (ready())
                return ready();
        if (!sim->ecc)
                return NOT_SUPPORTED;
        *n = type == 1 ? sim->n_ecc_errors : 0;
        return SUCCESS;
}

API int nvmlDeviceGetMigMode(void *of, unsigned *current, unsigned *pending)
{
        (void)of, (void)current, (void)pending;
        return NOT_SUPPORTED;
}

// nvmlConfComputeSystemState_t
struct confidential_state {
        unsigned environment; // 0: unavailable, 1: simulated, 2: production
        unsigned feature, developer_tools;
};

API int nvmlSystemGetConfComputeState(struct confidential_state *state)
{
        if (ready())
                return ready();
        *state = (struct confidential_state){.environment = sim->confidential ? 2 : 0,
                                             .feature = sim->confidential};
        return SUCCESS;
}

API int nvmlSystemGetConfComputeGpusReadyState(unsigned *accepts_work)
{
        if (ready())
                return ready();
        *accepts_work = sim->confidential;
        return SUCCESS;
}

// A set sees what happens once the device was registered with it.
struct event_set {
        uint64_t n_seen;
        unsigned long long types;
};

#define EVENT_XID 8u

API int nvmlEventSetCreate(struct event_set **set)
{
        if (ready())
                return ready();
        *set = calloc(1, sizeof **set);
        return *set ? SUCCESS : UNKNOWN;
}

API int nvmlEventSetFree(struct event_set *set)
{
        free(set);
        return SUCCESS;
}

API int nvmlDeviceRegisterEvents(void *of, unsigned long long types, struct event_set *set)
{
        (void)of;
        if (ready())
                return ready();
        if (types & ~(unsigned long long)EVENT_XID)
                return NOT_SUPPORTED;
        set->types |= types;
        set->n_seen = sim->n_xids;
        return SUCCESS;
}

API int nvmlDeviceGetSupportedEventTypes(void *of, unsigned long long *types)
{
        (void)of;
        *types = EVENT_XID;
        return ready();
}

struct event_data {
        void *device;
        unsigned long long type, data;
        unsigned instance, compute;
};

static int next_event(struct event_set *set, struct event_data *data)
{
        int found = 0;

        sim_segment_lock(sim);
        if (set->n_seen + SIM_XIDS_MAX < sim->n_xids)
                set->n_seen = sim->n_xids - SIM_XIDS_MAX;
        if ((set->types & EVENT_XID) && set->n_seen < sim->n_xids) {
                *data = (struct event_data){&device, EVENT_XID, sim->xid[set->n_seen++ % SIM_XIDS_MAX], ~0u,
                                            ~0u};
                found = 1;
        }
        sim_segment_unlock(sim);
        return found;
}

// Looks every 10 ms: an error is rare, and nobody waits for it on a fast path. A lost device still tells why.
API int nvmlEventSetWait_v2(struct event_set *set, struct event_data *data, unsigned timeout_ms)
{
        if (ready() == UNINITIALIZED)
                return UNINITIALIZED;
        for (unsigned waited = 0; !next_event(set, data); waited += 10) {
                if (waited >= timeout_ms)
                        return TIMEOUT;
                usleep(10000);
        }
        return SUCCESS;
}
