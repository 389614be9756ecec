// The DRA driver between a kubelet of ours and an API server of ours: bytes, claims on disk, and what comes
// in between.
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <unistd.h>
#include <cmocka.h>
#include "base/time.h"
#include "fake_dra.h"
#include "kube/dra.pb-c.h"
#include "kube/file.h"

#define PREPARE "/k8s.io.kubelet.pkg.apis.dra.v1.DRAPlugin/NodePrepareResources"
#define UNPREPARE "/k8s.io.kubelet.pkg.apis.dra.v1.DRAPlugin/NodeUnprepareResources"

// What waits at the API server.
static struct asked {
        int n;
        char path[400];
        cluster_done *done;
        void *context;
} asked;

static int ask(void *self, const char *verb, const char *path, const json_t *body, cluster_done *done,
               void *context)
{
        (void)self;
        assert_string_equal(verb, "GET");
        assert_null(body);
        asked = (struct asked){.n = asked.n + 1, .done = done, .context = context};
        snprintf(asked.path, sizeof asked.path, "%s", path);
        return 0;
}

static void forget(void *self, const void *context)
{
        (void)self;
        if (asked.context == context)
                asked.done = NULL;
}

static const struct cluster cluster = {NULL, ask, forget};

static void server_says(int status, const char *text)
{
        json_t *body = text ? json_loads(text, 0, NULL) : NULL;

        assert_non_null(asked.done);
        asked.done(asked.context, status, body, status == 200 ? "" : "no");
        asked.done = NULL;
        json_decref(body);
}

static struct dra dra;
static struct rpc *server, *client;
static char dir[64], cdi[96];
static struct injection injection;
static int is_registered;

static void notified(struct dra *d, int registered, const char *error)
{
        (void)d, (void)error;
        is_registered = registered;
}

static struct heard {
        int n_messages, ended, status;
        size_t size;
        uint8_t data[4096];
} heard;

static void on_message(void *context, const uint8_t *data, size_t size)
{
        (void)context;
        heard.n_messages++;
        heard.size = size;
        if (size)
                memcpy(heard.data, data, size);
}

static void on_end(void *context, int status, const char *text)
{
        (void)context, (void)text;
        heard.ended = 1;
        heard.status = status;
}

static const struct rpc_answer answer = {on_message, on_end};

static void carry(struct rpc *from, struct rpc *to)
{
        const uint8_t *data;
        ptrdiff_t n;

        while ((n = rpc_transmit(from, &data)) > 0)
                assert_int_equal(rpc_receive(to, data, (size_t)n, 0), 0);
}

static void talk(void)
{
        for (int i = 0; i < 4; i++)
                carry(client, server), carry(server, client);
}

static struct rpc_call *call(const char *method, const void *data, size_t size)
{
        struct rpc_call *c;

        heard = (struct heard){0};
        assert_int_equal(rpc_ask(client, method, data, size, 0, TAKT_NEVER, &answer, NULL, &c), 0);
        talk();
        return c;
}

static void begin(void)
{
        memset(&dra, 0, sizeof dra);
        memset(&fake, 0, sizeof fake);
        asked = (struct asked){0};
        dra.notified = notified;
        assert_int_equal(dra_open(&dra, &fake_host, &injection, &fake_pool, &cluster, dir), 0);
        server = rpc_server(&dra_service, &dra);
        client = rpc_client();
}

static void end(void)
{
        client = rpc_free(client);
        server = rpc_free(server);
}

// As after a kill: what it had in memory is gone.
static void restart(void)
{
        end();
        begin();
}

static int set_up(void **state)
{
        (void)state;
        strcpy(dir, "/tmp/takt-dra-XXXXXX");
        if (!mkdtemp(dir))
                return -1;
        snprintf(cdi, sizeof cdi, "%s/cdi", dir);
        snprintf(injection.cdi, sizeof injection.cdi, "%s", cdi);
        begin();
        return 0;
}

static int tear_down(void **state)
{
        static const char *const folders[] = {"cdi", "claim", "claims"};
        char path[96];

        (void)state;
        end();
        for (int i = 0; i < 3; i++) {
                snprintf(path, sizeof path, "%s/%s", dir, folders[i]);
                file_remove_folder(path);
        }
        return rmdir(dir);
}

static int is_there(const char *folder, const char *name)
{
        char path[256];

        snprintf(path, sizeof path, "%s/%s/%s", dir, folder, name);
        return access(path, F_OK) == 0;
}

