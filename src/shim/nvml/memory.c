// libnvidia-ml.so.1 as a tenant sees it: the questions about a device's memory are answered with the tenant's
// quota and what its processes hold; all else falls through to the real library, which this one needs under
// another name.
#include <dlfcn.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include "base/clock.h"
#include "shim/lease.h"

#define EXPORT __attribute__((visibility("default")))
#define UUID_TEXT 96

enum { NVML_SUCCESS = 0, NVML_UNKNOWN = 999 };

// nvmlMemory_t and nvmlMemory_v2_t, bytes.
struct memory {
        unsigned long long total, free, used;
};

struct memory_v2 {
        unsigned version;
        unsigned long long total, reserved, free, used;
};

static struct {
        int (*info)(void *, struct memory *), (*info_v2)(void *, struct memory_v2 *);
        int (*count)(unsigned *), (*by_index)(unsigned, void **), (*uuid)(void *, char *, unsigned);
} real;

static void find(void)
{
        void *library = dlopen("libnvidia-ml-driver.so.1", RTLD_NOW | RTLD_LOCAL);

        if (!library)
                return;
        real.info = (int (*)(void *, struct memory *))dlsym(library, "nvmlDeviceGetMemoryInfo");
        real.info_v2 = (int (*)(void *, struct memory_v2 *))dlsym(library, "nvmlDeviceGetMemoryInfo_v2");
        real.count = (int (*)(unsigned *))dlsym(library, "nvmlDeviceGetCount_v2");
        real.by_index = (int (*)(unsigned, void **))dlsym(library, "nvmlDeviceGetHandleByIndex_v2");
        real.uuid = (int (*)(void *, char *, unsigned))dlsym(library, "nvmlDeviceGetUUID");
}

static void ready(void)
{
        static pthread_once_t once = PTHREAD_ONCE_INIT;

        pthread_once(&once, find);
}

// "GPU-" and 32 hexadecimal digits in five groups.
static void parse(const char *text, uint8_t ret_uuid[16])
{
        unsigned byte;

        memset(ret_uuid, 0, 16);
        if (!strncmp(text, "GPU-", 4))
                text += 4;
        for (int i = 0; i < 16; i++) {
                text += *text == '-';
                if (sscanf(text, "%2x", &byte) != 1)
                        return;
                ret_uuid[i] = (uint8_t)byte;
                text += 2;
        }
}

// All devices, in NVML's order; returns how many, and which of them is `device` (-1: none).
static uint32_t list(void *device, uint8_t uuids[TAKT_PAGE_LANES * 16], int *ret_at)
{
        char own[UUID_TEXT] = "", text[UUID_TEXT];
        unsigned n = 0;
        void *other;

        *ret_at = -1;
        memset(uuids, 0, TAKT_PAGE_LANES * 16);
        if (!real.count || !real.by_index || !real.uuid || real.count(&n) ||
            real.uuid(device, own, sizeof own))
                return 0;
        n = n < TAKT_PAGE_LANES ? n : TAKT_PAGE_LANES;
        for (unsigned i = 0; i < n; i++) {
                if (real.by_index(i, &other) || real.uuid(other, text, sizeof text))
                        continue; // it is lost, or not for us: the others keep their places
                parse(text, uuids + 16 * i);
                if (!strcmp(text, own))
                        *ret_at = (int)i;
        }
        return n;
}

// Puts the tenant's view in place of the device's, if it has a quota there.
static void own_view(void *device, unsigned long long *total, unsigned long long *free_bytes,
                     unsigned long long *used)
{
        uint8_t uuids[TAKT_PAGE_LANES * 16];
        uint64_t quota, held = 0;
        uint32_t n;
        int at, lane;

        if (!lease_wanted())
                return;
        lease_check(takt_clock_now());
        n = list(device, uuids, &at);
        if (at < 0)
                return;
        lease_join(uuids, n, takt_clock_now());
        quota = lease_quota_told(at);
        if (!quota || quota >= *total)
                return;
        lane = lease.client ? lease.lane_of[at] : -1;
        if (lane >= 0) // as the last session counted
                held = atomic_load(&lease.tenant->lane[lane].memory_used);
        *total = quota;
        *used = held < quota ? held : quota;
        *free_bytes = *free_bytes < quota - *used ? *free_bytes : quota - *used;
}

EXPORT int nvmlDeviceGetMemoryInfo(void *device, struct memory *memory);
int nvmlDeviceGetMemoryInfo(void *device, struct memory *memory)
{
        int error;

        ready();
        error = real.info ? real.info(device, memory) : NVML_UNKNOWN;
        if (error == NVML_SUCCESS)
                own_view(device, &memory->total, &memory->free, &memory->used);
        return error;
}

EXPORT int nvmlDeviceGetMemoryInfo_v2(void *device, struct memory_v2 *memory);
int nvmlDeviceGetMemoryInfo_v2(void *device, struct memory_v2 *memory)
{
        int error;

        ready();
        error = real.info_v2 ? real.info_v2(device, memory) : NVML_UNKNOWN;
        if (error == NVML_SUCCESS)
                own_view(device, &memory->total, &memory->free, &memory->used);
        return error;
}
