"""PyTorch's CUDA wheel, unmodified, on the simulated GPU, bare and under Takt."""
import unittest

from engines import TOOL, Engine

FAIR = ["--class", "fair"]


class Torch(Engine):
    def test_its_parts(self):
        self.assertEqual(self.lines("tensors", TOOL=TOOL), [
            "device NVIDIA A100-SXM4-40GB (8, 0)", "copies True", "zeros 0", "matmul (256, 256) True", "graph True True",
            "events True", "streams True cuda:0"])

    def test_its_parts_under_takt(self):
        self.assertEqual(self.lines("tensors", under=FAIR, TOOL=TOOL)[1:5],
                         ["copies True", "zeros 0", "matmul (256, 256) True", "graph True True"])

    def test_a_transformer(self):
        for under in (None, FAIR):
            with self.subTest(under=under):
                self.assertEqual(self.lines("llama", under=under), ["(1, 16, 512)", "24"])

    def test_memory_is_the_devices(self):
        # What was got and given back stays in PyTorch's cache.
        self.assertEqual(self.lines("quota"), ["40.0 40.0", "39.5 40.0", "got it", "36.5 40.0"])

    def test_memory_is_the_tenants(self):
        self.assertEqual(self.lines("quota", under=["--memory", "2GiB"]), ["2.0 2.0", "1.5 2.0", "out of memory True", "1.0 2.0"])

    def side_by_side(self, under):
        """Two processes of 40 ms of work each: what the device says ran once both had begun, and which pids they are."""
        both = [self.start("steps", "100", under=under) for _ in range(2)]
        pids = {int(p.stdout.readline()) for p in both}
        before = self.intervals()[-1][2]
        for p in both:
            p.stdin.write("\n")
            p.stdin.flush()
        for p in both:
            self.assertEqual(p.wait(), 0)
        ran = [i for i in self.intervals() if i[1] >= before]
        self.assertEqual({i[0] for i in ran}, pids)
        return ran

    def test_two_share_by_hard_hand_over(self):
        ran = self.side_by_side(FAIR)
        self.assertEqual([i for i in ran if i[3] > 1], [])   # never had both work on the device
        changes = sum(a[0] != b[0] for a, b in zip(ran, ran[1:]))
        self.assertGreater(changes, 2)                       # nor did one just come after the other

    def test_without_takt_both_have_work_at_once(self):      # so that the other means something
        self.assertTrue([i for i in self.side_by_side(None) if i[3] > 1])


if __name__ == "__main__":
    unittest.main()
