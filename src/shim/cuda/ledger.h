// What this process holds of each device's memory, by address or handle, and the tenant's sum in the page.
// Every operation is O(1): the quota is compared with the sum, never added up.
#pragma once
#include <stdatomic.h>
#include <stdint.h>

// A pool is noted for its device alone: what is allocated from it is charged by itself.
enum ledger_kind { LEDGER_POINTER = 1, LEDGER_HANDLE, LEDGER_MAPPING, LEDGER_ARRAY, LEDGER_POOL };

// Where a device's memory is counted: in the pages of one session, which stay mapped when it ends, since
// whoever charged them may still be in the driver. NULL: nowhere.
struct ledger_counts {
        _Atomic uint64_t *own, *tenant;
};

// Memory that is taken off a device's quota.
struct ledger_charge {
        struct ledger_counts on;
        int device; // CUDA ordinal, below TAKT_PAGE_LANES; -1: not found, and nothing is counted
        uint64_t bytes;
};

// Physical memory of the virtual memory API: held by its handle and by each mapping, gone with the last of
// them.
struct ledger_shared;

struct ledger_entry {
        uintptr_t key; // 0: free
        enum ledger_kind kind;
        struct ledger_charge charge; // of a mapping, its length only: what it maps is charged in `shared`
        void *context;               // with which it goes; NULL: it stays until it is freed
        struct ledger_shared *shared;
};

// Takes the bytes off the device's quota. Returns 0, or CUDA_OUT_OF_MEMORY.
int ledger_charge(int device, uint64_t bytes, struct ledger_charge *ret);
void ledger_uncharge(const struct ledger_charge *charge);
// What the tenant holds of the device, bytes; without a session, what this process does.
uint64_t ledger_used(int device);
// Remembers what was charged. Out of memory of our own: it is not counted, rather than never given back.
void ledger_note(enum ledger_kind kind, uintptr_t key, const struct ledger_charge *charge, void *context);
// The device of what was noted; -1: it was not.
int ledger_device(enum ledger_kind kind, uintptr_t key);
// A context is no more, and its memory with it; or goes by another name until that is sure.
void ledger_forget(const void *context);
void ledger_rename(const void *context, void *now);
// There may be a new session: its page and its tenant's get our counts.
void ledger_joined(void);
// Before a free: takes the entry out, so that another thread may get the same address. After it: settles what
// the driver said.
struct ledger_entry ledger_take(enum ledger_kind kind, uintptr_t key);
void ledger_freed(const struct ledger_entry *entry, int error);
// A mapping of a handle; and one more holder of a handle, asked for by an address that is mapped to it.
void ledger_map(uintptr_t address, uint64_t bytes, uintptr_t handle);
void ledger_unmap(uintptr_t address, uint64_t bytes);
void ledger_retain(uintptr_t handle, uintptr_t address);
void ledger_in_child(void);
