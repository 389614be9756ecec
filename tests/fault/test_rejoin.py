"""The daemon dies under tenants of many threads at full rate: all rejoin the next one, and the device is shared as before."""
import os
import signal
import socket
import unittest

from behind import Behind, Host
from takt import until

KERNEL_NS = 50_000
NAMES = ("host", "other", "third")
HELD = 4 * 8 << 20   # what a crowd keeps of memory; more comes and goes


class Rejoin(Behind):
    def setUp(self):
        super().setUp()
        self.third = self.daemon.tenant("third", **{"class": "fair"})
        self.crowds = [Host(self, "crowd", tenant, SIMGPU_KERNEL_US=str(KERNEL_NS // 1000))
                       for tenant in (self.tenant, self.other, self.third)]

    def all_go_on(self):
        """Each thread of each has begun and ended a round since."""
        for crowd in self.crowds:
            crowd.goes_on()
        for crowd in self.crowds:
            crowd.says("rounds")

    def tenants(self):
        return {t["name"]: t for t in self.daemon.status()["tenants"]}

    def processes(self):
        return [self.tenants()[name]["processes"] for name in NAMES]

    def replace_daemon(self):
        self.daemon.kill()
        self.all_go_on()   # whoever waited at a gate goes on too
        gone = self.now()
        self.daemon.__init__(folder=self.daemon.dir, env=self.daemon.env)
        for i, name in enumerate(NAMES):
            self.daemon.tenant(name, **{"class": "fair"}, reclaim=i)
        until(self, self.processes, [1, 1, 1], never_s=60)   # a try that took long, for want of a core, makes the next one late
        self.all_go_on()   # what was submitted to nobody is done
        return gone

    def now(self):
        self.tool("status")   # writes the log until now
        return self.last_end()

    def intervals(self, begin, end):
        rows = [row.split(",") for row in self.tool("log").splitlines()[1:]]
        return [(max(int(a), begin), min(int(b), end), int(pid), int(runnable)) for a, b, pid, _, kind, runnable in rows
                if kind == "run" and int(b) > begin and int(a) < end]

    def overlaps(self, begin, end):
        return sum(runnable > 1 for _, _, _, runnable in self.intervals(begin, end))

    def hand_overs(self):
        return self.daemon.status()["devices"][0]["switches"]

    def take_turns_from(self, begin):
        switches = self.hand_overs()
        while self.hand_overs() < switches + 20:
            self.all_go_on()
        end = self.now()
        self.assertEqual(self.overlaps(begin, end), 0)
        self.assertEqual(len({pid for _, _, pid, _ in self.intervals(begin, end)}), 3)

    def test_many_threads_rejoin(self):
        for crowd in self.crowds:
            crowd.says("rounds")
        for _ in range(3):
            killed = self.now()
            gone = self.replace_daemon()
            begin = self.now()
            self.assertGreater(self.overlaps(killed, gone), 0)   # so that the next means something
            self.take_turns_from(begin)
        self.ends_with_nothing_lost(begin)

    def stop_daemon(self):
        self.addCleanup(lambda process: process.send_signal(signal.SIGCONT), self.daemon.process)   # so that it can be ended
        self.daemon.process.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, self.daemon.process.pid, os.WSTOPPED | os.WNOWAIT)

    def grants(self):
        return [self.tenants()[name]["grants"] for name in NAMES]

    def test_stopped_daemon_is_as_none_until_it_goes_on(self):
        """Whose gate is closed waits for five seconds, once. The sessions stay, and so does what they hold."""
        for crowd in self.crowds:
            crowd.says("rounds")
        for _ in range(2):
            stopped = self.now()
            self.stop_daemon()
            for _ in range(3):
                self.all_go_on()
            gone = self.now()
            self.daemon.process.send_signal(signal.SIGCONT)
            before = self.grants()
            until(self, lambda: [a > b for a, b in zip(self.grants(), before)], [True] * 3)   # all have asked it since
            self.assertGreater(self.overlaps(stopped, gone), 0)
            self.all_go_on()   # what passed it is done
            begin = self.now()
            self.take_turns_from(begin)
            self.assertEqual(self.processes(), [1, 1, 1])
        self.ends_with_nothing_lost(begin)

    def test_stopped_daemon_that_is_killed_is_replaced(self):
        for crowd in self.crowds:
            crowd.says("rounds")
        for silent in (False, True):
            self.stop_daemon()
            if silent:
                self.all_go_on()
            self.replace_daemon()
            self.take_turns_from(self.now())

    def test_stopped_daemon_keeps_nobody_from_beginning(self):
        """Not even with its queue of connections full."""
        self.stop_daemon()
        path, waiting = self.tenant.answer["join"], []
        self.addCleanup(lambda: [s.close() for s in waiting])
        with self.assertRaises(BlockingIOError):
            while True:
                waiting.append(socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_NONBLOCK))
                waiting[-1].connect(path)
        for mode, expected in (("pass", "0 0\n"), ("refuse", "802 0\n")):
            with self.subTest(mode):
                self.assertEqual(Host(self, "once 0", self.tenant, TAKT_ON_LOSS=mode).process.communicate(timeout=60)[0], expected)

    def ends_with_nothing_lost(self, begin):
        counts = []
        for crowd in self.crowds:
            crowd.process.stdin.write("stop\n")
        for crowd in self.crowds:
            while (line := crowd.line()) == "rounds":
                pass
            counts.append(int(line))
        until(self, lambda: [t["busy"] for t in self.tenants().values()], [False] * 3)
        on_device = {p["pid"]: p["busy_ns"] for p in self.simulated()["processes"]}
        device, tenants = self.daemon.status()["devices"][0], self.tenants()
        self.assertEqual(device["granted_ns"] + device["idle_ns"] + device["switch_ns"], device["elapsed_ns"])
        for crowd, count, name in zip(self.crowds, counts, NAMES):
            self.assertEqual(on_device[crowd.process.pid], count * KERNEL_NS)
            self.assertEqual(tenants[name]["memory_used"], HELD)
            ran = sum(b - a for a, b, pid, _ in self.intervals(begin, self.last_end()) if pid == crowd.process.pid)
            self.assertGreaterEqual(tenants[name]["used"]["total_ns"], ran)
            crowd.ends()
        until(self, self.processes, [0, 0, 0])
        self.assertEqual([t["memory_used"] for t in self.tenants().values()], [0] * 3)


if __name__ == "__main__":
    unittest.main(warnings="ignore")
