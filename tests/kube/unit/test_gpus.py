"""GPUs that fall ill and are well again, by what NVML says: the simulated GPU's NVML, and one that misbehaves."""
import os
import shutil
import subprocess
import unittest

from served import BUILD, GPUS, Served

SIMULATED = f"{BUILD}/src/simgpu"


class Simulated(Served):
    devices = []

    def setUp(self):
        super().setUp()
        self.env.update(LD_LIBRARY_PATH=SIMULATED, SIMGPU_NAME=f"simgpu-gpus-{os.getpid()}")
        self.addCleanup(self.simgpu, "reset")
        self.start()
        self.await_watched()
        [self.gpu] = self.healthy()

    def simgpu(self, *args):
        subprocess.run([f"{SIMULATED}/simgpu", *args], env=self.env, check=True)

    def test_lost_and_back(self):
        self.simgpu("inject", "lose")
        self.hear(self.gpu, "is lost")
        self.assertEqual(self.healthy(), {self.gpu: 0})
        self.simgpu("gpu-reset")
        self.hear(self.gpu, "is well")
        self.assertEqual(self.healthy(), {self.gpu: 1})

    def test_an_operators_file_is_his(self):
        path = f"{self.dir}/run/lost/GPU-{self.gpu}"
        open(path, "w").close()
        self.hear(self.gpu, "is lost", "file")
        self.simgpu("inject", "lose")
        self.simgpu("gpu-reset")
        self.assertTrue(os.path.exists(path))
        self.assertEqual(self.healthy(), {self.gpu: 0})
        os.unlink(path)
        self.hear(self.gpu, "is well")

    def test_an_error_of_the_gpu_passes_and_an_applications_is_none(self):
        self.simgpu("inject", "xid", "31")
        self.simgpu("inject", "xid", "48")
        self.assertIn("XID 48", self.hear(self.gpu, "lost"))
        self.hear(self.gpu, "is well")

    def test_a_helper_that_was_killed_is_started_again_and_nothing_is_forgotten(self):
        self.simgpu("inject", "lose")
        self.hear(self.gpu, "is lost")
        self.kill_helper()
        self.hear("has ended", "started again")
        self.assertEqual(self.healthy(), {self.gpu: 0})
        self.simgpu("gpu-reset")
        self.hear(self.gpu, "is well")


class Misbehaving(Served):
    def setUp(self):
        super().setUp()
        shutil.copy(f"{BUILD}/tests/kube/unit/test-nvml.so", f"{self.dir}/libnvidia-ml.so.1")
        self.mood = f"{self.dir}/mood"
        self.env.update(LD_LIBRARY_PATH=self.dir, TEST_NVML=self.mood)
        self.be("well")

    def be(self, mood):
        with open(self.mood + ".new", "w") as out:
            out.write(mood)
        os.rename(self.mood + ".new", self.mood)

    def lose(self, mood):
        self.start()
        self.await_watched()
        self.be(mood)
        said = self.hear(GPUS[0], "is lost")
        self.assertEqual(self.healthy(), {GPUS[0]: 0, GPUS[1]: 1})   # the second NVML does not know: it is not watched
        self.be("well")
        self.hear(GPUS[0], "is well")
        return said

    def test_the_driver_asks_for_a_reset(self):
        self.assertIn("the driver asks for a reset", self.lose("reset"))

    def test_lost_and_back(self):
        self.assertIn("GPU is lost", self.lose("gone"))

    def test_one_that_hangs_holds_nobody_up(self):
        self.be("hang")
        self.start()
        self.assertEqual(set(self.healthy().values()), {1})
        self.hear("NVML does not answer")
        self.assertEqual(set(self.healthy().values()), {1})
        self.be("well")
        self.hear("NVML is asked again")
        self.assertEqual(len([line for line in self.log if "does not answer" in line]), 1)

    def test_one_that_dies_is_said_once(self):
        self.be("end")
        self.start()
        for _ in range(3):
            self.hear("NVML ends")
        self.be("well")
        self.hear("NVML is asked again")
        self.assertEqual(len([line for line in self.log if "has ended" in line]), 1)


class Without(Served):
    def setUp(self):
        super().setUp()
        self.env.pop("LD_LIBRARY_PATH", None)   # in which the simulated one is found

    def test_without_nvml_files_say_it(self):
        self.start()
        self.hear("there is no NVML")
        path = f"{self.dir}/run/lost/GPU-{GPUS[1]}"
        open(path, "w").close()
        self.hear(GPUS[1], "is lost")
        self.assertEqual(self.healthy(), {GPUS[0]: 1, GPUS[1]: 0})
        os.unlink(path)
        self.hear(GPUS[1], "is well")


if __name__ == "__main__":
    unittest.main()
