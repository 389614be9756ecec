// taktd: options, sockets, the loop.
#include <errno.h>
#include <getopt.h>
#include <linux/sched.h>
#include <linux/sched/types.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/file.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/time.h>
#include <sys/timerfd.h>
#include <sys/socket.h>
#include <fcntl.h>
#include <unistd.h>
#include "base/clock.h"
#include "node/node.h"

static const char usage[] =
        "usage: taktd [--dir DIR] [--user] [--device UUID:BYTES]... [--ready FD] [--kube CONFIG] [--list]\n"
        "  --dir DIR           where the sockets are (default: /run/takt)\n"
        "  --user              a user's own daemon: ends with its last tenant\n"
        "  --device UUID:BYTES use this GPU instead of asking NVML; may be repeated\n"
        "  --ready FD          write a 1 there once tenants can come, or a 0 if a daemon is in DIR already\n"
        "  --list              only say which GPUs NVML names; 69: none\n"
        "  --kube CONFIG       serve pods too, as a device plugin of this node's kubelet\n"
        "  --version, --help\n";

#define SLICE_NS (100 * TAKT_US) // the shortest that Linux gives

static struct node node;

static void stop(struct node *n, struct watch *watch, uint32_t events)
{
        (void)watch, (void)events;
        n->quit = 1;
}

// Who has the lock, as the kernel lists it; 0: nobody whom this pid namespace has a number for.
static int holder_of(int fd)
{
        FILE *locks = fopen("/proc/locks", "re");
        struct stat info = {0};
        char line[256];
        int holder = 0;

        fstat(fd, &info);
        while (locks && !holder && fgets(line, sizeof line, locks)) {
                unsigned int major, minor;
                unsigned long inode;
                int pid;

                // Who waits for a lock is listed as well, behind an arrow.
                if (sscanf(line, "%*d: FLOCK %*s %*s %d %x:%x:%lu", &pid, &major, &minor, &inode) == 4 &&
                    makedev(major, minor) == info.st_dev && inode == info.st_ino)
                        holder = pid;
        }
        if (locks)
                fclose(locks);
        return holder;
}

static void rang(int number)
{
        (void)number;
}

// Says for whom it waits, and again each minute: of two DaemonSets on one node one waits for ever.
static int lock_wait(int fd, const char *dir)
{
        const struct sigaction wake = {.sa_handler = rang}; // without SA_RESTART: flock returns
        const struct itimerval minute = {{60, 0}, {60, 0}}, never = {{0}, {0}};
        int error = -EINTR;

        sigaction(SIGALRM, &wake, NULL);
        setitimer(ITIMER_REAL, &minute, NULL);
        while (error == -EINTR) {
                int holder = holder_of(fd);
                char who[32] = "";

                if (holder)
                        snprintf(who, sizeof who, " (process %d)", holder);
                fprintf(stderr, "taktd: waits for the end of the daemon in %s%s\n", dir, who);
                error = flock(fd, LOCK_EX) < 0 ? -errno : 0;
        }
        setitimer(ITIMER_REAL, &never, NULL);
        signal(SIGALRM, SIG_DFL);
        return error;
}

// One daemon a folder: the lock goes with the process, however it ends. On a cluster's node the next one is
// started while the last one ends, and waits for it.
static int lock_dir(const char *dir, int wait)
{
        char path[128];
        struct stat info;
        int fd;

        if (mkdir(dir, geteuid() == 0 && !node.user_mode ? 0755 : 0700) < 0 && errno != EEXIST)
                return -errno;
        // In a folder that somebody else has a hand in (they may have been first in /tmp), they could take
        // our sockets' places.
        if (lstat(dir, &info) < 0)
                return -errno;
        if (!S_ISDIR(info.st_mode) || info.st_uid != geteuid() || info.st_mode & 022)
                return -EPERM;
        snprintf(path, sizeof path, "%s/lock", dir);
        fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
        if (fd < 0)
                return -errno;
        if (flock(fd, LOCK_EX | LOCK_NB) == 0)
                return 0;
        if (errno != EWOULDBLOCK || !wait)
                return -errno;
        return lock_wait(fd, dir);
}

