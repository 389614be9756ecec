"""Runs the demo: the same arrivals on each agent alone, on all sharing the stock way, and on all under Takt."""
import argparse
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import time

from gpu.device import Device
from . import contention, leases, loads, report
from .claims import Claims
from .place import APART, TAKT, Failed, Refused, ends_with_us
from .pods import Pods
from .processes import Processes


class Demo:
    def __init__(self, options):
        self.o = options
        self.agents = loads.LOADS[options.load]
        self.build = os.path.abspath(options.build)
        self.cache = os.path.abspath(options.cache)
        self.here = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
        self.simulated, self.model = options.simulated, options.model
        self.work = tempfile.mkdtemp(prefix="takt-demo-")
        self.devices = [f"takt-demo-{os.getpid()}-{i}" for i in range(len(self.agents))]
        self.place = options.place(self)

    def drive(self, server, seconds, seed, out):
        agent = server.agent
        return subprocess.Popen(
            [os.path.join(self.build, "src/cli/takt"), "load", "--url", server.url, "--rate", str(agent.rate), "--duration",
             f"{seconds}s", "--seed", str(seed), "--prompt", agent.prompt, "--output", agent.output, "--json", "--out", out],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, preexec_fn=ends_with_us())

    def tool(self, device, *arguments):
        return subprocess.run([os.path.join(self.build, "src/simgpu/simgpu"), *arguments], env=dict(os.environ, SIMGPU_NAME=device),
                              capture_output=True, text=True, check=True).stdout

    def device_log(self, devices, pids, begin, end):
        """Who was on the device from when to when; None for a real one, which keeps no log."""
        if not self.simulated:
            return None
        log = []
        for device in sorted(set(devices)):
            for line in self.tool(device, "log").splitlines()[1:]:
                a, b, pid, _, kind, _ = line.split(",")
                if int(b) > begin and int(a) < end:
                    log.append((int(a), int(b), pids.get(int(pid), "?"), kind))
        return log

    def reset(self):
        if self.simulated:
            for device in self.devices:
                self.tool(device, "reset")

    def phase(self, name, agents, devices, how=()):
        """One run of the load. devices: the device of each agent. Returns what was measured, or the refusals."""
        self.reset()
        servers, refusals = [], []
        for agent, device in zip(agents, devices):
            try:
                servers.append(self.place.start(agent, device, how))
            except Refused as refused:
                refusals.append((agent.name, str(refused)))
        if refusals:
            self.place.stop()
            return {"name": name, "refusals": refusals}
        warm = [self.drive(server, 2, 99, os.path.join(self.work, f"warm-{server.agent.name}")) for server in servers]
        for driver in warm:   # graphs are captured, caches filled
            driver.communicate()
        result = self.measure(name, servers, devices)
        self.place.stop()
        return result

    def measure(self, name, servers, devices):
        cpu = {server: server.cpu() for server in servers}
        takt_cpu, granted = self.place.takt_seconds(), self.place.granted()
        begin = time.monotonic_ns()
        drivers = [(server.agent, self.drive(server, self.o.seconds, self.o.seed + self.agents.index(server.agent),
                                             os.path.join(self.work, f"out-{server.agent.name}"))) for server in servers]
        self.watch(name, drivers, begin)
        end = time.monotonic_ns()
        held = {who: (ns - granted.get(who, 0)) / (end - begin) for who, ns in self.place.granted().items()}
        result = {"name": name, "agents": {}, "begin": begin, "end": end, "takt_cpu": self.place.takt_seconds() - takt_cpu, "held": held}
        for agent, driver in drivers:
            out, err = driver.communicate()
            if driver.returncode:
                raise Failed(f"{agent.name}: {err.strip()}")
            result["agents"][agent.name] = json.loads(out)
            with open(os.path.join(self.work, f"out-{agent.name}")) as lines:
                result["agents"][agent.name]["answers"] = [json.loads(line) for line in lines]
        pids = {}
        for server in servers:
            result["agents"][server.agent.name]["cpu"] = server.cpu() - cpu[server]
            pids.update({pid: server.agent.name for pid in server.pids()})
        result["log"] = self.device_log(devices, pids, begin, end)
        result["waited"] = leases.waited(os.path.join(self.place.takt_dir, "leases"), begin, end)
        return result

    def watch(self, name, drivers, begin):
        while any(d.poll() is None for _, d in drivers):
            time.sleep(.2)
            done = min(1, (time.monotonic_ns() - begin) / 1e9 / self.o.seconds)
            if sys.stderr.isatty():
                print(f"\r  {name:7} {'#' * int(30 * done):30}", end="", file=sys.stderr, flush=True)
        print(f"{chr(13) if sys.stderr.isatty() else ''}  {name:7} done{' ' * 28 if sys.stderr.isatty() else ''}", file=sys.stderr)

    def alone(self):
        """Each agent without the others: at the same time where each can have a device of its own, else one after the other."""
        if self.simulated:
            return self.phase("alone", self.agents, self.devices, APART)
        runs = [self.phase("alone", [agent], self.devices[:1]) for agent in self.agents]
        return {**runs[0], "agents": {name: measured for r in runs for name, measured in r["agents"].items()}}

    def runs(self):
        one = self.devices[:1] * len(self.agents)
        yield self.alone()
        yield self.phase("stock", self.agents, one)
        for name, prefix in self.o.also:
            yield self.phase(name, self.agents, one, prefix)
        yield self.phase("takt", self.agents, one, TAKT)

    def main(self):
        print(f"{3 + len(self.o.also)} runs of {self.o.seconds:.0f} s on {'a SIMULATED GPU' if self.simulated else self.o.gpu}, "
              f"load \"{self.o.load}\":", file=sys.stderr)
        try:
            runs = list(self.runs())
            contended = [contention.run(self, with_objectives) for with_objectives in (False, True)] if self.o.dra else []
        except Failed as failure:
            print(f"demo: {failure}", file=sys.stderr)
            return 1
        finally:
            self.place.stop()
            self.reset()
            shutil.rmtree(self.work, ignore_errors=True)
        return report.show(self.agents, runs, self.simulated, self.o.report, self.o.json, contended,
                           bounded=self.o.load == "demo", check=self.o.check)


