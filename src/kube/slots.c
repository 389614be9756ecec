#include "kube/slots.h"
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "base/hash.h"
#include "kube/file.h"

#define POD_FILE "pod" // in a slot's folder: whose it is

// A folder's name must be short (a socket's path has 108 bytes, of which DIR may take 79), and the same for
// the same slot of the same resource. Each name ends with a byte 0.
static uint64_t hash_of(const char *resource, const char *id)
{
        return takt_hash(takt_hash(TAKT_HASH_START, resource, strlen(resource) + 1), id, strlen(id) + 1);
}

static int add_slot(struct slots *slots, uint32_t resource, uint32_t device, uint32_t number)
{
        const struct door_device gpu = slots->device[device];
        struct slot slot = {.resource = resource, .device = device, .tenant = -1, .with = -1};

        if (slots->n_slots == KUBE_SLOTS_MAX)
                return -ENOSPC;
        snprintf(slot.id, sizeof slot.id, "%s-%u", gpu.uuid, number);
        snprintf(slot.dir, sizeof slot.dir, "%s/slots/%012lx", slots->dir,
                 hash_of(slots->resource[resource].name, slot.id) >> 16);
        slots->slot[slots->n_slots++] = slot;
        return 0;
}

const char *slots_folder(const struct slot *slot)
{
        return strrchr(slot->dir, '/') + 1;
}

static uint32_t n_with(const struct slots *slots, uint32_t index)
{
        uint32_t n = 0;

        for (uint32_t i = 0; i < slots->n_slots; i++)
                n += slots->slot[i].with == (int32_t)index;
        return n;
}

// A slot that strengthens another has a link to its folder, for the next daemon.
static void join_slots(struct slots *slots, uint32_t index, uint32_t first)
{
        struct slot *slot = &slots->slot[index];

        slot->with = (int32_t)first;
        if (symlink(slots_folder(&slots->slot[first]), slot->dir) < 0)
                fprintf(stderr, "taktd: %s: %s: the next start will not know that slot %s is held\n",
                        slot->dir, strerror(errno), slot->id);
}

static void part(struct slot *slot)
{
        slot->with = -1;
        unlink(slot->dir);
}

static int is_taken(const struct slot *slot)
{
        return slot->tenant >= 0 || slot->with >= 0;
}

// Of n slots together.
static struct core_contract times(const struct core_contract *one, uint32_t n)
{
        struct core_contract contract = *one;

        contract.share_ppm *= n;
        contract.peak_ppm *= n;
        contract.memory_bytes *= n;
        contract.weight = (contract.weight ? contract.weight : 100) * n;
        return contract;
}

// Whether n slots together are no more than a tenant may have. Returns 0, or -ERANGE with the reason.
static int fit(const struct core_contract *one, uint32_t n, char *why, size_t size)
{
        uint32_t ppm = one->share_ppm > one->peak_ppm ? one->share_ppm : one->peak_ppm;

        if (n > 1 && ppm > CORE_PPM / n)
                return snprintf(why, size, "%s: %g %% for each of %u slots is more than a GPU",
                                ppm == one->share_ppm ? "share" : "peak", ppm / 1e4, n),
                       -ERANGE;
        if (n > 1 && one->weight > CORE_WEIGHT_MAX / n)
                return snprintf(why, size, "weight: %u for each of %u slots is more than %d", one->weight, n,
                                CORE_WEIGHT_MAX),
                       -ERANGE;
        return 0;
}

static int admit(struct slots *slots, uint32_t index, uint32_t n, const struct core_contract *one, char *why,
                 size_t size)
{
        struct slot *slot = &slots->slot[index];
        const struct resource *resource = &slots->resource[slot->resource];
        struct core_contract contract = times(one ? one : &resource->contract, n);
        char name[64];
        int tenant = fit(one ? one : &resource->contract, n, why, size);

        if (tenant < 0)
                return tenant;
        snprintf(name, sizeof name, "slot %.50s", slot->id);
        tenant = slots->host->services->admit(slots->host->node,
                                              &(struct door_tenant){name, slot->dir, &contract, slot->device},
                                              why, size);
        if (tenant < 0)
                return tenant;
        slot->tenant = tenant;
        slot->contract = one ? *one : resource->contract;
        return 0;
}

