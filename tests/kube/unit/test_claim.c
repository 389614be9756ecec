// Claims as the API server gives them: what is taken, and each mistake with its claim, key and value.
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include "base/time.h"
#include "fake_dra.h"
#include "kube/quantity.h"

static struct claim claim;
static char why[512];

static int take(const char *text)
{
        json_t *object = json_loads(text, 0, NULL);
        struct claim_name of;
        int error;

        assert_non_null(object);
        assert_int_equal(claim_name_check(UID_A, "default", "a", &of, why, sizeof why), 0);
        why[0] = 0;
        error = claim_read(object, &of, &fake_pool, &claim, why, sizeof why);
        json_decref(object);
        return error;
}

static void what_was_counted_is_what_is_promised(void **state)
{
        const struct claim_result *r = claim.result;

        (void)state;
        assert_int_equal(take(FORTY), 0);
        assert_int_equal(claim.n_results, 1);
        assert_string_equal(r->request, "gpu");
        assert_string_equal(r->share_id, "a281f970-1fa5-4dc3-a127-4451790225a2");
        assert_int_equal(r->gpu, 0);
        assert_int_equal(r->contract.share_ppm, 400000);
        assert_int_equal(r->contract.memory_bytes, UINT64_C(8) << 30);
        assert_int_equal(r->contract.class, CORE_CLASS_FAIR); // no objective
        assert_int_equal(r->contract.weight, 400);
        assert_string_equal(claim.pod_name, "chat");
        assert_true(claim_has_pod(&claim, POD_A));
        assert_false(claim_has_pod(&claim, POD_B));
}

static void the_claims_own_word_is_the_last(void **state)
{
        (void)state;
        assert_int_equal(take(CLAIM(UID_A, RESULT("gpu", "gpu-bb", "30", "1Gi"),
                                    CONFIG("FromClaim", ",\"itl\":\"100ms\"") "," CONFIG(
                                            "FromClass", ",\"ttft\":\"2s\",\"itl\":\"200ms\""),
                                    "")),
                         0);
        assert_int_equal(claim.result[0].gpu, 1);
        assert_int_equal(claim.result[0].contract.class, CORE_CLASS_DEADLINE);
        assert_int_equal(claim.result[0].contract.ttft_ns, 2 * TAKT_S);
        assert_int_equal(claim.result[0].contract.itl_ns, 100 * TAKT_MS);
        assert_int_equal(claim.n_pods, 0);
}

static void a_configuration_is_of_its_requests(void **state)
{
        static const char of_b[] = CLAIM(
                UID_A, RESULT("a", "gpu-aa", "30", "1Gi") "," RESULT("b/sub", "gpu-aa", "20", "1Gi"),
                "{\"source\":\"FromClaim\",\"requests\":[\"b\"],\"opaque\":{\"driver\":\"gpu.takt.dev\","
                "\"parameters\":{\"apiVersion\":\"gpu.takt.dev/v1\",\"kind\":\"Promise\",\"slo\":\"1s\"}}},"
                "{\"source\":\"FromClaim\",\"opaque\":{\"driver\":\"other.example\",\"parameters\":{"
                "\"nonsense\":1}}}",
                "");

        (void)state;
        assert_int_equal(take(of_b), 0);
        assert_int_equal(claim.result[0].contract.slo_ns, 0);
        assert_int_equal(claim.result[1].contract.slo_ns, TAKT_S);
        assert_string_equal(claim.result[1].request, "b");
}

static void results_of_others_are_not_ours(void **state)
{
        (void)state;
        assert_int_equal(
                take(CLAIM(UID_A,
                           RESULT_OF("other.example", "x", "y", "") "," RESULT("gpu", "gpu-aa", "10", "0"),
                           "", "")),
                0);
        assert_int_equal(claim.n_results, 1);
        assert_int_equal(claim.result[0].contract.memory_bytes, 0);
}

