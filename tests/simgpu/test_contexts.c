// Start, devices, contexts, modules: what a program asks before it does anything, and in what state it may.
#include "driver_test.h"

static void contexts_are_a_stack_of_the_thread(void **state)
{
        void *own = NULL, *current = NULL, *popped = NULL;
        uint64_t id = 0, own_id = 0;

        (void)state;
        OK(cuCtxGetId, NULL, &id);
        OK(cuCtxCreate_v2, &own, 4, 0);
        OK(cuCtxGetCurrent, &current);
        assert_ptr_equal(current, own);
        OK(cuCtxGetId, NULL, &own_id);
        assert_int_not_equal(id, own_id);
        OK(cuCtxPopCurrent_v2, &popped);
        assert_ptr_equal(popped, own);
        OK(cuCtxGetCurrent, &current);
        assert_ptr_equal(current, context);
        OK(cuCtxPushCurrent_v2, own);
        OK(cuCtxDestroy_v2, own); // and is not current any more
        OK(cuCtxGetCurrent, &current);
        assert_ptr_equal(current, context);
        assert_int_equal(CALL(cuCtxDestroy_v2, context), 201); // the primary one is released, not destroyed
        assert_int_equal(CALL(cuCtxDestroy_v2, NULL), 201);
        assert_int_equal(CALL(cuCtxPushCurrent_v2, NULL), 201);
}

static void primary_context_is_one(void **state)
{
        void *again = NULL;
        unsigned flags = 0;
        int active = 0;

        (void)state;
        OK(cuDevicePrimaryCtxRetain, &again, 0);
        assert_ptr_equal(again, context);
        OK(cuDevicePrimaryCtxGetState, 0, &flags, &active);
        assert_int_equal(active, 1);
        OK(cuDevicePrimaryCtxRelease_v2, 0);
        assert_int_equal(CALL(cuDevicePrimaryCtxRetain, &again, 1), 101);
}

// What does work without a context, and with which error the rest refuses.
static void without_a_context(void **state)
{
        void *old = NULL, *stream = NULL, *event = NULL, *out = NULL;
        size_t free_now, total;
        int which = 0;

        (void)state;
        OK(cuCtxPopCurrent_v2, &old);
        assert_int_equal(CALL(cuCtxPopCurrent_v2, NULL), 201);
        assert_int_equal(CALL(cuCtxGetDevice, &which), 201);
        assert_int_equal(CALL(cuMemAlloc_v2, &out, (size_t)4096), 201);
        assert_int_equal(CALL(cuMemGetInfo_v2, &free_now, &total), 201);
        assert_int_equal(CALL(cuStreamCreate, &stream, 0), 201);
        assert_int_equal(CALL(cuEventCreate, &event, 0), 201);
        assert_int_equal(CALL(cuModuleLoadData, &out, ""), 201);
        assert_int_equal(CALL(cuCtxSynchronize), 201);
        OK(cuDeviceGet, &which, 0);
        OK(cuDeviceTotalMem_v2, &total, 0);
        OK(cuCtxSetCurrent, old);
}

static void it_claims_an_a100(void **state)
{
        static const int expected[][2] = {{1, 1024}, {10, 32}, {16, 108}, {39, 2048},
                                          {40, 3},   {75, 8},  {76, 0},   {33, 7}};
        char name[64], bus[16];
        unsigned char uuid[16], again[16];
        int value = 0, major = 0, minor = 7, n = 0;

        (void)state;
        OK(cuDeviceGetCount, &n);
        assert_int_equal(n, 1);
        OK(cuDeviceGetName, name, 64, 0);
        assert_string_equal(name, "NVIDIA A100-SXM4-40GB");
        OK(cuDeviceComputeCapability, &major, &minor, 0);
        assert_int_equal(10 * major + minor, 80);
        for (size_t i = 0; i < sizeof expected / sizeof *expected; i++) {
                OK(cuDeviceGetAttribute, &value, expected[i][0], 0);
                assert_int_equal(value, expected[i][1]);
        }
        OK(cuDeviceGetAttribute, &value, 5000, 0); // of a later driver
        assert_int_equal(value, 0);
        assert_int_equal(CALL(cuDeviceGetAttribute, &value, 0, 0), 1);
        assert_int_equal(CALL(cuDeviceGetAttribute, &value, 1, 1), 101);
        assert_int_equal(CALL(cuDeviceGet, &value, 1), 101);
        OK(cuDeviceGetPCIBusId, bus, 16, 0);
        OK(cuDeviceGetByPCIBusId, &value, bus);
        OK(cuDeviceGetUuid_v2, uuid, 0);
        OK(cuDeviceGetUuid, again, 0);
        assert_memory_equal(uuid, again, 16);
}

// An image is never looked into: any name that is asked for is there, and is the same the next time.
static void modules_have_what_is_asked_for(void **state)
{
        void *library_handle = NULL, *one = NULL, *two = NULL, *f = NULL, *owner = NULL;
        const char *name = NULL;
        char *global = NULL;
        size_t size = 0;
        int value = 0;

        (void)state;
        OK(cuLibraryLoadData, &library_handle, "", NULL, NULL, 0, NULL, NULL, 0);
        OK(cuLibraryGetKernel, &one, library_handle, "a");
        OK(cuLibraryGetKernel, &two, library_handle, "a");
        assert_ptr_equal(one, two);
        OK(cuLibraryGetKernel, &two, library_handle, "b");
        assert_ptr_not_equal(one, two);
        OK(cuKernelGetFunction, &f, one);
        OK(cuFuncGetName, &name, f);
        assert_string_equal(name, "a");
        OK(cuFuncGetModule, &owner, f);
        OK(cuLaunchKernel, one, 1, 1, 1, 1, 1, 1, 0, NULL, NULL,
           NULL); // a kernel where a function is expected
        OK(cuLibraryGetGlobal, &global, &size, library_handle, "variable");
        assert_true(size > 0);
        memset(global, 1, size);
        OK(cuFuncSetAttribute, f, 8, 100000);
        OK(cuFuncGetAttribute, &value, 8, f);
        assert_int_equal(value, 100000);
        OK(cuOccupancyMaxActiveBlocksPerMultiprocessor, &value, f, 256, (size_t)0);
        assert_int_equal(value, 8);
        assert_int_equal(CALL(cuModuleGetFunction, &f, NULL, "a"), 400);
        OK(cuLibraryUnload, library_handle);
}

