#include "shim/cuda/ledger.h"
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include "shim/cuda/door.h"
#include "shim/cuda/lock.h"
#include "shim/lease.h"

#define FIRST_ROOM 1024

struct ledger_shared {
        struct ledger_charge charge;
        uint32_t holders, handles; // all of them; those that cuMemRelease takes back
};

struct session {
        const struct takt_page_client *client;
        struct ledger_counts counts[TAKT_PAGE_LANES]; // by CUDA ordinal
};

// Until there is a session: what this process holds by itself.
static struct {
        _Atomic uint64_t own, tenant;
} unjoined[TAKT_PAGE_LANES];

// In one cache line: the driver's own work leaves little of ours in the caches.
static struct {
        struct lock lock;
        // The one now; NULL: there was none yet. The counts need no lock: what is in neither the table nor
        // the counts of this session was charged on an older one's.
        _Atomic(struct session *) session;
        struct ledger_entry *table; // open addressing, without tombstones; all of it is counted on `session`
        size_t room, n_used;
} ledger __attribute__((aligned(64)));

static struct ledger_counts counts_now(int device)
{
        const struct session *session = atomic_load_explicit(&ledger.session, memory_order_acquire);

        if (device < 0)
                return (struct ledger_counts){0};
        return session ? session->counts[device]
                       : (struct ledger_counts){&unjoined[device].own, &unjoined[device].tenant};
}

static void count(const struct ledger_charge *charge, uint64_t bytes)
{
        if (!charge->on.own)
                return;
        atomic_fetch_add_explicit(charge->on.own, bytes, memory_order_relaxed);
        atomic_fetch_add_explicit(charge->on.tenant, bytes, memory_order_relaxed);
}

void ledger_uncharge(const struct ledger_charge *charge)
{
        count(charge, -charge->bytes);
}

// With the lock held: what was counted for an older session, or for none, is counted for this one.
static void count_now(struct ledger_charge *charge)
{
        struct ledger_counts now = counts_now(charge->device);

        if (charge->on.own == now.own)
                return;
        charge->on = now;
        count(charge, charge->bytes);
}

static struct ledger_charge *charge_of(struct ledger_entry *entry)
{
        return entry->shared ? &entry->shared->charge : &entry->charge;
}

// With the lease's pages as they are.
static struct session *session_new(void)
{
        struct session *session = calloc(1, sizeof *session);

        if (!session)
                return NULL;
        session->client = lease.client;
        for (int device = 0; device < TAKT_PAGE_LANES; device++) {
                int lane = lease.lane_of[device];

                if (lane >= 0)
                        session->counts[device] = (struct ledger_counts){
                                &lease.client->lane[lane].memory_used, &lease.tenant->lane[lane].memory_used};
        }
        return session;
}

// What we hold goes with us to a new daemon.
void ledger_joined(void)
{
        struct session *now;

        lock_take(&ledger.lock);
        now = atomic_load(&ledger.session);
        if (atomic_load(&lease.daemon) && (!now || now->client != lease.client) && (now = session_new())) {
                atomic_store(&ledger.session, now);
                for (size_t i = 0; i < ledger.room; i++)
                        if (ledger.table[i].key)
                                count_now(charge_of(&ledger.table[i]));
        }
        lock_give(&ledger.lock);
}

uint64_t ledger_used(int device)
{
        struct ledger_counts now = counts_now(device);

        return now.tenant ? atomic_load(now.tenant) : 0;
}

// The tenant's sum is never more than the quota, not even for a moment: another process that asks for little
// meanwhile must not be refused for what this one does not get.
static int fits(const struct ledger_charge *charge, uint64_t quota)
{
        uint64_t bytes = charge->bytes, now;

        if (!charge->on.own || !quota)
                return count(charge, bytes), 1;
        now = atomic_load_explicit(charge->on.tenant, memory_order_relaxed);
        do {
                if (bytes > quota || now > quota - bytes)
                        return 0;
        } while (!atomic_compare_exchange_weak(charge->on.tenant, &now, now + bytes));
        atomic_fetch_add_explicit(charge->on.own, bytes, memory_order_relaxed);
        return 1;
}

