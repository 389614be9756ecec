#include "kube/api_watch.h"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/clock.h"
#include "base/random.h"

// Nodes that lost the server together do not come back together.
static uint64_t some_of(uint64_t wait_ns)
{
        static struct takt_random random;

        if (!random.s[0])
                takt_random_seed(&random, takt_clock_now());
        return takt_random_range(&random, wait_ns / 2, wait_ns);
}

static void drop_stream(struct api_watch *watch)
{
        secure_close(&watch->secure);
        lines_deinit(&watch->lines);
        watch->n_skipped = 0;
}

static void wait_for(struct api_watch *watch, uint64_t wait_ns)
{
        drop_stream(watch);
        watch->state = API_WATCH_WAITING;
        watch->due_ns = takt_clock_now() + wait_ns;
}

// By and by. Where the server answered, it is this collection that is ill; else the api has said so.
static void fail(struct api_watch *watch, int answered, const char *why)
{
        uint64_t wait_ns = watch->wait_ns;

        if (answered && !watch->unwell)
                fprintf(stderr, "taktd: API server: %s: %s\n", watch->path, why);
        watch->unwell |= answered != 0;
        watch->wait_ns = takt_time_min(wait_ns * 2, KUBE_API_RETRY_MAX_NS);
        wait_for(watch, some_of(wait_ns));
        watch->watcher->lost(watch->context, why);
}

// It has been a watch: it sent something that makes sense, or lasted.
static void is_well(struct api_watch *watch)
{
        if (watch->unwell)
                fprintf(stderr, "taktd: API server: %s is watched again\n", watch->path);
        watch->unwell = 0;
}

static void list_anew(struct api_watch *watch)
{
        watch->version[0] = 0;
        free(watch->more);
        watch->more = NULL;
}

static int keep_version(struct api_watch *watch, const json_t *object)
{
        const char *version =
                json_string_value(json_object_get(json_object_get(object, "metadata"), "resourceVersion"));

        // It goes into a path as it is; servers only write digits.
        if (!version || !*version || strlen(version) >= sizeof watch->version ||
            strspn(version, "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ-_.") !=
                    strlen(version))
                return -EBADMSG;
        strcpy(watch->version, version);
        return 0;
}

static char separator(const struct api_watch *watch)
{
        return strchr(watch->path, '?') ? '&' : '?';
}

// --- the list
// -----------------------------------------------------------------------------------------------

static void ask_page(struct api_watch *watch);

// A token of the server's: what has a meaning in a query is escaped.
static char *escaped(const char *text)
{
        char *to = malloc(3 * strlen(text) + 1), *at = to;

        for (; to && *text; text++) {
                if (strchr("-_.~", *text) || (*text >= '0' && *text <= '9') ||
                    (*text >= 'A' && *text <= 'Z') || (*text >= 'a' && *text <= 'z'))
                        *at++ = *text;
                else
                        at += sprintf(at, "%%%02X", (unsigned char)*text);
        }
        if (to)
                *at = 0;
        return to;
}

static void listed_all(struct api_watch *watch)
{
        watch->state = API_WATCH_WAITING;
        watch->due_ns = 0;
        watch->watcher->synced(watch->context);
}

static void take_page(struct api_watch *watch, json_t *body)
{
        const json_t *items = json_object_get(body, "items"), *meta = json_object_get(body, "metadata");
        const char *more = json_string_value(json_object_get(meta, "continue"));
        json_t *item;
        size_t i;

        if (!json_is_array(items) || keep_version(watch, body) < 0) {
                list_anew(watch);
                fail(watch, 1, "its list is none");
                return;
        }
        json_array_foreach(items, i, item)
        {
                watch->watcher->event(watch->context, API_LISTED, item);
                if (watch->state != API_WATCH_LISTING)
                        return; // closed from there
        }
        free(watch->more);
        watch->more = more && *more ? escaped(more) : NULL;
        if (watch->more)
                ask_page(watch);
        else
                listed_all(watch);
}

static void on_page(void *context, int status, json_t *body, const char *error)
{
        struct api_watch *watch = context;

        if (status == 200 && body) {
                take_page(watch, body);
        } else if (!strcmp(error, API_TOO_LARGE) && watch->page > 1) {
                watch->page = watch->page / 4 + 1;
                ask_page(watch);
        } else if (status == 410 && watch->more) { // the pages' version is gone: all over again
                list_anew(watch);
                wait_for(watch, some_of(watch->wait_ns));
        } else {
                list_anew(watch);
                fail(watch, status != 0 || !strcmp(error, API_TOO_LARGE),
                     error[0] ? error : "it answers with no list");
        }
}

