"""What taktd tells, whom it tells, and what it takes for a contract: every member of its answers, every wrong one of its callers'."""
import json
import os
import socket
import struct
import time
import unittest

import takt
from takt import until

PROMISE = {"slo_ns": 200e6, "share_ppm": 200000}
OTHER_UID = 65534
as_root = unittest.skipUnless(os.geteuid() == 0, "only root serves several users")
whole, yes_or_no, text, many = int, bool, str, list
TENANT = {"tenant": whole, "name": text, "device": whole, "class": text, "promised": text, "processes": whole, "uid": whole, "holds": yes_or_no,
          "wants": yes_or_no, "busy": yes_or_no, "granted_ns": whole, "busy_ns": whole, "grants": whole, "steps": whole, "requests": whole,
          "overruns": whole, "gap_ns": whole, "step_ns": whole, "wait_p50_ns": whole, "wait_p99_ns": whole, "wait_max_ns": whole,
          "memory_used": whole, "memory_quota": whole, "used": dict, "waits": many}
DEVICE = {"device": whole, "name": text, "uuid": text, "memory": whole, "holder": whole, "elapsed_ns": whole, "granted_ns": whole,
          "idle_ns": whole, "switch_ns": whole, "switches": whole, "bypass": yes_or_no}
STATUS = {"ok": yes_or_no, "version": text, "pid": whole, "events": whole, "wait_bounds_ns": many, "devices": many, "tenants": many}
USED = {"seen_ns": whole, "total_ns": whole, "memory_max": whole, "curve": many}


def as_user(uid, act):
    """What act() returns, as JSON, when another user does it."""
    here, there = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.setuid(uid)
            os.write(there, json.dumps(act()).encode())
        finally:
            os._exit(0)
    os.close(there)
    with open(here) as file:
        said = file.read()
    os.waitpid(pid, 0)
    return json.loads(said)


class Case(unittest.TestCase):
    def setUp(self):
        self.daemon = takt.Daemon()
        self.addCleanup(self.daemon.stop)

    def tenant_status(self, name="t"):
        return next(t for t in self.daemon.status()["tenants"] if t["name"] == name)

    def assert_shape(self, object, shape):
        self.assertEqual({key: type(value) for key, value in object.items()}, shape)


