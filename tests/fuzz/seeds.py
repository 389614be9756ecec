"""The first inputs of each fuzz target, into DIR/TARGET."""
import os
import struct
import sys


def frame(kind, size, body):
    return (struct.pack("<IHHHHI", 0x544B4154, kind, size, 1, 0, 0) + body).ljust(size, b"\0")


def http2(kind, flags, stream, body):
    return len(body).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + body


def header(name, value):
    return b"\0" + bytes([len(name)]) + name.encode() + bytes([len(value)]) + value.encode()


def grpc(data, compressed=0):
    return bytes([compressed]) + len(data).to_bytes(4, "big") + data


def call(stream, method, data, **more):
    headers = {":method": "POST", ":scheme": "http", ":path": method, ":authority": "localhost", "content-type": "application/grpc", "te": "trailers", **more}
    return http2(1, 4, stream, b"".join(header(*pair) for pair in headers.items())) + http2(0, 1, stream, grpc(data))


def answered(stream, data, status="0"):
    return (http2(1, 4, stream, header(":status", "200") + header("content-type", "application/grpc")) + http2(0, 0, stream, grpc(data))
            + http2(1, 5, stream, header("grpc-status", status) + header("grpc-message", "f%C3%BCr")))


HELLO = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + http2(4, 0, 0, b"")


def message(number, data):
    return bytes([number << 3 | 2, len(data)]) + data


def ids(number, *names):
    return b"".join(message(number, name) for name in names)


def asked(method, data):
    return bytes([method, len(data)]) + data


CONFIG = b"""version: v1
flags: {plugin: {sharedDevicesAllocationPolicy: packed}}
sharing:
  timeSlicing:
    renameByDefault: true
    failRequestsGreaterThanOne: true
    resources:
    - name: nvidia.com/gpu
      rename: takt.dev/gpu
      replicas: 10
      devices: [0, GPU-a]
      takt: {ttft: 2s, itl: 200ms, share: 30%, memory: 12Gi, class: deadline}
takt: {kubelet: /k, shims: /s, driver: /d, libraryPath: /l, preload: true}
"""

def step(what, data):
    return bytes([what]) + len(data).to_bytes(2, "big") + data


UID = b"fc4b7b33-2b0c-42d5-9244-93a11eca7e0c"
CLAIMED = message(1, message(1, b"default") + message(2, UID) + message(3, b"a"))
CLAIM = (b'{"metadata":{"namespace":"default","name":"a","uid":"' + UID + b'"},"status":{"allocation":{"devices":{"results":[{"driver":"gpu.takt.dev",'
         b'"request":"gpu","pool":"n1","device":"gpu-aa","shareID":"s","consumedCapacity":{"takt.dev/share":"40","memory":"8Gi"}}],"config":[{"source":'
         b'"FromClaim","requests":["gpu"],"opaque":{"driver":"gpu.takt.dev","parameters":{"apiVersion":"gpu.takt.dev/v1","kind":"Promise","ttft":"2s",'
         b'"itl":"200ms"}}}]}},"reservedFor":[{"resource":"pods","name":"p","uid":"' + UID + b'"}]}}')

SEEDS = {
    "grpc": [grpc(b"abc") + grpc(b"") + grpc(b"x"), grpc(b"x", 1), b"\0\xff\xff\xff\xff", b"200m", b"30 %25 f%C3%BCr"],
    "rpc": [b"\xff" + HELLO + call(1, "/e", b"hello") + http2(6, 0, 0, b"12345678") + call(3, "/f", b"") + http2(7, 0, 0, bytes(8)),
            b"\x03" + HELLO + call(1, "/w", b"x", **{"grpc-timeout": "5m"}) + http2(8, 0, 1, b"\0\1\0\0") + http2(3, 0, 1, bytes(4)),
            b"\x10" + HELLO + http2(4, 0, 0, b"\0\4\0\0\0\0") + call(1, "/w", b"x") + call(3, "/e", b"y")],
    "answer": [b"\xff\xff" + http2(4, 0, 0, b"") + http2(4, 1, 0, b"") + answered(1, b"hello") + answered(3, b"", "5") + http2(7, 0, 0, bytes(8)),
               b"\x07\x02" + http2(4, 0, 0, b"\0\4\0\0\0\0") + http2(1, 5, 1, header(":status", "200") + header("grpc-status", "16")) + http2(3, 0, 5, bytes(4)),
               b"\x20\xff" + http2(4, 0, 0, b"") + http2(1, 4, 5, header(":status", "503")) + http2(0, 0, 5, b"\0\xff\xff\xff\xff") + http2(1, 4, 3, b"\x82\x88\x61\xff")],
    "config": [CONFIG, b"sharing: {timeSlicing: {resources: [{name: a/b, replicas: 2, devices: 1}]}}", b"share=300%", b"memory=12Gi",
               b"0::/kubepods.slice/kubepods-burstable-podfc4b7b33_2b0c_42d5_9244_93a11eca7e0c.slice/x.scope\n"],
    "plugin": [asked(0, message(1, ids(1, b"G0-0"))) + asked(1, ids(1, b"G0-0", b"G0-1")) + asked(0, message(1, ids(1, b"G0-0", b"G0-1"))),
               asked(2, message(1, ids(1, b"G0-0", b"G1-1") + ids(2, b"G1-1") + b"\x18\x02")) + asked(3, b"") + asked(4, b""),
               asked(0, message(1, ids(1, b"G1-2"))) + asked(204, ids(1, ids(1, b"p") + ids(2, b"n") + ids(3, ids(1, b"c") + ids(2, ids(1, b"a/b") + ids(2, b"G1-2")))))],
    "dra": [step(3, b"") + step(2, b"\x08\x01") + step(0, CLAIMED) + step(4, CLAIM) + step(0, CLAIMED) + step(4, CLAIM.replace(b"40", b"30")),
            step(0, CLAIMED) + step(4, CLAIM) + step(5, b"8Gi") + step(5, UID) + step(4, CLAIM) + step(1, CLAIMED),
            step(0, CLAIMED) + step(1, CLAIMED) + step(4, b"x"), step(0, CLAIMED) + step(4, CLAIM) + step(0, CLAIMED) + step(4, b"")],
    "api": [b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n{\"a\":\r\n4\r\n1}\n\n\r\n0\r\n\r\n", b"HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\n{}", b"HTTP/1.0 200 OK\n\nx\ny\n",
            b'{"metadata":{"name":"a","namespace":"b","uid":"u","annotations":{"takt.dev/share":"30%","takt.dev/ttft":"-1","takt.dev/x":"y"}},"spec":{"containers":[{"resources":{"limits":{"a/b":"1"}}}]},"status":{"phase":"Pending","qosClass":"BestEffort"}}'],
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