static void ask_page(struct api_watch *watch)
{
        char *path = NULL;
        int n = asprintf(&path, "%s%climit=%u%s%s", watch->path, separator(watch), watch->page,
                         watch->more ? "&continue=" : "", watch->more ? watch->more : "");
        int error = n < 0 ? -ENOMEM : api_ask(watch->api, "GET", path, NULL, NULL, on_page, watch);

        if (n >= 0)
                free(path);
        watch->state = API_WATCH_LISTING;
        watch->due_ns = TAKT_NEVER;
        if (error) {
                list_anew(watch);
                fail(watch, 0, strerror(-error));
        }
}

// --- the stream
// ---------------------------------------------------------------------------------------------

// A stream's error is an object: 410 says that the place is forgotten.
static int take_error(struct api_watch *watch, const json_t *object)
{
        const char *message = json_string_value(json_object_get(object, "message"));
        int code = (int)json_integer_value(json_object_get(object, "code"));
        char why[256];

        list_anew(watch);
        if (code == 410) {
                wait_for(watch, some_of(watch->wait_ns));
                return -ECANCELED;
        }
        snprintf(why, sizeof why, "%d: %s", code, message ? message : "it does not say why");
        fail(watch, 1, why);
        return -ECANCELED;
}

static int take_change(struct api_watch *watch, const char *type, json_t *object)
{
        static const char *const types[] = {
                [API_ADDED] = "ADDED", [API_MODIFIED] = "MODIFIED", [API_DELETED] = "DELETED"};

        if (!strcmp(type, "ERROR"))
                return take_error(watch, object);
        if (keep_version(watch, object) < 0)
                return -EBADMSG;
        if (!strcmp(type, "BOOKMARK"))
                return is_well(watch), 0;
        for (enum api_event e = API_ADDED; e <= API_DELETED; e++)
                if (!strcmp(type, types[e])) {
                        is_well(watch);
                        watch->watcher->event(watch->context, e, object);
                        return watch->state == API_WATCH_OPEN ? 0 : -ECANCELED;
                }
        return -EBADMSG;
}

static int take_line(void *context, const char *line, size_t size)
{
        struct api_watch *watch = context;
        json_t *change = json_loadb(line, size, 0, NULL), *object = json_object_get(change, "object");
        const char *type = json_string_value(json_object_get(change, "type"));
        int error = type && json_is_object(object) ? take_change(watch, type, object) : -EBADMSG;

        json_decref(change);
        return error;
}

static int take_body(void *context, const char *data, size_t size)
{
        struct api_watch *watch = context;

        if (watch->http.status != 200)
                return 0; // its status says enough
        return lines_feed(&watch->lines, data, size, take_line, watch);
}

static void opened(struct api_watch *watch)
{
        char why[64];

        if (watch->http.status != 200) {
                list_anew(watch);
                snprintf(why, sizeof why, "%d", watch->http.status);
                if (watch->http.status == 410)
                        wait_for(watch, some_of(watch->wait_ns));
                else
                        fail(watch, 1, why);
                return;
        }
        watch->state = API_WATCH_OPEN;
        api_said(watch->api, "");
}

// It may have been this turn's end, in order: then it goes on. One that ends as soon as it began is no watch.
static void stream_over(struct api_watch *watch)
{
        if (watch->state == API_WATCH_OPEN && takt_clock_now() - watch->began_ns > watch->api->retry_ns) {
                watch->wait_ns = watch->api->retry_ns;
                is_well(watch);
                wait_for(watch, 0);
        } else {
                fail(watch, 0, "its stream ended at once");
        }
}

static void said_of_long_lines(struct api_watch *watch)
{
        if (watch->lines.n_skipped == watch->n_skipped)
                return;
        fprintf(stderr, "taktd: API server: %s: an object of more than %u MiB is left out\n", watch->path,
                KUBE_API_ANSWER_MAX >> 20);
        watch->n_skipped = watch->lines.n_skipped;
}

