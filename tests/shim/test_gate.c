// The gate and what is known to be in flight, on the fake driver: every kind of stream is told apart, work is
// seen to be done when it is and not before, and nothing waits on what it may not wait on.
#include <string.h>
#include <unistd.h>
#include "stage.h"

#define SMALL_BYTES ((size_t)1 << 20) // a copy up to this is taken for small

// What the driver answers, whatever it is asked.
#define SAYS(name, answer)                                                                                   \
        static int name(const uintptr_t *a)                                                                  \
        {                                                                                                    \
                (void)a;                                                                                     \
                return answer;                                                                               \
        }

static void *context;

static void begin(void)
{
        context = stage_context(0);
        stage.fake->manual(1);
        launch(0);
        stage.fake->finish(0);
        MUST(cuCtxSynchronize);
        CHECK(!stage_busy(0));
}

static uintptr_t new_stream(void)
{
        uintptr_t stream;

        MUST(cuStreamCreate, &stream, 1);
        return stream;
}

// Sends the last streams' work to its end, as the device would, once the shim waits for it.
static void closes_and_drains(uintptr_t stream)
{
        stage_gate(0, TAKT_GATE_CLOSED);
        stage_nudge();
        AWAIT(stage.fake->count("cuEventSynchronize", NULL) + stage.fake->count("cuCtxSynchronize", NULL) >
              0);
        CHECK(stage_busy(0));
        stage.fake->finish(stream);
        AWAIT(!stage_busy(0));
        stage_gate(0, TAKT_GATE_OPEN);
}

SAYS(invalid, 1)

SAYS(has_no_context, 201)

SAYS(not_permitted, 800)

SAYS(broken, 719)

static void a_failed_synchronous_copy_ends_nothing(void)
{
        begin();
        stage.fake->set("cuMemcpyDtoH_v2", invalid);
        launch(0); // a long kernel
        CHECK(CALL(cuMemcpyDtoH_v2, (uintptr_t)0, (uintptr_t)0, (size_t)4) == 1);
        CHECK(stage_busy(0));
        stage.fake->finish(0);
        MUST(cuCtxSynchronize);
        CHECK(!stage_busy(0));
}

static void a_synchronous_copy_ends_what_runs_before_it(void)
{
        begin();
        stage.fake->manual(0);
        launch(0);
        MUST(cuMemcpyDtoH_v2, (uintptr_t)0, (uintptr_t)0, (size_t)4);
        CHECK(!stage_busy(0));
}

static void each_stream_ends_by_itself(void)
{
        uintptr_t a, b;

        begin();
        a = new_stream(), b = new_stream();
        launch(a);
        launch(b);
        stage.fake->finish(a);
        MUST(cuStreamSynchronize, a);
        CHECK(stage_busy(0));
        stage.fake->finish(b);
        MUST(cuStreamQuery, b);
        CHECK(!stage_busy(0));
}

// An event of the host's says nothing of which stream it is behind: all of them are asked.
static void an_event_ends_the_streams_that_are_done(void)
{
        uintptr_t a, b;

        begin();
        a = new_stream(), b = new_stream();
        launch(a);
        launch(b);
        stage.fake->finish(a);
        MUST(cuEventQuery, (uintptr_t)1);
        CHECK(stage_busy(0));
        stage.fake->finish(b);
        MUST(cuEventQuery, (uintptr_t)1);
        CHECK(!stage_busy(0));
}

// A call that failed says that nothing more will come of what broke: asked at once, for its slice must not be
// blamed for it.
static void what_broke_is_not_in_flight(void)
{
        uintptr_t stream;

        begin();
        stream = new_stream();
        launch(0);
        stage.fake->set("cuCtxSynchronize", invalid);
        CHECK(CALL(cuCtxSynchronize) == 1);
        CHECK(stage_busy(0)); // it is in flight, whatever that call's error was
        stage.fake->set("cuStreamQuery", not_permitted);
        CHECK(CALL(cuCtxSynchronize) == 1);
        CHECK(stage_busy(0)); // nor does this say anything of it
        stage.fake->set("cuStreamQuery", broken);
        CHECK(CALL(cuCtxSynchronize) == 1);
        CHECK(!stage_busy(0));
        launch(stream);
        stage.fake->set("cuStreamQuery", has_no_context);
        CHECK(CALL(cuCtxSynchronize) == 1);
        CHECK(stage_busy(0)); // of a thread that has none
        stage.fake->set("cuStreamQuery", broken);
        CHECK(CALL(cuCtxSynchronize) == 1);
        stage.fake->set("cuStreamQuery", NULL);
        stage.fake->finish(0);
        stage.fake->set("cuLaunchKernel", invalid);
        CHECK(CALL(cuLaunchKernel, (uintptr_t)1, 1, 1, 1, 1, 1, 1, 0, (uintptr_t)0, NULL, NULL) == 1);
        CHECK(!stage_busy(0)); // nothing was submitted
}

SAYS(not_ready, 600)

static void a_query_that_says_no_ends_nothing(void)
{
        uintptr_t a;

        begin();
        a = new_stream();
        launch(a);
        CHECK(CALL(cuStreamQuery, a) == 600);
        stage.fake->set("cuEventQuery", not_ready);
        CHECK(CALL(cuEventQuery, (uintptr_t)1) == 600);
        CHECK(stage_busy(0));
}

