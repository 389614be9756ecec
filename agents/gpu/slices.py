"""What stock sharing does, measured from inside: how long a slice is and what a switch costs; as a profile of the simulated GPU."""
import json
from dataclasses import dataclass


@dataclass
class Slices:
    slice_us: float
    switch_us: float
    lost: float            # part of the device's time that goes to switching
    turns: int
    memory_mib: int
    driver_version: int


def measure(device, cost, seconds):
    """Two that always have work, side by side. None where neither saw the other: the device does not take turns."""
    probe = [device.path("agents/takt-probe"), "--cost", cost, "--seconds", str(seconds), "--wait"]
    alone, = (json.loads(out) for out in device.together([probe]))
    both = [json.loads(out) for out in device.together([probe, probe])]
    turns = min(b["turns"] for b in both)
    own = [b["kernels"] * alone["kernel_ns"] for b in both]
    # Taking turns means that what the other gets, half of the time, is lost in one piece, not bit by bit. (A host that lost
    # its core for long finds that the device ran dry: seldom.)
    if turns < 10 or any(b["away_ns"] < (b["turn_ns"] - o) / 2 or b["turns"] * b["away_ns"] < seconds * 1e9 / 4 for b, o in zip(both, own)):
        return None
    # One's turn until it comes back is both slices and two switches.
    around = sum(b["turn_ns"] for b in both) / 2
    switch = max(0, (around - sum(own)) / 2)
    return Slices(sum(own) / 2000, switch / 1000, 2 * switch / around, turns, alone["memory_bytes"] >> 20, alone["driver_version"])


def text(device, s):
    return (f"# Measured by script/gpu-check on: {device.name}{' GPU, never on silicon' if device.simulated else ''}\n"
            f"# Two processes that always have work: {s.turns} turns, {s.lost:.1%} of the device's time goes to switching.\n"
            f"SIMGPU_SLICE_US={s.slice_us:.0f}\nSIMGPU_SWITCH_US={s.switch_us:.0f}\nSIMGPU_MEMORY_MIB={s.memory_mib}\n"
            f"SIMGPU_DRIVER_VERSION={s.driver_version}\n")
