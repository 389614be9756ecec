// The device shared by all processes: its state in shared memory, and waiting for it.
#pragma once
#include <pthread.h>
#include <stdint.h>
#include "simgpu/device.h"
#include "simgpu/pool.h"

#define SIM_PROCESSES_MAX 64
#define SIM_XIDS_MAX 16
#define SIM_DEVICES_MAX 8

// Copy engines, by the way that a copy takes.
enum { SIM_ENGINE_IN, SIM_ENGINE_OUT, SIM_ENGINE_WITHIN, SIM_ENGINES };

struct sim_engine {
        uint64_t free_at_ns; // what it has taken on is done then
        uint64_t busy_ns;
};

struct sim_process {
        uint32_t pid; // 0: free
        uint32_t reserved;
        uint64_t started; // the kernel's start time of the pid, so that a reused pid is told apart
        uint64_t memory_bytes;
        char name[16];
};

struct sim_segment {
        uint32_t magic, version;
        pthread_mutex_t lock; // robust: a process that dies with it does not take the device along
        uint64_t memory_bytes, memory_used_bytes;
        uint32_t lost;              // the device has fallen off the bus
        uint32_t n_lanes;           // streams of one context that overlap; 1: none
        uint32_t cleared;           // memory is zero for each new owner
        uint32_t ecc, confidential; // states that NVML tells
        uint32_t kill_pid;          // this process is killed in the middle of a submission,
        uint64_t kill_after;        // once so many more are through
        uint64_t n_ecc_errors;      // uncorrected
        uint64_t n_xids;            // error events so far
        uint32_t xid[SIM_XIDS_MAX]; // the last of them, a ring
        uint64_t fail_allocations;  // so many of the next allocations fail
        uint64_t copy_slowdown;     // copies take this many times as long; 0 and 1: as usual
        struct sim_engine engine[SIM_ENGINES];
        struct sim_pool pool;
        struct sim_process process[SIM_PROCESSES_MAX];
        struct sim_device device;
        uint64_t n_log; // entries ever written; the ring holds the last SIM_LOG_MAX
        struct sim_log_entry log[SIM_LOG_MAX];
};

// How many devices this process sees: SIMGPU_DEVICES. The first is named by SIMGPU_NAME (default "simgpu0"),
// the next ones by that and their number, NAME-1 and so on.
uint32_t sim_devices(void);
// Maps a device's segment, making it with the configuration in the environment if it is not there. Returns
// NULL with errno set.
struct sim_segment *sim_segment_open(uint32_t device);
// Name of the segment as shm_open takes it; static storage of at least 64 bytes is filled.
const char *sim_segment_name(uint32_t device);

// Locks the device and moves it to now; clears what a dead process left where the table is full.
void sim_segment_lock(struct sim_segment *segment);
void sim_segment_unlock(struct sim_segment *segment);
// Drops contexts and memory of processes that are gone. Call with the lock held.
void sim_segment_sweep(struct sim_segment *segment);

// This process's entry; made on first use. Call with the lock held. -1 when the table is full.
int sim_segment_process(struct sim_segment *segment);
// A context for this process. Call with the lock held. -1 when the table is full.
int sim_segment_context(struct sim_segment *segment);

// Raises an error event. Call with the lock held.
void sim_segment_xid(struct sim_segment *segment, uint32_t xid);
// Gives a copy that can begin at `from_ns` to an engine; returns when it is done. Call with the lock held.
uint64_t sim_segment_copy(struct sim_segment *segment, int engine, uint64_t from_ns, uint64_t cost_ns);
// The device memory at the pool's offset, mapped at `at` (NULL: anywhere). NULL when that fails.
void *sim_segment_map(uint32_t device, uint64_t offset, uint64_t bytes, void *at);

// Waits until the lane has done the work up to the position, asleep or (`spins`) on the processor all the
// while; returns 0, or -EIO when the device is lost.
int sim_segment_wait(struct sim_segment *segment, uint32_t context, uint32_t lane, uint64_t position_ns,
                     int spins);
// Waits for a time, in the same two ways; none of it if it is too near to be worth going to sleep.
void sim_wait_until(uint64_t when_ns, int spins);
