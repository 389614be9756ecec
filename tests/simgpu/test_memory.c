// Device memory: what is counted, refused, copied, filled, mapped, and what one owner leaves to the next.
#include "driver_test.h"

static size_t free_bytes(void)
{
        size_t free_now = 0, total = 0;

        OK(cuMemGetInfo_v2, &free_now, &total);
        return free_now;
}

static char *allocate(size_t size)
{
        char *pointer = NULL;

        OK(cuMemAlloc_v2, &pointer, size);
        return pointer;
}

static void counted_and_given_back(void **state)
{
        size_t before = free_bytes(), total, own;
        char *a = allocate(3 * MIB), *managed = NULL, *host = NULL;

        (void)state;
        OK(cuDeviceTotalMem_v2, &total, 0);
        assert_int_equal(total, 40 * GIB);
        assert_int_equal(before - free_bytes(), 3 * MIB);
        OK(cuMemAllocManaged, &managed, MIB, 1);
        OK(cuMemHostAlloc, &host, 7 * MIB, 0);
        assert_int_equal(before - free_bytes(), 4 * MIB); // the host's memory is not the device's
        own = device->process[0].memory_bytes;
        assert_int_equal(own, 4 * MIB);
        OK(cuMemFree_v2, a);
        OK(cuMemFree_v2, managed);
        OK(cuMemFreeHost, host);
        OK(cuMemFree_v2, NULL);
        assert_int_equal(free_bytes(), before);
}

static void refused_with_the_apis_own_errors(void **state)
{
        char *pointer = NULL, *other;
        size_t before = free_bytes();

        (void)state;
        assert_int_equal(CALL(cuMemAlloc_v2, &pointer, 41 * GIB), 2);
        assert_int_equal(CALL(cuMemAlloc_v2, &pointer, (size_t)0), 1);
        other = allocate(30 * GIB);
        assert_int_equal(CALL(cuMemAlloc_v2, &pointer, 11 * GIB), 2);
        assert_int_equal(CALL(cuMemFree_v2, other + 1), 1);
        OK(cuMemFree_v2, other);
        assert_int_equal(CALL(cuMemFree_v2, other), 1);
        assert_int_equal(free_bytes(), before);
}

static void copies_are_real(void **state)
{
        char in[5000], out[5000] = "", *a = allocate(2 * MIB), *b = allocate(2 * MIB);

        (void)state;
        for (size_t i = 0; i < sizeof in; i++)
                in[i] = (char)(i * 7);
        OK(cuMemcpyHtoD_v2, a + 100, in, sizeof in);
        OK(cuMemcpyDtoD_v2, b, a + 100, sizeof in);
        OK(cuMemcpyDtoH_v2, out, b, sizeof out);
        assert_memory_equal(in, out, sizeof in);
        memset(out, 0, sizeof out);
        OK(cuMemcpy, out, a + 100, sizeof out);
        assert_memory_equal(in, out, sizeof in);
        OK(cuMemFree_v2, a);
        OK(cuMemFree_v2, b);
}

struct copy_2d {
        size_t from_x, from_y;
        int from_type;
        const void *from_host, *from_device, *from_array;
        size_t from_pitch, to_x, to_y;
        int to_type;
        void *to_host, *to_device, *to_array;
        size_t to_pitch, width, height;
};

static void copies_of_rectangles(void **state)
{
        char in[4][8] = {"abcdefg", "hijklmn", "opqrstu", "vwxyz01"}, out[2][4] = {""};
        size_t pitch = 0;
        char *a = NULL;
        struct copy_2d to = {
                .from_type = 1, .from_host = in, .from_pitch = 8, .to_type = 2, .width = 8, .height = 4};
        struct copy_2d back = {.from_x = 2,
                               .from_y = 1,
                               .from_type = 2,
                               .to_type = 1,
                               .to_host = out,
                               .to_pitch = 4,
                               .width = 3,
                               .height = 2};

        (void)state;
        OK(cuMemAllocPitch_v2, &a, &pitch, (size_t)8, (size_t)4, 4);
        assert_int_equal(pitch, 512);
        to.to_device = a;
        to.to_pitch = back.from_pitch = pitch;
        back.from_device = a;
        OK(cuMemcpy2D_v2, &to);
        OK(cuMemcpy2D_v2, &back);
        assert_memory_equal(out[0], "jkl", 3);
        assert_memory_equal(out[1], "qrs", 3);
        OK(cuMemFree_v2, a);
}

