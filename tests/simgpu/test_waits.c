// How a thread waits for the device: asleep, or with SIMGPU_SPIN on the processor, as the real driver does
// unless it is asked for something else. Who sleeps gives the processor away of its own accord, and the
// kernel counts that.
#include <sys/resource.h>
#include "driver_test.h"

#define KERNELS 100 // each of 1 ms: nobody is away from the processor until they are all over

static void *stream;

static void work(void)
{
        for (int i = 0; i < KERNELS; i++)
                launch(stream);
}

static long times_slept(void)
{
        struct rusage usage;

        getrusage(RUSAGE_THREAD, &usage);
        return usage.ru_nvcsw;
}

#define SLEEPS(name, ...)                                                                                    \
        ({                                                                                                   \
                long before_;                                                                                \
                                                                                                             \
                work();                                                                                      \
                before_ = times_slept();                                                                     \
                OK(name, __VA_ARGS__);                                                                       \
                times_slept() > before_;                                                                     \
        })

static void waits_spin(void **state)
{
        void *event = new_event();

        (void)state;
        assert_false(SLEEPS(cuStreamSynchronize, stream));
        assert_false(SLEEPS(cuCtxSynchronize, ));
        work();
        OK(cuEventRecord, event, stream);
        assert_false(SLEEPS(cuEventSynchronize, event));
        OK(cuEventDestroy_v2, event);
}

static void copy_that_waits_spins(void **state)
{
        void *memory = NULL;
        char host[16];

        (void)state;
        OK(cuMemAlloc_v2, &memory, sizeof host);
        assert_false(SLEEPS(cuMemcpyDtoH_v2, host, memory, sizeof host)); // for the work before it
        device->copy_slowdown = 20000;
        assert_false(
                SLEEPS(cuMemcpyDtoH_v2, host, memory, sizeof host)); // and for itself, which takes longer
        OK(cuCtxSetFlags, 4);
        assert_true(SLEEPS(cuMemcpyDtoH_v2, host, memory, sizeof host));
        OK(cuCtxSetFlags, 0);
        device->copy_slowdown = 0;
        OK(cuMemFree_v2, memory);
}

static void event_may_ask_for_sleep(void **state)
{
        void *event = NULL;

        (void)state;
        OK(cuEventCreate, &event, 1); // CU_EVENT_BLOCKING_SYNC
        work();
        OK(cuEventRecord, event, stream);
        assert_true(SLEEPS(cuEventSynchronize, event));
        OK(cuEventDestroy_v2, event);
}

static void context_may_ask_for_sleep(void **state)
{
        unsigned flags = 0;
        int active = 0;

        (void)state;
        OK(cuDevicePrimaryCtxSetFlags_v2, 0, 4); // CU_CTX_SCHED_BLOCKING_SYNC
        OK(cuCtxGetFlags, &flags);
        assert_int_equal(flags, 4);
        assert_true(SLEEPS(cuStreamSynchronize, stream));
        OK(cuDevicePrimaryCtxSetFlags_v2, 0, 0);
        OK(cuDevicePrimaryCtxGetState, 0, &flags, &active);
        assert_int_equal(flags, 0);
        assert_false(SLEEPS(cuStreamSynchronize, stream));
        OK(cuCtxSetFlags, 4);
        assert_true(SLEEPS(cuCtxSynchronize, ));
        OK(cuCtxSetFlags, 0);
}

static void without_the_setting(void)
{
        void *own = NULL;

        setenv("SIMGPU_SPIN", "off", 1); // a context made from now on
        NEED(!CALL(cuCtxCreate_v2, &own, 0, 0) && !CALL(cuStreamCreate, &stream, 1));
        NEED(SLEEPS(cuStreamSynchronize, stream));
}

static void waits_sleep_without_the_setting(void **state)
{
        (void)state;
        assert_int_equal(in_child(without_the_setting), 0);
}

static int begin_spinning(void **state)
{
        setenv("SIMGPU_SPIN", "on", 1);
        if (begin(state))
                return -1;
        stream = new_stream(1);
        return 0;
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(waits_spin),
                cmocka_unit_test(copy_that_waits_spins),
                cmocka_unit_test(event_may_ask_for_sleep),
                cmocka_unit_test(context_may_ask_for_sleep),
                cmocka_unit_test(waits_sleep_without_the_setting),
        };

        return cmocka_run_group_tests(tests, begin_spinning, end);
}
