// The account of memory, on the fake driver: what is charged is what is held, at every moment, for this
// process and for its tenant; what the driver refuses or takes back is not held; and nobody is refused for
// what another does not get.
#include <string.h>
#include <sys/wait.h>
#include "stage.h"

static uint64_t own(int lane)
{
        return atomic_load(&stage_session()->client->lane[lane].memory_used);
}

static uint64_t tenants(int lane)
{
        return atomic_load(&stage.tenant->lane[lane].memory_used);
}

#define HELD(lane, bytes) CHECK(own(lane) == (bytes) && tenants(lane) == (bytes))

static void begin(void)
{
        stage_context(0);
        launch(0);
        MUST(cuCtxSynchronize);
        stage_quota(0, 1024 * MIB);
}

static int refuses(const uintptr_t *a)
{
        (void)a;
        return 1;
}

static uint64_t seen_inside;

static int looks(const uintptr_t *a)
{
        seen_inside = own(0);
        *(uintptr_t *)a[0] = 0x5550000;
        return 0;
}

// A process that is killed inside the driver's allocation: the daemon gives back what its page says.
static void charged_before_the_driver_sees_it(void)
{
        uintptr_t pointer;

        begin();
        stage.fake->set("cuMemAlloc_v2", looks);
        MUST(cuMemAlloc_v2, &pointer, 3 * MIB);
        CHECK(seen_inside == 3 * MIB);
        HELD(0, 3 * MIB);
}

static void what_the_driver_refuses_is_not_held(void)
{
        uintptr_t pointer;

        begin();
        stage.fake->set("cuMemAlloc_v2", refuses);
        CHECK(CALL(cuMemAlloc_v2, &pointer, 3 * MIB) == 1);
        HELD(0, 0);
        stage.fake->set("cuMemAlloc_v2", NULL);
        MUST(cuMemAlloc_v2, &pointer, 3 * MIB);
        stage.fake->set("cuMemFree_v2", refuses);
        CHECK(CALL(cuMemFree_v2, pointer) == 1);
        HELD(0, 3 * MIB);
        stage.fake->set("cuMemFree_v2", NULL);
        MUST(cuMemFree_v2, pointer);
        HELD(0, 0);
}

