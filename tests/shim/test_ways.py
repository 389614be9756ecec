"""Programs find the driver in many ways; the shim is in front in all of them, and out of the way of what it does not know."""
import glob
import os
import shutil
import subprocess
import sys
import tempfile
import unittest

from behind import SHIM, SIMGPU, Behind, Host
from takt import until

HERE = os.path.dirname(os.path.abspath(__file__))
SIMGPU_DIR = os.path.dirname(SIMGPU)
NVML = f"{SIMGPU_DIR}/libnvidia-ml.so.1"
UNPACKED = f"{os.environ.get('TAKT_CACHE', '/nowhere')}/unpacked"   # by script/fetch
# Runtimes, behind the name of their package.
SHARED_13 = "/nvidia/cu13/lib/libcudart.so.13"
SHARED_12 = "-cu12/nvidia/cuda_runtime/lib/libcudart.so.12"
SHARED_11 = "-cu11/nvidia/cuda_runtime/lib/libcudart.so.11.0"
STATIC_13 = "/nvidia/cu13/lib/libcudart_static.a"
STATIC_12 = "-cu12/nvidia/cuda_runtime/lib/libcudart_static.a"
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
    def compile(self, source, *args):
        made = f"{self.door}/{len(os.listdir(self.door))}"
        subprocess.run(["cc", "-o", made, f"{HERE}/{source}", *args, f"-Wl,-rpath-link,{SIMGPU_DIR}"], check=True)
        return made

    def waits_at_the_gate(self, program, after):
        """It submits with its next step while another has the device: nothing runs until that one is done. Then it says so."""
        peer = self.peer()
        peer.take()
        peer.busy()
        before = self.simulated()["busy_ns"]
        program.goes_on()
        until(self, lambda: self.state()["wants"], True)
        self.assertEqual(self.simulated()["busy_ns"], before)
        peer.idle()
        program.says(after)
        self.assertGreater(self.simulated()["busy_ns"], before)
        return peer


class Links(Ways):
    """By the loader, and by NVIDIA's runtimes: each allocates against the quota, and launches."""

    def assert_taken(self, program, says="0 2", memory=16 << 20, steps=1, **env):
        way = Host(self, "", self.tenant, program=[program], **env)
        way.says(says)
        self.assertEqual(self.state()["memory_used"], memory)
        self.waits_at_the_gate(way, "0").take()
        self.assertEqual(self.state()["steps"], steps)
        way.ends()

    def assert_not_kept(self, program):   # so that the others mean something
        way = Host(self, "", self.tenant, program=[program], libraries=SIMGPU_DIR)
        way.says("0 0")
        peer = self.peer()
        peer.take()
        peer.busy()
        way.goes_on()
        way.says("0")
        way.ends()
        self.assertEqual(self.state()["steps"], 0)
        self.assertGreater(self.simulated()["busy_ns"], 0)

    def runtime(self, path, package="nvidia-cuda-runtime", kind="-DRUNTIME"):
        if not glob.glob(f"{UNPACKED}/nvidia-cuda-runtime*"):
            self.skipTest("no real runtime is there")
        path = f"{UNPACKED}/{package}{path}"
        self.assertTrue(os.path.exists(path), path)   # where one is, all are
        return self.compile("way.c", kind, path, f"-Wl,-rpath,{os.path.dirname(path)}", "-ldl", "-lpthread", "-lrt")

    def nvjpeg(self):
        return self.runtime("/nvidia/nvjpeg/lib/libnvjpeg.so.11", "nvidia-nvjpeg-cu11", "-DNVJPEG")

    def test_direct_linking(self):
        self.assert_taken(self.compile("way.c", SIMGPU))

    def test_preload(self):
        self.assert_taken(self.compile("way.c", SIMGPU), libraries=SIMGPU_DIR, LD_PRELOAD=f"{self.door}/libcuda.so.1")

    def test_without_the_shim_nothing_is_kept(self):
        self.assert_not_kept(self.compile("way.c", SIMGPU))

    def test_without_the_shim_nothing_of_static_runtime_13_is_kept(self):
        self.assert_not_kept(self.runtime(STATIC_13))

    def test_without_the_shim_nothing_of_static_runtime_12_is_kept(self):
        self.assert_not_kept(self.runtime(STATIC_12))

    def test_without_the_shim_nothing_of_static_runtime_11_is_kept(self):
        self.assert_not_kept(self.nvjpeg())

    def test_runtime_13(self):
        self.assert_taken(self.runtime(SHARED_13))

    def test_runtime_12(self):
        self.assert_taken(self.runtime(SHARED_12))

    def test_runtime_11(self):
        self.assert_taken(self.runtime(SHARED_11))

    def test_static_runtime_13(self):
        self.assert_taken(self.runtime(STATIC_13))

    def test_static_runtime_12(self):
        self.assert_taken(self.runtime(STATIC_12))

    def test_static_runtime_11(self):   # within NVIDIA's encoder, which waits for its kernels between them
        self.assert_taken(self.nvjpeg(), says="0 5", memory=(32 << 20) + 1024, steps=2, SIMGPU_KERNEL_US="1000")

    def asked(self, program):
        """What it asks for by cuGetProcAddress, and whose entries it is given: [whose, version, flags, name]."""
        door = f"{self.door}/listening"
        os.mkdir(door)
        shim = f"{door}/libcuda-shim.so.1"
        library = ["cc", "-shared", "-fPIC", "-Wl,--no-as-needed,-rpath,$ORIGIN"]
        subprocess.run([*library, "-Wl,-soname,libcuda-shim.so.1", "-o", shim, f"{HERE}/../../src/shim/stand-in.c"], check=True)
        subprocess.run([*library, "-Wl,-soname,libcuda.so.1", "-o", f"{door}/libcuda.so.1", f"{HERE}/listen.c", f"-I{HERE}/../../src", shim], check=True)
        shutil.copy(SHIM, shim)
        os.symlink(SIMGPU, f"{door}/libcuda-driver.so.1")
        way = Host(self, "", self.tenant, program=[program], libraries=f"{door}:{SIMGPU_DIR}", LISTEN=f"{self.door}/asked")
        way.line()
        way.goes_on()
        way.line()
        way.ends()
        with open(f"{self.door}/asked") as file:
            return [line.rstrip("\n").split(" ") for line in file]

    def assert_answers(self, program):
        asked = self.asked(program)
        whose = [row[0] for row in asked]
        print(f"{self.id()}: {whose.count('wrong')} wrong of {len(asked)} entries, {whose.count('shim')} of them hooked")
        self.assertEqual([row for row in asked if row[0] == "wrong"], [])
        self.assertGreater(len(asked), 200)
        self.assertLessEqual({"cuMemAlloc", "cuMemGetInfo", "cuMemcpyAsync", "cuLaunchKernel", "cuStreamSynchronize"},
                             {row[3] for row in asked if row[0] == "shim"})

    def test_what_runtime_13_asks_for(self):
        self.assert_answers(self.runtime(SHARED_13))

    def test_what_runtime_12_asks_for(self):
        self.assert_answers(self.runtime(SHARED_12))

    def test_what_runtime_11_asks_for(self):
        self.assert_answers(self.runtime(SHARED_11))

    def test_what_static_runtime_13_asks_for(self):
        self.assert_answers(self.runtime(STATIC_13))

    def test_what_static_runtime_12_asks_for(self):
        self.assert_answers(self.runtime(STATIC_12))

    def test_what_static_runtime_11_asks_for(self):
        self.assert_answers(self.nvjpeg())

    def test_driver_newer_than_the_shim(self):
        folder = tempfile.mkdtemp(prefix="takt-newer-")
        self.addCleanup(shutil.rmtree, folder)
        shutil.copy(SHIM, f"{folder}/libcuda.so.1")
        subprocess.run(["cc", "-shared", "-fPIC", "-Wl,-soname,libcuda.so.1", "-o", f"{folder}/libcuda-driver.so.1",
                        f"{HERE}/newer.c"], check=True)
        out = subprocess.run([sys.executable, "-c", NEWER], env=dict(os.environ, LD_LIBRARY_PATH=folder), capture_output=True,
                             text=True, timeout=60)
        self.assertEqual(out.stdout, "2030 True True True\n", out.stderr)


