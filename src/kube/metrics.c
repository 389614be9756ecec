#include "kube/metrics.h"
#include <string.h>

static void count_slots(const struct slots *slots, struct exposition *e)
{
        e->n_resources = slots->n_resources;
        memset(e->resource, 0, sizeof e->resource);
        for (uint32_t r = 0; r < slots->n_resources; r++)
                e->resource[r].name = slots->resource[r].name;
        for (uint32_t i = 0; i < slots->n_slots; i++) {
                const struct slot *slot = &slots->slot[i];

                e->resource[slot->resource].slots[slot->device]++;
                e->resource[slot->resource].held[slot->device] += slot->tenant >= 0 || slot->with >= 0;
        }
}

static char *text(void *context, size_t *ret_size)
{
        struct metrics *metrics = context;
        struct exposition *e = &metrics->exposition;
        const struct host *host = metrics->scrape.host;

        host->services->devices(host->node, e->device);
        host->services->look(host->node, &e->now);
        for (uint32_t d = 0; d < KUBE_DEVICES_MAX; d++)
                e->lost[d] = metrics->health->lost >> d & 1;
        for (uint32_t d = 0; d < e->now.n_devices; d++)
                e->watched[d] = metrics->health->vitals[d].known;
        count_slots(metrics->slots, e);
        return exposition_text(e, ret_size);
}

int metrics_open(struct metrics *metrics, const struct host *host, const struct slots *slots,
                 const struct health *health, const char *where, char *why, size_t size)
{
        metrics->slots = slots;
        metrics->health = health;
        return scrape_open(&metrics->scrape, host, where, text, metrics, why, size);
}