// Every way to allocate: refused with the API's own code beyond the quota, and unseen by the driver then.
static void every_allocation_is_held_to_the_quota(void)
{
        size_t flat[3] = {1 << 14, 1 << 14}, deep[6] = {1 << 12, 1 << 10, 64};
        unsigned old_flat[4] = {1 << 14, 1 << 14, 0x20, 1}, old_deep[6] = {1 << 12, 1 << 10, 64, 0x20, 1};
        int prop[8] = {1, 0, 1, 0}, alloc_node[40] = {10};
        uint8_t node[120] = {0};
        uintptr_t ret;
        size_t pitch;

        ((unsigned *)(flat + 2))[0] = ((unsigned *)(deep + 3))[0] = 0x20; // float
        ((unsigned *)(flat + 2))[1] = ((unsigned *)(deep + 3))[1] = 1;
        ((int *)node)[2] = 1;
        *(uint64_t *)(node + 104) = 1024 * MIB;
        memcpy(alloc_node + 4, node, sizeof node);
        begin();
        stage_quota(0, 512 * MIB);
#define REFUSED(name, ...)                                                                                   \
        CHECK(CALL(name, __VA_ARGS__) == 2);                                                                 \
        CHECK(stage.fake->count(#name, NULL) == 0);                                                          \
        HELD(0, 0)
        REFUSED(cuMemAlloc_v2, &ret, 1024 * MIB);
        REFUSED(cuMemAlloc, &ret, 1024u << 20);
        REFUSED(cuMemAllocManaged, &ret, 1024 * MIB, 1);
        REFUSED(cuMemAllocPitch_v2, &ret, &pitch, (size_t)1 << 20, (size_t)1 << 10, 4);
        REFUSED(cuMemAllocPitch, &ret, &pitch, 1u << 20, 1u << 10, 4);
        REFUSED(cuMemAllocAsync, &ret, 1024 * MIB, (uintptr_t)0);
        REFUSED(cuMemAllocAsync_ptsz, &ret, 1024 * MIB, (uintptr_t)0);
        REFUSED(cuMemAllocFromPoolAsync, &ret, 1024 * MIB, (uintptr_t)8, (uintptr_t)0);
        REFUSED(cuMemAllocFromPoolAsync_ptsz, &ret, 1024 * MIB, (uintptr_t)8, (uintptr_t)0);
        REFUSED(cuMemCreate, &ret, 1024 * MIB, prop, 0ull);
        REFUSED(cuArrayCreate_v2, &ret, flat);
        REFUSED(cuArray3DCreate_v2, &ret, deep);
        REFUSED(cuMipmappedArrayCreate, &ret, deep, 5);
        REFUSED(cuArrayCreate, &ret, old_flat);
        REFUSED(cuArray3DCreate, &ret, old_deep);
        REFUSED(cuGraphAddMemAllocNode, &ret, (uintptr_t)8, NULL, (size_t)0, node);
        REFUSED(cuGraphAddNode, &ret, (uintptr_t)8, NULL, (size_t)0, alloc_node);
        REFUSED(cuGraphAddNode_v2, &ret, (uintptr_t)8, NULL, NULL, (size_t)0, alloc_node);
}

static int gives_node(const uintptr_t *a)
{
        *(uintptr_t *)(a[4] + 112) = 0x7770000;
        return 0;
}

// A graph that allocates and frees for itself, built again and again: the charge must not grow.
static void a_graph_that_frees_its_own_memory_holds_none(void)
{
        uint8_t node[120] = {0};
        int free_node[8] = {11};
        uintptr_t ret;

        ((int *)node)[2] = 1;
        *(uint64_t *)(node + 104) = 600 * MIB;
        *(uintptr_t *)(free_node + 4) = 0x7770000;
        begin();
        stage.fake->set("cuGraphAddMemAllocNode", gives_node);
        for (int i = 0; i < 4; i++) {
                MUST(cuGraphAddMemAllocNode, &ret, (uintptr_t)8, NULL, (size_t)0, node);
                HELD(0, 600 * MIB);
                if (i % 2)
                        MUST(cuGraphAddMemFreeNode, &ret, (uintptr_t)8, NULL, (size_t)0,
                             (uintptr_t)0x7770000);
                else
                        MUST(cuGraphAddNode_v2, &ret, (uintptr_t)8, NULL, NULL, (size_t)0, free_node);
                HELD(0, 0);
        }
}

static void physical_memory_is_of_the_device_that_it_names(void)
{
        int there[8] = {1, 0, 1, 1}, host[8] = {1, 0, 3, 0}, here[8] = {1, 0, 1, 0};
        uintptr_t on_other, on_host, unbound;

        stage.lane[1] = 1;
        begin();
        MUST(cuMemCreate, &on_other, 5 * MIB, there, 0ull);
        MUST(cuMemCreate, &on_host, 7 * MIB, host, 0ull);
        HELD(0, 0);
        HELD(1, 5 * MIB);
        MUST(cuCtxSetCurrent, NULL); // it needs no context
        MUST(cuMemCreate, &unbound, 9 * MIB, here, 0ull);
        HELD(0, 9 * MIB);
        MUST(cuMemRelease, on_other);
        HELD(1, 0);
}

// With the first device current: a stream allocates from its own device, and a pool gives its own device's.
static void pools_and_streams_have_a_device(void)
{
        int where[2] = {1, 1}, prop[22] = {1, 0, 1, 1};
        uintptr_t stream, pool[5], pointer[7];
        void *first, *current;

        stage.lane[1] = 1;
        begin();
        stage_context(1);
        MUST(cuStreamCreate, &stream, 1);
        first = stage_context(0);
        MUST(cuMemAllocAsync, &pointer[0], 3 * MIB, stream);
        MUST(cuMemAllocAsync_ptsz, &pointer[1], 3 * MIB, stream);
        HELD(0, 0);
        HELD(1, 6 * MIB);
        MUST(cuCtxGetCurrent, &current);
        CHECK(current == first); // as before
        MUST(cuDeviceGetDefaultMemPool, &pool[0], 1);
        MUST(cuDeviceGetMemPool, &pool[1], 1);
        MUST(cuMemGetDefaultMemPool, &pool[2], where, 1);
        MUST(cuMemGetMemPool, &pool[3], where, 1);
        MUST(cuMemPoolCreate, &pool[4], prop);
        for (int i = 0; i < 5; i++)
                MUST(cuMemAllocFromPoolAsync, &pointer[2 + i], 3 * MIB, pool[i], (uintptr_t)0);
        HELD(0, 0);
        HELD(1, 21 * MIB);
        for (int i = 0; i < 7; i++)
                MUST(cuMemFreeAsync, pointer[i], stream);
        HELD(1, 0);
        MUST(cuMemPoolDestroy, pool[4]);
        MUST(cuDeviceGetMemPool, &pool[0], 0);
        MUST(cuMemAllocFromPoolAsync_ptsz, &pointer[0], 3 * MIB, pool[0], stream);
        MUST(cuMemAllocFromPoolAsync, &pointer[1], 5 * MIB, pool[4], (uintptr_t)0); // of none that is known
        MUST(cuMemAllocManaged, &pointer[2], 7 * MIB, 1);
        HELD(0, 15 * MIB);
        HELD(1, 0);
        stage_quota(1, 2 * MIB);
        CHECK(CALL(cuMemAllocAsync, &pointer[3], 3 * MIB, stream) == 2);
        CHECK(CALL(cuMemAllocFromPoolAsync, &pointer[3], 3 * MIB, pool[1], (uintptr_t)0) == 2);
        MUST(cuMemAllocAsync, &pointer[3], 3 * MIB, (uintptr_t)0);
        HELD(0, 18 * MIB);
}

// A green context is never made current: that is its host's to do.
static void a_green_contexts_stream_has_its_device(void)
{
        uintptr_t green, as_context, stream, pointer;

        stage.lane[1] = 1;
        begin();
        MUST(cuGreenCtxCreate, &green, (uintptr_t)0x5550, 1, 1);
        MUST(cuCtxFromGreenCtx, &as_context, green);
        MUST(cuGreenCtxStreamCreate, &stream, green, 1, 0);
        MUST(cuMemAllocAsync, &pointer, 3 * MIB, stream);
        HELD(0, 0);
        HELD(1, 3 * MIB);
        CHECK(stage.fake->intrusions() == 0);
}

static void physical_memory_is_held_by_handles_and_mappings(void)
{
        int prop[8] = {1, 0, 1, 0};
        uintptr_t handle, again;

        begin();
        MUST(cuMemCreate, &handle, 8 * MIB, prop, 0ull);
        again = handle;
        MUST(cuMemMap, (uintptr_t)0x900000000, 4 * MIB, (size_t)0, handle, 0ull);
        MUST(cuMemMap, (uintptr_t)0x900000000 + 4 * MIB, 4 * MIB, 4 * MIB, handle, 0ull);
        MUST(cuMemRetainAllocationHandle, &again, (uintptr_t)0x900000000);
        MUST(cuMemRelease, handle);
        MUST(cuMemRelease, handle);
        HELD(0, 8 * MIB);
        MUST(cuMemUnmap, (uintptr_t)0x900000000, 8 * MIB); // both at once
        HELD(0, 0);
}

// Its mapping holds it, and gives a handle again.
static void physical_memory_that_was_released_can_be_retained(void)
{
        int prop[8] = {1, 0, 1, 0};
        uintptr_t handle, again;

        begin();
        MUST(cuMemCreate, &handle, 8 * MIB, prop, 0ull);
        again = handle;
        MUST(cuMemMap, (uintptr_t)0x900000000, 8 * MIB, (size_t)0, handle, 0ull);
        MUST(cuMemRelease, handle);
        MUST(cuMemRetainAllocationHandle, &again, (uintptr_t)0x900000000 + 4 * MIB);
        MUST(cuMemUnmap, (uintptr_t)0x900000000, 8 * MIB);
        HELD(0, 8 * MIB);
        MUST(cuMemRelease, again);
        HELD(0, 0);
}

static void what_lies_behind_an_imported_mapping_is_unmapped_with_it(void)
{
        int prop[8] = {1, 0, 1, 0};
        uintptr_t handle;

        begin();
        MUST(cuMemCreate, &handle, 8 * MIB, prop, 0ull);
        for (int i = 0; i < 2; i++) {
                MUST(cuMemMap, (uintptr_t)0x900000000, 4 * MIB, (size_t)0, (uintptr_t)0x8880, 0ull);
                MUST(cuMemMap, (uintptr_t)0x900000000 + 4 * MIB, 8 * MIB, (size_t)0, handle, 0ull);
                if (i)
                        MUST(cuMemRelease, handle);
                HELD(0, 8 * MIB);
                MUST(cuMemUnmap, (uintptr_t)0x900000000, 12 * MIB);
        }
        HELD(0, 0);
}

// What others own is theirs: imported handles, opened pointers, pools of another process.
static void what_was_imported_is_the_exporters(void)
{
        begin();
        MUST(cuMemMap, (uintptr_t)0x900000000, 4 * MIB, (size_t)0, (uintptr_t)0x8880, 0ull);
        MUST(cuMemUnmap, (uintptr_t)0x900000000, 4 * MIB);
        MUST(cuMemRelease, (uintptr_t)0x8880);
        MUST(cuMemFree_v2, (uintptr_t)0x8880000);
        MUST(cuMemFree_v2, (uintptr_t)0);
        HELD(0, 0);
}

static void a_contexts_memory_goes_with_it(void)
{
        uintptr_t mine, first, other;

        begin();
        MUST(cuMemAlloc_v2, &mine, 3 * MIB);
        MUST(cuCtxCreate_v2, &other, 0, 0);
        for (int i = 0; i < 2000; i++)
                MUST(cuMemAlloc_v2, &first, 4096);
        MUST(cuMemAllocAsync, &first, 5 * MIB, (uintptr_t)0); // of the device's pool
        stage.fake->set("cuCtxDestroy_v2", refuses);
        CHECK(CALL(cuCtxDestroy_v2, other) == 1);
        HELD(0, 8 * MIB + 2000 * 4096);
        stage.fake->set("cuCtxDestroy_v2", NULL);
        MUST(cuCtxDestroy_v2, other);
        HELD(0, 8 * MIB);
        MUST(cuMemFreeAsync, first, (uintptr_t)0);
        MUST(cuMemFree_v2, mine);
        HELD(0, 0);
}

// What was allocated in a green context is its device's. Another context may have its address then.
static void a_green_contexts_memory_stays(void)
{
        uintptr_t pointer, green, as_context, next;

        begin();
        MUST(cuGreenCtxCreate, &green, (uintptr_t)0x5550, 0, 1);
        MUST(cuCtxFromGreenCtx, &as_context, green);
        MUST(cuCtxSetCurrent, as_context);
        MUST(cuMemAlloc_v2, &pointer, 3 * MIB);
        HELD(0, 3 * MIB);
        MUST(cuGreenCtxDestroy, green);
        MUST(cuCtxCreate_v2, &next, 0, 1);
        CHECK(next == as_context);
        MUST(cuMemAlloc_v2, &next, 5 * MIB); // on a device that is not Takt's
        HELD(0, 3 * MIB);
        MUST(cuCtxDestroy_v2, as_context);
        HELD(0, 3 * MIB);
        stage_context(0);
        MUST(cuMemFree_v2, pointer);
        HELD(0, 0);
}

static _Atomic int stop;

static void *asks_too_much(void *context)
{
        uintptr_t pointer;

        MUST(cuCtxSetCurrent, context);
        while (!stop)
                CHECK(CALL(cuMemAlloc_v2, &pointer, 1000 * MIB) == 2);
        return NULL;
}

// As another process of the tenant's would, on the same page.
static void *charges_and_returns(void *refused)
{
        _Atomic uint64_t *sum = &stage.tenant->lane[0].memory_used;

        while (!stop)
                if (atomic_load(sum) > 600 * MIB)
                        atomic_fetch_add((_Atomic int *)refused, 1);
        return NULL;
}

static void nobody_is_refused_for_what_another_does_not_get(void)
{
        static _Atomic int refused;
        uintptr_t pointer;
        pthread_t greedy, modest;
        void *context = stage_context(0);

        begin();
        MUST(cuMemAlloc_v2, &pointer, 500 * MIB);
        pthread_create(&greedy, NULL, asks_too_much, context);
        pthread_create(&modest, NULL, charges_and_returns, &refused);
        for (int i = 0; i < 20000; i++) {
                uintptr_t little;

                MUST(cuMemAlloc_v2, &little, MIB);
                MUST(cuMemFree_v2, little);
        }
        stop = 1;
        pthread_join(greedy, NULL);
        pthread_join(modest, NULL);
        CHECK(refused == 0);
        HELD(0, 500 * MIB);
}

static void *allocates_and_frees(void *context)
{
        uintptr_t kept[64] = {0};

        MUST(cuCtxSetCurrent, context);
        for (unsigned i = 0; i < 20000; i++) {
                uintptr_t *at = &kept[i * 2654435761u >> 26];

                if (*at)
                        MUST(cuMemFree_v2, *at);
                MUST(cuMemAlloc_v2, at, 4096 * (size_t)(1 + i % 7));
        }
        for (int i = 0; i < 64; i++)
                if (kept[i])
                        MUST(cuMemFree_v2, kept[i]);
        return NULL;
}

static void threads_leave_nothing_behind(void)
{
        pthread_t threads[4];
        void *context = stage_context(0);

        begin();
        for (int i = 0; i < 4; i++)
                pthread_create(&threads[i], NULL, allocates_and_frees, context);
        for (int i = 0; i < 4; i++)
                pthread_join(threads[i], NULL);
        HELD(0, 0);
}

// Works on a little, as hosts do.
static size_t total_seen(void)
{
        size_t left, total;

        launch(0);
        MUST(cuCtxSynchronize);
        MUST(cuMemGetInfo_v2, &left, &total);
        return total;
}

// What was allocated and freed while there was no daemon is in the new one's accounts, and only that.
static void a_new_daemon_hears_what_is_held(void)
{
        uintptr_t before, meanwhile;

        begin();
        MUST(cuMemAlloc_v2, &before, 10 * MIB);
        stage_lose();
        AWAIT(total_seen() == (size_t)40 << 30); // the loss was seen
        MUST(cuMemAlloc_v2, &meanwhile, 3 * MIB);
        MUST(cuMemFree_v2, before);
        stage_return();
        AWAIT((total_seen(), stage.n_sessions == 2));
        AWAIT(own(0) == 3 * MIB);
        HELD(0, 3 * MIB);
        MUST(cuMemFree_v2, meanwhile);
        HELD(0, 0);
}

static void change_daemons(void)
{
        int n = stage.n_sessions;

        stage_lose();
        AWAIT(total_seen() == (size_t)40 << 30);
        stage_return();
        AWAIT((total_seen(), stage.n_sessions == n + 1));
        stage_quota(0, 1024 * MIB);
}

static int allocates_meanwhile(const uintptr_t *a)
{
        change_daemons();
        HELD(0, 0);
        *(uintptr_t *)a[0] = 0x5550000;
        return 0;
}

static int fails_meanwhile(const uintptr_t *a)
{
        (void)a;
        change_daemons();
        return 1;
}

static int frees_meanwhile(const uintptr_t *a)
{
        (void)a;
        change_daemons();
        return 0;
}

// Whoever was in the driver meanwhile is counted with what came of it.
static void daemons_that_change_inside_a_call_count_what_came_of_it(void)
{
        uintptr_t pointer;

        begin();
        stage.fake->set("cuMemAlloc_v2", allocates_meanwhile);
        MUST(cuMemAlloc_v2, &pointer, 3 * MIB);
        HELD(0, 3 * MIB);
        stage.fake->set("cuMemFree_v2", fails_meanwhile);
        CHECK(CALL(cuMemFree_v2, pointer) == 1);
        HELD(0, 3 * MIB);
        stage.fake->set("cuMemFree_v2", frees_meanwhile);
        MUST(cuMemFree_v2, pointer);
        HELD(0, 0);
}

static void a_forked_child_holds_nothing(void)
{
        uintptr_t pointer;
        int status;
        pid_t child;

        begin();
        MUST(cuMemAlloc_v2, &pointer, 10 * MIB);
        child = fork();
        if (child == 0) {
                CALL(cuMemFree_v2, pointer);
                _exit(0);
        }
        CHECK(waitpid(child, &status, 0) == child && status == 0);
        HELD(0, 10 * MIB);
}

static void the_tenants_view_of_memory(void)
{
        size_t left, total;
        uintptr_t pointer;

        begin();
        MUST(cuMemAlloc_v2, &pointer, 24 * MIB);
        MUST(cuMemGetInfo_v2, &left, &total);
        CHECK(total == 1024 * MIB && left == 1000 * MIB);
        MUST(cuMemGetInfo_v2, NULL, &total);
        MUST(cuMemGetInfo_v2, &left, NULL);
        stage_quota(0, 8 * MIB); // less than it holds
        MUST(cuMemGetInfo_v2, &left, &total);
        CHECK(total == 8 * MIB && left == 0);
        stage_quota(0, 0);
        MUST(cuMemGetInfo_v2, &left, &total);
        CHECK(total == (size_t)40 << 30);
}

#define ALL ((size_t)40 << 30)

// Asked as programs do, before there is a context.
static size_t total_of(int device)
{
        size_t total;

        MUST(cuDeviceTotalMem_v2, &total, device);
        return total;
}

// On the device of the calling thread's context.
static void sees(size_t expected_left, size_t expected_total)
{
        size_t left, total;

        MUST(cuMemGetInfo_v2, &left, &total);
        CHECK(left == expected_left && total == expected_total);
}

// The tenant's lease is for the first device: the second is as it is without Takt.
static void the_quota_is_of_the_tenants_device(void)
{
        uintptr_t here, there;
        unsigned old_total; // in 32 bits

        setenv("TAKT_MEMORY_QUOTA", "1073741824", 1);
        stage.quota[0] = 1024 * MIB;
        MUST(cuInit, 0);
        CHECK(total_of(0) == 1024 * MIB && total_of(1) == ALL);
        MUST(cuDeviceTotalMem, &old_total, 0);
        CHECK(old_total == 1024 * MIB);
        MUST(cuDeviceTotalMem, &old_total, 1);
        CHECK(old_total == (unsigned)-1);
        stage_context(0);
        MUST(cuMemAlloc_v2, &here, 600 * MIB);
        CHECK(CALL(cuMemAlloc_v2, &there, 600 * MIB) == 2);
        stage_context(1);
        MUST(cuMemAlloc_v2, &there, 2048 * MIB);
        sees(ALL, ALL);
        stage_gate(0, TAKT_GATE_CLOSED);
        CHECK(launch(0) == 0);
        MUST(cuCtxSynchronize);
        HELD(0, 600 * MIB);
        HELD(1, 0);
        stage_gate(0, TAKT_GATE_FREE);
        stage_context(0);
        CHECK(launch(0) == 0);
        sees(424 * MIB, 1024 * MIB);
        MUST(cuMemFree_v2, there);
        MUST(cuMemFree_v2, here);
        HELD(0, 0);
        stage_quota(0, 512 * MIB); // the contract may change
        CHECK(total_of(0) == 512 * MIB && total_of(1) == ALL);
}

static void each_lane_has_a_quota_of_its_own(void)
{
        uintptr_t pointer;

        setenv("TAKT_MEMORY_QUOTA", "1073741824", 1);
        stage.lane[0] = 1; // CUDA's order is not the daemon's
        stage.lane[1] = 0;
        stage.quota[1] = 1024 * MIB;
        stage.quota[0] = 2048 * MIB;
        MUST(cuInit, 0);
        CHECK(total_of(0) == 1024 * MIB && total_of(1) == 2048 * MIB);
        stage_context(0);
        MUST(cuMemAlloc_v2, &pointer, 1000 * MIB);
        stage_context(1);
        MUST(cuMemAlloc_v2, &pointer, 1500 * MIB);
        CHECK(CALL(cuMemAlloc_v2, &pointer, 1000 * MIB) == 2);
        sees(548 * MIB, 2048 * MIB);
        HELD(1, 1000 * MIB);
        HELD(0, 1500 * MIB);
}

// Before the first session it is not known whose the devices are. After the last one it is.
static void without_a_daemon_the_environment_tells(void)
{
        char *there = strdup(getenv("TAKT_SOCKET"));
        uintptr_t pointer;

        setenv("TAKT_MEMORY_QUOTA", "1073741824", 1);
        stage.quota[0] = 2048 * MIB;
        setenv("TAKT_SOCKET", "/nowhere", 1);
        MUST(cuInit, 0);
        CHECK(total_of(0) == 1024 * MIB && total_of(1) == 1024 * MIB);
        stage_context(1);
        MUST(cuMemAlloc_v2, &pointer, 100 * MIB);
        sees(924 * MIB, 1024 * MIB);
        stage_context(0);
        MUST(cuMemAlloc_v2, &pointer, 24 * MIB);
        sees(1000 * MIB, 1024 * MIB);
        setenv("TAKT_SOCKET", there, 1);
        AWAIT(total_of(0) == 2048 * MIB);
        CHECK(total_of(1) == ALL);
        sees(2024 * MIB, 2048 * MIB);
        HELD(0, 24 * MIB);
        HELD(1, 0);
        stage_lose();
        AWAIT((launch(0), total_of(0) == 1024 * MIB));
        CHECK(total_of(1) == ALL);
        sees(1000 * MIB, 1024 * MIB);
        stage_context(1);
        sees(ALL, ALL);
        free(there);
}

static const struct test tests[] = {TEST(charged_before_the_driver_sees_it),
                                    TEST(what_the_driver_refuses_is_not_held),
                                    TEST(every_allocation_is_held_to_the_quota),
                                    TEST(a_graph_that_frees_its_own_memory_holds_none),
                                    TEST(physical_memory_is_of_the_device_that_it_names),
                                    TEST(pools_and_streams_have_a_device),
                                    TEST(a_green_contexts_stream_has_its_device),
                                    TEST(physical_memory_is_held_by_handles_and_mappings),
                                    TEST(physical_memory_that_was_released_can_be_retained),
                                    TEST(what_lies_behind_an_imported_mapping_is_unmapped_with_it),
                                    TEST(what_was_imported_is_the_exporters),
                                    TEST(a_contexts_memory_goes_with_it),
                                    TEST(a_green_contexts_memory_stays),
                                    TEST(nobody_is_refused_for_what_another_does_not_get),
                                    TEST(threads_leave_nothing_behind),
                                    TEST(a_new_daemon_hears_what_is_held),
                                    TEST(daemons_that_change_inside_a_call_count_what_came_of_it),
                                    TEST(a_forked_child_holds_nothing),
                                    TEST(the_tenants_view_of_memory),
                                    TEST(the_quota_is_of_the_tenants_device),
                                    TEST(each_lane_has_a_quota_of_its_own),
                                    TEST(without_a_daemon_the_environment_tells)};
STAGE_MAIN(tests)
