#include "kube/dra.h"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include "base/clock.h"
#include "kube/answer.h"
#include "kube/dra.pb-c.h"

static int ask_for(const struct dra *dra, const struct claim_name *of, cluster_done *done, void *context)
{
        char path[400];

        snprintf(path, sizeof path, "/apis/resource.k8s.io/v1/namespaces/%s/resourceclaims/%s", of->namespace,
                 of->name);
        return dra->cluster->ask(dra->cluster->self, "GET", path, NULL, done, context);
}

// One prepared claim in the kubelet's words.
struct words {
        Dra__PreparedEntry entry;
        Dra__Prepared value;
        Dra__Device device[KUBE_CLAIM_RESULTS_MAX], *devices[KUBE_CLAIM_RESULTS_MAX];
        char *request[KUBE_CLAIM_RESULTS_MAX], *cdi[KUBE_CLAIM_RESULTS_MAX];
        char name[KUBE_CLAIM_RESULTS_MAX][CLAIM_DEVICE_SIZE], cdi_name[KUBE_CLAIM_RESULTS_MAX][64];
};

static void say_device(struct words *words, const struct dra *dra, struct held *held, uint32_t i)
{
        struct claim_result *result = &held->claim.result[i];
        Dra__Device *device = &words->device[i];

        dra__device__init(device);
        claim_device_name(&dra->pool->device[result->gpu], words->name[i]);
        claims_cdi_name(held, i, words->cdi_name[i], sizeof words->cdi_name[i]);
        words->request[i] = result->request;
        words->cdi[i] = words->cdi_name[i];
        device->request_names = &words->request[i];
        device->cdi_device_ids = &words->cdi[i];
        device->n_request_names = device->n_cdi_device_ids = 1;
        device->pool_name = (char *)(uintptr_t)dra->pool->name;
        device->device_name = words->name[i];
        device->share_id = result->share_id;
        words->devices[i] = device;
}

static void say(struct words *words, struct dra *dra, struct wanted *one)
{
        struct held *held = claims_find(&dra->claims, one->uid);

        dra__prepared_entry__init(&words->entry);
        dra__prepared__init(&words->value);
        words->entry.key = one->uid;
        words->entry.value = &words->value;
        words->value.devices = words->devices;
        if (!one->error[0] && (!held || held->stale))
                snprintf(one->error, sizeof one->error, "unprepared meanwhile");
        words->value.error = one->error;
        if (one->error[0])
                return;
        words->value.n_devices = held->claim.n_results;
        for (uint32_t i = 0; i < held->claim.n_results; i++)
                say_device(words, dra, held, i);
}

// Every claim of the request has its entry.
static void answer(struct dra *dra, struct prepare *prepare)
{
        static struct words words[KUBE_PREPARE_CLAIMS_MAX];
        Dra__PreparedEntry *entries[KUBE_PREPARE_CLAIMS_MAX];
        Dra__PrepareResponse message = DRA__PREPARE_RESPONSE__INIT;
        struct rpc_call *call = prepare->call;

        for (uint32_t i = 0; i < prepare->n; i++) {
                say(&words[i], dra, &prepare->one[i]);
                entries[i] = &words[i].entry;
                if (prepare->one[i].error[0])
                        fprintf(stderr, "taktd: not prepared: %s\n", prepare->one[i].error);
        }
        message.claims = entries;
        message.n_claims = prepare->n;
        prepare->call = NULL;
        answer_message(call, &message.base);
}

static void settle(struct wanted *one)
{
        one->waiting = 0;
        if (--one->prepare->n_waiting)
                return;
        answer(one->dra, one->prepare);
        one->dra->unsent = 1;
}

static void no_answer(struct wanted *one, int status, const char *error)
{
        const struct held *held = claims_find(&one->dra->claims, one->uid);

        if (status != 404 && held && !held->stale)
                return; // it is prepared, and nothing says that it should not be
        snprintf(one->error, sizeof one->error, "claim %.63s/%.63s: the API server: %s%.200s",
                 one->of.namespace, one->of.name,
                 status == 403 ? "taktd may not read claims (resourceclaims: get): " : "", error);
}

static void claim_came(void *context, int status, json_t *body, const char *error)
{
        struct wanted *one = context;

        if (status == 200 && body)
                claims_take(&one->dra->claims, body, &one->of, one->error, sizeof one->error);
        else
                no_answer(one, status, error);
        settle(one);
}

static void begin_one(struct dra *dra, struct prepare *prepare, struct wanted *one, const Dra__Claim *claim)
{
        int error;

        *one = (struct wanted){.dra = dra, .prepare = prepare};
        snprintf(one->uid, sizeof one->uid, "%s", claim->uid);
        if (claim_name_check(claim->uid, claim->namespace_, claim->name, &one->of, one->error,
                             sizeof one->error) < 0)
                return;
        error = ask_for(dra, &one->of, claim_came, one);
        if (error) {
                no_answer(one, 0, strerror(-error));
                return;
        }
        one->waiting = 1;
        prepare->n_waiting++;
}

