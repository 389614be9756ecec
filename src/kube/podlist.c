#include "kube/podlist.h"
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include "base/hash.h"
#include "kube/names.h"

#define PREFIX "takt.dev/"

struct pod *podlist_by_uid(struct podlist *list, const char *uid)
{
        for (struct pod *p = list->pod; p < list->pod + list->n_pods; p++)
                if (p->uid[0] && !strcmp(p->uid, uid))
                        return p;
        return NULL;
}

struct pod *podlist_by_name(struct podlist *list, const char *namespace, const char *name)
{
        for (struct pod *p = list->pod; p < list->pod + list->n_pods; p++)
                if (p->uid[0] && !strcmp(p->name, name) && !strcmp(p->namespace, namespace))
                        return p;
        return NULL;
}

int podlist_wants_slots(const struct pod *pod)
{
        for (uint32_t r = 0; r < KUBE_RESOURCES_MAX; r++)
                if (pod->wants[r])
                        return 1;
        return 0;
}

static const char *text_at(const json_t *object, const char *key, const char *member)
{
        const char *text = json_string_value(json_object_get(json_object_get(object, key), member));

        return text ? text : "";
}

static void count_wants(struct pod *pod, const struct slots *slots, const json_t *containers)
{
        const json_t *container;
        size_t i;

        json_array_foreach(containers, i, container)
        {
                const json_t *limits = json_object_get(json_object_get(container, "resources"), "limits");

                for (uint32_t r = 0; r < slots->n_resources; r++)
                        if (json_object_get(limits, slots->resource[r].name) && pod->wants[r] < UINT8_MAX)
                                pod->wants[r]++;
        }
}

// As many as there is room for; the others are counted.
static void add_wrong(struct pod *pod, const char *why, uint32_t *n_more)
{
        static const char counted[] = "; and 4294967295 more";
        size_t n = strlen(pod->wrong), size = sizeof pod->wrong - sizeof counted - n;

        if ((size_t)snprintf(pod->wrong + n, size, "%s" PREFIX "%s", n ? "; " : "", why) >= size) {
                pod->wrong[n] = 0;
                ++*n_more;
        }
}

// Takes one into the promise of a pod that has slots. Returns 0, or what it is not understood for.
static int read_one(struct pod *pod, const char *key, const char *text, char *why, size_t size)
{
        int error = podlist_wants_slots(pod) ? promise_say(&pod->words, key, text, why, size) : -ENOTSUP;

        if (error == -ENOENT)
                snprintf(why, size, "%.40s: no such key (its value is \"%.40s\")", key, text);
        else if (error == -ENOTSUP)
                snprintf(why, size, "%.40s: \"%.40s\"", key, text);
        return error;
}

// One wrong word spoils the promise, not the pod.
static void read_annotations(struct pod *pod, json_t *annotations)
{
        const char *key;
        json_t *value;
        uint32_t n_more = 0;

        json_object_foreach(annotations, key, value)
        {
                const char *text = json_string_value(value);
                char why[160];

                if (strncmp(key, PREFIX, sizeof PREFIX - 1) || !text)
                        continue;
                if (read_one(pod, key + sizeof PREFIX - 1, text, why, sizeof why) < 0)
                        add_wrong(pod, why, &n_more);
        }
        if (n_more)
                snprintf(pod->wrong + strlen(pod->wrong), sizeof pod->wrong - strlen(pod->wrong),
                         "%sand %u more", pod->wrong[0] ? "; " : PREFIX, n_more);
        if (pod->wrong[0])
                pod->words = (struct promise_words){0};
}

static uint64_t print_of(const struct pod *pod)
{
        uint64_t hash = takt_hash(TAKT_HASH_START, &pod->words, sizeof pod->words);

        hash = takt_hash(hash, pod->wrong, strlen(pod->wrong) + 1);
        return takt_hash(hash, pod->uid, strlen(pod->uid)) | 1;
}

// The kubelet gives a pod all its devices before it says anything of it.
static int is_started(const json_t *object)
{
        const char *phase = text_at(object, "status", "phase");

        return text_at(object, "status", "startTime")[0] || (*phase && strcmp(phase, "Pending"));
}

static struct pod read_pod(const struct slots *slots, const json_t *object)
{
        const char *qos = text_at(object, "status", "qosClass"), *uid = text_at(object, "metadata", "uid"),
                   *namespace = text_at(object, "metadata", "namespace"),
                   *name = text_at(object, "metadata", "name");
        const json_t *spec = json_object_get(object, "spec");
        struct pod pod = {.started = is_started(object) != 0};

