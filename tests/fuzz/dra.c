// Whatever a kubelet sends to the DRA driver, and whatever the API server says a claim is: each call ends
// with a status, and tenants are those of the claims that are prepared.
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include "base/time.h"
#include "bytes.h"
#include "call.h"
#include "kube/dra.h"
#include "kube/quantity.h"

#define DIR "build-fuzz/dra"

static int n_tenants;

static int admit(struct node *node, const struct door_tenant *wish, char *why, size_t size)
{
        static int number;

        (void)node, (void)size;
        MUST(wish->device < 2 && wish->contract->share_ppm <= CORE_PPM && wish->contract->share_ppm > 0);
        MUST(strlen(wish->name) < 64);
        why[0] = 0;
        if (n_tenants == 6)
                return -EDQUOT;
        n_tenants++;
        return number++;
}

static void drop(struct node *node, uint32_t tenant)
{
        (void)node, (void)tenant;
        MUST(n_tenants-- > 0);
}

static const struct door_services services = {.admit = admit, .drop = drop};
static const struct host host = {NULL, &services};
static const struct injection injection = {.cdi = DIR "/cdi", .lib = "/lib"};
static const struct claim_pool pool = {
        .name = "n1", .devices = 3, .n_devices = 2, .device = {{.uuid = "GPU-Aa"}, {.uuid = "GPU-Bb"}}};

static struct asked {
        cluster_done *done;
        void *context;
} asked[KUBE_PREPARE_CLAIMS_MAX];
static int n_asked;

static int ask(void *self, const char *verb, const char *path, const json_t *body, cluster_done *done,
               void *context)
{
        (void)self, (void)verb, (void)body;
        MUST(strspn(path, "abcdefghijklmnopqrstuvwxyz0123456789-./") == strlen(path) ||
             strstr(path, "k8s.io"));
        if (n_asked == KUBE_PREPARE_CLAIMS_MAX)
                return -ENOBUFS;
        asked[n_asked++] = (struct asked){done, context};
        return 0;
}

static void forget(void *self, const void *context)
{
        (void)self;
        for (int i = 0; i < n_asked; i++)
                if (asked[i].context == context)
                        asked[i].done = NULL;
}

static const struct cluster cluster = {NULL, ask, forget};
static struct dra dra;

static void notified(struct dra *d, int is_registered, const char *error)
{
        (void)d, (void)is_registered;
        MUST(error);
}

static void answer_all(const char *text, size_t size)
{
        json_t *body = json_loadb(text, size, 0, NULL);

        for (int i = 0; i < n_asked; i++)
                if (asked[i].done)
                        asked[i].done(asked[i].context, body ? 200 : (int)size % 600, body, "no");
        n_asked = 0;
        json_decref(body);
}

static int n_held(void)
{
        int n = 0;

        for (int i = 0; i < KUBE_CLAIMS_MAX; i++)
                for (uint32_t k = 0; dra.claims.held[i].used && k < dra.claims.held[i].claim.n_results; k++)
                        n += dra.claims.held[i].tenant[k] >= 0;
        return n;
}

static int begins(const json_t *text, const char *start)
{
        return json_is_string(text) && !strncmp(json_string_value(text), start, strlen(start));
}

// What a container runtime reads: one device a result, with nothing in it but what we give.
static void check_cdi(const struct held *held)
{
        char path[128], name[64];
        json_t *file, *devices, *device, *one;
        size_t i, k;

        snprintf(path, sizeof path, DIR "/cdi/" CLAIM_DRIVER "-%s.json", held->claim.of.uid);
        file = json_load_file(path, JSON_REJECT_DUPLICATES, NULL);
        MUST(file && !strcmp(json_string_value(json_object_get(file, "kind")), CLAIMS_CDI_KIND));
        devices = json_object_get(file, "devices");
        MUST(json_array_size(devices) == held->claim.n_results);
        json_array_foreach(devices, i, device)
        {
                json_t *edits = json_object_get(device, "containerEdits");

                snprintf(name, sizeof name, "%s-%zu", held->claim.of.uid, i);
                MUST(begins(json_object_get(device, "name"), name) && json_object_size(edits) == 2);
                json_array_foreach(json_object_get(edits, "env"), k, one)
                        MUST(begins(one, "TAKT_") || begins(one, "LD_LIBRARY_PATH=") ||
                             begins(one, "NVIDIA_VISIBLE_DEVICES=GPU-"));
                json_array_foreach(json_object_get(edits, "mounts"), k, one)
                        MUST(begins(json_object_get(one, "hostPath"), "/lib") ||
                             begins(json_object_get(one, "hostPath"), DIR "/claim/"));
        }
        json_decref(file);
}

static void begin(void)
{
        memset(&dra, 0, sizeof dra);
        n_tenants = n_asked = 0;
        dra.notified = notified;
        MUST(dra_open(&dra, &host, &injection, &pool, &cluster, DIR) == 0);
        MUST(n_held() == n_tenants);
}

static void empty(void)
{
        char why[512], uid[CLAIM_UID_SIZE];

        for (int i = 0; i < KUBE_CLAIMS_MAX; i++)
                if (dra.claims.held[i].used) {
                        strcpy(uid, dra.claims.held[i].claim.of.uid);
                        MUST(claims_drop(&dra.claims, uid, why, sizeof why) == 0);
                }
        MUST(n_tenants == 0);
}

// Operations: a byte that says which, two of size, and the bytes; what the API server answers is what
// follows.
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        static const char *const methods[] = {
                "/k8s.io.kubelet.pkg.apis.dra.v1.DRAPlugin/NodePrepareResources",
                "/k8s.io.kubelet.pkg.apis.dra.v1.DRAPlugin/NodeUnprepareResources",
                "/pluginregistration.Registration/NotifyRegistrationStatus",
                "/pluginregistration.Registration/GetInfo"};
        static const struct rpc_answer answer = {on_message, on_end};
        struct rpc *server, *client;
        int n = 0;

        begin();
        server = rpc_server(&dra_service, &dra);
        client = rpc_client();
        n_ends = 0;
        while (size > 2) {
                size_t part = (size_t)data[1] << 8 | data[2];
                unsigned what = data[0] % 6;

                data += 3, size -= 3;
                part = part < size ? part : size;
                if (what < 4) {
                        MUST(rpc_ask(client, methods[what], data, part, 0, TAKT_NEVER, &answer, NULL, NULL) ==
                             0);
                        n++;
                } else if (what == 4) {
                        answer_all((const char *)data, part);
                } else {
                        char text[64];
                        uint64_t value;

                        snprintf(text, sizeof text, "%.*s", (int)part, (const char *)data);
                        if (quantity_parse(text, &value) == 0)
                                MUST(value <= UINT64_C(1) << 60);
                        dra_may_join(&dra, data[-3], text, TAKT_NEVER - 1);
                }
                for (int i = 0; i < 4; i++)
                        carry(client, server), carry(server, client);
                data += part, size -= part;
                MUST(n_held() == n_tenants);
                for (int i = 0; i < KUBE_CLAIMS_MAX; i++)
                        if (dra.claims.held[i].used && !dra.claims.held[i].stale)
                                check_cdi(&dra.claims.held[i]);
        }
        answer_all("", 0);
        for (int i = 0; i < 4; i++)
                carry(client, server), carry(server, client);
        MUST(n_ends == n);
        rpc_free(client);
        rpc_free(server);
        n = n_tenants;
        begin(); // the next daemon finds the same
        MUST(n_tenants == n);
        empty();
        return 0;
}
