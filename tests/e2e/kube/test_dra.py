"""Pods of a real cluster that claim a part of the one simulated GPU: allocated by the scheduler, prepared, kept through restarts."""
import json
import os
import re
import signal
import sys
import unittest

from kube import node
from kube.claim import DRIVER, claim, request, slices

import thief

BUILD = os.environ["TAKT_BUILD"]
WORK = ["takt-synthetic", "--cost", "1000,40000", "--rate", "20", "--prefill-ms", "1-2", "--tokens", "2-4", "--token-ms", "1", "--seconds", "600"]
CLASS = {"apiVersion": "resource.k8s.io/v1", "kind": "DeviceClass", "metadata": {"name": DRIVER}, "spec": {
    "extendedResourceName": "takt.dev/gpu",
    "selectors": [{"cel": {"expression": f'device.driver == "{DRIVER}" && device.allowMultipleAllocations == true'}}]}}
OBJECTIVE = {"ttft": "2s", "itl": "200ms"}


class Takt(node.Takt):
    """taktd whose GPU is claimed, as whoever the cluster's kubeconfig is."""

    def __init__(self):
        super().__init__(BUILD, {})
        view = json.loads(node.kubectl("config", "view", "--raw", "-o", "json"))
        cluster = view["clusters"][0]["cluster"]
        with open("token", "w") as file:
            file.write(view["users"][0]["user"]["token"])
        self.config = {"version": "v1", "takt": {"door": "dra", "node": "node", "driver": self.driver, "api": {
            "server": cluster["server"], "ca": cluster["certificate-authority"], "token": os.path.abspath("token")}}}

    def start(self):
        super().start()
        node.until("the slice is published", slices)


def worker(name, of=None, requests=(None,), **more):
    """A pod of the claim `of` (default: of its own name); a container for each request, None: of the whole claim."""
    pod = node.pod(name, WORK, **more)
    first = pod["spec"]["containers"][0]
    pod["spec"]["resourceClaims"] = [{"name": "part", "resourceClaimName": of or name}]
    pod["spec"]["containers"] = [
        {**first, "name": r or "agent", "resources": {"claims": [{"name": "part", **({"request": r} if r else {})}]}} for r in requests]
    return pod


