// The device's state in shared memory: who is in it, what becomes of the dead, what is refused, how one
// waits.
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h>
#include "simgpu/segment.h"

#define MS UINT64_C(1000000)

static int begin(void **state)
{
        char name[48];

        snprintf(name, sizeof name, "simgpu-segment-%d", getpid());
        setenv("SIMGPU_NAME", name, 1);
        *state = sim_segment_open(0);
        return *state ? 0 : -1;
}

static int end(void **state)
{
        *state = NULL;
        return shm_unlink(sim_segment_name(0));
}

// What a child does before it dies as told; the parent reads what it wrote.
static pid_t child_that(int (*what)(struct sim_segment *), struct sim_segment *s)
{
        int fds[2], said = -1;
        pid_t child;

        assert_int_equal(pipe(fds), 0);
        child = fork();
        if (child == 0) {
                said = what(s);
                if (write(fds[1], &said, sizeof said) == sizeof said)
                        pause();
                _exit(1);
        }
        assert_int_equal(read(fds[0], &said, sizeof said), sizeof said);
        assert_true(said >= 0);
        close(fds[0]);
        close(fds[1]);
        return child;
}

static void end_child(pid_t child)
{
        kill(child, SIGKILL);
        waitpid(child, NULL, 0);
}

static void defaults(void **state)
{
        struct sim_segment *s = *state;

        assert_int_equal(s->memory_bytes, UINT64_C(40) << 30);
        assert_int_equal(s->device.slice_ns, 2 * MS);
        assert_int_equal(s->device.switch_ns, 100000);
        assert_int_equal(s->device.mps, 0);
        assert_int_equal(s->n_lanes, 1);
        assert_int_equal(s->cleared, 0);
        assert_int_equal(s->ecc, 1);
        assert_int_equal(s->confidential, 0);
}

static void another_opening_is_the_same_device(void **state)
{
        struct sim_segment *s = *state, *again = sim_segment_open(0);

        assert_non_null(again);
        assert_ptr_not_equal(s, again);
        s->n_ecc_errors = 42;
        assert_int_equal(again->n_ecc_errors, 42);
        s->n_ecc_errors = 0;
        munmap(again, sizeof *again);
}

static void process_has_one_entry_and_its_name(void **state)
{
        struct sim_segment *s = *state;
        int p, again;

        sim_segment_lock(s);
        p = sim_segment_process(s);
        again = sim_segment_process(s);
        sim_segment_unlock(s);
        assert_true(p >= 0);
        assert_int_equal(p, again);
        assert_int_equal(s->process[p].pid, getpid());
        assert_memory_equal(s->process[p].name, "test-segment", 12);
}

static int use_everything(struct sim_segment *s)
{
        uint64_t offset;
        int c, p;

        sim_segment_lock(s);
        c = sim_segment_context(s);
        p = sim_segment_process(s);
        s->memory_used_bytes += 1 << 20;
        s->process[p].memory_bytes += 1 << 20;
        sim_pool_take(&s->pool, (uint32_t)p, 1 << 20, &offset);
        sim_device_submit(&s->device, (uint32_t)c, 0, 3600000 * MS);
        sim_segment_unlock(s);
        return c;
}

static void dead_process_leaves_nothing_but_a_living_one_all(void **state)
{
        struct sim_segment *s = *state;
        uint64_t used = s->memory_used_bytes;
        pid_t living = child_that(use_everything, s), dying = child_that(use_everything, s);
        int n_contexts = 0;

        end_child(dying);
        sim_segment_lock(s);
        sim_segment_sweep(s);
        for (int c = 0; c < SIM_CONTEXTS_MAX; c++)
                n_contexts += (int)s->device.context[c].used;
        sim_segment_unlock(s);
        assert_int_equal(s->memory_used_bytes, used + (1 << 20));
        assert_int_equal(s->pool.n, 1);
        assert_int_equal(n_contexts, 1);
        for (int p = 0; p < SIM_PROCESSES_MAX; p++)
                assert_true(s->process[p].pid != (uint32_t)dying);
        end_child(living);
        sim_segment_lock(s);
        sim_segment_sweep(s);
        sim_segment_unlock(s);
        assert_int_equal(s->memory_used_bytes, used);
        assert_int_equal(s->pool.n, 0);
}

