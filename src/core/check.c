// What must hold after every step, and what must not.
#include "core/internal.h"

static void check_seat(const struct core *core, uint32_t number)
{
        const struct device *device = &core->device[core->where[number].device];
        const struct seat *seat = seat_of(core, number);
        uint32_t pending = 0;

        assert(seat->device < core->n_devices && device == &core->device[seat->device]);
        assert(seat->number == number && seat == &device->seat[seat->place]); // and nobody else's
        assert(device->seats & bit(seat->place));
        assert(!seat->open || device->holder == seat->place); // one holder per device
        assert(!seat->open || !seat->wants);
        assert(!seat->wants == !(device->wanting & bit(seat->place)));
        assert(seat->n_requests <= CORE_REQUESTS_MAX);
        for (uint32_t r = 0; r < seat->n_requests; r++)
                pending += !seat->request[r].has_token;
        assert(pending == seat->n_pending);
        assert(!pending == (seat->pending_deadline_ns == TAKT_NEVER));
        assert(seat->open == (seat->closed_ns == TAKT_NEVER));
        assert(seat->account.switches <= seat->account.grants);
        assert(seat->account.in_time + seat->account.late <= seat->account.requests);
}

static void check_device(const struct core *core, uint32_t d)
{
        const struct device *device = &core->device[d];
        const struct core_device_account *a = &device->account;
        uint64_t memory = 0;

        assert((device->phase == PHASE_FREE) == (device->holder == NO_SEAT));
        assert(device->holder == NO_SEAT || device->seats & bit(device->holder));   // no grant to the unknown
        assert(device->overlap == NO_SEAT || device->seats & bit(device->overlap)); // nor beside the holder
        assert(device->overlap == NO_SEAT || device->overlap != device->holder);
        assert((device->phase == PHASE_HELD) ==
               (device->holder != NO_SEAT && device->seat[device->holder].open));
        assert(device->phase != PHASE_FREE || !device->wanting);    // work conserving
        assert(!device->wanting || device->timer_ns != TAKT_NEVER); // every wait is bounded
        assert(!(device->wanting & ~device->seats));
        assert(a->granted_ns + a->idle_ns + a->switch_ns == a->elapsed_ns);
        assert(device->accounted_ns <= core->now_ns);
        FOR_EACH_SEAT(i, device->seats)
        {
                assert(core->where[device->seat[i].number].used);
                assert(device->seat[i].device == d && device->seat[i].place == i);
                memory += device->seat[i].contract.memory_bytes;
        }
        assert(!device->config.memory_bytes || memory <= device->config.memory_bytes);
}

void core_check(const struct core *core)
{
        for (uint32_t i = 0; i < CORE_SEATS_MAX; i++)
                if (core->where[i].used)
                        check_seat(core, i);
        for (uint32_t d = 0; d < core->n_devices; d++)
                check_device(core, d);
}
