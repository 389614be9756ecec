// The simulated driver through the door that programs use: dlopen and dlsym. The library is the first
// argument.
#include <dlfcn.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static void *library;
static int failed, passed;

#define CHECK(what)                                                                                          \
        do {                                                                                                 \
                if (what)                                                                                    \
                        passed++;                                                                            \
                else                                                                                         \
                        failed++, printf("line %d: not so: %s\n", __LINE__, #what);                          \
        } while (0)
#define CALL(name, ...) ((int (*)())dlsym(library, #name))(__VA_ARGS__)

static void *context, *module, *kernel;

static void begins(void)
{
        int n = 0, device;

        CHECK(CALL(cuDeviceGetCount, &n) == 3); // not initialised
        CHECK(CALL(cuInit, 0) == 0);
        CHECK(CALL(cuDeviceGetCount, &n) == 0 && n == 1);
        CHECK(CALL(cuCtxGetDevice, &device) == 201);
        CHECK(CALL(cuDevicePrimaryCtxRetain, &context, 0) == 0);
        CHECK(CALL(cuCtxSetCurrent, context) == 0);
        CHECK(CALL(cuCtxGetDevice, &device) == 0 && device == 0);
        CHECK(CALL(cuLibraryLoadData, &module, "", NULL, NULL, 0, NULL, NULL, 0) == 0);
        CHECK(CALL(cuLibraryGetKernel, &kernel, module, "kernel") == 0);
}

static void memory(void)
{
        uintptr_t a = 0, b = 0;
        size_t before, after, total;
        char in[] = "through the device", out[sizeof in] = "";

        CHECK(CALL(cuMemGetInfo_v2, &before, &total) == 0 && total == (size_t)40 << 30);
        CHECK(CALL(cuMemAlloc_v2, &a, (size_t)1 << 30) == 0);
        CHECK(CALL(cuMemGetInfo_v2, &after, &total) == 0 && before - after == (size_t)1 << 30);
        CHECK(CALL(cuMemAlloc_v2, &b, (size_t)40 << 30) == 2);
        CHECK(CALL(cuMemcpyHtoD_v2, a + 4096, in, sizeof in) == 0);
        CHECK(CALL(cuMemcpyDtoH_v2, out, a + 4096, sizeof in) == 0 && !strcmp(in, out));
        CHECK(CALL(cuMemFree_v2, a + 1) == 1);
        CHECK(CALL(cuMemFree_v2, a) == 0);
        CHECK(CALL(cuMemFree_v2, a) == 1);
        CHECK(CALL(cuMemGetInfo_v2, &after, &total) == 0 && before == after);
}

static void launches(void)
{
        void *stream, *event, *start;
        float ms = 0;

        CHECK(CALL(cuStreamCreate, &stream, 1) == 0);
        CHECK(CALL(cuEventCreate, &start, 0) == 0 && CALL(cuEventCreate, &event, 0) == 0);
        CHECK(CALL(cuEventRecord, start, stream) == 0);
        // 108 SMs take 8 blocks of 256 threads each at once: this is 100 waves and one.
        CHECK(CALL(cuLaunchKernel, kernel, 108 * 8 * 100, 1, 1, 256, 1, 1, 0, stream, NULL, NULL) == 0);
        CHECK(CALL(cuEventRecord, event, stream) == 0);
        CHECK(CALL(cuEventSynchronize, event) == 0);
        CHECK(CALL(cuEventElapsedTime, &ms, start, event) == 0 && ms > .2f && ms < .21f);
        CHECK(CALL(cuLaunchKernel, kernel, 0, 1, 1, 1, 1, 1, 0, stream, NULL, NULL) == 1);
        CHECK(CALL(cuLaunchKernel, kernel, 1, 1, 1, 2048, 1, 1, 0, stream, NULL, NULL) == 1);
        CHECK(CALL(cuLaunchKernel, NULL, 1, 1, 1, 1, 1, 1, 0, stream, NULL, NULL) == 400);
        CHECK(CALL(cuStreamDestroy_v2, stream) == 0);
}

static void capture(void)
{
        void *stream, *graph, *exec;
        int status = -1, value = 7, target = 0;
        size_t n = 0;

        CALL(cuStreamCreate, &stream, 1);
        CHECK(CALL(cuStreamBeginCapture_v2, stream, 0) == 0);
        CHECK(CALL(cuStreamIsCapturing, stream, &status) == 0 && status == 1);
        CHECK(CALL(cuStreamSynchronize, stream) == 900);
        CHECK(CALL(cuLaunchKernel, kernel, 1, 1, 1, 1, 1, 1, 0, stream, NULL, NULL) == 0);
        CHECK(CALL(cuMemcpyAsync, &target, &value, sizeof value, stream) == 0 && target == 0);
        CHECK(CALL(cuStreamEndCapture, stream, &graph) == 0);
        CHECK(CALL(cuStreamEndCapture, stream, &graph) != 0);
        CHECK(CALL(cuGraphGetNodes, graph, NULL, &n) == 0 && n == 2);
        CHECK(CALL(cuGraphInstantiateWithFlags, &exec, graph, 0ull) == 0);
        CHECK(CALL(cuGraphLaunch, exec, stream) == 0);
        CHECK(CALL(cuStreamSynchronize, stream) == 0 && target == 7);
        CHECK(CALL(cuGraphExecDestroy, exec) == 0 && CALL(cuGraphDestroy, graph) == 0);
}

static void lookups(void)
{
        void *entry = &entry;
        int status = -1;

        CHECK(CALL(cuGetProcAddress_v2, "", &entry, 0, (uint64_t)0, &status) == 500 && status == 1);
        CHECK(CALL(cuGetProcAddress_v2, "cuMemAlloc", &entry, 3020, (uint64_t)0, &status) == 0 &&
              entry == dlsym(library, "cuMemAlloc_v2"));
        CHECK(CALL(cuGetProcAddress_v2, "cuMemAlloc", &entry, 2000, (uint64_t)0, &status) == 0 &&
              entry == dlsym(library, "cuMemAlloc"));
        CHECK(CALL(cuGetProcAddress_v2, "cuLaunchKernel", &entry, 13000, (uint64_t)2, &status) == 0 &&
              entry == dlsym(library, "cuLaunchKernel_ptsz"));
        CHECK(CALL(cuGetProcAddress_v2, "cuLaunchKernelEx", &entry, 11000, (uint64_t)0, &status) == 500 &&
              status == 2 && !entry);
        CHECK(CALL(cuSignalExternalSemaphoresAsync, 0, 0, 0, 0) == 801);
}

// A process is killed with memory and work; the device has both back.
static void killed(void)
{
        size_t before, after, total;
        int fds[2];
        char byte;
        pid_t child;

        CALL(cuMemGetInfo_v2, &before, &total);
        CHECK(pipe(fds) == 0);
        child = fork();
        if (child == 0) {
                void *own;
                uintptr_t pointer;

                CALL(cuCtxCreate_v2, &own, 0, 0);
                CALL(cuMemAlloc_v2, &pointer, (size_t)39 << 30);
                if (write(fds[1], "x", 1) == 1)
                        pause();
                _exit(1);
        }
        CHECK(read(fds[0], &byte, 1) == 1);
        kill(child, 9);
        waitpid(child, NULL, 0);
        // The next allocation that would not fit finds out.
        uintptr_t pointer;
        CHECK(CALL(cuMemAlloc_v2, &pointer, (size_t)20 << 30) == 0);
        CHECK(CALL(cuMemFree_v2, pointer) == 0);
        CHECK(CALL(cuMemGetInfo_v2, &after, &total) == 0 && after == before);
}

int main(int argc, char **argv)
{
        char name[64], path[80];

        snprintf(name, sizeof name, "simgpu-test-%d", getpid());
        setenv("SIMGPU_NAME", name, 1);
        library = argc > 1 ? dlopen(argv[1], RTLD_NOW) : NULL;
        if (!library)
                return printf("%s\n", dlerror()), 1;
        begins();
        memory();
        launches();
        capture();
        lookups();
        killed();
        snprintf(path, sizeof path, "/dev/shm/%s", name);
        unlink(path);
        printf("%d checks passed, %d failed\n", passed, failed);
        return failed > 0;
}
