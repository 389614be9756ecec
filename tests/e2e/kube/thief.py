"""A pod that takes another pod's folder of Takt by hostPath, without having been given it."""
import re

from kube import node


def start(takt, victim, kind, command):
    """kind: which of the daemon's folders, slots or claim, the victim's lies in."""
    with open(f"/proc/{node.processes(victim)[0]}/mountinfo") as file:
        folder, = re.findall(rf"/takt/{kind}/(\S+) /run/takt ", file.read())
    mounts = {f"{node.TAKT_DIR}/{kind}/{folder}": "/run/takt", f"{node.TAKT_DIR}/lib": "/opt/takt/lib", takt.driver: "/opt/takt/driver"}
    node.start(node.pod("thief", command, mounts=mounts, env={"TAKT_SOCKET": "/run/takt/join", "LD_LIBRARY_PATH": "/opt/takt/lib"}))
