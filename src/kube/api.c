#include "kube/api.h"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/clock.h"
#include "kube/api_watch.h"
#include "kube/json.h"
#include "kube/names.h"

void api_said(struct api *api, uint8_t *ill, const char *error)
{
        uint8_t any;

        *ill = error[0] != 0;
        any = api->ill;
        for (const struct api_watch *w = api->watches; w; w = w->next)
                any |= w->ill;
        if (any && !api->unwell)
                fprintf(stderr,
                        "taktd: API server %s: %s; until it answers, what needs it waits, and all else goes "
                        "on\n",
                        api->where.server, error);
        if (!any && api->unwell)
                fprintf(stderr, "taktd: API server %s answers again\n", api->where.server);
        api->unwell = any;
        api->stale |= !strncmp(error, "TLS", 3);
}

// Whose ask it was: a watch asks in its own name.
static uint8_t *ill_of(struct api *api, const void *context)
{
        for (struct api_watch *w = api->watches; w; w = w->next)
                if (w == context)
                        return &w->ill;
        return &api->ill;
}

int api_trust(struct api *api, char *why, size_t size)
{
        SSL_CTX *trust;
        char reason[100];

        if (!api->stale)
                return 0;
        trust = secure_trust(api->where.ca, reason, sizeof reason);
        if (!trust)
                return snprintf(why, size, "%s: %s", api->where.ca, reason), -ENOENT;
        SSL_CTX_free(api->peer.trust);
        api->peer.trust = trust;
        api->stale = 0;
        return 0;
}

static void free_ask(struct api_ask *ask)
{
        free(ask->path);
        free(ask->body);
        *ask = (struct api_ask){0};
}

static void reset_answer(struct api_line *line)
{
        free(line->answer);
        line->answer = NULL;
        line->n_answer = line->answer_size = 0;
        http_init(&line->http);
        line->heard = 0;
}

// In the server's own words, where it has any (kind Status).
static const char *words_of(int status, const json_t *body, char *text, size_t size)
{
        const char *message = json_string_value(json_object_get(body, "message"));

        if (status < 400)
                return "";
        snprintf(text, size, "%d: %s", status, message ? message : "it does not say why");
        names_make_plain(text);
        return text;
}

// Of a list that is too large: where it goes on stands before its items.
static json_t *without_items(const char *answer, size_t size)
{
        static const char items[] = "\"items\":";
        const char *at = answer ? memmem(answer, size < 8192 ? size : 8192, items, sizeof items - 1) : NULL;
        json_t *list = NULL;
        char *text;

        if (at && asprintf(&text, "%.*s%s[]}", (int)(at - answer), answer, items) >= 0) {
                list = json_loads(text, 0, NULL);
                free(text);
        }
        return list;
}

// The answer's JSON. Returns "", or what is wrong with it.
static const char *read_answer(struct api_line *line, json_t **ret)
{
        int error = line->n_answer ? json_read(line->answer, line->n_answer, ret) : 0;

        return error == -EFBIG                        ? API_TOO_LARGE
               : error < 0 && line->http.status < 400 ? "its answer is no JSON"
                                                      : "";
}

// Ends the ask of a line. The line may be used again from within `done`.
static void finish(struct api_line *line, const char *error)
{
        struct api_ask ask = line->ask;
        int status = error[0] ? 0 : line->http.status;
        json_t *body = NULL;
        char text[256];

        if (status && (error = read_answer(line, &body))[0])
                status = 0;
        if (!strcmp(error, API_TOO_LARGE))
                body = without_items(line->answer, line->n_answer);
        line->ask = (struct api_ask){0};
        line->used_before = 1;
        line->idle_since_ns = takt_clock_now();
        reset_answer(line);
        if (strcmp(error, API_TOO_LARGE)) // of which only the asker knows if it is ill
                api_said(line->api, ill_of(line->api, ask.context), error);
        ask.done(ask.context, status, body, status ? words_of(status, body, text, sizeof text) : error);
        json_decref(body);
        free_ask(&ask);
}

static int take_body(void *context, const char *data, size_t size)
{
        struct api_line *line = context;
        size_t want = line->answer_size ? line->answer_size : 4096;
        char *more;

        if (size > KUBE_API_ANSWER_MAX - line->n_answer)
                return -EFBIG;
        while (want < line->n_answer + size)
                want *= 2;
        if (want != line->answer_size) {
                more = realloc(line->answer, want);
                if (!more)
                        return -ENOMEM;
                line->answer = more;
                line->answer_size = want;
        }
        memcpy(line->answer + line->n_answer, data, size);
        line->n_answer += size;
        return 0;
}

