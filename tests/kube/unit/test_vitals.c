// When a GPU is ill, and when it is well again.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include "kube/limits.h"
#include "kube/vitals.h"

static const uint64_t start_ns = 1000 * TAKT_S;

static struct vitals known(void)
{
        struct vitals v = {0};

        vitals_answers(&v, start_ns);
        return v;
}

static void an_applications_fault_is_not_the_gpus(void **state)
{
        static const uint32_t faults[] = {8, 13, 31, 43, 45, 63, 68, 94, 109};
        struct vitals v = known();

        (void)state;
        for (size_t i = 0; i < sizeof faults / sizeof *faults; i++)
                vitals_error(&v, faults[i], start_ns);
        assert_false(vitals_lost(&v));
        vitals_error(&v, 79, start_ns);
        assert_true(vitals_lost(&v));
        assert_string_equal(v.why, "XID 79");
}

static void an_error_that_nobody_knows_makes_ill(void **state)
{
        struct vitals v = known();

        (void)state;
        vitals_error(&v, 4711, start_ns);
        assert_true(vitals_lost(&v));
}

static void it_is_well_when_it_has_been_calm(void **state)
{
        struct vitals v = known();

        (void)state;
        vitals_error(&v, 48, start_ns);
        vitals_answers(&v, start_ns + KUBE_CALM_NS - 1);
        assert_true(vitals_lost(&v));
        vitals_error(&v, 48, start_ns + KUBE_CALM_NS - 1);
        vitals_answers(&v, start_ns + KUBE_CALM_NS);
        assert_true(vitals_lost(&v));
        vitals_answers(&v, start_ns + 2 * KUBE_CALM_NS - 1);
        assert_false(vitals_lost(&v));
}

static void one_that_is_silent_is_lost_until_it_answers(void **state)
{
        struct vitals v = known();

        (void)state;
        vitals_silent(&v, "GPU is lost");
        assert_true(vitals_lost(&v));
        assert_string_equal(v.why, "GPU is lost");
        vitals_silent(&v, "another word");
        assert_string_equal(v.why, "GPU is lost");
        vitals_answers(&v, start_ns + 1);
        assert_false(vitals_lost(&v));
        vitals_silent(&v, "and again");
        assert_string_equal(v.why, "and again");
}

static void the_first_reason_stays(void **state)
{
        struct vitals v = known();

        (void)state;
        vitals_error(&v, 79, start_ns);
        vitals_silent(&v, "GPU is lost");
        assert_string_equal(v.why, "XID 79");
        vitals_answers(&v, start_ns + KUBE_CALM_NS);
        vitals_silent(&v, "GPU is lost");
        vitals_error(&v, 79, start_ns + KUBE_CALM_NS);
        assert_string_equal(v.why, "GPU is lost");
}

static void one_that_nvml_never_knew_is_not_watched(void **state)
{
        struct vitals v = {0};

        (void)state;
        vitals_silent(&v, "Not Found");
        assert_false(vitals_lost(&v));
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(an_applications_fault_is_not_the_gpus),
                cmocka_unit_test(an_error_that_nobody_knows_makes_ill),
                cmocka_unit_test(it_is_well_when_it_has_been_calm),
                cmocka_unit_test(one_that_is_silent_is_lost_until_it_answers),
                cmocka_unit_test(the_first_reason_stays),
                cmocka_unit_test(one_that_nvml_never_knew_is_not_watched),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