int slots_amend(struct slots *slots, uint32_t index, const struct core_contract *one, char *why, size_t size)
{
        struct slot *slot = &slots->slot[index];
        uint32_t n = 1 + n_with(slots, index);
        struct core_contract contract = times(one, n);
        int error = fit(one, n, why, size);

        if (!error)
                error = slots->host->services->amend(slots->host->node, (uint32_t)slot->tenant, &contract,
                                                     why, size);
        if (!error)
                slot->contract = *one;
        return error;
}

void slots_free(struct slots *slots, uint32_t index)
{
        struct slot *slot = &slots->slot[index];

        if (slot->tenant >= 0)
                slots->host->services->drop(slots->host->node, (uint32_t)slot->tenant);
        for (uint32_t i = 0; i < slots->n_slots; i++)
                if (slots->slot[i].with == (int32_t)index)
                        part(&slots->slot[i]);
        part(slot);
        slot->tenant = -1;
        slot->pod[0] = slot->name[0] = 0;
        slot->judged = slot->overruns = 0;
        slot->is_lowered = 0;
        slot->listed = slot->seen = 0;
        slot->n_missed = 0;
        file_remove_folder(slot->dir);
}

int slots_find(const struct slots *slots, uint32_t resource, const char *id)
{
        for (uint32_t i = 0; i < slots->n_slots; i++)
                if (slots->slot[i].resource == resource && !strcmp(slots->slot[i].id, id))
                        return (int)i;
        return -ENOENT;
}

// The kubelet has forgotten who has it, as when its checkpoint is lost.
static void say_if_used(const struct slots *slots, const struct slot *slot)
{
        const struct host *host = slots->host;
        uint32_t n = slot->tenant < 0 ? 0 : host->services->n_processes(host->node, (uint32_t)slot->tenant);

        if (n)
                fprintf(stderr,
                        "taktd: slot %s of %s is given away while %u processes of pod %s%s%s use it: they "
                        "are "
                        "of no slot any more\n",
                        slot->id, slots->resource[slot->resource].name, n,
                        slot->name[0] ? slot->namespace : slot->pod, slot->name[0] ? "/" : "", slot->name);
}

int slots_take(struct slots *slots, const uint32_t *which, uint32_t n, const struct core_contract *contract,
               uint32_t *ret, char *why, size_t size)
{
        const struct slot *first = &slots->slot[which[0]];
        int error;

        snprintf(why, size, "out of memory or descriptors");
        if (n > 1 && slots->resource[first->resource].single)
                return snprintf(why, size,
                                "a container may ask for one %s, not %u (failRequestsGreaterThanOne)",
                                slots->resource[first->resource].name, n),
                       -EINVAL;
        for (uint32_t i = 0; i < n; i++)
                if (slots->slot[which[i]].device != first->device)
                        return snprintf(why, size,
                                        "the %u slots lie on different GPUs: a container has slots of one",
                                        n),
                               -EINVAL;
        for (uint32_t i = 0; i < n; i++) {
                say_if_used(slots, &slots->slot[which[i]]);
                slots_free(slots, which[i]);
        }
        error = admit(slots, which[0], n, contract, why, size);
        if (error)
                return error;
        for (uint32_t i = 1; i < n; i++)
                join_slots(slots, which[i], which[0]);
        *ret = which[0];
        return 0;
}

int slots_hold(struct slots *slots, uint32_t index, char *why, size_t size)
{
        return is_taken(&slots->slot[index]) ? 0
                                             : admit(slots, index, 1 + n_with(slots, index), NULL, why, size);
}

