// Every function of NVML: those that are not built answer "not supported", for some programs ask for all they
// might ever call and take a missing name as a broken library.
#include <stdio.h>
#include "simgpu/settings.h"

#define NOT_SUPPORTED 3

static int unsupported(const char *name)
{
        if (sim_number("SIMGPU_TRACE"))
                fprintf(stderr, "simgpu: %s is not supported\n", name);
        return NOT_SUPPORTED;
}

// Weak: where the function is built, that one is taken.
#define SYMBOL(name)                                                                                         \
        __attribute__((weak, visibility("default"))) int name(void);                                         \
        int name(void)                                                                                       \
        {                                                                                                    \
                return unsupported(#name);                                                                   \
        }
#include "simgpu/nvml_symbols.inc"
