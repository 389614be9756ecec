"""vLLM's engine, unmodified, on the simulated GPU, bare and under Takt."""
import os
import unittest

from engines import Engine


class Vllm(Engine):
    def generate(self, part, **more):
        os.makedirs(f"{self.folder}/model", exist_ok=True)
        out = self.lines("generate", f"{self.folder}/model", "16", part, **more)
        return [line for line in out if line.startswith("tokens")]   # its own messages are between

    def test_bare(self):
        self.assertEqual(self.generate("0.1"), ["tokens 16"] * 2)
        self.assertTrue(self.intervals())

    def test_under_takt_within_its_quota(self):
        # Half of what it sees: of the device's 40 GiB that would be ten times its quota.
        self.assertEqual(self.generate("0.5", under=["--memory", "2GiB"]), ["tokens 16"] * 2)


if __name__ == "__main__":
    unittest.main()
