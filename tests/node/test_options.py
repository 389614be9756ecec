"""taktd as people type it: its options, its GPUs, its sockets, its end."""
import fcntl
import os
import signal
import stat
import subprocess
import tempfile
import unittest

import takt

TAKTD = f"{takt.BUILD}/src/node/taktd"
A, B = "00112233445566778899aabbccddeeff", "GPU-ffeeddcc-bbaa-9988-7766-554433221100"


def taktd(*args, **env):
    run = subprocess.run([TAKTD, *args], capture_output=True, text=True, timeout=60, env={**os.environ, **env})
    return run.returncode, run.stdout, run.stderr


class Options(unittest.TestCase):
    def folder(self):
        return self.enterContext(tempfile.TemporaryDirectory())

    def daemon(self, **options):
        daemon = takt.Daemon(**options)
        self.addCleanup(daemon.stop)
        return daemon

    def test_wrong_usage_is_one_clear_line(self):
        for args, said in ((["--fly"], "--fly: unknown option"), (["--dir"], "--dir: needs a value"), (["--dir", ""], "--dir:  is not a value"),
                           (["--dir", "/" + "x" * 79], "x is longer than 79 bytes"), (["extra"], "extra: unexpected"), (["--ready", "x"], "--ready: x is not a value"),
                           (["--ready", "-1"], "-1 is not a value"), (["--ready", "99"], "99 is not a value"), (["--ready", "1x"], "1x is not a value"),
                           (["--user", "-ab"], "-ab: unknown option"), (["--user=3"], "--user: takes no value"), (["--ready=x"], "--ready: x is not a value")):
            code, out, err = taktd(*args)
            self.assertEqual((code, out, err.count("\n")), (2, "", 1), err)
            self.assertIn("taktd: ", err)
            self.assertIn(said, err)

    def test_too_few_descriptors_for_all_tenants_are_said(self):
        with open(os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../docs/man/taktd.8")) as page:
            self.assertIn("it opens up to 3968 files", page.read())
        for most in (3967, 3968):
            ready, there = os.pipe()
            process = subprocess.Popen(
                ["prlimit", f"--nofile={most}", TAKTD, "--dir", self.folder(), "--device", f"{A}:{1 << 30}", "--ready", str(there)],
                pass_fds=[there], stderr=subprocess.PIPE, text=True)
            os.close(there)
            with open(ready) as said:
                self.assertEqual(said.read(), "1")
            process.terminate()
            _, err = process.communicate(timeout=60)
            self.assertEqual(err, "taktd: may open 3967 files at most (ulimit -Hn, LimitNOFILE): 256 tenants with their processes take up to 3968\n"
                             if most < 3968 else "")

    def test_devices_that_are_none(self):
        for text in ("", "x", A, f"{A}:", f"{A}:x", f"{A}:0", f"{A}:-5", f"{A}:5x", f"{A[:-1]}:5", f"{A}0:5", f"{A[:-1]}g:5", f"{A} :5",
                     f"{A}:99999999999999999999", f"GPU-{A}-1:5", "GPU-:5"):
            self.assertEqual(taktd("--device", text), (2, "", f"taktd: --device: {text} is not a value for it (see taktd --help)\n"), text)

    def test_devices_are_those_given(self):
        daemon = self.daemon(devices=(f"{A}:{1 << 30}", f"{B}:{2 << 30}", f"{B.upper()}:3"))
        found = [(d["device"], d["uuid"], d["memory"]) for d in daemon.status()["devices"]]
        self.assertEqual(found, [(0, "GPU-00112233-4455-6677-8899-aabbccddeeff", 1 << 30), (1, B, 2 << 30), (2, B, 3)])

    def test_tenant_of_one_device_is_none_of_another(self):
        daemon = self.daemon(devices=(f"{A}:{1 << 30}", f"{B}:{2 << 30}"))
        promise = {"slo_ns": 200e6, "share_ppm": 200000, "memory_bytes": 1 << 30}
        one, two = daemon.tenant("one", device=0, **promise), daemon.tenant("two", device=1, **promise)
        self.assertTrue(one.answer["ok"] and two.answer["ok"])
        self.assertFalse(daemon.tenant("more", device=0, **promise).answer["ok"])   # its memory is promised
        session = takt.Session(two.answer["join"], uuid=bytes.fromhex(B[4:].replace("-", "")))
        self.assertEqual(list(session.frame[24:40]), [1] + [255] * 15)   # its lane is the device's number
        self.assertEqual(daemon.tenant("three", device=2, **promise).answer, {"ok": False, "error": "device", "message": "there is no device 2"})

    def test_gpus_are_listed(self):
        env = {"LD_LIBRARY_PATH": f"{takt.BUILD}/src/simgpu", "SIMGPU_NAME": f"simgpu-options-{os.getpid()}"}
        self.addCleanup(subprocess.run, [f"{takt.BUILD}/src/simgpu/simgpu", "reset"], env=env)
        self.assertEqual(taktd("--list", **env), (0, "NVIDIA A100-SXM4-40GB, 40.0 GiB\n", ""))
        daemon = self.daemon(env={**os.environ, **env})
        device, = daemon.status()["devices"]
        self.assertEqual((device["name"], device["memory"]), ("NVIDIA A100-SXM4-40GB", 40 << 30))

    def test_no_gpu(self):
        self.assertEqual(taktd("--list", LD_LIBRARY_PATH=""), (69, "", ""))
        daemon = self.daemon(env={**os.environ, "LD_LIBRARY_PATH": ""})
        self.assertEqual(daemon.status()["devices"], [])
        self.assertEqual(daemon.tenant(**{"class": "fair"}).answer,
                         {"ok": False, "error": "device", "message": "no GPU was found on this machine"})

    def test_control_socket_is_everybodys_or_the_users(self):
        for user, mode in ((False, 0o666), (True, 0o600)):
            daemon = self.daemon(user=user)
            keep = daemon.control()   # else the user's own has nobody to stay for
            self.assertEqual(stat.S_IMODE(os.stat(f"{daemon.dir}/control").st_mode), mode)
            keep.close()

    def test_signals_end_it_and_nothing_is_left_in_the_way(self):
        for number in (signal.SIGTERM, signal.SIGINT):
            daemon = takt.Daemon()
            tenant = daemon.tenant(**{"class": "fair"})
            session = tenant.join()
            daemon.process.send_signal(number)
            self.assertEqual(daemon.process.wait(10), 0)
            self.assertEqual(session.socket.recv(1), b"")
            self.assertEqual(sorted(os.listdir(daemon.dir)), ["lock", "t0"])
            self.assertEqual(os.listdir(f"{daemon.dir}/t0"), [])
            daemon.stop()

    def test_stale_socket_is_replaced(self):
        folder = self.folder()
        daemon = takt.Daemon(folder)
        daemon.kill()
        self.assertTrue(os.path.exists(f"{folder}/control"))
        again = self.daemon(folder=folder)
        self.assertTrue(again.status()["ok"])

    def test_folder_is_locked_as_long_as_the_daemon_lives(self):
        daemon = takt.Daemon(self.folder())
        with open(f"{daemon.dir}/lock") as lock:
            with self.assertRaises(BlockingIOError):
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            daemon.kill()
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)

    def test_link_in_the_locks_place_is_not_followed(self):
        folder = self.folder()
        os.symlink(f"{folder}/elsewhere", f"{folder}/lock")
        code, _, err = taktd("--dir", folder)
        self.assertEqual((code, err.count("\n")), (1, 1))
        self.assertFalse(os.path.exists(f"{folder}/elsewhere"))

    def test_unit_starts_what_is_there(self):
        with open(f"{os.environ['TAKT_ROOT']}/deploy/taktd.service.in") as file:
            unit = dict(line.strip().split("=", 1) for line in file if "=" in line)
        program, *args = unit["ExecStart"].split()
        self.assertEqual((os.path.basename(program), args), ("taktd", ["--dir", "/run/takt"]))
        self.assertEqual(f"/run/{unit['RuntimeDirectory']}", "/run/takt")
        # Agents outlive the daemon: their sockets' folders must, too.
        self.assertEqual((unit["RuntimeDirectoryPreserve"], unit["Restart"]), ("restart", "always"))


if __name__ == "__main__":
    unittest.main(warnings="ignore")
