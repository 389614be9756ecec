// Every export of the driver: those that are not built answer "not supported".
#include <stdio.h>
#include "simgpu/driver.h"
#include "simgpu/settings.h"

static int unsupported(const char *name)
{
        if (sim_number("SIMGPU_TRACE"))
                fprintf(stderr, "simgpu: %s is not supported\n", name);
        return NOT_SUPPORTED;
}

// Weak: where the function is built, that one is taken.
#define SYMBOL(name, version, flag, export)                                                                  \
        __attribute__((weak, visibility("default"))) int export(void);                                       \
        int export(void)                                                                                     \
        {                                                                                                    \
                return unsupported(#export);                                                                 \
        }
#include "simgpu/symbols.inc"
#undef SYMBOL

const struct symbol symbols[] = {
#define SYMBOL(name, version, flag, export) {name, version, flag, export},
#include "simgpu/symbols.inc"
};
const size_t n_symbols = sizeof symbols / sizeof *symbols;
