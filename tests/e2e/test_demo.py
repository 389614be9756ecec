"""The demo, short, with the real engine: three runs end, every request is answered, the device's log fits what was asked."""
import json
import os
import subprocess
import sys
import tempfile
import unittest

BUILD, CACHE, ROOT = os.environ["TAKT_BUILD"], os.environ.get("TAKT_CACHE", ""), os.environ["TAKT_ROOT"]


def demo(*args):
    with tempfile.TemporaryDirectory() as folder:
        run = subprocess.run(
            [sys.executable, "-m", "demo.run", "--build", BUILD, "--cache", CACHE, "--json", "--report", f"{folder}/report.html", *args],
            env=dict(os.environ, PYTHONPATH=f"{ROOT}/agents", PYTHONDONTWRITEBYTECODE="1"), capture_output=True, text=True, timeout=300)
        if run.returncode:
            raise AssertionError(run.stderr)
        with open(f"{folder}/report.html") as page:
            return json.loads(run.stdout), page.read()


class Demo(unittest.TestCase):
    def test_three_runs(self):
        result, page = demo("--minutes", "0.15")
        self.assertTrue(result["simulated"])
        self.assertIn("Simulated", page)
        self.assertEqual(result["refusals"], [])
        self.assertEqual({(r["agent"], r["run"]) for r in result["rows"]},
                         {(a, r) for a in ("router", "chat", "summariser") for r in ("alone", "stock", "takt")})
        self.assertEqual(sum(r["failed"] for r in result["rows"]), 0)
        switches = {d["run"]: d["switches_per_s"] for d in result["devices"]}
        self.assertLess(switches["takt"], switches["stock"] / 2)

    def test_what_cannot_be_held_is_refused(self):
        result, _ = demo("--minutes", "0.05", "--load", "too-much")
        (name, reason), = result["refusals"]
        self.assertEqual(name, "chat-2")
        self.assertIn("not admitted: the promise of", reason)


if __name__ == "__main__":
    if not os.path.exists(f"{CACHE}/agents"):
        sys.exit(77)
    unittest.main(warnings="ignore")
