#include "kube/plugin.h"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/clock.h"
#include "base/time.h"
#include "kube/answer.h"
#include "kube/cdi.h"
#include "kube/deviceplugin.pb-c.h"

#define ASK_MAX KUBE_SLOTS_MAX // ids in one request

static void options(struct rpc_call *call)
{
        V1beta1__DevicePluginOptions message = V1BETA1__DEVICE_PLUGIN_OPTIONS__INIT;

        message.pre_start_required = message.get_preferred_allocation_available = 1;
        answer_message(call, &message.base);
}

// All slots of the resource. The stream stays open.
static void send_list(struct plugin *plugin)
{
        static V1beta1__Device device[KUBE_SLOTS_MAX], *devices[KUBE_SLOTS_MAX];
        V1beta1__ListAndWatchResponse message = V1BETA1__LIST_AND_WATCH_RESPONSE__INIT;
        struct slots *slots = plugin->slots;
        uint8_t *bytes;

        for (uint32_t i = 0; i < slots->n_slots; i++) {
                V1beta1__Device *d = &device[message.n_devices];

                if (slots->slot[i].resource != plugin->resource)
                        continue;
                v1beta1__device__init(d);
                d->id = slots->slot[i].id;
                d->health = slots->slot[i].ill ? "Unhealthy" : "Healthy";
                devices[message.n_devices++] = d;
        }
        message.devices = devices;
        bytes = malloc(v1beta1__list_and_watch_response__get_packed_size(&message) + 1);
        if (bytes)
                rpc_send(plugin->watching, bytes, v1beta1__list_and_watch_response__pack(&message, bytes));
        free(bytes);
        plugin->stale = 0;
}

void plugin_update(struct plugin *plugin)
{
        if (!plugin->watching)
                return;
        plugin->stale = 1;
        if (!rpc_unsent(plugin->watching)) // else when it has been taken: a slow reader gets the newest only
                send_list(plugin);
}

void plugin_farewell(struct plugin *plugin)
{
        if (plugin->watching)
                rpc_end(plugin->watching, GRPC_OK, NULL);
}

// The slots of the ids. Returns how many, or -ENOENT with the one that is unknown in `why`.
static int slots_of(const struct plugin *plugin, char **ids, size_t n, uint32_t *ret, char *why, size_t size)
{
        snprintf(why, size, "%zu devices are more than there are", n);
        if (n > ASK_MAX)
                return -ENOENT;
        for (size_t i = 0; i < n; i++) {
                int slot = slots_find(plugin->slots, plugin->resource, ids[i]);

                if (slot < 0)
                        return snprintf(why, size, "no such device: %.64s", ids[i]), -ENOENT;
                for (size_t k = 0; k < i; k++)
                        if (ret[k] == (uint32_t)slot)
                                return snprintf(why, size, "device %.64s is asked for twice", ids[i]),
                                       -ENOENT;
                ret[i] = (uint32_t)slot;
        }
        return (int)n;
}

static uint64_t memory_of(const struct slots *slots, uint32_t slot)
{
        return slots->device[slots->slot[slot].device].memory_bytes;
}

// One container's choice. 0, or a negative errno with the reason.
static int prefer_one(const struct plugin *plugin, const V1beta1__ContainerPreferredAllocationRequest *r,
                      char **ret_ids, uint32_t *ret_n, char *why, size_t size)
{
        uint32_t available[ASK_MAX], must[ASK_MAX], chosen[ASK_MAX];
        struct wish wish = {0};
        uint32_t largest;
        int n = slots_of(plugin, r->available_deviceids, r->n_available_deviceids, available, why, size);
        int n_must = n < 0 ? n
                           : slots_of(plugin, r->must_include_deviceids, r->n_must_include_deviceids, must,
                                      why, size);

        if (n_must < 0)
                return n_must;
        largest = n ? available[0] : 0;
        if (r->allocation_size < 0 || r->allocation_size > ASK_MAX)
                return snprintf(why, size, "allocation_size is %d", r->allocation_size), -EINVAL;
        for (int i = 0; i < n; i++) // a promise that fits one of the GPUs fits that
                if (memory_of(plugin->slots, available[i]) > memory_of(plugin->slots, largest))
                        largest = available[i];
        if (n && plugin->wishes && wishes_at_allocate(plugin->wishes, largest, &wish))
                wish.pod = NULL; // whose it will be is not known
        *ret_n = slots_prefer(plugin->slots, available, (uint32_t)n, must, (uint32_t)n_must,
                              wish.pod ? &wish.contract : NULL, (uint32_t)r->allocation_size, chosen);
        for (uint32_t i = 0; i < *ret_n; i++)
                ret_ids[i] = plugin->slots->slot[chosen[i]].id;
        return 0;
}

