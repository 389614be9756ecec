// The device's model in simulated time: exact times of round robin, switches, work conservation, sharing side
// by side, lanes that overlap and wait for each other, and what is sampled and logged of it.
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include "simgpu/device.h"

#define US UINT64_C(1000)
#define MS UINT64_C(1000000)

static struct sim_device fresh(void)
{
        struct sim_device d = {.slice_ns = 2 * MS, .switch_ns = 100 * US, .owner = -1};

        for (int i = 0; i < 3; i++)
                d.context[i].used = 1;
        return d;
}

static uint64_t done(const struct sim_device *d, int context, int lane)
{
        return d->context[context].lane[lane].done_ns;
}

static void lone_context_runs_through(void **state)
{
        struct sim_device d = fresh();

        (void)state;
        assert_int_equal(sim_device_submit(&d, 0, 0, 4 * MS), 4 * MS);
        assert_int_equal(sim_device_submit(&d, 0, 0, 6 * MS), 10 * MS);
        assert_int_equal(sim_device_when(&d, 0, 0, 4 * MS), 4 * MS);
        assert_int_equal(sim_device_when(&d, 0, 0, 10 * MS), 10 * MS);
        sim_device_advance(&d, 20 * MS, NULL, NULL);
        assert_int_equal(done(&d, 0, 0), 10 * MS);
        assert_int_equal(d.busy_ns, 10 * MS);
        assert_int_equal(d.switches, 0);
}

// Two contexts of 3 ms: 2 ms, switch, 2 ms, switch, 1 ms, switch, 1 ms.
static void two_contexts_take_turns(void **state)
{
        struct sim_device d = fresh();

        (void)state;
        sim_device_submit(&d, 0, 0, 3 * MS);
        sim_device_submit(&d, 1, 0, 3 * MS);
        assert_int_equal(sim_device_when(&d, 0, 0, 3 * MS), 5 * MS + 200 * US);
        assert_int_equal(sim_device_when(&d, 1, 0, 3 * MS), 6 * MS + 300 * US);
        sim_device_advance(&d, 10 * MS, NULL, NULL);
        assert_int_equal(d.switches, 3);
        assert_int_equal(d.switching_ns, 300 * US);
        assert_int_equal(d.busy_ns, 6 * MS);
}

// A process with two contexts gets two turns to the other's one.
static void turns_are_by_context(void **state)
{
        struct sim_device d = fresh();

        (void)state;
        d.context[0].process = d.context[1].process = 7;
        for (uint32_t i = 0; i < 3; i++)
                sim_device_submit(&d, i, 0, 60 * MS);
        sim_device_advance(&d, 63 * MS, NULL, NULL); // ten rounds of 3 * 2.1 ms
        assert_int_equal(d.context[0].busy_ns + d.context[1].busy_ns, 2 * d.context[2].busy_ns);
}

static void work_conserving(void **state)
{
        struct sim_device d = fresh();

        (void)state;
        sim_device_submit(&d, 0, 0, 1 * MS);
        sim_device_submit(&d, 1, 0, 8 * MS);
        assert_int_equal(sim_device_when(&d, 1, 0, 8 * MS), 9 * MS + 100 * US);
}

// Who comes back to a device that nobody took meanwhile pays no switch; to one that another had, it does.
static void switching_costs_only_when_the_owner_changes(void **state)
{
        struct sim_device d = fresh();

        (void)state;
        sim_device_submit(&d, 0, 0, 1 * MS);
        sim_device_advance(&d, 50 * MS, NULL, NULL);
        sim_device_submit(&d, 0, 0, 1 * MS);
        assert_int_equal(sim_device_when(&d, 0, 0, 2 * MS), 51 * MS);
        sim_device_advance(&d, 60 * MS, NULL, NULL);
        sim_device_submit(&d, 1, 0, 1 * MS);
        assert_int_equal(sim_device_when(&d, 1, 0, 1 * MS), 61 * MS + 100 * US);
}

