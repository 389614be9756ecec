// simgpu: looks at the simulated device and breaks it on demand.
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include "simgpu/segment.h"

static const char usage[] =
        "usage: simgpu status [--json]   what the device did, and who uses it\n"
        "       simgpu log               every interval: start_ns,end_ns,pid,context,kind,runnable\n"
        "       simgpu inject xid N      raise an error event\n"
        "       simgpu inject lose       the device falls off the bus\n"
        "       simgpu inject hang PID   the process's work never ends\n"
        "       simgpu inject fail-alloc N\n"
        "       simgpu inject slow-copies FACTOR\n"
        "       simgpu reset             remove the device; the next program makes a new one\n"
        "The device is named by SIMGPU_NAME.\n";

static uint64_t busy_of(const struct sim_segment *s, uint32_t process)
{
        uint64_t ns = 0;

        for (int c = 0; c < SIM_CONTEXTS_MAX; c++)
                if (s->device.context[c].used && s->device.context[c].process == process)
                        ns += s->device.context[c].busy_ns;
        return ns;
}

static void status(struct sim_segment *s, int json)
{
        const struct sim_device *d = &s->device;
        int first = 1;

        printf(json ? "{\"simulated\":true,\"now_ns\":%" PRIu64 ",\"busy_ns\":%" PRIu64
                      ",\"switch_ns\":%" PRIu64 ",\"switches\":%" PRIu64 ",\"memory_used\":%" PRIu64
                      ",\"memory\":%" PRIu64 ",\"processes\":["
                    : "simulated device at %" PRIu64 " ns: busy %" PRIu64 " ns, switching %" PRIu64
                      " ns, %" PRIu64 " switches, memory %" PRIu64 " of %" PRIu64 " bytes\n",
               d->now_ns, d->busy_ns, d->switching_ns, d->switches, s->memory_used_bytes, s->memory_bytes);
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

static int inject(struct sim_segment *s, const char *what, uint64_t n)
{
        if (!strcmp(what, "xid")) {
                s->xid = (uint32_t)n;
                s->n_xids++;
        } else if (!strcmp(what, "lose")) {
                s->lost = 1;
                s->xid = 79;
                s->n_xids++;
        } else if (!strcmp(what, "fail-alloc")) {
                s->fail_allocations = n;
        } else if (!strcmp(what, "slow-copies")) {
                s->copy_slowdown = n;
        } else if (!strcmp(what, "hang")) {
                for (int c = 0; c < SIM_CONTEXTS_MAX; c++)
                        if (s->device.context[c].used && s->process[s->device.context[c].process].pid == n)
                                s->device.context[c].hung = 1;
        } else {
                return fputs(usage, stderr), 2;
        }
        return 0;
}

int main(int argc, char **argv)
{
        struct sim_segment *s;
        int ret = 0;

        if (argc < 2 || !strcmp(argv[1], "--help"))
                return fputs(usage, argc < 2 ? stderr : stdout), argc < 2 ? 2 : 0;
        if (!strcmp(argv[1], "reset"))
                return shm_unlink(sim_segment_name()), 0;
        if (!(s = sim_segment_open()))
                return perror("simgpu: no device"), 69;
        sim_segment_lock(s);
        sim_segment_sweep(s);
        if (!strcmp(argv[1], "status"))
                status(s, argc > 2 && !strcmp(argv[2], "--json"));
        else if (!strcmp(argv[1], "log"))
                print_log(s);
        else if (!strcmp(argv[1], "inject") && argc > 2)
                ret = inject(s, argv[2], argc > 3 ? strtoull(argv[3], NULL, 0) : 1);
        else
                ret = (fputs(usage, stderr), 2);
        sim_segment_unlock(s);
        return ret;
}