static void prefer(struct plugin *plugin, struct rpc_call *call, const uint8_t *data, size_t size)
{
        V1beta1__PreferredAllocationRequest *request =
                v1beta1__preferred_allocation_request__unpack(NULL, size, data);
        V1beta1__PreferredAllocationResponse message = V1BETA1__PREFERRED_ALLOCATION_RESPONSE__INIT;
        V1beta1__ContainerPreferredAllocationResponse
                one = V1BETA1__CONTAINER_PREFERRED_ALLOCATION_RESPONSE__INIT,
                *ones[] = {&one};
        char *ids[ASK_MAX], why[256];
        uint32_t n = 0;

        if (!request || request->n_container_requests != 1) // the kubelet asks for one container at a time
                answer_bad_request(call);
        else if (prefer_one(plugin, request->container_requests[0], ids, &n, why, sizeof why) < 0)
                rpc_end(call, GRPC_INVALID_ARGUMENT, why);
        else {
                one.deviceids = ids;
                one.n_deviceids = n;
                message.container_responses = ones;
                message.n_container_responses = 1;
                answer_message(call, &message.base);
        }
        v1beta1__preferred_allocation_request__free_unpacked(request, NULL);
}

// Which try of a call it is. After the first it is asked which promises have ended with their pods. After the
// second, where a pod's own promise was refused, the pod that is meant may be one that the kubelet knows
// before us: we wait for the news.
enum attempt { FIRST, INFORMED, LAST };

// Keeps a call for its next try.
static int keep(struct plugin *plugin, struct rpc_call *call, const uint8_t *data, size_t size,
                enum attempt failed)
{
        struct waiting *waiting = plugin->waiting;
        uint8_t *copy;
        int looks;

        while (waiting < plugin->waiting + KUBE_WAITING_MAX && waiting->call)
                waiting++;
        if (waiting == plugin->waiting + KUBE_WAITING_MAX)
                return -EAGAIN;
        copy = malloc(size);
        if (!copy)
                return -ENOMEM;
        memcpy(copy, data, size);
        looks = failed == FIRST && plugin->look && plugin->look() == 0;
        *waiting = (struct waiting){call, copy, size, looks ? 0 : takt_clock_now() + KUBE_NEWS_NS};
        return 0;
}

// A container's answer, in the kubelet's words.
struct words {
        struct recipe recipe;
        V1beta1__ContainerAllocateResponse message;
        V1beta1__Pair env[8], *envs[8];
        V1beta1__Mount mount[4], *mounts[4];
        V1beta1__CDIDevice cdi, *cdis[1];
        char cdi_name[64];
};

static void say_env(struct words *words, const struct recipe_env *env)
{
        V1beta1__Pair *pair = &words->env[words->message.n_envs];

        v1beta1__pair__init(pair);
        pair->key = (char *)(uintptr_t)env->key;
        pair->value = (char *)(uintptr_t)env->value;
        words->envs[words->message.n_envs++] = pair;
}

static void say_mount(struct words *words, const struct recipe_mount *mount)
{
        V1beta1__Mount *m = &words->mount[words->message.n_mounts];

        v1beta1__mount__init(m);
        m->host_path = (char *)(uintptr_t)mount->host;
        m->container_path = (char *)(uintptr_t)mount->container;
        m->read_only = 1;
        words->mounts[words->message.n_mounts++] = m;
}

static void say_cdi(struct words *words, const struct slot *slot)
{
        v1beta1__cdidevice__init(&words->cdi);
        cdi_name(slot, words->cdi_name, sizeof words->cdi_name);
        words->cdi.name = words->cdi_name;
        words->cdis[words->message.n_cdi_devices++] = &words->cdi;
}

// By CDI the runtime reads the rest in its file; how much memory there is only this answer can say.
static void answer_recipe(struct plugin *plugin, struct rpc_call *call, uint32_t slot, uint32_t n)
{
        V1beta1__AllocateResponse message = V1BETA1__ALLOCATE_RESPONSE__INIT;
        V1beta1__ContainerAllocateResponse *containers[1];
        int by_cdi = plugin->injection->cdi[0] != 0;
        struct words words;

        recipe_make_slot(&words.recipe, plugin->slots, slot, n, plugin->injection);
        v1beta1__container_allocate_response__init(&words.message);
        words.message.envs = words.envs;
        words.message.mounts = words.mounts;
        words.message.cdi_devices = words.cdis;
        for (uint32_t i = 0; i < words.recipe.n_envs; i++)
                if (!by_cdi || words.recipe.env[i].value == words.recipe.quota)
                        say_env(&words, &words.recipe.env[i]);
        for (uint32_t i = 0; i < words.recipe.n_mounts && !by_cdi; i++)
                say_mount(&words, &words.recipe.mount[i]);
        if (by_cdi)
                say_cdi(&words, &plugin->slots->slot[slot]);
        containers[0] = &words.message;
        message.container_responses = containers;
        message.n_container_responses = 1;
        answer_message(call, &message.base);
}

