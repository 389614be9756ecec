#include "kube/strangers.h"
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>
#include "base/clock.h"
#include "kube/cgroup.h"
#include "kube/program.h"
#include "kube/reports.h"

#define ASKED_MAX 1024           // processes of one GPU
#define NVML_INSUFFICIENT_SIZE 7 // there are more; then none is named
#define ANSWER_LINE_MAX 64

// --- in the child
// -------------------------------------------------------------------------------------------

struct nvml_process {
        unsigned pid;
        unsigned long long bytes;
        unsigned instance, compute_instance;
};

// A line a process: GPU's number, pid, bytes, kind of program (its file may lie where a daemon must not
// wait); "more", GPU's number, how many: where there are too many. Returns an exit code: 69 where there is no
// NVML.
static int answer(const struct slots *slots)
{
        void *nvml = dlopen("libnvidia-ml.so.1", RTLD_NOW);
        int (*init)(void), (*handle)(const char *, void **),
                (*processes)(void *, unsigned *, struct nvml_process *);
        static struct nvml_process found[ASKED_MAX];

        if (!nvml)
                return 69;
        init = (int (*)(void))dlsym(nvml, "nvmlInit_v2");
        handle = (int (*)(const char *, void **))dlsym(nvml, "nvmlDeviceGetHandleByUUID");
        processes = (int (*)(void *, unsigned *, struct nvml_process *))dlsym(
                nvml, "nvmlDeviceGetComputeRunningProcesses_v3");
        if (!init || !handle || !processes || init())
                return 69;
        for (uint32_t d = 0; d < slots->n_devices; d++) {
                unsigned n = ASKED_MAX;
                void *device;
                int error = handle(slots->device[d].uuid, &device);

                if (!error)
                        error = processes(device, &n, found);
                if (error == NVML_INSUFFICIENT_SIZE)
                        printf("more %u %u\n", d, n);
                for (unsigned i = 0; !error && i < n && i < ASKED_MAX; i++)
                        printf("%u %u %llu %d\n", d, found[i].pid, found[i].bytes,
                               (int)program_of((pid_t)found[i].pid));
        }
        return fflush(stdout) ? 1 : 0;
}

// Nothing of the daemon's is kept open here, or it would outlive the daemon.
static void be_child(const struct slots *slots, int out)
{
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        dup2(out, STDOUT_FILENO);
        close_range(STDERR_FILENO + 1, ~0U, 0);
        _exit(answer(slots));
}

// --- in the daemon
// ------------------------------------------------------------------------------------------

static void name_of(pid_t pid, char *name, size_t size)
{
        char path[32];
        ssize_t n;
        int fd;

        snprintf(path, sizeof path, "/proc/%d/comm", (int)pid);
        fd = open(path, O_RDONLY | O_CLOEXEC);
        n = fd < 0 ? 0 : read(fd, name, size - 1);
        if (fd >= 0)
                close(fd);
        name[n > 0 ? n : 0] = 0;
        name[strcspn(name, "\n")] = 0;
}

// The pod that it is of, as one that asks for slots, or that a claim is reserved for; else the node.
static struct events_object object_of(struct strangers *s, const char *uid)
{
        const struct pod *pod = podlist_by_uid(&s->wishes->list, uid);
        const struct held *held = s->claims ? claims_of_pod(s->claims, uid) : NULL;

        if (pod)
                return (struct events_object){"Pod", pod->namespace, pod->name, pod->uid};
        if (held)
                return reports_object_of(&held->claim);
        return (struct events_object){"Node", NULL, s->node, s->node};
}

static void report(struct strangers *s, pid_t pid, uint32_t device, uint64_t bytes, enum program program)
{
        static const char *const why[] = {
                [PROGRAM_UNKNOWN] = "it has not loaded Takt's libraries",
                [PROGRAM_GLIBC] = "it has not loaded Takt's libraries",
                [PROGRAM_STATIC] = "its program is static and loads no libraries, so not Takt's either",
                [PROGRAM_MUSL] = "its program is made for musl, and Takt's libraries need glibc",
        };
        char name[32], uid[CGROUP_POD_SIZE] = "";
        struct events_object object;
        enum cgroup_qos qos;

        if (cgroup_of(pid, uid, &qos) < 0)
                uid[0] = 0;
        object = object_of(s, uid);
        name_of(pid, name, sizeof name);
        events_say(s->wishes->events, &object, 1, "UnmanagedGPUProcess",
                   "process %d (%s) %s%s uses GPU %s past Takt, with %.1f GiB of its memory: %s "
                   "(docs/KUBERNETES.md, \"In the container\")",
                   (int)pid, name, uid[0] ? "of pod " : "of no pod", uid,
                   s->wishes->slots->device[device].uuid, (double)bytes / (1 << 30), why[program]);
}

static void say_crowded(struct strangers *s, uint32_t device, unsigned n)
{
        if (!(s->crowded >> device & 1))
                fprintf(stderr,
                        "taktd: GPU %s has %u processes: who of more than %d uses it past Takt is not "
                        "known\n",
                        s->wishes->slots->device[device].uuid, n, ASKED_MAX);
        s->crowded |= UINT32_C(1) << device;
}