static struct prepare *free_prepare(struct dra *dra)
{
        for (struct prepare *p = dra->prepare; p < dra->prepare + KUBE_PREPARE_MAX; p++)
                if (!p->call)
                        return p;
        return NULL;
}

static void prepare(struct dra *dra, struct rpc_call *call, const uint8_t *data, size_t size)
{
        Dra__Request *request = dra__request__unpack(NULL, size, data);
        struct prepare *p = free_prepare(dra);

        if (!request) {
                answer_bad_request(call);
        } else if (!p || request->n_claims > KUBE_PREPARE_CLAIMS_MAX) {
                rpc_end(call, GRPC_RESOURCE_EXHAUSTED,
                        p ? "too many claims in one call" : "too many calls at once");
        } else {
                p->call = call;
                p->n = (uint32_t)request->n_claims;
                p->n_waiting = 0;
                for (uint32_t i = 0; i < p->n; i++)
                        begin_one(dra, p, &p->one[i], request->claims[i]);
                if (!p->n_waiting)
                        answer(dra, p);
        }
        if (request)
                dra__request__free_unpacked(request, NULL);
}

// A Prepare of the same claim that still waits shall not come after.
static void forestall(struct dra *dra, const char *uid)
{
        for (struct prepare *p = dra->prepare; p < dra->prepare + KUBE_PREPARE_MAX; p++)
                for (uint32_t i = 0; p->call && i < p->n; i++) {
                        struct wanted *one = &p->one[i];

                        if (!one->waiting || strcmp(one->uid, uid))
                                continue;
                        dra->cluster->forget(dra->cluster->self, one);
                        settle(one); // its entry says so
                }
}

static void unprepare_one(struct dra *dra, const Dra__Claim *claim, char *error, size_t size)
{
        struct claim_name of;

        error[0] = 0;
        if (claim_name_check(claim->uid, claim->namespace_, claim->name, &of, error, size) < 0)
                return;
        forestall(dra, of.uid);
        if (claims_drop(&dra->claims, of.uid, error, size) < 0)
                fprintf(stderr, "taktd: not unprepared: %s\n", error);
}

static void unprepare(struct dra *dra, struct rpc_call *call, const uint8_t *data, size_t size)
{
        static char error[KUBE_PREPARE_CLAIMS_MAX][512];
        Dra__Request *request = dra__request__unpack(NULL, size, data);
        Dra__UnprepareResponse message = DRA__UNPREPARE_RESPONSE__INIT;
        Dra__UnpreparedEntry entry[KUBE_PREPARE_CLAIMS_MAX], *entries[KUBE_PREPARE_CLAIMS_MAX];
        Dra__Unprepared value[KUBE_PREPARE_CLAIMS_MAX];

        if (!request) {
                answer_bad_request(call);
                return;
        }
        if (request->n_claims <= KUBE_PREPARE_CLAIMS_MAX) {
                message.claims = entries;
                for (size_t i = 0; i < request->n_claims; i++) {
                        dra__unprepared_entry__init(&entry[i]);
                        dra__unprepared__init(&value[i]);
                        unprepare_one(dra, request->claims[i], error[i], sizeof error[i]);
                        entry[i].key = request->claims[i]->uid;
                        entry[i].value = &value[i];
                        value[i].error = error[i];
                        entries[message.n_claims++] = &entry[i];
                }
                answer_message(call, &message.base);
        } else {
                rpc_end(call, GRPC_RESOURCE_EXHAUSTED, "too many claims in one call");
        }
        dra__request__free_unpacked(request, NULL);
}

// All GPUs that go by claims. A device is its pool and name: its shares are well or ill together.
static void send_health(struct dra *dra)
{
        Dra__WatchResponse message = DRA__WATCH_RESPONSE__INIT;
        Dra__DeviceHealth health[KUBE_DEVICES_MAX], *all[KUBE_DEVICES_MAX];
        Dra__DeviceIdentifier id[KUBE_DEVICES_MAX];
        char name[KUBE_DEVICES_MAX][CLAIM_DEVICE_SIZE];
        uint8_t bytes[KUBE_DEVICES_MAX * 512];

        message.devices = all;
        for (uint32_t d = 0; d < dra->pool->n_devices; d++) {
                int is_lost = dra->lost >> d & 1;

                if (!(dra->pool->devices >> d & 1))
                        continue;
                dra__device_health__init(&health[d]);
                dra__device_identifier__init(&id[d]);
                claim_device_name(&dra->pool->device[d], name[d]);
                id[d].pool_name = (char *)(uintptr_t)dra->pool->name;
                id[d].device_name = name[d];
                health[d].device = &id[d];
                health[d].health = is_lost ? DRA__HEALTH_STATUS__UNHEALTHY : DRA__HEALTH_STATUS__HEALTHY;
                health[d].last_updated_time = time(NULL);
                health[d].message = is_lost ? "the GPU is lost" : "";
                all[message.n_devices++] = &health[d];
        }
        if (dra__watch_response__get_packed_size(&message) <= sizeof bytes)
                rpc_send(dra->watching, bytes, dra__watch_response__pack(&message, bytes));
        dra->stale = 0;
        dra->told_ns = takt_clock_now();
}