// A stream that is destroyed while it has work: the driver lets the work go on.
static void a_destroyed_streams_work_goes_on(void)
{
        uintptr_t stream;

        begin();
        stage_gate(0, TAKT_GATE_OPEN);
        stream = new_stream();
        launch(stream);
        MUST(cuStreamDestroy_v2, stream);
        CHECK(stage_busy(0));
        stage.fake->finish(stream);
        MUST(cuCtxSynchronize);
        CHECK(!stage_busy(0));
}

static void a_destroyed_streams_work_that_is_done_is_done(void)
{
        uintptr_t stream;

        begin();
        stream = new_stream();
        launch(stream);
        stage.fake->finish(stream);
        MUST(cuStreamDestroy_v2, stream);
        CHECK(!stage_busy(0));
}

// Two threads one after the other, whose thread-local storage lies at the same place.
static void *own_stream(void *arg)
{
        (void)arg;
        MUST(cuCtxSetCurrent, context);
        MUST(cuLaunchKernel_ptsz, (uintptr_t)1, 1, 1, 1, 1, 1, 1, 0, (uintptr_t)0, NULL, NULL);
        return NULL;
}

SAYS(done, 0)

static void *own_stream_is_done(void *arg)
{
        (void)arg;
        MUST(cuCtxSetCurrent, context);
        MUST(cuLaunchKernel_ptsz, (uintptr_t)1, 1, 1, 1, 1, 1, 1, 0, (uintptr_t)0, NULL, NULL);
        MUST(cuStreamSynchronize_ptsz, (uintptr_t)0); // of its own stream only
        return NULL;
}

static void a_thread_that_ended_is_not_the_next_one(void)
{
        pthread_t thread;

        begin();
        pthread_create(&thread, NULL, own_stream, NULL);
        pthread_join(thread, NULL);
        CHECK(stage_busy(0));
        stage.fake->set("cuStreamSynchronize_ptsz", done);
        pthread_create(&thread, NULL, own_stream_is_done, NULL);
        pthread_join(thread, NULL);
        CHECK(stage_busy(0)); // the first one's kernel still runs
}

// Legacy, per-thread, made before the shim saw it, of a green context: each is drained at a closing gate.
static void every_kind_of_stream_is_drained(void)
{
        uintptr_t streams[] = {0, 1, 2, 0};

        begin();
        stage_gate(0, TAKT_GATE_OPEN);
        streams[3] = new_stream();
        for (size_t i = 0; i < sizeof streams / sizeof *streams; i++) {
                launch(streams[i]);
                CHECK(stage_busy(0));
                closes_and_drains(streams[i]);
        }
}

// A green context's stream: events of the context that was current do not fit, and the driver does not name
// its context.
SAYS(not_supported, 801)

SAYS(refuses_events, 400)

static void a_green_contexts_stream_is_drained(void)
{
        uintptr_t stream;

        begin();
        stage_gate(0, TAKT_GATE_OPEN);
        stream = new_stream();
        stage.fake->set("cuStreamGetCtx", not_supported);
        stage.fake->set("cuEventRecord", refuses_events);
        launch(stream);
        closes_and_drains(stream);
}

// Made as engines make them, with the primary context current.
static uintptr_t new_green(uintptr_t *ret_stream)
{
        uintptr_t green;

        MUST(cuGreenCtxCreate, &green, (uintptr_t)0x5550, 0, 1);
        MUST(cuGreenCtxStreamCreate, ret_stream, green, 1, 0);
        return green;
}

static void *launches_on(void *stream)
{
        MUST(cuCtxSetCurrent, context);
        CHECK(launch((uintptr_t)stream) == 0);
        return NULL;
}

static void a_green_contexts_stream_waits_at_the_gate(void)
{
        pthread_t thread;
        uintptr_t stream;

        begin();
        new_green(&stream);
        stage_gate(0, TAKT_GATE_CLOSED);
        pthread_create(&thread, NULL, launches_on, (void *)stream);
        AWAIT(stage_want(0));
        CHECK(stage.fake->count("cuLaunchKernel", NULL) == 1 && !stage_busy(0));
        stage_gate(0, TAKT_GATE_OPEN);
        pthread_join(thread, NULL);
        CHECK(stage_busy(0));
        closes_and_drains(stream);
}

// The primary context waits for its green ones too: work on their default streams, and what was launched with
// one of them current.
static void a_primary_context_that_is_done_ends_green_ones(void)
{
        uintptr_t stream, own, green, as_context;

        begin();
        green = new_green(&stream);
        launch(stream);
        MUST(cuCtxFromGreenCtx, &as_context, green);
        MUST(cuCtxSetCurrent, as_context);
        own = new_stream();
        launch(own);
        launch(0);
        MUST(cuCtxSetCurrent, context);
        stage.fake->finish(own);
        stage.fake->finish(stream);
        CHECK(stage_busy(0));
        stage.fake->finish(0);
        MUST(cuCtxSynchronize);
        CHECK(!stage_busy(0));
}

