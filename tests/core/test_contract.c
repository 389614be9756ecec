// What a contract must say, and what contradicts itself.
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include "base/time.h"
#include "core/contract.h"

#define SHARE .share_ppm = 400000
#define SLO .slo_ns = 200 * TAKT_MS
#define TTFT .ttft_ns = 200 * TAKT_MS
#define ITL .itl_ns = 60 * TAKT_MS

static void what_goes_together(void **state)
{
        struct core_contract good[] = {{SHARE, SLO},
                                       {SHARE, TTFT, ITL},
                                       {SHARE, SLO, .peak_ppm = 400000},
                                       {SHARE, SLO, .depth_ns = TAKT_S, .burst_ns = TAKT_S},
                                       {.class = CORE_CLASS_FAIR},
                                       {.class = CORE_CLASS_FAIR, SHARE, .weight = CORE_WEIGHT_MAX},
                                       {.class = CORE_CLASS_IDLE}};

        (void)state;
        for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
                assert_int_equal(core_contract_complete(&good[i]), 0);
                assert_int_equal(core_contract_complete(&good[i]), 0); // nor does what is filled in
        }
}

static void what_does_not(void **state)
{
        struct core_contract bad[] = {{SHARE},
                                      {SLO},
                                      {TTFT, ITL},
                                      {SHARE, TTFT},
                                      {SHARE, ITL},
                                      {SHARE, SLO, TTFT, ITL},
                                      {SHARE, SLO, TTFT},
                                      {SHARE, SLO, ITL},
                                      {SHARE, SLO, .peak_ppm = 300000},
                                      {SHARE, SLO, .depth_ns = TAKT_MS, .burst_ns = TAKT_S},
                                      {.class = CORE_CLASS_FAIR, .weight = CORE_WEIGHT_MAX + 1},
                                      {.class = CORE_CLASS_IDLE + 1}};

        (void)state;
        for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
                if (core_contract_complete(&bad[i]) != -EINVAL)
                        fail_msg("accepted: the one at %zu", i);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(what_goes_together),
                cmocka_unit_test(what_does_not),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
