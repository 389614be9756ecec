// Device memory: counted on the device, backed by lazily reserved host memory, so that copies are real.
#include <search.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include "simgpu/driver.h"
#include "simgpu/memory.h"

#define PAGE SIM_PAGE
#define WORTH_DROPPING (1u << 20) // zeroes from here on cost no memory

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static void *ranges;

static int by_address(const void *a, const void *b)
{
        const struct range *x = a, *y = b;

        if (x->base + x->size <= y->base)
                return -1;
        return y->base + y->size <= x->base ? 1 : 0;
}

int memory_find(const void *pointer, struct range *ret)
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

int memory_is_device(const void *pointer)
{
        struct range range;

        return memory_find(pointer, &range) && range.owner != OWNER_HOST;
}

static int fits(const struct sim_segment *sim, uint64_t bytes)
{
        return sim->memory_used_bytes + bytes <= sim->memory_bytes;
}

// So much of the device's memory for this process, and where in the pool if it lies there.
int memory_charge(int device, uint64_t bytes, uint64_t *ret_offset)
{
        struct sim_segment *sim = sims[device];
        int error = SUCCESS, process;

        *ret_offset = NOWHERE;
        sim_segment_lock(sim);
        if (!fits(sim, bytes))
                sim_segment_sweep(sim);
        process = sim_segment_process(sim);
        if (sim->lost) {
                error = UNKNOWN;
        } else if (sim->fail_allocations) {
                sim->fail_allocations--;
                error = OUT_OF_MEMORY;
        } else if (process < 0 || !fits(sim, bytes)) {
                error = OUT_OF_MEMORY;
        } else {
                sim->memory_used_bytes += bytes;
                sim->process[process].memory_bytes += bytes;
                if (!sim->cleared)
                        sim_pool_take(&sim->pool, (uint32_t)process, bytes, ret_offset);
        }
        sim_segment_unlock(sim);
        return error;
}

void memory_give_back(int device, uint64_t bytes, uint64_t offset)
{
        struct sim_segment *sim = sims[device];
        int process;

        sim_segment_lock(sim);
        process = sim_segment_process(sim);
        if (process >= 0 && sim->process[process].memory_bytes >= bytes) {
                sim->memory_used_bytes -= bytes;
                sim->process[process].memory_bytes -= bytes;
        }
        if (offset != NOWHERE)
                sim_pool_give(&sim->pool, offset);
        sim_segment_unlock(sim);
}

// CUmemAllocationProp and CUmemPoolProps: type, handle types, then where: 1 is a device, and which.
int memory_place(const int *props)
{
        return props && props[2] == 1 ? props[3] : 0;
}

// Memory for a range: the device's own where it has an offset, else the process's.
static void *back(int device, size_t size, uint64_t offset)
{
        void *base;

        if (offset != NOWHERE)
                return sim_segment_map((uint32_t)device, offset, size, NULL);
        base = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        return base == MAP_FAILED ? NULL : base;
}

int memory_add(void **ret, int device, size_t size, size_t charged, enum owner owner)
{
        struct range *range;
        void *base;
        uint64_t offset = NOWHERE;
        int error = charged ? memory_charge(device, charged, &offset) : SUCCESS;

        if (error)
                return error;
        size = (size + PAGE - 1) / PAGE * PAGE;
        base = back(device, size, offset);
        range = malloc(sizeof *range);
        if (!base || !range) {
                if (charged)
                        memory_give_back(device, charged, offset);
                free(range);
                return OUT_OF_MEMORY;
        }
        *range = (struct range){(uintptr_t)base, size, charged, owner, device, offset};
        pthread_mutex_lock(&lock);
        tsearch(range, &ranges, by_address);
        pthread_mutex_unlock(&lock);
        *ret = base;
        return SUCCESS;
}

// Whole pages of zeroes are dropped, not written: an engine that zeroes its cache of many GiB takes none of
// the host's.
static int drop_pages(void *to, size_t bytes)
{
        struct range range;
        uintptr_t from = ((uintptr_t)to + PAGE - 1) / PAGE * PAGE,
                  end = ((uintptr_t)to + bytes) / PAGE * PAGE;

        if (bytes < WORTH_DROPPING || !memory_find(to, &range) || range.owner == OWNER_ADDRESS ||
            range.owner == OWNER_HOST || (uintptr_t)to + bytes > range.base + range.size)
                return 0;
        if (madvise((void *)from, end - from, range.offset == NOWHERE ? MADV_DONTNEED : MADV_REMOVE))
                return 0;
        memset(to, 0, from - (uintptr_t)to);
        memset((void *)end, 0, (uintptr_t)to + bytes - end);
        return 1;
}