// It may be current to the host's thread: its work is waited for with the primary context, from any thread.
static void a_green_context_is_never_current_to_us(void)
{
        uintptr_t own, stream, green, as_context;

        begin();
        stage_gate(0, TAKT_GATE_OPEN);
        green = new_green(&stream);
        MUST(cuCtxFromGreenCtx, &as_context, green);
        MUST(cuCtxSetCurrent, as_context);
        own = new_stream();
        launch(own);
        launch(0);
        stage_gate(0, TAKT_GATE_CLOSED);
        stage_nudge();
        stage.fake->finish(own);
        AWAIT(stage.fake->count("cuCtxSynchronize", NULL) > 1);
        CHECK(stage_busy(0));
        stage.fake->finish(0);
        AWAIT(!stage_busy(0));
        CHECK(stage.fake->intrusions() == 0);
}

// Its streams lose it, and the driver says no more of them; but what they have in flight goes on.
static void a_stream_that_lost_its_green_context_runs_on(void)
{
        uintptr_t stream, green;

        begin();
        green = new_green(&stream);
        launch(stream);
        MUST(cuGreenCtxDestroy, green);
        CHECK(CALL(cuStreamQuery, stream) == 917);
        MUST(cuStreamDestroy_v2, stream);
        CHECK(stage_busy(0));
        stage.fake->finish(stream);
        MUST(cuCtxSynchronize);
        CHECK(!stage_busy(0));
}

// The same of all that was launched with it current; its handle is used no more.
static void a_green_context_that_goes_leaves_its_work_behind(void)
{
        uintptr_t stream, green, as_context;

        begin();
        stage_gate(0, TAKT_GATE_OPEN);
        green = new_green(&stream);
        launch(stream);
        MUST(cuCtxFromGreenCtx, &as_context, green);
        MUST(cuCtxSetCurrent, as_context);
        launch(0);
        MUST(cuCtxSetCurrent, context);
        MUST(cuGreenCtxDestroy, green);
        MUST(cuStreamDestroy_v2, stream);
        stage_gate(0, TAKT_GATE_CLOSED);
        stage_nudge();
        AWAIT(stage.fake->count("cuCtxSynchronize", NULL) > 1);
        stage.fake->finish(0);
        CHECK(stage_busy(0));
        stage.fake->finish(stream);
        AWAIT(!stage_busy(0));
        CHECK(stage.fake->intrusions() == 0);
}

// A context that broke has nothing in flight that could be waited for: the device must not be kept for it.
static void a_broken_context_does_not_keep_the_device(void)
{
        begin();
        stage_gate(0, TAKT_GATE_OPEN);
        launch(0);
        stage.fake->set("cuEventRecord", broken);
        stage.fake->set("cuEventCreate", broken);
        stage.fake->set("cuCtxSynchronize", broken);
        stage.fake->set("cuStreamQuery", broken);
        stage_gate(0, TAKT_GATE_CLOSED);
        stage_nudge();
        AWAIT(!stage_busy(0));
}

// More streams than are told apart, in two contexts: those of both are waited for.
static void streams_beyond_the_table_are_drained_with_their_contexts(void)
{
        uintptr_t other, streams[100];

        begin();
        stage_gate(0, TAKT_GATE_OPEN);
        for (int i = 0; i < 99; i++)
                launch(streams[i] = new_stream());
        MUST(cuCtxCreate_v2, &other, 0, 0);
        launch(streams[99] = new_stream());
        for (int i = 0; i < 98; i++)
                stage.fake->finish(streams[i]);
        stage.fake->finish(streams[99]);
        stage_gate(0, TAKT_GATE_CLOSED);
        stage_nudge();
        AWAIT(stage.fake->count("cuCtxSynchronize", NULL) > 1);
        CHECK(stage_busy(0)); // one of the first context's streams still runs
        stage.fake->finish(streams[98]);
        AWAIT(!stage_busy(0));
}

static void a_default_stream_is_another_one_in_each_context(void)
{
        uintptr_t other;

        begin();
        launch(0);
        MUST(cuCtxCreate_v2, &other, 0, 0);
        stage.fake->manual(0);
        launch(0);
        MUST(cuStreamSynchronize, (uintptr_t)0);
        CHECK(stage_busy(0));
        MUST(cuCtxSetCurrent, context);
        stage.fake->finish(0);
        MUST(cuStreamSynchronize, (uintptr_t)0);
        CHECK(!stage_busy(0));
}

static void a_context_that_goes_takes_its_work_with_it(void)
{
        uintptr_t other;

        begin();
        MUST(cuCtxCreate_v2, &other, 0, 0);
        launch(0);
        CHECK(stage_busy(0));
        MUST(cuCtxDestroy_v2, other);
        CHECK(!stage_busy(0));
}

static int was_busy;
static _Atomic int is_gone, n_late;
static uintptr_t last_stream;

static int goes(const uintptr_t *a)
{
        (void)a;
        was_busy = (int)stage_busy(0);
        return 0;
}

// The driver waits for its work, and that may take long.
static void a_context_that_goes_is_busy_until_it_is_gone(void)
{
        uintptr_t other;

        begin();
        MUST(cuCtxCreate_v2, &other, 0, 0);
        launch(new_stream());
        launch(0);
        stage.fake->set("cuCtxDestroy_v2", goes);
        MUST(cuCtxDestroy_v2, other);
        CHECK(was_busy && !stage_busy(0));
        MUST(cuCtxSetCurrent, context);
        launch(0);
        stage.fake->set("cuDevicePrimaryCtxReset_v2", goes);
        was_busy = 0;
        MUST(cuDevicePrimaryCtxReset_v2, 0);
        CHECK(was_busy && !stage_busy(0));
}

