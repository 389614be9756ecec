"""The API server of `bench kube`: the tests' own, with pods in slots and claims that the scheduler has allocated.

    kube_api.py FOLDER DEVICE CLAIMS SLOTS

Writes a line, its URL, when it listens; then, for each claim that it was asked for, how long that took it in ns (8 bytes, this
machine's order), as the bench wants to know what the daemon adds. Ends when its input does."""
import os
import struct
import sys
import time

from apiserver import ApiServer, pod
from resources import NAMESPACES, Resources


def uid(of, n):
    return f"{of:08x}-0000-4000-8000-{n:012x}"


def claim(n, device):
    result = {"driver": "gpu.takt.dev", "request": "gpu", "pool": "n1", "device": device, "shareID": uid(3, n),
              "consumedCapacity": {"takt.dev/share": "5", "memory": "1Gi"}}
    promise = {"driver": "gpu.takt.dev", "parameters": {"apiVersion": "gpu.takt.dev/v1", "kind": "Promise", "slo": "2s"}}
    return {"metadata": {"name": f"claim-{n}", "namespace": "default", "uid": uid(1, n)},
            "status": {"allocation": {"devices": {"results": [result], "config": [{"source": "FromClaim", "opaque": promise}]}},
                       "reservedFor": [{"resource": "pods", "name": f"claiming-{n}", "uid": uid(2, n)}]}}


class Api(Resources):
    def __init__(self, folder, device, claims, slots):
        super().__init__(ApiServer(folder))
        self.claims = {f"claim-{n}": claim(n, device) for n in range(claims)}
        for n in range(slots):
            self.server.change("ADDED", pod(f"pod-{n}", resource="takt.dev/gpu", phase="Running"))

    def serve(self, handler, url):
        known = super().serve(handler, url)
        if url.path.startswith(NAMESPACES) and known:
            os.write(1, struct.pack("=Q", time.monotonic_ns() - handler.began_ns))
        return known


def main():
    folder, device, claims, slots = sys.argv[1:]
    os.write(1, f"{Api(folder, device, int(claims), int(slots)).server.url}\n".encode())
    sys.stdin.read()


if __name__ == "__main__":
    main()
