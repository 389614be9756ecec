"""Pods' annotations as promises, and the events of what came of them: taktd --kube between a kubelet and an API server of the
tests'."""
import os
import queue
import signal
import struct
import subprocess
import sys
import unittest
from concurrent.futures import ThreadPoolExecutor

from apiserver import ApiServer, pod
from test_interop import BUILD, GPUS, JOINER, WELCOME, field, pod_cgroup, strings
from served import Unix
from wished import PROMISE, Wished

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../node"))
from takt import LANE, Session, join_frame, until  # noqa: E402


# A program that uses the GPU, and has not loaded the shim.
STRANGER = """
import ctypes, socket, sys
if len(sys.argv) > 1: # it joins first
    s = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    s.connect(sys.argv[1])
    s.send(bytes.fromhex(sys.argv[2]))
    assert s.recv(4096)[4] == 2
cuda, context = ctypes.CDLL("libcuda.so.1"), ctypes.c_void_p()
assert cuda.cuInit(0) == 0 and cuda.cuCtxCreate_v2(ctypes.byref(context), 0, 0) == 0
print("there", flush=True)
sys.stdin.read()
"""


class Wishes(Wished):
    def join_from(self, group, mounts):
        """A process of this cgroup joins, and ends."""
        frame = join_frame(uuid=bytes.fromhex(GPUS[0].replace("-", "")))
        said = subprocess.run([sys.executable, "-c", JOINER, group, mounts["/run/takt"] + "/join", frame.hex()], capture_output=True, text=True, timeout=10).stdout
        self.assertEqual(said.strip(), WELCOME)

    def test_one_wish_is_judged_at_allocate(self):
        self.start(pod("a", annotations={"takt.dev/share": "60%", "takt.dev/memory": "12Gi"}), pod("b", annotations={"takt.dev/share": "60%", "takt.dev/memory": "12Gi"}))
        env, _ = self.plugin.allocate(self.slot(0))
        self.assertEqual(env["TAKT_MEMORY_QUOTA"], str(12 << 30))
        why = self.refused(self.slot(1))
        self.assertIn("would break", why)
        self.assertIn("share 60 %", self.event("PromiseRefused", "b"))
        self.assertEqual(len(self.tenants()), 1)

    def test_of_several_that_wish_the_same_none_is_named_for_another(self):
        same = {"takt.dev/share": "60%"}
        self.start(pod("a", annotations=same), pod("b", annotations=same), pod("c", annotations=same))
        self.plugin.allocate(self.slot(0))
        self.kubelet.pods = {("default", "a", "c0"): [self.slot(0)]}
        self.assertIn("would break", self.refused(self.slot(1)))
        self.assertRegex(self.logged("one of 2 pods that wish the same is refused"), "share 60 %.*would break")
        self.server.change("MODIFIED", pod("a", annotations={"takt.dev/share": "50%"}))
        for reason in ("Promised", "PromiseChanged"):   # and nothing between
            self.event(reason, "a")

    def test_pods_that_want_no_slot_keep_none_out(self):
        """Where GPUs are claimed, too, all that have annotations are kept, for what is wrong with them."""
        many = [pod(f"x{i}", annotations={"takt.dev/share": "1%"}, resource="other.example/thing") for i in range(300)]
        self.start(*many, pod("zz", annotations={"takt.dev/memory": "12Gi"}), promise=f"devices: [0], {PROMISE}", more=", door: {dra: [1]}")
        env, _ = self.plugin.allocate(self.slot(0))
        self.assertEqual(env["TAKT_MEMORY_QUOTA"], str(12 << 30))

    def test_a_pod_that_the_kubelet_knows_first_is_not_refused_for_another(self):
        """The only one that we know of does not fit. The news of who was meant comes while the kubelet waits for us."""
        self.start(pod("early"), pod("greedy", annotations={"takt.dev/share": "90%"}))
        self.plugin.allocate(self.slot(0))
        self.kubelet.pods = {("default", "early", "c0"): [self.slot(0)]}
        while not self.kubelet.asked.empty():
            self.kubelet.asked.get()
        with ThreadPoolExecutor() as pool:
            late = pool.submit(self.plugin.allocate, self.slot(1))
            self.kubelet.asked.get(timeout=20)
            self.server.change("ADDED", pod("late", annotations={"takt.dev/memory": "1Gi"}))
            env, _ = late.result(20)
        self.assertEqual(env["TAKT_MEMORY_QUOTA"], str(8 << 30), "greedy or late: the resource's")
        self.assertTrue(self.server.events.empty())

    def test_while_no_news_comes_nobody_is_refused_for_what_is_known(self):
        """The only one that we know of does not fit, and the watch is down: who was meant may be one that we cannot know."""
        self.start(pod("early"), pod("greedy", annotations={"takt.dev/share": "90%"}))
        self.plugin.allocate(self.slot(0))
        self.kubelet.pods = {("default", "early", "c0"): [self.slot(0)]}
        self.server.fault = lambda handler, url: handler.command == "GET" and (handler.refuse(403, "pods is forbidden") or True)
        self.server.cut()
        self.logged("403")
        env, _ = self.plugin.allocate(self.slot(1))
        self.assertEqual(env["TAKT_MEMORY_QUOTA"], str(8 << 30), "the resource's")
        self.assertTrue(self.server.events.empty())
        self.kubelet.pods[("default", "greedy", "c0")] = [self.slot(1)]
        self.server.fault = None
        self.refused(self.slot(2))
        self.assertIn("share 90 %", self.event("PromiseRefused", "greedy"))

    def test_two_wishes_are_told_apart_once_the_kubelet_lists_them(self):
        self.start(pod("a", annotations={"takt.dev/memory": "1Gi"}), pod("b", annotations={"takt.dev/share": "50%", "takt.dev/memory": "2Gi"}))
        env, _ = self.plugin.allocate(self.slot(0))
        self.assertEqual(env["TAKT_MEMORY_QUOTA"], str(8 << 30), "whose it is is not known: the resource's")
        self.kubelet.pods = {("default", "b", "c0"): [self.slot(0)]}
        env, _ = self.plugin.allocate(self.slot(1))
        self.assertEqual(env["TAKT_MEMORY_QUOTA"], str(1 << 30), "it can only be a's")
        self.assertIn("share 50 %", self.event("Promised", "b"))

    def test_the_process_says_whose_it_is(self):
        uid = "fc4b7b33-2b0c-42d5-9244-93a11eca7e10"
        group = pod_cgroup(uid)
        if not group:
            self.skipTest("no cgroup can be made here")
        self.addCleanup(os.removedirs, group)
        os.unlink(f"{self.dir}/kubelet/pod-resources/kubelet.sock")    # the kubelet does not say it
        self.start(pod("a", annotations={"takt.dev/share": "50%"}), pod("b", uid, annotations={"takt.dev/class": "fair", "takt.dev/memory": "4Gi"}))
        _, mounts = self.plugin.allocate(self.slot(0))
        self.join_from(group, mounts)
        self.assertIn("class fair", self.event("Promised", "b"))
        self.assertEqual([(t["class"], t["memory_quota"]) for t in self.tenants()], [("fair", 4 << 30)])

    def test_absurd_annotations_are_named_and_the_pod_runs(self):
        for key, value in (("share", "300%"), ("ttft", "-1"), ("memory", "50Gi"), ("shere", "1%"), ("class", "deadlin\nx")):
            with self.subTest(key):
                name = f"with-{key}"
                self.start(pod(name, annotations={"takt.dev/memory": "2Gi", f"takt.dev/{key}": value}))
                env, _ = self.plugin.allocate(self.slot(0))
                self.assertEqual(env["TAKT_MEMORY_QUOTA"], str(8 << 30))
                if key == "memory":     # it is too much for this GPU: once it is known that the slot is the pod's
                    self.kubelet.pods = {("default", name, "c0"): [self.slot(0)]}
                    self.refused(self.slot(1), self.slot(2), self.slot(3))
                said = self.event("InvalidAnnotation", name)
                self.assertIn(f"takt.dev/{key}", said)
                self.assertIn("50.0 GiB" if key == "memory" else value.replace("\n", "?"), said)
                self.assertIn(said, self.logged(f"default/{name}"))
                self.server.change("DELETED", pod(name))
                self.kubelet.pods = {}
                self.end()
                self.assertTrue(self.server.events.empty())

    def test_a_thousand_annotations_are_one_event(self):
        self.start(pod("a", annotations={f"takt.dev/key-{i}": "x" * 200 for i in range(1000)}))
        env, _ = self.plugin.allocate(self.slot(0))
        self.assertEqual(env["TAKT_MEMORY_QUOTA"], str(8 << 30))
        said = self.event("InvalidAnnotation", "a")
        self.assertIn("takt.dev/key-", said)
        self.assertIn(f'"{"x" * 40}"', said)
        self.assertRegex(said, "; and 99[0-9] more; the pod gets")
        self.assertLess(len(said), 300)

    def test_a_contradiction_is_no_refusal(self):
        self.start(pod("a", annotations={"takt.dev/peak": "10%"}))
        self.plugin.allocate(self.slot(0))
        self.kubelet.pods = {("default", "a", "c0"): [self.slot(0)]}
        self.refused(self.slot(1), self.slot(2), self.slot(3))
        said = self.event("InvalidAnnotation", "a")
        self.assertIn("peak 10 %", said)
        self.assertIn("contradicts itself", said)

    def test_what_is_too_much_for_a_gpu_is_said_of_the_pod_that_is_on_it(self):
        """The slot is given to a pod that we do not know; the one that we know may be meant for a larger GPU."""
        self.start(pod("a", annotations={"takt.dev/memory": "50Gi"}))
        self.plugin.allocate(self.slot(0))
        self.kubelet.pods = {("default", "early", "c0"): [self.slot(0)]}
        self.refused(self.slot(1), self.slot(2), self.slot(3))
        lost = f"{self.dir}/run/lost/GPU-{GPUS[1]}"
        open(lost, "w").close()
        self.event("GPULost", "n1")     # and nothing before
        os.unlink(lost)
        self.event("GPURecovered", "n1")
        self.plugin.allocate(self.slot(0, gpu=1))
        self.kubelet.pods[("default", "a", "c0")] = [self.slot(0, gpu=1)]
        self.refused(self.slot(1), self.slot(2), self.slot(3))
        self.assertIn("takt.dev/memory: 50.0 GiB is more", self.event("InvalidAnnotation", "a"))

    def test_names_that_nobody_can_have(self):
        """A lying API server, and a kubelet that was lied to: nothing of it is printed as it is, and nothing else changes."""
        strange = [pod("a\ntaktd: forged"), pod("b", namespace='n"} 1'), pod("c", uid="../../c")]
        self.server.fault = lambda handler, url: handler.refuse(403, "for\nbidden\x1b[2J") or True
        self.start(*strange, pod("d", annotations={"takt.dev/memory": "1Gi"}), more=f", metrics: {self.dir}/metrics", wait=False)
        self.assertIn("403: for?bidden?[2J", self.logged("403"))
        self.server.fault = None
        self.assertIn("default/a?taktd: forged", self.logged("no pod can be called so"))
        while "watch=true" not in self.server.seen.get(timeout=20)[1]:
            pass
        env, _ = self.plugin.allocate(self.slot(0))
        self.assertEqual(env["TAKT_MEMORY_QUOTA"], str(1 << 30), "nobody else is known")
        self.kubelet.pods = {("default", 'd"} 1\nforged', "c0"): [self.slot(0)]}
        self.refused(self.slot(1), self.slot(2), self.slot(3))
        connection = Unix(f"{self.dir}/metrics")
        self.addCleanup(connection.close)
        connection.request("GET", "/metrics")
        self.assertNotIn("forged", connection.getresponse().read().decode())
        self.assertEqual([t["name"] for t in self.tenants()], [f"slot {self.slot(0)}"])
        self.kubelet.pods = {("default", "d", "c0"): [self.slot(0)]}
        for p in strange:
            self.server.change("MODIFIED", p)
        self.refused(self.slot(1), self.slot(2), self.slot(3))
        self.event("Promised", "d")
        self.assertEqual([t["name"] for t in self.tenants()], ["default/d/c0"])
        said = []
        while not self.log.empty():
            said.append(self.log.get())
        self.assertFalse([line for line in said if "forged" in line or "called so" in line])

    def test_what_is_too_much_for_several_slots_is_said_of_the_pod_that_has_them(self):
        """The only pod that we know of is another than the one that is given two slots: of it nothing is wrong."""
        self.start(pod("one", annotations={"takt.dev/share": "60%"}), promise="takt: {ttft: 2s, itl: 200ms, share: 30%, memory: 4Gi}")
        env, _ = self.plugin.allocate(self.slot(0), self.slot(1))
        self.assertEqual(env["TAKT_MEMORY_QUOTA"], str(8 << 30), "the resource's")
        self.server.change("ADDED", pod("two", annotations={"takt.dev/share": "60%"}))
        self.plugin.allocate(self.slot(0, gpu=1))
        self.kubelet.pods = {("default", "two", "c0"): [self.slot(0), self.slot(1)], ("default", "one", "c0"): [self.slot(0, gpu=1)]}
        self.refused(*(self.slot(i, gpu=1) for i in (1, 2, 3)))
        self.assertIn("takt.dev/share: 60 % for each of 2 slots", self.event("InvalidAnnotation", "two"))
        self.assertIn("share 60 %", self.event("Promised", "one"))
        self.assertTrue(self.server.events.empty())

    def test_a_weight_for_several_slots(self):
        self.start(pod("a", annotations={"takt.dev/weight": "6000"}), pod("b", annotations={"takt.dev/weight": "1"}), promise="")
        self.plugin.allocate(self.slot(0), self.slot(1))
        self.kubelet.pods = {("default", "a", "c0"): [self.slot(0), self.slot(1)]}
        self.plugin.allocate(self.slot(2))
        self.assertIn("takt.dev/weight: 6000 for each of 2 slots", self.event("InvalidAnnotation", "a"))

    def test_changed_while_it_runs(self):
        a = pod("a", annotations={"takt.dev/share": "30%"})
        self.start(a)
        self.kubelet.pods = {("default", "a", "c0"): [self.slot(0)]}
        _, mounts = self.plugin.allocate(self.slot(0))
        session = Session(mounts["/run/takt"] + "/join", bytes.fromhex(GPUS[0].replace("-", "")))
        self.addCleanup(session.close)
        self.plugin.allocate(self.slot(1))
        self.refused(self.slot(2), self.slot(3))  # has the daemon look who has what
        self.assertIn("share 30 %", self.event("Promised", "a"))
        a["metadata"]["annotations"]["takt.dev/share"] = "50%"
        self.server.change("MODIFIED", a)
        said = self.event("PromiseChanged", "a")
        self.assertIn("share 50 %", said)
        self.assertIn("it was class deadline, ttft 2000 ms, itl 200 ms, share 30 %", said)
        a["metadata"]["annotations"]["takt.dev/share"] = "99%"
        self.server.change("MODIFIED", a)
        said = self.event("PromiseRefused", "a")
        self.assertIn("would break", said)
        self.assertIn("it keeps class deadline, ttft 2000 ms, itl 200 ms, share 50 %", said)
        a["metadata"]["annotations"] = {"takt.dev/class": "idle", "takt.dev/memory": "2Gi"}
        self.server.change("MODIFIED", a)
        self.event("PromiseChanged", "a")
        self.assertEqual(struct.unpack_from("<Q", session.daemon, LANE + 16)[0], 2 << 30, "its processes are told")
        self.assertIn(("default/a/c0", "idle", 2 << 30), [(t["name"], t["class"], t["memory_quota"]) for t in self.tenants()])

    def test_the_class_is_the_qos_class_where_nobody_says_another(self):
        for qos, promise, annotations, expected in (
                ("BestEffort", "", {}, "idle"), ("Burstable", "", {}, "fair"), ("Guaranteed", "", {}, "fair"),
                ("BestEffort", "takt: {weight: 5}", {}, "fair"), ("BestEffort", "", {"class": "fair"}, "fair"),
                ("BestEffort", "", {"slo": "200ms", "share": "20%"}, "deadline"), ("Guaranteed", PROMISE, {}, "deadline"),
                ("BestEffort", PROMISE, {"share": "20%"}, "deadline"), ("Guaranteed", PROMISE, {"class": "idle"}, "idle")):
            with self.subTest((qos, promise, annotations)):
                self.start(pod("a", qos=qos, annotations={f"takt.dev/{k}": v for k, v in annotations.items()}), promise=promise)
                self.plugin.allocate(self.slot(0))
                self.assertEqual([t["class"] for t in self.tenants()], [expected])
                self.server.change("DELETED", pod("a"))
                self.end()

    def test_while_nobody_tells_of_the_pod_its_cgroup_says_the_class(self):
        uid = "fc4b7b33-2b0c-42d5-9244-93a11eca7e10"
        for folder, promise, more, expected in (
                ("besteffort/", "", "", "idle"), ("burstable/", "", "", "fair"), ("", "", "", "fair"), ("besteffort/", "takt: {weight: 5}", "", "fair"),
                ("besteffort/", PROMISE, "", "deadline"), ("besteffort/", "", ", annotations: false", "fair")):
            group = pod_cgroup(uid, folder)
            if not group:
                self.skipTest("no cgroup can be made here")
            with self.subTest((folder, promise, more)):
                self.start(promise=promise, more=more, wait=not more)
                _, mounts = self.plugin.allocate(self.slot(0))
                self.join_from(group, mounts)
                self.join_from(group, mounts)   # the next one changes nothing
                self.assertEqual([t["class"] for t in self.tenants()], [expected])
                if expected == "idle":
                    self.server.change("ADDED", pod("a", uid, qos="Burstable"))
                    until(self, lambda: [t["class"] for t in self.tenants()], ["fair"])
                    self.server.change("DELETED", pod("a", uid))
                self.end()
            os.removedirs(group)

    def test_who_has_begun_or_has_ended_or_asks_for_nothing_is_not_meant(self):
        wish = {"takt.dev/memory": "1Gi"}
        self.start(pod("old", annotations=wish, startTime="2026-01-01T00:00:00Z"), pod("over", annotations=wish, phase="Failed"),
                   pod("other", annotations=wish, resource="nvidia.com/gpu"), pod("a", annotations={"takt.dev/memory": "2Gi"}))
        env, _ = self.plugin.allocate(self.slot(0))
        self.assertEqual(env["TAKT_MEMORY_QUOTA"], str(2 << 30))
        env, _ = self.plugin.allocate(self.slot(1))
        self.assertEqual(env["TAKT_MEMORY_QUOTA"], str(8 << 30), "a has its slot")

    def test_a_deaf_daemon(self):
        self.start(pod("a", annotations={"takt.dev/memory": "1Gi"}), more=", annotations: false")
        env, _ = self.plugin.allocate(self.slot(0))
        self.assertEqual(env["TAKT_MEMORY_QUOTA"], str(8 << 30))
        self.assertTrue(self.server.events.empty())

    def test_without_a_server_all_goes_on_and_it_is_said_once(self):
        port = self.server.port
        self.server.stop()
        self.start(wait=False)
        self.logged("Connection refused; until it answers")
        self.plugin.allocate(self.slot(0))
        self.kubelet.pods = {("default", "a", "c0"): [self.slot(0)]}
        self.refused(self.slot(1), self.slot(2), self.slot(3))
        self.server = ApiServer(self.dir, port)
        self.server.change("ADDED", pod("a", annotations={"takt.dev/memory": "1Gi"}, phase="Running"))
        self.assertIn("memory 1 GiB (it was", self.event("Promised", "a"))
        said = []
        while "answers again" not in (line := self.log.get(timeout=20)):
            said.append(line)
        self.assertEqual([line for line in said if "API server" in line], [])

    def test_a_restarted_daemon_finds_the_promise_again(self):
        self.start(pod("a", annotations={"takt.dev/memory": "1Gi"}))
        self.plugin.allocate(self.slot(0))
        self.kubelet.pods = {("default", "a", "c0"): [self.slot(0)]}
        self.daemon.send_signal(signal.SIGKILL)
        self.daemon.wait()
        self.daemon.stderr.close()
        self.plugin.channel.close()
        self.start()
        self.event("Promised", "a")
        self.assertEqual([t["memory_quota"] for t in self.tenants()], [1 << 30])

    def test_a_lost_gpu_is_an_event_of_the_node_and_of_its_pods(self):
        self.start(pod("a"), pod("b"))
        self.kubelet.pods = {("default", "a", "c0"): [self.slot(0)]}
        self.plugin.allocate(self.slot(0))
        self.refused(self.slot(1), self.slot(2), self.slot(3))
        for make, reason in ((lambda path: open(path, "w").close(), "GPULost"), (os.unlink, "GPURecovered")):
            make(f"{self.dir}/run/lost/GPU-{GPUS[0]}")
            said = [self.server.events.get(timeout=20)[2] for _ in range(2)]
            self.assertEqual({(e["involvedObject"]["kind"], e["involvedObject"]["name"], e["reason"]) for e in said}, {("Node", "n1", reason), ("Pod", "a", reason)})
            self.assertIn(GPUS[0], said[0]["message"])

    def test_overruns(self):
        self.start(pod("a"), promise="takt: {class: fair, memory: 15Gi}")
        _, mounts = self.plugin.allocate(self.slot(0))
        _, other = self.plugin.allocate(self.slot(1))
        self.kubelet.pods = {("default", "a", "c0"): [self.slot(0)]}
        uuid = bytes.fromhex(GPUS[0].replace("-", ""))
        a, b = Session(mounts["/run/takt"] + "/join", uuid), Session(other["/run/takt"] + "/join", uuid)
        a.want()
        a.await_gate("open")
        a.busy()
        b.want()
        b.await_gate("open", 20)    # after a's hang
        self.refused(self.slot(2))
        self.assertIn("past its turn", self.event("Overrun", "a"))
        for session in a, b:
            session.close()

    def test_a_process_that_uses_the_gpu_past_takt_is_named(self):
        with open(f"{BUILD}/src/simgpu/libcuda.so.1", "rb") as driver:
            if b"__asan" in driver.read():
                self.skipTest("python cannot load a driver with sanitizers")
        env = {"LD_LIBRARY_PATH": f"{BUILD}/src/simgpu", "SIMGPU_NAME": f"simgpu-wishes-{os.getpid()}"}
        self.addCleanup(subprocess.run, [f"{BUILD}/src/simgpu/simgpu", "reset"], env=env)
        self.start(env=env, promise="takt: {ttft: 2s, itl: 200ms, share: 60%}")
        ids = [device[1].decode() for device in self.plugin.watch()]
        _, mounts = self.plugin.allocate(ids[0])
        frame = join_frame(uuid=bytes.fromhex(ids[0][4:40].replace("-", "")))
        for more in ([mounts["/run/takt"] + "/join", frame.hex()], []):
            stranger = subprocess.Popen([sys.executable, "-c", STRANGER, *more], env={**os.environ, **env}, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
            self.addCleanup(stranger.communicate)
            self.assertEqual(stranger.stdout.readline(), b"there\n")
        said = None
        while not said:     # each refusal asks NVML again, once it has answered
            self.refused(ids[1])
            try:
                said = self.server.events.get(timeout=0.1)[2]
            except queue.Empty:
                pass
        self.assertEqual((said["reason"], said["involvedObject"]["name"]), ("UnmanagedGPUProcess", "n1"))
        self.assertIn(f"process {stranger.pid} (python", said["message"])
        self.assertIn(ids[0][:40], said["message"])
        self.refused(ids[1])
        self.assertTrue(self.server.events.empty(), "it was said already")

    def test_events_that_come_again_are_counted(self):
        a = pod("a", annotations={"takt.dev/share": "300%"})
        self.start(a)
        self.plugin.allocate(self.slot(0))
        self.event("InvalidAnnotation", "a")
        self.kubelet.pods = {("default", "a", "c0"): [self.slot(0)]}
        self.refused(self.slot(1), self.slot(2), self.slot(3))
        for _ in range(3):
            a["metadata"]["annotations"] = {}
            self.server.change("MODIFIED", a)
            a["metadata"]["annotations"] = {"takt.dev/share": "300%"}
            self.server.change("MODIFIED", a)
            self.logged("InvalidAnnotation")
        open(f"{self.dir}/run/lost/GPU-{GPUS[1]}", "w").close()
        self.event("GPULost", "n1")     # and not the same once more
        os.unlink(f"{self.dir}/run/lost/GPU-{GPUS[1]}")
        self.event("GPURecovered", "n1")
        self.assertTrue(self.server.events.empty())


if __name__ == "__main__":
    unittest.main()
