// The configuration and what is said in it: NVIDIA's file as it is, Takt's beside it, and every error with
// its place.
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>
#include "base/time.h"
#include "kube/config.h"
#include "kube/promise.h"

static struct config config;
static struct slots slots;
static char why[256];

static int parse(const char *text)
{
        why[0] = 0;
        return config_parse(text, strlen(text), &config, why, sizeof why);
}

static char log_text[1024];
static FILE *log_file;
static int log_kept;

// What is logged from now on, until log_end, is in log_text.
static void log_begin(void)
{
        log_file = tmpfile();
        assert_non_null(log_file);
        log_kept = dup(STDERR_FILENO);
        dup2(fileno(log_file), STDERR_FILENO);
}

static void log_end(void)
{
        dup2(log_kept, STDERR_FILENO);
        close(log_kept);
        rewind(log_file);
        log_text[fread(log_text, 1, sizeof log_text - 1, log_file)] = 0;
        fclose(log_file);
}

static int apply(void)
{
        int error;

        log_begin();
        error = config_apply(&config, &slots, why, sizeof why);
        log_end();
        return error;
}

static const char nvidias[] = "version: v1\n"
                              "flags:\n"
                              "  migStrategy: \"none\"\n"
                              "  plugin: {deviceListStrategy: [envvar], passDeviceSpecs: true}\n"
                              "  gfd: {oneshot: false, sleepInterval: 60s}\n"
                              "sharing:\n"
                              "  timeSlicing:\n"
                              "    renameByDefault: true\n"
                              "    failRequestsGreaterThanOne: true\n"
                              "    resources:\n"
                              "    - name: nvidia.com/gpu\n"
                              "      replicas: 10\n";

static void nvidias_file_is_taken_as_it_is(void **state)
{
        (void)state;
        assert_int_equal(parse(nvidias), 0);
        assert_int_equal(config.n_resources, 1);
        assert_string_equal(config.resource[0].name, "nvidia.com/gpu.shared");
        assert_int_equal(config.resource[0].replicas, 10);
        assert_int_equal(config.resource[0].devices.n_first, UINT32_MAX);
        assert_true(config.resource[0].single);
        assert_int_equal(config.policy, SLOTS_DISTRIBUTED);
        assert_int_equal(config.resource[0].contract.class, CORE_CLASS_FAIR);
        assert_string_equal(config.kubelet, "/var/lib/kubelet");
}

// NVIDIA's plugin reads it, and says that it leaves it alone.
static void what_nvidias_plugin_leaves_alone_is_left_alone(void **state)
{
        int error;

        (void)state;
        log_begin();
        error = parse("version: v1\n"
                      "resources:\n"
                      "  gpus: [{pattern: \"A100-*\", name: a100}]\n"
                      "  mig: [{pattern: 1g.5gb, name: mig-small}]\n"
                      "sharing: {timeSlicing: {resources: [{name: nvidia.com/gpu, replicas: 2}]}}\n");
        log_end();
        assert_int_equal(error, 0);
        assert_int_equal(config.n_resources, 1);
        assert_string_equal(config.resource[0].name, "nvidia.com/gpu");
        assert_string_equal(log_text, "taktd: --kube: line 2: resources: nothing of it is used; "
                                      "sharing.timeSlicing.resources is\n");
}

