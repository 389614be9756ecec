// Captures and graphs, on the fake driver: nothing of ours lands on a capturing stream, what is recorded is
// not charged, and what a graph took is forgotten when it changes.
#include <string.h>
#include "stage.h"

static uintptr_t stream, other, graph;

static void begin(void)
{
        stage_context(0);
        MUST(cuStreamCreate, &stream, 1);
        MUST(cuStreamCreate, &other, 1);
        launch(0);
        MUST(cuCtxSynchronize);
}

static void launches_of_a_capture_are_not_charged(void)
{
        begin();
        stage_bound(0, 1000); // each launch would be marked
        for (int state = TAKT_GATE_CLOSED; state <= TAKT_GATE_FREE; state++) {
                stage_gate(0, (enum takt_gate_state)state);
                MUST(cuStreamBeginCapture_v2, stream, 0);
                for (int i = 0; i < 50; i++)
                        CHECK(launch(stream) == 0);
                CHECK(!stage_busy(0) && !stage_want(0));
                MUST(cuStreamEndCapture, stream, &graph);
        }
        CHECK(stage.fake->intrusions() == 0);
}

// The gate closes and opens while one stream captures and another works: only the other's is looked at.
static void nothing_of_ours_is_on_a_capturing_stream(void)
{
        begin();
        stage.fake->manual(1);
        stage_gate(0, TAKT_GATE_OPEN);
        stage_bound(0, 2000000);
        launch(stream);
        launch(other);
        MUST(cuStreamBeginCapture_v2, stream, 0);
        stage_gate(0, TAKT_GATE_CLOSED);
        stage_nudge();
        AWAIT(stage.fake->count("cuEventSynchronize", NULL) > 0);
        stage.fake->finish(other);
        stage_nudge();
        MUST(cuEventQuery, (uintptr_t)1);
        CHECK(stage.fake->intrusions() == 0);
        stage.fake->finish(stream);
        MUST(cuStreamEndCapture, stream, &graph);
        stage_nudge();
        AWAIT(!stage_busy(0));
        CHECK(stage.fake->intrusions() == 0);
}

// While anything captures, the legacy stream is left alone: an event on it would break the capture.
static void the_legacy_stream_is_left_alone_while_one_captures(void)
{
        uintptr_t event[11];
        unsigned queries;

        begin();
        stage.fake->manual(1);
        stage_gate(0, TAKT_GATE_OPEN);
        launch(0);
        MUST(cuStreamBeginCapture_v2, stream, 0);
        CHECK(CALL(cuStreamEndCapture, other, &graph) != 0); // a mistake of the host's ends nothing
        queries = stage.fake->count("cuStreamQuery", NULL);
        MUST(cuEventQuery, (uintptr_t)1);
        CHECK(stage.fake->count("cuStreamQuery", NULL) == queries);
        CHECK(stage.fake->count("cuEventRecord", event) == 0);
        MUST(cuStreamEndCapture, stream, &graph);
        stage.fake->finish(0);
        MUST(cuEventQuery, (uintptr_t)1);
        CHECK(stage.fake->count("cuStreamQuery", NULL) == queries + 1 && !stage_busy(0));
}

static void a_capture_that_failed_to_begin_is_none(void)
{
        unsigned queries;

        begin();
        MUST(cuStreamBeginCapture_v2, stream, 0);
        CHECK(CALL(cuStreamBeginCapture_v2, stream, 0) != 0);
        MUST(cuStreamEndCapture, stream, &graph);
        launch(0);
        queries = stage.fake->count("cuStreamQuery", NULL);
        MUST(cuEventQuery, (uintptr_t)1);
        CHECK(stage.fake->count("cuStreamQuery", NULL) == queries + 1);
}

// A stream that is destroyed while it captures takes the capture with it.
static void a_destroyed_stream_captures_no_more(void)
{
        begin();
        MUST(cuStreamBeginCapture_v2, other, 0);
        MUST(cuStreamDestroy_v2, other);
        launch(0);
        MUST(cuEventQuery, (uintptr_t)1);
        CHECK(!stage_busy(0));
}

