#!/usr/bin/env python3
"""Makes symbols.inc: every export of the driver with the name and version under which cuGetProcAddress gives it.

Input: cudaTypedefs.h of the PyPI wheel nvidia-cuda-runtime 13.0.88 (facts only: names and
versions). PFN_<name>_v<version>[_ptds|_ptsz] is one row; the order of the versions gives the export's suffix.

Usage: gen_table.py INCLUDE_FOLDER > symbols.inc
"""
import re
import sys
from collections import defaultdict

folder = sys.argv[1]
typedefs = open(f"{folder}/cudaTypedefs.h").read()

rows = defaultdict(set)
for name, version, stream in re.findall(r"\*PFN_(cu\w+?)_v(\d+)(_ptds|_ptsz)?\)", typedefs):
    rows[name].add((int(version), stream))

# The n-th version of a name is its n-th form (_v2, _v3, ...); a per-thread row is a variant of the newest form then.
for name in sorted(rows):
    forms = sorted(v for v, stream in rows[name] if not stream)
    for version, stream in sorted(rows[name]):
        n = sum(v <= version for v in forms)
        export = name if n <= 1 else f"{name}_v{n}"
        print(f'SYMBOL("{name}", {version}, {2 if stream else 0}, {export}{stream})')
for name in ("cuProfilerInitialize", "cuProfilerStart", "cuProfilerStop"):
    print(f'SYMBOL("{name}", 4000, 0, {name})')
