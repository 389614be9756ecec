"""Runs the demo: the same arrivals on each agent alone, on all sharing the stock way, and on all under Takt."""
import argparse
import ctypes
import functools
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time

from gpu.device import Device
from . import leases, loads, report

LIBC, PR_SET_PDEATHSIG = ctypes.CDLL(None), 1
TICK = os.sysconf("SC_CLK_TCK")
REFUSED = 75   # takt run: the promise cannot be kept


class Failed(Exception):
    """The demo cannot go on; says why."""


def end_with(parent):
    """In a process to be: it is told to end when the demo does, however that ends."""
    LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:   # it was faster
        os._exit(1)


class Demo:
    def __init__(self, options):
        self.o = options
        self.agents = loads.LOADS[options.load]
        self.build = os.path.abspath(options.build)
        self.cache = os.path.abspath(options.cache)
        self.here = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
        self.simulated = options.simulated
        self.work = tempfile.mkdtemp(prefix="takt-demo-")
        self.devices = [f"takt-demo-{os.getpid()}-{i}" for i in range(len(self.agents))]
        self.running = []
        self.end_with_us = functools.partial(end_with, os.getpid())

    def path(self, *parts):
        return os.path.join(self.build, "src", *parts)

    def environment(self, agent, device):
        env = dict(os.environ, TAKT_DIR=os.path.join(self.work, "takt"))
        libraries = [os.path.join(self.cache, "cuda")]
        if self.simulated:
            libraries.insert(0, self.path("simgpu"))
            env |= {"SIMGPU_NAME": device, "SIMGPU_PROFILE": os.path.join(os.path.dirname(self.here), "src/simgpu/profiles", agent.profile)}
        env["LD_LIBRARY_PATH"] = ":".join(libraries + [p for p in [env.get("LD_LIBRARY_PATH")] if p])
        return env

    def start(self, agent, device, prefix):
        """Starts one agent's server; returns its process and port, or None and the reason if Takt does not admit it."""
        command = [*prefix, os.path.join(self.cache, "node"), os.path.join(self.here, "server.mjs"), "--model", self.o.model,
                   "--context", "4096", "--sequences", "8", "--batch", "64"]
        said = os.path.join(self.work, f"{agent.name}.err")
        with open(said, "w") as err:   # a file: nobody would read a pipe while it runs
            try:
                process = subprocess.Popen(command, env=self.environment(agent, device), stdout=subprocess.PIPE, stderr=err, text=True,
                                           start_new_session=True, preexec_fn=self.end_with_us)
            except OSError as error:
                raise Failed(f"{command[0]}: {error.strerror}") from error
        self.running.append(process)
        line = process.stdout.readline()
        if line:
            return process, json.loads(line)["port"]
        code = process.wait()
        with open(said) as err:
            reason = err.read().strip()
        if code != REFUSED or not prefix:
            raise Failed(f"{agent.name}: {reason or f'exit {code}'}")
        return None, reason

    def stop(self):
        for process in self.running:
            process.send_signal(signal.SIGTERM)
        for process in self.running:
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
            process.stdout.close()
        self.running.clear()

    def drive(self, agent, port, seconds, seed, out):
        return subprocess.Popen(
            [self.path("cli", "takt"), "load", "--url", f"http://127.0.0.1:{port}", "--rate", str(agent.rate), "--duration",
             f"{seconds}s", "--seed", str(seed), "--prompt", agent.prompt, "--output", agent.output, "--json", "--out", out],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, preexec_fn=self.end_with_us)

    def tool(self, device, *arguments):
        return subprocess.run([self.path("simgpu", "simgpu"), *arguments], env=dict(os.environ, SIMGPU_NAME=device), capture_output=True,
                              text=True, check=True).stdout

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

    def granted(self):
        """Device time that Takt gave each agent so far, in ns; none where no daemon runs."""
        run = subprocess.run([self.path("cli", "takt"), "status", "--json"], env=dict(os.environ, TAKT_DIR=os.path.join(self.work, "takt")),
                             capture_output=True, text=True)
        return {t["name"]: t["granted_ns"] for t in json.loads(run.stdout)["tenants"]} if run.returncode == 0 else {}

    def phase(self, name, agents, devices, prefix_of):
        """One run of the load. devices: the device of each agent. Returns what was measured, or the refusals."""
        self.reset()
        started, refusals = [], []
        for agent, device in zip(agents, devices):
            process, port = self.start(agent, device, prefix_of(agent))
            if process is None:
                refusals.append((agent.name, port))
            else:
                started.append((agent, process, port))
        if refusals:
            self.stop()
            return {"name": name, "refusals": refusals}
        warm = [self.drive(agent, port, 2, 99, os.path.join(self.work, f"warm-{agent.name}")) for agent, _, port in started]
        for driver in warm:   # graphs are captured, caches filled
            driver.communicate()
        result = self.measure(name, started, devices)
        self.stop()
        return result

    def measure(self, name, started, devices):
        folder = os.path.join(self.work, "takt")
        cpu = {process.pid: tree_cpu(process.pid) for _, process, _ in started}
        daemon_cpu, granted = daemon_seconds(folder), self.granted()
        begin = time.monotonic_ns()
        drivers = [(agent, self.drive(agent, port, self.o.seconds, self.o.seed + self.agents.index(agent),
                                      os.path.join(self.work, f"out-{agent.name}"))) for agent, _, port in started]
        self.watch(name, drivers, begin)
        end = time.monotonic_ns()
        held = {who: (ns - granted.get(who, 0)) / (end - begin) for who, ns in self.granted().items()}
        result = {"name": name, "agents": {}, "begin": begin, "end": end, "takt_cpu": daemon_seconds(folder) - daemon_cpu, "held": held}
        for agent, driver in drivers:
            out, err = driver.communicate()
            if driver.returncode:
                raise Failed(f"{agent.name}: {err.strip()}")
            result["agents"][agent.name] = json.loads(out)
            with open(os.path.join(self.work, f"out-{agent.name}")) as lines:
                result["agents"][agent.name]["answers"] = [json.loads(line) for line in lines]
        pids = {}
        for agent, process, _ in started:
            result["agents"][agent.name]["cpu"] = tree_cpu(process.pid) - cpu[process.pid]
            pids.update({pid: agent.name for pid in tree(process.pid)})
        result["log"] = self.device_log(devices, pids, begin, end)
        result["waited"] = leases.waited(os.path.join(folder, "leases"), begin, end)
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
            return self.phase("alone", self.agents, self.devices, lambda a: [])
        runs = [self.phase("alone", [agent], self.devices[:1], lambda a: []) for agent in self.agents]
        return {**runs[0], "agents": {name: measured for r in runs for name, measured in r["agents"].items()}}

    def runs(self):
        one = self.devices[:1] * len(self.agents)
        takt = self.path("cli", "takt")
        yield self.alone()
        yield self.phase("stock", self.agents, one, lambda a: [])
        for name, prefix in self.o.also:
            yield self.phase(name, self.agents, one, lambda a, p=prefix: p)
        yield self.phase("takt", self.agents, one, lambda a: [takt, "run", "--name", a.name, *a.promise, "--"])

    def main(self):
        print(f"{3 + len(self.o.also)} runs of {self.o.seconds:.0f} s on {'a SIMULATED GPU' if self.simulated else self.o.gpu}, "
              f"load \"{self.o.load}\":", file=sys.stderr)
        try:
            runs = list(self.runs())
        except Failed as failure:
            print(f"demo: {failure}", file=sys.stderr)
            return 1
        finally:
            self.stop()
            self.reset()
            shutil.rmtree(self.work, ignore_errors=True)
        return report.show(self.agents, runs, self.simulated, self.o.report, self.o.json)


