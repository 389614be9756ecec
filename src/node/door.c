// Opens a door: loads its library, and serves it.
#include "node/door.h"
#include <dlfcn.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include "base/clock.h"
#include "node/node.h"

static uint32_t devices(const struct node *node, struct door_device *ret)
{
        for (uint32_t d = 0; d < node->n_devices; d++) {
                devices_uuid(&node->device[d], ret[d].uuid);
                memcpy(ret[d].name, node->device[d].name, sizeof ret[d].name);
                ret[d].memory_bytes = node->device[d].memory_bytes;
        }
        return node->n_devices;
}

static int admit(struct node *node, const struct door_tenant *wish, char *why, size_t size)
{
        struct core_contract contract = *wish->contract;
        struct core_refusal refusal = {.reason = CORE_REFUSAL_INVALID};
        struct tenant_order order = {.name = wish->name,
                                     .contract = &contract,
                                     .device = wish->device,
                                     .reclaim = -1,
                                     .control = -1,
                                     .dir = wish->dir};
        int index = core_contract_complete(&contract) < 0 ? -EDOM : tenant_register(node, &order, &refusal);

        if (index == -EDQUOT || index == -EDOM)
                refusal_explain(node, &refusal, why, size);
        else if (index == -EUSERS)
                snprintf(why, size, "no seat is left on this node");
        else if (index < 0)
                snprintf(why, size, "%s: %s", wish->dir, strerror(-index));
        return index;
}

static int would_admit(const struct node *node, uint32_t device, const struct core_contract *wish)
{
        struct core_contract contract = *wish;

        return core_contract_complete(&contract) == 0 && core_would_admit(node->core, device, &contract);
}

static int amend(struct node *node, uint32_t tenant, const struct core_contract *wish, char *why, size_t size)
{
        struct core_contract contract = *wish;
        struct core_refusal refusal = {.reason = CORE_REFUSAL_INVALID, .seat = tenant};
        int error = core_contract_complete(&contract) < 0 ? -EDOM
                                                          : tenant_amend(node, tenant, &contract, &refusal);

        if (error)
                refusal_explain(node, &refusal, why, size);
        return error;
}

static void account(const struct node *node, uint32_t tenant, struct door_account *ret)
{
        struct core_account a = {0};

        core_look(node->core, takt_clock_now()); // a class comes back though nobody does anything
        core_account(node->core, tenant, &a);
        *ret = (struct door_account){node->tenant[tenant].contract.class, a.class, a.overruns};
}

static uint32_t n_processes(const struct node *node, uint32_t tenant)
{
        return node->tenant[tenant].n_sessions;
}

static int knows(const struct node *node, pid_t pid)
{
        for (const struct session *s = node->session; s < node->session + NODE_SESSIONS_MAX; s++)
                if (s->used && s->client && s->pid == pid)
                        return 1;
        return 0;
}

static void rename_tenant(struct node *node, uint32_t tenant, const char *name)
{
        snprintf(node->tenant[tenant].name, sizeof node->tenant[tenant].name, "%s", name);
}

static struct door_device_account account_of_device(const struct node *node, uint32_t d)
{
        struct core_device_account a = {0};
        struct door_device_account ret;

        core_device_account(node->core, d, &a);
        ret = (struct door_device_account){.held_ns = a.granted_ns,
                                           .idle_ns = a.idle_ns,
                                           .switch_ns = a.switch_ns,
                                           .switches = a.switches,
                                           .bypass = a.bypass};
        for (const struct tenant *t = node->tenant; t < node->tenant + NODE_TENANTS_MAX; t++)
                if (t->used && t->device == d) {
                        if (t->contract.class == CORE_CLASS_DEADLINE) // to the others a share is a weight
                                ret.promised_ppm += t->contract.share_ppm;
                        ret.promised_bytes += t->contract.memory_bytes;
                }
        return ret;
}

static struct door_tenant_account account_of(const struct node *node, uint32_t i)
{
        const struct tenant *t = &node->tenant[i];
        struct core_account a = {0};

        core_account(node->core, i, &a);
        return (struct door_tenant_account){.name = t->name,
                                            .number = i,
                                            .device = t->device,
                                            .n_processes = t->n_sessions,
                                            .share_ppm = t->contract.share_ppm,
                                            .by_door = t->by_door,
                                            .busy_ns = t->usage.total_ns,
                                            .held_ns = a.granted_ns,
                                            .wait_ns = a.wait_ns,
                                            .tail_ns = a.tail_ns,
                                            .slices = a.grants,
                                            .steps = a.steps,
                                            .overruns = a.overruns,
                                            .switches = a.switches,
                                            .requests = a.requests,
                                            .in_time = a.in_time,
                                            .late = a.late,
                                            .memory_bytes = t->page->lane[t->device].memory_used,
                                            .quota_bytes = t->contract.memory_bytes,
                                            .waits = &t->waits};
}

static void look(struct node *node, struct door_snapshot *ret)
{
        grant_look(node);
        ret->version = TAKT_VERSION;
        ret->n_devices = node->n_devices;
        ret->n_tenants = 0;
        for (uint32_t d = 0; d < node->n_devices; d++)
                ret->device[d] = account_of_device(node, d);
        for (uint32_t i = 0; i < NODE_TENANTS_MAX; i++)
                if (node->tenant[i].used)
                        ret->tenant[ret->n_tenants++] = account_of(node, i);
}

_Static_assert(DOOR_DEVICES_MAX >= CORE_DEVICES_MAX && DOOR_TENANTS_MAX >= NODE_TENANTS_MAX,
               "a door sees all there are");

static const struct door_services services = {
        watch_add, watch_change, watch_remove, listen_at,   accept_at, devices,       admit, would_admit,
        amend,     account,      tenant_drop,  n_processes, knows,     rename_tenant, look};

// Beside this program as it was built, or as it was installed.
static void *load(const char *name)
{
        static const char *const places[] = {"../kube", "../lib/takt"};
        char home[PATH_MAX - 64], path[PATH_MAX];
        ssize_t n = readlink("/proc/self/exe", home, sizeof home - 1);

        home[n > 0 ? n : 0] = 0;
        if (strrchr(home, '/'))
                *strrchr(home, '/') = 0;
        for (size_t i = 0; i < sizeof places / sizeof *places; i++) {
                snprintf(path, sizeof path, "%s/%s/%s", home, places[i], name);
                if (access(path, R_OK) == 0)
                        return dlopen(path, RTLD_NOW | RTLD_LOCAL);
        }
        return NULL;
}

int door_open(struct node *node, const char *config, char *why, size_t size)
{
        void *library = load("takt-kube.so");
        const char *error = library ? NULL : dlerror();

        node->door = library ? dlsym(library, "takt_door") : NULL;
        if (!node->door)
                return snprintf(why, size, "cannot load takt-kube.so: %s", error ? error : "it is not there"),
                       -ENOENT;
        return node->door->open(node, &services, node->dir, config, why, size);
}
