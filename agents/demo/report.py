"""The demo's table and its picture, from what was measured and from the device's own log."""
import html
import json

COLOURS = {"router": "#d1495b", "chat": "#2e86ab", "summariser": "#7a9e48", "chat-2": "#8d6a9f"}


def latencies(agent, run):
    answers = run["agents"][agent.name]["answers"]
    end = "end_ns" if agent.judged == "e2e" else "first_ns"
    return sorted((a[end] - a["due_ns"]) / 1e6 for a in answers if not a["failed"])


def at(values, part):
    return values[min(len(values) - 1, int(part * len(values)))] if values else 0


def row(agent, run, alone):
    v = latencies(agent, run)
    p99, p50 = at(v, .99), at(v, .5)
    busy = sum(b - a for a, b, who, kind in run["log"] if who == agent.name and kind == "run")
    return {"run": run["name"], "agent": agent.name, "judged": agent.judged, "n": len(v), "mean": sum(v) / max(1, len(v)),
            "p50": p50, "p99": p99, "max": v[-1] if v else 0, "jitter": p99 / p50 if p50 else 0,
            "against_alone": p99 / at(latencies(agent, alone), .99), "gpu_share": busy / (run["end"] - run["begin"]),
            "breaks": sum(x > agent.objective_ms for x in v), "failed": run["agents"][agent.name]["failed"]}


def spans_of_waiting(run):
    """When requests of two agents or more were open: somebody waits whenever the device is not busy then."""
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


def device(run, own_devices):
    span = run["end"] - run["begin"]
    busy = sum(b - a for a, b, _, kind in run["log"] if kind == "run")
    spans = spans_of_waiting(run)
    waited = sum(b - a for a, b in spans)
    intervals = sorted((a, b) for a, b, _, _ in run["log"])
    return {"run": run["name"], "busy": busy / span / own_devices,
            "busy_while_two_want": overlap(spans, intervals) / waited if waited and own_devices == 1 else None,
            "switches_per_s": sum(kind == "switch" for *_, kind in run["log"]) / (span / 1e9),
            "agents_cpu_s": sum(a["cpu"] for a in run["agents"].values()), "takt_cpu_s": run["takt_cpu"]}


def print_table(rows, devices, simulated):
    print(f"\n{'SIMULATED GPU: device times are a model, all else is real. ' if simulated else ''}Latency in ms from the scheduled "
          "time (router: end to end; others: first token).\n")
    print(f"{'agent':12}{'run':8}{'mean':>8}{'p50':>8}{'p99':>8}{'max':>8}{'jitter':>8}{'x alone':>9}{'GPU':>7}{'SLA breaks':>12}")
    for r in rows:
        print(f"{r['agent']:12}{r['run']:8}{r['mean']:8.1f}{r['p50']:8.1f}{r['p99']:8.1f}{r['max']:8.1f}{r['jitter']:8.2f}"
              f"{r['against_alone']:9.2f}{r['gpu_share']:7.1%}{r['breaks']:7d} of {r['n']}")
    print(f"\n{'run':8}{'device busy':>12}{'while two want':>16}{'switches/s':>12}{'CPU s: agents':>15}{'Takt':>7}")
    for d in devices:
        both = f"{d['busy_while_two_want']:.1%}" if d["busy_while_two_want"] is not None else "-"
        print(f"{d['run']:8}{d['busy']:12.1%}{both:>16}{d['switches_per_s']:12.1f}{d['agents_cpu_s']:15.2f}{d['takt_cpu_s']:7.2f}")


