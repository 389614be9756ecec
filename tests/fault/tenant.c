// A tenant that meets one fault each, on the driver as programs find it: tenant FAULT [ARGUMENT]. It says
// what it did, a line each, and waits for a line before it goes on. Exit 0: all went as it should.
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <spawn.h>
#include <stdatomic.h>
#include <stdint.h>
#include <string.h>
#include <sys/wait.h>
#include "habits.h"

#define THREADS 4
#define STREAMS 2
#define LAUNCHES 4
#define CRASHES_AT ((void *)64) // no page is there

static const char *argument;

// Many threads with streams of their own, that submit, allocate, free and wait at full rate.
static struct {
        pthread_t thread;
        _Atomic unsigned rounds;
        unsigned launches;
} crowd[THREADS];
static _Atomic int stop;

static void make_round(unsigned i, void *const *stream, void *event)
{
        uintptr_t pointer;

        MUST(cuMemAlloc_v2, &pointer, MIB);
        for (int k = 0; k < STREAMS; k++) {
                for (int n = 0; n < LAUNCHES; n++)
                        launch(stream[k], 1);
                MUST(cuEventRecord, event, stream[k]);
        }
        MUST(cuEventSynchronize, event);
        for (int k = 0; k < STREAMS; k++)
                MUST(cuStreamSynchronize, stream[k]);
        MUST(cuMemFree_v2, pointer);
        crowd[i].launches += STREAMS * LAUNCHES;
}

static void *submits(void *arg)
{
        unsigned i = (unsigned)(uintptr_t)arg;
        void *stream[STREAMS], *event;
        uintptr_t kept;

        MUST(cuCtxSetCurrent, context);
        MUST(cuMemAlloc_v2, &kept, 8 * MIB);
        MUST(cuEventCreate, &event, 2u);
        for (int k = 0; k < STREAMS; k++)
                MUST(cuStreamCreate, &stream[k], 1u);
        while (!stop) {
                make_round(i, stream, event);
                atomic_fetch_add(&crowd[i].rounds, 1);
        }
        return NULL;
}

static void start_crowd(void)
{
        for (unsigned i = 0; i < THREADS; i++)
                pthread_create(&crowd[i].thread, NULL, submits, (void *)(uintptr_t)i);
}

// Until every thread has begun a round after now, and ended it.
static void await_rounds(void)
{
        unsigned before[THREADS];

        for (unsigned i = 0; i < THREADS; i++)
                before[i] = crowd[i].rounds;
        for (unsigned i = 0; i < THREADS; i++)
                while (crowd[i].rounds - before[i] < 2)
                        usleep(1000);
}

static void is_a_crowd(void)
{
        unsigned launches = 0;
        char line[16] = "";

        start_crowd();
        do {
                await_rounds();
                printf("rounds\n");
                fflush(stdout);
        } while (fgets(line, sizeof line, stdin) && line[0] != 's');
        stop = 1;
        for (unsigned i = 0; i < THREADS; i++) {
                pthread_join(crowd[i].thread, NULL);
                launches += crowd[i].launches;
        }
        printf("%u\n", launches);
        fflush(stdout);
        CHECK(fgets(line, sizeof line, stdin));
}

// Dies by a signal inside a call that is hooked, while its other threads are inside others.
static void crashes(void)
{
        uintptr_t pointer;

        MUST(cuMemAlloc_v2, &pointer, MIB);
        start_crowd();
        await_rounds();
        say("working");
        if (!strcmp(argument, "launch-config"))
                CALL(cuLaunchKernelEx, CRASHES_AT, kernel, NULL, NULL);
        else if (!strcmp(argument, "copy"))
                CALL(cuMemcpyHtoD_v2, pointer, CRASHES_AT, MIB);
        else if (!strcmp(argument, "allocation"))
                CALL(cuMemAlloc_v2, CRASHES_AT, MIB);
        else if (!strcmp(argument, "capture"))
                CALL(cuStreamEndCapture, CRASHES_AT, CRASHES_AT);
        else if (!strcmp(argument, "look-up"))
                CALL(cuGetProcAddress_v2, CRASHES_AT, CRASHES_AT, 13000, 0ull, NULL);
}

// Its kernel never ends; the rest of the program must not freeze with it.
static void *waits_for_ever(void *stream)
{
        MUST(cuCtxSetCurrent, context);
        CALL(cuStreamSynchronize, stream);
        return NULL;
}

