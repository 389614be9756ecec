#include "shim/lease.h"
#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <linux/membarrier.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>
#include "base/clock.h"
#include "base/time.h"
#include "wire/frame.h"

#define AWAY_FD 512             // most programs have fewer of their own
#define FRAME_SIZE_MAX 4096     // of a later minor version
#define LOOK_NS (100 * TAKT_MS) // how often who waits at a gate looks whether the daemon is still there
#define UNANSWERED_MAX 50       // kicks in a row, one at each look, that a living daemon may leave unanswered
#define PATIENCE_S 2            // for a daemon that takes no connection, or gives no answer
#define PATIENCE_RATIO 16       // a daemon that does not answer costs the host at most this part of its time

// In one cache line.
_Alignas(64) struct lease lease = {.socket = -1, .kick = -1, .wake = -1};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static _Atomic uint64_t next_try_ns;
static const struct takt_page_daemon
        *silent;                // the session's page while its daemon is there and does not answer
static uint32_t silent_answers; // how often it had by then

// What a descriptor of ours was when we got it: whole even where another thread gets new ones meanwhile.
struct identity {
        _Atomic dev_t device;
        _Atomic ino_t inode;
};
static struct identity kick_then, socket_then, wake_then;

// What is asked of us while there is no daemon holds from the first submission, joined or not.
int lease_wanted(void)
{
        static _Atomic int wanted = -1;
        int known = atomic_load_explicit(&wanted, memory_order_acquire);

        if (known < 0) {
                const char *on_loss = getenv("TAKT_ON_LOSS");

                known = getenv("TAKT_SOCKET") != NULL;
                atomic_store(&lease.refuse_on_loss, on_loss && !strcmp(on_loss, "refuse"));
                atomic_store_explicit(&wanted, known, memory_order_release);
        }
        return known;
}

// Our calls must not end a thread that the host cancelled: it would keep the lock.
static int lock_session(void)
{
        int cancel;

        pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &cancel);
        pthread_mutex_lock(&lock);
        return cancel;
}

static void unlock_session(int cancel)
{
        pthread_mutex_unlock(&lock);
        pthread_setcancelstate(cancel, NULL);
}

// A daemon that is stopped takes no connections and gives no answers.
static int connect_to(const char *path)
{
        const struct timeval patience = {.tv_sec = PATIENCE_S};
        struct sockaddr_un address = {.sun_family = AF_UNIX};
        int fd;

        if (!path) // a host may clear its environment
                return -ENOENT;
        if (strlen(path) >= sizeof address.sun_path)
                return -ENAMETOOLONG;
        strcpy(address.sun_path, path);
        fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
        if (fd < 0)
                return -errno;
        setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience);
        setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
        if (connect(fd, (struct sockaddr *)&address, sizeof address) < 0) {
                int error = -errno;

                close(fd);
                return error;
        }
        return fd;
}

// What came with the frame; returns how many, at most TAKT_N_FDS.
static int take_fds(struct msghdr *message, int fds[TAKT_N_FDS])
{
        struct cmsghdr *head = CMSG_FIRSTHDR(message);
        size_t size = head && head->cmsg_type == SCM_RIGHTS ? head->cmsg_len - CMSG_LEN(0) : 0;

        if (size)
                memcpy(fds, CMSG_DATA(head), size);
        return (int)(size / sizeof(int));
}

static int check(const void *raw, ssize_t n, union takt_frame *frame, int n_fds)
{
        if (n <= 0 || takt_frame_parse(raw, (size_t)n, frame) < 0)
                return -EBADMSG;
        if (frame->head.type != TAKT_FRAME_WELCOME)
                return -EACCES;
        return n_fds == TAKT_N_FDS ? 0 : -EBADMSG;
}

// A call with a time limit is not begun again by itself after a signal. Nor for ever: signals may come faster
// than the limit.
static ssize_t receive_message(int fd, struct msghdr *message)
{
        uint64_t until_ns = takt_clock_now() + PATIENCE_S * TAKT_S;
        ssize_t n;

        do
                n = recvmsg(fd, message, MSG_CMSG_CLOEXEC);
        while (n < 0 && errno == EINTR && takt_clock_now() < until_ns);
        return n;
}

// Receives WELCOME and its descriptors, or keeps none. A refusal is -EACCES.
static int receive(int fd, union takt_frame *frame, int fds[TAKT_N_FDS])
{
        _Alignas(struct cmsghdr) char control[CMSG_SPACE(TAKT_N_FDS * sizeof(int))];
        char raw[FRAME_SIZE_MAX];
        struct iovec data = {raw, sizeof raw};
        // Their space is rounded up: one more would have room in it.
        struct msghdr message = {.msg_iov = &data,
                                 .msg_iovlen = 1,
                                 .msg_control = control,
                                 .msg_controllen = CMSG_LEN(TAKT_N_FDS * sizeof(int))};
        ssize_t n = receive_message(fd, &message);
        int n_fds = n > 0 ? take_fds(&message, fds) : 0, error = check(raw, n, frame, n_fds);

        while (error && n_fds > 0)
                close(fds[--n_fds]);
        return error;
}

