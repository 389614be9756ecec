"""Contention: all agents have more work than they can do, and each has claimed a share. Who had the device for how long is what
Takt counted: nobody else could use it then. How much of that it computed is in the simulated device's own log, and shown beside."""
import os
import re
import time
import urllib.request
from collections import Counter
from dataclasses import replace

from .loads import LOADS
from .place import TAKT, Failed, Refused

SHARES = {"router": 20, "chat": 40, "summariser": 40}   # percent, claimed without objectives: the fair class
BOUND = .02    # of the device's time, by which measured and claimed may differ
FLOOD = 6      # times the demo's arrivals: more than the whole device could do
HEAP = 8       # requests that each has waiting when the measuring begins
PATIENCE_S = 60


def greedy(agent):
    """The agent with a share alone, and asked for more than it can do."""
    memory = agent.promise[agent.promise.index("--memory") + 1]
    return replace(agent, rate=agent.rate * FLOOD, promise=("--share", f"{SHARES[agent.name]}%", "--memory", memory))


def waiting(server):
    """Requests that the server has not begun with."""
    with urllib.request.urlopen(f"{server.url}/metrics", timeout=PATIENCE_S) as answer:
        return int(re.search(r"(?m)^vllm:num_requests_waiting\S* (\d+)$", answer.read().decode())[1])


def heap_up(servers):
    end = time.monotonic() + PATIENCE_S
    while short := [s.agent.name for s in servers if waiting(s) < HEAP]:
        if time.monotonic() > end:
            raise Failed(f"contention: {', '.join(short)} can do all that is asked")
        time.sleep(.2)


def hold(servers, seconds):
    """For so long each has work, at every look. Returns (begin, end) in ns."""
    begin = time.monotonic()
    while time.monotonic() < begin + seconds:
        for server in servers:
            if not waiting(server):
                raise Failed(f"contention: {server.agent.name} has no work waiting after {time.monotonic() - begin:.0f} s")
        time.sleep(.5)
    return int(begin * 1e9), time.monotonic_ns()


def parts(ns):
    """{who: its part of the whole}"""
    whole = sum(ns.values())
    return {who: n / whole if whole else 0 for who, n in ns.items()}


def computed(log, begin, end):
    """{who: ns of the device's work} between the two."""
    ran = Counter()
    for a, b, who, kind in log:
        if kind == "run":
            ran[who] += max(0, min(b, end) - max(a, begin))
    return ran


def judge(held, ran):
    """Of each agent's ns. Returns {agent: {"claimed", "measured", "computed"}} and the largest difference of the first two."""
    held, ran = parts(held), parts(ran)
    shares = {name: {"claimed": percent / 100, "measured": held.get(name, 0), "computed": ran.get(name, 0)} for name, percent in SHARES.items()}
    return shares, max(abs(s["measured"] - s["claimed"]) for s in shares.values())


def run(demo):
    """On the demo's own place and device, under Takt. Returns what was measured."""
    device, servers, floods = demo.devices[0], [], []
    demo.reset()
    try:
        for agent in LOADS["demo"]:
            servers.append(demo.place.start(greedy(agent), device, TAKT))
        floods = [demo.drive(s, PATIENCE_S + demo.o.contention, demo.o.seed, os.path.join(demo.work, f"flood-{s.agent.name}")) for s in servers]
        heap_up(servers)
        before = demo.place.granted()
        begin, end = hold(servers, demo.o.contention)
        held = {who: ns - before[who] for who, ns in demo.place.granted().items()}
        log = demo.device_log([device], {pid: s.agent.name for s in servers for pid in s.pids()}, begin, end)
    except Refused as refused:
        raise Failed(str(refused)) from refused
    finally:
        for flood in floods:
            flood.terminate()
            flood.communicate()
        demo.place.stop()
    shares, off = judge(held, computed(log, begin, end))
    return {"seconds": (end - begin) / 1e9, "shares": shares, "off": off, "bound": BOUND, "broken": off > BOUND}


def line(result):
    """For people."""
    each = "; ".join(f"{name} {s['measured']:.1%} of {s['claimed']:.0%} (computing {s['computed']:.1%})" for name, s in result["shares"].items())
    verdict = "BROKEN: more than" if result["broken"] else "within"
    return (f"{result['seconds']:.0f} s of contention, device held of share claimed: {each}; "
            f"{verdict} {result['bound'] * 100:.0f} points ({result['off'] * 100:.1f})")
