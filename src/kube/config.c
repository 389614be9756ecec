#include "kube/config.h"
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <yaml.h>
#include "kube/promise.h"

struct reader {
        yaml_document_t document;
        struct config *config;
        uint8_t rename_all, single;
        char *why;
        size_t size;
};

static int wrong(struct reader *r, const yaml_node_t *at, const char *format, ...)
        __attribute__((format(printf, 3, 4)));

static int wrong(struct reader *r, const yaml_node_t *at, const char *format, ...)
{
        int n = snprintf(r->why, r->size, "line %zu: ", at->start_mark.line + 1);
        va_list args;

        va_start(args, format);
        vsnprintf(r->why + n, r->size - (size_t)n, format, args);
        va_end(args);
        return -EINVAL;
}

static const char *text_of(const yaml_node_t *node)
{
        return node->type == YAML_SCALAR_NODE ? (const char *)node->data.scalar.value : NULL;
}

typedef int take_one(struct reader *r, void *to, const char *key, const yaml_node_t *at,
                     const yaml_node_t *value);

// Each key of a mapping, once.
static int each(struct reader *r, const yaml_node_t *map, const char *what, take_one *take, void *to)
{
        if (map->type != YAML_MAPPING_NODE)
                return wrong(r, map, "%s: is no mapping", what);
        for (const yaml_node_pair_t *p = map->data.mapping.pairs.start; p < map->data.mapping.pairs.top;
             p++) {
                const yaml_node_t *key = yaml_document_get_node(&r->document, p->key);
                const yaml_node_t *value = yaml_document_get_node(&r->document, p->value);
                const char *name = key ? text_of(key) : NULL;
                int error;

                if (!name || !value)
                        return wrong(r, map, "%s: a key is no text", what);
                for (const yaml_node_pair_t *q = map->data.mapping.pairs.start; q < p; q++) {
                        const char *other = text_of(yaml_document_get_node(&r->document, q->key));

                        if (other && !strcmp(other, name))
                                return wrong(r, key, "%s: is there twice", name);
                }
                error = take(r, to, name, key, value);
                if (error == -ENOENT)
                        return wrong(r, key, "unknown key \"%.40s\" in %s", name, what);
                if (error)
                        return error;
        }
        return 0;
}

static int take_text(struct reader *r, const char *key, const yaml_node_t *value, char *to, size_t size)
{
        const char *text = text_of(value);

        if (!text || strlen(text) >= size)
                return wrong(r, value, "%s: is no text of at most %zu bytes", key, size - 1);
        memcpy(to, text, strlen(text) + 1);
        return 0;
}

static int take_flag(struct reader *r, const char *key, const yaml_node_t *value, uint8_t *to)
{
        const char *text = text_of(value);

        if (!text || (strcmp(text, "true") && strcmp(text, "false")))
                return wrong(r, value, "%s: is neither true nor false", key);
        *to = !strcmp(text, "true");
        return 0;
}

static int take_flag_not(struct reader *r, const char *key, const yaml_node_t *value, uint8_t *to)
{
        int error = take_flag(r, key, value, to);

        *to = !*to;
        return error;
}

static int take_count(struct reader *r, const char *key, const yaml_node_t *value, uint32_t least,
                      uint32_t most, uint32_t *to)
{
        const char *text = text_of(value);
        char *end;
        unsigned long n = text ? strtoul(text, &end, 10) : 0;

        if (!text || end == text || *end || n < least || n > most)
                return wrong(r, value, "%s: is no number from %u to %u", key, least, most);
        *to = (uint32_t)n;
        return 0;
}

// As NVIDIA writes a part of a GPU: by its UUID, or as GPU:PART.
static int is_mig(const char *device)
{
        return !strncmp(device, "MIG-", 4) ||
               (strchr(device, ':') && strspn(device, "0123456789:") == strlen(device));
}

static int take_device(struct reader *r, const char *key, const yaml_node_t *value,
                       struct config_devices *devices)
{
        if (devices->n_listed == KUBE_DEVICES_MAX)
                return wrong(r, value, "%s: at most %d", key, KUBE_DEVICES_MAX);
        if (text_of(value) && is_mig(text_of(value)))
                return wrong(r, value, "%s: %.60s: MIG is not supported; Takt shares whole GPUs", key,
                             text_of(value));
        return take_text(r, key, value, devices->listed[devices->n_listed++], sizeof devices->listed[0]);
}

