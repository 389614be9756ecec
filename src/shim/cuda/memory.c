// The tenant's memory: every allocation is charged against the quota before the driver sees it.
//
// A hash table from address (or handle) to size; unknown ones pass through with the driver's own answer.
#include <pthread.h>
#include <stdlib.h>
#include "shim/cuda/gate.h"

struct entry {
        uintptr_t key; // 0: free, 1: was one
        uint64_t size;
        int lane;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct entry *table;
static size_t room, n_used, n_filled; // filled: with what was removed

static size_t slot_of(uintptr_t key)
{
        return (size_t)((key >> 8) * UINT64_C(0x9e3779b97f4a7c15)) & (room - 1);
}

static struct entry *find(uintptr_t key)
{
        for (size_t i = room ? slot_of(key) : 0; room && table[i].key; i = (i + 1) & (room - 1))
                if (table[i].key == key)
                        return &table[i];
        return NULL;
}

static void put(struct entry entry)
{
        size_t i = slot_of(entry.key);

        while (table[i].key > 1)
                i = (i + 1) & (room - 1);
        n_filled += table[i].key == 0;
        table[i] = entry;
        n_used++;
}

static int grow(void)
{
        struct entry *old = table;
        size_t n = room, wanted = n_used * 4 > 1024 ? n_used * 4 : 1024, size = 1;

        if (room && n_filled * 2 < room)
                return 1;
        while (size < wanted)
                size *= 2;
        table = calloc(size, sizeof *table);
        if (!table)
                return table = old, 0;
        room = size;
        n_used = n_filled = 0;
        for (size_t i = 0; i < n; i++)
                if (old[i].key > 1)
                        put(old[i]);
        free(old);
        return 1;
}

static void count(int lane, int64_t bytes)
{
        const struct takt_page_daemon *page = atomic_load(&lease.daemon);

        atomic_fetch_add(&lease.memory_held[lane], (uint64_t)bytes);
        if (!page)
                return;
        atomic_fetch_add(&lease.tenant->lane[lane].memory_used, (uint64_t)bytes);
        atomic_fetch_add(&lease.client->lane[lane].memory_used, (uint64_t)bytes);
}

static uint64_t quota_of(int lane)
{
        const struct takt_page_daemon *page = atomic_load(&lease.daemon);

        return page && lane >= 0 ? atomic_load_explicit(&page->lane[lane].memory_quota, memory_order_relaxed) : 0;
}

// Takes the bytes off the quota, or says that they are not there.
static int charge(int lane, uint64_t bytes)
{
        uint64_t quota = quota_of(lane), used;

        if (lane < 0)
                return CUDA_SUCCESS;
        used = atomic_load(&lease.tenant->lane[lane].memory_used);
        if (quota && (bytes > quota || used > quota - bytes))
                return CUDA_OUT_OF_MEMORY;
        count(lane, (int64_t)bytes);
        if (quota && atomic_load(&lease.tenant->lane[lane].memory_used) > quota) { // another thread was faster
                count(lane, -(int64_t)bytes);
                return CUDA_OUT_OF_MEMORY;
        }
        return CUDA_SUCCESS;
}

static void note(int lane, uintptr_t key, uint64_t bytes)
{
        if (lane < 0)
                return;
        pthread_mutex_lock(&lock);
        if (grow())
                put((struct entry){key, bytes, lane});
        pthread_mutex_unlock(&lock);
}

static struct entry forget(uintptr_t key)
{
        struct entry *at, found = {.lane = -1};