void memory_fill(void *to, uint64_t value, unsigned width, size_t n)
{
        if (!value && drop_pages(to, n * width))
                return;
        if (width == 1 || !value)
                memset(to, (int)value, n * width);
        else
                for (size_t i = 0; i < n; i++)
                        memcpy((char *)to + i * width, &value, width);
}

int memory_remove(void *pointer)
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
                memory_give_back(range->device, range->charged, range->offset);
        free(range);
        return SUCCESS;
}

API cuMemAlloc_v2(void **pointer, size_t size)
{
        if (!context_current())
                return INVALID_CONTEXT;
        return size ? memory_add(pointer, context_current()->device, size, size, OWNER_DEVICE)
                    : INVALID_VALUE;
}

API cuMemFree_v2(void *pointer)
{
        struct range range;

        if (!pointer)
                return SUCCESS;
        if (context_current() && !capture_active() && memory_find(pointer, &range))
                context_wait(context_on(range.device));
        return memory_remove(pointer);
}

API cuMemAllocPitch_v2(void **pointer, size_t *pitch, size_t width, size_t height, unsigned element)
{
        (void)element;
        *pitch = (width + 511) / 512 * 512;
        return cuMemAlloc_v2(pointer, *pitch * height);
}

API cuMemAllocManaged(void **pointer, size_t size, unsigned flags)
{
        int device = context_current() ? context_current()->device : 0;

        (void)flags;
        return size ? memory_add(pointer, device, size, size, OWNER_MANAGED) : INVALID_VALUE;
}

API cuMemHostAlloc(void **pointer, size_t size, unsigned flags)
{
        (void)flags;
        return memory_add(pointer, 0, size ? size : 1, 0, OWNER_HOST);
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
        return pointer ? memory_remove(pointer) : SUCCESS;
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
        struct sim_segment *sim = context_current() ? context_current()->sim : NULL;

        if (!sim)
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

        if (!memory_find(pointer, &range))
                return NOT_FOUND;
        if (base)
                *base = (void *)range.base;
        if (size)
                *size = range.size;
        return SUCCESS;
}

// Stream-ordered allocation: a pool is its device itself.
static char pools[SIM_DEVICES_MAX];

// pool NULL: the one of the stream's device
static int allocate_async(void **pointer, size_t size, const char *pool, struct stream *stream)
{
        stream = stream_of(stream);
        if (!stream)
                return INVALID_CONTEXT;
        return size ? memory_add(pointer, pool ? (int)(pool - pools) : stream->context->device, size, size,
                                 OWNER_DEVICE)
                    : INVALID_VALUE;
}

API cuMemAllocAsync(void **pointer, size_t size, struct stream *stream)
{
        return allocate_async(pointer, size, NULL, stream);
}

API cuMemAllocAsync_ptsz(void **pointer, size_t size, struct stream *stream)
{
        return allocate_async(pointer, size, NULL, stream);
}

API cuMemAllocFromPoolAsync(void **pointer, size_t size, const char *pool, struct stream *stream)
{
        return allocate_async(pointer, size, pool, stream);
}

API cuMemAllocFromPoolAsync_ptsz(void **pointer, size_t size, const char *pool, struct stream *stream)
{
        return allocate_async(pointer, size, pool, stream);
}

// Host code cannot see when the device is done with the memory, so it is given back at once.
API cuMemFreeAsync(void *pointer, struct stream *stream)
{
        (void)stream;
        return memory_remove(pointer);
}

API cuMemFreeAsync_ptsz(void *pointer, struct stream *stream)
{
        return cuMemFreeAsync(pointer, stream);
}

API cuDeviceGetDefaultMemPool(const char **ret, int device)
{
        if (driver_ready(device))
                return driver_ready(device);
        *ret = pools + device;
        return SUCCESS;
}

API cuDeviceGetMemPool(const char **ret, int device)
{
        return cuDeviceGetDefaultMemPool(ret, device);
}

API cuDeviceSetMemPool(int device, void *which)
{
        (void)device, (void)which;
        return SUCCESS;
}

API cuMemPoolCreate(const char **ret, const int *props)
{
        return cuDeviceGetDefaultMemPool(ret, memory_place(props));
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

// CUpointer_attribute: 1 context, 2 memory type, 3 device pointer, 4 host pointer, 7 buffer id, 8 managed, 9
// ordinal, 11 range start, 12 range size, 13 mapped
static int pointer_attribute(void *data, int attribute, const struct range *range, void *pointer)
{
        switch (attribute) {
        case 1:
                *(void **)data = context_on(range->device);
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
                *(int *)data = range->device;
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

        return memory_find(pointer, &range) ? pointer_attribute(data, attribute, &range, pointer)
                                            : INVALID_VALUE;
}

API cuPointerGetAttributes(unsigned n, const int *attributes, void **data, void *pointer)
{
        struct range range;
        int found = memory_find(pointer, &range);

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