static void name_without_a_domain_is_of_nvidias(void **state)
{
        char text[512];

        (void)state;
        assert_int_equal(parse("sharing: {timeSlicing: {resources: [{name: gpu, replicas: 2},\n"
                               "  {name: nvidia.com/gpu, rename: chat, replicas: 2},\n"
                               "  {rename: batch, name: gpu, replicas: 2},\n"
                               "  {name: gpu, rename: takt.dev/gpu, replicas: 2}]}}\n"),
                         0);
        assert_string_equal(config.resource[0].name, "nvidia.com/gpu");
        assert_string_equal(config.resource[1].name, "nvidia.com/chat");
        assert_string_equal(config.resource[2].name, "nvidia.com/batch");
        assert_string_equal(config.resource[3].name, "takt.dev/gpu");
        assert_int_equal(parse("sharing: {timeSlicing: {renameByDefault: true, resources: [\n"
                               "  {name: gpu, replicas: 2}]}}\n"),
                         0);
        assert_string_equal(config.resource[0].name, "nvidia.com/gpu.shared");
        for (int n = 40; n < 60; n++) { // with the domain and ".shared" before it is too long
                snprintf(text, sizeof text,
                         "sharing: {timeSlicing: {renameByDefault: true, resources: [\n"
                         "  {name: %0*d, replicas: 2}]}}\n",
                         n, 0);
                assert_int_equal(parse(text), n <= 45 ? 0 : -EINVAL);
                assert_string_equal(why, n <= 45 ? "" : "line 2: name: is no text of at most 45 bytes");
        }
}

static void the_api_server_and_the_node(void **state)
{
        static const char start[] =
                "sharing: {timeSlicing: {resources: [{name: a/b, replicas: 2, takt: {weight: 2}}, "
                "{name: a/c, replicas: 1}]}}\n";
        char text[512];

        (void)state;
        snprintf(text, sizeof text, "%s%s", start,
                 "takt: {node: n1, annotations: false, api: {server: 'https://h:1', ca: /c, token: /t}}");
        assert_int_equal(parse(text), 0);
        assert_string_equal(config.node, "n1");
        assert_string_equal(config.api.server, "https://h:1");
        assert_string_equal(config.api.ca, "/c");
        assert_string_equal(config.api.token, "/t");
        assert_true(config.no_annotations);
        assert_false(config.no_api);
        assert_true(config.resource[0].own);
        assert_false(config.resource[1].own);
        snprintf(text, sizeof text, "%s%s", start, "takt: {api: none, annotations: true}");
        assert_int_equal(parse(text), 0);
        assert_true(config.no_api);
        assert_false(config.no_annotations);
        snprintf(text, sizeof text, "%s%s", start, "takt: {api: {server: 'http://h:1'}}");
        assert_int_equal(parse(text), -EINVAL);
        assert_string_equal(why, "line 2: server: \"http://h:1\" is no https://HOST:PORT");
        snprintf(text, sizeof text, "%s%s", start, "takt: {api: {password: x}}");
        assert_int_equal(parse(text), -EINVAL);
        assert_string_equal(why, "line 2: unknown key \"password\" in api");
}

static void words_are_laid_over_a_promise(void **state)
{
        struct promise_words words = {0};
        struct core_contract contract = {
                .class = CORE_CLASS_FAIR, .weight = 7, .memory_bytes = 1 << 20, .share_ppm = 1000};
        char text[200];

        (void)state;
        assert_int_equal(promise_say(&words, "share", "30%", why, sizeof why), 0);
        assert_int_equal(promise_say(&words, "ttft", "2s", why, sizeof why), 0);
        assert_int_equal(promise_say(&words, "shere", "30%", why, sizeof why), -ENOENT);
        assert_int_equal(promise_say(&words, "itl", "0", why, sizeof why), -EINVAL);
        assert_true(promise_has_objective(&words));
        assert_int_equal(promise_lay(&words, &contract), 0);
        assert_int_equal(contract.share_ppm, 300000);
        assert_int_equal(contract.ttft_ns, 2 * TAKT_S);
        assert_int_equal(contract.itl_ns, 0);
        assert_int_equal(contract.weight, 7);
        assert_int_equal(contract.memory_bytes, 1 << 20);
        promise_text(&contract, text, sizeof text);
        assert_string_equal(text, "class fair, ttft 2000 ms, share 30 %, memory 0.0009766 GiB, weight 7");
        assert_int_equal(promise_say(&words, "class", "idle", why, sizeof why), 0);
        assert_int_equal(promise_lay(&words, &contract), 1);
        assert_int_equal(contract.class, CORE_CLASS_IDLE);
        for (size_t size = 1; size < sizeof text; size++) {
                memset(text, 'x', sizeof text);
                promise_text(&contract, text, size);
                assert_int_equal(strlen(text) < size, 1);
                assert_int_equal(text[size], 'x');
        }
}