class Constructors(Ways):
    """CUDA before main, and within a dlopen."""

    def library(self, *args):
        return self.compile("early.c", "-shared", "-fPIC", *args)

    def program(self, *args):
        return self.compile("early.c", "-DPROGRAM", *args)

    def assert_taken(self, program, **env):
        early = Host(self, "", self.tenant, program=program, **env)
        early.says("allocated")
        self.assertEqual(self.state()["memory_used"], 600 << 20)
        peer = self.waits_at_the_gate(early, "launched")
        peer.take()   # it is in its constructor still, and asks for nothing: a thread of ours saw that its work is done
        self.assertFalse(self.state()["busy"])
        early.goes_on()
        early.says("main")
        self.assertEqual(early.process.wait(60), 0)
        self.assertEqual(self.state()["steps"], 1)

    def test_a_programs_own(self):
        self.assert_taken([self.program()])

    def test_a_programs_own_by_direct_linking(self):
        self.assert_taken([self.program("-Wl,--no-as-needed", SIMGPU)])

    def test_a_librarys(self):
        self.assert_taken([self.program("-DLATE", "-Wl,--no-as-needed", self.library())])

    def test_a_librarys_by_direct_linking(self):
        self.assert_taken([self.program("-DLATE", "-Wl,--no-as-needed", self.library("-Wl,--no-as-needed", SIMGPU))])

    def test_a_librarys_that_is_opened(self):
        self.assert_taken([self.program("-DLATE"), self.library()])

    def test_a_librarys_that_is_opened_and_brings_the_driver(self):
        self.assert_taken([self.program("-DLATE"), self.library("-Wl,--no-as-needed", SIMGPU)])

    def test_a_librarys_that_is_preloaded(self):
        self.assert_taken([self.program("-DLATE")], LD_PRELOAD=self.library())

    def test_behind_a_door_that_is_preloaded(self):
        self.assert_taken([self.program()], libraries=SIMGPU_DIR, LD_PRELOAD=f"{self.door}/libcuda.so.1")

    def test_before_a_door_that_is_preloaded(self):   # glibc begins with the last one: the door's constructors, if it had any, come later
        self.assert_taken([self.program("-DLATE")], libraries=SIMGPU_DIR, LD_PRELOAD=f"{self.door}/libcuda.so.1 {self.library('-DGLOBAL')}")


class Nvml(Ways):
    """Both questions about memory, to a program that is linked with NVML: of 1 GiB the tenant's other process has 64 MiB."""

    def assert_told(self, what, **env):
        works = Host(self, "works", self.tenant)
        works.says("working")
        told = Host(self, "", self.tenant, program=[self.compile("told.c", NVML)], **env)
        told.says(what)
        self.assertEqual(told.process.wait(60), 0)

    def test_direct_linking(self):
        self.assert_told("1024 960 64, 1024 960 64")

    def test_preload(self):
        self.assert_told("1024 960 64, 1024 960 64", libraries=SIMGPU_DIR, LD_PRELOAD=f"{self.door}/libnvidia-ml.so.1")

    def test_without_the_shim_the_device_is_told(self):
        self.assert_told("40960 40896 64, 40960 40896 64", libraries=SIMGPU_DIR)


if __name__ == "__main__":
    unittest.main()
