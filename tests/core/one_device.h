// A core with one empty device, as most tests want it.
#pragma once
#include <stdlib.h>
#include "base/time.h"
#include "core/core.h"

// The caller's to free.
static inline struct core *one_device(void)
{
        static const struct core_device_config config = {0, 100 * TAKT_US, 2 * TAKT_MS, 10 * TAKT_S,
                                                         2 * TAKT_MS};

        return core_init(aligned_alloc(64, (core_size() + 63) / 64 * 64), 1, &config, 0);
}