static void hangs(void)
{
        void *stream;
        pthread_t thread;
        uintptr_t pointer;
        size_t left, total;

        MUST(cuStreamCreate, &stream, 1u);
        launch(stream, 1);
        MUST(cuStreamSynchronize, stream);
        say("ready");
        launch(stream, 1);
        pthread_create(&thread, NULL, waits_for_ever, stream);
        say("hung");
        CHECK(CALL(cuStreamQuery, stream) == 600);
        MUST(cuMemGetInfo_v2, &left, &total);
        MUST(cuMemAlloc_v2, &pointer, MIB);
        say("alive");
}

// Has work in flight, and says nothing of it ever again.
static void is_silent(void)
{
        void *stream;

        MUST(cuStreamCreate, &stream, 1u);
        launch(stream, BLOCKS_10MS);
        say("submitted");
}

static void work(void)
{
        launch(NULL, 1);
        MUST(cuCtxSynchronize);
}

// The child is the first of the two that uses CUDA: a process like any other.
static void forks_before(void)
{
        pid_t child;

        open_driver();
        child = fork();
        begin();
        work();
        if (child == 0) {
                for (;;)
                        pause();
        }
        printf("%d\n", child);
        say("working");
        work();
        say("done");
        kill(child, SIGKILL);
}

static void forks_after(void)
{
        pid_t child;

        work();
        child = fork();
        for (; child == 0;)
                pause();
        printf("%d\n", child);
        say("forked");
        for (;;)
                work();
}

// So many images, one after the other, in one process; the last knows nothing of CUDA.
static void execs(void)
{
        int left = atoi(argument);
        char number[16];
        uintptr_t pointer;

        MUST(cuMemAlloc_v2, &pointer, 64 * MIB);
        work();
        snprintf(number, sizeof number, "%d", left - 1);
        if (left > 0)
                execl("/proc/self/exe", "tenant", "execs", number, (char *)NULL);
        say("last");
        execl("/bin/cat", "cat", (char *)NULL);
}

static void spawns(void)
{
        char *const arguments[] = {"true", NULL}, *const environment[] = {NULL};

        start_crowd();
        await_rounds();
        say("working");
        for (int i = 0; i < 40; i++) {
                int status;
                pid_t child = 0;

                if (i % 2)
                        CHECK(posix_spawn(&child, "/bin/true", NULL, NULL, arguments, environment) == 0);
                else if ((child = vfork()) == 0)
                        execve("/bin/true", arguments, environment), _exit(1);
                CHECK(waitpid(child, &status, 0) == child && status == 0);
        }
        await_rounds();
        say("spawned");
}

// Works until the driver says that it cannot.
static void loses(void)
{
        char line[16];
        int says;

        launch(NULL, 1);
        MUST(cuCtxSynchronize);
        say("working");
        do {
                says = CALL(cuLaunchKernel, kernel, 1, 1, 1, 256, 1, 1, 0, NULL, NULL, NULL);
                says = says ? says : CALL(cuCtxSynchronize);
        } while (!says);
        snprintf(line, sizeof line, "%d", says);
        say(line);
}

// What the first launch comes to, as a user that may be another than the daemon's.
static void launches_once(void)
{
        int error = setuid((uid_t)atoi(argument));

        CHECK(error == 0 || geteuid() != 0);
        error = CALL(cuLaunchKernel, kernel, 1, 1, 1, 256, 1, 1, 0, NULL, NULL, NULL);

        printf("%d %d\n", error, CALL(cuCtxSynchronize));
}

int main(int argc, char **argv)
{
        static const struct {
                const char *name;
                void (*run)(void);
                int begins; // by itself
        } faults[] = {
                {"crowd", is_a_crowd, 0},        {"crashes", crashes, 0}, {"hangs", hangs, 0},
                {"silent", is_silent, 0},        {"loses", loses, 0},     {"forks-before", forks_before, 1},
                {"forks-after", forks_after, 0}, {"execs", execs, 0},     {"spawns", spawns, 0},
                {"once", launches_once, 0}};

        argument = argc > 2 ? argv[2] : "";
        for (size_t i = 0; argc > 1 && i < sizeof faults / sizeof *faults; i++)
                if (!strcmp(faults[i].name, argv[1])) {
                        if (!faults[i].begins)
                                open_driver(), begin();
                        return faults[i].run(), 0;
                }
        return printf("usage: tenant FAULT [ARGUMENT]\n"), 2;
}
