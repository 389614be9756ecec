// Life in somebody else's process, on the fake driver: daemons that go, come, or do not answer; forks,
// threads, exit handlers, libraries that are closed again, and descriptors that the host takes for its own.
// (Constructors: test_ways.py.)
#include <dirent.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/time.h>
#include <sys/wait.h>
#include "stage.h"

static void *context;

static void begin(void)
{
        context = stage_context(0);
        launch(0);
        MUST(cuCtxSynchronize);
        CHECK(stage.n_sessions == 1);
}

static void work(void)
{
        CHECK(launch(0) == 0);
        MUST(cuCtxSynchronize);
}

static int n_descriptors(void)
{
        DIR *folder = opendir("/proc/self/fd");
        int n = 0;

        while (readdir(folder))
                n++;
        closedir(folder);
        return n;
}

static int n_threads(void)
{
        DIR *folder = opendir("/proc/self/task");
        int n = 0;

        while (readdir(folder))
                n++;
        closedir(folder);
        return n;
}

// One that takes connections and never answers costs one try, not one for each launch.
static void a_daemon_that_does_not_answer_costs_little(void)
{
        stage.is_silent = 1;
        context = stage_context(0);
        for (int i = 0; i < 200; i++)
                work();
        CHECK(stage.n_connections == 1);
}

static void interrupted(int number)
{
        (void)number;
}

// As profilers and runtimes do; of a socket with a time limit no call is begun again by itself.
static void be_interrupted(void)
{
        const struct sigaction action = {.sa_handler = interrupted, .sa_flags = SA_RESTART};
        const struct itimerval often = {{0, 5000}, {0, 5000}};

        sigaction(SIGALRM, &action, NULL);
        setitimer(ITIMER_REAL, &often, NULL);
}

static void a_host_that_is_interrupted_joins(void)
{
        stage.delay_us = 50000;
        be_interrupted();
        begin();
}

// A daemon that does not answer is waited for no longer than without.
static void a_host_that_is_interrupted_waits_no_longer(void)
{
        uint64_t begin_ns = stage_now();

        stage.is_silent = 1;
        be_interrupted();
        context = stage_context(0);
        work();
        CHECK(stage.n_connections == 1 && stage_now() - begin_ns < UINT64_C(10000000000));
}

// Another daemon comes; returns how many descriptors its session takes.
static int next_session_takes(void)
{
        int n = stage.n_sessions, before;

        stage_lose();
        before = n_descriptors();
        stage_return();
        AWAIT((work(), stage.n_given == n + 1));
        launch(0);
        CHECK(stage_busy(0)); // it is in use
        MUST(cuCtxSynchronize);
        return n_descriptors() - before;
}

// A later version's: they are none of ours, and are not kept.
static void descriptors_beyond_a_sessions_are_not_kept(void)
{
        int n;

        begin();
        n = next_session_takes();
        for (stage.n_more = 1; stage.n_more <= 4; stage.n_more += 3)
                CHECK(next_session_takes() == n);
}

static void work_in_flight_is_told_to_a_new_daemon(void)
{
        begin();
        stage.fake->manual(1);
        launch(0); // runs on
        stage_lose();
        stage_return();
        stage_context(1); // not Takt's: a submission there looks for the daemon and is noted nowhere
        AWAIT((launch(0), stage.n_sessions == 2));
        AWAIT(stage_busy(0));
}

static void *launches_once(void *arg)
{
        MUST(cuCtxSetCurrent, context);
        CHECK(launch((uintptr_t)arg) == 0);
        return NULL;
}

// A thread that is cancelled at the gate ends behind it, and counts no more among those who want in.
static void a_thread_that_is_cancelled_at_the_gate_is_not_there_for_ever(void)
{
        pthread_t thread;

        begin();
        stage.fake->manual(1);
        launch(0);
        stage_gate(0, TAKT_GATE_CLOSED);
        pthread_create(&thread, NULL, launches_once, NULL);
        AWAIT(stage.fake->count("cuEventSynchronize", NULL) == 1); // waits for what is in flight
        pthread_cancel(thread);
        stage.fake->finish(0);
        stage.fake->manual(0);
        AWAIT(stage_want(0) == 1);
        usleep(300000); // it looks after the daemon meanwhile, which is a call that ends a thread
        stage_gate(0, TAKT_GATE_OPEN);
        pthread_join(thread, NULL);
        CHECK(stage_want(0) == 0);
        stage_gate(0, TAKT_GATE_CLOSED);
        pthread_create(&thread, NULL, launches_once, NULL);
        AWAIT(stage_want(0) == 1);
        stage_gate(0, TAKT_GATE_OPEN);
        pthread_join(thread, NULL);
        work();
}

