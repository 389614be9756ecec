"""The house's rules: who may include whom, what the core may call, how long a file may be, that words match."""
import os
import re
import subprocess
import sys
import unittest

ROOT, BUILD = os.environ["TAKT_ROOT"], os.environ["TAKT_BUILD"]
MAY_USE = {"base": set(), "core": {"base"}, "wire": {"base"}, "node": {"core", "wire", "base"}, "kube": {"node", "wire", "base"}, "shim": {"wire", "base"},
           "client": {"wire", "base"}, "simgpu": set(), "cli": {"base"}}
# The last two are the compiler's own: division of 128-bit numbers.
CORE_MAY_CALL = {"memcpy", "memset", "memmove", "__assert_fail", "_GLOBAL_OFFSET_TABLE_", "__stack_chk_fail", "__udivti3", "__divti3"}


def sources():
    for folder, _, names in os.walk(f"{ROOT}/src"):
        for name in names:
            if name.endswith((".c", ".h", ".inc")):
                yield os.path.join(folder, name)


class House(unittest.TestCase):
    def test_rooms_use_only_whom_they_may(self):
        for path in sources():
            room = os.path.relpath(path, f"{ROOT}/src").split("/")[0]
            for used in re.findall(r'#include "(\w+)/', open(path).read()):
                self.assertIn(used, MAY_USE[room] | {room}, f"{path} includes {used}")

    def test_kube_knows_only_the_door_of_the_daemon(self):
        for path in sources():
            if path.startswith(f"{ROOT}/src/kube/"):
                self.assertLessEqual(set(re.findall(r'#include "(node/.*)"', open(path).read())), {"node/door.h"}, path)

    def test_core_calls_nobody(self):
        out = subprocess.run(["nm", "--undefined-only", f"{BUILD}/src/core/libtakt-core.a"], capture_output=True, text=True, check=True).stdout
        own = subprocess.run(["nm", "--defined-only", f"{BUILD}/src/core/libtakt-core.a"], capture_output=True, text=True, check=True).stdout
        defined = {line.split()[-1] for line in own.splitlines() if len(line.split()) == 3}
        called = {line.split()[-1] for line in out.splitlines() if line.strip().startswith("U ")}
        self.assertLessEqual({c for c in called - defined if not c.startswith(("__asan", "__ubsan", "__tsan"))}, CORE_MAY_CALL)

    def test_files_are_short(self):
        for path in sources():
            if not path.endswith(".inc"):
                self.assertLessEqual(sum(1 for _ in open(path)), 800, path)

    def test_simulated_gpu_is_a_stranger(self):
        for path in sources():
            if "/simgpu/" in "/" + os.path.relpath(path, ROOT):
                self.assertNotIn("takt", open(path).read().lower(), path)

    def test_nobody_detects_the_simulated_gpu(self):
        for path in sources():
            if "/simgpu/" not in "/" + os.path.relpath(path, ROOT):
                self.assertNotIn("simgpu", open(path).read().lower(), path)


if __name__ == "__main__":
    sys.exit(unittest.main())
