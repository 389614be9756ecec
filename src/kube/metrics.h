// What is scraped: the daemon's accounts and the slots, put together when somebody asks.
#pragma once
#include "kube/exposition.h"
#include "kube/health.h"
#include "kube/scrape.h"
#include "kube/slots.h"

struct metrics {
        struct scrape scrape;
        const struct slots *slots;
        const struct health *health;
        struct exposition exposition; // of the last who asked
};

// Serves them at `where`, as scrape_open says. Returns 0, or a negative errno with the reason in `why`.
int metrics_open(struct metrics *metrics, const struct host *host, const struct slots *slots,
                 const struct health *health, const char *where, char *why, size_t size);
