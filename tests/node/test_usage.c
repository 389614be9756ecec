// The account of use against the same figure found by trying every span.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>
#include "base/random.h"
#include "node/usage.h"

#define START_NS (1000 * TAKT_S + 1)
#define TICKS 20000 // of a millisecond

static uint8_t busy[TICKS];

// The most busy ticks in any span of n.
static uint64_t most_in(unsigned n)
{
        uint64_t sum = 0, most = 0;

        for (unsigned i = 0; i < TICKS; i++) {
                sum += busy[i];
                sum -= i >= n ? busy[i - n] : 0;
                most = takt_time_max(most, sum);
        }
        return most * TAKT_MS;
}

static void curve_lies_between_the_span_and_nine_eighths_of_it(void **state)
{
        struct takt_random random;

        (void)state;
        for (uint64_t seed = 1; seed <= 30; seed++) {
                struct usage usage = {0};
                uint64_t total = 0;

                takt_random_seed(&random, seed);
                for (unsigned i = 0, on = 0, left = 0; i < TICKS; i++, left--) {
                        if (!left) {
                                on = !on;
                                left = (unsigned)takt_random_range(&random, 1, on ? 30 : 30 * seed);
                        }
                        busy[i] = (uint8_t)on;
                        total += on;
                        usage_add(&usage, on * TAKT_MS, START_NS + (i + 1) * TAKT_MS);
                }
                for (unsigned k = 0; k < 10; k++) {
                        uint64_t span = USAGE_SPAN_NS(k) / TAKT_MS, most = usage_most(&usage, k);

                        assert_in_range(
                                most, most_in((unsigned)span),
                                takt_time_min(span * TAKT_MS, most_in((unsigned)(span + span / 8 + 1))));
                }
                assert_int_equal(usage.total_ns, total * TAKT_MS);
        }
}

static void long_piece_is_laid_back_over_the_time_that_it_took(void **state)
{
        struct usage usage = {0};

        (void)state;
        usage_add(&usage, 500 * TAKT_MS, START_NS);
        assert_int_equal(usage.since_ns, START_NS - 500 * TAKT_MS);
        assert_int_equal(usage_most(&usage, 0), 20 * TAKT_MS);
        assert_int_equal(usage_most(&usage, 4), 320 * TAKT_MS);
        assert_int_equal(usage_most(&usage, 5), 500 * TAKT_MS);
        usage_add(&usage, 500 * TAKT_MS, START_NS + 10 * TAKT_S);
        assert_int_equal(usage_most(&usage, 5), 500 * TAKT_MS);
        assert_int_equal(usage_most(&usage, 10), TAKT_S);
}

static void what_a_client_claims_stays_in_range(void **state)
{
        struct usage usage = {0};

        (void)state;
        usage_add(&usage, 0, START_NS);
        assert_int_equal(usage.since_ns, 0);
        usage_add(&usage, UINT64_MAX, START_NS);
        usage_add(&usage, UINT64_MAX, START_NS);
        for (unsigned k = 0; k < USAGE_SPANS; k++)
                assert_int_equal(usage_most(&usage, k), USAGE_SPAN_NS(k));
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(curve_lies_between_the_span_and_nine_eighths_of_it),
                cmocka_unit_test(long_piece_is_laid_back_over_the_time_that_it_took),
                cmocka_unit_test(what_a_client_claims_stays_in_range),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
