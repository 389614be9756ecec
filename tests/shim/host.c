// A program with one habit of real hosts each, on the driver as programs find it. It says what it did, a line
// each, and waits for a line before it goes on, so that a test can look in between. Exit 0: all went as it
// should.
#include <fcntl.h>
#include <pthread.h>
#include <stdint.h>
#include <string.h>
#include <sys/wait.h>
#include "habits.h"

// Learns of its results by a callback, and never synchronises.
static int called[2];

static void callback(void *arg)
{
        (void)arg;
        if (write(called[1], "x", 1) != 1)
                abort();
}

static void never_synchronises(void)
{
        void *stream;
        char byte;

        CHECK(pipe(called) == 0);
        MUST(cuStreamCreate, &stream, 1);
        launch(stream, BLOCKS_10MS);
        MUST(cuLaunchHostFunc, stream, callback, NULL);
        CHECK(read(called[0], &byte, 1) == 1);
        say("called");
}

// Closes descriptors that it did not open, and gets their numbers for files of its own.
static void closes_descriptors(void)
{
        char path[] = "/tmp/takt-host-XXXXXX", text[8];
        int file = mkstemp(path), n;

        launch(NULL, 1);
        MUST(cuCtxSynchronize);
        for (int fd = file + 1; fd < 1024; fd++)
                close(fd);
        for (int fd = 500; fd < 530; fd++)
                dup2(file, fd);
        say("closed");
        for (int i = 0; i < 10; i++) {
                launch(NULL, WAVE * 200);
                MUST(cuCtxSynchronize);
        }
        n = (int)pread(file, text, sizeof text, 0);
        CHECK(n == 0 && fcntl(500, F_GETFD) >= 0 && fcntl(529, F_GETFD) >= 0);
        unlink(path);
        say("done");
}

static _Atomic int stop;

static void *launches(void *arg)
{
        void *stream;

        (void)arg;
        MUST(cuCtxSetCurrent, context);
        MUST(cuStreamCreate, &stream, 1);
        while (!stop) {
                launch(stream, WAVE * 10);
                MUST(cuStreamSynchronize, stream);
        }
        return NULL;
}

// Forks while other threads submit; the children use what a child may use.
static void forks(void)
{
        pthread_t threads[2];

        for (int i = 0; i < 2; i++)
                pthread_create(&threads[i], NULL, launches, NULL);
        say("launching");
        for (int i = 0; i < 40; i++) {
                pid_t child = fork();
                int status;

                if (child == 0) {
                        size_t left, total;
                        int n = 0;

                        alarm(20); // a deadlock ends here
                        CALL(cuDeviceGetCount, &n);
                        CALL(cuStreamQuery, NULL);
                        CALL(cuMemGetInfo_v2, &left, &total);
                        if (i % 2)
                                execl("/bin/true", "true", (char *)NULL);
                        _exit(0);
                }
                CHECK(child > 0 && waitpid(child, &status, 0) == child && status == 0);
        }
        stop = 1;
        for (int i = 0; i < 2; i++)
                pthread_join(threads[i], NULL);
        say("done");
}

// Captures while the gate is closed: nothing is submitted, so nothing waits; the graph's launch does.
static void captures(void)
{
        void *stream, *graph, *exec;
        size_t n = 0;

        MUST(cuStreamCreate, &stream, 1);
        say("ready");
        MUST(cuStreamBeginCapture_v2, stream, 0);
        for (int i = 0; i < 20; i++)
                launch(stream, WAVE * 10);
        MUST(cuStreamEndCapture, stream, &graph);
        MUST(cuGraphGetNodes, graph, NULL, &n);
        CHECK(n == 20);
        MUST(cuGraphInstantiateWithFlags, &exec, graph, 0ull);
        say("captured");
        for (int i = 0; i < 20; i++)
                MUST(cuGraphLaunch, exec, stream);
        MUST(cuStreamSynchronize, stream);
        MUST(cuGraphExecDestroy, exec);
        say("done");
}

// More streams than are told apart, and streams that go while they have work.
static void has_many_streams(void)
{
        void *stream[100];

        for (int i = 0; i < 100; i++) {
                MUST(cuStreamCreate, &stream[i], 1);
                launch(stream[i], WAVE * 10);
        }
        for (int i = 0; i < 100; i++)
                MUST(cuStreamSynchronize, stream[i]);
        say("synchronised");
        for (int k = 0; k < 3; k++)
                for (int i = 0; i < 100; i++) {
                        launch(stream[i], WAVE * 10);
                        MUST(cuStreamDestroy_v2, stream[i]);
                        MUST(cuStreamCreate, &stream[i], 1);
                }
        MUST(cuCtxSynchronize);
        say("destroyed");
}

