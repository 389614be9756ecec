// The record of who wanted a device and who had it: a ring in the file `leases` of the daemon's folder, for
// reports. Written with plain stores: nothing on the way of a grant makes a system call for it.
#pragma once
#include <stdint.h>

#define RECORD_MAGIC UINT64_C(0x3153455341454c54) // "TLEASES1"
#define RECORD_ROOM 65536                         // about ten minutes of three agents

enum record_kind {
        RECORD_WANT = 1, // waits at its closed gate
        RECORD_UNWANT,   // waits no more, without having been let in
        RECORD_OPEN,     // its gate is open
        RECORD_CLOSE,    // its gate is closed; what is in flight may still run
};

struct record {
        uint64_t at_ns; // CLOCK_MONOTONIC
        uint8_t kind, tenant, device, zero[5];
};

struct record_file {
        uint64_t magic, n; // n: records ever written; the last RECORD_ROOM of them are there, each at its
                           // number's remainder
        struct record record[RECORD_ROOM];
};

// Makes the file anew, readable to its owner only. NULL: it cannot be made; then nothing is recorded.
struct record_file *record_open(const char *dir);
// The file goes with the daemon that ends in order.
void record_close(const char *dir);
void record_add(struct record_file *file, enum record_kind kind, uint32_t tenant, uint32_t device,
                uint64_t at_ns);
