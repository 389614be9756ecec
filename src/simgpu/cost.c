// How long work takes, as the settings say.
//
// SIMGPU_LLM="decode_us=4000 extra_percent=3 prefill_us=100 norms=9" lets a tiny model stand for a large one:
// the normalisation kernels, of which an LLM has a fixed number a step (two a layer and one), carry the time
// of the step. One with up to 8 rows belongs to a decode step of so many sessions, one with more to a prefill
// of so many tokens. Other kernels take SIMGPU_KERNEL_US (default 1), or their blocks over the device's
// parallelism if that is more.
#include <string.h>
#include "simgpu/driver.h"
#include "simgpu/profile.h"
#include "simgpu/settings.h"

#define DECODE_ROWS_MAX 8
#define SM 108 // A100 SXM4 40 GB (NVIDIA A100 datasheet)
#define BLOCKS_PER_SM 8
#define WAVE_NS 2000            // one wave of blocks of an unknown kernel
#define PCIE_BYTES_PER_US 22000 // PCIe 4.0 x16, what is left after overhead
#define HBM_BYTES_PER_US 700000 // 1,555 GB/s read and written
#define COPY_START_NS 1500

static uint64_t kernel_ns;
static struct sim_llm llm; // norms 0: no large model
static pthread_once_t once = PTHREAD_ONCE_INIT;

static void load(void)
{
        const char *text = sim_setting("SIMGPU_LLM");

        kernel_ns = sim_number("SIMGPU_KERNEL_US");
        if (text && *text)
                sim_llm_read(text, &llm);
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
        if (llm.norms && f->is_llm_row) {
                if (rows <= DECODE_ROWS_MAX)
                        return llm.decode_ns * (100 + llm.extra_percent * (rows - 1)) / 100 / llm.norms;
                return llm.prefill_ns * rows / llm.norms;
        }
        if (llm.norms)
                return kernel_ns;
        waves = blocks * threads / (SM * BLOCKS_PER_SM * 256) + 1;
        ns = waves * WAVE_NS;
        return ns > kernel_ns ? ns : kernel_ns;
}

uint64_t cost_of_copy(size_t bytes, int on_device)
{
        return COPY_START_NS + bytes * 1000 / (on_device ? HBM_BYTES_PER_US : PCIE_BYTES_PER_US);
}
