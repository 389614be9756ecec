// takt run: an agent under Takt. Finds or starts the daemon, registers the contract, and runs the program
// with the shim.
#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include "base/units.h"
#include "cli/cli.h"
#include "cli/shimdir.h"

static const char usage[] =
        "usage: takt run [OPTIONS] -- COMMAND [ARGUMENTS]\n"
        "Runs an agent that shares the GPU under Takt.\n\n"
        "  --ttft D --itl D    objectives: time to first token, time between tokens (200ms, 2s)\n"
        "  --slo D             or one objective end to end, for short answers\n"
        "  --share P           device time it may use in the long run (40%)\n"
        "  --peak P --burst D --depth D   how bursty it is (default: from the share); these four are of the\n"
        "                      deadline class only; for the others see --weight\n"
        "  --step D            its longest piece that cannot be cut, 900ms at most (default: 5ms)\n"
        "  --memory SIZE       device memory it may use (8GiB)\n"
        "  --class C           deadline (default with objectives), fair (default without), idle\n"
        "  --weight N          of the fair class, 1 to 10000 (default: 100)\n"
        "  --device N          which GPU (default: 0)\n"
        "  --name NAME         what `takt status` calls it (default: the command)\n"
        "  --on-loss MODE      pass or refuse, should the daemon go (default: pass)\n"
        "Exit: the command's own; 2 usage; 69 no GPU or daemon; 75 the objectives cannot be kept; 126 the "
        "command\n"
        "cannot be executed; 127 there is none.\n";

struct wish {
        uint64_t slo, ttft, itl, burst, depth, step, memory, weight, device;
        uint32_t share, peak;
        const char *name, *class, *on_loss;
};

static pid_t child;

// What a terminal sends, it sends to the command as well: twice is more than was meant, and servers take it
// for impatience.
static void pass_on(int signal, siginfo_t *info, void *context)
{
        (void)context;
        if (child > 0 && info->si_code != SI_KERNEL)
                kill(child, signal);
}

static const struct option options[] = {
        {"ttft", 1, 0, 't'},   {"itl", 1, 0, 'i'},     {"slo", 1, 0, 's'},    {"share", 1, 0, 'p'},
        {"peak", 1, 0, 'k'},   {"burst", 1, 0, 'b'},   {"depth", 1, 0, 'd'},  {"step", 1, 0, 'e'},
        {"memory", 1, 0, 'm'}, {"class", 1, 0, 'c'},   {"weight", 1, 0, 'w'}, {"device", 1, 0, 'g'},
        {"name", 1, 0, 'n'},   {"on-loss", 1, 0, 'l'}, {"help", 0, 0, 'h'},   {0}};

// One option; -EINVAL for a value that is none.
static int take(struct wish *w, int option, const char *value)
{
        switch (option) {
        case 't':
                return takt_duration_parse(value, &w->ttft);
        case 'i':
                return takt_duration_parse(value, &w->itl);
        case 's':
                return takt_duration_parse(value, &w->slo);
        case 'b':
                return takt_duration_parse(value, &w->burst);
        case 'd':
                return takt_duration_parse(value, &w->depth);
        case 'e':
                return takt_duration_parse(value, &w->step);
        case 'p':
                return takt_percent_parse(value, &w->share);
        case 'k':
                return takt_percent_parse(value, &w->peak);
        case 'm':
                return takt_size_parse(value, &w->memory);
        case 'c':
                w->class = value;
                return strcmp(value, "deadline") && strcmp(value, "fair") && strcmp(value, "idle") ? -EINVAL
                                                                                                   : 0;
        case 'w':
                return cli_count(value, 1, 10000, &w->weight);
        case 'g':
                return cli_count(value, 0, 255, &w->device);
        case 'n':
                w->name = value;
                return 0;
        case 'l':
                w->on_loss = value;
                return strcmp(value, "pass") && strcmp(value, "refuse") ? -EINVAL : 0;
        default:
                return -ENOENT;
        }
}