static void mistakes_are_named(void **state)
{
        static const struct {
                const char *text, *why;
        } wrong[] = {
                {CLAIM(UID_B, RESULT("gpu", "gpu-aa", "40", "8Gi"), "", ""), "it was made anew"},
                {"{\"metadata\":{\"uid\":\"" UID_A "\"}}", "is not allocated"},
                {CLAIM(UID_A,
                       "{\"driver\":\"gpu.takt.dev\",\"request\":\"gpu\",\"pool\":\"n2\",\"device\":\"gpu-"
                       "aa\"}",
                       "", ""),
                 "pool: \"n2\" is not this node's (n1)"},
                {CLAIM(UID_A, "", "", ""), "has no device of the driver gpu.takt.dev"},
                {CLAIM(UID_A, RESULT("gpu", "gpu-cc", "40", "8Gi"), "", ""), "device: \"gpu-cc\""},
                {CLAIM(UID_A, RESULT_OF("gpu.takt.dev", "gpu", "gpu-aa", ""), "", ""),
                 "feature gate DRAConsumableCapacity"},
                {CLAIM(UID_A, RESULT("gpu", "gpu-aa", "101", "8Gi"), "", ""), "takt.dev/share: \"101\""},
                {CLAIM(UID_A, RESULT("gpu", "gpu-aa", "0", "8Gi"), "", ""), "takt.dev/share: \"0\""},
                {CLAIM(UID_A, RESULT("gpu", "gpu-aa", "40", "much"), "", ""), "memory: \"much\""},
                {CLAIM(UID_A, RESULT("gpu", "gpu-aa", "40", "80Gi"), "", ""), "memory: 80.0 GiB is more"},
                {CLAIM(UID_A, RESULT("gpu", "gpu-aa", "40", "1Gi"), CONFIG("FromClaim", ",\"ttft\":\"-1\""),
                       ""),
                 "claim default/a: configuration: ttft: \"-1\" is no value"},
                {CLAIM(UID_A, RESULT("gpu", "gpu-aa", "40", "1Gi"), CONFIG("FromClaim", ",\"tfft\":\"1s\""),
                       ""),
                 "unknown key \"tfft\""},
                {CLAIM(UID_A, RESULT("gpu", "gpu-aa", "40", "1Gi"), CONFIG("FromClaim", ",\"ttft\":2"), ""),
                 "ttft: its value is no text"},
                {CLAIM(UID_A, RESULT("gpu", "gpu-aa", "40", "1Gi"), CONFIG("FromClaim", ",\"share\":\"90%\""),
                       ""),
                 "share: is asked for as the claim's capacity"},
                {CLAIM(UID_A, RESULT("gpu", "gpu-aa", "40", "1Gi"),
                       CONFIG("FromClaim", ",\"weight\":\"10000\""), ""),
                 "weight: follows from the share"},
                {CLAIM(UID_A, RESULT("gpu", "gpu-aa", "40", "1Gi"), CONFIG("FromClaim", ",\"ttft\":\"1s\""),
                       ""),
                 "itl: is missing"},
                {CLAIM(UID_A, RESULT("gpu", "gpu-aa", "40", "1Gi"),
                       "{\"source\":\"FromClass\",\"opaque\":{\"driver\":\"gpu.takt.dev\",\"parameters\":{"
                       "\"kind\":\"Promise\"}}}",
                       ""),
                 "apiVersion: \"\" is not gpu.takt.dev/v1"},
                {CLAIM(UID_A, RESULT("gpu", "gpu-aa", "40", "1Gi") "," RESULT("gpu", "gpu-bb", "40", "1Gi"),
                       "", ""),
                 "request gpu: has several devices"},
                {CLAIM(UID_A, RESULT("gpu", "gpu-aa", "40", "1Gi"), "", POD("x", "../../etc")),
                 "reservedFor: \"../../etc\""},
                {CLAIM(UID_A, RESULT("gpu", "gpu-aa", "40", "1Gi"), "", POD("x\\ny", POD_A)),
                 "reservedFor: \"x?y\" is no pod's name"},
                {CLAIM(UID_A, RESULT("gpu\\n1", "gpu-aa", "40", "1Gi"), "", ""), "request: \"gpu?1\""},
                {CLAIM(UID_A, RESULT("gpu", "gpu\\u001b", "40", "1Gi"), "", ""), "device: \"gpu?\""},
                {"[]", "it was made anew"},
        };

        (void)state;
        for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
                assert_int_equal(take(wrong[i].text), -EINVAL);
                if (!strstr(why, wrong[i].why))
                        fail_msg("\"%s\" does not say \"%s\"", why, wrong[i].why);
        }
}

