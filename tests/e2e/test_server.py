"""The demo's server with the real engine, on the simulated GPU: what the stub of tests/agents cannot know."""
import concurrent.futures
import http.client
import json
import os
import re
import socket
import subprocess
import sys
import unittest

BUILD, CACHE, ROOT = os.environ["TAKT_BUILD"], os.environ.get("TAKT_CACHE", ""), os.environ["TAKT_ROOT"]
SEQUENCES = 4


def environment():
    return {**os.environ, "LD_LIBRARY_PATH": f"{BUILD}/src/simgpu:{CACHE}/cuda", "SIMGPU_NAME": f"simgpu-server-{os.getpid()}",
            "SIMGPU_LLM": "decode_us=2000 extra_percent=3 prefill_us=50 norms=9"}


def server(*args, **more):
    return subprocess.Popen([f"{CACHE}/node", f"{ROOT}/agents/server.mjs", *args], env=environment(), stdout=subprocess.PIPE,
                            stderr=subprocess.PIPE, text=True, **more)


class Server(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.process = server("--model", f"{CACHE}/tiny.gguf", "--context", "512", "--sequences", str(SEQUENCES))
        cls.port = json.loads(cls.process.stdout.readline())["port"]

    @classmethod
    def tearDownClass(cls):
        cls.process.terminate()
        assert cls.process.wait(20) == 0
        cls.process.stdout.close()
        cls.process.stderr.close()
        subprocess.run([f"{BUILD}/src/simgpu/simgpu", "reset"], env=environment())

    def ask(self, method, path, body=None):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        connection.request(method, path, json.dumps(body) if body is not None else None)
        response = connection.getresponse()
        text = response.read().decode()
        connection.close()
        return response.status, json.loads(text) if response.headers["content-type"] == "application/json" else text

    def complete(self, **body):
        status, answer = self.ask("POST", "/v1/completions", body)
        self.assertEqual(status, 200, answer)
        return answer

    def metric(self, name):
        text = self.ask("GET", "/metrics")[1]
        return float(re.search(rf"^vllm:{name}\{{[^}}]*\}} (\S+)$", text, re.M)[1])

    def test_answer_is_as_long_as_asked(self):
        answer = self.complete(prompt="hello", max_tokens=40, ignore_eos=True)   # of what it says nothing can be said: nothing is computed
        self.assertEqual((answer["usage"]["completion_tokens"], answer["choices"][0]["finish_reason"]), (40, "length"))

    def test_tokens_that_the_model_does_not_know_are_refused(self):
        """llama.cpp would end the process."""
        for prompt in ([259], [10**9], [-1], [2**31], [1.5]):
            self.assertEqual(self.ask("POST", "/v1/completions", {"prompt": prompt})[0], 400, prompt)
        self.assertEqual(self.complete(prompt=[1, 258], max_tokens=2, ignore_eos=True)["usage"]["total_tokens"], 4)

    def test_texts_with_spaces_are_prompts(self):
        """A space is three tokens to this model."""
        messages = [{"role": "user", "content": "to be or not to be " * 4}, {"role": "user", "content": "that is"}]
        status, answer = self.ask("POST", "/v1/chat/completions", {"messages": messages, "max_tokens": 2, "ignore_eos": True})
        self.assertEqual((status, answer.get("usage", {}).get("completion_tokens")), (200, 2), answer)

    def test_context_is_not_overrun(self):
        self.assertEqual(self.ask("POST", "/v1/completions", {"prompt": [5] * 500, "max_tokens": 13})[0], 400)
        self.assertEqual(self.complete(prompt=[5] * 500, max_tokens=12, ignore_eos=True)["usage"]["total_tokens"], 512)

    def test_more_sessions_than_sequences_are_all_served(self):
        with concurrent.futures.ThreadPoolExecutor(3 * SEQUENCES) as pool:
            answers = list(pool.map(lambda i: self.complete(prompt=[40 + i] * 20, max_tokens=20, ignore_eos=True), range(3 * SEQUENCES)))
        self.assertEqual({a["usage"]["completion_tokens"] for a in answers}, {20})
        self.assertEqual((self.metric("num_requests_running"), self.metric("num_requests_waiting")), (0, 0))

    def test_several_sessions_are_computed_together(self):
        """Continuous batching: a step serves them all, and takes the device hardly longer than for one."""
        def busy():
            out = subprocess.run([f"{BUILD}/src/simgpu/simgpu", "status", "--json"], env=environment(), capture_output=True, text=True).stdout
            return json.loads(out)["busy_ns"]

        def took(n):
            before = busy()
            with concurrent.futures.ThreadPoolExecutor(n) as pool:
                list(pool.map(lambda i: self.complete(prompt=[50 + i] * 4, max_tokens=40, ignore_eos=True), range(n)))
            return busy() - before
        took(SEQUENCES)   # what is done once is done
        self.assertLess(took(SEQUENCES), 1.7 * took(1))

    def test_clients_that_go_leave_their_sequences(self):
        body = json.dumps({"prompt": "x", "max_tokens": 500, "ignore_eos": True, "stream": True})
        for _ in range(2 * SEQUENCES):
            with socket.create_connection(("127.0.0.1", self.port), timeout=60) as s:
                s.sendall(f"POST /v1/completions HTTP/1.1\r\nhost: x\r\ncontent-length: {len(body)}\r\n\r\n{body}".encode())
                self.assertTrue(s.recv(1))
        aborted = 'request_success_total{model_name="takt",finished_reason="abort"} '
        self.complete(prompt="x", max_tokens=2)   # somebody is served all the same
        while f"{aborted}{2 * SEQUENCES}" not in self.ask("GET", "/metrics")[1]:
            pass
        self.assertEqual(self.metric("num_requests_running"), 0)

    def test_load_is_answered_as_planned(self):
        run = subprocess.run([f"{BUILD}/src/cli/takt", "load", "--url", f"http://127.0.0.1:{self.port}", "--rate", "20", "--duration", "1s",
                              "--output", "5:5", "--json"], capture_output=True, text=True, timeout=60)
        result = json.loads(run.stdout)
        self.assertEqual((run.returncode, result["failed"], result["itl"]["n"]), (0, 0, 4 * result["requests"]))


class Stop(unittest.TestCase):
    def test_step_that_does_not_end_is_not_waited_for(self):
        simgpu = f"{BUILD}/src/simgpu/simgpu"
        self.addCleanup(subprocess.run, [simgpu, "reset"], env=environment())
        process = server("--model", f"{CACHE}/tiny.gguf", "--context", "512")
        self.addCleanup(process.kill)
        port = json.loads(process.stdout.readline())["port"]
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        connection.request("POST", "/v1/completions", json.dumps({"prompt": "x", "max_tokens": 500, "ignore_eos": True, "stream": True}))
        connection.getresponse().readline()   # it computes
        subprocess.run([simgpu, "inject", "hang", str(process.pid)], env=environment(), check=True)
        process.terminate()
        _, err = process.communicate(timeout=60)
        connection.close()
        self.assertEqual((process.returncode, err), (1, "server: ended in the middle of a step, for it does not end\n"))


class Options(unittest.TestCase):
    def test_wrong_ones_are_one_line(self):
        for args, said in (([], "--model FILE is needed"), (["--fly"], "--fly"), (["--model"], "--model"), (["--model", "x", "--port", "y"], "--port y is no number"),
                           (["--model", "x", "--sequences", "0"], "--sequences 0 is no number"), (["--model", "x", "extra"], "extra")):
            process = server(*args)
            out, err = process.communicate(timeout=60)
            self.assertEqual((process.returncode, out, err.strip().count("\n")), (2, "", 0), err)
            self.assertTrue(err.startswith("server: "))
            self.assertIn(said, err)


if __name__ == "__main__":
    if not os.path.exists(f"{CACHE}/agents"):
        sys.exit(77)
    unittest.main(warnings="ignore")
