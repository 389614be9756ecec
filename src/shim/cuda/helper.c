// The one thread of ours, and only in a process that shares its device with others: when the gate has closed
// and the daemon hears nothing for long, it waits for the work in flight in the host's stead. A host that
// learns of its results by a callback, or never synchronises, would hold the device otherwise. It sleeps in
// poll and never wakes by itself.
#include <poll.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/prctl.h>
#include <unistd.h>
#include "base/clock.h"
#include "shim/cuda/lane.h"
#include "shim/cuda/place.h"

static _Atomic int running;

static void look(void)
{
        unsigned used = atomic_load(&place_lanes);

        for (int lane = 0; used >> lane; lane++)
                if (used >> lane & 1)
                        settle_wait(lane);
}

static void *run(void *session)
{
        const struct takt_page_daemon *page = session;
        struct pollfd fds[] = {{lease.wake, POLLIN, 0}, {lease.socket, 0, 0}};
        char news[64];

        prctl(PR_SET_NAME, "takt");
        while (atomic_load(&lease.daemon) == page && poll(fds, 2, -1) > 0) {
                if (fds[1].revents) // the daemon has gone
                        lease_look();
                else if (read(fds[0].fd, news, sizeof news) > 0)
                        look();
        }
        atomic_store(&running, 0);
        return NULL;
}

void helper_start(void)
{
        void *session = (void *)atomic_load(&lease.daemon);
        pthread_attr_t attributes;
        sigset_t all, old;
        pthread_t thread;

        if (atomic_load_explicit(&running, memory_order_relaxed) || !session || atomic_exchange(&running, 1))
                return;
        sigfillset(&all); // the host's signals are for the host's threads
        pthread_sigmask(SIG_SETMASK, &all, &old);
        pthread_attr_init(&attributes);
        pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
        pthread_create(&thread, &attributes, run,
                       session); // without it we are as good as a driver without events
        pthread_attr_destroy(&attributes);
        pthread_sigmask(SIG_SETMASK, &old, NULL);
}

void helper_in_child(void)
{
        atomic_store(&running, 0);
}
