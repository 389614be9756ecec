"""The benches themselves: what they are not asked for they refuse, and none waits for who has gone. Their figures are for `script/bench`."""
import json
import os
import signal
import ssl
import subprocess
import tempfile
import time
import unittest
import urllib.request

BUILD = os.environ["TAKT_BUILD"]
NAMES = ("core", "handover", "idle", "kube", "launch", "memory", "policy")
ENV = {**os.environ, "TAKT_TAKTD": f"{BUILD}/src/node/taktd"}


def bench(name, *args):
    run = subprocess.run([f"{BUILD}/bench/bench-{name}", *args], capture_output=True, text=True, timeout=60, env=ENV)
    return run.returncode, run.stdout, run.stderr


def children(pid):
    with open(f"/proc/{pid}/task/{pid}/children") as file:
        return [int(child) for child in file.read().split()]


def command(pid):
    """Empty: it has ended."""
    try:
        with open(f"/proc/{pid}/cmdline") as file:
            return file.read()
    except OSError:
        return ""


ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../..")


class Bench(unittest.TestCase):
    def test_api_server_of_kubes_bench_answers_for_a_claim(self):
        folder = self.enterContext(tempfile.TemporaryDirectory())
        server = self.enterContext(subprocess.Popen(
            ["python3", f"{ROOT}/bench/kube_api.py", folder, "gpu-0", "1", "1"], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": f"{ROOT}/tests/kube/unit", "PYTHONDONTWRITEBYTECODE": "1"}))
        self.addCleanup(server.kill)
        url = server.stdout.readline().decode().strip()
        with open(f"{folder}/token") as token:
            headers = {"Authorization": f"Bearer {token.read().strip()}"}
        asked = urllib.request.Request(f"{url}/apis/resource.k8s.io/v1/namespaces/default/resourceclaims/claim-0", headers=headers)
        with urllib.request.urlopen(asked, timeout=20, context=ssl.create_default_context(cafile=f"{folder}/tls.crt")) as answer:
            self.assertEqual(json.load(answer)["metadata"]["name"], "claim-0")
        self.assertGreater(int.from_bytes(server.stdout.read(8), "little"), 0)   # ns that it took over it

    def test_unknown_option_is_wrong_usage(self):
        for name in NAMES:
            for args, word in ((["--jsno"], "--jsno"), (["--json", "x"], "x")):
                self.assertEqual(bench(name, *args), (2, "", f"bench {name}: unknown option: {word} (there is --json)\n"))
            code, out, err = bench(name, "--help")
            self.assertEqual((code, err), (0, ""))
            self.assertIn(f"bench {name} [--json]: ", out)

    def test_core_step_allocates_nothing(self):
        code, out, err = bench("core", "--json")
        rows = {row["what"]: row for row in json.loads(out)["rows"]}
        row = rows["allocations in a million of them"]
        self.assertEqual((row["value"], row["bound"], row["broken"]), (0, 0, False))   # its time is not this test's
        self.assertEqual(err, "")

    def test_handover_ends_when_one_of_its_processes_does(self):
        for whose in ("agent", "daemon"):
            run = subprocess.Popen([f"{BUILD}/bench/bench-handover"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=ENV)
            end = time.monotonic() + 20
            while len(found := children(run.pid)) < 4:   # the daemon, who answers without one, and two agents
                self.assertLess(time.monotonic(), end)
                self.assertIsNone(run.poll())
            [folder] = [words[2] for words in (command(pid).split("\0") for pid in found) if words[0] == "taktd"]
            of = {"daemon": [pid for pid in found if "taktd" in command(pid)], "agent": found[-1:]}
            os.kill(of[whose][0], signal.SIGKILL)
            try:
                _, err = run.communicate(timeout=20)
            finally:
                left = [pid for pid in found if BUILD in command(pid)]
                for pid in (run.pid, *left) if run.returncode is None else left:
                    os.kill(pid, signal.SIGKILL)
            self.assertEqual((run.returncode, err), (69, "bench handover: an agent, or who answers it, has ended\n"), whose)
            self.assertEqual(left, [])
            self.assertFalse(os.path.exists(folder))


if __name__ == "__main__":
    unittest.main(warnings="ignore")
