"""taktd --kube between a kubelet and an API server of a test's own."""
import json
import os
import queue
import shutil
import subprocess
import tempfile
import threading
import unittest

from apiserver import ApiServer
from test_interop import BUILD, CODE, GPUS, Kubelet, grpc

PROMISE = "takt: {ttft: 2s, itl: 200ms, share: 40%, memory: 8Gi}"
CONFIG = """
version: v1
sharing:
  timeSlicing:
    resources:
    - {{name: nvidia.com/gpu, rename: takt.dev/chat, replicas: 4, {promise}}}
takt: {{kubelet: {dir}/kubelet, node: n1, api: {api}{more}}}
"""


class Wished(unittest.TestCase):
    def setUp(self):
        self.dir = tempfile.mkdtemp(prefix="takt-wishes-")
        self.addCleanup(shutil.rmtree, self.dir, True)
        os.makedirs(f"{self.dir}/kubelet/device-plugins")
        self.kubelet, self.server, self.log = Kubelet(f"{self.dir}/kubelet/device-plugins"), ApiServer(self.dir), queue.Queue()
        self.daemon = self.plugin = None

    def tearDown(self):
        if self.plugin:
            self.plugin.channel.close()
        self.kubelet.stop()
        if self.daemon:
            self.daemon.terminate()
            self.assertEqual(self.daemon.wait(10), 0)
            self.daemon.stderr.close()
        self.server.stop()

    def start(self, *pods, promise=PROMISE, more="", wait=True, env=None):
        """A daemon that knows these pods."""
        self.assertTrue(self.daemon is None or self.daemon.poll() is not None, "what failed before has left one")
        for p in pods:
            self.server.change("ADDED", p)
        with open(f"{self.dir}/config.yaml", "w") as file:
            file.write(CONFIG.format(dir=self.dir, promise=promise or "devices: all", more=more,
                                     api=f"{{server: '{self.server.url}', ca: {self.server.ca}, token: {self.server.token}}}"))
        self.daemon = subprocess.Popen(
            [f"{BUILD}/src/node/taktd", "--dir", f"{self.dir}/run", "--kube", f"{self.dir}/config.yaml",
             *(a for uuid in GPUS if not env for a in ("--device", f"{uuid}:{40 << 30}"))], stderr=subprocess.PIPE, text=True,
            env={**os.environ, **(env or {})})
        self.addCleanup(lambda daemon=self.daemon: (daemon.kill(), daemon.wait()))  # however the test ends, nothing is left
        threading.Thread(target=lambda: [self.log.put(line) for line in self.daemon.stderr], daemon=True).start()
        self.plugin = self.kubelet.plugin()
        while wait and "watch=true" not in self.server.seen.get(timeout=20)[1]:
            pass

    def end(self):
        """Of a daemon and all that it held."""
        self.daemon.terminate()
        self.daemon.wait(10)
        self.daemon.stderr.close()
        self.daemon = None
        shutil.rmtree(f"{self.dir}/run")
        self.plugin.channel.close()

    def slot(self, number, gpu=0):
        return f"GPU-{GPUS[gpu]}-{number}"

    def refused(self, *ids):
        with self.assertRaises(grpc.RpcError) as wrong:
            self.plugin.allocate(*ids)
        self.assertEqual(wrong.exception.code(), CODE.RESOURCE_EXHAUSTED)
        return wrong.exception.details()

    def event(self, reason, of):
        """The next event, which has to be this one: its message."""
        verb, path, body = self.server.events.get(timeout=20)
        self.assertEqual((verb, body["reason"], body["involvedObject"]["name"]), ("POST", reason, of), body["message"])
        self.assertEqual(path, f"/api/v1/namespaces/{body['metadata']['namespace']}/events")
        self.assertEqual(body["type"], "Normal" if reason.startswith(("Promised", "PromiseC", "GPURec")) else "Warning")
        return body["message"]

    def logged(self, words):
        while words not in (line := self.log.get(timeout=20)):
            pass
        return line

    def tenants(self):
        out = subprocess.run([f"{BUILD}/src/cli/takt", "status", "--json"], env={**os.environ, "TAKT_DIR": f"{self.dir}/run"},
                             capture_output=True, text=True, check=True).stdout
        return json.loads(out)["tenants"]
