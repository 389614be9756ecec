"""The demo, short, with the real engine: three runs end, every request is answered, the device's log fits what was asked."""
import glob
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import unittest

BUILD, CACHE, ROOT = os.environ["TAKT_BUILD"], os.environ.get("TAKT_CACHE", ""), os.environ["TAKT_ROOT"]


def start(*args, **env):
    with tempfile.TemporaryDirectory() as folder:
        run = subprocess.run(
            [sys.executable, "-m", "demo.run", "--build", BUILD, "--cache", CACHE, "--report", f"{folder}/report.html", *args],
            env=dict(os.environ, PYTHONPATH=f"{ROOT}/agents", PYTHONDONTWRITEBYTECODE="1", **env), capture_output=True, text=True, timeout=300)
        with open(f"{folder}/report.html") as page:
            return run, page.read()


def lives(pid):
    try:
        with open(f"/proc/{pid}/stat") as stat:
            return stat.read().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def command(pid):
    try:
        with open(f"/proc/{pid}/cmdline") as file:
            return file.read()
    except OSError:
        return ""


def names(pid):
    """The processes below it, by number."""
    found = {}
    try:
        with open(f"/proc/{pid}/task/{pid}/children") as children, open(f"/proc/{pid}/comm") as comm:
            found[pid] = comm.read().strip()
            for child in children.read().split():
                found |= names(int(child))
    except OSError:
        pass   # gone meanwhile
    return found


def demo(*args, **env):
    run, page = start("--json", *args, **env)
    if run.returncode:
        raise AssertionError(run.stderr)
    return json.loads(run.stdout), page


class Demo(unittest.TestCase):
    def test_three_runs_and_one_more(self):
        result, page = demo("--minutes", "0.1", "--also", "mps=env SIMGPU_MPS=1", "--simulated")
        self.assertTrue(result["simulated"])
        self.assertIn("Simulated", page)
        self.assertEqual(result["refusals"], [])
        self.assertEqual({(r["agent"], r["run"]) for r in result["rows"]},
                         {(a, r) for a in ("router", "chat", "summariser") for r in ("alone", "stock", "mps", "takt")})
        self.assertEqual(sum(r["failed"] for r in result["rows"]), 0)
        switches = {d["run"]: d["switches_per_s"] for d in result["devices"]}
        self.assertLess(switches["takt"], switches["stock"] / 2)
        self.assertEqual(page.count("<svg"), 3 + 3)
        for d in result["devices"]:
            self.assertEqual(d["agents_cpu_s"] is None, d["run"] == "alone")   # there they wait in another way
            self.assertNotEqual(d["agents_cpu_s"], 0)
            self.assertEqual(d["takt_cpu_s"] > 0, d["run"] == "takt")
            # What the agents had is what the device did; side by side it did two things at once.
            shares = sum(r["gpu_share"] for r in result["rows"] if r["run"] == d["run"])
            self.assertLessEqual(d["busy"], 1)
            if d["run"] != "mps":
                self.assertAlmostEqual(shares, d["busy"] * (3 if d["run"] == "alone" else 1), 6)

    def test_what_cannot_be_held_is_refused(self):
        run, page = start("--minutes", "0.02", "--load", "too-much", "--simulated")   # too short for the summariser to be asked
        self.assertEqual(run.returncode, 0, run.stderr)
        self.assertRegex(run.stdout, r"(?m)^takt: chat-2 was not started\. takt: not admitted: the promise of")
        self.assertIn("SIMULATED GPU", run.stdout)
        self.assertIn("chat-2 was not started", page)

    def test_server_that_does_not_start_is_a_failure_not_a_refusal(self):
        with tempfile.NamedTemporaryFile(suffix=".gguf") as broken:
            run, _ = start("--minutes", "0.02", "--model", broken.name, "--simulated")
        self.assertEqual((run.returncode, run.stdout), (1, ""))
        self.assertRegex(run.stderr, r"(?m)^demo: router: ")

    def until(self, found):
        end = time.monotonic() + 120
        while not (last := found()):
            self.assertLess(time.monotonic(), end)
            time.sleep(.01)
        return last

    def test_killed_demo_leaves_no_process_behind(self):
        with tempfile.TemporaryDirectory() as folder:
            run = subprocess.Popen([sys.executable, "-m", "demo.run", "--build", BUILD, "--cache", CACHE, "--report", f"{folder}/report.html",
                                    "--simulated", "--minutes", "0.02"], stderr=subprocess.DEVNULL, start_new_session=True,
                                   env=dict(os.environ, PYTHONPATH=f"{ROOT}/agents", PYTHONDONTWRITEBYTECODE="1", TMPDIR=folder))
            # The first is the daemon; at its start there is a child of its own, which asks NVML.
            daemon, *_ = self.until(lambda: run.poll() is None and [pid for pid in sorted(map(int, filter(str.isdigit, os.listdir("/proc"))))
                                                                    if "taktd" in command(pid) and folder in command(pid)])
            agents = self.until(lambda: (below := names(run.pid)) and list(below.values()).count("takt") >= 3 and below)
            run.kill()
            run.wait()
            self.until(lambda: not any(lives(pid) for pid in [*agents, daemon]))
            for device in glob.glob(f"/dev/shm/takt-demo-{run.pid}-*"):
                os.unlink(device)

    def test_real_gpu(self):
        """A driver that is not known to be simulated: agents are alone one after the other, and what has no log is not claimed."""
        with tempfile.TemporaryDirectory() as driver:
            for name in ("libcuda.so.1", "libnvidia-ml.so.1"):
                shutil.copy(f"{BUILD}/src/simgpu/{name}", driver)
            env = {"LD_LIBRARY_PATH": driver, "SIMGPU_NAME": f"simgpu-real-{os.getpid()}"}
            result, page = demo("--minutes", "0.02", "--real", "--model", f"{CACHE}/tiny.gguf", "--load", "light", **env)
            log = subprocess.run([f"{BUILD}/src/simgpu/simgpu", "log"], env={**os.environ, **env}, capture_output=True, text=True).stdout
            subprocess.run([f"{BUILD}/src/simgpu/simgpu", "reset"], env={**os.environ, **env})
        self.assertFalse(result["simulated"])
        self.assertNotIn("imulated", page)
        self.assertEqual({(d["busy"], d["switches_per_s"]) for d in result["devices"]}, {(None, None)})
        for r in result["rows"]:
            self.assertEqual(r["gpu_share"] is None, r["run"] != "takt")   # there the daemon knows
        whose = []
        for line in log.splitlines()[1:]:   # the first three processes did not meet: each went before the next came
            pid = line.split(",")[2]
            if pid != "0" and pid not in whose[-1:]:
                whose.append(pid)
        self.assertEqual(len(set(whose[:3])), 3, whose[:6])
        self.assertFalse(set(whose[:3]) & set(whose[3:]))


if __name__ == "__main__":
    if not os.path.exists(f"{CACHE}/agents"):
        sys.exit(77)
    unittest.main(warnings="ignore")