class Accounts(Case):
    def test_status_has_its_shape(self):
        self.daemon.tenant(memory_bytes=1 << 30, **PROMISE).join().take()
        status = self.daemon.status()
        self.assert_shape(status, STATUS)
        self.assert_shape(status["devices"][0], DEVICE)
        self.assert_shape(status["tenants"][0], TENANT)
        self.assert_shape(status["tenants"][0]["used"], USED)
        self.assertEqual([span for span, _ in status["tenants"][0]["used"]["curve"]], [20_000_000 << k for k in range(12)])
        self.assertEqual(status["pid"], self.daemon.process.pid)

    def test_every_number_is_the_tenants_own(self):
        a, b = self.daemon.tenant("a", memory_bytes=3 << 30, **PROMISE), self.daemon.tenant("b", **{"class": "idle"})
        session = a.join()
        session.take()
        session.busy()
        status = self.tenant_status("a")
        self.assertEqual((status["holds"], status["busy"], status["processes"], status["uid"]), (True, True, 1, os.getuid()))
        self.assertEqual((status["class"], status["memory_quota"], status["grants"]), ("deadline", 3 << 30, 1))
        self.assertEqual(self.daemon.status()["devices"][0]["holder"], status["tenant"])
        session.idle(steps=3, busy_ns=7_000_000)
        until(self, lambda: self.tenant_status("a")["steps"], 3)
        other = self.tenant_status("b")
        self.assertEqual((other["class"], other["steps"], other["grants"], other["holds"], other["processes"]), ("idle", 0, 0, False, 0))
        until(self, lambda: self.tenant_status("a")["used"]["total_ns"], 7_000_000)   # it is sampled

    def test_who_waits_is_said_and_for_how_long(self):
        a, b = (self.daemon.tenant(name, **PROMISE).join() for name in "ab")
        a.take()
        a.busy()
        begin = time.monotonic_ns()
        b.want()
        until(self, lambda: self.tenant_status("b")["wants"], True)
        self.assertEqual(self.tenant_status("b")["wait_p99_ns"], 0)   # not over yet
        asked = time.monotonic_ns()
        a.idle()
        b.await_gate("open")
        b.want(False)
        waited = self.tenant_status("b")
        self.assertFalse(waited["wants"])
        self.assertLess(asked - begin, waited["wait_p99_ns"] * 2)
        self.assertLessEqual(waited["wait_p50_ns"], waited["wait_p99_ns"])
        self.assertLess(waited["wait_p99_ns"], (time.monotonic_ns() - begin) * 1.04)   # of the histogram's bucket

    def test_waits_are_counted_between_bounds(self):
        a, b = (self.daemon.tenant(name, **PROMISE).join() for name in "ab")
        before, bounds = self.tenant_status("b")["waits"], self.daemon.status()["wait_bounds_ns"]
        self.assertEqual((len(before), sum(before)), (len(bounds) + 1, 0))
        self.assertEqual(bounds, sorted(bounds))
        self.assertLess(bounds[0], 25_000)
        self.assertGreater(bounds[-1], 200e9)
        self.assertTrue(all(y <= x * 1.26 for x, y in zip(bounds, bounds[1:])), bounds)
        for n in (1, 2, 3):
            a.take()
            a.busy()
            b.want()
            until(self, lambda: self.tenant_status("b")["wants"], True)
            a.idle(busy_ns=3_000_000 * n)
            b.await_gate("open")
            b.want(False)
            status = self.tenant_status("b")
            self.assertEqual(sum(status["waits"]), n)
            # The longest lies in the last bucket that counts any.
            last = max(i for i, count in enumerate(status["waits"]) if count)
            self.assertLessEqual(status["wait_p99_ns"], bounds[last])
            self.assertGreater(status["wait_p99_ns"], bounds[last - 1])

    def test_class_is_that_in_which_it_is_served_and_the_promised_one_stays(self):
        a, b = (self.daemon.tenant(name, **PROMISE).join() for name in "ab")
        while (status := self.tenant_status("a"))["class"] == "deadline":
            self.assertLess(status["overruns"], 20)
            a.take()
            a.busy()
            b.want()
            until(self, lambda: self.tenant_status("a")["overruns"], status["overruns"] + 1)   # its gate is closed, it works on
            a.idle()
            b.await_gate("open")
            b.want(False)
            b.busy()
            b.idle()
        self.assertEqual((status["class"], status["promised"]), ("fair", "deadline"))

    def test_tenant_is_busy_while_any_of_its_processes_is(self):
        tenant = self.daemon.tenant(**PROMISE)
        one, two = tenant.join(), tenant.join()
        one.take()
        two.await_gate("free")   # the seat is the tenant's, not the process's
        for steps, first, second in ((1, one, two), (3, two, one)):
            first.busy()
            second.busy()
            first.idle(steps=1)
            until(self, lambda: self.tenant_status()["steps"], steps)
            self.assertTrue(self.tenant_status()["busy"])
            second.idle(steps=1)
            until(self, lambda: (self.tenant_status()["steps"], self.tenant_status()["busy"]), (steps + 1, False))

    def test_quota_and_bound_are_in_the_page(self):
        session = self.daemon.tenant(memory_bytes=5 << 30, **PROMISE).join()
        self.assertEqual(struct.unpack_from("<QQ", session.daemon, takt.LANE + 8), (2_000_000, 5 << 30))
        self.assertEqual(struct.unpack_from("<IHHI", session.daemon, 0), (0x4B415444, 1, 0, 0))
        self.assertEqual(struct.unpack_from("<I", session.client, 0)[0], 0x4B415443)
        self.assertEqual(struct.unpack_from("<I", session.tenant, 0)[0], 0x4B415454)

    def test_generation_is_the_daemons_own(self):
        folder = self.daemon.dir
        first = struct.unpack_from("<Q", self.daemon.tenant(**PROMISE).join().daemon, 24)[0]
        self.assertEqual(first, struct.unpack_from("<Q", self.daemon.tenant(**PROMISE).join().daemon, 24)[0])
        self.daemon.kill()
        again = takt.Daemon(folder)
        self.addCleanup(again.stop)
        self.assertGreater(struct.unpack_from("<Q", again.tenant(**PROMISE).join().daemon, 24)[0], first)

    def test_versions_and_features_are_agreed_on(self):
        tenant = self.daemon.tenant(**PROMISE)
        for minor, features, ours in ((0, 0, 0), (7, 0xFFFFFFFF, 1)):
            s = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            s.settimeout(10)
            s.connect(tenant.answer["join"])
            s.send(takt.join_frame(minor=minor, features=features))
            magic, kind, size, major, agreed, common = struct.unpack_from("<IHHHHI", s.recv(100), 0)
            self.assertEqual((magic, kind, size, major, agreed, common), (0x544B4154, 2, 40, 1, ours, 0))
            s.close()

    def test_kicks_are_answered_and_nothing_else_is(self):
        tenant = self.daemon.tenant(**PROMISE)
        session, other = tenant.join(), tenant.join()
        answers = lambda: [struct.unpack_from("<I", s.daemon, 64)[0] for s in (session, other)]
        for n in range(3):
            session.kick()
            self.daemon.status()   # after that
            self.assertEqual(answers(), [n + 1, 0])

    def test_request_lines_may_come_in_pieces(self):
        tenant = self.daemon.tenant(**PROMISE)
        with tenant.requests() as s:
            s.sendall(b'{"event":"arrived","id":"1","deadline_ms":5}\r\n{"event":"first_token","id":"1"}\n'
                      b'{"event":"finished","id":"1"}\n{"event":"arr')
            s.sendall(b'ived","id":"2"}\n{"event":"arrived","id":"3"}')   # the last one has no end: it is none
            s.shutdown(socket.SHUT_WR)
            self.assertEqual(s.recv(1), b"")
        self.assertEqual(self.tenant_status()["requests"], 2)

    def test_requests_are_told_to_their_own_tenant(self):
        one, two = self.daemon.tenant("one", **PROMISE), self.daemon.tenant("two", **PROMISE)
        with one.requests() as s:
            s.sendall(b'{"event":"arrived","id":"1","tenant":"two"}\n{"event":"arrived","id":"2","tenant":1}\n')
            s.shutdown(socket.SHUT_WR)
            s.recv(1)
        self.assertEqual([self.tenant_status(name)["requests"] for name in ("one", "two")], [2, 0])


