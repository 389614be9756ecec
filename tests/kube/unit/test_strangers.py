"""Who uses a GPU past Takt, by an NVML of the test's own: whose he is, and why."""
import os
import platform
import shutil
import struct
import subprocess
import sys
import unittest
from unittest import mock

from apiserver import pod
from resources import Resources
from test_driver import PODS, PREFIX, UIDS, claim, until
from test_interop import BUILD, GPUS, field, grpc, pod_cgroup, strings
from wished import Wished

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../node"))
from takt import Session  # noqa: E402

PROMISE = "devices: [1], takt: {ttft: 2s, itl: 200ms, share: 40%, memory: 8Gi}"
SLOTTED = "c0e44f7a-5ca3-41d6-a3d3-cd4f832b2fe4"    # a pod with a slot
LOADER = b"/lib64/ld-linux-x86-64.so.2\0"
PAUSE = bytes.fromhex("b8220000000f05ebf7")         # again and again


class Strangers(Wished):
    """NVML knows the first GPU, which is claimed; a slot of the second that is refused has NVML asked anew."""

    def setUp(self):
        super().setUp()
        shutil.copy(f"{BUILD}/tests/kube/unit/test-nvml.so", f"{self.dir}/libnvidia-ml.so.1")
        self.nvml = f"{self.dir}/mood"
        with open(self.nvml, "w") as file:
            file.write("well")
        patch = mock.patch.dict(os.environ, LD_LIBRARY_PATH=self.dir, TEST_NVML=self.nvml)
        patch.start()
        self.addCleanup(patch.stop)
        self.resources = Resources(self.server)
        self.addCleanup(self.resources.stop)

    def begin(self, *pods):
        self.start(*pods, promise=PROMISE, more=f", door: {{dra: [0]}}, cdi: {self.dir}/cdi")
        self.plugin.watch()     # who does not is registered with anew
        self.plugin.allocate(self.slot(0, gpu=1))
        self.plugin.allocate(self.slot(1, gpu=1))

    def prepare(self, *names):
        registry = f"{self.dir}/kubelet/plugins_registry"
        name = until(lambda: os.path.isdir(registry) and os.listdir(registry))[0]
        request = b"".join(field(1, strings(1, ["default"]) + strings(2, [UIDS[n]]) + strings(3, [n])) for n in names)
        with grpc.insecure_channel(f"unix:{registry}/{name}") as channel:
            channel.unary_unary(f"{PREFIX}PrepareResources")(request, timeout=20)

    def program(self, *command, group=None):
        process = subprocess.Popen(command, cwd=self.dir)
        self.addCleanup(lambda: (process.kill(), process.wait()))
        if group:
            with open(f"{group}/cgroup.procs", "w") as file:
                file.write(str(process.pid))
        return process.pid

    def use(self, *pids):
        """These processes use the first GPU."""
        with open(f"{self.nvml}.new", "w") as file:
            file.write("\n".join(map(str, pids)))
        os.rename(f"{self.nvml}.new", f"{self.nvml}.pids")

    def n_asked(self):
        try:
            return os.path.getsize(f"{self.nvml}.asked")
        except FileNotFoundError:
            return 0

    def events(self, n):
        said = []

        def hear():
            self.refused(self.slot(2, gpu=1))
            while not self.server.events.empty():
                said.append(self.server.events.get()[2])
            return len(said) >= n
        until(hear)
        self.assertEqual(len(said), n)
        return said

    def static_program(self):
        path = f"{self.dir}/static"
        size = 64 + 56 + len(PAUSE)
        head = b"\x7fELF\2\1\1" + bytes(9) + struct.pack("<HHIQQQIHHHHHH", 2, 62, 1, 0x400078, 64, 0, 0, 64, 56, 1, 0, 0, 0)
        part = struct.pack("<IIQQQQQQ", 1, 5, 0, 0x400000, 0x400000, size, size, 4096)
        with open(path, "wb") as file:
            file.write(head + part + PAUSE)
        os.chmod(path, 0o755)
        return path

    def musl_program(self):
        """One that looks so: another name for glibc's loader."""
        path, name = f"{self.dir}/musl", b"ld-musl-x86_64.so.1"
        os.symlink(LOADER[:-1], f"{self.dir}/{name.decode()}")
        with open(shutil.which("sleep"), "rb") as file:
            program = file.read()
        self.assertIn(LOADER, program)
        with open(path, "wb") as file:
            file.write(program.replace(LOADER, name.ljust(len(LOADER), b"\0")))
        os.chmod(path, 0o755)
        return path

    def test_it_is_the_pods_and_says_why(self):
        if platform.machine() != "x86_64":
            self.skipTest("the programs are made for x86_64")
        groups = {p: pod_cgroup(uid) for p, uid in {**PODS, "s": SLOTTED}.items()}
        if None in groups.values():
            self.skipTest("no cgroup can be made here")
        self.addCleanup(lambda: [os.rmdir(g) for g in groups.values()])
        self.resources.claims |= {"a": claim("a", 40), "b": claim("b", 40, ("q", "p"))}
        self.resources.claims["b"]["status"]["reservedFor"][1]["uid"] = UIDS["c"]   # any other pod's
        self.begin(pod("s", SLOTTED))
        self.prepare("a", "b")
        pids = {"p": self.program("sleep", "600", group=groups["p"]), "q": self.program(self.musl_program(), "600", group=groups["q"]),
                "s": self.program(self.static_program(), group=groups["s"])}
        self.use(*pids.values())
        said = {int(e["message"].split()[1]): e for e in self.events(3)}
        self.assertEqual({e["reason"] for e in said.values()}, {"UnmanagedGPUProcess"})
        for name, whose, why in (("p", ("Pod", "p", PODS["p"]), "it has not loaded Takt's libraries"),
                                 ("q", ("ResourceClaim", "b", UIDS["b"]), "its program is made for musl"),
                                 ("s", ("Pod", "s", SLOTTED), "its program is static")):
            event = said[pids[name]]
            self.assertEqual(tuple(event["involvedObject"][key] for key in ("kind", "name", "uid")), whose)
            self.assertIn(f"of pod {({**PODS, 's': SLOTTED})[name]} uses GPU GPU-{GPUS[0]} past Takt, with 1.0 GiB of its memory: {why}", event["message"])

    def test_one_of_many_is_found(self):
        self.begin()
        folder = f"{self.dir}/run/slots"
        session = Session(f"{folder}/{os.listdir(folder)[0]}/join", bytes.fromhex(GPUS[1].replace("-", "")))
        self.addCleanup(session.close)
        stranger = self.program("sleep", "600")
        self.use(*[os.getpid()] * 1023, stranger)   # a tenant's process, and another
        event, = self.events(1)
        self.assertIn(f"process {stranger} (sleep)", event["message"])

    def test_more_than_can_be_asked_for_are_said_once(self):
        self.begin()
        self.use(*[self.program("sleep", "600")] * 1025)
        before = self.n_asked()

        def asked():
            self.refused(self.slot(2, gpu=1))
            return self.n_asked() > before + 3
        until(asked)
        said = []
        while not self.log.empty():
            said.append(self.log.get())
        said = [line for line in said if "processes" in line]
        self.assertEqual(said, [f"taktd: GPU GPU-{GPUS[0]} has 1025 processes: who of more than 1024 uses it past Takt is not known\n"])
        self.assertTrue(self.server.events.empty())


if __name__ == "__main__":
    unittest.main()