static void ask_about(const char *method, const char *const uids[], size_t n)
{
        Dra__Claim claim[4], *claims[4];
        Dra__Request request = DRA__REQUEST__INIT;
        uint8_t bytes[1024];

        for (size_t i = 0; i < n; i++) {
                dra__claim__init(&claim[i]);
                claim[i].namespace_ = "default";
                claim[i].name = "a";
                claim[i].uid = (char *)(uintptr_t)uids[i];
                claims[i] = &claim[i];
        }
        request.claims = claims;
        request.n_claims = n;
        call(method, bytes, dra__request__pack(&request, bytes));
}

// The answer's error of one claim; its device goes to `device`, if it is not NULL.
static const char *error_of(const char *uid, size_t i, Dra__Device *device)
{
        static char text[512], cdi_id[96], name[64];
        Dra__PrepareResponse *all = dra__prepare_response__unpack(NULL, heard.size, heard.data);

        assert_true(heard.ended);
        assert_int_equal(heard.status, GRPC_OK);
        assert_true(all->n_claims > i);
        assert_string_equal(all->claims[i]->key, uid);
        snprintf(text, sizeof text, "%s", all->claims[i]->value->error);
        if (device) {
                assert_int_equal(all->claims[i]->value->n_devices, 1);
                *device = *all->claims[i]->value->devices[0];
                assert_string_equal(device->request_names[0], "gpu");
                assert_string_equal(device->pool_name, "n1");
                assert_string_equal(device->share_id, "a281f970-1fa5-4dc3-a127-4451790225a2");
                snprintf(cdi_id, sizeof cdi_id, "%s", device->cdi_device_ids[0]);
                snprintf(name, sizeof name, "%s", device->device_name);
                assert_string_equal(cdi_id, "takt.dev/claim=" UID_A "-0");
                assert_string_equal(name, "gpu-aa");
        }
        dra__prepare_response__free_unpacked(all, NULL);
        return text;
}

static void prepare(const char *text)
{
        static const char *const a[] = {UID_A};

        ask_about(PREPARE, a, 1);
        server_says(200, text);
        talk();
}

static const char *unprepare(const char *uid)
{
        const char *uids[] = {uid};
        static char text[512];
        Dra__UnprepareResponse *all;

        ask_about(UNPREPARE, uids, 1);
        all = dra__unprepare_response__unpack(NULL, heard.size, heard.data);
        assert_int_equal(all->n_claims, 1);
        assert_string_equal(all->claims[0]->key, uid);
        snprintf(text, sizeof text, "%s", all->claims[0]->value ? all->claims[0]->value->error : "");
        dra__unprepare_response__free_unpacked(all, NULL);
        return text;
}

// As a kubelet of 1.37 sent and took them.
static void bytes_are_the_kubelets(void **state)
{
        static const char info[] =
                "\x0a\x09"
                "DRAPlugin\x12\x0cgpu.takt.dev\"\x0cv1.DRAPlugin\"\x14v1.DRAResourceHealth\"\x1av1alpha1."
                "DRAResourceHealth";
        static const char request[] = "\x0a\x32\x0a\x07"
                                      "default\x12$" UID_A "\x1a\x01"
                                      "a";
        static const char registered[] = "\x08\x01";

        (void)state;
        call("/pluginregistration.Registration/GetInfo", "", 0);
        assert_int_equal(heard.size, sizeof info - 1);
        assert_memory_equal(heard.data, info, sizeof info - 1);
        call("/pluginregistration.Registration/NotifyRegistrationStatus", registered, 2);
        assert_int_equal(heard.status, GRPC_OK);
        assert_int_equal(heard.n_messages, 1);
        assert_true(is_registered);
        call(PREPARE, request, sizeof request - 1);
        assert_string_equal(asked.path, "/apis/resource.k8s.io/v1/namespaces/default/resourceclaims/a");
        server_says(200, FORTY);
        talk();
        assert_string_equal(error_of(UID_A, 0, NULL), "");
}

static void a_claim_is_a_tenant_a_cdi_file_and_a_record(void **state)
{
        char path[256], text[4096];
        Dra__Device device;

        (void)state;
        prepare(FORTY);
        assert_string_equal(error_of(UID_A, 0, &device), "");
        assert_int_equal(fake_n_tenants(), 1);
        assert_string_equal(fake.tenant[0].name, "default/chat/gpu");
        assert_true(is_there("claims", UID_A));
        assert_int_equal(access(fake.tenant[0].dir, F_OK), 0);
        snprintf(path, sizeof path, "%s/gpu.takt.dev-%s.json", cdi, UID_A);
        assert_true(file_read_whole(path, text, sizeof text) > 0);
        assert_non_null(strstr(text, "TAKT_MEMORY_QUOTA=8589934592"));
        assert_non_null(strstr(text, "NVIDIA_VISIBLE_DEVICES=GPU-Aa"));
        assert_non_null(strstr(text, fake.tenant[0].dir));
        assert_string_equal(unprepare(UID_A), "");
        assert_int_equal(fake_n_tenants(), 0);
        assert_false(is_there("claims", UID_A));
        assert_int_not_equal(access(path, F_OK), 0);
        assert_int_not_equal(access(fake.tenant[0].dir, F_OK), 0);
}

