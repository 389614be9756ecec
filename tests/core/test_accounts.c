// What a seat's account says of its slices, its tail and its requests.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include "one_device.h"

static struct core *core;
static struct core_effects effects;

static void tell(uint64_t ms, struct core_event event)
{
        event.now_ns = ms * TAKT_MS;
        core_step(core, &event, &effects);
}

static void join(uint32_t seat, struct core_contract contract)
{
        tell(0, (struct core_event){.kind = CORE_EVENT_JOIN, .seat = seat, .contract = &contract});
}

static void want(uint64_t ms, uint32_t seat)
{
        tell(ms, (struct core_event){.kind = CORE_EVENT_WANT, .seat = seat});
}

static void busy(uint64_t ms, uint32_t seat)
{
        tell(ms, (struct core_event){.kind = CORE_EVENT_BUSY, .seat = seat, .at_ns = ms * TAKT_MS});
}

static void idle(uint64_t ms, uint32_t seat, uint64_t at_ms)
{
        tell(ms, (struct core_event){.kind = CORE_EVENT_IDLE,
                                     .seat = seat,
                                     .at_ns = at_ms * TAKT_MS,
                                     .busy_ns = TAKT_MS,
                                     .steps = 1});
}

static void request(uint64_t ms, enum core_event_kind kind, uint64_t id, uint64_t deadline_ms)
{
        tell(ms, (struct core_event){
                         .kind = kind, .seat = 0, .request = id, .deadline_ns = deadline_ms * TAKT_MS});
}

static struct core_account of(uint32_t seat)
{
        struct core_account account;

        assert_int_equal(core_account(core, seat, &account), 0);
        return account;
}

static int begin(void **state)
{
        (void)state;
        core = one_device();
        return 0;
}

static int end(void **state)
{
        (void)state;
        free(core);
        return 0;
}

static void a_switch_is_a_slice_that_was_anothers(void **state)
{
        (void)state;
        join(0, (struct core_contract){.class = CORE_CLASS_FAIR});
        join(1, (struct core_contract){.class = CORE_CLASS_FAIR});
        want(1, 0); // the first there is: nobody's before
        assert_int_equal(of(0).switches, 0);
        busy(1, 0);
        idle(2, 0, 2);
        want(30, 1);
        tell(60, (struct core_event){.kind = CORE_EVENT_TIMER});
        idle(60, 0, 2);
        assert_int_equal(of(1).grants, 1);
        assert_int_equal(of(1).switches, 1);
        assert_int_equal(of(0).switches, 0);
}

// The gate closes at 5 ms, for somebody with an objective; the work goes on to 9 ms.
static void what_runs_on_behind_a_closed_gate_is_the_tail(void **state)
{
        (void)state;
        join(0, (struct core_contract){.class = CORE_CLASS_FAIR});
        join(1, (struct core_contract){
                        .class = CORE_CLASS_DEADLINE, .slo_ns = 200 * TAKT_MS, .share_ppm = 200000});
        want(0, 0);
        busy(0, 0);
        want(5, 1);
        assert_false(of(0).holds);
        busy(5, 0);
        assert_int_equal(of(0).tail_ns, 0);
        idle(10, 0, 9);
        assert_int_equal(of(0).tail_ns, 4 * TAKT_MS);
        assert_true(of(1).holds);
        assert_int_equal(of(1).tail_ns, 0);
}

// Work that does not end keeps nobody for ever; its tail is known once it does end.
static void a_tail_beside_the_next_holder_counts_whole(void **state)
{
        (void)state;
        join(0, (struct core_contract){.class = CORE_CLASS_FAIR});
        join(1, (struct core_contract){
                        .class = CORE_CLASS_DEADLINE, .slo_ns = 200 * TAKT_MS, .share_ppm = 200000});
        want(0, 0);
        busy(0, 0);
        want(5, 1);
        busy(5, 0);
        tell(2500, (struct core_event){.kind = CORE_EVENT_TIMER}); // looked into
        tell(2500, (struct core_event){.kind = CORE_EVENT_TIMER}); // a hang: the device passes on
        assert_true(of(1).holds);
        assert_int_equal(of(0).tail_ns, 0);
        idle(3005, 0, 3005);
        assert_int_equal(of(0).tail_ns, 3 * TAKT_S);
}

static void requests_are_in_time_or_late_by_their_first_token(void **state)
{
        (void)state;
        join(0, (struct core_contract){.class = CORE_CLASS_FAIR});
        request(0, CORE_EVENT_ARRIVED, 1, 100);
        request(0, CORE_EVENT_ARRIVED, 2, 100);
        request(0, CORE_EVENT_ARRIVED, 3, 100);
        request(0, CORE_EVENT_ARRIVED, 4, 0); // nothing was promised to it
        request(100, CORE_EVENT_FIRST_TOKEN, 1, 0);
        request(101, CORE_EVENT_FIRST_TOKEN, 2, 0);
        assert_int_equal(of(0).in_time, 1);
        assert_int_equal(of(0).late, 1);
        request(102, CORE_EVENT_FIRST_TOKEN, 1, 0); // a token is the first once
        request(102, CORE_EVENT_FINISHED, 1, 0);
        request(102, CORE_EVENT_FINISHED, 2, 0);
        request(102, CORE_EVENT_FINISHED, 3, 0); // no token was told
        request(102, CORE_EVENT_FINISHED, 4, 0);
        assert_int_equal(of(0).in_time, 1);
        assert_int_equal(of(0).late, 2);
        assert_int_equal(of(0).requests, 4);
}

static void an_idle_device_is_idle_up_to_the_look(void **state)
{
        struct core_device_account device;

        (void)state;
        join(0, (struct core_contract){.class = CORE_CLASS_FAIR});
        core_look(core, 7 * TAKT_MS);
        assert_int_equal(core_device_account(core, 0, &device), 0);
        assert_int_equal(device.idle_ns, 7 * TAKT_MS);
        want(10, 0);
        core_look(core, 15 * TAKT_MS);
        core_look(core, 1 * TAKT_MS); // time never goes back
        assert_int_equal(of(0).granted_ns, 5 * TAKT_MS);
        core_check(core);
}

// Steps of a millisecond with gaps of two: the means come to what was, and not to less.
static void what_is_learned_is_what_was(void **state)
{
        (void)state;
        join(0,
             (struct core_contract){.ttft_ns = 200 * TAKT_MS, .itl_ns = 20 * TAKT_MS, .share_ppm = 400000});
        want(1, 0);
        for (uint64_t ms = 1; ms < 300; ms += 3) {
                busy(ms, 0);
                idle(ms + 1, 0, ms + 1);
        }
        assert_in_range(of(0).step_ns, TAKT_MS * 99 / 100, TAKT_MS * 101 / 100);
        assert_in_range(of(0).gap_ns, 2 * TAKT_MS * 99 / 100, 2 * TAKT_MS * 101 / 100);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test_setup_teardown(a_switch_is_a_slice_that_was_anothers, begin, end),
                cmocka_unit_test_setup_teardown(what_runs_on_behind_a_closed_gate_is_the_tail, begin, end),
                cmocka_unit_test_setup_teardown(a_tail_beside_the_next_holder_counts_whole, begin, end),
                cmocka_unit_test_setup_teardown(what_is_learned_is_what_was, begin, end),
                cmocka_unit_test_setup_teardown(an_idle_device_is_idle_up_to_the_look, begin, end),
                cmocka_unit_test_setup_teardown(requests_are_in_time_or_late_by_their_first_token, begin,
                                                end),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
