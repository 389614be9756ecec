// This process's session with the daemon: its pages, and the gate of each device.
#pragma once
#include <stdatomic.h>
#include <stdint.h>
#include "wire/page.h"

struct lease {
        _Atomic(const struct takt_page_daemon *) daemon; // NULL: not joined
        _Atomic(struct takt_page_client *)
                client; // the last one: it stays when the daemon goes, and keeps count
        _Atomic(struct takt_page_tenant *) tenant;
        _Atomic int socket, kick, wake;          // -1: none
        _Atomic int8_t lane_of[TAKT_PAGE_LANES]; // CUDA ordinal to lane; -1: not Takt's
        _Atomic int refuse_on_loss;              // TAKT_ON_LOSS
        _Atomic uint64_t checked_ns;             // when the socket was last looked at
};

extern struct lease lease;

// The word that the launch path loads: 0 while nothing stands in the way of a submission.
static inline uint32_t lease_attention(void)
{
        // Acquired: another thread may have mapped it just now.
        const struct takt_page_daemon *page = atomic_load_explicit(&lease.daemon, memory_order_acquire);

        return page ? atomic_load_explicit(&page->attention, memory_order_relaxed) : 1;
}

// Asks for a session at the socket named in TAKT_SOCKET, or takes up the last one again if its daemon was
// silent and is not any more. uuids: n_devices times 16 bytes, in the order of the
// CUDA ordinals. At most one try a second, fewer where a try takes long. Returns 0, or a negative errno (the
// process then runs without Takt).
int lease_join(const uint8_t *uuids, uint32_t n_devices, uint64_t now_ns);
// Whether it is time for the next try.
int lease_is_due(uint64_t now_ns);
// Whether this process was told of a daemon at all.
int lease_wanted(void);
// Looks at most once a second whether the daemon is still there; drops the session if not.
void lease_check(uint64_t now_ns);
// The same, now.
void lease_look(void);
// Whether this descriptor is still the pipe by which the daemon wakes us: a host may have closed it and have
// a file of its own there.
int lease_is_wake(int fd);
// The lane of a device (by CUDA ordinal), as the last session said; -1: not Takt's.
static inline int lease_lane(int device)
{
        return device >= 0 && device < TAKT_PAGE_LANES ? lease.lane_of[device] : -1;
}
// The quota that the tenant is held to on this device (by CUDA ordinal), bytes; 0: none, another tenant's
// device, or no daemon.
static inline uint64_t lease_quota(int device)
{
        const struct takt_page_daemon *page = atomic_load(&lease.daemon);
        int lane = page ? lease_lane(device) : -1;

        return lane >= 0 ? atomic_load_explicit(&page->lane[lane].memory_quota, memory_order_relaxed) : 0;
}
// The quota that it is told of: the same, but while there is no daemon what the environment says. That is of
// the device of the last session; of each one, if there was none yet, so that nobody takes too much.
uint64_t lease_quota_told(int device);
// Tells the daemon that the page has news.
void lease_kick(void);
// Waits while the lane's gate is closed. Returns 0 when it is open, 1 when the daemon has gone, or has not
// answered for 5 s.
int lease_wait(unsigned lane);
