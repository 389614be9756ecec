// For tests of the driver through the door that programs use, with the device's own state beside it. The
// library is named by SIMGPU_LIBRARY.
#pragma once
#include <dlfcn.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h>
#include "simgpu/segment.h"

#define MIB ((size_t)1 << 20)
#define GIB ((size_t)1 << 30)
#define KERNEL_NS UINT64_C(1000000) // every kernel's time, by SIMGPU_KERNEL_US below

#define CALL(name, ...) ((int (*)())dlsym(library, #name))(__VA_ARGS__)
#define OK(name, ...) assert_int_equal(CALL(name, __VA_ARGS__), 0)

static void *library, *context, *module, *kernel;
static struct sim_segment *device;

static inline void launch(void *stream)
{
        OK(cuLaunchKernel, kernel, 1, 1, 1, 32, 1, 1, 0, stream, NULL, NULL);
}

static inline void *new_stream(unsigned flags)
{
        void *stream = NULL;

        OK(cuStreamCreate, &stream, flags);
        return stream;
}

static inline void *new_event(void)
{
        void *event = NULL;

        OK(cuEventCreate, &event, 0);
        return event;
}

// While it is frozen the device does not go on with anybody's work: what is submitted is there all at once,
// however slowly the test runs.
static inline void freeze(uint32_t frozen)
{
        sim_segment_lock(device);
        for (int i = 0; i < SIM_CONTEXTS_MAX; i++)
                device->device.context[i].hung = frozen;
        sim_segment_unlock(device);
}

// What the device was busy for while it did what was queued; this process's work is frozen now.
static inline uint64_t busy_until_done(void)
{
        uint64_t before;

        sim_segment_lock(device);
        before = device->device.busy_ns;
        for (int i = 0; i < SIM_CONTEXTS_MAX; i++)
                device->device.context[i].hung = 0;
        sim_segment_unlock(device);
        OK(cuCtxSynchronize, );
        return device->device.busy_ns - before;
}

static inline int open_device(void **state)
{
        (void)state;
        library = dlopen(getenv("SIMGPU_LIBRARY"), RTLD_NOW);
        if (!library)
                return puts(dlerror()), -1;
        device = sim_segment_open(0);
        return device ? 0 : -1;
}

// A device of this process's own, and a primary context on it.
static inline int begin(void **state)
{
        char name[48];

        snprintf(name, sizeof name, "simgpu-test-%d", getpid());
        setenv("SIMGPU_NAME", name, 1);
        setenv("SIMGPU_KERNEL_US", "1000", 1);
        if (open_device(state) || CALL(cuInit, 0) || CALL(cuDevicePrimaryCtxRetain, &context, 0) ||
            CALL(cuCtxSetCurrent, context) || CALL(cuModuleLoadData, &module, "") ||
            CALL(cuModuleGetFunction, &kernel, module, "kernel"))
                return -1;
        return 0;
}

static inline int end(void **state)
{
        char path[80];

        (void)state;
        snprintf(path, sizeof path, "/dev/shm%s", sim_segment_name(0));
        return unlink(path);
}

// Runs in a process of its own, which has what this one had at the fork; returns its exit status, 256 + the
// signal when one ended it.
static inline int in_child(void (*what)(void))
{
        int status;
        pid_t child = fork();

        if (child == 0) {
                what();
                _exit(0);
        }
        waitpid(child, &status, 0);
        return WIFEXITED(status) ? WEXITSTATUS(status) : 256 + WTERMSIG(status);
}

#define NEED(what)                                                                                           \
        do {                                                                                                 \
                if (!(what))                                                                                 \
                        printf("line %d: not so: %s\n", __LINE__, #what), fflush(stdout), _exit(1);          \
        } while (0)
