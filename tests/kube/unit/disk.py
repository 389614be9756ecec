"""A disk that can be full: a tmpfs that only this process and its children see."""
import ctypes
import errno
import os

LIBC = ctypes.CDLL(None, use_errno=True)
NEW_NAMESPACE, PRIVATE, DETACH = 0x20000, 0x44000, 2


def own_mounts():
    return LIBC.unshare(NEW_NAMESPACE) == 0 and LIBC.mount(b"none", b"/", None, PRIVATE, None) == 0


class Disk:
    def __init__(self, test, path, kib):
        self.filler = f"{path}/filler"
        os.makedirs(path, exist_ok=True)
        if not own_mounts() or LIBC.mount(b"tmpfs", path.encode(), b"tmpfs", 0, f"size={kib}k,mode=755".encode()):
            test.skipTest("nothing can be mounted here")
        test.addCleanup(LIBC.umount2, path.encode(), DETACH)

    def fill(self):
        with open(self.filler, "ab", buffering=0) as file:
            try:
                while True:
                    file.write(bytes(4096))
            except OSError as full:
                assert full.errno == errno.ENOSPC

    def empty(self):
        os.unlink(self.filler)
