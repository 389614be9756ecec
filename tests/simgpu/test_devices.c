// Two devices in one process (SIMGPU_DEVICES=2): each has a name, a memory and a time of its own.
#include "driver_test.h"

#define NOT_READY 600
#define UNKNOWN 999
#define INVALID_DEVICE 101
#define INVALID_HANDLE 400
#define PCI_BUS 33

static void *second;                   // primary context of the second device
static struct sim_segment *devices[2]; // `device` is the one that freeze() freezes

static int begin_two(void **state)
{
        setenv("SIMGPU_DEVICES", "2", 1);
        if (begin(state) || CALL(cuDevicePrimaryCtxRetain, &second, 1))
                return -1;
        devices[0] = device;
        devices[1] = sim_segment_open(1);
        return devices[1] ? 0 : -1;
}

static int end_two(void **state)
{
        char path[80];

        snprintf(path, sizeof path, "/dev/shm%s", sim_segment_name(1));
        return unlink(path) | end(state);
}

static void each_has_a_name(void **state)
{
        unsigned char uuid[2][16];
        char bus[2][16];
        void *none;
        int n = 0;

        (void)state;
        OK(cuDeviceGetCount, &n);
        assert_int_equal(n, 2);
        for (int i = 0; i < 2; i++) {
                int at = -1;

                OK(cuDeviceGet, &at, i);
                assert_int_equal(at, i);
                OK(cuDeviceGetUuid_v2, uuid[i], i);
                OK(cuDeviceGetPCIBusId, bus[i], 16, i);
                OK(cuDeviceGetByPCIBusId, &at, bus[i]);
                assert_int_equal(at, i);
        }
        assert_memory_not_equal(uuid[0], uuid[1], 16);
        assert_string_not_equal(bus[0], bus[1]);
        assert_int_equal(CALL(cuDeviceGet, &n, 2), INVALID_DEVICE);
        assert_int_equal(CALL(cuDeviceGet, &n, -1), INVALID_DEVICE);
        assert_int_equal(CALL(cuDevicePrimaryCtxRetain, &none, 2), INVALID_DEVICE);
        OK(cuDeviceGetAttribute, &n, PCI_BUS, 1);
        assert_int_equal(n, 8);
        OK(cuDeviceGetByPCIBusId, &n, "08:00.0"); // the domain may be left out
        assert_int_equal(n, 1);
        assert_int_equal(CALL(cuDeviceGetByPCIBusId, &n, "0000:09:00.0"), INVALID_DEVICE);
        assert_int_equal(CALL(cuDeviceGetByPCIBusId, &n, "0008:00:00.0"), INVALID_DEVICE);
        assert_int_equal(CALL(cuDeviceGetByPCIBusId, &n, "8"), INVALID_DEVICE);
}

static void a_context_is_of_one(void **state)
{
        int at = -1, active = 0;
        void *stream, *own;
        unsigned flags;

        (void)state;
        OK(cuCtxSetCurrent, second);
        OK(cuCtxGetDevice, &at);
        assert_int_equal(at, 1);
        stream = new_stream(1);
        OK(cuCtxSetCurrent, context);
        OK(cuCtxGetDevice, &at);
        assert_int_equal(at, 0);
        OK(cuStreamGetDevice, stream, &at);
        assert_int_equal(at, 1);
        OK(cuCtxCreate_v2, &own, 0, 1);
        OK(cuCtxGetDevice, &at);
        assert_int_equal(at, 1);
        OK(cuCtxDestroy_v2, own);
        OK(cuDevicePrimaryCtxGetState, 1, &flags, &active);
        assert_int_equal(active, 1);
        OK(cuStreamDestroy_v2, stream);
}

static void used(uint64_t first, uint64_t other)
{
        assert_int_equal(devices[0]->memory_used_bytes, first);
        assert_int_equal(devices[1]->memory_used_bytes, other);
}

static void each_has_its_memory(void **state)
{
        int there[8] = {1, 0, 1, 1}, nowhere[8] = {1, 0, 1, 2}, at = -1;
        char *here, *pointer;
        void *handle, *owner;
        size_t left, total;

        (void)state;
        OK(cuMemAlloc_v2, &here, 3 * MIB);
        used(3 * MIB, 0);
        OK(cuCtxSetCurrent, second);
        OK(cuMemAlloc_v2, &pointer, 5 * MIB);
        used(3 * MIB, 5 * MIB);
        OK(cuMemGetInfo_v2, &left, &total);
        assert_int_equal(total - left, 5 * MIB);
        OK(cuPointerGetAttribute, &at, 9, pointer);
        assert_int_equal(at, 1);
        memset(pointer, 1, 5 * MIB); // not what the first device has at the same place
        memset(here, 2, 3 * MIB);
        assert_int_equal(pointer[MIB], 1);
        OK(cuCtxSetCurrent, context);
        OK(cuPointerGetAttribute, &owner, 1, pointer);
        assert_ptr_equal(owner, second);
        OK(cuMemFree_v2, pointer);
        used(3 * MIB, 0);
        OK(cuMemCreate, &handle, 9 * MIB, there, 0ull);
        used(3 * MIB, 9 * MIB);
        OK(cuMemAddressReserve, &pointer, 9 * MIB, (size_t)0, NULL, 0ull);
        OK(cuMemMap, pointer, 9 * MIB, (size_t)0, handle, 0ull);
        memset(pointer, 3, 9 * MIB);
        assert_int_equal(here[MIB], 2);
        OK(cuMemUnmap, pointer, 9 * MIB);
        OK(cuMemAddressFree, pointer, 9 * MIB);
        assert_int_equal(CALL(cuMemCreate, &pointer, MIB, nowhere, 0ull), INVALID_DEVICE);
        OK(cuMemRelease, handle);
        OK(cuMemFree_v2, here);
        used(0, 0);
}