// A slice that ran out unopposed begins anew when somebody comes.
static void newcomer_waits_for_a_slice_at_most(void **state)
{
        struct sim_device d = fresh();

        (void)state;
        sim_device_submit(&d, 0, 0, 100 * MS);
        for (uint64_t t = 0; t <= 31 * MS; t += MS / 2)
                sim_device_advance(&d, t, NULL, NULL);
        sim_device_submit(&d, 1, 0, 1 * MS);
        assert_in_range(sim_device_when(&d, 1, 0, 1 * MS), 32 * MS, 34 * MS + 100 * US);
}

static void advancing_in_steps_changes_nothing(void **state)
{
        struct sim_device a = fresh(), b;

        (void)state;
        sim_device_submit(&a, 0, 0, 7 * MS);
        sim_device_submit(&a, 1, 0, 5 * MS);
        sim_device_submit(&a, 2, 0, 9 * MS);
        b = a;
        sim_device_advance(&a, 30 * MS, NULL, NULL);
        for (uint64_t t = 0; t <= 30 * MS; t += 7 * US)
                sim_device_advance(&b, t, NULL, NULL);
        sim_device_advance(&b, 30 * MS, NULL, NULL);
        assert_int_equal(a.switches, b.switches);
        assert_int_equal(a.busy_ns, b.busy_ns);
        assert_int_equal(a.switching_ns, b.switching_ns);
}

static void time_does_not_go_back(void **state)
{
        struct sim_device d = fresh();

        (void)state;
        sim_device_submit(&d, 0, 0, 7 * MS);
        sim_device_advance(&d, 5 * MS, NULL, NULL);
        sim_device_advance(&d, 3 * MS, NULL, NULL);
        assert_int_equal(d.now_ns, 5 * MS);
        assert_int_equal(done(&d, 0, 0), 5 * MS);
}

static void hung_work_never_ends_but_others_go_on(void **state)
{
        struct sim_device d = fresh();

        (void)state;
        sim_device_submit(&d, 0, 0, 1 * MS);
        sim_device_submit(&d, 1, 0, 1 * MS);
        d.context[0].hung = 1;
        assert_true(sim_device_when(&d, 0, 0, 1 * MS) == UINT64_MAX);
        assert_int_equal(sim_device_when(&d, 1, 0, 1 * MS), 3 * MS + 100 * US);
        sim_device_advance(&d, 50 * MS, NULL, NULL);
        assert_int_equal(done(&d, 0, 0), 0);
        assert_true(d.context[0].busy_ns > 40 * MS); // it has the device all the same
}

static void more_than_a_minute_ahead_is_never(void **state)
{
        struct sim_device d = fresh();

        (void)state;
        sim_device_submit(&d, 0, 0, 61000 * MS);
        assert_int_equal(sim_device_when(&d, 0, 0, 59000 * MS), 59000 * MS);
        assert_true(sim_device_when(&d, 0, 0, 61000 * MS) == UINT64_MAX);
}

static void side_by_side_each_is_slower(void **state)
{
        struct sim_device d = fresh();

        (void)state;
        d.mps = 1;
        sim_device_submit(&d, 0, 0, 4 * MS);
        sim_device_submit(&d, 1, 0, 4 * MS);
        assert_int_equal(sim_device_when(&d, 0, 0, 4 * MS), 8 * MS);
        sim_device_submit(&d, 1, 0, 2 * MS);
        assert_int_equal(sim_device_when(&d, 1, 0, 6 * MS), 10 * MS); // alone again, at full speed
        sim_device_advance(&d, 20 * MS, NULL, NULL);
        assert_int_equal(d.switches, 0);
        assert_int_equal(d.busy_ns, 10 * MS);
}

