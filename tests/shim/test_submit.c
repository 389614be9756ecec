// Every hooked submission, on the fake driver: its arguments arrive as they were given and its answer comes
// back; at a closed gate it waits in the calling thread, and nothing reaches the driver (small copies, that
// need no turn, are test_gate.c's). Everything else that is hooked never waits.
#include <string.h>
#include <unistd.h>
#include "stage.h"

enum kind { SUBMISSION, COMPLETION, OTHER_KIND };

static const struct hook {
        const char *name;
        enum kind kind;
        int n;
        const char *stream; // as it is written in hooks.inc
} hooks[] = {
#define SUBMIT(name, n, stream) {#name, SUBMISSION, n, #stream},
#define SUBMIT_COPY(name, n, stream) {#name, SUBMISSION, n, #stream},
#define SUBMIT_GRAPH(name, n, stream) {#name, SUBMISSION, n, #stream},
#define SUBMIT_SYNC(name, n, stream) {#name, SUBMISSION, n, #stream},
#define SUBMIT_SOON(name, n, stream) {#name, SUBMISSION, n, #stream},
#define SYNC(name, n, stream) {#name, COMPLETION, n, #stream},
#define OTHER(name) {#name, OTHER_KIND, 0, ""},
#include "shim/cuda/hooks.inc"
};

#define FOR_EACH_HOOK(hook, what)                                                                            \
        for (const struct hook *hook = hooks; hook < hooks + sizeof hooks / sizeof *hooks; hook++)           \
                if (hook->kind == what)

static uintptr_t stream_for_all, config[16];

// Arguments that can be told apart; where a stream belongs, the one of the test's own (0: the default
// stream).
static void arguments(const struct hook *hook, uintptr_t stream, uintptr_t ret[11])
{
        const char *at = strstr(hook->stream, "AT(");

        for (int i = 0; i < 11; i++)
                ret[i] = 0x1000000 + 0x111 * (uintptr_t)i; // no small copy
        if (at)
                ret[at[3] - '0'] = stream;
        if (strstr(hook->stream, "CONFIG")) {
                config[4] = stream;
                ret[0] = (uintptr_t)config;
        }
}

static int call(const struct hook *hook, const uintptr_t *a)
{
        int (*entry)() = (int (*)())dlsym(stage.library, hook->name);

        switch (hook->n) { // as a host calls it: no argument too many
        case 0:
                return entry();
        case 1:
                return entry(a[0]);
        case 2:
                return entry(a[0], a[1]);
        case 3:
                return entry(a[0], a[1], a[2]);
        case 4:
                return entry(a[0], a[1], a[2], a[3]);
        case 5:
                return entry(a[0], a[1], a[2], a[3], a[4]);
        case 6:
                return entry(a[0], a[1], a[2], a[3], a[4], a[5]);
        case 8:
                return entry(a[0], a[1], a[2], a[3], a[4], a[5], a[6], a[7]);
        case 9:
                return entry(a[0], a[1], a[2], a[3], a[4], a[5], a[6], a[7], a[8]);
        case 10:
                return entry(a[0], a[1], a[2], a[3], a[4], a[5], a[6], a[7], a[8], a[9]);
        case 11:
                return entry(a[0], a[1], a[2], a[3], a[4], a[5], a[6], a[7], a[8], a[9], a[10]);
        default:
                CHECK(!"so many arguments");
                return 0;
        }
}

static void begin(void)
{
        stage_context(0);
        MUST(cuStreamCreate, &stream_for_all, 1);
        launch(0);
        MUST(cuCtxSynchronize);
        CHECK(stage.n_sessions == 1);
}

static int says_77(const uintptr_t *a)
{
        (void)a;
        return 77;
}

static void passes_through(const struct hook *hook, uintptr_t stream)
{
        uintptr_t given[11], arrived[11];
        unsigned before = stage.fake->count(hook->name, NULL);

        arguments(hook, stream, given);
        stage.fake->set(hook->name, says_77);
        CHECK(call(hook, given) == 77);
        stage.fake->set(hook->name, NULL);
        if (stage.fake->count(hook->name, arrived) != before + 1 ||
            memcmp(given, arrived, (size_t)hook->n * sizeof *given))
                printf("%s does not pass its arguments on\n", hook->name), exit(1);
}

