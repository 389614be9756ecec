#include "kube/link.h"
#include <errno.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>
#include "base/clock.h"

int link_is_open(const struct link *link)
{
        return link->rpc != NULL;
}

void link_close(struct link *link)
{
        if (!link->rpc)
                return;
        link->host->services->unwatch(link->host->node, &link->watch);
        link->rpc = rpc_free(link->rpc);
}

static void want(struct link *link, int writing)
{
        if (link->writing == writing)
                return;
        link->writing = (uint8_t)writing;
        link->host->services->watch_change(link->host->node, &link->watch,
                                           EPOLLIN | (writing ? EPOLLOUT : 0));
}

static void send_all(struct link *link)
{
        while (!link->lost) {
                ssize_t n;

                if (!link->n_out) {
                        ptrdiff_t more = rpc_transmit(link->rpc, &link->out);

                        link->lost |= more < 0;
                        if (more <= 0)
                                break;
                        link->n_out = (size_t)more;
                }
                n = send(link->watch.fd, link->out, link->n_out, MSG_NOSIGNAL | MSG_DONTWAIT);
                if (n < 0 && errno == EAGAIN)
                        break;
                if (n < 0) {
                        link->lost = 1;
                        break;
                }
                link->out += n;
                link->n_out -= (size_t)n;
        }
        if (!link->lost)
                want(link, link->n_out > 0);
}

// An end is told only here, where nothing of the rpc is on the stack.
static void finish(struct link *link)
{
        if (!link->lost && (link->n_out || !rpc_done(link->rpc)))
                return;
        link_close(link);
        if (link->ended)
                link->ended(link, link->context);
}

static void ready(struct node *node, struct watch *watch, uint32_t events)
{
        struct link *link = (struct link *)(void *)((char *)watch - offsetof(struct link, watch));
        uint8_t bytes[16384];
        ssize_t n = 0;

        (void)node, (void)events;
        // Of a flood only so much a turn: the others are heard in between.
        for (int i = 0; i < 8 && !link->lost; i++) {
                n = recv(watch->fd, bytes, sizeof bytes, MSG_DONTWAIT);
                if (n <= 0)
                        break;
                if (rpc_receive(link->rpc, bytes, (size_t)n, takt_clock_now()) < 0) {
                        send_all(link);
                        link->lost = 1;
                }
        }
        if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR))
                link->lost = 1;
        send_all(link);
        finish(link);
}

int link_open(struct link *link, const struct host *host, int fd, struct rpc *rpc,
              void (*ended)(struct link *, void *), void *context)
{
        int error = rpc ? 0 : -ENOMEM;

        *link = (struct link){.watch.fd = -1, .host = host, .rpc = rpc, .ended = ended, .context = context};
        if (!error)
                error = host->services->watch(host->node, &link->watch, fd, 0, ready);
        if (error) {
                close(fd);
                link->rpc = rpc_free(rpc);
                return error;
        }
        send_all(link);
        return 0;
}

void link_flush(struct link *link)
{
        if (link->rpc)
                send_all(link);
        if (link->rpc && link->lost)
                shutdown(link->watch.fd, SHUT_RDWR); // the end is told from the loop
}

void link_expire(struct link *link, uint64_t now_ns)
{
        if (!link->rpc || rpc_deadline(link->rpc) > now_ns)
                return;
        rpc_expire(link->rpc, now_ns);
        link_flush(link);
}

int link_connect(const char *path)
{
        struct sockaddr_un address = {.sun_family = AF_UNIX};
        int fd, error;

        if (strlen(path) >= sizeof address.sun_path)
                return -ENAMETOOLONG;
        strcpy(address.sun_path, path);
        fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        if (fd < 0)
                return -errno;
        if (connect(fd, (struct sockaddr *)&address, sizeof address) == 0)
                return fd;
        error = -errno;
        close(fd);
        return error;
}