// "all", a number of GPUs, or a list of indexes and UUIDs.
static int take_devices(struct reader *r, const char *key, const yaml_node_t *value,
                        struct config_devices *devices)
{
        const char *text = text_of(value);

        devices->n_first = 0;
        if (text && !strcmp(text, "all"))
                return devices->n_first = UINT32_MAX, 0;
        if (text)
                return take_count(r, key, value, 1, KUBE_DEVICES_MAX, &devices->n_first);
        if (value->type != YAML_SEQUENCE_NODE)
                return wrong(r, value, "%s: is neither all, a number nor a list", key);
        for (const yaml_node_item_t *i = value->data.sequence.items.start; i < value->data.sequence.items.top;
             i++)
                if (take_device(r, key, yaml_document_get_node(&r->document, *i), devices) < 0)
                        return -EINVAL;
        return 0;
}

static int promise_key(struct reader *r, void *to, const char *key, const yaml_node_t *at,
                       const yaml_node_t *value)
{
        struct config_resource *resource = to;
        char why[160];
        int error = text_of(value) ? promise_set(&resource->contract, key, text_of(value), why, sizeof why)
                                   : -EINVAL;

        resource->has_class |= !strcmp(key, "class");
        if (error == -EINVAL)
                return wrong(r, at, "%s", text_of(value) ? why : "a promise's value is no text");
        return error;
}

// A resource's name. One without a domain is of NVIDIA's, as its plugin has it.
static int take_name(struct reader *r, const char *key, const yaml_node_t *value, char *to, size_t size)
{
        static const char domain[] = "nvidia.com/";
        const char *text = text_of(value);
        size_t n = text && *text && !strchr(text, '/') ? strlen(domain) : 0;
        int error = take_text(r, key, value, to + n, size - n);

        if (error)
                return error;
        memcpy(to, domain, n);
        if (!strncmp(to, "nvidia.com/mig-", 15))
                return wrong(r, value, "%s: %s: MIG is not supported; Takt shares whole GPUs", key, to);
        return 0;
}

static int resource_key(struct reader *r, void *to, const char *key, const yaml_node_t *at,
                        const yaml_node_t *value)
{
        struct config_resource *resource = to;
        char name[sizeof resource->name];

        (void)at;
        if (!strcmp(key, "name")) // unless it is named anew
                return resource->name[0]
                               ? take_name(r, key, value, name, sizeof name)
                               : take_name(r, key, value, resource->name, sizeof resource->name - 7);
        if (!strcmp(key, "rename"))
                return take_name(r, key, value, resource->name, sizeof resource->name);
        if (!strcmp(key, "replicas"))
                return take_count(r, key, value, 1, KUBE_REPLICAS_MAX, &resource->replicas);
        if (!strcmp(key, "devices"))
                return take_devices(r, key, value, &resource->devices);
        resource->own |= !strcmp(key, "takt");
        if (!strcmp(key, "takt"))
                return each(r, value, "takt", promise_key, resource);
        return -ENOENT;
}

static int renamed(const struct reader *r, const yaml_node_t *map)
{
        for (const yaml_node_pair_t *p = map->data.mapping.pairs.start; p < map->data.mapping.pairs.top;
             p++) {
                const char *key =
                        text_of(yaml_document_get_node((yaml_document_t *)(uintptr_t)&r->document, p->key));

                if (key && !strcmp(key, "rename"))
                        return 1;
        }
        return 0;
}

// A resource's name as Kubernetes has it: a domain, a slash, a name.
static int is_name(const char *name)
{
        const char *slash = strchr(name, '/');

        return slash && slash > name && slash[1] && !strchr(slash + 1, '/') &&
               strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._/") ==
                       strlen(name);
}

