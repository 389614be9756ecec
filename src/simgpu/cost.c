// How long work takes, from the profile in the environment.
//
// SIMGPU_LLM="decode_us=4000 extra_percent=3 prefill_us=100 norms=9" lets a tiny model stand for a large one:
// the normalisation kernels, of which an LLM has a fixed number a step (two a layer and one), carry the time
// of the step. One with up to 8 rows belongs to a decode step of so many sessions, one with more to a prefill
// of so many tokens. Other kernels take SIMGPU_KERNEL_US (default 1), or their blocks over the device's
// parallelism if that is more.
#include <stdlib.h>
#include <string.h>
#include "simgpu/driver.h"
#include "simgpu/profile.h"

#define DECODE_ROWS_MAX 8
#define SM 108 // A100 SXM4 40 GB (NVIDIA A100 datasheet)
#define BLOCKS_PER_SM 8
#define WAVE_NS 2000            // one wave of blocks of an unknown kernel
#define PCIE_BYTES_PER_US 22000 // PCIe 4.0 x16, what is left after overhead
#define HBM_BYTES_PER_US 700000 // 1,555 GB/s read and written
#define COPY_START_NS 1500

struct profile {
        uint64_t kernel_ns;
        uint64_t decode_ns, extra_percent, prefill_ns, norms; // norms 0: no LLM profile
};

static struct profile profile;
static pthread_once_t once = PTHREAD_ONCE_INIT;

static uint64_t number(const char *text, const char *key, uint64_t otherwise)
{
        const char *at = text ? strstr(text, key) : NULL;

        return at ? (uint64_t)(strtod(at + strlen(key), NULL) * 1000) : otherwise * 1000;
}

static void load(void)
{
        const char *llm = sim_setting("SIMGPU_LLM"), *kernel = sim_setting("SIMGPU_KERNEL_US");

        profile.kernel_ns = kernel ? (uint64_t)(strtod(kernel, NULL) * 1000) : 1000;
        if (!llm)
                return;
        profile.decode_ns = number(llm, "decode_us=", 5000);
        profile.extra_percent = number(llm, "extra_percent=", 3) / 1000;
        profile.prefill_ns = number(llm, "prefill_us=", 100);
        profile.norms = number(llm, "norms=", 9) / 1000;
}

int cost_is_row_kernel(const char *name)
{
        return strstr(name, "rms_norm") != NULL;
}

uint64_t cost_of_kernel(const struct function *f, const unsigned grid[3], const unsigned block[3])
{
        uint64_t rows = grid[0], blocks = (uint64_t)grid[0] * grid[1] * grid[2];
        uint64_t threads = (uint64_t)block[0] * block[1] * block[2], waves, ns;

        pthread_once(&once, load);
        if (f->cost_ns)
                return f->cost_ns;
        if (profile.norms && f->is_llm_row) {
                if (rows <= DECODE_ROWS_MAX)
                        return profile.decode_ns * (100 + profile.extra_percent * (rows - 1)) / 100 /
                               profile.norms;
                return profile.prefill_ns * rows / profile.norms;
        }
        if (profile.norms)
                return profile.kernel_ns;
        waves = blocks * threads / (SM * BLOCKS_PER_SM * 256) + 1;
        ns = waves * WAVE_NS;
        return ns > profile.kernel_ns ? ns : profile.kernel_ns;
}

uint64_t cost_of_copy(size_t bytes, int on_device)
{
        return COPY_START_NS + bytes * 1000 / (on_device ? HBM_BYTES_PER_US : PCIE_BYTES_PER_US);
}