static uintptr_t many[70];

static int goes_beside_many(const uintptr_t *a)
{
        unsigned before = stage.fake->count("cuCtxSynchronize", NULL);

        (void)a;
        MUST(cuCtxSetCurrent, context);
        for (int i = 0; i < 70; i++)
                launch(many[i] = new_stream());
        stage_gate(0, TAKT_GATE_CLOSED);
        stage_nudge();
        AWAIT(stage.fake->count("cuCtxSynchronize", NULL) > before);
        for (int i = 0; i < 70; i++)
                stage.fake->finish(many[i]);
        MUST(cuCtxSynchronize);
        was_busy = (int)stage_busy(0);
        return 0;
}

// More streams than are told apart, while a context goes: its work is neither taken for theirs nor waited
// for.
static void a_context_that_goes_is_busy_beside_many_streams(void)
{
        uintptr_t other;

        begin();
        stage_gate(0, TAKT_GATE_OPEN);
        MUST(cuCtxCreate_v2, &other, 0, 0);
        launch(0);
        stage.fake->set("cuCtxDestroy_v2", goes_beside_many);
        MUST(cuCtxDestroy_v2, other);
        CHECK(was_busy && !stage_busy(0) && stage.fake->intrusions() == 0);
}

// One that is not destroyed after all; and none at all, which is not the current one.
static void a_context_that_stays_keeps_its_work(void)
{
        begin();
        stage.fake->set("cuCtxDestroy_v2", invalid);
        launch(0);
        CHECK(CALL(cuCtxDestroy_v2, NULL) == 1 && stage_busy(0));
        CHECK(CALL(cuCtxDestroy_v2, context) == 1 && stage_busy(0));
        stage.fake->finish(0);
        MUST(cuCtxSynchronize);
        CHECK(!stage_busy(0));
}

static int goes_when_done(const uintptr_t *a)
{
        is_gone = 1;
        (void)a;
        stage.fake->finish(last_stream);
        return 0;
}

static int counts_late(const uintptr_t *a)
{
        (void)a;
        n_late += is_gone;
        return 0;
}

// Our event goes with its context, while our thread waits for it.
static void an_event_that_went_with_its_context_is_left(void)
{
        uintptr_t other;

        begin();
        stage_gate(0, TAKT_GATE_OPEN);
        MUST(cuCtxCreate_v2, &other, 0, 0);
        launch(last_stream = new_stream());
        stage.fake->set("cuEventDestroy_v2", counts_late);
        stage.fake->set("cuCtxDestroy_v2", goes_when_done);
        stage_gate(0, TAKT_GATE_CLOSED);
        stage_nudge();
        AWAIT(stage.fake->count("cuEventSynchronize", NULL) == 1);
        MUST(cuCtxDestroy_v2, other);
        CHECK(!stage_busy(0));
        usleep(200000);
        CHECK(n_late == 0);
}

// The default stream is the one of a single context again.
static void a_context_that_went_costs_nothing_more(void)
{
        uintptr_t other;
        unsigned before;

        begin();
        MUST(cuCtxCreate_v2, &other, 0, 0);
        MUST(cuCtxDestroy_v2, other);
        stage.fake->set("cuCtxCreate_v2", invalid);
        CHECK(CALL(cuCtxCreate_v2, &other, 0, 0) == 1);
        MUST(cuCtxSetCurrent, context);
        launch(0);
        before = stage.fake->count("cuCtxGetCurrent", NULL);
        launch(0);
        CHECK(stage.fake->count("cuCtxGetCurrent", NULL) == before);
}

static void *launches_without_a_context(void *stream)
{
        CHECK(launch((uintptr_t)stream) == 0);
        return NULL;
}

// The stream says which context is meant.
static void work_needs_no_current_context(void)
{
        uintptr_t stream;
        pthread_t thread;

        begin();
        stream = new_stream();
        stage_gate(0, TAKT_GATE_CLOSED);
        pthread_create(&thread, NULL, launches_without_a_context, (void *)stream);
        AWAIT(stage_want(0) == 1);
        stage_gate(0, TAKT_GATE_OPEN);
        pthread_join(thread, NULL);
        CHECK(stage_busy(0));
        closes_and_drains(stream);
}

// The page of a new session has not heard yet of what is in flight.
static void whoever_turns_back_at_the_gate_forgets_nothing(void)
{
        uintptr_t stream;
        pthread_t thread;

        begin();
        stream = new_stream();
        launch(stream);
        atomic_store(&stage_session()->client->lane[0].activity, takt_activity_idle(stage_now()));
        stage_gate(0, TAKT_GATE_CLOSED);
        pthread_create(&thread, NULL, launches_on, (void *)new_stream());
        AWAIT(stage.fake->count("cuEventSynchronize", NULL) || stage_want(0));
        CHECK(stage_busy(0));
        stage.fake->finish(stream);
        AWAIT(!stage_busy(0));
        stage_gate(0, TAKT_GATE_OPEN);
        pthread_join(thread, NULL);
}

