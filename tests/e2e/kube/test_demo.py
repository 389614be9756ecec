"""The demo on a real cluster: three agents as pods, alone, the stock way and under Takt as it is installed; and its end."""
import glob
import json
import os
import signal
import subprocess
import sys
import tempfile
import unittest


def cgroups(names):
    return [found for name in names for found in glob.glob(f"/sys/fs/cgroup/{name}") + glob.glob(f"/sys/fs/cgroup/*/{name}")]


class Demo(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.addCleanup(self.folder.cleanup)
        self.clusters = f"{self.folder.name}/clusters"
        os.mkdir(self.clusters)
        self.addCleanup(lambda: self.assertEqual(os.listdir(self.clusters), []))

    def start(self, *words):
        process = subprocess.Popen(["script/demo", "--kubernetes", "--report", f"{self.folder.name}/report.html", *words], stdout=subprocess.PIPE,
                                   stderr=subprocess.PIPE, text=True, start_new_session=True,
                                   env=dict(os.environ, TAKT_CLUSTERS=self.clusters))
        self.addCleanup(process.wait)
        return process

    def test_three_pods_three_ways(self):
        process = self.start("--minutes", "0.1", "--json")
        out, err = process.communicate(timeout=400)
        self.assertEqual(process.returncode, 0, err)
        result = json.loads(out.splitlines()[-1])
        self.assertTrue(result["simulated"])
        self.assertEqual(result["refusals"], [])
        self.assertEqual({(r["agent"], r["run"]) for r in result["rows"]},
                         {(a, r) for a in ("router", "chat", "summariser") for r in ("alone", "stock", "takt")})
        self.assertEqual(sum(r["failed"] for r in result["rows"]), 0)
        for r in result["rows"]:
            self.assertGreater(r["gpu_share"], 0, r)
        devices = {d["run"]: d for d in result["devices"]}
        self.assertLess(devices["takt"]["switches_per_s"], devices["stock"]["switches_per_s"] / 2)
        for name, d in devices.items():
            self.assertEqual(d["agents_cpu_s"] is None, d["run"] == "alone")   # there they wait in another way
            self.assertNotEqual(d["agents_cpu_s"], 0)
            self.assertEqual(d["takt_cpu_s"] > 0, name == "takt")
        with open(f"{self.folder.name}/report.html") as page:
            self.assertEqual(page.read().count("<svg"), 3 + 2)

    def test_claims_three_ways_and_their_shares(self):
        process = self.start("--dra", "--minutes", "0.05", "--contention", "1", "--json")
        out, err = process.communicate(timeout=500)
        result = json.loads(out.splitlines()[-1])
        self.assertEqual(process.returncode, any(one["broken"] for one in result["contention"]), err + out)
        self.assertEqual(result["refusals"], [])
        self.assertEqual({r["run"] for r in result["rows"]}, {"alone", "stock", "takt"})
        self.assertEqual([one["with_objectives"] for one in result["contention"]], [False, True])
        self.assertFalse(result["contention"][0]["broken"], out)   # a share is all that was asked for
        for one in result["contention"]:
            self.assertGreaterEqual(one["seconds"], 60)
            for who, share in one["shares"].items():
                self.assertGreater(share["computed"], 0, who)

    def test_claim_that_does_not_fit_is_refused(self):
        process = self.start("--dra", "--minutes", "0.02", "--contention", "0.02", "--load", "too-much")
        out, err = process.communicate(timeout=500)
        self.assertRegex(out, r"(?m)^takt: chat-2 was not started\. .*cannot allocate all claims", err)

    def test_pod_that_does_not_fit_is_refused(self):
        process = self.start("--minutes", "0.02", "--load", "too-much")
        out, err = process.communicate(timeout=400)
        self.assertEqual(process.returncode, 0, err)
        self.assertRegex(out, r"(?m)^takt: chat-2 was not started\. .*would break: within")

    def test_interrupted(self):
        process = self.start("--minutes", "1")
        for line in process.stderr:
            if "alone" in line:   # done: the next run begins
                break
        names = os.listdir(self.clusters)
        self.assertTrue(cgroups(names))
        os.killpg(process.pid, signal.SIGINT)
        process.communicate(timeout=60)
        self.assertEqual(process.returncode, 130)
        self.assertEqual(cgroups(names), [])


if __name__ == "__main__":
    sys.exit(unittest.main(verbosity=2))
