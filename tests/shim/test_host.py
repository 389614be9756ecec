"""The shim inside hosts of all habits, against a real daemon, on the simulated GPU, whose log is the truth."""
import os
import subprocess
import time
import unittest

import takt
from behind import QUOTA, TOOL, Behind

HOST = os.environ["HOST"]


class Host:
    def __init__(self, test, habit, tenant, **env):
        self.test = test
        self.process = subprocess.Popen(
            [HOST, habit], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1,
            env=test.environment(tenant, **env))
        test.addCleanup(self.kill)

    def says(self, what):
        line = self.process.stdout.readline().strip()
        self.test.assertEqual(line, what, self.process.poll())

    def goes_on(self):
        self.process.stdin.write("\n")

    def ends(self):
        self.goes_on()
        self.test.assertEqual(self.process.wait(60), 0)

    def kill(self):
        self.process.kill()
        self.process.wait()
        self.process.stdin.close()
        self.process.stdout.close()


class Hosts(Behind):
    def peer(self):
        uuid = self.daemon.status()["devices"][0]["uuid"]
        session = takt.Session(self.other.answer["join"], bytes.fromhex(uuid.removeprefix("GPU-").replace("-", "")))
        self.addCleanup(session.close)
        return session

    def tool(self, *args):
        return subprocess.run([TOOL, *args], env=dict(os.environ, SIMGPU_NAME=self.device), capture_output=True, text=True,
                              check=True).stdout

    def last_end(self):
        return max(int(row.split(",")[1]) for row in self.tool("log").splitlines()[1:])

    def state(self):
        return self.daemon.status()["tenants"][0]

    def until_works(self):
        end = time.monotonic() + 20   # the shim looks for a daemon once a second; this means never
        while not (self.state()["processes"] and self.state()["steps"]):
            self.assertLess(time.monotonic(), end)
            os.sched_yield()

    def test_never_synchronises(self):
        host = Host(self, "never-synchronises", self.tenant)
        host.says("called")
        peer = self.peer()
        peer.take()
        self.assertFalse(self.state()["busy"])   # it was heard that the work is done, not given up on
        host.ends()

    def test_closes_descriptors(self):
        host = Host(self, "closes-descriptors", self.tenant)
        peer = self.peer()
        host.says("closed")
        host.goes_on()
        peer.want()
        host.says("done")
        host.ends()

    def test_forks(self):
        host = Host(self, "forks", self.tenant)
        host.says("launching")
        peer = self.peer()
        host.goes_on()
        peer.take()
        peer.busy()
        peer.idle()
        host.says("done")
        host.ends()

    def test_captures(self):
        host = Host(self, "captures", self.tenant)
        host.says("ready")
        peer = self.peer()
        peer.take()
        peer.busy()
        host.goes_on()
        host.says("captured")
        self.assertEqual(peer.gate(), "open")
        host.goes_on()
        peer.idle()
        host.says("done")
        host.ends()

    def test_many_streams(self):
        host = Host(self, "many-streams", self.tenant)
        host.says("synchronised")
        self.peer().take()
        self.assertFalse(self.state()["busy"])
        host.goes_on()
        host.says("destroyed")
        host.ends()

    def granted_after_all_work(self, habit):
        """The first say: a synchronise came back, and yet the long kernel of a second runs."""
        host = Host(self, habit, self.tenant)
        host.says("first")
        self.peer().take()
        self.assertGreaterEqual(time.monotonic_ns(), self.last_end())
        self.assertFalse(self.state()["busy"])
        host.goes_on()
        host.says("second")
        host.ends()

    def test_two_contexts(self):
        self.granted_after_all_work("two-contexts")

    def test_default_streams_per_thread(self):
        self.granted_after_all_work("per-thread")

    def test_memory(self):
        host = Host(self, "memory", self.tenant)
        host.says("allocated")
        self.assertEqual(self.state()["memory_used"], 600 << 20)
        second = Host(self, "memory", self.tenant)   # the quota is the tenant's, not the process's
        self.assertIn("cuMemAlloc_v2: 2", second.process.stdout.readline())
        host.goes_on()
        host.says("freed")
        host.ends()
        self.assertEqual(self.state()["memory_used"], 0)

    def test_daemon_goes_and_comes(self):
        host = Host(self, "works", self.tenant)
        host.says("working")
        self.until_works()
        self.daemon.kill()
        self.daemon.__init__(folder=self.daemon.dir, env=self.daemon.env)
        self.tenant = self.daemon.tenant("host", **{"class": "fair"}, memory_bytes=QUOTA, reclaim=0)
        self.until_works()
        self.assertEqual(self.state()["memory_used"], 64 << 20)
        host.process.stdin.close()
        host.says("done")
        self.assertEqual(host.process.wait(10), 0)

    def test_refuses_on_loss(self):
        host = Host(self, "works", self.tenant, TAKT_ON_LOSS="refuse")
        host.says("working")
        self.daemon.kill()
        self.assertIn("cuLaunchKernel: 802", host.process.stdout.readline())
        self.daemon.__init__(folder=self.daemon.dir, env=self.daemon.env)


if __name__ == "__main__":
    unittest.main()
