"""How long kernels take: a tiny model stands for a large one, and a profile says so as the environment does."""
import os
import tempfile
import unittest

from device import Device

HERE = os.path.dirname(os.path.abspath(__file__))
KERNELS = """
begin()
module, norm = pointer(), pointer()
ok('cuModuleLoadData', by(module), b''); ok('cuModuleGetFunction', by(norm), module, b'rms_norm_f32')
def busy(f, *grid):
    ok('cuLaunchKernel', f, *grid, 32, 1, 1, 0, None, None, None)
    ok('cuCtxSynchronize')
    say('ran')
    wait()
"""


class Costs(Device):
    def costs(self, *launches, **env):
        """What the device worked for each launch, ns."""
        p = self.process(KERNELS + "\n".join(f"busy({f}, {', '.join(map(str, grid))})" for f, grid in launches), **env)
        costs, before = [], 0
        for _ in launches:
            self.hear(p, "ran")
            now = self.status()["busy_ns"]
            costs.append(now - before)
            before = now
            self.tell(p)
        self.assertEqual(p.wait(), 0)
        return costs

    def test_norms_carry_the_time_of_a_step(self):
        llm = "decode_us=4500 extra_percent=10 prefill_us=90 norms=9"
        rows = (1, 1, 1), (2, 1, 1), (8, 1, 1), (9, 1, 1), (100, 1, 1)
        # 4.5 ms over 9 norms; a tenth more for each further session; from 9 rows on, tokens of a prefill.
        self.assertEqual(self.costs(*(("norm", r) for r in rows), ("kernel", (10000, 100, 10)), SIMGPU_LLM=llm, SIMGPU_KERNEL_US="3"),
                         [500_000, 550_000, 850_000, 90_000, 1_000_000, 3_000])

    def test_without_a_model_norms_are_kernels(self):
        self.assertEqual(self.costs(("norm", (1, 1, 1)), SIMGPU_KERNEL_US="7"), [7_000])

    def from_profile(self, text, *launches):
        with tempfile.NamedTemporaryFile("w", suffix=".profile") as file:
            file.write(text)
            file.flush()
            self.env.pop("SIMGPU_KERNEL_US")
            return self.costs(*launches, SIMGPU_PROFILE=file.name)

    def test_profile_says_it_all(self):
        self.assertEqual(self.from_profile("SIMGPU_KERNEL_US=11\n", ("kernel", (1, 1, 1))), [11_000])

    def test_profiles_of_the_demo(self):
        for name, decode_ns, prefill_ns in (("a100-llama3-8b-q4", 5_000_000, 300_000), ("a100-llama3-8b-q4-short", 4_000_000, 300_000)):
            with self.subTest(name=name):
                self.simgpu("reset")
                profile = f"{HERE}/../../src/simgpu/profiles/{name}"
                self.env.pop("SIMGPU_KERNEL_US", None)
                self.assertEqual(self.costs(("norm", (1, 1, 1)), ("norm", (90, 1, 1)), ("kernel", (5, 5, 5)), SIMGPU_PROFILE=profile),
                                 [decode_ns // 9, prefill_ns * 90 // 9, 1_000])
                self.assertEqual(self.status()["memory"], 40 << 30)


if __name__ == "__main__":
    unittest.main()
