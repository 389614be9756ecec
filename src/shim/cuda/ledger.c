#include "shim/cuda/ledger.h"
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
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

// By CUDA ordinal, with the lock held, whether there is a daemon or not; and the pages in which they stand
// now.
static uint64_t held[TAKT_PAGE_LANES];
static struct {
        struct takt_page_client *client;
        struct takt_page_tenant *tenant;
        int8_t lane_of[TAKT_PAGE_LANES];
} pages;

// With the lock held: this process's part. Nobody else writes it, so it needs no atomic addition.
static void hold(int device, int lane, uint64_t bytes)
{
        _Atomic uint64_t *own = lane >= 0 ? &pages.client->lane[lane].memory_used : NULL;

        held[device] += bytes;
        if (own)
                atomic_store_explicit(own, atomic_load_explicit(own, memory_order_relaxed) + bytes,
                                      memory_order_relaxed);
}

// With the lock held.
static void count(int device, uint64_t bytes)
{
        int lane = pages.client ? pages.lane_of[device] : -1;

        hold(device, lane, bytes);
        if (lane < 0)
                return;
        atomic_fetch_add_explicit(&pages.tenant->lane[lane].memory_used, bytes, memory_order_relaxed);
}

// What we hold goes with us to a new daemon.
void ledger_joined(void)
{
        pthread_mutex_lock(&lock);
        if (atomic_load(&lease.daemon) && pages.client != lease.client) {
                uint64_t before[TAKT_PAGE_LANES];

                memcpy(before, held, sizeof before);
                memset(held, 0, sizeof held);
                pages.client = lease.client;
                pages.tenant = lease.tenant;
                memcpy(pages.lane_of, lease.lane_of, sizeof pages.lane_of);
                for (int device = 0; device < TAKT_PAGE_LANES; device++)
                        count(device, before[device]);
        }
        pthread_mutex_unlock(&lock);
}

void ledger_uncharge(int device, uint64_t bytes)
{
        if (device < 0)
                return;
        pthread_mutex_lock(&lock);
        count(device, -bytes);
        pthread_mutex_unlock(&lock);
}

uint64_t ledger_quota(int device)
{
        const struct takt_page_daemon *page = atomic_load(&lease.daemon);
        int lane = page && device >= 0 ? lease.lane_of[device] : -1;

        return lane >= 0 ? atomic_load_explicit(&page->lane[lane].memory_quota, memory_order_relaxed) : 0;
}

uint64_t ledger_used(int device)
{
        int lane = atomic_load(&lease.daemon) && device >= 0 ? lease.lane_of[device] : -1;

        return lane >= 0 ? atomic_load(&lease.tenant->lane[lane].memory_used) : 0;
}

// The tenant's sum is never more than the quota, not even for a moment: another process that asks for little
// meanwhile must not be refused for what this one does not get.
static int fits(int device, uint64_t bytes, uint64_t quota)
{
        int lane = pages.client ? pages.lane_of[device] : -1;
        _Atomic uint64_t *sum = lane >= 0 ? &pages.tenant->lane[lane].memory_used : NULL;
        uint64_t now;

        if (!sum || !quota)
                return count(device, bytes), 1;
        now = atomic_load(sum);
        do {
                if (bytes > quota || now > quota - bytes)
                        return 0;
        } while (!atomic_compare_exchange_weak(sum, &now, now + bytes));
        hold(device, lane, bytes);
        return 1;
}

int ledger_charge(int device, uint64_t bytes)
{
        uint64_t quota = ledger_quota(device);
        int error;

        if (device < 0)
                return CUDA_SUCCESS;
        pthread_mutex_lock(&lock);
        error = fits(device, bytes, quota) ? CUDA_SUCCESS : CUDA_OUT_OF_MEMORY;
        pthread_mutex_unlock(&lock);
        return error;
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
        if (!wider) // the last place stays free: a search ends there
                return n_used + 1 < room;
        table = wider;
        room = room ? 2 * room : FIRST_ROOM;
        for (size_t i = 0; i < n; i++)
                if (old[i].key)
                        table[find(old[i].kind, old[i].key)] = old[i];
        free(old);
        return 1;
}