static void *map(int fd, int protection)
{
        void *page = mmap(NULL, TAKT_PAGE_SIZE, protection, MAP_SHARED, fd, 0);

        close(fd);
        return page == MAP_FAILED ? NULL : page;
}

static void unmap(const void *page)
{
        if (page)
                munmap((void *)page, TAKT_PAGE_SIZE);
}

// Our descriptors out of the way of the host's: programs that count on the lowest numbers, or close a range
// of them.
static int put_away(int fd)
{
        int away = fcntl(fd, F_DUPFD_CLOEXEC, AWAY_FD);

        if (away >= 0)
                close(fd);
        return away >= 0 ? away : fd;
}

// A host may close descriptors that it did not open, and get our numbers for files of its own: those must be
// left alone.
static int is_ours(int fd, const struct identity *then)
{
        struct stat now;

        return fd >= 0 && fstat(fd, &now) == 0 && now.st_dev == then->device && now.st_ino == then->inode;
}

static void remember(int fd, struct identity *then)
{
        struct stat now;

        if (fstat(fd, &now) == 0) {
                then->device = now.st_dev;
                then->inode = now.st_ino;
        }
}

static int take_session(int fd, const union takt_frame *frame, const int fds[TAKT_N_FDS])
{
        const struct takt_page_daemon *daemon = map(fds[TAKT_FD_DAEMON_PAGE], PROT_READ);
        struct takt_page_client *client = map(fds[TAKT_FD_CLIENT_PAGE], PROT_READ | PROT_WRITE);
        struct takt_page_tenant *tenant = map(fds[TAKT_FD_TENANT_PAGE], PROT_READ | PROT_WRITE);

        lease.kick = put_away(fds[TAKT_FD_KICK]);
        lease.wake = put_away(fds[TAKT_FD_WAKE]);
        lease.socket = put_away(fd);
        remember(lease.kick, &kick_then);
        remember(lease.socket, &socket_then);
        remember(lease.wake, &wake_then);
        for (unsigned i = 0; i < TAKT_PAGE_LANES; i++)
                lease.lane_of[i] = frame->welcome.lane[i];
        if (!daemon || !client || !tenant || daemon->magic != TAKT_PAGE_DAEMON_MAGIC) {
                unmap(daemon), unmap(client), unmap(tenant);
                close(lease.kick), close(lease.wake);
                lease.kick = lease.wake = -1;
                return -EBADMSG;
        }
        lease.client = client;
        lease.tenant = tenant;
        client->pid = (uint32_t)getpid();
        // So that the daemon's membarrier orders our loads too.
        syscall(SYS_membarrier, MEMBARRIER_CMD_REGISTER_GLOBAL_EXPEDITED, 0, 0);
        atomic_store_explicit(&lease.daemon, daemon, memory_order_release);
        return 0;
}

static int join(const uint8_t *uuids, uint32_t n_devices)
{
        int fds[TAKT_N_FDS], fd = connect_to(getenv("TAKT_SOCKET")), error;
        union takt_frame frame;
        size_t size = takt_frame_init(&frame, TAKT_FRAME_JOIN);

        if (fd < 0)
                return fd;
        frame.join.n_devices = n_devices < TAKT_WIRE_DEVICES ? n_devices : TAKT_WIRE_DEVICES;
        memcpy(frame.join.uuid, uuids, frame.join.n_devices * 16);
        if (send(fd, &frame, size, MSG_NOSIGNAL) != (ssize_t)size)
                error = -EPIPE;
        else
                error = receive(fd, &frame, fds);
        if (error) {
                close(fd);
                return error;
        }
        error = take_session(fd, &frame, fds);
        if (error) {
                close(lease.socket);
                lease.socket = -1;
        }
        return error;
}

// The pages stay mapped and the descriptors of kicks open: another thread may be using them. They are few a
// lost daemon, and daemons are lost rarely.
static void drop(void)
{
        silent = NULL;
        atomic_store_explicit(&lease.daemon, NULL, memory_order_release);
        if (is_ours(lease.socket, &socket_then))
                close(lease.socket);
        lease.socket = -1;
}

// A forked child has no session of its own, and must not speak through its parent's.
static void in_child(void)
{
        pthread_mutex_init(&lock, NULL);
        lease.client = NULL;
        if (lease.socket >= 0)
                drop();
        if (is_ours(lease.kick, &kick_then))
                close(lease.kick);
        if (is_ours(lease.wake, &wake_then))
                close(lease.wake);
        lease.kick = lease.wake = -1;
        next_try_ns = 0;
}

static void survive_forks(void)
{
        pthread_atfork(NULL, NULL, in_child);
}

static int is_gone(void)
{
        char byte;

        return !is_ours(lease.socket, &socket_then) ||
               recv(lease.socket, &byte, 1, MSG_DONTWAIT | MSG_PEEK) == 0;
}

// The session goes on as soon as its daemon does: it is kicked once a second. Returns 0, or -EAGAIN.
static int take_up_again(uint64_t now_ns)
{
        if (atomic_load(&silent->answers) != silent_answers) {
                atomic_store_explicit(&lease.daemon, silent, memory_order_release);
                silent = NULL;
                return 0;
        }
        lease_kick();
        next_try_ns = now_ns + TAKT_S;
        return -EAGAIN;
}

