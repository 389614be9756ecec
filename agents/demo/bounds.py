"""What the demo's load must show under Takt, and whether it did."""

# What it is, its bound, and how both are written.
LATENESS = ("router's p99, Takt to alone", 1.20, "<=", "{:.2f} x")
LATE = ("router and chat past their objectives", 0, "<=", "{:.0f}")
CPU = ("CPU seconds of everything, Takt to stock", 1.02, "<=", "{:.2f} x")
BUSY = ("device busy while an agent waits", .98, ">=", "{:.1%}")


def measured(rows, devices):
    """(bound, value) of what is known."""
    row = {(r["agent"], r["run"]): r for r in rows}
    device = {d["run"]: d for d in devices}
    cpu = {run: device[run]["agents_cpu_s"] + device[run]["takt_cpu_s"] for run in ("stock", "takt")}
    return [(LATENESS, row["router", "takt"]["against_alone"]),
            (LATE, row["router", "takt"]["breaks"] + row["chat", "takt"]["breaks"]),
            (CPU, cpu["takt"] / cpu["stock"] if cpu["stock"] else None),
            (BUSY, device["takt"]["busy_while_one_waits"])]


def judge(rows, devices):
    """Of one run each way. Lines for JSON; those whose value nobody knows are left out."""
    return [{"figure": name, "value": value, "bound": bound, "broken": value > bound if way == "<=" else value < bound,
             "text": f"{name:42}{form.format(value):>9}  {way} {form.format(bound)}"}
            for (name, bound, way, form), value in measured(rows, devices) if value is not None]


def line(judged):
    return judged["text"] + (" BROKEN" if judged["broken"] else "")