def children(pid):
    try:
        with open(f"/proc/{pid}/task/{pid}/children") as file:
            return [int(child) for child in file.read().split()]
    except OSError:
        return []


def tree(pid):
    return [pid] + [p for child in children(pid) for p in tree(child)]


def cpu_of(pid):
    try:
        with open(f"/proc/{pid}/stat") as file:
            fields = file.read().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / TICK
    except OSError:
        return 0


def tree_cpu(pid):
    return sum(cpu_of(p) for p in tree(pid))


def daemon_seconds(folder):
    """CPU seconds of the daemon whose sockets lie in that folder; 0 if none runs."""
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/cmdline", "rb") as file:
                words = file.read().decode(errors="replace").split("\0")
        except OSError:
            continue
        if os.path.basename(words[0]) == "taktd" and folder in words:
            return cpu_of(int(pid))
    return 0


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
    parser.add_argument("--load", choices=loads.LOADS, default="demo")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--also", type=also, action="append", default=[], metavar="NAME='PREFIX'", help="run once more under another sharing")
    parser.add_argument("--model", metavar="FILE", help="a GGUF file; with one, the demo runs on this machine's NVIDIA GPU if it has one")
    parser.add_argument("--real", action="store_true", help="on this machine's NVIDIA GPU, or not at all")
    parser.add_argument("--simulated", action="store_true", help="on the simulated GPU even where there is another")
    parser.add_argument("--report", default="report.html", metavar="FILE", help="the picture (default: report.html)")
    parser.add_argument("--json", action="store_true", help="the table as JSON")
    parser.add_argument("--build", required=True, help=argparse.SUPPRESS)
    parser.add_argument("--cache", required=True, help=argparse.SUPPRESS)
    o = parser.parse_args(words)
    o.seconds = o.minutes * 60
    if o.real and (o.simulated or not o.model):
        parser.error("--real and --simulated are one or the other" if o.simulated else "--real needs --model FILE: which model to run")
    if o.model and not os.access(o.model, os.R_OK):
        parser.error(f"--model {o.model}: no such file")
    if len({name for name, _ in o.also}) < len(o.also):
        parser.error("--also: two runs of one name")
    try:
        open(o.report, "a").close()   # said now, not after minutes
    except OSError as error:
        parser.error(f"--report {o.report}: {error.strerror}")
    choose_gpu(o, gpu_of(o.build, o.simulated), parser)
    o.model = o.model or os.path.join(o.cache, "tiny.gguf")
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