static int line_data(void *context, const char *data, size_t size)
{
        struct api_line *line = context;
        ptrdiff_t n;

        if (!line->ask.done)
                return -EBADMSG; // nobody asked
        line->heard = 1;
        n = http_feed(&line->http, data, size, take_body, line);
        if (n < 0) {
                secure_close(&line->secure);
                finish(line, n == -EFBIG     ? API_TOO_LARGE
                             : n == -EBADMSG ? "its answer is no HTTP"
                                             : strerror((int)-n));
                return 0;
        }
        if (line->http.state != HTTP_DONE)
                return 0;
        if (line->http.closes || (size_t)n < size || line->secure.out) // some of the request may be left
                secure_close(&line->secure);
        finish(line, "");
        return 0;
}

static void line_ended(void *context, const char *why)
{
        struct api_line *line = context;
        struct api *api = line->api;

        if (!line->ask.done)
                return;
        if (http_end(&line->http) == 0) {
                finish(line, "");
        } else if (line->used_before && !line->heard && api->n_asks < KUBE_API_ASKS_MAX) {
                // The server gave up an idle connection just now: once more, on a new one.
                memmove(api->ask + 1, api->ask, api->n_asks++ * sizeof *api->ask);
                api->ask[0] = line->ask;
                line->ask = (struct api_ask){0};
                reset_answer(line);
        } else {
                finish(line, why[0] ? why : "it ended the connection before its answer");
        }
}

char *api_text(const struct api *api, const struct api_ask *ask, size_t *ret_size, char *why, size_t size)
{
        static char token[8192];
        int n_token = api_where_token(&api->where, token, sizeof token), n;
        char *text = NULL;

        if (n_token < 0)
                return snprintf(why, size, "%s: %s", api->where.token,
                                n_token == -EBADMSG ? "is no token" : strerror(-n_token)),
                       NULL;
        n = asprintf(&text,
                     "%s %s HTTP/1.1\r\nHost: %s\r\nUser-Agent: taktd\r\nAccept: application/json\r\n"
                     "%s%s%sContent-Type: %s\r\nContent-Length: %zu\r\n\r\n%s",
                     ask->verb, ask->path, api->where.server + 8, n_token ? "Authorization: Bearer " : "",
                     token, n_token ? "\r\n" : "", ask->content_type ? ask->content_type : "application/json",
                     ask->n_body, ask->body ? ask->body : "");
        explicit_bzero(token, sizeof token);
        if (n < 0)
                return snprintf(why, size, "out of memory"), NULL;
        *ret_size = (size_t)n;
        return text;
}

// Puts the first ask that waits on a line. What cannot be sent is answered at once: we are in the loop here.
static void send_next(struct api *api, struct api_line *line)
{
        char why[256], *text;
        size_t size;
        int error = 0;

        line->ask = api->ask[0];
        memmove(api->ask, api->ask + 1, --api->n_asks * sizeof *api->ask);
        reset_answer(line);
        text = api_text(api, &line->ask, &size, why, sizeof why);
        if (text && !line->secure.ssl) {
                line->used_before = 0;
                error = api_trust(api, why, sizeof why);
                if (!error && (error = secure_open(&line->secure, api->host, &api->peer, line_data,
                                                   line_ended, line)) < 0)
                        snprintf(why, sizeof why, "%s", strerror(-error));
        }
        if (!text || error) {
                free(text);
                finish(line, why);
                return;
        }
        secure_send(&line->secure, text, size);
}

int api_ask(struct api *api, const char *verb, const char *path, const char *content_type, const json_t *body,
            api_done *done, void *context)
{
        struct api_ask ask = {.done = done,
                              .context = context,
                              .verb = verb,
                              .content_type = content_type,
                              .deadline_ns = takt_clock_now() + api->call_ns};

        if (!api->is_open)
                return -ENOTCONN;
        if (api->n_asks == KUBE_API_ASKS_MAX)
                return -ENOBUFS;
        ask.path = strdup(path);
        ask.body = body ? json_dumps(body, JSON_COMPACT) : NULL;
        if (!ask.path || (body && !ask.body))
                return free_ask(&ask), -ENOMEM;
        ask.n_body = ask.body ? strlen(ask.body) : 0;
        api->ask[api->n_asks++] = ask;
        return 0;
}