static int take_resource(struct reader *r, const yaml_node_t *map)
{
        struct config_resource *resource = &r->config->resource[r->config->n_resources];
        char why[160];

        if (r->config->n_resources == KUBE_RESOURCES_MAX)
                return wrong(r, map, "resources: at most %d", KUBE_RESOURCES_MAX);
        *resource = (struct config_resource){.devices.n_first = UINT32_MAX};
        if (each(r, map, "resources", resource_key, resource) < 0)
                return -EINVAL;
        if (r->rename_all && !renamed(r, map))
                strcat(resource->name, ".shared");
        if (!is_name(resource->name))
                return wrong(r, map, "name: \"%s\" is no resource's name (domain/name)", resource->name);
        if (!resource->replicas)
                return wrong(r, map, "replicas: is missing");
        if (promise_check(&resource->contract, resource->has_class, 0, why, sizeof why) < 0)
                return wrong(r, map, "%s", why);
        for (uint32_t i = 0; i < r->config->n_resources; i++)
                if (!strcmp(r->config->resource[i].name, resource->name))
                        return wrong(r, map, "name: %s is there twice", resource->name);
        r->config->n_resources++;
        return 0;
}

static int slicing_key(struct reader *r, void *to, const char *key, const yaml_node_t *at,
                       const yaml_node_t *value)
{
        const yaml_node_t **resources = to;

        (void)at;
        if (!strcmp(key, "renameByDefault"))
                return take_flag(r, key, value, &r->rename_all);
        if (!strcmp(key, "failRequestsGreaterThanOne"))
                return take_flag(r, key, value, &r->single);
        if (strcmp(key, "resources"))
                return -ENOENT;
        if (value->type != YAML_SEQUENCE_NODE)
                return wrong(r, value, "resources: is no list");
        *resources = value;
        return 0;
}

// What the resources' names are depends on keys that may come after them.
static int take_slicing(struct reader *r, const yaml_node_t *map)
{
        const yaml_node_t *resources = NULL;

        if (each(r, map, "timeSlicing", slicing_key, &resources) < 0)
                return -EINVAL;
        if (!resources)
                return wrong(r, map, "resources: is missing");
        for (const yaml_node_item_t *i = resources->data.sequence.items.start;
             i < resources->data.sequence.items.top; i++)
                if (take_resource(r, yaml_document_get_node(&r->document, *i)) < 0)
                        return -EINVAL;
        for (uint32_t i = 0; i < r->config->n_resources; i++)
                r->config->resource[i].single = r->single;
        return 0;
}

static int sharing_key(struct reader *r, void *to, const char *key, const yaml_node_t *at,
                       const yaml_node_t *value)
{
        (void)to;
        if (!strcmp(key, "mps"))
                return wrong(r, at, "mps: Takt shares in time slices; use timeSlicing");
        return strcmp(key, "timeSlicing") ? -ENOENT : take_slicing(r, value);
}

static int api_key(struct reader *r, void *to, const char *key, const yaml_node_t *at,
                   const yaml_node_t *value)
{
        struct api_where *where = to;

        (void)at;
        if (!strcmp(key, "server")) {
                if (text_of(value) && strncmp(text_of(value), "https://", 8))
                        return wrong(r, value, "server: \"%.60s\" is no https://HOST:PORT", text_of(value));
                return take_text(r, key, value, where->server, sizeof where->server);
        }
        if (!strcmp(key, "ca"))
                return take_text(r, key, value, where->ca, sizeof where->ca);
        return strcmp(key, "token") ? -ENOENT : take_text(r, key, value, where->token, sizeof where->token);
}

// The API server's place, or that it is left alone.
static int take_api(struct reader *r, struct config *c, const yaml_node_t *value)
{
        c->no_api = text_of(value) && !strcmp(text_of(value), "none");
        return c->no_api ? 0 : each(r, value, "api", api_key, &c->api);
}

static int door_key(struct reader *r, void *to, const char *key, const yaml_node_t *at,
                    const yaml_node_t *value)
{
        (void)at;
        return strcmp(key, "dra") ? -ENOENT : take_devices(r, key, value, to);
}

// By which door GPUs are given away: all by one, or some by claims and the others by resources.
static int take_door(struct reader *r, struct config *c, const yaml_node_t *value)
{
        const char *text = text_of(value);

        if (!text)
                return each(r, value, "door", door_key, &c->claimed);
        if (strcmp(text, "dra") && strcmp(text, "plugin"))
                return wrong(r, value, "door: is neither plugin, dra nor a mapping {dra: GPUs}");
        c->claimed.n_first = strcmp(text, "dra") ? 0 : UINT32_MAX;
        return 0;
}

