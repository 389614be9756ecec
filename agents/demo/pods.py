"""Agents as pods of a cluster's node; under Takt, which is installed for that run, by its resource and their annotations."""
import os

from kube import node
from kube.installed import Installed

from .place import TAKT, Failed, Place, Refused, Server, command, cpu_of, profile, simulated

PORT = 8000
CPU = "250m"   # without a request, whatever else runs on the node comes first
CUDA, DRIVER = "/opt/cuda", "/opt/driver"   # in a container


GPU, SLOTS = "takt.dev/gpu", 4


def annotations_of(agent):
    """The flags of `takt run` as a pod has them."""
    return {f"takt.dev/{flag.lstrip('-')}": value for flag, value in zip(agent.promise[::2], agent.promise[1::2])}


class Pods(Place):
    takt_dir = node.TAKT_DIR
    resources = {GPU: (SLOTS, {})}

    def __init__(self, setting):
        super().__init__(setting)
        self.agents = setting.agents
        self.takt = Installed(os.path.join(os.path.dirname(setting.here), "deploy"), os.path.join(setting.build, "takt.tar"), setting.build,
                              self.resources, CUDA, SIMGPU_NAME=setting.devices[0], SIMGPU_PROFILE=profile(setting, self.agents[0]))

    def pod(self, agent, device, how):
        # The engine, CUDA and the model are hundreds of megabytes: lent by the node, not part of the image.
        as_here = (self.s.cache, os.path.realpath(self.s.cache), self.s.here, *map(os.path.dirname, (self.s.model, profile(self.s, agent))))
        lent = {os.path.join(self.s.cache, "cuda"): CUDA, **{folder: folder for folder in as_here}}
        env = simulated(self.s, agent, device, how)
        if how != TAKT:
            lent[self.takt.driver] = DRIVER
            env["LD_LIBRARY_PATH"] = f"{DRIVER}:{CUDA}"
        return node.pod(agent.name, ["node", *command(self.s, "--host", "0.0.0.0", "--port", str(PORT))], env=env, mounts=lent, port=PORT,
                        requests={"cpu": CPU})

    def objects(self, agent, device, how):
        """What is made of the agent on the cluster."""
        pod = self.pod(agent, device, how)
        if how == TAKT:
            pod["metadata"]["annotations"] = annotations_of(agent)
            pod["spec"]["containers"][0]["resources"]["limits"] = {GPU: "1"}
        return [pod]

    @staticmethod
    def is_offered():
        return node.allocatable(GPU) == (SLOTS, SLOTS)

    def serve(self):
        if not self.takt.pid():
            self.takt.start()
            node.until("the GPU is offered", self.is_offered)

    def start(self, agent, device, how):
        try:
            if how == TAKT:
                self.serve()
            node.start(*self.objects(agent, device, how))
            status = node.until(f"pod {agent.name} is ready or has ended", lambda: self.settled(agent.name))
        except node.Failed as failed:
            raise Failed(str(failed)) from failed
        if status["phase"] == "Running":
            pids = node.processes(agent.name)
            return Server(agent, f"http://{status['podIP']}:{PORT}", lambda: pids)
        refusal = self.refusal(agent.name, status)
        if refusal:
            raise Refused(refusal)
        raise Failed(f"pod {agent.name}: {node.kubectl('logs', agent.name).strip()}")

    def refusal(self, _, status):
        """Why the pod was not let in; None: nobody says that it was not."""
        return status["message"] if status.get("reason") == "UnexpectedAdmissionError" else None

    def settled(self, name):
        status = node.get("pod", name)["status"]
        ready = any(c["type"] == "Ready" and c["status"] == "True" for c in status.get("conditions", []))
        return status if ready or status["phase"] in ("Failed", "Succeeded") or self.refusal(name, status) else None

    def stop(self):
        node.delete(*(a.name for a in self.agents))
        self.takt.end()

    def granted(self):
        return {name.split("/")[1]: t["granted_ns"] for name, t in self.takt.tenants().items()} if self.takt.pid() else {}

    def takt_seconds(self):
        return cpu_of(self.takt.pid() or 0)
