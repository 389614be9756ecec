"""A client process of its own, to be killed or stopped; what the daemon holds, to see whether it grows; and in what order it answers."""
import json
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


def answered_before_another(daemon):
    """Of 100 orders in one write, how many are answered before one of another connection that was there as soon. Each answer says how old
    the daemon was."""
    def age(answers):
        return json.loads(answers.readline())["devices"][0]["elapsed_ns"]
    with daemon.control() as many, daemon.control() as other, many.makefile() as of_many, other.makefile() as of_other:
        for s in (many, other):
            daemon.ask(s, op="status")   # it knows both
        daemon.process.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, daemon.process.pid, os.WSTOPPED | os.WNOWAIT)
        many.sendall(b'{"op":"status"}\n' * 100)
        other.sendall(b'{"op":"status"}\n')
        daemon.process.send_signal(signal.SIGCONT)
        before = [age(of_many) for _ in range(100)]
        own = age(of_other)
    return sum(one < own for one in before)
