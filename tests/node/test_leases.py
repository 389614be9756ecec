"""The record of leases: what the daemon writes, and what the demo reads of it."""
import os
import stat
import struct
import tempfile
import time
import unittest

import takt
from demo import leases

PROMISE = {"slo_ns": 200e6, "share_ppm": 200000}
WANT, UNWANT, OPEN, CLOSE = 1, 2, 3, 4


class Written(unittest.TestCase):
    def setUp(self):
        self.daemon = takt.Daemon()
        self.addCleanup(lambda: self.daemon.stop())   # the one of then, not of now
        self.path = f"{self.daemon.dir}/leases"

    def test_who_wanted_and_who_had(self):
        begin = time.monotonic_ns()
        a, b, c = (self.daemon.tenant("t", **contract).join() for contract in (PROMISE, {"class": "fair"}, {"class": "fair"}))
        a.take()
        a.busy()
        b.want()
        c.want()
        c.close()
        a.idle()
        b.await_gate("open", "free")
        records = leases.records(self.path)
        kinds = {tenant: [kind for _, kind, who in records if who == tenant] for tenant in range(3)}
        self.assertEqual(kinds, {0: [WANT, OPEN, CLOSE], 1: [WANT, OPEN], 2: [WANT, UNWANT]})
        times = [at for at, _, _ in records]
        self.assertEqual(times, sorted(times))
        self.assertTrue(begin <= times[0] and times[-1] <= time.monotonic_ns())
        self.assertEqual(len(leases.waited(self.path, begin, times[-1])), 2)   # a, at once let in; then b and c

    def test_file_is_its_owners_and_each_daemon_makes_its_own(self):
        self.assertEqual(stat.S_IMODE(os.stat(self.path).st_mode), 0o600)
        with open(self.path, "rb") as old:
            self.daemon.tenant("a", **PROMISE).join().take()
            self.daemon.kill()
            self.daemon = takt.Daemon(self.daemon.dir)
            self.assertEqual(leases.records(self.path), [])
            self.assertEqual(struct.unpack_from("=Q", old.read(), 8)[0], 2)


class Read(unittest.TestCase):
    def file(self, n, record):
        file = self.enterContext(tempfile.NamedTemporaryFile())
        file.write(leases.MAGIC + struct.pack("=Q", n))
        for place in range(leases.ROOM):   # the record that came there last
            number = n - 1 - (n - 1 - place) % leases.ROOM if n else -1
            file.write(leases.RECORD.pack(*record(number), 0) if number >= 0 else bytes(leases.RECORD.size))
        file.flush()
        return file.name

    def test_last_round_of_a_ring_that_went_round(self):
        found = leases.records(self.file(leases.ROOM + 3, lambda i: (i, WANT + i % 2, i % 5)))
        self.assertEqual((len(found), found[0], found[-1]), (leases.ROOM, (3, 2, 3), (leases.ROOM + 2, 1, 3)))

    def test_waits_that_overlap_are_one_and_are_cut_to_the_run(self):
        story = [(10, WANT, 0), (20, WANT, 1), (30, OPEN, 0), (30, CLOSE, 2), (40, OPEN, 1), (50, WANT, 0), (60, UNWANT, 0), (70, WANT, 2)]
        path = self.file(len(story), lambda i: story[i])
        self.assertEqual(leases.waited(path, 0, 100), [(10, 40), (50, 60)])
        self.assertEqual(leases.waited(path, 15, 55), [(15, 40), (50, 55)])
        self.assertEqual(leases.waited(path, 41, 49), [])

    def test_no_record_is_not_nobody_waited(self):
        self.assertIsNone(leases.waited("/nowhere/leases", 0, 1))
        other = self.enterContext(tempfile.NamedTemporaryFile())
        other.write(b"something else than a record")
        other.flush()
        self.assertIsNone(leases.waited(other.name, 0, 1))


if __name__ == "__main__":
    unittest.main()
