// The management library's view of the same device (NVML).
#include <errno.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "simgpu/devices.h"
#include "simgpu/settings.h"

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

static struct sim_segment *sims[SIM_DEVICES_MAX];
static uint32_t n_devices; // 0: not opened yet
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static int n_users;                   // initialisations that were not shut down
static char devices[SIM_DEVICES_MAX]; // what handles point to

API int nvmlInitWithFlags(unsigned flags)
{
        int error = SUCCESS;

        (void)flags;
        pthread_mutex_lock(&lock);
        if (!n_devices)
                n_devices = sim_devices_open(sims);
        if (n_devices)
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

static int started(void)
{
        return __atomic_load_n(&n_users, __ATOMIC_RELAXED) ? SUCCESS : UNINITIALIZED;
}

static uint32_t index_of(const void *of)
{
        return (uint32_t)((const char *)of - devices);
}

// Its segment is not NULL then.
static int known(const void *of)
{
        if (started())
                return started();
        return index_of(of) < n_devices ? SUCCESS : INVALID_ARGUMENT;
}

static int ready(const void *of)
{
        if (known(of))
                return known(of);
        return sims[index_of(of)]->lost ? GPU_IS_LOST : SUCCESS;
}

// For what is asked of no device: all are not lost.
static int any_ready(void)
{
        int error = UNINITIALIZED;

        for (uint32_t i = 0; i < n_devices && (error = ready(devices + i)); i++)
                ;
        return error;
}

static struct sim_segment *sim_of(const void *of)
{
        return sims[index_of(of)];
}

// With what was refused: not every program lets one see the library's standard error.
static const char *not_loaded(void)
{
        static __thread char why[320];
        const char *refused = sim_settings_refused();

        snprintf(why, sizeof why, "Driver Not Loaded%s%s", *refused ? ": " : "", refused);
        return why;
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
                return not_loaded();
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
        *n = n_devices;
        return any_ready();
}

API int nvmlDeviceGetCount(unsigned *n)
{
        return nvmlDeviceGetCount_v2(n);
}

API int nvmlDeviceGetHandleByIndex_v2(unsigned index, void **ret)
{
        *ret = devices + (index < SIM_DEVICES_MAX ? index : 0);
        return index < SIM_DEVICES_MAX ? ready(*ret) : INVALID_ARGUMENT;
}

API int nvmlDeviceGetHandleByIndex(unsigned index, void **ret)
{
        return nvmlDeviceGetHandleByIndex_v2(index, ret);
}

// The same bytes as the driver's cuDeviceGetUuid.
static void uuid_text(uint32_t device, char *to)
{
        unsigned char u[16];

        sim_devices_uuid(device, u);
        sprintf(to, "GPU-%02x%02x%02x%02x-%02x%02x-%02x%02x-%02x%02x-%02x%02x%02x%02x%02x%02x", u[0], u[1],
                u[2], u[3], u[4], u[5], u[6], u[7], u[8], u[9], u[10], u[11], u[12], u[13], u[14], u[15]);
}

API int nvmlDeviceGetUUID(void *of, char *uuid, unsigned size)
{
        char own[64];

        if (known(of))
                return known(of);
        uuid_text(index_of(of), own);
        return text(uuid, size, own);
}

API int nvmlDeviceGetHandleByUUID(const char *uuid, void **ret)
{
        char own[64];

        for (uint32_t i = 0; i < n_devices; i++) {
                uuid_text(i, own);
                *ret = devices + i;
                if (!strcmp(own, uuid))
                        return ready(*ret);
        }
        return started() ? started() : NOT_FOUND;
}

API int nvmlDeviceGetHandleByPciBusId_v2(const char *bus, void **ret)
{
        int at = sim_devices_at(bus);

        if (started() || at < 0)
                return started() ? started() : NOT_FOUND;
        *ret = devices + at;
        return ready(*ret);
}

API int nvmlDeviceGetName(void *of, char *name, unsigned size)
{
        (void)of;
        return text(name, size, "NVIDIA A100-SXM4-40GB");
}

API int nvmlDeviceGetIndex(void *of, unsigned *index)
{
        *index = index_of(of);
        return known(of);
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
        if (ready(of))
                return ready(of);
        info[0] = sim_of(of)->memory_bytes;
        info[2] = sim_of(of)->memory_used_bytes;
        info[1] = info[0] - info[2];
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
static unsigned list_processes(struct sim_segment *sim, struct process_info *infos, unsigned room)
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

        if (ready(of))
                return ready(of);
        *n = list_processes(sim_of(of), infos, infos ? room : 0);
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

        if (ready(of))
                return ready(of);
        *n = list_processes(sim_of(of), all, SIM_PROCESSES_MAX);
        for (unsigned i = 0; infos && i < *n && i < room; i++)
                infos[i] = (struct process_info_v1){all[i].pid, all[i].memory};
        return *n > room ? INSUFFICIENT_SIZE : SUCCESS;
}

// Of the last sample that is over; how busy its memory was is not modelled, and taken to be the same.
API int nvmlDeviceGetUtilizationRates(void *of, unsigned rates[2])
{
        if (ready(of))
                return ready(of);
        sim_segment_lock(sim_of(of));
        rates[0] = rates[1] = sim_of(of)->device.busy_percent;
        sim_segment_unlock(sim_of(of));
        return SUCCESS;
}

API int nvmlDeviceGetEccMode(void *of, unsigned *current, unsigned *pending)
{
        if (ready(of))
                return ready(of);
        *current = *pending = sim_of(of)->ecc;
        return SUCCESS;
}

// type 0: corrected, 1: uncorrected
API int nvmlDeviceGetTotalEccErrors(void *of, unsigned type, unsigned counter, unsigned long long *n)
{
        (void)counter;
        if (ready(of))
                return ready(of);
        if (!sim_of(of)->ecc)
                return NOT_SUPPORTED;
        *n = type == 1 ? sim_of(of)->n_ecc_errors : 0;
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
        if (any_ready())
                return any_ready();
        *state = (struct confidential_state){.environment = sims[0]->confidential ? 2 : 0,
                                             .feature = sims[0]->confidential};
        return SUCCESS;
}

API int nvmlSystemGetConfComputeGpusReadyState(unsigned *accepts_work)
{
        if (any_ready())
                return any_ready();
        *accepts_work = sims[0]->confidential;
        return SUCCESS;
}

// A set sees what happens once a device was registered with it.
struct event_set {
        struct {
                uint64_t n_seen;
                unsigned long long types;
        } of[SIM_DEVICES_MAX];
};

#define EVENT_XID 8u

API int nvmlEventSetCreate(struct event_set **set)
{
        if (started())
                return started();
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
        if (ready(of))
                return ready(of);
        if (types & ~(unsigned long long)EVENT_XID)
                return NOT_SUPPORTED;
        set->of[index_of(of)].types |= types;
        set->of[index_of(of)].n_seen = sim_of(of)->n_xids;
        return SUCCESS;
}

API int nvmlDeviceGetSupportedEventTypes(void *of, unsigned long long *types)
{
        *types = EVENT_XID;
        return ready(of);
}

struct event_data {
        void *device;
        unsigned long long type, data;
        unsigned instance, compute;
};

static int next_event_of(uint32_t i, struct event_set *set, struct event_data *data)
{
        struct sim_segment *sim = sims[i];
        uint64_t *n_seen = &set->of[i].n_seen;
        int found = 0;

        sim_segment_lock(sim);
        if (*n_seen + SIM_XIDS_MAX < sim->n_xids)
                *n_seen = sim->n_xids - SIM_XIDS_MAX;
        if ((set->of[i].types & EVENT_XID) && *n_seen < sim->n_xids) {
                *data = (struct event_data){devices + i, EVENT_XID, sim->xid[(*n_seen)++ % SIM_XIDS_MAX], ~0u,
                                            ~0u};
                found = 1;
        }
        sim_segment_unlock(sim);
        return found;
}

static int next_event(struct event_set *set, struct event_data *data)
{
        for (uint32_t i = 0; i < n_devices; i++)
                if (next_event_of(i, set, data))
                        return 1;
        return 0;
}

// Looks every 10 ms: an error is rare, and nobody waits for it on a fast path. A lost device still tells why.
API int nvmlEventSetWait_v2(struct event_set *set, struct event_data *data, unsigned timeout_ms)
{
        if (started())
                return started();
        for (unsigned waited = 0; !next_event(set, data); waited += 10) {
                if (waited >= timeout_ms)
                        return TIMEOUT;
                usleep(10000);
        }
        return SUCCESS;
}
