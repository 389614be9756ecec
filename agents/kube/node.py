"""A node of a cluster, seen from the node itself: its pods, its simulated GPU, and taktd as its device plugin.

Runs inside `tests/e2e/kube/cluster`, which makes the cluster. What is asked of it either comes true or raises Failed."""
import json
import os
import shutil
import signal
import subprocess
import time

PATIENCE_S = 60
TAKT_DIR = "/run/takt"


def path(*parts):
    """Of the cluster's own files."""
    return os.path.join(os.environ["TAKT_CLUSTER"], *parts)


class Failed(Exception):
    """What was asked of the cluster did not come true; says what."""


def until(what, look, patience_s=PATIENCE_S):
    """Looks until it finds something, and returns that; for what offers no event to wait for."""
    end = time.monotonic() + patience_s
    while not (found := look()):
        if time.monotonic() > end:
            raise Failed(f"never came true: {what}")
        time.sleep(.05)
    return found


def kubectl(*words, given=None):
    run = subprocess.run(["kubectl", *words], input=given, capture_output=True, text=True)
    if run.returncode:
        raise Failed(f"kubectl {' '.join(words)}: {run.stderr.strip()}")
    return run.stdout


def get(*words):
    return json.loads(kubectl("get", "-o", "json", *words))


def pod(name, command, limits=None, env=None, mounts=None, annotations=None, restart="Never", port=None, requests=None):
    """mounts: {a host's folder: where the container has it}. The simulated GPU knows processes by their numbers on the node
    and lies in /dev/shm: a real driver sees both through the kernel, a pod here is lent them."""
    folders = {"/dev/shm": "/dev/shm", **(mounts or {})}
    volumes = [{"name": f"v{i}", "hostPath": {"path": host}} for i, host in enumerate(folders)]
    container = {"name": "agent", "image": os.environ["IMAGE"], "imagePullPolicy": "Never", "command": command,
                 "env": [{"name": key, "value": value} for key, value in (env or {}).items()],
                 "resources": {"limits": {resource: str(n) for resource, n in (limits or {}).items()}, "requests": requests or {}},
                 "volumeMounts": [{"name": v["name"], "mountPath": inside, "readOnly": inside != "/dev/shm"} for v, inside in zip(volumes, folders.values())]}
    if port:   # ready when it listens, and not looked at again
        container["startupProbe"] = {"tcpSocket": {"port": port}, "periodSeconds": 1, "failureThreshold": PATIENCE_S}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "annotations": annotations or {}},
            "spec": {"hostPID": True, "terminationGracePeriodSeconds": 1, "restartPolicy": restart, "dnsPolicy": "Default",
                     "containers": [container], "volumes": volumes}}


def start(*pods):
    kubectl("apply", "-f", "-", given=json.dumps({"apiVersion": "v1", "kind": "List", "items": pods}))


def await_pod(name, path, value):
    """Until a pod's field has a value: await_pod("a", "status.phase", "Running")."""
    kubectl("wait", f"pod/{name}", f"--for=jsonpath={{.{path}}}={value}", f"--timeout={PATIENCE_S}s")


def delete(*names):
    kubectl("delete", "pod", "--wait", f"--timeout={PATIENCE_S}s", "--ignore-not-found", *names)


def events(name):
    return "\n".join(e["message"] for e in get("events", f"--field-selector=involvedObject.name={name}")["items"])


def processes(name):
    """The numbers, on the node, of the processes of a pod's container."""
    container, found = get("pod", name)["status"]["containerStatuses"][0]["containerID"].rpartition("/")[2], []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/cgroup") as file:
                if f"/{container}\n" in file.read():
                    found.append(int(pid))
        except OSError:
            pass
    return found


def kill_kubelet():
    with open(path("pids/kubelet")) as file:
        pid = int(file.read())
    os.kill(pid, signal.SIGKILL)
    until("the kubelet's end", lambda: not running(pid))


def start_kubelet():
    with open(path("pids/kubelet"), "w") as file:
        file.write(subprocess.check_output(["bash", "-c", "bash commands/kubelet >/dev/null & echo $!"], cwd=path(), text=True))


def running(pid):
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rsplit(")", 1)[1].split()[0] not in "ZX"
    except OSError:
        return False


class Takt:
    """taktd on the node, with a simulated GPU whose driver lies in a folder that containers are given."""

    def __init__(self, build, resources, libraries="", **simgpu):
        """resources: {a resource's name: (slots, {a promise's key: its value})}. libraries: folders where containers look for more of
        them. simgpu: settings of the simulated GPU."""
        self.build, self.process, self.simgpu = build, None, simgpu
        self.driver = path("driver")
        os.makedirs(self.driver, exist_ok=True)
        for name in ("libcuda.so.1", "libnvidia-ml.so.1"):
            shutil.copy(f"{build}/src/simgpu/{name}", self.driver)
        offered = [{"name": "nvidia.com/gpu", "rename": name, "replicas": n, **({"takt": promise} if promise else {})}
                   for name, (n, promise) in resources.items()]
        self.config = {"version": "v1", "sharing": {"timeSlicing": {"resources": offered}},
                       "takt": {"driver": self.driver, "libraryPath": libraries}}

    def environment(self):
        return dict(os.environ, LD_LIBRARY_PATH=self.driver, TAKT_DIR=TAKT_DIR, **self.simgpu)

    def start(self):
        with open(path("takt.yaml"), "w") as file:
            json.dump(self.config, file)
        ready, mark = os.pipe()
        with open(path("logs/taktd"), "a") as log:
            self.process = subprocess.Popen([f"{self.build}/src/node/taktd", "--dir", TAKT_DIR, "--kube", path("takt.yaml"), "--ready", str(mark)],
                                            pass_fds=[mark], stderr=log, env=self.environment())
        os.close(mark)
        with os.fdopen(ready, "rb") as said:
            if said.read(1) != b"1":
                raise Failed(f"taktd does not start: {self.log()}")

    def end(self, by=signal.SIGTERM):
        if self.process:
            self.process.send_signal(by)
            self.process.wait()
            self.process = None

    def pid(self):
        """Of the daemon; None: there is none."""
        return self.process and self.process.pid

    def log(self):
        with open(path("logs/taktd")) as file:
            return file.read()

    def status(self):
        run = subprocess.run([f"{self.build}/src/cli/takt", "status", "--json"], env=self.environment(), capture_output=True, text=True)
        if run.returncode:
            raise Failed(run.stderr.strip())
        return json.loads(run.stdout)

    def tenants(self):
        return {t["name"]: t for t in self.status()["tenants"]}

    def tool(self, *words):
        return subprocess.run([f"{self.build}/src/simgpu/simgpu", *words], env=self.environment(), capture_output=True, text=True,
                              check=True).stdout


def allocatable(resource):
    """(capacity, allocatable) of the node; -1 for what it does not know."""
    status = get("node", "node")["status"]
    return tuple(int(status[kind].get(resource, -1)) for kind in ("capacity", "allocatable"))
