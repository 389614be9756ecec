// Streams, events and copies of a device as it is without settings: work of one context in the order of
// submission, copies beside it.
#include <pthread.h>
#include "driver_test.h"

static uint64_t submitted(void)
{
        return device->device.context[0].lane[0].submitted_ns;
}

static void kernels_of_all_streams_are_one_queue(void **state)
{
        void *a = new_stream(1), *b = new_stream(0);

        (void)state;
        freeze(1);
        for (int i = 0; i < 3; i++) {
                launch(a);
                launch(b);
                launch(NULL);
        }
        assert_int_equal(busy_until_done(), 9 * KERNEL_NS);
        OK(cuStreamDestroy_v2, a);
        OK(cuStreamDestroy_v2, b);
}

static void stream_is_done_when_its_own_work_is(void **state)
{
        void *a = new_stream(1), *b = new_stream(1);

        (void)state;
        freeze(1);
        OK(cuStreamQuery, a); // nothing yet
        launch(a);
        assert_int_equal(CALL(cuStreamQuery, a), 600);
        OK(cuStreamQuery, b);
        assert_int_equal(CALL(cuStreamQuery, NULL), 600); // the legacy stream stands for all
        freeze(0);
        OK(cuStreamSynchronize, a);
        OK(cuStreamQuery, a);
        OK(cuStreamDestroy_v2, a);
        OK(cuStreamDestroy_v2, b);
}

static void events_are_places_in_a_stream(void **state)
{
        void *stream = new_stream(1), *first = new_event(), *second = new_event();
        float ms = 0;

        (void)state;
        OK(cuEventQuery, first); // never recorded: done
        OK(cuEventSynchronize, first);
        assert_int_equal(CALL(cuEventElapsedTime, &ms, first, second), 400);
        freeze(1);
        OK(cuEventRecord, first, stream);
        launch(stream);
        launch(stream);
        OK(cuEventRecord, second, stream);
        launch(stream);
        OK(cuEventQuery, first);
        assert_int_equal(CALL(cuEventQuery, second), 600);
        assert_int_equal(CALL(cuEventElapsedTime, &ms, first, second), 600);
        freeze(0);
        OK(cuEventSynchronize, second);
        OK(cuEventElapsedTime, &ms, first, second);
        assert_true(ms == 2.0f);
        OK(cuEventRecord, first, stream); // again, elsewhere
        OK(cuStreamSynchronize, stream);
        OK(cuEventElapsedTime, &ms, second, first);
        assert_true(ms == 1.0f);
        OK(cuEventDestroy_v2, first);
        OK(cuEventDestroy_v2, second);
        OK(cuStreamDestroy_v2, stream);
}

// As many waits as there are blocks over 108 multiprocessors of 8 blocks of 256 threads, 2 us each.
static void unknown_kernels_take_time_by_their_blocks(void **state)
{
        uint64_t before = submitted();

        (void)state;
        OK(cuLaunchKernel, kernel, 108 * 8 * 1000 - 1, 1, 1, 256, 1, 1, 0, NULL, NULL, NULL);
        assert_int_equal(submitted() - before, 1000 * 2000);
        before = submitted();
        OK(cuLaunchKernel, kernel, 1, 1, 1, 1024, 1, 1, 0, NULL, NULL, NULL);
        assert_int_equal(submitted() - before, KERNEL_NS); // the least that SIMGPU_KERNEL_US says
        OK(cuCtxSynchronize, );
}

static void wrong_launches_are_refused_and_cost_nothing(void **state)
{
        uint64_t before = submitted();

        (void)state;
        assert_int_equal(CALL(cuLaunchKernel, kernel, 0, 1, 1, 1, 1, 1, 0, NULL, NULL, NULL), 1);
        assert_int_equal(CALL(cuLaunchKernel, kernel, 1, 1, 1, 1025, 1, 1, 0, NULL, NULL, NULL), 1);
        assert_int_equal(CALL(cuLaunchKernel, kernel, 1, 1, 1, 32, 32, 2, 0, NULL, NULL, NULL), 1);
        assert_int_equal(CALL(cuLaunchKernel, NULL, 1, 1, 1, 1, 1, 1, 0, NULL, NULL, NULL), 400);
        assert_int_equal(submitted(), before);
}

