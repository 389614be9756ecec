// A driver newer than the shim: it has a function that nobody has heard of, by name and by lookup, and a
// later version of one that is hooked.
#include <stdint.h>
#include <string.h>

int cuFuture(void);
int cuLaunchKernel(void);
int cuLaunchKernel_v9(void);
int cuGetProcAddress_v2(const char *name, void **entry, int version, uint64_t flags, int *status);

int cuFuture(void)
{
        return 2030;
}

int cuLaunchKernel(void)
{
        return 1;
}

int cuLaunchKernel_v9(void)
{
        return 9;
}

int cuGetProcAddress_v2(const char *name, void **entry, int version, uint64_t flags, int *status)
{
        (void)flags, (void)status;
        *entry = !strcmp(name, "cuFuture")                            ? (void *)cuFuture
                 : !strcmp(name, "cuLaunchKernel") && version > 19000 ? (void *)cuLaunchKernel_v9
                 : !strcmp(name, "cuLaunchKernel")                    ? (void *)cuLaunchKernel
                                                                      : 0;
        return *entry ? 0 : 500;
}