class Claims(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.takt = Takt()
        cls.takt.start()
        node.start(CLASS)

    @classmethod
    def tearDownClass(cls):
        cls.takt.end()

    def setUp(self):
        self.addCleanup(self.nothing_is_left)

    def nothing_is_left(self):
        node.kubectl("delete", "pod", "--all", "--wait", "--grace-period=1", "--timeout=60s")
        node.kubectl("delete", "resourceclaim", "--all", "--wait", "--timeout=60s")
        node.until("no tenant is left", lambda: not self.takt.tenants())
        for folder in ("claims", "claim"):
            self.assertEqual(os.listdir(f"{node.TAKT_DIR}/{folder}"), [])
        self.assertEqual([f for f in os.listdir("/var/run/cdi") if f.startswith(DRIVER)], [])

    def working(self, *names):
        """Until these tenants' work is counted more than it was; and they are all there are."""
        def look():
            now = self.takt.tenants()
            counts = {n: now[n]["granted_ns"] for n in names if n in now and now[n]["processes"] and now[n]["granted_ns"]}
            for n, ns in counts.items():
                before.setdefault(n, ns)
            return set(now) == set(names) == set(counts) and all(ns > before[n] for n, ns in counts.items())
        before = {}
        node.until(f"the work of {names} is counted, and of nobody else", look)

    def run_three(self, promise=None):
        for name, share in (("one", 40), ("two", 30), ("three", 30)):
            node.start(claim(name, request(share), promise=promise), worker(name, restart="Always"))
        names = [f"default/{n}/gpu" for n in ("one", "two", "three")]
        self.working(*names)
        return names

    def lives(self, *names):
        """What changes when a container is started again."""
        return {n: [(s["restartCount"], s["containerID"]) for s in node.get("pod", n)["status"]["containerStatuses"]] for n in names}

    def test_what_was_counted_is_what_is_promised(self):
        names = self.run_three(OBJECTIVE)
        tenants = self.takt.tenants()
        self.assertEqual([tenants[n]["class"] for n in names], ["deadline"] * 3)
        node.start(claim("four", request(10)), worker("four"))
        node.until("the fourth waits", lambda: "cannot allocate all claims" in node.events("four"))
        self.assertEqual(node.get("pod", "four")["status"]["phase"], "Pending")
        node.delete("two")
        self.working(names[0], names[2], "default/four/gpu")

    def test_slices_come_back(self):
        before, = slices()
        device, = before["spec"]["devices"]
        self.assertTrue(device["allowMultipleAllocations"])
        self.assertEqual(before["metadata"]["ownerReferences"][0]["name"], "node")
        node.kubectl("delete", "resourceslice", before["metadata"]["name"])
        after = node.until("it is there again", slices)[0]
        self.assertNotEqual(after["metadata"]["uid"], before["metadata"]["uid"])
        self.assertGreater(after["spec"]["pool"].pop("generation"), before["spec"]["pool"].pop("generation"))
        self.assertEqual(after["spec"], before["spec"])

    def test_objects_of_the_documentation(self):
        with open(os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../../docs/KUBERNETES.md")) as file:
            objects, = (block for block in re.findall(r"(?s)```yaml\n(.*?)```", file.read()) if "kind: DeviceClass" in block)
        node.kubectl("apply", "-f", "-", given=objects.replace("image: chat", f"image: {os.environ['IMAGE']}, command: [sleep, '600']"))
        self.addCleanup(node.kubectl, "delete", "resourceclaimtemplate", "chat")
        node.until("it is prepared", lambda: "default/chat/gpu" in self.takt.tenants())
        self.assertEqual(self.takt.tenants()["default/chat/gpu"]["class"], "deadline")

    def test_promise_that_the_core_refuses(self):
        node.start(claim("hasty", request(10), promise={"ttft": "6ms", "itl": "1ms"}), worker("hasty"))
        why = node.until("the pod's event", lambda: re.search(r"claim default/hasty: .*", node.events("hasty")))[0]
        self.assertRegex(why, r"would break: within [\d.]+ ms, [\d.]+ ms of device time would be due")
        self.assertEqual(self.takt.tenants(), {})

    def test_mistake_in_the_configuration(self):
        node.start(claim("wrong", request(10), promise={"ttft": "soon"}), worker("wrong"))
        node.until("the pod's event", lambda: 'claim default/wrong: configuration: ttft: "soon" is no value' in node.events("wrong"))

    def test_plain_limit_by_the_class(self):
        node.start(node.pod("plain", WORK, limits={"takt.dev/gpu": 1}))
        node.until("it is a tenant", lambda: [n for n in self.takt.tenants() if n.startswith("default/plain/")])
        claims = node.get("resourceclaims")["items"]
        result, = claims[0]["status"]["allocation"]["devices"]["results"]
        self.assertEqual(result["consumedCapacity"], {"takt.dev/share": "10", "memory": self.takt_tenth()})

    @staticmethod
    def takt_tenth():
        return slices()[0]["spec"]["devices"][0]["capacity"]["memory"]["requestPolicy"]["default"]

    def test_one_claim_of_two_pods_is_one_tenant(self):
        node.start(claim("both", request(40)), worker("first", of="both"))
        self.working("default/first/gpu")
        node.start(worker("second", of="both"))
        node.until("both are in it", lambda: [t["processes"] for t in self.takt.tenants().values()] == [2])
        node.delete("first")
        node.until("the second is in it", lambda: [t["processes"] for t in self.takt.tenants().values()] == [1])

    def test_two_requests_of_two_containers_are_two_tenants(self):
        node.start(claim("pair", request(40, name="chat"), request(20, name="embed")), worker("pair", requests=("chat", "embed")))
        self.working("default/pair/chat", "default/pair/embed")

    def test_kubelet_killed_and_started(self):
        names = self.run_three()
        lives = self.lives("one", "two", "three")
        before, = slices()
        node.kill_kubelet()
        node.start_kubelet()
        node.until("the slice was deleted and is there again", lambda: [s for s in slices() if s["metadata"]["uid"] != before["metadata"]["uid"]])
        self.working(*names)
        self.assertEqual(self.lives("one", "two", "three"), lives)

    def test_daemon_killed_in_a_loop(self):
        names = self.run_three()
        lives = self.lives("one", "two", "three")
        for _ in range(5):
            self.takt.end(signal.SIGKILL)
            self.takt.start()
            self.working(*names)
        self.assertEqual(len(self.sockets()), 1)   # what the killed have left is gone
        self.assertEqual(self.lives("one", "two", "three"), lives)
        node.start(claim("late", request(30)), worker("late"))
        node.until("no share was lost, nor given away twice", lambda: "cannot allocate all claims" in node.events("late"))
        node.delete("three")
        self.working(*names[:2], "default/late/gpu")   # and the kubelet has found the newest

    def test_process_killed_comes_back_to_its_claim(self):
        names = self.run_three()
        old, = node.processes("one")
        os.kill(old, signal.SIGKILL)
        node.await_pod("one", "status.containerStatuses[0].restartCount", "1")
        self.working(*names)

    def test_daemon_replaced_keeps_slice_and_claims(self):
        names = self.run_three()
        before, = slices()
        self.takt.end()
        self.takt.start()
        self.working(*names)
        self.assertEqual(slices()[0]["metadata"]["uid"], before["metadata"]["uid"])
        self.assertEqual(len(self.sockets()), 1)

    @staticmethod
    def sockets():
        return [f for f in os.listdir("/var/lib/kubelet/plugins_registry") if f.startswith(DRIVER)]

    def test_pod_deleted_while_the_daemon_is_away(self):
        names = self.run_three()
        self.takt.end(signal.SIGKILL)
        node.kubectl("delete", "pod", "three", "--wait=false")
        self.takt.start()
        self.working(*names[:2])

    def test_lost_gpu_shows_and_is_not_given_away(self):
        names = self.run_three()
        node.delete("three")
        mark = f"{node.TAKT_DIR}/lost/{self.takt.status()['devices'][0]['uuid']}"
        open(mark, "w").close()
        node.until("the pod's status says so", lambda: self.health("one") == ["Unhealthy"])
        node.until("the node says so", lambda: "is lost" in node.events("node"))
        node.until("the slice says so", lambda: slices()[0]["spec"]["devices"][0].get("taints"))
        node.start(claim("late", request(10)), worker("late"))
        node.until("who comes waits", lambda: "cannot allocate all claims" in node.events("late"))
        os.remove(mark)
        node.until("the pod's status is well", lambda: self.health("one") == ["Healthy"])
        self.working(*names[:2], "default/late/gpu")

    @staticmethod
    def health(name):
        return [r["health"] for c in node.get("pod", name)["status"]["containerStatuses"] for s in c.get("allocatedResourcesStatus", [])
                for r in s["resources"]]

    def test_process_of_a_pod_that_it_is_not_reserved_for(self):
        self.run_three()
        thief.start(self.takt, "one", "claim", WORK)
        node.until("the thief is refused", lambda: "is refused: it is not reserved for that" in self.takt.log())
        self.assertEqual(self.takt.tenants()["default/one/gpu"]["processes"], 1)


if __name__ == "__main__":
    sys.exit(unittest.main(verbosity=2))
