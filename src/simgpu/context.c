// Start, devices and contexts.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "simgpu/driver.h"
#include "simgpu/settings.h"

struct sim_segment *sims[SIM_DEVICES_MAX];

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static int n_devices; // 0: not initialised
static struct {
        struct context context;
        int is_active;
} primary[SIM_DEVICES_MAX];
static uint64_t next_context_id = 1;

#define STACK_MAX 32
static __thread struct context *stack[STACK_MAX];
static __thread int depth;

int driver_ready(int device)
{
        if (!n_devices)
                return NOT_INITIALIZED;
        if (device < 0 || device >= n_devices)
                return INVALID_DEVICE;
        return sims[device]->lost ? UNKNOWN : SUCCESS;
}

// For what is asked of no device: all are not lost.
static int any_ready(void)
{
        int error = NOT_INITIALIZED;

        for (int i = 0; i < n_devices && (error = driver_ready(i)); i++)
                ;
        return error;
}

API cuInit(unsigned flags)
{
        if (flags)
                return INVALID_VALUE;
        pthread_mutex_lock(&lock);
        if (!n_devices)
                n_devices = (int)sim_devices_open(sims);
        pthread_mutex_unlock(&lock);
        return n_devices ? any_ready() : NO_DEVICE;
}

API cuDriverGetVersion(int *version)
{
        if (!version)
                return INVALID_VALUE;
        *version = sim_driver_version();
        return SUCCESS;
}

API cuDeviceGetCount(int *count)
{
        *count = n_devices;
        return any_ready();
}

API cuDeviceGet(int *device, int ordinal)
{
        *device = ordinal;
        return driver_ready(ordinal);
}

API cuDeviceGetName(char *name, int size, int device)
{
        (void)device;
        snprintf(name, (size_t)size, "NVIDIA A100-SXM4-40GB");
        return SUCCESS;
}

API cuDeviceGetUuid(unsigned char *uuid, int device)
{
        sim_devices_uuid((uint32_t)device, uuid);
        return SUCCESS;
}

API cuDeviceGetUuid_v2(unsigned char *uuid, int device)
{
        return cuDeviceGetUuid(uuid, device);
}

API cuDeviceGetPCIBusId(char *text, int size, int device)
{
        snprintf(text, (size_t)size, "0000:%02x:00.0", SIM_FIRST_BUS + device);
        return SUCCESS;
}

API cuDeviceGetByPCIBusId(int *device, const char *text)
{
        *device = sim_devices_at(text);
        return driver_ready(*device);
}

API cuDeviceTotalMem_v2(size_t *bytes, int device)
{
        if (driver_ready(device))
                return driver_ready(device);
        *bytes = sims[device]->memory_bytes;
        return SUCCESS;
}

API cuDeviceTotalMem(unsigned *bytes, int device)
{
        size_t all;

        if (cuDeviceTotalMem_v2(&all, device))
                return NOT_INITIALIZED;
        *bytes = all > UINT32_MAX ? UINT32_MAX : (unsigned)all;
        return SUCCESS;
}

API cuDeviceComputeCapability(int *major, int *minor, int device)
{
        (void)device;
        *major = 8;
        *minor = 0;
        return SUCCESS;
}

#define PCI_BUS 33

