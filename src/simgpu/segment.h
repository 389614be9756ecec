// The device shared by all processes: its state in shared memory, and waiting for it without burning the CPU.
#pragma once
#include <pthread.h>
#include <stdint.h>
#include "simgpu/device.h"

#define SIM_PROCESSES_MAX 64

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
        uint32_t lost;             // the device has fallen off the bus
        uint32_t xid;              // the last error event
        uint64_t n_xids;           // how many there were
        uint64_t fail_allocations; // so many of the next allocations fail
        uint64_t copy_slowdown;    // copies take this many times as long; 0 and 1: as usual
        struct sim_process process[SIM_PROCESSES_MAX];
        struct sim_device device;
        uint64_t n_log; // entries ever written; the ring holds the last SIM_LOG_MAX
        struct sim_log_entry log[SIM_LOG_MAX];
};

// Maps the segment named by SIMGPU_NAME (default "simgpu0"), making it with the configuration in the
// environment if it is not there. Returns NULL with errno set.
struct sim_segment *sim_segment_open(void);
// Name of the segment as shm_open takes it; static storage of at least 64 bytes is filled.
const char *sim_segment_name(void);

// Locks the device and moves it to now; clears what a dead process left where the table is full.
void sim_segment_lock(struct sim_segment *segment);
void sim_segment_unlock(struct sim_segment *segment);
// Drops contexts and memory of processes that are gone. Call with the lock held.
void sim_segment_sweep(struct sim_segment *segment);

// This process's entry; made on first use. Call with the lock held. -1 when the table is full.
int sim_segment_process(struct sim_segment *segment);
// A context for this process. Call with the lock held. -1 when the table is full.
int sim_segment_context(struct sim_segment *segment);

// Waits until the context has done the work up to the position; returns 0, or -EIO when the device is lost.
int sim_segment_wait(struct sim_segment *segment, uint32_t context, uint64_t position_ns);
// Waits for a time, unless it is too near to be worth it.
void sim_sleep_until(uint64_t when_ns);
