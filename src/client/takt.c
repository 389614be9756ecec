// The process's one connection to its daemon, and the three calls that write to it.
#include "client/takt.h"
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>
#include "base/clock.h"
#include "base/time.h"
#include "client/line.h"

static struct {
        pthread_mutex_t lock; // held for the length of one send that does not wait
        int fd;               // -1: none
        ino_t inode;          // of our socket: by it we know that the descriptor is still ours
        uint64_t retry_ns;    // not before this time is the daemon looked for again
} connection = {.lock = PTHREAD_MUTEX_INITIALIZER, .fd = -1};

// A host may close descriptors that it did not open (daemons do), and the number is soon something else's.
static int is_ours(void)
{
        struct stat info;

        return connection.fd >= 0 && fstat(connection.fd, &info) == 0 && S_ISSOCK(info.st_mode) &&
               info.st_ino == connection.inode;
}

static void drop(void)
{
        if (is_ours())
                close(connection.fd);
        connection.fd = -1;
}

// Opens the connection unless that was tried within the last second. A full backlog is no reason to wait,
// hence SOCK_NONBLOCK.
static void look_for_daemon(void)
{
        struct sockaddr_un address = {.sun_family = AF_UNIX};
        const char *path = getenv("TAKT_REQUESTS");
        uint64_t now_ns = takt_clock_now();
        struct stat info;

        if (now_ns < connection.retry_ns)
                return;
        connection.retry_ns = now_ns + TAKT_S;
        if (!path || strlen(path) >= sizeof address.sun_path)
                return;
        strcpy(address.sun_path, path);
        connection.fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        if (connection.fd < 0)
                return;
        if (fstat(connection.fd, &info) == 0)
                connection.inode = info.st_ino;
        if (connect(connection.fd, (struct sockaddr *)&address, sizeof address) < 0)
                drop();
}

// 0, or TAKT_UNTOLD. A line that went out in part ends the connection: the daemon must not read its rest as
// the next.
static int send_line(const char *line, size_t size)
{
        ssize_t n;

        if (!is_ours()) {
                connection.fd = -1;
                look_for_daemon();
        }
        if (connection.fd < 0)
                return TAKT_UNTOLD;
        n = send(connection.fd, line, size, MSG_DONTWAIT | MSG_NOSIGNAL);
        if (n == (ssize_t)size)
                return 0;
        if (n >= 0 || errno != EAGAIN)
                drop();
        return TAKT_UNTOLD;
}

static void before_fork(void)
{
        pthread_mutex_lock(&connection.lock);
}

static void after_fork(void)
{
        pthread_mutex_unlock(&connection.lock);
}

static void after_fork_in_child(void)
{
        drop();
        connection.retry_ns = 0;
        pthread_mutex_unlock(&connection.lock);
}

__attribute__((constructor)) static void watch_forks(void)
{
        pthread_atfork(before_fork, after_fork, after_fork_in_child);
}

static int tell(const char *event, const char *id, uint64_t deadline_ns)
{
        char line[CLIENT_LINE_MAX];
        int size = client_line_write(line, event, id, deadline_ns), saved = errno, told, cancel;

        if (size < 0)
                return size;
        pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &cancel); // or the thread may end with the lock
        pthread_mutex_lock(&connection.lock);
        told = send_line(line, (size_t)size);
        if (told != 0 && connection.fd < 0)
                told = send_line(line, (size_t)size); // a daemon that went a while ago may be back
        pthread_mutex_unlock(&connection.lock);
        pthread_setcancelstate(cancel, NULL);
        errno = saved;
        return told;
}

int takt_request_arrived(const char *id, uint64_t deadline_ns)
{
        return tell("arrived", id, deadline_ns);
}

int takt_request_first_token(const char *id)
{
        return tell("first_token", id, 0);
}

int takt_request_finished(const char *id)
{
        return tell("finished", id, 0);
}
