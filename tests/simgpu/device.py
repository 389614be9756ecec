"""A simulated device of the test's own, and processes that use it: each acts when told to by a line, and answers by a line."""
import ctypes
import json
import os
import shutil
import subprocess
import sys
import tempfile
import unittest
import unittest.mock

LIBRARY, NVML, TOOL = os.environ["SIMGPU_LIBRARY"], os.environ["SIMGPU_NVML"], os.environ["SIMGPU_TOOL"]
DRIVER = f"""
import ctypes, os, sys
cuda, n = ctypes.CDLL({LIBRARY!r}), ctypes.c_size_t
def call(name, *args):
    return getattr(cuda, name)(*args)
def ok(name, *args):
    error = call(name, *args)
    assert error == 0, (name, error)
def pointer():
    return ctypes.c_void_p()
by = ctypes.byref
def begin():
    global kernel
    context, module, kernel = pointer(), pointer(), pointer()
    ok("cuInit", 0); ok("cuDevicePrimaryCtxRetain", by(context), 0); ok("cuCtxSetCurrent", context)
    ok("cuModuleLoadData", by(module), b""); ok("cuModuleGetFunction", by(kernel), module, b"kernel")
def launch():
    return call("cuLaunchKernel", kernel, 1, 1, 1, 32, 1, 1, 0, None, None, None)
def allocate(size):
    p = pointer()
    return call("cuMemAlloc_v2", by(p), n(size)), p
def say(*what):
    print(*what, flush=True)
def wait():
    return sys.stdin.readline()
"""


class Device(unittest.TestCase):
    settings = {}

    def setUp(self):
        self.env = dict(os.environ, SIMGPU_NAME=f"simgpu-test-{os.getpid()}", SIMGPU_KERNEL_US="1000", **self.settings)
        self.addCleanup(self.simgpu, "reset")

    def simgpu(self, *args):
        out = subprocess.run([TOOL, *map(str, args)], env=self.env, capture_output=True, text=True)
        self.assertEqual(out.returncode, 0, out.stderr)
        return out.stdout

    def status(self):
        return json.loads(self.simgpu("status", "--json"))

    def process(self, program, **env):
        p = subprocess.Popen([sys.executable, "-c", DRIVER + program], env={**self.env, **env}, stdin=subprocess.PIPE,
                             stdout=subprocess.PIPE, text=True)
        for end in (p.stdout.close, p.stdin.close, p.wait, p.kill):   # the last is done first
            self.addCleanup(end)
        return p

    def hear(self, process, *expected):
        self.assertEqual(process.stdout.readline().strip(), " ".join(map(str, expected)))

    def tell(self, process, line="go"):
        process.stdin.write(line + "\n")
        process.stdin.flush()

    def output(self, program, **env):
        p = self.process(program, **env)
        out = p.stdout.read().strip()
        self.assertEqual(p.wait(), 0)
        return out

    def nvml(self):
        """NVML on the test's device: a copy, for a library that is there already would keep the device of the test before."""
        folder = tempfile.mkdtemp(prefix="simgpu-nvml-")
        self.addCleanup(shutil.rmtree, folder)
        own = unittest.mock.patch.dict(os.environ, self.env)
        own.start()
        self.addCleanup(own.stop)
        return ctypes.CDLL(shutil.copy(NVML, folder))