// Every width, and zeroes over pages that are dropped, not written: nothing beside them may change.
static void fills(void **state)
{
        size_t size = 4 * MIB;
        unsigned char *a = (unsigned char *)allocate(size);
        unsigned short expected_16[3] = {0xabcd, 0xabcd, 0};
        unsigned expected_32[2] = {0x12345678, 0x12345678};

        (void)state;
        OK(cuMemsetD8_v2, a, 0x5a, size);
        assert_int_equal(a[0] & a[size / 2] & a[size - 1], 0x5a);
        OK(cuMemsetD8_v2, a + 5, 0, size - 11);
        assert_int_equal(a[4], 0x5a);
        assert_int_equal(a[size - 6], 0x5a);
        for (size_t i = 5; i < size - 6; i++)
                assert_true(a[i] == 0);
        OK(cuMemsetD16_v2, a, 0xabcd, (size_t)2);
        OK(cuMemsetD16_v2, a + 4, 0, (size_t)1);
        assert_memory_equal(a, expected_16, sizeof expected_16);
        OK(cuMemsetD32_v2, a, 0x12345678, (size_t)2);
        assert_memory_equal(a, expected_32, sizeof expected_32);
        OK(cuMemFree_v2, a);
}

// Memory lives as long as its handle or its mapping: engines release the handle once it is mapped.
static void mapped_memory_outlives_its_handle(void **state)
{
        size_t before = free_bytes(), granularity = 0;
        char *address = NULL, *second = NULL;
        void *handle = NULL;

        (void)state;
        OK(cuMemGetAllocationGranularity, &granularity, NULL, 0);
        assert_int_equal(granularity, 2 * MIB);
        OK(cuMemAddressReserve, &address, 8 * MIB, (size_t)0, NULL, (size_t)0);
        OK(cuMemAddressReserve, &second, 2 * MIB, (size_t)0, NULL, (size_t)0);
        assert_int_equal(free_bytes(), before); // addresses are not memory
        OK(cuMemCreate, &handle, 2 * MIB, NULL, (size_t)0);
        assert_int_equal(before - free_bytes(), 2 * MIB);
        OK(cuMemMap, address + 2 * MIB, 2 * MIB, (size_t)0, handle, (size_t)0);
        OK(cuMemMap, second, 2 * MIB, (size_t)0, handle, (size_t)0);
        strcpy(address + 2 * MIB, "the same");
        assert_string_equal(second, "the same"); // one memory at two addresses
        OK(cuMemRelease, handle);
        OK(cuMemUnmap, second, 2 * MIB);
        assert_int_equal(before - free_bytes(), 2 * MIB);
        assert_string_equal(address + 2 * MIB, "the same");
        OK(cuMemUnmap, address, 8 * MIB); // whatever is mapped in there
        assert_int_equal(free_bytes(), before);
        OK(cuMemAddressFree, address, 8 * MIB);
        OK(cuMemAddressFree, second, 2 * MIB);
}

static void mapping_where_it_does_not_fit(void **state)
{
        char *address = NULL, *device_memory = allocate(2 * MIB);
        void *handle = NULL;

        (void)state;
        OK(cuMemAddressReserve, &address, 4 * MIB, (size_t)0, NULL, (size_t)0);
        OK(cuMemCreate, &handle, 4 * MIB, NULL, (size_t)0);
        assert_int_equal(CALL(cuMemMap, address + 2 * MIB, 4 * MIB, (size_t)0, handle, (size_t)0), 1);
        assert_int_equal(CALL(cuMemMap, address, 4 * MIB, 2 * MIB, handle, (size_t)0), 1);
        assert_int_equal(CALL(cuMemMap, device_memory, 2 * MIB, (size_t)0, handle, (size_t)0), 1);
        OK(cuMemMap, address, 4 * MIB, (size_t)0, handle, (size_t)0);
        assert_int_equal(CALL(cuMemMap, address, 2 * MIB, (size_t)0, handle, (size_t)0), 1); // it is taken
        OK(cuMemUnmap, address, 4 * MIB);
        assert_int_equal(CALL(cuMemUnmap, address, 4 * MIB), 1);
        OK(cuMemRelease, handle);
        OK(cuMemAddressFree, address, 4 * MIB);
        OK(cuMemFree_v2, device_memory);
}

