"""The demo's table and its picture, from what was measured and from the device's own log."""
import html
import json

from . import bounds, contention

COLOURS = {"router": "#d1495b", "chat": "#2e86ab", "summariser": "#7a9e48", "chat-2": "#8d6a9f"}
RUNS = {"alone": "#999", "stock": "#d1495b", "takt": "#2e86ab"}
OTHER_RUNS = ("#8d6a9f", "#c98a1b", "#3f7f6f")
NOT_KNOWN = "-"


def latencies(agent, run):
    """In ms from the scheduled time, of what was answered."""
    answers = run["agents"][agent.name]["answers"]
    end = "end_ns" if agent.judged == "e2e" else "first_ns"
    return sorted((a[end] - a["due_ns"]) / 1e6 for a in answers if not a["failed"])


def at(values, permille):
    """The smallest that at least permille/1000 of all do not exceed (nearest rank), as takt load has it."""
    return values[max(0, -(-len(values) * permille // 1000) - 1)] if values else 0


def share(agent, run):
    """Of the device's time; None where nobody knows."""
    if run["log"] is None:
        return run["held"].get(agent.name) if run["held"] else None
    return sum(b - a for a, b, who, kind in run["log"] if who == agent.name and kind == "run") / (run["end"] - run["begin"])


def row(agent, run, alone):
    v, failed = latencies(agent, run), run["agents"][agent.name]["failed"]
    p99, p50, p99_alone = at(v, 990), at(v, 500), at(latencies(agent, alone), 990)
    # What was not answered was not answered in time.
    return {"run": run["name"], "agent": agent.name, "judged": agent.judged, "n": len(v) + failed, "mean": sum(v) / max(1, len(v)),
            "p50": p50, "p99": p99, "max": v[-1] if v else 0, "jitter": p99 / p50 if p50 else 0,
            "against_alone": p99 / p99_alone if p99_alone else None, "gpu_share": share(agent, run),
            "breaks": sum(x > agent.objective_ms for x in v) + failed, "failed": failed}


def spans_of_two(run):
    """When requests of two agents or more were open, whatever their hosts were doing."""
    marks = []
    for agent in run["agents"].values():
        own = []
        for a in agent["answers"]:
            own += [(a["due_ns"], 1), (a["end_ns"], -1)]
        depth = 0
        for when, by in sorted(own):   # an agent counts once, however many requests it has
            if depth == 0 and by == 1:
                marks.append((when, 1))
            depth += by
            if depth == 0 and by == -1:
                marks.append((when, -1))
    depth, since, spans = 0, 0, []
    for when, by in sorted(marks):
        if depth == 1 and by == 1:
            since = when
        if depth == 2 and by == -1:
            spans.append((since, when))
        depth += by
    return spans


def overlap(spans, intervals):
    total, i = 0, 0
    for a, b in spans:
        while i > 0 and intervals[i - 1][1] > a:
            i -= 1
        while i < len(intervals) and intervals[i][0] < b:
            total += max(0, min(b, intervals[i][1]) - max(a, intervals[i][0]))
            i += 1
        i = max(0, i - 1)
    return total


def merged(intervals):
    """Those that overlap as one: side by side, two processes are on the device at once."""
    whole = []
    for a, b in sorted(intervals):
        if whole and a <= whole[-1][1]:
            whole[-1] = (whole[-1][0], max(b, whole[-1][1]))
        else:
            whole.append((a, b))
    return whole


def idle(log):
    """When the device was idle between two steps of one agent, and when between two agents."""
    between_steps, between_agents, before, end = [], [], None, 0
    for a, b, who, _ in sorted(log):
        if before is not None and a > end:
            (between_steps if who == before else between_agents).append((end, a))
        if b > end:
            before, end = who, b
    return between_steps, between_agents


def device(run, own_devices):
    answer = {"run": run["name"], "busy": None, "busy_while_two_want": None, "busy_while_one_waits": None, "idle_between_steps": None,
              "idle_between_agents": None, "switches_per_s": None,
              "agents_cpu_s": sum(a["cpu"] for a in run["agents"].values()), "takt_cpu_s": run["takt_cpu"]}
    if run["log"] is None:
        return answer
    if own_devices > 1:   # they wait in another way there
        answer["agents_cpu_s"] = None
    span = run["end"] - run["begin"]
    spans = spans_of_two(run)
    waited = sum(b - a for a, b in spans)
    ran = [(a, b) for a, b, _, kind in run["log"] if kind == "run"]
    answer["busy"] = sum(b - a for a, b in (merged(ran) if own_devices == 1 else ran)) / span / own_devices
    answer["switches_per_s"] = sum(kind == "switch" for *_, kind in run["log"]) / (span / 1e9)
    on_device = merged((a, b) for a, b, _, _ in run["log"])
    if waited and own_devices == 1:
        answer["busy_while_two_want"] = overlap(spans, on_device) / waited
    if run.get("waited"):   # at a gate: without one nobody knows
        at_gates = sum(b - a for a, b in run["waited"])
        answer["busy_while_one_waits"], answer["idle_between_steps"], answer["idle_between_agents"] = (
            overlap(run["waited"], spans) / at_gates for spans in (on_device, *idle(run["log"])))
    return answer


def known(value, form):
    return NOT_KNOWN if value is None else format(value, form)


# Heading, width, and what stands there; the same in the terminal and in the page.
AGENT_COLUMNS = (
    ("agent", -12, lambda r: r["agent"]), ("run", -8, lambda r: r["run"]), ("mean", 8, lambda r: f"{r['mean']:.1f}"),
    ("p50", 8, lambda r: f"{r['p50']:.1f}"), ("p99", 8, lambda r: f"{r['p99']:.1f}"), ("max", 8, lambda r: f"{r['max']:.1f}"),
    ("jitter", 8, lambda r: f"{r['jitter']:.2f}"), ("x alone", 9, lambda r: known(r["against_alone"], ".2f")),
    ("GPU", 7, lambda r: known(r["gpu_share"], ".1%")), ("SLA breaks", 13, lambda r: f"{r['breaks']} of {r['n']}"))
DEVICE_COLUMNS = (
    ("run", -8, lambda d: d["run"]), ("device busy", 12, lambda d: known(d["busy"], ".1%")),
    ("while two want", 16, lambda d: known(d["busy_while_two_want"], ".1%")),
    ("while one waits", 17, lambda d: known(d["busy_while_one_waits"], ".1%")), ("switches/s", 12, lambda d: known(d["switches_per_s"], ".1f")),
    ("CPU s: agents", 15, lambda d: known(d["agents_cpu_s"], ".2f")), ("Takt", 7, lambda d: f"{d['takt_cpu_s']:.2f}"))


def text_table(columns, items):
    def line(cells):
        return "".join(f"{cell:{'<' if width < 0 else '>'}{abs(width)}}" for cell, (_, width, _) in zip(cells, columns)).rstrip()
    return "\n".join([line([heading for heading, _, _ in columns]), *(line([get(i) for _, _, get in columns]) for i in items)])


def html_table(columns, items):
    head = "".join(f"<th>{html.escape(heading)}</th>" for heading, _, _ in columns)
    rows = "".join("<tr>" + "".join(f"<td>{html.escape(get(i))}</td>" for _, _, get in columns) + "</tr>" for i in items)
    return f"<table><tr>{head}</tr>{rows}</table>"


def measure_of(agent):
    return "end to end" if agent.judged == "e2e" else "first token"


def idle_lines(devices):
    return [f"{d['run']}: while one waits the device is idle for {d['idle_between_steps']:.1%} of the time between two steps of one agent "
            f"(its host's time), for {d['idle_between_agents']:.1%} from one agent to the next." for d in devices if d["idle_between_steps"] is not None]


def notes(agents, rows):
    """What a reader must know to read the table right."""
    by = {kind: ", ".join(a.name for a in agents if measure_of(a) == kind) for kind in ("end to end", "first token")}
    lines = ["Latency in ms from the scheduled time (" + "; ".join(f"{names}: {kind}" for kind, names in by.items() if names) + ")."]
    if any(r["n"] < 100 for r in rows):
        lines.append("Of fewer than 100 requests the 99th percentile is the largest.")
    return lines


def colour_of(name, runs):
    others = [r["name"] for r in runs if r["name"] not in RUNS]
    return RUNS.get(name) or OTHER_RUNS[others.index(name) % len(OTHER_RUNS)]


def curve(agent, runs):
    """Latency against the share of requests, one line a run."""
    top = max([at(latencies(agent, r), 1000) for r in runs] + [agent.objective_ms]) * 1.05
    lines = []
    for part in (0, .25, .5, .75, 1):
        y = 200 - 180 * part
        lines.append(f'<line x1="46" x2="406" y1="{y}" y2="{y}" stroke="#ddd"/><text x="42" y="{y + 4}" text-anchor="end">{top * part:.0f}</text>'
                     f'<text x="{46 + 360 * part}" y="216" text-anchor="middle">{part:.0%}</text>')
    y = 200 - 180 * agent.objective_ms / top
    lines.append(f'<line x1="46" x2="406" y1="{y:.1f}" y2="{y:.1f}" stroke="#000" stroke-dasharray="4"/>')
    for r in runs:
        v = latencies(agent, r)
        points = " ".join(f"{46 + 360 * i / max(1, len(v) - 1):.1f},{200 - 180 * x / top:.1f}" for i, x in enumerate(v))
        lines.append(f'<polyline points="{points}" fill="none" stroke="{colour_of(r["name"], runs)}" stroke-width="2">'
                     f"<title>{html.escape(r['name'])}</title></polyline>")
    name = html.escape(agent.name)
    return (f'<figure><figcaption>{name}: {measure_of(agent)}, ms; objective {agent.objective_ms} ms</figcaption>'
            f'<svg viewBox="0 0 420 222" role="img" aria-label="latency of {name}">{"".join(lines)}</svg></figure>')


def timeline(agents, run, seconds=3):
    """Who was on the device, a few seconds of it, from its own log."""
    begin = run["begin"] + (run["end"] - run["begin"]) // 3
    height, bars = 24 * len(agents), []
    for i in range(2 * seconds + 1):
        x = 90 + 450 / seconds * i
        bars.append(f'<line x1="{x:.1f}" x2="{x:.1f}" y1="6" y2="{height + 8}" stroke="#ddd"/><text x="{x:.1f}" y="{height + 22}" '
                    f'text-anchor="middle">{i / 2:g} s</text>')
    names = [a.name for a in agents]
    for a, b, who, kind in run["log"]:
        a, b = max(a, begin), min(b, begin + seconds * 1e9)
        if a >= b or kind != "run" or who not in names:
            continue
        bars.append(f'<rect x="{90 + (a - begin) / 1e9 / seconds * 900:.2f}" y="{10 + 24 * names.index(who)}" height="18" '
                    f'width="{max(.2, (b - a) / 1e9 / seconds * 900):.2f}" fill="{COLOURS.get(who, "#888")}"/>')
    labels = "".join(f'<text x="4" y="{24 + 24 * i}">{html.escape(name)}</text>' for i, name in enumerate(names))
    return f'<svg viewBox="0 0 1010 {height + 28}">{"".join(bars)}{labels}</svg>'


def page(agents, runs, rows, devices, refusals, simulated, contended=(), judged=()):
    shared = [r for r in runs if r["name"] != "alone"]
    legend = " ".join(f'<b style="color:{colour_of(r["name"], runs)}">{html.escape(r["name"])}</b>' for r in runs)
    if simulated:
        held = ["<h2>Who held the GPU: 3 s of the simulated device's own log</h2>",
                *[f"<h3>{html.escape(r['name'])}</h3>{timeline(agents, r)}" for r in shared]]
    else:
        held = ["<p>A real GPU keeps no log of who held it; there is no timeline.</p>"]
    return "".join([
        f"<!doctype html><meta charset=utf-8><title>Takt{' (simulated GPU)' if simulated else ''}</title>",
        "<style>body{font:15px sans-serif;max-width:1100px;margin:2em auto;padding:0 1em}svg{width:100%;background:#f6f6f4}"
        "svg text{font-size:11px}figure{margin:0}.row{display:grid;grid-template-columns:repeat(auto-fit,minmax(320px,1fr));gap:1em}"
        "table{border-collapse:collapse;margin:1em 0}td,th{border:1px solid #ccc;padding:.2em .6em;text-align:right}</style>",
        f"<h1>Takt: {len(agents)} agents on one GPU</h1>",
        "<p><b>Simulated GPU:</b> device times are a model, all else is real.</p>" if simulated else "",
        *(f"<p>{html.escape(contention.line(one))}</p>" for one in contended),
        *[f"<p><b>{html.escape(run)}: {html.escape(name)} was not started.</b> {html.escape(reason)}</p>" for run, name, reason in refusals],
        f"<h2>Latency</h2><p>{legend}; from the fastest request to the slowest</p><div class=row>", *[curve(a, runs) for a in agents], "</div>",
        *held, "<h2>Figures</h2>", *[f"<p>{html.escape(line)}</p>" for line in notes(agents, rows)], html_table(AGENT_COLUMNS, rows),
        html_table(DEVICE_COLUMNS, devices), *[f"<p>{html.escape(line)}</p>" for line in [*idle_lines(devices), *map(bounds.line, judged)]]])


def show(agents, runs, simulated, path, as_json, contended=(), bounded=False, check=False):
    """contended: what contention.run measured, each time. bounded: the load is one that bounds are known for. Returns the exit status: 1
    if the device was not shared as claimed, or with `check` if another bound is broken or an agent was refused."""
    refusals = [(r["name"], *refusal) for r in runs for refusal in r.get("refusals", [])]
    measured = [r for r in runs if "refusals" not in r]
    alone = measured[0]
    rows = [row(a, r, alone) for a in agents for r in measured]
    devices = [device(r, len(agents) if r["name"] == "alone" else 1) for r in measured]
    judged = bounds.judge(rows, devices) if bounded and not refusals else []
    status = int(any(one["broken"] for one in [*contended, *(judged if check else [])]) or (check and bool(refusals)))
    with open(path, "w") as file:
        file.write(page(agents, measured, rows, devices, refusals, simulated, contended, judged))
    if as_json:
        result = {"simulated": simulated, "rows": rows, "devices": devices, "refusals": [list(r[1:]) for r in refusals], "bounds": judged}
        print(json.dumps({**result, **({"contention": list(contended)} if contended else {})}))
        return status
    print(f"\n{'SIMULATED GPU: device times are a model, all else is real. ' if simulated else ''}{' '.join(notes(agents, rows))}\n")
    print(text_table(AGENT_COLUMNS, rows), text_table(DEVICE_COLUMNS, devices), sep="\n\n")
    for lines in (idle_lines(devices), [bounds.line(one) for one in judged]):
        if lines:
            print("", *lines, sep="\n")
    for run, name, reason in refusals:
        print(f"\n{run}: {name} was not started. {reason}")
    for one in contended:
        print(f"\n{contention.line(one)}")
    print(f"\nThe picture: {path}")
    return status
