#include "kube/pods.h"
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include "base/clock.h"
#include "kube/names.h"
#include "kube/podresources.pb-c.h"

static int find(const struct slots *slots, const char *resource, const char *id)
{
        for (uint32_t r = 0; r < slots->n_resources; r++)
                if (!strcmp(slots->resource[r].name, resource))
                        return slots_find(slots, r, id);
        return -ENOENT;
}

static void mark(struct slots *slots, const V1__PodResources *pod, const V1__ContainerResources *container,
                 const V1__ContainerDevices *devices)
{
        int is_named = names_is_label(pod->namespace_) && names_is_subdomain(pod->name) &&
                       names_is_label(container->name);
        char name[3 + 63 + 253 + 63];

        for (size_t i = 0; i < devices->n_device_ids; i++) {
                int index = find(slots, devices->resource_name, devices->device_ids[i]);
                struct slot *slot = index < 0 ? NULL : &slots->slot[index];

                if (!slot)
                        continue;
                slot->listed = slot->seen = 1;
                if (!is_named) // what Kubernetes allows nobody goes into no label and no line
                        continue;
                snprintf(name, sizeof name, "%s/%s/%s", pod->namespace_, pod->name, container->name);
                snprintf(slot->namespace, sizeof slot->namespace, "%s", pod->namespace_);
                snprintf(slot->name, sizeof slot->name, "%s", pod->name);
                if (slot->tenant >= 0)
                        slots->host->services->rename(slots->host->node, (uint32_t)slot->tenant, name);
        }
}

int pods_read(struct slots *slots, const uint8_t *data, size_t size)
{
        V1__ListPodResourcesResponse *list = v1__list_pod_resources_response__unpack(NULL, size, data);

        if (!list)
                return -EBADMSG;
        for (uint32_t i = 0; i < slots->n_slots; i++)
                slots->slot[i].listed = 0;
        for (size_t p = 0; p < list->n_pod_resources; p++)
                for (size_t c = 0; c < list->pod_resources[p]->n_containers; c++)
                        for (size_t d = 0; d < list->pod_resources[p]->containers[c]->n_devices; d++)
                                mark(slots, list->pod_resources[p], list->pod_resources[p]->containers[c],
                                     list->pod_resources[p]->containers[c]->devices[d]);
        v1__list_pod_resources_response__free_unpacked(list, NULL);
        return 0;
}

// A pod that was admitted a moment ago is not listed yet, and a kubelet that has just started may list
// nobody: so only who was listed before can be missed, and, unless a promise waits for it, twice.
void pods_reap(struct slots *slots, int urgent)
{
        const struct host *host = slots->host;

        for (uint32_t i = 0; i < slots->n_slots; i++) {
                struct slot *slot = &slots->slot[i];

                slot->n_missed = slot->listed || !slot->seen ? 0 : slot->n_missed + 1;
                if (slot->tenant >= 0 && slot->n_missed > !urgent &&
                    !host->services->n_processes(host->node, (uint32_t)slot->tenant))
                        slots_free(slots, i);
        }
}

static void on_message(void *context, const uint8_t *data, size_t size)
{
        struct pods *pods = context;

        if (pods_read(pods->slots, data, size) == 0)
                pods_reap(pods->slots, pods->urgent);
}

static void on_end(void *context, int status, const char *text)
{
        struct pods *pods = context;

        if (status != GRPC_OK && !pods->silent)
                fprintf(stderr, "taktd: pod-resources: %s; slots have no pods' names until it answers\n",
                        text);
        pods->silent = status != GRPC_OK;
        pods->asking = pods->urgent = 0;
        pods->looked(pods->context);
}

static void on_lost(struct link *link, void *context)
{
        (void)link, (void)context; // the call's end was told
}

void pods_open(struct pods *pods, const struct host *host, struct slots *slots, const char *kubelet,
               void (*looked)(void *), void *context)
{
        *pods = (struct pods){
                .host = host, .slots = slots, .link.watch.fd = -1, .looked = looked, .context = context};
        snprintf(pods->path, sizeof pods->path, "%s/pod-resources/kubelet.sock", kubelet);
}

static int connect_to(struct pods *pods)
{
        int fd;

        if (link_is_open(&pods->link))
                return 0;
        fd = link_connect(pods->path);
        return fd < 0 ? fd : link_open(&pods->link, pods->host, fd, rpc_client(), on_lost, pods);
}

int pods_look(struct pods *pods, int urgent)
{
        static const struct rpc_answer answer = {on_message, on_end};
        uint64_t now_ns = takt_clock_now();
        int error;

        pods->due_ns = now_ns + KUBE_LOOK_NS;
        pods->urgent |= urgent != 0;
        if (pods->asking)
                return 0;
        error = connect_to(pods);
        if (!error)
                error = rpc_ask(pods->link.rpc, "/v1.PodResourcesLister/List", NULL, 0, now_ns,
                                now_ns + KUBE_CALL_NS, &answer, pods, NULL);
        if (error)
                return pods->urgent = 0, error;
        pods->asking = 1;
        link_flush(&pods->link);
        return 0;
}

uint64_t pods_due(const struct pods *pods)
{
        return link_is_open(&pods->link) ? takt_time_min(pods->due_ns, rpc_deadline(pods->link.rpc))
                                         : pods->due_ns;
}

void pods_tick(struct pods *pods, uint64_t now_ns)
{
        int held = 0;

        link_expire(&pods->link, now_ns);
        if (pods->due_ns > now_ns)
                return;
        for (uint32_t i = 0; i < pods->slots->n_slots; i++)
                held |= pods->slots->slot[i].tenant >= 0;
        pods->due_ns = now_ns + KUBE_LOOK_NS;
        if (held && pods_look(pods, 0) < 0)
                pods->looked(pods->context);
}

void pods_close(struct pods *pods)
{
        link_close(&pods->link);
}
