// simgpu: looks at the simulated device and breaks it on demand.
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include "simgpu/segment.h"
#include "simgpu/settings.h"

static const char usage[] =
        "usage: simgpu [--device N] COMMAND\n"
        "       simgpu status [--json]   what the device did, and who uses it\n"
        "       simgpu log               every interval: start_ns,end_ns,pid,context,kind,runnable\n"
        "       simgpu inject xid N      raise an error event\n"
        "       simgpu inject lose       the device falls off the bus\n"
        "       simgpu inject hang PID   the process's work never ends\n"
        "       simgpu inject fail-alloc N\n"
        "       simgpu inject kill PID [N]  the process is killed within its next submission, or after N "
        "more\n"
        "       simgpu inject ecc N      so many uncorrected memory errors more\n"
        "       simgpu inject slow-copies FACTOR\n"
        "       simgpu gpu-reset         the device is back, and well; not while a process uses it\n"
        "       simgpu reset             remove the device; the next program makes a new one\n"
        "The device is named by SIMGPU_NAME; N: of several (SIMGPU_DEVICES), this one instead of device 0. "
        "All\n"
        "but reset make it as it is set, if there is none.\n";

static uint64_t busy_of(const struct sim_segment *s, uint32_t process)
{
        uint64_t ns = 0;

        for (int c = 0; c < SIM_CONTEXTS_MAX; c++)
                if (s->device.context[c].used && s->device.context[c].process == process)
                        ns += s->device.context[c].busy_ns;
        return ns;
}

static void print_status(const struct sim_segment *s, int json)
{
        const struct sim_device *d = &s->device;
        int first = 1;

        printf(json ? "{\"simulated\":true,\"now_ns\":%" PRIu64 ",\"busy_ns\":%" PRIu64
                      ",\"switch_ns\":%" PRIu64 ",\"switches\":%" PRIu64 ",\"memory_used\":%" PRIu64
                      ",\"memory\":%" PRIu64 ",\"busy_percent\":%u,\"copy_ns\":[%" PRIu64 ",%" PRIu64
                      ",%" PRIu64 "],\"processes\":["
                    : "simulated device at %" PRIu64 " ns: busy %" PRIu64 " ns, switching %" PRIu64
                      " ns, %" PRIu64 " switches, memory %" PRIu64 " of %" PRIu64
                      " bytes, %u %% busy in the last second, copying %" PRIu64 " ns in, %" PRIu64
                      " out, %" PRIu64 " within\n",
               d->now_ns, d->busy_ns, d->switching_ns, d->switches, s->memory_used_bytes, s->memory_bytes,
               d->busy_percent, s->engine[0].busy_ns, s->engine[1].busy_ns, s->engine[2].busy_ns);
        for (uint32_t p = 0; p < SIM_PROCESSES_MAX; p++) {
                if (!s->process[p].pid)
                        continue;
                if (json && !first)
                        putchar(',');
                first = 0;
                printf(json ? "{\"pid\":%u,\"name\":\"%s\",\"busy_ns\":%" PRIu64 ",\"memory\":%" PRIu64 "}"
                            : "  pid %u (%s): busy %" PRIu64 " ns, memory %" PRIu64 " bytes\n",
                       s->process[p].pid, s->process[p].name, busy_of(s, p), s->process[p].memory_bytes);
        }
        if (json)
                printf("]}\n");
}

static void print_log(const struct sim_segment *s)
{
        uint64_t from = s->n_log > SIM_LOG_MAX ? s->n_log - SIM_LOG_MAX : 0;

        printf("start_ns,end_ns,pid,context,kind,runnable\n");
        for (uint64_t i = from; i < s->n_log; i++) {
                const struct sim_log_entry *e = &s->log[i % SIM_LOG_MAX];

                printf("%" PRIu64 ",%" PRIu64 ",%u,%u,%s,%u\n", e->start_ns, e->end_ns, e->pid, e->context,
                       e->kind == SIM_LOG_RUN ? "run" : "switch", e->n_runnable);
        }
}

// What an order is given: numbers, or for status whether in JSON. A missing one is 0.
typedef int (*obey_fn)(struct sim_segment *s, const uint64_t n[2]);

static int status(struct sim_segment *s, const uint64_t n[2])
{
        return print_status(s, n[0] != 0), 0;
}

static int list_log(struct sim_segment *s, const uint64_t n[2])
{
        (void)n;
        return print_log(s), 0;
}

static int unknown_process(void)
{
        fputs("simgpu: no such process uses the device\n", stderr);
        return 1;
}

static int hang(struct sim_segment *s, const uint64_t n[2])
{
        int n_hung = 0;

        for (int c = 0; c < SIM_CONTEXTS_MAX; c++)
                if (s->device.context[c].used && s->process[s->device.context[c].process].pid == n[0])
                        n_hung += s->device.context[c].hung = 1;
        return n_hung ? 0 : unknown_process();
}