static void *asks_for_memory(void *arg)
{
        size_t left, total;

        (void)arg;
        MUST(cuCtxSetCurrent, context);
        MUST(cuMemGetInfo_v2, &left, &total);
        return NULL;
}

static void a_thread_that_is_cancelled_while_it_joins_leaves_no_lock_taken(void)
{
        pthread_t thread;

        stage.delay_us = 300000;
        context = stage_context(0);
        pthread_create(&thread, NULL, asks_for_memory, NULL);
        AWAIT(stage.n_connections == 1);
        pthread_cancel(thread);
        pthread_join(thread, NULL);
        AWAIT((work(), stage.n_sessions == 1));
}

// Whoever stands at a closed gate when the daemon dies goes on, and stands at the next one's.
static void a_waiter_goes_on_when_the_daemon_dies(void)
{
        pthread_t thread;

        begin();
        signal(SIGUSR1, interrupted);
        stage_gate(0, TAKT_GATE_CLOSED);
        pthread_create(&thread, NULL, launches_once, NULL);
        AWAIT(stage_want(0) == 1);
        stage_lose();
        while (pthread_tryjoin_np(thread, NULL)) { // however often the host is interrupted
                pthread_kill(thread, SIGUSR1);
                usleep(1000);
        }
}

static void hear_kicks(int n, int answers)
{
        struct pollfd kick = {stage_session()->kick, POLLIN, 0};
        uint64_t count;

        for (int i = 0; i < n; i++) {
                CHECK(poll(&kick, 1, 10000) == 1 && read(kick.fd, &count, sizeof count) == sizeof count);
                atomic_fetch_add(&stage_session()->daemon->answers, answers);
        }
}

static void *works_for_ever(void *stop)
{
        MUST(cuCtxSetCurrent, context);
        while (!atomic_load((_Atomic int *)stop))
                work();
        return NULL;
}

// Stopped, or stuck: as one that is gone, until it answers. The session stays the same.
static void a_silent_daemon_is_as_none_until_it_answers(void)
{
        static _Atomic int stop;
        pthread_t thread;
        int alone;

        begin();
        alone = n_threads();
        stage_session()->daemon->minor = 1;
        stage_gate(0, TAKT_GATE_OPEN);
        work(); // its helper is there
        stage_gate(0, TAKT_GATE_CLOSED);
        pthread_create(&thread, NULL, works_for_ever, &stop);
        AWAIT(stage_want(0) == 1);
        CHECK(n_threads() == alone + 2);
        AWAIT(stage_want(0) == 0); // it goes on behind the closed gate
        work();
        stage_nudge(); // and so ends its helper
        AWAIT(n_threads() == alone + 1);
        hear_kicks(1, 1);
        AWAIT(stage_want(0) == 1);
        stage_gate(0, TAKT_GATE_OPEN);
        stop = 1;
        pthread_join(thread, NULL);
        AWAIT((work(), n_threads() == alone + 1)); // there again
        CHECK(stage.n_connections == 1);
}

// A long wait is none for an answer; and one of the first version gives none.
static void a_daemon_that_answers_is_waited_for(void)
{
        pthread_t thread;

        begin();
        for (uint16_t minor = 0; minor < 2; minor++) {
                stage_session()->daemon->minor = minor;
                stage_gate(0, TAKT_GATE_CLOSED);
                pthread_create(&thread, NULL, launches_once, NULL);
                hear_kicks(60, minor);
                CHECK(stage_want(0) == 1);
                stage_gate(0, TAKT_GATE_OPEN);
                pthread_join(thread, NULL);
        }
}

static void a_silent_daemon_that_dies_is_gone(void)
{
        pthread_t thread;

        begin();
        stage_session()->daemon->minor = 1;
        stage_gate(0, TAKT_GATE_CLOSED);
        pthread_create(&thread, NULL, launches_once, NULL);
        pthread_join(thread, NULL);
        stage_lose();
        stage_return();
        AWAIT((work(), stage.n_sessions == 2));
}

// Hosts may clear their environment, and a daemon may go after that: it is looked for no more.
static void a_daemon_that_goes_from_a_cleared_environment(void)
{
        uint64_t end;

        begin();
        unsetenv("TAKT_SOCKET");
        stage_lose();
        for (end = stage_now() + UINT64_C(2500000000); stage_now() < end; usleep(1000))
                work();
}

// The driver is asked for its devices as often as the daemon is looked for.
static void without_a_daemon_the_driver_is_asked_rarely(void)
{
        unsigned before;

        begin();
        before = stage.fake->count("cuDeviceGetCount", NULL);
        stage_lose();
        AWAIT((work(), stage.fake->count("cuDeviceGetCount", NULL) > before));
        before = stage.fake->count("cuDeviceGetCount", NULL);
        for (int i = 0; i < 1000; i++)
                work();
        CHECK(stage.fake->count("cuDeviceGetCount", NULL) < before + 10);
}

