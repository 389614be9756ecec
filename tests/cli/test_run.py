"""takt run: the daemon that it finds or starts, the signals that it passes on, and every way in which there is none."""
import fcntl
import json
import os
import pty
import shutil
import signal
import socket
import stat
import subprocess
import tempfile
import time
import unittest

import takt

TAKT = f"{takt.BUILD}/src/cli/takt"
OTHER_UID = 65534
as_root = unittest.skipUnless(os.geteuid() == 0, "only root is several users")


class Case(unittest.TestCase):
    def setUp(self):
        # A shell cannot trap what was ignored when it began: under nohup, or as another shell's job.
        for number, handler in ((signal.SIGHUP, signal.SIG_DFL), (signal.SIGQUIT, signal.SIG_DFL), (signal.SIGINT, signal.default_int_handler)):
            signal.signal(number, handler)
        self.folder = self.enterContext(tempfile.TemporaryDirectory())
        self.dir = f"{self.folder}/takt"
        self.env = {**os.environ, "TAKT_DIR": self.dir, "SIMGPU_NAME": f"simgpu-run-{os.getpid()}", "LD_LIBRARY_PATH": f"{takt.BUILD}/src/simgpu"}
        self.addCleanup(subprocess.run, [f"{takt.BUILD}/src/simgpu/simgpu", "reset"], env=self.env)

    def run_takt(self, *args, **env):
        run = subprocess.run([TAKT, *args], capture_output=True, text=True, timeout=60, env={**self.env, **env})
        return run.returncode, run.stdout, run.stderr

    def start(self, script, **options):
        return subprocess.Popen([TAKT, "run", "--name", "agent", "--", "sh", "-c", script], env=self.env, stdin=subprocess.PIPE,
                                stdout=subprocess.PIPE, text=True, **options)

    def status(self):
        code, out, _ = self.run_takt("status", "--json")
        return json.loads(out) if code == 0 else None

    def listen(self):
        """In the daemon's place."""
        os.makedirs(self.dir, exist_ok=True)
        if os.path.exists(f"{self.dir}/control"):
            os.unlink(f"{self.dir}/control")
        listener = self.enterContext(socket.socket(socket.AF_UNIX))
        listener.settimeout(20)
        listener.bind(f"{self.dir}/control")
        listener.listen()
        return listener

    def pending(self, pid, number):
        with open(f"/proc/{pid}/status") as file:
            masks = [int(line.split()[1], 16) for line in file if line.startswith(("SigPnd", "ShdPnd"))]
        return any(mask >> (number - 1) & 1 for mask in masks)

    def until(self, found):
        end = time.monotonic() + 20
        while not (last := found()):
            self.assertLess(time.monotonic(), end)
            time.sleep(.01)
        return last