// The tables need more than the 1024 that a process may have by default.
static void all_descriptors(void)
{
        struct rlimit limit;

        if (getrlimit(RLIMIT_NOFILE, &limit) < 0)
                return;
        limit.rlim_cur = limit.rlim_max;
        setrlimit(RLIMIT_NOFILE, &limit);
        if (limit.rlim_max < NODE_DESCRIPTORS_MAX)
                fprintf(stderr,
                        "taktd: may open %lu files at most (ulimit -Hn, LimitNOFILE): %d tenants with their "
                        "processes take up to %d\n",
                        limit.rlim_max, NODE_TENANTS_MAX, NODE_DESCRIPTORS_MAX);
}

static int start_core(void)
{
        struct core_device_config config[CORE_DEVICES_MAX];
        void *storage;

        for (uint32_t d = 0; d < node.n_devices; d++)
                config[d] = (struct core_device_config){node.device[d].memory_bytes, NODE_SWITCH_NS,
                                                        NODE_BOUND_NS, NODE_WATCHDOG_NS, NODE_SLICE_NS};
        node.started_ns = takt_clock_now();
        node.timer_ns = node.due_ns = TAKT_NEVER;
        if (!node.n_devices)
                return 0;
        storage = aligned_alloc(64, (core_size() + 63) / 64 * 64);
        if (!storage)
                return -ENOMEM;
        node.core = core_init(storage, node.n_devices, config, node.started_ns);
        return 0;
}

// While we are woken and do not run, a device idles. Who asks for short slices runs before who has long
// ones, and has no more time for it; it takes no privilege. A kernel before 6.12 takes no notice.
static void be_prompt(void)
{
        struct sched_attr attr = {0};

        if (syscall(SYS_sched_getattr, 0, &attr, sizeof attr, 0) || attr.sched_policy)
                return; // whoever started us has chosen otherwise
        attr.sched_runtime = SLICE_NS;
        attr.sched_flags |= SCHED_FLAG_RESET_ON_FORK; // who is asked about GPUs is not in a hurry
        syscall(SYS_sched_setattr, 0, &attr, 0);
}

static int start(void)
{
        char path[128];
        sigset_t signals;
        int fd, error = start_core();

        if (error < 0)
                return error;
        error = watch_start(&node);
        if (error < 0)
                return error;
        node.spare = open("/", O_PATH | O_CLOEXEC);
        all_descriptors();
        sigemptyset(&signals);
        sigaddset(&signals, SIGTERM);
        sigaddset(&signals, SIGINT);
        sigprocmask(SIG_BLOCK, &signals, NULL);
        signal(SIGPIPE, SIG_IGN);
        watch_add(&node, &node.stop, signalfd(-1, &signals, SFD_CLOEXEC), 0, stop);
        watch_add(&node, &node.timer, timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK), 0,
                  grant_timer);
        sample_start(&node);
        node.record = record_open(node.dir);
        snprintf(path, sizeof path, "%s/control", node.dir);
        fd = listen_at(path, SOCK_STREAM, getuid());
        if (fd < 0)
                return fd;
        if (!node.user_mode)
                chmod(path, 0666);
        return watch_add(&node, &node.control, fd, 0, stream_accept);
}

static void loop(void)
{
        struct epoll_event events[32];

        while (!node.quit) {
                int n;

                grant_arm(&node);
                n = epoll_wait(node.epoll, events, 32, -1);
                for (int i = 0; i < n; i++) {
                        struct watch *watch = events[i].data.ptr;

                        if (watch->fd >= 0) // an earlier event of this turn may have closed it
                                watch->ready(&node, watch, events[i].events);
                }
                if (node.door)
                        node.door->turn();
        }
}

static void end(void)
{
        char path[128];

        if (node.door)
                node.door->close();
        for (uint32_t i = 0; i < NODE_TENANTS_MAX; i++)
                tenant_drop(&node, i);
        snprintf(path, sizeof path, "%s/control", node.dir);
        unlink(path);
        record_close(node.dir);
        free(node.core);
}

static int fail(int code, const char *what, const char *why)
{
        fprintf(stderr, "taktd: %s: %s\n", what, why);
        return code;
}

