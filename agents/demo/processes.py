"""Agents as processes of this machine; under Takt by `takt run`."""
import json
import os
import signal
import subprocess

from .place import APART, TAKT, Failed, Place, Refused, Server, command, cpu_of, ends_with_us, simulated, tree

REFUSED = 75   # takt run: the promise cannot be kept


class Processes(Place):
    def __init__(self, setting):
        super().__init__(setting)
        self.takt_dir = os.path.join(setting.work, "takt")
        self.takt = os.path.join(setting.build, "src/cli/takt")
        self.running = []

    def environment(self, agent, device, how):
        env = dict(os.environ, TAKT_DIR=self.takt_dir)
        libraries = [os.path.join(self.s.cache, "cuda")]
        if self.s.simulated:
            libraries.insert(0, os.path.join(self.s.build, "src/simgpu"))
            env |= simulated(self.s, agent, device, how)
        env["LD_LIBRARY_PATH"] = ":".join(libraries + [p for p in [env.get("LD_LIBRARY_PATH")] if p])
        return env

    def start(self, agent, device, how):
        prefix = [self.takt, "run", "--name", agent.name, *agent.promise, "--"] if how == TAKT else () if how == APART else how
        words = [*prefix, os.path.join(self.s.cache, "node"), *command(self.s)]
        said = os.path.join(self.s.work, f"{agent.name}.err")
        with open(said, "w") as err:   # a file: nobody would read a pipe while it runs
            try:
                process = subprocess.Popen(words, env=self.environment(agent, device, how), stdout=subprocess.PIPE, stderr=err, text=True,
                                           start_new_session=True, preexec_fn=ends_with_us())
            except OSError as error:
                raise Failed(f"{words[0]}: {error.strerror}") from error
        self.running.append(process)
        line = process.stdout.readline()
        if line:
            return Server(agent, f"http://127.0.0.1:{json.loads(line)['port']}", lambda: tree(process.pid))
        code = process.wait()
        with open(said) as err:
            reason = err.read().strip()
        raise Refused(reason) if code == REFUSED and how == TAKT else Failed(f"{agent.name}: {reason or f'exit {code}'}")

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

    def granted(self):
        run = subprocess.run([self.takt, "status", "--json"], env=dict(os.environ, TAKT_DIR=self.takt_dir), capture_output=True, text=True)
        return {t["name"]: t["granted_ns"] for t in json.loads(run.stdout)["tenants"]} if run.returncode == 0 else {}

    def takt_seconds(self):
        for pid in filter(str.isdigit, os.listdir("/proc")):
            try:
                with open(f"/proc/{pid}/cmdline", "rb") as file:
                    words = file.read().decode(errors="replace").split("\0")
            except OSError:
                continue
            if os.path.basename(words[0]) == "taktd" and self.takt_dir in words:
                return cpu_of(int(pid))
        return 0
