// Green contexts: parts of a device's primary context, with streams of their own. As a context to other calls
// one has a second handle, which may be current to one thread at a time: that is never ours to use.
#pragma once
#include <stdint.h>

struct green {
        uintptr_t handle;
        void *context; // the same, for calls that take a context; NULL: nobody asked for that yet
        void *primary; // NULL: not known
        int device;    // CUDA ordinal
};

void green_made(uintptr_t handle, int device, void *primary);
void green_named(uintptr_t handle, void *context);
// It is about to go; returns what is known of it.
struct green green_gone(uintptr_t handle);
// The primary context of one that is a green context; else the context itself.
void *green_primary(void *context);
void green_in_child(void);