// One option: 0, or -EINVAL for a value that is none; -ENAMETOOLONG: for a folder.
static int take(int option, const char *value, int *ready)
{
        char *end;
        long number;

        switch (option) {
        case 'd':
                if (!*value)
                        return -EINVAL;
                if (strlen(value) >= sizeof node.dir)
                        return -ENAMETOOLONG;
                strcpy(node.dir, value);
                return 0;
        case 'u':
                return node.user_mode = 1, 0;
        case 'g':
                return devices_add(&node, value) > 0 ? 0 : -EINVAL;
        default:
                number = strtol(value, &end, 10);
                if (end == value || *end || number < 0 || fcntl((int)number, F_GETFD) < 0)
                        return -EINVAL;
                *ready = (int)number;
                return 0;
        }
}

// What getopt_long said of that word, or what taking its value did: 2, and it is said; or 0.
static int wrong_option(int option, int error, const char *word)
{
        int length = (int)strcspn(word, "=");

        if (option == '?' && optopt && word[1] == '-')
                fprintf(stderr, "taktd: %.*s: takes no value (see taktd --help)\n", length, word);
        else if (option == '?' || option == ':')
                return fail(2, word,
                            option == '?' ? "unknown option (see taktd --help)"
                                          : "needs a value (see taktd --help)");
        else if (error == -ENAMETOOLONG)
                fprintf(stderr, "taktd: %.*s: %s is longer than %zu bytes\n", length, word, optarg,
                        sizeof node.dir - 1);
        else if (error)
                fprintf(stderr, "taktd: %.*s: %s is not a value for it (see taktd --help)\n", length, word,
                        optarg);
        else
                return 0;
        return 2;
}

// -1: go on; or the exit code.
static int take_options(int argc, char **argv, const char **kube, int *ready)
{
        static const struct option options[] = {
                {"dir", 1, 0, 'd'},   {"user", 0, 0, 'u'}, {"device", 1, 0, 'g'},
                {"ready", 1, 0, 'r'}, {"list", 0, 0, 'l'}, {"version", 0, 0, 'v'},
                {"help", 0, 0, 'h'},  {"kube", 1, 0, 'k'}, {0}};
        const char *word; // getopt_long does not always say which it was
        int option;

        opterr = 0;
        while (word = argv[optind], (option = getopt_long(argc, argv, "+:", options, NULL)) != -1) {
                if (option == 'h')
                        return fputs(usage, stdout), 0;
                if (option == 'v')
                        return puts("taktd " TAKT_VERSION), 0;
                if (option == 'l')
                        return devices_list(&node);
                if (option == 'k')
                        *kube = optarg;
                else if (wrong_option(option,
                                      option == '?' || option == ':' ? 0 : take(option, optarg, ready), word))
                        return 2;
        }
        if (optind < argc)
                return fail(2, argv[optind], "unexpected (see taktd --help)");
        return -1;
}

int main(int argc, char **argv)
{
        const char *kube = NULL;
        char why[512];
        int ready = -1, error;

        snprintf(node.dir, sizeof node.dir, "/run/takt");
        error = take_options(argc, argv, &kube, &ready);
        if (error >= 0)
                return error;
        error = lock_dir(node.dir, kube != NULL);
        if (error == -EWOULDBLOCK && ready >= 0 && write(ready, "0", 1) != 1)
                return 1;
        if (error == -EWOULDBLOCK)
                return fail(75, node.dir, "a daemon is running there already");
        if (error < 0)
                return fail(1, node.dir, error == -EPERM ? "not this user's alone" : strerror(-error));
        if (!node.n_devices && devices_find(&node) == -ETIMEDOUT)
                return fputs("taktd: " NODE_NVML_SILENT "\n", stderr), 1;
        if ((error = start()) < 0)
                return fail(1, node.dir, strerror(-error));
        be_prompt();
        if (kube && door_open(&node, kube, why, sizeof why) < 0)
                return fail(1, "--kube", why);
        if (ready >= 0) {
                if (write(ready, "1", 1) != 1)
                        return 1;
                close(ready);
        }
        loop();
        end();
        return 0;
}
