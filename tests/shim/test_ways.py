"""Programs find the driver in many ways; the shim is in front in all of them, and out of the way of what it does not know."""
import glob
import os
import shutil
import subprocess
import sys
import tempfile
import unittest

from behind import SHIM, SIMGPU, Behind

HERE = os.path.dirname(os.path.abspath(__file__))
SIMGPU_DIR = os.path.dirname(SIMGPU)
NEWER = """
import ctypes
cuda = ctypes.CDLL("libcuda.so.1")
entry, status = ctypes.c_void_p(), ctypes.c_int()
def ask(name, version):
    assert cuda.cuGetProcAddress_v2(name, ctypes.byref(entry), version, ctypes.c_uint64(0), ctypes.byref(status)) == 0
    return entry.value
address = lambda f: ctypes.cast(f, ctypes.c_void_p).value
driver = ctypes.CDLL("libcuda-driver.so.1")
print(cuda.cuFuture(), ask(b"cuFuture", 20000) == address(driver.cuFuture),
      ask(b"cuLaunchKernel", 13000) == address(cuda.cuLaunchKernel) != address(driver.cuLaunchKernel),
      ask(b"cuLaunchKernel", 20000) == address(driver.cuLaunchKernel_v9))
"""


class Ways(Behind):
    def compile(self, *args):
        program = f"{self.door}/way"
        subprocess.run(["cc", "-o", program, f"{HERE}/way.c", *args], check=True)
        return program

    def assert_quota(self, program, **env):
        out = subprocess.run([program], env=self.environment(self.tenant, **env), capture_output=True, text=True, timeout=60)
        self.assertEqual((out.stdout, out.returncode), ("0 2\n", 0), out.stderr)

    def test_direct_linking(self):
        self.assert_quota(self.compile(SIMGPU))

    def test_preload(self):
        self.assert_quota(self.compile(SIMGPU), libraries=SIMGPU_DIR, LD_PRELOAD=f"{self.door}/libcuda.so.1")

    def test_without_the_shim_the_quota_is_not_kept(self):   # so that the others mean something
        out = subprocess.run([self.compile(SIMGPU)], env=self.environment(self.tenant, libraries=SIMGPU_DIR),
                             capture_output=True, text=True, timeout=60)
        self.assertEqual(out.stdout, "0 0\n")

    def test_static_runtimes(self):
        cache = os.environ.get("TAKT_CACHE", "")
        found = glob.glob(f"{cache}/unpacked/*/nvidia/*/lib/libcudart_static.a") if cache else []
        if not found:
            self.skipTest("no static runtime is there")
        for runtime in found:
            with self.subTest(runtime=runtime):
                self.assert_quota(self.compile("-DRUNTIME", runtime, "-ldl", "-lpthread", "-lrt"))

    def test_driver_newer_than_the_shim(self):
        folder = tempfile.mkdtemp(prefix="takt-newer-")
        self.addCleanup(shutil.rmtree, folder)
        shutil.copy(SHIM, f"{folder}/libcuda.so.1")
        subprocess.run(["cc", "-shared", "-fPIC", "-Wl,-soname,libcuda.so.1", "-o", f"{folder}/libcuda-driver.so.1",
                        f"{HERE}/newer.c"], check=True)
        out = subprocess.run([sys.executable, "-c", NEWER], env=dict(os.environ, LD_LIBRARY_PATH=folder), capture_output=True,
                             text=True, timeout=60)
        self.assertEqual(out.stdout, "2030 True True True\n", out.stderr)


if __name__ == "__main__":
    unittest.main()
