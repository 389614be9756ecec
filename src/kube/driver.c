#include "kube/driver.h"
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>
#include "base/clock.h"

#define PREFIX CLAIM_DRIVER "-"

static void link_ended(struct link *link, void *context)
{
        (void)link, (void)context;
}

static void accept_link(struct node *node, struct watch *watch, uint32_t events)
{
        struct driver *driver = (struct driver *)(void *)((char *)watch - offsetof(struct driver, listening));
        int fd = driver->host->services->accept(node, watch->fd);

        (void)events;
        if (fd < 0)
                return;
        for (int i = 0; i < DRIVER_LINKS; i++)
                if (!link_is_open(&driver->links[i])) {
                        link_open(&driver->links[i], driver->host, fd, rpc_server(&dra_service, &driver->dra),
                                  link_ended, driver);
                        return;
                }
        close(fd);
}

// Sockets of ours that nobody listens on: a daemon was killed. The kubelet would dial them in vain.
static void remove_stale(const struct driver *driver)
{
        DIR *folder = opendir(driver->folder);
        const struct dirent *entry;
        char path[108];

        while (folder && (entry = readdir(folder))) {
                int fd;

                if (strncmp(entry->d_name, PREFIX, sizeof PREFIX - 1) ||
                    snprintf(path, sizeof path, "%s/%s", driver->folder, entry->d_name) >= (int)sizeof path)
                        continue;
                fd = link_connect(path);
                if (fd >= 0)
                        close(fd);
                else if (fd == -ECONNREFUSED)
                        unlink(path);
        }
        if (folder)
                closedir(folder);
}

static void stop_listening(struct driver *driver)
{
        if (driver->listening.fd < 0)
                return;
        driver->host->services->unwatch(driver->host->node, &driver->listening);
        unlink(driver->path);
        driver->socket[0] = 0;
}

static int listen_anew(struct driver *driver, uint64_t now_ns)
{
        int fd;

        stop_listening(driver);
        if (mkdir(driver->folder, 0755) < 0 && errno != EEXIST)
                return -errno;
        if (inotify_add_watch(driver->news.fd, driver->folder, IN_DELETE | IN_MOVED_FROM | IN_ONLYDIR) < 0)
                return -errno;
        remove_stale(driver);
        snprintf(driver->socket, sizeof driver->socket, PREFIX "%lx.sock", now_ns);
        if (snprintf(driver->path, sizeof driver->path, "%s/%s", driver->folder, driver->socket) >=
            (int)sizeof driver->path)
                return -ENAMETOOLONG;
        fd = driver->host->services->listen(driver->path, SOCK_STREAM, geteuid());
        return fd < 0 ? fd
                      : driver->host->services->watch(driver->host->node, &driver->listening, fd, 0,
                                                      accept_link);
}

// Our socket went, or the whole folder did.
static void folder_news(struct node *node, struct watch *watch, uint32_t events)
{
        struct driver *driver = (struct driver *)(void *)((char *)watch - offsetof(struct driver, news));
        _Alignas(struct inotify_event) char bytes[4096];
        ssize_t n = read(watch->fd, bytes, sizeof bytes);

        (void)node, (void)events;
        for (ssize_t at = 0; at < n;) {
                const struct inotify_event *event = (const struct inotify_event *)(void *)(bytes + at);

                at += (ssize_t)(sizeof *event + event->len);
                if (event->mask & IN_IGNORED || (event->len && !strcmp(event->name, driver->socket)))
                        driver->due_ns = 0;
        }
}

void driver_open(struct driver *driver, const struct host *host, const char *kubelet)
{
        driver->host = host;
        driver->listening.fd = driver->news.fd = -1;
        driver->wait_ns = KUBE_RETRY_MIN_NS;
        snprintf(driver->folder, sizeof driver->folder, "%s/plugins_registry", kubelet);
        host->services->watch(host->node, &driver->news, inotify_init1(IN_CLOEXEC | IN_NONBLOCK), 0,
                              folder_news);
}

void driver_close(struct driver *driver)
{
        dra_close(&driver->dra);
        for (int i = 0; i < DRIVER_LINKS; i++)
                if (link_is_open(&driver->links[i])) {
                        rpc_shut(driver->links[i].rpc);
                        link_flush(&driver->links[i]);
                        link_close(&driver->links[i]);
                }
        stop_listening(driver);
}

uint64_t driver_due(const struct driver *driver)
{
        uint64_t due_ns = driver->dra.unsent ? 0 : takt_time_min(driver->due_ns, dra_due(&driver->dra));

        for (int i = 0; i < DRIVER_LINKS; i++)
                if (link_is_open(&driver->links[i]))
                        due_ns = takt_time_min(due_ns, rpc_deadline(driver->links[i].rpc));
        return due_ns;
}

static void try_listening(struct driver *driver, uint64_t now_ns)
{
        int error = listen_anew(driver, now_ns);

        driver->due_ns = error ? now_ns + driver->wait_ns : TAKT_NEVER;
        driver->wait_ns = error ? takt_time_min(driver->wait_ns * 2, KUBE_RETRY_MAX_NS) : KUBE_RETRY_MIN_NS;
        if (error && !driver->unwell)
                fprintf(stderr, "taktd: %s: %s: the kubelet cannot find the DRA driver; tried again\n",
                        driver->folder, strerror(-error));
        driver->unwell = error != 0;
}

void driver_tick(struct driver *driver, uint64_t now_ns)
{
        if (driver->due_ns <= now_ns)
                try_listening(driver, now_ns);
        dra_tick(&driver->dra, now_ns);
        driver->dra.unsent = 0;
        for (int i = 0; i < DRIVER_LINKS; i++) {
                link_expire(&driver->links[i], now_ns);
                link_flush(&driver->links[i]);
        }
}
