"""Takt installed on the cluster from deploy/, as a user would: its image, and the chart by helm."""
import json
import subprocess

from . import node

SPACE, IMAGE = "takt-system", "takt.dev/takt"


class Installed(node.Takt):
    def __init__(self, deploy, image, *more, **simgpu):
        """deploy: the folder of the chart. image: the archive of script/image. The rest as a Takt has it."""
        super().__init__(*more, **simgpu)
        self.deploy, self.image, self.is_installed = deploy, image, False

    def values(self):
        """What the chart is told for a simulated GPU, and for a cluster whose services lead nowhere."""
        env = {"KUBERNETES_SERVICE_HOST": "10.99.0.1", "KUBERNETES_SERVICE_PORT": "6443", **self.simgpu}
        lent = {"/dev/shm": "/dev/shm", **({self.profile(): self.profile()} if self.profile() else {})}
        return {"config": json.dumps(self.config), "lib": node.path("shims"), "env": [{"name": k, "value": v} for k, v in env.items()],
                "extraVolumes": [{"name": f"lent{i}", "hostPath": {"path": host}} for i, host in enumerate(lent)],
                "extraVolumeMounts": [{"name": f"lent{i}", "mountPath": inside} for i, inside in enumerate(lent.values())]}

    def profile(self):
        return self.simgpu.get("SIMGPU_PROFILE")

    def start(self):
        with open(node.path("values.json"), "w") as file:
            json.dump(self.values(), file)
        run("ctr", "images", "import", "--local", self.image)
        node.kubectl("apply", "-f", f"{self.deploy}/namespace.yaml")
        self.is_installed = True
        run("helm", "install", "takt", f"{self.deploy}/chart", "--namespace", SPACE, "--values", node.path("values.json"), "--wait",
            "--timeout", f"{node.PATIENCE_S}s")

    def end(self):
        if self.is_installed:
            run("helm", "uninstall", "takt", "--namespace", SPACE, "--wait")
            self.is_installed = False
            node.until("the daemon's end", lambda: not self.pid())

    def pid(self):
        found = subprocess.run(["pidof", "taktd"], capture_output=True, text=True).stdout.split()
        return int(found[0]) if found else None


def run(*words):
    done = subprocess.run(words, capture_output=True, text=True)
    if done.returncode:
        raise node.Failed(f"{' '.join(words)}: {done.stderr.strip()}")