class Contracts(Case):
    def register(self, **contract):
        with self.daemon.control() as s:
            return self.daemon.ask(s, op="register", **contract)

    def test_what_is_not_understood_is_refused(self):
        for wrong in ({"slo": 5}, {"share": "40%"}, {"share_ppm": "400000"}, {"share_ppm": None}, {"share_ppm": True}, {"share_ppm": -1},
                      {"weight": [1]}, {"class": "first"}, {"class": 1}, {"class": None}, {"name": 7}, {"reclaim": "0"}, {"reclaim": 1.5},
                      {"device": -1}, {"memory_bytes": {}}, {"tenant": 0}, {"uid": 0}, {"x" * 300: 1}):
            key, = wrong
            self.assertEqual(self.register(**{"class": "fair"} | wrong),
                             {"ok": False, "error": "usage", "message": f'not understood: "{key[:100]}"'}, wrong)
        self.assertEqual(self.daemon.status()["tenants"], [])

    def test_classes_and_names(self):
        for kind in ("deadline", "fair", "idle"):
            tenant = self.daemon.tenant(kind, **PROMISE, **{"class": kind})
            self.assertEqual(self.tenant_status(kind)["class"], kind)
            self.assertEqual(tenant.answer["dir"], f"{self.daemon.dir}/t{tenant.answer['tenant']}")
        with self.daemon.control() as s:
            self.daemon.ask(s, op="register", **{"class": "fair"})
            self.assertEqual(self.tenant_status("tenant")["class"], "fair")

    def test_refusals_say_whose_promise(self):
        for name in ("first", "second"):
            self.assertTrue(self.daemon.tenant(name, **PROMISE).answer["ok"])
        refused = self.register(name="third", **PROMISE)
        self.assertRegex(refused["message"], r"^the promise of (first|second|this one) would break: within [\d.]+ ms, [\d.]+ ms .* \(\d+ % too much\)$")
        self.assertEqual(self.register(share_ppm=400000, peak_ppm=300000, slo_ns=200e6)["error"], "contract")

    def test_refused_tenants_leave_no_seat_taken(self):
        self.daemon.tenant(**PROMISE)
        for _ in range(100):
            self.assertFalse(self.register(slo_ns=200e6, share_ppm=900000)["ok"])
        self.assertTrue(self.register(**PROMISE)["ok"])

    def test_seats_run_out_and_come_back(self):
        with self.daemon.control() as s:
            answers = [self.daemon.ask(s, op="register", name=str(i), **{"class": "fair"}) for i in range(65)]
            self.assertEqual([a["ok"] for a in answers], [True] * 64 + [False])
        until(self, lambda: self.daemon.status()["tenants"], [])
        self.assertTrue(self.register(**{"class": "fair"})["ok"])

    def test_seat_is_reclaimed_only_if_it_is_free(self):
        fair = {"class": "fair"}
        taken = self.daemon.tenant("holder", **fair).answer["tenant"]
        self.assertNotEqual(self.daemon.tenant("other", reclaim=taken, **fair).answer["tenant"], taken)
        self.assertEqual(self.daemon.tenant("third", reclaim=200, **fair).answer["tenant"], 200)
        for far in (256, -5, 2**40):
            self.assertTrue(self.daemon.tenant(reclaim=far, **fair).answer["ok"])

    @as_root
    def test_no_user_takes_all_seats(self):
        os.chmod(self.daemon.dir, 0o755)

        def greedy():
            with self.daemon.control() as s:
                answers = [self.daemon.ask(s, op="register", name="greedy", **{"class": "fair"}) for _ in range(64)]
                return [sum(a["ok"] for a in answers), answers[-1]["message"], self.daemon.tenant("x", **{"class": "fair"}).answer["ok"]]
        n, message, again = as_user(OTHER_UID, greedy)
        self.assertEqual((n, message, again), (32, "no seat is left on the device", False))

    @as_root
    def test_no_user_takes_all_seats_of_the_node(self):
        daemon = takt.Daemon(devices=[f"{n:032x}:{40 << 30}" for n in range(1, 6)])
        self.addCleanup(daemon.stop)
        os.chmod(daemon.dir, 0o755)

        def greedy():
            with daemon.control() as s:
                answers = [[daemon.ask(s, op="register", device=device, **{"class": "fair"}) for _ in range(64)] for device in range(5)]
                return [[sum(a["ok"] for a in of_device), of_device[-1]["message"]] for of_device in answers]
        device, node = [32, "no seat is left on the device"], "no seat is left on this node"
        self.assertEqual(as_user(OTHER_UID, greedy), [device, device, device, [32, node], [0, node]])

    @as_root
    def test_user_sees_and_enters_only_what_is_theirs(self):
        os.chmod(self.daemon.dir, 0o755)
        roots = self.daemon.tenant("roots", **PROMISE)

        def look():
            mine = self.daemon.tenant("mine", **PROMISE)
            mine.join().take()
            names = [t["name"] for t in self.daemon.status()["tenants"]]
            try:
                roots.join()
            except PermissionError:
                return names
        self.assertEqual(as_user(OTHER_UID, look), ["mine"])


if __name__ == "__main__":
    unittest.main(warnings="ignore")
