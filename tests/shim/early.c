// CUDA in a constructor: this library's (or this program's, with -DPROGRAM; with -DPROGRAM -DLATE the program
// has none, and opens the libraries that it is told). It begins, allocates and launches before main, or in
// the middle of a dlopen, with the loader's lock taken; and neither waits for its work nor asks for it. With
// -DGLOBAL it opens no driver, but takes what somebody else has loaded.
#include <stdint.h>
#include "habits.h"

#ifndef LATE
static __attribute__((constructor)) void early(void)
{
        uintptr_t pointer;

        alarm(60); // a deadlock ends here
#ifdef GLOBAL
        library = RTLD_DEFAULT;
#else
        open_driver();
#endif
        begin();
        MUST(cuMemAlloc_v2, &pointer, 600 * MIB);
        CHECK(CALL(cuMemAlloc_v2, &pointer, 600 * MIB) == 2);
        say("allocated");
        launch(NULL, WAVE * 500);
        say("launched");
}
#endif

#ifdef PROGRAM
int main(int argc, char **argv)
{
        for (int i = 1; i < argc; i++)
                if (!dlopen(argv[i], RTLD_NOW))
                        printf("%s\n", dlerror()), exit(2);
        printf("main\n");
        return 0;
}
#endif
