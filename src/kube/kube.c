// The door by which pods come: puts the parts together and gives them the loop.
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <sys/timerfd.h>
#include <unistd.h>
#include "base/clock.h"
#include "kube/cdi.h"
#include "kube/cgroup.h"
#include "kube/claiming.h"
#include "kube/config.h"
#include "kube/file.h"
#include "kube/health.h"
#include "kube/libdir.h"
#include "kube/life.h"
#include "kube/metrics.h"
#include "kube/pods.h"
#include "kube/reports.h"
#include "kube/strangers.h"

static struct kube {
        struct host host;
        struct config config;
        struct slots slots;
        struct life life[KUBE_RESOURCES_MAX];
        struct pods pods;
        struct health health;
        struct api api;
        struct events events;
        struct wishes wishes;
        struct reports reports;
        struct claiming claiming;
        struct strangers strangers;
        struct metrics metrics;
        char dir[80], folder[104];
        struct watch news, timer;
        int folder_watch; // inotify's number; -1: the folder is not there
        uint64_t armed_ns;
} kube;

static void timer_rang(struct node *node, struct watch *watch, uint32_t events)
{
        uint64_t n;

        (void)node, (void)events;
        if (read(watch->fd, &n, sizeof n) == sizeof n)
                kube.armed_ns = TAKT_NEVER;
}

static void watch_folder(void)
{
        mkdir(kube.folder, 0755);
        kube.folder_watch = inotify_add_watch(
                kube.news.fd, kube.folder, IN_CREATE | IN_MOVED_TO | IN_DELETE | IN_MOVED_FROM | IN_ONLYDIR);
}

static void folder_news(struct node *node, struct watch *watch, uint32_t events)
{
        _Alignas(struct inotify_event) char bytes[4096];
        ssize_t n = read(watch->fd, bytes, sizeof bytes);
        uint64_t now_ns = takt_clock_now();

        (void)node, (void)events;
        for (ssize_t at = 0; at < n;) {
                const struct inotify_event *event = (const struct inotify_event *)(void *)(bytes + at);

                at += (ssize_t)(sizeof *event + event->len);
                if (event->mask & IN_IGNORED)
                        kube.folder_watch = -1;
                for (uint32_t r = 0; event->len && r < kube.slots.n_resources; r++)
                        life_news(&kube.life[r], event->name, !!(event->mask & (IN_CREATE | IN_MOVED_TO)),
                                  now_ns);
        }
}

static void arm(uint64_t due_ns)
{
        struct itimerspec spec = {0};

        if (due_ns == kube.armed_ns)
                return;
        kube.armed_ns = due_ns;
        if (due_ns != TAKT_NEVER) {
                spec.it_value.tv_sec = (time_t)(due_ns / TAKT_S);
                spec.it_value.tv_nsec = (long)(due_ns % TAKT_S) | 1;
        }
        timerfd_settime(kube.timer.fd, TFD_TIMER_ABSTIME, &spec, NULL);
}

static void turn(void)
{
        uint64_t now_ns = takt_clock_now(), due_ns = TAKT_NEVER;

        if (kube.folder_watch < 0)
                watch_folder();
        for (uint32_t r = 0; r < kube.slots.n_resources; r++) {
                if (life_due(&kube.life[r]) <= now_ns)
                        life_tick(&kube.life[r], now_ns);
                due_ns = takt_time_min(due_ns, life_due(&kube.life[r]));
        }
        if (pods_due(&kube.pods) <= now_ns)
                pods_tick(&kube.pods, now_ns);
        if (strangers_due(&kube.strangers) <= now_ns)
                strangers_tick(&kube.strangers, now_ns);
        due_ns = takt_time_min(due_ns, strangers_due(&kube.strangers));
        if (reports_due(&kube.reports) <= now_ns)
                reports_tick(&kube.reports, now_ns);
        due_ns = takt_time_min(due_ns, reports_due(&kube.reports));
        if (events_due(&kube.events) <= now_ns)
                events_tick(&kube.events, now_ns);
        if (claiming_due(&kube.claiming) <= now_ns)
                claiming_tick(&kube.claiming, now_ns);
        due_ns = takt_time_min(due_ns, claiming_due(&kube.claiming));
        if (api_due(&kube.api) <= now_ns)
                api_tick(&kube.api, now_ns);
        due_ns = takt_time_min(due_ns, takt_time_min(events_due(&kube.events), api_due(&kube.api)));
        if (health_due(&kube.health) <= now_ns)
                health_tick(&kube.health, now_ns);
        due_ns = takt_time_min(due_ns, health_due(&kube.health));
        if (scrape_due(&kube.metrics.scrape) <= now_ns)
                scrape_tick(&kube.metrics.scrape);
        due_ns = takt_time_min(due_ns, scrape_due(&kube.metrics.scrape));
        arm(takt_time_min(due_ns, pods_due(&kube.pods)));
}