static int takt_key(struct reader *r, void *to, const char *key, const yaml_node_t *at,
                    const yaml_node_t *value)
{
        struct config *c = to;

        (void)at;
        if (!strcmp(key, "kubelet"))
                return take_text(r, key, value, c->kubelet, sizeof c->kubelet);
        if (!strcmp(key, "shims"))
                return take_text(r, key, value, c->shims, sizeof c->shims);
        if (!strcmp(key, "lib"))
                return take_text(r, key, value, c->injection.lib, sizeof c->injection.lib);
        if (!strcmp(key, "driver"))
                return take_text(r, key, value, c->injection.driver, sizeof c->injection.driver);
        if (!strcmp(key, "registration")) {
                c->watched = text_of(value) && !strcmp(text_of(value), "watcher");
                return c->watched || (text_of(value) && !strcmp(text_of(value), "kubelet"))
                               ? 0
                               : wrong(r, value, "registration: is neither kubelet nor watcher");
        }
        if (!strcmp(key, "door"))
                return take_door(r, c, value);
        if (!strcmp(key, "node"))
                return take_text(r, key, value, c->node, sizeof c->node);
        if (!strcmp(key, "annotations"))
                return take_flag_not(r, key, value, &c->no_annotations);
        if (!strcmp(key, "api"))
                return take_api(r, c, value);
        if (!strcmp(key, "cdi"))
                return take_text(r, key, value, c->injection.cdi, sizeof c->injection.cdi);
        if (!strcmp(key, "metrics"))
                return take_text(r, key, value, c->metrics, sizeof c->metrics);
        if (!strcmp(key, "libraryPath"))
                return take_text(r, key, value, c->injection.library_path, sizeof c->injection.library_path);
        if (!strcmp(key, "preload"))
                return take_flag(r, key, value, &c->injection.preload);
        return -ENOENT;
}

// NVIDIA's plugin's own flags; of one we do what it says, and know a word more.
static int plugin_flag(struct reader *r, void *to, const char *key, const yaml_node_t *at,
                       const yaml_node_t *value)
{
        static const char *const policies[] = {
                [SLOTS_DISTRIBUTED] = "distributed",
                [SLOTS_PACKED] = "packed",
                [SLOTS_LEAST_DEGRADED] = "least-degraded",
        };
        const char *text = text_of(value);

        (void)at, (void)to;
        if (strcmp(key, "sharedDevicesAllocationPolicy"))
                return 0;
        for (int policy = SLOTS_DISTRIBUTED; text && policy <= SLOTS_LEAST_DEGRADED; policy++)
                if (!strcmp(text, policies[policy]))
                        return r->config->policy = (enum slots_policy)policy, 0;
        return wrong(r, value, "%s: is neither distributed nor packed nor least-degraded", key);
}

static int flag(struct reader *r, void *to, const char *key, const yaml_node_t *at, const yaml_node_t *value)
{
        (void)at;
        return strcmp(key, "plugin") ? 0 : each(r, value, key, plugin_flag, to);
}

static int top_key(struct reader *r, void *to, const char *key, const yaml_node_t *at,
                   const yaml_node_t *value)
{
        if (!strcmp(key, "version"))
                return text_of(value) && !strcmp(text_of(value), "v1")
                               ? 0
                               : wrong(r, value, "version: is not v1");
        if (!strcmp(key, "imex")) // NVIDIA's plugin's own
                return 0;
        if (!strcmp(key, "resources")) // that plugin reads it, warns and leaves it alone
                return fprintf(stderr,
                               "taktd: --kube: line %zu: resources: nothing of it is used; "
                               "sharing.timeSlicing.resources is\n",
                               at->start_mark.line + 1),
                       0;
        if (!strcmp(key, "flags"))
                return value->type == YAML_SCALAR_NODE ? 0 : each(r, value, key, flag, NULL);
        if (!strcmp(key, "sharing"))
                return each(r, value, key, sharing_key, NULL);
        return strcmp(key, "takt") ? -ENOENT : each(r, value, key, takt_key, to);
}

