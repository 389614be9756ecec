"""What the demo asks of whatever its agents run in, and what the processes there used."""
import ctypes
import os
import signal

LIBC, PR_SET_PDEATHSIG = ctypes.CDLL(None), 1
TICK = os.sysconf("SC_CLK_TCK")
# How an agent is started: under Takt; or apart, on a simulated device of its own beside others on theirs; else after a prefix of words,
# which may be none.
TAKT, APART = "takt", "apart"


class Failed(Exception):
    """The demo cannot go on; says why."""


class Refused(Exception):
    """Takt does not admit the agent; says why."""


class Place:
    """Where agents run. takt_dir: the folder of its daemon."""

    def __init__(self, setting):
        self.s = setting

    def start(self, agent, device, how):
        """Starts one agent's server and returns it, a Server, or raises Refused."""

    def stop(self):
        """Ends all that was started."""

    def granted(self):
        """Device time that Takt gave each agent so far, in ns; none where no daemon runs."""

    def takt_seconds(self):
        """CPU seconds of the daemon; 0 if none runs."""


class Server:
    def __init__(self, agent, url, pids):
        """pids: gives the numbers of all its processes."""
        self.agent, self.url, self.pids = agent, url, pids

    def cpu(self):
        return sum(cpu_of(pid) for pid in self.pids())


def ends_with_us():
    """What a process to be does: it will be told to end when the demo does, however that ends."""
    parent = os.getpid()

    def end_with():
        LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent:   # it was faster
            os._exit(1)
    return end_with


def command(setting, *more):
    """An agent's server, without what it is started by."""
    return [os.path.join(setting.here, "server.mjs"), "--model", setting.model, "--context", "4096", "--sequences", "8", "--batch", "64", *more]


def profile(setting, agent):
    return os.path.join(os.path.dirname(setting.here), "src/simgpu/profiles", agent.profile)


def simulated(setting, agent, device, how):
    """What an agent's environment says of its device. Apart, waits sleep: agents that keep the processor while they wait would keep each
    other from the few of a machine, and so not be alone."""
    return {"SIMGPU_NAME": device, "SIMGPU_PROFILE": profile(setting, agent), **({"SIMGPU_SPIN": "off"} if how == APART else {})}


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
