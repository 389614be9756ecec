"""The daemon dies, comes back, or finds its places taken: its tenants find it again."""
import os
import unittest

import takt

PROMISE = {"slo_ns": 200e6, "share_ppm": 200000}
OTHER_UID = 65534


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


class Daemon(unittest.TestCase):
    def setUp(self):
        self.daemon = takt.Daemon()
        self.addCleanup(lambda: self.daemon.stop())   # the one of then, not of now

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


if __name__ == "__main__":
    unittest.main(warnings="ignore")
