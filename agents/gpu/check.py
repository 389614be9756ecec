"""script/gpu-check: what Takt promises, checked on the GPU at hand; needs no network and nothing but the build."""
import argparse
import os
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor

from . import agents, slices
from .device import Device, Failed, pack

PACKED_MAX = 64 << 20   # bytes of what is carried to a bare machine
HABITS = "memory", "captures", "many-streams", "two-contexts", "per-thread"   # of tests/shim/host


class Report:
    def __init__(self):
        self.passed = self.failed = self.skipped = 0

    def check(self, what, ok, why=""):
        self.passed += ok
        self.failed += not ok
        print(f"{'ok   ' if ok else 'FAIL '} {what}{': ' + why if why else ''}", flush=True)

    def skip(self, what, why):
        self.skipped += 1
        print(f"skip  {what}: {why}", flush=True)

    def end(self):
        print(f"{self.passed} passed, {self.failed} failed, {self.skipped} skipped")
        return 1 if self.failed else 0


def last_line(run):
    lines = (run.stdout + run.stderr).strip().splitlines()
    return lines[-1] if lines else f"exit {run.returncode}"


def conformance(device, report, root, cuda):
    """The door with every symbol that it knows, and NVIDIA's own runtime through it, on the driver at hand."""
    behind = [f"{root}/tests/shim/door.sh", device.path("src/shim/libcuda.so.1"), device.driver]
    run = device.run([*behind, device.path("tests/shim/test-door")])
    report.check("door, every symbol", run.returncode == 0, last_line(run))
    for version in ("13", "12", "11.0"):
        run = device.run([*behind, device.path("tests/simgpu/test-runtime"), f"libcudart.so.{version}"], TAKT_CUDA_LIBS=cuda)
        if run.returncode == 77:
            report.skip(f"door, libcudart {version}", f"no libcudart.so.{version} in {cuda}")
        else:
            report.check(f"door, libcudart {version}", run.returncode == 0, last_line(run))


def habits(device, report):
    """Hosts that look at what they get: their quota by all its names, captured graphs, streams of all kinds. All at once, so that they share."""
    def run(habit):
        takt = [device.path("src/cli/takt"), "run", "--memory", "1GiB", "--", device.path("tests/shim/host"), habit]
        return device.run(["sh", "-c", 'yes "" | timeout 120 "$@"', "sh", *takt], TAKT_DIR=f"{folder}/takt")
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(len(HABITS)) as pool:
        for habit, ended in zip(HABITS, pool.map(run, HABITS)):
            report.check(f"host, {habit}", ended.returncode == 0, last_line(ended))
    device.close()


def launches(device, report):
    """What a launch through an open gate costs more than the driver alone."""
    with tempfile.TemporaryDirectory() as folder:
        run = device.run([device.path("src/cli/takt"), "run", "--class", "fair", "--", device.path("bench/bench-launch")],
                         TAKT_DIR=f"{folder}/takt", SIMGPU_KERNEL_US="0.1")
    print(run.stdout, end="")
    report.check("bench launch", run.returncode == 0, last_line(run))
    device.close()


def three_agents(device, report, seconds, seed, cost):
    runs = {}
    for name, summaries in agents.three_ways(device, seconds, seed, cost):
        print(f"  {name} done", file=sys.stderr, flush=True)
        runs[name] = summaries
    print(f"\nLatency in ms from the scheduled time, {seconds:.0f} s a run:\n\n{agents.table(runs)}\n")
    for agent in agents.AGENTS:
        s = runs["takt"][agent.name]
        report.check(f"{agent.name} under Takt", s[agent.judged]["late"] <= max(1, s["requests"] // 100),
                     f"{s[agent.judged]['late']} of {s['requests']} later than {agent.objective_ms} ms")


def stock_slices(device, report, cost, seconds, path):
    s = slices.measure(device, cost, seconds)
    report.check("stock sharing takes turns", s is not None, "" if s else "two processes with work never waited for each other")
    if not s:
        return
    with open(path, "w") as file:
        file.write(slices.text(device, s))
    print(f"stock slice {s.slice_us:.0f} us, switch {s.switch_us:.0f} us ({s.lost:.1%} of the time): {path}")
    run = device.tool("status", SIMGPU_PROFILE=path, SIMGPU_NAME=device.segment + "-profile")
    report.check("the simulated GPU loads the profile", run.returncode == 0, run.stderr.strip())
    device.tool("reset", SIMGPU_NAME=device.segment + "-profile")


def arguments():
    parser = argparse.ArgumentParser(prog="script/gpu-check", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="short runs: less than a minute")
    parser.add_argument("--seconds", type=float, help="length of each of the five runs of agents (default: 40; 5 with --quick)")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--simulated", action="store_true", help="on the simulated GPU even where there is another")
    parser.add_argument("--profile", metavar="FILE", help="where the measured profile goes (default: gpu-profile in the build folder)")
    parser.add_argument("--pack", action="store_true", help="only copy beside the build what a bare machine lacks, and say its size")
    parser.add_argument("--root", required=True, help=argparse.SUPPRESS)
    parser.add_argument("--build", required=True, help=argparse.SUPPRESS)
    parser.add_argument("--cuda", required=True, help=argparse.SUPPRESS)
    o = parser.parse_args()
    o.seconds = o.seconds or (5 if o.quick else 40)
    o.profile = os.path.abspath(o.profile or os.path.join(o.build, "gpu-profile"))
    return o


def main():
    o, report = arguments(), Report()
    if o.pack:
        size = pack(o.build, o.cuda)
        print(f"{o.build}: {size / 2**20:.1f} MiB in all", "" if size < PACKED_MAX else f": too much, it must be less than {PACKED_MAX >> 20} MiB", sep="")
        return size >= PACKED_MAX
    device = Device(o.build, o.simulated)
    if device.simulated:
        print("No NVIDIA GPU: all of this is on the SIMULATED one. These checks were never run on silicon.")
    else:
        print(f"On: {device.name}, driver {device.driver}")
    try:
        conformance(device, report, o.root, o.cuda if os.path.isdir(o.cuda) else device.carried)
        habits(device, report)
        launches(device, report)
        run = agents.calibrate(device)
        cost = run.stdout.strip()
        report.check("length of work can be asked for", run.returncode == 0, f"{cost} ns a launch, a wave" if cost else last_line(run))
        if cost:
            three_agents(device, report, o.seconds, o.seed, cost)
            stock_slices(device, report, cost, 2 if o.quick else 10, o.profile)
    except Failed as failure:
        report.check("a program that was started", False, str(failure))
    finally:
        device.close()
    return report.end()


if __name__ == "__main__":
    sys.exit(main())
