// A process joins: it gets its pages and descriptors, and is watched by its socket and its pidfd.
#include <errno.h>
#include <poll.h>
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

#define JOIN_SIZE_MAX 4096 // of a later minor version

#ifndef F_SEAL_FUTURE_WRITE
#define F_SEAL_FUTURE_WRITE 0x0010
#endif
#ifndef SO_PEERPIDFD // Linux 6.5
#define SO_PEERPIDFD 77
#endif

// A page in a file of its own. Sealed: nobody can shrink it under us, and a read-only one nobody can map for
// writing after us.
static int page_make(int read_only, void **ret_page)
{
        int fd = memfd_create("takt-page", MFD_CLOEXEC | MFD_ALLOW_SEALING);
        int seals = F_SEAL_SHRINK | F_SEAL_GROW | (read_only ? F_SEAL_FUTURE_WRITE : 0) | F_SEAL_SEAL;
        void *page = MAP_FAILED;

        *ret_page = NULL;
        if (fd < 0)
                return -errno;
        if (ftruncate(fd, TAKT_PAGE_SIZE) == 0)
                page = mmap(NULL, TAKT_PAGE_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
        if (page == MAP_FAILED || fcntl(fd, F_ADD_SEALS, seals) < 0) {
                if (page != MAP_FAILED)
                        munmap(page, TAKT_PAGE_SIZE);
                close(fd);
                return -ENOMEM;
        }
        *ret_page = page;
        return fd;
}

static void pages_free(struct session *s)
{
        if (s->client)
                munmap(s->client, TAKT_PAGE_SIZE);
        if (s->daemon)
                munmap(s->daemon, TAKT_PAGE_SIZE);
        s->client = NULL;
        s->daemon = NULL;
}

// A free place, unless the tenant has more of them than are left once each other seat has its first.
static struct session *session_free(struct node *node, uint32_t tenant)
{
        struct session *free = NULL;
        uint64_t seats[TAKT_BITS_WORDS(NODE_TENANTS_MAX)] = {0};
        uint32_t n_free = 0, n_own = 0, n_first;

        for (struct session *s = node->session + NODE_SESSIONS_MAX - 1; s >= node->session; s--) {
                n_own += s->used && s->tenant == tenant;
                if (s->used)
                        takt_bits_add(seats, s->tenant);
                else
                        free = s, n_free++;
        }
        n_first = NODE_TENANTS_MAX - takt_bits_count(seats, TAKT_BITS_WORDS(NODE_TENANTS_MAX));
        return n_own && n_own + n_first >= n_free ? NULL : free;
}

// The count is never read: whether a read blocks is a flag that the client shares, and so can change at any
// time.
static void kicked(struct node *node, struct watch *watch, uint32_t events)
{
        (void)events;
        grant_read(node, watch->index);
        sample_wake(node);
        atomic_fetch_add_explicit(&node->session[watch->index].daemon->answers, 1, memory_order_relaxed);
}

// The kernel's own name of the peer holds in every pid namespace (one outside ours has no number here), and
// for no later process that gets the same number. Returns a descriptor; -ENOSYS: this kernel has no such
// name; or another negative errno: it has ended, or no descriptor is left.
static int peer_process(int fd, pid_t pid)
{
        int process;
        socklen_t size = sizeof process;

        if (getsockopt(fd, SOL_SOCKET, SO_PEERPIDFD, &process, &size) == 0)
                return process;
        if (errno != ENOPROTOOPT)
                return -errno; // of an ended one EINVAL, ESRCH, or none, by the kernel's age
        if (!pid)
                return -ENOSYS;
        process = (int)syscall(SYS_pidfd_open, pid, 0); // before Linux 6.5
        return process >= 0 ? process : -errno;
}

static int has_ended(int process)
{
        struct pollfd news = {.fd = process, .events = POLLIN};

        return process < 0 ? process != -ENOSYS : poll(&news, 1, 0) > 0;
}

static void ended(struct node *node, struct watch *watch, uint32_t events)
{
        const struct session *s = &node->session[watch->index];
        char byte;

        if (watch == &s->process && !has_ended(watch->fd)) // the news was of one that had this place before
                return;
        // After WELCOME the socket carries nothing; what a client sends all the same is thrown away.
        if (!(events & (EPOLLHUP | EPOLLERR)) && watch == &s->socket &&
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
        struct msghdr message = {
                .msg_iov = &data, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
        struct cmsghdr *head = CMSG_FIRSTHDR(&message);

        head->cmsg_level = SOL_SOCKET;
        head->cmsg_type = SCM_RIGHTS;
        head->cmsg_len = CMSG_LEN(TAKT_N_FDS * sizeof(int));
        memcpy(CMSG_DATA(head), fds, TAKT_N_FDS * sizeof(int));
        takt_frame_agree(&frame.head, &join->head);
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

static void fill_page(struct node *node, struct session *s, const struct takt_frame_head *theirs)
{
        struct takt_page_daemon *page = s->daemon;
        const struct tenant *tenant = &node->tenant[s->tenant];
        union takt_frame frame;

        takt_frame_init(&frame, TAKT_FRAME_WELCOME);
        takt_frame_agree(&frame.head, theirs);
        page->magic = TAKT_PAGE_DAEMON_MAGIC;
        page->major = frame.head.major;
        page->minor = frame.head.minor;
        page->features = frame.head.features;
        page->tenant = s->tenant;
        page->generation = node->started_ns;
        page->lane[tenant->device].bound_ns = NODE_BOUND_NS;
        page->lane[tenant->device].memory_quota = tenant->contract.memory_bytes;
        s->client->magic = TAKT_PAGE_CLIENT_MAGIC;
        s->counted_ns = takt_clock_now();
        s->client->lane[tenant->device].activity = takt_activity_idle(s->counted_ns);
        grant_show(node, (uint32_t)(s - node->session));
}

static void close_all(int *fds, int n)
{
        for (int i = 0; i < n; i++)
                if (fds[i] >= 0)
                        close(fds[i]);
}

// Pages and descriptors, or nothing at all. The client reads a pipe where the daemon writes: unlike an
// eventfd's, the two ends have flags of their own, so that no client can make our end block.
static int session_make(struct node *node, struct session *s, int fds[TAKT_N_FDS])
{
        int wake[2] = {-1, -1};

        if (pipe2(wake, O_CLOEXEC | O_NONBLOCK) < 0)
                return -errno;
        fds[TAKT_FD_DAEMON_PAGE] = page_make(1, (void **)&s->daemon);
        fds[TAKT_FD_CLIENT_PAGE] = page_make(0, (void **)&s->client);
        fds[TAKT_FD_TENANT_PAGE] = node->tenant[s->tenant].page_fd;
        fds[TAKT_FD_KICK] = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
        fds[TAKT_FD_WAKE] = wake[0];
        s->wake = wake[1];
        if (s->daemon && s->client && fds[TAKT_FD_KICK] >= 0)
                return 0;
        pages_free(s);
        close_all(fds, TAKT_FD_TENANT_PAGE);
        close_all(fds + TAKT_FD_KICK, TAKT_N_FDS - TAKT_FD_KICK);
        return -EMFILE;
}

static void link_in(struct node *node, struct session *s)
{
        struct tenant *t = &node->tenant[s->tenant];

        s->next = t->sessions;
        t->sessions = s;
        t->n_sessions++;
        node->n_sessions++;
}

static void link_out(struct node *node, const struct session *s)
{
        struct tenant *t = &node->tenant[s->tenant];
        struct session **at = &t->sessions;

        while (*at != s)
                at = &(*at)->next;
        *at = s->next;
        t->n_sessions--;
        node->n_sessions--;
}

static int session_open(struct node *node, struct session *s, int fd, const struct takt_frame_join *join)
{
        uint32_t index = (uint32_t)(s - node->session), tenant = s->tenant;
        int fds[TAKT_N_FDS], error = session_make(node, s, fds);

        if (error < 0)
                return error;
        link_in(node, s);
        fill_page(node, s, &join->head);
        sample_wake(node);
        error = send_welcome(node, fd, join, tenant, fds);
        close(fds[TAKT_FD_DAEMON_PAGE]);
        close(fds[TAKT_FD_CLIENT_PAGE]);
        close(fds[TAKT_FD_WAKE]);
        watch_add_news(node, &s->kick, fds[TAKT_FD_KICK], index, kicked);
        return error;
}

// The JOIN frame of a connection that was accepted.
static void joined(struct node *node, struct watch *watch, uint32_t events)
{
        struct session *s = &node->session[watch->index];
        union takt_frame frame;
        char raw[JOIN_SIZE_MAX];
        ssize_t n = recv(watch->fd, raw, sizeof raw, MSG_DONTWAIT);
        int error;

        (void)events;
        if (n < 0 && errno == EAGAIN) // the news was of a connection that had this place before
                return;
        error = n <= 0 ? -EBADMSG : takt_frame_parse(raw, (size_t)n, &frame);
        if (!error && frame.head.type != TAKT_FRAME_JOIN)
                error = -EBADMSG;
        if (error == -EPROTONOSUPPORT)
                send_refusal(watch->fd, TAKT_REFUSAL_VERSION);
        else if (!error && !knows_device(node, &frame.join, s->tenant))
                send_refusal(watch->fd, TAKT_REFUSAL_DEVICE), error = -ENODEV;
        if (!error)
                error = session_open(node, s, watch->fd, &frame.join);
        watch->ready = ended;
        if (error)
                session_drop(node, watch->index);
}

static int may_join(const struct node *node, uint32_t tenant, uid_t uid, pid_t pid)
{
        const struct tenant *t = &node->tenant[tenant];

        return t->by_door ? node->door->may_join(tenant, pid) : uid == t->uid || uid == 0;
}

static void refuse(int fd)
{
        send_refusal(fd, TAKT_REFUSAL_FULL);
        close(fd);
}

// What is asked about the peer's number is true of the peer only if it has not ended by then.
void session_accept(struct node *node, struct watch *watch, uint32_t events)
{
        struct session *s = session_free(node, watch->index);
        int fd = accept_at(node, watch->fd), process;
        uid_t uid;
        pid_t pid;

        (void)events;
        if (fd < 0)
                return;
        if (!s || peer_of(fd, &uid, &pid) < 0) {
                refuse(fd);
                return;
        }
        process = peer_process(fd, pid);
        if (!may_join(node, watch->index, uid, pid) || has_ended(process)) {
                if (process >= 0)
                        close(process);
                refuse(fd);
                return;
        }
        memset(s, 0, sizeof *s);
        s->used = 1;
        s->tenant = watch->index;
        s->pid = pid;
        s->kick.fd = s->process.fd = s->wake = -1;
        watch_add(node, &s->socket, fd, (uint32_t)(s - node->session), joined);
        if (process >= 0)
                watch_add(node, &s->process, process, (uint32_t)(s - node->session), ended);
}

// A number that cannot be true would put its tenant's fair share, and the mean of all that it counts in, far
// away from the others'. A burst is told after its end, so a little of the time before the last one counts.
void session_read(const struct node *node, struct session *s, uint64_t now_ns,
                  struct takt_lane_view *ret_view)
{
        uint64_t passed = takt_time_since(now_ns, s->counted_ns), used;

        takt_page_read_lane(s->client, node->tenant[s->tenant].device, now_ns, ret_view);
        used = takt_time_min(takt_time_since(ret_view->busy_ns, s->page_busy_ns), passed);
        s->page_busy_ns = ret_view->busy_ns;
        ret_view->busy_ns = s->busy_ns += used;
        if (used)
                s->counted_ns = now_ns - takt_time_min(passed - used, NODE_SAMPLE_NS);
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
        link_out(node, s);
        // What it held of the tenant's memory is free: the driver takes it back with the process.
        held = s->client->lane[tenant->device].memory_used;
        if (held <= tenant->page->lane[tenant->device].memory_used)
                atomic_fetch_sub(&tenant->page->lane[tenant->device].memory_used, held);
        pages_free(s);
        grant_read(node, index);
        tenant_unused(node, s->tenant);
}
