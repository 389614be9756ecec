// A profile gives the settings that the environment does not, and one that is wrong is not passed over in
// silence.
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h>
#include "simgpu/profile.h"

// A process reads its profile once: each case is a process of its own.
static int in_child(const char *content, void (*check)(void))
{
        char path[] = "/tmp/simgpu-profile-XXXXXX";
        int fd = mkstemp(path), status;
        pid_t child;

        assert_int_equal(write(fd, content, strlen(content)), (ssize_t)strlen(content));
        close(fd);
        child = fork();
        if (child == 0) {
                setenv("SIMGPU_PROFILE", path, 1);
                check();
                _exit(0);
        }
        waitpid(child, &status, 0);
        unlink(path);
        return WIFEXITED(status) ? WEXITSTATUS(status) : 1;
}

static int is(const char *name, const char *value)
{
        const char *is = sim_setting(name);

        return value ? is && !strcmp(is, value) : !is;
}

static void good(void)
{
        setenv("SIMGPU_SLICE_US", "7", 1);
        if (sim_profile_check() || !is("SIMGPU_SLICE_US", "7") || !is("SIMGPU_SWITCH_US", "50") ||
            !is("SIMGPU_SWITCH", NULL) || !is("SIMGPU_LLM", "decode_us=1 norms=9") || !is("SIMGPU_MPS", NULL))
                _exit(1);
}

static void bad(void)
{
        if (sim_profile_check() != -EINVAL)
                _exit(1);
}

static void test_environment_wins(void **state)
{
        (void)state;
        assert_int_equal(in_child("# a comment\n\nSIMGPU_SLICE_US=2000\nSIMGPU_SWITCH_US=50\n#SIMGPU_MPS=1\n"
                                  "SIMGPU_LLM=decode_us=1 norms=9\n",
                                  good),
                         0);
}

static void test_wrong_profile(void **state)
{
        (void)state;
        assert_int_equal(in_child("SLICE_US=2000\n", bad), 0);
        assert_int_equal(in_child("SIMGPU_SLICE_US 2000\n", bad), 0);
}

static void test_no_profile(void **state)
{
        (void)state;
        setenv("SIMGPU_PROFILE", "/nowhere/at-all", 1);
        assert_int_equal(sim_profile_check(), -EINVAL);
}

int main(void)
{
        const struct CMUnitTest tests[] = {cmocka_unit_test(test_environment_wins),
                                           cmocka_unit_test(test_wrong_profile),
                                           cmocka_unit_test(test_no_profile)};

        return cmocka_run_group_tests(tests, NULL, NULL);
}
