// The real CUDA runtime on the libcuda.so.1 that the loader finds: allocates, copies, asks, on each device.
// Arguments: runtime libraries. Exit 77 (skipped) when none is there.
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int use(void *runtime, int device)
{
        int (*set)(int) = (int (*)(int))dlsym(runtime, "cudaSetDevice");
        int (*allocate)(void **, size_t) = (int (*)(void **, size_t))dlsym(runtime, "cudaMalloc");
        int (*copy)(void *, const void *, size_t, int) =
                (int (*)(void *, const void *, size_t, int))dlsym(runtime, "cudaMemcpy");
        int (*release)(void *) = (int (*)(void *))dlsym(runtime, "cudaFree");
        int (*synchronize)(void) = (int (*)(void))dlsym(runtime, "cudaDeviceSynchronize");
        char in[] = "there and back", out[sizeof in] = "";
        void *pointer = NULL;

        return set(device) || allocate(&pointer, 1 << 20) || copy(pointer, in, sizeof in, 1) ||
               copy(out, pointer, sizeof in, 2) || strcmp(in, out) || synchronize() || release(pointer);
}

static int run(const char *path, int n_devices)
{
        void *runtime = dlopen(path, RTLD_NOW);
        int (*count)(int *), n = 0, failed;

        if (!runtime)
                return printf("%s\n", dlerror()), 1;
        count = (int (*)(int *))dlsym(runtime, "cudaGetDeviceCount");
        failed = count(&n) || n != n_devices;
        for (int i = 0; i < n; i++)
                failed |= use(runtime, i);
        printf("%s: %s\n", path, failed ? "does not run" : "runs");
        return failed;
}

int main(int argc, char **argv)
{
        char name[64], path[512], segment[96];
        const char *folder = getenv("TAKT_CUDA_LIBS"), *devices = getenv("SIMGPU_DEVICES");
        int failed = 0, found = 0, n_devices = devices ? atoi(devices) : 1;

        snprintf(name, sizeof name, "simgpu-test-%d", getpid());
        setenv("SIMGPU_NAME", name, 1);
        for (int i = 1; i < argc && folder; i++) {
                snprintf(path, sizeof path, "%s/%s", folder, argv[i]);
                if (access(path, R_OK) == 0) {
                        found++;
                        failed += run(path, n_devices);
                }
        }
        snprintf(segment, sizeof segment, "/dev/shm/%s", name);
        unlink(segment);
        for (int i = 1; i < n_devices; i++) {
                snprintf(segment, sizeof segment, "/dev/shm/%s-%d", name, i);
                unlink(segment);
        }
        return !found ? 77 : failed > 0;
}
