"""Agents as pods that claim a share of the GPU's time and memory; their objectives are the claim's configuration."""
import re

from kube import claim, node

from .place import TAKT
from .pods import Pods

UNPREPARED = "FailedPrepareDynamicResources"


def parts(agent):
    """What `takt run` would be told, as a claim says it: (share in percent, memory, the promise's other keys)."""
    words = {flag.lstrip("-"): value for flag, value in zip(agent.promise[::2], agent.promise[1::2])}
    return words.pop("share").rstrip("%"), words.pop("memory").rstrip("B"), words


def claim_of(agent):
    share, memory, promise = parts(agent)
    return claim.claim(agent.name, claim.request(share, memory), promise=promise)


class Claims(Pods):
    resources = {}

    def __init__(self, setting):
        super().__init__(setting)
        del self.takt.config["sharing"]
        self.takt.config["takt"]["door"] = "dra"

    def objects(self, agent, device, how):
        pod = self.pod(agent, device, how)
        return [claim_of(agent), claim.holding(pod, agent.name)] if how == TAKT else [pod]

    @staticmethod
    def is_offered():
        return claim.slices()

    def refusal(self, name, status):
        """The scheduler's, where share or memory are not there; or Takt's, where they are and the objectives cannot be kept."""
        waits = [c["message"] for c in status.get("conditions", []) if (c["type"], c.get("reason")) == ("PodScheduled", "Unschedulable")]
        if waits and "cannot allocate all claims" in waits[0]:
            return waits[0]
        said = [e["message"] for e in node.get("events", f"--field-selector=involvedObject.name={name}")["items"] if e["reason"] == UNPREPARED]
        return re.sub(r"^.*?(?=claim default/)", "", said[0]) if said else None

    def stop(self):
        node.delete(*(a.name for a in self.agents))
        node.kubectl("delete", "resourceclaim", "--wait", f"--timeout={node.PATIENCE_S}s", "--ignore-not-found", *(a.name for a in self.agents))
        self.takt.end()
