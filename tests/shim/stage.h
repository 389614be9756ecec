// A stage for the shim: the fake driver behind it, and a daemon of the test's own in the same process, whose
// gates the test opens and closes by hand. Each test is a process of its own, so that it begins with a shim
// that knows nothing.
#pragma once
#include <dlfcn.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>
#include "fake.h"
#include "wire/frame.h"
#include "wire/page.h"

#define MIB ((uint64_t)1 << 20)

struct session {
        struct takt_page_daemon *daemon;
        struct takt_page_client *client;
        int socket, kick, wake; // the daemon's ends
};

struct stage {
        const struct fake *fake;
        void *library;                   // libcuda.so.1: the shim
        struct takt_page_tenant *tenant; // all sessions' of one daemon
        struct session session[16];
        _Atomic int n_sessions, n_connections;
        _Atomic int n_given; // of them, those whose descriptors we have given away
        int8_t lane[2];      // of the two devices, in sessions to come
        uint64_t quota[2];   // of the two lanes, bytes, likewise
        int is_silent;       // takes connections and never answers
        int n_more;          // descriptors with its welcome, than a session has
        unsigned delay_us;   // until it answers
};

extern struct stage stage;

// The last session: the running one.
struct session *stage_session(void);
// What its gate of a lane is from now on; FREE only if the other lane is FREE too.
void stage_gate(int lane, enum takt_gate_state state);
void stage_bound(int lane, uint64_t ns);
void stage_quota(int lane, uint64_t bytes);
// The daemon dies; another comes, at the same place.
void stage_lose(void);
void stage_return(void);
// A context on device 0 or 1 for the calling thread.
void *stage_context(int device);
uint64_t stage_now(void);
void stage_nudge(void);

#define CALL(name, ...) ((int (*)())dlsym(stage.library, #name))(__VA_ARGS__)
#define CHECK(what)                                                                                          \
        do {                                                                                                 \
                if (!(what))                                                                                 \
                        printf("%s:%d: not so: %s\n", __FILE__, __LINE__, #what), fflush(NULL), _exit(1);    \
        } while (0)
#define MUST(name, ...) CHECK(CALL(name, __VA_ARGS__) == 0)
// Until it is so. The other side is a thread that runs; ten seconds mean never.
#define AWAIT(what)                                                                                          \
        do {                                                                                                 \
                uint64_t end = stage_now() + UINT64_C(10000000000);                                          \
                                                                                                             \
                while (!(what)) {                                                                            \
                        CHECK(stage_now() < end && #what);                                                   \
                        sched_yield();                                                                       \
                }                                                                                            \
        } while (0)

static inline uint64_t stage_busy(int lane)
{
        return atomic_load(&stage_session()->client->lane[lane].activity) & 1;
}

static inline uint32_t stage_want(int lane)
{
        return atomic_load(&stage_session()->client->lane[lane].want);
}

static inline int launch(uintptr_t stream)
{
        return CALL(cuLaunchKernel, (uintptr_t)1, 1, 1, 1, 1, 1, 1, 0, stream, NULL, NULL);
}

struct test {
        const char *name;
        void (*run)(void);
};

#define TEST(name)                                                                                           \
        {                                                                                                    \
#name, name                                                                                  \
        }
// Runs them, or the one that is named; returns how many failed.
int stage_run(const struct test *tests, size_t n, int argc, char **argv);
#define STAGE_MAIN(tests)                                                                                    \
        int main(int argc, char **argv)                                                                      \
        {                                                                                                    \
                return stage_run(tests, sizeof tests / sizeof *tests, argc, argv);                           \
        }
