#include "kube/claims.h"
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "base/hash.h"
#include "kube/cdi.h"
#include "kube/file.h"

#define CDI_PREFIX CLAIM_DRIVER "-"

// As slots' folders: short, since sockets lie in it, and the same for the same result of the same claim.
static void folder_of(const struct claims *claims, const char *uid, uint32_t result, char *ret, size_t size)
{
        const uint8_t number = (uint8_t)result;
        uint64_t hash = takt_hash(takt_hash(TAKT_HASH_START, uid, strlen(uid)), &number, 1);

        snprintf(ret, size, "%s/claim/%012lx", claims->dir, hash >> 16);
}

static void path_of(const struct claims *claims, const char *uid, char *ret, size_t size)
{
        snprintf(ret, size, "%s/claims/%.40s", claims->dir, uid);
}

static void cdi_file_of(const char *uid, char *ret, size_t size)
{
        snprintf(ret, size, CDI_PREFIX "%s.json", uid);
}

void claims_cdi_name(const struct held *held, uint32_t result, char *ret, size_t size)
{
        snprintf(ret, size, CLAIMS_CDI_KIND "=%s-%u", held->claim.of.uid, result);
}

struct held *claims_find(struct claims *claims, const char *uid)
{
        for (struct held *h = claims->held; h < claims->held + KUBE_CLAIMS_MAX; h++)
                if (h->used && !strcmp(h->claim.of.uid, uid))
                        return h;
        return NULL;
}

struct held *claims_of_tenant(struct claims *claims, uint32_t tenant)
{
        for (struct held *h = claims->held; h < claims->held + KUBE_CLAIMS_MAX; h++)
                for (uint32_t i = 0; h->used && i < h->claim.n_results; i++)
                        if (h->tenant[i] == (int32_t)tenant)
                                return h;
        return NULL;
}

struct held *claims_of_pod(struct claims *claims, const char *pod)
{
        for (struct held *h = claims->held; h < claims->held + KUBE_CLAIMS_MAX; h++)
                if (h->used && claim_has_pod(&h->claim, pod))
                        return h;
        return NULL;
}

static struct held *room(struct claims *claims)
{
        for (struct held *h = claims->held; h < claims->held + KUBE_CLAIMS_MAX; h++)
                if (!h->used)
                        return h;
        return NULL;
}

// A claim of one pod is better known by the pod's name.
static void name_of(const struct claim *claim, uint32_t result, char *ret, size_t size)
{
        snprintf(ret, size, "%s/%s/%s", claim->of.namespace,
                 claim->pod_name[0] ? claim->pod_name : claim->of.name, claim->result[result].request);
}

static void end_tenants(const struct claims *claims, struct held *held)
{
        for (uint32_t i = 0; i < KUBE_CLAIM_RESULTS_MAX; i++) {
                if (held->tenant[i] >= 0)
                        claims->host->services->drop(claims->host->node, (uint32_t)held->tenant[i]);
                held->tenant[i] = -1;
                held->overruns[i] = 0;
                held->is_lowered[i] = 0;
        }
}

static void remove_folders(const struct held *held)
{
        for (uint32_t i = 0; i < KUBE_CLAIM_RESULTS_MAX; i++)
                file_remove_folder(held->dir[i]);
}

static void begin(struct claims *claims, const char *uid, struct held *ret)
{
        *ret = (struct held){.used = 1, .claims = claims};
        snprintf(ret->claim.of.uid, sizeof ret->claim.of.uid, "%.36s", uid);
        for (uint32_t i = 0; i < KUBE_CLAIM_RESULTS_MAX; i++) {
                folder_of(claims, uid, i, ret->dir[i], sizeof ret->dir[i]);
                ret->tenant[i] = -1;
        }
}

static int admit(struct claims *claims, struct held *held, char *why, size_t size)
{
        const struct host *host = claims->host;

        for (uint32_t i = 0; i < held->claim.n_results; i++) {
                const struct claim_result *result = &held->claim.result[i];
                char name[63 + 1 + 253 + 1 + 63 + 1], what[320] = "out of memory or descriptors";

                name_of(&held->claim, i, name, sizeof name);
                held->tenant[i] = host->services->admit(
                        host->node, &(struct door_tenant){name, held->dir[i], &result->contract, result->gpu},
                        what, sizeof what);
                if (held->tenant[i] < 0) {
                        int error = held->tenant[i];

                        snprintf(why, size, "claim %s/%s: %s", held->claim.of.namespace, held->claim.of.name,
                                 what);
                        end_tenants(claims, held);
                        return error;
                }
        }
        return 0;
}

