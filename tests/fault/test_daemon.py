"""The daemon dies, comes back, or finds its places taken: its tenants find it again."""
import contextlib
import ctypes
import os
import shutil
import signal
import subprocess
import unittest

import takt
from takt import until
from agent import Agent

PROMISE = {"slo_ns": 200e6, "share_ppm": 200000}
OTHER_UID = 65534
CLONE_NEWPID, PR_SET_PDEATHSIG = 0x20000000, 1
CAN_UNSHARE = os.geteuid() == 0 and subprocess.run(["unshare", "-p", "-f", "true"], capture_output=True).returncode == 0


def register_as(daemon, uid):
    """A tenant of another user; the connection is closed, so that the tenant ends at once."""
    pid = os.fork()
    if pid == 0:
        os.setuid(uid)
        with daemon.control() as s:
            answer = daemon.ask(s, op="register", name="other", **PROMISE)
            path = answer["join"]
            os.unlink(path)
            os.makedirs(f"{path}/in/the/way")
            os._exit(0 if answer["ok"] else 1)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def forked(path):
    session = takt.Session(path)
    session.take()
    session.busy()
    if os.fork() == 0:   # it keeps the socket
        while True:
            signal.pause()
    return session


def in_a_namespace(path):
    """The same, by the first process of a new namespace, which ends with the agent."""
    said, wrote = os.pipe()
    libc = ctypes.CDLL(None)
    assert libc.unshare(CLONE_NEWPID) == 0
    if os.fork() == 0:
        libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        kept = forked(path)
        os.write(wrote, b"1")
        while kept:
            signal.pause()
    assert os.read(said, 1) == b"1"


def end(pid):
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def waits_with(case, daemon, prefix=()):
    """What one says that is started for pods in the same folder, before it waits."""
    process = subprocess.Popen([*prefix, f"{takt.BUILD}/src/node/taktd", "--dir", daemon.dir, "--kube", "none"], stderr=subprocess.PIPE, text=True)
    case.addCleanup(process.stderr.close)
    case.addCleanup(process.wait, 10)
    case.addCleanup(process.kill)
    return process.stderr.readline()


class Case(unittest.TestCase):
    def setUp(self):
        self.daemon = takt.Daemon()
        self.addCleanup(lambda: self.daemon.stop())   # the one of then, not of now


class Daemon(Case):
    def test_killed_and_rejoined_again_and_again(self):
        answers = [self.daemon.tenant(name, **PROMISE).answer for name in "ab"]
        for _ in range(5):
            sessions = [takt.Session(answer["join"]) for answer in answers]
            sessions[0].take()
            sessions[0].busy()
            sessions[1].want()
            self.daemon.kill()
            for session in sessions:
                self.assertEqual(session.socket.recv(1), b"")
                session.close()
            self.daemon = takt.Daemon(self.daemon.dir)
            answers = [self.daemon.tenant(name, reclaim=answer["tenant"], **PROMISE).answer
                       for name, answer in reversed(list(zip("ab", answers)))][::-1]
        a, b = (takt.Session(answer["join"]) for answer in answers)
        a.take()
        b.take()

    def test_folder_in_the_way_is_put_aside(self):
        for name in ("join", "requests"):
            os.makedirs(f"{self.daemon.dir}/t0/{name}/in/the/way", exist_ok=True)
            for n in range(300):   # whatever number comes next, it cannot be known
                os.makedirs(f"{self.daemon.dir}/t0/{name}.{n}/too", exist_ok=True)
        tenant = self.daemon.tenant(**PROMISE)
        self.assertTrue(tenant.answer["ok"])
        tenant.requests().close()
        self.assertEqual(tenant.join().take(), "free")

    def test_link_in_the_way_is_not_followed(self):
        os.makedirs(f"{self.daemon.dir}/t0")
        with open(f"{self.daemon.dir}/mine", "w") as mine:
            os.fchmod(mine.fileno(), 0o644)
        os.symlink(f"{self.daemon.dir}/mine", f"{self.daemon.dir}/t0/join")
        self.assertEqual(self.daemon.tenant(**PROMISE).join().take(), "free")
        self.assertEqual(os.stat(f"{self.daemon.dir}/mine").st_mode & 0o777, 0o644)

    @unittest.skipUnless(os.geteuid() == 0, "only root serves several users")
    def test_folder_of_another_user_is_taken_back(self):
        os.chmod(self.daemon.dir, 0o755)
        self.assertEqual(register_as(self.daemon, OTHER_UID), 0)
        again = self.daemon.tenant(**PROMISE)
        self.assertTrue(again.answer["ok"])
        self.assertEqual(os.stat(again.answer["dir"]).st_uid, 0)
        self.assertEqual(again.join().take(), "free")