static void lanes_overlap(void **state)
{
        struct sim_device d = fresh();

        (void)state;
        sim_device_submit(&d, 0, 0, 3 * MS);
        sim_device_submit(&d, 0, 1, 5 * MS);
        sim_device_submit(&d, 0, 2, 1 * MS);
        assert_int_equal(sim_device_when(&d, 0, 2, 1 * MS), 1 * MS);
        assert_int_equal(sim_device_when(&d, 0, 0, 3 * MS), 3 * MS);
        assert_int_equal(sim_device_when(&d, 0, 1, 5 * MS), 5 * MS);
        sim_device_advance(&d, 20 * MS, NULL, NULL);
        assert_int_equal(d.busy_ns, 5 * MS); // not 9: busy is busy, with however many kernels
        assert_int_equal(d.context[0].busy_ns, 5 * MS);
}

// Lanes are within a turn: the other context's do not run beside them.
static void lanes_of_two_contexts_do_not_overlap(void **state)
{
        struct sim_device d = fresh();

        (void)state;
        for (uint32_t i = 0; i < 2; i++) {
                sim_device_submit(&d, i, 0, 1 * MS);
                sim_device_submit(&d, i, 1, 1 * MS);
        }
        assert_int_equal(sim_device_when(&d, 0, 1, 1 * MS), 1 * MS);
        assert_int_equal(sim_device_when(&d, 1, 1, 1 * MS), 2 * MS + 100 * US);
}

static void barrier_holds_a_lane_until_the_other_is_there(void **state)
{
        struct sim_device d = fresh();

        (void)state;
        sim_device_submit(&d, 0, 0, 3 * MS);
        sim_device_submit(&d, 0, 0, 4 * MS);
        sim_device_submit(&d, 0, 1, 1 * MS);
        assert_int_equal(sim_device_bar(&d, 0, 1, (uint64_t[SIM_LANES_MAX]){3 * MS}), 0);
        sim_device_submit(&d, 0, 1, 1 * MS);
        assert_int_equal(sim_device_when(&d, 0, 1, 1 * MS), 1 * MS); // what was there before is not held up
        assert_int_equal(sim_device_when(&d, 0, 1, 2 * MS), 4 * MS); // in the middle of the other's work
        assert_int_equal(sim_device_when(&d, 0, 0, 7 * MS), 7 * MS);
}

static void barrier_that_is_met_costs_nothing(void **state)
{
        struct sim_device d = fresh();

        (void)state;
        sim_device_submit(&d, 0, 0, 3 * MS);
        sim_device_advance(&d, 3 * MS, NULL, NULL);
        for (int i = 0; i < 100; i++)
                assert_int_equal(sim_device_bar(&d, 0, 1, (uint64_t[SIM_LANES_MAX]){3 * MS}), 0);
        assert_int_equal(d.context[0].lane[1].n, 0);
}

// Each step of one lane waits for the last of the other, to and fro, across more barriers than a lane can
// hold.
static void barriers_to_and_fro(void **state)
{
        struct sim_device d = fresh();
        uint64_t position[SIM_LANES_MAX] = {0};
        int full = 0;

        (void)state;
        for (uint32_t i = 0; i < 20; i++) {
                uint32_t lane = i % 2;

                while (sim_device_bar(&d, 0, lane, position) == -EAGAIN) {
                        full++;
                        sim_device_advance(&d, d.now_ns + MS, NULL, NULL);
                }
                position[lane] = sim_device_submit(&d, 0, lane, 1 * MS);
        }
        assert_true(full > 0);
        assert_int_equal(sim_device_when(&d, 0, 1, 10 * MS), 20 * MS);
        sim_device_advance(&d, 20 * MS, NULL, NULL);
        assert_int_equal(done(&d, 0, 0), 10 * MS);
        assert_int_equal(d.busy_ns, 20 * MS);
}