        pthread_mutex_lock(&lock);
        at = find(key);
        if (at) {
                found = *at;
                at->key = 1;
                n_used--;
        }
        pthread_mutex_unlock(&lock);
        return found;
}

// Around an allocation that puts its address or handle into *ret.
#define ALLOCATE(name, params, args, bytes)                                                                            \
        EXPORT int name params;                                                                                        \
        int name params                                                                                                \
        {                                                                                                              \
                int lane = gate_lane(), error = charge(lane, bytes);                                                   \
                                                                                                                       \
                door_open();                                                                                           \
                if (!door_real[HOOK_##name])                                                                           \
                        return CUDA_NOT_SUPPORTED;                                                                     \
                if (error)                                                                                             \
                        return error;                                                                                  \
                error = ((int(*) params)door_real[HOOK_##name])args;                                                   \
                if (error == CUDA_SUCCESS)                                                                             \
                        note(lane, *ret, bytes);                                                                       \
                else if (lane >= 0)                                                                                    \
                        count(lane, -(int64_t)(bytes));                                                                \
                return error;                                                                                          \
        }

// Around a free: what the driver refuses to free stays charged.
#define RELEASE(name, params, args, address)                                                                               \
        EXPORT int name params;                                                                                        \
        int name params                                                                                                \
        {                                                                                                              \
                struct entry entry = forget(address);                                                                    \
                int error;                                                                                             \
                                                                                                                       \
                door_open();                                                                                           \
                if (!door_real[HOOK_##name])                                                                           \
                        return CUDA_NOT_SUPPORTED;                                                                     \
                error = ((int(*) params)door_real[HOOK_##name])args;                                                   \
                if (entry.lane >= 0 && error == CUDA_SUCCESS)                                                          \
                        count(entry.lane, -(int64_t)entry.size);                                                       \
                else if (entry.lane >= 0)                                                                              \
                        note(entry.lane, entry.key, entry.size);                                                       \
                return error;                                                                                          \
        }

ALLOCATE(cuMemAlloc_v2, (uintptr_t * ret, size_t size), (ret, size), size)
ALLOCATE(cuMemAllocManaged, (uintptr_t * ret, size_t size, unsigned flags), (ret, size, flags), size)
ALLOCATE(cuMemAllocAsync, (uintptr_t * ret, size_t size, uintptr_t stream), (ret, size, stream), size)
ALLOCATE(cuMemAllocAsync_ptsz, (uintptr_t * ret, size_t size, uintptr_t stream), (ret, size, stream), size)
ALLOCATE(cuMemAllocFromPoolAsync, (uintptr_t * ret, size_t size, void *pool, uintptr_t stream),
         (ret, size, pool, stream), size)
ALLOCATE(cuMemAllocFromPoolAsync_ptsz, (uintptr_t * ret, size_t size, void *pool, uintptr_t stream),
         (ret, size, pool, stream), size)

// The pitch is the driver's to choose: 512 bytes is what devices of today align rows to.
static uint64_t pitched(size_t width, size_t height)
{
        return (width + 511) / 512 * 512 * height;
}

ALLOCATE(cuMemAllocPitch_v2, (uintptr_t * ret, size_t *pitch, size_t width, size_t height, unsigned element),
         (ret, pitch, width, height, element), pitched(width, height))

// CUmemAllocationProp: type, handle types, then where: 1 is a device. Memory on the host is not the device's.
static uint64_t on_device(const int *prop, size_t size)
{
        return prop[2] == 1 ? size : 0;
}

ALLOCATE(cuMemCreate, (uintptr_t * ret, size_t size, const int *prop, unsigned long long flags),
         (ret, size, prop, flags), on_device(prop, size))

RELEASE(cuMemFree_v2, (uintptr_t pointer), (pointer), pointer)
RELEASE(cuMemFreeAsync, (uintptr_t pointer, uintptr_t stream), (pointer, stream), pointer)
RELEASE(cuMemFreeAsync_ptsz, (uintptr_t pointer, uintptr_t stream), (pointer, stream), pointer)
RELEASE(cuMemRelease, (uintptr_t handle), (handle), handle)

// The forms of CUDA 2.0, with 32-bit addresses: no program of today calls them with success.
#define PLAIN(name, params, args)                                                                                      \
        EXPORT int name params;                                                                                        \
        int name params                                                                                                \
        {                                                                                                              \
                door_open();                                                                                           \
                return door_real[HOOK_##name] ? ((int(*) params)door_real[HOOK_##name])args : CUDA_NOT_SUPPORTED;      \
        }

PLAIN(cuMemAlloc, (uintptr_t a, uintptr_t b), (a, b))
PLAIN(cuMemAllocPitch, (uintptr_t a, uintptr_t b, uintptr_t c, uintptr_t d, uintptr_t e), (a, b, c, d, e))
PLAIN(cuMemFree, (uintptr_t a), (a))

EXPORT int cuMemGetInfo_v2(size_t *free_bytes, size_t *total);
int cuMemGetInfo_v2(size_t *free_bytes, size_t *total)
{
        int lane = gate_lane();
        uint64_t quota = quota_of(lane), used;
        size_t real_free, real_total;
        int error;

        door_open();
        if (!door_real[HOOK_cuMemGetInfo_v2])
                return CUDA_NOT_SUPPORTED;
        error = ((int (*)(size_t *, size_t *))door_real[HOOK_cuMemGetInfo_v2])(&real_free, &real_total);
        if (error)
                return error;
        if (quota && quota < real_total) {
                used = atomic_load(&lease.tenant->lane[lane].memory_used);
                real_total = quota;
                if (real_free > (used < quota ? quota - used : 0))
                        real_free = used < quota ? quota - used : 0;
        }
        if (free_bytes)
                *free_bytes = real_free;
        if (total)
                *total = real_total;
        return CUDA_SUCCESS;
}

EXPORT int cuDeviceTotalMem_v2(size_t *bytes, int device);
int cuDeviceTotalMem_v2(size_t *bytes, int device)
{
        const char *text = getenv("TAKT_MEMORY_QUOTA");
        uint64_t quota = text ? strtoull(text, NULL, 10) : 0;
        int error;

        door_open();
        if (!door_real[HOOK_cuDeviceTotalMem_v2])
                return CUDA_NOT_SUPPORTED;
        error = ((int (*)(size_t *, int))door_real[HOOK_cuDeviceTotalMem_v2])(bytes, device);
        if (!error && bytes && quota && quota < *bytes)
                *bytes = quota;
        return error;
}
