#include "kube/events.h"
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include "base/clock.h"
#include "base/hash.h"
#include "kube/names.h"

void events_open(struct events *events, struct api *api, const char *node)
{
        events->api = api;
        snprintf(events->node, sizeof events->node, "%s", node);
}

static uint64_t key_of(const struct events_object *object, const char *reason, const char *text)
{
        const char *const parts[] = {object->kind, object->namespace, object->name, object->uid, reason,
                                     text};
        uint64_t hash = TAKT_HASH_START;

        for (size_t i = 0; i < sizeof parts / sizeof *parts; i++)
                hash = takt_hash(hash, parts[i] ? parts[i] : "", parts[i] ? strlen(parts[i]) + 1 : 1);
        return hash | 1;
}

// Its own place if it came before; else a free one, or that of the one that did not come for the longest
// time.
static struct event *place_of(struct events *events, uint64_t key)
{
        struct event *place = NULL;

        for (struct event *e = events->event; e < events->event + events->n_events; e++) {
                if (e->key == key)
                        return e;
                if (!e->asking && (!place || e->last_ns < place->last_ns))
                        place = e;
        }
        if ((!place || place->key) && events->n_events < KUBE_EVENTS_MAX)
                place = &events->event[events->n_events++];
        if (place) {
                events->n_lost += place->key && place->dirty;
                *place = (struct event){.key = key};
        }
        return place;
}

// As others name theirs: the object, and a number that no two share.
static void name_it(struct event *event)
{
        int n = (int)strnlen(event->object, 220);

        while (n && strchr("-.", event->object[n - 1]))
                n--;
        snprintf(event->at, sizeof event->at, "%.*s.%016lx", n, event->object, event->key ^ takt_clock_now());
}

static void note(struct event *event, const struct events_object *object, int warning, const char *reason,
                 const char *text)
{
        const char *namespace = object->namespace ? object->namespace : "";

        event->last = time(NULL);
        event->last_ns = takt_clock_now();
        event->dirty = 1;
        if (event->count++)
                return;
        event->first = event->last;
        event->warning = warning != 0;
        snprintf(event->involved, sizeof event->involved, "%s", object->kind);
        snprintf(event->object_namespace, sizeof event->object_namespace, "%s", namespace);
        snprintf(event->namespace, sizeof event->namespace, "%s", *namespace ? namespace : "default");
        snprintf(event->object, sizeof event->object, "%s", object->name);
        snprintf(event->uid, sizeof event->uid, "%s", object->uid);
        snprintf(event->reason, sizeof event->reason, "%s", reason);
        snprintf(event->text, sizeof event->text, "%s", text);
        name_it(event);
}

void events_say(struct events *events, const struct events_object *object, int warning, const char *reason,
                const char *format, ...)
{
        char text[KUBE_EVENT_TEXT_MAX];
        struct event *event;
        va_list args;

        va_start(args, format);
        vsnprintf(text, sizeof text, format, args);
        va_end(args);
        names_make_plain(text); // words of others are in it
        fprintf(stderr, "taktd: %s %s%s%s: %s: %s\n", object->kind,
                object->namespace ? object->namespace : "", object->namespace ? "/" : "", object->name,
                reason, text);
        if (!events->api || !events->api->is_open || !events->node[0])
                return;
        event = place_of(events, key_of(object, reason, text));
        if (event)
                note(event, object, warning, reason, text);
        else
                events->n_lost++;
}

static void answered(void *context, int status, json_t *body, const char *error)
{
        struct event *event = context;

        (void)body;
        event->asking = 0;
        if (status == 200 || status == 201) {
                event->written = 1;
        } else if ((status == 404 && event->written) ||
                   status == 409) { // it was deleted, or its name is taken
                event->written = 0;
                event->dirty = 1;
                name_it(event);
        } else if (status == 0 || status >= 500 || status == 429) {
                event->dirty = 1;
        } else if (!event->written) {
                fprintf(stderr, "taktd: an event in namespace %s was not taken: %s\n", event->namespace,
                        error);
        }
}

static json_t *time_text(time_t when)
{
        char text[32];
        struct tm parts;

        gmtime_r(&when, &parts);
        strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%SZ", &parts);
        return json_string(text);
}

static json_t *body_of(const struct events *events, const struct event *e)
{
        int is_claim = !strcmp(e->involved, "ResourceClaim");

        return json_pack(
                "{s:s,s:s,s:{s:s,s:s},s:{s:s,s:s,s:s,s:s,s:s},s:s,s:s,s:s,s:i,s:o,s:o,s:{s:s,s:s},s:s,s:s}",
                "apiVersion", "v1", "kind", "Event", "metadata", "name", e->at, "namespace", e->namespace,
                "involvedObject", "apiVersion", is_claim ? "resource.k8s.io/v1" : "v1", "kind", e->involved,
                "namespace", e->object_namespace, "name", e->object, "uid", e->uid, "reason", e->reason,
                "message", e->text, "type", e->warning ? "Warning" : "Normal", "count", (int)e->count,
                "firstTimestamp", time_text(e->first), "lastTimestamp", time_text(e->last), "source",
                "component", "taktd", "host", events->node, "reportingComponent", "takt.dev/taktd",
                "reportingInstance", events->node);
}

static void write_one(struct events *events, struct event *event)
{
        char path[400];
        json_t *body = event->written ? json_pack("{s:i,s:o}", "count", (int)event->count, "lastTimestamp",
                                                  time_text(event->last))
                                      : body_of(events, event);
        int error;

        snprintf(path, sizeof path, "/api/v1/namespaces/%s/events%s%s", event->namespace,
                 event->written ? "/" : "", event->written ? event->at : "");
        error = body ? api_ask(events->api, event->written ? "PATCH" : "POST", path,
                               event->written ? "application/merge-patch+json" : NULL, body, answered, event)
                     : -1;
        json_decref(body);
        event->asking = !error;
        event->dirty = error != 0;
}

// A new one at once; one that came again only so often.
static uint64_t due_of(const struct events *events, const struct event *event)
{
        uint64_t may_ns = takt_time_since(events->budget_ns, (KUBE_EVENTS_BURST - 1) * KUBE_EVENT_NS);

        if (!event->dirty || event->asking)
                return TAKT_NEVER;
        return takt_time_max(may_ns, event->sent_ns ? event->sent_ns + KUBE_EVENT_AGAIN_NS : 0);
}

uint64_t events_due(const struct events *events)
{
        uint64_t due_ns = TAKT_NEVER;

        for (const struct event *e = events->event; e < events->event + events->n_events; e++)
                due_ns = takt_time_min(due_ns, due_of(events, e));
        return due_ns;
}

void events_tick(struct events *events, uint64_t now_ns)
{
        for (struct event *e = events->event; e < events->event + events->n_events; e++) {
                if (due_of(events, e) > now_ns)
                        continue;
                e->sent_ns = now_ns;
                events->budget_ns = takt_time_max(events->budget_ns, now_ns) + KUBE_EVENT_NS;
                write_one(events, e);
        }
        if (events->n_lost)
                fprintf(stderr, "taktd: %lu events were too many to be written\n", events->n_lost);
        events->n_lost = 0;
}
