"""taktd's DRA driver as a process, between grpcio in the place of a kubelet and an API server of the tests'."""
import json
import os
import re
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import time
import unittest

from apiserver import ApiServer, pod
from disk import Disk
from resources import Resources
from served import LINE, Unix
from test_interop import BUILD, CODE, GPUS, JOINER, REFUSED, WELCOME, field, fields, grpc, pod_cgroup, strings

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../node"))
from takt import Session  # noqa: E402

DRIVER, PREFIX = "gpu.takt.dev", "/k8s.io.kubelet.pkg.apis.dra.v1.DRAPlugin/Node"
UIDS = {"a": "fc4b7b33-2b0c-42d5-9244-93a11eca7e0c", "b": "fc4b7b33-2b0c-42d5-9244-93a11eca7e0d", "c": "fc4b7b33-2b0c-42d5-9244-93a11eca7e0e"}
PODS = {"p": "c0e44f7a-5ca3-41d6-a3d3-cd4f832b2fe2", "q": "c0e44f7a-5ca3-41d6-a3d3-cd4f832b2fe3"}


def until(look):
    """For what offers no event to wait for."""
    end = time.monotonic() + 20
    while not (found := look()):
        assert time.monotonic() < end, "never came true"
        time.sleep(.02)
    return found


def claim(name, share, pods=("p",), gpu=0, promise=None):
    result = {"driver": DRIVER, "request": "gpu", "pool": "n1", "device": f"gpu-{GPUS[gpu]}", "shareID": "s1",
              "consumedCapacity": {"takt.dev/share": str(share), "memory": "8Gi"}}
    config = [{"source": "FromClaim", "opaque": {"driver": DRIVER, "parameters": {"apiVersion": "gpu.takt.dev/v1", "kind": "Promise", **(promise or {})}}}]
    return {"metadata": {"name": name, "namespace": "default", "uid": UIDS[name]},
            "status": {"allocation": {"devices": {"results": [result], "config": config if promise else []}},
                       "reservedFor": [{"resource": "pods", "name": p, "uid": PODS[p]} for p in pods]}}


