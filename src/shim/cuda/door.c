#include "shim/cuda/door.h"
#include <dlfcn.h>
#include <pthread.h>
#include <string.h>
#include "shim/cuda/gate.h"

void *door_real[N_HOOKS];
_Atomic int door_is_open;

static void *driver;
static pthread_once_t once = PTHREAD_ONCE_INIT;

static const struct {
        const char *name;
        void *ours;
} hooks[N_HOOKS] = {
#define DECLARED(name) [HOOK_##name] = {#name, NULL},
#define SUBMIT(name, n, stream) DECLARED(name)
#define SUBMIT_COPY(name, n, stream) DECLARED(name)
#define SUBMIT_GRAPH(name, n, stream) DECLARED(name)
#define SUBMIT_SYNC(name, n, stream) DECLARED(name)
#define SUBMIT_SOON(name, n, stream) DECLARED(name)
#define SYNC(name, n, stream) DECLARED(name)
#define OTHER(name) DECLARED(name)
#include "shim/cuda/hooks.inc"
};
static void *ours[N_HOOKS];

// The driver is loaded already: we need it by name. Our own entries are found through our own handle, in
// which a search begins with us.
static void open_driver(void)
{
        Dl_info self;
        void *handle;

        pthread_atfork(NULL, NULL, gate_in_child); // before any lock of ours is taken
        driver = dlopen("libcuda-driver.so.1", RTLD_NOW | RTLD_LOCAL);
        handle = dladdr((void *)door_find, &self) ? dlopen(self.dli_fname, RTLD_NOW | RTLD_NOLOAD) : NULL;
        for (int i = 0; driver && i < N_HOOKS; i++) {
                door_real[i] = dlsym(driver, hooks[i].name);
                ours[i] = handle ? dlsym(handle, hooks[i].name) : NULL;
        }
}

void door_find(void)
{
        pthread_once(&once, open_driver);
        atomic_store_explicit(&door_is_open, 1, memory_order_release);
}

void *door_driver(const char *name)
{
        door_open();
        return driver ? dlsym(driver, name) : NULL;
}

// The driver's answer, or ours in place of the driver's own entry of a hooked export.
static void substitute(void **entry)
{
        for (int i = 0; entry && *entry && i < N_HOOKS; i++)
                if (door_real[i] == *entry && ours[i]) {
                        *entry = ours[i];
                        return;
                }
}

EXPORT int cuGetProcAddress_v2(const char *name, void **entry, int version, uint64_t flags, int *status);
EXPORT int cuGetProcAddress(const char *name, void **entry, int version, uint64_t flags);

int cuGetProcAddress_v2(const char *name, void **entry, int version, uint64_t flags, int *status)
{
        int error;

        door_open();
        if (!door_real[HOOK_cuGetProcAddress_v2])
                return CUDA_NOT_FOUND;
        error = (int)REAL(cuGetProcAddress_v2, name, entry, version, flags, status);
        substitute(entry);
        return error;
}

int cuGetProcAddress(const char *name, void **entry, int version, uint64_t flags)
{
        int error;

        door_open();
        if (!door_real[HOOK_cuGetProcAddress])
                return CUDA_NOT_FOUND;
        error = (int)REAL(cuGetProcAddress, name, entry, version, flags);
        substitute(entry);
        return error;
}
