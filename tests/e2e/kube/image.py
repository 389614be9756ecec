"""An image from this machine's own programs and the libraries that they need, as a Docker archive; without a network.

  image.py NAME FILE PROGRAM...    FILE is written; the first PROGRAM is what runs by default, with the words after --
"""
import hashlib
import io
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile

PASSWD = "root:x:0:0:root:/:/bin/sh\n"
LIBRARIES = "/usr/lib/x86_64-linux-gnu"
GLIBC = ("libdl.so.2", "libm.so.6", "libpthread.so.0", "librt.so.1", "libresolv.so.2")   # what any image with glibc has
FOLDERS = ("dev", "proc", "sys", "tmp", "run", "opt", "etc", "usr/bin", "usr/lib64", LIBRARIES[1:])


def libraries(program):
    """Files that a program loads, as they are named in it; none for a static one or a script."""
    run = subprocess.run(["ldd", program], capture_output=True, text=True)
    return re.findall(r"(/\S+) \(0x", run.stdout) if run.returncode == 0 else []


def fill(root, programs):
    for folder in FOLDERS:
        os.makedirs(f"{root}/{folder}")
    for folder in ("bin", "lib", "lib64"):
        os.symlink(f"usr/{folder}", f"{root}/{folder}")
    with open(f"{root}/etc/passwd", "w") as file:
        file.write(PASSWD)
    shutil.copy("/etc/os-release", f"{root}/etc/os-release")
    for name in GLIBC:
        shutil.copy(f"{LIBRARIES}/{name}", root + LIBRARIES)
    for program in programs:
        shutil.copy(program, f"{root}/usr/bin")
        for library in libraries(program):   # the loader is named by its path, the others are looked for
            shutil.copy(library, f"{root}/usr/lib64" if "/ld-linux" in library else root + LIBRARIES)
    os.symlink("bash", f"{root}/bin/sh")
    os.chmod(root, 0o755)
    subprocess.run(["/sbin/ldconfig", "-r", root], check=True)


def layer_of(root):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        tar.add(root, arcname=".")
    return out.getvalue()


def write(path, name, layer, command):
    digest = hashlib.sha256(layer).hexdigest()
    config = json.dumps({"architecture": "amd64", "os": "linux", "config": {"Cmd": command, "Env": ["PATH=/bin"]},
                         "rootfs": {"type": "layers", "diff_ids": [f"sha256:{digest}"]}}).encode()
    manifest = json.dumps([{"Config": "config.json", "RepoTags": [name], "Layers": ["layer.tar"]}]).encode()
    with tarfile.open(path, "w") as tar:
        for member, data in (("manifest.json", manifest), ("config.json", config), ("layer.tar", layer)):
            entry = tarfile.TarInfo(member)
            entry.size = len(data)
            tar.addfile(entry, io.BytesIO(data))


def main():
    words = sys.argv[1:]
    cut = words.index("--") if "--" in words else len(words)
    name, path, *programs = words[:cut]
    programs = [shutil.which(p) or p for p in programs]
    with tempfile.TemporaryDirectory() as root:
        fill(root, programs)
        write(path, name, layer_of(root), [f"/bin/{os.path.basename(programs[0])}", *words[cut + 1:]])


if __name__ == "__main__":
    main()
