"""Takt installed from deploy/ on a real cluster: what the API server says to it, what the pod may do, and that it serves."""
import json
import os
import shutil
import subprocess
import sys
import unittest

from kube import node

ROOT, BUILD = os.environ["TAKT_ROOT"], os.environ["TAKT_BUILD"]
CHART, MANIFESTS, SPACE, GPU = f"{ROOT}/deploy/chart", f"{ROOT}/deploy/manifests", "takt-system", "takt.dev/gpu"
ACCOUNT = f"system:serviceaccount:{SPACE}:takt"
WORK = ["takt-synthetic", "--cost", "1000,40000", "--rate", "20", "--prefill-ms", "1-2", "--tokens", "2-4", "--token-ms", "1", "--seconds", "600"]


def helm(*words):
    run = subprocess.run(["helm", *words], capture_output=True, text=True)
    if run.returncode:
        raise node.Failed(f"helm {' '.join(words)}: {run.stderr.strip()}")
    return run.stdout


def uninstall(release):
    helm("uninstall", release, "--namespace", SPACE, "--wait", "--ignore-not-found")


def here(text):
    """As on a machine that is nobody else's: nothing is left below /var/lib."""
    return text.replace("/var/lib/takt", os.path.abspath("shims"))


def simulated(replicas=4, lib=None, claims=False, **more):
    """What the chart is told for a simulated GPU, its driver's folder and where it lies; and for a cluster whose services lead nowhere."""
    config = {"version": "v1", "takt": {"driver": os.path.abspath("driver"), "door": "dra" if claims else "plugin"}}
    if not claims:
        config["sharing"] = {"timeSlicing": {"resources": [{"name": "nvidia.com/gpu", "rename": GPU, "replicas": replicas}]}}
    with open("values.json", "w") as file:
        json.dump({**more, "config": json.dumps(config), "lib": lib or os.path.abspath("shims"),
                   "env": [{"name": "KUBERNETES_SERVICE_HOST", "value": "10.99.0.1"}, {"name": "KUBERNETES_SERVICE_PORT", "value": "6443"}],
                   "extraVolumes": [{"name": "shm", "hostPath": {"path": "/dev/shm"}}],
                   "extraVolumeMounts": [{"name": "shm", "mountPath": "/dev/shm"}]}, file)
    return ["--namespace", SPACE, "--values", "values.json", "--wait", "--timeout", "60s"]


def slice_uids():
    return [s["metadata"]["uid"] for s in node.get("resourceslices", "--field-selector=spec.driver=gpu.takt.dev")["items"]]


def daemon(release="takt"):
    """The newest pod of the release's DaemonSet."""
    pods = node.get("pods", "-n", SPACE, "-l", f"app.kubernetes.io/instance={release}")["items"]
    return max(pods, key=lambda pod: pod["metadata"]["creationTimestamp"])["metadata"]["name"]


def pid_of_daemon():
    """Number of the one taktd on this node; None: there is none, or more."""
    run = subprocess.run(["pidof", "taktd"], capture_output=True, text=True)
    return int(run.stdout) if len(run.stdout.split()) == 1 else None


def tenants(release="takt"):
    """What the daemon says of its tenants; of none, while it is being started."""
    try:
        return json.loads(node.kubectl("exec", "-n", SPACE, daemon(release), "--", "takt", "status", "--json"))["tenants"]
    except node.Failed:
        return []


def work_of(name, release="takt"):
    """What the daemon has counted of the pod's work since it started; None: nothing."""
    return next((t["granted_ns"] for t in tenants(release) if t["name"] == f"default/{name}/agent"), None)


def works(name, release="takt"):
    """Until the work of the pod is counted, and more and more."""
    first = node.until(f"{name} works", lambda: work_of(name, release))
    node.until(f"{name} works on", lambda: (work_of(name, release) or 0) > first)


def life(name):
    """The pod's container, which was never started anew."""
    status = node.get("pod", name)["status"]["containerStatuses"][0]
    unittest.TestCase().assertEqual(status["restartCount"], 0)
    return status["containerID"]


def serves(slots):
    node.until(f"the node has {slots} slots", lambda: node.allocatable(GPU) == (slots, slots))


