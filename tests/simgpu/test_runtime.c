// The real CUDA runtime on the libcuda.so.1 that the loader finds: allocates, copies, asks. Arguments:
// runtime libraries. Exit 77 (skipped) when none is there.
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int run(const char *path)
{
        void *runtime = dlopen(path, RTLD_NOW), *pointer = NULL;
        int (*count)(int *), (*allocate)(void **, size_t), (*copy)(void *, const void *, size_t, int),
                (*release)(void *);
        int (*synchronize)(void), n = 0;
        char in[] = "there and back", out[sizeof in] = "";

        if (!runtime)
                return printf("%s\n", dlerror()), 1;
        count = (int (*)(int *))dlsym(runtime, "cudaGetDeviceCount");
        allocate = (int (*)(void **, size_t))dlsym(runtime, "cudaMalloc");
        copy = (int (*)(void *, const void *, size_t, int))dlsym(runtime, "cudaMemcpy");
        release = (int (*)(void *))dlsym(runtime, "cudaFree");
        synchronize = (int (*)(void))dlsym(runtime, "cudaDeviceSynchronize");
        if (count(&n) || n != 1 || allocate(&pointer, 1 << 20) || copy(pointer, in, sizeof in, 1) ||
            copy(out, pointer, sizeof in, 2) || strcmp(in, out) || synchronize() || release(pointer))
                return printf("%s: does not run\n", path), 1;
        printf("%s: runs\n", path);
        return 0;
}

int main(int argc, char **argv)
{
        char name[64], path[512], segment[80];
        const char *folder = getenv("TAKT_CUDA_LIBS");
        int failed = 0, found = 0;

        snprintf(name, sizeof name, "simgpu-test-%d", getpid());
        setenv("SIMGPU_NAME", name, 1);
        for (int i = 1; i < argc && folder; i++) {
                snprintf(path, sizeof path, "%s/%s", folder, argv[i]);
                if (access(path, R_OK) == 0) {
                        found++;
                        failed += run(path);
                }
        }
        snprintf(segment, sizeof segment, "/dev/shm/%s", name);
        unlink(segment);
        return !found ? 77 : failed > 0;
}
