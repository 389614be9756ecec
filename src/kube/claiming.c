#include "kube/claiming.h"
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include "kube/names.h"

static int ask(void *self, const char *verb, const char *path, const json_t *body, cluster_done *done,
               void *context)
{
        return api_ask(self, verb, path, NULL, body, done, context);
}

static void forget(void *self, const void *context)
{
        api_forget(self, context);
}

static void notified(struct dra *dra, int is_registered, const char *error)
{
        struct claiming *claiming =
                (struct claiming *)(void *)((char *)dra - offsetof(struct claiming, driver.dra));

        if (is_registered)
                slices_publish(&claiming->slices);
        else
                fprintf(stderr, "taktd: the kubelet refused the DRA driver: %s\n", error);
}

// What has changed is seen by looking.
static void slice_event(void *context, enum api_event event, json_t *object)
{
        struct claiming *claiming = context;

        (void)object;
        if (event != API_LISTED)
                slices_news(&claiming->slices);
}

static void slices_listed(void *context)
{
        struct claiming *claiming = context;

        slices_news(&claiming->slices);
}

static void list_begins(void *context)
{
        (void)context;
}

static void watch_lost(void *context, const char *why)
{
        (void)context, (void)why; // the API client has said so
}

int claiming_open(struct claiming *claiming, const struct host *host, const struct slots *slots,
                  const struct injection *injection, struct api *api, const char *node, const char *kubelet,
                  const char *dir, char *why, size_t size)
{
        static const struct api_watcher watcher = {list_begins, slice_event, slices_listed, watch_lost};
        char path[512];
        int error;

        if (!node[0])
                return snprintf(why, size, "GPUs go by claims, and neither takt.node nor NODE_NAME is said"),
                       -EINVAL;
        if (!names_is_subdomain(node))
                return snprintf(why, size, "\"%s\" is no node's name", node), -EINVAL;
        if (!api->is_open)
                return snprintf(why, size, "GPUs go by claims, and no API server is known"), -EINVAL;
        claiming->pool.devices = slots->claimed;
        claiming->pool.n_devices = slots->n_devices;
        memcpy(claiming->pool.device, slots->device, sizeof claiming->pool.device);
        snprintf(claiming->pool.name, sizeof claiming->pool.name, "%s", node);
        claiming->cluster = (struct cluster){api, ask, forget};
        claiming->driver.dra.notified = notified;
        error = dra_open(&claiming->driver.dra, host, injection, &claiming->pool, &claiming->cluster, dir);
        if (error)
                return snprintf(why, size, "claims in %s: %s", dir, strerror(-error)), error;
        slices_open(&claiming->slices, &claiming->pool, &claiming->cluster);
        driver_open(&claiming->driver, host, kubelet);
        snprintf(path, sizeof path,
                 "/apis/resource.k8s.io/v1/resourceslices?fieldSelector=spec.driver%%3D" CLAIM_DRIVER
                 "%%2Cspec.nodeName%%3D%s",
                 node);
        claiming->is_open = 1;
        return api_watch_open(&claiming->watch, api, path, &watcher, claiming);
}

void claiming_close(struct claiming *claiming)
{
        if (!claiming->is_open)
                return;
        api_watch_close(&claiming->watch);
        driver_close(&claiming->driver);
        slices_close(&claiming->slices);
        claiming->is_open = 0;
}

void claiming_health(struct claiming *claiming, uint32_t lost)
{
        if (!claiming->is_open)
                return;
        dra_health(&claiming->driver.dra, lost);
        slices_health(&claiming->slices, lost);
}

uint64_t claiming_due(const struct claiming *claiming)
{
        return claiming->is_open ? takt_time_min(driver_due(&claiming->driver), slices_due(&claiming->slices))
                                 : TAKT_NEVER;
}

void claiming_tick(struct claiming *claiming, uint64_t now_ns)
{
        driver_tick(&claiming->driver, now_ns);
        slices_tick(&claiming->slices, now_ns);
}
