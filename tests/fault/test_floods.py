"""Whoever asks for too much, or says too much: the others go on, and the daemon neither ends nor grows."""
import contextlib
import json
import resource
import socket
import unittest

import takt
from takt import until
from agent import answered_before_another, holdings

PROMISE = {"slo_ns": 200e6, "share_ppm": 100000}
N_MANY = 1100   # more than any table of the daemon holds


class Floods(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        takt.all_descriptors()

    def setUp(self):
        self.daemon = takt.Daemon()
        self.addCleanup(self.daemon.stop)
        self.greedy, self.good = self.daemon.tenant("greedy", **PROMISE), self.daemon.tenant("good", **PROMISE)
        self.session = self.good.join()
        self.before = holdings(self.good)
        self.open = contextlib.ExitStack()
        self.addCleanup(self.open.close)

    def connect(self, path, kind=socket.SOCK_STREAM):
        s = self.open.enter_context(socket.socket(socket.AF_UNIX, kind))
        s.connect(path)
        s.settimeout(10)
        return s

    def ask(self):
        return self.daemon.ask(self.good.control, op="status")

    def others_go_on(self):
        session = self.good.join()   # a new process of theirs
        self.assertIn(session.take(), ("open", "free"))
        session.close()
        with self.good.requests() as s:   # and their requests
            count = self.requests()
            s.sendall(b'{"event":"arrived","id":"1"}\n')
            until(self, self.requests, count + 1)

    def heap(self):
        """Bytes of the daemon's data in memory; with the address sanitizer 0, as that keeps what is freed."""
        with open(f"/proc/{self.daemon.process.pid}/maps") as maps:
            if "libasan" in maps.read():
                return 0
        with open(f"/proc/{self.daemon.process.pid}/status") as file:
            return 1024 * int(next(line.split()[1] for line in file if line.startswith("RssAnon:")))

    def requests(self):
        return {t["name"]: t["requests"] for t in self.ask()["tenants"]}["good"]

    def all_is_given_back(self):
        self.open.close()
        until(self, lambda: holdings(self.good), self.before)

    def test_connections_that_never_join(self):
        for _ in range(N_MANY):
            self.connect(self.greedy.answer["join"], socket.SOCK_SEQPACKET)
        self.others_go_on()
        self.all_is_given_back()

    def test_sessions(self):
        for _ in range(N_MANY):
            with contextlib.suppress(OSError):   # those past its part are refused
                self.connect(self.greedy.answer["join"], socket.SOCK_SEQPACKET).send(takt.join_frame())
        self.others_go_on()
        self.all_is_given_back()

    def test_request_connections(self):
        for _ in range(N_MANY):
            self.connect(self.greedy.answer["requests"])
        self.others_go_on()
        self.assertTrue(self.daemon.status()["ok"])
        self.all_is_given_back()

    def test_control_connections(self):
        for _ in range(N_MANY):
            self.connect(f"{self.daemon.dir}/control")
        self.others_go_on()
        self.all_is_given_back()
        self.assertTrue(self.daemon.status()["ok"])

    def limit(self, descriptors):
        resource.prlimit(self.daemon.process.pid, resource.RLIMIT_NOFILE, (descriptors, 4096))

    def join_is_answered(self):
        s = self.connect(self.greedy.answer["join"], socket.SOCK_SEQPACKET)
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            s.send(takt.join_frame())
            s.recv(100)   # welcome or the end; not silence

    def test_descriptors_run_out_while_joining(self):
        for room in range(12):   # at each point of a join once
            with self.subTest(room=room), contextlib.ExitStack() as self.open:
                self.limit(self.before[0] + room)
                self.join_is_answered()
                self.join_is_answered()
                self.session.take()
                self.limit(4096)
                self.all_is_given_back()
        self.others_go_on()
        until(self, lambda: [t["processes"] for t in self.ask()["tenants"]], [0, 1])

    def test_descriptors_ran_out(self):
        self.limit(self.before[0] + 4)
        for _ in range(20):
            self.connect(self.greedy.answer["join"], socket.SOCK_SEQPACKET)
        self.join_is_answered()
        self.session.take()
        self.limit(4096)
        self.others_go_on()
        self.all_is_given_back()

    def test_reader_that_never_reads(self):
        with self.daemon.control() as slow, contextlib.suppress(OSError):
            slow.setblocking(False)
            for _ in range(2000):
                slow.sendall(b'{"op":"status"}\n' * 100)
        self.others_go_on()
        self.all_is_given_back()

    def test_answers_that_nobody_reads(self):
        """They are made as they are read: they take no memory to speak of, nobody is cut off, and each is whole in the end."""
        tenants = [self.daemon.tenant("\x01" * 370, step_ns=1e6, **{"class": "idle"}) for _ in range(60)]
        self.assertTrue(all(t.answer["ok"] for t in tenants))
        size = len(json.dumps(self.ask()))
        self.before, readers = holdings(self.good), [self.connect(f"{self.daemon.dir}/control") for _ in range(200)]
        heap = self.heap()
        for s in readers:
            s.sendall(b'{"op":"status"}\n' * 3)
        self.daemon.ask(self.good.control, op="nothing")   # heard after all of them
        self.assertLess(self.heap() - heap, len(readers) * size / 4)
        session = self.good.join()   # gates go on
        self.assertIn(session.take(), ("open", "free"))
        session.close()
        for s in readers:
            with s.makefile("rb") as lines:
                for _ in range(3):
                    self.assertEqual(len(json.loads(lines.readline())["tenants"]), 62)
        self.all_is_given_back()
        self.others_go_on()

    def test_orders_of_others_come_between(self):
        self.assertLess(answered_before_another(self.daemon), 10)

    def test_one_user_with_many_tenants(self):
        """They leave each other seat a place, and the daemon its control."""
        for n in range(12):
            tenant = self.daemon.tenant(f"greedy-{n}", step_ns=1e6, **{"class": "idle"})
            for kind, path in (socket.SOCK_SEQPACKET, "join"), (socket.SOCK_STREAM, "requests"):
                for _ in range(N_MANY // 4):
                    with contextlib.suppress(OSError):
                        self.connect(tenant.answer[path], kind)
        self.assertTrue(self.daemon.status()["ok"])
        session = self.daemon.tenant("new", step_ns=1e6, **{"class": "idle"}).join()
        self.assertIn(session.take(), ("open", "free"))
        session.close()

    def test_slow_reader_gets_whole_answers_or_the_end(self):
        slow, text = self.connect(f"{self.daemon.dir}/control"), b""
        slow.setblocking(False)
        with contextlib.suppress(OSError):
            for _ in range(2000):
                slow.sendall(b'{"op":"status"}\n' * 100)
        slow.shutdown(socket.SHUT_WR)   # a daemon that is not ahead of the reader ends after the last answer
        self.others_go_on()
        slow.settimeout(10)
        with contextlib.suppress(ConnectionResetError):
            while part := slow.recv(1 << 20):
                text += part
        for line in text.split(b"\n")[:-1]:
            self.assertTrue(json.loads(line)["ok"])

    def test_garbage_on_the_control_socket(self):
        for text in (b"\0" * 100, b"\xff\xfe\n", b"[" * 4000 + b"\n", b"{" * 5000, b'{"op":"register","name":"half', b"\n" * 4096,
                     b'{"op":"status"}' * 100 + b"\n", b'"\\u0000"\n'):
            with self.subTest(text[:20]):
                s = self.connect(f"{self.daemon.dir}/control")
                with contextlib.suppress(OSError):
                    s.sendall(text)
                    s.shutdown(socket.SHUT_WR)
                    while s.recv(65536):
                        pass
        self.others_go_on()
        self.all_is_given_back()


class Numbers(unittest.TestCase):
    def setUp(self):
        self.daemon = takt.Daemon()
        self.addCleanup(self.daemon.stop)

    def register(self, **contract):
        with self.daemon.control() as s:
            return self.daemon.ask(s, op="register", **contract)

    def test_out_of_range_are_refused(self):
        self.assertTrue(self.daemon.tenant(memory_bytes=1 << 30, **{"class": "fair"}).answer["ok"])
        fair, deadline = {"class": "fair"}, {"slo_ns": 1e9}
        for contract in (deadline | {"share_ppm": 2**32 + 1000}, deadline | {"share_ppm": 1e300}, fair | {"memory_bytes": 1e300},
                         fair | {"memory_bytes": 2.0**64 - 2.0**30}, fair | {"memory_bytes": 2.0**63},
                         fair | {"weight": 2**32 + 1}, fair | {"device": 2**32}, fair | {"device": 1e300}):
            with self.subTest(contract):
                self.assertFalse(self.register(**contract)["ok"])

    def test_long_names_stay_text(self):
        for name in ("é" * 100, "x" + "é" * 100, "€" * 50, "\U0001f600" * 30, "\x01" * 90):
            with self.subTest(name):
                tenant = self.daemon.tenant(name, **{"class": "idle"})
                found = [t["name"] for t in self.daemon.status()["tenants"] if t["tenant"] == tenant.answer["tenant"]]
                self.assertEqual(len(found), 1)
                self.assertTrue(name.startswith(found[0]) and len(found[0].encode()) > 59)


if __name__ == "__main__":
    unittest.main(warnings="ignore")