static int look(void)
{
        strangers_ask(&kube.strangers);
        return pods_look(&kube.pods, 1);
}

static void looked(void *context)
{
        (void)context;
        wishes_settle(&kube.wishes);
        reports_look(&kube.reports, 1, takt_clock_now());
        for (uint32_t r = 0; r < kube.slots.n_resources; r++)
                life_looked(&kube.life[r]);
}

static void health_changed(void *context)
{
        (void)context;
        reports_health(&kube.reports, kube.health.lost);
        for (uint32_t r = 0; r < kube.slots.n_resources; r++)
                life_update(&kube.life[r]);
        claiming_health(&kube.claiming, kube.health.lost);
}

static int configure(const char *path, char *why, size_t size)
{
        static char text[65536];
        char what[256];
        int n = file_read_whole(path, text, sizeof text);
        int error;

        if (n < 0)
                return snprintf(why, size, "%s: %s", path, strerror(-n)), n;
        error = config_parse(text, (size_t)n, &kube.config, what, sizeof what);
        kube.slots.n_devices = kube.host.services->devices(kube.host.node, kube.slots.device);
        if (!error)
                error = config_apply(&kube.config, &kube.slots, what, sizeof what);
        if (error)
                snprintf(why, size, "%s: %s", path, what);
        return error;
}

static int watch_all(void)
{
        const struct door_services *s = kube.host.services;
        int error =
                s->watch(kube.host.node, &kube.news, inotify_init1(IN_CLOEXEC | IN_NONBLOCK), 0, folder_news);

        if (!error)
                error = s->watch(kube.host.node, &kube.timer,
                                 timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK), 0, timer_rang);
        return error;
}

// This node's name: the configuration's, or what the pod's environment says.
static const char *node_name(void)
{
        const char *name = kube.config.node[0] ? kube.config.node : getenv("NODE_NAME");

        return name ? name : "";
}

// Without an API server all goes on, on less knowledge.
static void open_api(void)
{
        char why[384] = "takt.api is none";
        int error = kube.config.no_api ? -ENOENT : api_where_find(&kube.config.api);

        if (error && !kube.config.no_api)
                snprintf(why, sizeof why, "none is known (neither takt.api nor a pod's service account)");
        if (!error)
                error = api_open(&kube.api, &kube.host, &kube.config.api, why, sizeof why);
        events_open(&kube.events, &kube.api, node_name());
        kube.reports = (struct reports){
                .wishes = &kube.wishes, .events = &kube.events, .node = node_name(), .due_ns = 0};
        kube.wishes.slots = &kube.slots;
        kube.wishes.events = &kube.events;
        strangers_open(&kube.strangers, &kube.wishes, node_name());
        kube.wishes.deaf = kube.config.no_annotations;
        if (!error)
                error = wishes_open(&kube.wishes, &kube.slots, &kube.api, &kube.events, node_name());
        if (error == -EINVAL && kube.api.is_open)
                snprintf(why, sizeof why, "\"%.60s\" is no node's name (takt.node, or NODE_NAME)",
                         node_name());
        if (error)
                fprintf(stderr,
                        "taktd: no API server: %s; pods' annotations are not read, no events written\n", why);
}

static void say_of_claims(void)
{
        char path[sizeof kube.dir + 8];
        uint32_t n;

        snprintf(path, sizeof path, "%s/claims", kube.dir);
        n = file_count(path);
        if (n)
                fprintf(stderr,
                        "taktd: %s: %u claims are prepared, but no GPU goes by claims any more: what runs on "
                        "them is of no claim\n",
                        path, n);
}

static int open_claiming(char *why, size_t size)
{
        int error;

        if (!kube.slots.claimed)
                return say_of_claims(), 0;
        error = claiming_open(&kube.claiming, &kube.host, &kube.slots, &kube.config.injection, &kube.api,
                              node_name(), kube.config.kubelet, kube.dir, why, size);
        if (!error)
                kube.strangers.claims = kube.reports.claims = &kube.claiming.driver.dra.claims;
        if (!error && kube.health.lost)
                claiming_health(&kube.claiming, kube.health.lost);
        return error;
}

