"""26: shim and daemon of different versions. Between the two sits one that changes what each says to what another version would."""
import contextlib
import os
import socket
import struct
import threading
import time
import unittest

import takt
from takt import until
from behind import Behind, Host

MAJOR, MINOR, FEATURES = 8, 10, 12   # where in a frame's head


def with_field(frame, offset, value, form="<H"):
    return frame[:offset] + struct.pack(form, value) + frame[offset + struct.calcsize(form):]


def longer(frame, more):
    """As a later minor version would send it: more features, and more at the end."""
    frame = with_field(with_field(frame, MINOR, 7), FEATURES, 0xffffffff, "<I") + b"\xee" * more
    return with_field(frame, 6, len(frame))


class Middle:
    """join and welcome: what becomes of a frame; fds: of the descriptors that come with the welcome."""

    def __init__(self, path, to, join=lambda frame: frame, welcome=lambda frame: frame, fds=lambda fds: fds):
        self.to, self.join, self.welcome, self.fds = to, join, welcome, fds
        self.answers, self.open = [], []
        self.listener = self.keep(socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET))
        self.listener.bind(path)
        self.listener.listen()
        self.thread = threading.Thread(target=self.serve)
        self.thread.start()

    def keep(self, s):
        self.open.append(s)
        return s

    def serve(self):
        with contextlib.suppress(OSError):   # the end is a listener that was shut
            while True:
                peer = self.keep(self.listener.accept()[0])
                daemon = self.keep(socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET))
                daemon.connect(self.to)
                daemon.send(self.join(peer.recv(4096)))
                frame, fds, _, _ = socket.recv_fds(daemon, 4096, 5)
                socket.send_fds(peer, [self.welcome(frame)], self.fds(fds))
                for fd in fds:
                    os.close(fd)
                self.answers.append(frame)

    def close(self):
        self.listener.shutdown(socket.SHUT_RDWR)
        self.thread.join()
        for s in self.open:
            s.close()


class Versions(Behind):
    @contextlib.contextmanager
    def between(self, **changes):
        path = f"{self.door}/join"
        middle = Middle(path, self.tenant.answer["join"], **changes)
        try:
            yield takt.Tenant(self.daemon, None, {"join": path}), middle
        finally:
            middle.close()
            os.unlink(path)

    def outcome(self, mode, **changes):
        with self.between(**changes) as (tenant, middle):
            out = Host(self, "once 0", tenant, TAKT_ON_LOSS=mode).process.communicate(timeout=60)[0]
        return out, middle.answers[0]

    def test_later_minor_versions_agree_on_ours(self):
        out, welcome = self.outcome("refuse", join=lambda frame: longer(frame, 100))
        self.assertEqual((out, struct.unpack_from("<HHI", welcome, MAJOR)), ("0 0\n", (1, 1, 0)))
        out, _ = self.outcome("refuse", welcome=lambda frame: longer(frame, 3000))
        self.assertEqual(out, "0 0\n")

    def test_another_major_version_is_as_no_daemon(self):
        for change in ("join", "welcome"):
            for mode, expected in (("pass", "0 0\n"), ("refuse", "802 0\n")):
                with self.subTest(change=change, mode=mode):
                    out, answer = self.outcome(mode, **{change: lambda frame: with_field(frame, MAJOR, 2)})
                    self.assertEqual(out, expected)
                    self.assertEqual(struct.unpack_from("<H", answer, 4)[0], 3 if change == "join" else 2)   # a reason, or a welcome
        until(self, lambda: self.state()["processes"], 0)

    def test_welcome_that_is_none_leaves_nothing(self):
        """The host goes on without, and tries again; what came with the frame does not pile up in it."""
        for what, changes in (("version", {"welcome": lambda frame: with_field(frame, MAJOR, 2)}), ("descriptors", {"fds": lambda fds: fds[:4]}),
                              ("none", {"fds": lambda fds: []}), ("garbage", {"welcome": lambda frame: b"x"})):
            with self.subTest(what), self.between(**changes) as (tenant, middle):
                host = Host(self, "crowd", tenant, SIMGPU_KERNEL_US="50")
                host.says("rounds")
                count = lambda: len(os.listdir(f"/proc/{host.process.pid}/fd"))
                self.await_tries(host, middle, 1)
                before = count()
                self.await_tries(host, middle, 3)
                until(self, lambda: count() <= before, True)
                host.kill()

    def await_tries(self, host, middle, n):
        end = time.monotonic() + 20   # it tries once a second, when it submits
        while len(middle.answers) < n:
            self.assertLess(time.monotonic(), end)
            host.goes_on()
            host.says("rounds")


if __name__ == "__main__":
    unittest.main(warnings="ignore")