static void daemons_come_and_go(void)
{
        begin();
        for (int i = 1; i < 4; i++) {
                stage_lose();
                stage_return();
                AWAIT((work(), stage.n_sessions == i + 1));
                stage_gate(0, TAKT_GATE_FREE);
                work();
                CHECK(!stage_busy(0));
        }
}

// No thread of ours while the process is alone; one, and only one, beside others.
static void one_thread_and_only_beside_others(void)
{
        int alone;

        begin();
        alone = n_threads();
        for (int i = 0; i < 100; i++)
                work();
        CHECK(n_threads() == alone);
        stage_gate(0, TAKT_GATE_OPEN);
        for (int i = 0; i < 100; i++)
                work();
        CHECK(n_threads() == alone + 1);
}

// The host closes our descriptors and has files of its own there: nothing is read from them or written to
// them.
static void descriptors_that_the_host_took_are_the_hosts(void)
{
        int file[2];
        char text[8] = "";

        begin();
        stage_gate(0, TAKT_GATE_OPEN);
        work(); // the helper sleeps
        CHECK(pipe2(file, O_NONBLOCK) == 0 && write(file[1], "host", 4) == 4);
        for (int fd = 512; fd < 520; fd++)
                dup2(file[0], fd);
        signal(SIGPIPE, SIG_IGN);
        CHECK(write(stage_session()->wake, "x", 1) != 0);
        stage_gate(0, TAKT_GATE_FREE);
        for (int i = 0; i < 100; i++)
                work();
        close(stage_session()->wake); // the end of the pipe that it still sleeps on
        close(stage_session()->socket);
        for (int i = 0; i < 100; i++)
                work();
        CHECK(read(file[0], text, sizeof text) == 4 && !memcmp(text, "host", 4));
        for (int fd = 512; fd < 520; fd++)
                CHECK(fcntl(fd, F_GETFD) >= 0);
}

// A child has nothing of its parent's session: no descriptor, no page, no work; and joins by itself.
static void a_forked_child_is_a_process_of_its_own(void)
{
        int status, before = n_descriptors(), ours;
        pid_t child;

        begin();
        ours = n_descriptors() - before;
        CHECK(ours > 0);
        stage.fake->manual(1);
        launch(0);
        child = fork();
        if (child == 0) {
                for (int fd = 512; fd < 530; fd++)
                        CHECK(fcntl(fd, F_GETFD) < 0);
                CALL(cuStreamQuery, (uintptr_t)0);
                _exit(0);
        }
        CHECK(waitpid(child, &status, 0) == child && status == 0);
        CHECK(stage_busy(0)); // the child's query ended nothing of the parent's
}

static _Atomic int is_inside, stop;

static int stays_inside(const uintptr_t *a)
{
        (void)a;
        is_inside = 1;
        AWAIT(stop);
        return 0;
}

static void *captures_once(void *stream)
{
        MUST(cuCtxSetCurrent, context);
        MUST(cuStreamBeginCapture_v2, stream, 0);
        return NULL;
}

// Of the driver's, which refuses all of it after a fork.
static void uses_everything(void)
{
        uintptr_t pointer = 0x10000000, stream;

        CALL(cuMemAlloc_v2, &pointer, MIB);
        CALL(cuMemFree_v2, pointer);
        launch(0);
        CALL(cuStreamCreate, &stream, 1);
        CALL(cuStreamDestroy_v2, (uintptr_t)0x5550);
        CALL(cuStreamSynchronize, (uintptr_t)0);
        CALL(cuCtxSynchronize);
        CALL(cuGraphExecDestroy, (uintptr_t)0x5550);
        CALL(cuCtxDestroy_v2, context);
}

static void fork_and_use_everything(void)
{
        pid_t child = fork();
        int status;

        if (child == 0) {
                alarm(5); // a deadlock ends here
                CHECK(CALL(cuInit, 0) == 3);
                uses_everything();
                exit(0);
        }
        CHECK(child > 0 && waitpid(child, &status, 0) == child && status == 0);
}

// Before anything was submitted: a lock is held that no session was needed for.
static void a_fork_during_the_first_call_leaves_no_lock_taken(void)
{
        pthread_t thread;
        uintptr_t stream;

        context = stage_context(0);
        MUST(cuStreamCreate, &stream, 1);
        stage.fake->set("cuStreamBeginCapture_v2", stays_inside);
        pthread_create(&thread, NULL, captures_once, (void *)stream);
        AWAIT(is_inside);
        fork_and_use_everything();
        stop = 1;
        pthread_join(thread, NULL);
}