// The resources' names do not depend on the order of keys.
static void keys_come_in_any_order(void **state)
{
        (void)state;
        assert_int_equal(parse("sharing:\n  timeSlicing:\n    resources:\n    - {replicas: 2, rename: "
                               "takt.dev/gpu, name: nvidia.com/gpu}\n"
                               "    - {replicas: 2, name: nvidia.com/gpu}\n"
                               "    renameByDefault: true\nversion: v1\n"),
                         0);
        assert_string_equal(config.resource[0].name, "takt.dev/gpu");
        assert_string_equal(config.resource[1].name, "nvidia.com/gpu.shared");
        assert_false(config.resource[0].single);
}

static const char ours[] =
        "version: v1\n"
        "sharing: {timeSlicing: {resources: [\n"
        "  {name: nvidia.com/gpu, rename: takt.dev/chat, replicas: 3, devices: [\"0\", GPU-b],\n"
        "   takt: {ttft: 2s, itl: 200ms, share: 30%, memory: 12Gi}},\n"
        "  {name: takt.dev/batch, replicas: 2, devices: 1, takt: {class: idle, weight: 7}}]}}\n"
        "takt: {kubelet: /k, shims: /s, lib: /i, driver: /d, libraryPath: /l, preload: true}\n";

static void promises_and_devices_are_the_resources_own(void **state)
{
        const struct core_contract *c = &config.resource[0].contract;

        (void)state;
        assert_int_equal(parse(ours), 0);
        assert_int_equal(c->class, CORE_CLASS_DEADLINE);
        assert_true(c->ttft_ns == 2 * TAKT_S && c->itl_ns == 200 * TAKT_MS &&
                    c->memory_bytes == UINT64_C(12) << 30);
        assert_int_equal(c->share_ppm, 300000);
        assert_int_equal(config.resource[1].contract.class, CORE_CLASS_IDLE);
        assert_int_equal(config.resource[1].contract.weight, 7);
        assert_string_equal(config.injection.driver, "/d");
        assert_true(config.injection.preload);
        slots.n_devices = 3;
        strcpy(slots.device[1].uuid, "GPU-b");
        for (int d = 0; d < 3; d++)
                slots.device[d].memory_bytes = UINT64_C(40) << 30;
        assert_int_equal(apply(), 0);
        assert_string_equal(log_text, "");
        assert_int_equal(slots.resource[0].devices, 3);
        assert_int_equal(slots.resource[1].devices, 1);
        slots.device[1].memory_bytes = UINT64_C(8) << 30;
        assert_int_equal(config_apply(&config, &slots, why, sizeof why), -EINVAL);
        assert_string_equal(why, "takt.dev/chat: memory: 12.0 GiB is more than the device's 8.0 GiB");
}

