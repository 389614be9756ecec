// The lease pages: what shim and daemon share, and the whole of what a launch through an open gate looks at.
//
// Each session (one process of a tenant) has two pages with one writer each. The daemon's page says which
// gates are open; the client maps it read-only, and the memory is sealed so that it cannot do otherwise. The
// client's page says what the client does; it can lie only about the client, and the daemon reads it as a
// hint that it checks. A third page belongs to the tenant: its processes count their memory there together.
//
// A page has one lane per device. The layout is an ABI: tests/wire pins every offset; a change of meaning
// raises TAKT_WIRE_MAJOR, a new field in reserved space raises TAKT_WIRE_MINOR.
//
// How a gate closes without a fence on the launch path: the shim first publishes that it is busy, then looks
// at the gate. The daemon first closes the gate, then calls membarrier(2), which orders the two in every
// running thread, then looks at the activity. So either the daemon sees the work or the shim sees the closed
// gate (Dekker's argument, with the cost moved to the one who closes).
#pragma once
#include <stdatomic.h>
#include <stdint.h>

#define TAKT_PAGE_SIZE 4096
#define TAKT_PAGE_LANES 16
#define TAKT_PAGE_DAEMON_MAGIC UINT32_C(0x4b415444) // "DTAK"
#define TAKT_PAGE_CLIENT_MAGIC UINT32_C(0x4b415443) // "CTAK"
#define TAKT_PAGE_TENANT_MAGIC UINT32_C(0x4b415454) // "TTAK"

// What a gate word holds in its low two bits. The rest is an epoch that grows with every change, so that a
// futex wait never sleeps through a close, open, close.
enum takt_gate_state {
        TAKT_GATE_CLOSED = 0, // wait on the word
        TAKT_GATE_OPEN = 1,   // submit; others have a seat on the device: bound the work in flight
        TAKT_GATE_FREE = 2,   // submit; nobody else is there: no bound
};

#define TAKT_GATE_STATE(word) ((word)&3u)

struct takt_lane_daemon {
        _Atomic uint32_t gate;     // futex word: epoch << 2 | takt_gate_state
        _Atomic uint32_t waiters;  // not 0: somebody waits for this device, so kick at the end of each step
        _Atomic uint64_t bound_ns; // most estimated GPU time in flight while the gate is OPEN; 0: no bound
        _Atomic uint64_t memory_quota; // bytes of device memory for the whole tenant; 0: no quota
        uint8_t reserved[104];
};

struct takt_page_daemon {
        uint32_t magic;
        uint16_t major, minor;
        uint32_t features;
        _Atomic uint32_t attention; // 0 only while every lane is FREE: the one word that the fast path loads
        uint64_t tenant;            // the daemon's number of the tenant
        uint64_t generation;        // start time of the daemon, ns: another daemon, another generation
        uint8_t reserved0[32];
        _Atomic uint32_t answers; // minor 1: kicks of this session that the daemon has seen to
        uint8_t reserved[188];
        struct takt_lane_daemon lane[TAKT_PAGE_LANES];
};

struct takt_lane_client {
        // Since when (ns, CLOCK_MONOTONIC, lowest bit cleared) the lane is idle, or busy if the lowest bit is
        // set.
        _Atomic uint64_t activity;
        _Atomic uint64_t busy_ns;     // GPU busy time of all finished bursts
        _Atomic uint64_t step_end_ns; // when the last step ended
        _Atomic uint64_t launches;    // submissions seen (those of the fast path are not counted)
        _Atomic uint64_t memory_used; // bytes of device memory that this process holds
        _Atomic uint32_t steps;    // finished steps: bursts that did at least TAKT_STEP_NS of work together
        _Atomic uint32_t want;     // threads that wait at the gate
        _Atomic uint64_t drain_ns; // the longest drain after a close
        uint8_t reserved[72];
};

struct takt_page_client {
        uint32_t magic;
        uint32_t pid; // in the client's own pid namespace; a hint for people
        uint8_t reserved[248];
        struct takt_lane_client lane[TAKT_PAGE_LANES];
};

struct takt_page_tenant {
        uint32_t magic;
        uint32_t reserved0;
        uint8_t reserved[248];
        struct {
                _Atomic uint64_t memory_used; // bytes, all processes of the tenant together
                uint8_t reserved[56];
        } lane[TAKT_PAGE_LANES];
};

// A burst shorter than this is part of the next one (engines copy a few words in before each step).
#define TAKT_STEP_NS UINT64_C(200000)
// A client that becomes busy after an idle time longer than this kicks: the daemon need not look at idle
// pages.
#define TAKT_PAUSE_NS UINT64_C(1000000000)

static inline uint64_t takt_activity_idle(uint64_t since_ns)
{
        return since_ns & ~UINT64_C(1);
}

static inline uint64_t takt_activity_busy(uint64_t since_ns)
{
        return since_ns | 1;
}

// What the daemon believes of a lane after reading it, whatever the client wrote there.
struct takt_lane_view {
        uint64_t since_ns; // at most `now_ns`
        uint64_t busy_ns;
        uint64_t memory_used;
        uint32_t steps;
        uint32_t want;
        int busy; // 0 or 1
};

// Reads one lane of a client's page. Values that cannot be (a time to come) are brought back into range;
// counts are taken as they are. lane: 0 to TAKT_PAGE_LANES - 1.
void takt_page_read_lane(const struct takt_page_client *page, unsigned lane, uint64_t now_ns,
                         struct takt_lane_view *ret_view);
