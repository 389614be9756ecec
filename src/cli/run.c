// takt run: an agent under Takt. Finds or starts the daemon, registers the contract, and runs the program
// with the shim.
#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
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
        "  --peak P --burst D --depth D   how bursty it is (default: from the share)\n"
        "  --step D            its longest decode step (default: 5ms)\n"
        "  --memory SIZE       device memory it may use (8GiB)\n"
        "  --class C           deadline (default with objectives), fair (default without), idle\n"
        "  --weight N          of the fair class, 1 to 10000 (default: 100)\n"
        "  --device N          which GPU (default: 0)\n"
        "  --name NAME         what `takt status` calls it (default: the command)\n"
        "  --on-loss MODE      pass or refuse, should the daemon go (default: pass)\n"
        "Exit: the command's own; 2 usage; 69 no GPU or daemon; 75 the objectives cannot be kept.\n";

struct wish {
        uint64_t slo, ttft, itl, burst, depth, step, memory;
        uint32_t share, peak;
        int weight, device;
        const char *name, *class, *on_loss;
};

static pid_t child;

static void pass_on(int signal)
{
        if (child > 0)
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
                w->weight = atoi(value);
                return w->weight < 1 || w->weight > 10000 ? -EINVAL : 0;
        case 'g':
                w->device = atoi(value);
                return w->device < 0 ? -EINVAL : 0;
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

// Starts the user's own daemon and waits until it says that it is ready.
static int start_daemon(const char *dir)
{
        char path[4160], ready[16], byte;
        int fds[2];
        ssize_t n;
        pid_t pid;

        snprintf(path, sizeof path, "%s/../node/taktd", cli_home());
        if (access(path, X_OK) < 0)
                snprintf(path, sizeof path, "%s/taktd", cli_home());
        if (pipe(fds) < 0 || (pid = fork()) < 0)
                return -errno;
        if (pid == 0) {
                close(fds[0]);
                setsid();
                if (!freopen("/dev/null", "r", stdin) || !freopen("/dev/null", "w", stdout) ||
                    !freopen("/dev/null", "w", stderr))
                        _exit(127); // the daemon outlives us: it must not hold our pipes
                snprintf(ready, sizeof ready, "%d", fds[1]);
                execl(path, "taktd", "--user", "--dir", dir, "--ready", ready, (char *)NULL);
                _exit(127);
        }
        close(fds[1]);
        n = read(fds[0], &byte, 1);
        close(fds[0]);
        return n == 1 ? 0 : -ESRCH;
}

static int find_daemon(const char *dir)
{
        const struct timespec moment = {.tv_nsec = 10000000};
        int fd = cli_connect(dir);

        if (fd >= 0 || start_daemon(dir) == 0)
                return fd >= 0 ? fd : cli_connect(dir);
        // Another `takt run` may have been faster: its daemon holds the folder, and opens its socket in a
        // moment.
        for (int i = 0; i < 200 && fd < 0; i++) {
                nanosleep(&moment, NULL);
                fd = cli_connect(dir);
                if (fd < 0 && start_daemon(dir) == 0)
                        fd = cli_connect(dir);
        }
        return fd;
}

static json_t *registration(const struct wish *w, int reclaim)
{
        const char *class = w->class ? w->class : w->slo || w->ttft || w->itl ? "deadline" : "fair";

        return json_pack("{s:s,s:s,s:s,s:I,s:I,s:I,s:I,s:I,s:I,s:I,s:I,s:I,s:i,s:i,s:i}", "op", "register",
                         "name", w->name, "class", class, "slo_ns", (json_int_t)w->slo, "ttft_ns",
                         (json_int_t)w->ttft, "itl_ns", (json_int_t)w->itl, "burst_ns", (json_int_t)w->burst,
                         "depth_ns", (json_int_t)w->depth, "step_ns", (json_int_t)w->step, "memory_bytes",
                         (json_int_t)w->memory, "share_ppm", (json_int_t)w->share, "peak_ppm",
                         (json_int_t)w->peak, "weight", w->weight, "device", w->device, "reclaim", reclaim);
}

static void prepend_path(const char *dir)
{
        const char *old = getenv("LD_LIBRARY_PATH");
        char path[8192];

        snprintf(path, sizeof path, "%s%s%s", dir, old ? ":" : "", old ? old : "");
        setenv("LD_LIBRARY_PATH", path, 1);
}

static int set_up(const struct wish *w, json_t *answer)
{
        char dir[128], shims[4160], what[4300], bytes[32];

        snprintf(dir, sizeof dir, "%s/lib", json_string_value(json_object_get(answer, "dir")));
        snprintf(shims, sizeof shims, "%s/../shim", cli_home());
        if (access(shims, R_OK) < 0)
                snprintf(shims, sizeof shims, "%s/../lib/takt", cli_home());
        if (shim_dir_make(dir, shims, what, sizeof what) < 0)
                return cli_fail(EXIT_NOT_THERE, "cannot find %s", what);
        prepend_path(dir);
        setenv("TAKT_SOCKET", json_string_value(json_object_get(answer, "join")), 1);
        setenv("TAKT_REQUESTS", json_string_value(json_object_get(answer, "requests")), 1);
        setenv("TAKT_ON_LOSS", w->on_loss, 1);
        if (w->memory) {
                snprintf(bytes, sizeof bytes, "%lu", w->memory);
                setenv("TAKT_MEMORY_QUOTA", bytes, 1);
        }
        return 0;
}

static void start_child(char **command)
{
        struct sigaction act = {.sa_handler = pass_on};

        child = fork();
        if (child == 0) {
                execvp(command[0], command);
                _exit(cli_fail(errno == ENOENT ? EXIT_NOT_FOUND : EXIT_NOT_EXECUTABLE, "%s: %s", command[0],
                               strerror(errno)));
        }
        sigaction(SIGTERM, &act, NULL);
        sigaction(SIGINT, &act, NULL);
        sigaction(SIGHUP, &act, NULL);
}

// While the command runs, the control connection is the tenant's life. When the daemon goes, another is found
// or started and told the same contract again, so that the processes can rejoin where they were.
static int keep(const struct wish *w, const char *dir, int fd, int tenant)
{
        char byte;
        int status;
        ssize_t n;
        json_t *answer;

        for (;;) {
                pid_t done = waitpid(child, &status, fd < 0 ? 0 : WNOHANG);

                if (done == child)
                        return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
                n = recv(fd, &byte, 1, 0);
                if (n > 0 || (n < 0 && errno == EINTR))
                        continue;
                close(fd);
                fd = find_daemon(dir);
                answer = fd < 0 ? NULL : cli_ask(fd, registration(w, tenant));
                if (!json_is_true(json_object_get(answer, "ok")) && fd >= 0) {
                        close(fd);
                        fd = -1;
                }
                json_decref(answer);
        }
}

static void child_ended(int signal)
{
        (void)signal; // only so that recv comes back
}

int cmd_run(int argc, char **argv)
{
        struct wish w = {.on_loss = "pass"};
        struct sigaction act = {.sa_handler = child_ended};
        const char *dir = cli_dir();
        json_t *answer;
        int option, fd, error, code;

        while ((option = getopt_long(argc, argv, "+", options, NULL)) != -1) {
                if (option == 'h')
                        return fputs(usage, stdout), 0;
                error = take(&w, option, optarg);
                if (error == -EINVAL)
                        return cli_fail(EXIT_USAGE, "not a value for this option: %s (see takt run --help)",
                                        optarg);
                if (error)
                        return EXIT_USAGE;
        }
        if (optind == argc)
                return fputs(usage, stderr), EXIT_USAGE;
        w.name = w.name ? w.name : strrchr(argv[optind], '/') ? strrchr(argv[optind], '/') + 1 : argv[optind];
        fd = find_daemon(dir);
        if (fd < 0)
                return cli_fail(EXIT_NOT_THERE, "no daemon in %s, and none could be started: %s", dir,
                                strerror(-fd));
        answer = cli_ask(fd, registration(&w, -1));
        if (!json_is_true(json_object_get(answer, "ok"))) {
                const char *kind = json_string_value(json_object_get(answer, "error"));
                const char *message = json_string_value(json_object_get(answer, "message"));

                code = kind && !strcmp(kind, "admission") ? EXIT_REFUSED : EXIT_NOT_THERE;
                cli_fail(code, "%s %s", code == EXIT_REFUSED ? "not admitted:" : "no GPU:",
                         message ? message : "the daemon has gone");
                json_decref(answer);
                return code;
        }
        code = set_up(&w, answer);
        if (!code) {
                sigaction(SIGCHLD, &act, NULL);
                start_child(argv + optind);
                code = keep(&w, dir, fd, (int)json_integer_value(json_object_get(answer, "tenant")));
        }
        json_decref(answer);
        return code;
}