static uint32_t n_taken_on(const struct slots *slots, uint32_t device)
{
        uint32_t n = 0;

        for (uint32_t i = 0; i < slots->n_slots; i++)
                n += slots->slot[i].device == device && is_taken(&slots->slot[i]);
        return n;
}

// What is asked of each GPU: slots that are free, and what speaks for it and against it.
struct offer {
        uint32_t n_free[KUBE_DEVICES_MAX];
        uint8_t fits[KUBE_DEVICES_MAX];
        double price[KUBE_DEVICES_MAX]; // the least is the best
};

// How much longer than alone the device's tenants take: waiting counted in, against their use of it. 1: there
// are none.
static double degradation(const struct door_snapshot *now, uint32_t device)
{
        uint64_t busy = 0, wait = 0;

        for (const struct door_tenant_account *t = now->tenant; t < now->tenant + now->n_tenants; t++)
                if (t->device == device) {
                        busy += t->busy_ns;
                        wait += t->wait_ns;
                }
        return busy ? (double)(busy + wait) / (double)busy : 1;
}

static void look_at_devices(const struct slots *slots, const struct core_contract *together,
                            struct offer *offer)
{
        const struct door_services *services = slots->host->services;
        struct door_snapshot now = {0};

        if (slots->policy == SLOTS_LEAST_DEGRADED)
                services->look(slots->host->node, &now);
        for (uint32_t d = 0; d < slots->n_devices; d++) {
                offer->fits[d] = services->would_admit(slots->host->node, d, together) != 0;
                offer->price[d] = slots->policy == SLOTS_LEAST_DEGRADED ? degradation(&now, d)
                                  : slots->policy == SLOTS_PACKED       ? -(double)n_taken_on(slots, d)
                                                                        : n_taken_on(slots, d);
        }
}

static int better(const struct offer *offer, uint32_t n, uint32_t a, uint32_t b)
{
        int enough_a = offer->n_free[a] >= n, enough_b = offer->n_free[b] >= n;

        if (enough_a != enough_b)
                return enough_a;
        if (!enough_a && offer->n_free[a] != offer->n_free[b])
                return offer->n_free[a] > offer->n_free[b];
        if (offer->fits[a] != offer->fits[b])
                return offer->fits[a];
        return offer->price[a] < offer->price[b];
}

static int has(const uint32_t *list, uint32_t n, uint32_t value)
{
        for (uint32_t i = 0; i < n; i++)
                if (list[i] == value)
                        return 1;
        return 0;
}

uint32_t slots_prefer(const struct slots *slots, const uint32_t *available, uint32_t n_available,
                      const uint32_t *must, uint32_t n_must, const struct core_contract *contract, uint32_t n,
                      uint32_t *ret)
{
        uint32_t chosen = 0, best, used = 0;
        struct offer offer = {0};
        struct core_contract together;

        if (!n_available)
                return 0;
        together =
                times(contract ? contract : &slots->resource[slots->slot[available[0]].resource].contract, n);
        look_at_devices(slots, &together, &offer);
        for (uint32_t i = 0; i < n_available; i++)
                offer.n_free[slots->slot[available[i]].device]++;
        for (uint32_t i = 0; i < n_must && chosen < n; i++)
                ret[chosen++] = must[i];
        while (chosen < n) {
                best = KUBE_DEVICES_MAX;
                if (n_must && !used) // what it has decides where the rest lies
                        best = slots->slot[must[0]].device;
                for (uint32_t d = 0; best == KUBE_DEVICES_MAX && d < slots->n_devices; d++) {
                        int is_best = offer.n_free[d] && !(used >> d & 1);

                        for (uint32_t e = 0; is_best && e < slots->n_devices; e++)
                                is_best = !offer.n_free[e] || used >> e & 1 || e == d ||
                                          !better(&offer, n, e, d);
                        best = is_best ? d : best;
                }
                if (best == KUBE_DEVICES_MAX)
                        break;
                used |= UINT32_C(1) << best;
                for (uint32_t i = 0; i < n_available && chosen < n; i++)
                        if (slots->slot[available[i]].device == best && !has(ret, chosen, available[i]))
                                ret[chosen++] = available[i];
        }
        return chosen;
}