def curve(agent, runs):
    """Latency against the share of requests, one line a run."""
    lines, top = [], max(at(latencies(agent, r), 1) for r in runs) * 1.05 or 1
    styles = {"alone": "#999", "stock": "#d1495b", "takt": "#2e86ab"}
    for r in runs:
        v = latencies(agent, r)
        points = " ".join(f"{40 + 360 * i / max(1, len(v) - 1):.1f},{200 - 180 * x / top:.1f}" for i, x in enumerate(v))
        lines.append(f'<polyline points="{points}" fill="none" stroke="{styles.get(r["name"], "#8d6a9f")}" stroke-width="2">'
                     f"<title>{html.escape(r['name'])}</title></polyline>")
    y = 200 - 180 * agent.objective_ms / top
    if y > 10:
        lines.append(f'<line x1="40" x2="400" y1="{y:.1f}" y2="{y:.1f}" stroke="#000" stroke-dasharray="4"/>')
    return (f'<svg viewBox="0 0 420 230" role="img" aria-label="latency of {agent.name}"><text x="40" y="14">{agent.name}: '
            f'{"end to end" if agent.judged == "e2e" else "first token"}, up to {top:.0f} ms; dashed: objective {agent.objective_ms} ms'
            f'</text>{"".join(lines)}<text x="40" y="222">fastest</text><text x="360" y="222">slowest</text></svg>')


def timeline(agents, run, seconds=3):
    """Who was on the device, a few seconds of it, from its own log."""
    begin = run["begin"] + (run["end"] - run["begin"]) // 3
    bars = []
    for a, b, who, kind in run["log"]:
        if b < begin or a > begin + seconds * 1e9 or kind != "run":
            continue
        y = [x.name for x in agents].index(who) if who in [x.name for x in agents] else 0
        bars.append(f'<rect x="{90 + (a - begin) / 1e9 / seconds * 900:.2f}" y="{10 + 24 * y}" height="18" '
                    f'width="{max(.2, (b - a) / 1e9 / seconds * 900):.2f}" fill="{COLOURS.get(who, "#888")}"/>')
    names = "".join(f'<text x="4" y="{24 + 24 * i}">{a.name}</text>' for i, a in enumerate(agents))
    return f'<svg viewBox="0 0 1000 {20 + 24 * len(agents)}">{names}{"".join(bars)}</svg>'


def write_html(path, agents, runs, rows, devices, simulated):
    def table(items):
        keys = list(items[0])
        cells = "".join("<tr>" + "".join(f"<td>{i[k]:.3g}</td>" if isinstance(i[k], float) else f"<td>{html.escape(str(i[k]))}</td>"
                                         for k in keys) + "</tr>" for i in items)
        return "<table><tr>" + "".join(f"<th>{k}</th>" for k in keys) + f"</tr>{cells}</table>"
    shared = [r for r in runs if r["name"] != "alone"]
    body = "".join([
        "<h1>Takt: three agents on one GPU</h1>",
        "<p><b>Simulated:</b> the GPU's times are a model's; engines, processes and clocks are real.</p>" if simulated else "",
        "<h2>Latency</h2><p>grey: alone, red: stock, blue: Takt</p><div class=row>", *[curve(a, runs) for a in agents], "</div>",
        "<h2>Who held the GPU (3 s of the device's own log)</h2>",
        *[f"<h3>{html.escape(r['name'])}</h3>{timeline(agents, r)}" for r in shared],
        "<h2>Figures</h2>", table(rows), table(devices)])
    with open(path, "w") as file:
        file.write("<!doctype html><meta charset=utf-8><title>Takt</title><style>body{font:15px sans-serif;max-width:1100px;"
                   "margin:2em auto;padding:0 1em}svg{width:100%;background:#f6f6f4}svg text{font-size:11px}.row{display:grid;"
                   "grid-template-columns:repeat(auto-fit,minmax(320px,1fr));gap:1em}table{border-collapse:collapse;margin:1em 0}"
                   f"td,th{{border:1px solid #ccc;padding:.2em .5em;text-align:right}}</style>{body}")


def show(agents, runs, simulated, path, as_json):
    refused = [r for r in runs if "refusals" in r]
    measured = [r for r in runs if "refusals" not in r]
    alone = measured[0]
    rows = [row(a, r, alone) for a in agents for r in measured]
    devices = [device(r, len(agents) if r["name"] == "alone" else 1) for r in measured]
    write_html(path, agents, measured, rows, devices, simulated)
    if as_json:
        print(json.dumps({"simulated": simulated, "rows": rows, "devices": devices,
                          "refusals": [x for r in refused for x in r["refusals"]]}))
    else:
        print_table(rows, devices, simulated)
        for r in refused:
            for name, reason in r["refusals"]:
                print(f"\n{r['name']}: {name} was not started. {reason}")
        print(f"\nThe picture: {path}")
    return 0
