"""The GPU at hand: the machine's own, or the simulated one where there is none; and how programs are started on it."""
import os
import shutil
import subprocess
import sys

# In a process of its own: whoever has asked the driver once holds the device until it ends.
ASK = """
import ctypes, sys
driver = ctypes.CDLL("libcuda.so.1")
n = ctypes.c_int()
if driver.cuInit(0) or driver.cuDeviceGetCount(ctypes.byref(n)) or not n.value:
    sys.exit(1)
name = ctypes.create_string_buffer(100)
driver.cuDeviceGetName(name, 100, 0)
print(name.value.decode())
print(next(line.split()[-1] for line in open("/proc/self/maps") if "/libcuda.so" in line))
"""
OWN = "libc. libm. libdl. libpthread. librt. libresolv. ld-linux linux-vdso libcuda."   # every machine brings its own


class Device:
    def __init__(self, build, simulated=False):
        self.build = os.path.abspath(build)
        self.carried = os.path.join(self.build, "carry")
        asked = None if simulated else subprocess.run([sys.executable, "-c", ASK], capture_output=True, text=True)
        # Whoever has our simulated driver on the library path has no GPU.
        self.simulated = asked is None or asked.returncode != 0 or os.path.samefile(asked.stdout.splitlines()[1], self.path("src/simgpu/libcuda.so.1"))
        if self.simulated:
            self.name, self.driver = "simulated", self.path("src/simgpu/libcuda.so.1")
        else:
            self.name, self.driver = asked.stdout.splitlines()
        self.segment = f"gpu-check-{os.getpid()}"

    def path(self, *parts):
        return os.path.join(self.build, *parts)

    def environment(self, **more):
        first = [self.path("src/simgpu")] if self.simulated else []
        old = os.environ.get("LD_LIBRARY_PATH")
        return {**os.environ, "SIMGPU_NAME": self.segment, "LD_LIBRARY_PATH": ":".join(first + ([old] if old else []) + [self.carried]),
                **more}

    def start(self, command, **more):
        return subprocess.Popen(command, env=self.environment(**more), stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                stderr=subprocess.PIPE, text=True)

    def run(self, command, timeout=300, **more):
        return subprocess.run(command, env=self.environment(**more), stdin=subprocess.DEVNULL, capture_output=True, text=True,
                              timeout=timeout)

    def tool(self, *arguments, **more):
        return self.run([self.path("src/simgpu/simgpu"), *arguments], **more)

    def close(self):
        if self.simulated:
            self.tool("reset")

    def together(self, commands, timeout=600, **more):
        """Starts all, lets them begin at once when all are ready, and returns what each printed; raises Failed where one did."""
        processes = [self.start(command, **more) for command in commands]
        try:
            for p in processes:
                if p.stdout.readline() != "ready\n":
                    raise Failed(p.communicate()[1].strip() or f"exit {p.wait()}")
            for p in processes:
                p.stdin.write("\n")
                p.stdin.flush()
            outputs = [p.communicate(timeout=timeout) for p in processes]
        finally:
            for p in processes:
                p.kill()
                p.wait()
        for p, (_, err) in zip(processes, outputs):
            if p.returncode:
                raise Failed(err.strip() or f"exit {p.returncode}")
        return [out for out, _ in outputs]


class Failed(Exception):
    """What was started did not do its work; says why."""


def pack(build, cuda):
    """Copies what takt's programs need beside the build, so that a bare machine can run them; returns the bytes of it all."""
    carried = os.path.join(build, "carry")
    os.makedirs(carried, exist_ok=True)
    for program in ("src/cli/takt", "src/node/taktd", "agents/takt-synthetic"):
        out = subprocess.run(["ldd", os.path.join(build, program)], capture_output=True, text=True, check=True).stdout
        for line in out.splitlines():
            name, _, where = line.strip().partition(" => ")
            if where.startswith("/") and not name.startswith(tuple(OWN.split())):
                shutil.copy(where.split()[0], os.path.join(carried, name))
    for name in os.listdir(cuda) if os.path.isdir(cuda) else []:
        if name.startswith("libcudart.so."):
            shutil.copy(os.path.join(cuda, name), os.path.join(carried, name))
    return sum(os.path.getsize(os.path.join(folder, f)) for folder, _, files in os.walk(build) for f in files)