static void names_may_stand_in_paths(void **state)
{
        struct claim_name of;

        (void)state;
        assert_int_equal(claim_name_check("../x", "default", "a", &of, why, sizeof why), -EINVAL);
        assert_int_equal(claim_name_check("", "default", "a", &of, why, sizeof why), -EINVAL);
        assert_int_equal(claim_name_check(UID_A "0", "default", "a", &of, why, sizeof why), -EINVAL);
        assert_int_equal(claim_name_check(UID_A, "default", "a\nb", &of, why, sizeof why), -EINVAL);
        assert_string_equal(why, "\"default/a?b\" is no claim's name");
        assert_int_equal(claim_name_check(UID_A, "default", "a/b", &of, why, sizeof why), -EINVAL);
        assert_int_equal(claim_name_check(UID_A, "", "a", &of, why, sizeof why), -EINVAL);
        assert_int_equal(claim_name_check(UID_A, "default", "a?x=y", &of, why, sizeof why), -EINVAL);
}

static void a_record_reads_as_the_claim(void **state)
{
        const struct claim_name of = {UID_A, "default", "a"};
        json_t *object = json_loads(FORTY, 0, NULL), *record = claim_record(object, &of);
        char *text = json_dumps(record, 0);
        struct claim first;

        (void)state;
        assert_int_equal(take(FORTY), 0);
        first = claim;
        assert_int_equal(take(text), 0);
        assert_true(claim_same(&first, &claim));
        assert_true(claim_has_pod(&claim, POD_A));
        assert_int_equal(take(CLAIM(UID_A, RESULT("gpu", "gpu-aa", "30", "8Gi"), "", "")), 0);
        assert_false(claim_same(&first, &claim));
        free(text);
        json_decref(record);
        json_decref(object);
}

static void amounts(void **state)
{
        static const struct {
                const char *text;
                uint64_t value;
        } right[] = {{"40", 40},
                     {"8Gi", UINT64_C(8) << 30},
                     {"1500m", 2},
                     {"1.5Ki", 1536},
                     {"1e3", 1000},
                     {"2k", 2000},
                     {"0", 0},
                     {"1E", UINT64_C(1000000000000000000)},
                     {"85899345920", UINT64_C(80) << 30}};
        static const char *const wrong[] = {"",    "x",    "-1", "+1",   " 1", "1 ",           "0x10", "1Kii",
                                            "inf", "1..2", "1e", "1e99", ".",  "99999999999E", "1KI",  "Gi"};
        uint64_t value;
        char text[24];

        (void)state;
        for (size_t i = 0; i < sizeof right / sizeof *right; i++) {
                assert_int_equal(quantity_parse(right[i].text, &value), 0);
                assert_int_equal(value, right[i].value);
        }
        for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++)
                if (quantity_parse(wrong[i], &value) == 0)
                        fail_msg("\"%s\" was taken", wrong[i]);
        quantity_print(text, UINT64_C(40) << 30);
        assert_string_equal(text, "40Gi");
        quantity_print(text, 81559 * (UINT64_C(1) << 20));
        assert_string_equal(text, "81559Mi");
        quantity_print(text, 1023);
        assert_string_equal(text, "1023");
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(what_was_counted_is_what_is_promised),
                cmocka_unit_test(the_claims_own_word_is_the_last),
                cmocka_unit_test(a_configuration_is_of_its_requests),
                cmocka_unit_test(results_of_others_are_not_ours),
                cmocka_unit_test(mistakes_are_named),
                cmocka_unit_test(names_may_stand_in_paths),
                cmocka_unit_test(a_record_reads_as_the_claim),
                cmocka_unit_test(amounts),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
