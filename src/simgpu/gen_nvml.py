#!/usr/bin/env python3
"""Makes nvml_symbols.inc: the functions of NVML by name, so that who looks for one that is not built finds "not supported".

Input: pynvml.py of the PyPI wheel nvidia-ml-py 13.615.71 (facts only: names).

Usage: gen_nvml.py pynvml.py > nvml_symbols.inc
"""
import re
import sys

print("// Made by gen_nvml.py from pynvml.py of the PyPI wheel nvidia-ml-py 13.615.71: SYMBOL(name)")
# Python's binding leaves out what only C programs ask for; PyTorch wants all of its names to be there.
more = {"nvmlDeviceGetComputeRunningProcesses", "nvmlDeviceGetNvLinkRemotePciInfo_v2", "nvmlDeviceGetGpuFabricInfoV",
        "nvmlDeviceGetNvLinkRemoteDeviceType"}
for name in sorted(set(re.findall(r'[gG]etFunctionPointer\("(nvml\w+)"\)', open(sys.argv[1]).read())) | more):
    print(f"SYMBOL({name})")
