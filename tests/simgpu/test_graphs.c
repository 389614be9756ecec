// Captures and graphs: what is recorded instead of done, what a launch does and costs, streams that are drawn
// in.
#include "driver_test.h"

static uint64_t submitted(void)
{
        return device->device.context[0].lane[0].submitted_ns;
}

static void *capture_on(void *stream)
{
        OK(cuStreamBeginCapture_v2, stream, 0);
        return stream;
}

static void *end_on(void *stream)
{
        void *graph = NULL;

        OK(cuStreamEndCapture, stream, &graph);
        return graph;
}

static size_t n_nodes(void *graph)
{
        size_t n = 0;

        OK(cuGraphGetNodes, graph, NULL, &n);
        return n;
}

static void captured_work_is_done_by_launches_alone(void **state)
{
        void *stream = capture_on(new_stream(1)), *graph, *exec = NULL;
        int value = 7, target = 0, filled[3] = {1, 1, 1};
        uint64_t before = submitted();

        (void)state;
        for (int i = 0; i < 3; i++)
                launch(stream);
        OK(cuMemcpyAsync, &target, &value, sizeof value, stream);
        OK(cuMemsetD32Async, filled, 0x01020304, (size_t)2, stream);
        assert_int_equal(target, 0);
        assert_int_equal(filled[0], 1);
        graph = end_on(stream);
        assert_int_equal(submitted(), before);
        assert_int_equal(n_nodes(graph), 5);
        OK(cuGraphInstantiateWithFlags, &exec, graph, (size_t)0);
        OK(cuGraphDestroy, graph); // what was instantiated is a copy
        for (int i = 0; i < 2; i++) {
                target = 0;
                before = submitted();
                OK(cuGraphLaunch, exec, stream);
                assert_true(submitted() - before >= 3 * KERNEL_NS && submitted() - before < 4 * KERNEL_NS);
                assert_int_equal(target, 7);
        }
        assert_int_equal(filled[1], 0x01020304); // the whole width
        assert_int_equal(filled[2], 1);
        OK(cuStreamSynchronize, stream);
        OK(cuGraphExecDestroy, exec);
        OK(cuStreamDestroy_v2, stream);
}

static void nodes_know_what_they_are(void **state)
{
        void *stream = capture_on(new_stream(1)), *graph, *node[4] = {NULL};
        int type = -1, types[4] = {0, 1, 2, 5}, target = 0;
        size_t n = 4;

        (void)state;
        launch(stream);
        OK(cuMemcpyAsync, &target, &target, sizeof target, stream);
        OK(cuMemsetD8Async, &target, 0, sizeof target, stream);
        OK(cuEventRecord, new_event(), stream);
        graph = end_on(stream);
        OK(cuGraphGetNodes, graph, node, &n);
        for (int i = 0; i < 4; i++) {
                OK(cuGraphNodeGetType, node[i], &type);
                assert_int_equal(type, types[i]);
        }
        OK(cuGraphDestroy, graph);
        OK(cuStreamDestroy_v2, stream);
}

static void capturing_stream_tells_so_and_refuses_to_wait(void **state)
{
        void *stream = new_stream(1), *graph = NULL, *seen = NULL;
        uint64_t id = 0;
        int status = -1;

        (void)state;
        OK(cuStreamIsCapturing, stream, &status);
        assert_int_equal(status, 0);
        capture_on(stream);
        OK(cuStreamGetCaptureInfo_v2, stream, &status, &id, &seen, NULL, NULL);
        assert_int_equal(status, 1);
        assert_int_not_equal(id, 0);
        assert_int_equal(CALL(cuStreamSynchronize, stream), 900);
        assert_int_equal(CALL(cuStreamQuery, stream), 900);
        assert_int_equal(CALL(cuCtxSynchronize), 900);
        assert_int_equal(CALL(cuStreamBeginCapture_v2, stream, 0), 1);
        graph = end_on(stream);
        assert_ptr_equal(graph, seen);
        OK(cuStreamIsCapturing, stream, &status);
        assert_int_equal(status, 0);
        OK(cuCtxSynchronize, );
        assert_int_equal(CALL(cuStreamEndCapture, stream, &graph), 903);
        assert_int_equal(CALL(cuStreamBeginCapture_v2, NULL, 0), 900); // the legacy stream cannot be captured
        OK(cuGraphDestroy, graph);
        OK(cuStreamDestroy_v2, stream);
}

// What an engine does with side streams: fork by an event, join by another.
static void streams_are_drawn_into_a_capture(void **state)
{
        void *main_stream = capture_on(new_stream(1)), *side = new_stream(1), *fork_event = new_event(),
             *join = new_event();
        void *graph;
        uint64_t before = submitted(), id = 0, side_id = 1;
        int status = 0;

        (void)state;
        launch(main_stream);
        OK(cuEventRecord, fork_event, main_stream);
        OK(cuStreamWaitEvent, side, fork_event, 0);
        OK(cuStreamGetCaptureInfo, main_stream, &status, &id);
        OK(cuStreamGetCaptureInfo, side, &status, &side_id);
        assert_int_equal(status, 1);
        assert_int_equal(id, side_id);
        launch(side);
        OK(cuEventRecord, join, side);
        OK(cuStreamWaitEvent, main_stream, join, 0);
        assert_int_equal(CALL(cuStreamEndCapture, side, &graph), 903); // it did not begin here
        graph = end_on(main_stream);
        assert_int_equal(submitted(), before);
        assert_int_equal(n_nodes(graph), 4); // two kernels, two events
        launch(side);                        // free again
        assert_int_equal(submitted() - before, KERNEL_NS);
        assert_int_equal(CALL(cuStreamWaitEvent, side, join, 0), 1); // of a capture that is over
        OK(cuGraphDestroy, graph);
        OK(cuStreamDestroy_v2, main_stream);
        OK(cuStreamDestroy_v2, side);
}