static uint64_t copied(int engine)
{
        return device->engine[engine].busy_ns;
}

// 22 GB/s and 1.5 us to begin; the three ways do not stand in each other's.
static void copies_take_their_engines_time_and_no_kernels(void **state)
{
        uint64_t before[SIM_ENGINES], kernels = submitted();
        char *a = NULL, *host = NULL;

        (void)state;
        OK(cuMemAlloc_v2, &a, 44 * MIB);
        OK(cuMemHostAlloc, &host, 22 * MIB, 0);
        for (int i = 0; i < SIM_ENGINES; i++)
                before[i] = copied(i);
        OK(cuMemcpyHtoD_v2, a, host, (size_t)22000000);
        OK(cuMemcpyDtoH_v2, host, a, (size_t)11000000);
        OK(cuMemcpyDtoD_v2, a, a + 22 * MIB, (size_t)7000000);
        assert_int_equal(copied(SIM_ENGINE_IN) - before[SIM_ENGINE_IN], 1000000 + 1500);
        assert_int_equal(copied(SIM_ENGINE_OUT) - before[SIM_ENGINE_OUT], 500000 + 1500);
        assert_int_equal(copied(SIM_ENGINE_WITHIN) - before[SIM_ENGINE_WITHIN], 10000 + 1500);
        assert_int_equal(submitted(), kernels);
        for (int i = 0; i < SIM_ENGINES; i++)
                before[i] = copied(i);
        OK(cuMemcpy, a, host, (size_t)22000); // by the addresses
        assert_int_equal(copied(SIM_ENGINE_IN) - before[SIM_ENGINE_IN], 1000 + 1500);
        OK(cuMemcpy, a, a + MIB, (size_t)7000);
        assert_int_equal(copied(SIM_ENGINE_WITHIN) - before[SIM_ENGINE_WITHIN], 10 + 1500);
        OK(cuMemcpy, host + MIB, a, (size_t)22000);
        assert_int_equal(copied(SIM_ENGINE_OUT) - before[SIM_ENGINE_OUT], 1000 + 1500);
        OK(cuMemFree_v2, a);
        OK(cuMemFreeHost, host);
}

// A copy that is under way is not done, for its stream and for who waits for an event behind it.
static void streams_and_events_wait_for_copies(void **state)
{
        void *stream = new_stream(1), *event = new_event();
        size_t size = 32 * MIB; // some 1.5 s, slowed down a thousandfold
        char *a = NULL, *host = NULL;

        (void)state;
        OK(cuMemAlloc_v2, &a, size);
        OK(cuMemHostAlloc, &host, size, 0);
        device->copy_slowdown = 1000;
        OK(cuMemcpyHtoDAsync_v2, a, host, size, stream);
        OK(cuEventRecord, event, stream);
        assert_int_equal(CALL(cuStreamQuery, stream), 600);
        assert_int_equal(CALL(cuEventQuery, event), 600);
        device->copy_slowdown = 0;
        OK(cuEventSynchronize, event);
        OK(cuStreamQuery, stream);
        OK(cuEventQuery, event);
        OK(cuMemFree_v2, a);
        OK(cuMemFreeHost, host);
        OK(cuStreamDestroy_v2, stream);
        OK(cuEventDestroy_v2, event);
}

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t called = PTHREAD_COND_INITIALIZER;
static int n_called;

static void tell(void *arg)
{
        pthread_mutex_lock(&lock);
        n_called += *(int *)arg;
        pthread_cond_signal(&called);
        pthread_mutex_unlock(&lock);
}

static void host_functions_come_after_the_work_before_them(void **state)
{
        void *stream = new_stream(1);
        int one = 1;

        (void)state;
        freeze(1);
        launch(stream);
        OK(cuLaunchHostFunc, stream, tell, &one);
        assert_int_equal(n_called, 0);
        freeze(0);
        pthread_mutex_lock(&lock);
        while (!n_called)
                pthread_cond_wait(&called, &lock);
        pthread_mutex_unlock(&lock);
        OK(cuStreamQuery, stream);
        OK(cuStreamDestroy_v2, stream);
}

