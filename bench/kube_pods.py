"""How long a pod takes from its creation until its program has the GPU, by Takt's slot and without Takt, one after the other.

    tests/e2e/kube/cluster python3 bench/kube_pods.py

Prints the two medians in ms. For `bench kube`: the figure is of a real API server, scheduler, kubelet and containerd."""
import json
import os
import ssl
import statistics
import sys
import time
import urllib.request
from datetime import datetime

from kube import node

BUILD, GPU, ROUNDS = os.environ["TAKT_BUILD"], "takt.dev/gpu", 9
PROGRAM = ["bash", "-c", "echo | takt-synthetic --wait --cost 1000,40000 --rate 50 --seconds 0.2"]   # says "ready" when it has the GPU


class Api:
    """The API server, asked without the time that kubectl takes to start."""

    def __init__(self):
        view = json.loads(node.kubectl("config", "view", "--raw", "-o", "json"))
        cluster = view["clusters"][0]["cluster"]
        self.url, self.token = f"{cluster['server']}/api/v1/namespaces/default/pods", view["users"][0]["user"]["token"]
        self.trust = ssl.create_default_context(cafile=cluster["certificate-authority"])

    def create(self, pod):
        """Returns the time of day in s at which it was asked to."""
        request = urllib.request.Request(self.url, json.dumps(pod).encode(),
                                         {"Authorization": f"Bearer {self.token}", "Content-Type": "application/json"})
        asked = time.time()
        urllib.request.urlopen(request, context=self.trust, timeout=node.PATIENCE_S).close()
        return asked


def start(api, takt, under_takt):
    """ms from the creation of a pod until its program has the GPU."""
    limits, more = ({GPU: 1}, {}) if under_takt else ({}, {"env": {"LD_LIBRARY_PATH": "/opt/driver"}, "mounts": {takt.driver: "/opt/driver"}})
    asked = api.create(node.pod("one", PROGRAM, limits=limits, **more))
    node.await_pod("one", "status.phase", "Succeeded")
    when, said = node.kubectl("logs", "--timestamps", "one").splitlines()[0].split(" ", 1)
    if said != "ready":
        raise node.Failed(f"the program says {said!r}")
    if under_takt and not takt.tenants()["default/one/agent"]["granted_ns"]:
        raise node.Failed("the program had the GPU past Takt")
    node.delete("one")
    whole, _, part = when.rstrip("Z").partition(".")
    return (datetime.fromisoformat(f"{whole}+00:00").timestamp() + float(f"0.{part}") - asked) * 1e3


def main():
    api, takt = Api(), node.Takt(BUILD, {GPU: (4, {"share": "20%", "slo": "2s"})})
    took = {True: [], False: []}
    takt.start()
    try:
        node.until("the GPU is offered", lambda: node.allocatable(GPU) == (4, 4))
        for _ in range(ROUNDS):
            for under_takt in took:
                took[under_takt].append(start(api, takt, under_takt))
    finally:
        takt.end()
    print(*(f"{statistics.median(took[under_takt]):.1f}" for under_takt in (True, False)))


if __name__ == "__main__":
    try:
        main()
    except node.Failed as failed:
        sys.exit(f"bench kube: {failed}")
