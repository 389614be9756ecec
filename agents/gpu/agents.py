"""The demo's three agents as synthetic ones: alone, sharing the stock way, and under Takt, with the same requests each time."""
import json
import os
import tempfile

from demo import loads

PROFILES = os.path.join(os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))), "src/simgpu/profiles")
AGENTS = loads.LOADS["demo"]
WHOLE_PROMPT = 7 / 9   # of the demo's engine: two of the nine kernels that carry the time see only the last token


def profile_of(agent):
    """The figures of the agent's model: {"decode_us": ..., "prefill_us": ...}."""
    with open(os.path.join(PROFILES, agent.profile)) as file:
        line = next(line for line in file if line.startswith("SIMGPU_LLM="))
    return {key: float(value) for key, value in (pair.split("=") for pair in line.strip().partition("=")[2].split())}


def flags(agent, seconds, seed, cost):
    model = profile_of(agent)
    low, high = (int(tokens) * model["prefill_us"] * WHOLE_PROMPT / 1000 for tokens in agent.prompt.split(":"))
    return ["--rate", str(agent.rate), "--prefill-ms", f"{low:.3f}-{high:.3f}", "--tokens", agent.output.replace(":", "-"),
            "--token-ms", str(model["decode_us"] / 1000), "--seconds", str(seconds), "--seed", str(seed), "--slo-ms",
            str(agent.objective_ms), "--cost", cost, "--graph", "--wait", "--json"]


def calibrate(device):
    return device.run([device.path("agents/takt-synthetic"), "--calibrate"])


def three_ways(device, seconds, seed, cost):
    """Yields (name of the run, {agent: its summary}) for each run as it ends."""
    def command(i, agent, prefix=()):
        return [*prefix, device.path("agents/takt-synthetic"), *flags(agent, seconds, seed + i, cost)]

    def results(outputs):
        return {agent.name: json.loads(out) for agent, out in zip(AGENTS, outputs)}
    yield "alone", results([device.together([command(i, agent)])[0] for i, agent in enumerate(AGENTS)])
    yield "stock", results(device.together([command(i, agent) for i, agent in enumerate(AGENTS)]))
    with tempfile.TemporaryDirectory() as folder:
        takt = device.path("src/cli/takt")
        yield "takt", results(device.together([command(i, a, (takt, "run", "--name", a.name, *a.promise, "--")) for i, a in enumerate(AGENTS)],
                                              TAKT_DIR=f"{folder}/takt"))


def table(runs):
    lines = [f"{'agent':12}{'run':8}{'judged by':>14}{'mean':>9}{'p50':>9}{'p99':>9}{'max':>9}{'jitter':>8}{'late':>12}"]
    for agent in AGENTS:
        for name, summaries in runs.items():
            s = summaries[agent.name]
            f = s[agent.judged]
            judged = f"{agent.judged} {agent.objective_ms} ms"
            lines.append(f"{agent.name:12}{name:8}{judged:>14}{f['mean']:9.1f}{f['p50']:9.1f}{f['p99']:9.1f}{f['max']:9.1f}{f['jitter']:8.2f}"
                         f"{f['late']:5d} of {s['requests']}")
    return "\n".join(lines)
