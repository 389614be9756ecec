"""A client process of its own, to be killed or stopped; and what the daemon holds, to see whether it grows."""
import os
import signal


class Agent:
    """Does act(path), says so, and stays until it is ended."""

    def __init__(self, path, act):
        here, there = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            try:
                os.closerange(3, there)   # what is the test's own must not live on here
                os.closerange(there + 1, 1024)
                kept = act(path)
                os.write(there, b"1")
                while kept or True:
                    signal.pause()
            finally:
                os._exit(1)
        os.close(there)
        said = os.read(here, 1)
        os.close(here)
        assert said == b"1", "the agent failed"

    def send(self, number):
        os.kill(self.pid, number)

    def stop(self):
        self.send(signal.SIGSTOP)
        os.waitpid(self.pid, os.WUNTRACED)

    def kill(self):
        self.send(signal.SIGKILL)
        os.waitpid(self.pid, 0)


def holdings(tenant):
    """How many descriptors and pages the daemon has, once it has done all that came before."""
    daemon = tenant.daemon
    daemon.ask(tenant.control, op="status")
    proc = f"/proc/{daemon.process.pid}"
    with open(f"{proc}/maps") as maps:
        return len(os.listdir(f"{proc}/fd")), sum("takt" in line for line in maps)
