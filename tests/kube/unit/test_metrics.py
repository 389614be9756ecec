"""What taktd --kube answers to who scrapes it, and that no scraper is in anybody's way."""
import http.client
import json
import os
import socket
import sys
import time
import unittest

import test_interop as interop
from served import GPUS, Served

sys.path.append(f"{os.path.dirname(os.path.abspath(__file__))}/../../node")
from takt import Session   # the lease protocol by hand

PODS = {("team-a", "a-chat-with-a-long-name-7d9f8b6c5d-x2x4z", "a-container-of-a-long-name"): 0, ("team-b", "router-0", "main"): 1}


class Metrics(Served):
    def status(self):
        with socket.socket(socket.AF_UNIX) as s:
            s.connect(f"{self.dir}/run/control")
            s.sendall(b'{"op":"status"}\n')
            return json.loads(s.makefile().readline())

    def test_over_tcp_too(self):
        with socket.create_server(("127.0.0.1", 0)) as s:
            port = s.getsockname()[1]
        self.start(f"127.0.0.1:{port}")
        answer, body = self.ask(where=http.client.HTTPConnection("127.0.0.1", port, timeout=10))
        self.assertEqual(answer.status, 200)
        self.assertIn("takt_build_info{", body)

    def test_only_what_is_served(self):
        self.start()
        for method, path, status in (("GET", "/healthz", 200), ("GET", "/", 404), ("GET", "/metrics/../x", 404), ("POST", "/metrics", 405),
                                     ("HEAD", "/metrics", 405), ("DELETE", "/healthz", 405), ("GET", "/" + 9000 * "x", 414)):
            answer, _ = self.ask(path, method)
            self.assertEqual(answer.status, status, (method, path))
        with socket.socket(socket.AF_UNIX) as s:
            s.connect(self.socket)
            s.sendall(b"\0\xff no HTTP at all\r\n\r\n")
            s.settimeout(30)
            while s.recv(4096):   # it is told so, and closed
                pass
        self.assertEqual(set(self.healthy().values()), {1})

    def test_pods_have_their_labels_and_counters_never_go_back(self):
        kubelet = interop.Kubelet(f"{self.dir}/kubelet/device-plugins")
        self.addCleanup(kubelet.stop)
        self.start()
        plugin = kubelet.plugin()
        self.addCleanup(plugin.channel.close)
        kubelet.pods = {pod: [f"GPU-{GPUS[0]}-{n}"] for pod, n in PODS.items()}
        for n in PODS.values():
            plugin.allocate(f"GPU-{GPUS[0]}-{n}")
        with self.assertRaises(interop.grpc.RpcError):   # refused, but only after a look at who is there
            plugin.allocate(f"GPU-{GPUS[0]}-2")
        before = self.scrape()
        shares = {tuple(dict(labels)[key] for key in ("namespace", "pod", "container")): dict(labels)
                  for (name, labels), value in before.items() if name == "takt_share_ratio" and value == .4}
        self.assertEqual(set(shares), set(PODS))
        self.assertEqual({labels["gpu"] for labels in shares.values()}, {f"GPU-{GPUS[0]}"})
        self.assertEqual({labels["tenant"] for labels in shares.values()}, {"/".join(pod) for pod in PODS})
        gpu = frozenset({("gpu", f"GPU-{GPUS[0]}")})
        self.assertEqual(before["takt_device_promised_ratio", gpu], .8)
        self.assertEqual(before["takt_device_promised_bytes", gpu], 16 << 30)
        slots = gpu | {("resource", "takt.dev/chat")}
        self.assertEqual((before["takt_slots", slots], before["takt_slots_held", slots]), (3, 2))
        del kubelet.pods[next(iter(PODS))]
        plugin.allocate(f"GPU-{GPUS[0]}-2")   # one is gone, and another there
        after = self.scrape()
        self.assertEqual({dict(labels)["pod"] for (name, labels) in after if name == "takt_share_ratio"}, {"router-0", ""})
        gone_back = [key for key, value in after.items() if key[0].endswith("_total") and value < before.get(key, 0)]
        self.assertEqual(gone_back, [])
        self.assertGreater(after["takt_device_idle_seconds_total", gpu], before["takt_device_idle_seconds_total", gpu])

    def test_a_tenant_of_the_machine_has_no_pod(self):
        self.start()
        with socket.socket(socket.AF_UNIX) as s:
            s.connect(f"{self.dir}/run/control")
            s.sendall(json.dumps({"op": "register", "name": 'a/"b"\\/c\n', "class": "fair", "share_ppm": 300000}).encode() + b"\n")
            self.assertTrue(json.loads(s.makefile().readline())["ok"])
            said = self.scrape()
            [labels] = [dict(labels) for name, labels in said if name == "takt_slices_total"]
        self.assertEqual(said["takt_device_promised_ratio", frozenset({("gpu", f"GPU-{GPUS[0]}")})], 0)   # its share is none without objectives
        self.assertEqual(labels, {"namespace": "", "pod": "", "container": "", "tenant": 'a/\\"b\\"\\\\/c\\n', "seat": "0", "gpu": f"GPU-{GPUS[0]}"})

    def test_work_is_counted(self):
        self.start()
        with socket.socket(socket.AF_UNIX) as s:
            s.connect(f"{self.dir}/run/control")
            s.sendall(json.dumps({"op": "register", "name": "t", "ttft_ns": 10**9, "itl_ns": 10**8, "share_ppm": 300000}).encode() + b"\n")
            answer = json.loads(s.makefile().readline())
            session = Session(answer["join"], bytes.fromhex(GPUS[0].replace("-", "")))
            self.addCleanup(session.close)
            with socket.socket(socket.AF_UNIX) as requests:
                requests.connect(answer["requests"])
                for n, event in enumerate(("arrived", "first_token", "finished") * 2):
                    requests.sendall(json.dumps({"event": event, "id": str(n // 3), **({"deadline_ms": 60000} if event == "arrived" else {})}).encode() + b"\n")
                session.take()
                session.busy()
                session.idle(steps=3, busy_ns=2_500_000)
                end = time.monotonic() + 60
                while True:   # what was sent is heard when the loop comes to it
                    now = {name + dict(labels).get("in_time", "") + dict(labels).get("le", ""): value for (name, labels), value in self.scrape().items()}
                    if now["takt_steps_total"] == 3 and now["takt_requests_totaltrue"] == 2 and now["takt_gpu_seconds_total"]:
                        break
                    self.assertLess(time.monotonic(), end, now)
        self.assertEqual((now["takt_slices_total"], now["takt_arrivals_total"], now["takt_requests_totalfalse"]), (1, 2, 0))
        self.assertEqual((now["takt_lease_wait_seconds_count"], now["takt_lease_wait_seconds_bucket+Inf"]), (1, 1))
        self.assertEqual((now["takt_gpu_seconds_total"], now["takt_processes"], now["takt_share_ratio"]), (.0025, 1, .3))
        self.assertAlmostEqual(now["takt_degradation_factor"], 1 + now["takt_wait_seconds_total"] / .0025, places=3)

    def test_many_who_say_nothing_keep_nobody_out_for_long(self):
        self.start()
        silent = []
        for _ in range(40):
            silent.append(socket.socket(socket.AF_UNIX))
            silent[-1].setblocking(False)
            try:
                silent[-1].connect(self.socket)
            except BlockingIOError:   # the queue is full
                break
        self.addCleanup(lambda: [s.close() for s in silent])
        self.assertTrue(self.status()["ok"])   # the daemon's own socket is another matter
        for s in silent:
            s.close()
        self.assertEqual(set(self.healthy().values()), {1})

    def test_an_address_that_is_none_is_named(self):
        for where in ("nonsense", "localhost:9410", "127.0.0.1:port", f"{self.dir}/no/folder", "192.0.2.1:9410"):
            self.assertFalse(self.start(where))
            self.hear("metrics:", where)
            self.assertEqual(self.daemon.wait(10), 1)

    def test_its_socket_goes_with_it(self):
        self.start()
        self.assertEqual(os.stat(self.socket).st_mode & 0o777, 0o600)
        self.end()
        self.assertFalse(os.path.exists(self.socket))


class Full(Served):
    replicas, promise = 10, "slo: 2s, share: 5%, memory: 1Gi"
    uuids = [f"{n:08x}-0000-4000-8000-000000000000" for n in range(8)]
    devices = [f"{uuid}:{40 << 30}" for uuid in uuids]

    def test_each_slot_of_eight_gpus_is_a_tenant(self):
        kubelet = interop.Kubelet(f"{self.dir}/kubelet/device-plugins")
        self.addCleanup(kubelet.stop)
        self.start()
        plugin = kubelet.plugin()
        self.addCleanup(plugin.channel.close)
        slots = [(uuid, n) for n in range(self.replicas) for uuid in self.uuids]
        for n, (uuid, place) in enumerate(slots):
            kubelet.pods["team", f"pod-{n}", "main"] = [f"GPU-{uuid}-{place}"]
            plugin.allocate(f"GPU-{uuid}-{place}")
        said = [dict(labels) for name, labels in self.scrape() if name == "takt_share_ratio"]
        self.assertEqual(sorted((labels["gpu"], int(labels["seat"])) for labels in said),
                         sorted((f"GPU-{uuid}", seat) for seat, (uuid, _) in enumerate(slots)))


if __name__ == "__main__":
    unittest.main()
