// A client of an API server for the tests: takes orders on its input, a JSON array a line, and tells what
// comes of them on its output, likewise.
//
//   api_client SERVER CA TOKEN
//   ["ask", VERB, PATH, TYPE or null, BODY or null]   -> ["answer", STATUS, BODY or null, ERROR]
//   ["watch", PATH]                                   -> ["begin"], [EVENT, OBJECT]..., ["synced"], ["lost",
//   WHY]
//   ["patience", MS]                                  the deadline of what is asked from now on,
//   and ten times the first wait
//   ["forget"]                                        -> ["forgotten"], and nothing more of asks and watch
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>
#include "base/clock.h"
#include "kube/api_watch.h"

static int epoll;
static struct api api;
static struct api_watch stream;

static int watch(struct node *node, struct watch *watched, int fd, uint32_t index,
                 void (*ready)(struct node *, struct watch *, uint32_t))
{
        struct epoll_event event = {.events = EPOLLIN, .data.ptr = watched};

        (void)node;
        *watched = (struct watch){fd, epoll, ready, index};
        return epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event);
}

static void watch_change(struct node *node, struct watch *watched, uint32_t events)
{
        struct epoll_event event = {.events = events, .data.ptr = watched};

        (void)node;
        epoll_ctl(epoll, EPOLL_CTL_MOD, watched->fd, &event);
}

static void unwatch(struct node *node, struct watch *watched)
{
        (void)node;
        close(watched->fd);
        watched->fd = -1;
}

static void tell(json_t *line)
{
        char *text = json_dumps(line, JSON_COMPACT);

        puts(text);
        free(text);
        json_decref(line);
        fflush(stdout);
}

static void answered(void *context, int status, json_t *body, const char *error)
{
        (void)context;
        tell(json_pack("[s,i,O?,s]", "answer", status, body, error));
}

static void begin(void *context)
{
        (void)context;
        tell(json_pack("[s]", "begin"));
}

static void event(void *context, enum api_event kind, json_t *object)
{
        static const char *const names[] = {"listed", "added", "modified", "deleted"};

        (void)context;
        tell(json_pack("[s,O]", names[kind], object));
}

static void synced(void *context)
{
        (void)context;
        tell(json_pack("[s]", "synced"));
}

static void lost(void *context, const char *why)
{
        (void)context;
        tell(json_pack("[s,s]", "lost", why));
}

static void obey(const char *line)
{
        static const struct api_watcher watcher = {begin, event, synced, lost};
        json_t *order = json_loads(line, 0, NULL), *body = json_array_get(order, 4);
        const char *what = json_string_value(json_array_get(order, 0)),
                   *path = json_string_value(json_array_get(order, 1));

        static char verb[16], type[64];

        if (!strcmp(what, "patience")) {
                api.call_ns = (uint64_t)json_integer_value(json_array_get(order, 1)) * TAKT_MS;
                api.retry_ns = api.call_ns / 10;
        } else if (!strcmp(what, "watch")) {
                api_watch_open(&stream, &api, path, &watcher, NULL);
        } else if (!strcmp(what, "forget")) {
                api_forget(&api, &epoll);
                if (stream.path)
                        api_watch_close(&stream);
                tell(json_pack("[s]", "forgotten"));
        } else {
                const char *named = json_string_value(json_array_get(order, 3));
                int error;

                snprintf(verb, sizeof verb, "%s", path);
                snprintf(type, sizeof type, "%s", named ? named : "");
                error = api_ask(&api, verb, json_string_value(json_array_get(order, 2)), named ? type : NULL,
                                json_is_null(body) ? NULL : body, answered, &epoll);
                if (error)
                        tell(json_pack("[s,i]", "no", error));
        }
        json_decref(order);
}

static void told(struct node *node, struct watch *watched, uint32_t events)
{
        static char text[65536];
        static size_t n;
        ssize_t more = read(watched->fd, text + n, sizeof text - 1 - n);
        char *end;

        (void)node, (void)events;
        if (more <= 0) {
                api_close(&api);
                exit(0);
        }
        n += (size_t)more;
        text[n] = 0;
        while ((end = strchr(text, '\n'))) {
                *end++ = 0;
                obey(text);
                n -= (size_t)(end - text);
                memmove(text, end, n + 1);
        }
}

int main(int argc, char **argv)
{
        static const struct door_services services = {
                .watch = watch, .watch_change = watch_change, .unwatch = unwatch};
        static const struct host host = {NULL, &services};
        struct api_where where = {0};
        struct watch orders;
        char why[384];

        if (argc != 4)
                return 2;
        snprintf(where.server, sizeof where.server, "%s", argv[1]);
        snprintf(where.ca, sizeof where.ca, "%s", argv[2]);
        snprintf(where.token, sizeof where.token, "%s", argv[3]);
        epoll = epoll_create1(EPOLL_CLOEXEC);
        if (api_open(&api, &host, &where, why, sizeof why) < 0)
                return fprintf(stderr, "api: %s\n", why), 1;
        api.retry_ns = 10 * TAKT_MS;
        watch(NULL, &orders, 0, 0, told);
        for (;;) {
                uint64_t now_ns = takt_clock_now(), due_ns = api_due(&api);
                struct epoll_event news;

                if (due_ns <= now_ns) {
                        api_tick(&api, now_ns);
                        due_ns = api_due(&api);
                }
                if (epoll_wait(epoll, &news, 1,
                               due_ns == TAKT_NEVER
                                       ? -1
                                       : (int)(takt_time_since(due_ns, now_ns) / TAKT_MS + 1)) == 1) {
                        struct watch *watched = news.data.ptr;

                        watched->ready(NULL, watched, news.events);
                }
        }
}
