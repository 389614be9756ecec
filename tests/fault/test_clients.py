"""Clients that die, stop, fork or lie: the others get the device, and the daemon neither ends nor grows."""
import contextlib
import fcntl
import os
import random
import signal
import socket
import struct
import time
import unittest

import takt
from takt import until
from agent import Agent, holdings

PROMISE = {"slo_ns": 200e6, "share_ppm": 200000}
ACTIVITY, BUSY_NS, MEMORY, STEPS, WANT = takt.LANE, takt.LANE + 8, takt.LANE + 32, takt.LANE + 40, takt.LANE + 44
FAR = 2**64 - 1


def connected(path):
    s = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    s.connect(path)
    return s


def half_a_frame(path):
    s = connected(path)
    s.send(takt.join_frame()[:20])
    return s


def welcome_unread(path):
    s = connected(path)
    s.send(takt.join_frame())
    return s


def joined(path):
    return takt.Session(path)


def waiting(path):
    session = takt.Session(path)
    session.want()
    return session


def holding(path):
    session = takt.Session(path)
    session.take()
    return session


def holding_busy(path):
    session = holding(path)
    session.busy()
    return session


def forked(path):
    session = holding_busy(path)
    if os.fork() == 0:   # the child keeps socket and pages open
        while True:
            signal.pause()
    return session


