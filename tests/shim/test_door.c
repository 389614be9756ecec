// The door: every row of cudaTypedefs.h, asked by dlsym and by cuGetProcAddress, must give our entry exactly
// where the driver's entry is one that we hook, and the driver's own everywhere else. Also the link-time
// rule: we export no more.
#include <dlfcn.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include "hooked.h"

static const struct {
        const char *name;
        int version, flag;
        const char *export;
} rows[] = {
#define SYMBOL(name, version, flag, export) {name, version, flag, #export},
#include "simgpu/symbols.inc"
};

static int is_hooked(const char *export)
{
        for (size_t i = 0; i < sizeof hooked / sizeof *hooked; i++)
                if (!strcmp(hooked[i], export))
                        return 1;
        return 0;
}

static void *symbol_of(void *library, const char *name)
{
        return dlsym(library, name);
}

int main(void)
{
        void *ours = dlopen("libcuda.so.1", RTLD_NOW), *driver = dlopen("libcuda-driver.so.1", RTLD_NOW);
        int (*ask_ours)(const char *, void **, int, uint64_t, int *),
                (*ask_driver)(const char *, void **, int, uint64_t, int *);
        int wrong = 0, n = 0, hooks = 0;

        if (!ours || !driver)
                return printf("%s\n", dlerror()), 1;
        ask_ours =
                (int (*)(const char *, void **, int, uint64_t, int *))symbol_of(ours, "cuGetProcAddress_v2");
        ask_driver = (int (*)(const char *, void **, int, uint64_t, int *))symbol_of(driver,
                                                                                     "cuGetProcAddress_v2");
        if (!ask_ours || ask_ours == ask_driver)
                return printf("the shim's door is not in front\n"), 1;
        for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
                void *theirs = symbol_of(driver, rows[i].export), *by_name = symbol_of(ours, rows[i].export);
                void *asked_ours = NULL, *asked_driver = NULL;
                int status, ours_answer, driver_answer, ok;

                ours_answer =
                        ask_ours(rows[i].name, &asked_ours, rows[i].version, (uint64_t)rows[i].flag, &status);
                driver_answer = ask_driver(rows[i].name, &asked_driver, rows[i].version,
                                           (uint64_t)rows[i].flag, &status);
                ok = ours_answer == driver_answer && asked_driver == theirs;
                if (!theirs) // an older driver: a lookup says so, whatever we export
                        ok &= asked_ours == asked_driver;
                else if (is_hooked(rows[i].export))
                        ok &= by_name && by_name != theirs && asked_ours == by_name;
                else
                        ok &= by_name == theirs && asked_ours == theirs;
                hooks += is_hooked(rows[i].export);
                n++;
                if (!ok) {
                        wrong++;
                        printf("wrong: %s version %d flag %d (%s)\n", rows[i].name, rows[i].version,
                               rows[i].flag, rows[i].export);
                }
        }
        printf("%d wrong of %d rows, %d of them hooked\n", wrong, n, hooks);
        return wrong > 0 || hooks != (int)(sizeof hooked / sizeof *hooked);
}
