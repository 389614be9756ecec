// A device whose profile says that memory is cleared between owners.
#include "driver_test.h"

static int begin_cleared(void **state)
{
        setenv("SIMGPU_CLEARED", "1", 1);
        return begin(state);
}

static char *allocate(size_t size)
{
        char *pointer = NULL;

        OK(cuMemAlloc_v2, &pointer, size);
        return pointer;
}

static void nothing_is_left_to_the_next_owner(void **state)
{
        char *a = allocate(4 * MIB);

        (void)state;
        memset(a, 'x', 4 * MIB);
        OK(cuMemFree_v2, a);
        for (int round = 0; round < 3; round++) {
                a = allocate(4 * MIB);
                for (size_t i = 0; i < 4 * MIB; i++)
                        assert_true(a[i] == 0);
                memset(a, 'x', 4 * MIB);
                OK(cuMemFree_v2, a);
        }
}

static void nothing_is_left_behind_an_address(void **state)
{
        char *address = NULL;
        void *handle = NULL;

        (void)state;
        OK(cuMemAddressReserve, &address, 2 * MIB, (size_t)0, NULL, (size_t)0);
        for (int round = 0; round < 2; round++) {
                OK(cuMemCreate, &handle, 2 * MIB, NULL, (size_t)0);
                OK(cuMemMap, address, 2 * MIB, (size_t)0, handle, (size_t)0);
                OK(cuMemRelease, handle);
                assert_int_equal(address[5], 0);
                address[5] = 'x';
                OK(cuMemUnmap, address, 2 * MIB);
        }
        OK(cuMemAddressFree, address, 2 * MIB);
}

// An engine zeroes its cache of many GiB: none of the host's memory is taken for it.
static void zeroes_cost_no_memory(void **state)
{
        size_t size = 16 * GIB;
        char *a = allocate(size);
        unsigned char resident[1024];

        (void)state;
        OK(cuMemsetD8_v2, a, 0, size);
        assert_int_equal(mincore(a + size / 2, sizeof resident * 4096, resident), 0);
        for (size_t i = 0; i < sizeof resident; i++)
                assert_int_equal(resident[i] & 1, 0);
        assert_int_equal(a[size / 2], 0);
        OK(cuMemFree_v2, a);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(nothing_is_left_to_the_next_owner),
                cmocka_unit_test(nothing_is_left_behind_an_address),
                cmocka_unit_test(zeroes_cost_no_memory),
        };

        return cmocka_run_group_tests(tests, begin_cleared, end);
}