// One file is for all nodes of a cluster.
static void gpus_of_other_nodes_are_left_out(void **state)
{
        char text[1024] = "sharing: {timeSlicing: {resources: [{name: a/b, replicas: 2, devices: [";

        (void)state;
        memset(&slots, 0, sizeof slots);
        slots.n_devices = 2;
        strcpy(slots.device[0].uuid, "GPU-a");
        strcpy(slots.device[1].uuid, "GPU-b");
        assert_int_equal(parse("sharing: {timeSlicing: {resources: [\n"
                               "  {name: a/here, replicas: 2, devices: [GPU-b, 0]},\n"
                               "  {name: a/some, replicas: 2, devices: [GPU-x, GPU-b, 2]},\n"
                               "  {name: a/none, replicas: 2, devices: [GPU-y]}]}}\n"),
                         0);
        assert_int_equal(apply(), 0);
        assert_string_equal(log_text, "taktd: a/some: not on this node: GPU-x, 2\n"
                                      "taktd: a/none: not on this node: GPU-y; it offers nothing here\n");
        assert_int_equal(slots.n_resources, 3);
        assert_int_equal(slots.resource[0].devices, 3);
        assert_int_equal(slots.resource[1].devices, 2);
        assert_int_equal(slots.resource[2].devices, 0);
        assert_int_equal(parse("takt: {door: {dra: [GPU-x, GPU-a]}}\n"), 0);
        assert_int_equal(apply(), 0);
        assert_string_equal(log_text, "taktd: takt.door: not on this node: GPU-x\n");
        assert_int_equal(slots.claimed, 1);
        assert_int_equal(parse("takt: {door: {dra: [GPU-x]}}\n"), 0);
        assert_int_equal(apply(), 0);
        assert_string_equal(log_text, "taktd: takt.door: not on this node: GPU-x; it offers nothing here\n");
        assert_int_equal(slots.claimed, 0);
        for (int d = 0; d < KUBE_DEVICES_MAX; d++) // as many and as long as they may be
                snprintf(text + strlen(text), sizeof text - strlen(text), "%s%.*d", d ? ", " : "", 43, 7 + d);
        strcat(text, "]}]}}\n");
        assert_int_equal(parse(text), 0);
        assert_int_equal(apply(), 0);
        assert_non_null(strstr(log_text, "0022; it offers nothing here\n"));
}

static void part_of_a_gpu_is_refused(void **state)
{
        static const struct {
                const char *resource, *why;
        } parts[] = {
                {"name: nvidia.com/mig-1g.5gb", "name: nvidia.com/mig-1g.5gb"},
                {"name: mig-1g.5gb", "name: nvidia.com/mig-1g.5gb"},
                {"name: nvidia.com/mig-1g.5gb, rename: takt.dev/gpu", "name: nvidia.com/mig-1g.5gb"},
                {"rename: takt.dev/gpu, name: nvidia.com/mig-1g.5gb", "name: nvidia.com/mig-1g.5gb"},
                {"name: nvidia.com/gpu, rename: mig-1g.5gb", "rename: nvidia.com/mig-1g.5gb"},
                {"name: a/b, devices: [0, \"0:1\"]", "devices: 0:1"},
                {"name: a/b, devices: [MIG-b1028956-cfa2-0990-bf4a-5da9abb51763]",
                 "devices: MIG-b1028956-cfa2-0990-bf4a-5da9abb51763"},
                {"name: a/b, devices: [MIG-GPU-b1028956-cfa2-0990-bf4a-5da9abb51763/3/0]",
                 "devices: MIG-GPU-b1028956-cfa2-0990-bf4a-5da9abb51763/3/0"},
        };
        char text[512], expected[256];

        (void)state;
        for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
                snprintf(text, sizeof text, "sharing: {timeSlicing: {resources: [{%s, replicas: 2}]}}\n",
                         parts[i].resource);
                snprintf(expected, sizeof expected,
                         "line 1: %s: MIG is not supported; Takt shares whole GPUs", parts[i].why);
                assert_int_equal(parse(text), -EINVAL);
                assert_string_equal(why, expected);
        }
        assert_int_equal(parse("takt: {door: {dra: [\"1:0\"]}}\n"), -EINVAL);
        assert_string_equal(why, "line 1: dra: 1:0: MIG is not supported; Takt shares whole GPUs");
        assert_int_equal(parse("sharing: {timeSlicing: {resources: [{name: a/mig-1g.5gb, replicas: 2}]}}\n"),
                         0);
}

static void one_of_nvidias_flags_is_used(void **state)
{
        (void)state;
        assert_int_equal(parse("flags: {plugin: {sharedDevicesAllocationPolicy: packed, x: [1]}}\n"
                               "sharing: {timeSlicing: {resources: [{name: a/b, replicas: 2}]}}\n"),
                         0);
        assert_int_equal(config.policy, SLOTS_PACKED);
        assert_int_equal(parse("flags: {plugin: {sharedDevicesAllocationPolicy: tight}}\n"), -EINVAL);
        assert_string_equal(why, "line 1: sharedDevicesAllocationPolicy: is neither distributed nor packed "
                                 "nor least-degraded");
}

