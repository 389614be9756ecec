// Places: each device has as many as it has bits for, whatever the numbers of the seats there.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <cmocka.h>
#include "base/time.h"
#include "core/core.h"

#define WATCHDOG_NS (3 * TAKT_S)

static const struct core_contract fair = {.class = CORE_CLASS_FAIR};
static struct core *core;
static struct core_effects effects;

static void begin_with(uint32_t n_devices)
{
        struct core_device_config config[CORE_DEVICES_MAX];

        for (uint32_t d = 0; d < n_devices; d++)
                config[d] =
                        (struct core_device_config){0, 100 * TAKT_US, 2 * TAKT_MS, WATCHDOG_NS, 2 * TAKT_MS};
        core = core_init(aligned_alloc(64, (core_size() + 63) / 64 * 64), n_devices, config, 0);
}

static int end(void **state)
{
        (void)state;
        free(core);
        return 0;
}

static void tell(uint64_t ms, enum core_event_kind kind, uint32_t seat)
{
        struct core_event event = {.kind = kind, .seat = seat, .now_ns = ms * TAKT_MS};

        core_step(core, &event, &effects);
}

// Why it is refused.
static enum core_refusal_reason join(uint32_t seat, uint32_t device)
{
        struct core_event event = {
                .kind = CORE_EVENT_JOIN, .seat = seat, .device = device, .contract = &fair};

        core_step(core, &event, &effects);
        assert_true(effects.n > 0 && effects.effect[0].seat == seat && effects.effect[0].device == device);
        return effects.effect[0].kind == CORE_EFFECT_REFUSE ? effects.effect[0].refusal.reason
                                                            : CORE_REFUSAL_NONE;
}

static void assert_effect(uint32_t n, enum core_effect_kind kind, uint32_t seat)
{
        assert_true(n < effects.n);
        assert_int_equal(effects.effect[n].kind, kind);
        assert_int_equal(effects.effect[n].seat, seat);
}

static void assert_holder(uint32_t device, int32_t seat)
{
        struct core_device_account account;

        assert_int_equal(core_device_account(core, device, &account), 0);
        assert_int_equal(account.holder, seat);
}

static void a_full_device_fills_no_other(void **state)
{
        (void)state;
        begin_with(2);
        for (uint32_t i = 0; i < CORE_PLACES_MAX; i++)
                assert_int_equal(join(CORE_SEATS_MAX - 1 - 2 * i, 0), CORE_REFUSAL_NONE);
        assert_int_equal(join(0, 0), CORE_REFUSAL_FULL);
        assert_false(core_would_admit(core, 0, &fair));
        assert_true(core_would_admit(core, 1, &fair));
        for (uint32_t i = 0; i < CORE_PLACES_MAX; i++)
                assert_int_equal(join(2 * i, 1), CORE_REFUSAL_NONE);
        assert_int_equal(join(CORE_SEATS_MAX - 2, 1), CORE_REFUSAL_FULL);
}

static void a_seat_is_on_one_device_only(void **state)
{
        (void)state;
        begin_with(2);
        assert_int_equal(join(7, 0), CORE_REFUSAL_NONE);
        assert_int_equal(join(7, 1), CORE_REFUSAL_FULL);
}

static void no_seat_is_left_when_all_are_used(void **state)
{
        (void)state;
        begin_with(5);
        for (uint32_t i = 0; i < CORE_SEATS_MAX; i++) {
                assert_true(core_would_admit(core, 4, &fair));
                assert_int_equal(join(i, i / CORE_PLACES_MAX), CORE_REFUSAL_NONE);
        }
        assert_false(core_would_admit(core, 4, &fair));
}