// In the grandchild, so that the daemon is nobody's to bury: it outlives us, and must not hold our pipes.
// What it says until it is ready, we hear.
static void become_daemon(const char *dir, int ready)
{
        char path[4160], number[16];

        cli_find(CLI_TAKTD, path, sizeof path);
        setsid();
        if (!freopen("/dev/null", "r", stdin) || !freopen("/dev/null", "w", stdout) || dup2(ready, 2) < 0)
                _exit(1);
        snprintf(number, sizeof number, "%d", ready);
        execl(path, "taktd", "--user", "--dir", dir, "--ready", number, (char *)NULL);
        dprintf(ready, "taktd: %s: %s\n", path, strerror(errno));
        _exit(1);
}

// Starts the user's own daemon and waits until it says that it is ready. 0; -EBUSY: another is in the folder;
// or another negative errno, and `why` says more.
static int start_daemon(const char *dir, char *why, size_t size)
{
        int fds[2];
        int ready = 0;
        size_t n = 0;
        ssize_t got;
        pid_t parent;

        if (pipe(fds) < 0 || (parent = fork()) < 0)
                return snprintf(why, size, "%s", strerror(errno)), -EAGAIN;
        if (parent == 0) {
                close(fds[0]);
                if (fork() == 0)
                        become_daemon(dir, fds[1]);
                _exit(0);
        }
        waitpid(parent, NULL, 0);
        close(fds[1]);
        while (!ready && n < size - 1 && (got = read(fds[0], why + n, size - 1 - n)) > 0) {
                n += (size_t)got;
                ready = why[n - 1] == '1' && (n == 1 || why[n - 2] == '\n'); // after what else it has to say
        }
        close(fds[0]);
        if (ready)
                return *why = 0;
        why[n] = 0;
        why[strcspn(why, "\n")] = 0;
        return *why == '0' ? -EBUSY : -ESRCH;
}

// The connection to a daemon that runs, or that we start; or a negative errno. The system's daemon is not
// ours to start: in its folder one of ours would keep it out.
static int find_daemon(const char *dir, char *why, size_t size)
{
        const struct timespec moment = {.tv_nsec = 10000000};
        int fd = cli_connect(dir), error = 0;

        snprintf(why, size, "%s", fd < 0 ? strerror(-fd) : "");
        if (fd >= 0 || fd == -EPERM || !strcmp(dir, CLI_SYSTEM_DIR))
                return fd;
        // Another `takt run` may have been faster: its daemon holds the folder, and opens its socket in a
        // moment.
        for (int i = 0; i < 200 && fd < 0; i++) {
                error = start_daemon(dir, why, size);
                if (error && error != -EBUSY)
                        return error;
                fd = cli_connect(dir);
                if (fd < 0)
                        nanosleep(&moment, NULL);
        }
        return fd;
}

// Named, or by its objectives.
static const char *class_of(const struct wish *w)
{
        return w->class ? w->class : w->slo || w->ttft || w->itl ? "deadline" : "fair";
}

static json_t *registration(const struct wish *w, int reclaim)
{
        return json_pack("{s:s,s:s,s:s,s:I,s:I,s:I,s:I,s:I,s:I,s:I,s:I,s:I,s:i,s:i,s:i}", "op", "register",
                         "name", w->name, "class", class_of(w), "slo_ns", (json_int_t)w->slo, "ttft_ns",
                         (json_int_t)w->ttft, "itl_ns", (json_int_t)w->itl, "burst_ns", (json_int_t)w->burst,
                         "depth_ns", (json_int_t)w->depth, "step_ns", (json_int_t)w->step, "memory_bytes",
                         (json_int_t)w->memory, "share_ppm", (json_int_t)w->share, "peak_ppm",
                         (json_int_t)w->peak, "weight", (int)w->weight, "device", (int)w->device, "reclaim",
                         reclaim);
}