static int write_cdi(const struct claims *claims, const struct held *held)
{
        json_t *devices = json_array();
        struct recipe recipe;
        char name[64], file[80];

        for (uint32_t i = 0; i < held->claim.n_results; i++) {
                const struct claim_result *result = &held->claim.result[i];

                recipe_make(&recipe, held->dir[i], claims->pool->device[result->gpu].uuid,
                            result->contract.memory_bytes, claims->injection);
                snprintf(name, sizeof name, "%s-%u", held->claim.of.uid, i);
                json_array_append_new(devices, cdi_device(name, &recipe, 1));
        }
        cdi_file_of(held->claim.of.uid, file, sizeof file);
        return cdi_put(claims->cdi, file, CLAIMS_CDI_KIND, devices);
}

static int write_record(const struct claims *claims, const struct claim_name *of, const json_t *object)
{
        json_t *record = claim_record(object, of);
        char *text = record ? json_dumps(record, JSON_COMPACT) : NULL;
        char folder[96];
        int error = !text ? -ENOMEM : strlen(text) >= KUBE_CLAIM_RECORD_MAX ? -EFBIG : 0;

        snprintf(folder, sizeof folder, "%s/claims", claims->dir);
        if (!error)
                error = file_write_whole(folder, of->uid, text);
        free(text);
        json_decref(record);
        return error;
}

static int remove_file(const char *path)
{
        return unlink(path) < 0 && errno != ENOENT ? -errno : 0;
}

static int remove_cdi(const struct claims *claims, const char *uid)
{
        char path[256], file[80];

        cdi_file_of(uid, file, sizeof file);
        snprintf(path, sizeof path, "%s/%s", claims->cdi, file);
        return remove_file(path);
}

static int failed(const struct claim_name *of, const char *what, int error, char *why, size_t size)
{
        snprintf(why, size, "claim %s/%s: %s: %s", of->namespace, of->name, what, strerror(-error));
        return error;
}

// Tenants, then the CDI file, then the record: what was interrupted has no record.
static int make(struct claims *claims, struct held *held, const json_t *object, char *why, size_t size)
{
        int error = admit(claims, held, why, size);

        if (error)
                return error;
        error = write_cdi(claims, held);
        if (error && !object) { // it matters to containers that are still to begin
                failed(&held->claim.of, "its CDI file", error, why, size);
                fprintf(stderr, "taktd: %s: it stays as it is\n", why);
                error = 0;
        } else if (error) {
                failed(&held->claim.of, "its CDI file", error, why, size);
        } else if (object && (error = write_record(claims, &held->claim.of, object)) != 0) {
                failed(&held->claim.of, "its record", error, why, size);
                remove_cdi(claims, held->claim.of.uid);
        }
        if (error)
                end_tenants(claims, held);
        return error;
}

// The same allocation again: pods may have come, or a start before this one found no place for it.
static int again(struct claims *claims, struct held *held, const struct claim *claim, const json_t *object,
                 char *why, size_t size)
{
        int error = 0;

        held->claim = *claim;
        if (held->stale) {
                error = make(claims, held, object, why, size);
                held->stale = error != 0;
        } else if ((error = write_cdi(claims, held)) != 0) {
                failed(&claim->of, "its CDI file", error, why, size);
        } else if ((error = write_record(claims, &claim->of, object)) != 0) {
                failed(&claim->of, "its record", error, why, size);
        }
        return error;
}

int claims_take(struct claims *claims, const json_t *object, const struct claim_name *of, char *why,
                size_t size)
{
        struct held *held = claims_find(claims, of->uid);
        static struct claim claim; // too big for the stack of a loop's handler
        int error = claim_read(object, of, claims->pool, &claim, why, size);

        if (error)
                return error;
        if (held && (held->stale || claim_same(&held->claim, &claim)))
                return again(claims, held, &claim, object, why, size);
        if (held && (error = claims_drop(claims, of->uid, why, size)) != 0)
                return error;
        held = room(claims);
        if (!held)
                return snprintf(why, size, "claim %s/%s: %d claims are prepared already", of->namespace,
                                of->name, KUBE_CLAIMS_MAX),
                       -ENOSPC;
        begin(claims, of->uid, held);
        held->claim = claim;
        error = make(claims, held, object, why, size);
        if (error)
                remove_folders(held);
        held->used = !error;
        return error;
}

void claims_reread(struct claims *claims, struct held *held, const json_t *object)
{
        static struct claim claim;
        char why[512];

        if (claim_read(object, &held->claim.of, claims->pool, &claim, why, sizeof why) < 0 ||
            !claim_same(&held->claim, &claim))
                return; // the kubelet will say what is to be done about it
        held->claim = claim;
        write_record(claims, &held->claim.of, object);
}

