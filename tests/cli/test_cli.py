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
                           (["run", "--share", "40", "--", "true"], "--share: 40 is not a value for it"), (["run", "--memory", "8", "--", "true"], "8"),
                           (["run", "--class", "first", "--", "true"], "first"), (["run", "--on-loss", "cry", "--", "true"], "cry"),
                           (["run", "--fly", "--", "true"], "unknown option: --fly"), (["run", "--ttft"], "--ttft needs a value"), (["run"], "a command is needed"),
                           (["run", "--weight", "7x", "--", "true"], "7x"), (["run", "--weight", "0", "--", "true"], "0"),
                           (["run", "--device", "one", "--", "true"], "one"), (["run", "--device", "-1", "--", "true"], "-1"),
                           (["run", "--memory", "nanGiB", "--", "true"], "nanGiB"), (["load", "--fly"], "unknown option: --fly"),
                           (["load", "--url"], "--url needs a value"), (["load", "--url", "http://x", "y"], "unexpected argument: y"),
                           (["doctor", "x"], "x"), (["advise", "x"], "x"), (["--fly"], "--fly"), (["status", "--all"], "--all"), (["load"], "--url is needed"), (["load", "--url", "ftp://x"], "ftp://x"),
                           (["load", "--url", "http://x", "--prompt", "9:3"], "9:3"), (["load", "--url", "http://x", "--rate", "0"], "0"),
                           (["run", "-xy", "--", "true"], "unknown option: -xy"), (["load", "--url", "http://x", "-ab"], "unknown option: -ab"),
                           (["load", "--url=http://x", "--check", "-cd"], "unknown option: -cd"), (["load", "--json=5"], "--json takes no value"),
                           (["run", "--share=40", "--", "true"], "--share: 40 is not a value for it"), (["load", "x", "--json"], "unexpected argument: x (see takt load --help)"),
                           (["run", "--memory", "0MiB", "--", "true"], "--memory: 0MiB"), (["run", "--share", "0%", "--", "true"], "--share: 0%"),
                           (["run", "--ttft", "0ms", "--", "true"], "--ttft: 0ms"), (["load", "--url", "http://x", "--duration", "0s"], "--duration: 0s"),
                           (["load", "--url", "http://x", "--speed", "2"], "--speed is a trace's"),
                           (["load", "--url", "http://x", "--trace", "t", "--rate", "2"], "do not go with --trace"),
                           (["load", "--url", "http://x", "--trace", "t", "--output", "2:3"], "do not go with --trace")):
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
        for word in ("-h", "help"):
            self.assertEqual(takt(word), (0, out, ""))

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
                run = subprocess.Popen([f"{BUILD}/src/cli/takt", "doctor"], stdout=subprocess.PIPE, text=True,
                                       env={**os.environ, "TAKT_DIR": f"{folder}/busy"})
                with busy.accept()[0]:   # one that just ends takes its socket along
                    os.unlink(f"{folder}/busy/control")
                self.assertRegex(run.communicate(timeout=30)[0], r"(?m)^none +daemon +none is there")

    def test_exit_code_is_the_commands_own(self):
        self.assertEqual(takt("run", "--", "sh", "-c", "exit 7")[0], 7)
        self.assertEqual(takt("run", "--", "sh", "-c", "kill -9 $$")[0], 137)
        self.assertEqual(takt("run", "--", "/nowhere/at-all")[0], 127)
        self.assertEqual(takt("run", "--", "/etc/passwd")[0], 126)

    def test_agent_finds_its_sockets_and_the_shim(self):
        code, out, _ = takt("run", "--memory", "1GiB", "--", "sh", "-c",
                            'test -S "$TAKT_SOCKET" && test -S "$TAKT_REQUESTS" && test -f "${LD_LIBRARY_PATH%%:*}/libcuda.so.1" && echo "$TAKT_MEMORY_QUOTA"')
        self.assertEqual((code, out), (0, f"{1 << 30}\n"))

    def test_contract_that_says_too_little_or_contradicts_itself_is_wrong_usage(self):
        for words in ("--slo 100ms", "--share 40% --ttft 200ms", "--share 40% --itl 60ms", "--share 40% --class deadline",
                      "--share 40% --slo 100ms --peak 30%", "--share 40% --slo 100ms --depth 10ms --burst 90ms",
                      "--share 40% --slo 100ms --ttft 200ms --itl 60ms", "--share 40% --slo 100ms --itl 60ms"):
            code, _, err = takt("run", *words.split(), "--", "true")
            self.assertEqual((code, err), (2, "takt: the contract contradicts itself or says too little: ttft goes with itl, or slo alone; they need a share; peak is "
                                           "at least the share, depth at least the burst; a step is 900ms at most (see takt run --help)\n"), words)

    def test_share_of_another_class_is_wrong_usage(self):
        for words in ("--share 40%", "--class fair --share 40% --peak 50%", "--class idle --depth 10ms", "--class fair --slo 200ms --burst 1ms", "--peak 5%"):
            code, _, err = takt("run", *words.split(), "--", "true")
            self.assertEqual((code, err.count("\n")), (2, 1), words)
            self.assertIn("share, peak, burst and depth are of the deadline class only; for class ", err)
            self.assertIn("see --weight", err)

    def test_no_gpu_is_said(self):
        self.assertEqual(takt("run", "--", "true", LD_LIBRARY_PATH=""), (69, "", "takt: no GPU was found on this machine\n"))
        self.assertEqual(takt("run", "--device", "3", "--", "true"), (69, "", "takt: there is no device 3\n"))

    def test_no_daemon_is_said_and_who_starts_one(self):
        with tempfile.TemporaryDirectory() as folder:
            for command in ("status", "advise"):
                self.assertEqual(takt(command, TAKT_DIR=folder), (69, "", f"takt: no daemon answers in {folder}: none is there; `takt run` starts one\n"))
        self.assertEqual(takt("status", TAKT_DIR="/dev/null"), (69, "", "takt: no daemon answers in /dev/null: Not a directory\n"))

    @unittest.skipIf(os.path.exists("/run/takt/control"), "a daemon of the system's runs")
    def test_daemon_of_the_system_is_not_ours_to_start(self):
        none = "none is there; it is the system's to start (taktd.service)"
        for words in (("status",), ("run", "--", "true")):
            self.assertEqual(takt(*words, TAKT_DIR="/run/takt"), (69, "", f"takt: no daemon answers in /run/takt: {none}\n"))
        self.assertIn(none, takt("doctor", TAKT_DIR="/run/takt")[1])

    def test_folder_that_none_can_be_is_wrong_usage(self):
        for folder, said in (("takt", "takt does not begin with /"), ("./takt", "./takt does not begin with /"), (f"/{'x' * 79}", "is longer than 79 bytes")):
            for words in (("run", "--", "true"), ("status",), ("top",), ("advise",), ("doctor",)):
                code, out, err = takt(*words, TAKT_DIR=folder)
                self.assertEqual((code, out, err.count("\n")), (2, "", 1), words)
                self.assertIn(said, err)

    def test_empty_folder_is_as_not_given(self):
        with tempfile.TemporaryDirectory() as folder:
            if not os.access("/run/takt/control", os.W_OK):
                self.assertIn(f"no daemon answers in {folder}/takt", takt("status", TAKT_DIR="", XDG_RUNTIME_DIR=folder)[2])

    def test_nobody_answers_the_load(self):
        code, _, err = takt("load", "--url", "http://127.0.0.1:9", "--rate", "50", "--duration", "100ms")
        self.assertEqual(code, 69)
        self.assertIn("no request was answered", err)


if __name__ == "__main__":
    unittest.main(warnings="ignore")