// A GPU is given away by one door only.
static void a_gpu_goes_by_claims_or_by_resources(void **state)
{
        (void)state;
        memset(&slots, 0, sizeof slots);
        slots.n_devices = 3;
        strcpy(slots.device[1].uuid, "GPU-b");
        assert_int_equal(parse("takt: {door: dra}\n"), 0);
        assert_int_equal(config_apply(&config, &slots, why, sizeof why), 0);
        assert_int_equal(slots.claimed, 7);
        assert_int_equal(slots.n_resources, 0);
        assert_int_equal(
                parse("sharing: {timeSlicing: {resources: [{name: a/b, replicas: 2, devices: [0]}]}}\n"
                      "takt: {door: {dra: [GPU-b, 2]}}\n"),
                0);
        assert_int_equal(config_apply(&config, &slots, why, sizeof why), 0);
        assert_int_equal(slots.claimed, 6);
        assert_int_equal(slots.resource[0].devices, 1);
        assert_int_equal(parse("sharing: {timeSlicing: {resources: [{name: a/b, replicas: 2}]}}\n"
                               "takt: {door: {dra: [1]}}\n"),
                         0);
        assert_int_equal(config_apply(&config, &slots, why, sizeof why), -EINVAL);
        assert_string_equal(why, "a/b: devices: GPU-b goes by claims already (takt.door): name only others");
        assert_int_equal(parse("sharing: {timeSlicing: {resources: [{name: a/b, replicas: 2}]}}\n"
                               "takt: {door: plugin}\n"),
                         0);
        assert_int_equal(config_apply(&config, &slots, why, sizeof why), 0);
        assert_int_equal(slots.claimed, 0);
}