static int kube_open(struct node *node, const struct door_services *services, const char *dir,
                     const char *config, char *why, size_t size)
{
        int error;

        kube.host = (struct host){node, services};
        kube.armed_ns = TAKT_NEVER;
        error = configure(config, why, size);
        if (error)
                return error;
        // The kubelet mounts by this path: it must not depend on where we run.
        if (snprintf(kube.dir, sizeof kube.dir, "%s", dir) >= (int)sizeof kube.dir || dir[0] != '/')
                return snprintf(why, size, "--dir must be absolute, and at most %zu bytes",
                                sizeof kube.dir - 1),
                       -EINVAL;
        snprintf(kube.folder, sizeof kube.folder, "%s/%s", kube.config.kubelet,
                 kube.config.watched ? "plugins_registry" : "device-plugins");
        error = slots_open(&kube.slots, &kube.host, kube.dir);
        if (error == -ENOSPC)
                return snprintf(why, size, "more than %d slots", KUBE_SLOTS_MAX), error;
        if (!error)
                error = watch_all();
        if (!error)
                error = health_open(&kube.health, &kube.host, &kube.slots, kube.dir, health_changed, NULL);
        if (error)
                return snprintf(why, size, "%s", strerror(-error)), error;
        libdir_make(kube.dir, kube.config.shims, &kube.config.injection);
        error = kube.config.injection.cdi[0] ? cdi_write(&kube.slots, &kube.config.injection) : 0;
        if (error) // Allocate tries again
                fprintf(stderr, "taktd: cdi: %s: %s\n", kube.config.injection.cdi, strerror(-error));
        error = kube.config.metrics[0] ? metrics_open(&kube.metrics, &kube.host, &kube.slots, &kube.health,
                                                      kube.config.metrics, why, size)
                                       : 0;
        if (error)
                return error;
        watch_folder();
        open_api();
        reports_health(&kube.reports, kube.health.lost);
        pods_open(&kube.pods, &kube.host, &kube.slots, kube.config.kubelet, looked, NULL);
        for (uint32_t r = 0; r < kube.slots.n_resources; r++) {
                kube.life[r].plugin =
                        (struct plugin){&kube.slots, &kube.config.injection, .resource = r, .look = look};
                if (kube.wishes.list.slots)
                        kube.life[r].plugin.wishes = &kube.wishes;
                life_open(&kube.life[r], &kube.host, kube.folder, kube.config.watched);
        }
        error = open_claiming(why, size);
        if (!error)
                turn();
        return error;
}

// A slot is its container's: whoever comes from another pod has it from somewhere else.
static int may_have_slot(uint32_t tenant, pid_t pid, const char *pod, enum cgroup_qos qos)
{
        static uint64_t said_ns; // a process may try as often as it likes: a line a second tells of it
        uint64_t now_ns = takt_clock_now();
        int index = slots_of_tenant(&kube.slots, tenant), claim;
        const struct slot *slot = &kube.slots.slot[index < 0 ? 0 : index];

        if (index < 0)
                return 0;
        claim = slots_claim(&kube.slots, (uint32_t)index, pod);
        if (claim < 0 && now_ns - said_ns > TAKT_S) {
                said_ns = now_ns;
                fprintf(stderr, "taktd: slot %s: process %d of pod %s is refused: it belongs to pod %s\n",
                        slot->id, (int)pid, pod, slot->pod);
        }
        if (claim > 0) {
                kube.pods.due_ns = 0; // time to learn its name
                wishes_settle(&kube.wishes);
        }
        if (claim >= 0)
                wishes_joined(&kube.wishes, (uint32_t)index, qos == CGROUP_BEST_EFFORT);
        return claim >= 0;
}

// Who is in no pod is of this machine's root, as only it reaches the folders.
static int kube_may_join(uint32_t tenant, pid_t pid)
{
        char pod[CGROUP_POD_SIZE];
        enum cgroup_qos qos;
        int may, error;

        error = cgroup_of(pid, pod, &qos);
        if (error < 0)
                return error == -ENOENT; // one that has ended may have been of any pod
        may = dra_may_join(&kube.claiming.driver.dra, tenant, pod, takt_clock_now());
        return may == -ENOENT ? may_have_slot(tenant, pid, pod, qos) : may;
}

static void kube_close(void)
{
        claiming_close(&kube.claiming);
        strangers_close(&kube.strangers);
        api_close(&kube.api);
        health_close(&kube.health);
        scrape_close(&kube.metrics.scrape);
        pods_close(&kube.pods);
        for (uint32_t r = 0; r < kube.slots.n_resources; r++)
                life_close(&kube.life[r]);
}

__attribute__((visibility("default")))
const struct door takt_door = {kube_open, turn, kube_may_join, kube_close};
