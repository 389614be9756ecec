// The values of flags: with their unit, in range, and nothing that only strtod takes for a number.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include "base/units.h"
#include "cli/cli.h"

static void durations(void **state)
{
        static const struct {
                const char *text;
                uint64_t ns;
        } good[] = {{"1ns", 1},         {"2us", 2000},          {"200ms", 200000000}, {"1.5s", 1500000000},
                    {".5s", 500000000}, {"60m", 3600000000000}, {"1e3ms", 1000000000}};
        static const char *const bad[] = {"0ms",  ".9ns", "",      "5",     "ms",  "5 ms", " 5ms",
                                          "-5ms", "+5ms", "nanms", "infs",  "61m", "5h",   "5msx",
                                          "5MS",  "0x",   "1e99s", "1..5s", ".",   "5%"};
        uint64_t ns;

        (void)state;
        for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
                assert_int_equal(takt_duration_parse(good[i].text, &ns), 0);
                assert_int_equal(ns, good[i].ns);
        }
        for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
                if (takt_duration_parse(bad[i], &ns) == 0)
                        fail_msg("accepted: %s", bad[i]);
}

static void sizes(void **state)
{
        static const char *const bad[] = {"0B",     "0MiB",    "8",     "8gib", "-1GiB",
                                          "nanGiB", "9e14GiB", "1e19B", "GiB",  "8GiBs"};
        uint64_t bytes;

        (void)state;
        assert_int_equal(takt_size_parse("8GiB", &bytes), 0);
        assert_int_equal(bytes, UINT64_C(8) << 30);
        assert_int_equal(takt_size_parse("0.5KiB", &bytes), 0);
        assert_int_equal(bytes, 512);
        assert_int_equal(takt_size_parse("12Gi", &bytes), 0);
        assert_int_equal(bytes, UINT64_C(12) << 30);
        assert_int_equal(takt_size_parse("3GB", &bytes), 0);
        assert_int_equal(bytes, 3000000000);
        assert_int_equal(takt_size_parse("7B", &bytes), 0);
        assert_int_equal(bytes, 7);
        for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
                if (takt_size_parse(bad[i], &bytes) == 0)
                        fail_msg("accepted: %s", bad[i]);
}

static void percentages(void **state)
{
        static const char *const bad[] = {"0%", "40", "101%", "-1%", "nan%", "%", "40 %", "40%%", "1e9%"};
        uint32_t ppm;

        (void)state;
        assert_int_equal(takt_percent_parse("40%", &ppm), 0);
        assert_int_equal(ppm, 400000);
        assert_int_equal(takt_percent_parse("100%", &ppm), 0);
        assert_int_equal(ppm, 1000000);
        assert_int_equal(takt_percent_parse("0.25%", &ppm), 0);
        assert_int_equal(ppm, 2500);
        for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
                if (takt_percent_parse(bad[i], &ppm) == 0)
                        fail_msg("accepted: %s", bad[i]);
}

static void counts(void **state)
{
        static const char *const bad[] = {"",   "a",   "1a", "-1", "+1",
                                          " 1", "1.0", "11", "1",  "99999999999999999999"};
        uint64_t n;

        (void)state;
        assert_int_equal(cli_count("2", 2, 10, &n), 0);
        assert_int_equal(n, 2);
        assert_int_equal(cli_count("10", 2, 10, &n), 0);
        assert_int_equal(n, 10);
        assert_int_equal(cli_count("18446744073709551615", 0, UINT64_MAX, &n), 0);
        assert_true(n == UINT64_MAX);
        for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
                if (cli_count(bad[i], 2, 10, &n) == 0)
                        fail_msg("accepted: %s", bad[i]);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(durations),
                cmocka_unit_test(sizes),
                cmocka_unit_test(percentages),
                cmocka_unit_test(counts),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