// As long as Kubernetes allows: it is the label of what it uses.
static void a_tenants_name_is_whole(void **state)
{
        char namespace[64], pod[254], request[64], name[384], why[512], text[2048];
        struct claim_name of;
        json_t *object;

        (void)state;
        memset(namespace, 'n', 63), memset(pod, 'p', 253), memset(request, 'r', 63);
        namespace[63] = pod[253] = request[63] = 0;
        snprintf(name, sizeof name, "%s/%s/%s", namespace, pod, request);
        assert_int_equal(claim_name_check(UID_A, namespace, "a", &of, why, sizeof why), 0);
        snprintf(text, sizeof text, CLAIM(UID_A, RESULT("%s", "gpu-aa", "40", "8Gi"), "", POD("%s", POD_A)),
                 request, pod);
        object = json_loads(text, 0, NULL);
        assert_int_equal(claims_take(&dra.claims, object, &of, why, sizeof why), 0);
        json_decref(object);
        assert_string_equal(fake.tenant[0].name, name);
        restart();
        assert_string_equal(fake.tenant[0].name, name);
}

static void prepared_twice_is_prepared_once(void **state)
{
        (void)state;
        prepare(FORTY);
        prepare(FORTY);
        assert_string_equal(error_of(UID_A, 0, NULL), "");
        assert_int_equal(fake_n_tenants(), 1);
        assert_int_equal(fake.share[0], 400000);
}

static void unprepare_of_the_unknown_is_success(void **state)
{
        (void)state;
        assert_string_equal(unprepare(UID_B), "");
        prepare(FORTY);
        assert_string_equal(unprepare(UID_B), "");
        assert_int_equal(fake_n_tenants(), 1);
        assert_string_equal(unprepare(UID_A), "");
        assert_string_equal(unprepare(UID_A), "");
}

static void another_allocation_is_another_tenant(void **state)
{
        (void)state;
        prepare(FORTY);
        prepare(CLAIM(UID_A, RESULT("gpu", "gpu-bb", "30", "1Gi"), "", POD("chat", POD_A)));
        assert_int_equal(fake_n_tenants(), 1);
        assert_int_equal(fake.share[0], 0);
        assert_int_equal(fake.share[1], 300000);
}

static void the_next_daemon_takes_it_up(void **state)
{
        Dra__Device device;

        (void)state;
        prepare(FORTY);
        restart();
        assert_int_equal(fake_n_tenants(), 1);
        assert_int_equal(fake.share[0], 400000);
        prepare(FORTY);
        assert_string_equal(error_of(UID_A, 0, &device), "");
        assert_int_equal(fake_n_tenants(), 1);
        unprepare(UID_A);
        restart();
        assert_int_equal(fake_n_tenants(), 0);
}

static void put(const char *folder, const char *name, const char *text)
{
        char path[96];

        snprintf(path, sizeof path, "%s/%s", dir, folder);
        mkdir(path, 0755);
        assert_int_equal(file_write_whole(path, name, text), 0);
}

static void what_was_interrupted_is_swept(void **state)
{
        char path[256];

        (void)state;
        prepare(FORTY);
        put("cdi", "gpu.takt.dev-" UID_B ".json", "{}");
        put("cdi", "somebody.else.json", "{}");
        snprintf(path, sizeof path, "%s/claim/0123456789ab", dir);
        mkdir(path, 0755);
        restart();
        assert_false(is_there("cdi", "gpu.takt.dev-" UID_B ".json"));
        assert_true(is_there("cdi", "gpu.takt.dev-" UID_A ".json"));
        assert_true(is_there("cdi", "somebody.else.json"));
        assert_int_not_equal(access(path, F_OK), 0);
        put("cdi", "somebody.else.json", "{}");
        snprintf(path, sizeof path, "%s/somebody.else.json", cdi);
        unlink(path);
}

