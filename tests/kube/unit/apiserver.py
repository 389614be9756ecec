"""An API server for the tests: HTTPS, bearer tokens, lists in pages, watches with bookmarks, events; and, on demand, every way
to be no good."""
import http.server
import json
import os
import queue
import socket
import ssl
import subprocess
import threading
import time
import uuid
from urllib.parse import parse_qs, urlsplit


class ApiServer:
    def __init__(self, folder, port=0, host="127.0.0.1", version=10):
        self.folder, self.lock = folder, threading.Condition()
        self.objects = {}                                   # (namespace, name): pod
        self.version = self.oldest = version                # nothing is remembered before `oldest`
        self.changes = []                                   # (version, type, object)
        self.events = queue.Queue()                         # (verb, path, body) of each event that was written
        self.seen = queue.Queue()                           # (verb, path, token) of all requests
        self.fault = None                                   # f(handler, url): does what is wrong and returns True
        self.epoch = 0                                      # watches of an earlier one end
        self.held = []                                      # connections of faults that wait until their client goes
        self.make_certificate(host)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.ca, f"{folder}/tls.key")
        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", port), type("Handler", (Handler,), {"api": self}))
        self.server.daemon_threads = True
        self.server.socket = context.wrap_socket(self.server.socket, server_side=True, do_handshake_on_connect=False)
        self.port = self.server.server_address[1]
        self.url = f"https://127.0.0.1:{self.port}"
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()

    def make_certificate(self, host):
        self.ca, self.token = f"{self.folder}/tls.crt", f"{self.folder}/token"
        if not os.path.exists(self.ca):
            subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
                            "-subj", "/CN=test", "-addext", f"subjectAltName=IP:{host}", "-keyout", f"{self.folder}/tls.key", "-out", self.ca],
                           check=True, capture_output=True)
        with open(self.token, "w") as file:
            file.write("sesame\n")

    def change(self, kind, pod):
        """ADDED, MODIFIED or DELETED, to the list and to whoever watches."""
        with self.lock:
            self.version += 1
            pod = json.loads(json.dumps(pod))
            pod["metadata"]["resourceVersion"] = str(self.version)
            key = pod["metadata"].get("namespace", ""), pod["metadata"]["name"]
            if kind == "DELETED":
                self.objects.pop(key, None)
            else:
                self.objects[key] = pod
            self.changes.append((self.version, kind, pod))
            self.lock.notify_all()

    def forget(self):
        """Only what comes from now on can be watched."""
        with self.lock:
            self.version += 1
            self.oldest, self.changes = self.version, []

    def cut(self):
        """Ends all watches."""
        with self.lock:
            self.epoch += 1
            self.lock.notify_all()

    def hang_up(self):
        """Ends what a fault holds."""
        with self.lock:
            for connection in self.held:
                try:
                    connection.shutdown(socket.SHUT_RDWR)
                except OSError:     # its client was faster
                    pass
            self.held.clear()

    def stop(self):
        self.cut()
        self.server.shutdown()
        self.server.server_close()


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True   # as the real one

    def log_message(self, *_):
        pass

    def handle_one_request(self):
        try:
            super().handle_one_request()
        except OSError:  # the client has gone
            self.close_connection = True

    def parse_request(self):
        self.began_ns = time.monotonic_ns()   # the rest of the request is still to be read
        return super().parse_request()

    def answer(self, status, body, kind="application/json"):
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def refuse(self, status, message):
        self.answer(status, {"kind": "Status", "status": "Failure", "code": status, "message": message})

    def any(self):
        url = urlsplit(self.path)
        self.body = body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        token = self.headers.get("Authorization", "").removeprefix("Bearer ")
        self.api.seen.put((self.command, self.path, token))
        if self.api.fault and self.api.fault(self, url):
            return
        with open(self.api.token) as file:
            if token != file.read().strip():
                return self.refuse(401, "Unauthorized")
        if "/events" in url.path and self.command in ("POST", "PATCH"):
            self.answer(201 if self.command == "POST" else 200, {"kind": "Event"})
            self.api.events.put((self.command, url.path, json.loads(body)))
        elif self.command == "GET" and "watch" in parse_qs(url.query):
            self.watch(parse_qs(url.query))
        elif self.command == "GET" and url.path == "/api/v1/pods":
            self.list(parse_qs(url.query))
        elif self.command == "POST" and url.path == "/echo":
            self.answer(200, json.loads(body))
        else:
            self.refuse(404, f"{url.path} not found")

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = any

    def list(self, query):
        with self.api.lock:
            keys, version = sorted(self.api.objects), str(self.api.version)
            start, limit = int(query.get("continue", ["0"])[0].rpartition("+")[2]), int(query.get("limit", ["500"])[0])
            items = [self.api.objects[key] for key in keys[start:start + limit]]
        meta = {"resourceVersion": version}
        if start + limit < len(keys):
            meta["continue"] = f"a/b=+{start + limit}"  # has to be escaped
        self.answer(200, {"kind": "PodList", "apiVersion": "v1", "metadata": meta, "items": items})

    def line(self, change):
        data = json.dumps(change).encode() + b"\n"
        self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))
        self.wfile.flush()

    def watch(self, query):
        at, epoch = int(query["resourceVersion"][0]), self.api.epoch
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        while True:
            with self.api.lock:
                forgotten = at < self.api.oldest
                todo = [c for c in self.api.changes if c[0] > at]
                if not todo and not forgotten and self.api.epoch == epoch:
                    self.api.lock.wait()
                    continue
            if forgotten:
                self.line({"type": "ERROR", "object": {"kind": "Status", "code": 410, "message": "too old resource version"}})
            if forgotten or self.api.epoch != epoch:
                break
            for at, kind, pod in todo:
                self.line({"type": kind, "object": pod})
            self.line({"type": "BOOKMARK", "object": {"kind": "Pod", "metadata": {"resourceVersion": str(at)}}})
        self.wfile.write(b"0\r\n\r\n")


def pod(name, uid=None, annotations=None, resource="takt.dev/chat", qos="Burstable", phase="Pending", namespace="default", node="n1", containers=1, **status):
    """A pod that asks for one slot a container."""
    return {"kind": "Pod", "apiVersion": "v1",
            "metadata": {"name": name, "namespace": namespace, "uid": uid or str(uuid.uuid5(uuid.NAMESPACE_DNS, name)), "annotations": annotations or {}},
            "spec": {"nodeName": node, "containers": [{"name": f"c{i}", "resources": {"limits": {resource: "1"}}} for i in range(containers)]},
            "status": {"phase": phase, "qosClass": qos, **status}}
