"""The list of hooks against the whole table of the driver's exports: what submits work is gated, what allocates is counted, what
orders work is neither; and each hook has as many arguments as the header says, with its stream where the header has it."""
import glob
import os
import re
import unittest

ROOT = os.environ["TAKT_ROOT"]
# What a name says of its function, as regular expressions on the name under which cuGetProcAddress gives it.
SUBMITS = (r"cuLaunch(?!HostFunc)\w*", r"cuGraph(Launch|Upload)", r"cuMemcpy\w*", r"cuMemset\w*", r"cuMemPrefetch\w*Async", r"cuMemDiscard\w+",
           r"cuMemBatchDecompressAsync", r"cuMemMapArrayAsync", r"cuStreamAttachMemAsync", r"cuGraphics(Map|Unmap)Resources")
ALLOCATES = (r"cuMemAlloc(?!Host)\w*", r"cuMemCreate", r"cuArray(3D)?Create", r"cuMipmappedArrayCreate", r"cuGraphAddMemAllocNode",
             r"cuGraphAddNode")
FREES = (r"cuMemFree(?!Host)\w*", r"cuMemRelease", r"cuMemRetainAllocationHandle", r"cuMemMap", r"cuMemUnmap", r"cu(Mipmapped)?ArrayDestroy",
         r"cuGraphAddMemFreeNode")
POOLS = (r"cuMemPool(Create|Destroy)", r"cu(Device|Mem)Get(Default)?MemPool")
REPORTS = (r"cuMemGetInfo", r"cuDeviceTotalMem")
ENDS = (r"cu(Ctx|Stream|Event)Synchronize", r"cu(Stream|Event)Query")
LIVES = (r"cuCtxCreate", r"cuCtxDestroy", r"cuCtxFromGreenCtx", r"cuGreenCtx(Create|Destroy)", r"cuDevicePrimaryCtx(Retain|Release|Reset)", r"cuStreamDestroy",
         r"cuStreamBeginCapture\w*", r"cuStreamEndCapture", r"cuGraphExec(Destroy|Update)", r"cuGraphExec(Kernel|Memcpy|Memset|ChildGraph)NodeSetParams",
         r"cuGraphExecNodeSetParams", r"cuGraphNodeSetEnabled")
DOORS = (r"cuGetProcAddress",)
# Takes a stream, and neither submits work to it nor ends any: never to be gated.
ORDERS = (r"cuStream(WaitValue|WriteValue)(32|64)", r"cuStreamBatchMemOp", r"cu(Signal|Wait)ExternalSemaphoresAsync", r"cuStreamAddCallback",
          r"cuLaunchHostFunc", r"cuEventRecord(WithFlags)?", r"cuStreamWaitEvent", r"cuStreamIsCapturing", r"cuStreamGet\w+",
          r"cuStreamUpdateCaptureDependencies", r"cuStreamSetAttribute", r"cuStreamCopyAttributes", r"cuGraphInstantiateWithParams")


def matches(name, patterns):
    return any(re.fullmatch(p, name) for p in patterns)


class Hooks(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        rows = re.findall(r'SYMBOL\("(\w+)", (\d+), (\d), (\w+)\)', open(f"{ROOT}/src/simgpu/symbols.inc").read())
        cls.name_of = {export: name for name, _, _, export in rows}
        cls.version_of = {export: int(version) for _, version, _, export in rows}
        text = re.sub(r"//.*", "", open(f"{ROOT}/src/shim/cuda/hooks.inc").read())
        cls.hooks = re.findall(r"(\w+)\((\w+)(?:, (\d+), (\w+(?:\(\d+\))?))?\)\n", text)
        cls.kind = {export: kind for kind, export, _, _ in cls.hooks}

    def exports(self, patterns):
        return {export for export, name in self.name_of.items() if matches(name, patterns)}

    def hooked(self, *kinds):
        return {export for export, kind in self.kind.items() if kind in kinds}

    def test_the_table_is_whole(self):
        self.assertEqual(len(self.name_of), 637)
        self.assertEqual(len(self.hooks), len(self.kind))
        self.assertLessEqual(set(self.kind), set(self.name_of))

    def test_what_submits_is_gated_and_nothing_else(self):
        self.assertEqual(self.hooked("SUBMIT", "SUBMIT_COPY", "SUBMIT_GRAPH", "SUBMIT_SYNC", "SUBMIT_SOON"), self.exports(SUBMITS))

    def test_what_ends_work_is_heard(self):
        self.assertEqual(self.hooked("SYNC"), self.exports(ENDS))

    def test_the_others_are_what_they_are_for(self):
        self.assertEqual(self.hooked("OTHER"), self.exports(ALLOCATES + FREES + POOLS + REPORTS + LIVES + DOORS))

    def test_whatever_takes_a_stream_is_known(self):
        for export, name in self.name_of.items():
            if export.endswith(("_ptsz", "_ptds")):
                with self.subTest(export):
                    self.assertTrue(export in self.kind or matches(name, ORDERS))

    def test_what_orders_work_is_never_hooked(self):
        self.assertEqual(self.exports(ORDERS) & set(self.kind), set())

    def test_argument_counts_and_streams_are_the_headers(self):
        found = glob.glob(f"{os.environ.get('TAKT_CACHE', '/nowhere')}/unpacked/nvidia-cuda-runtime/nvidia/*/include/cudaTypedefs.h")
        if not found:
            self.skipTest("the header is not there")
        prototypes = {(name, int(version), stream or ""): arguments for name, version, stream, arguments in re.findall(
            r"\*PFN_(cu\w+?)_v(\d+)(_ptds|_ptsz)?\)\(([^;]*)\);", open(found[0]).read())}
        n_checked = 0
        for kind, export, count, stream in self.hooks:
            if kind == "OTHER":
                continue
            suffix = export[-5:] if export.endswith(("_ptsz", "_ptds")) else ""
            given = prototypes[self.name_of[export], self.version_of[export], suffix]
            arguments = [] if given.strip() == "void" else given.split(",")
            with self.subTest(export):
                self.assertEqual(len(arguments), int(count))
                streams = [i for i, a in enumerate(arguments) if a.split()[0] == "CUstream"]
                at = re.search(r"AT\((\d+)\)", stream)
                self.assertEqual(streams, [int(at.group(1))] if at and "CONTEXT" not in stream else [])
                self.assertEqual("THREAD" in stream, bool(suffix))
            n_checked += 1
        self.assertGreater(n_checked, 130)


if __name__ == "__main__":
    unittest.main()
