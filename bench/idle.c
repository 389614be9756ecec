// A daemon at rest: how often it wakes, and what it holds in memory. Two agents are there and idle.
#include <signal.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>
#include "bench.h"
#include "agent.h"

#define SECONDS 10

// A number from /proc/PID/status, all threads of a daemon being one.
static long of_status(pid_t pid, const char *field)
{
        char path[64], line[128];
        long value = -1;
        FILE *file;

        snprintf(path, sizeof path, "/proc/%d/status", pid);
        file = fopen(path, "r");
        while (file && fgets(line, sizeof line, file))
                if (!strncmp(line, field, strlen(field)))
                        value = atol(line + strlen(field) + 1);
        if (file)
                fclose(file);
        return value;
}

static pid_t idle_agent(const char *name)
{
        int ready[2];
        char byte;
        pid_t pid;

        if (pipe(ready) < 0)
                return -1;
        pid = fork();
        if (pid == 0) {
                if (agent_join(name) || write(ready[1], "1", 1) != 1)
                        _exit(1);
                for (;;)
                        pause();
        }
        close(ready[1]);
        if (read(ready[0], &byte, 1) != 1)
                return -1;
        close(ready[0]);
        return pid;
}

int main(int argc, char **argv)
{
        struct bench bench;
        pid_t daemon, a, b;
        long woken;

        if (bench_init(&bench, "idle", "a daemon at rest, with two idle agents", argc, argv))
                return 0;
        daemon = agent_daemon();
        a = idle_agent("a");
        b = idle_agent("b");
        if (daemon < 0 || a < 0 || b < 0)
                return fprintf(stderr, "bench idle: no daemon\n"), 69;
        sleep(2); // what was begun comes to rest
        woken = of_status(daemon, "voluntary_ctxt_switches");
        sleep(SECONDS);
        woken = of_status(daemon, "voluntary_ctxt_switches") - woken;
        bench_row(&bench, "wake-ups in 10 s", (double)woken, 0, "");
        bench_row(&bench, "resident memory", (double)of_status(daemon, "VmRSS") / 1024, 8, "MiB");
        kill(a, SIGKILL);
        kill(b, SIGKILL);
        agent_end(daemon);
        return bench_end(&bench);
}