static void prepend_path(const char *dir)
{
        const char *old = getenv("LD_LIBRARY_PATH");
        char *path;

        if (asprintf(&path, "%s%s%s", dir, old ? ":" : "", old ? old : "") < 0)
                return;
        setenv("LD_LIBRARY_PATH", path, 1);
        free(path);
}

static int set_up(const struct wish *w, json_t *answer, const char *lib)
{
        char shims[4160], what[4300], bytes[32];

        cli_find(CLI_SHIMS, shims, sizeof shims);
        if (shim_dir_make(lib, shims, what, sizeof what) < 0)
                return cli_fail(EXIT_NOT_THERE, "%s", what);
        prepend_path(lib);
        setenv("TAKT_SOCKET", json_string_value(json_object_get(answer, "join")), 1);
        setenv("TAKT_REQUESTS", json_string_value(json_object_get(answer, "requests")), 1);
        setenv("TAKT_ON_LOSS", w->on_loss, 1);
        if (w->memory) {
                snprintf(bytes, sizeof bytes, "%lu", w->memory);
                setenv("TAKT_MEMORY_QUOTA", bytes, 1);
        } else {
                unsetenv("TAKT_MEMORY_QUOTA"); // that of an agent that runs this one
        }
        return 0;
}

static int start_child(char **command)
{
        static const int passed[] = {SIGTERM, SIGINT, SIGHUP, SIGQUIT, SIGUSR1, SIGUSR2};
        struct sigaction act = {.sa_sigaction = pass_on, .sa_flags = SA_SIGINFO};
        sigset_t signals, old;

        sigemptyset(&signals);
        for (size_t i = 0; i < sizeof passed / sizeof *passed; i++)
                sigaddset(&signals, passed[i]);
        sigprocmask(SIG_BLOCK, &signals, &old); // whoever ends us now ends the child too, once it is there
        child = fork();
        if (child == 0) {
                sigprocmask(SIG_SETMASK, &old, NULL);
                execvp(command[0], command);
                _exit(cli_fail(errno == ENOENT ? EXIT_NOT_FOUND : EXIT_NOT_EXECUTABLE, "%s: %s", command[0],
                               strerror(errno)));
        }
        for (size_t i = 0; child > 0 && i < sizeof passed / sizeof *passed; i++)
                sigaction(passed[i], &act, NULL);
        sigprocmask(SIG_SETMASK, &old, NULL);
        return child < 0 ? -1 : (int)syscall(SYS_pidfd_open, child, 0);
}

// Another daemon is told the same contract, so that the processes can rejoin where they were.
static int register_again(const struct wish *w, const char *dir, int tenant)
{
        char why[256];
        int fd = find_daemon(dir, why, sizeof why);
        json_t *answer;

        if (fd < 0)
                return -1;
        answer = cli_ask(fd, registration(w, tenant));
        if (!json_is_true(json_object_get(answer, "ok"))) {
                close(fd);
                fd = -1;
        }
        json_decref(answer);
        return fd;
}

// While the command runs, the control connection is the tenant's life. When the daemon goes, another is
// looked for, once a second.
static int keep(const struct wish *w, const char *dir, int fd, int tenant, int child_fd)
{
        int status;

        for (;;) {
                struct pollfd news[] = {{.fd = child_fd, .events = POLLIN}, {.fd = fd, .events = POLLIN}};
                int n = poll(news, 2, fd < 0 ? 1000 : -1);
                char byte;

                if (waitpid(child, &status, child_fd < 0 && fd < 0 ? 0 : WNOHANG) == child)
                        return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
                if (n < 0 || (fd >= 0 && !news[1].revents) || (n > 0 && recv(fd, &byte, 1, MSG_DONTWAIT) > 0))
                        continue;
                if (fd >= 0)
                        close(fd);
                fd = register_again(w, dir, tenant);
        }
}