int ledger_charge(int device, uint64_t bytes, struct ledger_charge *ret)
{
        *ret = (struct ledger_charge){counts_now(device), device, bytes};
        return fits(ret, lease_quota(device)) ? CUDA_SUCCESS : CUDA_OUT_OF_MEMORY;
}

static size_t home(uintptr_t key)
{
        return (size_t)((key >> 4) * UINT64_C(0x9e3779b97f4a7c15) >> 20) & (ledger.room - 1);
}

static size_t find(enum ledger_kind kind, uintptr_t key)
{
        size_t i = home(key);

        while (ledger.table[i].key && (ledger.table[i].key != key || ledger.table[i].kind != kind))
                i = (i + 1) & (ledger.room - 1);
        return i;
}

// Closes the gap that an entry leaves: whoever was pushed past it moves up.
static void remove_at(size_t gap)
{
        for (size_t i = (gap + 1) & (ledger.room - 1); ledger.table[i].key; i = (i + 1) & (ledger.room - 1))
                if (((i - home(ledger.table[i].key)) & (ledger.room - 1)) >=
                    ((i - gap) & (ledger.room - 1))) {
                        ledger.table[gap] = ledger.table[i];
                        gap = i;
                }
        ledger.table[gap].key = 0;
        ledger.n_used--;
}

static int grow(void)
{
        struct ledger_entry *old = ledger.table, *wider;
        size_t n = ledger.room, wider_room = n ? 2 * n : FIRST_ROOM;

        if (ledger.n_used * 2 < ledger.room)
                return 1;
        wider = calloc(wider_room, sizeof *wider);
        if (!wider) // the last place stays free: a search ends there
                return ledger.n_used + 1 < ledger.room;
        ledger.table = wider;
        ledger.room = wider_room;
        for (size_t i = 0; i < n; i++)
                if (old[i].key)
                        ledger.table[find(old[i].kind, old[i].key)] = old[i];
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
        if (!ledger.table[at].key)
                ledger.n_used++;
        else if (!ledger.table[at].shared)
                ledger_uncharge(&ledger.table[at].charge);
        ledger.table[at] = entry;
        return 1;
}

void ledger_note(enum ledger_kind kind, uintptr_t key, const struct ledger_charge *charge, void *context)
{
        struct ledger_entry entry = {key, kind, *charge, context, NULL};

        if (charge->device < 0)
                return;
        if (kind == LEDGER_HANDLE)
                entry.shared = calloc(1, sizeof *entry.shared);
        if (entry.shared)
                *entry.shared = (struct ledger_shared){*charge, 1, 1};
        lock_take(&ledger.lock);
        count_now(charge_of(&entry));
        if ((kind == LEDGER_HANDLE && !entry.shared) || !put(entry)) {
                ledger_uncharge(charge_of(&entry));
                free(entry.shared);
        }
        lock_give(&ledger.lock);
}

int ledger_device(enum ledger_kind kind, uintptr_t key)
{
        int device = -1;
        size_t at;

        lock_take(&ledger.lock);
        if (ledger.room && key) {
                at = find(kind, key);
                device = ledger.table[at].key ? ledger.table[at].charge.device : -1;
        }
        lock_give(&ledger.lock);
        return device;
}

struct ledger_entry ledger_take(enum ledger_kind kind, uintptr_t key)
{
        struct ledger_entry found = {.charge.device = -1};
        size_t at;

        lock_take(&ledger.lock);
        if (ledger.room && key) {
                at = find(kind, key);
                if (ledger.table[at].key) {
                        found = ledger.table[at];
                        if (kind != LEDGER_HANDLE || --found.shared->handles == 0)
                                remove_at(at);
                }
        }
        lock_give(&ledger.lock);
        return found;
}