// CUdevice_attribute of an A100 SXM4 40 GB; what is not listed is 0.
static const int attribute[160] = {
        [1] = 1024,     [2] = 1024,   [3] = 1024,      [4] = 64,         [5] = 2147483647,  [6] = 65535,
        [7] = 65535,    [8] = 49152,  [9] = 65536,     [10] = 32,        [11] = 2147483647, [12] = 65536,
        [13] = 1410000, [14] = 512,   [15] = 1,        [16] = 108,       [19] = 1,          [21] = 131072,
        [22] = 131072,  [23] = 65536, [24] = 16384,    [25] = 16384,     [26] = 16384,      [27] = 32768,
        [28] = 32768,   [29] = 2048,  [30] = 512,      [31] = 1,         [32] = 1,          [34] = 0,
        [36] = 1215000, [37] = 5120,  [38] = 41943040, [39] = 2048,      [40] = 3,          [41] = 1,
        [42] = 32768,   [43] = 2048,  [51] = 32,       [75] = 8,         [76] = 0,          [78] = 1,
        [79] = 1,       [80] = 1,     [81] = 167936,   [82] = 65536,     [83] = 1,          [87] = 2,
        [89] = 1,       [90] = 1,     [91] = 1,        [95] = 1,         [97] = 166912,     [99] = 1,
        [102] = 1,      [103] = 1,    [106] = 32,      [108] = 26214400, [109] = 134213632, [111] = 1024,
        [113] = 1,      [115] = 1,    [119] = 1,       [121] = 1,
};

API cuDeviceGetAttribute(int *value, int which, int device)
{
        if (driver_ready(device))
                return driver_ready(device);
        if (!value || which < 1)
                return INVALID_VALUE;
        *value = which == PCI_BUS ? SIM_FIRST_BUS + device : which < 160 ? attribute[which] : 0;
        return SUCCESS;
}

API cuDeviceCanAccessPeer(int *can, int a, int b)
{
        (void)a, (void)b;
        *can = 0;
        return SUCCESS;
}

API cuDeviceGetExecAffinitySupport(int *supported, int type, int device)
{
        (void)type, (void)device;
        *supported = 0;
        return SUCCESS;
}

static int open_slot(struct context *context, int device)
{
        struct sim_segment *sim = sims[device];
        int slot;

        sim_segment_lock(sim);
        slot = sim_segment_context(sim);
        sim_segment_unlock(sim);
        if (slot < 0)
                return OUT_OF_MEMORY;
        context->sim = sim;
        context->device = device;
        context->slot = (uint32_t)slot;
        context->id = next_context_id++;
        context->may_spin = (int)sim_number("SIMGPU_SPIN");
        context->next_lane = 0;
        memset(context->position_ns, 0, sizeof context->position_ns);
        memset(context->blocking_ns, 0, sizeof context->blocking_ns);
        context->legacy = (struct stream){.context = context, .is_default = 1};
        return SUCCESS;
}

static void close_slot(struct context *context)
{
        sim_segment_lock(context->sim);
        memset(&context->sim->device.context[context->slot], 0, sizeof context->sim->device.context[0]);
        sim_segment_unlock(context->sim);
}

API cuDevicePrimaryCtxRetain(struct context **context, int device)
{
        int error = driver_ready(device);
        struct context *own = error ? NULL : &primary[device].context;

        if (error)
                return error;
        pthread_mutex_lock(&lock);
        if (!primary[device].is_active && !(error = open_slot(own, device))) {
                own->is_primary = 1;
                primary[device].is_active = 1;
        }
        own->references++;
        pthread_mutex_unlock(&lock);
        *context = own;
        return error;
}

API cuDevicePrimaryCtxRelease(int device)
{
        if (driver_ready(device) == INVALID_DEVICE)
                return INVALID_DEVICE;
        if (primary[device].context.references > 0)
                primary[device].context.references--;
        return SUCCESS;
}

API cuDevicePrimaryCtxRelease_v2(int device)
{
        return cuDevicePrimaryCtxRelease(device);
}

API cuDevicePrimaryCtxReset_v2(int device)
{
        if (driver_ready(device) == INVALID_DEVICE)
                return INVALID_DEVICE;
        if (primary[device].is_active)
                context_wait(&primary[device].context);
        return SUCCESS;
}

API cuDevicePrimaryCtxReset(int device)
{
        return cuDevicePrimaryCtxReset_v2(device);
}