// By the pod's own promise, if it can only be one; else by the resource's. -EAGAIN: that may be another after
// one more try.
static int take(struct plugin *plugin, const uint32_t *which, uint32_t n, enum attempt attempt,
                uint32_t *ret_slot, char *why, size_t size)
{
        struct wish wish = {0};
        int error = plugin->wishes ? wishes_at_allocate(plugin->wishes, which[0], &wish) : 0, is_doubtful;

        if (error < 0 && attempt == FIRST)
                return error;
        error = slots_take(plugin->slots, which, n, wish.pod ? &wish.contract : NULL, ret_slot, why, size);
        if (!wish.pod)
                return error;
        is_doubtful = error == -EDQUOT && !wishes_hear(plugin->wishes);
        wishes_allocated(plugin->wishes, &wish, which[0], error, why, attempt == LAST && !is_doubtful);
        if (error == -EDQUOT && attempt != LAST)
                return -EAGAIN;
        if (error == -EDOM || error == -ERANGE || is_doubtful)
                return slots_take(plugin->slots, which, n, NULL, ret_slot, why, size);
        return error;
}

// What the answer names must be there: it may have been taken away, or the disk full when we began.
static int put_cdi(const struct plugin *plugin, uint32_t slot, char *why, size_t size)
{
        int error = plugin->injection->cdi[0] ? cdi_write(plugin->slots, plugin->injection) : 0;

        if (!error)
                return 0;
        slots_free(plugin->slots, slot);
        snprintf(why, size, "cdi: %s: %s", plugin->injection->cdi, strerror(-error));
        return -ENOSPC;
}

// The kubelet asks for one container and one resource at a time. A refusal is the pod's
// UnexpectedAdmissionError, with our words.
static void allocate(struct plugin *plugin, struct rpc_call *call, const uint8_t *data, size_t size,
                     enum attempt attempt)
{
        V1beta1__AllocateRequest *request = v1beta1__allocate_request__unpack(NULL, size, data);
        const V1beta1__ContainerAllocateRequest *one =
                request && request->n_container_requests == 1 ? request->container_requests[0] : NULL;
        uint32_t which[ASK_MAX], slot;
        char why[384];
        int n = one ? slots_of(plugin, one->devices_ids, one->n_devices_ids, which, why, sizeof why) : 0,
            error = n > 0 ? take(plugin, which, (uint32_t)n, attempt, &slot, why, sizeof why) : 0;
        int is_refused = n > 0 && error < 0 && error != -EINVAL;
        int waits = is_refused && (attempt == FIRST || error == -EAGAIN) &&
                    keep(plugin, call, data, size, attempt) == 0;

        if (error == -EAGAIN && !waits) // too many wait
                error = take(plugin, which, (uint32_t)n, LAST, &slot, why, sizeof why);
        if (n > 0 && error == 0)
                error = put_cdi(plugin, slot, why, sizeof why);
        if (waits)
                ;
        else if (n == 0)
                answer_bad_request(call);
        else if (n < 0)
                rpc_end(call, GRPC_INVALID_ARGUMENT, why);
        else if (error == 0)
                answer_recipe(plugin, call, slot, (uint32_t)n);
        else if (error == -EINVAL)
                rpc_end(call, GRPC_INVALID_ARGUMENT, why);
        else
                rpc_end(call, GRPC_RESOURCE_EXHAUSTED, why);
        v1beta1__allocate_request__free_unpacked(request, NULL);
}

static void try_again(struct plugin *plugin, struct waiting *waiting)
{
        struct waiting now = *waiting;

        *waiting = (struct waiting){0};
        allocate(plugin, now.call, now.data, now.size, now.due_ns ? LAST : INFORMED);
        free(now.data);
}

#define FOR_EACH_WAITING(w, plugin)                                                                          \
        for (struct waiting *w = (plugin)->waiting; w < (plugin)->waiting + KUBE_WAITING_MAX; w++)           \
                if (w->call)

void plugin_looked(struct plugin *plugin)
{
        FOR_EACH_WAITING(w, plugin)
        if (!w->due_ns)
                try_again(plugin, w);
}

uint64_t plugin_due(const struct plugin *plugin)
{
        uint64_t due_ns = TAKT_NEVER;

        for (const struct waiting *w = plugin->waiting; w < plugin->waiting + KUBE_WAITING_MAX; w++)
                if (w->call && w->due_ns)
                        due_ns = takt_time_min(due_ns, w->due_ns);
        return due_ns;
}

