"""The API server of `bench kube`: the tests' own, with pods in slots and claims that the scheduler has allocated.

    kube_api.py FOLDER DEVICE CLAIMS SLOTS

Writes a line, its URL, when it listens; then, for each claim that it was asked for, how long that took it in ns (8 bytes, this
machine's order), as the bench wants to know what the daemon adds. Ends when its input does."""
import json
import os
import struct
import sys
import threading
import time

from apiserver import ApiServer, pod

CLAIMS, SLICES = "/apis/resource.k8s.io/v1/namespaces/default/resourceclaims/claim-", "/apis/resource.k8s.io/v1/resourceslices"


def uid(of, n):
    return f"{of:08x}-0000-4000-8000-{n:012x}"


def claim(n, device):
    result = {"driver": "gpu.takt.dev", "request": "gpu", "pool": "n1", "device": device, "shareID": uid(3, n),
              "consumedCapacity": {"takt.dev/share": "5", "memory": "1Gi"}}
    promise = {"driver": "gpu.takt.dev", "parameters": {"apiVersion": "gpu.takt.dev/v1", "kind": "Promise", "slo": "2s"}}
    return {"metadata": {"name": f"claim-{n}", "namespace": "default", "uid": uid(1, n)},
            "status": {"allocation": {"devices": {"results": [result], "config": [{"source": "FromClaim", "opaque": promise}]}},
                       "reservedFor": [{"resource": "pods", "name": f"claiming-{n}", "uid": uid(2, n)}]}}


class Api:
    def __init__(self, folder, device, claims, slots):
        self.claims, self.slice = {f"{CLAIMS}{n}": claim(n, device) for n in range(claims)}, None
        self.server = ApiServer(folder)
        self.server.fault = self.serve
        for n in range(slots):
            self.server.change("ADDED", pod(f"pod-{n}", resource="takt.dev/gpu", phase="Running"))

    def serve(self, handler, url):
        begin = time.monotonic_ns()
        if url.path in self.claims:
            handler.answer(200, self.claims[url.path])
            os.write(1, struct.pack("=Q", time.monotonic_ns() - begin))
        elif url.path == "/api/v1/nodes/n1":
            handler.answer(200, {"metadata": {"uid": uid(4, 0)}})
        elif url.path.startswith(SLICES):
            self.slices(handler, url)
        else:
            return False
        return True

    def slices(self, handler, url):
        if "watch" in url.query:
            handler.send_response(200)
            handler.send_header("Transfer-Encoding", "chunked")
            handler.end_headers()
            threading.Event().wait()
        elif handler.command == "GET":
            handler.answer(200, {"kind": "ResourceSliceList", "metadata": {"resourceVersion": "5"}, "items": [self.slice] if self.slice else []})
        else:
            self.slice = {**json.loads(handler.body), "kind": "ResourceSlice"}
            self.slice["metadata"]["resourceVersion"] = "5"
            handler.answer(201, self.slice)


def main():
    folder, device, claims, slots = sys.argv[1:]
    os.write(1, f"{Api(folder, device, int(claims), int(slots)).server.url}\n".encode())
    sys.stdin.read()


if __name__ == "__main__":
    main()