// A pid that came again is another process, which its start tells.
static void reused_pid_is_told_apart(void **state)
{
        struct sim_segment *s = *state;
        int p;

        sim_segment_lock(s);
        p = sim_segment_process(s);
        s->process[p].started--;
        s->process[p].memory_bytes = 4096;
        s->memory_used_bytes += 4096;
        sim_segment_sweep(s);
        sim_segment_unlock(s);
        assert_int_equal(s->process[p].pid, 0);
        assert_int_equal(s->memory_used_bytes, 0);
}

static int die_with_the_lock(struct sim_segment *s)
{
        sim_segment_lock(s);
        return 0;
}

static void lock_survives_its_holder(void **state)
{
        struct sim_segment *s = *state;

        for (int i = 0; i < 3; i++) {
                end_child(child_that(die_with_the_lock, s));
                sim_segment_lock(s);
                sim_segment_unlock(s);
                assert_int_equal(pthread_mutex_trylock(&s->lock), 0); // it is a lock still
                pthread_mutex_unlock(&s->lock);
        }
}

static uint64_t begin_work(struct sim_segment *s, uint64_t work_ns, int *ret_context)
{
        uint64_t position;

        sim_segment_lock(s);
        *ret_context = sim_segment_context(s);
        position = sim_device_submit(&s->device, (uint32_t)*ret_context, 0, work_ns);
        sim_segment_unlock(s);
        return position;
}

static int wait_for_work(struct sim_segment *s, uint64_t work_ns)
{
        int c;
        uint64_t position = begin_work(s, work_ns, &c);

        return sim_segment_wait(s, (uint32_t)c, 0, position, 0);
}

static void waiting_ends_with_the_work(void **state)
{
        struct sim_segment *s = *state;

        assert_int_equal(wait_for_work(s, 3 * MS), 0);
        sim_segment_lock(s);
        sim_segment_sweep(s);
        sim_segment_unlock(s);
}

static int hang(struct sim_segment *s)
{
        int c;

        sim_segment_lock(s);
        c = sim_segment_context(s);
        s->device.context[c].hung = 1;
        s->device.slice_ns = 3600000 * MS; // the device is the hung one's for an hour,
        sim_device_submit(&s->device, (uint32_t)c, 0, MS);
        sim_segment_unlock(s);
        return c;
}

// or until that one is gone: who waits finds out by itself.
static void waiting_goes_on_when_the_owner_is_gone(void **state)
{
        struct sim_segment *s = *state;
        pid_t child = child_that(hang, s);
        uint64_t position;
        int c;

        sim_segment_lock(s); // the device is the child's now
        sim_segment_unlock(s);
        position = begin_work(s, MS, &c);
        end_child(child);
        assert_int_equal(sim_segment_wait(s, (uint32_t)c, 0, position, 0), 0);
        s->device.slice_ns = 2 * MS;
}

static void lost_device_ends_every_wait(void **state)
{
        struct sim_segment *s = *state;

        s->lost = 1;
        assert_int_equal(wait_for_work(s, 3600000 * MS), -EIO);
        s->lost = 0;
}

static void xids_are_a_ring(void **state)
{
        struct sim_segment *s = *state;

        for (uint32_t i = 0; i < SIM_XIDS_MAX + 3; i++)
                sim_segment_xid(s, 100 + i);
        assert_int_equal(s->n_xids, SIM_XIDS_MAX + 3);
        assert_int_equal(s->xid[(s->n_xids - 1) % SIM_XIDS_MAX], 100 + SIM_XIDS_MAX + 2);
        assert_int_equal(s->xid[s->n_xids % SIM_XIDS_MAX], 103); // the oldest that is left
}

// One engine takes one copy at a time; another way is another engine; what waits for its work lets others
// pass.
static void copies_queue_for_their_engine(void **state)
{
        struct sim_segment *s = *state;
        uint64_t now;

        sim_segment_lock(s);
        now = s->device.now_ns;
        assert_int_equal(sim_segment_copy(s, SIM_ENGINE_IN, now, 3 * MS), now + 3 * MS);
        assert_int_equal(sim_segment_copy(s, SIM_ENGINE_IN, now, 2 * MS), now + 5 * MS);
        assert_int_equal(sim_segment_copy(s, SIM_ENGINE_OUT, now, 2 * MS), now + 2 * MS);
        assert_int_equal(sim_segment_copy(s, SIM_ENGINE_OUT, now + 50 * MS, 2 * MS), now + 52 * MS);
        assert_int_equal(sim_segment_copy(s, SIM_ENGINE_OUT, now, 2 * MS), now + 6 * MS);
        s->copy_slowdown = 10;
        assert_int_equal(sim_segment_copy(s, SIM_ENGINE_WITHIN, now, 2 * MS), now + 20 * MS);
        s->copy_slowdown = 0;
        assert_int_equal(s->engine[SIM_ENGINE_IN].busy_ns, 5 * MS);
        sim_segment_unlock(s);
}

