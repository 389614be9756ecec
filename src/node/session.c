// A process joins: it gets its pages and descriptors, and is watched by its socket and its pidfd.
#include <errno.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>
#include <fcntl.h>
#include "base/clock.h"
#include "node/node.h"
#include "wire/frame.h"

#ifndef F_SEAL_FUTURE_WRITE
#define F_SEAL_FUTURE_WRITE 0x0010
#endif

// A page in a file of its own. Sealed: nobody can shrink it under us, and a read-only one nobody can map for writing
// after us.
static int page_make(int read_only, void **ret_page)
{
        int fd = memfd_create("takt-page", MFD_CLOEXEC | MFD_ALLOW_SEALING);
        int seals = F_SEAL_SHRINK | F_SEAL_GROW | (read_only ? F_SEAL_FUTURE_WRITE : 0) | F_SEAL_SEAL;

        if (fd < 0)
                return -errno;
        *ret_page = MAP_FAILED;
        if (ftruncate(fd, TAKT_PAGE_SIZE) == 0)
                *ret_page = mmap(NULL, TAKT_PAGE_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
        if (*ret_page == MAP_FAILED || fcntl(fd, F_ADD_SEALS, seals) < 0) {
                close(fd);
                return -ENOMEM;
        }
        return fd;
}

static struct session *session_free(struct node *node)
{
        for (uint32_t i = 0; i < NODE_SESSIONS_MAX; i++)
                if (!node->session[i].used)
                        return &node->session[i];
        return NULL;
}

static void kicked(struct node *node, struct watch *watch, uint32_t events)
{
        uint64_t n;

        (void)events;
        if (read(watch->fd, &n, sizeof n) == sizeof n)
                grant_read(node, watch->index);
}

static void ended(struct node *node, struct watch *watch, uint32_t events)
{
        char byte;

        // After WELCOME the socket carries nothing; what a client sends all the same is thrown away.
        if (!(events & (EPOLLHUP | EPOLLERR)) && watch == &node->session[watch->index].socket &&
            recv(watch->fd, &byte, 1, MSG_DONTWAIT) > 0)
                return;
        session_drop(node, watch->index);
}

static void send_refusal(int fd, enum takt_refusal reason)
{
        union takt_frame frame;
        size_t size = takt_frame_init(&frame, TAKT_FRAME_REFUSED);

        frame.refused.reason = reason;
        send(fd, &frame, size, MSG_NOSIGNAL | MSG_DONTWAIT);
}

static int send_welcome(const struct node *node, int fd, const struct takt_frame_join *join, uint32_t tenant,
                        const int fds[TAKT_N_FDS])
{
        const struct device *device = &node->device[node->tenant[tenant].device];
        union takt_frame frame;
        struct iovec data = {&frame, takt_frame_init(&frame, TAKT_FRAME_WELCOME)};
        char control[CMSG_SPACE(TAKT_N_FDS * sizeof(int))] = {0};
        struct msghdr message = {.msg_iov = &data, .msg_iovlen = 1, .msg_control = control,
                                 .msg_controllen = sizeof control};
        struct cmsghdr *head = CMSG_FIRSTHDR(&message);

        head->cmsg_level = SOL_SOCKET;
        head->cmsg_type = SCM_RIGHTS;
        head->cmsg_len = CMSG_LEN(TAKT_N_FDS * sizeof(int));
        memcpy(CMSG_DATA(head), fds, TAKT_N_FDS * sizeof(int));
        frame.welcome.tenant = tenant;
        for (uint32_t i = 0; i < TAKT_WIRE_DEVICES; i++)
                frame.welcome.lane[i] = i < join->n_devices && !memcmp(join->uuid[i], device->uuid, 16)
                                                ? (int8_t)node->tenant[tenant].device
                                                : -1;
        return sendmsg(fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT) < 0 ? -errno : 0;
}

static int knows_device(const struct node *node, const struct takt_frame_join *join, uint32_t tenant)
{
        for (uint32_t i = 0; i < join->n_devices; i++)
                if (!memcmp(join->uuid[i], node->device[node->tenant[tenant].device].uuid, 16))
                        return 1;
        return 0;
}

static void fill_page(struct node *node, struct session *s)
{
        struct takt_page_daemon *page = s->daemon;
        const struct tenant *tenant = &node->tenant[s->tenant];

        page->magic = TAKT_PAGE_DAEMON_MAGIC;
        page->major = TAKT_WIRE_MAJOR;
        page->minor = TAKT_WIRE_MINOR;
        page->tenant = s->tenant;
        page->generation = node->started_ns;
        page->lane[tenant->device].bound_ns = NODE_BOUND_NS;
        page->lane[tenant->device].memory_quota = tenant->contract.memory_bytes;
        s->client->magic = TAKT_PAGE_CLIENT_MAGIC;
        s->client->lane[tenant->device].activity = takt_activity_idle(takt_clock_now());
        grant_show(node, (uint32_t)(s - node->session));
}

static int session_open(struct node *node, struct session *s, int fd, const struct takt_frame_join *join, pid_t pid)
{
        uint32_t index = (uint32_t)(s - node->session), tenant = s->tenant;
        int fds[TAKT_N_FDS], error, process;

        fds[TAKT_FD_DAEMON_PAGE] = page_make(1, (void **)&s->daemon);
        fds[TAKT_FD_CLIENT_PAGE] = page_make(0, (void **)&s->client);
        fds[TAKT_FD_TENANT_PAGE] = node->tenant[tenant].page_fd;
        fds[TAKT_FD_KICK] = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
        fds[TAKT_FD_WAKE] = s->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
        process = (int)syscall(SYS_pidfd_open, pid, 0);
        for (int i = 0; i < TAKT_N_FDS; i++)
                if (fds[i] < 0)
                        return -EMFILE;
        s->used = 1;
        node->tenant[tenant].n_sessions++;
        fill_page(node, s);
        sample_wake(node);
        error = send_welcome(node, fd, join, tenant, fds);
        close(fds[TAKT_FD_DAEMON_PAGE]);
        close(fds[TAKT_FD_CLIENT_PAGE]);
        watch_add(node, &s->kick, fds[TAKT_FD_KICK], index, kicked);
        if (process >= 0)
                watch_add(node, &s->process, process, index, ended);
        return error;
}

// The JOIN frame of a connection that was accepted.
static void joined(struct node *node, struct watch *watch, uint32_t events)
{
        struct session *s = &node->session[watch->index];
        union takt_frame raw, frame;
        ssize_t n = recv(watch->fd, &raw, sizeof raw, MSG_DONTWAIT);
        int error = n <= 0 ? -EBADMSG : takt_frame_parse(&raw, (size_t)n, &frame);

        (void)events;
        if (!error && frame.head.type != TAKT_FRAME_JOIN)
                error = -EBADMSG;
        if (error == -EPROTONOSUPPORT)
                send_refusal(watch->fd, TAKT_REFUSAL_VERSION);
        else if (!error && !knows_device(node, &frame.join, s->tenant))
                send_refusal(watch->fd, TAKT_REFUSAL_DEVICE), error = -ENODEV;
        if (!error)
                error = session_open(node, s, watch->fd, &frame.join, s->pid);
        watch->ready = ended;
        if (error)
                session_drop(node, watch->index);
}

void session_accept(struct node *node, struct watch *watch, uint32_t events)
{
        struct session *s = session_free(node);
        const struct tenant *tenant = &node->tenant[watch->index];
        int fd = accept4(watch->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
        uid_t uid;
        pid_t pid;

        (void)events;
        if (fd < 0)
                return;
        if (!s || peer_of(fd, &uid, &pid) < 0 || (uid != tenant->uid && uid != 0)) {
                send_refusal(fd, TAKT_REFUSAL_FULL);
                close(fd);
                return;
        }
        memset(s, 0, sizeof *s);
        s->used = 1;
        s->lost = 1; // until it has its pages
        s->tenant = watch->index;
        s->pid = pid;
        s->kick.fd = s->process.fd = s->wake = -1;
        watch_add(node, &s->socket, fd, (uint32_t)(s - node->session), joined);
}

void session_drop(struct node *node, uint32_t index)
{
        struct session *s = &node->session[index];
        struct tenant *tenant = &node->tenant[s->tenant];
        uint64_t held;

        if (!s->used)
                return;
        watch_remove(node, &s->socket);
        watch_remove(node, &s->kick);
        watch_remove(node, &s->process);
        if (s->wake >= 0)
                close(s->wake);
        s->used = 0;
        if (!s->client)
                return;
        sample_session(node, s);
        // What it held of the tenant's memory is free: the driver takes it back with the process.
        held = s->client->lane[tenant->device].memory_used;
        if (held <= tenant->page->lane[tenant->device].memory_used)
                atomic_fetch_sub(&tenant->page->lane[tenant->device].memory_used, held);
        munmap(s->client, TAKT_PAGE_SIZE);
        munmap(s->daemon, TAKT_PAGE_SIZE);
        s->client = NULL;
        tenant->n_sessions--;
        grant_read(node, index);
        tenant_unused(node, s->tenant);
}