void api_forget(struct api *api, const void *context)
{
        uint32_t n = 0;

        for (uint32_t i = 0; i < api->n_asks; i++)
                if (api->ask[i].context == context)
                        free_ask(&api->ask[i]);
                else
                        api->ask[n++] = api->ask[i];
        api->n_asks = n;
        for (struct api_line *l = api->line; l < api->line + KUBE_API_LINES; l++)
                if (l->ask.done && l->ask.context == context) {
                        secure_close(&l->secure);
                        free_ask(&l->ask);
                        reset_answer(l);
                }
}

int api_open(struct api *api, const struct host *host, const struct api_where *where, char *why, size_t size)
{
        int error;

        *api = (struct api){.host = host,
                            .where = *where,
                            .call_ns = KUBE_API_CALL_NS,
                            .retry_ns = KUBE_API_RETRY_MIN_NS};
        error = api_where_peer(where, &api->peer, why, size);
        if (error)
                return error;
        for (struct api_line *l = api->line; l < api->line + KUBE_API_LINES; l++)
                l->api = api;
        api->is_open = 1;
        return 0;
}

void api_close(struct api *api)
{
        while (api->watches)
                api_watch_close(api->watches);
        for (uint32_t i = 0; i < api->n_asks; i++)
                free_ask(&api->ask[i]);
        api->n_asks = 0;
        for (struct api_line *l = api->line; l < api->line + KUBE_API_LINES; l++) {
                secure_close(&l->secure);
                free_ask(&l->ask);
                reset_answer(l);
        }
        SSL_CTX_free(api->peer.trust);
        api->peer.trust = NULL;
        api->is_open = 0;
}

static struct api_line *free_line(struct api *api)
{
        struct api_line *best = NULL;

        for (struct api_line *l = api->line; l < api->line + KUBE_API_LINES; l++)
                if (!l->ask.done && (!best || (l->secure.ssl && !best->secure.ssl)))
                        best = l;
        return best;
}

uint64_t api_due(const struct api *api)
{
        uint64_t due_ns = TAKT_NEVER;
        int can_send = 0;

        if (!api->is_open)
                return due_ns;
        for (uint32_t i = 0; i < api->n_asks; i++)
                due_ns = takt_time_min(due_ns, api->ask[i].deadline_ns);
        for (const struct api_line *l = api->line; l < api->line + KUBE_API_LINES; l++) {
                can_send |= !l->ask.done;
                if (l->ask.done)
                        due_ns = takt_time_min(due_ns, l->ask.deadline_ns);
                else if (l->secure.ssl)
                        due_ns = takt_time_min(due_ns, l->idle_since_ns + KUBE_API_IDLE_NS);
        }
        for (const struct api_watch *w = api->watches; w; w = w->next)
                due_ns = takt_time_min(due_ns, api_watch_due(w));
        return api->n_asks && can_send ? 0 : due_ns;
}

// An ask that waited in vain is put on no line: it is answered by itself.
static void expire_waiting(struct api *api, uint64_t now_ns)
{
        for (uint32_t i = 0; i < api->n_asks;) {
                struct api_ask ask = api->ask[i];

                if (ask.deadline_ns > now_ns) {
                        i++;
                        continue;
                }
                memmove(api->ask + i, api->ask + i + 1, (--api->n_asks - i) * sizeof *api->ask);
                ask.done(ask.context, 0, NULL, "no answer in time");
                free_ask(&ask);
                i = 0; // `done` may have changed the row
        }
}

void api_tick(struct api *api, uint64_t now_ns)
{
        struct api_line *line;

        if (!api->is_open)
                return;
        for (struct api_line *l = api->line; l < api->line + KUBE_API_LINES; l++)
                if (l->ask.done && l->ask.deadline_ns <= now_ns) {
                        secure_close(&l->secure);
                        finish(l, "no answer in time");
                } else if (!l->ask.done && l->secure.ssl && l->idle_since_ns + KUBE_API_IDLE_NS <= now_ns) {
                        secure_close(&l->secure);
                }
        expire_waiting(api, now_ns);
        for (struct api_watch *w = api->watches, *next; w; w = next) {
                next = w->next;
                if (api_watch_due(w) <= now_ns)
                        api_watch_tick(w, now_ns);
        }
        // What is asked anew by an answer's reader from here waits for the next turn.
        for (uint32_t n = api->n_asks; n && api->n_asks && (line = free_line(api)); n--)
                send_next(api, line);
}
