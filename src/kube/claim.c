#include "kube/claim.h"
#include <ctype.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include "kube/names.h"
#include "kube/promise.h"
#include "kube/quantity.h"

#define CONFIG_VERSION "gpu.takt.dev/v1"
#define CONFIG_KIND "Promise"

// What is read, and where a mistake is told.
struct reading {
        const struct claim_name *of;
        const struct claim_pool *pool;
        char *why;
        size_t size;
};

static int wrong(const struct reading *r, const char *format, ...) __attribute__((format(printf, 2, 3)));

static int wrong(const struct reading *r, const char *format, ...)
{
        int n = snprintf(r->why, r->size, "claim %s/%s: ", r->of->namespace, r->of->name);
        va_list args;

        va_start(args, format);
        if (n > 0 && (size_t)n < r->size)
                vsnprintf(r->why + n, r->size - (size_t)n, format, args);
        va_end(args);
        names_make_plain(r->why);
        return -EINVAL;
}

// "": it is not there, or no text.
static const char *text_in(const json_t *object, const char *key)
{
        const char *text = json_string_value(json_object_get(object, key));

        return text ? text : "";
}

int claim_name_check(const char *uid, const char *namespace, const char *name, struct claim_name *ret,
                     char *why, size_t size)
{
        int is_uid = names_is_uid(uid);

        if (!is_uid || !names_is_label(namespace) || !names_is_subdomain(name)) {
                if (!is_uid)
                        snprintf(why, size, "\"%.40s\" is no claim's UID", uid);
                else
                        snprintf(why, size, "\"%.64s/%.64s\" is no claim's name", namespace, name);
                names_make_plain(why);
                return -EINVAL;
        }
        *ret = (struct claim_name){0};
        strcpy(ret->uid, uid);
        strcpy(ret->namespace, namespace);
        strcpy(ret->name, name);
        return 0;
}

void claim_device_name(const struct door_device *gpu, char ret[CLAIM_DEVICE_SIZE])
{
        size_t i = 0;

        for (; gpu->uuid[i] && i < CLAIM_DEVICE_SIZE - 1; i++)
                ret[i] = (char)tolower((unsigned char)gpu->uuid[i]);
        ret[i] = 0;
}

static int gpu_of(const struct claim_pool *pool, const char *name)
{
        char own[CLAIM_DEVICE_SIZE];

        for (uint32_t d = 0; d < pool->n_devices; d++) {
                claim_device_name(&pool->device[d], own);
                if (pool->devices >> d & 1 && !strcmp(own, name))
                        return (int)d;
        }
        return -ENODEV;
}

// Whether a configuration is of this request: of all if it names none; "request" is its subrequests', too.
static int is_for(const json_t *requests, const char *request)
{
        const json_t *one;
        size_t i;

        json_array_foreach(requests, i, one)
        {
                const char *name = json_string_value(one);
                size_t n = name ? strlen(name) : 0;

                if (n && !strncmp(request, name, n) && (!request[n] || request[n] == '/'))
                        return 1;
        }
        return json_array_size(requests) == 0;
}

static int take_key(const struct reading *r, struct core_contract *contract, const char *key,
                    const json_t *value, int *has_class)
{
        const char *text = json_string_value(value);
        char what[160];
        int error;

        if (!strcmp(key, "apiVersion") || !strcmp(key, "kind"))
                return 0;
        if (!strcmp(key, "share") || !strcmp(key, "memory"))
                return wrong(r, "configuration: %s: is asked for as the claim's capacity, not here", key);
        if (!strcmp(key, "weight"))
                return wrong(r, "configuration: weight: follows from the share");
        if (!text)
                return wrong(r, "configuration: %.40s: its value is no text", key);
        error = promise_set(contract, key, text, what, sizeof what);
        if (error)
                return wrong(r, "configuration: %s", what);
        *has_class |= !strcmp(key, "class");
        return 0;
}

