"""Runs the demo: the same arrivals on each agent alone, on all sharing the stock way, and on all under Takt."""
import argparse
import json
import os
import signal
import subprocess
import sys
import time

from . import loads, report

TICK = os.sysconf("SC_CLK_TCK")


class Demo:
    def __init__(self, options):
        self.o = options
        self.agents = loads.LOADS[options.load]
        self.build = os.path.abspath(options.build)
        self.cache = os.path.abspath(options.cache)
        self.here = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
        self.simulated = not options.real
        self.work = os.path.join(self.cache, "demo")
        os.makedirs(self.work, exist_ok=True)
        self.running = []

    def path(self, *parts):
        return os.path.join(self.build, "src", *parts)

    def environment(self, agent, device):
        env = dict(os.environ, SIMGPU_NAME=device)
        libraries = [os.path.join(self.cache, "cuda")]
        if self.simulated:
            libraries.insert(0, self.path("simgpu"))
            env["SIMGPU_PROFILE"] = os.path.join(os.path.dirname(self.here), "src/simgpu/profiles", agent.profile)
        env["LD_LIBRARY_PATH"] = ":".join(libraries + [p for p in [env.get("LD_LIBRARY_PATH")] if p])
        env["TAKT_DIR"] = os.path.join(self.work, "takt")
        return env

    def start(self, agent, device, prefix):
        """Starts one agent's server; returns its process and port, or None with the reason if it was not admitted."""
        command = [*prefix, os.path.join(self.cache, "node"), os.path.join(self.here, "server.mjs"), "--model", self.o.model,
                   "--context", "4096", "--sequences", "8", "--batch", "64"]
        process = subprocess.Popen(command, env=self.environment(agent, device), stdout=subprocess.PIPE,
                                   stderr=subprocess.PIPE, text=True, start_new_session=True)
        self.running.append(process)
        line = process.stdout.readline()
        if not line:
            process.wait()
            self.running.remove(process)
            return None, process.stderr.read().strip()
        return process, json.loads(line)["port"]

    def stop(self):
        for process in self.running:
            process.send_signal(signal.SIGTERM)
        for process in self.running:
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        self.running.clear()

    def drive(self, agent, port, seconds, seed, out):
        return subprocess.Popen(
            [self.path("cli", "takt"), "load", "--url", f"http://127.0.0.1:{port}", "--rate", str(agent.rate), "--duration",
             f"{seconds}s", "--seed", str(seed), "--prompt", agent.prompt, "--output", agent.output, "--json", "--out", out],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def device_log(self, device):
        def tool(*args):
            return subprocess.run([self.path("simgpu", "simgpu"), *args], env=dict(os.environ, SIMGPU_NAME=device),
                                  capture_output=True, text=True, check=True).stdout
        rows = [line.split(",") for line in tool("log").splitlines()[1:]]
        return [(int(a), int(b), int(pid), kind) for a, b, pid, _, kind, _ in rows]

    def reset(self, device):
        subprocess.run([self.path("simgpu", "simgpu"), "reset"], env=dict(os.environ, SIMGPU_NAME=device), check=True)

    def phase(self, name, devices, prefix_of):
        """One run of the load. devices: the device of each agent. Returns what was measured, or the refusals."""
        for device in sorted(set(devices)):
            self.reset(device)
        started, refusals = [], []
        for agent, device in zip(self.agents, devices):
            process, port = self.start(agent, device, prefix_of(agent))
            if process is None:
                refusals.append((agent.name, port))
            else:
                started.append((agent, device, process, port))
        if refusals:
            self.stop()
            return {"name": name, "refusals": refusals}
        for agent, _, _, port in started:   # warm up: graphs captured, caches filled
            self.drive(agent, port, 2, 99, os.path.join(self.work, "warm")).communicate()
        time.sleep(.2)
        cpu = {process.pid: tree_cpu(process.pid) for _, _, process, _ in started}
        daemon_cpu = daemon_seconds(os.path.join(self.work, "takt"))
        begin = time.monotonic_ns()
        drivers = [(agent, self.drive(agent, port, self.o.seconds, self.o.seed + i, os.path.join(self.work, f"{name}-{agent.name}")))
                   for i, (agent, _, _, port) in enumerate(started)]
        while any(d.poll() is None for _, d in drivers):
            time.sleep(.5)
            done = min(1, (time.monotonic_ns() - begin) / 1e9 / self.o.seconds)
            if sys.stderr.isatty():
                print(f"\r  {name:7} {'#' * int(30 * done):30}", end="", file=sys.stderr, flush=True)
        print(f"\r  {name:7} done{' ' * 28}", file=sys.stderr)
        end = time.monotonic_ns()
        result = {"name": name, "seconds": (end - begin) / 1e9, "agents": {}, "begin": begin, "end": end,
                  "takt_cpu": daemon_seconds(os.path.join(self.work, "takt")) - daemon_cpu}
        for agent, driver in drivers:
            out, err = driver.communicate()
            if driver.returncode:
                sys.exit(f"demo: {agent.name}: {err.strip()}")
            result["agents"][agent.name] = json.loads(out)
            with open(os.path.join(self.work, f"{name}-{agent.name}")) as lines:
                result["agents"][agent.name]["answers"] = [json.loads(line) for line in lines]
        pids = {}
        for agent, device, process, _ in started:
            result["agents"][agent.name]["cpu"] = tree_cpu(process.pid) - cpu[process.pid]
            pids.update({pid: agent.name for pid in tree(process.pid)})
        result["log"] = []
        for device in sorted(set(devices)):
            result["log"] += [(a, b, pids.get(pid, "?"), kind) for a, b, pid, kind in self.device_log(device)
                              if b > begin and a < end]
        self.stop()
        return result

    def main(self):
        runs = []
        count = len(self.agents)
        try:
            print(f"Three runs of {self.o.seconds:.0f} s on {'a SIMULATED' if self.simulated else 'the'} GPU, load \"{self.o.load}\":",
                  file=sys.stderr)
            runs.append(self.phase("alone", [f"takt-demo-{i}" for i in range(count)], lambda a: []))
            runs.append(self.phase("stock", ["takt-demo-0"] * count, lambda a: []))
            for also in self.o.also:
                name, _, prefix = also.partition("=")
                runs.append(self.phase(name, ["takt-demo-0"] * count, lambda a, p=prefix: p.split()))
            takt = self.path("cli", "takt")
            runs.append(self.phase("takt", ["takt-demo-0"] * count, lambda a: [takt, "run", "--name", a.name, *a.promise, "--"]))
        finally:
            self.stop()
            for i in range(count):
                self.reset(f"takt-demo-{i}")
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


def main():
    parser = argparse.ArgumentParser(prog="script/demo", description=__doc__)
    parser.add_argument("--minutes", type=float, default=.6, help="length of each run (default: 0.6)")
    parser.add_argument("--load", choices=loads.LOADS, default="demo")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--also", action="append", default=[], metavar="NAME='PREFIX'", help="run once more under another sharing")
    parser.add_argument("--real", action="store_true", help="on this machine's NVIDIA GPU instead of the simulated one")
    parser.add_argument("--model", help="a GGUF file (default: a tiny random one)")
    parser.add_argument("--report", default="report.html")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--build", required=True, help=argparse.SUPPRESS)
    parser.add_argument("--cache", required=True, help=argparse.SUPPRESS)
    options = parser.parse_args()
    options.seconds = options.minutes * 60
    if options.real and not options.model:
        parser.error("--real needs --model FILE: which model to run")
    options.model = options.model or os.path.join(options.cache, "tiny.gguf")
    try:
        sys.exit(Demo(options).main())
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
