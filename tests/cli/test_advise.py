"""takt advise beside a real daemon: a tenant of known habits is told them, and may declare what it is told."""
import os
import re
import struct
import subprocess
import time
import unittest

import takt

PROMISE = {"slo_ns": 200e6, "share_ppm": 200000}


class Advise(unittest.TestCase):
    def setUp(self):
        self.daemon = takt.Daemon()
        self.addCleanup(lambda: self.daemon.stop())

    def run_takt(self, *args):
        return subprocess.run([f"{takt.BUILD}/src/cli/takt", *args], capture_output=True, text=True, timeout=60,
                              env={**os.environ, "TAKT_DIR": self.daemon.dir})

    def test_lone_tenant_that_kicks_nobody_is_told_what_it_used(self):
        session = self.daemon.tenant("agent", **PROMISE).join()
        session.take()
        struct.pack_into("<Q", session.tenant, takt.LANE, 100 << 20)
        begin = time.monotonic()
        for _ in range(30):   # 20 of each 100 ms
            session.busy()
            session.idle(busy_ns=20_000_000, kick=False)
            time.sleep(.1)
        part = 30 * .02 / (time.monotonic() - begin)
        struct.pack_into("<Q", session.tenant, takt.LANE, 1 << 20)
        time.sleep(.1)
        out = self.run_takt("advise").stdout
        flags = dict(re.findall(r"--(\w+) (\d+)", out.split("#")[0]))
        self.assertLess(100 * part, int(flags["share"]), out)
        self.assertLess(int(flags["share"]), 40, out)
        self.assertLessEqual(int(flags["share"]), int(flags["peak"]), out)
        self.assertLessEqual(int(flags["burst"]), int(flags["depth"]), out)
        self.assertIn(int(flags["burst"]), range(10, 60), out)
        self.assertEqual(int(flags["memory"]), 110, out)   # the most that was held at a time
        self.assertIn("watch it longer", out)
        session.close()
        self.daemon.tenants[-1].control.close()
        again = self.run_takt("run", "--slo", "200ms", *out.split("#")[0].split()[1:], "--", "true")
        self.assertEqual((again.returncode, again.stderr), (0, ""))

    def habits(self, name, **contract):
        """What a tenant is advised that used the device a little, and memory; and is gone then."""
        tenant = self.daemon.tenant(name, **contract)
        session = tenant.join()
        session.take()
        struct.pack_into("<Q", session.tenant, takt.LANE, 100 << 20)
        for _ in range(5):
            session.busy()
            session.idle(busy_ns=20_000_000)
        time.sleep(.1)
        [line] = [line for line in self.run_takt("advise").stdout.splitlines() if line.startswith(f"{name}:")]
        session.close()
        tenant.control.close()
        return line

    def test_every_class_may_declare_what_it_is_advised(self):
        for name, contract, objective in (("deadline", PROMISE, ["--slo", "200ms"]), ("fair", {"class": "fair"}, []), ("idle", {"class": "idle"}, [])):
            line = self.habits(name, **contract)
            flags, _, more = line.partition("#")
            flags = flags.split()[1:]
            self.assertEqual({"--share", "--peak", "--burst", "--depth"} <= set(flags), name == "deadline", line)
            self.assertEqual(bool(re.search(r"; share \d+%, peak \d+%, burst \d+ms, depth \d+ms$", more)), name != "deadline", line)
            self.assertIn("--step", flags, line)
            self.assertIn("--memory", flags, line)
            said = self.run_takt("run", *objective, *flags, "--", f"{takt.BUILD}/src/cli/takt", "status", "--json")
            self.assertEqual((said.returncode, said.stderr), (0, ""), line)
            self.assertIn(f'"promised":"{name}"', said.stdout)

    def test_long_step_is_advised_as_it_may_be_declared(self):
        session = self.daemon.tenant("slow", step_ns=900e6, **{"class": "fair"}).join()
        session.take()
        session.busy()
        session.idle(busy_ns=900_000_000)
        takt.until(self, lambda: self.daemon.status()["tenants"][0]["used"]["total_ns"] > 0, True)
        self.assertIn(" --step 900ms ", self.run_takt("advise").stdout)

    def test_tenant_that_did_nothing_is_advised_nothing(self):
        self.daemon.tenant("idler", **PROMISE)
        self.assertEqual(self.run_takt("advise").stdout, "idler:   # has used no device time yet\n")


if __name__ == "__main__":
    unittest.main(warnings="ignore")
