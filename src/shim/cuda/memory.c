// The hooked allocations: charged against the tenant's quota before the driver sees them, with its own error
// for what does not fit; and the questions how much there is, answered with the tenant's view.
//
// Not counted: what modules, contexts and local memory take, and what a graph's own pool keeps after its
// frees.
#include <stddef.h>
#include "shim/cuda/door.h"
#include "shim/cuda/ledger.h"
#include "shim/cuda/place.h"
#include "shim/lease.h"

#define NODE_TYPE_ALLOC 10 // CU_GRAPH_NODE_TYPE_MEM_ALLOC
#define NODE_TYPE_FREE 11

// Around an allocation that puts its address or handle into *ret.
#define ALLOCATE(kind, name, params, args, bytes)                                                            \
        ALLOCATE_AT(kind, name, params, args, bytes, place_device(&context))
#define ALLOCATE_AT(kind, name, params, args, bytes, at)                                                     \
        EXPORT int name params;                                                                              \
        int name params                                                                                      \
        {                                                                                                    \
                uint64_t size = bytes;                                                                       \
                void *context = NULL;                                                                        \
                int device = at, error;                                                                      \
                struct ledger_charge charge;                                                                 \
                                                                                                             \
                door_open();                                                                                 \
                if (!door_real[HOOK_##name])                                                                 \
                        return CUDA_NOT_SUPPORTED;                                                           \
                error = ledger_charge(device, size, &charge);                                                \
                if (error)                                                                                   \
                        return error;                                                                        \
                error = ((int(*) params)door_real[HOOK_##name])args;                                         \
                if (error == CUDA_SUCCESS)                                                                   \
                        ledger_note(kind, *ret, &charge, context);                                           \
                else                                                                                         \
                        ledger_uncharge(&charge);                                                            \
                return error;                                                                                \
        }

// Around a free: what the driver refuses to free stays charged.
#define RELEASE(kind, name, params, args, key)                                                               \
        EXPORT int name params;                                                                              \
        int name params                                                                                      \
        {                                                                                                    \
                struct ledger_entry entry;                                                                   \
                int error;                                                                                   \
                                                                                                             \
                door_open();                                                                                 \
                if (!door_real[HOOK_##name])                                                                 \
                        return CUDA_NOT_SUPPORTED;                                                           \
                entry = ledger_take(kind, key);                                                              \
                error = ((int(*) params)door_real[HOOK_##name])args;                                         \
                ledger_freed(&entry, error);                                                                 \
                return error;                                                                                \
        }

// A call that goes on as it came; `after` if it went well.
#define FORWARD(name, params, args, after)                                                                   \
        EXPORT int name params;                                                                              \
        int name params                                                                                      \
        {                                                                                                    \
                int error;                                                                                   \
                                                                                                             \
                door_open();                                                                                 \
                if (!door_real[HOOK_##name])                                                                 \
                        return CUDA_NOT_SUPPORTED;                                                           \
                error = ((int(*) params)door_real[HOOK_##name])args;                                         \
                if (error == CUDA_SUCCESS)                                                                   \
                        after;                                                                               \
                return error;                                                                                \
        }

static int device_now(void)
{
        void *context;

        return place_device(&context);
}

static int device_of(uintptr_t stream)
{
        void *context;

        return place_stream(stream, &context);
}

// The pitch is the driver's to choose: 512 bytes is what devices of today align rows to.
static uint64_t pitched(size_t width, size_t height)
{
        return (width + 511) / 512 * 512 * height;
}

// CUmemAllocationProp: type, handle types, then where: 1 is a device. Memory on the host is not the device's.
static uint64_t on_device(const int *prop, size_t size)
{
        return prop && prop[2] == 1 ? size : 0;
}

// It names its device; a context need not be there.
static int device_in(const int *prop)
{
        int current = device_now();

        return prop && prop[2] == 1 && lease_wanted() && prop[3] >= 0 && prop[3] < TAKT_PAGE_LANES ? prop[3]
                                                                                                   : current;
}

static void note_pool(uintptr_t pool, int device)
{
        const struct ledger_charge nothing = {.device = device};

        if (lease_wanted() && device < TAKT_PAGE_LANES)
                ledger_note(LEDGER_POOL, pool, &nothing, NULL);
}

// The pool may be another device's than the stream.
static int device_from(uintptr_t pool, uintptr_t stream)
{
        int device = ledger_device(LEDGER_POOL, pool);

        return device < 0 ? device_of(stream) : device;
}

// CUDA_ARRAY_DESCRIPTOR and its 3D form, as far as a size needs them.
struct array {
        size_t width, height, depth; // 0: one
        unsigned format, channels;
};

static uint64_t array_bytes(struct array a)
{
        // CUarray_format: 8, 16 and 32 bits, signed and not, half and float. What is newer is at most 4 bytes
        // a texel.
        uint64_t texel = a.format == 0x01 || a.format == 0x08                       ? 1
                         : a.format == 0x02 || a.format == 0x09 || a.format == 0x10 ? 2
                                                                                    : 4;

        return a.width * (a.height ? a.height : 1) * (a.depth ? a.depth : 1) * texel *
               (a.channels ? a.channels : 1);
}

static uint64_t flat_bytes(const size_t *descriptor)
{
        const unsigned *rest = (const unsigned *)(descriptor + 2);

        return descriptor ? array_bytes((struct array){descriptor[0], descriptor[1], 0, rest[0], rest[1]})
                          : 0;
}

static uint64_t deep_bytes(const size_t *descriptor)
{
        const unsigned *rest = (const unsigned *)(descriptor + 3);

        return descriptor ? array_bytes((struct array){descriptor[0], descriptor[1], descriptor[2], rest[0],
                                                       rest[1]})
                          : 0;
}

// All levels below the first are a third of it at most.
static uint64_t mipmapped_bytes(const size_t *descriptor, unsigned levels)
{
        uint64_t bytes = deep_bytes(descriptor);

        return levels > 1 ? bytes + bytes / 2 : bytes;
}

ALLOCATE(LEDGER_POINTER, cuMemAlloc_v2, (uintptr_t * ret, size_t size_), (ret, size_), size_)
ALLOCATE(LEDGER_POINTER, cuMemAllocManaged, (uintptr_t * ret, size_t size_, unsigned flags),
         (ret, size_, flags), size_)
ALLOCATE(LEDGER_POINTER, cuMemAllocPitch_v2,
         (uintptr_t * ret, size_t *pitch, size_t width, size_t height, unsigned element),
         (ret, pitch, width, height, element), pitched(width, height))
ALLOCATE_AT(LEDGER_POINTER, cuMemAllocAsync, (uintptr_t * ret, size_t size_, uintptr_t stream),
            (ret, size_, stream), size_, device_of(stream))
ALLOCATE_AT(LEDGER_POINTER, cuMemAllocAsync_ptsz, (uintptr_t * ret, size_t size_, uintptr_t stream),
            (ret, size_, stream), size_, device_of(stream))
ALLOCATE_AT(LEDGER_POINTER, cuMemAllocFromPoolAsync,
            (uintptr_t * ret, size_t size_, uintptr_t pool, uintptr_t stream), (ret, size_, pool, stream),
            size_, device_from(pool, stream))
ALLOCATE_AT(LEDGER_POINTER, cuMemAllocFromPoolAsync_ptsz,
            (uintptr_t * ret, size_t size_, uintptr_t pool, uintptr_t stream), (ret, size_, pool, stream),
            size_, device_from(pool, stream))
FORWARD(cuDeviceGetDefaultMemPool, (uintptr_t * ret, int device), (ret, device), note_pool(*ret, device))
FORWARD(cuDeviceGetMemPool, (uintptr_t * ret, int device), (ret, device), note_pool(*ret, device))
FORWARD(cuMemGetDefaultMemPool, (uintptr_t * ret, const int *where, int type), (ret, where, type),
        note_pool(*ret, where[0] == 1 ? where[1] : -1))
FORWARD(cuMemGetMemPool, (uintptr_t * ret, const int *where, int type), (ret, where, type),
        note_pool(*ret, where[0] == 1 ? where[1] : -1))
FORWARD(cuMemPoolCreate, (uintptr_t * ret, const int *prop), (ret, prop), note_pool(*ret, device_in(prop)))
RELEASE(LEDGER_POOL, cuMemPoolDestroy, (uintptr_t pool), (pool), pool)
RELEASE(LEDGER_POINTER, cuMemFree_v2, (uintptr_t pointer), (pointer), pointer)
RELEASE(LEDGER_POINTER, cuMemFreeAsync, (uintptr_t pointer, uintptr_t stream), (pointer, stream), pointer)
RELEASE(LEDGER_POINTER, cuMemFreeAsync_ptsz, (uintptr_t pointer, uintptr_t stream), (pointer, stream),
        pointer)

ALLOCATE_AT(LEDGER_HANDLE, cuMemCreate,
            (uintptr_t * ret, size_t size_, const int *prop, unsigned long long flags),
            (ret, size_, prop, flags), on_device(prop, size_), device_in(prop))
RELEASE(LEDGER_HANDLE, cuMemRelease, (uintptr_t handle), (handle), handle)
FORWARD(cuMemRetainAllocationHandle, (uintptr_t * handle, void *address), (handle, address),
        ledger_retain(*handle, (uintptr_t)address))
FORWARD(cuMemMap, (uintptr_t address, size_t size, size_t offset, uintptr_t handle, unsigned long long flags),
        (address, size, offset, handle, flags), ledger_map(address, size, handle))
FORWARD(cuMemUnmap, (uintptr_t address, size_t size), (address, size), ledger_unmap(address, size))

ALLOCATE(LEDGER_ARRAY, cuArrayCreate_v2, (uintptr_t * ret, const size_t *descriptor), (ret, descriptor),
         flat_bytes(descriptor))
ALLOCATE(LEDGER_ARRAY, cuArray3DCreate_v2, (uintptr_t * ret, const size_t *descriptor), (ret, descriptor),
         deep_bytes(descriptor))
ALLOCATE(LEDGER_ARRAY, cuMipmappedArrayCreate, (uintptr_t * ret, const size_t *descriptor, unsigned levels),
         (ret, descriptor, levels), mipmapped_bytes(descriptor, levels))
RELEASE(LEDGER_ARRAY, cuArrayDestroy, (uintptr_t array), (array), array)
RELEASE(LEDGER_ARRAY, cuMipmappedArrayDestroy, (uintptr_t array), (array), array)

// CUDA_MEM_ALLOC_NODE_PARAMS: the pool's properties take 88 bytes, then the access list; the size, and the
// address that the driver gives, come last.
struct alloc_node {
        uint8_t pool[88];
        const void *access;
        size_t n_access, bytes;
        uintptr_t address;
};

static int charge_node(const struct alloc_node *node, struct ledger_charge *ret)
{
        return ledger_charge(device_in((const int *)node->pool), node->bytes, ret);
}

static int node_added(const struct alloc_node *node, const struct ledger_charge *charge, int error)
{
        if (error)
                ledger_uncharge(charge);
        else
                ledger_note(LEDGER_POINTER, node->address, charge, NULL);
        return error;
}

// Memory that a graph allocates for itself counts from when its node is added until its address is freed.
EXPORT int cuGraphAddMemAllocNode(void **ret, void *graph, const void *after, size_t n,
                                  struct alloc_node *node);
int cuGraphAddMemAllocNode(void **ret, void *graph, const void *after, size_t n, struct alloc_node *node)
{
        struct ledger_charge charge;
        int error;

        door_open();
        if (!door_real[HOOK_cuGraphAddMemAllocNode])
                return CUDA_NOT_SUPPORTED;
        error = charge_node(node, &charge);
        return error ? error
                     : node_added(node, &charge,
                                  (int)REAL(cuGraphAddMemAllocNode, ret, graph, after, n, node));
}

// CUgraphNodeParams: the type, three words, then what that type needs; allocations as above.
static struct alloc_node *alloc_of(int *params)
{
        return params && params[0] == NODE_TYPE_ALLOC ? (struct alloc_node *)(params + 4) : NULL;
}

// A graph that frees what it allocates gives it back to its own pool.
static void freed_by_node(uintptr_t address)
{
        struct ledger_entry entry = ledger_take(LEDGER_POINTER, address);

        ledger_freed(&entry, 0);
}

FORWARD(cuGraphAddMemFreeNode, (void **ret, void *graph, const void *after_, size_t n, uintptr_t address),
        (ret, graph, after_, n, address), freed_by_node(address))

static uintptr_t freed_in(const int *params)
{
        return params && params[0] == NODE_TYPE_FREE ? *(const uintptr_t *)(params + 4) : 0;
}

#define ADD_NODE(name, params, args)                                                                         \
        EXPORT int name params;                                                                              \
        int name params                                                                                      \
        {                                                                                                    \
                struct alloc_node *node = alloc_of(what);                                                    \
                struct ledger_charge charge;                                                                 \
                int error;                                                                                   \
                                                                                                             \
                door_open();                                                                                 \
                if (!door_real[HOOK_##name])                                                                 \
                        return CUDA_NOT_SUPPORTED;                                                           \
                error = node ? charge_node(node, &charge) : CUDA_SUCCESS;                                    \
                if (error)                                                                                   \
                        return error;                                                                        \
                error = ((int(*) params)door_real[HOOK_##name])args;                                         \
                if (!error && freed_in(what))                                                                \
                        freed_by_node(freed_in(what));                                                       \
                return node ? node_added(node, &charge, error) : error;                                      \
        }

ADD_NODE(cuGraphAddNode, (void **ret, void *graph, const void *after, size_t n, int *what),
         (ret, graph, after, n, what))
ADD_NODE(cuGraphAddNode_v2,
         (void **ret, void *graph, const void *after, const void *edges, size_t n, int *what),
         (ret, graph, after, edges, n, what))

// The forms of CUDA 2.0, with 32-bit addresses and sizes.
ALLOCATE(LEDGER_POINTER, cuMemAlloc, (unsigned *ret, unsigned size_), (ret, size_), size_)
ALLOCATE(LEDGER_POINTER, cuMemAllocPitch,
         (unsigned *ret, unsigned *pitch, unsigned w, unsigned h, unsigned element),
         (ret, pitch, w, h, element), pitched(w, h))
RELEASE(LEDGER_POINTER, cuMemFree, (unsigned pointer), (pointer), pointer)

// CUDA_ARRAY_DESCRIPTOR of then: width and height (and depth), format and channels in 32 bits.
static uint64_t old_flat_bytes(const unsigned *d)
{
        return d ? array_bytes((struct array){d[0], d[1], 0, d[2], d[3]}) : 0;
}

static uint64_t old_deep_bytes(const unsigned *d)
{
        return d ? array_bytes((struct array){d[0], d[1], d[2], d[3], d[4]}) : 0;
}

ALLOCATE(LEDGER_ARRAY, cuArrayCreate, (uintptr_t * ret, const unsigned *descriptor), (ret, descriptor),
         old_flat_bytes(descriptor))
ALLOCATE(LEDGER_ARRAY, cuArray3DCreate, (uintptr_t * ret, const unsigned *descriptor), (ret, descriptor),
         old_deep_bytes(descriptor))

// What the tenant has of the current device, and what is left of it.
static void own_view(uint64_t *free_bytes, uint64_t *total)
{
        int device = device_now();
        uint64_t quota = lease_quota_told(device), used = ledger_used(device),
                 left = used < quota ? quota - used : 0;

        if (!quota || quota >= *total)
                return;
        *total = quota;
        *free_bytes = *free_bytes > left ? left : *free_bytes;
}

// Asked before there is a context: whose the device is only the daemon knows.
static uint64_t own_total(int device, uint64_t total)
{
        uint64_t quota;

        place_join();
        quota = lease_quota_told(device);
        return quota && quota < total ? quota : total;
}

// The same two questions, in 64 bits and in the 32 bits of CUDA 2.0.
#define GET_INFO(name, type)                                                                                 \
        EXPORT int name(type *free_bytes, type *total);                                                      \
        int name(type *free_bytes, type *total)                                                              \
        {                                                                                                    \
                type real_free, real_total;                                                                  \
                uint64_t own_free, own;                                                                      \
                int error;                                                                                   \
                                                                                                             \
                door_open();                                                                                 \
                if (!door_real[HOOK_##name])                                                                 \
                        return CUDA_NOT_SUPPORTED;                                                           \
                error = ((int (*)(type *, type *))door_real[HOOK_##name])(&real_free, &real_total);          \
                if (error)                                                                                   \
                        return error;                                                                        \
                own_free = real_free;                                                                        \
                own = real_total;                                                                            \
                own_view(&own_free, &own);                                                                   \
                if (free_bytes)                                                                              \
                        *free_bytes = (type)own_free;                                                        \
                if (total)                                                                                   \
                        *total = (type)own;                                                                  \
                return CUDA_SUCCESS;                                                                         \
        }

#define TOTAL_MEM(name, type)                                                                                \
        EXPORT int name(type *bytes, int device);                                                            \
        int name(type *bytes, int device)                                                                    \
        {                                                                                                    \
                int error;                                                                                   \
                                                                                                             \
                door_open();                                                                                 \
                if (!door_real[HOOK_##name])                                                                 \
                        return CUDA_NOT_SUPPORTED;                                                           \
                error = ((int (*)(type *, int))door_real[HOOK_##name])(bytes, device);                       \
                if (!error && bytes)                                                                         \
                        *bytes = (type)own_total(device, *bytes);                                            \
                return error;                                                                                \
        }

GET_INFO(cuMemGetInfo_v2, size_t)
GET_INFO(cuMemGetInfo, unsigned)
TOTAL_MEM(cuDeviceTotalMem_v2, size_t)
TOTAL_MEM(cuDeviceTotalMem, unsigned)
