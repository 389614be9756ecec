// Which of the device's memory belongs to whom. Freed memory keeps what is in it, and the lowest free piece
// is given next: the next owner sees what the last one left.
#pragma once
#include <stdint.h>

#define SIM_EXTENTS_MAX 4096
#define SIM_PAGE UINT64_C(4096)

struct sim_extent {
        uint64_t offset, bytes;
        uint32_t process, reserved;
};

// Extents are in the order of their offsets.
struct sim_pool {
        uint64_t bytes;
        uint32_t n, reserved;
        struct sim_extent extent[SIM_EXTENTS_MAX];
};

// The lowest free piece of that many bytes, in whole pages. 0, or -ENOMEM.
int sim_pool_take(struct sim_pool *pool, uint32_t process, uint64_t bytes, uint64_t *ret_offset);
// Gives back what begins there; what does not exist is passed over.
void sim_pool_give(struct sim_pool *pool, uint64_t offset);
// Gives back all of a process.
void sim_pool_drop(struct sim_pool *pool, uint32_t process);
