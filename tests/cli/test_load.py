"""takt load against servers of all habits: what it sends, what it counts, and what it says when nobody answers."""
import http.server
import json
import os
import signal
import socket
import subprocess
import tempfile
import threading
import unittest

BUILD = os.environ["TAKT_BUILD"]
TOKEN = b'data: {"choices":[{"text":"a"}]}\n\n'
USAGE = b'data: {"choices":[{"text":""}],"usage":{}}\n\ndata: [DONE]\n\n'


class Server(http.server.ThreadingHTTPServer):
    """Answers every request with answer(handler, body), and keeps what was asked."""
    request_queue_size = 256
    daemon_threads = True

    def __init__(self, answer):
        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(handler):
                body = json.loads(handler.rfile.read(int(handler.headers["content-length"])))
                self.asked.append((handler.requestline.split()[1],   # as it was sent
                                    handler.headers, body))
                answer(handler, body)

            def log_message(self, *_):
                pass
        super().__init__(("127.0.0.1", 0), Handler)
        self.asked = []
        threading.Thread(target=self.serve_forever, args=(.01,), daemon=True).start()
        self.url = f"http://127.0.0.1:{self.server_port}"


def say(handler, *parts, status=200):
    handler.send_response(status)
    handler.end_headers()
    for part in parts:
        handler.wfile.write(part)
        handler.wfile.flush()


def tokens(handler, body):
    say(handler, *[TOKEN] * body["max_tokens"], USAGE)