// The second device is not Takt's: nothing of it waits or is noted.
static void another_device_is_left_alone(void)
{
        begin();
        stage_gate(0, TAKT_GATE_CLOSED);
        stage_context(1);
        for (int i = 0; i < 10; i++)
                CHECK(launch(0) == 0);
        CHECK(!stage_busy(0) && !stage_want(0));
}

static void two_devices_have_two_gates(void)
{
        stage.lane[1] = 1;
        begin();
        stage_gate(0, TAKT_GATE_CLOSED);
        stage_context(1);
        launch(0);
        CHECK(!stage_busy(0) && stage_busy(1));
        stage.fake->finish(0);
        MUST(cuCtxSynchronize);
        CHECK(!stage_busy(1));
}

static int copies(uintptr_t stream)
{
        return CALL(cuMemcpyHtoDAsync_v2, (uintptr_t)8, (uintptr_t)8, 2 * SMALL_BYTES, stream);
}

static void *copies_from_afar(void *stream)
{
        stage_context(1);
        CHECK(copies((uintptr_t)stream) == 0);
        return NULL;
}

// A copy may go to a stream of another device than the current one: it is that device's work.
static void work_is_of_its_streams_device(void)
{
        uintptr_t here, there;
        pthread_t thread;
        unsigned before;

        begin();
        here = new_stream();
        stage_context(1);
        there = new_stream();
        stage_gate(0, TAKT_GATE_CLOSED);
        before = stage.fake->count("cuMemcpyHtoDAsync_v2", NULL);
        pthread_create(&thread, NULL, copies_from_afar, (void *)here);
        AWAIT(stage_want(0) == 1);
        MUST(cuCtxSetCurrent, context);
        CHECK(copies(there) == 0);
        CHECK(stage.fake->count("cuMemcpyHtoDAsync_v2", NULL) == before + 1 && stage_want(0) == 1);
        stage_gate(0, TAKT_GATE_OPEN);
        pthread_join(thread, NULL);
        CHECK(stage.fake->count("cuMemcpyHtoDAsync_v2", NULL) == before + 2 && stage_busy(0));
}

// Nor is it done with the current context's.
static void work_is_of_its_streams_context(void)
{
        uintptr_t other, stream;

        begin();
        MUST(cuCtxCreate_v2, &other, 0, 0);
        stream = new_stream();
        MUST(cuCtxSetCurrent, context);
        CHECK(copies(stream) == 0);
        MUST(cuCtxSynchronize);
        CHECK(stage_busy(0));
        MUST(cuCtxSetCurrent, other);
        stage.fake->finish(stream);
        MUST(cuCtxSynchronize);
        CHECK(!stage_busy(0));
}

// Its markers are of its stream's context too: what is in flight is bounded all the same.
static void work_of_another_context_is_bounded(void)
{
        uintptr_t other, stream;
        void *current;

        begin();
        MUST(cuCtxCreate_v2, &other, 0, 0);
        stream = new_stream();
        MUST(cuCtxSetCurrent, context);
        stage_bound(0, 30000);
        stage_gate(0, TAKT_GATE_OPEN);
        CHECK(copies(stream) == 0);
        CHECK(stage.fake->count("cuEventRecord", NULL) == 1 && !stage.fake->intrusions());
        stage.fake->manual(0);
        stage.fake->finish(stream);
        CHECK(copies(stream) == 0);
        CHECK(stage.fake->count("cuEventSynchronize", NULL) > 0);
        MUST(cuCtxGetCurrent, &current);
        CHECK(current == context); // as before
}

// Begun with the green context current, and gone on with its primary one.
static void work_of_a_green_context_is_bounded(void)
{
        uintptr_t green, as_context, stream;

        begin();
        MUST(cuGreenCtxCreate, &green, (uintptr_t)0x5550, 0, 1);
        MUST(cuCtxFromGreenCtx, &as_context, green);
        MUST(cuGreenCtxStreamCreate, &stream, green, 1, 0);
        MUST(cuCtxSetCurrent, as_context);
        stage_bound(0, 40000); // two markers of a piece each
        stage_gate(0, TAKT_GATE_OPEN);
        stage.fake->manual(0);
        CHECK(copies(stream) == 0);
        MUST(cuCtxSetCurrent, context);
        CHECK(copies(stream) == 0);
        CHECK(stage.fake->count("cuEventRecord", NULL) == 2 && !stage.fake->intrusions());
}

static void *launches_once(void *arg)
{
        MUST(cuCtxSetCurrent, context);
        CHECK(launch((uintptr_t)arg) == 0);
        return NULL;
}

// The gate closes while a thread waits inside for work in flight: what it submits then must wait at the gate.
static void a_gate_that_closes_while_one_waits_for_room_is_closed(void)
{
        pthread_t thread;
        unsigned before;

        begin();
        stage_bound(0, 30000);
        stage_gate(0, TAKT_GATE_OPEN);
        launch(0);
        before = stage.fake->count("cuLaunchKernel", NULL);
        pthread_create(&thread, NULL, launches_once, NULL);
        AWAIT(stage.fake->count("cuEventSynchronize", NULL) == 1); // no room yet
        stage_gate(0, TAKT_GATE_CLOSED);
        stage.fake->finish(0);
        AWAIT(stage_want(0) == 1);
        CHECK(stage.fake->count("cuLaunchKernel", NULL) == before && !stage_busy(0));
        stage_gate(0, TAKT_GATE_OPEN);
        pthread_join(thread, NULL);
        CHECK(stage.fake->count("cuLaunchKernel", NULL) == before + 1);
}

