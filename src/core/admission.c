// Admission by arrival curves (Liebeherr, Wrege, Ferrari 1996; Georgiadis, Guerin, Parekh 1997): under
// earliest deadline first, every deadline is met if for every span t the demand that must be done within it,
// plus the longest piece of later deadline that may be in the way, is at most t.
//
// Each curve is concave and linear by pieces, so demand(t) / t is largest at a joint: where a curve starts
// (its deadline), just before (where its owner still counts as one that blocks), or where its two buckets
// cross.
#include <errno.h>
#include "core/internal.h"

static uint64_t part(uint64_t span_ns, uint32_t ppm)
{
        return span_ns / CORE_PPM * ppm + span_ns % CORE_PPM * ppm / CORE_PPM;
}

static uint64_t demand_of(const struct core_contract *c, uint64_t t)
{
        if (c->class != CORE_CLASS_DEADLINE || t < c->first_ns)
                return 0;
        return takt_time_min(c->burst_ns + part(t - c->first_ns, c->peak_ppm),
                             c->depth_ns + part(t - c->first_ns, c->share_ppm));
}

struct promises {
        const struct core_contract *contract;
        uint32_t n;
        uint64_t switch_ns;
        uint8_t fair; // somebody is in the fair class: its guarantee counts
};

static uint64_t demand(const struct promises *p, uint64_t t)
{
        uint64_t sum = 0, blocking = 0;

        for (uint32_t i = 0; i < p->n; i++) {
                const struct core_contract *c = &p->contract[i];

                sum += demand_of(c, t);
                if (c->class != CORE_CLASS_DEADLINE || c->first_ns > t)
                        blocking = takt_time_max(blocking, c->step_ns + p->switch_ns);
        }
        if (p->fair && t >= FAIR_WAIT_NS)
                sum += part(t, FAIR_GUARANTEE_PPM);
        return sum + blocking;
}

static void look_at(const struct promises *p, uint64_t t, uint64_t *fullest, struct core_refusal *ret)
{
        uint64_t due, ppm;

        if (t == 0)
                return;
        due = demand(p, t);
        ppm = (uint64_t)((unsigned __int128)due * CORE_PPM / t);
        if (ppm <= *fullest)
                return;
        *fullest = ppm;
        ret->span_ns = t;
        ret->demand_ns = due;
        ret->seat = 0;
        for (uint32_t i = 0; i < p->n; i++)
                if (p->contract[i].class == CORE_CLASS_DEADLINE && p->contract[i].first_ns <= t &&
                    (p->contract[ret->seat].first_ns > t ||
                     p->contract[i].first_ns >= p->contract[ret->seat].first_ns))
                        ret->seat = i;
}

uint64_t core_admission_fullest(const struct core_contract *contracts, uint32_t n_contracts,
                                uint64_t switch_ns, struct core_refusal *ret_refusal)
{
        struct promises p = {contracts, n_contracts, switch_ns, 0};
        struct core_refusal fullest_at = {.reason = CORE_REFUSAL_TIME};
        uint64_t fullest = 0, rate = 0;

        for (uint32_t i = 0; i < n_contracts; i++)
                p.fair |= contracts[i].class == CORE_CLASS_FAIR;
        for (uint32_t i = 0; i < n_contracts; i++) {
                const struct core_contract *c = &contracts[i];

                if (c->class != CORE_CLASS_DEADLINE)
                        continue;
                rate += c->share_ppm;
                look_at(&p, c->first_ns, &fullest, &fullest_at);
                look_at(&p, c->first_ns - 1, &fullest, &fullest_at);
                if (c->peak_ppm > c->share_ppm)
                        look_at(&p,
                                c->first_ns +
                                        (c->depth_ns - c->burst_ns) * CORE_PPM / (c->peak_ppm - c->share_ppm),
                                &fullest, &fullest_at);
        }
        if (p.fair)
                look_at(&p, FAIR_WAIT_NS, &fullest, &fullest_at);
        // In the long run only the rates count.
        rate += p.fair ? FAIR_GUARANTEE_PPM : 0;
        if (rate > fullest) {
                fullest = rate;
                fullest_at.span_ns = 1000 * TAKT_S;
                fullest_at.demand_ns = part(fullest_at.span_ns, (uint32_t)rate);
        }
        if (ret_refusal)
                *ret_refusal = fullest_at;
        return fullest;
}

int admission_check(const struct core *core, uint32_t d, uint32_t seat, const struct core_contract *contract,
                    struct core_refusal *ret_refusal)
{
        const struct device *device = &core->device[d];
        struct core_contract contracts[CORE_PLACES_MAX], newcomer = *contract;
        uint32_t whose[CORE_PLACES_MAX], n = 0;
        uint64_t memory = newcomer.memory_bytes;

        *ret_refusal = (struct core_refusal){.seat = seat};
        if (core_contract_complete(&newcomer) < 0) {
                ret_refusal->reason = CORE_REFUSAL_INVALID;
                return -EINVAL;
        }
        FOR_EACH_SEAT(i, device->seats)
        {
                if (device->seat[i].number == seat)
                        continue;
                if (n == CORE_PLACES_MAX - 1) {
                        ret_refusal->reason = CORE_REFUSAL_FULL;
                        return -EUSERS;
                }
                contracts[n] = device->seat[i].contract;
                memory += contracts[n].memory_bytes;
                whose[n++] = device->seat[i].number;
        }
        contracts[n] = newcomer;
        whose[n++] = seat;
        if (device->config.memory_bytes && memory > device->config.memory_bytes) {
                ret_refusal->reason = CORE_REFUSAL_MEMORY;
                ret_refusal->demand_bytes = memory;
                ret_refusal->capacity_bytes = device->config.memory_bytes;
                return -ENOSPC;
        }
        if (core_admission_fullest(contracts, n, device->config.switch_ns, ret_refusal) > CORE_PPM) {
                ret_refusal->seat = whose[ret_refusal->seat];
                return -EDQUOT;
        }
        return 0;
}

int core_would_admit(const struct core *core, uint32_t device, const struct core_contract *contract)
{
        struct core_refusal refusal;
        uint32_t seat = 0;

        while (seat < CORE_SEATS_MAX && core->where[seat].used)
                seat++;
        return seat < CORE_SEATS_MAX && admission_check(core, device, seat, contract, &refusal) == 0;
}
