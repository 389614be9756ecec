"""taktd --kube against gRPC's own implementation: a kubelet of the test's, on grpcio. Without grpcio: skipped."""
import json
import os
import queue
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import unittest
from concurrent import futures

try:
    import grpc
except ImportError:
    own = os.path.join(os.environ.get("TAKT_CACHE", ""), "py/bin/python")
    if os.access(own, os.X_OK) and sys.executable != own:
        os.execv(own, [own, *sys.argv])
    print("SKIP: no grpcio (script/fetch brings it)")
    sys.exit(77)

from disk import Disk

BUILD = os.environ["TAKT_BUILD"]
GPUS = ["00010203-0405-0607-0809-0a0b0c0d0e0f", "10111213-1415-1617-1819-1a1b1c1d1e1f"]
CONFIG = """
version: v1
sharing:
  timeSlicing:
    resources:
    - {name: nvidia.com/gpu, rename: takt.dev/chat, replicas: 3, takt: {ttft: 2s, itl: 200ms, share: 40%, memory: 8Gi}}
"""
CODE = grpc.StatusCode


def fields(data):
    """A message's fields as (number, value): numbers and bytes."""
    at, out = 0, []

    def varint():
        nonlocal at
        value = shift = 0
        while True:
            value |= (data[at] & 127) << shift
            at, shift = at + 1, shift + 7
            if data[at - 1] < 128:
                return value
    while at < len(data):
        tag = varint()
        if tag & 7 == 0:
            out.append((tag >> 3, varint()))
        else:
            assert tag & 7 == 2, tag
            size = varint()
            out.append((tag >> 3, data[at:at + size]))
            at += size
    return out


def field(number, value):
    size, head = len(value), bytes([number << 3 | 2])
    while size > 127:
        head, size = head + bytes([size & 127 | 128]), size >> 7
    return head + bytes([size]) + value


def strings(number, values):
    return b"".join(field(number, v.encode()) for v in values)


def pairs(values):
    return {dict(fields(v))[1].decode(): dict(fields(v)).get(2, b"").decode() for v in values}


class Kubelet:
    """Serves kubelet.sock, and dials every plugin that registers."""

    def __init__(self, folder, verdict=None):
        self.folder, self.registered, self.verdict, self.pods = folder, queue.Queue(), verdict, {}
        handler = grpc.method_handlers_generic_handler(
            "v1beta1.Registration", {"Register": grpc.unary_unary_rpc_method_handler(self.register)})
        self.server = grpc.server(futures.ThreadPoolExecutor(4))
        self.server.add_generic_rpc_handlers((handler,))
        self.server.add_insecure_port(f"unix:{folder}/kubelet.sock")
        self.serve_pods()
        self.server.start()

    def register(self, request, context):
        self.registered.put(dict(fields(request)))
        if self.verdict:
            refusal, self.verdict = self.verdict, None
            context.abort(CODE.FAILED_PRECONDITION, refusal)
        return b""

    def plugin(self):
        """The next plugin to register."""
        said = self.registered.get(timeout=10)
        return Plugin(f"{self.folder}/{said[2].decode()}", said)

    def serve_pods(self):
        """Pod-resources: {(namespace, pod, container): ids} is what it lists."""
        self.pods, self.asked = {}, queue.Queue()
        os.makedirs(f"{self.folder}/../pod-resources", exist_ok=True)
        self.server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(
            "v1.PodResourcesLister", {"List": grpc.unary_unary_rpc_method_handler(self.list_pods)}),))
        self.server.add_insecure_port(f"unix:{self.folder}/../pod-resources/kubelet.sock")

    def list_pods(self, request, context):
        self.asked.put(request)
        return b"".join(
            field(1, strings(1, [pod]) + strings(2, [namespace]) + field(3, strings(1, [container]) + field(
                2, strings(1, ["takt.dev/chat"]) + strings(2, ids))))
            for (namespace, pod, container), ids in self.pods.items())

    def stop(self):
        self.server.stop(0).wait()


