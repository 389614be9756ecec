// The device's model in simulated time: exact times of round robin, switches, work conservation, sharing side
// by side.
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

static void lone_context_runs_through(void **state)
{
        struct sim_device d = fresh();

        (void)state;
        d.context[0].submitted_ns = 10 * MS;
        assert_int_equal(sim_device_when(&d, 0, 10 * MS), 10 * MS);
        sim_device_advance(&d, 20 * MS, NULL, NULL);
        assert_int_equal(d.context[0].done_ns, 10 * MS);
        assert_int_equal(d.busy_ns, 10 * MS);
        assert_int_equal(d.switches, 0);
}

// Two contexts of 3 ms: 2 ms, switch, 2 ms, switch, 1 ms, switch, 1 ms.
static void two_contexts_take_turns(void **state)
{
        struct sim_device d = fresh();

        (void)state;
        d.context[0].submitted_ns = d.context[1].submitted_ns = 3 * MS;
        assert_int_equal(sim_device_when(&d, 0, 3 * MS), 5 * MS + 200 * US);
        assert_int_equal(sim_device_when(&d, 1, 3 * MS), 6 * MS + 300 * US);
        sim_device_advance(&d, 10 * MS, NULL, NULL);
        assert_int_equal(d.switches, 3);
        assert_int_equal(d.switching_ns, 300 * US);
        assert_int_equal(d.busy_ns, 6 * MS);
}

static void work_conserving(void **state)
{
        struct sim_device d = fresh();

        (void)state;
        d.context[0].submitted_ns = 1 * MS;
        d.context[1].submitted_ns = 8 * MS;
        assert_int_equal(sim_device_when(&d, 1, 8 * MS), 9 * MS + 100 * US);
}

static void advancing_in_steps_changes_nothing(void **state)
{
        struct sim_device a = fresh(), b;

        (void)state;
        a.context[0].submitted_ns = 7 * MS;
        a.context[1].submitted_ns = 5 * MS;
        a.context[2].submitted_ns = 9 * MS;
        b = a;
        sim_device_advance(&a, 30 * MS, NULL, NULL);
        for (uint64_t t = 0; t <= 30 * MS; t += 7 * US)
                sim_device_advance(&b, t, NULL, NULL);
        sim_device_advance(&b, 30 * MS, NULL, NULL);
        assert_int_equal(a.switches, b.switches);
        assert_int_equal(a.busy_ns, b.busy_ns);
        assert_int_equal(a.switching_ns, b.switching_ns);
}

static void hung_work_never_ends_but_others_go_on(void **state)
{
        struct sim_device d = fresh();

        (void)state;
        d.context[0].submitted_ns = d.context[1].submitted_ns = 1 * MS;
        d.context[0].hung = 1;
        assert_true(sim_device_when(&d, 0, 1 * MS) == UINT64_MAX);
        assert_int_equal(sim_device_when(&d, 1, 1 * MS), 3 * MS + 100 * US);
}

static void side_by_side_each_is_slower(void **state)
{
        struct sim_device d = fresh();

        (void)state;
        d.mps = 1;
        d.context[0].submitted_ns = d.context[1].submitted_ns = 4 * MS;
        assert_int_equal(sim_device_when(&d, 0, 4 * MS), 8 * MS);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(lone_context_runs_through),
                cmocka_unit_test(two_contexts_take_turns),
                cmocka_unit_test(work_conserving),
                cmocka_unit_test(advancing_in_steps_changes_nothing),
                cmocka_unit_test(hung_work_never_ends_but_others_go_on),
                cmocka_unit_test(side_by_side_each_is_slower),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