API cuDevicePrimaryCtxSetFlags_v2(int device, unsigned flags)
{
        if (driver_ready(device) == INVALID_DEVICE)
                return INVALID_DEVICE;
        primary[device].context.flags = flags;
        return SUCCESS;
}

API cuDevicePrimaryCtxSetFlags(int device, unsigned flags)
{
        return cuDevicePrimaryCtxSetFlags_v2(device, flags);
}

API cuDevicePrimaryCtxGetState(int device, unsigned *flags, int *active)
{
        if (driver_ready(device) == INVALID_DEVICE)
                return INVALID_DEVICE;
        *flags = primary[device].context.flags;
        *active = primary[device].is_active;
        return driver_ready(device);
}

struct context *context_current(void)
{
        return depth ? stack[depth - 1] : NULL;
}

int context_spins(const struct context *context)
{
        return context->may_spin && !(context->flags & SCHED_BLOCKING_SYNC);
}

struct context *context_primary(int device)
{
        struct context *context;

        return cuDevicePrimaryCtxRetain(&context, device) ? NULL : context;
}

struct context *context_on(int device)
{
        struct context *current = context_current();

        return current && current->device == device ? current : context_primary(device);
}

API cuCtxGetCurrent(struct context **context)
{
        if (!n_devices)
                return NOT_INITIALIZED;
        *context = context_current();
        return SUCCESS;
}

API cuCtxSetCurrent(struct context *context)
{
        if (!n_devices)
                return NOT_INITIALIZED;
        if (depth == 0)
                depth = 1;
        stack[depth - 1] = context;
        if (!context && depth == 1)
                depth = 0;
        return SUCCESS;
}

API cuCtxPushCurrent_v2(struct context *context)
{
        if (depth == STACK_MAX || !context)
                return INVALID_CONTEXT;
        stack[depth++] = context;
        return SUCCESS;
}

API cuCtxPushCurrent(struct context *context)
{
        return cuCtxPushCurrent_v2(context);
}

API cuCtxPopCurrent_v2(struct context **context)
{
        if (!depth)
                return INVALID_CONTEXT;
        depth--;
        if (context)
                *context = stack[depth];
        return SUCCESS;
}

API cuCtxPopCurrent(struct context **context)
{
        return cuCtxPopCurrent_v2(context);
}

API cuCtxCreate_v2(struct context **ret, unsigned flags, int device)
{
        struct context *context;
        int error = driver_ready(device);

        if (error)
                return error;
        if (depth == STACK_MAX)
                return OUT_OF_MEMORY;
        context = calloc(1, sizeof *context);
        if (!context || (error = open_slot(context, device)))
                return free(context), OUT_OF_MEMORY;
        context->flags = flags;
        *ret = context;
        return cuCtxPushCurrent_v2(context);
}

API cuCtxCreate(struct context **ret, unsigned flags, int device)
{
        return cuCtxCreate_v2(ret, flags, device);
}

API cuCtxCreate_v3(struct context **ret, void *affinity, int n, unsigned flags, int device)
{
        (void)affinity, (void)n;
        return cuCtxCreate_v2(ret, flags, device);
}

API cuCtxCreate_v4(struct context **ret, void *params, unsigned flags, int device)
{
        (void)params;
        return cuCtxCreate_v2(ret, flags, device);
}

API cuCtxDestroy_v2(struct context *context)
{
        if (!context || context->is_primary)
                return INVALID_CONTEXT;
        context_wait(context);
        if (context_current() == context)
                depth--;
        close_slot(context);
        free(context);
        return SUCCESS;
}

API cuCtxDestroy(struct context *context)
{
        return cuCtxDestroy_v2(context);
}

API cuCtxGetDevice(int *device)
{
        if (!context_current())
                return INVALID_CONTEXT;
        *device = context_current()->device;
        return SUCCESS;
}

API cuCtxGetDevice_v2(int *device, struct context *context)
{
        context = context ? context : context_current();
        if (!context)
                return INVALID_CONTEXT;
        *device = context->device;
        return SUCCESS;
}