// One holder of shared memory less.
static void release(struct ledger_shared *shared)
{
        int is_last;

        lock_take(&ledger.lock);
        is_last = --shared->holders == 0;
        lock_give(&ledger.lock);
        if (is_last) {
                ledger_uncharge(&shared->charge);
                free(shared);
        }
}

static void put_back(struct ledger_entry entry)
{
        lock_take(&ledger.lock);
        count_now(charge_of(&entry));
        if (entry.kind != LEDGER_HANDLE || entry.shared->handles++ == 0)
                put(entry);
        lock_give(&ledger.lock);
}

void ledger_freed(const struct ledger_entry *entry, int error)
{
        if (entry->charge.device < 0)
                return;
        if (error)
                put_back(*entry);
        else if (entry->shared)
                release(entry->shared);
        else
                ledger_uncharge(&entry->charge);
}

static struct ledger_shared *share(uintptr_t handle, int *ret_device)
{
        size_t at = ledger.room ? find(LEDGER_HANDLE, handle) : 0;

        if (!ledger.room || !ledger.table[at].key)
                return NULL;
        ledger.table[at].shared->holders++;
        *ret_device = ledger.table[at].charge.device;
        return ledger.table[at].shared;
}

// What was imported is noted for its length alone: it may be unmapped together with what lies behind it.
void ledger_map(uintptr_t address, uint64_t bytes, uintptr_t handle)
{
        struct ledger_entry entry = {address, LEDGER_MAPPING, {{0}, -1, bytes}, NULL, NULL};

        if (!lease_wanted())
                return;
        lock_take(&ledger.lock);
        entry.shared = share(handle, &entry.charge.device);
        if (!put(entry) && entry.shared)
                entry.shared->holders--;
        lock_give(&ledger.lock);
}

void ledger_unmap(uintptr_t address, uint64_t bytes)
{
        uintptr_t end = address + bytes;

        while (address < end) {
                struct ledger_entry entry = ledger_take(LEDGER_MAPPING, address);

                if (!entry.charge.bytes)
                        return;
                address += entry.charge.bytes;
                ledger_freed(&entry, 0);
        }
}

// With the lock held. Memory that only mappings hold has a handle again.
static void hold_again(uintptr_t handle, uintptr_t address)
{
        for (size_t i = 0; i < ledger.room; i++) {
                const struct ledger_entry *e = &ledger.table[i];
                struct ledger_shared *shared = e->shared;

                if (!e->key || e->kind != LEDGER_MAPPING || address - e->key >= e->charge.bytes)
                        continue;
                if (shared && !shared->handles &&
                    put((struct ledger_entry){handle, LEDGER_HANDLE, shared->charge, NULL, shared}))
                        shared->holders++, shared->handles++;
                return;
        }
}

void ledger_retain(uintptr_t handle, uintptr_t address)
{
        struct ledger_shared *shared;
        int device;

        lock_take(&ledger.lock);
        shared = share(handle, &device);
        if (shared)
                shared->handles++;
        else
                hold_again(handle, address);
        lock_give(&ledger.lock);
}

void ledger_forget(const void *context)
{
        lock_take(&ledger.lock);
        for (size_t i = 0; context && i < ledger.room; i++)
                while (ledger.table[i].key && ledger.table[i].context == context) {
                        ledger_uncharge(&ledger.table[i].charge);
                        remove_at(i);
                }
        lock_give(&ledger.lock);
}

void ledger_rename(const void *context, void *now)
{
        lock_take(&ledger.lock);
        for (size_t i = 0; context && i < ledger.room; i++)
                if (ledger.table[i].key && ledger.table[i].context == context)
                        ledger.table[i].context = now;
        lock_give(&ledger.lock);
}

// A forked child holds nothing: CUDA does not go with a fork. The table may be in the middle of a change: it
// is left.
void ledger_in_child(void)
{
        ledger.lock = (struct lock){0};
        ledger.table = NULL;
        ledger.room = ledger.n_used = 0;
        memset(unjoined, 0, sizeof unjoined);
        atomic_store(&ledger.session, NULL);
}