static void a_place_that_is_left_is_taken_again(void **state)
{
        (void)state;
        begin_with(2);
        for (uint32_t i = 0; i < CORE_PLACES_MAX; i++)
                join(100 + i, 0);
        tell(1, CORE_EVENT_WANT, 117);
        assert_effect(0, CORE_EFFECT_OPEN, 117);
        tell(2, CORE_EVENT_LEAVE, 117);
        assert_holder(0, -1);
        assert_int_equal(join(117, 1), CORE_REFUSAL_NONE); // the same seat elsewhere
        assert_int_equal(join(9, 0), CORE_REFUSAL_NONE);
        assert_int_equal(join(10, 0), CORE_REFUSAL_FULL);
        tell(3, CORE_EVENT_WANT, 9);
        assert_effect(0, CORE_EFFECT_OPEN, 9);
        tell(3, CORE_EVENT_WANT, 117);
        assert_effect(0, CORE_EFFECT_OPEN, 117);
        assert_holder(0, 9);
        assert_holder(1, 117);
}

// Of equals who has the lowest place, whatever their numbers; and each is called by its number.
static void equals_are_served_by_place(void **state)
{
        (void)state;
        begin_with(2);
        join(3, 1); // its number is its place's on the other device
        join(255, 0);
        tell(1, CORE_EVENT_WANT, 255);
        assert_effect(0, CORE_EFFECT_OPEN, 255);
        join(200, 0);
        assert_effect(1, CORE_EFFECT_OPEN, 255); // no longer alone
        join(130, 0);
        tell(1, CORE_EVENT_WANT, 130);
        assert_effect(0, CORE_EFFECT_WATCH, 255);
        tell(1, CORE_EVENT_WANT, 200);
        tell(10, CORE_EVENT_TIMER, 0);
        assert_effect(0, CORE_EFFECT_CLOSE, 255);
        tell(10, CORE_EVENT_IDLE, 255);
        assert_effect(0, CORE_EFFECT_OPEN, 200);
        assert_effect(1, CORE_EFFECT_WATCH, 200);
        tell(20, CORE_EVENT_WANT, 3);
        assert_effect(0, CORE_EFFECT_OPEN, 3);
}

// On every device three: one that does not end, and two that wait until the watchdog bites.
static void a_step_has_room_for_what_all_devices_decide(void **state)
{
        (void)state;
        begin_with(CORE_DEVICES_MAX);
        for (uint32_t i = 0; i < 3 * CORE_DEVICES_MAX; i++)
                join(i, i / 3);
        for (uint32_t i = 0; i < 3 * CORE_DEVICES_MAX; i++)
                tell(1, CORE_EVENT_WANT, i);
        for (uint32_t d = 0; d < CORE_DEVICES_MAX; d++)
                tell(1, CORE_EVENT_BUSY, 3 * d);
        tell(10, CORE_EVENT_TIMER, 0);
        assert_int_equal(effects.n, CORE_DEVICES_MAX);
        tell(5000, CORE_EVENT_TIMER, 0);
        assert_int_equal(effects.n, 5 * CORE_DEVICES_MAX);
        for (uint32_t d = 0; d < CORE_DEVICES_MAX; d++) {
                assert_effect(5 * d, CORE_EFFECT_BYPASS, 0);
                assert_effect(5 * d + 1, CORE_EFFECT_NUDGE, 3 * d);
                assert_effect(5 * d + 2, CORE_EFFECT_OVERRUN, 3 * d);
                assert_effect(5 * d + 3, CORE_EFFECT_OPEN, 3 * d + 1);
                assert_effect(5 * d + 4, CORE_EFFECT_WATCH, 3 * d + 1);
        }
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test_teardown(a_full_device_fills_no_other, end),
                cmocka_unit_test_teardown(a_seat_is_on_one_device_only, end),
                cmocka_unit_test_teardown(no_seat_is_left_when_all_are_used, end),
                cmocka_unit_test_teardown(a_place_that_is_left_is_taken_again, end),
                cmocka_unit_test_teardown(equals_are_served_by_place, end),
                cmocka_unit_test_teardown(a_step_has_room_for_what_all_devices_decide, end),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