API cuCtxGetId(struct context *context, uint64_t *id)
{
        context = context ? context : context_current();
        if (!context)
                return INVALID_CONTEXT;
        *id = context->id;
        return SUCCESS;
}

API cuCtxGetFlags(unsigned *flags)
{
        if (!context_current())
                return INVALID_CONTEXT;
        *flags = context_current()->flags;
        return SUCCESS;
}

API cuCtxSetFlags(unsigned flags)
{
        if (!context_current())
                return INVALID_CONTEXT;
        context_current()->flags = flags;
        return SUCCESS;
}

API cuCtxGetApiVersion(struct context *context, unsigned *version)
{
        (void)context;
        *version = (unsigned)sim_driver_version();
        return SUCCESS;
}

API cuCtxGetLimit(size_t *value, int limit)
{
        static const size_t limits[] = {1024, 1048576, 8388608, 2, 2048, 128, 26214400};

        if (limit < 0 || limit > 6)
                return INVALID_VALUE;
        *value = limits[limit];
        return SUCCESS;
}

API cuCtxSetLimit(int limit, size_t value)
{
        (void)limit, (void)value;
        return SUCCESS;
}

API cuCtxGetCacheConfig(int *config)
{
        *config = 0;
        return SUCCESS;
}

API cuCtxSetCacheConfig(int config)
{
        (void)config;
        return SUCCESS;
}

API cuCtxGetStreamPriorityRange(int *least, int *greatest)
{
        if (least)
                *least = 0;
        if (greatest)
                *greatest = -5;
        return SUCCESS;
}

API cuCtxResetPersistingL2Cache(void)
{
        return SUCCESS;
}

API cuCtxSynchronize(void)
{
        if (!context_current())
                return INVALID_CONTEXT;
        return capture_active() ? CAPTURE_UNSUPPORTED : context_wait(context_current());
}

API cuCtxSynchronize_v2(struct context *context)
{
        context = context ? context : context_current();
        if (!context)
                return INVALID_CONTEXT;
        return capture_active() ? CAPTURE_UNSUPPORTED : context_wait(context);
}

API cuGetErrorName(int error, const char **text)
{
        static const struct {
                int error;
                const char *name;
        } names[] = {{0, "CUDA_SUCCESS"},
                     {1, "CUDA_ERROR_INVALID_VALUE"},
                     {2, "CUDA_ERROR_OUT_OF_MEMORY"},
                     {3, "CUDA_ERROR_NOT_INITIALIZED"},
                     {100, "CUDA_ERROR_NO_DEVICE"},
                     {101, "CUDA_ERROR_INVALID_DEVICE"},
                     {201, "CUDA_ERROR_INVALID_CONTEXT"},
                     {400, "CUDA_ERROR_INVALID_HANDLE"},
                     {500, "CUDA_ERROR_NOT_FOUND"},
                     {600, "CUDA_ERROR_NOT_READY"},
                     {719, "CUDA_ERROR_LAUNCH_FAILED"},
                     {801, "CUDA_ERROR_NOT_SUPPORTED"},
                     {900, "CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED"},
                     {901, "CUDA_ERROR_STREAM_CAPTURE_INVALIDATED"},
                     {902, "CUDA_ERROR_STREAM_CAPTURE_MERGE"},
                     {903, "CUDA_ERROR_STREAM_CAPTURE_UNMATCHED"},
                     {910, "CUDA_ERROR_GRAPH_EXEC_UPDATE_FAILURE"},
                     {999, "CUDA_ERROR_UNKNOWN"}};

        for (size_t i = 0; i < sizeof names / sizeof *names; i++)
                if (names[i].error == error)
                        return *text = names[i].name, SUCCESS;
        *text = NULL;
        return INVALID_VALUE;
}

API cuGetErrorString(int error, const char **text)
{
        return cuGetErrorName(error, text);
}
