"""taktd --kube as a process of a test's own, its log line by line, and what it answers to a scrape."""
import http.client
import os
import re
import queue
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
import unittest

BUILD = os.environ["TAKT_BUILD"]
GPUS = ["00010203-0405-0607-0809-0a0b0c0d0e0f", "10111213-1415-1617-1819-1a1b1c1d1e1f"]
CONFIG = """
version: v1
sharing:
  timeSlicing:
    resources:
    - {{name: takt.dev/chat, replicas: {replicas}, takt: {{{promise}}}}}
takt: {{kubelet: {dir}/kubelet, {more}}}
"""
LINE = re.compile(r'([a-z_]+)\{((?:[a-z_]+="(?:[^"\\\n]|\\[\\"n])*",?)*)\} ([0-9.e+-]+)')


class Unix(http.client.HTTPConnection):
    def __init__(self, path):
        super().__init__("localhost", timeout=10)
        self.path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(10)
        self.sock.connect(self.path)


class Served(unittest.TestCase):
    more, replicas, promise = "", 3, "ttft: 2s, itl: 200ms, share: 40%, memory: 8Gi"
    devices = [f"{uuid}:{40 << 30}" for uuid in GPUS]   # []: by NVML

    def setUp(self):
        self.dir = tempfile.mkdtemp(prefix="takt-kube-")
        self.addCleanup(shutil.rmtree, self.dir, True)
        os.makedirs(f"{self.dir}/kubelet/device-plugins")
        self.socket = f"{self.dir}/metrics"
        self.env = dict(os.environ)

    def start(self, metrics=None, more=""):
        with open(f"{self.dir}/config.yaml", "w") as out:
            out.write(CONFIG.format(dir=self.dir, replicas=self.replicas, promise=self.promise, more=f'metrics: "{metrics or self.socket}", {more}'))
        ready, write = os.pipe()
        self.daemon = subprocess.Popen(
            [f"{BUILD}/src/node/taktd", "--dir", f"{self.dir}/run", "--kube", f"{self.dir}/config.yaml", "--ready", str(write),
             *(word for device in self.devices for word in ("--device", device))],
            pass_fds=[write], env=self.env, stderr=subprocess.PIPE, text=True)
        os.close(write)
        self.said, self.log = queue.Queue(), []
        reader = threading.Thread(target=self.read, args=(self.daemon.stderr, self.said))
        reader.start()
        self.addCleanup(self.daemon.stderr.close)
        self.addCleanup(reader.join)
        self.addCleanup(self.end)
        up = os.read(ready, 1) == b"1"
        os.close(ready)
        return up

    @staticmethod
    def read(stream, said):
        for line in stream:
            said.put(line.rstrip())
        said.put(None)

    def end(self):
        if self.daemon.poll() is None:
            self.daemon.terminate()
            self.assertEqual(self.daemon.wait(10), 0)

    def hear(self, *words):
        """The next line of the daemon's log that has all the words; a minute means never."""
        while True:
            line = self.said.get(timeout=60)
            self.assertIsNotNone(line, f"the daemon ended; it said {self.log}")
            self.log.append(line)
            if all(word in line for word in words):
                return line

    def ask(self, path="/metrics", method="GET", where=None):
        connection = where or Unix(self.socket)
        connection.request(method, path)
        answer = connection.getresponse()
        body = answer.read().decode()
        connection.close()
        return answer, body

    def scrape(self):
        """{(name, labels as a frozenset of pairs): value}; every line has to be one that Prometheus takes."""
        answer, body = self.ask()
        self.assertEqual((answer.status, answer.headers["Content-Type"]), (200, "text/plain; version=0.0.4; charset=utf-8"))
        found = {}
        for line in body.splitlines():
            if not line.startswith("#"):
                name, labels, value = LINE.fullmatch(line).groups()
                key = name, frozenset(re.findall(r'([a-z_]+)="((?:[^"\\]|\\.)*)"', labels))
                self.assertNotIn(key, found)
                found[key] = float(value)
        return found

    def healthy(self):
        """{UUID without GPU-: 0 or 1}"""
        return {dict(labels)["gpu"][4:]: value for (name, labels), value in self.scrape().items() if name == "takt_device_healthy"}

    def await_watched(self):
        """Until NVML has told of a GPU: from then on it can be lost."""
        end = time.monotonic() + 60
        while not any(value for (name, _), value in self.scrape().items() if name == "takt_device_watched"):
            self.assertLess(time.monotonic(), end, "NVML tells nothing")
            os.sched_yield()

    def helper(self):
        """The process that asks NVML; None: there is none."""
        children = subprocess.run(["pgrep", "-P", str(self.daemon.pid), "takt-health"], capture_output=True, text=True).stdout.split()
        return int(children[0]) if children else None

    def kill_helper(self):
        os.kill(self.helper(), signal.SIGKILL)
