// A device on which up to three streams of a context overlap (SIMGPU_CONCURRENT=3): what runs at once, and
// what the rules of streams and events still keep apart. All work is queued before any of it begins.
#include "driver_test.h"

static int begin_overlap(void **state)
{
        setenv("SIMGPU_CONCURRENT", "3", 1);
        return begin(state);
}

static void launch_n(void *stream, int n)
{
        for (int i = 0; i < n; i++)
                launch(stream);
}

static void streams_overlap(void **state)
{
        void *a = new_stream(1), *b = new_stream(1);

        (void)state;
        freeze(1);
        launch_n(a, 3);
        launch_n(b, 5);
        launch_n(NULL, 2);
        assert_int_equal(busy_until_done(), 5 * KERNEL_NS);
        OK(cuStreamDestroy_v2, a);
        OK(cuStreamDestroy_v2, b);
}

// The legacy stream and two more: with another two, two share each of the queues.
static void no_more_than_the_limit(void **state)
{
        void *stream[4];

        (void)state;
        for (int i = 0; i < 4; i++)
                stream[i] = new_stream(1);
        freeze(1);
        for (int i = 0; i < 4; i++)
                launch_n(stream[i], 3);
        assert_int_equal(busy_until_done(), 6 * KERNEL_NS);
        for (int i = 0; i < 4; i++)
                OK(cuStreamDestroy_v2, stream[i]);
}

static void one_stream_is_in_order(void **state)
{
        void *a = new_stream(1);

        (void)state;
        freeze(1);
        launch_n(a, 4);
        assert_int_equal(busy_until_done(), 4 * KERNEL_NS);
        OK(cuStreamDestroy_v2, a);
}

static void who_waits_for_an_event_comes_after_it(void **state)
{
        void *a = new_stream(1), *b = new_stream(1), *event = new_event();

        (void)state;
        freeze(1);
        launch_n(a, 3);
        OK(cuEventRecord, event, a);
        launch_n(a, 4);
        launch_n(b, 1); // beside the first three
        OK(cuStreamWaitEvent, b, event, 0);
        launch_n(b, 2); // beside the last four
        assert_int_equal(busy_until_done(), 7 * KERNEL_NS);
        freeze(1);
        launch_n(a, 3);
        OK(cuEventRecord, event, a);
        OK(cuStreamWaitEvent, b, event, 0);
        launch_n(b, 2);
        assert_int_equal(busy_until_done(), 5 * KERNEL_NS);
        OK(cuEventDestroy_v2, event);
        OK(cuStreamDestroy_v2, a);
        OK(cuStreamDestroy_v2, b);
}

static void legacy_stream_comes_between_blocking_streams(void **state)
{
        void *a = new_stream(0), *b = new_stream(0);

        (void)state;
        freeze(1);
        launch_n(a, 2);
        launch_n(b, 2);
        launch_n(NULL, 1); // after both
        launch_n(a, 3);    // and these after it
        launch_n(b, 3);
        assert_int_equal(busy_until_done(), (2 + 1 + 3) * KERNEL_NS);
        OK(cuStreamDestroy_v2, a);
        OK(cuStreamDestroy_v2, b);
}

static void non_blocking_streams_do_not_care(void **state)
{
        void *a = new_stream(1);

        (void)state;
        freeze(1);
        launch_n(a, 2);
        launch_n(NULL, 3);
        launch_n(a, 2);
        assert_int_equal(busy_until_done(), 4 * KERNEL_NS);
        OK(cuStreamDestroy_v2, a);
}

// To and fro more often than the device has barriers: the caller waits, and all comes in order.
static void many_waits(void **state)
{
        void *a = new_stream(1), *b = new_stream(1), *event[20];
        uint64_t before;

        (void)state;
        sim_segment_lock(device);
        before = device->device.busy_ns;
        sim_segment_unlock(device);
        for (int i = 0; i < 20; i++) {
                void *from = i % 2 ? a : b, *to = i % 2 ? b : a;

                event[i] = new_event();
                launch(from);
                OK(cuEventRecord, event[i], from);
                OK(cuStreamWaitEvent, to, event[i], 0);
        }
        OK(cuCtxSynchronize, );
        assert_int_equal(device->device.busy_ns - before, 20 * KERNEL_NS);
        for (int i = 0; i < 20; i++)
                OK(cuEventDestroy_v2, event[i]);
        OK(cuStreamDestroy_v2, a);
        OK(cuStreamDestroy_v2, b);
}

static void each_stream_is_done_when_its_own_work_is(void **state)
{
        void *a = new_stream(1), *b = new_stream(1), *event = new_event();

        (void)state;
        freeze(1);
        launch_n(a, 1);
        OK(cuEventRecord, event, a);
        OK(cuStreamQuery, b);
        launch_n(b, 1);
        assert_int_equal(CALL(cuStreamQuery, b), 600);
        assert_int_equal(CALL(cuEventQuery, event), 600);
        freeze(0);
        OK(cuStreamSynchronize, b);
        OK(cuStreamSynchronize, a);
        OK(cuEventQuery, event);
        OK(cuEventDestroy_v2, event);
        OK(cuStreamDestroy_v2, a);
        OK(cuStreamDestroy_v2, b);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(streams_overlap),
                cmocka_unit_test(no_more_than_the_limit),
                cmocka_unit_test(one_stream_is_in_order),
                cmocka_unit_test(who_waits_for_an_event_comes_after_it),
                cmocka_unit_test(legacy_stream_comes_between_blocking_streams),
                cmocka_unit_test(non_blocking_streams_do_not_care),
                cmocka_unit_test(many_waits),
                cmocka_unit_test(each_stream_is_done_when_its_own_work_is),
        };

        return cmocka_run_group_tests(tests, begin_overlap, end);
}
