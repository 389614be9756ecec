// What the tests ask of the fake driver (fake.c): what was called, and when work is done.
#pragma once
#include <stdint.h>

typedef int (*fake_answer)(const uintptr_t argument[11]);

struct fake {
        // How often an export was called, with the arguments of the last call (NULL: not wanted).
        unsigned (*count)(const char *export, uintptr_t ret_argument[11]);
        // What an export answers from now on, instead of what it does by itself; NULL: that again.
        void (*set)(const char *export, fake_answer answer);
        // Work is done when the test says so (on = 1), not at once.
        void (*manual)(int on);
        // All work on this stream is done (as the driver names it; 0 is the legacy stream of the primary
        // context).
        void (*finish)(uintptr_t stream);
        // Calls on a stream that captures, other than the host's own kinds, or with a context that is
        // gone or green, since the start.
        unsigned (*intrusions)(void);
};