void plugin_tick(struct plugin *plugin, uint64_t now_ns)
{
        FOR_EACH_WAITING(w, plugin)
        if (w->due_ns && w->due_ns <= now_ns)
                try_again(plugin, w);
}

// Before each start of a container. Its slots are held, unless the record was lost (as /run is at a reboot).
static void pre_start(struct plugin *plugin, struct rpc_call *call, const uint8_t *data, size_t size)
{
        V1beta1__PreStartContainerRequest *request =
                v1beta1__pre_start_container_request__unpack(NULL, size, data);
        V1beta1__Empty message = V1BETA1__EMPTY__INIT;
        uint32_t which[ASK_MAX], slot;
        char why[384];
        int n = request ? slots_of(plugin, request->devices_ids, request->n_devices_ids, which, why,
                                   sizeof why)
                        : 0;
        int held = 0, error = 0;

        for (int i = 0; i < n; i++)
                held |= plugin->slots->slot[which[i]].tenant >= 0;
        if (n > 0 && !held)
                error = slots_take(plugin->slots, which, (uint32_t)n, NULL, &slot, why, sizeof why);
        if (n == 0)
                answer_bad_request(call);
        else if (n < 0 || error)
                rpc_end(call, n < 0 ? GRPC_INVALID_ARGUMENT : GRPC_RESOURCE_EXHAUSTED, why);
        else
                answer_message(call, &message.base);
        v1beta1__pre_start_container_request__free_unpacked(request, NULL);
}

static void notified(void *context, int is_registered, const char *error)
{
        struct plugin *plugin = context;

        plugin->notified(plugin, is_registered, error);
}

// Whether it was the watcher's word.
static int for_watcher(struct plugin *plugin, struct rpc_call *call, const char *method, const uint8_t *data,
                       size_t size)
{
        static const char *const versions[] = {"v1beta1"};
        const struct answer_info info = {
                "DevicePlugin", plugin->slots->resource[plugin->resource].name, plugin->endpoint, versions, 1,
                notified};

        return plugin->notified && answer_watcher(&info, plugin, call, method, data, size);
}

static void request(void *context, struct rpc_call *call, const char *method, const uint8_t *data,
                    size_t size)
{
        static const char prefix[] = "/v1beta1.DevicePlugin/";
        struct plugin *plugin = context;
        const char *name = strncmp(method, prefix, sizeof prefix - 1) ? "" : method + sizeof prefix - 1;

        if (for_watcher(plugin, call, method, data, size)) {
                return;
        } else if (!strcmp(name, "GetDevicePluginOptions")) {
                options(call);
        } else if (!strcmp(name, "ListAndWatch")) {
                plugin_farewell(plugin); // one kubelet, one stream
                plugin->watching = call;
                plugin->ended = 0;
                send_list(plugin);
        } else if (!strcmp(name, "GetPreferredAllocation")) {
                prefer(plugin, call, data, size);
        } else if (!strcmp(name, "Allocate")) {
                allocate(plugin, call, data, size, FIRST);
        } else if (!strcmp(name, "PreStartContainer")) {
                pre_start(plugin, call, data, size);
        } else {
                rpc_end(call, GRPC_UNIMPLEMENTED, "unknown method");
        }
}

static void drained(void *context, struct rpc_call *call)
{
        struct plugin *plugin = context;

        if (call == plugin->watching && plugin->stale)
                send_list(plugin);
}

static void gone(void *context, struct rpc_call *call)
{
        struct plugin *plugin = context;

        FOR_EACH_WAITING(w, plugin)
        if (w->call == call) {
                free(w->data);
                *w = (struct waiting){0};
        }
        if (call != plugin->watching)
                return;
        plugin->watching = NULL;
        plugin->ended = 1;
}

const struct rpc_service plugin_service = {request, drained, gone};

uint8_t *plugin_registration(const struct plugin *plugin, const char *endpoint, size_t *ret_size)
{
        V1beta1__RegisterRequest message = V1BETA1__REGISTER_REQUEST__INIT;
        V1beta1__DevicePluginOptions can = V1BETA1__DEVICE_PLUGIN_OPTIONS__INIT;
        uint8_t *bytes;

        can.pre_start_required = can.get_preferred_allocation_available = 1;
        message.version = "v1beta1";
        message.endpoint = (char *)(uintptr_t)endpoint;
        message.resource_name = plugin->slots->resource[plugin->resource].name;
        message.options = &can;
        bytes = malloc(v1beta1__register_request__get_packed_size(&message) + 1);
        *ret_size = bytes ? v1beta1__register_request__pack(&message, bytes) : 0;
        return bytes;
}
