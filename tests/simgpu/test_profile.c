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
#include "simgpu/settings.h"

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
        if (sim_settings_check() || !is("SIMGPU_SLICE_US", "7") || !is("SIMGPU_SWITCH_US", "50") ||
            !is("SIMGPU_SWITCH", NULL) || !is("SIMGPU_LLM", "decode_us=1 norms=9") || !is("SIMGPU_MPS", NULL))
                _exit(1);
}

static const char *wrong; // what is said of it

static void bad(void)
{
        if (sim_settings_check() != -EINVAL || !strstr(sim_settings_refused(), wrong))
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

static int is_refused(const char *content, const char *because)
{
        wrong = because;
        return in_child(content, bad) == 0;
}

static void test_wrong_profile(void **state)
{
        (void)state;
        assert_true(is_refused("SLICE_US=2000\n", "line 1: not SIMGPU_NAME=VALUE: SLICE_US=2000"));
        assert_true(is_refused("\nSIMGPU_SLICE_US 2000\n", "line 2: not SIMGPU_NAME=VALUE"));
}

static void test_unknown_setting(void **state)
{
        (void)state;
        assert_true(is_refused("SIMGPU_MPS=0\nSIMGPU_SLICE=3\n",
                               "line 2: no setting of a profile: SIMGPU_SLICE=3"));
        assert_true(is_refused("SIMGPU_SLICE_US2=3\n", "SIMGPU_SLICE_US2=3"));
        assert_true(is_refused("SIMGPU_PROFILE=another\n", "SIMGPU_PROFILE=another"));
}

static void test_wrong_value(void **state)
{
        (void)state;
        assert_true(is_refused("SIMGPU_SLICE_US=-1\n", "SIMGPU_SLICE_US=-1 is not 1 to 60000000"));
        assert_true(is_refused("SIMGPU_ECC=maybe\n", "SIMGPU_ECC=maybe is not 1, 0, on or off"));
}

static void test_no_profile(void **state)
{
        (void)state;
        setenv("SIMGPU_PROFILE", "/nowhere/at-all", 1);
        assert_int_equal(sim_settings_check(), -EINVAL);
        assert_string_equal(sim_settings_refused(), "/nowhere/at-all: No such file or directory");
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_environment_wins), cmocka_unit_test(test_wrong_profile),
                cmocka_unit_test(test_unknown_setting), cmocka_unit_test(test_wrong_value),
                cmocka_unit_test(test_no_profile)};

        return cmocka_run_group_tests(tests, NULL, NULL);
}
