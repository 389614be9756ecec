"""Faults on demand, as the processes that they hit see them, and as those beside them do."""
import json
import os
import signal
import subprocess
import sys
import unittest

from device import DRIVER, TOOL, Device

WORKS = "begin(); say('ready'); wait(); say(launch(), call('cuCtxSynchronize')); wait()"


class Faults(Device):
    def test_hung_kernel_never_ends_and_others_go_on(self):
        hung = self.process("begin(); say('ready'); wait(); say(launch()); wait(); call('cuCtxSynchronize'); say('ended')")
        other = self.process(WORKS)
        self.hear(hung, "ready")
        self.hear(other, "ready")
        self.simgpu("inject", "hang", hung.pid)
        self.tell(hung)
        self.hear(hung, 0)
        self.tell(other)
        self.hear(other, 0, 0)
        self.tell(hung)   # waits for ever, which has no event; its work has not moved when the other's has
        self.tell(other)
        other.wait()
        self.assertIsNone(hung.poll())
        hung.kill()
        hung.wait()
        self.assertEqual(self.status()["processes"], [])   # nor does it stay for ever

    def test_failed_allocations_are_counted(self):
        self.simgpu("inject", "fail-alloc", 2)
        self.assertEqual(self.output("begin(); say(*[allocate(4096)[0] for _ in range(4)])"), "2 2 0 0")

    def test_lost_device_fails_every_call(self):
        p = self.process("begin(); error, p = allocate(4096); say('ready'); wait();"
                         "say(launch(), call('cuCtxSynchronize'), allocate(4096)[0], call('cuDeviceGetCount', by(n())),"
                         "call('cuStreamQuery', None)); wait()")
        waiting = self.process("begin(); say('ready'); wait(); [launch() for _ in range(10000)]; say('waits');"
                               "say(call('cuCtxSynchronize'))")
        self.hear(p, "ready")
        self.hear(waiting, "ready")
        self.tell(waiting)
        self.hear(waiting, "waits")   # ten seconds of work
        self.simgpu("inject", "lose")
        self.hear(waiting, 999)
        self.tell(p)
        self.hear(p, 999, 999, 999, 999, 999)
        self.assertEqual(self.output("say(call('cuInit', 0))"), "999")   # and for who comes later
        self.simgpu("reset")
        self.assertEqual(self.output("say(call('cuInit', 0))"), "0")

    def test_lost_device_is_back_after_a_reset_that_nobody_stands_in_the_way_of(self):
        p = self.process("begin(); say('ready'); wait(); say(launch()); wait()")
        self.hear(p, "ready")
        self.simgpu("inject", "ecc", 2)
        self.simgpu("inject", "lose")
        self.assertEqual(self.wrong("gpu-reset"), (1, f"simgpu: in use by process {p.pid}"))
        self.tell(p)
        self.hear(p, 999)
        p.kill()
        p.wait()
        self.simgpu("gpu-reset")
        self.assertEqual(self.output("begin(); say(launch(), call('cuCtxSynchronize'))"), "0 0")

    def test_slow_copies(self):
        program = "begin(); e, p = allocate(2200000); ok('cuMemcpyHtoD_v2', p, b'x' * 2200000, n(2200000))"
        self.output(program)
        usual = self.status()["copy_ns"][0]
        self.assertEqual(usual, 1500 + 100000)
        self.simgpu("inject", "slow-copies", 3)
        self.output(program)
        self.assertEqual(self.status()["copy_ns"][0] - usual, 3 * usual)

    def test_killed_in_the_middle_of_a_submission(self):
        """With the device locked: nobody else is stuck for it, and what the dead one had is free."""
        dying = self.process("begin(); ok('cuMemAlloc_v2', by(pointer()), n(1 << 30)); say('ready'); wait();"
                             "say(launch()); say(launch()); launch(); say('still here')")
        other = self.process(WORKS)
        self.hear(dying, "ready")
        self.hear(other, "ready")
        self.simgpu("inject", "kill", dying.pid, 2)
        self.tell(dying)
        self.hear(dying, 0)
        self.hear(dying, 0)
        self.assertEqual(dying.wait(), -signal.SIGKILL)
        self.tell(other)
        self.hear(other, 0, 0)
        status = self.status()
        self.assertEqual([p["pid"] for p in status["processes"]], [other.pid])
        self.assertEqual(status["memory_used"], 0)

    def test_nobody_else_is_killed(self):
        p = self.process(WORKS)
        other = self.process("begin(); say('ready'); wait()")
        self.hear(p, "ready")
        self.hear(other, "ready")
        self.simgpu("inject", "kill", other.pid)
        self.tell(p)
        self.hear(p, 0, 0)

    def wrong(self, *args):
        out = subprocess.run([TOOL, *args], env=self.env, capture_output=True, text=True)
        self.assertEqual(out.stdout, "")
        return out.returncode, out.stderr.split("\n")[0]

    def test_wrong_orders_are_refused(self):
        self.assertEqual(self.wrong("inject", "hang", "1"), (1, "simgpu: no such process uses the device"))
        self.assertEqual(self.wrong("inject", "kill", "0"), (1, "simgpu: no such process uses the device"))
        self.assertEqual(self.wrong("inject", "xid", "many"), (2, "simgpu: not a number: many"))
        self.assertEqual(self.wrong("inject", "xid", "-1"), (2, "simgpu: not a number: -1"))
        for args in (["inject"], ["inject", "hang"], ["inject", "rain", "1"], ["inject", "lose", "1"], ["inject", "kill", "1", "2", "3"],
                     ["status", "--xml"], ["log", "1"], ["reset", "1"], ["fly"], []):
            code, said = self.wrong(*args)
            self.assertEqual(code, 2, args)
            self.assertTrue(said.startswith("usage: simgpu"), args)

    def test_wrong_orders_make_no_device(self):
        for args in (["fly"], ["inject"], ["inject", "rain"], ["inject", "hang"], ["inject", "xid", "many"], ["status", "--xml"]):
            self.assertEqual(self.wrong(*args)[0], 2)
            self.assertFalse(os.path.exists(f"/dev/shm/{self.env['SIMGPU_NAME']}"), args)

    def test_help_names_every_fault(self):
        said = subprocess.run([TOOL, "--help"], capture_output=True, text=True)
        self.assertEqual(said.returncode, 0)
        self.assertIn("simgpu gpu-reset", said.stdout)
        for fault in ("xid", "lose", "hang", "kill", "fail-alloc", "ecc", "slow-copies"):
            self.assertIn(f"inject {fault}", said.stdout)


