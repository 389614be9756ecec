"""An API server's claims and slices, for the DRA driver."""
import json
import queue
import threading
import urllib.parse

SLICES, NAMESPACES = "/apis/resource.k8s.io/v1/resourceslices", "/apis/resource.k8s.io/v1/namespaces/"
FIRST_VERSION = 5   # each deletion makes another


class Resources:
    """What the API server has of nodes, claims and slices."""

    def __init__(self, server):
        self.claims, self.slice, self.written, self.lock, self.deleted = {}, None, queue.Queue(), threading.Condition(), 0
        self.server = server
        server.fault = self.serve

    def serve(self, handler, url):
        if url.path == "/api/v1/nodes/n1":
            handler.answer(200, {"metadata": {"uid": "node-uid"}})
        elif url.path.startswith(NAMESPACES) and url.path.rpartition("/")[2] in self.claims:
            handler.answer(200, self.claims[url.path.rpartition("/")[2]])
        elif url.path.startswith(SLICES):
            self.slices(handler, url)
        else:
            return False
        return True

    def slices(self, handler, url):
        if "watch" in url.query:
            self.watch(handler, urllib.parse.parse_qs(url.query)["resourceVersion"][0])
        elif handler.command in ("POST", "PUT"):
            self.slice = json.loads(handler.body)
            self.slice["metadata"]["resourceVersion"] = "5"
            handler.answer(201, self.slice)
            self.written.put((handler.command, self.slice["spec"]))
        elif url.path == SLICES:
            handler.answer(200, {"kind": "ResourceSliceList", "metadata": {"resourceVersion": self.version()}, "items": [self.slice] if self.slice else []})
        elif self.slice:
            handler.answer(200, self.slice)
        else:
            handler.refuse(404, "not found")

    def version(self):
        return str(FIRST_VERSION + self.deleted)

    def watch(self, handler, version):
        """What was deleted since that version, before the watch began too."""
        seen, epoch = int(version) - FIRST_VERSION, self.server.epoch
        handler.send_response(200)
        handler.send_header("Transfer-Encoding", "chunked")
        handler.end_headers()
        handler.wfile.flush()
        with self.lock:
            self.lock.wait_for(lambda: self.deleted > seen or self.server.epoch != epoch)
        if self.deleted > seen:
            handler.line({"type": "DELETED", "object": {"metadata": {"name": "n1-gpu.takt.dev", "resourceVersion": self.version()}}})
        handler.wfile.write(b"0\r\n\r\n")

    def delete(self):
        with self.lock:
            self.slice, self.deleted = None, self.deleted + 1
            self.lock.notify_all()

    def stop(self):
        with self.lock:
            self.server.epoch += 1
            self.lock.notify_all()