static void streams_tell_what_they_are(void **state)
{
        void *stream = NULL, *other = new_stream(0), *owner = NULL;
        uint64_t id = 0, other_id = 0;
        unsigned flags = 7;
        int priority = 7;

        (void)state;
        OK(cuStreamCreateWithPriority, &stream, 1, -3);
        OK(cuStreamGetFlags, stream, &flags);
        OK(cuStreamGetPriority, stream, &priority);
        OK(cuStreamGetCtx, stream, &owner);
        OK(cuStreamGetId, stream, &id);
        OK(cuStreamGetId, other, &other_id);
        assert_int_equal(flags, 1);
        assert_int_equal(priority, -3);
        assert_ptr_equal(owner, context);
        assert_int_not_equal(id, other_id);
        assert_int_equal(CALL(cuStreamDestroy_v2, NULL), 400);
        OK(cuStreamDestroy_v2, stream);
        OK(cuStreamDestroy_v2, other);
}

// What one process submits while another one has work waits for its turn; the log has both.
static void launch_ten(void)
{
        void *own = NULL;

        NEED(!CALL(cuCtxCreate_v2, &own, 0, 0));
        for (int i = 0; i < 10; i++)
                NEED(!CALL(cuLaunchKernel, kernel, 1, 1, 1, 32, 1, 1, 0, NULL, NULL, NULL));
        NEED(!CALL(cuCtxSynchronize));
}

static void processes_take_turns_and_the_log_tells(void **state)
{
        uint64_t from, ran = 0, others = 0, last_end = 0;

        (void)state;
        sim_segment_lock(device);
        from = device->n_log;
        sim_segment_unlock(device);
        for (int i = 0; i < 10; i++)
                launch(NULL);
        assert_int_equal(in_child(launch_ten), 0);
        OK(cuCtxSynchronize, );
        sim_segment_lock(device);
        for (uint64_t i = from; i < device->n_log; i++) {
                const struct sim_log_entry *e = &device->log[i % SIM_LOG_MAX];

                assert_true(e->start_ns >= last_end); // never two at once
                last_end = e->end_ns;
                if (e->kind == SIM_LOG_RUN && e->pid == (uint32_t)getpid())
                        ran += e->end_ns - e->start_ns;
                else if (e->kind == SIM_LOG_RUN)
                        others += e->end_ns - e->start_ns;
        }
        sim_segment_unlock(device);
        assert_int_equal(ran, 10 * KERNEL_NS);
        assert_int_equal(others, 10 * KERNEL_NS);
}

// Many threads with a stream each: nothing is lost.
static void *work(void *arg)
{
        void *stream = NULL;

        (void)arg;
        if (CALL(cuCtxSetCurrent, context) || CALL(cuStreamCreate, &stream, 1))
                return "no stream";
        for (int i = 0; i < 20; i++)
                if (CALL(cuLaunchKernel, kernel, 1, 1, 1, 32, 1, 1, 0, stream, NULL, NULL))
                        return "no launch";
        return CALL(cuStreamSynchronize, stream) || CALL(cuStreamDestroy_v2, stream) ? "no end" : NULL;
}

static void threads(void **state)
{
        uint64_t before = submitted();
        pthread_t thread[4];
        void *failed;

        (void)state;
        for (int i = 0; i < 4; i++)
                assert_int_equal(pthread_create(&thread[i], NULL, work, NULL), 0);
        for (int i = 0; i < 4; i++) {
                pthread_join(thread[i], &failed);
                assert_null(failed);
        }
        assert_int_equal(submitted() - before, 80 * KERNEL_NS);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(kernels_of_all_streams_are_one_queue),
                cmocka_unit_test(stream_is_done_when_its_own_work_is),
                cmocka_unit_test(events_are_places_in_a_stream),
                cmocka_unit_test(unknown_kernels_take_time_by_their_blocks),
                cmocka_unit_test(wrong_launches_are_refused_and_cost_nothing),
                cmocka_unit_test(copies_take_their_engines_time_and_no_kernels),
                cmocka_unit_test(streams_and_events_wait_for_copies),
                cmocka_unit_test(host_functions_come_after_the_work_before_them),
                cmocka_unit_test(streams_tell_what_they_are),
                cmocka_unit_test(processes_take_turns_and_the_log_tells),
                cmocka_unit_test(threads),
        };

        return cmocka_run_group_tests(tests, begin, end);
}