class TwoDaemons(Case):
    """33: one daemon a folder, whoever comes when."""

    def start(self, n):
        """So many at once: the one that is ready, and what the others said."""
        ready, wrote = os.pipe()
        started = [subprocess.Popen([f"{takt.BUILD}/src/node/taktd", "--dir", self.daemon.dir, "--device", takt.A_DEVICE,
                                     "--ready", str(wrote)], pass_fds=[wrote], stderr=subprocess.PIPE, text=True) for _ in range(n)]
        os.close(wrote)
        for process in started:
            self.addCleanup(process.kill)
        with os.fdopen(ready, "rb", buffering=0) as answers:
            said = b"".join(answers.read(1) for _ in range(n))
        return started, said

    def refused(self, processes):
        for process in processes:
            self.assertEqual(process.communicate(timeout=20)[1], f"taktd: {self.daemon.dir}: a daemon is running there already\n")
            self.assertEqual(process.returncode, 75)

    def test_one_that_runs_stays_the_one(self):
        session = self.daemon.tenant(**PROMISE).join()
        for stopped in (False, True):   # one that is stopped is there as well
            if stopped:
                self.daemon.process.send_signal(signal.SIGSTOP)
            started, said = self.start(4)
            self.assertEqual(said, b"0000")
            self.refused(started)
        self.daemon.process.send_signal(signal.SIGCONT)
        self.assertEqual(session.take(), "free")
        self.assertEqual(self.daemon.status()["pid"], self.daemon.process.pid)

    def test_of_many_at_once_one_takes_the_place_of_one_that_died(self):
        for _ in range(5):
            self.daemon.kill()
            started, said = self.start(6)
            self.assertEqual(sorted(said), sorted(b"000001"))
            pid = self.daemon.status()["pid"]
            self.refused(p for p in started if p.pid != pid)
            [self.daemon.process] = [p for p in started if p.pid == pid]
            self.assertEqual(self.daemon.tenant(**PROMISE).join().take(), "free")
            self.daemon.process.stderr.close()

    def test_one_that_waits_names_the_one_it_waits_for(self):
        waits = f"taktd: waits for the end of the daemon in {self.daemon.dir}"
        self.assertEqual(waits_with(self, self.daemon), f"{waits} (process {self.daemon.process.pid})\n")
        if CAN_UNSHARE:   # where its number means nothing it has none
            self.assertEqual(waits_with(self, self.daemon, ("unshare", "-p", "-f", "--kill-child", "--mount-proc")), waits + "\n")


@unittest.skipUnless(CAN_UNSHARE, "no pid namespaces here")
class Namespaces(unittest.TestCase):
    """22: daemon and tenants do not see each other's processes. Identity is the user's and the path's; life is the kernel's own name."""

    def serve(self, prefix=()):
        daemon = takt.Daemon(prefix=prefix)
        self.addCleanup(shutil.rmtree, daemon.dir, ignore_errors=True)
        self.addCleanup(daemon.kill)
        return daemon

    def killed_holder_passes_the_device_on(self, daemon, agent):
        """Though its child lives, and has its socket."""
        good = daemon.tenant("good", **PROMISE).join()
        with open(f"/proc/{agent.pid}/task/{agent.pid}/children") as children:
            for child in children.read().split():
                self.addCleanup(end, int(child))
        good.want()
        agent.kill()
        good.await_gate("open", "free")
        until(self, lambda: {t["name"]: t["processes"] for t in daemon.status()["tenants"]}, {"bad": 0, "good": 1})

    def test_daemon_in_a_namespace_of_its_own(self):
        daemon = self.serve(("unshare", "-p", "-f", "--kill-child"))
        bad = daemon.tenant("bad", **PROMISE)
        self.killed_holder_passes_the_device_on(daemon, Agent(bad.answer["join"], forked))

    def test_tenants_in_a_namespace_of_their_own(self):
        daemon = self.serve()
        bad = daemon.tenant("bad", **PROMISE)
        self.killed_holder_passes_the_device_on(daemon, Agent(bad.answer["join"], in_a_namespace))


if __name__ == "__main__":
    unittest.main(warnings="ignore")
