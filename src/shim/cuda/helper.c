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

static _Atomic(const void *) served; // the session that has a thread

static void look(void)
{
        unsigned used = atomic_load(&place_lanes);

        for (int lane = 0; used >> lane; lane++)
                if (used >> lane & 1)
                        settle_wait(lane);
}

static void *run(void *session)
{
        struct pollfd fds[] = {{lease.wake, POLLIN, 0}, {lease.socket, 0, 0}};
        const void *ours = session;
        char news[64];

        prctl(PR_SET_NAME, "takt");
        while (atomic_load(&lease.daemon) == session) {
                if (poll(fds, 2, -1) < 0)
                        continue;   // stopped and gone on, or traced
                if (fds[1].revents) // the daemon has gone
                        lease_look();
                if (!lease_is_wake(fds[0].fd)) // the host's now: nothing of it is ours to read
                        return NULL;
                if (fds[0].revents && read(fds[0].fd, news, sizeof news) > 0)
                        look();
        }
        atomic_compare_exchange_strong(&served, &ours, NULL); // the session may be taken up again
        return NULL;
}

void helper_start(void)
{
        const void *session = atomic_load(&lease.daemon);
        pthread_attr_t attributes;
        sigset_t all, old;
        pthread_t thread;

        if (!session || atomic_load_explicit(&served, memory_order_relaxed) == session ||
            atomic_exchange(&served, session) == session)
                return;
        sigfillset(&all); // the host's signals are for the host's threads
        pthread_sigmask(SIG_SETMASK, &all, &old);
        pthread_attr_init(&attributes);
        pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
        pthread_create(&thread, &attributes, run,
                       (void *)session); // without it we are as good as a driver without events
        pthread_attr_destroy(&attributes);
        pthread_sigmask(SIG_SETMASK, &old, NULL);
}

void helper_in_child(void)
{
        atomic_store(&served, NULL);
}
