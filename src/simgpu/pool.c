#include "simgpu/pool.h"
#include <errno.h>
#include <string.h>

int sim_pool_take(struct sim_pool *pool, uint32_t process, uint64_t bytes, uint64_t *ret_offset)
{
        uint64_t at = 0;
        uint32_t i;

        bytes = (bytes + SIM_PAGE - 1) / SIM_PAGE * SIM_PAGE;
        if (pool->n == SIM_EXTENTS_MAX)
                return -ENOMEM;
        for (i = 0; i < pool->n && pool->extent[i].offset - at < bytes; i++)
                at = pool->extent[i].offset + pool->extent[i].bytes;
        if (i == pool->n && pool->bytes - at < bytes)
                return -ENOMEM;
        memmove(&pool->extent[i + 1], &pool->extent[i], (pool->n - i) * sizeof *pool->extent);
        pool->extent[i] = (struct sim_extent){.offset = at, .bytes = bytes, .process = process};
        pool->n++;
        *ret_offset = at;
        return 0;
}

void sim_pool_give(struct sim_pool *pool, uint64_t offset)
{
        for (uint32_t i = 0; i < pool->n; i++)
                if (pool->extent[i].offset == offset) {
                        pool->n--;
                        memmove(&pool->extent[i], &pool->extent[i + 1], (pool->n - i) * sizeof *pool->extent);
                        return;
                }
}

void sim_pool_drop(struct sim_pool *pool, uint32_t process)
{
        uint32_t kept = 0;

        for (uint32_t i = 0; i < pool->n; i++)
                if (pool->extent[i].process != process)
                        pool->extent[kept++] = pool->extent[i];
        pool->n = kept;
}
