// From wanting the device to having it, through the daemon, while its holder is idle; against the two
// wake-ups that it cannot do without (eventfd to a process in epoll, futex back), taken in turns in the same
// run. Where there are two CPUs, who asks is on one and who answers on the other, in both: else the ratio
// says which of the servers the kernel put nearer.
#include <linux/futex.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <signal.h>
#include <unistd.h>
#include "agent.h"
#include "base/clock.h"
#include "bench.h"
#include "client/takt.h"

#define ROUNDS 4000

static struct shared {
        _Atomic uint32_t word; // of the bare wake-up
        uint64_t through[2 * ROUNDS], bare[2 * ROUNDS];
} * shared;

static int request; // eventfd to the bare server
static int turn[2][2];

static void keep_on(pid_t pid, int cpu)
{
        cpu_set_t set;

        CPU_ZERO(&set);
        CPU_SET((size_t)cpu, &set);
        if (sysconf(_SC_NPROCESSORS_ONLN) > 1)
                sched_setaffinity(pid, sizeof set, &set);
}

// What a daemon that did nothing at all would do.
static void serve(void)
{
        struct epoll_event event = {.events = EPOLLIN};
        int epoll = epoll_create1(0);
        uint64_t n;

        epoll_ctl(epoll, EPOLL_CTL_ADD, request, &event);
        while (epoll_wait(epoll, &event, 1, -1) == 1 && read(request, &n, sizeof n) == sizeof n) {
                atomic_fetch_add(&shared->word, 1);
                syscall(SYS_futex, &shared->word, FUTEX_WAKE, 1, NULL, NULL, 0);
        }
}

static uint64_t bare(void)
{
        uint32_t word = atomic_load(&shared->word);
        uint64_t one = 1, start = takt_clock_now();

        if (write(request, &one, sizeof one) != sizeof one)
                exit(1);
        while (atomic_load(&shared->word) == word)
                syscall(SYS_futex, &shared->word, FUTEX_WAIT, word, NULL, NULL, 0);
        return takt_clock_now() - start;
}

static uint64_t through(void)
{
        uint64_t start = takt_clock_now();

        if (lease_wait(0))
                exit(1);
        return takt_clock_now() - start;
}

// A step of no length: the device is used, and idle again.
static void step(void)
{
        struct takt_lane_client *lane = &lease.client->lane[0];

        atomic_store(&lane->activity, takt_activity_busy(takt_clock_now()));
        atomic_store(&lane->steps, lane->steps + 1);
        atomic_store(&lane->activity, takt_activity_idle(takt_clock_now()));
}

static void agent(int me)
{
        char byte = 0;

        if (agent_join(me ? "b" : "a"))
                exit(1);
        takt_request_arrived("r", 0); // its requests are seen, and it has none: it holds nothing back
        takt_request_finished("r");
        for (int i = 0; i < ROUNDS; i++) {
                if (read(turn[me][0], &byte, 1) != 1)
                        exit(1);
                shared->through[2 * i + me] = through();
                step();
                shared->bare[2 * i + me] = bare();
                if (write(turn[!me][1], &byte, 1) != 1)
                        exit(1);
        }
        pause(); // the other one's last hand-over comes from us
        exit(0);
}

// Whoever of us ends before that did not do its part: its turn would be waited for without end.
static int wait_for_the_last(void)
{
        while (!shared->bare[2 * ROUNDS - 1]) {
                if (waitpid(-1, NULL, WNOHANG) > 0)
                        return -1;
                usleep(100000);
        }
        return 0;
}

static int by_value(const void *a, const void *b)
{
        uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

        return (x > y) - (x < y);
}

static double at(uint64_t *sorted, int permille)
{
        return (double)sorted[2 * ROUNDS * permille / 1000];
}

int main(int argc, char **argv)
{
        struct bench bench;
        pid_t daemon, server, agents[2];
        char byte = 0;
        int broken;

        if (bench_init(&bench, "handover", "from wanting an idle device to having it, two processes in turns",
                       argc, argv))
                return 0;
        shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
        request = eventfd(0, 0);
        if (shared == MAP_FAILED || pipe(turn[0]) < 0 || pipe(turn[1]) < 0 || (daemon = agent_daemon()) < 0)
                return fprintf(stderr, "bench handover: no daemon\n"), 69;
        keep_on(daemon, 1);
        if ((server = fork()) == 0) {
                keep_on(0, 1);
                serve();
        }
        for (int i = 0; i < 2; i++)
                if ((agents[i] = fork()) == 0) {
                        keep_on(0, 0);
                        agent(i);
                }
        if (write(turn[0][1], &byte, 1) != 1)
                return 1;
        broken = wait_for_the_last();
        for (int i = 0; i < 2; i++)
                kill(agents[i], SIGKILL);
        kill(server, SIGKILL);
        agent_end(daemon);
        if (broken)
                return fprintf(stderr, "bench handover: an agent, or who answers it, has ended\n"), 69;
        qsort(shared->through, 2 * ROUNDS, sizeof(uint64_t), by_value);
        qsort(shared->bare, 2 * ROUNDS, sizeof(uint64_t), by_value);
        bench_row(&bench, "two bare wake-ups, p50", at(shared->bare, 500) / 1e3, -1, "us");
        bench_row(&bench, "two bare wake-ups, p99", at(shared->bare, 990) / 1e3, -1, "us");
        bench_row(&bench, "through the daemon, p50", at(shared->through, 500) / 1e3, -1, "us");
        bench_row(&bench, "through the daemon, p99", at(shared->through, 990) / 1e3, -1, "us");
        bench_row(&bench, "p50, times the bare wake-ups", at(shared->through, 500) / at(shared->bare, 500),
                  1.3, "x");
        bench_row(&bench, "p99, times the bare wake-ups", at(shared->through, 990) / at(shared->bare, 990),
                  1.5, "x");
        return bench_end(&bench);
}
