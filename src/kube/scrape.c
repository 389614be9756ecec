#include "kube/scrape.h"
#include <errno.h>
#include <fcntl.h>
#include <microhttpd.h>
#include <netdb.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include "base/clock.h"
#include "kube/limits.h"

static enum MHD_Result answer(struct MHD_Connection *connection, unsigned status, const char *type,
                              char *body, size_t size, enum MHD_ResponseMemoryMode mode)
{
        struct MHD_Response *response = MHD_create_response_from_buffer(size, body, mode);
        enum MHD_Result ret;

        if (!response)
                return MHD_NO;
        MHD_add_response_header(response, MHD_HTTP_HEADER_CONTENT_TYPE, type);
        if (status == MHD_HTTP_METHOD_NOT_ALLOWED)
                MHD_add_response_header(response, MHD_HTTP_HEADER_ALLOW, "GET");
        ret = MHD_queue_response(connection, status, response);
        MHD_destroy_response(response);
        return ret;
}

static enum MHD_Result say(struct MHD_Connection *connection, unsigned status, const char *words)
{
        return answer(connection, status, "text/plain; charset=utf-8", (char *)(uintptr_t)words,
                      strlen(words), MHD_RESPMEM_PERSISTENT);
}

static enum MHD_Result asked(void *context, struct MHD_Connection *connection, const char *path,
                             const char *method, const char *version, const char *body, size_t *body_size,
                             void **of_request)
{
        const struct scrape *scrape = context;
        size_t size;
        char *text;

        (void)version, (void)body, (void)body_size, (void)of_request;
        if (strcmp(method, MHD_HTTP_METHOD_GET))
                return say(connection, MHD_HTTP_METHOD_NOT_ALLOWED, "only GET\n");
        if (!strcmp(path, "/healthz"))
                return say(connection, MHD_HTTP_OK, "ok\n");
        if (strcmp(path, "/metrics"))
                return say(connection, MHD_HTTP_NOT_FOUND, "only /metrics and /healthz\n");
        text = scrape->text(scrape->context, &size);
        if (!text)
                return say(connection, MHD_HTTP_SERVICE_UNAVAILABLE, "out of memory\n");
        return answer(connection, MHD_HTTP_OK, "text/plain; version=0.0.4; charset=utf-8", text, size,
                      MHD_RESPMEM_MUST_FREE);
}

static unsigned n_connections(struct MHD_Daemon *server)
{
        const union MHD_DaemonInfo *info = MHD_get_daemon_info(server, MHD_DAEMON_INFO_CURRENT_CONNECTIONS);

        return info ? info->num_connections : 0;
}

// A server that had all the connections that it may have listens again only in the run after that in which
// some ended.
void scrape_tick(struct scrape *scrape)
{
        MHD_UNSIGNED_LONG_LONG wait_ms;
        unsigned before;

        if (!scrape->server)
                return;
        do {
                before = n_connections(scrape->server);
                MHD_run(scrape->server);
        } while (n_connections(scrape->server) < before);
        scrape->due_ns = MHD_get_timeout(scrape->server, &wait_ms) == MHD_YES
                                 ? takt_clock_now() + wait_ms * TAKT_MS
                                 : TAKT_NEVER;
}

static void ready(struct node *node, struct watch *watch, uint32_t events)
{
        (void)node, (void)events;
        scrape_tick((struct scrape *)(void *)((char *)watch - offsetof(struct scrape, news)));
}

// By number only: to ask for a name would make the daemon wait.
static int listen_tcp(const char *where)
{
        const struct addrinfo hints = {.ai_flags = AI_NUMERICHOST | AI_NUMERICSERV | AI_PASSIVE,
                                       .ai_socktype = SOCK_STREAM};
        const char *port = strrchr(where, ':');
        struct addrinfo *address;
        char host[64];
        int fd, error = 0, on = 1;

        if (!port || (size_t)(port - where) >= sizeof host)
                return -EINVAL;
        snprintf(host, sizeof host, "%.*s", (int)(port - where), where);
        if (host[0] == '[' && host[strlen(host) - 1] == ']') {
                host[strlen(host) - 1] = 0;
                memmove(host, host + 1, strlen(host));
        }
        if (getaddrinfo(host[0] ? host : NULL, port + 1, &hints, &address))
                return -EINVAL;
        fd = socket(address->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) < 0 ||
            bind(fd, address->ai_addr, address->ai_addrlen) < 0 || listen(fd, KUBE_SCRAPES_MAX) < 0)
                error = -errno;
        freeaddrinfo(address);
        if (error && fd >= 0)
                close(fd);
        return error ? error : fd;
}

static int listen_at(struct scrape *scrape, const char *where)
{
        if (where[0] != '/')
                return listen_tcp(where);
        if (snprintf(scrape->path, sizeof scrape->path, "%s", where) >= (int)sizeof scrape->path)
                return -ENAMETOOLONG;
        return scrape->host->services->listen(where, SOCK_STREAM, geteuid());
}

// The server's own epoll descriptor is readable when any of its sockets is; the copy is for the daemon's to
// close.
static int serve(struct scrape *scrape, int fd)
{
        const union MHD_DaemonInfo *info;
        int copy;

        scrape->server = MHD_start_daemon(
                MHD_USE_EPOLL, 0, NULL, NULL, asked, scrape, MHD_OPTION_LISTEN_SOCKET, fd,
                MHD_OPTION_CONNECTION_LIMIT, (unsigned)KUBE_SCRAPES_MAX, MHD_OPTION_CONNECTION_TIMEOUT,
                (unsigned)(KUBE_SCRAPE_NS / TAKT_S), MHD_OPTION_CONNECTION_MEMORY_LIMIT,
                (size_t)KUBE_SCRAPE_HEAD_MAX, MHD_OPTION_END);
        if (!scrape->server)
                return close(fd), -EIO;
        info = MHD_get_daemon_info(scrape->server, MHD_DAEMON_INFO_EPOLL_FD);
        copy = info ? fcntl(info->epoll_fd, F_DUPFD_CLOEXEC, 0) : -1;
        return copy < 0 ? -EIO
                        : scrape->host->services->watch(scrape->host->node, &scrape->news, copy, 0, ready);
}

int scrape_open(struct scrape *scrape, const struct host *host, const char *where,
                char *(*text)(void *context, size_t *ret_size), void *context, char *why, size_t size)
{
        int fd, error;

        *scrape = (struct scrape){
                .host = host, .news.fd = -1, .due_ns = TAKT_NEVER, .text = text, .context = context};
        fd = listen_at(scrape, where);
        error = fd < 0 ? fd : serve(scrape, fd);
        if (error)
                snprintf(why, size, "metrics: %s: %s", where,
                         error == -EINVAL ? "is neither HOST:PORT (by number) nor a socket's path"
                                          : strerror(-error));
        return error;
}

uint64_t scrape_due(const struct scrape *scrape)
{
        return scrape->server ? scrape->due_ns : TAKT_NEVER;
}

void scrape_close(struct scrape *scrape)
{
        if (!scrape->server)
                return;
        scrape->host->services->unwatch(scrape->host->node, &scrape->news);
        MHD_stop_daemon(scrape->server);
        scrape->server = NULL;
        if (scrape->path[0])
                unlink(scrape->path);
}
