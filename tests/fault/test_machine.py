"""The machine's own faults: a clock that jumps, memory that runs out, news that come at the wrong moment."""
import contextlib
import os
import resource
import shutil
import subprocess
import tempfile
import unittest

import takt
from takt import until
from agent import answered_before_another, holdings
from behind import Behind, Host

PROMISE = {"slo_ns": 200e6, "share_ppm": 200000}
WALL, SCARCE, NVML, HASTE, GLANCE = (os.environ[name] for name in ("WALL", "SCARCE", "NVML", "HASTE", "GLANCE"))


class Clock(Behind):
    """13: only the monotonic clock counts."""
    before_daemon = {"LD_PRELOAD": WALL}

    def test_wall_clock_that_jumps_by_days(self):
        self.assertIn(os.path.basename(WALL), open(f"/proc/{self.daemon.process.pid}/maps").read())
        crowds = [Host(self, "crowd", tenant, LD_PRELOAD=WALL, SIMGPU_KERNEL_US="50") for tenant in (self.tenant, self.other)]
        for _ in range(10):
            for crowd in crowds:
                crowd.says("rounds")
                crowd.goes_on()
        status = self.daemon.status()
        device = status["devices"][0]
        self.assertEqual(device["granted_ns"] + device["idle_ns"] + device["switch_ns"], device["elapsed_ns"])
        self.assertLess(device["elapsed_ns"], 3600 * 10**9)
        for tenant in status["tenants"]:
            self.assertLess(tenant["wait_max_ns"], 10 * 10**9)
            self.assertEqual(tenant["overruns"], 0)


class Orders(unittest.TestCase):
    """25: more comes just when the daemon has looked what there is."""

    def test_those_of_others_come_between(self):
        daemon = takt.Daemon(env=dict(os.environ, LD_PRELOAD=GLANCE), devices=[takt.A_DEVICE])
        self.addCleanup(daemon.stop)
        self.assertLess(answered_before_another(daemon), 10)


class Wait(unittest.TestCase):
    """33: two daemons for pods in one folder."""

    def test_one_that_waits_says_so_each_minute(self):
        daemon = takt.Daemon()
        self.addCleanup(lambda: daemon.stop())   # the one of then, not of now
        waits = subprocess.Popen([f"{takt.BUILD}/src/node/taktd", "--dir", daemon.dir, "--kube", "none"], stderr=subprocess.PIPE, text=True,
                                 env=dict(os.environ, LD_PRELOAD=HASTE))
        self.addCleanup(waits.stderr.close)
        self.addCleanup(waits.wait)
        self.addCleanup(waits.kill)
        for _ in range(3):
            self.assertEqual(waits.stderr.readline(), f"taktd: waits for the end of the daemon in {daemon.dir} (process {daemon.process.pid})\n")
        daemon.kill()
        end = waits.stderr.read()   # it goes on, and there is no such configuration
        self.assertEqual(end.splitlines()[-1], "taktd: --kube: none: No such file or directory")
        self.assertEqual(waits.wait(10), 1)


