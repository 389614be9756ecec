"""Some work in steps, begun when told to. Arguments: steps."""
import os
import sys

import torch

a = torch.zeros(4096, 4096, device="cuda")
torch.relu(a)
torch.cuda.synchronize()
print(os.getpid(), flush=True)
sys.stdin.readline()
for _ in range(int(sys.argv[1])):
    for _ in range(20):
        a = torch.relu(a)
    torch.cuda.synchronize()