// The private tables that NVIDIA's libraries ask for; that the real runtime accepts the integrity check is
// tested with it.
typedef intptr_t (*entry)(intptr_t, intptr_t, intptr_t, intptr_t);

static const entry *table(const char *uuid)
{
        const entry *found = NULL;

        OK(cuGetExportTable, &found, uuid);
        return found;
}

static void private_tables(void **state)
{
        const entry *ids = table("\x21\x31\x8c\x60\x97\x14\x32\x48\x8c\xa6\x41\xff\x73\x24\xc8\xf2");
        const entry *tls = table("\x42\xd8\x5a\x81\x23\xf6\xcb\x47\x82\x98\xf6\xe7\x8a\x3a\xec\xdc");
        const entry *storage = table("\xc6\x93\x33\x6e\x11\x21\xdf\x11\xa8\xc3\x68\xf3\x55\xd8\x95\x93");
        uint64_t id = 0, told = 0;
        void *current = NULL, *value = NULL, *key = &key;
        const entry *none = NULL;

        (void)state;
        OK(cuCtxGetId, NULL, &id);
        assert_int_equal(ids[4](0, (intptr_t)&told, 0, 0), 0);
        assert_int_equal(told, id);
        assert_int_equal(tls[2]((intptr_t)&current, 0, 0, 0), 0);
        assert_ptr_equal(current, context);
        assert_int_equal(storage[2]((intptr_t)&value, 0, (intptr_t)key, 0), 400);
        assert_int_equal(storage[0](0, (intptr_t)key, 42, 0), 0);
        assert_int_equal(storage[0](0, (intptr_t)key, 43, 0), 0); // in its place
        assert_int_equal(storage[2]((intptr_t)&value, 0, (intptr_t)key, 0), 0);
        assert_int_equal((intptr_t)value, 43);
        assert_int_equal(storage[1](0, (intptr_t)key, 0, 0), 0);
        assert_int_equal(storage[2]((intptr_t)&value, 0, (intptr_t)key, 0), 400);
        assert_int_equal(CALL(cuGetExportTable, &none, "0123456789abcdef"), 500);
        assert_null(none);
}

static void errors_have_names(void **state)
{
        static const int errors[] = {0,   1,   2,   3,   100, 101, 201, 400, 500,
                                     600, 719, 801, 900, 901, 902, 903, 910, 999};
        const char *text = NULL;

        (void)state;
        for (size_t i = 0; i < sizeof errors / sizeof *errors; i++) {
                OK(cuGetErrorName, errors[i], &text);
                assert_memory_equal(text, "CUDA_", 5);
                OK(cuGetErrorString, errors[i], &text);
        }
        OK(cuGetErrorName, 902, &text);
        assert_string_equal(text, "CUDA_ERROR_STREAM_CAPTURE_MERGE");
        assert_int_equal(CALL(cuGetErrorName, 12345, &text), 1);
        assert_null(text);
}

static void what_is_not_built_says_so(void **state)
{
        (void)state;
        assert_int_equal(CALL(cuSignalExternalSemaphoresAsync, NULL, NULL, 0, NULL), 801);
        assert_int_equal(CALL(cuTexObjectCreate, NULL, NULL, NULL, NULL), 801);
}

static void make_many(void)
{
        void *own;
        int n = 0;

        for (; n < 2 * SIM_CONTEXTS_MAX && !CALL(cuCtxCreate_v2, &own, 0, 0); n++)
                NEED(!CALL(cuCtxPopCurrent_v2, &own));
        NEED(n == SIM_CONTEXTS_MAX - 1); // one is the parent's
        NEED(CALL(cuCtxCreate_v2, &own, 0, 0) == 2);
}

static void stack_without_end(void)
{
        void *own;
        int n = 0;

        while (n < 1000 && !CALL(cuCtxCreate_v2, &own, 0, 0))
                n++;
        NEED(n < 1000);
        NEED(CALL(cuCtxDestroy_v2, own) == 0); // what could not be pushed was not made
        NEED(CALL(cuCtxCreate_v2, &own, 0, 0) == 0);
}

static void stack_is_full(void **state)
{
        (void)state;
        assert_int_equal(in_child(stack_without_end), 0);
}

// The table of contexts is full, and its owner gone: it has room again.
static void contexts_run_out_and_come_back(void **state)
{
        void *own = NULL;

        (void)state;
        assert_int_equal(in_child(make_many), 0);
        OK(cuCtxCreate_v2, &own, 0, 0);
        OK(cuCtxDestroy_v2, own);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(contexts_are_a_stack_of_the_thread),
                cmocka_unit_test(primary_context_is_one),
                cmocka_unit_test(without_a_context),
                cmocka_unit_test(it_claims_an_a100),
                cmocka_unit_test(modules_have_what_is_asked_for),
                cmocka_unit_test(private_tables),
                cmocka_unit_test(errors_have_names),
                cmocka_unit_test(what_is_not_built_says_so),
                cmocka_unit_test(stack_is_full),
                cmocka_unit_test(contexts_run_out_and_come_back),
        };

        return cmocka_run_group_tests(tests, begin, end);
}