// In a process and a device of its own.
static int opens_with(const char *name, const char *value, int (*check)(const struct sim_segment *))
{
        int status;
        pid_t child = fork();

        if (child == 0) {
                char own[48];
                struct sim_segment *s;

                snprintf(own, sizeof own, "simgpu-segment-%d", getpid());
                setenv("SIMGPU_NAME", own, 1);
                setenv(name, value, 1);
                close(2); // what is said of wrong settings
                s = sim_segment_open(0);
                status = s ? !check(s) : errno;
                if (shm_unlink(sim_segment_name(0)) == 0 && !s)
                        status = EEXIST; // a device that was refused leaves nothing
                _exit(status);
        }
        waitpid(child, &status, 0);
        return WEXITSTATUS(status);
}

static int any(const struct sim_segment *s)
{
        return s != NULL;
}

static int is_1_ms(const struct sim_segment *s)
{
        return s->device.slice_ns == 1 * MS;
}

static int is_4_ms(const struct sim_segment *s)
{
        return s->device.slice_ns == 4 * MS;
}

static int is_30_ms(const struct sim_segment *s)
{
        return s->device.slice_ns == 30 * MS;
}

static int is_2_ms(const struct sim_segment *s)
{
        return s->device.slice_ns == 2 * MS;
}

static int is_small(const struct sim_segment *s)
{
        return s->memory_bytes == 64 << 20;
}

static int is_confidential(const struct sim_segment *s)
{
        return s->confidential && s->ecc;
}

static int is_without_ecc(const struct sim_segment *s)
{
        return !s->ecc;
}

static void classes_of_slices(void **state)
{
        (void)state;
        assert_int_equal(opens_with("SIMGPU_POLICY", "short", is_1_ms), 0);
        assert_int_equal(opens_with("SIMGPU_POLICY", "medium", is_4_ms), 0);
        assert_int_equal(opens_with("SIMGPU_POLICY", "long", is_30_ms), 0);
        assert_int_equal(opens_with("SIMGPU_POLICY", "default", is_2_ms), 0);
        assert_int_equal(opens_with("SIMGPU_POLICY", "default", is_1_ms),
                         1); // so that the others mean something
        assert_int_equal(opens_with("SIMGPU_SLICE_US", "4000", is_4_ms), 0);
}

static void other_settings(void **state)
{
        (void)state;
        assert_int_equal(opens_with("SIMGPU_MEMORY_MIB", "64", is_small), 0);
        assert_int_equal(opens_with("SIMGPU_CC", "on", is_confidential), 0);
        assert_int_equal(opens_with("SIMGPU_ECC", "off", is_without_ecc), 0);
}

static void settings_that_make_no_sense_are_refused(void **state)
{
        static const char *const bad[][2] = {
                {"SIMGPU_POLICY", "longest"},
                {"SIMGPU_SLICE_US", "0"},
                {"SIMGPU_SLICE_US", "-1"},
                {"SIMGPU_SLICE_US", "99999999999999999999999999"},
                {"SIMGPU_SWITCH_US", "x"},
                {"SIMGPU_SWITCH_US", "-1"},
                {"SIMGPU_SWITCH_US", "60000001"},
                {"SIMGPU_KERNEL_US", "abc"},
                {"SIMGPU_KERNEL_US", "1us"},
                {"SIMGPU_KERNEL_US", "1."},
                {"SIMGPU_KERNEL_US", "1.2.3"},
                {"SIMGPU_KERNEL_US", "nan"},
                {"SIMGPU_MEMORY_MIB", "foo"},
                {"SIMGPU_MEMORY_MIB", "0"},
                {"SIMGPU_MEMORY_MIB", "64x"},
                {"SIMGPU_MEMORY_MIB", " 64"},
                {"SIMGPU_MEMORY_MIB", "1048577"},
                {"SIMGPU_MEMORY_MIB", "18446744073709551617"},
                {"SIMGPU_CONCURRENT", "0"},
                {"SIMGPU_CONCURRENT", "5"},
                {"SIMGPU_CONCURRENT", "two"},
                {"SIMGPU_DEVICES", "0"},
                {"SIMGPU_DEVICES", "9"},
                {"SIMGPU_DRIVER_VERSION", "11030"},
                {"SIMGPU_DRIVER_VERSION", "14000"},
                {"SIMGPU_DRIVER_VERSION", "13000x"},
                {"SIMGPU_MPS", "yes"},
                {"SIMGPU_MPS", "2"},
                {"SIMGPU_CLEARED", "no"},
                {"SIMGPU_ECC", "maybe"},
                {"SIMGPU_CC", "ON"},
                {"SIMGPU_TRACE", "all"},
                {"SIMGPU_LLM", "garbage"},
                {"SIMGPU_LLM", "decode_us=x"},
                {"SIMGPU_LLM", "decode_us=4000 speed=3"},
                {"SIMGPU_LLM", "decode_us=4000,norms=9"},
                {"SIMGPU_LLM", "extra_percent=-3"},
                {"SIMGPU_LLM", "norms=0"},
        };

        (void)state;
        for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
                if (opens_with(bad[i][0], bad[i][1], any) != EINVAL)
                        fail_msg("%s=%s is taken", bad[i][0], bad[i][1]);
}

