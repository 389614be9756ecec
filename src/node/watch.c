// What the loop listens to, and the sockets among it.
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>
#include "node/node.h"

static int add(int epoll, struct watch *watch, int fd, uint32_t index, uint32_t events,
               void (*ready)(struct node *, struct watch *, uint32_t))
{
        struct epoll_event event = {.events = events, .data.ptr = watch};

        *watch = (struct watch){fd, epoll, ready, index};
        return epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event) < 0 ? -errno : 0;
}

int watch_add(struct node *node, struct watch *watch, int fd, uint32_t index,
              void (*ready)(struct node *, struct watch *, uint32_t))
{
        return add(node->epoll, watch, fd, index, EPOLLIN, ready);
}

int watch_add_news(struct node *node, struct watch *watch, int fd, uint32_t index,
                   void (*ready)(struct node *, struct watch *, uint32_t))
{
        return add(node->epoll, watch, fd, index, EPOLLIN | EPOLLET, ready);
}

int watch_add_stream(struct node *node, struct watch *watch, int fd, uint32_t index,
                     void (*ready)(struct node *, struct watch *, uint32_t))
{
        return add(node->streams.fd, watch, fd, index, EPOLLIN, ready);
}

static void next_stream(struct node *node, struct watch *streams, uint32_t events)
{
        struct epoll_event event;
        struct watch *watch;

        (void)events;
        if (epoll_wait(streams->fd, &event, 1, 0) != 1)
                return;
        watch = event.data.ptr;
        watch->ready(node, watch, event.events);
}

int watch_start(struct node *node)
{
        node->epoll = epoll_create1(EPOLL_CLOEXEC);
        return watch_add(node, &node->streams, epoll_create1(EPOLL_CLOEXEC), 0, next_stream);
}

void watch_change(struct node *node, struct watch *watch, uint32_t events)
{
        struct epoll_event event = {.events = events, .data.ptr = watch};

        (void)node;
        epoll_ctl(watch->epoll, EPOLL_CTL_MOD, watch->fd, &event);
}

void watch_remove(struct node *node, struct watch *watch)
{
        (void)node;
        if (watch->fd < 0)
                return;
        epoll_ctl(watch->epoll, EPOLL_CTL_DEL, watch->fd, NULL);
        close(watch->fd);
        watch->fd = -1;
}

// A socket that only its owner can connect to. A file left by a daemon that died is replaced.
int listen_at(const char *path, int type, uid_t owner)
{
        struct sockaddr_un address = {.sun_family = AF_UNIX};
        int fd, error;

        if (strlen(path) >= sizeof address.sun_path)
                return -ENAMETOOLONG;
        strcpy(address.sun_path, path);
        fd = socket(AF_UNIX, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        if (fd < 0)
                return -errno;
        unlink(path);
        if (bind(fd, (struct sockaddr *)&address, sizeof address) < 0 || chmod(path, 0600) < 0 ||
            (owner != getuid() && chown(path, owner, (gid_t)-1) < 0) || listen(fd, 64) < 0) {
                error = -errno;
                close(fd);
                return error;
        }
        return fd;
}

// Out of descriptors, whoever connects would wait for ever, and the loop would never sleep. So one is kept in
// reserve, to accept whom there is no room for.
int accept_at(struct node *node, int fd)
{
        int peer = accept4(fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

        if (peer >= 0 || (errno != EMFILE && errno != ENFILE))
                return peer;
        close(node->spare);
        close(accept4(fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK));
        node->spare = open("/", O_PATH | O_CLOEXEC);
        return -1;
}

int peer_of(int fd, uid_t *ret_uid, pid_t *ret_pid)
{
        struct ucred peer;
        socklen_t size = sizeof peer;

        if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) < 0)
                return -errno;
        *ret_uid = peer.uid;
        if (ret_pid)
                *ret_pid = peer.pid;
        return 0;
}
