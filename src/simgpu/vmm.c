// Memory apart from its addresses: reserve, create, map. What was created lives until its last handle and its
// last mapping are gone; engines release the handle as soon as they have mapped it.
#include <search.h>
#include <stdlib.h>
#include <sys/mman.h>
#include "simgpu/driver.h"
#include "simgpu/memory.h"

#define GRANULARITY (2u << 20)

struct allocation {
        size_t size;
        int device;
        uint64_t offset; // in the device's pool, or NOWHERE
        int references;
};

struct mapping {
        uintptr_t base;
        size_t size;
        struct allocation *allocation;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static void *mappings;

static int by_address(const void *a, const void *b)
{
        const struct mapping *x = a, *y = b;

        if (x->base + x->size <= y->base)
                return -1;
        return y->base + y->size <= x->base ? 1 : 0;
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
        return memory_add(pointer, 0, size, 0, OWNER_ADDRESS);
}

API cuMemAddressFree(void *pointer, size_t size)
{
        (void)size;
        return memory_remove(pointer);
}

API cuMemCreate(struct allocation **ret, size_t size, const int *props, unsigned long long flags)
{
        struct allocation *allocation = malloc(sizeof *allocation);
        int device = memory_place(props), error = driver_ready(device);

        (void)flags;
        if (!error)
                error = allocation ? memory_charge(device, size, &allocation->offset) : OUT_OF_MEMORY;
        if (error)
                return free(allocation), error;
        allocation->size = size;
        allocation->device = device;
        allocation->references = 1;
        *ret = allocation;
        return SUCCESS;
}

static void drop(struct allocation *allocation)
{
        if (__atomic_sub_fetch(&allocation->references, 1, __ATOMIC_ACQ_REL) > 0)
                return;
        memory_give_back(allocation->device, allocation->size, allocation->offset);
        free(allocation);
}

API cuMemRelease(struct allocation *allocation)
{
        if (!allocation)
                return INVALID_VALUE;
        drop(allocation);
        return SUCCESS;
}

// 0 when the addresses hold another mapping.
static int note(uintptr_t base, size_t size, struct allocation *allocation)
{
        struct mapping *new = malloc(sizeof *new), **found = NULL;

        if (!new)
                return 0;
        *new = (struct mapping){base, size, allocation};
        pthread_mutex_lock(&lock);
        found = tsearch(new, &mappings, by_address);
        pthread_mutex_unlock(&lock);
        if (found && *found == new)
                return 1;
        free(new);
        return 0;
}

// Takes one mapping that lies within the addresses out of the tree.
static struct mapping *forget(uintptr_t base, size_t size)
{
        struct mapping key = {base, size, NULL}, **found, *old = NULL;

        pthread_mutex_lock(&lock);
        found = tfind(&key, &mappings, by_address);
        if (found && (*found)->base >= base && (*found)->base + (*found)->size <= base + size) {
                old = *found;
                tdelete(old, &mappings, by_address);
        }
        pthread_mutex_unlock(&lock);
        return old;
}

API cuMemMap(void *pointer, size_t size, size_t offset, struct allocation *allocation,
             unsigned long long flags)
{
        struct range range;

        (void)flags;
        if (!allocation || !memory_find(pointer, &range) || range.owner != OWNER_ADDRESS ||
            (uintptr_t)pointer + size > range.base + range.size || offset + size > allocation->size)
                return INVALID_VALUE;
        if (!note((uintptr_t)pointer, size, allocation))
                return INVALID_VALUE;
        __atomic_add_fetch(&allocation->references, 1, __ATOMIC_ACQ_REL);
        if (allocation->offset == NOWHERE ||
            sim_segment_map((uint32_t)allocation->device, allocation->offset + offset, size, pointer))
                return SUCCESS; // without a place in the pool the reservation is memory itself
        free(forget((uintptr_t)pointer, size));
        drop(allocation);
        return OUT_OF_MEMORY;
}

API cuMemUnmap(void *pointer, size_t size)
{
        struct mapping *old;
        int n = 0;

        for (; (old = forget((uintptr_t)pointer, size)); n++) {
                mmap((void *)old->base, old->size, PROT_READ | PROT_WRITE,
                     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0);
                drop(old->allocation);
                free(old);
        }
        return n ? SUCCESS : INVALID_VALUE;
}

API cuMemSetAccess(void *pointer, size_t size, const void *descriptions, size_t n)
{
        (void)pointer, (void)size, (void)descriptions, (void)n;
        return SUCCESS;
}
