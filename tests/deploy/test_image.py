"""The image: small, whole, the same each time, and nothing in it is missed when it runs."""
import gzip
import hashlib
import io
import json
import os
import re
import subprocess
import tarfile
import tempfile
import unittest

ROOT, BUILD = os.environ["TAKT_ROOT"], os.environ["TAKT_BUILD"]
ALONE = ["unshare", "--mount", "--propagation", "private"]


def image(*words):
    return subprocess.run([f"{ROOT}/script/image", *words], check=True, capture_output=True, text=True).stdout


class Image(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = cls.enterClassContext(tempfile.TemporaryDirectory())
        cls.said = image(f"{cls.folder}/a.tar", "takt.test/takt:7")
        with tarfile.open(f"{cls.folder}/a.tar") as tar:
            cls.parts = {member.name: tar.extractfile(member).read() for member in tar}

    def blob(self, of):
        data = self.parts["blobs/" + of["digest"].replace(":", "/")]
        self.assertEqual(("sha256:" + hashlib.sha256(data).hexdigest(), len(data)), (of["digest"], of["size"]))
        return data

    def manifest(self):
        return json.loads(self.blob(json.loads(self.parts["index.json"])["manifests"][0]))

    def layer(self):
        return tarfile.open(fileobj=io.BytesIO(gzip.decompress(self.blob(self.manifest()["layers"][0]))))

    def test_archive_is_whole_and_named(self):
        index = json.loads(self.parts["index.json"])["manifests"][0]
        self.assertEqual(index["annotations"]["io.containerd.image.name"], "takt.test/takt:7")
        config = json.loads(self.blob(self.manifest()["config"]))
        files = gzip.decompress(self.blob(self.manifest()["layers"][0]))
        self.assertEqual(config["rootfs"]["diff_ids"], ["sha256:" + hashlib.sha256(files).hexdigest()])
        self.assertEqual(config["config"]["Entrypoint"], ["/usr/bin/taktd"])

    def test_same_files_same_bytes(self):
        image(f"{self.folder}/b.tar", "takt.test/takt:7")
        with open(f"{self.folder}/a.tar", "rb") as a, open(f"{self.folder}/b.tar", "rb") as b:
            self.assertEqual(hashlib.sha256(a.read()).digest(), hashlib.sha256(b.read()).digest())

    def test_everything_is_roots_and_of_no_time(self):
        for member in self.layer():
            self.assertEqual((member.uid, member.gid, member.mtime, member.mode & 0o7022), (0, 0, 0, 0), member.name)

    def test_it_is_small_and_says_so(self):
        size = sum(member.size for member in self.layer())
        self.assertLess(size, 20 << 20)
        self.assertAlmostEqual(float(re.search(r"(?m)^all +([\d.]+) MiB", self.said)[1]), size / 2**20, delta=.02)
        self.assertFalse([member.name for member in self.layer() if "libcurl" in member.name or "takt-load" in member.name])

    def test_every_library_is_a_package_with_its_licence(self):
        names = self.layer().getnames()
        known = {name.split("/")[-1] for name in names if name.startswith("var/lib/dpkg/status.d/")}
        self.assertIn("libc6", known)
        self.assertEqual(known, {name.split("/")[-2] for name in names if name.endswith("/copyright.gz")})

    @unittest.skipIf(subprocess.run([*ALONE, "true"], capture_output=True).returncode, "no mount namespace of our own")
    def test_it_runs_with_nothing_beside_it(self):
        root = f"{self.folder}/root"
        self.layer().extractall(root)
        os.makedirs(f"{root}/proc")
        def inside(*words):
            script = 'mount --bind /proc "$0/proc" && exec env -i /usr/sbin/chroot "$0" "$@"'
            return subprocess.run([*ALONE, "sh", "-c", script, root, *words], capture_output=True, text=True)
        for program in ("taktd", "takt"):
            run = inside(f"/usr/bin/{program}", "--version")
            self.assertEqual((run.returncode, run.stderr), (0, ""))
            self.assertTrue(run.stdout.startswith(program + " "))
        os.makedirs(f"{root}/etc/takt")
        with open(f"{root}/etc/takt/bad.yaml", "w") as file:
            file.write("version: v2\n")
        run = inside("/usr/bin/taktd", "--dir", "/takt", "--kube", "/etc/takt/bad.yaml")
        self.assertIn("version: is not v1", run.stderr)   # takt-kube.so was loaded, and all that it needs

    def test_containerfile_says_the_same(self):
        config = json.loads(self.blob(self.manifest()["config"]))["config"]
        with open(f"{ROOT}/deploy/image/Containerfile") as file:
            text = file.read()
        self.assertIn(f"ENTRYPOINT {json.dumps(config['Entrypoint'])}\n", text)
        self.assertIn(f"ENV {config['Env'][0]}\n", text)
        self.assertEqual(dict(re.findall(r"([\w.]+)=(\S+)", re.search(r"(?m)^LABEL (.*)$", text)[1])), config["Labels"])


if __name__ == "__main__":
    unittest.main()
