"""Tenants with the real shim, on the simulated GPU, that crash, hang, fork, become another program, or find no daemon."""
import contextlib
import os
import signal
import unittest

import takt
from takt import until
from agent import holdings
from behind import Behind, Host

KERNEL = {"SIMGPU_KERNEL_US": "50"}   # of every kernel, however small
OWN_FD = 512   # the shim's descriptors lie there and above
OTHER_UID = 65534
HANG_NS = 2_000_000_000
LOST = "999"   # CUDA_ERROR_UNKNOWN, as the simulated driver says it


class Tenants(Behind):
    def setUp(self):
        super().setUp()
        self.session = self.peer()

    def host(self, fault, *prefix, **env):
        return Host(self, fault, self.tenant, *prefix, **KERNEL, **env)

    def processes(self):
        return self.state()["processes"]

    def others_go_on(self):
        self.session.take()
        self.session.busy()
        self.session.idle()
        device = self.daemon.status()["devices"][0]
        self.assertEqual(device["granted_ns"] + device["idle_ns"] + device["switch_ns"], device["elapsed_ns"])

    def own_descriptors(self, pid):
        found = {}
        for fd in os.listdir(f"/proc/{pid}/fd"):
            with contextlib.suppress(FileNotFoundError):   # closed meanwhile
                if int(fd) >= OWN_FD:
                    found[int(fd)] = os.readlink(f"/proc/{pid}/fd/{fd}")
        return found

    # 3: a hung or endless kernel
    def test_hung_kernel_costs_the_others_the_hang_limit_once(self):
        host = self.host("hangs")
        host.says("ready")
        self.tool("inject", "hang", str(host.process.pid))
        host.goes_on()
        host.says("hung")
        second = Host(self, "crowd", self.other, **KERNEL)   # it waits: the device is the other's
        second.says("rounds")
        device, state = self.daemon.status()["devices"][0], self.state()
        self.assertEqual((state["overruns"], state["busy"], state["processes"]), (1, True, 1))
        self.assertNotEqual(device["holder"], state["tenant"])
        waited_ns = self.daemon.status()["tenants"][1]["wait_max_ns"]
        self.assertTrue(HANG_NS <= waited_ns < 10 * HANG_NS, waited_ns)
        for _ in range(3):
            second.goes_on()
            second.says("rounds")
        self.others_go_on()
        self.assertEqual(self.state()["overruns"], 1)   # nobody waits for it again
        host.goes_on()
        host.says("alive")   # the rest of its program is not frozen
        host.kill()
        until(self, self.processes, 0)
        self.others_go_on()

    # 29: the device is lost
    def test_lost_device_is_cudas_own_error_and_nobody_waits_for_it(self):
        hosts = [Host(self, "loses", tenant, **KERNEL) for tenant in (self.tenant, self.other)]
        for host in hosts:
            host.says("working")
        for host in hosts:
            host.goes_on()
        until(self, lambda: all(t["grants"] > 2 for t in self.daemon.status()["tenants"][:2]), True)   # in turns
        self.tool("inject", "lose")
        for host in hosts:
            host.says(LOST)
        until(self, lambda: [t["busy"] for t in self.daemon.status()["tenants"]], [False, False])   # so no slice is blamed for it
        self.others_go_on()   # whose driver may know better
        for host in hosts:
            host.ends()
        self.tool("gpu-reset")
        back = self.host("crowd")   # under the same daemon
        back.says("rounds")

    # 4: a crash inside a hook
    def test_crash_inside_a_hook_is_a_death_like_any_other(self):
        before = holdings(self.other)
        for hook in ("launch-config", "copy", "allocation", "capture", "look-up"):
            with self.subTest(hook):
                host = self.host(f"crashes {hook}", ASAN_OPTIONS="handle_segv=0:detect_leaks=0", TSAN_OPTIONS="handle_segv=0")
                host.says("working")
                self.session.want()
                host.goes_on()
                self.assertEqual(host.process.wait(20), -signal.SIGSEGV)
                self.session.await_gate("open", "free")
                self.session.want(False)
                until(self, self.processes, 0)
                self.assertEqual(self.state()["memory_used"], 0)
                self.others_go_on()
                until(self, lambda: holdings(self.other), before)

    # 17: fork
    def test_child_that_is_the_first_to_use_cuda_has_a_session_of_its_own(self):
        host = self.host("forks-before")
        child = int(host.line())
        host.says("working")
        until(self, self.processes, 2)
        os.kill(child, signal.SIGKILL)
        until(self, self.processes, 1)
        self.session.take()
        host.goes_on()
        self.session.want(False)
        host.says("done")
        host.ends()

    def test_child_of_a_process_with_a_session_has_no_part_in_it(self):
        host = self.host("forks-after")
        child = int(host.line())
        self.addCleanup(os.kill, child, signal.SIGKILL)
        host.says("forked")
        self.assertGreaterEqual(len(self.own_descriptors(host.process.pid)), 3)
        until(self, lambda: self.own_descriptors(child), {})   # it may not have run yet
        host.goes_on()
        self.others_go_on()
        host.process.kill()
        host.process.wait()
        until(self, self.processes, 0)   # though its child lives
        self.others_go_on()

    # 18: exec
    def test_each_image_of_a_process_is_a_session_of_its_own(self):
        before = holdings(self.other)
        host = self.host("execs 20")
        host.says("last")
        self.assertEqual((self.processes(), self.state()["memory_used"]), (1, 64 << 20))
        self.others_go_on()
        host.goes_on()   # into one that has nothing to do with CUDA: the same process, and no session
        until(self, self.processes, 0)
        self.assertIsNone(host.process.poll())
        self.assertEqual(self.own_descriptors(host.process.pid), {})
        self.assertEqual(self.state()["memory_used"], 0)
        self.others_go_on()
        until(self, lambda: holdings(self.other), before)

    # 19: vfork, posix_spawn
    def test_spawned_children_change_nothing(self):
        host = self.host("spawns")
        host.says("working")
        session = self.own_descriptors(host.process.pid)
        host.goes_on()
        self.session.take()
        self.session.want(False)
        host.says("spawned")
        self.assertEqual(self.own_descriptors(host.process.pid), session)
        self.assertEqual(self.processes(), 1)
        host.ends()

    def test_silent_process_without_a_thread_of_ours_keeps_the_device_for_the_hang_limit_only(self):
        """It joined when its tenant had the device to itself, so that no gate was ever in its way."""
        self.other.control.close()
        self.session.socket.close()
        until(self, lambda: len(self.daemon.status()["tenants"]), 1)
        hosts = []
        for _ in range(2):   # one after the other: the first opens the gate
            hosts.append(self.host("silent"))
            hosts[-1].says("submitted")
        self.other = self.daemon.tenant("other", **{"class": "fair"})
        self.session = self.peer()
        self.session.take()
        self.assertGreaterEqual(self.daemon.status()["tenants"][1]["wait_max_ns"], HANG_NS)
        self.assertTrue(self.state()["busy"])
        self.others_go_on()
        for host in hosts:
            host.ends()