static _Atomic int is_held, sleeper;

static int held(const uintptr_t *a)
{
        (void)a;
        while (is_held)
                sched_yield();
        return 0;
}

// A thread that is let in, and does not come to the driver before it is let go.
static pthread_t held_inside(uintptr_t stream)
{
        unsigned before = stage.fake->count("cuLaunchKernel", NULL);
        pthread_t thread;

        is_held = 1;
        stage.fake->set("cuLaunchKernel", held);
        pthread_create(&thread, NULL, launches_once, (void *)stream);
        AWAIT(stage.fake->count("cuLaunchKernel", NULL) > before);
        return thread;
}

static void a_stream_to_which_somebody_submits_is_not_done(void)
{
        uintptr_t stream;
        pthread_t thread;

        begin();
        stage_gate(0, TAKT_GATE_OPEN);
        stream = new_stream();
        thread = held_inside(stream);
        MUST(cuStreamSynchronize, stream);
        MUST(cuCtxSynchronize);
        MUST(cuEventQuery, (uintptr_t)1);
        CHECK(stage_busy(0));
        is_held = 0;
        pthread_join(thread, NULL);
        MUST(cuStreamSynchronize, stream);
        CHECK(!stage_busy(0));
}

static void *clears_once(void *stream)
{
        MUST(cuCtxSetCurrent, context);
        sleeper = gettid();
        MUST(cuMemsetD8Async, (uintptr_t)0, 0, (size_t)4, (uintptr_t)stream);
        return NULL;
}

static int is_asleep(pid_t thread)
{
        char path[64], state = 0;
        FILE *file;

        snprintf(path, sizeof path, "/proc/self/task/%d/stat", thread);
        file = fopen(path, "r");
        CHECK(file && fscanf(file, "%*d %*s %c", &state) == 1);
        fclose(file);
        return state == 'S';
}

// The gate closes behind a thread that is on its way to the driver: the device is not given back before its
// work is done.
static void a_closed_gate_waits_for_who_is_inside(void)
{
        pthread_t inside, outside;
        uintptr_t stream;

        begin();
        stage_gate(0, TAKT_GATE_OPEN);
        stream = new_stream();
        inside = held_inside(stream);
        stage_gate(0, TAKT_GATE_CLOSED);
        pthread_create(&outside, NULL, clears_once, (void *)stream);
        AWAIT(sleeper && is_asleep(sleeper));
        CHECK(stage_busy(0) && !stage_want(0));
        is_held = 0;
        pthread_join(inside, NULL);
        AWAIT(stage_want(0) == 1);
        CHECK(!stage_busy(0));
        stage_gate(0, TAKT_GATE_OPEN);
        pthread_join(outside, NULL);
}

static float launch_ms;

// As long as what was launched since it was asked last.
static int elapses(const uintptr_t *a)
{
        static unsigned then;
        unsigned now = stage.fake->count("cuLaunchKernel", NULL);

        *(float *)a[0] = launch_ms * (float)(now - then);
        then = now;
        return 0;
}

static unsigned waits_in(unsigned n_launches)
{
        unsigned before = stage.fake->count("cuEventSynchronize", NULL);

        while (n_launches--)
                CHECK(launch(0) == 0);
        return stage.fake->count("cuEventSynchronize", NULL) - before;
}

// A piece is half the bound: 50 launches as long as one is taken to be 20 us, and as many as fit once it is
// known.
static void what_launches_take_is_learned(void)
{
        begin();
        stage.fake->manual(0);
        stage.fake->set("cuEventElapsedTime", elapses);
        stage_bound(0, 2000000);
        stage_gate(0, TAKT_GATE_OPEN);
        launch_ms = .001f;
        waits_in(5000);
        CHECK(waits_in(10000) < 16); // of 1,000 each
        launch_ms = .5f;
        waits_in(20000);
        CHECK(waits_in(100) >= 30); // of two each
}

static unsigned reads_in_flight(unsigned most, size_t bytes)
{
        unsigned n = 0, waits = stage.fake->count("cuEventSynchronize", NULL);

        for (; n < most && stage.fake->count("cuEventSynchronize", NULL) == waits; n++)
                MUST(cuMemcpyDtoHAsync_v2, (uintptr_t)0, (uintptr_t)0, bytes, (uintptr_t)0);
        return n;
}