static void *takes_all_locks(void *arg)
{
        uintptr_t stream, pointer;

        (void)arg;
        MUST(cuCtxSetCurrent, context);
        MUST(cuStreamCreate, &stream, 1);
        while (!stop) {
                MUST(cuMemAlloc_v2, &pointer, MIB);
                for (int i = 0; i < 10; i++)
                        CHECK(launch(stream) == 0);
                MUST(cuStreamSynchronize, stream);
                MUST(cuStreamBeginCapture_v2, stream, 0);
                MUST(cuStreamEndCapture, stream, NULL);
                MUST(cuMemFree_v2, pointer);
        }
        return NULL;
}

static void forks_while_others_submit_leave_no_lock_taken(void)
{
        pthread_t threads[3];

        begin();
        atexit(uses_everything); // of the children: we end otherwise
        stage_bound(0, 1000000);
        stage_gate(0, TAKT_GATE_OPEN);
        for (int i = 0; i < 3; i++)
                pthread_create(&threads[i], NULL, takes_all_locks, NULL);
        for (int i = 0; i < 300; i++)
                fork_and_use_everything();
        stop = 1;
        for (int i = 0; i < 3; i++)
                pthread_join(threads[i], NULL);
        CHECK(stage.n_connections == 1);
}

// Opened, used and closed, again and again, as tools do: it stays, and so does its one session.
static void a_library_that_is_closed_stays(void)
{
        begin();
        stage_gate(0, TAKT_GATE_OPEN);
        work();
        for (int i = 0; i < 10; i++)
                dlclose(stage.library);
        stage_nudge();
        stage.library = dlopen("libcuda.so.1", RTLD_NOW | RTLD_NOLOAD);
        CHECK(stage.library);
        work();
        CHECK(stage.n_sessions == 1);
}

static void *first_call(void *arg)
{
        pthread_barrier_wait(arg);
        MUST(cuCtxSetCurrent, context);
        work();
        return NULL;
}

static void many_threads_race_for_the_first_call(void)
{
        pthread_t threads[16];
        pthread_barrier_t start;

        MUST(cuDevicePrimaryCtxRetain, &context, 0);
        pthread_barrier_init(&start, NULL, 16);
        for (int i = 0; i < 16; i++)
                pthread_create(&threads[i], NULL, first_call, &start);
        for (int i = 0; i < 16; i++)
                pthread_join(threads[i], NULL);
        CHECK(stage.n_connections == 1 && stage.n_sessions == 1);
}

static void in_exit_handler(void)
{
        if (launch(0) || CALL(cuCtxSynchronize) || n_threads() < 1)
                _exit(1);
}

static void works_in_exit_handlers(void)
{
        int status;
        pid_t child = fork();

        if (child == 0) {
                atexit(in_exit_handler);
                context = stage_context(0);
                exit(0);
        }
        CHECK(waitpid(child, &status, 0) == child && status == 0);
}

static const struct test tests[] = {TEST(a_daemon_that_does_not_answer_costs_little),
                                    TEST(a_host_that_is_interrupted_joins),
                                    TEST(a_host_that_is_interrupted_waits_no_longer),
                                    TEST(descriptors_beyond_a_sessions_are_not_kept),
                                    TEST(a_daemon_that_goes_from_a_cleared_environment),
                                    TEST(without_a_daemon_the_driver_is_asked_rarely),
                                    TEST(a_thread_that_is_cancelled_at_the_gate_is_not_there_for_ever),
                                    TEST(a_thread_that_is_cancelled_while_it_joins_leaves_no_lock_taken),
                                    TEST(work_in_flight_is_told_to_a_new_daemon),
                                    TEST(a_waiter_goes_on_when_the_daemon_dies),
                                    TEST(daemons_come_and_go),
                                    TEST(one_thread_and_only_beside_others),
                                    TEST(descriptors_that_the_host_took_are_the_hosts),
                                    TEST(a_forked_child_is_a_process_of_its_own),
                                    TEST(a_fork_during_the_first_call_leaves_no_lock_taken),
                                    TEST(forks_while_others_submit_leave_no_lock_taken),
                                    TEST(a_library_that_is_closed_stays),
                                    TEST(many_threads_race_for_the_first_call),
                                    TEST(works_in_exit_handlers),
                                    TEST(a_silent_daemon_is_as_none_until_it_answers),
                                    TEST(a_daemon_that_answers_is_waited_for),
                                    TEST(a_silent_daemon_that_dies_is_gone)};
STAGE_MAIN(tests)
