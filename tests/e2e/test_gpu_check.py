"""The synthetic agent takes the device's time that it was asked for, alone and with others; the probe finds the slices; what is checked is told."""
import contextlib
import csv
import io
import json
import os
import subprocess
import sys
import tempfile
import unittest

from gpu import agents, check, slices
from gpu.device import Device, Failed

BUILD, ROOT = os.environ["TAKT_BUILD"], os.environ["TAKT_ROOT"]
COST = "2000,2000"   # ns a launch and a wave, of the simulated device's model
MS = 1_000_000


class OnSimulated(unittest.TestCase):
    def setUp(self):
        self.device = Device(BUILD, simulated=True)
        self.device.close()

    tearDown = setUp

    def run_ns(self):
        """Device time of each process, by the device's own log."""
        total = {}
        for row in csv.DictReader(self.device.tool("log").stdout.splitlines()):
            if row["kind"] == "run":
                total[row["pid"]] = total.get(row["pid"], 0) + int(row["end_ns"]) - int(row["start_ns"])
        return sorted(total.values())

    def synthetic(self, *flags, **env):
        run = self.device.run([f"{BUILD}/agents/takt-synthetic", *flags], **env)
        return run.returncode, run.stdout, run.stderr


class Synthetic(OnSimulated):
    def test_calibration_finds_the_model(self):
        self.assertEqual(self.synthetic("--calibrate")[:2], (0, "2000.0,2000.0\n"))

    def test_takes_the_time_asked_for(self):
        # The set-up's one step, then 41 ms for each prompt and 5 ms for each token but the first.
        for step in ([], ["--graph"]):
            self.device.close()
            code, out, _ = self.synthetic("--rate", "8", "--seconds", "1", "--sessions", "1", "--prefill-ms", "41-41", "--tokens",
                                          "4-4", "--token-ms", "5", "--gap-us", "0", "--cost", COST, "--json", *step)
            answer = json.loads(out)
            self.assertEqual(code, 0)
            self.assertGreater(answer["requests"], 3)
            self.assertEqual(self.run_ns(), [5 * MS + answer["requests"] * (41 + 3 * 5) * MS])
            self.assertGreaterEqual(answer["ttft"]["p50"], 41)
            self.assertGreaterEqual(answer["e2e"]["p50"], 56)

    def test_latency_counts_from_the_scheduled_time(self):
        # 20 requests a second of 100 ms each: those that wait pay for it.
        _, out, _ = self.synthetic("--rate", "20", "--seconds", ".5", "--prefill-ms", "100-100", "--tokens", "1-1", "--cost", COST,
                                   "--json", "--slo-ms", "150")
        answer = json.loads(out)
        self.assertGreater(answer["ttft"]["max"], 100 * answer["requests"] - 500)
        self.assertGreater(answer["ttft"]["late"], answer["requests"] / 3)

    def test_same_seed_same_requests(self):
        flags = ("--rate", "20", "--seconds", ".5", "--prefill-ms", "1-9", "--tokens", "1-3", "--sessions", "1", "--cost", COST, "--json")
        took = []
        for seed in ("7", "7", "8"):
            self.device.close()
            self.synthetic(*flags, "--seed", seed)
            took.append(self.run_ns())
        self.assertEqual(took[0], took[1])
        self.assertNotEqual(took[0], took[2])

    def test_says_what_is_wrong(self):
        for flags in (["--rate", "0"], ["--tokens", "0-3"], ["--prefill-ms", "9-3"], ["--prefill-ms", "9"], ["--cost", "5"], ["extra"]):
            self.assertEqual(self.synthetic(*flags)[0], 2, flags)
        run = subprocess.run([f"{BUILD}/agents/takt-synthetic"], env={"LD_LIBRARY_PATH": "/nowhere"}, capture_output=True, text=True)
        self.assertEqual(run.returncode, 69)
        self.assertIn("no usable libcuda.so.1", run.stderr)

    def test_a_device_without_lengths_is_refused(self):
        code, _, err = self.synthetic("--calibrate", SIMGPU_LLM="decode_us=1 norms=9")
        self.assertEqual(code, 69)
        self.assertIn("no length can be asked of it", err)


class Together(OnSimulated):
    def test_three_under_takt_do_the_same_work(self):
        work = {}
        for name, summaries in agents.three_ways(self.device, 2, 1, COST):
            work[name] = self.run_ns()
            switches = json.loads(self.device.tool("status", "--json").stdout)["switches"]
            self.assertEqual(sorted(summaries), ["chat", "router", "summariser"])
            self.assertTrue(all(s["requests"] > 0 for s in summaries.values()), summaries)
            self.device.close()
            if name == "stock":
                stock_switches = switches
        # All but equal: which sessions share a decode step depends on who was kept waiting.
        self.assertAlmostEqual(sum(work["takt"]) / sum(work["alone"]), 1, delta=.2)
        self.assertLess(switches, stock_switches / 2)

    def test_daemon_hears_of_requests(self):
        with tempfile.TemporaryDirectory() as folder:
            takt, env = f"{BUILD}/src/cli/takt", {"TAKT_DIR": f"{folder}/takt"}
            agent = self.device.start([takt, "run", "--name", "told", "--", f"{BUILD}/agents/takt-synthetic", "--rate", "40", "--seconds",
                                       "1", "--prefill-ms", "1-1", "--tokens", "1-1", "--cost", COST, "--wait"], **env)
            self.assertEqual(agent.stdout.readline(), "ready\n")
            agent.stdin.write("\n")
            agent.stdin.flush()
            told = 0
            while agent.poll() is None:
                answer = self.device.run([takt, "status", "--json"], **env)
                tenants = json.loads(answer.stdout)["tenants"] if answer.returncode == 0 else []
                told = max([told] + [t["requests"] for t in tenants])
            agent.communicate()
            self.assertEqual(agent.returncode, 0)
            self.assertGreater(told, 10)