// With the first device current throughout.
static void pools_are_of_one(void **state)
{
        int there[8] = {1, 0, 1, 1}, nowhere[8] = {1, 0, 1, 2};
        void *stream, *pool, *pointer;

        (void)state;
        OK(cuCtxSetCurrent, second);
        stream = new_stream(1);
        OK(cuCtxSetCurrent, context);
        OK(cuMemAllocAsync, &pointer, 7 * MIB, stream); // from the pool of the stream's device
        used(0, 7 * MIB);
        OK(cuMemFreeAsync, pointer, stream);
        OK(cuDeviceGetDefaultMemPool, &pool, 1);
        OK(cuMemAllocFromPoolAsync, &pointer, 5 * MIB, pool, NULL);
        used(0, 5 * MIB);
        OK(cuMemFreeAsync, pointer, NULL);
        OK(cuMemPoolCreate, &pool, there);
        OK(cuMemAllocFromPoolAsync, &pointer, 5 * MIB, pool, NULL);
        used(0, 5 * MIB);
        OK(cuMemFreeAsync, pointer, NULL);
        OK(cuDeviceGetMemPool, &pool, 0);
        OK(cuMemAllocFromPoolAsync, &pointer, 3 * MIB, pool, stream);
        used(3 * MIB, 0);
        OK(cuMemFreeAsync, pointer, stream);
        assert_int_equal(CALL(cuMemPoolCreate, &pool, nowhere), INVALID_DEVICE);
        OK(cuStreamDestroy_v2, stream);
        used(0, 0);
}

static void each_has_its_time(void **state)
{
        void *event, *pointer;

        (void)state;
        freeze(1);
        launch(NULL);
        OK(cuCtxSetCurrent, second);
        OK(cuMemAlloc_v2, &pointer, MIB);
        event = new_event();
        launch(NULL);
        OK(cuEventRecord, event, NULL);
        OK(cuCtxSetCurrent, context);
        OK(cuMemFree_v2, pointer); // waits for the work of its device, and for no other's
        OK(cuEventQuery, event);
        assert_int_equal(CALL(cuEventRecord, event, NULL), INVALID_HANDLE); // of a stream of the other's
        OK(cuEventDestroy_v2, event);
        assert_int_equal(CALL(cuStreamQuery, NULL), NOT_READY);
        assert_int_equal(busy_until_done(), KERNEL_NS);
        assert_int_equal(devices[1]->device.busy_ns, KERNEL_NS);
        assert_int_equal(devices[1]->device.switches, 0);
}

static void one_is_lost_alone(void **state)
{
        void *pointer;
        int n;

        (void)state;
        devices[1]->lost = 1;
        OK(cuMemAlloc_v2, &pointer, MIB);
        launch(NULL);
        OK(cuCtxSynchronize, );
        OK(cuMemFree_v2, pointer);
        OK(cuCtxSetCurrent, second);
        assert_int_equal(CALL(cuMemAlloc_v2, &pointer, MIB), UNKNOWN);
        assert_int_equal(CALL(cuLaunchKernel, kernel, 1, 1, 1, 32, 1, 1, 0, NULL, NULL, NULL), UNKNOWN);
        devices[1]->lost = 0;
        devices[0]->lost = 1;
        OK(cuMemAlloc_v2, &pointer, MIB);
        OK(cuMemFree_v2, pointer);
        OK(cuInit, 0);
        OK(cuDeviceGetCount, &n);
        devices[1]->lost = 1;
        assert_int_equal(CALL(cuInit, 0), UNKNOWN);
        devices[0]->lost = devices[1]->lost = 0;
        OK(cuCtxSetCurrent, context);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(each_has_a_name),     cmocka_unit_test(a_context_is_of_one),
                cmocka_unit_test(each_has_its_memory), cmocka_unit_test(each_has_its_time),
                cmocka_unit_test(pools_are_of_one),    cmocka_unit_test(one_is_lost_alone),
        };

        return cmocka_run_group_tests(tests, begin_two, end_two);
}
