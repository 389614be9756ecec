"""What is common to tests behind the door: a folder with the shims before the simulated driver, a daemon, two tenants."""
import json
import os
import shutil
import subprocess
import tempfile
import unittest

import takt

SHIM, SIMGPU, TOOL, HOST = (os.environ[name] for name in ("SHIM", "SIMGPU", "TOOL", "HOST"))
QUOTA = 1 << 30


class Host:
    def __init__(self, test, habit, tenant, *prefix, program=(HOST,), **env):
        self.test = test
        self.process = subprocess.Popen(
            [*prefix, *program, *habit.split()], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1,
            env=test.environment(tenant, **env))
        test.addCleanup(self.kill)

    def says(self, what):
        self.test.assertEqual(self.line(), what, self.process.poll())

    def line(self):
        return self.process.stdout.readline().strip()

    def goes_on(self):
        self.process.stdin.write("\n")

    def ends(self):
        self.goes_on()
        self.test.assertEqual(self.process.wait(60), 0)

    def kill(self):
        self.process.kill()
        self.process.wait()
        self.process.stdin.close()
        self.process.stdout.close()


class Behind(unittest.TestCase):
    before_daemon = {}   # more of its environment

    def setUp(self):
        self.door = tempfile.mkdtemp(prefix="takt-door-")
        self.addCleanup(shutil.rmtree, self.door)
        self.device = f"simgpu-host-{os.getpid()}"
        self.addCleanup(lambda: os.path.exists(f"/dev/shm/{self.device}") and os.unlink(f"/dev/shm/{self.device}"))
        for name in ("libcuda", "libnvidia-ml"):
            shutil.copy(f"{os.path.dirname(SHIM)}/{name}.so.1", f"{self.door}/{name}.so.1")
            os.symlink(f"{os.path.dirname(SIMGPU)}/{name}.so.1", f"{self.door}/{name}-driver.so.1")
        self.daemon = takt.Daemon(env=dict(os.environ, LD_LIBRARY_PATH=os.path.dirname(SIMGPU), SIMGPU_NAME=self.device, **self.before_daemon))
        self.addCleanup(self.daemon.stop)
        self.tenant = self.daemon.tenant("host", **{"class": "fair"}, memory_bytes=QUOTA)
        self.other = self.daemon.tenant("other", **{"class": "fair"})

    def environment(self, tenant, libraries=None, **more):
        """For a program of the tenant's; libraries: what its loader looks through (default: the door, then the driver)."""
        return dict(os.environ, LD_LIBRARY_PATH=libraries or f"{self.door}:{os.path.dirname(SIMGPU)}", SIMGPU_NAME=self.device,
                    TAKT_SOCKET=tenant.answer["join"], TAKT_MEMORY_QUOTA=str(QUOTA), **more)

    def peer(self, device=0, tenant=None):
        uuid = self.daemon.status()["devices"][device]["uuid"]
        session = takt.Session((tenant or self.other).answer["join"], bytes.fromhex(uuid.removeprefix("GPU-").replace("-", "")), device)
        self.addCleanup(session.close)
        return session

    def tool(self, *args):
        return subprocess.run([TOOL, *args], env=dict(os.environ, SIMGPU_NAME=self.device), capture_output=True, text=True,
                              check=True).stdout

    def simulated(self):
        return json.loads(self.tool("status", "--json"))

    def last_end(self):
        return max(int(row.split(",")[1]) for row in self.tool("log").splitlines()[1:])

    def state(self):
        return self.daemon.status()["tenants"][0]