class Driver(unittest.TestCase):
    def setUp(self):
        self.dir = tempfile.mkdtemp(prefix="takt-driver-")
        self.addCleanup(shutil.rmtree, self.dir, True)
        self.registry = f"{self.dir}/kubelet/plugins_registry"
        self.server = ApiServer(self.dir)
        self.resources = Resources(self.server)
        self.daemon = self.channel = None
        self.log = open(f"{self.dir}/log", "w+")
        self.addCleanup(self.log.close)

    def tearDown(self):
        if self.channel:
            self.channel.close()
        if self.daemon and self.daemon.poll() is None:
            self.daemon.terminate()
            self.assertEqual(self.daemon.wait(10), 0)
        self.resources.stop()
        self.server.stop()

    def run_daemon(self, takt):
        with open(f"{self.dir}/config.yaml", "w") as file:
            file.write(f"version: v1\ntakt: {{kubelet: {self.dir}/kubelet, cdi: {self.dir}/cdi, door: dra{takt}}}\n")
        os.makedirs(f"{self.dir}/kubelet", exist_ok=True)
        self.daemon = subprocess.Popen(
            [f"{BUILD}/src/node/taktd", "--dir", f"{self.dir}/run", "--kube", f"{self.dir}/config.yaml",
             *(a for uuid in GPUS for a in ("--device", f"{uuid}:{40 << 30}"))], stderr=self.log, env={**os.environ, "NODE_NAME": ""})

    def start(self, wait=True, more=""):
        self.run_daemon(f", node: n1, api: {{server: '{self.server.url}', ca: {self.server.ca}, token: {self.server.token}}}{more}")
        if wait:
            self.found()

    def found(self):
        """A kubelet has found its socket, and tells it that it is registered."""
        self.socket = until(lambda: [s for s in self.sockets() if self.answers(s)])[0]
        self.channel = grpc.insecure_channel(f"unix:{self.registry}/{self.socket}")
        self.call("/pluginregistration.Registration/NotifyRegistrationStatus", b"\x08\x01")

    def sockets(self):
        return os.listdir(self.registry) if os.path.isdir(self.registry) else []

    def answers(self, name):
        with grpc.insecure_channel(f"unix:{self.registry}/{name}") as channel:
            try:
                return dict(fields(channel.unary_unary("/pluginregistration.Registration/GetInfo")(b"", timeout=5)))
            except grpc.RpcError:
                return None

    def call(self, method, request=b""):
        return self.channel.unary_unary(method)(request, timeout=20)

    def prepare(self, *names, method="Prepare", namespace="default"):
        """{claim's name: its error, or its devices}"""
        request = b"".join(field(1, strings(1, [namespace]) + strings(2, [UIDS[n]]) + strings(3, [n])) for n in names)
        entries = [dict(fields(v)) for _, v in fields(self.call(f"{PREFIX}{method}Resources", request))]
        by_uid = {e[1].decode(): fields(e.get(2, b"")) for e in entries}
        own = 2 if method == "Prepare" else 1
        return {n: next((v.decode() for k, v in by_uid[UIDS[n]] if k == own), None)
                or [dict(fields(v)) for k, v in by_uid[UIDS[n]] if k == 1] for n in names}

    def folder(self, name):
        """What a claim's containers mount."""
        with open(f"{self.dir}/cdi/gpu.takt.dev-{UIDS[name]}.json") as file:
            return json.load(file)["devices"][0]["containerEdits"]["mounts"][0]["hostPath"]

    def session(self, name):
        session = Session(self.folder(name) + "/join", bytes.fromhex(GPUS[0].replace("-", "")))
        self.addCleanup(session.close)
        return session

    def overrun(self, one, other):
        """One is given the GPU, and does not end when its turn has."""
        one.want()
        one.await_gate("open")
        one.busy()
        other.want()
        one.await_gate("closed")
        time.sleep(.02)     # what is forgiven are four milliseconds
        one.idle()
        other.want(False)

    def logged(self):
        with open(self.log.name) as file:
            return file.read()

    def kill(self):
        self.channel.close()
        self.daemon.kill()
        self.daemon.wait()

    def tenants(self):
        out = subprocess.run([f"{BUILD}/src/cli/takt", "status", "--json"], env={**os.environ, "TAKT_DIR": f"{self.dir}/run"},
                             capture_output=True, text=True, check=True).stdout
        return {t["name"]: t for t in json.loads(out)["tenants"]}

    def test_registers_and_publishes_what_there_is(self):
        self.start()
        info = self.answers(self.socket)
        self.assertEqual((info[1], info[2]), (b"DRAPlugin", b"gpu.takt.dev"))
        verb, spec = self.resources.written.get(timeout=20)
        self.assertEqual((verb, [d["name"] for d in spec["devices"]]), ("POST", [f"gpu-{g}" for g in GPUS]))
        self.resources.delete()   # as a kubelet does at its start
        self.assertEqual(self.resources.written.get(timeout=20)[0], "POST")

    def test_claim_is_a_tenant_with_its_own_device(self):
        self.resources.claims["a"] = claim("a", 40, promise={"ttft": "2s", "itl": "200ms"})
        self.start()
        device, = self.prepare("a")["a"]
        self.assertEqual(device[4].decode(), f"takt.dev/claim={UIDS['a']}-0")
        with open(f"{self.dir}/cdi/gpu.takt.dev-{UIDS['a']}.json") as file:
            one, = json.load(file)["devices"]
        self.assertIn(f"TAKT_MEMORY_QUOTA={8 << 30}", one["containerEdits"]["env"])
        folder, = (m["hostPath"] for m in one["containerEdits"]["mounts"] if m["containerPath"] == "/run/takt")
        self.assertEqual(sorted(os.listdir(folder)), ["join", "requests"])
        self.assertEqual(self.tenants()["default/p/gpu"]["class"], "deadline")
        self.assertEqual(self.prepare("a", method="Unprepare"), {"a": []})
        self.assertEqual((self.tenants(), os.listdir(f"{self.dir}/run/claims"), os.path.exists(folder)), ({}, [], False))

    def test_names_are_whole_however_long(self):
        """Two pods, whose names differ in their last letter only."""
        namespace, request, pods = "n" * 63, "r" * 63, {"a": "x" * 252 + "1", "b": "x" * 252 + "2"}
        for name, pod in pods.items():
            self.resources.claims[name] = one = claim(name, 40)
            one["metadata"]["namespace"] = namespace
            one["status"]["reservedFor"][0]["name"] = pod
            one["status"]["allocation"]["devices"]["results"][0]["request"] = request
        for prepares in (True, False):   # the second daemon has it from the record
            self.start(more=f", metrics: {self.dir}/metrics")
            if prepares:
                self.assertEqual([len(devices) for devices in self.prepare(*"ab", namespace=namespace).values()], [1, 1])
            whole = {f"{namespace}/{pod}/{request}": (namespace, pod, request) for pod in pods.values()}
            self.assertEqual(set(self.tenants()), set(whole))
            self.assertEqual({labels["tenant"]: (labels["namespace"], labels["pod"], labels["container"]) for labels in self.labels()}, whole)
            table = subprocess.run([f"{BUILD}/src/cli/takt", "status"], env={**os.environ, "TAKT_DIR": f"{self.dir}/run"}, capture_output=True, text=True, check=True)
            self.assertEqual(len([line for line in table.stdout.splitlines() if line.startswith("n" * 16 + " ")]), 2, table.stdout)
            if prepares:
                self.kill()

    def labels(self):
        """Of each tenant, by what it has used."""
        connection = Unix(f"{self.dir}/metrics")
        self.addCleanup(connection.close)
        connection.request("GET", "/metrics")
        lines = [LINE.fullmatch(line) for line in connection.getresponse().read().decode().splitlines() if not line.startswith("#")]
        return [dict(re.findall(r'([a-z_]+)="((?:[^"\\]|\\.)*)"', line[2])) for line in lines if line[1] == "takt_slices_total"]

    def test_what_does_not_fit_is_refused_with_the_cores_numbers(self):
        pods = {"a": "p", "b": "q", "c": "p"}
        for name, share in (("a", 60), ("b", 30), ("c", 30)):
            self.resources.claims[name] = claim(name, share, pods=pods[name], promise={"ttft": "2s", "itl": "200ms"})
        self.start()
        answer = self.prepare("a", "b", "c")
        refused, = (n for n in "abc" if isinstance(answer[n], str))   # whoever the API server tells of last
        self.assertRegex(answer[refused], rf"claim default/{refused}: .*would break: within [\d.]+ ms, [\d.]+ ms of device time would be due")
        self.assertEqual(set(self.tenants()), {f"default/{pods[n]}/gpu" for n in "abc" if n != refused})

    def test_the_next_daemon_takes_up_what_was_prepared(self):
        self.resources.claims["a"] = claim("a", 40)
        self.start()
        self.prepare("a")
        self.kill()
        first = self.socket
        self.start()
        self.assertEqual((first != self.socket, self.sockets()), (True, [self.socket]))
        self.assertIn("default/p/gpu", self.tenants())
        self.resources.claims.clear()
        self.server.fault = lambda handler, url: handler.refuse(500, "unwell") or True
        self.assertEqual(len(self.prepare("a")["a"]), 1)   # it is prepared already
        self.assertIn("unwell", self.prepare("b")["b"])

    # 11: the disk is full
    def test_with_a_full_disk_goes_on_what_was_there_and_what_is_new_waits(self):
        disks = [Disk(self, f"{self.dir}/{name}", kib) for name, kib in (("run", 16384), ("cdi", 64))]
        self.resources.claims.update(a=claim("a", 40), b=claim("b", 30, "q"))
        self.start()
        self.prepare("a")
        for lost in ((), (f"{self.dir}/cdi/gpu.takt.dev-{UIDS['a']}.json",)):
            self.kill()
            for path in lost:
                os.unlink(path)
            for disk in disks:
                disk.fill()
            if not lost:
                os.unlink(f"{self.dir}/run/leases")
                disks[0].fill()   # what it had, too
            self.start()
            self.assertEqual(list(self.tenants()), ["default/p/gpu"])
            self.assertRegex(self.prepare("b")["b"], "claim default/b: its CDI file: No space left on device")
            self.assertIn("run/leases: No space left on device", self.logged())
            self.assertIn("libcuda.so.1: no room for it", self.logged())
            self.assertEqual([n for n in os.listdir(f"{self.dir}/run/lib") if n.endswith(".new")], [])
            if not lost:
                self.assertEqual(len(self.prepare("a")["a"]), 1)
            disks[1].empty()
            self.assertRegex(self.prepare("b")["b"], "claim default/b: its record: No space left on device")
            disks[0].empty()
        self.assertIn("default/a: its CDI file: No space left on device: it stays as it is", self.logged())
        self.assertEqual([len(devices) for devices in self.prepare("a", "b").values()], [1, 1])
        self.assertEqual(sorted(os.listdir(f"{self.dir}/cdi")), [*sorted(f"gpu.takt.dev-{UIDS[n]}.json" for n in "ab"), "takt.dev-slot.json"])
        self.assertEqual((len(self.tenants()), len(os.listdir(f"{self.dir}/run/claims"))), (2, 2))

    # 12: what is on it is garbage
    def test_record_that_is_garbage_costs_its_own_claim_until_it_is_prepared_again(self):
        self.resources.claims.update(a=claim("a", 40), b=claim("b", 30, "q"))
        self.start()
        self.prepare("a", "b")
        path = f"{self.dir}/run/claims/{UIDS['a']}"
        with open(path, "rb") as file:
            whole = file.read()
        open(f"{self.dir}/run/claims/README", "w").close()
        for garbage in (b"", bytes(4096), whole[:len(whole) // 2], whole + whole, b"[" * 70000, b"[]", whole.replace(b"default", b"Default"),
                        whole.replace(b"8Gi", b"-1"), whole.replace(GPUS[0].encode(), b"none")):
            self.kill()
            with open(path, "wb") as file:
                file.write(garbage)
            self.log.truncate(0)
            self.start()
            self.assertIn(f"taktd: {path}: the claim is prepared, but cannot be taken up until it is again: ", self.logged())
            self.assertIn("claims/README: \"README\" is no claim's UID; it is left alone", self.logged())
            self.assertEqual(list(self.tenants()), ["default/q/gpu"], garbage[:40])
            self.assertTrue(os.path.exists(f"{self.dir}/cdi/gpu.takt.dev-{UIDS['a']}.json"))   # its containers have begun
            self.assertEqual(len(self.prepare("a")["a"]), 1)
            self.assertEqual(len(self.tenants()), 2)
            with open(path, "rb") as file:
                self.assertEqual(file.read(), whole)

    def test_the_next_daemon_waits_and_takes_over(self):
        self.resources.claims["a"] = claim("a", 40)
        self.start()
        self.prepare("a")
        self.resources.written.get(timeout=20)
        first, old = self.daemon, self.channel
        self.start(wait=False)
        until(lambda: "waits for the end of the daemon" in self.logged())
        self.assertEqual(self.sockets(), [self.socket])
        first.terminate()
        self.assertEqual(first.wait(10), 0)
        old.close()
        self.found()
        self.assertIn("default/p/gpu", self.tenants())
        self.assertEqual(len(self.prepare("a")["a"]), 1)
        self.assertTrue(self.resources.written.empty())   # what is offered was there all the time

    def test_socket_that_is_taken_away_comes_back(self):
        self.start()
        os.unlink(f"{self.registry}/{self.socket}")
        again = until(lambda: [s for s in self.sockets() if self.answers(s)])[0]
        self.assertNotEqual(again, self.socket)

    def test_lost_gpu_is_told_and_tainted(self):
        self.start()
        self.resources.written.get(timeout=20)
        stream = self.channel.unary_stream("/v1.DRAResourceHealth/NodeWatchResources")(b"")

        def health():
            return [dict(fields(device))[2] for _, device in fields(next(stream))]
        self.assertEqual(health(), [1, 1])
        open(f"{self.dir}/run/lost/GPU-{GPUS[1]}", "w").close()
        self.assertEqual(health(), [1, 2])
        verb, spec = self.resources.written.get(timeout=20)
        self.assertEqual((verb, spec["pool"]["generation"], ["taints" in d for d in spec["devices"]]), ("PUT", 2, [False, True]))
        os.unlink(f"{self.dir}/run/lost/GPU-{GPUS[1]}")
        self.assertEqual(health(), [1, 1])
        stream.cancel()

    def test_lost_gpu_is_an_event_of_the_pod_or_of_the_claim_of_several(self):
        self.resources.claims |= {"a": claim("a", 40, gpu=1), "b": claim("b", 40, ("p", "q"), gpu=1), "c": claim("c", 20)}
        self.start()
        for name in "abc":
            self.prepare(name)
        path, said = f"{self.dir}/run/lost/GPU-{GPUS[1]}", []

        def hear():
            said[:] = [self.server.events.get(timeout=20)[2] for _ in range(3)]
            return {(e["involvedObject"]["apiVersion"], e["involvedObject"]["kind"], e["involvedObject"]["name"], e["involvedObject"]["uid"])
                    for e in said}
        whom = {("v1", "Node", "n1", "n1"), ("v1", "Pod", "p", PODS["p"]), ("resource.k8s.io/v1", "ResourceClaim", "b", UIDS["b"])}
        open(path, "w").close()
        self.assertEqual((hear(), {e["reason"] for e in said}), (whom, {"GPULost"}))
        os.unlink(path)
        self.assertEqual((hear(), {e["reason"] for e in said}), (whom, {"GPURecovered"}))

    def test_overruns_are_events_of_the_pod_or_of_the_claim_of_several(self):
        """Nobody says who has which slot: there is no pod-resources socket."""
        self.resources.claims |= {"a": claim("a", 40), "b": claim("b", 40, ("p", "q"))}
        self.start()
        self.prepare("a", "b")
        a, b = self.session("a"), self.session("b")
        self.overrun(a, b)
        self.overrun(b, a)
        said = [self.server.events.get(timeout=20)[2] for _ in range(2)]
        self.assertEqual({(e["involvedObject"]["kind"], e["involvedObject"]["name"], e["reason"], e["type"]) for e in said},
                         {("Pod", "p", "Overrun", "Warning"), ("ResourceClaim", "b", "Overrun", "Warning")})
        self.assertEqual({e["message"].partition("its work ran past")[0] for e in said}, {"claim a, request gpu: ", "claim b, request gpu: "})

    def test_lowered_class_is_an_event_and_so_is_its_end(self):
        self.resources.claims |= {"a": claim("a", 10, promise={"ttft": "2s", "itl": "200ms"}), "b": claim("b", 40)}
        self.start()
        self.prepare("a", "b")
        a, b = self.session("a"), self.session("b")
        said = {}

        def hear(event):
            said[event["reason"]] = event["type"], event["involvedObject"]["name"], event["message"]
        end = time.monotonic() + 60
        while "Demoted" not in said:   # one is forgotten a second, and it is looked at once a second
            self.assertLess(time.monotonic(), end)
            self.overrun(a, b)
            while not self.server.events.empty():
                hear(self.server.events.get()[2])
        while "Restored" not in said:
            hear(self.server.events.get(timeout=60)[2])
        self.assertEqual((said["Demoted"][:2], said["Restored"][:2]), (("Warning", "p"), ("Normal", "p")))
        self.assertRegex(said["Demoted"][2], "^claim a, request gpu: after [0-9]+ overruns it is served as fair, not as deadline, until")
        self.assertEqual(said["Restored"][2], "claim a, request gpu: it is served as deadline again")

    def test_annotations_of_a_claims_pod_are_named_once(self):
        """It asks by the class' resource, as for a slot; another one, with annotations too, has no claim of ours."""
        self.resources.claims["a"] = claim("a", 10)
        p = pod("p", PODS["p"], annotations={"takt.dev/share": "30%", "takt.dev/ttft": "2s", "other.example/share": "1"}, resource="takt.dev/gpu")
        for one in (p, pod("q", PODS["q"], annotations={"takt.dev/share": "30%"}, resource="takt.dev/gpu")):
            self.server.change("ADDED", one)
        self.start()
        self.prepare("a")
        said = self.server.events.get(timeout=20)[2]
        self.assertEqual((said["reason"], said["involvedObject"]["kind"], said["involvedObject"]["name"], said["involvedObject"]["uid"]),
                         ("InvalidAnnotation", "Pod", "p", PODS["p"]))
        self.assertTrue(said["message"].startswith('takt.dev/share: "30%"; takt.dev/ttft: "2s": not read, since the pod has its GPU by a claim'), said["message"])
        p["metadata"]["labels"] = {"anything": "else"}
        self.server.change("MODIFIED", p)
        time.sleep(3)   # it is looked at once a second
        self.assertEqual((self.logged().count('takt.dev/share: "30%"'), self.server.events.empty()), (1, True))
        p["metadata"]["annotations"]["takt.dev/share"] = "40%"
        self.server.change("MODIFIED", p)
        self.assertIn('takt.dev/share: "40%"', self.server.events.get(timeout=20)[2]["message"])

    def test_only_pods_that_it_is_reserved_for_join(self):
        groups = {p: pod_cgroup(uid) for p, uid in PODS.items()}
        if None in groups.values():
            self.skipTest("no cgroup can be made here")
        self.addCleanup(lambda: [os.rmdir(g) for g in groups.values()])
        self.resources.claims["a"] = claim("a", 40)
        self.start()
        self.prepare("a")
        with open(f"{self.dir}/cdi/gpu.takt.dev-{UIDS['a']}.json") as file:
            path = json.load(file)["devices"][0]["containerEdits"]["mounts"][0]["hostPath"] + "/join"
        frame = (struct.pack("<IHHHHI", 0x544B4154, 1, 280, 1, 0, 0) + struct.pack("<II", 1, 0) + bytes.fromhex(GPUS[0].replace("-", ""))).ljust(280, b"\0")

        def join(pod):
            return subprocess.run([sys.executable, "-c", JOINER, groups[pod], path, frame.hex()], capture_output=True, text=True, timeout=20,
                                  check=True).stdout.strip()
        self.assertEqual(join("p"), WELCOME)
        self.assertEqual(join("q"), REFUSED)
        until(lambda: "is refused: it is not reserved for that" in self.logged())
        self.resources.claims["a"] = claim("a", 40, pods="pq")   # the scheduler has let the second pod in
        until(lambda: join("q") == WELCOME)

    def test_what_it_cannot_do_without_is_named(self):
        for takt, why in (("", "neither takt.node nor NODE_NAME"), (", node: n1", "no API server is known"),
                          (", node: N1, api: {server: 'https://127.0.0.1:1', ca: /nowhere}", "\"N1\" is no node's name")):
            self.run_daemon(takt)
            self.assertEqual(self.daemon.wait(20), 1)
            self.assertIn(why, self.logged())


if __name__ == "__main__":
    unittest.main()
