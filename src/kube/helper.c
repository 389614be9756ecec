#include "kube/helper.h"
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>
#include "base/clock.h"

// Beside this library.
static int program(char *path, size_t size)
{
        Dl_info info;
        const char *slash;

        if (!dladdr((void *)(uintptr_t)helper_open, &info) || !(slash = strrchr(info.dli_fname, '/')))
                return -ENOENT;
        return snprintf(path, size, "%.*s/takt-health", (int)(slash - info.dli_fname), info.dli_fname) <
                               (int)size
                       ? 0
                       : -ENAMETOOLONG;
}

// What it says comes by a descriptor of its own: NVML may print.
static int spawn(const struct slots *slots, int out, pid_t *ret_pid)
{
        char path[4096], *args[KUBE_DEVICES_MAX + 2] = {path};
        posix_spawn_file_actions_t files;
        posix_spawnattr_t attributes;
        sigset_t none, all;
        int error = program(path, sizeof path);

        for (uint32_t d = 0; d < slots->n_devices; d++)
                args[d + 1] = (char *)(uintptr_t)slots->device[d].uuid;
        if (error)
                return error;
        sigemptyset(&none);
        sigfillset(&all);
        posix_spawn_file_actions_init(&files);
        posix_spawn_file_actions_adddup2(&files, out, HELPER_FD);
        posix_spawn_file_actions_adddup2(&files, STDERR_FILENO, STDOUT_FILENO);
        posix_spawnattr_init(&attributes);
        posix_spawnattr_setsigmask(&attributes, &none);
        posix_spawnattr_setsigdefault(&attributes, &all);
        posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
        error = -posix_spawn(ret_pid, path, &files, &attributes, args, environ);
        posix_spawnattr_destroy(&attributes);
        posix_spawn_file_actions_destroy(&files);
        return error;
}

static void say_once(struct helper *helper, const char *what)
{
        if (!helper->told)
                fprintf(stderr, "taktd: health: %s; GPUs stay as they were last seen\n", what);
        helper->told = 1;
}

static void start_later(struct helper *helper)
{
        helper->wait_ns = takt_time_min(takt_time_max(2 * helper->wait_ns, TAKT_S), KUBE_HELPER_MAX_NS);
        helper->due_ns = takt_clock_now() + helper->wait_ns;
}

static int device_of(const struct slots *slots, const char *uuid)
{
        for (uint32_t d = 0; d < slots->n_devices; d++)
                if (!strcmp(slots->device[d].uuid, uuid))
                        return (int)d;
        return -1;
}

static void take_line(struct helper *helper, char *line)
{
        char *what = strsep(&line, " "), *uuid = strsep(&line, " ");
        int d = uuid ? device_of(helper->slots, uuid) : -1;
        uint64_t now_ns = takt_clock_now();

        helper->due_ns = now_ns + KUBE_PULSE_NS;
        if (d >= 0)
                helper->heard(helper->context, (uint32_t)d, what, line ? line : "");
        if (strcmp(what, "turn") || now_ns - helper->started_ns < KUBE_PULSE_NS / 2)
                return; // one that dies soon again is not well yet
        if (helper->told)
                fprintf(stderr, "taktd: health: NVML is asked again\n");
        helper->told = 0;
        helper->wait_ns = 0;
}

static void read_lines(struct node *node, struct watch *watch, uint32_t events)
{
        struct helper *helper = (struct helper *)(void *)((char *)watch - offsetof(struct helper, lines));
        ssize_t n = read(watch->fd, helper->text + helper->n_text, sizeof helper->text - helper->n_text);
        char *end;

        (void)events;
        if (n < 0 && errno == EAGAIN)
                return;
        if (n <= 0) {
                helper->host->services->unwatch(node, watch); // its end is told by the other
                return;
        }
        helper->n_text += (size_t)n;
        while ((end = memchr(helper->text, '\n', helper->n_text))) {
                size_t size = (size_t)(end - helper->text) + 1;

                *end = 0;
                take_line(helper, helper->text);
                helper->n_text -= size;
                memmove(helper->text, helper->text + size, helper->n_text);
        }
        if (helper->n_text == sizeof helper->text) // no line of ours
                helper->n_text = 0;
}

static void ended(struct node *node, struct watch *watch, uint32_t events)
{
        struct helper *helper = (struct helper *)(void *)((char *)watch - offsetof(struct helper, process));
        int status = 0;

        (void)events;
        if (waitpid(helper->pid, &status, WNOHANG) != helper->pid)
                return;
        if (helper->lines.fd >= 0) // what it said last
                read_lines(node, &helper->lines, 0);
        helper->host->services->unwatch(node, &helper->lines);
        helper->host->services->unwatch(node, watch);
        helper->pid = 0;
        if (WIFEXITED(status) && WEXITSTATUS(status) == HELPER_NO_NVML) {
                helper->due_ns = TAKT_NEVER;
                fprintf(stderr, "taktd: health: there is no NVML; GPUs are lost by files only\n");
                return;
        }
        if (!helper->hung)
                say_once(helper, "the helper that asks NVML has ended, and is started again");
        start_later(helper);
}

static void start(struct helper *helper)
{
        const struct door_services *s = helper->host->services;
        int fds[2], error, process;
        pid_t pid;

        helper->n_text = helper->hung = 0;
        if (pipe2(fds, O_CLOEXEC | O_NONBLOCK) < 0) {
                start_later(helper);
                return;
        }
        error = spawn(helper->slots, fds[1], &pid);
        close(fds[1]);
        process = error ? -1 : (int)syscall(SYS_pidfd_open, pid, 0);
        if (process < 0) {
                close(fds[0]);
                say_once(helper, error ? "takt-health cannot be started" : "it cannot be watched");
                start_later(helper);
                return;
        }
        helper->pid = pid;
        s->watch(helper->host->node, &helper->lines, fds[0], 0, read_lines);
        s->watch(helper->host->node, &helper->process, process, 0, ended);
        helper->started_ns = takt_clock_now();
        helper->due_ns = helper->started_ns + KUBE_PULSE_NS;
}

void helper_open(struct helper *helper, const struct host *host, const struct slots *slots,
                 void (*heard)(void *, uint32_t, const char *, const char *), void *context)
{
        *helper = (struct helper){.host = host,
                                  .slots = slots,
                                  .lines.fd = -1,
                                  .process.fd = -1,
                                  .heard = heard,
                                  .context = context};
        start(helper);
}

uint64_t helper_due(const struct helper *helper)
{
        return helper->due_ns;
}

// One that hangs in the driver may not even die of a kill: no other is started before it has, which would
// hang as well.
void helper_tick(struct helper *helper, uint64_t now_ns)
{
        if (helper->due_ns > now_ns)
                return;
        if (!helper->pid) {
                start(helper);
                return;
        }
        say_once(helper, "NVML does not answer");
        helper->hung = 1;
        helper->due_ns = TAKT_NEVER;
        kill(helper->pid, SIGKILL);
}

void helper_close(struct helper *helper)
{
        if (helper->pid)
                kill(helper->pid, SIGKILL);
}