class Run(Case):
    def test_daemon_of_the_user_lies_in_the_runtime_folder_and_ends_with_its_last_tenant(self):
        del self.env["TAKT_DIR"]
        self.env["XDG_RUNTIME_DIR"] = self.folder
        script = 'echo "$TAKT_SOCKET"; read line'
        one, two = self.start(script), self.start(script)   # at once: one daemon for both
        paths = {one.stdout.readline(), two.stdout.readline()}
        self.assertEqual(paths, {f"{self.dir}/t0/join\n", f"{self.dir}/t1/join\n"})
        self.assertEqual(stat.S_IMODE(os.stat(self.dir).st_mode), 0o700)
        self.assertEqual(stat.S_IMODE(os.stat(f"{self.dir}/control").st_mode), 0o600)
        daemon = self.status()["pid"]
        one.communicate("\n", timeout=20)
        self.assertEqual([t["name"] for t in self.status()["tenants"]], ["agent"])
        two.communicate("\n", timeout=20)
        self.until(lambda: not os.path.exists(f"{self.dir}/control"))
        self.until(lambda: not os.path.exists(f"/proc/{daemon}") or "\nState:\tZ" in open(f"/proc/{daemon}/status").read())

    def test_command_that_ends_at_once_is_never_waited_for(self):
        daemon = takt.Daemon(self.dir)
        self.addCleanup(daemon.stop)
        for _ in range(50):
            self.assertEqual(self.run_takt("run", "--", "true")[0], 0)

    def corpses(self, pid):
        dead = []
        for child in open(f"/proc/{pid}/task/{pid}/children").read().split():
            try:
                if "\nState:\tZ" in open(f"/proc/{child}/status").read():
                    dead.append(child)
            except OSError:
                pass   # gone meanwhile
        return dead

    def test_daemon_that_dies_is_replaced_and_told_the_same(self):
        agent = self.start("echo started; read line")
        agent.stdout.readline()
        before = self.status()
        os.kill(before["pid"], signal.SIGKILL)
        after = self.until(lambda: (s := self.status()) and s["tenants"] and s)
        self.assertNotEqual(after["pid"], before["pid"])
        self.assertEqual([(t["tenant"], t["name"]) for t in after["tenants"]], [(0, "agent")])
        self.until(lambda: not self.corpses(agent.pid))   # none is kept
        agent.communicate("\n", timeout=20)
        self.assertEqual(agent.returncode, 0)

    def test_daemon_that_does_not_take_it_back_is_asked_again(self):
        daemon = takt.Daemon(self.dir)
        agent = self.start("echo started; read line")
        agent.stdout.readline()
        agent.send_signal(signal.SIGSTOP)   # until we are in the daemon's place
        daemon.kill()
        listener = self.listen()
        agent.send_signal(signal.SIGCONT)
        for answer in (b'{"ok":false,"error":"admission","message":"not yet"}\n', b"", b'{"ok":true}\n'):
            peer, _ = listener.accept()
            told = json.loads(peer.makefile().readline())
            self.assertEqual((told["op"], told["name"], told["reclaim"]), ("register", "agent", 0))
            peer.sendall(answer)
            if not answer:
                peer.close()
        agent.communicate("\n", timeout=20)
        self.assertEqual(agent.returncode, 0)

    def test_signal_reaches_the_command_and_its_code_comes_back(self):
        for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2):
            agent = self.start(f"trap 'exit 9' {number.name[3:]}; echo started; while :; do read line; done")
            agent.stdout.readline()
            agent.send_signal(number)
            agent.stdin.close()   # a shell runs its trap once read comes back
            self.assertEqual(agent.wait(20), 9, number)
            agent.stdout.close()

    def test_signal_that_ends_the_command_is_told(self):
        agent = self.start("echo started; exec sleep 60")
        agent.stdout.readline()
        agent.terminate()
        self.assertEqual(agent.wait(20), 128 + signal.SIGTERM)
        agent.communicate()

    def test_ctrl_c_reaches_the_command_once(self):
        """The terminal sends it to takt and to the command: takt must not send it again."""
        script = "n=0; trap 'n=$((n+1)); echo int' INT; trap 'echo $n; exit 3' TERM; echo started; while :; do sleep .01; done"
        pid, terminal = pty.fork()
        if pid == 0:
            os.execve(TAKT, [TAKT, "run", "--", "bash", "-c", script], self.env)
        with open(terminal, "rb", buffering=0) as out:
            self.assertIn(b"started", out.readline())
            os.kill(pid, signal.SIGSTOP)   # so that the command has had the terminal's before takt sees its own
            os.waitid(os.P_PID, pid, os.WSTOPPED | os.WNOWAIT)
            os.write(terminal, b"\x03")
            while b"int" not in out.readline():
                pass
            os.kill(pid, signal.SIGCONT)
            self.until(lambda: not self.pending(pid, signal.SIGINT))
            os.kill(pid, signal.SIGTERM)
            self.assertEqual(out.readline().strip(), b"1")
        self.assertEqual(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), 3)

    def test_library_path_is_kept_however_long(self):
        long = ":".join(f"{self.folder}/{i:05}" for i in range(600)) + f":{takt.BUILD}/src/simgpu"
        code, out, _ = self.run_takt("run", "--", "sh", "-c", 'echo "$LD_LIBRARY_PATH"', LD_LIBRARY_PATH=long)
        self.assertEqual((code, out), (0, f"{self.dir}/t0/lib:{long}\n"))

    def test_environment_of_the_command(self):
        names = ("TAKT_SOCKET", "TAKT_REQUESTS", "TAKT_ON_LOSS", "TAKT_MEMORY_QUOTA")
        code, out, _ = self.run_takt("run", "--on-loss", "refuse", "--", "sh", "-c", "; ".join(f'echo "${{{n}-unset}}"' for n in names),
                                     TAKT_MEMORY_QUOTA="5")   # that of who runs it
        self.assertEqual((code, out.split()), (0, [f"{self.dir}/t0/join", f"{self.dir}/t0/requests", "refuse", "unset"]))

    def test_what_is_registered_is_what_was_said(self):
        listener = self.listen()
        run = subprocess.Popen([TAKT, "run", "--ttft", "200ms", "--itl", "60ms", "--share", "40%", "--peak", "50%", "--burst", "10ms", "--depth",
                                "1s", "--step", "4ms", "--memory", "2GiB", "--weight", "7", "--device", "3", "--", "/bin/true"],
                               env=self.env, stderr=subprocess.PIPE, text=True)
        peer, _ = listener.accept()
        self.assertEqual(json.loads(peer.makefile().readline()), {
            "op": "register", "name": "true", "class": "deadline", "slo_ns": 0, "ttft_ns": 200_000_000, "itl_ns": 60_000_000, "burst_ns": 10_000_000,
            "depth_ns": 1_000_000_000, "step_ns": 4_000_000, "memory_bytes": 2 << 30, "share_ppm": 400_000, "peak_ppm": 500_000, "weight": 7,
            "device": 3, "reclaim": -1})
        peer.sendall(b'{"ok":false,"error":"admission","message":"because"}\n')
        self.assertEqual((run.communicate(timeout=20)[1], run.returncode), ("takt: not admitted: because\n", 75))

    def test_daemon_that_ends_before_it_answers_is_followed_by_another(self):
        listener = self.listen()
        run = subprocess.Popen([TAKT, "run", "--", "sh", "-c", "exit 7"], env=self.env, stderr=subprocess.PIPE, text=True)
        peer, _ = listener.accept()
        peer.recv(4096)
        os.unlink(f"{self.dir}/control")   # as an ending daemon does
        peer.close()
        self.assertEqual((run.communicate(timeout=20)[1], run.returncode), ("", 7))

    def test_answers_that_are_none(self):
        listener = self.listen()
        for text, said in ((b"", "does not answer"), (b"\n", "does not answer"), (b"[1]\n", "does not answer"), (b"{\n", "does not answer"),
                           (b'{"ok":false,"error":1}\n', "does not answer"),
                           (b'{"ok":false,"error":"system","message":"No space"}\n', "the daemon refuses: No space"),
                           (b'{"ok":true}\n', "does not answer")):
            run = subprocess.Popen([TAKT, "run", "--", "true"], env=self.env, stderr=subprocess.PIPE, text=True)
            peer, _ = listener.accept()
            peer.recv(4096)
            peer.sendall(text)
            peer.close()
            err = run.communicate(timeout=20)[1]
            self.assertEqual((run.returncode, err.count("\n")), (69, 1), text)
            self.assertIn(said, err)