        pod.qos = !strcmp(qos, "Guaranteed")  ? POD_GUARANTEED
                  : !strcmp(qos, "Burstable") ? POD_BURSTABLE
                                              : POD_BEST_EFFORT;
        if (!names_is_uid(uid) || !names_is_label(namespace) || !names_is_subdomain(name))
                return (struct pod){0};
        strcpy(pod.uid, uid);
        strcpy(pod.namespace, namespace);
        strcpy(pod.name, name);
        count_wants(&pod, slots, json_object_get(spec, "initContainers"));
        count_wants(&pod, slots, json_object_get(spec, "containers"));
        read_annotations(&pod, json_object_get(json_object_get(object, "metadata"), "annotations"));
        pod.print = print_of(&pod);
        return pod;
}

static int is_over(const json_t *object)
{
        const char *phase = text_at(object, "status", "phase");

        return !strcmp(phase, "Succeeded") || !strcmp(phase, "Failed");
}

// A pod that wants slots takes the place of one that wants none, if there is no other: of that only mistakes
// are told.
static struct pod *free_place(struct podlist *list, const struct pod *pod)
{
        struct pod *without = NULL;

        for (struct pod *p = list->pod; p < list->pod + list->n_pods; p++) {
                if (!p->uid[0])
                        return p;
                if (!podlist_wants_slots(p))
                        without = p;
        }
        if (list->n_pods < KUBE_PODS_MAX)
                return &list->pod[list->n_pods++];
        if (!without || !podlist_wants_slots(pod))
                return NULL;
        without->uid[0] = 0;
        return without;
}

static int concerns_us(const struct podlist *list, const struct pod *pod)
{
        return podlist_wants_slots(pod) || (list->slots->claimed && pod->wrong[0]);
}

// Only the first is told of, until a list was without any.
static void say_strange(struct podlist *list, const json_t *object)
{
        char text[160];

        if (!list->said_strange) {
                snprintf(text, sizeof text, "%.40s/%.60s (UID %.40s)",
                         text_at(object, "metadata", "namespace"), text_at(object, "metadata", "name"),
                         text_at(object, "metadata", "uid"));
                names_make_plain(text);
                fprintf(stderr, "taktd: API server: pod %s: no pod can be called so; it is left out\n", text);
        }
        list->strange = list->said_strange = 1;
}

static void say_full(struct podlist *list)
{
        if (!list->said_full)
                fprintf(stderr,
                        "taktd: more than %d pods ask for slots or have annotations; of the others they are "
                        "not "
                        "read\n",
                        KUBE_PODS_MAX);
        list->full = list->said_full = 1;
}

void podlist_take(struct podlist *list, enum api_event event, const json_t *object)
{
        struct pod pod = read_pod(list->slots, object), *place = podlist_by_uid(list, pod.uid);

        if (!pod.uid[0]) {
                say_strange(list, object);
                return;
        }
        if (event == API_DELETED || is_over(object) || !concerns_us(list, &pod)) {
                if (place)
                        place->uid[0] = 0;
                return;
        }
        if (!place)
                place = free_place(list, &pod);
        if (!place) {
                say_full(list);
                return;
        }
        if (place->uid[0]) {
                memcpy(pod.taken, place->taken, sizeof pod.taken);
                pod.said_wrong = place->said_wrong && pod.print == place->print;
        }
        pod.is_there = 1;
        *place = pod;
}

static void begin(void *context)
{
        struct podlist *list = context;

        list->full = list->strange = 0;
        for (struct pod *p = list->pod; p < list->pod + list->n_pods; p++)
                p->is_there = 0;
}

static void event(void *context, enum api_event kind, json_t *object)
{
        struct podlist *list = context;

        podlist_take(list, kind, object);
        if (kind != API_LISTED)
                list->changed(list->context);
}

static void synced(void *context)
{
        struct podlist *list = context;

        for (struct pod *p = list->pod; p < list->pod + list->n_pods; p++)
                if (!p->is_there)
                        p->uid[0] = 0;
        list->synced = 1;
        list->said_full = list->full;
        list->said_strange = list->strange;
        list->changed(list->context);
}

// What is known stays: it is more than nothing.
static void lost(void *context, const char *why)
{
        (void)context, (void)why;
}

int podlist_open(struct podlist *list, struct api *api, const struct slots *slots, const char *node,
                 void (*changed)(void *), void *context)
{
        static const struct api_watcher watcher = {begin, event, synced, lost};
        char path[128];

        list->slots = slots;
        list->changed = changed;
        list->context = context;
        if (!names_is_subdomain(node))
                return -EINVAL;
        snprintf(path, sizeof path, "/api/v1/pods?fieldSelector=spec.nodeName%%3D%s", node);
        return api_watch_open(&list->watch, api, path, &watcher, list);
}
