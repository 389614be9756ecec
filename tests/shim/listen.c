// Listens at the door: a libcuda.so.1 in front of the shim, which it needs as libcuda-shim.so.1. Whoever asks
// for an entry is answered by the shim, and each answer must be the shim's own entry exactly where the
// driver's is one that we hook, and the driver's own everywhere else. What was asked goes to the file LISTEN,
// a line each: whose the answer was (shim, driver, nobody) or that it was wrong, then version, flags and
// name.
#include <dlfcn.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
#include "hooked.h"

typedef int (*ask)(const char *name, void **entry, int version, uint64_t flags, int *status);
typedef int (*ask_v1)(const char *name, void **entry, int version, uint64_t flags);

int cuGetProcAddress_v2(const char *name, void **entry, int version, uint64_t flags, int *status);
int cuGetProcAddress(const char *name, void **entry, int version, uint64_t flags);

static void *symbol_of(const char *library, const char *name)
{
        return dlsym(dlopen(library, RTLD_NOW | RTLD_NOLOAD), name);
}

static const char *whose(const void *given, const void *drivers)
{
        for (size_t i = 0; drivers && i < sizeof hooked / sizeof *hooked; i++)
                if (symbol_of("libcuda-driver.so.1", hooked[i]) == drivers)
                        return given == symbol_of("libcuda-shim.so.1", hooked[i]) && given != drivers
                                       ? "shim"
                                       : "wrong";
        return given != drivers ? "wrong" : drivers ? "driver" : "nobody";
}

static void note(const char *name, int version, uint64_t flags, const char *what)
{
        int fd = open(getenv("LISTEN"), O_WRONLY | O_APPEND | O_CREAT, 0600);

        dprintf(fd, "%s %d %d %s\n", what, version, (int)flags, name);
        close(fd);
}

// Who asks for the door itself goes on to ask here.
static void stay(void **entry)
{
        if (*entry == symbol_of("libcuda-shim.so.1", "cuGetProcAddress_v2"))
                *entry = (void *)cuGetProcAddress_v2;
        if (*entry == symbol_of("libcuda-shim.so.1", "cuGetProcAddress"))
                *entry = (void *)cuGetProcAddress;
}

int cuGetProcAddress_v2(const char *name, void **entry, int version, uint64_t flags, int *status)
{
        void *drivers = NULL;
        int theirs, error, ignored;

        theirs = ((ask)symbol_of("libcuda-driver.so.1", "cuGetProcAddress_v2"))(name, &drivers, version,
                                                                                flags, &ignored);
        error = ((ask)symbol_of("libcuda-shim.so.1", "cuGetProcAddress_v2"))(name, entry, version, flags,
                                                                             status);
        note(name, version, flags, error == theirs ? whose(*entry, drivers) : "wrong");
        stay(entry);
        return error;
}

int cuGetProcAddress(const char *name, void **entry, int version, uint64_t flags)
{
        void *drivers = NULL;
        int theirs, error;

        theirs = ((ask_v1)symbol_of("libcuda-driver.so.1", "cuGetProcAddress"))(name, &drivers, version,
                                                                                flags);
        error = ((ask_v1)symbol_of("libcuda-shim.so.1", "cuGetProcAddress"))(name, entry, version, flags);
        note(name, version, flags, error == theirs ? whose(*entry, drivers) : "wrong");
        stay(entry);
        return error;
}
