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

    def test_tenant_that_did_nothing_is_advised_nothing(self):
        self.daemon.tenant("idler", **PROMISE)
        self.assertEqual(self.run_takt("advise").stdout, "idler:   # has used no device time yet\n")


if __name__ == "__main__":
    unittest.main(warnings="ignore")
