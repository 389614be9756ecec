"""What is common to engines on the simulated GPU: a device of the test's own, the engines' Python, bare or under takt run."""
import os
import shutil
import subprocess
import tempfile
import unittest

BUILD, HERE = os.environ["TAKT_BUILD"], os.path.dirname(os.path.abspath(__file__))
PYTHON = f"{os.environ.get('TAKT_CACHE', '')}/vllm/bin/python"
TAKT, TOOL = f"{BUILD}/src/cli/takt", f"{BUILD}/src/simgpu/simgpu"


class Engine(unittest.TestCase):
    def setUp(self):
        # A failure, not a skip: who runs this suite asked for it by name.
        self.assertTrue(os.path.exists(PYTHON), "script/fetch torch, and TAKT_CACHE where it went")
        self.folder = tempfile.mkdtemp(prefix="takt-engines-")
        self.addCleanup(shutil.rmtree, self.folder, ignore_errors=True)
        self.env = dict(os.environ, LD_LIBRARY_PATH=f"{BUILD}/src/simgpu", SIMGPU_NAME=f"simgpu-engines-{os.getpid()}",
                        TAKT_DIR=f"{self.folder}/takt", HF_HUB_OFFLINE="1", VLLM_NO_USAGE_STATS="1",
                        # vLLM's newer runner counts sampled tokens on the device, where nothing is computed; the sampler wants nvcc.
                        VLLM_USE_V2_MODEL_RUNNER="0", VLLM_USE_FLASHINFER_SAMPLER="0")
        self.addCleanup(self.simgpu, "reset")

    def simgpu(self, *args):
        return subprocess.run([TOOL, *args], env=self.env, capture_output=True, text=True, check=True).stdout

    def start(self, program, *args, under=None, **env):
        """under: takt run's options; None: without Takt."""
        door = [] if under is None else [TAKT, "run", *under, "--"]
        with open(f"{self.folder}/stderr", "a") as stderr:
            process = subprocess.Popen([*door, PYTHON, f"{HERE}/{program}.py", *args], env={**self.env, **env}, text=True,
                                       stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=stderr)
        self.addCleanup(process.stdout.close)
        self.addCleanup(process.stdin.close)
        self.addCleanup(process.wait)
        self.addCleanup(process.kill)
        return process

    def lines(self, program, *args, **more):
        process = self.start(program, *args, **more)
        out = process.stdout.read()
        with open(f"{self.folder}/stderr") as stderr:
            self.assertEqual(process.wait(), 0, stderr.read()[-3000:])
        return out.splitlines()

    def intervals(self):
        """The device's own log of what ran: (pid, start, end, how many had work)."""
        rows = [line.split(",") for line in self.simgpu("log").splitlines()[1:]]
        return [(int(pid), int(start), int(end), int(n)) for start, end, pid, _, kind, n in rows if kind == "run"]
