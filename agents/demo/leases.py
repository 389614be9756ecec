"""Reads the daemon's record of its leases: who waited at a gate, and when (src/node/record.h)."""
import struct

MAGIC, HEAD, ROOM = b"TLEASES1", 16, 65536
RECORD = struct.Struct("=QBBB5x")
WANT = 1   # whatever else comes of a tenant ends its waiting


def records(path):
    """(ns, kind, tenant) in their order; none where there is no record."""
    try:
        with open(path, "rb") as file:
            data = file.read()
    except OSError:
        return []
    if data[:8] != MAGIC:
        return []
    n = struct.unpack_from("=Q", data, 8)[0]
    return [RECORD.unpack_from(data, HEAD + i % ROOM * RECORD.size)[:3] for i in range(max(0, n - ROOM), n)]


def waited(path, begin, end):
    """When at least one waited, as spans of ns between begin and end; None where there is no record."""
    spans, waiting, since = [], set(), 0
    found = records(path)
    for at, kind, tenant in found:
        before = len(waiting)
        (waiting.add if kind == WANT else waiting.discard)(tenant)
        if not before and waiting:
            since = at
        elif before and not waiting:
            spans.append((max(since, begin), min(at, end)))
    return [(a, b) for a, b in spans if a < b] if found else None
