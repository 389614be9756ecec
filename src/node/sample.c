// Reads every session's page at least fifty times a second while any is at work, for the account of what its
// tenant used. The scheduler hears of steps by itself; an agent that is alone tells nobody, and would have no
// account otherwise.
#include <sys/timerfd.h>
#include <unistd.h>
#include "base/clock.h"
#include "node/node.h"

// `sampling`: whether the timer runs; it rests while all are idle, until one kicks.
static void arm(struct node *node, int on)
{
        struct itimerspec spec = {0};

        if (!node->sampling && !on)
                return;
        node->sampling = (uint8_t)on;
        if (on)
                spec.it_value.tv_nsec = NODE_SAMPLE_NS;
        timerfd_settime(node->sample.fd, 0, &spec, NULL);
}

int sample_session(struct node *node, struct session *s)
{
        struct tenant *t = &node->tenant[s->tenant];
        uint64_t now_ns = takt_clock_now();
        struct takt_lane_view view;

        session_read(node, s, now_ns, &view);
        usage_add(&t->usage, view.busy_ns - s->sampled_busy_ns, now_ns);
        s->sampled_busy_ns = view.busy_ns;
        t->usage.memory_max = takt_time_max(t->usage.memory_max, t->page->lane[t->device].memory_used);
        return view.busy || takt_time_since(now_ns, view.since_ns) <= TAKT_PAUSE_NS;
}

static void sample_all(struct node *node)
{
        uint32_t n_left = node->n_sessions;
        int any = 0;

        // Places are given from the first on, so that the search ends early.
        for (struct session *s = node->session; n_left && s < node->session + NODE_SESSIONS_MAX; s++)
                if (s->used && s->client) {
                        any |= sample_session(node, s);
                        n_left--;
                }
        node->sampled_ns = takt_clock_now();
        arm(node, any);
}

static void due(struct node *node, struct watch *watch, uint32_t events)
{
        uint64_t n;

        (void)events;
        if (read(watch->fd, &n, sizeof n) == sizeof n)
                sample_all(node);
}

int sample_start(struct node *node)
{
        return watch_add(node, &node->sample, timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK), 0,
                         due);
}

// While many kick, this is often enough that the timer, put off each time, wakes nobody.
void sample_wake(struct node *node)
{
        if (!node->sampling)
                arm(node, 1);
        else if (takt_time_since(takt_clock_now(), node->sampled_ns) >= NODE_SAMPLE_NS / 2)
                sample_all(node);
}
