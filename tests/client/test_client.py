"""libtakt against a real taktd: told requests are counted, and a daemon's restart is survived."""
import ctypes
import os
import time
import unittest

import takt

PROMISE = {"slo_ns": 200e6, "share_ppm": 200000}
library = ctypes.CDLL(f"{takt.BUILD}/src/client/libtakt.so.0")
library.takt_request_arrived.argtypes = [ctypes.c_char_p, ctypes.c_uint64]


class Client(unittest.TestCase):
    def setUp(self):
        self.daemon = takt.Daemon()
        self.addCleanup(lambda: self.daemon.stop())
        self.tenant = self.daemon.tenant(**PROMISE)
        os.environ["TAKT_REQUESTS"] = self.tenant.answer["requests"]

    def await_requests(self, n):
        end = time.monotonic() + 10
        while (seen := self.daemon.status()["tenants"][0]["requests"]) != n:
            self.assertLess(time.monotonic(), end, f"{seen} requests")
            time.sleep(.01)

    def test_daemon_counts_what_it_is_told_before_and_after_its_restart(self):
        for i in (b"1", b'a "quoted"\nid', b"3"):
            self.assertEqual(library.takt_request_arrived(i, 150_000_000), 0)
            self.assertEqual(library.takt_request_first_token(i), 0)
            self.assertEqual(library.takt_request_finished(i), 0)
        self.await_requests(3)
        self.daemon.kill()
        self.daemon = takt.Daemon(self.daemon.dir)
        with self.daemon.control() as control:
            self.daemon.ask(control, op="register", name="t", reclaim=self.tenant.answer["tenant"], **PROMISE)
            end = time.monotonic() + 10
            while library.takt_request_arrived(b"4", 0):
                self.assertLess(time.monotonic(), end)
                time.sleep(.05)
            self.await_requests(1)


if __name__ == "__main__":
    unittest.main()