class Tool(Device):
    def test_status_and_log_tell_of_the_same_work(self):
        p = self.process("begin(); say('ready'); wait(); [launch() for _ in range(7)]; say(call('cuCtxSynchronize')); wait()")
        self.hear(p, "ready")
        self.tell(p)
        self.hear(p, 0)
        status = self.status()
        self.assertEqual(status["busy_ns"], 7_000_000)
        [own] = status["processes"]
        self.assertEqual((own["pid"], own["busy_ns"], own["memory"]), (p.pid, 7_000_000, 0))
        self.assertTrue(status["simulated"])
        head, *rows = self.simgpu("log").splitlines()
        self.assertEqual(head, "start_ns,end_ns,pid,context,kind,runnable")
        rows = [row.split(",") for row in rows]
        self.assertEqual({(row[2], row[4], row[5]) for row in rows}, {(str(p.pid), "run", "1")})
        self.assertEqual(sum(int(row[1]) - int(row[0]) for row in rows), 7_000_000)
        self.assertIn(f"pid {p.pid}", self.simgpu("status"))

    def test_status_makes_the_device_as_it_is_set(self):
        self.env["SIMGPU_MEMORY_MIB"] = "64"
        self.assertEqual(self.status()["memory"], 64 << 20)
        del self.env["SIMGPU_MEMORY_MIB"]
        self.assertEqual(self.status()["memory"], 64 << 20)   # it is that one from now on

    def test_devices_have_names(self):
        self.output("begin(); launch(); call('cuCtxSynchronize')")
        other = dict(self.env, SIMGPU_NAME=self.env["SIMGPU_NAME"] + "-other")
        out = subprocess.run([TOOL, "status", "--json"], env=other, capture_output=True, text=True)
        subprocess.run([TOOL, "reset"], env=other, check=True)
        self.assertIn('"busy_ns":0', out.stdout)
        self.assertEqual(self.status()["busy_ns"], 1_000_000)

    def test_looks_at_each_of_several(self):
        self.addCleanup(self.simgpu, "--device", 1, "reset")
        self.output("begin(); c = pointer(); ok('cuCtxCreate_v2', by(c), 0, 1); launch(); call('cuCtxSynchronize')", SIMGPU_DEVICES="2")
        self.assertEqual(self.status()["busy_ns"], 0)
        self.assertEqual(json.loads(self.simgpu("--device", 1, "status", "--json"))["busy_ns"], 1_000_000)
        self.simgpu("--device", 1, "reset")
        self.assertEqual([os.path.exists(f"/dev/shm/{self.env['SIMGPU_NAME']}{end}") for end in ("", "-1")], [True, False])
        for name in ("8", "-1", "second"):
            out = subprocess.run([TOOL, "--device", name, "status"], env=self.env, capture_output=True, text=True)
            self.assertEqual((out.returncode, out.stdout, out.stderr), (2, "", f"simgpu: not a device: {name}\n"))

    def test_so_many_devices_there_cannot_be(self):
        for n in ("0", "9", "-1", "2x", "4294967297"):
            with self.subTest(n):
                out = subprocess.run([sys.executable, "-c", DRIVER + "say(call('cuInit', 0))"], env=dict(self.env, SIMGPU_DEVICES=n),
                                     capture_output=True, text=True)
                self.assertEqual((out.stdout, out.stderr), ("100\n", f"simgpu: SIMGPU_DEVICES={n} is not 1 to 8\n"))

    def test_reset_leaves_nothing(self):
        self.output("begin(); launch()")
        self.assertTrue(os.path.exists(f"/dev/shm/{self.env['SIMGPU_NAME']}"))
        self.simgpu("reset")
        self.assertFalse(os.path.exists(f"/dev/shm/{self.env['SIMGPU_NAME']}"))


if __name__ == "__main__":
    unittest.main()