int slots_claim(struct slots *slots, uint32_t index, const char *pod)
{
        struct slot *slot = &slots->slot[index];

        if (slot->pod[0])
                return strcmp(slot->pod, pod) ? -EPERM : 0;
        snprintf(slot->pod, sizeof slot->pod, "%s", pod);
        file_write_whole(slot->dir, POD_FILE, pod); // without it the next daemon asks as we did
        return 1;
}

static void read_pod(struct slot *slot)
{
        char path[sizeof slot->dir + sizeof POD_FILE + 1], pod[sizeof slot->pod];

        snprintf(path, sizeof path, "%s/" POD_FILE, slot->dir);
        if (file_read_whole(path, pod, sizeof pod) > 0)
                snprintf(slot->pod, sizeof slot->pod, "%s", pod);
}

int slots_of_tenant(const struct slots *slots, uint32_t tenant)
{
        for (uint32_t i = 0; i < slots->n_slots; i++)
                if (slots->slot[i].tenant == (int32_t)tenant)
                        return (int)i;
        return -1;
}

// Which slots strengthen another, by their links.
static void read_links(struct slots *slots)
{
        for (struct slot *s = slots->slot; s < slots->slot + slots->n_slots; s++) {
                char target[sizeof s->dir];
                ssize_t n = readlink(s->dir, target, sizeof target - 1);

                target[n > 0 ? n : 0] = 0;
                for (uint32_t i = 0; n > 0 && i < slots->n_slots; i++)
                        if (!strcmp(slots_folder(&slots->slot[i]), target) &&
                            slots->slot[i].device == s->device)
                                s->with = (int32_t)i;
        }
}

// A folder of a slot that the configuration does not offer any more: whose it is cannot be told from it.
static void say_of_unknown(const struct slots *slots, const char *path)
{
        DIR *folder = opendir(path);
        const struct dirent *entry;

        while (folder && (entry = readdir(folder))) {
                uint32_t i = 0;

                while (i < slots->n_slots && strcmp(slots_folder(&slots->slot[i]), entry->d_name))
                        i++;
                if (i == slots->n_slots && entry->d_name[0] != '.')
                        fprintf(stderr,
                                "taktd: %s/%s: a container has this slot, which is not offered any more: "
                                "what "
                                "runs in it is of no slot\n",
                                path, entry->d_name);
        }
        if (folder)
                closedir(folder);
}

int slots_open(struct slots *slots, const struct host *host, const char *dir)
{
        char path[96], why[256];

        slots->host = host;
        snprintf(slots->dir, sizeof slots->dir, "%s", dir);
        slots->n_slots = 0;
        for (uint32_t r = 0; r < slots->n_resources; r++)
                for (uint32_t d = 0; d < slots->n_devices; d++)
                        for (uint32_t k = 0;
                             slots->resource[r].devices >> d & 1 && k < slots->resource[r].replicas; k++)
                                if (add_slot(slots, r, d, k) < 0)
                                        return -ENOSPC;
        // Only root enters: the slots' sockets are open to whoever reaches them.
        snprintf(path, sizeof path, "%s/slots", dir);
        if (mkdir(path, 0700) < 0 && errno != EEXIST)
                return -errno;
        say_of_unknown(slots, path);
        read_links(slots);
        for (uint32_t i = 0; i < slots->n_slots; i++) {
                if (access(slots->slot[i].dir, F_OK) < 0)
                        continue;
                read_pod(&slots->slot[i]);
                if (slots_hold(slots, i, why, sizeof why) < 0)
                        fprintf(stderr, "taktd: slot %s is held, but cannot be taken up again: %s\n",
                                slots->slot[i].id, why);
        }
        for (struct slot *s = slots->slot; s < slots->slot + slots->n_slots; s++)
                if (s->with >= 0 && slots->slot[s->with].tenant < 0)
                        part(s);
        return 0;
}