def also(text):
    """NAME='PREFIX': the name of a run of its own, and the words before each agent's command."""
    name, equals, prefix = text.partition("=")
    if not equals or not re.fullmatch(r"[A-Za-z0-9_-]{1,7}", name) or name in ("alone", "stock", "takt"):
        raise argparse.ArgumentTypeError(f"{text!r}: NAME='PREFIX', the name of up to 7 letters and none of the demo's own")
    try:
        return name, shlex.split(prefix)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r}: {error}") from error


def minutes(text):
    value = float(text)
    if not 0 < value <= 60:
        raise argparse.ArgumentTypeError(f"{text}: more than 0, at most 60")
    return value


def arguments(words=None, gpu_of=Device):
    parser = argparse.ArgumentParser(prog="script/demo", description=__doc__)
    parser.add_argument("--minutes", type=minutes, default=.6, help="length of each run (default: 0.6)")
    parser.add_argument("--load", choices=loads.LOADS, default="demo", help=f"what is asked of the agents: {'; '.join(f'{name}, {what}' for name, what in loads.ABOUT.items())} (default: demo)")
    parser.add_argument("--seed", type=int, default=1, help="the same seed, the same arrivals (default: 1)")
    parser.add_argument("--also", type=also, action="append", default=[], metavar="NAME='PREFIX'", help="run once more under another sharing")
    parser.add_argument("--model", metavar="FILE", help="a GGUF file; with one, the demo runs on this machine's NVIDIA GPU if it has one")
    parser.add_argument("--real", action="store_true", help="on this machine's NVIDIA GPU, or not at all")
    parser.add_argument("--simulated", action="store_true", help="on the simulated GPU even where there is another")
    parser.add_argument("--kubernetes", action="store_true",
                        help="the agents are pods of a real cluster of one node, in private namespaces of this machine; needs root")
    parser.add_argument("--dra", action="store_true",
                        help="with --kubernetes: by claims, not by a resource; and whether each gets the share it claimed when all want more")
    parser.add_argument("--contention", type=minutes, default=1, metavar="MINUTES", help="how long all want more, without objectives and with (default: 1)")
    parser.add_argument("--report", default="report.html", metavar="FILE", help="the picture (default: report.html)")
    parser.add_argument("--check", action="store_true", help="exit 1 where a bound of the demo's load is broken")
    parser.add_argument("--json", action="store_true", help="the table as JSON")
    parser.add_argument("--build", required=True, help=argparse.SUPPRESS)
    parser.add_argument("--cache", required=True, help=argparse.SUPPRESS)
    o = parser.parse_args(words)
    o.seconds, o.contention = o.minutes * 60, o.contention * 60
    if o.kubernetes and (o.real or o.also):
        parser.error(f"--kubernetes and {'--real' if o.real else '--also'} do not go together")
    if o.dra and not o.kubernetes:
        parser.error("--dra needs --kubernetes")
    if o.real and (o.simulated or not o.model):
        parser.error("--real and --simulated are one or the other" if o.simulated else "--real needs --model FILE: which model to run")
    if o.check and o.load != "demo":
        parser.error(f"--check: no bounds are known of --load {o.load}")
    if o.model and not os.access(o.model, os.R_OK):
        parser.error(f"--model {o.model}: no such file")
    if len({name for name, _ in o.also}) < len(o.also):
        parser.error("--also: two runs of one name")
    try:
        open(o.report, "a").close()   # said now, not after minutes
    except OSError as error:
        parser.error(f"--report {o.report}: {error.strerror}")
    choose_gpu(o, gpu_of(o.build, o.simulated or o.kubernetes), parser)
    o.model = os.path.abspath(o.model or os.path.join(o.cache, "tiny.gguf"))
    o.place = Claims if o.dra else Pods if o.kubernetes else Processes
    return o


def choose_gpu(o, found, parser):
    """Real where there is one and a model is named; a tiny random model would say nothing there."""
    if o.real and found.simulated:
        parser.error("--real: this machine has no NVIDIA GPU that works")
    o.simulated = found.simulated or not o.model
    o.gpu = found.name
    if o.simulated and not found.simulated:
        print(f"This machine has a GPU ({found.name}): name a model to run on it, --model FILE. Until then:", file=sys.stderr)


def main():
    try:
        sys.exit(Demo(arguments()).main())
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
