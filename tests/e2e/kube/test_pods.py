"""Pods of a real cluster under taktd's device plugin, on one simulated GPU: admitted, refused, ill, killed and restarted."""
import os
import signal
import sys
import unittest

from kube import node

import thief

BUILD = os.environ["TAKT_BUILD"]
GPU, FORTY, THIRTY, TEN = "takt.dev/gpu", "takt.dev/forty", "takt.dev/thirty", "takt.dev/ten"
SLOTS = 6
OBJECTIVE = {"ttft": "2s", "itl": "200ms"}
RESOURCES = {GPU: (SLOTS, {}), FORTY: (1, {**OBJECTIVE, "share": "40%"}), THIRTY: (2, {**OBJECTIVE, "share": "30%"}),
             TEN: (2, {**OBJECTIVE, "share": "10%"})}
WORK = ["takt-synthetic", "--cost", "1000,40000", "--rate", "20", "--prefill-ms", "1-2", "--tokens", "2-4", "--token-ms", "1", "--seconds", "600"]


def worker(name, resource=GPU, **more):
    return node.pod(name, WORK, limits={resource: 1}, **more)


class Pods(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.takt = node.Takt(BUILD, RESOURCES)
        cls.takt.start()
        for resource, (slots, _) in RESOURCES.items():
            cls.served(resource, slots)

    @classmethod
    def tearDownClass(cls):
        cls.takt.end()

    @staticmethod
    def served(resource, slots, allocatable=None):
        want = (slots, slots if allocatable is None else allocatable)
        node.until(f"{resource}: {want}", lambda: node.allocatable(resource) == want)

    def setUp(self):
        self.addCleanup(node.kubectl, "delete", "pod", "--all", "--wait", "--timeout=60s")

    def working(self, *names):
        """Until these pods' containers are tenants whose work is counted more than it was."""
        def look():
            now = self.takt.tenants()
            mine = {n: now[f"default/{n}/agent"] for n in names if f"default/{n}/agent" in now}
            counts = {n: t["granted_ns"] for n, t in mine.items() if t["processes"] == 1 and t["granted_ns"]}
            for n, ns in counts.items():
                before.setdefault(n, ns)
            return len(counts) == len(names) and all(ns > before[n] for n, ns in counts.items())
        before = {}
        node.until(f"the work of {names} is counted", look)

    def run_three(self):
        names = ("one", "two", "three")
        node.start(*(worker(n, restart="Always") for n in names))
        self.working(*names)
        return names

    def lives(self, names):
        """What changes when a container is started again."""
        statuses = {n: node.get("pod", n)["status"] for n in names}
        return {n: (s["phase"], s["containerStatuses"][0]["restartCount"], s["containerStatuses"][0]["containerID"]) for n, s in statuses.items()}

    def no_slot_is_lost(self, held):
        """As many pods as slots are left run, and one more waits."""
        others = [f"other-{i}" for i in range(SLOTS - held)]
        node.start(*(worker(n) for n in others))
        self.working(*others)
        node.start(worker("late"))
        self.waits("late", f"Insufficient {GPU}")

    def waits(self, name, why):
        node.until(f"{name} waits: {why}", lambda: why in node.events(name))
        self.assertEqual(node.get("pod", name)["status"]["phase"], "Pending")

    def test_pod_is_a_tenant_by_its_name_and_its_work_is_counted(self):
        node.start(worker("one"))
        self.working("one")
        pids = node.processes("one")
        ran = {int(line.split(",")[2]) for line in self.takt.tool("log").splitlines()[1:] if line.split(",")[4] == "run"}
        self.assertTrue(ran & set(pids), "the device's own log knows the pod's process")
        node.delete("one")
        node.until("the tenant is gone", lambda: not self.takt.tenants())

    def test_class_is_by_the_pods_cgroup_without_an_api_server(self):
        node.start(worker("least"), worker("more", requests={"cpu": "10m"}), worker("own", FORTY))
        self.working("least", "more", "own")
        self.assertEqual({name.split("/")[1]: t["class"] for name, t in self.takt.tenants().items()}, {"least": "idle", "more": "fair", "own": "deadline"})

    def test_promise_that_does_not_fit_is_refused_with_its_numbers(self):
        node.start(worker("forty", FORTY), worker("thirty", THIRTY), worker("other", THIRTY))
        self.working("forty", "thirty", "other")
        node.start(worker("ten", TEN))
        node.await_pod("ten", "status.reason", "UnexpectedAdmissionError")
        self.assertRegex(node.events("ten"), r"would break: within [\d.]+ ms, [\d.]+ ms of device time would be due")
        node.delete("thirty", "ten")
        node.start(worker("ten", TEN))
        self.working("forty", "other", "ten")

    def test_lost_gpu_and_back(self):
        names = self.run_three()
        lives = self.lives(names)
        mark = f"{node.TAKT_DIR}/lost/{self.takt.status()['devices'][0]['uuid']}"
        open(mark, "w").close()
        self.served(GPU, SLOTS, 0)
        node.start(worker("late"))
        self.waits("late", f"Insufficient {GPU}")
        os.remove(mark)
        self.served(GPU, SLOTS)
        self.working("late", *names)
        self.assertEqual(self.lives(names), lives)

    def test_kubelet_killed_and_started(self):
        names = self.run_three()
        lives = self.lives(names)
        node.kill_kubelet()
        node.start_kubelet()
        self.served(GPU, SLOTS)
        self.working(*names)
        self.assertEqual(self.lives(names), lives)
        self.no_slot_is_lost(held=3)

    def test_daemon_killed_in_a_loop(self):
        names = self.run_three()
        lives = self.lives(names)
        for _ in range(10):
            self.takt.end(signal.SIGKILL)
            self.takt.start()
            self.working(*names)
        self.served(GPU, SLOTS)
        self.assertEqual(self.lives(names), lives)
        self.no_slot_is_lost(held=3)

    def test_process_killed_comes_back_to_its_slot(self):
        names = self.run_three()
        old, = node.processes("one")
        os.kill(old, signal.SIGKILL)
        node.await_pod("one", "status.containerStatuses[0].restartCount", "1")
        self.working(*names)
        self.no_slot_is_lost(held=3)

    def test_pod_without_a_slot_has_no_gpu(self):
        node.start(node.pod("none", WORK))
        node.await_pod("none", "status.phase", "Failed")
        self.assertIn("no usable libcuda.so.1", node.kubectl("logs", "none"))

    def test_slot_of_another_pod_is_denied(self):
        node.start(worker("owner"))
        self.working("owner")
        thief.start(self.takt, "owner", "slots", WORK)
        node.until("the thief is refused", lambda: "is refused: it belongs to pod" in self.takt.log())
        self.assertEqual(self.takt.tenants()["default/owner/agent"]["processes"], 1)


if __name__ == "__main__":
    sys.exit(unittest.main(verbosity=2))