// A step's tokens are read behind its graph at once, however much is in flight: the engine hears of the
// step's end, not of its graph's. Not so a large copy, nor as many small ones as somebody likes.
static void a_steps_tokens_are_read_at_once(void)
{
        begin();
        stage.fake->manual(0);
        stage.fake->set("cuEventElapsedTime", elapses);
        stage_bound(0, 2000000);
        stage_gate(0, TAKT_GATE_OPEN);
        MUST(cuGraphLaunch, (uintptr_t)0x7000, (uintptr_t)0);
        CHECK(reads_in_flight(16, SMALL_BYTES) == 16);
        MUST(cuMemcpyDtoH_v2, (uintptr_t)0, (uintptr_t)0, 4 * SMALL_BYTES); // waits itself
        CHECK(stage.fake->count("cuEventSynchronize", NULL) == 0 && !stage_busy(0));
        MUST(cuGraphLaunch, (uintptr_t)0x8000, (uintptr_t)0);
        CHECK(reads_in_flight(16, SMALL_BYTES + 1) == 1);
        MUST(cuCtxSynchronize);
        MUST(cuGraphLaunch, (uintptr_t)0x9000, (uintptr_t)0);
        CHECK(reads_in_flight(40, SMALL_BYTES) == 17);
        launch_ms = .1f; // as long as a copy is then taken to be
        waits_in(5000);
        MUST(cuCtxSynchronize);
        MUST(cuGraphLaunch, (uintptr_t)0xa000, (uintptr_t)0);
        CHECK(reads_in_flight(1000, SMALL_BYTES) == 17);
}

static int copies_a_little(uintptr_t stream)
{
        return CALL(cuMemcpyHtoDAsync_v2, (uintptr_t)8, (uintptr_t)8, SMALL_BYTES, stream);
}

static void *copies_a_little_more(void *stream)
{
        MUST(cuCtxSetCurrent, context);
        CHECK(copies_a_little((uintptr_t)stream) == 0);
        return NULL;
}

// So many at a closed gate, and then one that waits until it opens.
static void sixteen_go_by_and_one_waits(uintptr_t stream)
{
        unsigned before = stage.fake->count("cuMemcpyHtoDAsync_v2", NULL);
        pthread_t thread;

        stage_gate(0, TAKT_GATE_CLOSED);
        for (int i = 0; i < 16; i++)
                CHECK(copies_a_little(stream) == 0);
        CHECK(!stage_busy(0) && stage_want(0) == 0);
        pthread_create(&thread, NULL, copies_a_little_more, (void *)stream);
        AWAIT(stage_want(0) == 1);
        CHECK(stage.fake->count("cuMemcpyHtoDAsync_v2", NULL) == before + 16);
        stage_gate(0, TAKT_GATE_OPEN);
        pthread_join(thread, NULL);
        CHECK(stage.fake->count("cuMemcpyHtoDAsync_v2", NULL) == before + 17 && stage_busy(0));
}

// So a step's inputs are there when its turn comes. But nobody copies for ever without a turn.
static void small_copies_need_no_turn(void)
{
        uintptr_t stream;

        begin();
        stage.fake->manual(0);
        stream = new_stream();
        sixteen_go_by_and_one_waits(stream);
        launch(stream);
        MUST(cuCtxSynchronize);
        sixteen_go_by_and_one_waits(stream);
}

// So its tokens are read behind its kernels, though the gate has closed while those run.
static void reads_need_no_turn_behind_kernels_that_run(void)
{
        uintptr_t stream;

        begin();
        stream = new_stream();
        stage_gate(0, TAKT_GATE_OPEN);
        launch(stream);
        stage_gate(0, TAKT_GATE_CLOSED);
        MUST(cuMemcpyDtoHAsync_v2, (uintptr_t)8, (uintptr_t)8, SMALL_BYTES, stream);
        CHECK(stage_busy(0) && stage_want(0) == 0);
        stage.fake->finish(stream);
        MUST(cuStreamSynchronize, stream);
        CHECK(!stage_busy(0));
}

// While others have a seat: only the first submission of a burst is looked up.
static void one_more_on_the_same_stream_is_let_in_at_once(void)
{
        unsigned before;

        begin();
        stage.fake->manual(0);
        stage_bound(0, 2000000);
        stage_gate(0, TAKT_GATE_OPEN);
        launch(0);
        before = stage.fake->count("cuCtxGetCurrent", NULL);
        launch(0);
        CHECK(stage.fake->count("cuCtxGetCurrent", NULL) == before);
        launch(new_stream());
        CHECK(stage.fake->count("cuCtxGetCurrent", NULL) > before);
        MUST(cuCtxSynchronize);
        before = stage.fake->count("cuCtxGetCurrent", NULL);
        launch(0);
        CHECK(stage.fake->count("cuCtxGetCurrent", NULL) > before && stage_busy(0));
}

// Many threads at a closed gate; it opens for all of them at once.
static void a_grant_lets_everybody_in(void)
{
        pthread_t threads[8];

        begin();
        stage.fake->manual(0);
        stage_gate(0, TAKT_GATE_CLOSED);
        for (int i = 0; i < 8; i++)
                pthread_create(&threads[i], NULL, launches_once, (void *)new_stream());
        AWAIT(stage_want(0) == 8);
        stage_gate(0, TAKT_GATE_OPEN);
        for (int i = 0; i < 8; i++)
                pthread_join(threads[i], NULL);
        CHECK(stage_want(0) == 0);
}

// A kick that was lost is given again by whoever waits on.
static void whoever_waits_kicks_again(void)
{
        pthread_t thread;
        uint64_t count;

        begin();
        stage_gate(0, TAKT_GATE_CLOSED);
        pthread_create(&thread, NULL, launches_once, NULL);
        for (int i = 0; i < 3; i++)
                AWAIT(read(stage_session()->kick, &count, sizeof count) == sizeof count);
        stage_gate(0, TAKT_GATE_FREE);
        pthread_join(thread, NULL);
}