static struct stranger *place_of(struct strangers *s, pid_t pid, uint32_t device)
{
        for (struct stranger *at = s->seen; at < s->seen + s->n_seen; at++)
                if (at->pid == pid && at->device == device)
                        return at;
        if (s->n_seen == KUBE_STRANGERS_MAX)
                return NULL;
        s->seen[s->n_seen] = (struct stranger){.pid = pid, .device = device};
        return &s->seen[s->n_seen++];
}

// One that has just begun may be about to join: it has to be there twice.
static int take_line(void *context, const char *line, size_t size)
{
        struct strangers *s = context;
        const struct host *host = s->wishes->slots->host;
        struct stranger *place;
        uint32_t n_devices = s->wishes->slots->n_devices;
        unsigned device, n, program;
        uint64_t bytes;
        char text[ANSWER_LINE_MAX + 1];
        int pid;

        snprintf(text, sizeof text, "%.*s", (int)size, line);
        if (sscanf(text, "more %u %u", &device, &n) == 2 && device < n_devices)
                return say_crowded(s, device, n), 0;
        if (sscanf(text, "%u %d %lu %u", &device, &pid, &bytes, &program) != 4 || device >= n_devices ||
            pid <= 0 || program > PROGRAM_MUSL)
                return -EBADMSG;
        place = host->services->knows(host->node, pid) ? NULL : place_of(s, pid, device);
        if (!place)
                return 0;
        place->round = s->round;
        if (++place->n_rounds == 2)
                report(s, pid, device, bytes, (enum program)program);
        return 0;
}

static void forget_the_gone(struct strangers *s)
{
        uint32_t n = 0;

        for (uint32_t i = 0; i < s->n_seen; i++)
                if (s->seen[i].round == s->round)
                        s->seen[n++] = s->seen[i];
        s->n_seen = n;
}

// Whether the child is gone. One that hangs in the driver cannot even be killed: then nobody asks again.
static int reaped(struct strangers *s)
{
        int status;

        if (!s->child || waitpid(s->child, &status, WNOHANG) == 0)
                return !s->child;
        s->none = WIFEXITED(status) && WEXITSTATUS(status) == 69;
        s->child = 0;
        return 1;
}

static void stop_listening(struct strangers *s)
{
        const struct host *host = s->wishes->slots->host;

        host->services->unwatch(host->node, &s->answer);
        lines_deinit(&s->lines);
        s->deadline_ns = TAKT_NEVER;
}

static void heard(struct node *node, struct watch *watch, uint32_t events)
{
        struct strangers *s =
                (struct strangers *)(void *)((char *)watch - offsetof(struct strangers, answer));
        char bytes[4096];
        ssize_t n = read(watch->fd, bytes, sizeof bytes);

        (void)node, (void)events;
        if (n < 0 && (errno == EAGAIN || errno == EINTR))
                return;
        if (n > 0 && lines_feed(&s->lines, bytes, (size_t)n, take_line, s) == 0)
                return;
        stop_listening(s);
        if (n == 0)
                forget_the_gone(s);
        s->silent = 0;
        reaped(s);
}

void strangers_ask(struct strangers *s)
{
        const struct host *host = s->wishes->slots->host;
        uint64_t now_ns = takt_clock_now();
        int fds[2];

        s->due_ns = now_ns + KUBE_STRANGERS_NS;
        if (!reaped(s) || s->none || s->answer.fd >= 0 || pipe2(fds, O_CLOEXEC) < 0)
                return;
        fcntl(fds[0], F_SETFL, O_NONBLOCK); // the child may wait for us, not we for it
        s->child = fork();
        if (s->child == 0)
                be_child(s->wishes->slots, fds[1]);
        close(fds[1]);
        if (s->child < 0 || host->services->watch(host->node, &s->answer, fds[0], 0, heard) < 0) {
                close(fds[0]);
                s->answer.fd = -1;
                s->child = s->child < 0 ? 0 : s->child;
                return;
        }
        s->round++;
        lines_init(&s->lines, ANSWER_LINE_MAX);
        s->deadline_ns = now_ns + KUBE_CALL_NS;
}

uint64_t strangers_due(const struct strangers *s)
{
        return s->none ? TAKT_NEVER : takt_time_min(s->due_ns, s->deadline_ns);
}

void strangers_tick(struct strangers *s, uint64_t now_ns)
{
        if (s->deadline_ns <= now_ns) {
                kill(s->child, SIGKILL);
                stop_listening(s);
                if (!s->silent)
                        fprintf(stderr,
                                "taktd: NVML does not answer: who uses GPUs past Takt is not known\n");
                s->silent = 1;
        }
        if (s->due_ns <= now_ns)
                strangers_ask(s);
}

void strangers_open(struct strangers *s, struct wishes *wishes, const char *node)
{
        s->wishes = wishes;
        s->node = node;
        s->answer.fd = -1;
        s->deadline_ns = TAKT_NEVER;
}

void strangers_close(struct strangers *s)
{
        if (s->answer.fd >= 0)
                stop_listening(s);
        if (s->child)
                kill(s->child, SIGKILL);
}