static void captures_of_a_threads_own_stream(void)
{
        begin();
        stage_gate(0, TAKT_GATE_CLOSED);
        MUST(cuStreamBeginCapture_v2_ptsz, (uintptr_t)0, 0);
        MUST(cuLaunchKernel_ptsz, (uintptr_t)1, 1, 1, 1, 1, 1, 1, 0, (uintptr_t)0, NULL, NULL);
        CHECK(!stage_busy(0) && !stage_want(0));
        MUST(cuStreamEndCapture_ptsz, (uintptr_t)0, &graph);
        CHECK(stage.fake->intrusions() == 0);
}

// Our calls do not change what the host's thread says of captures.
static void the_capture_mode_is_the_hosts(void)
{
        int mode = 1;

        begin();
        MUST(cuThreadExchangeStreamCaptureMode, &mode);
        stage_gate(0, TAKT_GATE_OPEN);
        stage_bound(0, 1000);
        for (int i = 0; i < 10; i++)
                launch(stream);
        MUST(cuEventQuery, (uintptr_t)1);
        MUST(cuStreamDestroy_v2, stream);
        mode = 0;
        MUST(cuThreadExchangeStreamCaptureMode, &mode);
        CHECK(mode == 1);
}

// How many launches of the graph go out before one is waited for: what the shim believes that one takes.
static unsigned launches_in_flight(uintptr_t exec, unsigned most)
{
        unsigned n = 0, waits = stage.fake->count("cuEventSynchronize", NULL);

        while (n < most && stage.fake->count("cuEventSynchronize", NULL) == waits) {
                MUST(cuGraphLaunch, exec, other);
                n++;
        }
        MUST(cuStreamSynchronize, other);
        return n;
}

// Events of the fake driver are 1 ms apart: that is what a launch between two markers is seen to take,
// against a guess of 5 ms, however long the test's own burst lasts.
static void a_graphs_time_is_learned_and_forgotten(void)
{
        const uintptr_t exec = 0x7000, same_place = 0x7000 + 0x1000;
        unsigned unknown, known;

        begin();
        stage_gate(0, TAKT_GATE_OPEN);
        stage_bound(0, 10000000); // a launch of unknown time is a piece of its own
        unknown = launches_in_flight(exec, 100);
        for (int i = 0; i < 10; i++)
                MUST(cuGraphLaunch, exec, other);
        MUST(cuStreamSynchronize, other);
        known = launches_in_flight(exec, 100);
        CHECK(unknown < known);
        CHECK(launches_in_flight(same_place, 100) <= unknown + 1); // another graph, another time
        MUST(cuGraphExecUpdate_v2, exec, (uintptr_t)0, (uintptr_t)0);
        CHECK(launches_in_flight(exec, 100) < known);
}

// One that is changed while its launches run: what they took is not learned of what it is now.
static void what_runs_while_a_graph_changes_teaches_nothing(void)
{
        const uintptr_t exec = 0x9000;
        unsigned fresh;

        begin();
        stage_gate(0, TAKT_GATE_OPEN);
        stage_bound(0, 12000000);
        fresh = launches_in_flight(0xb000, 100);
        MUST(cuGraphLaunch, exec, other);
        MUST(cuGraphExecKernelNodeSetParams_v2, exec, (uintptr_t)0, (uintptr_t)0);
        MUST(cuStreamSynchronize, other); // the burst of one short launch ends
        CHECK(launches_in_flight(exec, 100) <= fresh + 1);
}

static void alone_there_is_no_bound(void)
{
        begin();
        stage.fake->manual(1);
        stage_bound(0, 1000);
        for (int i = 0; i < 1000; i++)
                launch(stream);
        CHECK(stage.fake->count("cuEventSynchronize", NULL) == 0 &&
              stage.fake->count("cuEventRecord", NULL) == 0);
}

static const struct test tests[] = {TEST(launches_of_a_capture_are_not_charged),
                                    TEST(nothing_of_ours_is_on_a_capturing_stream),
                                    TEST(the_legacy_stream_is_left_alone_while_one_captures),
                                    TEST(a_capture_that_failed_to_begin_is_none),
                                    TEST(a_destroyed_stream_captures_no_more),
                                    TEST(captures_of_a_threads_own_stream),
                                    TEST(the_capture_mode_is_the_hosts),
                                    TEST(a_graphs_time_is_learned_and_forgotten),
                                    TEST(what_runs_while_a_graph_changes_teaches_nothing),
                                    TEST(alone_there_is_no_bound)};
STAGE_MAIN(tests)
