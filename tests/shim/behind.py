"""What is common to tests behind the door: a folder with the shims before the simulated driver, a daemon, two tenants."""
import os
import shutil
import tempfile
import unittest

import takt

SHIM, SIMGPU, TOOL, QUOTA = os.environ["SHIM"], os.environ["SIMGPU"], os.environ["TOOL"], 1 << 30


class Behind(unittest.TestCase):
    def setUp(self):
        self.door = tempfile.mkdtemp(prefix="takt-door-")
        self.addCleanup(shutil.rmtree, self.door)
        self.device = f"simgpu-host-{os.getpid()}"
        self.addCleanup(lambda: os.path.exists(f"/dev/shm/{self.device}") and os.unlink(f"/dev/shm/{self.device}"))
        for name in ("libcuda", "libnvidia-ml"):
            shutil.copy(f"{os.path.dirname(SHIM)}/{name}.so.1", f"{self.door}/{name}.so.1")
            os.symlink(f"{os.path.dirname(SIMGPU)}/{name}.so.1", f"{self.door}/{name}-driver.so.1")
        self.daemon = takt.Daemon(env=dict(os.environ, LD_LIBRARY_PATH=os.path.dirname(SIMGPU), SIMGPU_NAME=self.device))
        self.addCleanup(self.daemon.stop)
        self.tenant = self.daemon.tenant("host", **{"class": "fair"}, memory_bytes=QUOTA)
        self.other = self.daemon.tenant("other", **{"class": "fair"})

    def environment(self, tenant, libraries=None, **more):
        """For a program of the tenant's; libraries: what its loader looks through (default: the door, then the driver)."""
        return dict(os.environ, LD_LIBRARY_PATH=libraries or f"{self.door}:{os.path.dirname(SIMGPU)}", SIMGPU_NAME=self.device,
                    TAKT_SOCKET=tenant.answer["join"], TAKT_MEMORY_QUOTA=str(QUOTA), **more)
