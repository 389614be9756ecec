"""The demo's loads: who asks what of whom, and what was promised. Device times are those of a simulated A100."""
from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Agent:
    name: str
    rate: float            # requests a second
    prompt: str            # tokens, MIN:MAX
    output: str
    profile: str           # of the simulated device: what its steps and prompts take (src/simgpu/profiles)
    judged: str            # "e2e" or "ttft"
    objective_ms: int
    promise: tuple         # flags of `takt run`


ROUTER = Agent("router", 4, "27:43", "4:8", "a100-llama3-8b-q4-short", "e2e", 200,
               ("--slo", "200ms", "--share", "26%", "--peak", "50%", "--burst", "20ms", "--depth", "110ms", "--memory", "8GiB"))
CHAT = Agent("chat", 1.5, "80:165", "20:60", "a100-llama3-8b-q4", "ttft", 200,
             ("--ttft", "200ms", "--itl", "70ms", "--share", "32%", "--peak", "34%", "--burst", "50ms", "--depth", "300ms", "--step", "16ms",
              "--memory", "8GiB"))
SUMMARISER = Agent("summariser", .35, "1280:2560", "60:120", "a100-llama3-8b-q4", "ttft", 2000,
                   ("--ttft", "2s", "--itl", "150ms", "--share", "26%", "--peak", "38%", "--burst", "610ms", "--depth", "610ms", "--step", "16ms",
                    "--memory", "16GiB"))

LOADS = {
    "demo": (ROUTER, CHAT, SUMMARISER),
    "light": tuple(replace(a, rate=a.rate / 2) for a in (ROUTER, CHAT, SUMMARISER)),
    "too-much": (ROUTER, CHAT, SUMMARISER, replace(CHAT, name="chat-2")),
}

ABOUT = {
    "demo": "what the README measures",
    "light": "half of it, which stock sharing holds too",
    "too-much": "and a second chat with the same promise: more than the device can keep, and Takt refuses it with the reason",
}