class Plugin:
    def __init__(self, path, said):
        self.path, self.said = path, said
        self.channel = grpc.insecure_channel(f"unix:{path}")
        self.stream = None

    def call(self, method, request=b"", **how):
        return self.channel.unary_unary(f"/v1beta1.DevicePlugin/{method}")(request, timeout=10, **how)

    def watch(self):
        self.stream = self.channel.unary_stream("/v1beta1.DevicePlugin/ListAndWatch")(b"")
        return [dict(fields(device)) for _, device in fields(next(self.stream))]

    def allocate(self, *ids):
        container = dict(fields(self.call("Allocate", field(1, strings(1, ids)))))[1]
        answer = fields(container)
        return pairs(v for n, v in answer if n == 1), {dict(fields(v))[1].decode(): dict(fields(v))[2].decode() for n, v in answer if n == 2}

    def prefer(self, available, size, must=()):
        request = field(1, strings(1, available) + strings(2, must) + bytes([3 << 3, size]))
        return [v.decode() for _, v in fields(dict(fields(self.call("GetPreferredAllocation", request)))[1])]

    def await_end(self):
        try:
            for _ in self.stream:
                pass
        except grpc.RpcError:
            pass
        self.channel.close()


# A process in a pod's cgroup that joins a slot: prints the type of the frame that it is answered with.
JOINER = """
import socket, sys
open(sys.argv[1] + "/cgroup.procs", "w").write("0")
s = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
s.connect(sys.argv[2])
try: # who is refused may be so before it has said a word
    s.send(bytes.fromhex(sys.argv[3]))
except BrokenPipeError:
    pass
try:
    frame = s.recv(4096)
except ConnectionResetError:
    frame = s.recv(4096)
print(frame[4])
"""
WELCOME, REFUSED = "2", "3"
# The same by a child that has ended by then: how many of its connections are kept.
ORPHANS = """
import os, socket, sys
open(sys.argv[1] + "/cgroup.procs", "w").write("0")
made = [socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) for _ in range(40)]
child = os.fork()
if child == 0:
    for s in made:
        s.connect(sys.argv[2])
    os._exit(0)
os.waitpid(child, 0)
kept = 0
for s in made:
    try:
        s.send(bytes.fromhex(sys.argv[3]))
        kept += s.recv(4096)[4] == 2
    except OSError:
        pass
print(kept)
"""


def pod_cgroup(uid, qos=""):
    """A cgroup as a kubelet makes it, in either version; None where this user may make none. qos: the folder of a class, with a slash."""
    for root in ("/sys/fs/cgroup/pids", "/sys/fs/cgroup"):
        path = f"{root}/takt-test-{os.getpid()}/kubepods/{qos}pod{uid}"
        try:
            os.makedirs(path)
        except OSError:
            continue
        if os.access(f"{path}/cgroup.procs", os.W_OK):
            return path
    return None


