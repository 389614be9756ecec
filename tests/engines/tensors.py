"""PyTorch's parts one by one; a line for each that came out as it must."""
import json
import os
import subprocess

import torch


def busy():
    """What the device says it worked for this process, ns."""
    torch.cuda.synchronize()
    status = json.loads(subprocess.run([os.environ["TOOL"], "status", "--json"], capture_output=True, check=True).stdout)
    return next(p["busy_ns"] for p in status["processes"] if p["pid"] == os.getpid())


print("device", torch.cuda.get_device_name(), torch.cuda.get_device_capability())
values = torch.arange(100000)
print("copies", bool((values.cuda().cpu() == values).all()))
print("zeros", int(torch.empty(1000, dtype=torch.int64, device="cuda").abs().sum().cpu()))

a = torch.zeros(256, 256, device="cuda", dtype=torch.float16)
before = busy()
product = a @ a
print("matmul", tuple(product.shape), busy() > before)

torch.relu(a)   # loads what the graph needs
graph = torch.cuda.CUDAGraph()
before = busy()
with torch.cuda.graph(graph):
    b = torch.relu(a @ a)
captured, costs = busy(), []
for _ in range(3):
    start = busy()
    graph.replay()
    costs.append(busy() - start)
print("graph", costs[0] > 0, len(set(costs)) == 1)

start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
start.record()
for _ in range(50):
    torch.relu(a)
end.record()
end.synchronize()
print("events", start.elapsed_time(end) > 0)

side = torch.cuda.Stream()
with torch.cuda.stream(side):
    c = a + 1
torch.cuda.current_stream().wait_stream(side)
torch.cuda.current_stream().synchronize()
print("streams", side.query(), c.device)
