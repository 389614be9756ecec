"""The shim inside hosts of all habits, against a real daemon, on the simulated GPU, whose log is the truth."""
import time
import unittest

from behind import QUOTA, Behind, Host
from takt import until


class Hosts(Behind):
    def until_works(self):
        until(self, lambda: self.state()["processes"] > 0 and self.state()["steps"] > 0, True, never_s=20)   # the shim looks for a daemon once a second

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