int config_parse(const char *text, size_t size, struct config *ret, char *why, size_t why_size)
{
        struct reader r = {.config = ret, .why = why, .size = why_size};
        yaml_parser_t parser;
        const yaml_node_t *root;
        int error;

        *ret = (struct config){.kubelet = "/var/lib/kubelet",
                               .injection.library_path = "/usr/local/nvidia/lib:/usr/local/nvidia/lib64"};
        if (!yaml_parser_initialize(&parser))
                return snprintf(why, why_size, "out of memory"), -ENOMEM;
        yaml_parser_set_input_string(&parser, (const unsigned char *)text, size);
        if (!yaml_parser_load(&parser, &r.document)) {
                snprintf(why, why_size, "line %zu: %s", parser.problem_mark.line + 1,
                         parser.problem ? parser.problem : "no YAML");
                yaml_parser_delete(&parser);
                return -EINVAL;
        }
        root = yaml_document_get_root_node(&r.document);
        error = root ? each(&r, root, "the file", top_key, ret)
                     : (snprintf(why, why_size, "it is empty"), -EINVAL);
        if (!error && !ret->n_resources && !ret->claimed.n_first && !ret->claimed.n_listed)
                error = (snprintf(why, why_size,
                                  "sharing.timeSlicing.resources: names no resource, and takt.door no GPU"),
                         -EINVAL);
        yaml_document_delete(&r.document);
        yaml_parser_delete(&parser);
        return error;
}

static int device_of(const struct slots *slots, const char *name)
{
        char *end;
        unsigned long index = strtoul(name, &end, 10);

        for (uint32_t d = 0; d < slots->n_devices; d++)
                if (!strcmp(slots->device[d].uuid, name))
                        return (int)d;
        return *name && !*end && index < slots->n_devices ? (int)index : -ENODEV;
}

// The bits of the GPUs that are meant. One file is for all nodes of a cluster: what is listed and not on this
// one is left out.
static uint32_t find_devices(const struct config_devices *from, const struct slots *slots, const char *whose)
{
        char missing[KUBE_DEVICES_MAX * (sizeof from->listed[0] + 2)] = "";
        uint32_t found = 0;
        size_t n = 0;

        for (uint32_t d = 0; d < slots->n_devices && d < from->n_first; d++)
                found |= UINT32_C(1) << d;
        for (uint32_t i = 0; i < from->n_listed; i++) {
                int d = device_of(slots, from->listed[i]);

                if (d >= 0)
                        found |= UINT32_C(1) << d;
                else
                        n += (size_t)snprintf(missing + n, sizeof missing - n, "%s%s", n ? ", " : "",
                                              from->listed[i]);
        }
        if (n)
                fprintf(stderr, "taktd: %s: not on this node: %s%s\n", whose, missing,
                        found ? "" : "; it offers nothing here");
        return found;
}

static int apply_one(const struct config_resource *from, struct slots *slots, struct resource *to, char *why,
                     size_t size)
{
        *to = (struct resource){.contract = from->contract,
                                .replicas = from->replicas,
                                .single = from->single,
                                .own = from->own};
        memcpy(to->name, from->name, sizeof to->name);
        to->devices = find_devices(&from->devices, slots, from->name);
        for (uint32_t d = 0; d < slots->n_devices; d++) {
                int n;

                if (!(to->devices >> d & 1))
                        continue;
                if (slots->claimed >> d & 1)
                        return snprintf(
                                       why, size,
                                       "%s: devices: %s goes by claims already (takt.door): name only others",
                                       from->name, slots->device[d].uuid),
                               -EINVAL;
                n = snprintf(why, size, "%s: ", from->name);
                if (promise_check(&to->contract, 1, slots->device[d].memory_bytes, why + n,
                                  size - (size_t)n) < 0)
                        return -EINVAL;
        }
        return 0;
}

int config_apply(const struct config *config, struct slots *slots, char *why, size_t size)
{
        slots->n_resources = 0;
        slots->policy = config->policy;
        slots->claimed = find_devices(&config->claimed, slots, "takt.door");
        for (uint32_t i = 0; i < config->n_resources; i++)
                if (apply_one(&config->resource[i], slots, &slots->resource[slots->n_resources++], why,
                              size) < 0)
                        return -EINVAL;
        return 0;
}