class NoDaemon(Behind):
    """23: the socket is not there, or not for us."""

    def outcome(self, path, mode, user=0):
        tenant = takt.Tenant(self.daemon, None, {"join": path})
        host = Host(self, f"once {user}", tenant, TAKT_ON_LOSS=mode, **KERNEL)
        out, err = host.process.communicate(timeout=60)
        self.assertEqual((host.process.returncode, err), (0, None))
        return out

    def places(self):
        yield f"{self.door}/nothing/join"
        yield f"{self.door}/{'x' * 200}"
        with open(f"{self.door}/file", "w"):
            yield f"{self.door}/file"
        os.mkdir(f"{self.door}/folder")
        yield f"{self.door}/folder"
        yield f"{self.daemon.dir}/control"   # a socket, and not of that kind

    def test_without_a_socket_the_policy_decides(self):
        for path in self.places():
            with self.subTest(path):
                self.assertEqual(self.outcome(path, "pass"), "0 0\n")
                self.assertEqual(self.outcome(path, "refuse"), "802 0\n")

    def test_daemon_that_refuses_is_as_none(self):
        self.tenant.answer["join"], path = None, self.tenant.answer["join"]
        self.daemon.tenants.remove(self.tenant)
        self.tenant.control.close()   # its socket goes with it
        self.assertEqual(self.outcome(path, "pass"), "0 0\n")
        self.assertEqual(self.outcome(path, "refuse"), "802 0\n")

    @unittest.skipUnless(os.geteuid() == 0, "only root is several users")
    def test_socket_of_another_user_is_as_none(self):
        path = self.tenant.answer["join"]
        self.assertEqual(self.outcome(path, "pass", user=OTHER_UID), "0 0\n")
        self.assertEqual(self.outcome(path, "refuse", user=OTHER_UID), "802 0\n")
        self.assertEqual(self.state()["processes"], 0)


if __name__ == "__main__":
    unittest.main(warnings="ignore")