static void settings_that_make_sense_are_taken(void **state)
{
        static const char *const good[][2] = {
                {"SIMGPU_SLICE_US", "1"},
                {"SIMGPU_SLICE_US", "2000.5"},
                {"SIMGPU_SWITCH_US", "0"},
                {"SIMGPU_KERNEL_US", "0.1"},
                {"SIMGPU_KERNEL_US", "0"},
                {"SIMGPU_MEMORY_MIB", "1"},
                {"SIMGPU_CONCURRENT", "4"},
                {"SIMGPU_DEVICES", "8"},
                {"SIMGPU_DRIVER_VERSION", "11040"},
                {"SIMGPU_MPS", "0"},
                {"SIMGPU_CLEARED", "off"},
                {"SIMGPU_TRACE", "1"},
                {"SIMGPU_LLM", "decode_us=1.5  norms=9 "},
                {"SIMGPU_MEMORY_MIB", ""},
                {"SIMGPU_LLM", ""},
        };

        (void)state;
        for (size_t i = 0; i < sizeof good / sizeof *good; i++)
                if (opens_with(good[i][0], good[i][1], any))
                        fail_msg("%s=%s is refused", good[i][0], good[i][1]);
}

static int opens_without_room(void)
{
        struct rlimit room = {UINT64_C(1) << 30, UINT64_C(1) << 30};

        return setrlimit(RLIMIT_AS, &room) || sim_segment_open(0) || errno != ENOMEM;
}

static void what_is_not_made_leaves_nothing(void **state)
{
        char own[48], path[80];
        int status;
        pid_t child = fork();

        (void)state;
        if (child == 0) {
                snprintf(own, sizeof own, "simgpu-segment-%d", getpid());
                setenv("SIMGPU_NAME", own, 1);
                _exit(opens_without_room());
        }
        waitpid(child, &status, 0);
        assert_int_equal(status, 0);
        snprintf(path, sizeof path, "/dev/shm/simgpu-segment-%d", child);
        if (unlink(path) == 0)
                fail_msg("%s was left", path);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(defaults),
                cmocka_unit_test(another_opening_is_the_same_device),
                cmocka_unit_test(process_has_one_entry_and_its_name),
                cmocka_unit_test(dead_process_leaves_nothing_but_a_living_one_all),
                cmocka_unit_test(reused_pid_is_told_apart),
                cmocka_unit_test(lock_survives_its_holder),
                cmocka_unit_test(waiting_ends_with_the_work),
                cmocka_unit_test(waiting_goes_on_when_the_owner_is_gone),
                cmocka_unit_test(lost_device_ends_every_wait),
                cmocka_unit_test(xids_are_a_ring),
                cmocka_unit_test(copies_queue_for_their_engine),
                cmocka_unit_test(classes_of_slices),
                cmocka_unit_test(other_settings),
                cmocka_unit_test(settings_that_make_no_sense_are_refused),
                cmocka_unit_test(settings_that_make_sense_are_taken),
                cmocka_unit_test(what_is_not_made_leaves_nothing),
        };

        return cmocka_run_group_tests(tests, begin, end);
}
