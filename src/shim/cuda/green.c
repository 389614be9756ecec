// A process has a few of them, one for each part of its device: those beyond the table are taken for ordinary
// contexts.
#include "shim/cuda/green.h"
#include <stdatomic.h>
#include <string.h>
#include "shim/cuda/lock.h"

#define GREENS_MAX 64

static struct {
        struct lock lock;
        _Atomic uint32_t n; // read without the lock
        struct green at[GREENS_MAX];
} greens;

// With the lock held; 0: a free place. NULL: there is none.
static struct green *find(uintptr_t handle)
{
        for (struct green *g = greens.at; g < greens.at + GREENS_MAX; g++)
                if (g->handle == handle)
                        return g;
        return NULL;
}

void green_made(uintptr_t handle, int device, void *primary)
{
        struct green *place;

        lock_take(&greens.lock);
        place = find(0);
        if (place) {
                *place = (struct green){handle, NULL, primary, device};
                atomic_fetch_add_explicit(&greens.n, 1, memory_order_relaxed);
        }
        lock_give(&greens.lock);
}

void green_named(uintptr_t handle, void *context)
{
        struct green *found;

        lock_take(&greens.lock);
        found = find(handle);
        if (found)
                found->context = context;
        lock_give(&greens.lock);
}

struct green green_gone(uintptr_t handle)
{
        struct green gone = {0}, *found;

        lock_take(&greens.lock);
        found = handle ? find(handle) : NULL;
        if (found) {
                gone = *found;
                *found = (struct green){0};
                atomic_fetch_sub_explicit(&greens.n, 1, memory_order_relaxed);
        }
        lock_give(&greens.lock);
        return gone;
}

void *green_primary(void *context)
{
        void *primary = NULL;

        if (!context || !atomic_load_explicit(&greens.n, memory_order_relaxed))
                return context;
        lock_take(&greens.lock);
        for (struct green *g = greens.at; g < greens.at + GREENS_MAX; g++)
                if (g->handle && g->context == context)
                        primary = g->primary;
        lock_give(&greens.lock);
        return primary ? primary : context;
}

// CUDA does not go with a fork.
void green_in_child(void)
{
        memset(&greens, 0, sizeof greens);
}
