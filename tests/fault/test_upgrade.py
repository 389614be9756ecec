"""6: the daemon and the library are replaced while tenants run, as `takt run` and a new daemon do it."""
import os
import shutil
import signal
import subprocess
import tempfile
import threading
import unittest

import takt
from takt import until
from behind import HOST, SIMGPU, TOOL

TAKT = f"{takt.BUILD}/src/cli/takt"


class Upgrade(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.mkdtemp(prefix="takt-upgrade-")
        self.addCleanup(shutil.rmtree, self.folder)
        self.env = dict(os.environ, TAKT_DIR=f"{self.folder}/takt", SIMGPU_NAME=f"simgpu-upgrade-{os.getpid()}", SIMGPU_KERNEL_US="50",
                        LD_LIBRARY_PATH=os.path.dirname(SIMGPU))
        self.addCleanup(subprocess.run, [TOOL, "reset"], env=self.env)
        self.start_daemon()
        self.addCleanup(lambda: self.daemon.stop())   # the one of then, not of now

    def start_daemon(self):
        self.daemon = takt.Daemon(self.env["TAKT_DIR"], env=self.env)

    def run_crowd(self):
        run = subprocess.Popen([TAKT, "run", "--", HOST, "crowd"], env=self.env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
                               bufsize=1)
        self.assertEqual(run.stdout.readline(), "rounds\n")
        with open(f"/proc/{run.pid}/task/{run.pid}/children") as children:
            run.agent = int(children.read())
        self.addCleanup(self.end, run)
        return run

    def end(self, run):
        os.kill(run.agent, signal.SIGKILL)
        run.kill()
        run.wait()
        run.stdin.close()
        run.stdout.close()

    def goes_on(self, run):
        run.stdin.write("\n")
        self.assertEqual(run.stdout.readline(), "rounds\n")

    def library(self, run):
        with open(f"/proc/{run.agent}/maps") as maps:
            return {line.split()[4]: line.endswith("(deleted)\n") for line in maps if "/lib/libcuda.so.1" in line}

    def test_library_is_replaced_under_a_process_that_has_it(self):
        old = self.run_crowd()
        os.kill(old.pid, signal.SIGKILL)   # nobody is left who would register it again
        old.wait()
        self.daemon.process.terminate()
        self.assertEqual(self.daemon.process.wait(20), 0)
        self.start_daemon()
        new = self.run_crowd()   # of the same seat, and so of the same folder
        until(self, lambda: [(t["tenant"], t["processes"]) for t in self.daemon.status()["tenants"]], [(0, 2)], never_s=60)
        for _ in range(3):
            self.goes_on(old)
            self.goes_on(new)
        self.assertEqual(set(self.library(old).values()), {True})
        self.assertEqual(set(self.library(new).values()), {False})
        self.assertFalse(set(self.library(old)) & set(self.library(new)))

    def test_library_is_whole_at_all_times(self):
        self.assertEqual(subprocess.run([TAKT, "run", "--", "true"], env=self.env).returncode, 0)
        places = [f"{self.daemon.dir}/t0/lib/{name}" for name in sorted(os.listdir(f"{self.daemon.dir}/t0/lib"))]
        sizes, seen, stop = [os.stat(place).st_size for place in places], set(), threading.Event()

        def look():
            while not stop.is_set():
                try:
                    seen.add(tuple(os.stat(place).st_size for place in places))
                except FileNotFoundError as error:
                    seen.add(error.filename)
        looker = threading.Thread(target=look)
        looker.start()
        for _ in range(20):
            self.assertEqual(subprocess.run([TAKT, "run", "--", "true"], env=self.env).returncode, 0)
        stop.set()
        looker.join()
        self.assertEqual(len(places), 4)
        self.assertEqual(seen, {tuple(sizes)})
        self.assertEqual(sorted(os.listdir(f"{self.daemon.dir}/t0/lib")), [os.path.basename(place) for place in places])


if __name__ == "__main__":
    unittest.main(warnings="ignore")