// The page is believed no more, as if its daemon had gone; the session stays, for that may just be stopped.
static void leave(const struct takt_page_daemon *page, uint32_t answers)
{
        pthread_mutex_lock(&lock);
        if (atomic_load(&lease.daemon) == page) {
                silent = page;
                silent_answers = answers;
                atomic_store_explicit(&lease.daemon, NULL, memory_order_release);
        }
        pthread_mutex_unlock(&lock);
}

int lease_join(const uint8_t *uuids, uint32_t n_devices, uint64_t now_ns)
{
        static pthread_once_t once = PTHREAD_ONCE_INIT;
        int error, cancel;

        if (!lease_wanted())
                return -ENOENT;
        pthread_once(&once, survive_forks);
        cancel = lock_session();
        if (atomic_load(&lease.daemon)) {
                error = 0;
        } else if (now_ns < next_try_ns) {
                error = -EAGAIN;
        } else if (silent && !is_gone()) {
                error = take_up_again(now_ns);
        } else {
                uint64_t took_ns;

                drop();
                error = join(uuids, n_devices);
                took_ns = takt_time_since(takt_clock_now(), now_ns);
                next_try_ns = now_ns + took_ns + takt_time_max(TAKT_S, PATIENCE_RATIO * took_ns);
        }
        unlock_session(cancel);
        return error;
}

int lease_is_due(uint64_t now_ns)
{
        return now_ns >= atomic_load_explicit(&next_try_ns, memory_order_relaxed);
}

void lease_look(void)
{
        int cancel = lock_session();

        if (atomic_load(&lease.daemon) && is_gone())
                drop();
        unlock_session(cancel);
}

void lease_check(uint64_t now_ns)
{
        uint64_t last = atomic_load_explicit(&lease.checked_ns, memory_order_relaxed);

        if (now_ns - last > TAKT_S && atomic_compare_exchange_strong(&lease.checked_ns, &last, now_ns))
                lease_look();
}

uint64_t lease_quota_told(int device)
{
        const char *text = lease_wanted() ? getenv("TAKT_MEMORY_QUOTA") : NULL;
        int is_others;

        if (atomic_load(&lease.daemon) || !text)
                return lease_quota(device);
        pthread_mutex_lock(&lock); // one may be coming
        is_others = lease.client && lease_lane(device) < 0;
        pthread_mutex_unlock(&lock);
        return is_others ? 0 : strtoull(text, NULL, 10);
}

int lease_is_wake(int fd)
{
        return fd == lease.wake && is_ours(fd, &wake_then);
}

void lease_kick(void)
{
        uint64_t one = 1;
        // Not by write(), which ends a thread that was cancelled.
        long n = is_ours(lease.kick, &kick_then) ? syscall(SYS_write, lease.kick, &one, sizeof one) : 0;

        (void)n; // a full counter has been told already
}

// Until the word has changed, or for the time of a look: returns whether that is over. The time is one to
// come: signals of the host's must not begin it again.
static int wait_on(const _Atomic uint32_t *gate, uint32_t word, uint64_t until_ns)
{
        const struct timespec until = {(time_t)(until_ns / TAKT_S), (long)(until_ns % TAKT_S)};

        return syscall(SYS_futex, gate, FUTEX_WAIT_BITSET, word, &until, NULL, FUTEX_BITSET_MATCH_ANY) < 0 &&
               errno == ETIMEDOUT;
}

// Looks are counted, not time: whoever was stopped together with its daemon has not waited for it.
static void look_at(const struct takt_page_daemon *page, uint32_t *answers, unsigned *unanswered)
{
        uint32_t now = atomic_load(&page->answers);

        *unanswered = now == *answers ? *unanswered + 1 : 0;
        *answers = now;
        lease_look();
        if (page->minor >= 1 && *unanswered >= UNANSWERED_MAX)
                leave(page, now);
}

int lease_wait(unsigned lane)
{
        const struct takt_page_daemon *page = atomic_load(&lease.daemon);
        _Atomic uint32_t *want = page ? &lease.client->lane[lane].want : NULL;
        uint64_t look_ns = takt_clock_now() + LOOK_NS;
        uint32_t word, answers = page ? atomic_load(&page->answers) : 0;
        unsigned unanswered = 0;
        int gone = !page;

        if (gone)
                return 1;
        atomic_fetch_add(want, 1);
        lease_kick();
        while (TAKT_GATE_STATE(word = atomic_load(&page->lane[lane].gate)) == TAKT_GATE_CLOSED) {
                if (!wait_on(&page->lane[lane].gate, word, look_ns))
                        continue;
                look_at(page, &answers, &unanswered);
                if ((gone = atomic_load(&lease.daemon) != page))
                        break;
                lease_kick(); // a kick may be lost where a host closes what it did not open
                look_ns = takt_clock_now() + LOOK_NS;
        }
        atomic_fetch_sub(want, 1);
        return gone;
}
