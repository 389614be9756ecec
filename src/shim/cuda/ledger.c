#include "shim/cuda/ledger.h"
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include "shim/cuda/door.h"
#include "shim/lease.h"

#define FIRST_ROOM 1024

struct ledger_shared {
        uint64_t bytes;
        uint32_t holders, handles; // all of them; those that cuMemRelease takes back
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct ledger_entry *table; // open addressing, without tombstones
static size_t room, n_used;

// The tenant's sum. It is kept even while the daemon is gone: the pages stay, and what they say goes with us
// to the next.
static uint64_t add(int lane, uint64_t bytes)
{
        return atomic_fetch_add_explicit(&lease.tenant->lane[lane].memory_used, bytes, memory_order_relaxed);
}

// With the lock held: this process's part of it.
static void hold(int lane, uint64_t bytes)
{
        _Atomic uint64_t *held = &lease.client->lane[lane].memory_used;

        atomic_store_explicit(held, atomic_load_explicit(held, memory_order_relaxed) + bytes,
                              memory_order_relaxed);
}

void ledger_uncharge(int lane, uint64_t bytes)
{
        if (lane >= 0)
                add(lane, -bytes);
}

uint64_t ledger_quota(int lane)
{
        const struct takt_page_daemon *page = atomic_load(&lease.daemon);

        return page && lane >= 0 ? atomic_load_explicit(&page->lane[lane].memory_quota, memory_order_relaxed)
                                 : 0;
}

uint64_t ledger_used(int lane)
{
        return atomic_load(&lease.daemon) && lane >= 0 ? atomic_load(&lease.tenant->lane[lane].memory_used)
                                                       : 0;
}

int ledger_charge(int lane, uint64_t bytes)
{
        uint64_t quota = ledger_quota(lane);

        if (lane < 0)
                return CUDA_SUCCESS;
        if (quota && bytes > quota)
                return CUDA_OUT_OF_MEMORY;
        if (add(lane, bytes) <= quota - bytes || !quota)
                return CUDA_SUCCESS;
        ledger_uncharge(lane, bytes);
        return CUDA_OUT_OF_MEMORY;
}

static size_t home(uintptr_t key)
{
        return (size_t)((key >> 4) * UINT64_C(0x9e3779b97f4a7c15) >> 20) & (room - 1);
}

static size_t find(enum ledger_kind kind, uintptr_t key)
{
        size_t i = home(key);

        while (table[i].key && (table[i].key != key || table[i].kind != kind))
                i = (i + 1) & (room - 1);
        return i;
}

// Closes the gap that an entry leaves: whoever was pushed past it moves up.
static void remove_at(size_t gap)
{
        for (size_t i = (gap + 1) & (room - 1); table[i].key; i = (i + 1) & (room - 1))
                if (((i - home(table[i].key)) & (room - 1)) >= ((i - gap) & (room - 1))) {
                        table[gap] = table[i];
                        gap = i;
                }
        table[gap].key = 0;
        n_used--;
}

static int grow(void)
{
        struct ledger_entry *old = table, *wider;
        size_t n = room;

        if (n_used * 2 < room)
                return 1;
        wider = calloc(room ? 2 * room : FIRST_ROOM, sizeof *wider);
        if (!wider)
                return 0;
        table = wider;
        room = room ? 2 * room : FIRST_ROOM;
        for (size_t i = 0; i < n; i++)
                if (old[i].key)
                        table[find(old[i].kind, old[i].key)] = old[i];
        free(old);
        return 1;
}

static void put(struct ledger_entry entry)
{
        if (!entry.key || !grow())
                return;
        table[find(entry.kind, entry.key)] = entry;
        n_used++;
}

void ledger_note(enum ledger_kind kind, uintptr_t key, int lane, uint64_t bytes)
{
        struct ledger_entry entry = {key, kind, lane, bytes, NULL};

        if (lane < 0)
                return;
        if (kind == LEDGER_HANDLE) {
                entry.shared = calloc(1, sizeof *entry.shared);
                if (!entry.shared)
                        return;
                *entry.shared = (struct ledger_shared){bytes, 1, 1};
        }
        pthread_mutex_lock(&lock);
        hold(lane, bytes);
        put(entry);
        pthread_mutex_unlock(&lock);
}

struct ledger_entry ledger_take(enum ledger_kind kind, uintptr_t key)
{
        struct ledger_entry found = {.lane = -1};
        size_t at;

        pthread_mutex_lock(&lock);
        if (room && key) {
                at = find(kind, key);
                if (table[at].key) {
                        found = table[at];
                        if (!found.shared)
                                hold(found.lane, -found.bytes);
                        if (kind != LEDGER_HANDLE || --found.shared->handles == 0)
                                remove_at(at);
                }
        }
        pthread_mutex_unlock(&lock);
        return found;
}

// One holder less; returns the bytes that are free by that.
static uint64_t release(const struct ledger_entry *entry)
{
        uint64_t bytes = entry->bytes;

        if (!entry->shared)
                return bytes;
        pthread_mutex_lock(&lock);
        bytes = --entry->shared->holders ? 0 : entry->shared->bytes;
        hold(entry->lane, -bytes);
        pthread_mutex_unlock(&lock);
        if (bytes)
                free(entry->shared);
        return bytes;
}

void ledger_freed(const struct ledger_entry *entry, int error)
{
        if (entry->lane < 0)
                return;
        if (!error) {
                ledger_uncharge(entry->lane, release(entry));
                return;
        }
        pthread_mutex_lock(&lock);
        if (!entry->shared)
                hold(entry->lane, entry->bytes);
        if (entry->kind != LEDGER_HANDLE || entry->shared->handles++ == 0)
                put(*entry);
        pthread_mutex_unlock(&lock);
}

static struct ledger_shared *share(uintptr_t handle, int *ret_lane)
{
        size_t at = room ? find(LEDGER_HANDLE, handle) : 0;

        if (!room || !table[at].key)
                return NULL;
        table[at].shared->holders++;
        *ret_lane = table[at].lane;
        return table[at].shared;
}

void ledger_map(uintptr_t address, uint64_t bytes, uintptr_t handle)
{
        struct ledger_entry entry = {address, LEDGER_MAPPING, -1, bytes, NULL};

        pthread_mutex_lock(&lock);
        entry.shared = share(handle, &entry.lane);
        if (entry.shared)
                put(entry);
        pthread_mutex_unlock(&lock);
}

void ledger_unmap(uintptr_t address, uint64_t bytes)
{
        uintptr_t end = address + bytes;

        while (address < end) {
                struct ledger_entry entry = ledger_take(LEDGER_MAPPING, address);

                if (entry.lane < 0 || !entry.bytes)
                        return;
                address += entry.bytes;
                ledger_freed(&entry, 0);
        }
}

void ledger_retain(uintptr_t handle)
{
        struct ledger_shared *shared;
        int lane;

        pthread_mutex_lock(&lock);
        shared = share(handle, &lane);
        if (shared)
                shared->handles++;
        pthread_mutex_unlock(&lock);
}

// A forked child holds nothing: CUDA does not go with a fork. The table may be in the middle of a change: it
// is left.
void ledger_in_child(void)
{
        pthread_mutex_init(&lock, NULL);
        table = NULL;
        room = n_used = 0;
}