class Slices(OnSimulated):
    def test_finds_what_the_device_was_given(self):
        for slice_us, switch_us in ((2000, 100), (3000, 300)):
            os.environ.update(SIMGPU_SLICE_US=str(slice_us), SIMGPU_SWITCH_US=str(switch_us))
            self.addCleanup(lambda: [os.environ.pop(k, None) for k in ("SIMGPU_SLICE_US", "SIMGPU_SWITCH_US")])
            self.device.close()
            found = slices.measure(self.device, COST, .6)
            self.assertAlmostEqual(found.slice_us, slice_us, delta=slice_us * .05)
            self.assertAlmostEqual(found.switch_us, switch_us, delta=40)

    def test_side_by_side_is_not_taking_turns(self):
        os.environ["SIMGPU_MPS"] = "1"
        self.addCleanup(os.environ.pop, "SIMGPU_MPS")
        self.assertIsNone(slices.measure(self.device, COST, .3))

    def test_profile_gives_the_device_back(self):
        with tempfile.NamedTemporaryFile("w", suffix=".profile") as file:
            file.write(slices.text(self.device, slices.Slices(3000, 300, .1, 50, 1024, 12040)))
            file.flush()
            os.environ["SIMGPU_PROFILE"] = file.name
            self.addCleanup(os.environ.pop, "SIMGPU_PROFILE")
            status = json.loads(self.device.tool("status", "--json").stdout)
            self.assertEqual(status["memory"], 1 << 30)
            found = slices.measure(self.device, COST, .3)
            self.assertEqual(found.driver_version, 12040)
            self.assertAlmostEqual(found.slice_us, 3000, delta=150)

    def test_what_fails_says_so(self):
        with self.assertRaisesRegex(Failed, "usage: takt-probe"):
            slices.measure(self.device, "nothing", 1)


class Checked(OnSimulated):
    def told(self, checks, *args):
        """What it prints, with its last line."""
        report, out = check.Report(), io.StringIO()
        with contextlib.redirect_stdout(out):
            checks(self.device, report, *args)
            report.end()
        return out.getvalue().splitlines()

    def test_a_runtime_that_is_not_there_is_skipped_and_counted(self):
        lines = self.told(check.conformance, ROOT, "/nowhere")
        self.assertRegex(lines[0], "^ok    door, every symbol: 0 wrong of ")
        self.assertEqual(lines[1:], [f"skip  door, libcudart {v}: no libcudart.so.{v} in /nowhere" for v in ("13", "12", "11.0")]
                         + ["1 passed, 0 failed, 3 skipped"])

    def test_hosts_of_all_habits(self):
        lines = self.told(check.habits)
        self.assertEqual(lines, [f"ok    host, {habit}: {last}" for habit, last in (
            ("memory", "freed"), ("captures", "done"), ("many-streams", "destroyed"), ("two-contexts", "second"), ("per-thread", "second"))]
            + ["5 passed, 0 failed, 0 skipped"])

    def test_a_host_that_is_not_kept_to_its_quota_fails(self):
        with tempfile.TemporaryDirectory() as build:   # takt runs its command, and that is all
            for folder in ("src/cli", "tests"):
                os.makedirs(f"{build}/{folder}")
            os.symlink(f"{BUILD}/src/simgpu", f"{build}/src/simgpu")
            os.symlink(f"{BUILD}/tests/shim", f"{build}/tests/shim")
            with open(f"{build}/src/cli/takt", "w") as file:
                file.write('#!/bin/sh\nshift 4\nexec "$@"\n')
            os.chmod(f"{build}/src/cli/takt", 0o755)
            self.device.build = build
            lines = self.told(check.habits)
        self.assertRegex(lines[0], r"FAIL  host, memory: .*: not so: total == 1024 \* MIB")
        self.assertEqual(lines[-1], "4 passed, 1 failed, 0 skipped")


class Packed(unittest.TestCase):
    def pack(self, build):
        return subprocess.run([sys.executable, "-m", "gpu.check", "--pack", "--root", ROOT, "--build", build, "--cuda", "/nowhere"],
                              capture_output=True, text=True)

    def test_what_is_too_large_to_be_carried_is_refused(self):
        with tempfile.TemporaryDirectory() as build:
            for folder in ("src", "agents"):
                os.symlink(f"{BUILD}/{folder}", f"{build}/{folder}")   # not counted
            run = self.pack(build)
            self.assertEqual(run.returncode, 0, run.stderr)
            carried = sum(os.path.getsize(f"{build}/carry/{name}") for name in os.listdir(f"{build}/carry"))
            for more, code in ((-1, 0), (0, 1)):
                with open(f"{build}/large", "wb") as file:
                    file.truncate((64 << 20) - carried + more)
                run = self.pack(build)
                self.assertEqual((run.returncode, "64.0 MiB in all" in run.stdout, "too much" in run.stdout), (code, True, code == 1), run.stderr)


if __name__ == "__main__":
    sys.exit(unittest.main(warnings="ignore"))
