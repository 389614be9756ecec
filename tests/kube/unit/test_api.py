"""The client of the API server, as a process of its own (api_client.c), against a server of the test's."""
import json
import os
import queue
import shutil
import subprocess
import tempfile
import threading
import unittest

from apiserver import ApiServer, pod

BUILD = os.environ["TAKT_BUILD"]
PODS = "/api/v1/pods?fieldSelector=spec.nodeName%3Dn1"


class Client:
    def __init__(self, server, ca=None, token=None):
        self.process = subprocess.Popen([f"{BUILD}/tests/kube/unit/api-client", server.url, ca or server.ca, token or server.token],
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        self.said, self.log = queue.Queue(), queue.Queue()
        self.readers = [threading.Thread(target=lambda s=stream, t=to: [t.put(line) for line in s], daemon=True)
                        for stream, to in ((self.process.stdout, self.said), (self.process.stderr, self.log))]
        for reader in self.readers:
            reader.start()

    def order(self, *words):
        self.process.stdin.write(json.dumps(words) + "\n")
        self.process.stdin.flush()

    def hear(self):
        return json.loads(self.said.get(timeout=20))

    def ask(self, verb, path, body=None, kind=None):
        self.order("ask", verb, path, kind, body)
        word, status, body, error = self.hear()
        assert word == "answer", word
        return status, body, error

    def hear_all(self, last):
        """Words up to the one."""
        heard = []
        while not heard or heard[-1][0] != last:
            heard.append(self.hear())
        return heard

    def hear_log(self):
        return self.log.get(timeout=20)

    def stop(self):
        self.process.stdin.close()
        code = self.process.wait(10)
        for reader in self.readers:
            reader.join()
        self.process.stdout.close()
        self.process.stderr.close()
        return code


def names(heard):
    return [(word[0], word[1]["metadata"]["name"]) for word in heard if isinstance(word[-1], dict)]


class Api(unittest.TestCase):
    def setUp(self):
        self.dir = tempfile.mkdtemp(prefix="takt-api-")
        self.addCleanup(shutil.rmtree, self.dir, True)
        self.server = ApiServer(self.dir)
        self.client = Client(self.server)

    def tearDown(self):
        self.assertEqual(self.client.stop(), 0)
        self.server.stop()

    def test_asks_and_is_answered(self):
        self.assertEqual(self.client.ask("POST", "/echo", {"a": "ä" * 5000}), (200, {"a": "ä" * 5000}, ""))
        self.assertEqual(self.client.ask("GET", "/nothing")[::2], (404, "404: /nothing not found"))
        self.assertEqual({self.server.seen.get()[2] for _ in range(2)}, {"sesame"})

    def test_many_at_once_and_no_more(self):
        """Each is answered once or refused; while the server answers nobody, those past the first ones are."""
        answers = threading.Event()
        self.server.fault = lambda *_: not answers.wait(20)
        for i in range(100):
            self.client.order("ask", "POST", "/echo", None, {"n": i})
        refused = [self.client.hear() for _ in range(40)]
        self.assertEqual({h[0] for h in refused}, {"no"})
        answers.set()
        heard = [self.client.hear() for _ in range(60)]
        answered = sorted(h[2]["n"] for h in heard if h[0] == "answer")
        self.assertLessEqual({h[0] for h in heard}, {"answer", "no"})
        self.assertEqual(answered[:40], list(range(40)))
        self.assertEqual(sorted(set(answered)), answered)
        self.assertEqual(self.client.ask("POST", "/echo", {"n": 0})[0], 200)

    def test_a_new_token_is_used(self):
        with open(self.server.token, "w") as file:
            file.write("another")
        self.assertEqual(self.client.ask("POST", "/echo", {})[0], 200)
        with open(self.server.token, "w") as file:
            file.write("two\nlines")
        status, _, error = self.client.ask("POST", "/echo", {})
        self.assertEqual((status, error), (0, f"{self.server.token}: is no token"))

    def test_an_idle_connection_that_was_given_up_is_not_missed(self):
        def close(handler, _):
            handler.n_asked = getattr(handler, "n_asked", 0) + 1
            handler.close_connection = handler.n_asked == 2     # without a word: as if it had been closed just before
            return handler.close_connection
        self.server.fault = close
        for _ in range(5):
            self.assertEqual(self.client.ask("POST", "/echo", {})[0], 200)

    def test_nonsense_and_silence_have_a_reason_and_are_said_once(self):
        def garbage(handler, _):
            handler.wfile.write(b"220 mail.example ESMTP\r\n")
            handler.close_connection = True
            return True

        def no_json(handler, _):
            return handler.answer(200, b"<html>") or True

        def huge(handler, _):
            handler.send_response(200)
            handler.send_header("Content-Length", str(5 << 20))
            handler.end_headers()
            handler.wfile.write(bytes(5 << 20))
            return True

        def cut(handler, _):
            handler.send_response(200)
            handler.send_header("Content-Length", "100")
            handler.end_headers()
            handler.close_connection = True
            return True
        for self.server.fault, why in ((garbage, "its answer is no HTTP"), (no_json, "its answer is no JSON"),
                                       (huge, "its answer is too large"), (cut, "the connection")):
            status, body, error = self.client.ask("GET", "/x")
            self.assertEqual((status, body), (0, None))
            self.assertIn(why, error + " the connection" if self.server.fault is cut else error)
        self.server.fault = None
        self.assertEqual(self.client.ask("POST", "/echo", {})[0], 200)
        self.assertIn("its answer is no HTTP; until it answers", self.client.hear_log())
        self.assertIn("answers again", self.client.hear_log())
        self.assertTrue(self.client.log.empty())

    def test_a_server_that_is_gone_and_comes_back(self):
        self.server.stop()
        self.assertEqual(self.client.ask("GET", "/x"), (0, None, "Connection refused"))
        self.server = ApiServer(self.dir, self.server.port)
        self.assertEqual(self.client.ask("POST", "/echo", {})[0], 200)

    def test_a_stranger_is_not_believed(self):
        other = f"{self.dir}/other"
        os.mkdir(other)
        stranger = ApiServer(other)
        self.addCleanup(stranger.stop)
        client = Client(stranger, ca=self.server.ca)
        status, _, error = client.ask("GET", "/x")
        self.assertEqual(status, 0)
        self.assertIn("certificate", error)
        self.assertTrue(stranger.seen.empty(), "the token was told to a stranger")
        shutil.copy(stranger.ca, self.server.ca)    # its certificates are replaced: read anew
        self.assertEqual(client.ask("POST", "/echo", {})[0], 200)
        client.stop()

    def test_a_certificate_of_another_host_is_not_believed(self):
        other = f"{self.dir}/other"
        os.mkdir(other)
        stranger = ApiServer(other, host="127.0.0.2")
        self.addCleanup(stranger.stop)
        client = Client(stranger)
        self.addCleanup(client.stop)
        status, _, error = client.ask("GET", "/x")
        self.assertEqual(status, 0)
        self.assertIn("certificate: IP address mismatch", error)

    def test_lists_in_pages_then_watches(self):
        for i in range(40):
            self.server.change("ADDED", pod(f"p{i:02}"))
        self.client.order("watch", PODS)
        heard = self.client.hear_all("synced")
        self.assertEqual(heard[0], ["begin"])
        self.assertEqual(names(heard), [("listed", f"p{i:02}") for i in range(40)])
        self.server.change("MODIFIED", pod("p00"))
        self.server.change("DELETED", pod("p01"))
        self.server.change("ADDED", pod("q"))
        self.assertEqual(names(self.client.hear() for _ in range(3)), [("modified", "p00"), ("deleted", "p01"), ("added", "q")])

    def test_pages_are_made_smaller_where_objects_are_large(self):
        for i in range(8):
            self.server.change("ADDED", pod(f"p{i}", annotations={"x": "y" * (900 << 10)}))
        self.client.order("watch", PODS)
        self.assertEqual(names(self.client.hear_all("synced")), [("listed", f"p{i}") for i in range(8)])
        self.assertTrue(self.client.log.empty())

    def test_goes_on_where_it_was(self):
        self.client.order("watch", PODS)
        self.client.hear_all("synced")
        self.server.change("ADDED", pod("a"))
        self.assertEqual(names([self.client.hear()]), [("added", "a")])
        self.server.cut()
        self.server.change("ADDED", pod("b"))
        while (heard := self.client.hear())[0] == "lost":   # a stream that ended at once is waited for
            pass
        self.assertEqual(names([heard]), [("added", "b")])

    def test_lists_anew_what_was_forgotten(self):
        self.server.change("ADDED", pod("a"))
        self.client.order("watch", PODS)
        self.client.hear_all("synced")
        with self.server.lock:
            self.server.objects.clear()
        self.server.forget()
        self.server.cut()
        heard = self.client.hear_all("synced")
        self.assertEqual((names(heard), heard[-2:]), ([], [["begin"], ["synced"]]))
        self.server.change("ADDED", pod("b"))
        self.assertEqual(names([self.client.hear()]), [("added", "b")])

    def test_refused_said_once_and_watched_again(self):
        self.server.fault = lambda handler, url: handler.refuse(403, "pods is forbidden") or True
        self.client.order("watch", PODS)
        self.assertEqual(self.client.hear_all("lost")[-1], ["lost", "403: pods is forbidden"])
        self.client.hear_all("lost")
        self.server.fault = None
        self.client.hear_all("synced")
        self.server.change("ADDED", pod("a"))
        self.assertEqual(names([self.client.hear()]), [("added", "a")])
        self.assertEqual(self.client.hear_log(), f"taktd: API server: {PODS}: 403: pods is forbidden\n")
        self.assertEqual(self.client.hear_log(), f"taktd: API server: {PODS} is watched again\n")
        self.assertTrue(self.client.log.empty())

    def test_lies_in_the_stream(self):
        def lie(handler, url):
            if "watch" not in url.query:
                return False
            lines = lies.pop() if lies else None
            if lines is None:
                return False
            handler.send_response(200)
            handler.send_header("Transfer-Encoding", "chunked")
            handler.end_headers()
            for line in lines:
                handler.wfile.write(b"%x\r\n%s\r\n" % (len(line), line))
            return True
        lies = [[b"not JSON\n"], [b'{"type":"ADDED","object":7}\n'], [b'{"type":"ADDED","object":{}}\n'], [b'{"type":"STRANGE","object":{"metadata":{"resourceVersion":"1"}}}\n'],
                [b'{"type":"ADDED","object":{"metadata":{"resourceVersion":"1&watch=false"}}}\n'],
                [b'{"type":"ERROR","object":{"code":500,"message":"ill"}}\n'], [b"x" * (1 << 20)] * 5 + [b"\n", b'{"type":"ERROR","object":{"code":410}}\n']]
        n = len(lies)
        self.server.fault = lie
        self.server.change("ADDED", pod("a"))
        self.client.order("watch", PODS)
        for _ in range(n + 1):
            self.assertEqual(names(self.client.hear_all("synced")), [("listed", "a")])
        self.server.change("ADDED", pod("b"))
        self.assertEqual(names([self.client.hear()]), [("added", "b")])
        log = [self.client.hear_log() for _ in range(3)]
        self.assertIn("an object of more than 4 MiB, or 65536 values, is left out", log[0])
        self.assertIn("500: ill", log[1])
        self.assertIn("is watched again", log[2])
        self.assertTrue(self.client.log.empty())

    def test_forgotten_asks_are_not_answered(self):
        held = threading.Event()
        self.addCleanup(held.set)
        self.server.fault = lambda handler, url: held.wait(20) and False
        for _ in range(5):
            self.client.order("ask", "POST", "/echo", None, {})
        self.client.order("watch", PODS)
        self.server.seen.get(timeout=10)
        self.client.order("forget")
        self.assertEqual(self.client.hear_all("forgotten"), [["begin"], ["forgotten"]])
        held.set()
        self.server.fault = None
        self.assertEqual(self.client.ask("POST", "/echo", {"last": 1}), (200, {"last": 1}, ""))


if __name__ == "__main__":
    unittest.main()
