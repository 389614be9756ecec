#include "kube/server.h"
#include <errno.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>
#include "base/time.h"

void server_open(struct server *server, const struct host *host, const struct rpc_service *service,
                 void *context)
{
        *server = (struct server){.host = host, .service = service, .context = context, .listening.fd = -1};
}

static void accept_link(struct node *node, struct watch *watch, uint32_t events)
{
        struct server *server = (struct server *)(void *)((char *)watch - offsetof(struct server, listening));
        int fd = server->host->services->accept(node, watch->fd);

        (void)events;
        if (fd < 0)
                return;
        for (int i = 0; i < KUBE_LINKS_MAX; i++)
                if (!link_is_open(&server->links[i])) {
                        link_open(&server->links[i], server->host, fd,
                                  rpc_server(server->service, server->context), NULL, NULL);
                        return;
                }
        close(fd);
}

int server_listen(struct server *server, const char *folder, const char *name)
{
        char path[sizeof server->path];
        int fd;

        server_stop(server);
        if (snprintf(path, sizeof path, "%s/%s", folder, name) >= (int)sizeof path)
                return -ENAMETOOLONG;
        fd = server->host->services->listen(path, SOCK_STREAM, geteuid());
        if (fd < 0)
                return fd;
        snprintf(server->name, sizeof server->name, "%s", name);
        snprintf(server->path, sizeof server->path, "%s", path);
        return server->host->services->watch(server->host->node, &server->listening, fd, 0, accept_link);
}

void server_stop(struct server *server)
{
        if (server->listening.fd < 0)
                return;
        server->host->services->unwatch(server->host->node, &server->listening);
        unlink(server->path);
        server->name[0] = server->path[0] = 0;
}

int server_n_links(const struct server *server)
{
        int n = 0;

        for (int i = 0; i < KUBE_LINKS_MAX; i++)
                n += link_is_open(&server->links[i]);
        return n;
}

void server_flush(struct server *server)
{
        for (int i = 0; i < KUBE_LINKS_MAX; i++)
                link_flush(&server->links[i]);
}

uint64_t server_due(const struct server *server)
{
        uint64_t due_ns = TAKT_NEVER;

        for (int i = 0; i < KUBE_LINKS_MAX; i++)
                if (link_is_open(&server->links[i]))
                        due_ns = takt_time_min(due_ns, rpc_deadline(server->links[i].rpc));
        return due_ns;
}

void server_expire(struct server *server, uint64_t now_ns)
{
        for (int i = 0; i < KUBE_LINKS_MAX; i++)
                link_expire(&server->links[i], now_ns);
}

void server_farewell(struct server *server)
{
        for (int i = 0; i < KUBE_LINKS_MAX; i++)
                if (link_is_open(&server->links[i]))
                        rpc_shut(server->links[i].rpc);
        server_flush(server);
}

void server_hang_up(struct server *server)
{
        for (int i = 0; i < KUBE_LINKS_MAX; i++)
                link_close(&server->links[i]);
}