static void two_captures_do_not_mix(void **state)
{
        void *a = capture_on(new_stream(1)), *b = capture_on(new_stream(1)), *event = new_event();
        void *first, *second;

        (void)state;
        OK(cuEventRecord, event, a);
        assert_int_equal(CALL(cuStreamWaitEvent, b, event, 0), 902);
        launch(b);
        first = end_on(a);
        second = end_on(b);
        assert_int_equal(n_nodes(first), 1);
        assert_int_equal(n_nodes(second), 1);
        OK(cuGraphDestroy, first);
        OK(cuGraphDestroy, second);
        OK(cuStreamDestroy_v2, a);
        OK(cuStreamDestroy_v2, b);
}

static void streams_may_go_while_they_capture(void **state)
{
        void *a = capture_on(new_stream(1)), *side = new_stream(1), *event = new_event(), *graph;

        (void)state;
        OK(cuEventRecord, event, a);
        OK(cuStreamWaitEvent, side, event, 0);
        OK(cuStreamDestroy_v2, side);
        graph = end_on(a);
        OK(cuGraphDestroy, graph);
        capture_on(a);
        launch(a);
        OK(cuStreamDestroy_v2, a);
        OK(cuCtxSynchronize, ); // no capture is left that forbids it
}

static void update_takes_the_new_graph_if_it_has_the_same_shape(void **state)
{
        void *stream = new_stream(1), *graph, *other, *exec = NULL;
        int value = 1, next = 2, target = 0;
        void *info[3];

        (void)state;
        capture_on(stream);
        OK(cuMemcpyAsync, &target, &value, sizeof value, stream);
        graph = end_on(stream);
        OK(cuGraphInstantiateWithFlags, &exec, graph, (size_t)0);
        capture_on(stream);
        OK(cuMemcpyAsync, &target, &next, sizeof next, stream);
        other = end_on(stream);
        OK(cuGraphExecUpdate_v2, exec, other, info);
        OK(cuGraphLaunch, exec, stream);
        assert_int_equal(target, 2);
        OK(cuGraphDestroy, other);
        capture_on(stream);
        launch(stream);
        launch(stream);
        other = end_on(stream);
        assert_int_equal(CALL(cuGraphExecUpdate_v2, exec, other, info), 910);
        OK(cuGraphDestroy, graph);
        OK(cuGraphDestroy, other);
        OK(cuGraphExecDestroy, exec);
        OK(cuStreamDestroy_v2, stream);
}

struct kernel_params {
        const void *function;
        unsigned grid[3], block[3], shared;
        void **params, **extra;
        const void *kernel;
        void *context;
};

static void graphs_are_made_by_hand_too(void **state)
{
        struct kernel_params p = {.function = kernel, .grid = {2, 3, 4}, .block = {32, 1, 1}}, seen;
        void *graph = NULL, *node = NULL, *exec = NULL;
        uint64_t before;

        (void)state;
        OK(cuGraphCreate, &graph, 0);
        OK(cuGraphAddKernelNode_v2, &node, graph, NULL, (size_t)0, &p);
        OK(cuGraphAddEmptyNode, &node, graph, &node, (size_t)1);
        OK(cuGraphAddKernelNode_v2, &node, graph, NULL, (size_t)0, &p);
        OK(cuGraphKernelNodeGetParams_v2, node, &seen);
        assert_ptr_equal(seen.function, kernel);
        assert_int_equal(seen.grid[2], 4);
        OK(cuGraphInstantiateWithFlags, &exec, graph, (size_t)0);
        before = submitted();
        OK(cuGraphLaunch, exec, NULL);
        assert_int_equal(submitted() - before, 2 * KERNEL_NS);
        OK(cuGraphExecDestroy, exec);
        OK(cuGraphDestroy, graph);
        assert_int_equal(CALL(cuGraphLaunch, NULL, NULL), 400);
        assert_int_equal(CALL(cuGraphInstantiateWithFlags, &exec, NULL, (size_t)0), 1);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(captured_work_is_done_by_launches_alone),
                cmocka_unit_test(nodes_know_what_they_are),
                cmocka_unit_test(capturing_stream_tells_so_and_refuses_to_wait),
                cmocka_unit_test(streams_are_drawn_into_a_capture),
                cmocka_unit_test(two_captures_do_not_mix),
                cmocka_unit_test(streams_may_go_while_they_capture),
                cmocka_unit_test(update_takes_the_new_graph_if_it_has_the_same_shape),
                cmocka_unit_test(graphs_are_made_by_hand_too),
        };

        return cmocka_run_group_tests(tests, begin, end);
}