static void *polls(void *stop)
{
        MUST(cuCtxSetCurrent, context);
        while (!*(_Atomic int *)stop)
                CALL(cuEventQuery, (uintptr_t)1);
        return NULL;
}

// Threads submit while another one asks after all streams: at rest, what runs is known.
static void what_runs_is_known_whatever_others_ask(void)
{
        static _Atomic int stop;
        uintptr_t stream;
        pthread_t thread;

        begin();
        stream = new_stream();
        pthread_create(&thread, NULL, polls, &stop);
        for (int i = 0; i < 20000; i++) {
                launch(stream);
                stage.fake->finish(stream);
        }
        launch(stream); // stays
        stop = 1;
        pthread_join(thread, NULL);
        launch(stream);
        CHECK(stage_busy(0));
        stage.fake->finish(stream);
        MUST(cuStreamSynchronize, stream);
        CHECK(!stage_busy(0));
}

static _Atomic int n_asked, is_through;

// The late one runs on when what came before it is done.
static int says_at_last(const uintptr_t *a)
{
        (void)a;
        if (++n_asked == 1)
                return 600;
        AWAIT(is_through);
        return 0;
}

// A thread passed the gate while nobody else was there, lost its core, and submits when another waits already
// for the stream's work.
static void what_comes_late_is_waited_for(void)
{
        void *driver = dlopen("libcuda-driver.so.1", RTLD_NOW | RTLD_NOLOAD);
        uintptr_t stream, other;
        pthread_t thread;
        int n;

        begin();
        stream = new_stream();
        other = new_stream();
        launch(stream);
        stage_gate(0, TAKT_GATE_CLOSED);
        pthread_create(&thread, NULL, launches_on, (void *)other);
        AWAIT(stage.fake->count("cuEventSynchronize", NULL) == 1);
        ((int (*)())dlsym(driver, "cuLaunchKernel"))((uintptr_t)1, 1, 1, 1, 1, 1, 1, 0, stream, NULL, NULL);
        stage.fake->set("cuStreamQuery", says_at_last);
        stage.fake->finish(stream);
        AWAIT(n_asked == 2);
        CHECK(stage_busy(0) && stage.fake->count("cuEventSynchronize", NULL) == 2);
        is_through = 1;
        AWAIT(!stage_busy(0));
        // Beside others nobody is late, and the driver is not asked.
        n = n_asked;
        stage_bound(0, 1000000);
        stage_gate(0, TAKT_GATE_OPEN);
        pthread_join(thread, NULL);
        closes_and_drains(other);
        CHECK(n_asked == n);
}

static const struct test tests[] = {
        TEST(a_failed_synchronous_copy_ends_nothing),
        TEST(small_copies_need_no_turn),
        TEST(reads_need_no_turn_behind_kernels_that_run),
        TEST(what_broke_is_not_in_flight),
        TEST(a_synchronous_copy_ends_what_runs_before_it),
        TEST(each_stream_ends_by_itself),
        TEST(an_event_ends_the_streams_that_are_done),
        TEST(a_query_that_says_no_ends_nothing),
        TEST(a_destroyed_streams_work_goes_on),
        TEST(a_destroyed_streams_work_that_is_done_is_done),
        TEST(a_thread_that_ended_is_not_the_next_one),
        TEST(every_kind_of_stream_is_drained),
        TEST(a_green_contexts_stream_is_drained),
        TEST(a_green_contexts_stream_waits_at_the_gate),
        TEST(a_primary_context_that_is_done_ends_green_ones),
        TEST(a_green_context_is_never_current_to_us),
        TEST(a_stream_that_lost_its_green_context_runs_on),
        TEST(a_green_context_that_goes_leaves_its_work_behind),
        TEST(a_broken_context_does_not_keep_the_device),
        TEST(streams_beyond_the_table_are_drained_with_their_contexts),
        TEST(a_default_stream_is_another_one_in_each_context),
        TEST(a_context_that_goes_takes_its_work_with_it),
        TEST(a_context_that_goes_is_busy_until_it_is_gone),
        TEST(a_context_that_goes_is_busy_beside_many_streams),
        TEST(a_context_that_stays_keeps_its_work),
        TEST(an_event_that_went_with_its_context_is_left),
        TEST(a_context_that_went_costs_nothing_more),
        TEST(work_needs_no_current_context),
        TEST(whoever_turns_back_at_the_gate_forgets_nothing),
        TEST(another_device_is_left_alone),
        TEST(two_devices_have_two_gates),
        TEST(work_is_of_its_streams_device),
        TEST(work_is_of_its_streams_context),
        TEST(work_of_another_context_is_bounded),
        TEST(work_of_a_green_context_is_bounded),
        TEST(a_gate_that_closes_while_one_waits_for_room_is_closed),
        TEST(a_stream_to_which_somebody_submits_is_not_done),
        TEST(a_closed_gate_waits_for_who_is_inside),
        TEST(what_launches_take_is_learned),
        TEST(a_steps_tokens_are_read_at_once),
        TEST(one_more_on_the_same_stream_is_let_in_at_once),
        TEST(a_grant_lets_everybody_in),
        TEST(whoever_waits_kicks_again),
        TEST(what_runs_is_known_whatever_others_ask),
        TEST(what_comes_late_is_waited_for),
};
STAGE_MAIN(tests)