static int kill_later(struct sim_segment *s, const uint64_t n[2])
{
        for (int p = 0; p < SIM_PROCESSES_MAX; p++)
                if (s->process[p].pid && s->process[p].pid == n[0]) {
                        s->kill_pid = (uint32_t)n[0];
                        s->kill_after = n[1];
                        return 0;
                }
        return unknown_process();
}

static int lose(struct sim_segment *s, const uint64_t n[2])
{
        (void)n;
        s->lost = 1;
        sim_segment_xid(s, 79); // GPU has fallen off the bus
        return 0;
}

static int raise_xid(struct sim_segment *s, const uint64_t n[2])
{
        return sim_segment_xid(s, (uint32_t)n[0]), 0;
}

static int count_ecc(struct sim_segment *s, const uint64_t n[2])
{
        return s->n_ecc_errors += n[0], 0;
}

static int fail_allocations(struct sim_segment *s, const uint64_t n[2])
{
        return s->fail_allocations = n[0], 0;
}

static int slow_copies(struct sim_segment *s, const uint64_t n[2])
{
        return s->copy_slowdown = n[0], 0;
}

// As nvidia-smi --gpu-reset: not under somebody's feet.
static int gpu_reset(struct sim_segment *s, const uint64_t n[2])
{
        (void)n;
        for (int p = 0; p < SIM_PROCESSES_MAX; p++)
                if (s->process[p].pid)
                        return fprintf(stderr, "simgpu: in use by process %u\n", s->process[p].pid), 1;
        s->lost = 0;
        s->n_ecc_errors = s->fail_allocations = s->copy_slowdown = 0;
        return 0;
}

// Where the settings are refused the name may be another device's.
static int remove_device(uint32_t device)
{
        if (sim_settings_check())
                return 69;
        return shm_unlink(sim_segment_name(device)), 0;
}

struct order {
        const char *word;
        int least, most; // so many numbers follow
        obey_fn obey;
};

static const struct order orders[] = {{"status", 0, 0, status},
                                      {"log", 0, 0, list_log},
                                      {"gpu-reset", 0, 0, gpu_reset},
                                      {NULL, 0, 0, NULL}};
static const struct order faults[] = {{"lose", 0, 0, lose},
                                      {"hang", 1, 1, hang},
                                      {"kill", 1, 2, kill_later},
                                      {"xid", 1, 1, raise_xid},
                                      {"ecc", 1, 1, count_ecc},
                                      {"fail-alloc", 1, 1, fail_allocations},
                                      {"slow-copies", 1, 1, slow_copies},
                                      {NULL, 0, 0, NULL}};

// 0, or -1 for what is no number.
static int number(const char *text, uint64_t *ret)
{
        char *end;

        *ret = strtoull(text, &end, 0);
        return *text && !*end && *text != '-' ? 0 : -1;
}

// 0, or the exit status of a wrong order; standard error was told then.
static int understand(const struct order *o, int n, char **args, const struct order **ret,
                      uint64_t numbers[2])
{
        while (o->word && strcmp(o->word, args[0]))
                o++;
        if (!o->word || n - 1 < o->least || n - 1 > o->most)
                return fputs(usage, stderr), 2;
        for (int i = 1; i < n; i++)
                if (number(args[i], &numbers[i - 1]))
                        return fprintf(stderr, "simgpu: not a number: %s\n", args[i]), 2;
        *ret = o;
        return 0;
}

// What was refused is told already.
static int no_device(void)
{
        if (!*sim_settings_refused())
                perror("simgpu: no device");
        return 69;
}

static int obey(uint32_t device, const struct order *o, const uint64_t numbers[2])
{
        struct sim_segment *s = sim_segment_open(device);
        int ret;

        if (!s)
                return no_device();
        sim_segment_lock(s);
        sim_segment_sweep(s);
        ret = o->obey(s, numbers);
        sim_segment_unlock(s);
        return ret;
}

// A wrong order makes no device.
int main(int argc, char **argv)
{
        uint64_t device = 0, numbers[2] = {0, 0};
        const struct order *order;
        int ret, is_fault;

        if (argc > 2 && !strcmp(argv[1], "--device")) {
                if (number(argv[2], &device) || device >= SIM_DEVICES_MAX)
                        return fprintf(stderr, "simgpu: not a device: %s\n", argv[2]), 2;
                argc -= 2;
                argv += 2;
        }
        if (argc < 2 || !strcmp(argv[1], "--help"))
                return fputs(usage, argc < 2 ? stderr : stdout), argc < 2 ? 2 : 0;
        if (argc == 2 && !strcmp(argv[1], "reset"))
                return remove_device((uint32_t)device);
        if (argc == 3 && !strcmp(argv[1], "status") && !strcmp(argv[2], "--json"))
                argc--, numbers[0] = 1;
        is_fault = argc > 2 && !strcmp(argv[1], "inject");
        ret = understand(is_fault ? faults : orders, argc - 1 - is_fault, argv + 1 + is_fault, &order,
                         numbers);
        return ret ? ret : obey((uint32_t)device, order, numbers);
}
