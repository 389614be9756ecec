"""Whatever driver is claimed: which functions it has in which form, and what real runtimes make of it."""
import os
import subprocess
import sys
import unittest

from device import LIBRARY, Device

LIBS = os.environ.get("TAKT_CUDA_LIBS", "")
ASK = """
ok('cuInit', 0)
version = ctypes.c_int()
ok('cuDriverGetVersion', by(version))
say(version.value)
def ask(name, asked, flags=0):
    entry, status = pointer(), ctypes.c_int(7)
    error = call('cuGetProcAddress_v2', name, by(entry), asked, ctypes.c_uint64(flags), by(status))
    found = [f for f in forms if entry.value and ctypes.cast(getattr(cuda, f), ctypes.c_void_p).value == entry.value]
    return error, status.value, found[0] if found else None
"""
FOUND, UNKNOWN_NAME, TOO_LOW = 0, 1, 2


class Lookups(Device):
    def ask(self, claimed, forms, *questions):
        out = self.output(ASK + f"forms = {forms!r}\nfor q in {questions!r}: say(ask(*q))", SIMGPU_DRIVER_VERSION=str(claimed))
        version, *answers = out.splitlines()
        self.assertEqual(version, str(claimed))
        return [eval(a) for a in answers]

    def test_the_newest_form_that_the_asked_version_has(self):
        forms = ["cuCtxCreate", "cuCtxCreate_v2", "cuCtxCreate_v3", "cuCtxCreate_v4"]
        asked = (2000, 3020, 11040, 12000, 12050, 13000)
        expected = ["cuCtxCreate", "cuCtxCreate_v2", "cuCtxCreate_v3", "cuCtxCreate_v3", "cuCtxCreate_v4", "cuCtxCreate_v4"]
        self.assertEqual(self.ask(13000, forms, *((b"cuCtxCreate", v) for v in asked)), [(0, FOUND, e) for e in expected])

    def test_no_form_that_the_claimed_driver_has_not(self):
        forms = ["cuCtxCreate", "cuCtxCreate_v2", "cuCtxCreate_v3", "cuCtxCreate_v4"]
        for claimed, newest in ((11040, "cuCtxCreate_v3"), (12000, "cuCtxCreate_v3"), (12050, "cuCtxCreate_v4"),
                                (13000, "cuCtxCreate_v4")):
            with self.subTest(claimed=claimed):
                self.assertEqual(self.ask(claimed, forms, (b"cuCtxCreate", 13000)), [(0, FOUND, newest)])

    def test_names_are_known_from_their_first_driver_on(self):
        # cuLaunchKernelEx came with 11.6, cuLibraryLoadData with 12.0.
        questions = (b"cuLaunchKernelEx", 13000), (b"cuLibraryLoadData", 13000), (b"cuLaunchKernel", 13000)
        forms = ["cuLaunchKernelEx", "cuLibraryLoadData", "cuLaunchKernel"]
        ex, library, plain = ((0, FOUND, f) for f in forms)
        unknown = (500, UNKNOWN_NAME, None)
        self.assertEqual(self.ask(11040, forms, *questions), [unknown, unknown, plain])
        self.assertEqual(self.ask(11080, forms, *questions), [ex, unknown, plain])
        self.assertEqual(self.ask(12000, forms, *questions), [ex, library, plain])

    def test_a_version_before_the_function_was_is_too_low(self):
        self.assertEqual(self.ask(13000, [], (b"cuLaunchKernelEx", 11000), (b"cuNoSuchThing", 13000), (b"", 0)),
                         [(500, TOO_LOW, None), (500, UNKNOWN_NAME, None), (500, UNKNOWN_NAME, None)])

    def test_default_streams_of_threads(self):
        forms = ["cuLaunchKernel", "cuLaunchKernel_ptsz", "cuMemAlloc_v2", "cuMemcpyHtoD_v2", "cuMemcpyHtoD_v2_ptds"]
        self.assertEqual(self.ask(13000, forms, (b"cuLaunchKernel", 13000, 2), (b"cuLaunchKernel", 13000, 1), (b"cuMemAlloc", 13000, 2),
                                  (b"cuMemcpyHtoD", 13000, 2)),
                         [(0, FOUND, "cuLaunchKernel_ptsz"), (0, FOUND, "cuLaunchKernel"), (0, FOUND, "cuMemAlloc_v2"),
                          (0, FOUND, "cuMemcpyHtoD_v2_ptds")])

    def test_whole_table_is_exported(self):
        path = f"{os.path.dirname(os.path.abspath(__file__))}/../../src/simgpu/symbols.inc"
        names = [line.rsplit(", ", 1)[1].rstrip(")\n") for line in open(path) if line.startswith("SYMBOL")]
        self.assertGreater(len(names), 600)
        self.assertEqual(self.output(f"missing = [s for s in {names!r} if not hasattr(cuda, s)]; say(missing)"), "[]")


class Claims(Device):
    def test_drivers_of_nvml(self):
        program = """
import os
nvml, text = ctypes.CDLL(os.environ['SIMGPU_NVML']), ctypes.create_string_buffer(80)
assert nvml.nvmlInit_v2() == 0
nvml.nvmlSystemGetDriverVersion(text, 80)
version = ctypes.c_int()
nvml.nvmlSystemGetCudaDriverVersion_v2(by(version))
say(text.value.decode().split('.')[0], version.value)
"""
        for claimed, branch in ((11040, 470), (11080, 520), (12000, 525), (12040, 550), (12070, 560), (12090, 575), (13000, 580), (13020, 580)):
            with self.subTest(claimed=claimed):
                self.assertEqual(self.output(program, SIMGPU_DRIVER_VERSION=str(claimed)), f"{branch} {claimed}")

    def test_versions_that_cannot_be_claimed(self):
        for version in ("11030", "14000", "newest"):
            out = subprocess.run([sys.executable, "-c", f"import ctypes; print(ctypes.CDLL({LIBRARY!r}).cuInit(0))"],
                                 env=dict(self.env, SIMGPU_DRIVER_VERSION=version), capture_output=True, text=True)
            self.assertEqual(out.stdout, "100\n")
            self.assertIn("SIMGPU_DRIVER_VERSION", out.stderr)

    def runtime(self, soname, claimed):
        """What a real runtime says to its first call: 0, or 35 for a driver that is too old for it."""
        if not os.path.exists(f"{LIBS}/{soname}"):
            self.skipTest("no real runtime is there")
        program = f"import ctypes; n = ctypes.c_int(); print(ctypes.CDLL({LIBS + '/' + soname!r}).cudaGetDeviceCount(ctypes.byref(n)), n.value)"
        return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True,
                              env=dict(self.env, SIMGPU_DRIVER_VERSION=str(claimed), LD_LIBRARY_PATH=os.path.dirname(LIBRARY))).stdout.strip()

    def test_real_runtimes(self):
        for soname, claimed, answer in (("libcudart.so.11.0", 11040, "0 1"), ("libcudart.so.11.0", 11080, "0 1"),
                                        ("libcudart.so.11.0", 13000, "0 1"), ("libcudart.so.12", 12000, "0 1"),
                                        ("libcudart.so.12", 12090, "0 1"), ("libcudart.so.12", 11080, "35 0"),
                                        ("libcudart.so.13", 13000, "0 1"), ("libcudart.so.13", 13010, "0 1"),
                                        ("libcudart.so.13", 12090, "35 0")):
            with self.subTest(soname=soname, claimed=claimed):
                self.assertEqual(self.runtime(soname, claimed), answer)


if __name__ == "__main__":
    unittest.main()