static int take_config(const struct reading *r, struct core_contract *contract, const json_t *parameters,
                       int *has_class)
{
        const char *version = text_in(parameters, "apiVersion"), *kind = text_in(parameters, "kind"), *key;
        const json_t *value;

        if (strcmp(version, CONFIG_VERSION))
                return wrong(r, "configuration: apiVersion: \"%.40s\" is not %s", version, CONFIG_VERSION);
        if (strcmp(kind, CONFIG_KIND))
                return wrong(r, "configuration: kind: \"%.40s\" is not %s", kind, CONFIG_KIND);
        // jansson's loop wants to write what it walks on.
        for (void *at = json_object_iter((json_t *)(uintptr_t)parameters); at;
             at = json_object_iter_next((json_t *)(uintptr_t)parameters, at)) {
                key = json_object_iter_key(at);
                value = json_object_iter_value(at);
                if (take_key(r, contract, key, value, has_class) < 0)
                        return -EINVAL;
        }
        return 0;
}

// The class's first, so that the claim's own is the last word.
static int take_configs(const struct reading *r, const json_t *configs, const char *request,
                        struct core_contract *contract, int *has_class)
{
        static const char *const sources[] = {"FromClass", "FromClaim"};
        const json_t *config;
        size_t i;

        if (json_array_size(configs) > KUBE_CLAIM_CONFIGS_MAX)
                return wrong(r, "configuration: %zu are too many", json_array_size(configs));
        for (int s = 0; s < 2; s++)
                json_array_foreach(configs, i, config)
                {
                        const json_t *opaque = json_object_get(config, "opaque");

                        if (strcmp(text_in(config, "source"), sources[s]) ||
                            strcmp(text_in(opaque, "driver"), CLAIM_DRIVER) ||
                            !is_for(json_object_get(config, "requests"), request))
                                continue;
                        if (take_config(r, contract, json_object_get(opaque, "parameters"), has_class) < 0)
                                return -EINVAL;
                }
        return 0;
}

static int take_capacity(const struct reading *r, const json_t *result, struct core_contract *contract)
{
        const json_t *consumed = json_object_get(result, "consumedCapacity");
        const char *share = text_in(consumed, CLAIM_SHARE), *memory = text_in(consumed, "memory");
        uint64_t percent;

        if (!*share)
                return wrong(r,
                             "its allocation has no %s: is the API server's feature gate "
                             "DRAConsumableCapacity on?",
                             CLAIM_SHARE);
        if (quantity_parse(share, &percent) < 0 || percent < 1 || percent > 100)
                return wrong(r, "%s: \"%.40s\" is no percentage from 1 to 100", CLAIM_SHARE, share);
        if (*memory && quantity_parse(memory, &contract->memory_bytes) < 0)
                return wrong(r, "memory: \"%.40s\" is no amount", memory);
        contract->share_ppm = (uint32_t)percent * 10000;
        contract->weight = (uint32_t)percent * 10; // 10 %, what is got if nothing is asked, is the usual 100
        return 0;
}

static int take_result(const struct reading *r, const json_t *result, const json_t *configs,
                       struct claim_result *ret)
{
        const char *request = text_in(result, "request"), *pool = text_in(result, "pool"),
                   *device = text_in(result, "device"), *share_id = text_in(result, "shareID");
        int gpu = gpu_of(r->pool, device), has_class = 0;
        char what[160];

        *ret = (struct claim_result){0};
        if (strcmp(pool, r->pool->name))
                return wrong(r, "pool: \"%.64s\" is not this node's (%.64s)", pool, r->pool->name);
        if (gpu < 0)
                return wrong(r, "device: \"%.64s\" is none that this node gives to claims", device);
        if (strlen(share_id) >= sizeof ret->share_id)
                return wrong(r, "shareID: \"%.64s\" is too long", share_id);
        if (strcspn(request, "/") < sizeof ret->request)
                memcpy(ret->request, request, strcspn(request, "/"));
        if (!names_is_label(ret->request))
                return wrong(r, "request: \"%.64s\" is no request's name", request);
        ret->gpu = (uint32_t)gpu;
        strcpy(ret->share_id, share_id);
        if (take_capacity(r, result, &ret->contract) < 0 ||
            take_configs(r, configs, request, &ret->contract, &has_class) < 0)
                return -EINVAL;
        if (promise_check(&ret->contract, has_class, r->pool->device[gpu].memory_bytes, what, sizeof what) <
            0)
                return wrong(r, "%s", what);
        return 0;
}