// Says why nobody was admitted.
static int refused(json_t *answer, const char *dir)
{
        const char *kind = json_string_value(json_object_get(answer, "error"));
        const char *message = json_string_value(json_object_get(answer, "message"));

        if (!kind || !message)
                return cli_fail(EXIT_NOT_THERE, "the daemon in %s does not answer", dir);
        if (!strcmp(kind, "admission"))
                return cli_fail(EXIT_REFUSED, "not admitted: %s", message);
        if (!strcmp(kind, "contract"))
                return cli_fail(EXIT_USAGE, "%s (see takt run --help)", message);
        if (!strcmp(kind, "device"))
                return cli_fail(EXIT_NOT_THERE, "%s", message);
        return cli_fail(EXIT_NOT_THERE, "the daemon refuses: %s", message);
}

// Asks to be admitted. A user's daemon ends with its last tenant, perhaps just now, and takes its socket
// along: then there is another.
static json_t *ask_for_seat(const struct wish *w, const char *dir, int *ret_fd, char *why, size_t size)
{
        json_t *answer = NULL;

        for (int i = 0; i < 3; i++) {
                *ret_fd = find_daemon(dir, why, size);
                answer = *ret_fd < 0 ? NULL : cli_ask(*ret_fd, registration(w, -1));
                if (*ret_fd < 0 || answer || cli_has_socket(dir))
                        break;
                close(*ret_fd);
        }
        return answer;
}

static int run_in_seat(const struct wish *w, const char *dir, int fd, json_t *answer, char **command)
{
        const char *seat = json_string_value(json_object_get(answer, "dir"));
        char lib[PATH_MAX];
        int code, child_fd;

        if (shim_dir_choose(seat, lib, sizeof lib) < 0)
                return cli_fail(EXIT_NOT_THERE,
                                "%s is mounted noexec: no agent can load a library from there, and no "
                                "other folder will do (set TMPDIR)",
                                seat);
        code = set_up(w, answer, lib);
        if (code)
                return code;
        child_fd = start_child(command);
        if (child < 0)
                return cli_fail(EXIT_NOT_EXECUTABLE, "%s: %s", command[0], strerror(errno));
        return keep(w, dir, fd, (int)json_integer_value(json_object_get(answer, "tenant")), child_fd);
}

static int run(const struct wish *w, const char *dir, char **command)
{
        char why[256];
        int fd, code;
        json_t *answer = ask_for_seat(w, dir, &fd, why, sizeof why);

        if (fd == -EPERM || (fd < 0 && !strcmp(dir, CLI_SYSTEM_DIR)))
                return cli_fail_no_daemon(dir, fd);
        if (fd < 0)
                return cli_fail(EXIT_NOT_THERE, "no daemon in %s, and none could be started: %s", dir,
                                *why ? why : strerror(-fd));
        if (!json_is_true(json_object_get(answer, "ok")) || !json_is_string(json_object_get(answer, "dir")))
                code = refused(answer, dir);
        else
                code = run_in_seat(w, dir, fd, answer, command);
        json_decref(answer);
        return code;
}

int cmd_run(int argc, char **argv)
{
        struct wish w = {.on_loss = "pass"};
        const char *slash, *dir;
        int option, wrong;

        while ((option = cli_option(argc, argv, options)) != -1) {
                if (option == 'h')
                        return fputs(usage, stdout), 0;
                wrong = cli_wrong_option(option, take(&w, option, optarg), argv);
                if (wrong)
                        return wrong;
        }
        if (optind == argc)
                return cli_fail(EXIT_USAGE, "a command is needed (see takt run --help)");
        if (strcmp(class_of(&w), "deadline") && (w.share || w.peak || w.burst || w.depth))
                return cli_fail(EXIT_USAGE,
                                "share, peak, burst and depth are of the deadline class only; for "
                                "class %s see --weight (see takt run --help)",
                                class_of(&w));
        if (!(dir = cli_dir()))
                return EXIT_USAGE;
        slash = strrchr(argv[optind], '/');
        w.name = w.name ? w.name : slash ? slash + 1 : argv[optind];
        return run(&w, dir, argv + optind);
}
