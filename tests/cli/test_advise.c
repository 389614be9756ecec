// The advised buckets allow all that was used, and ask for no more than that needs.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include "base/random.h"
#include "cli/advise_fit.h"

#define N 12

static void check(const struct advise_point *points, int n, struct advise_buckets b)
{
        double left_burst = 1e18, left_depth = 1e18;

        for (int i = 0; i < n; i++) {
                double burst = b.burst_ns + b.peak * points[i].span_ns - points[i].used_ns;
                double depth = b.depth_ns + b.share * points[i].span_ns - points[i].used_ns;

                assert_true(burst > -1 && depth > -1);
                left_burst = burst < left_burst ? burst : left_burst;
                left_depth = depth < left_depth ? depth : left_depth;
        }
        assert_true(left_burst < 1 && left_depth < 1);
        assert_true(b.share <= b.peak && b.burst_ns <= b.depth_ns);
}

// A curve as one can be: growing, and twice the span at most twice the use.
static void buckets_touch_the_curve(void **state)
{
        struct takt_random random;

        (void)state;
        for (uint64_t seed = 1; seed <= 1000; seed++) {
                struct advise_point points[N];

                takt_random_seed(&random, seed);
                for (int i = 0; i < N; i++) {
                        double grown = i ? points[i - 1].used_ns * (1 + takt_random_unit(&random)) : 20e6;

                        points[i] = (struct advise_point){20e6 * (1 << i), grown};
                }
                check(points, N, advise_fit(points, N, 1e12));
                check(points, 9, advise_fit(points, N, points[8].span_ns));
        }
}

static void steady_use_needs_no_depth(void **state)
{
        struct advise_point points[N];
        struct advise_buckets b;

        (void)state;
        for (int i = 0; i < N; i++)
                points[i] = (struct advise_point){20e6 * (1 << i), .3 * 20e6 * (1 << i)};
        b = advise_fit(points, N, 1e12);
        assert_true(b.share > .2999 && b.share < .3001 && b.peak < .3001 && b.depth_ns < 1);
}

static void spans_that_were_not_lived_through_say_nothing(void **state)
{
        struct advise_point points[N];
        struct advise_buckets b;

        (void)state;
        for (int i = 0; i < N; i++) // watched for 100 ms, half of which it was busy
                points[i] = (struct advise_point){20e6 * (1 << i), i < 2 ? 20e6 * (1 << i) : 50e6};
        b = advise_fit(points, N, 100e6);
        assert_true(b.share > .62 && b.share < .63);
        b = advise_fit(points, N, 1e6); // less than any span: the first is all there is
        assert_true(b.share > .99);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(buckets_touch_the_curve),
                cmocka_unit_test(steady_use_needs_no_depth),
                cmocka_unit_test(spans_that_were_not_lived_through_say_nothing),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
