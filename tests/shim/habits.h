// What programs of a test's have in common that use the driver as programs find it.
#pragma once
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define WAVE (108 * 8) // blocks of 256 threads that run at once
#define BLOCKS_10MS (WAVE * 5000)
#define MIB ((size_t)1 << 20)

// A kernel that does nothing, for those drivers that look into what they load.
#define IMAGE ".version 7.0\n.target sm_70\n.address_size 64\n.visible .entry kernel(){ret;}\n"

static void *library, *context, *kernel;

#define CALL(name, ...) ((int (*)())dlsym(library, #name))(__VA_ARGS__)
#define MUST(name, ...)                                                                                      \
        do {                                                                                                 \
                int error = CALL(name, __VA_ARGS__);                                                         \
                if (error)                                                                                   \
                        printf("%s:%d: %s: %d\n", __FILE__, __LINE__, #name, error), exit(1);                \
        } while (0)
#define CHECK(what)                                                                                          \
        do {                                                                                                 \
                if (!(what))                                                                                 \
                        printf("%s:%d: not so: %s\n", __FILE__, __LINE__, #what), exit(1);                   \
        } while (0)

static void say(const char *what)
{
        char line[16];

        printf("%s\n", what);
        fflush(stdout);
        if (read(0, line, sizeof line) <= 0)
                exit(3);
}

static void launch(void *stream, unsigned blocks)
{
        MUST(cuLaunchKernel, kernel, blocks, 1, 1, 256, 1, 1, 0, stream, NULL, NULL);
}

static void open_driver(void)
{
        library = dlopen("libcuda.so.1", RTLD_NOW);
        if (!library)
                printf("%s\n", dlerror()), exit(2);
}

static void begin(void)
{
        void *module;

        MUST(cuInit, 0);
        MUST(cuDevicePrimaryCtxRetain, &context, 0);
        MUST(cuCtxSetCurrent, context);
        MUST(cuLibraryLoadData, &module, IMAGE, NULL, NULL, 0, NULL, NULL, 0);
        MUST(cuLibraryGetKernel, &kernel, module, "kernel");
}