static void barriers_hold_side_by_side_too(void **state)
{
        struct sim_device d = fresh();

        (void)state;
        d.mps = 1;
        sim_device_submit(&d, 1, 0, 50 * MS);
        sim_device_submit(&d, 0, 0, 3 * MS);
        sim_device_bar(&d, 0, 1, (uint64_t[SIM_LANES_MAX]){2 * MS});
        sim_device_submit(&d, 0, 1, 1 * MS);
        assert_int_equal(sim_device_when(&d, 0, 1, 1 * MS), 6 * MS); // 2 ms and 1 ms, at half the speed
}

static void utilisation_is_of_the_last_whole_second(void **state)
{
        struct sim_device d = fresh();

        (void)state;
        sim_device_submit(&d, 0, 0, 300 * MS);
        sim_device_advance(&d, 999 * MS, NULL, NULL);
        assert_int_equal(d.busy_percent, 0);
        sim_device_advance(&d, 1000 * MS, NULL, NULL);
        assert_int_equal(d.busy_percent, 30);
        sim_device_submit(&d, 0, 0, 1500 * MS);
        sim_device_advance(&d, 1999 * MS, NULL, NULL);
        assert_int_equal(d.busy_percent, 30);
        sim_device_advance(&d, 2000 * MS, NULL, NULL);
        assert_int_equal(d.busy_percent, 100);
        sim_device_advance(&d, 9000 * MS, NULL, NULL); // however late one looks
        assert_int_equal(d.busy_percent, 0);
}

#define ENTRIES 32
static struct sim_log_entry entries[ENTRIES];
static int n_entries;

static void keep(void *arg, const struct sim_log_entry *entry)
{
        assert_ptr_equal(arg, entries);
        if (n_entries < ENTRIES)
                entries[n_entries++] = *entry;
}

static void log_tells_who_ran_when_and_how_many_wanted(void **state)
{
        static const struct sim_log_entry expected[] = {
                {0, 2 * MS, 0, 0, SIM_LOG_RUN, 2},
                {2 * MS, 2 * MS + 100 * US, 0, 1, SIM_LOG_SWITCH, 2},
                {2 * MS + 100 * US, 3 * MS + 100 * US, 0, 1, SIM_LOG_RUN, 2},
                {3 * MS + 100 * US, 3 * MS + 200 * US, 0, 0, SIM_LOG_SWITCH, 1},
                {3 * MS + 200 * US, 4 * MS + 200 * US, 0, 0, SIM_LOG_RUN, 1},
        };
        struct sim_device d = fresh();

        (void)state;
        sim_device_submit(&d, 0, 0, 3 * MS);
        sim_device_submit(&d, 1, 0, 1 * MS);
        sim_device_advance(&d, 50 * MS, keep, entries);
        assert_int_equal(n_entries, sizeof expected / sizeof *expected);
        assert_memory_equal(entries, expected, sizeof expected);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(lone_context_runs_through),
                cmocka_unit_test(two_contexts_take_turns),
                cmocka_unit_test(turns_are_by_context),
                cmocka_unit_test(work_conserving),
                cmocka_unit_test(switching_costs_only_when_the_owner_changes),
                cmocka_unit_test(newcomer_waits_for_a_slice_at_most),
                cmocka_unit_test(advancing_in_steps_changes_nothing),
                cmocka_unit_test(time_does_not_go_back),
                cmocka_unit_test(hung_work_never_ends_but_others_go_on),
                cmocka_unit_test(more_than_a_minute_ahead_is_never),
                cmocka_unit_test(side_by_side_each_is_slower),
                cmocka_unit_test(lanes_overlap),
                cmocka_unit_test(lanes_of_two_contexts_do_not_overlap),
                cmocka_unit_test(barrier_holds_a_lane_until_the_other_is_there),
                cmocka_unit_test(barrier_that_is_met_costs_nothing),
                cmocka_unit_test(barriers_to_and_fro),
                cmocka_unit_test(barriers_hold_side_by_side_too),
                cmocka_unit_test(utilisation_is_of_the_last_whole_second),
                cmocka_unit_test(log_tells_who_ran_when_and_how_many_wanted),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
