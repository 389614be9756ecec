"""A node full of tenants: 64 on a device, 256 in all, each with its first process, its first requests and its turn."""
import contextlib
import json
import os
import socket
import struct
import subprocess
import unittest

import takt

TAKT = f"{takt.BUILD}/src/cli/takt"
ON_DEVICE, ON_NODE = 64, 256
N_GREEDY = 3
WELCOME = 2
DEVICES = [f"{n:032x}:{40 << 30}" for n in range(1, 6)]
FAIR = {"class": "fair"}


class Many(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        takt.all_descriptors()

    def begin(self, **options):
        self.daemon = takt.Daemon(**options)
        self.addCleanup(self.daemon.stop)

    def simulated(self, n_devices):
        env = {"LD_LIBRARY_PATH": f"{takt.BUILD}/src/simgpu", "SIMGPU_NAME": f"simgpu-many-{os.getpid()}", "SIMGPU_DEVICES": str(n_devices)}
        for device in range(n_devices):
            self.addCleanup(subprocess.run, [f"{takt.BUILD}/src/simgpu/simgpu", "--device", str(device), "reset"], env=env)
        self.begin(env={**os.environ, **env})

    def tenants(self, n, n_devices, name="agent-{}"):
        tenants = [self.daemon.tenant(name.format(i), device=i % n_devices, **FAIR) for i in range(n)]
        self.assertEqual([t.answer["ok"] for t in tenants], [True] * n)
        return tenants

    def register(self, device):
        return self.daemon.tenant(device=device, **FAIR).answer

    def joins(self, tenant, device):
        """A process without pages: what it is welcomed with is thrown away. Whether it was."""
        s = self.enterContext(socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET))
        s.settimeout(10)
        s.connect(tenant.answer["join"])
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            s.send(takt.join_frame(uuid=bytes.fromhex(DEVICES[device][:32])))
            return s.recv(4096)[4:6] == struct.pack("<H", WELCOME)
        return False

    def reports(self, tenant):
        """Whether its connection is kept."""
        s = self.enterContext(socket.socket(socket.AF_UNIX))
        s.connect(tenant.answer["requests"])
        for _ in range(2):   # by then it was accepted, or not
            self.daemon.ask(tenant.control, op="nothing")
        s.setblocking(False)
        try:
            return s.recv(1) != b""
        except BlockingIOError:
            return True

    def test_a_hundred_processes_take_turns_on_two_devices(self):
        self.simulated(2)
        uuids = [bytes.fromhex(d["uuid"][4:].replace("-", "")) for d in self.daemon.status()["devices"]]
        for i, tenant in enumerate(self.tenants(100, 2)):
            session = takt.Session(tenant.answer["join"], uuid=uuids[i % 2], lane=i % 2)
            self.addCleanup(session.close)
            self.assertEqual(struct.unpack_from("<I", session.frame, 16)[0], i)
            self.assertIn(session.take(), ("open", "free"))
        run = subprocess.run([TAKT, "status", "--json"], capture_output=True, timeout=60, env={**os.environ, "TAKT_DIR": self.daemon.dir})
        said = [(t["name"], t["device"], t["processes"], t["grants"], t["overruns"]) for t in json.loads(run.stdout)["tenants"]]
        self.assertEqual(said, [(f"agent-{i}", i % 2, 1, 1, 0) for i in range(100)])

    def test_a_full_device_fills_no_other(self):
        self.begin(devices=DEVICES)
        for device in range(ON_NODE // ON_DEVICE):
            self.assertEqual([self.register(device)["ok"] for _ in range(ON_DEVICE)], [True] * ON_DEVICE)
            refused = self.register(device)
            where = "on this node" if len(self.daemon.tenants) > ON_NODE else "on the device"
            self.assertEqual((refused["error"], refused["message"]), ("admission", f"no seat is left {where}"))
        self.assertEqual(self.register(len(DEVICES) - 1)["message"], "no seat is left on this node")   # though there is one there

    def test_each_has_its_first_process_and_reports_its_requests(self):
        """However many some of them ask for."""
        self.begin(devices=DEVICES)
        tenants = self.tenants(ON_NODE, len(DEVICES))
        for i, tenant in enumerate(tenants[:N_GREEDY]):
            many = [sum(iter(lambda: int(get()), 0)) for get in (lambda: self.joins(tenant, i), lambda: self.reports(tenant))]
            self.assertTrue(all(n > 10 for n in many), many)
        for i, tenant in enumerate(tenants[N_GREEDY:], N_GREEDY):
            self.assertTrue(self.joins(tenant, i % len(DEVICES)), i)
            self.assertTrue(self.reports(tenant), i)
        self.assertTrue(self.daemon.status()["ok"])

    def test_status_of_all_is_told_whole_to_who_is_slow(self):
        self.begin(devices=DEVICES)
        self.tenants(ON_NODE, len(DEVICES), name="\x01" * 370 + "{}")
        slow, text = self.daemon.control(), b""
        with slow:
            for _ in range(3):
                slow.sendall(b'{"op":"status"}\n')
            self.assertEqual(len(self.daemon.status()["tenants"]), ON_NODE)   # others are answered meanwhile
            while text.count(b"\n") < 3:
                text += slow.recv(65536) or self.fail(f"cut off after {len(text)} bytes")
        for line in text.splitlines():
            self.assertEqual(len(json.loads(line)["tenants"]), ON_NODE)

    def test_status_is_made_as_it_is_read(self):
        """So that no gate waits for all of a long one: who ends before the reader comes to it is not told."""
        self.begin(devices=DEVICES)
        tenants = self.tenants(ON_NODE, len(DEVICES), name="\x01" * 370 + "{}")
        slow, text = self.daemon.control(), b""
        with slow:
            slow.sendall(b'{"op":"status"}\n')
            text += slow.recv(1)   # it has begun
            tenants[-1].control.close()
            takt.until(self, lambda: len(self.daemon.status()["tenants"]), ON_NODE - 1)
            while not text.endswith(b"\n"):
                text += slow.recv(65536) or self.fail(f"cut off after {len(text)} bytes")
        self.assertEqual([t["tenant"] for t in json.loads(text)["tenants"]], list(range(ON_NODE - 1)))


if __name__ == "__main__":
    unittest.main(warnings="ignore")