static void what_is_wrong_is_named_with_its_line(void **state)
{
        static const struct {
                const char *text, *why;
        } wrong[] = {
                {"", "it is empty"},
                {"version: v1\n", "sharing.timeSlicing.resources: names no resource, and takt.door no GPU"},
                {"takt: {door: window}\n", "line 1: door: is neither plugin, dra nor a mapping {dra: GPUs}"},
                {"takt: {door: {dar: all}}\n", "line 1: unknown key \"dar\" in door"},
                {"takt: {door: {dra: none}}\n", "line 1: dra: is no number from 1 to 16"},
                {"version: v2\n", "line 1: version: is not v1"},
                {"version: v1\nshraing: {}\n", "line 2: unknown key \"shraing\" in the file"},
                {"version: v1\nversion: v1\n", "line 2: version: is there twice"},
                {"- a\n", "line 1: the file: is no mapping"},
                {"sharing: {mps: {}}\n", "line 1: mps: Takt shares in time slices; use timeSlicing"},
                {"sharing: {timeSlicing: {}}\n", "line 1: resources: is missing"},
                {"sharing: {timeSlicing: {resources: {}}}\n", "line 1: resources: is no list"},
                {"sharing: {timeSlicing: {renameByDefault: yes}}\n",
                 "line 1: renameByDefault: is neither true nor false"},
                {"takt: {registration: both}\n", "line 1: registration: is neither kubelet nor watcher"},
                {"a: [\n", "line 2: did not find expected node content"},
        };
        static const struct {
                const char *resource, *why;
        } bad[] = {
                {"{name: nvidia.com/gpu}", "line 4: replicas: is missing"},
                {"{name: nvidia.com/gpu, replicas: 0}", "line 4: replicas: is no number from 1 to 64"},
                {"{name: nvidia.com/gpu, replicas: 3x}", "line 4: replicas: is no number from 1 to 64"},
                {"{name: a/b/c, replicas: 3}", "line 4: name: \"a/b/c\" is no resource's name (domain/name)"},
                {"{replicas: 3}", "line 4: name: \"\" is no resource's name (domain/name)"},
                {"{name: nvidia.com/gpu, replicas: 3, colour: red}",
                 "line 4: unknown key \"colour\" in resources"},
                {"{name: nvidia.com/gpu, replicas: 3, devices: some}",
                 "line 4: devices: is no number from 1 to 16"},
                {"{name: a/b, replicas: 3, takt: {share: 300%}}",
                 "line 4: share: \"300%\" is no value for it (30%)"},
                {"{name: a/b, replicas: 3, takt: {ttft: -1}}",
                 "line 4: ttft: \"-1\" is no value for it (200ms)"},
                {"{name: a/b, replicas: 3, takt: {ttft: nan}}",
                 "line 4: ttft: \"nan\" is no value for it (200ms)"},
                {"{name: a/b, replicas: 3, takt: {speed: 9}}", "line 4: unknown key \"speed\" in takt"},
                {"{name: a/b, replicas: 3, takt: {slo: 1s}}",
                 "line 4: share: is missing, and objectives need one"},
                {"{name: a/b, replicas: 3, takt: {slo: 1s, itl: 1s, share: 30%}}",
                 "line 4: slo: goes with neither ttft nor itl"},
                {"{name: a/b, replicas: 3, takt: {ttft: 1s, share: 30%}}",
                 "line 4: itl: is missing (ttft and itl, or slo)"},
                {"{name: a/b, replicas: 3, takt: {class: urgent}}",
                 "line 4: class: \"urgent\" is no value for it (deadline, fair or idle)"},
        };
        char text[512];

        (void)state;
        for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
                assert_true(parse(wrong[i].text) < 0);
                assert_string_equal(why, wrong[i].why);
        }
        for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
                snprintf(text, sizeof text, "sharing:\n  timeSlicing:\n    resources:\n    - %s\n",
                         bad[i].resource);
                assert_int_equal(parse(text), -EINVAL);
                assert_string_equal(why, bad[i].why);
        }
        snprintf(text, sizeof text, "sharing: {timeSlicing: {resources: [%s, %s]}}",
                 "{name: a/b, replicas: 2}", "{name: a/b, replicas: 2}");
        assert_int_equal(parse(text), -EINVAL);
        assert_string_equal(why, "line 1: name: a/b is there twice");
}

static void a_promise_takes_no_nothing(void **state)
{
        static const char *const bad[][2] = {{"share", "0%"},    {"share", "30"},    {"memory", "0"},
                                             {"memory", "-1Gi"}, {"memory", "12Zi"}, {"weight", "0"},
                                             {"weight", "x"},    {"itl", "0ms"},     {"class", ""},
                                             {"slo", "2h"},      {"slo", ""}};
        struct core_contract contract = {0}, untouched = {0};

        (void)state;
        for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
                assert_int_equal(promise_set(&contract, bad[i][0], bad[i][1], why, sizeof why), -EINVAL);
        assert_int_equal(promise_set(&untouched, "Share", "30%", why, sizeof why), -ENOENT);
        assert_string_equal(why, "unknown key \"Share\"");
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(nvidias_file_is_taken_as_it_is),
                cmocka_unit_test(what_nvidias_plugin_leaves_alone_is_left_alone),
                cmocka_unit_test(name_without_a_domain_is_of_nvidias),
                cmocka_unit_test(keys_come_in_any_order),
                cmocka_unit_test(the_api_server_and_the_node),
                cmocka_unit_test(words_are_laid_over_a_promise),
                cmocka_unit_test(promises_and_devices_are_the_resources_own),
                cmocka_unit_test(gpus_of_other_nodes_are_left_out),
                cmocka_unit_test(part_of_a_gpu_is_refused),
                cmocka_unit_test(one_of_nvidias_flags_is_used),
                cmocka_unit_test(a_gpu_goes_by_claims_or_by_resources),
                cmocka_unit_test(what_is_wrong_is_named_with_its_line),
                cmocka_unit_test(a_promise_takes_no_nothing),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
