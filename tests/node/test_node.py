"""taktd as a process: joining, hand-over, death on either side, hostile clients."""
import ctypes
import json
import mmap
import os
import socket
import stat
import struct
import subprocess
import time
import unittest

import takt
from takt import until

PROMISE = {"slo_ns": 200e6, "share_ppm": 200000}


def slice_of(pid):
    """What a process asked the kernel's scheduler for, or has anyway, in ns."""
    attributes = ctypes.create_string_buffer(48)
    if ctypes.CDLL(None).syscall(315, pid, attributes, 48, 0):   # sched_getattr
        raise OSError("sched_getattr")
    return struct.unpack_from("<Q", attributes, 24)[0]


class Node(unittest.TestCase):
    def setUp(self):
        self.daemon = takt.Daemon()
        self.addCleanup(lambda: self.daemon.stop())   # the one of then, not of now

    def test_lone_tenant_is_free(self):
        session = self.daemon.tenant(**PROMISE).join()
        self.assertEqual(session.gate(), "closed")
        self.assertEqual(session.take(), "free")

    def test_idle_holder_hands_over_and_takes_back(self):
        a, b = (self.daemon.tenant(name, **PROMISE).join() for name in "ab")
        self.assertEqual(a.take(), "open")
        b.take()
        self.assertEqual(a.gate(), "closed")
        a.take()
        self.assertEqual(b.gate(), "closed")

    def test_busy_holder_keeps_its_step_then_hands_over(self):
        a, b = self.daemon.tenant("a", **PROMISE).join(), self.daemon.tenant("b", **{"class": "fair"}).join()
        b.take()
        b.busy()
        a.want()
        a_open = a.gate()
        b.await_gate("closed")   # the fair class gives way at once, but is still busy
        self.assertEqual(a_open, "closed")
        b.idle()
        a.await_gate("open")

    def test_killed_holder_passes_the_device_on(self):
        a, b = (self.daemon.tenant(name, **PROMISE).join() for name in "ab")
        a.take()
        a.busy()
        b.want()
        a.close()
        b.await_gate("open", "free")

    def test_killed_waiter_is_forgotten(self):
        a, b = (self.daemon.tenant(name, **PROMISE).join() for name in "ab")
        a.take()
        a.busy()
        b.want()
        b.close()
        end = time.monotonic() + 10
        while self.daemon.status()["tenants"][1]["processes"]:
            self.assertLess(time.monotonic(), end)
        a.idle()
        self.assertIn(a.take(), ("open", "free"))
        self.assertEqual(self.daemon.status()["tenants"][1]["grants"], 0)

    def test_tenant_leaves_with_its_connection_and_sessions(self):
        tenant = self.daemon.tenant(**PROMISE)
        session = tenant.join()
        tenant.control.close()
        self.assertEqual(len(self.daemon.status()["tenants"]), 1)
        session.close()
        other = self.daemon.tenant(**PROMISE).join()   # whoever comes next is served after the loss was seen
        self.assertIn(other.take(), ("free", "open"))

    def test_gate_of_a_holder_that_left_is_closed_to_who_has_its_number(self):
        tenant = self.daemon.tenant(**PROMISE)
        session = tenant.join()
        self.assertEqual(session.take(), "free")
        tenant.control.close()
        session.close()
        until(self, lambda: self.daemon.status()["tenants"], [])
        again = self.daemon.tenant(reclaim=tenant.answer["tenant"], **PROMISE)
        self.assertEqual(again.answer["tenant"], tenant.answer["tenant"])
        self.assertEqual(again.join().gate(), "closed")

    def test_daemons_page_is_read_only(self):
        session = self.daemon.tenant(**PROMISE).join()
        with self.assertRaises(OSError):
            mmap.mmap(session.fds[0], 4096)
        with self.assertRaises(OSError):
            os.write(session.fds[0], b"x")
        for fd in session.fds[:3]:
            with self.assertRaises(OSError):
                os.ftruncate(fd, 0)

    def test_admission_is_refused_with_numbers(self):
        answers = [self.daemon.tenant(name, **PROMISE).answer for name in "abc"]
        self.assertEqual([answer["ok"] for answer in answers], [True, True, False])   # each alone could be kept
        answer = answers[2]
        self.assertEqual(answer["error"], "admission")
        self.assertRegex(answer["message"], r"within [\d.]+ ms, [\d.]+ ms of device time would be due")

    def test_memory_over_the_device_is_refused(self):
        answer = self.daemon.tenant(memory_bytes=41 << 30, **PROMISE).answer
        self.assertIn("41.0 GiB of memory would be promised on a device of 40.0 GiB", answer["message"])

    def test_contract_that_says_too_little_is_refused(self):
        self.assertEqual(self.daemon.tenant(slo_ns=1e8).answer["error"], "contract")

    def test_piece_that_nobody_could_wait_for_is_refused(self):
        self.assertEqual(self.daemon.tenant(**{"class": "idle"}, step_ns=901_000_000).answer["ok"], False)
        self.assertTrue(self.daemon.tenant(**{"class": "fair"}).answer["ok"])

    def test_refusal_names_whom_it_can_in_whole_characters(self):
        self.daemon.tenant("x" + "\u00e9" * 185, **PROMISE)
        refused = self.daemon.tenant("b", ttft_ns=5e9, itl_ns=5e8, share_ppm=300000, step_ns=4e8).answer
        self.assertFalse(refused["ok"])
        self.assertIn("x" + "\u00e9" * 49 + " would break", json.dumps(refused, ensure_ascii=False))

    def test_garbage_frames_end_only_their_sender(self):
        tenant = self.daemon.tenant(**PROMISE)
        for frame in (b"", b"x", bytes(280), takt.join_frame(magic=1), takt.join_frame(size=10), takt.join_frame(devices=99),
                      takt.join_frame(kind=2)):
            s = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            s.settimeout(10)
            s.connect(tenant.answer["join"])
            s.send(frame or b"\0")
            self.assertEqual(s.recv(100), b"")
        self.assertEqual(tenant.join().take(), "free")

    def test_another_major_version_is_told_so(self):
        s = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        s.settimeout(10)
        s.connect(self.daemon.tenant(**PROMISE).answer["join"])
        s.send(takt.join_frame(major=2))
        frame = s.recv(100)
        self.assertEqual(struct.unpack_from("<H", frame, 4)[0], 3)
        self.assertEqual(struct.unpack_from("<I", frame, 16)[0], 1)

    def test_unknown_device_is_refused(self):
        s = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        s.settimeout(10)
        s.connect(self.daemon.tenant(**PROMISE).answer["join"])
        s.send(takt.join_frame().replace(takt.UUID, bytes(16)))
        self.assertEqual(struct.unpack_from("<I", s.recv(100), 16)[0], 3)

    def test_requests_are_counted_and_nonsense_is_not(self):
        tenant = self.daemon.tenant(**PROMISE)
        with tenant.requests() as s:
            for line in ('{"event":"arrived","id":"1"}', "nonsense", '{"event":"arrived"}', '{"event":"finished","id":"1"}',
                         '{"event":"first_token","id":"77"}', '{"event":"arrived","id":"2"}'):
                s.sendall(line.encode() + b"\n")
            s.shutdown(socket.SHUT_WR)
            self.assertEqual(s.recv(1), b"")   # the daemon has read all
        self.assertEqual(self.daemon.status()["tenants"][0]["requests"], 2)

    def test_flood_costs_only_its_sender(self):
        greedy, other = self.daemon.tenant("greedy", **PROMISE), self.daemon.tenant("other", **PROMISE)
        with greedy.requests() as s:
            for i in range(5000):
                s.sendall(b'{"event":"arrived","id":"%d"}\n' % i)
            self.assertIn(other.join().take(), ("open", "free"))

    def test_endless_line_is_cut_off(self):
        with self.daemon.tenant(**PROMISE).requests() as s:
            s.settimeout(10)
            with self.assertRaises(OSError):
                for _ in range(100):
                    s.sendall(b"x" * 4096)
                s.recv(1)
                raise OSError
        self.assertTrue(self.daemon.status()["ok"])

    def test_bad_control_lines_are_answered(self):
        with self.daemon.control() as s:
            for line in (b"{", b"[]", b'{"op":"fly"}', b'{"op":1}'):
                s.sendall(line + b"\n")
                self.assertFalse(json.loads(s.recv(4096))["ok"])

    def test_sockets_are_the_users_own(self):
        tenant = self.daemon.tenant(**PROMISE)
        self.assertEqual(stat.S_IMODE(os.stat(tenant.answer["dir"]).st_mode), 0o700)
        self.assertEqual(stat.S_IMODE(os.stat(tenant.answer["join"]).st_mode), 0o600)

    def test_second_daemon_in_the_folder_says_so(self):
        second = subprocess.run([f"{takt.BUILD}/src/node/taktd", "--dir", self.daemon.dir], capture_output=True, text=True)
        self.assertEqual((second.returncode, second.stderr), (75, f"taktd: {self.daemon.dir}: a daemon is running there already\n"))

    def test_killed_daemon_leaves_nothing_in_the_way(self):
        tenant = self.daemon.tenant(**PROMISE)
        session = tenant.join()
        self.daemon.kill()
        self.assertEqual(session.socket.recv(1), b"")   # which is how the shim knows
        self.daemon = takt.Daemon(self.daemon.dir)
        with self.daemon.control() as s:
            again = self.daemon.ask(s, op="register", name="t", reclaim=tenant.answer["tenant"], **PROMISE)
            self.assertEqual(again["join"], tenant.answer["join"])
            self.assertEqual(takt.Session(again["join"]).take(), "free")

    def test_memory_of_a_dead_process_is_given_back(self):
        tenant = self.daemon.tenant(memory_bytes=1 << 30, **PROMISE)
        a, b = tenant.join(), tenant.join()
        struct.pack_into("<Q", a.client, takt.LANE + 32, 1 << 20)
        struct.pack_into("<Q", a.tenant, takt.LANE, 3 << 20)
        a.close()
        b.take()   # served after the loss was seen
        self.assertEqual(struct.unpack_from("<Q", b.tenant, takt.LANE)[0], 2 << 20)

    def test_is_woken_before_who_computes(self):
        slices = [slice_of(pid) for pid in (self.daemon.process.pid, 0)]
        if not slices[1]:
            self.skipTest("this kernel knows no slices")
        self.assertEqual(slices[0], 100_000)
        self.assertGreater(slices[1], slices[0])

    def test_time_is_accounted_for(self):
        a, b = (self.daemon.tenant(name, **PROMISE).join() for name in "ab")
        for _ in range(20):
            a.take()
            b.take()
        device = self.daemon.status()["devices"][0]
        self.assertEqual(device["granted_ns"] + device["idle_ns"] + device["switch_ns"], device["elapsed_ns"])
        self.assertGreaterEqual(device["switches"], 39)

    def test_use_and_memory_are_accounted_to_the_end_of_a_process(self):
        tenant = self.daemon.tenant(**PROMISE)
        first, second = tenant.join(), tenant.join()
        for session in (first, second):   # neither kicks; the first ends at once
            struct.pack_into("<Q", session.tenant, takt.LANE, 5 << 20)
            session.idle(busy_ns=30_000_000, kick=False)
            session.close()
        end = time.monotonic() + 10
        while (used := self.daemon.status()["tenants"][0]["used"])["total_ns"] != 60_000_000:
            self.assertLess(time.monotonic(), end, used)
        self.assertEqual(used["memory_max"], 5 << 20)
        self.assertEqual(used["curve"][0], [20_000_000, 20_000_000])
        self.assertEqual(used["curve"][-1], [20_000_000 << 11, 60_000_000])


class UserDaemon(unittest.TestCase):
    def test_ends_with_its_last_tenant(self):
        daemon = takt.Daemon(user=True)
        daemon.tenant(**PROMISE).control.close()
        self.assertEqual(daemon.process.wait(10), 0)
        daemon.stop()


if __name__ == "__main__":
    unittest.main(warnings="ignore")