class Load(unittest.TestCase):
    def server(self, answer=tokens):
        server = Server(answer)
        self.addCleanup(server.server_close)
        self.addCleanup(server.shutdown)
        return server

    def load(self, url, *args, **env):
        run = subprocess.run([f"{BUILD}/src/cli/takt", "load", "--url", url, *args], capture_output=True, text=True, timeout=60,
                             env={**os.environ, **env})
        return run.returncode, run.stdout, run.stderr

    def measured(self, *args, **env):
        code, out, err = self.load(*args, "--json", **env)
        self.assertEqual((code, err), (0, ""))
        return json.loads(out)

    def folder(self):
        return self.enterContext(tempfile.TemporaryDirectory())

    def trace(self, text):
        path = f"{self.folder()}/trace"
        with open(path, "w") as file:
            file.write(text)
        return path

    def test_sends_what_the_trace_says(self):
        server = self.server()
        result = self.measured(server.url, "--trace", self.trace("0,3,2\n0,1,5\n0.01,4,1\n"))
        self.assertEqual(sorted((len(body["prompt"]), body["max_tokens"]) for _, _, body in server.asked), [(1, 5), (3, 2), (4, 1)])
        path, headers, body = server.asked[0]
        self.assertEqual((path, headers["content-type"], headers["expect"]), ("/v1/completions", "application/json", None))
        self.assertEqual((body["stream"], body["ignore_eos"]), (True, True))
        self.assertNotIn("model", body)
        self.assertEqual((result["requests"], result["failed"], result["ttft"]["n"], result["e2e"]["n"]), (3, 0, 3, 3))
        self.assertEqual(result["itl"]["n"], 1 + 4 + 0)   # every gap, not one figure an answer

    def test_json_has_its_shape(self):
        figure = {"n", "mean", "p50", "p95", "p99", "max", "jitter", "late"}
        result = self.measured(self.server().url, "--rate", "100", "--duration", "100ms")
        self.assertEqual(set(result), {"requests", "failed", "ttft", "itl", "e2e"})
        for name in ("ttft", "itl", "e2e"):
            self.assertEqual(set(result[name]), figure)
            self.assertLessEqual(result[name]["p50"], result[name]["p95"])
            self.assertLessEqual(result[name]["p99"], result[name]["max"])

    def test_table_has_the_figures(self):
        code, out, _ = self.load(self.server().url, "--rate", "100", "--duration", "100ms")
        self.assertEqual(code, 0)
        lines = out.splitlines()
        self.assertRegex(lines[0], r"^\d+ requests, 0 failed; ms from the scheduled time$")
        self.assertEqual(lines[1].split(), ["n", "mean", "p50", "p95", "p99", "max", "jitter", "late"])
        self.assertEqual([line.split()[0] for line in lines[2:]], ["ttft", "itl", "e2e"])
        self.assertEqual({len(line) for line in lines[1:]}, {len(lines[1])})

    def test_model_and_slash_and_speed(self):
        server = self.server()
        self.measured(server.url + "/", "--trace", self.trace("0,1,1\n1000,1,1\n"), "--speed", "100000", "--model", 'a "name"')
        self.assertEqual([(path, body["model"]) for path, _, body in server.asked], [("/v1/completions", 'a "name"')] * 2)

    def test_same_seed_same_prompts(self):
        prompts = []
        for seed in ("3", "3", "4"):
            server = self.server()
            self.measured(server.url, "--rate", "100", "--duration", "200ms", "--seed", seed)
            prompts.append(sorted(body["prompt"] for _, _, body in server.asked))
        self.assertEqual(prompts[0], prompts[1])
        self.assertNotEqual(prompts[0], prompts[2])

    def test_latency_counts_from_the_scheduled_time_and_load_is_open(self):
        """No answer comes before all were asked: a load that waited for answers would never end."""
        all_asked = threading.Barrier(20)

        def together(handler, body):
            all_asked.wait(30)
            tokens(handler, body)
        out = f"{self.folder()}/out"
        self.measured(self.server(together).url, "--trace", self.trace("".join(f"{i / 100},1,2\n" for i in range(20))), "--out", out)
        with open(out) as file:
            answers = [json.loads(line) for line in file]
        self.assertEqual(len(answers), 20)
        first = answers[0]["due_ns"]
        for i, a in enumerate(answers):
            self.assertAlmostEqual(a["due_ns"] - first, i * 10_000_000, delta=1)   # the trace's times, not those of sending
            self.assertGreaterEqual(a["sent_ns"], a["due_ns"])
            self.assertGreaterEqual(a["first_ns"], answers[-1]["sent_ns"])
            self.assertGreaterEqual(a["end_ns"], a["first_ns"])
            self.assertEqual((a["tokens"], a["failed"]), (2, 0))

    def test_proxy_is_not_asked(self):
        self.measured(self.server().url, "--trace", self.trace("0,1,1\n"), http_proxy="http://127.0.0.1:9", HTTP_PROXY="x")

    def test_traces_lie_in_their_folder(self):
        path = self.trace("0,1,1\n")
        server = self.server()
        self.measured(server.url, "--trace", "trace", TAKT_TRACES=os.path.dirname(path))
        self.measured(server.url, "--trace", path, TAKT_TRACES="/nowhere")
        code, out, err = self.load(server.url, "--trace", "absent", TAKT_TRACES=os.path.dirname(path))
        self.assertEqual((code, out, err), (2, "", "takt: absent: No such file or directory\n"))

    def test_broken_trace_is_said_with_its_line(self):
        path = self.trace("0,1,1\n1,-1,1\n")
        code, out, err = self.load("http://127.0.0.1:9", "--trace", path)
        self.assertEqual((code, out, err), (2, "", f"takt: {path}: line 2 is none of a trace (see takt-load(1))\n"))

    def test_check_counts_the_late_and_the_failed(self):
        server = self.server()
        args = (server.url, "--trace", self.trace("0,1,1\n"), "--check")
        self.assertEqual(self.load(*args, "--slo-ttft", "1m", "--slo-e2e", "1m")[0], 0)
        self.assertEqual(self.load(*args, "--slo-ttft", "1ns")[0], 1)
        self.assertEqual(self.load(*args, "--slo-e2e", "1ns")[0], 1)
        result = json.loads(self.load(*args, "--slo-ttft", "1ns", "--json")[1])
        self.assertEqual([result[f]["late"] for f in ("ttft", "itl", "e2e")], [1, 0, 0])
        half = self.server(lambda h, b: tokens(h, b) if b["max_tokens"] == 1 else say(h, b"no", status=500))
        trace = self.trace("0,1,1\n0,1,2\n")
        self.assertEqual(self.load(half.url, "--trace", trace, "--check")[0], 1)
        self.assertEqual(self.load(half.url, "--trace", trace)[0], 0)   # without --check it only tells

    def test_nobody_answers_and_why(self):
        with socket.socket() as closed:
            closed.bind(("127.0.0.1", 0))
            url = f"http://127.0.0.1:{closed.getsockname()[1]}"
            code, _, err = self.load(url, "--rate", "50", "--duration", "100ms")
        self.assertEqual((code, err), (69, f"takt: no request was answered by {url}: Couldn't connect to server\n"))
        for answer, why in ((lambda h, b: say(h, b"busy", status=503), "HTTP status 503"), (lambda h, b: say(h, USAGE), "an answer without tokens"),
                            (lambda h, b: h.connection.shutdown(socket.SHUT_RDWR), "Server returned nothing (no headers, no data)")):
            code, out, err = self.load(self.server(answer).url, "--trace", self.trace("0,1,1\n"))
            self.assertEqual((code, err.rstrip().split(": ")[-1]), (69, why))
            self.assertTrue(out.startswith("1 requests, 1 failed"), out)

    def test_cut_off_answers_are_failures(self):
        def cut(handler, body):
            handler.send_response(200)
            handler.send_header("content-length", "100000")
            handler.end_headers()
            handler.wfile.write(TOKEN)
        code, _, err = self.load(self.server(cut).url, "--trace", self.trace("0,1,9\n"))
        self.assertEqual(code, 69)
        self.assertIn("Transferred a partial file", err)

    def test_server_that_never_answers_is_given_up(self):
        over = threading.Event()
        self.addCleanup(over.set)
        code, _, err = self.load(self.server(lambda h, b: over.wait(60)).url, "--trace", self.trace("0,1,1\n"), "--timeout", "50ms")
        self.assertEqual(code, 69)
        self.assertIn("Timeout was reached", err)

    def test_nothing_to_send(self):
        self.assertEqual(self.measured("http://127.0.0.1:9", "--duration", "1us")["requests"], 0)

    def test_interrupt_tells_what_was_answered(self):
        asked, over = threading.Event(), threading.Event()
        self.addCleanup(over.set)

        def first_only(handler, body):
            if body["max_tokens"] == 1:
                return tokens(handler, body)
            asked.set()
            over.wait(60)
        run = subprocess.Popen([f"{BUILD}/src/cli/takt", "load", "--url", self.server(first_only).url, "--trace",
                                self.trace("0,1,1\n0.2,1,2\n3000,1,1\n"), "--duration", "60m", "--json"], stdout=subprocess.PIPE, text=True)
        self.assertTrue(asked.wait(30))
        run.send_signal(signal.SIGINT)
        result = json.loads(run.communicate(timeout=30)[0])
        self.assertEqual((run.returncode, result["requests"], result["failed"]), (130, 1, 0))

    def test_out_that_cannot_be_written_is_said(self):
        server = self.server()
        code, out, err = self.load(server.url, "--out", "/nowhere/out")
        self.assertEqual((code, out, err), (74, "", "takt: /nowhere/out: No such file or directory\n"))
        self.assertEqual(server.asked, [])   # said before the load, not after
        code, _, err = self.load(server.url, "--trace", self.trace("0,1,1\n"), "--out", "/dev/full")
        self.assertEqual((code, err), (74, "takt: /dev/full: could not be written\n"))

    def test_wrong_values(self):
        for args in (["--rate", "inf"], ["--rate", "nan"], ["--rate", "-1"], ["--rate", "1x"], ["--speed", "0"], ["--seed", "x"], ["--seed", "-1"],
                     ["--prompt", "0:3"], ["--prompt", "-5:3"], ["--prompt", "3"], ["--output", "1:9999999"], ["--timeout", "0ms"],
                     ["--slo-ttft", "5"], ["--duration", "2h"]):
            code, out, err = self.load("http://x", *args)
            self.assertEqual((code, out, err), (2, "", f"takt: {args[0]}: {args[1]} is not a value for it (see takt load --help)\n"))
        code, _, err = self.load("http://x", "--rate", "1e6", "--duration", "60m")
        self.assertEqual((code, err), (2, "takt: more than 10000000 requests\n"))
        for url in ("httpx://x", "http:x", "x", "ftp://x", "http://" + "x" * 400):
            self.assertEqual(self.load(url)[0], 2)


if __name__ == "__main__":
    unittest.main(warnings="ignore")
