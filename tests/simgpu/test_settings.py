"""What a program and the tool hear of a setting that makes no sense, and what a profile may set."""
import os
import subprocess
import sys
import tempfile
import unittest

from device import DRIVER, NVML, TOOL, Device

CLAIM = f"nvml = ctypes.CDLL({NVML!r}); nvml.nvmlErrorString.restype = ctypes.c_char_p; e = nvml.nvmlInit_v2(); say(e, nvml.nvmlErrorString(e).decode())"
WRONG = {"SIMGPU_SLICE_US": ("-1", "1 to 60000000"), "SIMGPU_SWITCH_US": ("x", "0 to 60000000"), "SIMGPU_KERNEL_US": ("abc", "0 to 60000000"),
         "SIMGPU_MEMORY_MIB": ("foo", "1 to 1048576"), "SIMGPU_MPS": ("yes", "1, 0, on or off"), "SIMGPU_ECC": ("maybe", "1, 0, on or off"),
         "SIMGPU_SPIN": ("maybe", "1, 0, on or off"), "SIMGPU_POLICY": ("longest", "default, short, medium or long"), "SIMGPU_CONCURRENT": ("5", "1 to 4"),
         "SIMGPU_DRIVER_VERSION": ("newest", "11040 to 13990"), "SIMGPU_NAME": ("a/b", "a name of up to 60 characters without /"),
         "SIMGPU_LLM": ("garbage", "decode_us=, extra_percent=, prefill_us= and norms=, each with a number")}


class Settings(Device):
    def run_(self, *command, **env):
        out = subprocess.run(command, env={**self.env, **env}, capture_output=True, text=True)
        return out.returncode, out.stdout, out.stderr

    def python(self, program, **env):
        return self.run_(sys.executable, "-c", DRIVER + program, **env)

    def profile(self, text):
        file = tempfile.NamedTemporaryFile("w", suffix=".profile")
        self.addCleanup(file.close)
        file.write(text)
        file.flush()
        return file.name

    def made(self, name=None):
        return os.path.exists(f"/dev/shm/{name or self.env['SIMGPU_NAME']}")

    def test_one_line_says_what_is_wrong(self):
        for name, (value, good) in WRONG.items():
            with self.subTest(name):
                said = f"{name}={value} is not {good}"
                self.assertEqual(self.python("say(call('cuInit', 0))", **{name: value}), (0, "100\n", f"simgpu: {said}\n"))
                self.assertEqual(self.python(CLAIM, **{name: value}), (0, f"9 Driver Not Loaded: {said}\n", f"simgpu: {said}\n"))
                self.assertEqual(self.run_(TOOL, "status", **{name: value}), (69, "", f"simgpu: {said}\n"))
                self.assertFalse(self.made())

    def test_profile_that_is_wrong_says_so_to_nvml(self):
        path = self.profile("SIMGPU_SLICE=3\n")
        said = f"{path}: line 1: no setting of a profile: SIMGPU_SLICE=3"
        self.assertEqual(self.python(CLAIM, SIMGPU_PROFILE=path), (0, f"9 Driver Not Loaded: {said}\n", f"simgpu: {said}\n"))

    def test_profile_names_the_device(self):
        own, unnamed = self.env["SIMGPU_NAME"] + "-profiled", ("env", "-u", "SIMGPU_NAME")
        self.addCleanup(self.run_, TOOL, "reset", SIMGPU_NAME=own)
        profile = self.profile(f"SIMGPU_NAME={own}\n")
        self.assertEqual(self.run_(*unnamed, TOOL, "log", SIMGPU_PROFILE=profile)[0], 0)
        self.assertTrue(self.made(own))
        self.assertEqual(self.run_(*unnamed, TOOL, "reset", SIMGPU_PROFILE=profile), (0, "", ""))
        self.assertFalse(self.made(own))

    def test_what_is_refused_removes_no_device(self):
        """Not the one by another name either, where the profile that has the name cannot be read."""
        self.assertEqual(self.python("say(call('cuInit', 0))"), (0, "0\n", ""))
        self.assertEqual(self.run_(TOOL, "reset", SIMGPU_PROFILE="/nowhere"), (69, "", "simgpu: /nowhere: No such file or directory\n"))
        self.assertTrue(self.made())

    def test_trace_names_what_is_not_built(self):
        ask, said = "say(call('cuMulticastCreate', None, None))", (0, "801\n", "simgpu: cuMulticastCreate is not supported\n")
        self.assertEqual(self.python(ask, SIMGPU_TRACE="1"), said)
        self.assertEqual(self.python(ask, SIMGPU_PROFILE=self.profile("SIMGPU_TRACE=1\n")), said)
        self.assertEqual(self.python(ask, SIMGPU_TRACE="0"), (0, "801\n", ""))

    def test_times_have_fractions(self):
        self.assertEqual(self.python("begin(); launch(); say(call('cuCtxSynchronize'))", SIMGPU_KERNEL_US="3000.25"), (0, "0\n", ""))
        self.assertEqual(self.status()["busy_ns"], 3_000_250)


if __name__ == "__main__":
    unittest.main()
