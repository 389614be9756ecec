"""What `meson install` puts where, and that takt runs from there."""
import os
import re
import subprocess
import tempfile
import unittest

BUILD = os.environ["TAKT_BUILD"]
TELLS = """#include <errno.h>
#include <takt.h>
int main(void) { return takt_request_arrived("42", 0) == TAKT_UNTOLD && takt_request_finished("") == -EINVAL ? 0 : 1; }
"""


class Install(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = cls.enterClassContext(tempfile.TemporaryDirectory())
        subprocess.run(["meson", "install", "-C", BUILD, "--no-rebuild", "--quiet", "--destdir", cls.folder], check=True, capture_output=True)
        cls.root = f"{cls.folder}/usr/local"

    def found(self):
        for folder, _, names in os.walk(self.root):
            for name in names:
                yield os.path.relpath(os.path.join(folder, name), self.root)

    def test_everything_lies_where_it_is_looked_for(self):
        files = {re.sub(r"^(lib/[^/]+-linux-gnu|lib64)/", "lib/", path) for path in self.found()}   # as meson finds this machine
        pages = {f"share/man/man1/takt{command}.1" for command in ("", "-run", "-status", "-top", "-load", "-advise", "-doctor")}
        self.assertLessEqual({"bin/takt", "bin/taktd", "lib/takt/takt-kube.so", "lib/takt/takt-load.so", "lib/takt/takt-health", "lib/takt/libcuda.so.1", "lib/takt/libnvidia-ml.so.1", "lib/libtakt.so", "lib/libtakt.so.0",
                              "include/takt.h", "lib/pkgconfig/takt.pc", "lib/systemd/system/taktd.service",
                              "share/bash-completion/completions/takt", "share/man/man8/taktd.8"} | pages, files)
        self.assertFalse([path for path in files if "simgpu" in path or "test" in path or "bench" in path])   # what is not for users

    def test_unit_names_the_daemon_that_was_installed(self):
        with open(f"{self.root}/lib/systemd/system/taktd.service") as file:
            program = re.search(r"(?m)^ExecStart=(\S+)", file.read())[1]
        self.assertEqual(program, "/usr/local/bin/taktd")
        self.assertTrue(os.access(self.folder + program, os.X_OK))

    def test_unit_names_pages_that_are_installed_and_starts_after_the_driver(self):
        with open(f"{self.root}/lib/systemd/system/taktd.service") as file:
            unit = file.read()
        pages = re.findall(r"man:(\w+)\((\d)\)", re.search(r"(?m)^Documentation=(.*)", unit)[1])
        self.assertIn(("taktd", "8"), pages)
        for page, section in pages:
            self.assertTrue(os.path.exists(f"{self.root}/share/man/man{section}/{page}.{section}"), page)
        self.assertRegex(unit, r"(?m)^After=.*\bnvidia-persistenced\.service\b")
        self.assertNotRegex(unit, r"(?m)^(Wants|Requires|BindsTo)=")   # it may not be there

    def test_takt_runs_from_there(self):
        env = {**os.environ, "TAKT_DIR": f"{self.folder}/takt", "SIMGPU_NAME": f"simgpu-install-{os.getpid()}",
               "LD_LIBRARY_PATH": f"{BUILD}/src/simgpu"}
        self.addCleanup(subprocess.run, [f"{BUILD}/src/simgpu/simgpu", "reset"], env=env)
        run = subprocess.run([f"{self.root}/bin/takt", "run", "--", "sh", "-c", "exit 7"], env=env, capture_output=True, text=True, timeout=60)
        self.assertEqual((run.returncode, run.stderr), (7, ""))
        doctor = subprocess.run([f"{self.root}/bin/takt", "doctor"], env=env, capture_output=True, text=True, timeout=60)
        self.assertEqual(doctor.returncode, 0, doctor.stdout)
        self.assertIn(f"{self.root}/bin/../lib/takt/libcuda.so.1", doctor.stdout)

    def test_a_server_is_built_with_what_pkg_config_says(self):
        path = next(os.path.dirname(path) for path in self.found() if path.endswith("/takt.pc"))
        env = {**os.environ, "PKG_CONFIG_LIBDIR": f"{self.root}/{path}", "PKG_CONFIG_SYSROOT_DIR": self.folder}
        flags = subprocess.run(["pkg-config", "--cflags", "--libs", "takt"], env=env, capture_output=True, text=True, check=True).stdout.split()
        subprocess.run(["cc", "-xc", "-", "-o", f"{self.folder}/tells", *flags], input=TELLS, text=True, check=True)
        found = {key: value for key, value in os.environ.items() if key != "TAKT_REQUESTS"}
        found["LD_LIBRARY_PATH"] = os.path.dirname(f"{self.root}/{path}")
        self.assertEqual(subprocess.run([f"{self.folder}/tells"], env=found).returncode, 0)
        version = subprocess.run(["pkg-config", "--modversion", "takt"], env=env, capture_output=True, text=True, check=True).stdout
        self.assertEqual(subprocess.run([f"{self.root}/bin/takt", "--version"], capture_output=True, text=True).stdout.split()[-1], version.strip())

    def test_load_finds_what_speaks_http(self):
        run = subprocess.run([f"{self.root}/bin/takt", "load", "--url", "http://127.0.0.1:9", "--duration", "1s", "--rate", "20"], capture_output=True, text=True, timeout=60)
        self.assertEqual(run.returncode, 69)
        self.assertIn("no request was answered", run.stderr)


if __name__ == "__main__":
    unittest.main()