// Two contexts: the default stream is another one in each.
static void has_two_contexts(void)
{
        void *other;

        MUST(cuCtxCreate_v2, &other, 0, 0);
        launch(NULL, BLOCKS_10MS * 100);
        MUST(cuCtxSetCurrent, context);
        launch(NULL, WAVE);
        MUST(cuCtxSynchronize);
        say("first");
        MUST(cuCtxDestroy_v2, other);
        say("second");
}

// Two threads with default streams of their own.
static void *own_stream(void *arg)
{
        int *sleeves = arg;

        MUST(cuCtxSetCurrent, context);
        MUST(cuLaunchKernel_ptsz, kernel, BLOCKS_10MS * 100, 1, 1, 256, 1, 1, 0, NULL, NULL, NULL);
        CHECK(write(sleeves[1], "x", 1) == 1);
        MUST(cuStreamSynchronize_ptsz, NULL);
        return NULL;
}

static void has_default_streams_per_thread(void)
{
        pthread_t thread;
        int sleeves[2];
        char byte;

        CHECK(pipe(sleeves) == 0);
        pthread_create(&thread, NULL, own_stream, sleeves);
        CHECK(read(sleeves[0], &byte, 1) == 1);
        MUST(cuLaunchKernel_ptsz, kernel, 1, 1, 1, 256, 1, 1, 0, NULL, NULL, NULL);
        MUST(cuStreamSynchronize_ptsz, NULL);
        say("first");
        pthread_join(thread, NULL);
        say("second");
}

// nvidia-smi and engines ask NVML instead: total, free, used. Both of its forms say the same.
static void ask_nvml(unsigned index, unsigned long long ret[3])
{
        void *nvml = dlopen("libnvidia-ml.so.1", RTLD_NOW), *device;
        struct {
                unsigned version;
                unsigned long long total, reserved, free, used;
        } second = {.version = sizeof second | 2u << 24};

        CHECK(nvml && ((int (*)(void))dlsym(nvml, "nvmlInit_v2"))() == 0);
        CHECK(((int (*)(unsigned, void **))dlsym(nvml, "nvmlDeviceGetHandleByIndex_v2"))(index, &device) ==
              0);
        CHECK(((int (*)(void *, unsigned long long *))dlsym(nvml, "nvmlDeviceGetMemoryInfo"))(device, ret) ==
              0);
        CHECK(((int (*)(void *, void *))dlsym(nvml, "nvmlDeviceGetMemoryInfo_v2"))(device, &second) == 0);
        CHECK(second.total == ret[0] && second.free == ret[1] && second.used == ret[2]);
}

// Memory against a quota of 1 GiB.
static void fills_memory(void)
{
        unsigned long long nvml[3];

        int prop[8] = {1, 0, 1, 0}; // pinned, no handle, on device 0
        uintptr_t a, b, handle, address;
        size_t left, total;

        MUST(cuDeviceTotalMem_v2, &total, 0);
        CHECK(total == 1024 * MIB);
        MUST(cuMemAlloc_v2, &a, 600 * MIB);
        CHECK(CALL(cuMemAlloc_v2, &b, 600 * MIB) == 2);
        CHECK(CALL(cuMemAllocManaged, &b, 600 * MIB, 1) == 2);
        CHECK(CALL(cuMemAllocAsync, &b, 600 * MIB, NULL) == 2);
        CHECK(CALL(cuMemAllocPitch_v2, &b, &left, 600 * MIB, (size_t)1, 4) == 2);
        MUST(cuMemGetInfo_v2, &left, &total);
        CHECK(total == 1024 * MIB && left == 424 * MIB);
        CHECK(CALL(cuMemFree_v2, a + 1) != 0); // not an allocation: stays charged
        MUST(cuMemGetInfo_v2, &left, &total);
        CHECK(left == 424 * MIB);
        ask_nvml(0, nvml);
        CHECK(nvml[0] == 1024 * MIB && nvml[1] == 424 * MIB && nvml[2] == 600 * MIB);
        say("allocated");
        MUST(cuMemFree_v2, a);
        MUST(cuMemGetInfo_v2, &left, &total);
        CHECK(left == 1024 * MIB);
        // Physical memory is held by its handle and by its mappings.
        MUST(cuMemCreate, &handle, 600 * MIB, prop, 0ull);
        MUST(cuMemAddressReserve, &address, 600 * MIB, (size_t)0, NULL, 0ull);
        MUST(cuMemMap, address, 600 * MIB, (size_t)0, handle, 0ull);
        MUST(cuMemRelease, handle);
        CHECK(CALL(cuMemAlloc_v2, &b, 600 * MIB) == 2);
        MUST(cuMemUnmap, address, 600 * MIB);
        MUST(cuMemAlloc_v2, &b, 600 * MIB);
        MUST(cuMemFree_v2, b);
        for (int i = 0; i < 3000; i++) { // the ledger grows and shrinks
                uintptr_t kept[3];

                for (int k = 0; k < 3; k++)
                        MUST(cuMemAlloc_v2, &kept[k], MIB);
                for (int k = 0; k < 3; k++)
                        MUST(cuMemFree_v2, kept[(k + i) % 3]);
        }
        MUST(cuMemGetInfo_v2, &left, &total);
        CHECK(left == 1024 * MIB);
        say("freed");
}