// Through the fast path, the slow one, and beside others.
static void arguments_arrive_and_answers_come_back(void)
{
        begin();
        for (int state = TAKT_GATE_OPEN; state <= TAKT_GATE_FREE; state++) {
                stage_gate(0, (enum takt_gate_state)state);
                stage_bound(0, 2000000);
                FOR_EACH_HOOK(hook, SUBMISSION)
                {
                        passes_through(hook, stream_for_all);
                        passes_through(hook, stream_for_all);
                        passes_through(hook, 0);
                        passes_through(hook, 2);
                }
                MUST(cuCtxSynchronize);
        }
}

static const struct hook *called;
static uintptr_t called_with[11];

static void *call_in_thread(void *context)
{
        MUST(cuCtxSetCurrent, context);
        call(called, called_with);
        return NULL;
}

static void waits_at_a_closed_gate(const struct hook *hook, void *context, uintptr_t stream)
{
        pthread_t thread;
        unsigned before = stage.fake->count(hook->name, NULL);

        called = hook;
        arguments(hook, stream, called_with);
        pthread_create(&thread, NULL, call_in_thread, context);
        AWAIT(stage_want(0) == 1);
        CHECK(stage.fake->count(hook->name, NULL) == before);
        CHECK(!stage_busy(0)); // nothing was submitted, so nothing keeps the device
        stage_gate(0, TAKT_GATE_OPEN);
        pthread_join(thread, NULL);
        CHECK(stage.fake->count(hook->name, NULL) == before + 1);
        MUST(cuCtxSynchronize);
        AWAIT(!stage_busy(0) || (stage_nudge(), 0));
        stage_gate(0, TAKT_GATE_CLOSED);
}

static void every_submission_waits_at_a_closed_gate(void)
{
        void *context;

        begin();
        CALL(cuCtxGetCurrent, &context);
        stage_gate(0, TAKT_GATE_CLOSED);
        FOR_EACH_HOOK(hook, SUBMISSION)
        {
                waits_at_a_closed_gate(hook, context, stream_for_all);
                if (strstr(hook->stream, "AT(") || strstr(hook->stream, "CONFIG")) {
                        waits_at_a_closed_gate(hook, context, 0);
                        waits_at_a_closed_gate(hook, context, 1);
                        waits_at_a_closed_gate(hook, context, 2);
                }
        }
}

// Whoever waits for an event, a stream or a callback while another thread stands at the gate must come
// through.
static void nothing_else_waits_at_a_closed_gate(void)
{
        static const char *const order[] = {"cuEventRecord",
                                            "cuEventRecord_ptsz",
                                            "cuEventRecordWithFlags",
                                            "cuEventRecordWithFlags_ptsz",
                                            "cuStreamWaitEvent",
                                            "cuStreamWaitEvent_ptsz",
                                            "cuLaunchHostFunc",
                                            "cuLaunchHostFunc_ptsz",
                                            "cuStreamAddCallback",
                                            "cuStreamAddCallback_ptsz",
                                            "cuStreamWaitValue32_v2",
                                            "cuStreamWaitValue64_v2",
                                            "cuStreamWriteValue32_v2",
                                            "cuStreamWriteValue64_v2",
                                            "cuStreamBatchMemOp_v2",
                                            "cuSignalExternalSemaphoresAsync",
                                            "cuWaitExternalSemaphoresAsync",
                                            "cuCtxRecordEvent",
                                            "cuCtxWaitEvent",
                                            "cuGreenCtxRecordEvent",
                                            "cuGreenCtxWaitEvent",
                                            "cuMemFreeHost",
                                            "cuMemHostUnregister",
                                            "cuModuleUnload",
                                            "cuStreamCreate",
                                            "cuEventDestroy_v2"};
        uintptr_t a[11];

        begin();
        stage_gate(0, TAKT_GATE_CLOSED);
        FOR_EACH_HOOK(hook, COMPLETION)
        {
                arguments(hook, stream_for_all, a);
                call(hook, a);
        }
        for (size_t i = 0; i < sizeof order / sizeof *order; i++) {
                const struct hook plain = {order[i], OTHER_KIND, 5, ""};
                uintptr_t out[4] = {0};

                arguments(&plain, 0, a);
                a[0] = (uintptr_t)out;
                stage.fake->set(order[i], says_77);
                CHECK(call(&plain, a) == 77);
        }
        MUST(cuMemFree_v2, (uintptr_t)0x1234);
        MUST(cuMemFreeAsync, (uintptr_t)0x1234, stream_for_all);
        CHECK(stage_want(0) == 0);
}

