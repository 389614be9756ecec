"""A daemon of the test's own, and a client that speaks the lease protocol by hand."""
import array
import json
import mmap
import os
import resource
import select
import shutil
import signal
import socket
import struct
import subprocess
import tempfile
import time

BUILD = os.environ["TAKT_BUILD"]
UUID = bytes(range(16))
GATE = {0: "closed", 1: "open", 2: "free"}
LANE, LANE_SIZE = 256, 128
A_DEVICE = f"{UUID.hex()}:{40 << 30}"


class NotReady(Exception):
    """The daemon ended instead; with its exit code."""


class Daemon:
    def __init__(self, folder=None, user=False, env=None, devices=None, prefix=()):
        """env: the daemon's own environment, in which it finds a GPU by itself unless it is given some. prefix: before its command."""
        self.dir = folder or tempfile.mkdtemp(prefix="takt-test-")
        self.env = env
        if devices is None:
            devices = [] if env else [A_DEVICE]
        given = [word for device in devices for word in ("--device", device)]
        ready_read, ready_write = os.pipe()
        self.process = subprocess.Popen(
            [*prefix, f"{BUILD}/src/node/taktd", "--dir", self.dir, *given, "--ready", str(ready_write),
             *(["--user"] if user else [])], pass_fds=[ready_write], env=env)
        os.close(ready_write)
        self.tenants = []   # a tenant lives as long as its connection
        said = os.read(ready_read, 1)
        os.close(ready_read)
        if said != b"1":
            raise NotReady(self.process.wait(10))

    def control(self):
        s = socket.socket(socket.AF_UNIX)
        s.settimeout(10)
        s.connect(f"{self.dir}/control")
        return s

    def ask(self, s, **request):
        s.sendall((json.dumps(request) + "\n").encode())
        text = b""
        while not text.endswith(b"\n"):
            part = s.recv(65536)
            if not part:
                return None
            text += part
        return json.loads(text)

    def tenant(self, name="t", **contract):
        s = self.control()
        self.tenants.append(Tenant(self, s, self.ask(s, op="register", name=name, **contract)))
        return self.tenants[-1]

    def status(self):
        with self.control() as s:
            return self.ask(s, op="status")

    def kill(self):
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def stop(self):
        self.process.terminate()
        code = self.process.wait(10)
        shutil.rmtree(self.dir, ignore_errors=True)
        return code


class Tenant:
    def __init__(self, daemon, control, answer):
        self.daemon, self.control, self.answer = daemon, control, answer

    def join(self):
        return Session(self.answer["join"])

    def requests(self):
        s = socket.socket(socket.AF_UNIX)
        s.connect(self.answer["requests"])
        return s


def join_frame(magic=0x544B4154, major=1, minor=0, features=0, size=280, kind=1, devices=1, uuid=UUID):
    return struct.pack("<IHHHHI", magic, kind, size, major, minor, features) + struct.pack("<II", devices, 0) + uuid + bytes(240)


def all_descriptors():
    """For a test that opens more than most programs."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def until(test, found, wanted, never_s=10):
    """Until found() is wanted. A round trip to the daemon each time; never_s, in seconds, mean never."""
    end = time.monotonic() + never_s
    while (last := found()) != wanted:
        test.assertLess(time.monotonic(), end, f"{last} instead of {wanted}")
        os.sched_yield()


class Session:
    """One process's session: its pages and descriptors."""

    def __init__(self, path, uuid=UUID, lane=0):
        self.lane = LANE + LANE_SIZE * lane
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.socket.settimeout(10)
        self.socket.connect(path)
        self.socket.send(join_frame(uuid=uuid))
        fds = array.array("i")
        self.frame, ancillary, _, _ = self.socket.recvmsg(4096, socket.CMSG_SPACE(5 * 4))
        for level, kind, data in ancillary:
            fds.frombytes(data)
        self.fds = list(fds)
        daemon, client, tenant, self.kick_fd, self.wake_fd = self.fds
        self.daemon = mmap.mmap(daemon, 4096, prot=mmap.PROT_READ)
        self.client = mmap.mmap(client, 4096)
        self.tenant = mmap.mmap(tenant, 4096)
        self.began = time.monotonic_ns()

    def gate(self):
        return GATE[struct.unpack_from("<I", self.daemon, self.lane)[0] & 3]

    def kick(self):
        os.write(self.kick_fd, struct.pack("<Q", 1))

    def want(self, on=True):
        struct.pack_into("<I", self.client, self.lane + 44, int(on))
        self.kick()

    def busy(self):
        self.began = time.monotonic_ns()
        struct.pack_into("<Q", self.client, self.lane, self.began | 1)

    def idle(self, steps=1, busy_ns=1_000_000, kick=True):
        """The burst has taken so long, and so it is not over earlier; since the last one or the join, if it never began."""
        while (rest := self.began + busy_ns - time.monotonic_ns()) > 0:
            time.sleep(rest / 1e9)
        self.began += busy_ns
        old = struct.unpack_from("<Q", self.client, self.lane + 8)[0]
        n = struct.unpack_from("<I", self.client, self.lane + 40)[0]
        struct.pack_into("<Q", self.client, self.lane + 8, old + busy_ns)
        struct.pack_into("<I", self.client, self.lane + 40, n + steps)
        struct.pack_into("<Q", self.client, self.lane, time.monotonic_ns() & ~1)
        if kick:
            self.kick()

    def await_gate(self, *wanted):
        """Until the gate is as wanted; the daemon answers within milliseconds, ten seconds mean never."""
        end = time.monotonic() + 10
        while self.gate() not in wanted:
            assert time.monotonic() < end, f"the gate stays {self.gate()}"
            os.sched_yield()
        return self.gate()

    def take(self):
        self.want()
        gate = self.await_gate("open", "free")
        self.want(False)
        return gate

    def close(self):
        self.socket.close()
        for fd in self.fds:
            os.close(fd)