class Memory(unittest.TestCase):
    """14: none is left for the daemon."""

    def setUp(self):
        self.folder = tempfile.mkdtemp(prefix="takt-machine-")
        self.addCleanup(shutil.rmtree, self.folder)

    def each_way_once(self, n):
        """The n'th allocation fails. Returns whether it was asked for at all."""
        log = f"{self.folder}/log"
        env = dict(os.environ, LD_PRELOAD=SCARCE, SCARCE_AT=str(n), SCARCE_LOG=log)
        try:
            daemon = takt.Daemon(f"{self.folder}/takt", env=env, devices=[takt.A_DEVICE])
        except takt.NotReady as end:
            self.assertEqual(end.args, (1,))   # in words
        else:
            self.addCleanup(daemon.process.kill)
            # An answer may be missing, a refusal, or (jansson's dump misses a failure) no JSON.
            with contextlib.suppress(OSError, TypeError, KeyError, ValueError):
                tenant = daemon.tenant(**PROMISE)
                tenant.join().take()
                with tenant.requests() as requests:
                    requests.sendall(b'{"event":"arrived","id":"1"}\n{"event":"finished","id":"1"}\n')
                daemon.status()
            if os.path.exists(log):   # now there is enough again
                self.assertIn(daemon.tenant("again", **PROMISE).join().take(), ("open", "free"))
                self.assertTrue(daemon.status()["ok"])
            self.assertEqual(daemon.stop(), 0)
        failed = os.path.exists(log)
        if failed:
            os.unlink(log)
        return failed

    def test_each_allocation_fails_once(self):
        n = 1
        while self.each_way_once(n):
            n += 1
        self.assertGreater(n, 50)

    def test_pages_cannot_be_mapped(self):
        daemon = takt.Daemon()
        self.addCleanup(daemon.stop)
        tenant, good = daemon.tenant("t", **PROMISE), daemon.tenant("good", **PROMISE).join()
        before = holdings(tenant)
        with open(f"/proc/{daemon.process.pid}/statm") as statm:
            pages = int(statm.read().split()[0])
        for room in range(3):
            with self.subTest(room=room):
                resource.prlimit(daemon.process.pid, resource.RLIMIT_AS, ((pages + room) * 4096, resource.RLIM_INFINITY))
                with contextlib.suppress(OSError, ValueError):
                    tenant.join().close()
                good.take()
                good.want(False)
                resource.prlimit(daemon.process.pid, resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
                until(self, lambda: holdings(tenant), before)
        self.assertIn(tenant.join().take(), ("open", "free"))


class Nvml(unittest.TestCase):
    """28, 30: NVML at the start of a daemon gives no answer, or may not open the devices."""

    def setUp(self):
        self.folder = tempfile.mkdtemp(prefix="takt-machine-")
        self.addCleanup(shutil.rmtree, self.folder)
        os.symlink(NVML, f"{self.folder}/libnvidia-ml.so.1")

    def start(self, **env):
        return subprocess.Popen([f"{takt.BUILD}/src/node/taktd", "--dir", f"{self.folder}/takt"], stderr=subprocess.PIPE, text=True,
                                env=dict(os.environ, LD_LIBRARY_PATH=self.folder, **env))

    def test_daemon_does_not_wait_for_ever(self):
        silent = self.start(SILENT_NVML="1")
        children = f"/proc/{silent.pid}/task/{silent.pid}/children"
        until(self, lambda: os.path.exists(children) and len(open(children).read().split()), 1)
        child = int(open(children).read())

        def holds():
            with contextlib.suppress(FileNotFoundError):   # closed meanwhile
                return {int(n): os.readlink(f"/proc/{child}/fd/{n}").split(":")[0] for n in os.listdir(f"/proc/{child}/fd")}
        until(self, holds, {0: "/dev/null", 1: "/dev/null", 2: "/dev/null", 3: "pipe"})   # one that cannot be ended keeps nothing of ours
        self.assertEqual(silent.communicate(timeout=60)[1], "taktd: NVML: gives no answer for 30 s\n")
        self.assertEqual(silent.returncode, 1)

    def test_what_nvml_says_is_said(self):
        daemon = self.start()
        self.addCleanup(daemon.stderr.close)
        self.addCleanup(daemon.wait)
        self.addCleanup(daemon.kill)
        self.assertEqual(daemon.stderr.readline(), "taktd: NVML: Insufficient Permissions\n")
        out = subprocess.run([f"{takt.BUILD}/src/cli/takt", "run", "--", "true"], capture_output=True, text=True, timeout=60,
                             env=dict(os.environ, LD_LIBRARY_PATH=self.folder, TAKT_DIR=f"{self.folder}/own"))
        self.assertEqual((out.returncode, out.stdout, out.stderr), (69, "", "takt: no GPU was found on this machine\n"))


if __name__ == "__main__":
    unittest.main(warnings="ignore")
