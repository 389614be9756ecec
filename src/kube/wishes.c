#include "kube/wishes.h"
#include <errno.h>
#include <stdio.h>
#include <string.h>

static void say(struct wishes *w, const struct pod *pod, int warning, const char *reason, const char *text)
{
        const struct events_object object = {"Pod", pod->namespace, pod->name, pod->uid};

        events_say(w->events, &object, warning, reason, "%s", text);
}

static void say_wrong(struct wishes *w, struct pod *pod, const char *why)
{
        char text[KUBE_EVENT_TEXT_MAX];

        if (pod->said_wrong)
                return;
        pod->said_wrong = 1;
        snprintf(text, sizeof text, "%.700s; the pod gets what its resource promises", why);
        say(w, pod, 1, "InvalidAnnotation", text);
}

// Guaranteed would be deadline, but there is no deadline without an objective.
static enum core_class class_of_qos(int is_best_effort)
{
        return is_best_effort ? CORE_CLASS_IDLE : CORE_CLASS_FAIR;
}

// Without a word of class: an objective makes it deadline, else it is the configuration's; and where that
// says nothing, the pod's QoS class decides.
static void choose_class(const struct pod *pod, const struct resource *resource, struct core_contract *c)
{
        if (promise_has_objective(&pod->words))
                c->class = CORE_CLASS_DEADLINE;
        else if (!resource->own)
                c->class = class_of_qos(pod->qos == POD_BEST_EFFORT);
}

// What the pod is to be promised for the slot. What is no promise, or none that the slot's device can keep,
// is said to be wrong, and the resource's promise it is. is_its: the slot is known to be the pod's; else the
// device may be another's, and nothing is said of it.
static struct core_contract contract_of(struct wishes *w, struct pod *pod, const struct slot *slot,
                                        int is_its)
{
        const struct resource *resource = &w->slots->resource[slot->resource];
        struct core_contract c = resource->contract;
        char why[160], text[200];

        if (w->deaf)
                return c;
        if (pod->wrong[0]) {
                say_wrong(w, pod, pod->wrong);
                return c;
        }
        if (!promise_lay(&pod->words, &c))
                choose_class(pod, resource, &c);
        if (promise_check(&c, 1, w->slots->device[slot->device].memory_bytes, why, sizeof why) == 0)
                return c;
        snprintf(text, sizeof text, "takt.dev/%s", why);
        if (is_its)
                say_wrong(w, pod, text);
        return resource->contract;
}

static uint32_t n_slots_of(const struct slots *slots, const struct pod *pod, uint32_t resource)
{
        uint32_t n = 0;

        for (const struct slot *s = slots->slot; s < slots->slot + slots->n_slots; s++)
                n += s->resource == resource && s->tenant >= 0 && s->listed && !strcmp(s->name, pod->name) &&
                     !strcmp(s->namespace, pod->namespace);
        return n;
}

static int may_be(const struct wishes *w, const struct pod *pod, uint32_t resource)
{
        return pod->uid[0] && !pod->started && pod->wants[resource] > pod->taken[resource] &&
               pod->wants[resource] > n_slots_of(w->slots, pod, resource);
}

static int same(const struct core_contract *a, const struct core_contract *b)
{
        return !memcmp(a, b, sizeof *a);
}

int wishes_at_allocate(struct wishes *w, uint32_t index, struct wish *ret)
{
        const struct slot *slot = &w->slots->slot[index];

        *ret = (struct wish){0};
        for (struct pod *p = w->list.pod; w->list.synced && p < w->list.pod + w->list.n_pods; p++) {
                struct core_contract contract;

                if (!may_be(w, p, slot->resource))
                        continue;
                contract = contract_of(w, p, slot, 0);
                if (ret->pod && !same(&contract, &ret->contract))
                        return ret->pod = NULL, -EAGAIN;
                *ret = (struct wish){ret->pod ? ret->pod : p, ret->n_pods + 1, contract};
        }
        return 0;
}

int wishes_hear(const struct wishes *w)
{
        return w->list.watch.state == API_WATCH_OPEN;
}