class Clients(unittest.TestCase):
    def setUp(self):
        self.daemon = takt.Daemon()
        self.addCleanup(self.daemon.stop)
        self.bad, self.good = self.daemon.tenant("bad", **PROMISE), self.daemon.tenant("good", **PROMISE)
        self.session = self.good.join()

    def processes(self):
        return {t["name"]: t["processes"] for t in self.daemon.status()["tenants"]}

    def others_go_on(self):
        self.session.take()
        device = self.daemon.status()["devices"][0]
        self.assertEqual(device["granted_ns"] + device["idle_ns"] + device["switch_ns"], device["elapsed_ns"])

    def test_killed_anywhere(self):
        before = holdings(self.good)
        for act in (connected, half_a_frame, welcome_unread, joined, waiting, holding, holding_busy):
            with self.subTest(act.__name__):
                if act is waiting:
                    self.session.take()
                    self.session.busy()
                agent = Agent(self.bad.answer["join"], act)
                agent.kill()
                if act is waiting:
                    self.session.idle()
                self.others_go_on()
                until(self, self.processes, {"bad": 0, "good": 1})
                until(self, lambda: holdings(self.good), before)

    def test_killed_while_its_child_lives(self):
        agent = Agent(self.bad.answer["join"], forked)
        children = open(f"/proc/{agent.pid}/task/{agent.pid}/children").read().split()
        agent.kill()
        try:
            self.others_go_on()
            until(self, self.processes, {"bad": 0, "good": 1})
        finally:
            for child in children:
                os.kill(int(child), signal.SIGKILL)

    def test_stopped_holder_passes_the_device_on_and_comes_back(self):
        for act in (holding, holding_busy):
            with self.subTest(act.__name__):
                agent = Agent(self.bad.answer["join"], act)
                agent.stop()
                self.others_go_on()
                agent.send(signal.SIGCONT)
                self.assertEqual(self.processes()["bad"], 1)
                agent.kill()

    def test_step_of_one_process_does_not_end_the_work_of_another(self):
        first, second = self.bad.join(), self.bad.join()
        first.take()
        first.busy()
        second.busy()
        self.session.want()
        first.await_gate("closed")
        steps = lambda: self.daemon.status()["tenants"][0]["steps"]
        first.idle()
        self.assertEqual((steps(), self.session.gate()), (0, "closed"))   # the kick was seen before we asked
        second.idle()
        self.session.await_gate("open")
        self.assertEqual(steps(), 2)

    def test_times_to_come_and_counters_going_back(self):
        liar = self.bad.join()
        hour = 3600 * 10**9
        for activity, busy_ns, steps in ((time.monotonic_ns() + hour | 1, 0, 0), (FAR, FAR, 2**32 - 1), (1, 5, 5),
                                         (0, 0, 0), (FAR - 1, FAR, 0), (time.monotonic_ns() | 1, FAR // 2, 2**31)):
            with self.subTest(activity=activity, busy_ns=busy_ns, steps=steps):
                liar.take()
                struct.pack_into("<QQ", liar.client, ACTIVITY, activity, busy_ns)
                struct.pack_into("<I", liar.client, STEPS, steps)
                liar.kick()
                self.others_go_on()

    def test_more_use_than_there_was_time(self):
        began, liar = time.monotonic_ns(), self.bad.join()
        for step, claim in enumerate((10**15, 10**16, 10**17), start=1):
            liar.take()
            struct.pack_into("<Q", liar.client, ACTIVITY + 8, claim)
            struct.pack_into("<I", liar.client, STEPS, step)
            liar.kick()
            self.others_go_on()
        liar.close()
        until(self, self.processes, {"bad": 0, "good": 1})
        bad = next(t for t in self.daemon.status()["tenants"] if t["name"] == "bad")
        self.assertEqual(bad["steps"], 3)
        for told in (bad["busy_ns"], bad["used"]["total_ns"]):
            self.assertLessEqual(told, time.monotonic_ns() - began)

    def test_garbage_all_over_the_page(self):
        liar, noise = self.bad.join(), random.Random(1)
        for _ in range(200):
            liar.client[:] = noise.randbytes(4096)
            liar.kick()
            self.assertTrue(self.daemon.status()["ok"])
        liar.client[:] = bytes(4096)
        liar.kick()
        self.others_go_on()

    def test_waits_without_end_and_without_use(self):
        liar = self.bad.join()
        for _ in range(20):
            struct.pack_into("<I", liar.client, WANT, 2**32 - 1)   # it never says that it has the device
            liar.kick()
            self.others_go_on()

    def test_memory_counts_harm_only_their_owner(self):
        liar, other = self.bad.join(), self.bad.join()
        for count in (FAR, 2**63, 1):
            struct.pack_into("<Q", liar.client, MEMORY, count)
            struct.pack_into("<Q", liar.tenant, takt.LANE, count)
            liar.kick()
            self.assertTrue(self.daemon.status()["ok"])
        struct.pack_into("<Q", liar.client, MEMORY, FAR)
        liar.close()
        until(self, self.processes, {"bad": 1, "good": 1})
        self.assertEqual(struct.unpack_from("<Q", other.tenant, takt.LANE)[0], 1)   # never below nothing
        self.assertEqual(struct.unpack_from("<Q", self.session.tenant, takt.LANE)[0], 0)

    def test_wake_descriptor_cannot_block_the_daemon(self):
        liar = self.bad.join()
        fcntl.fcntl(liar.wake_fd, fcntl.F_SETFL, 0)
        with contextlib.suppress(OSError):
            os.write(liar.wake_fd, struct.pack("<Q", FAR - 1))   # as full as it gets
        liar.take()
        liar.busy()
        self.others_go_on()   # the long drain is nudged on the way

    def test_kick_descriptor_cannot_block_the_daemon(self):
        liar, slow = self.bad.join(), self.bad.control
        self.daemon.process.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, self.daemon.process.pid, os.WSTOPPED | os.WNOWAIT)
        slow.sendall(b'{"op":"status"}\n' * 200)
        liar.kick()
        self.daemon.process.send_signal(signal.SIGCONT)
        slow.recv(1)   # it has seen both, and is busy with the first
        with contextlib.suppress(OSError):
            os.read(liar.kick_fd, 8)   # so that there is nothing left for it to read
        fcntl.fcntl(liar.kick_fd, fcntl.F_SETFL, 0)
        self.others_go_on()

    def test_kicks_come_after_a_full_count(self):
        liar = self.bad.join()
        with contextlib.suppress(OSError):
            os.write(liar.kick_fd, struct.pack("<Q", FAR - 1))
        self.others_go_on()

    def test_chatter_after_the_welcome_is_thrown_away(self):
        liar = self.bad.join()
        for _ in range(100):
            liar.socket.send(b"x" * 4096)
            liar.socket.send(takt.join_frame())
        self.others_go_on()
        self.assertEqual(self.processes(), {"bad": 1, "good": 1})

    def test_join_of_a_later_minor_version_is_longer_and_welcome(self):
        s = connected(self.bad.answer["join"])
        s.settimeout(10)
        s.send(takt.join_frame(size=320) + bytes(40))
        self.assertEqual(struct.unpack_from("<H", s.recv(100), 4)[0], 2)

    def test_connection_of_a_process_that_has_ended_is_nobodys(self):
        """Its number may be another's by now: what would be asked of it would be that one's."""
        s = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        s.settimeout(10)
        self.daemon.process.send_signal(signal.SIGSTOP)
        child = os.fork()
        if child == 0:
            s.connect(self.bad.answer["join"])
            os._exit(0)
        os.waitpid(child, 0)
        self.daemon.process.send_signal(signal.SIGCONT)
        self.assertEqual(struct.unpack_from("<H", s.recv(100), 4)[0], 3)   # REFUSED, before it has asked
        self.others_go_on()

    def test_descriptors_sent_along_are_not_kept(self):
        before = holdings(self.good)
        s = connected(self.bad.answer["join"])
        socket.send_fds(s, [takt.join_frame(magic=1)], [0] * 100)
        with self.bad.requests() as r:
            socket.send_fds(r, [b"x\n"], [0] * 100)
            r.shutdown(socket.SHUT_WR)
            r.recv(1)
        s.close()
        self.others_go_on()
        until(self, lambda: holdings(self.good), before)


if __name__ == "__main__":
    unittest.main(warnings="ignore")