class Install(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        subprocess.run(["ctr", "images", "import", "--local", os.environ["TAKT_IMAGE"]], check=True, stdout=subprocess.DEVNULL)
        os.mkdir("driver")
        for name in ("libcuda.so.1", "libnvidia-ml.so.1"):
            shutil.copy(f"{BUILD}/src/simgpu/{name}", "driver")
        subprocess.run(["mount", "-o", "remount,noexec", "/run"], check=True)   # as Debian and Ubuntu have it

    def apply(self, name, *words):
        with open(f"{MANIFESTS}/{name}") as file:
            return node.kubectl("apply", *words, "-f", "-", given=here(file.read()))

    def remove(self):
        for name in ("takt.yaml", "takt-dra.yaml"):
            node.kubectl("delete", "--ignore-not-found", "--wait", "-f", f"{MANIFESTS}/{name}")

    def chart(self, command="install", release="takt", **more):
        if command == "install":
            self.addCleanup(self.remove)
            node.kubectl("apply", "-f", f"{ROOT}/deploy/namespace.yaml")
            self.addCleanup(uninstall, release)
        helm(command, release, CHART, *simulated(**more))

    def work(self, name, release="takt"):
        self.addCleanup(node.delete, name)
        node.start(node.pod(name, WORK, limits={GPU: 1}))
        works(name, release)

    def test_api_server_takes_all_of_it(self):
        node.kubectl("apply", "-f", f"{ROOT}/deploy/namespace.yaml")
        self.addCleanup(self.remove)
        self.assertIn("daemonset.apps/takt", self.apply("takt.yaml", "--dry-run=server"))
        self.assertIn("deviceclass.resource.k8s.io/gpu.takt.dev", self.apply("takt-dra.yaml", "--dry-run=server"))
        every = ("--set", "capabilities={CHOWN,DAC_OVERRIDE}", "--set", "config.takt.cdi=/var/run/cdi", "--set", "config.takt.registration=watcher",
                 "--set", "config.takt.driver=/opt/driver", "--set", "config.takt.metrics=:9400", "--set", "runtimeClassName=nvidia",
                 "--set", "nodeSelector.gpu=yes", "--set", "imagePullSecrets[0].name=pull", "--set", f"devices[0]=GPU-{'0' * 32}:1")
        chart = helm("template", "takt", CHART, "--namespace", SPACE, *every)
        self.assertIn("daemonset.apps/takt", node.kubectl("apply", "--dry-run=server", "-f", "-", given=chart))

    def test_manifests_serve_and_the_pod_may_do_no_more_than_it_must(self):
        self.addCleanup(self.remove)
        self.apply("takt.yaml")
        node.kubectl("rollout", "status", "-n", SPACE, "daemonset/takt", "--timeout=60s")
        node.kubectl("patch", "-n", SPACE, "daemonset", "takt", "--type=json", "-p", json.dumps(
            [{"op": "add", "path": "/spec/template/spec/containers/0/args/-", "value": f"--device=GPU-{'0' * 31}1:{40 << 30}"}]))
        serves(4)
        pid = node.until("one daemon is left", pid_of_daemon)
        with open(f"/proc/{pid}/status") as file:
            status = dict(line.split(":\t", 1) for line in file.read().splitlines() if ":\t" in line)
        for key in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"):
            self.assertEqual(int(status[key], 16), 0, key)
        self.assertEqual((status["NoNewPrivs"], status["Seccomp"]), ("1", "2"))
        with open(f"/proc/{pid}/mounts") as file:
            self.assertIn("ro", next(line.split()[3].split(",") for line in file if line.split()[1] == "/"))

    def test_account_may_do_what_is_needed_and_nothing_else(self):
        self.addCleanup(self.remove)
        self.apply("takt.yaml")
        def may(verb, what):
            return subprocess.run(["kubectl", "auth", "can-i", verb, what, "--as", ACCOUNT, "-A"], capture_output=True, text=True).stdout.strip()
        for verb, what in (("list", "pods"), ("watch", "pods"), ("create", "events"), ("patch", "events")):
            self.assertEqual(may(verb, what), "yes", (verb, what))
        for verb, what in (("get", "pods"), ("delete", "pods"), ("patch", "pods"), ("get", "secrets"), ("get", "nodes"), ("patch", "nodes"), ("delete", "events"),
                           ("create", "pods/exec"), ("get", "resourceclaims"), ("create", "resourceslices")):
            self.assertEqual(may(verb, what), "no", (verb, what))
        self.apply("takt-dra.yaml")
        for verb, what in (("get", "nodes"), ("get", "resourceclaims"), ("create", "resourceslices"), ("update", "resourceslices")):
            self.assertEqual(may(verb, what), "yes", (verb, what))
        for verb, what in (("list", "nodes"), ("update", "resourceclaims"), ("delete", "resourceslices")):
            self.assertEqual(may(verb, what), "no", (verb, what))

    def test_chart_serves_and_pods_work_on_through_an_update(self):
        self.chart()
        serves(4)
        self.work("one")
        before = life("one")
        self.chart("upgrade", replicas=6)
        serves(6)
        works("one")
        self.assertEqual(life("one"), before)
        self.work("two")

    def test_second_release_waits_and_takes_over(self):
        self.chart()
        serves(4)
        self.work("one")
        before, pid = life("one"), node.until("the daemon", pid_of_daemon)
        self.chart(release="other")
        node.until("the other waits", lambda: f"waits for the end of the daemon in /run/takt (process {pid})" in
                   node.kubectl("logs", "-n", SPACE, daemon("other")))
        serves(4)
        works("one")
        uninstall("takt")
        works("one", "other")
        serves(4)
        self.work("two", "other")
        self.assertEqual(life("one"), before)

    def test_chart_with_claims_serves_who_has_one(self):
        self.chart(claims=True)
        node.until("a slice is published", lambda: node.get("resourceslices", "--field-selector=spec.driver=gpu.takt.dev")["items"])
        self.addCleanup(node.kubectl, "delete", "resourceclaim", "part", "--wait", "--timeout=60s")
        self.addCleanup(node.delete, "one")
        claim = {"apiVersion": "resource.k8s.io/v1", "kind": "ResourceClaim", "metadata": {"name": "part"}, "spec": {"devices": {"requests": [
            {"name": "gpu", "exactly": {"deviceClassName": "gpu.takt.dev", "capacity": {"requests": {"takt.dev/share": "40", "memory": "4Gi"}}}}]}}}
        pod = node.pod("one", WORK)
        pod["spec"]["resourceClaims"] = [{"name": "part", "resourceClaimName": "part"}]
        pod["spec"]["containers"][0]["resources"] = {"claims": [{"name": "part"}]}
        node.start(claim, pod)
        node.until("one works", lambda: any(t["granted_ns"] for t in tenants()))
        before, old = (slice_uids(), life("one")), daemon()
        self.chart("upgrade", claims=True, podAnnotations={"changed": "yes"})   # the next daemon waits beside the old one
        node.until("the next daemon is there", lambda: daemon() != old and pid_of_daemon())
        node.until("one works on", lambda: any(t["granted_ns"] for t in tenants()))
        self.assertEqual((slice_uids(), life("one")), before)

    def test_account_lets_the_daemon_read_pods_and_write_events(self):
        self.chart()
        serves(4)
        self.addCleanup(node.delete, "absurd")
        node.start(node.pod("absurd", WORK, limits={GPU: 1}, annotations={"takt.dev/share": "300%"}))
        node.until("an event names the value", lambda: "300%" in node.events("absurd"))

    def test_shims_that_containers_may_not_be_able_to_load_are_not_offered(self):
        self.chart(lib="/run/takt/lib")
        serves(4)
        self.assertIn("/run/takt/lib is mounted noexec (set takt.lib)", node.kubectl("logs", "-n", SPACE, daemon()))
        self.addCleanup(node.delete, "one")
        node.start(node.pod("one", ["ls", "/opt/takt"], limits={GPU: 1}))
        node.await_pod("one", "status.phase", "Succeeded")
        self.assertEqual(node.kubectl("logs", "one"), "driver\n")

    def test_uninstalled_the_node_has_no_slots(self):
        self.chart()
        serves(4)
        uninstall("takt")
        node.until("no slot is allocatable", lambda: node.allocatable(GPU)[1] == 0)

    def test_lost_daemon_is_started_again(self):
        self.chart()
        serves(4)
        self.work("one")
        os.kill(node.until("the daemon", pid_of_daemon), 9)
        works("one")
        serves(4)


if __name__ == "__main__":
    sys.exit(unittest.main(verbosity=2))