static void tell_health(struct dra *dra)
{
        if (!dra->watching)
                return;
        dra->stale = dra->unsent = 1;
        if (!rpc_unsent(dra->watching)) // else when it has been taken
                send_health(dra);
}

void dra_health(struct dra *dra, uint32_t lost)
{
        dra->lost = lost;
        tell_health(dra);
}

static void watch(struct dra *dra, struct rpc_call *call)
{
        if (dra->watching)
                rpc_end(dra->watching, GRPC_OK, NULL); // one kubelet, one stream
        dra->watching = call;
        send_health(dra);
}

static void notified(void *context, int is_registered, const char *error)
{
        struct dra *dra = context;

        dra->notified(dra, is_registered, error);
}

static void request(void *context, struct rpc_call *call, const char *method, const uint8_t *data,
                    size_t size)
{
        static const char *const versions[] = {"v1.DRAPlugin", "v1.DRAResourceHealth",
                                               "v1alpha1.DRAResourceHealth"};
        static const struct answer_info info = {"DRAPlugin", CLAIM_DRIVER, "", versions, 3, notified};
        static const char prefix[] = "/k8s.io.kubelet.pkg.apis.dra.v1.DRAPlugin/";
        struct dra *dra = context;
        const char *name = strncmp(method, prefix, sizeof prefix - 1) ? "" : method + sizeof prefix - 1;

        if (answer_watcher(&info, dra, call, method, data, size))
                return;
        if (!strcmp(name, "NodePrepareResources"))
                prepare(dra, call, data, size);
        else if (!strcmp(name, "NodeUnprepareResources"))
                unprepare(dra, call, data, size);
        else if (!strcmp(method, "/v1.DRAResourceHealth/NodeWatchResources") ||
                 !strcmp(method, "/v1alpha1.DRAResourceHealth/NodeWatchResources")) // the same messages
                watch(dra, call);
        else
                rpc_end(call, GRPC_UNIMPLEMENTED, "unknown method");
}

static void drained(void *context, struct rpc_call *call)
{
        struct dra *dra = context;

        if (call == dra->watching && dra->stale)
                send_health(dra);
}

static void gone(void *context, struct rpc_call *call)
{
        struct dra *dra = context;

        if (call == dra->watching)
                dra->watching = NULL;
        for (struct prepare *p = dra->prepare; p < dra->prepare + KUBE_PREPARE_MAX; p++) {
                if (p->call != call)
                        continue;
                for (uint32_t i = 0; i < p->n; i++)
                        if (p->one[i].waiting)
                                dra->cluster->forget(dra->cluster->self, &p->one[i]);
                p->call = NULL;
        }
}

const struct rpc_service dra_service = {request, drained, gone};

static void claim_read_again(void *context, int status, json_t *body, const char *error)
{
        struct held *held = context;

        if (!held->used)
                return;
        if (status == 200 && body)
                claims_reread(held->claims, held, body);
        if (!claim_has_pod(&held->claim, held->stranger))
                fprintf(stderr, "taktd: claim %s/%s: a process of pod %s is refused: %s\n",
                        held->claim.of.namespace, held->claim.of.name, held->stranger,
                        status == 200 ? "it is not reserved for that" : error);
}

int dra_may_join(struct dra *dra, uint32_t tenant, const char *pod, uint64_t now_ns)
{
        struct held *held = claims_of_tenant(&dra->claims, tenant);

        if (!held)
                return -ENOENT;
        if (claim_has_pod(&held->claim, pod))
                return 1;
        if (held->reread_ns <= now_ns && ask_for(dra, &held->claim.of, claim_read_again, held) == 0) {
                snprintf(held->stranger, sizeof held->stranger, "%s", pod);
                held->reread_ns = now_ns + KUBE_REREAD_NS;
        }
        return 0;
}

int dra_open(struct dra *dra, const struct host *host, const struct injection *injection,
             const struct claim_pool *pool, const struct cluster *cluster, const char *dir)
{
        dra->host = host;
        dra->pool = pool;
        dra->cluster = cluster;
        return claims_open(&dra->claims, host, injection, pool, dir);
}

void dra_close(struct dra *dra)
{
        if (dra->watching)
                rpc_end(dra->watching, GRPC_OK, NULL);
}

uint64_t dra_due(const struct dra *dra)
{
        return dra->watching ? dra->told_ns + KUBE_HEALTH_NS : TAKT_NEVER;
}

void dra_tick(struct dra *dra, uint64_t now_ns)
{
        if (dra_due(dra) > now_ns)
                return;
        tell_health(dra);
        dra->told_ns = now_ns; // else at once when the stream has been taken
}
