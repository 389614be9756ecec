// Device memory: counted on the device, backed by lazily reserved host memory, so that copies are real.
#include <search.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include "simgpu/driver.h"

#define PAGE 4096u
#define GRANULARITY (2u << 20)

enum owner { OWNER_DEVICE, OWNER_HOST, OWNER_ADDRESS, OWNER_MANAGED };

// Ranges of addresses in a tree; a look-up by any address inside finds the range.
struct range {
        uintptr_t base;
        size_t size, charged;
        enum owner owner;
};

struct allocation { // what cuMemCreate gives
        size_t size;
        int references;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static void *ranges;

static int by_address(const void *a, const void *b)
{
        const struct range *x = a, *y = b;

        if (x->base + x->size <= y->base)
                return -1;
        return y->base + y->size <= x->base ? 1 : 0;
}

static int find(const void *pointer, struct range *ret)
{
        struct range key = {.base = (uintptr_t)pointer, .size = 1};
        struct range *const *found;

        pthread_mutex_lock(&lock);
        found = tfind(&key, &ranges, by_address);
        if (found)
                *ret = **found;
        pthread_mutex_unlock(&lock);
        return found != NULL;
}

void *memory_base(const void *pointer, size_t *ret_size)
{
        struct range range;

        if (!find(pointer, &range))
                return NULL;
        if (ret_size)
                *ret_size = range.size;
        return (void *)range.base;
}

int memory_charge(int64_t bytes)
{
        int error = SUCCESS, process;

        sim_segment_lock(sim);
        if (bytes > 0 && sim->memory_used_bytes + (uint64_t)bytes > sim->memory_bytes)
                sim_segment_sweep(sim);
        process = sim_segment_process(sim);
        if (sim->lost) {
                error = UNKNOWN;
        } else if (bytes > 0 && sim->fail_allocations) {
                sim->fail_allocations--;
                error = OUT_OF_MEMORY;
        } else if (process < 0 ||
                   (bytes > 0 && sim->memory_used_bytes + (uint64_t)bytes > sim->memory_bytes)) {
                error = OUT_OF_MEMORY;
        } else {
                sim->memory_used_bytes += (uint64_t)bytes;
                sim->process[process].memory_bytes += (uint64_t)bytes;
        }
        sim_segment_unlock(sim);
        return error;
}

static int add(void **ret, size_t size, size_t charged, enum owner owner)
{
        struct range *range;
        void *base;
        int error = charged ? memory_charge((int64_t)charged) : SUCCESS;

        if (error)
                return error;
        size = (size + PAGE - 1) / PAGE * PAGE;
        base = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        range = malloc(sizeof *range);
        if (base == MAP_FAILED || !range) {
                if (charged)
                        memory_charge(-(int64_t)charged);
                free(range);
                return OUT_OF_MEMORY;
        }
        *range = (struct range){(uintptr_t)base, size, charged, owner};
        pthread_mutex_lock(&lock);
        tsearch(range, &ranges, by_address);
        pthread_mutex_unlock(&lock);
        *ret = base;
        return SUCCESS;
}

static int remove_at(void *pointer)
{
        struct range key = {.base = (uintptr_t)pointer, .size = 1}, *range = NULL, **found;

        pthread_mutex_lock(&lock);
        found = tfind(&key, &ranges, by_address);
        if (found && (*found)->base == (uintptr_t)pointer) {
                range = *found;
                tdelete(range, &ranges, by_address);
        }
        pthread_mutex_unlock(&lock);
        if (!range)
                return INVALID_VALUE;
        munmap((void *)range->base, range->size);
        if (range->charged)
                memory_charge(-(int64_t)range->charged);
        free(range);
        return SUCCESS;
}

API cuMemAlloc_v2(void **pointer, size_t size)
{
        if (!context_current())
                return INVALID_CONTEXT;
        return size ? add(pointer, size, size, OWNER_DEVICE) : INVALID_VALUE;
}

API cuMemFree_v2(void *pointer)
{
        if (!pointer)
                return SUCCESS;
        if (context_current() && !capture_active())
                context_wait(context_current());
        return remove_at(pointer);
}

API cuMemAllocPitch_v2(void **pointer, size_t *pitch, size_t width, size_t height, unsigned element)
{
        (void)element;
        *pitch = (width + 511) / 512 * 512;
        return cuMemAlloc_v2(pointer, *pitch * height);
}

API cuMemAllocManaged(void **pointer, size_t size, unsigned flags)
{
        (void)flags;
        return size ? add(pointer, size, size, OWNER_MANAGED) : INVALID_VALUE;
}

API cuMemHostAlloc(void **pointer, size_t size, unsigned flags)
{
        (void)flags;
        return add(pointer, size ? size : 1, 0, OWNER_HOST);
}

API cuMemAllocHost_v2(void **pointer, size_t size)
{
        return cuMemHostAlloc(pointer, size, 0);
}

API cuMemAllocHost(void **pointer, unsigned size)
{
        return cuMemHostAlloc(pointer, size, 0);
}

API cuMemFreeHost(void *pointer)
{
        return pointer ? remove_at(pointer) : SUCCESS;
}

API cuMemHostGetDevicePointer_v2(void **pointer, void *host, unsigned flags)
{
        (void)flags;
        *pointer = host;
        return SUCCESS;
}

API cuMemHostGetFlags(unsigned *flags, void *pointer)
{
        (void)pointer;
        *flags = 0;
        return SUCCESS;
}

API cuMemHostRegister_v2(void *pointer, size_t size, unsigned flags)
{
        (void)pointer, (void)size, (void)flags;
        return SUCCESS;
}

API cuMemHostRegister(void *pointer, size_t size, unsigned flags)
{
        return cuMemHostRegister_v2(pointer, size, flags);
}

API cuMemHostUnregister(void *pointer)
{
        (void)pointer;
        return SUCCESS;
}

API cuMemGetInfo_v2(size_t *free_bytes, size_t *total)
{
        if (!context_current())
                return INVALID_CONTEXT;
        sim_segment_lock(sim);
        if (free_bytes)
                *free_bytes = sim->memory_bytes - sim->memory_used_bytes;
        if (total)
                *total = sim->memory_bytes;
        sim_segment_unlock(sim);
        return SUCCESS;
}

API cuMemGetAddressRange_v2(void **base, size_t *size, void *pointer)
{
        struct range range;

        if (!find(pointer, &range))
                return NOT_FOUND;
        if (base)
                *base = (void *)range.base;
        if (size)
                *size = range.size;
        return SUCCESS;
}

// Stream-ordered allocation: the pool is the device itself.
static int allocate_async(void **pointer, size_t size, struct stream *stream)
{
        return stream_of(stream) ? cuMemAlloc_v2(pointer, size) : INVALID_CONTEXT;
}

API cuMemAllocAsync(void **pointer, size_t size, struct stream *stream)
{
        return allocate_async(pointer, size, stream);
}

API cuMemAllocAsync_ptsz(void **pointer, size_t size, struct stream *stream)
{
        return allocate_async(pointer, size, stream);
}

API cuMemAllocFromPoolAsync(void **pointer, size_t size, void *pool, struct stream *stream)
{
        (void)pool;
        return allocate_async(pointer, size, stream);
}

API cuMemAllocFromPoolAsync_ptsz(void **pointer, size_t size, void *pool, struct stream *stream)
{
        (void)pool;
        return allocate_async(pointer, size, stream);
}

// Host code cannot see when the device is done with the memory, so it is given back at once.
API cuMemFreeAsync(void *pointer, struct stream *stream)
{
        (void)stream;
        return remove_at(pointer);
}

API cuMemFreeAsync_ptsz(void *pointer, struct stream *stream)
{
        return cuMemFreeAsync(pointer, stream);
}

static char pool;

API cuDeviceGetDefaultMemPool(void **ret, int device)
{
        (void)device;
        *ret = &pool;
        return SUCCESS;
}

API cuDeviceGetMemPool(void **ret, int device)
{
        return cuDeviceGetDefaultMemPool(ret, device);
}

API cuDeviceSetMemPool(int device, void *which)
{
        (void)device, (void)which;
        return SUCCESS;
}

API cuMemPoolCreate(void **ret, const void *props)
{
        (void)props;
        *ret = &pool;
        return SUCCESS;
}

API cuMemPoolDestroy(void *which)
{
        (void)which;
        return SUCCESS;
}

API cuMemPoolTrimTo(void *which, size_t keep)
{
        (void)which, (void)keep;
        return SUCCESS;
}

API cuMemPoolSetAttribute(void *which, int attribute, void *value)
{
        (void)which, (void)attribute, (void)value;
        return SUCCESS;
}

API cuMemPoolGetAttribute(void *which, int attribute, void *value)
{
        (void)which;
        if (attribute <= 3)
                *(int *)value = 0;
        else
                *(uint64_t *)value = 0;
        return SUCCESS;
}

API cuMemPoolSetAccess(void *which, const void *descriptions, size_t n)
{
        (void)which, (void)descriptions, (void)n;
        return SUCCESS;
}

API cuMemGetAllocationGranularity(size_t *granularity, const void *props, int option)
{
        (void)props, (void)option;
        *granularity = GRANULARITY;
        return SUCCESS;
}

API cuMemAddressReserve(void **pointer, size_t size, size_t alignment, void *address,
                        unsigned long long flags)
{
        (void)alignment, (void)address, (void)flags;
        return add(pointer, size, 0, OWNER_ADDRESS);
}

API cuMemAddressFree(void *pointer, size_t size)
{
        (void)size;
        return remove_at(pointer);
}

API cuMemCreate(struct allocation **ret, size_t size, const void *props, unsigned long long flags)
{
        int error = memory_charge((int64_t)size);

        (void)props, (void)flags;
        if (error)
                return error;
        *ret = malloc(sizeof **ret);
        **ret = (struct allocation){size, 1};
        return SUCCESS;
}

API cuMemRelease(struct allocation *allocation)
{
        if (--allocation->references > 0)
                return SUCCESS;
        memory_charge(-(int64_t)allocation->size);
        free(allocation);
        return SUCCESS;
}

// A mapping keeps its memory alive, as a handle does; unmapping by address finds neither, so the handle
// decides alone.
API cuMemMap(void *pointer, size_t size, size_t offset, struct allocation *allocation,
             unsigned long long flags)
{
        struct range range;

        (void)size, (void)offset, (void)allocation, (void)flags;
        return find(pointer, &range) ? SUCCESS : INVALID_VALUE;
}

API cuMemUnmap(void *pointer, size_t size)
{
        (void)pointer, (void)size;
        return SUCCESS;
}

API cuMemSetAccess(void *pointer, size_t size, const void *descriptions, size_t n)
{
        (void)pointer, (void)size, (void)descriptions, (void)n;
        return SUCCESS;
}

// CUpointer_attribute: 1 context, 2 memory type, 3 device pointer, 4 host pointer, 7 buffer id, 8 managed, 9
// ordinal, 11 range start, 12 range size, 13 mapped
static int pointer_attribute(void *data, int attribute, const struct range *range, void *pointer)
{
        switch (attribute) {
        case 1:
                *(void **)data = context_current() ? (void *)context_current() : (void *)context_primary();
                break;
        case 2:
                *(unsigned *)data = range->owner == OWNER_HOST ? 1 : 2;
                break;
        case 3:
        case 4:
                *(void **)data = attribute == 3 || range->owner == OWNER_HOST ? pointer : NULL;
                break;
        case 7:
                *(uint64_t *)data = range->base;
                break;
        case 8:
                *(int *)data = range->owner == OWNER_MANAGED;
                break;
        case 9:
                *(int *)data = 0;
                break;
        case 11:
                *(void **)data = (void *)range->base;
                break;
        case 12:
                *(size_t *)data = range->size;
                break;
        case 13:
                *(int *)data = 1;
                break;
        default:
                memset(data, 0, 4);
        }
        return SUCCESS;
}

API cuPointerGetAttribute(void *data, int attribute, void *pointer)
{
        struct range range;

        return find(pointer, &range) ? pointer_attribute(data, attribute, &range, pointer) : INVALID_VALUE;
}

API cuPointerGetAttributes(unsigned n, const int *attributes, void **data, void *pointer)
{
        struct range range;
        int found = find(pointer, &range);

        for (unsigned i = 0; i < n; i++) {
                if (found)
                        pointer_attribute(data[i], attributes[i], &range, pointer);
                else if (attributes[i] == 9)
                        *(int *)data[i] = -2;
                else
                        memset(data[i], 0, attributes[i] == 2 || attributes[i] == 8 ? 4 : 8);
        }
        return SUCCESS;
}

API cuPointerSetAttribute(const void *value, int attribute, void *pointer)
{
        (void)value, (void)attribute, (void)pointer;
        return SUCCESS;
}

API cuMemAdvise(void *pointer, size_t size, int advice, int device)
{
        (void)pointer, (void)size, (void)advice, (void)device;
        return SUCCESS;
}