// A container that refers to a request gets all of its devices, and the environment of the last of them.
static int one_each(const struct reading *r, const struct claim *claim)
{
        for (uint32_t i = 0; i < claim->n_results; i++)
                for (uint32_t k = 0; k < i; k++)
                        if (!strcmp(claim->result[i].request, claim->result[k].request))
                                return wrong(r,
                                             "request %s: has several devices; a container is a tenant of "
                                             "one GPU: ask for a count of 1",
                                             claim->result[i].request);
        return 0;
}

static int take_pods(const struct reading *r, const json_t *reserved, struct claim *claim)
{
        const json_t *one;
        size_t i;

        json_array_foreach(reserved, i, one)
        {
                const char *uid = text_in(one, "uid"), *name = text_in(one, "name");

                if (strcmp(text_in(one, "resource"), "pods") || *text_in(one, "apiGroup"))
                        continue;
                if (claim->n_pods == KUBE_CLAIM_PODS_MAX || !names_is_uid(uid))
                        return wrong(r, "reservedFor: \"%.40s\" is no pod's UID, or one too many", uid);
                if (*name && !names_is_subdomain(name))
                        return wrong(r, "reservedFor: \"%.64s\" is no pod's name", name);
                strcpy(claim->pod[claim->n_pods++], uid);
                snprintf(claim->pod_name, sizeof claim->pod_name, "%s", claim->n_pods == 1 ? name : "");
        }
        return 0;
}

int claim_read(const json_t *object, const struct claim_name *of, const struct claim_pool *pool,
               struct claim *ret, char *why, size_t size)
{
        const struct reading r = {of, pool, why, size};
        const json_t *status = json_object_get(object, "status"),
                     *devices = json_object_get(json_object_get(status, "allocation"), "devices"),
                     *configs = json_object_get(devices, "config"), *result;
        const char *uid = text_in(json_object_get(object, "metadata"), "uid");
        size_t i;

        *ret = (struct claim){.of = *of};
        if (strcmp(uid, of->uid))
                return wrong(&r, "has the UID \"%.40s\" now, not %s: it was made anew", uid, of->uid);
        if (!devices)
                return wrong(&r, "is not allocated");
        json_array_foreach(json_object_get(devices, "results"), i, result)
        {
                if (strcmp(text_in(result, "driver"), CLAIM_DRIVER))
                        continue;
                if (ret->n_results == KUBE_CLAIM_RESULTS_MAX)
                        return wrong(&r, "more than %d requests", KUBE_CLAIM_RESULTS_MAX);
                if (take_result(&r, result, configs, &ret->result[ret->n_results++]) < 0)
                        return -EINVAL;
        }
        if (!ret->n_results)
                return wrong(&r, "has no device of the driver %s", CLAIM_DRIVER);
        if (one_each(&r, ret) < 0)
                return -EINVAL;
        return take_pods(&r, json_object_get(status, "reservedFor"), ret);
}

json_t *claim_record(const json_t *object, const struct claim_name *of)
{
        const json_t *status = json_object_get(object, "status");

        return json_pack("{s:{s:s,s:s,s:s},s:{s:O,s:O?}}", "metadata", "namespace", of->namespace, "name",
                         of->name, "uid", of->uid, "status", "allocation",
                         json_object_get(status, "allocation"), "reservedFor",
                         json_object_get(status, "reservedFor"));
}

int claim_same(const struct claim *a, const struct claim *b)
{
        for (uint32_t i = 0; i < a->n_results && i < b->n_results; i++) {
                const struct claim_result *x = &a->result[i], *y = &b->result[i];

                if (strcmp(x->request, y->request) || strcmp(x->share_id, y->share_id) || x->gpu != y->gpu ||
                    memcmp(&x->contract, &y->contract, sizeof x->contract))
                        return 0;
        }
        return a->n_results == b->n_results;
}

int claim_has_pod(const struct claim *claim, const char *pod)
{
        for (uint32_t i = 0; i < claim->n_pods; i++)
                if (!strcmp(claim->pod[i], pod))
                        return 1;
        return 0;
}
