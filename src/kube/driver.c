#include "kube/driver.h"
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <unistd.h>
#include "base/clock.h"

#define PREFIX CLAIM_DRIVER "-"

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

static int listen_anew(struct driver *driver, uint64_t now_ns)
{
        char name[64];

        server_stop(&driver->server);
        if (mkdir(driver->folder, 0755) < 0 && errno != EEXIST)
                return -errno;
        if (inotify_add_watch(driver->news.fd, driver->folder, IN_DELETE | IN_MOVED_FROM | IN_ONLYDIR) < 0)
                return -errno;
        remove_stale(driver);
        snprintf(name, sizeof name, PREFIX "%lx.sock", now_ns);
        return server_listen(&driver->server, driver->folder, name);
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
                if (event->mask & IN_IGNORED || (event->len && !strcmp(event->name, driver->server.name)))
                        driver->due_ns = 0;
        }
}

void driver_open(struct driver *driver, const struct host *host, const char *kubelet)
{
        server_open(&driver->server, host, &dra_service, &driver->dra);
        driver->news.fd = -1;
        driver->wait_ns = KUBE_RETRY_MIN_NS;
        snprintf(driver->folder, sizeof driver->folder, "%s/plugins_registry", kubelet);
        host->services->watch(host->node, &driver->news, inotify_init1(IN_CLOEXEC | IN_NONBLOCK), 0,
                              folder_news);
}

void driver_close(struct driver *driver)
{
        dra_close(&driver->dra);
        server_farewell(&driver->server);
        server_hang_up(&driver->server);
        server_stop(&driver->server);
}

uint64_t driver_due(const struct driver *driver)
{
        uint64_t due_ns = driver->dra.unsent ? 0 : takt_time_min(driver->due_ns, dra_due(&driver->dra));

        return takt_time_min(due_ns, server_due(&driver->server));
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
        server_expire(&driver->server, now_ns);
        server_flush(&driver->server);
}
