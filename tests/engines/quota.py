"""Half a GiB, then three, then half again: what the device's memory looks like from here."""
import torch

GIB = 1 << 30


def view():
    return " ".join(f"{n / GIB:.1f}" for n in torch.cuda.mem_get_info())


print(view())
half = torch.empty(GIB // 2, dtype=torch.uint8, device="cuda")
print(view())
try:
    torch.empty(3 * GIB, dtype=torch.uint8, device="cuda")
    print("got it")
except torch.cuda.OutOfMemoryError as e:
    print("out of memory", "a total capacity of 2.00 GiB" in str(e))
again = torch.empty(GIB // 2, dtype=torch.uint8, device="cuda")
print(view())
