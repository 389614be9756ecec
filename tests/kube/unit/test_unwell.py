"""An API server that is slow, gone or lies in every way: a deadline, a growing wait, a bounded memory, and one line in the log
when it begins and one when it is over."""
import os
import select
import shutil
import socket
import sys
import tempfile
import unittest

from apiserver import ApiServer, pod
from test_api import PODS, Client, names
from test_interop import BUILD, GPUS
from wished import Wished

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../node"))
from takt import Session  # noqa: E402


FLOOD = 64 << 20    # bytes: far more than anybody may keep
RSS_MAX = 32 << 20


def begin(handler, *headers):
    handler.wfile.write(b"".join(h + b"\r\n" for h in (b"HTTP/1.1 200 OK", *headers)))


def begin_stream(handler):
    begin(handler, b"Transfer-Encoding: chunked", b"")


def say_no_more(handler):
    """Until the client goes."""
    handler.wfile.flush()
    with handler.api.lock:
        handler.api.held.append(handler.connection)
    handler.rfile.read(1)


def flood(handler, piece):
    """Then nothing."""
    piece *= (1 << 16) // len(piece)
    for _ in range(FLOOD // len(piece)):
        handler.wfile.write(piece)
    say_no_more(handler)


def silent(handler):
    say_no_more(handler)


def ends(handler):
    pass


def byte_by_byte(handler):
    begin(handler, b"Content-Length: 1000000", b"")
    while not select.select([handler.connection], [], [], 0.01)[0]:
        handler.wfile.write(b" ")


def headers(handler):
    begin(handler)
    flood(handler, b"X: y\r\n")


def a_header(handler):
    begin(handler, b"X: y")
    flood(handler, b"y")


def interim_answers(handler):
    flood(handler, b"HTTP/1.1 100 Continue\r\n\r\n")


def a_body(handler):
    begin(handler, b"")
    flood(handler, b"x")


def ends_each_stream(handler):
    begin_stream(handler)
    handler.wfile.write(b"0\r\n\r\n")


def tells_and_ends(handler):
    begin_stream(handler)
    handler.line({"type": "BOOKMARK", "object": {"metadata": {"resourceVersion": str(handler.api.version)}}})
    handler.wfile.write(b"0\r\n\r\n")


def half_a_change(handler):
    begin_stream(handler)
    while not select.select([handler.connection], [], [], 0.01)[0]:
        handler.wfile.write(b"1\r\n{\r\n")


def a_line(handler):
    begin_stream(handler)
    flood(handler, b"40\r\n" + b"x" * 64 + b"\r\n")


def a_chunks_size(handler):
    begin_stream(handler)
    handler.wfile.write(b"1;")
    flood(handler, b"x")


def forgets(handler):
    handler.refuse(410, "gone")


def bomb(handler):
    """JSON of 4 MB, as a tree 180 MB."""
    handler.answer(200, b"[" + b"[]," * 1390000 + b"[]]")


def dear(handler):
    """As many values and bytes as are taken."""
    handler.answer(200, b'{"x":"' + b"x" * 3900000 + b'","y":[' + b'{"a":0},' * 32000 + b"0]}")


def pages(handler):
    handler.answer(200, {"metadata": {"resourceVersion": "1", "continue": "more"}, "items": []})


def a_long_word_for_the_next_page(handler):
    handler.answer(200, {"metadata": {"resourceVersion": "1", "continue": "x" * (1 << 20)}, "items": []})


def does(fault, only_streams=False):
    def wrong(handler, url):
        if only_streams and "watch" not in url.query:
            return False
        handler.close_connection = fault not in (forgets, bomb, dear, pages)
        fault(handler)
        return True
    return wrong


def peak_bytes(pid):
    with open(f"/proc/{pid}/status") as status:
        return next(int(line.split()[1]) << 10 for line in status if line.startswith("VmHWM"))


def is_sanitized(path):
    with open(path, "rb") as program:
        return b"__asan" in program.read()


class UnwellClient(unittest.TestCase):
    def setUp(self):
        self.dir = tempfile.mkdtemp(prefix="takt-unwell-")
        self.addCleanup(shutil.rmtree, self.dir, True)
        self.server = ApiServer(self.dir)
        self.addCleanup(lambda: self.server.stop())
        self.server.change("ADDED", pod("a"))

    def begin_watch(self, server):
        client = Client(server)
        self.addCleanup(client.stop)
        client.order("patience", 500)
        client.order("watch", PODS)
        return client

    def told_twice(self, client, ill, well, tries=4):
        """Once it was ill for a while, and once it is well."""
        for _ in range(tries):
            while client.hear()[0] != "lost":
                pass
        self.assertIn(ill, client.log.get(timeout=20))
        self.assertTrue(client.log.empty(), "it is said once")
        if not is_sanitized(f"{BUILD}/tests/kube/unit/api-client"):
            self.assertLess(peak_bytes(client.process.pid), RSS_MAX)
        self.server.fault = None
        self.assertIn(well, client.log.get(timeout=20))
        self.server.change("ADDED", pod("late"))
        while names([client.hear()]) != [("added", "late")]:
            pass
        self.server.change("DELETED", pod("late"))
        self.assertTrue(client.log.empty())

    def test_nothing_but_nonsense(self):
        for fault, why in ((silent, "no answer in time"), (byte_by_byte, "no answer in time"), (ends, "ended the connection"),
                           (headers, "no HTTP"), (a_header, "no HTTP"), (interim_answers, "no HTTP")):
            with self.subTest(fault.__name__):
                self.server.fault = does(fault)
                self.told_twice(self.begin_watch(self.server), why, "answers again")

    def test_a_server_that_takes_the_connection_and_says_nothing(self):
        self.server.stop()
        mute = socket.create_server(("127.0.0.1", self.server.port))
        client = self.begin_watch(self.server)
        for _ in range(3):
            self.assertEqual(client.hear_all("lost")[-1], ["lost", "no answer in time"])
        mute.close()
        self.server = ApiServer(self.dir, self.server.port)
        client.hear_all("synced")
        self.assertIn("no answer in time; until it answers", client.log.get(timeout=20))
        self.assertIn("answers again", client.log.get(timeout=20))
        self.assertTrue(client.log.empty())

    def test_lists_that_are_none(self):
        for fault, why in ((a_body, "too large"), (bomb, "too large"), (dear, "its list is none"), (pages, "no end"), (a_long_word_for_the_next_page, "its list is none")):
            with self.subTest(fault.__name__):
                self.server.fault = does(fault)
                self.told_twice(self.begin_watch(self.server), why, "is watched again", tries=2 if fault is pages else 4)

    def test_streams_that_are_none(self):
        for fault, why, well in ((silent, "no answer in time", "answers again"), (headers, "is no watch", "watched again"),
                                 (ends_each_stream, "ended at once", "watched again"), (tells_and_ends, "ended at once", "watched again"), (half_a_change, "did not come whole", "watched again"),
                                 (a_line, "did not come whole", "watched again"), (a_chunks_size, "is no watch", "watched again"),
                                 (forgets, "forgets at once", "watched again")):
            with self.subTest(fault.__name__):
                self.server.fault = does(fault, only_streams=True)
                self.told_twice(self.begin_watch(self.server), why, well)

    def test_who_is_answered_does_not_hide_who_is_not(self):
        for which in "watch=true", "limit=":    # the streams; the lists
            with self.subTest(which):
                self.server.fault = lambda handler, url, which=which: which in url.query and does(silent)(handler, url)
                client = self.begin_watch(self.server)
                for _ in range(3):
                    client.order("ask", "POST", "/echo", None, {})
                    heard = [client.hear(), client.hear()]
                    while not {"answer", "lost"} <= {word[0] for word in heard}:
                        heard.append(client.hear())
                self.assertIn("no answer in time", client.log.get(timeout=20))
                self.assertTrue(client.log.empty())

    def test_objects_that_are_too_large_are_left_out(self):
        """Of too many bytes, of too many values: the others are there, and the log names none at each change."""
        self.server.change("ADDED", pod("b", annotations={"x": "y" * (5 << 20)}))
        self.server.change("ADDED", pod("c", annotations={str(i): "" for i in range(70000)}))
        self.server.change("ADDED", pod("d"))
        client = self.begin_watch(self.server)
        self.assertEqual(names(client.hear_all("synced")), [("listed", "a"), ("listed", "d")])
        self.assertIn("65536 values, is left out", client.log.get(timeout=20))
        for name, annotations in (("b", {"x": "y" * (5 << 20)}), ("c", {str(i): "" for i in range(70000)}), ("d", {})):
            self.server.change("MODIFIED", pod(name, annotations=annotations))
        self.assertEqual(names([client.hear()]), [("modified", "d")])
        self.assertTrue(client.log.empty())


class UnwellDaemon(Wished):
    """Meanwhile slots are given, and their tenants are served."""

    def serves(self, number):
        _, mounts = self.plugin.allocate(self.slot(number))
        session = Session(mounts["/run/takt"] + "/join", bytes.fromhex(GPUS[0].replace("-", "")))
        self.addCleanup(session.close)
        session.take()

    def begin(self, fault, only_streams=False):
        self.server.change("ADDED", pod("a", annotations={"takt.dev/memory": "1Gi"}))
        self.server.fault = does(fault, only_streams)
        self.start(wait=False, promise="takt: {class: fair, memory: 2Gi}")
        self.plugin.watch()     # or it would register anew
        self.serves(0)

    def await_tries(self, n, what):
        for _ in range(n):
            while what not in self.server.seen.get(timeout=60)[1]:
                pass

    def heal(self, well):
        """Not a word before."""
        if not is_sanitized(f"{BUILD}/src/node/taktd"):
            self.assertLess(peak_bytes(self.daemon.pid), RSS_MAX)
        self.serves(1)
        self.server.fault = None
        self.server.hang_up()
        self.kubelet.pods = {("default", "a", "c0"): [self.slot(0)]}
        said = []
        while well not in (line := self.log.get(timeout=60)):
            said.append(line)
        self.assertEqual([line for line in said if "API server" in line], [])
        self.assertIn("memory 1 GiB", self.event("Promised", "a"))

    def test_a_silent_server(self):
        self.begin(silent)
        self.logged("no answer in time; until it answers")
        self.await_tries(3, PODS)
        self.heal("answers again")

    def test_a_server_that_ends_each_stream_at_once(self):
        self.begin(ends_each_stream, only_streams=True)
        self.logged("its stream ended at once")
        self.await_tries(3, "watch=true")
        self.heal("is watched again")

    def test_a_stream_without_an_end(self):
        self.begin(a_line, only_streams=True)
        self.logged("a change did not come whole in time")
        self.heal("is watched again")


if __name__ == "__main__":
    unittest.main()