class NoDaemon(Case):
    """Each way in which none can be had: one line, and 69."""

    def refused(self, *said, **env):
        code, out, err = self.run_takt("run", "--", "true", **env)
        self.assertEqual((code, out, err.count("\n")), (69, "", 1), err)
        for words in said:
            self.assertIn(words, err)

    def test_folder_without_a_parent(self):
        self.refused("no daemon in /nowhere/takt", "No such file or directory", TAKT_DIR="/nowhere/takt")

    def test_folder_that_is_a_file(self):
        self.refused("/dev/null", TAKT_DIR="/dev/null")

    def test_folder_with_a_long_name(self):
        long = f"{self.folder}/{'x' * 200}"
        self.assertEqual(self.run_takt("run", "--", "true", TAKT_DIR=long), (2, "", f"takt: TAKT_DIR: {long} is longer than 79 bytes\n"))

    def test_folder_that_others_can_write(self):
        os.mkdir(self.dir)
        os.chmod(self.dir, 0o777)
        self.refused("not this user's alone")

    def test_link_in_the_folders_place(self):
        os.mkdir(f"{self.folder}/elsewhere", 0o700)
        os.symlink(f"{self.folder}/elsewhere", self.dir)
        self.refused("not this user's alone")

    @as_root
    def test_folder_of_another_user(self):
        os.mkdir(self.dir, 0o700)
        os.chown(self.dir, OTHER_UID, OTHER_UID)
        self.refused("not this user's alone")

    @as_root
    def test_daemon_of_another_user_is_not_believed(self):
        """It could name a folder of its own for our libraries."""
        os.chmod(self.folder, 0o755)
        os.mkdir(self.dir)
        os.chown(self.dir, OTHER_UID, OTHER_UID)
        ready, wrote = os.pipe()
        pid = os.fork()
        if pid == 0:
            os.setuid(OTHER_UID)
            s = socket.socket(socket.AF_UNIX)
            s.bind(f"{self.dir}/control")
            s.listen()
            os.write(wrote, b"1")
            peer, _ = s.accept()
            os._exit(len(peer.recv(100)))   # nothing is asked of it
        os.read(ready, 1)
        self.refused("it is another user's; set TAKT_DIR")
        self.assertEqual(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), 0)

    def test_lock_that_somebody_else_holds(self):
        os.mkdir(self.dir, 0o700)
        with open(f"{self.dir}/lock", "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            self.refused("a daemon is running there already")

    def test_daemon_that_hangs(self):
        daemon = takt.Daemon(self.dir)
        daemon.process.send_signal(signal.SIGSTOP)
        commands = [subprocess.Popen([TAKT, *args], env=self.env, stderr=subprocess.PIPE, text=True)
                    for args in (["run", "--", "true"], ["status"], ["top"], ["advise"])]
        for run, said in zip(commands, ("does not answer", *[f"no daemon answers in {self.dir}: it does not answer; end it"] * 3)):
            err = run.communicate(timeout=30)[1]
            self.assertEqual((run.returncode, err.count("\n")), (69, 1))
            self.assertIn(said, err)
        daemon.process.send_signal(signal.SIGCONT)
        daemon.stop()

    def test_takt_without_its_daemon(self):
        shutil.copy(TAKT, f"{self.folder}/takt-alone")
        run = subprocess.run([f"{self.folder}/takt-alone", "run", "--", "true"], env=self.env, capture_output=True, text=True)
        self.assertEqual((run.returncode, run.stderr.count("\n")), (69, 1), run.stderr)
        self.assertIn(f"{self.folder}/taktd: No such file or directory", run.stderr)

    def test_no_gpu(self):
        self.refused("takt: no GPU was found on this machine", LD_LIBRARY_PATH="")

    @as_root
    def test_folder_of_the_system_is_left_to_its_daemon(self):
        """Where the system's daemon has gone for a moment, one of ours would keep it out."""
        script = (f"mount -t tmpfs none /run && mkdir /run/takt && TAKT_DIR=/run/takt {TAKT} run -- true; echo $?; ls /run/takt")
        run = subprocess.run(["unshare", "-m", "sh", "-c", script], env=self.env, capture_output=True, text=True)
        if "unshare: " in run.stderr or "mount: " in run.stderr:
            self.skipTest("no mount namespaces here")
        self.assertEqual(run.stdout, "69\n")
        self.assertIn("no daemon answers in /run/takt: none is there; it is the system's to start", run.stderr)


class Libraries(Case):
    LOADED = "import ctypes; ctypes.CDLL('libcuda.so.1'); print(*{l.split()[-1] for l in open('/proc/self/maps') if 'libcuda' in l})"

    def within(self, noexec, **env):
        """Loads the shim in a place where nothing can be run from those folders."""
        script = "".join(f"mkdir -p {folder} && mount -t tmpfs -o noexec,mode=0700 none {folder} && " for folder in noexec)
        # A sanitizer's runtime would come first in a program that was built with it; python was not.
        return self.apart(f"{script} exec \"$@\"", "sh", TAKT, "run", "--", "python3", "-c", self.LOADED,
                          ASAN_OPTIONS="verify_asan_link_order=0:detect_leaks=0", **env)

    def apart(self, script, *args, **env):
        """With mounts of its own."""
        run = subprocess.run(["unshare", "-m", "sh", "-c", script, *args], env={**self.env, **env}, capture_output=True, text=True, timeout=60)
        if "unshare: " in run.stderr or "mount: " in run.stderr:
            self.skipTest("no mount namespaces here")
        return run.returncode, run.stdout, run.stderr

    def elsewhere(self, **env):
        """Where the shim was loaded from by an agent whose seat lies where nothing can be run."""
        code, out, err = self.within([self.dir], **env)
        self.assertEqual((code, err), (0, ""))
        [path] = {os.path.dirname(path) for path in out.split()} - {f"{takt.BUILD}/src/simgpu"}
        return path

    @as_root
    def test_folder_from_which_nothing_can_be_run(self):
        """As Debian mounts /run: the libraries go elsewhere, and stay for what the agent has left behind."""
        other, open_to_all = f"{self.folder}/other", f"{self.folder}/open"
        os.mkdir(other, 0o700)
        os.mkdir(open_to_all)
        os.chmod(open_to_all, 0o777)
        path = self.elsewhere(XDG_RUNTIME_DIR=other)
        self.assertEqual(self.elsewhere(XDG_RUNTIME_DIR=open_to_all, TMPDIR=other), path)
        self.assertEqual(self.elsewhere(XDG_RUNTIME_DIR="", TMPDIR=other), path)
        self.assertEqual(os.listdir(other), [os.path.basename(path)])
        self.assertIn("libcuda.so.1", os.listdir(path))

    @as_root
    def test_nothing_can_be_run_from_anywhere(self):
        script = (f"mount --bind {takt.BUILD} /mnt && mount -t tmpfs -o noexec,mode=1777 none /tmp && "
                  "exec env -u TMPDIR TAKT_DIR=/tmp/takt XDG_RUNTIME_DIR=/tmp LD_LIBRARY_PATH=/mnt/src/simgpu /mnt/src/cli/takt run -- true")
        code, out, err = self.apart(script)
        self.assertEqual((code, out, err.count("\n")), (69, "", 1), err)
        self.assertIn("is mounted noexec: no agent can load a library from there", err)

    def test_missing_driver_is_named(self):
        daemon = takt.Daemon(self.dir)   # it was given its device
        self.addCleanup(daemon.stop)
        code, _, err = self.run_takt("run", "--", "true", LD_LIBRARY_PATH="/nowhere")
        self.assertEqual((code, err), (69, "takt: cannot find libcuda.so.1 (the NVIDIA driver)\n"))

    def test_libraries_that_cannot_be_placed(self):
        daemon = takt.Daemon(self.dir)
        self.addCleanup(daemon.stop)
        os.makedirs(f"{self.dir}/t0/lib/libcuda.so.1", 0o700)   # a folder in its place
        code, _, err = self.run_takt("run", "--", "true")
        self.assertEqual((code, err.count("\n")), (69, 1))
        self.assertIn("cannot put Takt's libraries", err)

    def test_folder_that_others_can_write_is_not_used(self):
        daemon = takt.Daemon(self.dir)
        self.addCleanup(daemon.stop)
        os.makedirs(f"{self.dir}/t0/lib")
        os.chmod(f"{self.dir}/t0/lib", 0o777)
        code, _, err = self.run_takt("run", "--", "true")
        self.assertEqual((code, err), (69, f"takt: {self.dir}/t0/lib: not this user's alone\n"))

    @as_root
    def test_next_user_gets_a_folder_of_their_own(self):
        daemon = takt.Daemon(self.dir)
        self.addCleanup(daemon.stop)
        os.makedirs(f"{self.dir}/t0/lib")
        os.chown(f"{self.dir}/t0/lib", OTHER_UID, OTHER_UID)   # left by the seat's last user, who may still be in it
        self.assertEqual(self.run_takt("run", "--", "true")[0], 0)
        self.assertEqual(os.stat(f"{self.dir}/t0/lib").st_uid, 0)
        self.assertEqual(len([name for name in os.listdir(f"{self.dir}/t0") if name.startswith("lib.")]), 1)

    def test_shim_is_a_copy_and_the_driver_is_linked(self):
        out = self.run_takt("run", "--", "sh", "-c", 'cd "${LD_LIBRARY_PATH%%:*}" && stat -c "%F %N" *')[1]
        self.assertEqual(sorted(out.splitlines()), sorted([
            "regular file 'libcuda.so.1'", f"symbolic link 'libcuda-driver.so.1' -> '{os.path.realpath(f'{takt.BUILD}/src/simgpu/libcuda.so.1')}'",
            "regular file 'libnvidia-ml.so.1'",
            f"symbolic link 'libnvidia-ml-driver.so.1' -> '{os.path.realpath(f'{takt.BUILD}/src/simgpu/libnvidia-ml.so.1')}'"]))


if __name__ == "__main__":
    unittest.main(warnings="ignore")
