// base: the random numbers are those of the published generator, and the histogram's percentiles stay within
// their bound.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include "base/histogram.h"
#include "base/random.h"
#include "base/time.h"

static void random_is_seeded(void **state)
{
        struct takt_random a, b;

        (void)state;
        takt_random_seed(&a, 7);
        takt_random_seed(&b, 7);
        for (int i = 0; i < 100; i++)
                assert_true(takt_random_next(&a) == takt_random_next(&b));
        takt_random_seed(&b, 8);
        assert_true(takt_random_next(&a) != takt_random_next(&b));
}

// The first output of xoshiro256++ from the state 1, 2, 3, 4 is rotl(1 + 4, 23) + 1.
static void random_is_xoshiro(void **state)
{
        struct takt_random r = {{1, 2, 3, 4}};

        (void)state;
        assert_true(takt_random_next(&r) == (UINT64_C(5) << 23) + 1);
        assert_true(takt_random_next(&r) == 58720359);
}

static void random_range_holds_its_ends(void **state)
{
        struct takt_random r;
        int low = 0, high = 0;

        (void)state;
        takt_random_seed(&r, 1);
        for (int i = 0; i < 1000; i++) {
                uint64_t v = takt_random_range(&r, 3, 5);
                double u = takt_random_unit(&r);

                assert_in_range(v, 3, 5);
                assert_true(u >= 0 && u < 1);
                low += v == 3;
                high += v == 5;
        }
        assert_true(low > 250 && high > 250);
        assert_int_equal(takt_random_range(&r, 9, 9), 9);
}

static void histogram_small_values_are_exact(void **state)
{
        struct takt_histogram h;

        (void)state;
        takt_histogram_init(&h);
        assert_int_equal(takt_histogram_at(&h, 500), 0);
        assert_int_equal(takt_histogram_mean(&h), 0);
        for (uint64_t v = 1; v <= 10; v++)
                takt_histogram_add(&h, v);
        assert_int_equal(takt_histogram_at(&h, 500), 5);
        assert_int_equal(takt_histogram_at(&h, 1000), 10);
        assert_int_equal(takt_histogram_mean(&h), 5);
}

static void histogram_is_within_its_bound(void **state)
{
        struct takt_histogram h;

        (void)state;
        for (uint64_t v = 1; v < UINT64_C(1) << 62; v = v * 3 + 1) {
                takt_histogram_init(&h);
                takt_histogram_add(&h, v);
                takt_histogram_add(&h, UINT64_C(1) << 63);
                assert_true(takt_histogram_at(&h, 500) >= v);
                assert_true(takt_histogram_at(&h, 500) <= v + v / 31);
        }
        takt_histogram_init(&h);
        takt_histogram_add(&h, UINT64_MAX);
        assert_true(takt_histogram_at(&h, 1000) == UINT64_MAX);
}

static void time_never_wraps(void **state)
{
        (void)state;
        assert_int_equal(takt_time_since(5, 9), 0);
        assert_int_equal(takt_time_since(9, 5), 4);
        assert_int_equal(takt_time_min(3, TAKT_NEVER), 3);
        assert_true(takt_time_max(3, TAKT_NEVER) == TAKT_NEVER);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(random_is_seeded),
                cmocka_unit_test(random_is_xoshiro),
                cmocka_unit_test(random_range_holds_its_ends),
                cmocka_unit_test(histogram_small_values_are_exact),
                cmocka_unit_test(histogram_is_within_its_bound),
                cmocka_unit_test(time_never_wraps),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