static void what_is_told_of_a_pointer(void **state)
{
        char *a = allocate(3 * MIB), *host = NULL, *base = NULL, local;
        size_t size = 0;
        unsigned type = 0;
        int ordinal = 7, managed = 7;
        void *owner = NULL, *values[] = {&type, &ordinal, &managed};
        int which[] = {2, 9, 8};

        (void)state;
        OK(cuMemGetAddressRange_v2, &base, &size, a + MIB);
        assert_ptr_equal(base, a);
        assert_int_equal(size, 3 * MIB);
        assert_int_equal(CALL(cuMemGetAddressRange_v2, &base, &size, &local), 500);
        OK(cuPointerGetAttribute, &owner, 1, a);
        assert_ptr_equal(owner, context);
        OK(cuPointerGetAttribute, &type, 2, a + 1);
        assert_int_equal(type, 2);
        OK(cuMemHostAlloc, &host, MIB, 0);
        OK(cuPointerGetAttributes, 3, which, values, host);
        assert_int_equal(type, 1);
        assert_int_equal(ordinal, 0);
        assert_int_equal(managed, 0);
        assert_int_equal(CALL(cuPointerGetAttribute, &type, 2, &local), 1);
        OK(cuPointerGetAttributes, 3, which, values, &local); // asking for several is no error
        assert_int_equal(ordinal, -2);
        OK(cuMemFreeHost, host);
        OK(cuMemFree_v2, a);
}

static void stream_ordered_allocation(void **state)
{
        size_t before = free_bytes();
        void *stream = new_stream(1);
        char *a = NULL;

        (void)state;
        OK(cuMemAllocAsync, &a, 5 * MIB, stream);
        assert_int_equal(before - free_bytes(), 5 * MIB);
        OK(cuMemFreeAsync, a, stream);
        assert_int_equal(free_bytes(), before);
        OK(cuStreamDestroy_v2, stream);
}

static void leave_a_secret(void)
{
        char *a = NULL;
        void *own;

        NEED(!CALL(cuCtxCreate_v2, &own, 0, 0));
        NEED(!CALL(cuMemAlloc_v2, &a, 4 * MIB));
        NEED(a[0] == 0);
        strcpy(a, "secret");
        _exit(0); // without giving anything back
}

// Nobody wrote to a fresh device; what one owner left, the next one sees.
static void memory_keeps_what_the_last_owner_left(void **state)
{
        char *a = allocate(2 * MIB);

        (void)state;
        assert_int_equal(a[0] | a[2 * MIB - 1], 0);
        assert_int_equal(in_child(leave_a_secret), 0);
        sim_segment_lock(device);
        sim_segment_sweep(device);
        sim_segment_unlock(device);
        assert_int_equal(device->memory_used_bytes, 2 * MIB);
        OK(cuMemFree_v2, a);
        a = allocate(16 * MIB);
        assert_string_equal(a + 2 * MIB, "secret");
        OK(cuMemsetD8_v2, a, 0, 16 * MIB); // scrubbed
        OK(cuMemFree_v2, a);
        a = allocate(16 * MIB);
        for (size_t i = 0; i < 16 * MIB; i++)
                assert_true(a[i] == 0);
        OK(cuMemFree_v2, a);
}

// Two processes have memory at once: what one writes the other one never sees.
static void nobody_sees_what_is_anothers(void)
{
        char *a = NULL;
        void *own;

        NEED(!CALL(cuCtxCreate_v2, &own, 0, 0));
        NEED(!CALL(cuMemAlloc_v2, &a, 4 * MIB));
        for (size_t i = 0; i < 4 * MIB; i++)
                NEED(a[i] != 'x');
        memset(a, 'y', 4 * MIB);
}

static void memory_is_apart(void **state)
{
        char *a = allocate(4 * MIB);

        (void)state;
        memset(a, 'x', 4 * MIB);
        assert_int_equal(in_child(nobody_sees_what_is_anothers), 0);
        for (size_t i = 0; i < 4 * MIB; i++)
                assert_true(a[i] == 'x');
        OK(cuMemFree_v2, a);
}

// Pieces between pieces: real memory is paged, so that only the sum counts.
static void memory_does_not_fragment(void **state)
{
        char *piece[8];

        (void)state;
        for (int i = 0; i < 8; i++)
                piece[i] = allocate(5 * GIB);
        for (int i = 0; i < 8; i += 2)
                OK(cuMemFree_v2, piece[i]);
        piece[0] = allocate(20 * GIB);
        OK(cuMemFree_v2, piece[0]);
        for (int i = 1; i < 8; i += 2)
                OK(cuMemFree_v2, piece[i]);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(memory_keeps_what_the_last_owner_left), // while the device is fresh
                cmocka_unit_test(counted_and_given_back),
                cmocka_unit_test(refused_with_the_apis_own_errors),
                cmocka_unit_test(copies_are_real),
                cmocka_unit_test(copies_of_rectangles),
                cmocka_unit_test(fills),
                cmocka_unit_test(mapped_memory_outlives_its_handle),
                cmocka_unit_test(mapping_where_it_does_not_fit),
                cmocka_unit_test(what_is_told_of_a_pointer),
                cmocka_unit_test(stream_ordered_allocation),
                cmocka_unit_test(memory_is_apart),
                cmocka_unit_test(memory_does_not_fragment),
        };

        return cmocka_run_group_tests(tests, begin, end);
}