static struct {
        void *context, *stream;
        uintptr_t memory;
} leased;

// Copies with the other device current, then launches.
static void *works_there(void *unused)
{
        (void)unused;
        MUST(cuCtxSetCurrent, context);
        MUST(cuMemsetD8Async, leased.memory, 0, (size_t)1, leased.stream);
        MUST(cuStreamSynchronize, leased.stream);
        MUST(cuCtxSetCurrent, leased.context);
        launch(NULL, WAVE);
        MUST(cuCtxSynchronize);
        return NULL;
}

// Has two devices, of which the daemon leases it LEASED, with a quota of 1 GiB; the other is current.
static void has_two_devices(void)
{
        int device = atoi(getenv("LEASED")), prop[22] = {1, 0, 1, device};
        uintptr_t pointer[5], none, pool;
        void *stream;
        pthread_t thread;
        size_t left, total;

        MUST(cuDevicePrimaryCtxRetain, &leased.context, device);
        MUST(cuCtxSetCurrent, leased.context);
        MUST(cuStreamCreate, &stream, 1);
        MUST(cuMemAlloc_v2, &pointer[0], 100 * MIB);
        MUST(cuMemAllocManaged, &pointer[1], 100 * MIB, 1);
        MUST(cuDevicePrimaryCtxRetain, &context, !device);
        MUST(cuCtxSetCurrent, context);
        MUST(cuMemAllocAsync, &pointer[2], 100 * MIB, stream);
        MUST(cuDeviceGetDefaultMemPool, &pool, device);
        MUST(cuMemAllocFromPoolAsync, &pointer[3], 100 * MIB, pool, NULL);
        MUST(cuMemPoolCreate, &pool, prop);
        MUST(cuMemAllocFromPoolAsync, &pointer[4], 100 * MIB, pool, NULL);
        CHECK(CALL(cuMemAllocAsync, &none, 600 * MIB, stream) == 2);
        MUST(cuMemAlloc_v2, &none, 2048 * MIB); // of the other
        MUST(cuMemGetInfo_v2, &left, &total);
        CHECK(total == 40960 * MIB);
        launch(NULL, WAVE);
        MUST(cuCtxSynchronize);
        leased.stream = stream;
        leased.memory = pointer[0];
        say("allocated");
        pthread_create(&thread, NULL, works_there, NULL);
        for (int i = 0; i < 10; i++) {
                launch(NULL, WAVE);
                MUST(cuCtxSynchronize);
        }
        say("worked");
        pthread_join(thread, NULL);
        for (int i = 0; i < 5; i++)
                MUST(cuMemFreeAsync, pointer[i], stream);
        MUST(cuMemFree_v2, none);
        say("freed");
}

// The second of two devices is leased, with a quota of 1 GiB, and the first one is lost.
static void loses_the_other(void)
{
        unsigned long long nvml[3];

        say("ready");
        ask_nvml(1, nvml);
        CHECK(nvml[0] == 1024 * MIB);
        say("told");
}

// Works on, step by step.
static void works(void)
{
        uintptr_t pointer;
        char line[16];

        MUST(cuMemAlloc_v2, &pointer, 64 * MIB);
        fcntl(0, F_SETFL, O_NONBLOCK);
        printf("working\n");
        fflush(stdout);
        while (read(0, line, sizeof line) < 0) {
                launch(NULL, WAVE * 100);
                MUST(cuCtxSynchronize);
        }
        printf("done\n");
}

int main(int argc, char **argv)
{
        static const struct {
                const char *name;
                void (*run)(void);
        } habits[] = {{"never-synchronises", never_synchronises},
                      {"closes-descriptors", closes_descriptors},
                      {"forks", forks},
                      {"captures", captures},
                      {"many-streams", has_many_streams},
                      {"two-contexts", has_two_contexts},
                      {"per-thread", has_default_streams_per_thread},
                      {"memory", fills_memory},
                      {"two-devices", has_two_devices},
                      {"loses-the-other", loses_the_other},
                      {"works", works}};

        if (argc != 2)
                return printf("usage: host HABIT\n"), 2;
        open_driver();
        begin();
        for (size_t i = 0; i < sizeof habits / sizeof *habits; i++)
                if (!strcmp(habits[i].name, argv[1]))
                        return habits[i].run(), 0;
        return 2;
}
