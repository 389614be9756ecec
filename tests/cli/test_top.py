"""takt status and takt top beside a real daemon, on a terminal and without one."""
import fcntl
import json
import os
import pty
import re
import signal
import struct
import subprocess
import termios
import unittest

import takt

TAKT = f"{takt.BUILD}/src/cli/takt"
PROMISE = {"slo_ns": 200e6, "share_ppm": 200000}


class Terminal:
    """takt top on a terminal of the test's own."""

    def __init__(self, env, columns=80, rows=24):
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            fcntl.ioctl(0, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
            os.execve(TAKT, [TAKT, "top"], env)
        self.text = b""

    def picture(self):
        """The next one, whole, as lines."""
        while b"\x1b[J" not in self.text:
            self.text += os.read(self.fd, 65536)
        picture, _, self.text = self.text.partition(b"\x1b[J")
        return [re.sub(r"\x1b\[\w*[HJK]", "", line) for line in picture.decode().split("\x1b[H")[-1].splitlines()]

    def rest(self):
        try:
            while part := os.read(self.fd, 65536):
                self.text += part
        except OSError:   # a terminal's end
            pass
        return self.text.decode()

    def ends(self):
        self.rest()
        code = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        os.close(self.fd)
        return code

    def echoes(self):
        return bool(termios.tcgetattr(self.fd)[3] & termios.ECHO)


class Top(unittest.TestCase):
    def setUp(self):
        self.daemon = takt.Daemon()
        self.addCleanup(self.daemon.stop)
        self.env = {**os.environ, "TAKT_DIR": self.daemon.dir}

    def run_takt(self, *args):
        run = subprocess.run([TAKT, *args], capture_output=True, text=True, timeout=30, env=self.env)
        return run.returncode, run.stdout, run.stderr

    def test_status_is_the_daemons_own(self):
        session = self.daemon.tenant("chat", memory_bytes=8 << 30, **PROMISE).join()
        self.daemon.tenant("summariser", **{"class": "idle"})
        session.take()
        code, out, err = self.run_takt("status")
        self.assertEqual((code, err), (0, ""))
        device, head, chat, summariser = out.splitlines()
        self.assertRegex(device, r"^GPU 0 GPU: granted \d+\.\d %, idle \d+\.\d %, switching \d\.\d\d %, \d+ switches$")
        self.assertEqual(head.split()[:4], ["TENANT", "STATE", "HELD", "BUSY"])
        self.assertRegex(chat, r"^chat +holds +\d+\.\d% +0\.0% .* 0/8192 deadline +0 +0$")
        self.assertRegex(summariser, r"^summariser +idle +0\.0% +0\.0% .* 0/- idle +0 +0$")

    def test_json_is_what_the_daemon_said(self):
        self.daemon.tenant("chat", **PROMISE)
        code, out, _ = self.run_takt("status", "--json")
        self.assertEqual((code, out.count("\n")), (0, 1))
        told, asked = json.loads(out), self.daemon.status()
        for now in (told, asked):   # what moves
            del now["events"], now["devices"][0]["elapsed_ns"], now["devices"][0]["idle_ns"]
        self.assertEqual(told, asked)

    def test_answer_larger_than_any_buffer(self):
        with self.daemon.control() as s:
            for i in range(64):
                self.daemon.ask(s, op="register", name=f"{i}-" + "x" * 60, **{"class": "fair"})
            self.assertEqual(len(json.loads(self.run_takt("status", "--json")[1])["tenants"]), 64)
            self.assertEqual(len(self.run_takt("status")[1].splitlines()), 2 + 64)

    def test_hostile_names_are_only_shown(self):
        self.daemon.tenant("\x1b[2J\x1b]0;owned\x07", **{"class": "fair"})
        for command in ("status", "top", "advise"):
            out = self.run_takt(command)[1]
            self.assertNotIn("\x1b", out)
            self.assertIn("?[2J?]0;owned?", out)

    def test_top_without_a_terminal_is_status(self):
        self.daemon.tenant("chat", **PROMISE)
        self.assertEqual(self.run_takt("top")[1].splitlines()[1:], self.run_takt("status")[1].splitlines()[1:])

    def test_top_is_of_the_last_second(self):
        self.daemon.tenant("chat", **PROMISE)
        top = Terminal(self.env)
        first, second = top.picture(), top.picture()
        self.assertEqual((first[0], second[0]), ("Since the daemon started; q ends", "The last second; q ends"))
        for picture in (first, second):
            self.assertEqual(len(picture), 4)
            self.assertTrue(all(len(line) <= 80 for line in picture), picture)
            self.assertIn("WAIT p99 REQUESTS    MEMORY MiB", picture[2])
            self.assertTrue(picture[3].startswith("chat "))
        os.write(top.fd, b"q")
        self.assertEqual(top.ends(), 0)

    def test_counts_and_waits_are_of_the_last_second_too(self):
        tenants = [self.daemon.tenant(name, **PROMISE) for name in "ab"]
        a, b = (tenant.join() for tenant in tenants)

        def b_waits():
            a.take()
            a.busy()
            b.want()
            takt.until(self, lambda: self.daemon.status()["tenants"][1]["wants"], True)
            a.idle(busy_ns=3_000_000)
            b.await_gate("open")
            b.want(False)
            b.busy()
            b.idle()

        def b_asks(n):
            told = self.daemon.status()["tenants"][1]["requests"]
            with tenants[1].requests() as s:
                for i in range(n):
                    s.sendall(f'{{"event":"arrived","id":"{told + i}"}}\n{{"event":"finished","id":"{told + i}"}}\n'.encode())
                takt.until(self, lambda: self.daemon.status()["tenants"][1]["requests"], told + n)

        def seen(picture):
            _, _, _, _, p50, p99, requests, _, _, steps, overruns = picture[4].split()
            return p50, p99, requests, steps, overruns

        b_waits()
        b_asks(5)
        steps = self.daemon.status()["tenants"][1]["steps"]
        self.assertGreater(steps, 0)
        top = Terminal(self.env, 120)
        p50, p99, *counts = seen(top.picture())
        self.assertNotIn("-", (p50, p99))
        self.assertEqual(counts, ["5", str(steps), "0"])   # since it came
        self.assertEqual(seen(top.picture()), ("-", "-", "0", "0", "0"))
        b_asks(2)
        b_waits()
        waits, requests, steps = [], 0, 0
        while (requests, steps) != (2, 1):   # in one picture, or on both sides of one
            p50, _, *counts = seen(top.picture())
            waits.append(p50)
            requests, steps = requests + int(counts[0]), steps + int(counts[1])
            self.assertLess(len(waits), 10)
        self.assertEqual(len([p50 for p50 in waits if p50 != "-"]), 1, waits)
        self.assertEqual(seen(top.picture()), ("-", "-", "0", "0", "0"))
        os.write(top.fd, b"q")
        self.assertEqual(top.ends(), 0)

    def test_small_terminal_keeps_the_heading_and_says_how_many_do_not_fit(self):
        for name in "abcdefgh":
            self.daemon.tenant(name, **{"class": "fair"})
        for rows, shown, more in ((12, 8, None), (11, 6, "2 more do not fit"), (7, 2, "6 more do not fit"), (3, 0, "8 more do not fit")):
            top = Terminal(self.env, rows=rows)
            picture = top.picture()
            self.assertEqual(picture[0], "Since the daemon started; q ends")
            self.assertLess(len(picture), max(rows, 5), picture)   # the cursor is on the line below
            self.assertEqual(sum(line[:1] in "abcdefgh" for line in picture[1:]), shown, picture)
            self.assertEqual(picture[-1] if more else None, more)
            os.write(top.fd, b"q")
            self.assertEqual(top.ends(), 0)

    def test_wide_terminal_has_all_columns(self):
        top = Terminal(self.env, 120)
        self.assertTrue(top.picture()[2].endswith("OVERRUNS"))
        os.write(top.fd, b"xq")   # what means nothing is passed over
        self.assertEqual(top.ends(), 0)

    def test_keys_need_no_enter_and_the_terminal_is_given_back(self):
        for end in (lambda t: os.write(t.fd, b"q"), lambda t: os.write(t.fd, b"\x03"), lambda t: os.kill(t.pid, signal.SIGTERM)):
            holder, terminal = pty.openpty()
            before = termios.tcgetattr(terminal)
            top = subprocess.Popen([TAKT, "top"], env=self.env, stdin=terminal, stdout=terminal, start_new_session=True,
                                   preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0))
            view = Terminal.__new__(Terminal)
            view.fd, view.pid, view.text = holder, top.pid, b""
            view.picture()
            self.assertFalse(view.echoes())
            end(view)
            self.assertEqual(top.wait(20), 0)
            self.assertEqual(termios.tcgetattr(terminal), before)
            os.close(terminal)
            os.close(holder)

    def test_daemon_that_goes_ends_it_with_a_word(self):
        top = Terminal(self.env)
        top.picture()
        self.daemon.process.terminate()
        self.assertIn(f"takt: no daemon answers in {self.daemon.dir}: none is there; `takt run` starts one", top.rest())
        self.assertEqual(top.ends(), 69)

    def test_wrong_usage(self):
        for args, word in ((["status", "--all"], "--all"), (["status", "--json", "x"], "x"), (["top", "--json"], "--json"), (["top", "x"], "x")):
            self.assertEqual(self.run_takt(*args), (2, "", f"takt: unknown option: {word} (see takt {args[0]} --help)\n"))


if __name__ == "__main__":
    unittest.main(warnings="ignore")
