"""The chart, by helm itself: it is clean, the manifests are made from it, and what is wrong is refused with its name."""
import os
import re
import shutil
import subprocess
import tempfile
import unittest

ROOT, BUILD = os.environ["TAKT_ROOT"], os.environ["TAKT_BUILD"]
CHART = f"{ROOT}/deploy/chart"
CACHE = os.environ.get("TAKT_CACHE", f"{ROOT}/.cache")
ENV = {**os.environ, "PATH": f"{CACHE}/kube-bin:{os.environ['PATH']}", "TAKT_CACHE": CACHE}
NVIDIAS = """\
version: v1
flags: {migStrategy: none, plugin: {sharedDevicesAllocationPolicy: packed}}
sharing:
  timeSlicing:
    renameByDefault: true
    failRequestsGreaterThanOne: true
    resources:
    - {name: nvidia.com/gpu, replicas: 10}
"""


def helm(*words):
    return subprocess.run(["helm", *words], capture_output=True, text=True, env=ENV)


def template(*words):
    return helm("template", "takt", CHART, "--namespace", "takt-system", *words)


class Version(unittest.TestCase):
    def test_charts_version_is_takts(self):
        version = subprocess.run([f"{ROOT}/script/image", "--version"], check=True, capture_output=True, text=True).stdout.strip()
        with open(f"{CHART}/Chart.yaml") as file:
            self.assertEqual(set(re.findall(r"(?m)^(?:appV|v)ersion: (\S+)$", file.read())), {version})


@unittest.skipUnless(shutil.which("helm", path=ENV["PATH"]), "no helm (script/fetch helm)")
class Chart(unittest.TestCase):
    def setUp(self):
        self.folder = self.enterContext(tempfile.TemporaryDirectory())

    def made(self, *words):
        run = template(*words)
        self.assertEqual((run.returncode, run.stderr), (0, ""))
        return run.stdout

    def refused(self, why, *words):
        run = template(*words)
        self.assertNotEqual(run.returncode, 0)
        self.assertIn(why, run.stderr)

    def config(self, *words):
        """The configuration in what is made, as the daemon's text."""
        lines = self.made(*words).partition("  config.yaml: |\n")[2].partition("\n---")[0]
        return "".join(line[4:] + "\n" for line in lines.splitlines())

    def given(self, text):
        path = f"{self.folder}/config.yaml"
        with open(path, "w") as file:
            file.write(text)
        return "--set-file", f"config={path}"

    def test_lint(self):
        run = helm("lint", "--strict", CHART)
        self.assertEqual(run.returncode, 0, run.stdout + run.stderr)

    def test_manifests_are_the_charts(self):
        subprocess.run([f"{ROOT}/script/manifests", self.folder], check=True, env=ENV)
        for name in sorted(os.listdir(f"{ROOT}/deploy/manifests") + os.listdir(self.folder)):
            with open(f"{ROOT}/deploy/manifests/{name}") as ours, open(f"{self.folder}/{name}") as made:
                self.assertEqual(ours.read(), made.read(), f"{name}: run script/manifests")

    def read(self, *words):
        """What the daemon says of the configuration that is made. The last thing that it checks is its folder: then the file was right."""
        path = f"{self.folder}/taken.yaml"
        with open(path, "w") as file:
            file.write(self.config(*words))
        return subprocess.run([f"{BUILD}/src/node/taktd", "--dir", os.path.relpath(f"{self.folder}/run"), "--device", "0" * 32 + ":1000000000", "--kube", path],
                              capture_output=True, text=True).stderr

    def test_nvidias_file_is_taken_as_it_is(self):
        self.assertIn("--dir must be absolute", self.read(*self.given(NVIDIAS)))

    def test_what_nvidias_plugin_leaves_alone_is_taken_and_said(self):
        for words in (self.given(NVIDIAS + "resources: {gpus: [{pattern: A100, name: a100}]}\n"),
                      ("--set", "config.resources.gpus[0].pattern=A100", "--set", "config.resources.gpus[0].name=a100")):
            said = self.read(*words)
            self.assertIn("resources: nothing of it is used", said)
            self.assertIn("--dir must be absolute", said)

    def test_what_goes_by_claims_is_no_resource_unless_it_is_named(self):
        self.assertIn("name: nvidia.com/gpu", self.config())
        for door in ("config.takt.door=dra", "config.takt.door.dra=1"):
            self.assertIn("--dir must be absolute", self.read("--set", door))
        named = [word for key in ("name=nvidia.com/gpu", "replicas=2") for word in ("--set", f"config.sharing.timeSlicing.resources[0].{key}")]
        self.assertIn("goes by claims already (takt.door)", self.read("--set", "config.takt.door=dra", *named))

    def test_numbers_stay_as_they_are(self):
        text = self.config(*self.given(NVIDIAS.replace("replicas: 10", "replicas: 10, takt: {memory: 12884901888}")))
        self.assertIn("memory: 12884901888\n", text)

    def test_folders_follow_from_the_configuration(self):
        for words, has, has_not in (((), "device-plugins", "plugins_registry"),
                                    (("config.takt.registration=watcher",), "plugins_registry", "device-plugins"),
                                    (("config.takt.door=dra",), "/var/run/cdi", "/etc/cdi"),
                                    (("config.takt.cdi=/etc/cdi",), "/etc/cdi", "/var/run/cdi"),
                                    (("config.takt.kubelet=/data/kubelet",), "/data/kubelet/pod-resources", "/var/lib/kubelet")):
            text = self.made(*(word for w in words for word in ("--set", w)))
            self.assertIn(has, text, words)
            self.assertNotIn(has_not, text.replace("config.yaml", ""), words)

    def test_rights_and_class_come_with_claims_only(self):
        self.assertNotIn("resource.k8s.io", self.made())
        for door in ("config.takt.door=dra", "config.takt.door.dra=1"):
            text = self.made("--set", door)
            self.assertIn("resources: [resourceslices]", text)
            self.assertIn("kind: DeviceClass", text)

    def test_rights_are_those_that_are_used(self):
        self.assertIn("resources: [pods], verbs: [list, watch]}", self.made())   # no single pod is asked for

    def test_metrics_are_a_port_and_a_monitor(self):
        self.assertNotIn("9400", self.made())
        for metrics in (":9400", "0.0.0.0:9400", "[::]:9400"):
            text = self.made("--set", f"config.takt.metrics={metrics}", "--set", "podMonitor.enabled=true")
            self.assertIn("{name: metrics, containerPort: 9400}", text)
            self.assertIn('prometheus.io/port: "9400"', text)
            self.assertIn("kind: PodMonitor", text)
        for words in ((), ("--set", "config.takt.metrics=/run/takt/metrics-9400")):
            self.refused("config.takt.metrics names no port", "--set", "podMonitor.enabled=true", *words)

    def test_pod_is_started_anew_for_another_configuration(self):
        one, two = (re.search(r"takt.dev/config: (\S+)", self.made(*words))[1] for words in ((), ("--set", "config.takt.preload=true")))
        self.assertNotEqual(one, two)

    def test_what_is_wrong_is_refused(self):
        self.refused("'/config'", "--set", "config.tkt.cdi=/x")
        self.refused("'/image/pullPolicy'", "--set", "image.pullPolicy=Sometimes")
        self.refused("'/devices/0'", "--set", "devices[0]=GPU-1")
        self.refused("'/lib'", "--set", "lib=relative")
        self.refused("additional properties 'replica' not allowed", "--set", "replica=4")
        self.refused("config: error converting YAML", *self.given("a: [\n"))


if __name__ == "__main__":
    unittest.main()
