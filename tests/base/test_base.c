// base: the random numbers are those of the published generator, the histogram's percentiles stay within
// their bound, and a set's words are one.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include "base/bits.h"
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

static void histogram_counts_up_to_bounds(void **state)
{
        const uint64_t bounds[] = {0, 5, 10, 1000000, UINT64_MAX};
        uint64_t n[5];
        struct takt_histogram h;

        (void)state;
        takt_histogram_init(&h);
        for (uint64_t v = 1; v <= 10; v++)
                takt_histogram_add(&h, v);
        takt_histogram_add(&h, 1000000); // shares its bucket with larger ones
        takt_histogram_add(&h, UINT64_MAX);
        takt_histogram_up_to(&h, bounds, 5, n);
        assert_int_equal(n[0], 0);
        assert_int_equal(n[1], 5);
        assert_int_equal(n[2], 10);
        assert_int_equal(n[3], 10);
        assert_int_equal(n[4], h.count);
        takt_histogram_up_to(&h, &(uint64_t){1032000}, 1, n);
        assert_int_equal(n[0], 11);
}

static void histogram_small_values_are_exact(void **state)
{
        struct takt_histogram h;

        (void)state;
        takt_histogram_init(&h);
        assert_int_equal(takt_histogram_at(&h, 500), 0);
        for (uint64_t v = 1; v <= 10; v++)
                takt_histogram_add(&h, v);
        assert_int_equal(takt_histogram_at(&h, 500), 5);
        assert_int_equal(takt_histogram_at(&h, 501), 6);
        assert_int_equal(takt_histogram_at(&h, 1000), 10);
        assert_int_equal(h.sum_ns, 55);
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

static void random_numbers_are_even(void **state)
{
        struct takt_random r;
        double sum = 0, squares = 0;
        int count[7] = {0};

        (void)state;
        takt_random_seed(&r, 0); // any seed is good
        for (int i = 0; i < 100000; i++) {
                double u = takt_random_unit(&r);

                sum += u;
                squares += u * u;
                count[takt_random_range(&r, 10, 16) - 10]++;
        }
        // The mean of 100,000 is 1/2 within 0.0009 (one deviation), their squares' 1/3.
        assert_true(sum / 1e5 > .495 && sum / 1e5 < .505);
        assert_true(squares / 1e5 > .328 && squares / 1e5 < .339);
        for (int i = 0; i < 7; i++) // 14286, give or take 111
                assert_in_range(count[i], 14286 - 600, 14286 + 600);
}

static void random_range_may_be_all_numbers(void **state)
{
        struct takt_random a, b;

        (void)state;
        takt_random_seed(&a, 3);
        takt_random_seed(&b, 3);
        for (int i = 0; i < 10; i++) // a span of 2^64, which is none of 64 bits
                assert_true(takt_random_range(&a, 0, UINT64_MAX) == takt_random_next(&b));
        assert_true(takt_random_range(&a, UINT64_MAX - 1, UINT64_MAX) >= UINT64_MAX - 1);
}

// Of 1 to 1000, each once: what a hand counts, and at most a bucket (1/32) above it.
static void histogram_percentiles_are_the_nearest_ranks(void **state)
{
        struct takt_histogram h;

        (void)state;
        takt_histogram_init(&h);
        for (uint64_t v = 1000; v > 0; v--)
                takt_histogram_add(&h, v);
        for (unsigned p = 1; p <= 1000; p++) {
                assert_true(takt_histogram_at(&h, p) >= p);
                assert_true(takt_histogram_at(&h, p) <= p + p / 31);
                assert_true(takt_histogram_at(&h, p) >= takt_histogram_at(&h, p - 1));
        }
        assert_int_equal(takt_histogram_at(&h, 0), 1);
        assert_int_equal(takt_histogram_at(&h, 1000), 1000); // the largest is exact
        assert_int_equal(h.count, 1000);
}

static void histogram_of_one_value_is_that_value(void **state)
{
        static const uint64_t values[] = {0, 1, 31, 32, 63, 64, 65, 1000000, UINT64_C(1) << 40, UINT64_MAX};

        (void)state;
        for (size_t i = 0; i < sizeof values / sizeof *values; i++) {
                struct takt_histogram h;

                takt_histogram_init(&h);
                takt_histogram_add(&h, values[i]);
                assert_true(takt_histogram_at(&h, 1) == values[i] &&
                            takt_histogram_at(&h, 1000) == values[i]);
                assert_true(h.sum_ns == values[i] && h.max_ns == values[i]);
        }
}

static void time_never_wraps(void **state)
{
        (void)state;
        assert_int_equal(takt_time_since(5, 9), 0);
        assert_int_equal(takt_time_since(9, 5), 4);
        assert_int_equal(takt_time_min(3, TAKT_NEVER), 3);
        assert_true(takt_time_max(3, TAKT_NEVER) == TAKT_NEVER);
}

static void a_set_is_one_over_all_its_words(void **state)
{
        static const uint32_t members[] = {0, 63, 64, 127, 129};
        uint64_t set[TAKT_BITS_WORDS(130)] = {0};

        (void)state;
        assert_int_equal(TAKT_BITS_WORDS(130), 3);
        assert_int_equal(takt_bits_first(set, 3), -1);
        for (int i = 4; i >= 0; i--) {
                takt_bits_add(set, members[i]);
                takt_bits_add(set, members[i]); // again changes nothing
                assert_int_equal(takt_bits_first(set, 3), members[i]);
                assert_int_equal(takt_bits_count(set, 3), 5 - i);
        }
        takt_bits_drop(set, 0);
        takt_bits_drop(set, 0);
        takt_bits_drop(set, 64);
        assert_int_equal(takt_bits_first(set, 3), 63);
        assert_int_equal(takt_bits_count(set, 3), 3);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(random_is_seeded),
                cmocka_unit_test(random_is_xoshiro),
                cmocka_unit_test(random_range_holds_its_ends),
                cmocka_unit_test(histogram_counts_up_to_bounds),
                cmocka_unit_test(histogram_small_values_are_exact),
                cmocka_unit_test(histogram_is_within_its_bound),
                cmocka_unit_test(random_numbers_are_even),
                cmocka_unit_test(random_range_may_be_all_numbers),
                cmocka_unit_test(histogram_percentiles_are_the_nearest_ranks),
                cmocka_unit_test(histogram_of_one_value_is_that_value),
                cmocka_unit_test(time_never_wraps),
                cmocka_unit_test(a_set_is_one_over_all_its_words),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
