#include "core/contract.h"
#include <errno.h>
#include "base/time.h"

// Part of a time-to-first-token objective that is not the device's: 30 %, but at most 200 ms, is left for the
// host.
static uint64_t first_of(uint64_t ttft_ns)
{
        return ttft_ns - takt_time_min(ttft_ns * 3 / 10, 200 * TAKT_MS);
}

static int complete_deadline(struct core_contract *c)
{
        if (!c->share_ppm || (c->slo_ns ? c->ttft_ns || c->itl_ns : !c->ttft_ns || !c->itl_ns))
                return -EINVAL;
        // A short answer is one prefill and a few tokens: a fifth of the objective for the first, a twentieth
        // for each.
        if (!c->first_ns)
                c->first_ns = c->ttft_ns ? first_of(c->ttft_ns) : c->slo_ns / 5;
        if (!c->pace_ns)
                c->pace_ns = c->itl_ns ? c->itl_ns : c->slo_ns / 20;
        if (!c->burst_ns)
                c->burst_ns = takt_time_max(c->first_ns, 100 * TAKT_MS) * c->share_ppm / CORE_PPM;
        if (!c->depth_ns)
                c->depth_ns = takt_time_max(c->burst_ns, TAKT_S * c->share_ppm / CORE_PPM);
        if (!c->peak_ppm)
                c->peak_ppm = c->share_ppm + (CORE_PPM - c->share_ppm) / 10;
        if (!c->first_ns || !c->pace_ns || !c->burst_ns)
                return -EINVAL;
        return c->peak_ppm < c->share_ppm || c->depth_ns < c->burst_ns ? -EINVAL : 0;
}

int core_contract_complete(struct core_contract *c)
{
        const uint64_t longest = 3600 * TAKT_S;

        if (c->share_ppm > CORE_PPM || c->peak_ppm > CORE_PPM || c->weight > CORE_WEIGHT_MAX)
                return -EINVAL;
        if (c->slo_ns > longest || c->ttft_ns > longest || c->itl_ns > longest || c->depth_ns > longest ||
            c->burst_ns > longest || c->step_ns > CORE_STEP_MAX_NS || c->first_ns > longest ||
            c->pace_ns > longest)
                return -EINVAL;
        if (!c->step_ns)
                c->step_ns = 5 * TAKT_MS;
        if (!c->weight)
                c->weight = 100;
        switch (c->class) {
        case CORE_CLASS_DEADLINE:
                return complete_deadline(c);
        case CORE_CLASS_FAIR:
        case CORE_CLASS_IDLE:
                return 0;
        default:
                return -EINVAL;
        }
}