// The driver of an old machine: what it has not is not there.
static void a_function_that_the_driver_lacks_answers_so(void)
{
        begin();
        CHECK(CALL(cuGetProcAddress, "cuNoSuchThing", &(void *){0}, 13000, (uint64_t)0) == 0);
        CHECK(CALL(cuGetProcAddress_v2, "cuNoSuchThing", &(void *){0}, 13000, (uint64_t)0, NULL) == 500);
}

// A host's mistake gets the driver's answer, not a crash of ours.
static void null_configuration_is_the_drivers_business(void)
{
        begin();
        stage.fake->set("cuLaunchKernelEx", says_77);
        stage.fake->set("cuLaunchKernelEx_ptsz", says_77);
        CHECK(CALL(cuLaunchKernelEx, NULL, NULL, NULL, NULL) == 77);
        CHECK(CALL(cuLaunchKernelEx_ptsz, NULL, NULL, NULL, NULL) == 77);
}

static int pass_1, pass_2;

static int blocks_inside(const uintptr_t *a)
{
        char byte;

        (void)a;
        CHECK(write(pass_1, "x", 1) == 1 && read(pass_2, &byte, 1) == 1);
        return 0;
}

static void *goes_inside(void *hook)
{
        MUST(cuCtxSetCurrent, (void *)called_with[10]);
        call(hook, called_with);
        return NULL;
}

// No lock of ours is held while the driver is called: with one thread inside a submission, all the others go
// on.
static void others_go_on_while_one_is_in_the_driver(void)
{
        static const struct hook inside[] = {{"cuLaunchKernel", SUBMISSION, 10, "AT(8)"},
                                             {"cuMemcpyDtoH_v2", SUBMISSION, 3, ""},
                                             {"cuMemAlloc_v2", OTHER_KIND, 2, ""},
                                             {"cuMemFree_v2", OTHER_KIND, 1, ""},
                                             {"cuStreamSynchronize", COMPLETION, 1, "AT(0)"},
                                             {"cuCtxSynchronize", COMPLETION, 0, ""}};
        int there[2], back[2];
        uintptr_t context, other, pointer;
        char byte;

        begin();
        MUST(cuCtxGetCurrent, &context);
        CHECK(pipe(there) == 0 && pipe(back) == 0);
        pass_1 = there[1], pass_2 = back[0];
        for (size_t i = 0; i < sizeof inside / sizeof *inside; i++) {
                pthread_t thread;

                stage_gate(0, i % 2 ? TAKT_GATE_OPEN : TAKT_GATE_FREE);
                arguments(&inside[i], stream_for_all, called_with);
                called_with[0] = (uintptr_t)&other;
                called_with[10] = context;
                stage.fake->set(inside[i].name, blocks_inside);
                pthread_create(&thread, NULL, goes_inside, (void *)&inside[i]);
                CHECK(read(there[0], &byte, 1) == 1);
                stage.fake->set(inside[i].name, NULL);
                launch(0);
                launch(stream_for_all);
                MUST(cuMemAlloc_v2, &pointer, (size_t)1 << 20);
                MUST(cuMemFree_v2, pointer);
                MUST(cuStreamCreate, &other, 1);
                launch(other);
                MUST(cuStreamSynchronize, other);
                MUST(cuStreamDestroy_v2, other);
                MUST(cuCtxSynchronize);
                CHECK(write(back[1], "x", 1) == 1);
                pthread_join(thread, NULL);
        }
}

static const struct test tests[] = {
        TEST(arguments_arrive_and_answers_come_back),     TEST(every_submission_waits_at_a_closed_gate),
        TEST(nothing_else_waits_at_a_closed_gate),        TEST(a_function_that_the_driver_lacks_answers_so),
        TEST(null_configuration_is_the_drivers_business), TEST(others_go_on_while_one_is_in_the_driver)};
STAGE_MAIN(tests)