class Interop(unittest.TestCase):
    def setUp(self):
        self.dir = tempfile.mkdtemp(prefix="takt-kube-")
        self.folder = f"{self.dir}/kubelet/device-plugins"
        os.makedirs(self.folder)
        self.addCleanup(shutil.rmtree, self.dir, True)
        self.kubelet = Kubelet(self.folder)
        self.start()
        self.plugin = self.kubelet.plugin()

    def start(self, config=CONFIG, more=""):
        with open(f"{self.dir}/config.yaml", "w") as out:
            out.write(config + f"takt: {{kubelet: {self.dir}/kubelet, {more}}}\n")
        self.said = self.enterContext(open(f"{self.dir}/log", "a+"))
        ready, write = os.pipe()
        self.daemon = subprocess.Popen(
            [f"{BUILD}/src/node/taktd", "--dir", f"{self.dir}/run", "--kube", f"{self.dir}/config.yaml", "--ready", str(write),
             *(a for uuid in GPUS for a in ("--device", f"{uuid}:{40 << 30}"))], pass_fds=[write], stderr=self.said)
        os.close(write)
        self.assertEqual(os.read(ready, 1), b"1")
        os.close(ready)

    def tearDown(self):
        self.plugin.channel.close()
        self.kubelet.stop()
        if self.daemon.poll() is None:
            self.daemon.terminate()
            self.assertEqual(self.daemon.wait(10), 0)

    def slot(self, gpu, number):
        return f"GPU-{GPUS[gpu]}-{number}"

    def status(self):
        with socket.socket(socket.AF_UNIX) as s:
            s.connect(f"{self.dir}/run/control")
            s.sendall(b'{"op":"status"}\n')
            return json.loads(s.makefile().readline())

    def test_registers_and_lists_all_slots(self):
        self.assertEqual(self.plugin.said[1], b"v1beta1")
        self.assertEqual(self.plugin.said[3], b"takt.dev/chat")
        self.assertEqual(dict(fields(self.plugin.said[4])), {1: 1, 2: 1})
        devices = self.plugin.watch()
        self.assertEqual([d[1].decode() for d in devices], [self.slot(g, n) for g in range(2) for n in range(3)])
        self.assertEqual({d[2] for d in devices}, {b"Healthy"})

    def test_resource_whose_gpus_are_all_on_other_nodes_offers_nothing_here(self):
        self.plugin.channel.close()
        self.daemon.terminate()
        self.assertEqual(self.daemon.wait(10), 0)
        self.start(CONFIG.replace("replicas: 3", "replicas: 3, devices: [GPU-elsewhere, 7]"))
        self.plugin = self.kubelet.plugin()
        self.assertEqual(self.plugin.said[3], b"takt.dev/chat")
        self.assertEqual(self.plugin.watch(), [])

    def test_a_lost_gpu_takes_all_its_slots_and_gives_them_back(self):
        self.plugin.watch()
        for make in (lambda path: open(path, "w").close(), os.unlink):
            make(f"{self.dir}/run/lost/GPU-{GPUS[1]}")
            devices = [dict(fields(device)) for _, device in fields(next(self.plugin.stream))]
            lost = b"Unhealthy" if make != os.unlink else b"Healthy"
            self.assertEqual([d[2] for d in devices], [b"Healthy"] * 3 + [lost] * 3)

    def test_allocate_gives_a_folder_that_can_be_joined(self):
        env, mounts = self.plugin.allocate(self.slot(1, 0))
        self.assertEqual(env["TAKT_SOCKET"], "/run/takt/join")
        self.assertEqual(env["TAKT_MEMORY_QUOTA"], str(8 << 30))
        self.assertTrue(env["LD_LIBRARY_PATH"].startswith("/opt/takt/lib:"))
        self.assertIn("libcuda.so.1", os.listdir(mounts["/opt/takt/lib"]))
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as s:
            s.connect(f"{mounts['/run/takt']}/join")
        tenants = self.status()["tenants"]
        self.assertEqual([(t["device"], t["class"]) for t in tenants], [(1, "deadline")])

    def test_a_promise_that_does_not_fit_is_refused_with_the_reason(self):
        self.plugin.allocate(self.slot(0, 0))
        self.plugin.allocate(self.slot(0, 1))
        with self.assertRaises(grpc.RpcError) as refused:
            self.plugin.allocate(self.slot(0, 2))
        self.assertEqual(refused.exception.code(), CODE.RESOURCE_EXHAUSTED)
        self.assertIn("would break", refused.exception.details())
        self.plugin.allocate(self.slot(1, 0))
        self.plugin.allocate(self.slot(0, 1))  # given away again: whoever had it is gone
        self.assertEqual(len(self.status()["tenants"]), 3)

    def test_what_is_wrong_is_named(self):
        for method, request, code in (
                ("Allocate", field(1, strings(1, ["nonsense"])), CODE.INVALID_ARGUMENT),
                ("Allocate", field(1, strings(1, [self.slot(0, 0), self.slot(1, 0)])), CODE.INVALID_ARGUMENT),
                ("Allocate", field(1, strings(1, [self.slot(0, 0)] * 2)), CODE.INVALID_ARGUMENT),
                ("Allocate", b"\xff\xff\xff", CODE.INVALID_ARGUMENT),
                ("Allocate", b"", CODE.INVALID_ARGUMENT),
                ("Allocate", bytes(5 << 20), CODE.RESOURCE_EXHAUSTED),
                ("NoSuchMethod", b"", CODE.UNIMPLEMENTED)):
            with self.assertRaises(grpc.RpcError) as wrong:
                self.plugin.call(method, request)
            self.assertEqual(wrong.exception.code(), code, (method, request[:40]))
        self.assertEqual(self.status()["tenants"], [])

    def test_prefers_the_gpu_that_has_room(self):
        with socket.socket(socket.AF_UNIX) as s:   # fewer slots are taken there, and more is promised
            s.connect(f"{self.dir}/run/control")
            s.sendall(json.dumps({"op": "register", "name": "a", "class": "deadline", "slo_ns": 10**9, "share_ppm": 800000, "reclaim": -1}).encode() + b"\n")
            self.assertTrue(json.loads(s.makefile().readline())["ok"])
            self.plugin.allocate(self.slot(1, 0))
            self.assertEqual(self.plugin.prefer([self.slot(g, n) for g in range(2) for n in (1, 2)], 1), [self.slot(1, 1)])

    def test_prefers_the_emptier_gpu_and_one_gpu_for_all(self):
        everything = [self.slot(g, n) for g in range(2) for n in range(3)]
        self.plugin.allocate(self.slot(0, 0))
        self.assertEqual(self.plugin.prefer(everything[1:], 1), [self.slot(1, 0)])
        self.assertEqual(self.plugin.prefer(everything[1:], 2), [self.slot(1, 0), self.slot(1, 1)])
        self.assertEqual(self.plugin.prefer(everything[1:], 2, [self.slot(0, 1)]), [self.slot(0, 1), self.slot(0, 2)])

    def test_compressed_requests_are_refused(self):
        with self.assertRaises(grpc.RpcError) as wrong:
            self.plugin.call("Allocate", bytes(10000), compression=grpc.Compression.Gzip)
        self.assertEqual(wrong.exception.code(), CODE.UNIMPLEMENTED)

    def test_many_calls_at_once(self):
        def one(_):
            return dict(fields(self.plugin.call("GetDevicePluginOptions")))
        with futures.ThreadPoolExecutor(16) as pool:
            self.assertEqual(list(pool.map(one, range(400))), [{1: 1, 2: 1}] * 400)

    def test_kubelet_restarted_and_socket_deleted_and_stream_cancelled(self):
        seen = {self.plugin.path}
        self.plugin.watch()
        for what in ("deleted", "cancelled", "restarted"):
            if what == "deleted":
                os.unlink(self.plugin.path)
                self.plugin.await_end()
            elif what == "cancelled":
                self.plugin.stream.cancel()
            else:
                self.plugin.channel.close()
                self.kubelet.stop()
                self.kubelet = Kubelet(self.folder)
            self.plugin = self.kubelet.plugin()
            self.assertNotIn(self.plugin.path, seen, "a socket's name is used once")
            seen.add(self.plugin.path)
            self.assertEqual(len(self.plugin.watch()), 6)

    def test_a_refused_registration_is_tried_again(self):
        self.plugin.watch()
        self.kubelet.verdict = "not now"
        self.plugin.stream.cancel()
        first, self.plugin = self.kubelet.plugin(), self.kubelet.plugin()
        self.assertNotEqual(first.path, self.plugin.path)
        self.assertEqual(len(self.plugin.watch()), 6)

    def lines(self, words):
        """Of the daemons' logs, those with the words."""
        self.said.seek(0)
        return [line.rstrip() for line in self.said if words in line]

    def test_who_uses_a_slot_that_is_given_away_is_named(self):
        _, mounts = self.plugin.allocate(self.slot(0, 0))
        self.plugin.allocate(self.slot(0, 0))
        self.assertEqual(self.lines("is given away"), [])
        _, mounts = self.plugin.allocate(self.slot(0, 0))
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as s:
            s.connect(f"{mounts['/run/takt']}/join")
            s.send(struct.pack("<IHHHHI", 0x544B4154, 1, 280, 1, 0, 0) + struct.pack("<II", 1, 0) + bytes.fromhex(GPUS[0].replace("-", "")) + bytes(240))
            self.assertEqual(s.recv(4096)[4], 2)
            self.plugin.allocate(self.slot(0, 0))
        [line] = self.lines("is given away")
        self.assertTrue(line.startswith(f"taktd: slot {self.slot(0, 0)} of takt.dev/chat is given away while 1 processes of pod "), line)

    def test_slots_that_are_offered_no_more_are_named(self):
        _, mounts = self.plugin.allocate(self.slot(0, 2))
        self.daemon.terminate()
        self.daemon.wait(10)
        os.makedirs(f"{self.dir}/run/claims/one")
        self.start(CONFIG.replace("replicas: 3", "replicas: 2"))   # the third of each GPU has gone
        self.plugin = self.kubelet.plugin()
        for words in (f"{mounts['/run/takt']}: a container has this slot, which is not offered any more",
                      f"{self.dir}/run/claims: 1 claims are prepared, but no GPU goes by claims any more"):
            self.assertEqual(len(self.lines(words)), 1, words)
        self.assertEqual(self.status()["tenants"], [])

    def test_killed_daemon_leaves_slots_held(self):
        self.plugin.allocate(self.slot(0, 0))
        self.plugin.allocate(self.slot(0, 1))
        self.daemon.send_signal(signal.SIGKILL)
        self.daemon.wait()
        self.start()
        self.plugin = self.kubelet.plugin()
        self.assertEqual(len(self.status()["tenants"]), 2)
        with self.assertRaises(grpc.RpcError):
            self.plugin.allocate(self.slot(0, 2))
        self.plugin.call("PreStartContainer", strings(1, [self.slot(0, 1)]))
        self.assertEqual(len(self.status()["tenants"]), 2)

    def test_by_cdi_the_runtime_is_told(self):
        _, mounts = self.plugin.allocate(self.slot(0, 1))
        self.plugin.channel.close()
        self.daemon.terminate()
        self.daemon.wait()
        self.start(more=f"cdi: {self.dir}/cdi")
        self.plugin = self.kubelet.plugin()
        container = dict(fields(self.plugin.call("Allocate", field(1, strings(1, [self.slot(0, 1)])))))[1]
        answer = fields(container)
        self.assertEqual([n for n, _ in answer], [1, 5])
        kind, name = dict(fields(answer[1][1]))[1].decode().split("=")
        with open(f"{self.dir}/cdi/takt.dev-slot.json") as file:
            spec = json.load(file)
        self.assertEqual((spec["cdiVersion"], spec["kind"], len(spec["devices"])), ("0.5.0", kind, 6))
        edits = {d["name"]: d["containerEdits"] for d in spec["devices"]}[name]
        self.assertEqual({m["containerPath"]: m["hostPath"] for m in edits["mounts"]}, mounts)
        self.assertIn("TAKT_SOCKET=/run/takt/join", edits["env"])

    def restart(self, before=lambda: None, **how):
        self.plugin.channel.close()
        self.daemon.kill()
        self.daemon.wait()
        before()
        self.start(**how)
        self.plugin = self.kubelet.plugin()

    # 11: the disk is full
    def test_cdi_file_for_which_there_is_no_room_is_written_when_there_is(self):
        disk, ask = Disk(self, f"{self.dir}/cdi", 16), field(1, strings(1, [self.slot(0, 1)]))
        self.restart(disk.fill, more=f"cdi: {self.dir}/cdi")
        with self.assertRaises(grpc.RpcError) as refused:
            self.plugin.call("Allocate", ask)
        self.assertEqual((refused.exception.code(), refused.exception.details()),
                         (CODE.RESOURCE_EXHAUSTED, f"cdi: {self.dir}/cdi: No space left on device"))
        self.assertEqual(self.status()["tenants"], [])
        disk.empty()
        for _ in range(2):   # and when it was taken away
            self.plugin.call("Allocate", ask)
            self.assertEqual(os.listdir(f"{self.dir}/cdi"), ["takt.dev-slot.json"])
            os.unlink(f"{self.dir}/cdi/takt.dev-slot.json")

    # 12: what is on it is garbage
    def test_what_is_in_a_slots_place_goes(self):
        _, mounts = self.plugin.allocate(self.slot(0, 0))
        folder = mounts["/run/takt"]

        def make_file():
            shutil.rmtree(folder)
            open(folder, "w").close()

        def make_link():
            shutil.rmtree(folder)
            os.symlink(self.dir, folder)
        for in_the_way in (make_file, make_link):
            self.restart(in_the_way)
            self.assertEqual(len(self.status()["tenants"]), 1)
            self.assertEqual(sorted(os.listdir(folder)), ["join", "requests"])

    def found(self, seen):
        """A plugin in the watcher's folder, as the kubelet takes it in."""
        folder, path = f"{self.dir}/kubelet/plugins_registry", None
        while not path:
            path = next((f"{folder}/{name}" for name in os.listdir(folder) if name not in seen), None)
            os.sched_yield()
        seen.add(os.path.basename(path))
        plugin = Plugin(path, None)
        ask = plugin.channel.unary_unary("/pluginregistration.Registration/GetInfo")
        info = dict(fields(ask(b"", timeout=10, wait_for_ready=True)))
        self.assertEqual(info, {1: b"DevicePlugin", 2: b"takt.dev/chat", 3: path.encode(), 4: b"v1beta1"})
        return plugin

    def notify(self, plugin, status):
        plugin.channel.unary_unary("/pluginregistration.Registration/NotifyRegistrationStatus")(status, timeout=10)

    def test_the_plugin_watcher_finds_it(self):
        self.plugin.channel.close()
        self.daemon.terminate()
        self.daemon.wait()
        self.start(more="registration: watcher")
        seen = set()
        refused = self.found(seen)
        self.notify(refused, field(2, b"not this one"))
        refused.channel.close()
        first = self.found(seen)
        self.assertEqual(len(first.watch()), 6)
        self.notify(first, b"\x08\x01")
        first.stream.cancel()
        first.channel.close()
        self.plugin = self.found(seen)
        self.assertEqual(len(self.plugin.watch()), 6)
        self.assertTrue(self.kubelet.registered.empty())

    def test_a_process_of_another_pod_is_refused(self):
        pods = [pod_cgroup(f"fc4b7b33-2b0c-42d5-9244-93a11eca7e0{i}") for i in range(2)]
        if None in pods:
            self.skipTest("no cgroup can be made here")
        self.addCleanup(os.removedirs, pods[0])  # the last takes what is above
        self.addCleanup(os.rmdir, pods[1])
        _, mounts = self.plugin.allocate(self.slot(0, 0))
        frame = struct.pack("<IHHHHI", 0x544B4154, 1, 280, 1, 0, 0) + struct.pack("<II", 1, 0) + bytes.fromhex(GPUS[0].replace("-", "")) + bytes(240)
        said = [subprocess.run([sys.executable, "-c", JOINER, pod, mounts["/run/takt"] + "/join", frame.hex()], capture_output=True,
                               text=True, check=True, timeout=10).stdout.strip() for pod in (pods[0], pods[1], pods[0])]
        self.assertEqual(said, [WELCOME, REFUSED, WELCOME])
        self.daemon.kill()
        self.daemon.wait()
        self.start()   # whose it is outlives the daemon
        self.plugin = self.kubelet.plugin()
        said = [subprocess.run([sys.executable, "-c", JOINER, pod, mounts["/run/takt"] + "/join", frame.hex()], capture_output=True,
                               text=True, check=True, timeout=10).stdout.strip() for pod in (pods[1], pods[0])]
        self.assertEqual(said, [REFUSED, WELCOME])
        orphans = subprocess.run([sys.executable, "-c", ORPHANS, pods[1], mounts["/run/takt"] + "/join", frame.hex()], capture_output=True,
                                 text=True, check=True, timeout=30).stdout.strip()
        self.assertEqual(orphans, "0")   # an ended process is in no pod, and is not taken for one of this machine's root

    def test_before_a_container_starts_its_slot_is_held(self):
        self.plugin.call("PreStartContainer", strings(1, [self.slot(1, 2)]))
        self.assertEqual([t["device"] for t in self.status()["tenants"]], [1])

    def test_an_ended_pod_gives_its_promise_back_when_another_wants_it(self):
        self.kubelet.pods = {("default", "a", "main"): [self.slot(0, 0)], ("default", "b", "main"): [self.slot(0, 1)]}
        self.plugin.allocate(self.slot(0, 0))
        self.plugin.allocate(self.slot(0, 1))
        with self.assertRaises(grpc.RpcError):
            self.plugin.allocate(self.slot(0, 2))
        self.assertEqual(self.kubelet.asked.qsize(), 1)
        self.assertEqual({t["name"] for t in self.status()["tenants"]}, {"default/a/main", "default/b/main"})
        del self.kubelet.pods["default", "a", "main"]
        _, mounts = self.plugin.allocate(self.slot(0, 2))
        self.assertEqual(len(self.status()["tenants"]), 2)
        self.assertTrue(os.path.exists(mounts["/run/takt"] + "/join"))

    def test_a_pod_that_is_not_listed_yet_keeps_its_promise(self):
        self.plugin.allocate(self.slot(0, 0))
        self.plugin.allocate(self.slot(0, 1))
        with self.assertRaises(grpc.RpcError):
            self.plugin.allocate(self.slot(0, 2))
        self.assertEqual(len(self.status()["tenants"]), 2)

    def test_ended_in_order(self):
        self.plugin.watch()
        self.daemon.terminate()
        self.assertEqual(self.daemon.wait(10), 0)
        self.plugin.await_end()
        self.assertEqual([n for n in os.listdir(self.folder) if n.startswith("takt-")], [])


if __name__ == "__main__":
    unittest.main()