static int stream_data(void *context, const char *data, size_t size)
{
        struct api_watch *watch = context;
        ptrdiff_t n = 0;
        size_t at = 0;

        // The status comes before the first change.
        while (at < size && watch->state == API_WATCH_OPENING && n >= 0) {
                n = http_feed(&watch->http, data + at, 1, take_body, watch);
                at += n > 0;
                if (watch->http.state >= HTTP_BODY)
                        opened(watch);
        }
        if (watch->state == API_WATCH_OPEN && at < size && n >= 0)
                n = http_feed(&watch->http, data + at, size - at, take_body, watch);
        if (watch->state < API_WATCH_OPENING)
                return 0; // over, and said
        said_of_long_lines(watch);
        if (n < 0) {
                list_anew(watch);
                fail(watch, 1, n == -EBADMSG ? "what it sends is no watch" : strerror((int)-n));
        } else if (watch->http.state == HTTP_DONE) {
                stream_over(watch);
        }
        return 0;
}

static void stream_ended(void *context, const char *why)
{
        struct api_watch *watch = context;

        if (watch->state == API_WATCH_OPENING) {
                api_said(watch->api, why[0] ? why : "it ended the connection before its answer");
                fail(watch, 0, why);
        } else {
                stream_over(watch);
        }
}

static void open_stream(struct api_watch *watch, uint64_t now_ns)
{
        struct api_ask ask = {.verb = "GET"};
        char why[256] = "out of memory", *text = NULL;
        size_t size;
        int error = asprintf(&ask.path,
                             "%s%cwatch=true&allowWatchBookmarks=true&resourceVersion=%s&timeoutSeconds=%d",
                             watch->path, separator(watch), watch->version, KUBE_API_WATCH_S) < 0
                            ? -ENOMEM
                            : 0;

        if (!error) {
                text = api_text(watch->api, &ask, &size, why, sizeof why);
                free(ask.path);
        }
        error = text ? api_trust(watch->api, why, sizeof why) : -EINVAL;
        if (!error && (error = secure_open(&watch->secure, watch->api->host, &watch->api->peer, stream_data,
                                           stream_ended, watch)) < 0)
                snprintf(why, sizeof why, "%s", strerror(-error));
        if (error) {
                free(text);
                api_said(watch->api, why);
                fail(watch, 0, why);
                return;
        }
        http_init(&watch->http);
        lines_init(&watch->lines, KUBE_API_ANSWER_MAX);
        secure_send(&watch->secure, text, size);
        watch->state = API_WATCH_OPENING;
        watch->began_ns = now_ns;
        watch->due_ns = now_ns + KUBE_API_CALL_NS;
}

// --- its life
// -----------------------------------------------------------------------------------------------

uint64_t api_watch_due(const struct api_watch *watch)
{
        if (watch->state == API_WATCH_OPEN) // by then the server has ended it
                return watch->began_ns + (KUBE_API_WATCH_S + 30) * TAKT_S;
        return watch->due_ns;
}

void api_watch_tick(struct api_watch *watch, uint64_t now_ns)
{
        if (watch->state == API_WATCH_OPEN) {
                stream_over(watch);
        } else if (watch->state == API_WATCH_OPENING) {
                api_said(watch->api, "no answer in time");
                fail(watch, 0, "no answer in time");
        } else if (watch->version[0] && !watch->more) {
                open_stream(watch, now_ns);
        } else {
                list_anew(watch);
                watch->watcher->begin(watch->context);
                ask_page(watch);
        }
}

int api_watch_open(struct api_watch *watch, struct api *api, const char *path,
                   const struct api_watcher *watcher, void *context)
{
        *watch = (struct api_watch){.next = api->watches,
                                    .api = api,
                                    .watcher = watcher,
                                    .context = context,
                                    .path = strdup(path),
                                    .page = KUBE_API_PAGE,
                                    .wait_ns = api->retry_ns};
        if (!watch->path)
                return -ENOMEM;
        api->watches = watch;
        return 0;
}

void api_watch_close(struct api_watch *watch)
{
        for (struct api_watch **at = &watch->api->watches; *at; at = &(*at)->next)
                if (*at == watch) {
                        *at = watch->next;
                        break;
                }
        api_forget(watch->api, watch);
        wait_for(watch, 0);
        list_anew(watch);
        free(watch->path);
        watch->path = NULL;
}