// Who of several was meant is not known yet, but as many of them are served.
void wishes_allocated(struct wishes *w, const struct wish *wish, uint32_t index, int error, const char *why,
                      int is_final)
{
        char text[KUBE_EVENT_TEXT_MAX], promise[200];

        if (!error)
                wish->pod->taken[w->slots->slot[index].resource]++;
        if (error != -EDQUOT || !is_final)
                return;
        promise_text(&wish->contract, promise, sizeof promise);
        snprintf(text, sizeof text, "%s: %s", promise, why);
        if (wish->n_pods == 1)
                say(w, wish->pod, 1, "PromiseRefused", text);
        else
                fprintf(stderr, "taktd: one of %u pods that wish the same is refused: %s\n", wish->n_pods,
                        text);
}

struct pod *wishes_pod_of(struct wishes *w, const struct slot *slot)
{
        struct pod *by_process = slot->pod[0] ? podlist_by_uid(&w->list, slot->pod) : NULL;

        if (slot->pod[0])
                return by_process && slot->listed &&
                                       (strcmp(by_process->name, slot->name) ||
                                        strcmp(by_process->namespace, slot->namespace))
                               ? NULL // the kubelet and the kernel do not agree
                               : by_process;
        return slot->listed ? podlist_by_name(&w->list, slot->namespace, slot->name) : NULL;
}

static void settle(struct wishes *w, uint32_t index, struct pod *pod)
{
        struct slot *slot = &w->slots->slot[index];
        struct core_contract contract = contract_of(w, pod, slot, 1);
        char text[KUBE_EVENT_TEXT_MAX], now[200], before[200], why[256];
        int is_first = !slot->judged, error;

        slot->judged = pod->print;
        promise_text(&contract, now, sizeof now);
        promise_text(&slot->contract, before, sizeof before);
        if (same(&contract, &slot->contract)) {
                if (pod->words.keys && !pod->said_wrong && is_first)
                        say(w, pod, 0, "Promised", now);
                return;
        }
        error = slots_amend(w->slots, index, &contract, why, sizeof why);
        if (error == -ERANGE) {
                snprintf(text, sizeof text, "takt.dev/%s", why);
                say_wrong(w, pod, text);
        } else if (error == -EDOM) {
                snprintf(text, sizeof text, "%s: %s", now, why);
                say_wrong(w, pod, text);
        } else if (error) {
                snprintf(text, sizeof text, "%s: %.250s; it keeps %s", now, why, before);
                say(w, pod, 1, "PromiseRefused", text);
        } else {
                snprintf(text, sizeof text, "%s (it was %s)", now, before);
                say(w, pod, 0, is_first ? "Promised" : "PromiseChanged", text);
        }
}

void wishes_settle(struct wishes *w)
{
        for (uint32_t i = 0; i < w->slots->n_slots; i++) {
                const struct slot *slot = &w->slots->slot[i];
                struct pod *pod = slot->tenant >= 0 ? wishes_pod_of(w, slot) : NULL;

                if (pod && slot->judged != pod->print)
                        settle(w, i, pod);
        }
}

void wishes_joined(struct wishes *w, uint32_t index, int is_best_effort)
{
        const struct slot *slot = &w->slots->slot[index];
        const struct resource *resource = &w->slots->resource[slot->resource];
        struct core_contract contract = resource->contract;
        char why[256];

        contract.class = class_of_qos(is_best_effort);
        if (w->deaf || resource->own || slot->judged || podlist_by_uid(&w->list, slot->pod) ||
            !same(&slot->contract, &resource->contract) || same(&slot->contract, &contract))
                return;
        if (slots_amend(w->slots, index, &contract, why, sizeof why))
                fprintf(stderr, "taktd: slot %s: pod %s: %s\n", slot->id, slot->pod, why);
}

static void changed(void *context)
{
        wishes_settle(context);
}

int wishes_open(struct wishes *w, struct slots *slots, struct api *api, struct events *events,
                const char *node)
{
        w->slots = slots;
        w->events = events;
        return podlist_open(&w->list, api, slots, node, changed, w);
}