static void a_bad_record_is_kept_until_the_kubelet_has_its_say(void **state)
{
        (void)state;
        put("claims", UID_A, "{\"metadata\":{}");
        put("claims", UID_B, "");
        restart();
        assert_int_equal(fake_n_tenants(), 0);
        assert_true(is_there("claims", UID_A));
        prepare(FORTY);
        assert_string_equal(error_of(UID_A, 0, NULL), "");
        assert_int_equal(fake_n_tenants(), 1);
        assert_string_equal(unprepare(UID_B), "");
        assert_false(is_there("claims", UID_B));
}

static void refusals_carry_the_numbers_and_leave_nothing(void **state)
{
        static const char *const both[] = {UID_A, UID_B};

        (void)state;
        fake.share[0] = 700000;
        prepare(FORTY);
        assert_string_equal(error_of(UID_A, 0, NULL),
                            "claim default/a: the promise of another would break (20 % too much)");
        assert_int_equal(fake_n_tenants(), 0);
        assert_false(is_there("claims", UID_A));
        assert_false(is_there("cdi", "gpu.takt.dev-" UID_A ".json"));
        // The second of two shares does not fit: the first is given back.
        prepare(CLAIM(UID_A, RESULT("a", "gpu-bb", "20", "1Gi") "," RESULT("b", "gpu-aa", "40", "1Gi"), "",
                      ""));
        assert_int_equal(fake_n_tenants(), 0);
        assert_int_equal(fake.share[1], 0);
        ask_about(PREPARE, both, 0);
        assert_int_equal(heard.status, GRPC_OK);
        assert_int_equal(heard.size, 0);
}

static void what_cannot_be_recorded_is_not_prepared(void **state)
{
        char path[128];

        (void)state;
        snprintf(path, sizeof path, "%s/claims/" UID_A, dir);
        mkdir(path, 0755);
        prepare(FORTY);
        assert_non_null(strstr(error_of(UID_A, 0, NULL), "claim default/a: its record: "));
        assert_int_equal(fake_n_tenants(), 0);
        assert_false(is_there("cdi", "gpu.takt.dev-" UID_A ".json"));
        rmdir(path);
}

// Half given up, a claim that is asked for again is not taken for one that is prepared.
static void what_cannot_be_forgotten_is_made_anew(void **state)
{
        char path[128];

        (void)state;
        prepare(FORTY);
        snprintf(path, sizeof path, "%s/claims/" UID_A, dir);
        unlink(path);
        mkdir(path, 0755);
        assert_non_null(strstr(unprepare(UID_A), "its record: "));
        assert_int_equal(fake_n_tenants(), 0);
        rmdir(path);
        prepare(FORTY);
        assert_string_equal(error_of(UID_A, 0, NULL), "");
        assert_int_equal(fake_n_tenants(), 1);
}

static void every_claim_has_its_entry(void **state)
{
        static const char *const three[] = {"../../etc/passwd", UID_A, ""};

        (void)state;
        ask_about(PREPARE, three, 3);
        assert_false(heard.ended);
        server_says(200, FORTY);
        talk();
        assert_non_null(strstr(error_of("../../etc/passwd", 0, NULL), "no claim's UID"));
        assert_string_equal(error_of(UID_A, 1, NULL), "");
        assert_non_null(strstr(error_of("", 2, NULL), "no claim's UID"));
}

static void without_an_answer_what_is_prepared_stays(void **state)
{
        static const char *const a[] = {UID_A};

        (void)state;
        ask_about(PREPARE, a, 1);
        server_says(403, NULL);
        talk();
        assert_non_null(strstr(error_of(UID_A, 0, NULL), "resourceclaims: get"));
        prepare(FORTY);
        ask_about(PREPARE, a, 1);
        server_says(0, NULL);
        talk();
        assert_string_equal(error_of(UID_A, 0, NULL), "");
        ask_about(PREPARE, a, 1);
        server_says(404, NULL);
        talk();
        assert_non_null(strstr(error_of(UID_A, 0, NULL), "the API server"));
        assert_int_equal(fake_n_tenants(), 1); // until it is unprepared
}

static void unprepare_forestalls_a_prepare_that_waits(void **state)
{
        static const char *const a[] = {UID_A};
        struct heard first;

        (void)state;
        ask_about(PREPARE, a, 1);
        assert_string_equal(unprepare(UID_A), "");
        assert_null(asked.done);
        first = heard;
        (void)first;
        assert_true(dra.unsent);
        assert_int_equal(fake_n_tenants(), 0);
}

static void who_asks_no_more_gets_nothing(void **state)
{
        static const char *const a[] = {UID_A};

        (void)state;
        ask_about(PREPARE, a, 1);
        end(); // the kubelet is gone
        assert_null(asked.done);
        assert_int_equal(fake_n_tenants(), 0);
        server = rpc_server(&dra_service, &dra);
        client = rpc_client();
        prepare(FORTY);
        assert_int_equal(fake_n_tenants(), 1);
}

