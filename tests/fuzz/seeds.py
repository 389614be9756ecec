"""The first inputs of each fuzz target, into DIR/frame, DIR/page, DIR/request and DIR/core."""
import os
import struct
import sys


def frame(kind, size, body):
    return (struct.pack("<IHHHHI", 0x544B4154, kind, size, 1, 0, 0) + body).ljust(size, b"\0")


SEEDS = {
    "frame": [frame(1, 280, struct.pack("<II", 1, 0) + bytes(range(16))), frame(2, 40, struct.pack("<Q", 3) + b"\xff" * 16),
              frame(3, 24, struct.pack("<II", 2, 0)), frame(1, 300, struct.pack("<II", 16, 0))],
    "page": [struct.pack("<BBB", 1, 40, 0) + struct.pack("<QQQQQII", 1 << 39 | 1, 5, 6, 7, 8, 9, 1),
             struct.pack("<BBB", 1, 10, 15) + b"\xff" * 128],
    "request": [b'{"event":"arrived","id":"42"}', b'{"event":"arrived","id":"42","deadline_ms":150.5}',
                b'{"event":"first_token","id":"a\\"b","other":1,"more":"x"}', b' { "id" : "1" , "event" : "finished" }\r'],
    # Two devices; three tenants join, want, work and leave (tests/fuzz/core.c says what the bytes are).
    "core": [bytes([1, 0, 0, 0, 1, 0, 1, 0, 1, 2, 3, 0, 1, 0, 9, 4, 0, 5, 1, 20, 7, 2, 10, 1, 20, 5, 0, 0, 5, 1, 20, 9, 2, 3] * 3)],
}

for name, inputs in SEEDS.items():
    os.makedirs(f"{sys.argv[1]}/{name}", exist_ok=True)
    for i, data in enumerate(inputs):
        with open(f"{sys.argv[1]}/{name}/{i}", "wb") as out:
            out.write(data)
