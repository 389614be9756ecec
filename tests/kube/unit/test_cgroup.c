// Pods from cgroups: paths as kubelets write them, and as processes could.
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>
#include "kube/cgroup.h"

#define UID "fc4b7b33-2b0c-42d5-9244-93a11eca7e0c"
#define UID_ "fc4b7b33_2b0c_42d5_9244_93a11eca7e0c"
#define STATIC "0123456789abcdef0123456789abcdef"

static void pods_are_known_under_every_driver_and_version(void **state)
{
        static const struct {
                const char *text, *pod;
                enum cgroup_qos qos;
        } known[] = {
                {"0::/kubepods/besteffort/pod" UID "/3f", UID, CGROUP_BEST_EFFORT},
                {"0::/kubepods/pod" UID "/3f\n", UID, CGROUP_GUARANTEED},
                {"0::/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod" UID_
                 ".slice/cri-containerd-3f.scope\n",
                 UID, CGROUP_BURSTABLE},
                {"0::/kubepods.slice/kubepods-pod" UID_ ".slice/crio-3f.scope\n", UID, CGROUP_GUARANTEED},
                {"12:pids:/kubepods/burstable/pod" UID "/3f\n1:name=systemd:/kubepods/burstable/pod" UID
                 "/3f\n",
                 UID, CGROUP_BURSTABLE},
                {"12:pids:/\n3:cpu:/user.slice\n1:name=systemd:/kubepods/pod" UID "/3f\n", UID,
                 CGROUP_GUARANTEED},
                {"0::/../../besteffort/pod" UID "/3f\n", UID,
                 CGROUP_BEST_EFFORT}, // from within a cgroup namespace
                {"0::/kubepods/burstable/pod" STATIC "/3f\n", STATIC,
                 CGROUP_BURSTABLE}, // of a file on the node
                {"0::/system.slice/kubelet/kubepods/pod" UID "/3f\n", UID, CGROUP_GUARANTEED},
        };
        char pod[CGROUP_POD_SIZE];
        enum cgroup_qos qos;

        (void)state;
        for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
                assert_int_equal(cgroup_parse(known[i].text, strlen(known[i].text), pod, &qos), 0);
                assert_string_equal(pod, known[i].pod);
                assert_int_equal(qos, known[i].qos);
        }
}

static void the_rest_is_no_pod(void **state)
{
        static const char *const others[] = {"",
                                             "0::/\n",
                                             "0::/user.slice/user-0.slice\n",
                                             "0::/kubepods\n",
                                             "0::/kubepods/pod\n",
                                             "0::/kubepods/pod12\n",
                                             "0::/kubepods/pod" UID "0/3f\n",
                                             "0::/kubepods/xpod" UID "/3f\n",
                                             "0::/kubepods/pod" UID ".slicer\n",
                                             "0::/kubepods/podgc4b7b33-2b0c-42d5-9244-93a11eca7e0c\n",
                                             "pod" UID};
        char pod[CGROUP_POD_SIZE];
        enum cgroup_qos qos;

        (void)state;
        for (size_t i = 0; i < sizeof others / sizeof *others; i++)
                assert_int_equal(cgroup_parse(others[i], strlen(others[i]), pod, &qos), -ENOENT);
}

static void of_processes(void **state)
{
        char pod[CGROUP_POD_SIZE];
        enum cgroup_qos qos;

        (void)state;
        assert_int_not_equal(cgroup_of(getpid(), pod, &qos), -ESRCH);
        assert_int_equal(cgroup_of(0x3fffffff, pod, &qos), -ESRCH);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(pods_are_known_under_every_driver_and_version),
                cmocka_unit_test(the_rest_is_no_pod),
                cmocka_unit_test(of_processes),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