static void only_pods_that_it_is_reserved_for_may_join(void **state)
{
        (void)state;
        assert_int_equal(dra_may_join(&dra, 0, POD_A, 1), -ENOENT);
        prepare(FORTY);
        assert_int_equal(dra_may_join(&dra, 0, POD_A, 1), 1);
        assert_int_equal(asked.n, 1);
        assert_int_equal(dra_may_join(&dra, 0, POD_B, TAKT_S), 0);
        assert_int_equal(dra_may_join(&dra, 0, POD_B, TAKT_S + 1), 0);
        assert_int_equal(asked.n, 2); // no more than one a second
        server_says(200, CLAIM(UID_A, RESULT("gpu", "gpu-aa", "40", "8Gi"), "",
                               POD("chat", POD_A) "," POD("chat2", POD_B)));
        assert_int_equal(dra_may_join(&dra, 0, POD_B, 2 * TAKT_S), 1);
        restart(); // and the record knows it
        assert_int_equal(dra_may_join(&dra, 0, POD_B, 2 * TAKT_S), 1);
        assert_int_equal(fake_n_tenants(), 1);
}

static int health_of(uint32_t device)
{
        Dra__WatchResponse *all = dra__watch_response__unpack(NULL, heard.size, heard.data);
        int health = (int)all->devices[device]->health;

        assert_int_equal(all->n_devices, 2);
        assert_string_equal(all->devices[device]->device->pool_name, "n1");
        assert_string_equal(all->devices[device]->device->device_name, device ? "gpu-bb" : "gpu-aa");
        dra__watch_response__free_unpacked(all, NULL);
        return health;
}

static void health_is_told_and_told_again(void **state)
{
        (void)state;
        assert_int_equal(dra_due(&dra), TAKT_NEVER);
        call("/v1.DRAResourceHealth/NodeWatchResources", "", 0);
        assert_int_equal(heard.n_messages, 1);
        assert_int_equal(health_of(1), DRA__HEALTH_STATUS__HEALTHY);
        dra_health(&dra, 2);
        talk();
        assert_int_equal(heard.n_messages, 2);
        assert_int_equal(health_of(0), DRA__HEALTH_STATUS__HEALTHY);
        assert_int_equal(health_of(1), DRA__HEALTH_STATUS__UNHEALTHY);
        assert_true(dra_due(&dra) <= dra.told_ns + 25 * TAKT_S); // after 30 s it is unknown
        dra_tick(&dra, dra_due(&dra) - 1);
        talk();
        assert_int_equal(heard.n_messages, 2);
        dra_tick(&dra, dra_due(&dra));
        talk();
        assert_int_equal(heard.n_messages, 3);
        dra_close(&dra);
        talk();
        assert_true(heard.ended);
        assert_int_equal(heard.status, GRPC_OK);
}

// Kubelets up to 1.36 ask by this name; what they do not know of the message they pass over.
static void health_is_told_to_older_kubelets(void **state)
{
        (void)state;
        dra_health(&dra, 2);
        call("/v1alpha1.DRAResourceHealth/NodeWatchResources", "", 0);
        assert_int_equal(heard.n_messages, 1);
        assert_int_equal(health_of(0), DRA__HEALTH_STATUS__HEALTHY);
        assert_int_equal(health_of(1), DRA__HEALTH_STATUS__UNHEALTHY);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
        const struct CMUnitTest tests[] = {
                TEST(bytes_are_the_kubelets),
                TEST(a_claim_is_a_tenant_a_cdi_file_and_a_record),
                TEST(a_tenants_name_is_whole),
                TEST(prepared_twice_is_prepared_once),
                TEST(unprepare_of_the_unknown_is_success),
                TEST(another_allocation_is_another_tenant),
                TEST(the_next_daemon_takes_it_up),
                TEST(what_was_interrupted_is_swept),
                TEST(a_bad_record_is_kept_until_the_kubelet_has_its_say),
                TEST(refusals_carry_the_numbers_and_leave_nothing),
                TEST(what_cannot_be_recorded_is_not_prepared),
                TEST(what_cannot_be_forgotten_is_made_anew),
                TEST(every_claim_has_its_entry),
                TEST(without_an_answer_what_is_prepared_stays),
                TEST(unprepare_forestalls_a_prepare_that_waits),
                TEST(who_asks_no_more_gets_nothing),
                TEST(only_pods_that_it_is_reserved_for_may_join),
                TEST(health_is_told_and_told_again),
                TEST(health_is_told_to_older_kubelets),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