// With the lock held. An entry that is there already was freed unseen: its address has been given again.
static int put(struct ledger_entry entry)
{
        size_t at;

        if (!entry.key || !grow())
                return 0;
        at = find(entry.kind, entry.key);
        if (!table[at].key)
                n_used++;
        else if (!table[at].shared)
                count(table[at].device, -table[at].bytes);
        table[at] = entry;
        return 1;
}

void ledger_note(enum ledger_kind kind, uintptr_t key, int device, uint64_t bytes, void *context)
{
        struct ledger_entry entry = {key, kind, device, bytes, context, NULL};

        if (device < 0)
                return;
        if (kind == LEDGER_HANDLE)
                entry.shared = calloc(1, sizeof *entry.shared);
        if (entry.shared)
                *entry.shared = (struct ledger_shared){bytes, 1, 1};
        pthread_mutex_lock(&lock);
        if ((kind == LEDGER_HANDLE && !entry.shared) || !put(entry)) {
                count(device, -bytes);
                free(entry.shared);
        }
        pthread_mutex_unlock(&lock);
}

struct ledger_entry ledger_take(enum ledger_kind kind, uintptr_t key)
{
        struct ledger_entry found = {.device = -1};
        size_t at;

        pthread_mutex_lock(&lock);
        if (room && key) {
                at = find(kind, key);
                if (table[at].key) {
                        found = table[at];
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
        pthread_mutex_unlock(&lock);
        if (bytes)
                free(entry->shared);
        return bytes;
}

void ledger_freed(const struct ledger_entry *entry, int error)
{
        if (entry->device < 0)
                return;
        if (!error) {
                ledger_uncharge(entry->device, release(entry));
                return;
        }
        pthread_mutex_lock(&lock);
        if (entry->kind != LEDGER_HANDLE || entry->shared->handles++ == 0)
                put(*entry);
        pthread_mutex_unlock(&lock);
}

static struct ledger_shared *share(uintptr_t handle, int *ret_device)
{
        size_t at = room ? find(LEDGER_HANDLE, handle) : 0;

        if (!room || !table[at].key)
                return NULL;
        table[at].shared->holders++;
        *ret_device = table[at].device;
        return table[at].shared;
}

void ledger_map(uintptr_t address, uint64_t bytes, uintptr_t handle)
{
        struct ledger_entry entry = {address, LEDGER_MAPPING, -1, bytes, NULL, NULL};

        pthread_mutex_lock(&lock);
        entry.shared = share(handle, &entry.device);
        if (entry.shared && !put(entry))
                entry.shared->holders--;
        pthread_mutex_unlock(&lock);
}

void ledger_unmap(uintptr_t address, uint64_t bytes)
{
        uintptr_t end = address + bytes;

        while (address < end) {
                struct ledger_entry entry = ledger_take(LEDGER_MAPPING, address);

                if (entry.device < 0 || !entry.bytes)
                        return;
                address += entry.bytes;
                ledger_freed(&entry, 0);
        }
}

void ledger_retain(uintptr_t handle)
{
        struct ledger_shared *shared;
        int device;

        pthread_mutex_lock(&lock);
        shared = share(handle, &device);
        if (shared)
                shared->handles++;
        pthread_mutex_unlock(&lock);
}

void ledger_forget(const void *context)
{
        pthread_mutex_lock(&lock);
        for (size_t i = 0; context && i < room; i++)
                while (table[i].key && table[i].context == context) {
                        count(table[i].device, -table[i].bytes);
                        remove_at(i);
                }
        pthread_mutex_unlock(&lock);
}

void ledger_rename(const void *context, void *now)
{
        pthread_mutex_lock(&lock);
        for (size_t i = 0; context && i < room; i++)
                if (table[i].key && table[i].context == context)
                        table[i].context = now;
        pthread_mutex_unlock(&lock);
}

// A forked child holds nothing: CUDA does not go with a fork. The table may be in the middle of a change: it
// is left.
void ledger_in_child(void)
{
        pthread_mutex_init(&lock, NULL);
        table = NULL;
        room = n_used = 0;
        memset(held, 0, sizeof held);
        memset(&pages, 0, sizeof pages);
}
