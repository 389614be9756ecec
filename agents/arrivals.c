#include "arrivals.h"
#include <errno.h>
#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include "base/clock.h"
#include "base/random.h"
#include "base/time.h"
#include "client/takt.h"

static struct {
        pthread_mutex_t lock;
        pthread_cond_t more;
        struct request *request;
        int n, n_due;
} arrivals = {.lock = PTHREAD_MUTEX_INITIALIZER, .more = PTHREAD_COND_INITIALIZER};

static int append(struct request **all, int n, struct request request)
{
        struct request *more;

        if ((n & (n - 1)) == 0) {
                more = realloc(*all, sizeof *more * (n ? 2 * (size_t)n : 1));
                if (!more)
                        return -ENOMEM;
                *all = more;
        }
        snprintf(request.id, sizeof request.id, "%d", n + 1);
        (*all)[n] = request;
        return n + 1;
}

int arrivals_plan(const struct arrival_wish *wish, struct request **ret)
{
        struct takt_random random;
        double at_s = 0, prefill_ms;
        int n = 0;

        *ret = NULL;
        takt_random_seed(&random, wish->seed);
        while (n >= 0) {
                at_s += -log(1 - takt_random_unit(&random)) / wish->rate;
                if (at_s >= wish->seconds)
                        break;
                prefill_ms = wish->prefill_ms[0] +
                             takt_random_unit(&random) * (wish->prefill_ms[1] - wish->prefill_ms[0]);
                n = append(ret, n,
                           (struct request){.due_ns = (uint64_t)(at_s * 1e9),
                                            .prefill_ns = prefill_ms * 1e6,
                                            .tokens = (uint32_t)takt_random_range(&random, wish->tokens[0],
                                                                                  wish->tokens[1])});
        }
        return n;
}

static void sleep_until(uint64_t when_ns)
{
        struct timespec t = {.tv_sec = (time_t)(when_ns / TAKT_S), .tv_nsec = (long)(when_ns % TAKT_S)};

        while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &t, NULL) == EINTR)
                ;
}

static void *arrive(void *unused)
{
        (void)unused;
        for (int i = 0; i < arrivals.n; i++) {
                sleep_until(arrivals.request[i].due_ns);
                takt_request_arrived(arrivals.request[i].id, 0);
                pthread_mutex_lock(&arrivals.lock);
                arrivals.n_due = i + 1;
                pthread_cond_signal(&arrivals.more);
                pthread_mutex_unlock(&arrivals.lock);
        }
        return NULL;
}

int arrivals_start(struct request *requests, int n)
{
        uint64_t now = takt_clock_now();
        pthread_t thread;
        int error;

        for (int i = 0; i < n; i++)
                requests[i].due_ns += now;
        arrivals.request = requests;
        arrivals.n = n;
        error = pthread_create(&thread, NULL, arrive, NULL);
        if (!error)
                pthread_detach(thread);
        return -error;
}

int arrivals_wait(int known)
{
        int n;

        pthread_mutex_lock(&arrivals.lock);
        while (arrivals.n_due <= known)
                pthread_cond_wait(&arrivals.more, &arrivals.lock);
        n = arrivals.n_due;
        pthread_mutex_unlock(&arrivals.lock);
        return n;
}

int arrivals_count(void)
{
        return arrivals_wait(-1);
}
