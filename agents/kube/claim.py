"""Claims of a part of a GPU, as the API server takes them (resource.k8s.io/v1)."""
from . import node

DRIVER = "gpu.takt.dev"


def slices():
    """What the node offers to claims."""
    return node.get("resourceslices", f"--field-selector=spec.driver={DRIVER}")["items"]


def request(share=None, memory="4Gi", name="gpu"):
    """share: in percent; None: what the class gives who says nothing."""
    exactly = {"deviceClassName": DRIVER}
    if share:
        exactly["capacity"] = {"requests": {"takt.dev/share": str(share), "memory": memory}}
    return {"name": name, "exactly": exactly}


def claim(name, *requests, promise=None):
    """promise: {key: value} of its configuration."""
    config = [{"opaque": {"driver": DRIVER, "parameters": {"apiVersion": f"{DRIVER}/v1", "kind": "Promise", **promise}}}] if promise else []
    return {"apiVersion": "resource.k8s.io/v1", "kind": "ResourceClaim", "metadata": {"name": name},
            "spec": {"devices": {"requests": list(requests), "config": config}}}


def holding(pod, name):
    """The pod, its first container holding the claim of that name."""
    pod["spec"]["resourceClaims"] = [{"name": "part", "resourceClaimName": name}]
    pod["spec"]["containers"][0]["resources"]["claims"] = [{"name": "part"}]
    return pod