int claims_drop(struct claims *claims, const char *uid, char *why, size_t size)
{
        struct held *held = claims_find(claims, uid);
        char path[160];
        int error = remove_cdi(claims, uid);

        if (error)
                return snprintf(why, size, "claim %.40s: its CDI file: %s", uid, strerror(-error)), error;
        if (held) {
                end_tenants(claims, held);
                held->stale = 1; // until it is forgotten, it may be asked for again
        }
        path_of(claims, uid, path, sizeof path);
        error = remove_file(path);
        if (error)
                return snprintf(why, size, "claim %.40s: its record: %s", uid, strerror(-error)), error;
        if (held) {
                remove_folders(held);
                held->used = 0;
        }
        return 0;
}

static int read_record(struct claims *claims, const char *uid, struct held *held, char *why, size_t size)
{
        static char text[KUBE_CLAIM_RECORD_MAX];
        const char *namespace = "", *name = "";
        struct claim_name of;
        char path[160];
        json_t *object;
        int n, error;

        path_of(claims, uid, path, sizeof path);
        n = file_read_whole(path, text, sizeof text);
        object = n > 0 ? json_loadb(text, (size_t)n, JSON_REJECT_DUPLICATES, NULL) : NULL;
        json_unpack(object, "{s:{s:s,s:s}}", "metadata", "namespace", &namespace, "name", &name);
        error = claim_name_check(uid, namespace, name, &of, why, size);
        if (!error)
                error = claim_read(object, &of, claims->pool, &held->claim, why, size);
        json_decref(object);
        return error;
}

// What can not be taken up stays known by its UID, until the kubelet has it prepared again or unprepared.
static void take_up(struct claims *claims, const char *uid)
{
        struct held *held = room(claims);
        char why[512];
        struct claim_name of;
        int error = -ENOSPC;

        if (claim_name_check(uid, "any", "any", &of, why, sizeof why) < 0) {
                fprintf(stderr, "taktd: %s/claims/%.40s: %s; it is left alone\n", claims->dir, uid, why);
                return;
        }
        snprintf(why, sizeof why, "%d claims are prepared already", KUBE_CLAIMS_MAX);
        if (held) {
                begin(claims, uid, held);
                error = read_record(claims, uid, held, why, sizeof why);
                if (!error)
                        error = make(claims, held, NULL, why, sizeof why);
        }
        if (!error)
                return;
        fprintf(stderr,
                "taktd: %s/claims/%.40s: the claim is prepared, but cannot be taken up until it is again: "
                "%s\n",
                claims->dir, uid, why);
        if (!held)
                return;
        begin(claims, uid, held);
        held->stale = 1;
}

// Calls `found` for each name in a folder.
static void each_in(struct claims *claims, const char *path, void (*found)(struct claims *, const char *))
{
        DIR *folder = opendir(path);
        const struct dirent *entry;

        while (folder && (entry = readdir(folder)))
                if (entry->d_name[0] != '.')
                        found(claims, entry->d_name);
        if (folder)
                closedir(folder);
}

static void sweep_folder(struct claims *claims, const char *name)
{
        char path[400];

        snprintf(path, sizeof path, "%s/claim/%s", claims->dir, name);
        for (const struct held *h = claims->held; h < claims->held + KUBE_CLAIMS_MAX; h++)
                for (uint32_t i = 0; h->used && i < KUBE_CLAIM_RESULTS_MAX; i++)
                        if (!strcmp(h->dir[i], path))
                                return;
        file_remove_folder(path);
}

static void sweep_cdi(struct claims *claims, const char *name)
{
        char path[400], own[80];

        if (strncmp(name, CDI_PREFIX, sizeof CDI_PREFIX - 1))
                return;
        for (const struct held *h = claims->held; h < claims->held + KUBE_CLAIMS_MAX; h++) {
                cdi_file_of(h->claim.of.uid, own, sizeof own);
                if (h->used && !strcmp(name, own))
                        return;
        }
        snprintf(path, sizeof path, "%s/%s", claims->cdi, name);
        unlink(path);
}

int claims_open(struct claims *claims, const struct host *host, const struct injection *injection,
                const struct claim_pool *pool, const char *dir)
{
        static const char *const folders[] = {"claims", "claim"};
        char path[96];

        claims->host = host;
        claims->injection = injection;
        claims->pool = pool;
        claims->cdi = injection->cdi[0] ? injection->cdi : "/var/run/cdi";
        snprintf(claims->dir, sizeof claims->dir, "%s", dir);
        for (int i = 0; i < 2; i++) { // only root enters, as with slots
                snprintf(path, sizeof path, "%s/%s", dir, folders[i]);
                if (mkdir(path, 0700) < 0 && errno != EEXIST)
                        return -errno;
        }
        snprintf(path, sizeof path, "%s/claims", dir);
        each_in(claims, path, take_up);
        snprintf(path, sizeof path, "%s/claim", dir);
        each_in(claims, path, sweep_folder);
        each_in(claims, claims->cdi, sweep_cdi);
        return 0;
}
