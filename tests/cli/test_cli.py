"""takt as people type it: wrong flags, missing things, and an agent that runs."""
import os
import re
import shutil
import socket
import subprocess
import tempfile
import unittest

BUILD = os.environ["TAKT_BUILD"]


def takt(*args, **env):
    with tempfile.TemporaryDirectory() as folder:
        run = subprocess.run([f"{BUILD}/src/cli/takt", *args], capture_output=True, text=True, timeout=60,
                             env={**os.environ, "TAKT_DIR": f"{folder}/takt", "SIMGPU_NAME": f"simgpu-cli-{os.getpid()}",
                                  "LD_LIBRARY_PATH": f"{BUILD}/src/simgpu", **env})
    return run.returncode, run.stdout, run.stderr


class Cli(unittest.TestCase):
    def tearDown(self):
        subprocess.run([f"{BUILD}/src/simgpu/simgpu", "reset"], env={**os.environ, "SIMGPU_NAME": f"simgpu-cli-{os.getpid()}"})

    def test_wrong_usage_is_one_clear_line(self):
        for args, word in ((["fly"], "unknown command: fly"), (["run", "--ttft", "soon", "--", "true"], "soon"),
                           (["run", "--share", "40", "--", "true"], "40"), (["run", "--memory", "8", "--", "true"], "8"),
                           (["run", "--class", "first", "--", "true"], "first"), (["run", "--on-loss", "cry", "--", "true"], "cry"),
                           (["run", "--fly", "--", "true"], "unknown option: --fly"), (["run", "--ttft"], "--ttft needs a value"), (["run"], "a command is needed"),
                           (["run", "--weight", "7x", "--", "true"], "7x"), (["run", "--weight", "0", "--", "true"], "0"),
                           (["run", "--device", "one", "--", "true"], "one"), (["run", "--device", "-1", "--", "true"], "-1"),
                           (["run", "--memory", "nanGiB", "--", "true"], "nanGiB"), (["load", "--fly"], "unknown option: --fly"),
                           (["load", "--url"], "--url needs a value"), (["load", "--url", "http://x", "y"], "unexpected argument: y"),
                           (["doctor", "x"], "x"), (["advise", "x"], "x"), (["--fly"], "--fly"), (["status", "--all"], "--all"), (["load"], "--url is needed"), (["load", "--url", "ftp://x"], "ftp://x"),
                           (["load", "--url", "http://x", "--prompt", "9:3"], "9:3"), (["load", "--url", "http://x", "--rate", "0"], "0")):
            code, out, err = takt(*args)
            self.assertEqual((code, out), (2, ""), args)
            self.assertIn(word, err)
            self.assertEqual(err.count("\n"), 1, err)

    def test_every_command_has_help(self):
        for command in ("run", "status", "top", "load", "advise", "doctor"):
            code, out, err = takt(command, "--help")
            self.assertEqual((code, err), (0, ""), command)
            self.assertIn(f"usage: takt {command}", out)

    def test_takt_itself(self):
        code, out, err = takt("--version")
        self.assertEqual((code, err), (0, ""))
        self.assertRegex(out, r"^takt \d+\.\d+\.\d+$")
        code, out, err = takt("--help")
        self.assertEqual((code, err), (0, ""))
        self.assertEqual(takt()[0:2], (2, ""))
        self.assertEqual(takt()[2], out)   # the same, but as an error

    def test_doctor_finds_what_is_there(self):
        code, out, err = takt("doctor")
        self.assertEqual((code, err), (0, ""), out)
        lines = {line.split("  ")[0].split(" ", 1)[0]: 0 for line in out.splitlines()}
        self.assertEqual(set(lines), {"ok", "none"})
        for what, found in (("CUDA driver", f"{BUILD}/src/simgpu/libcuda.so.1"), ("NVML", f"{BUILD}/src/simgpu/libnvidia-ml.so.1"),
                            ("shim", "libcuda.so.1"), ("taktd", "taktd"), ("GPU", "0: NVIDIA A100-SXM4-40GB, 40.0 GiB"),
                            ("membarrier(2)", ""), ("pidfd_open(2)", ""), ("daemon", "`takt run` starts one")):
            self.assertRegex(out, rf"(?m)^(ok|none) +{re.escape(what)} .*{re.escape(found)}$")

    def test_doctor_says_what_is_missing_and_what_to_do(self):
        code, out, _ = takt("doctor", LD_LIBRARY_PATH="")
        self.assertEqual(code, 1)
        for what, remedy in (("CUDA driver", "install NVIDIA's driver"), ("NVML", "--device UUID:BYTES"), ("GPU", "/dev/nvidia")):
            self.assertRegex(out, rf"(?m)^MISSING +{what} +.*{remedy}")
        with tempfile.TemporaryDirectory() as folder:   # takt alone, without the rest of Takt
            shutil.copy(f"{BUILD}/src/cli/takt", folder)
            run = subprocess.run([f"{folder}/takt", "doctor"], capture_output=True, text=True, env={**os.environ, "TAKT_DIR": folder})
            for what in ("shim", "taktd"):
                self.assertRegex(run.stdout, rf"(?m)^MISSING +{what} +build Takt, or reinstall it$")

    def test_doctor_finds_a_daemon_and_a_socket_that_is_none(self):
        with tempfile.TemporaryDirectory() as folder:
            code, out, _ = takt("run", "--", f"{BUILD}/src/cli/takt", "doctor", TAKT_DIR=f"{folder}/takt")
            self.assertRegex(out, rf"(?m)^ok +daemon +{folder}/takt$")
            with socket.socket(socket.AF_UNIX) as busy:   # somebody else's, who does not speak
                os.makedirs(f"{folder}/busy")
                busy.bind(f"{folder}/busy/control")
                busy.listen()
                busy.settimeout(20)
                run = subprocess.Popen([f"{BUILD}/src/cli/takt", "doctor"], stdout=subprocess.PIPE, text=True,
                                       env={**os.environ, "TAKT_DIR": f"{folder}/busy"})
                busy.accept()[0].close()
                self.assertRegex(run.communicate(timeout=30)[0], r"(?m)^MISSING +daemon +it does not answer")

    def test_exit_code_is_the_commands_own(self):
        self.assertEqual(takt("run", "--", "sh", "-c", "exit 7")[0], 7)
        self.assertEqual(takt("run", "--", "sh", "-c", "kill -9 $$")[0], 137)
        self.assertEqual(takt("run", "--", "/nowhere/at-all")[0], 127)
        self.assertEqual(takt("run", "--", "/etc/passwd")[0], 126)

    def test_agent_finds_its_sockets_and_the_shim(self):
        code, out, _ = takt("run", "--memory", "1GiB", "--", "sh", "-c",
                            'test -S "$TAKT_SOCKET" && test -S "$TAKT_REQUESTS" && test -f "${LD_LIBRARY_PATH%%:*}/libcuda.so.1" && echo "$TAKT_MEMORY_QUOTA"')
        self.assertEqual((code, out), (0, f"{1 << 30}\n"))

    def test_objectives_without_share_are_refused(self):
        code, _, err = takt("run", "--slo", "100ms", "--", "true")
        self.assertEqual(code, 75)
        self.assertIn("not admitted", err)

    def test_no_gpu_is_said(self):
        code, _, err = takt("run", "--", "true", LD_LIBRARY_PATH="")
        self.assertEqual(code, 69)
        self.assertIn("no GPU", err)

    def test_no_daemon_is_said(self):
        code, _, err = takt("status")
        self.assertEqual(code, 69)
        self.assertIn("no daemon answers", err)

    def test_nobody_answers_the_load(self):
        code, _, err = takt("load", "--url", "http://127.0.0.1:9", "--rate", "50", "--duration", "100ms")
        self.assertEqual(code, 69)
        self.assertIn("no request was answered", err)


if __name__ == "__main__":
    unittest.main(warnings="ignore")
