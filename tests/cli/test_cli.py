"""takt as people type it: wrong flags, missing things, and an agent that runs."""
import os
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
                           (["status", "--all"], "--all"), (["load"], "--url is needed"), (["load", "--url", "ftp://x"], "ftp://x"),
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
