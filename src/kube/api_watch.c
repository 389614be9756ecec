#include "kube/api_watch.h"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/clock.h"
#include "base/random.h"
#include "kube/json.h"
#include "kube/names.h"

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

// It has been a watch: its stream lasted.
static void is_well(struct api_watch *watch)
{
        if (watch->unwell)
                fprintf(stderr, "taktd: API server: %s is watched again\n", watch->path);
        watch->settled = 1;
        watch->unwell = watch->cut = watch->forgotten = 0;
}

// A stream that ends before is none.
static uint64_t least_ns(const struct api_watch *watch)
{
        return 10 * watch->api->retry_ns;
}

// When it is well. What is well and ill by turns is not told of at each: it has to last longer than it was
// waited for.
static uint64_t settles_ns(const struct api_watch *watch)
{
        if (watch->settled || watch->half_ns != TAKT_NEVER)
                return TAKT_NEVER;
        return watch->began_ns + takt_time_max(least_ns(watch), watch->wait_ns);
}

static void list_anew(struct api_watch *watch)
{
        watch->version[0] = 0;
        watch->n_pages = 0;
        free(watch->more);
        watch->more = NULL;
}

// Where to go on is forgotten: all over again. A server that forgets what it has just told is ill.
static void forgotten(struct api_watch *watch)
{
        list_anew(watch);
        if (watch->forgotten) {
                fail(watch, 1, "410: it forgets at once what it has told");
                return;
        }
        watch->forgotten = 1;
        wait_for(watch, some_of(watch->wait_ns));
}

static void say_long(struct api_watch *watch)
{
        if (!watch->said_long)
                fprintf(stderr,
                        "taktd: API server: %s: an object of more than %u MiB, or %u values, is left out\n",
                        watch->path, KUBE_API_ANSWER_MAX >> 20, KUBE_JSON_VALUES_MAX);
        watch->said_long = 1;
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

// is_cut: its only object was too large.
static void take_page(struct api_watch *watch, json_t *body, int is_cut)
{
        const json_t *items = json_object_get(body, "items"), *meta = json_object_get(body, "metadata");
        const char *more = json_string_value(json_object_get(meta, "continue"));
        json_t *item;
        size_t i;

        int is_list = json_is_array(items) && keep_version(watch, body) == 0 &&
                      (!more || strlen(more) <= KUBE_API_MORE_MAX),
            is_endless = ++watch->n_pages > KUBE_API_PAGES_MAX;

        if (!is_list || is_endless) {
                list_anew(watch);
                fail(watch, 1, is_endless ? "its list has no end" : "its list is none");
                return;
        }
        if (is_cut)
                say_long(watch);
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
                take_page(watch, body, 0);
        } else if (!strcmp(error, API_TOO_LARGE) && watch->page > 1) {
                watch->page = watch->page / 4 + 1;
                ask_page(watch);
        } else if (!strcmp(error, API_TOO_LARGE) && body) { // it is one object
                take_page(watch, body, 1);
        } else if (status == 410 && watch->more) { // the pages' version is gone
                forgotten(watch);
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

        if (code == 410)
                return forgotten(watch), -ECANCELED;
        list_anew(watch);
        snprintf(why, sizeof why, "%d: %s", code, message ? message : "it does not say why");
        names_make_plain(why);
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
                return 0;
        for (enum api_event e = API_ADDED; e <= API_DELETED; e++)
                if (!strcmp(type, types[e])) {
                        watch->watcher->event(watch->context, e, object);
                        return watch->state == API_WATCH_OPEN ? 0 : -ECANCELED;
                }
        return -EBADMSG;
}

static int take_line(void *context, const char *line, size_t size)
{
        struct api_watch *watch = context;
        json_t *change, *object;
        const char *type;
        int error;

        watch->half_ns = TAKT_NEVER;
        if (json_read(line, size, &change) == -EFBIG)
                return watch->lines.n_skipped++, 0;
        object = json_object_get(change, "object");
        type = json_string_value(json_object_get(change, "type"));
        error = type && json_is_object(object) ? take_change(watch, type, object) : -EBADMSG;
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
                api_said(watch->api, &watch->ill, "");
                if (watch->http.status == 410) {
                        forgotten(watch);
                        return;
                }
                list_anew(watch);
                snprintf(why, sizeof why, "%d", watch->http.status);
                fail(watch, 1, why);
                return;
        }
        watch->state = API_WATCH_OPEN;
        api_said(watch->api, &watch->ill, "");
}

// It may have been this turn's end, in order: then it goes on. One that ends as soon as it began is no watch;
// once that may be a server that restarts.
static void stream_over(struct api_watch *watch)
{
        if (watch->state == API_WATCH_OPEN && takt_clock_now() - watch->began_ns > least_ns(watch)) {
                watch->wait_ns = watch->api->retry_ns;
                is_well(watch);
                wait_for(watch, 0);
        } else {
                int is_again = watch->cut;

                watch->cut = 1;
                fail(watch, is_again, "its stream ended at once");
        }
}

// What came last may be the beginning of a change.
static void mind_the_rest(struct api_watch *watch)
{
        int is_half = watch->lines.n || watch->lines.skipping;

        if (watch->lines.n_skipped) {
                watch->lines.n_skipped = 0;
                watch->half_ns = TAKT_NEVER;
                say_long(watch);
        }
        if (!is_half)
                watch->half_ns = TAKT_NEVER;
        else if (watch->half_ns == TAKT_NEVER)
                watch->half_ns = takt_clock_now() + watch->api->call_ns;
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
        mind_the_rest(watch);
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
                api_said(watch->api, &watch->ill, why[0] ? why : "it ended the connection before its answer");
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
                api_said(watch->api, &watch->ill, why);
                fail(watch, 0, why);
                return;
        }
        http_init(&watch->http);
        lines_init(&watch->lines, KUBE_API_ANSWER_MAX);
        secure_send(&watch->secure, text, size);
        watch->state = API_WATCH_OPENING;
        watch->began_ns = now_ns;
        watch->due_ns = now_ns + watch->api->call_ns;
        watch->half_ns = TAKT_NEVER;
        watch->settled = 0;
}

// --- its life
// -----------------------------------------------------------------------------------------------

uint64_t api_watch_due(const struct api_watch *watch)
{
        uint64_t end_ns = watch->began_ns + (KUBE_API_WATCH_S + 30) * TAKT_S; // the server ends it before

        if (watch->state == API_WATCH_OPEN)
                return takt_time_min(end_ns, takt_time_min(watch->half_ns, settles_ns(watch)));
        return watch->due_ns;
}

void api_watch_tick(struct api_watch *watch, uint64_t now_ns)
{
        if (watch->state == API_WATCH_OPEN && watch->half_ns <= now_ns) {
                fail(watch, 1, "a change did not come whole in time");
        } else if (watch->state == API_WATCH_OPEN && settles_ns(watch) <= now_ns) {
                is_well(watch);
        } else if (watch->state == API_WATCH_OPEN) {
                stream_over(watch);
        } else if (watch->state == API_WATCH_OPENING) {
                api_said(watch->api, &watch->ill, "no answer in time");
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
