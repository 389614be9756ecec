"""NVML tells of the same device: memory, processes, utilisation, states, error events."""
import ctypes
import os
import re
import unittest

from device import NVML, Device

XID, TIMEOUT, LOST = 8, 10, 15


class Memory(ctypes.Structure):
    _fields_ = [("total", ctypes.c_ulonglong), ("free", ctypes.c_ulonglong), ("used", ctypes.c_ulonglong)]


class Process(ctypes.Structure):
    _fields_ = [("pid", ctypes.c_uint), ("memory", ctypes.c_ulonglong), ("instance", ctypes.c_uint), ("compute", ctypes.c_uint)]


class OldProcess(ctypes.Structure):
    _fields_ = [("pid", ctypes.c_uint), ("memory", ctypes.c_ulonglong)]


class Event(ctypes.Structure):
    _fields_ = [("device", ctypes.c_void_p), ("type", ctypes.c_ulonglong), ("data", ctypes.c_ulonglong), ("instance", ctypes.c_uint),
                ("compute", ctypes.c_uint)]


class Confidential(ctypes.Structure):   # and what lies behind it, which nobody may touch
    _fields_ = [("environment", ctypes.c_uint), ("feature", ctypes.c_uint), ("tools", ctypes.c_uint), ("behind", ctypes.c_uint)]


class Nvml(Device):
    def setUp(self):
        super().setUp()
        self.library, self.handle = self.nvml(), ctypes.c_void_p()
        self.ok("nvmlInit_v2")
        self.ok("nvmlDeviceGetHandleByIndex_v2", 0, ctypes.byref(self.handle))

    def call(self, name, *args):
        return getattr(self.library, name)(*args)

    def ok(self, name, *args):
        self.assertEqual(self.call(name, *args), 0, name)

    def text(self, name, *args):
        buffer = ctypes.create_string_buffer(96)
        self.ok(name, *args, buffer, 96)
        return buffer.value.decode()

    def numbers(self, name, n, *args):
        values = (ctypes.c_uint * n)()
        self.ok(name, *args, *(ctypes.byref(values, 4 * i) for i in range(n)))
        return list(values)


class Facts(Nvml):
    def test_the_same_device_as_the_drivers(self):
        self.assertEqual(self.text("nvmlDeviceGetName", self.handle), "NVIDIA A100-SXM4-40GB")
        self.assertEqual(self.numbers("nvmlDeviceGetCudaComputeCapability", 2, self.handle), [8, 0])
        uuid = self.text("nvmlDeviceGetUUID", self.handle)
        self.assertRegex(uuid, r"^GPU-[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$")
        drivers = self.output("ok('cuInit', 0); u = (ctypes.c_ubyte * 16)(); ok('cuDeviceGetUuid_v2', u, 0); say(bytes(u).hex())")
        self.assertEqual(uuid[4:].replace("-", ""), drivers)
        by_uuid = ctypes.c_void_p()
        self.ok("nvmlDeviceGetHandleByUUID", uuid.encode(), ctypes.byref(by_uuid))
        self.assertEqual(by_uuid.value, self.handle.value)
        self.assertEqual(self.call("nvmlDeviceGetHandleByUUID", b"GPU-other", ctypes.byref(by_uuid)), 6)
        self.ok("nvmlDeviceGetHandleByPciBusId_v2", b"00000000:07:00.0", ctypes.byref(by_uuid))
        self.assertEqual(self.call("nvmlDeviceGetHandleByIndex_v2", 1, ctypes.byref(by_uuid)), 2)

    def test_too_little_room_for_a_text(self):
        buffer = ctypes.create_string_buffer(b"untouched", 96)
        self.assertEqual(self.call("nvmlDeviceGetName", self.handle, buffer, 5), 7)
        self.assertEqual(buffer.value, b"untouched")

    def test_every_name_of_the_library_is_there(self):
        names = open(f"{os.path.dirname(os.path.abspath(__file__))}/../../src/simgpu/nvml_symbols.inc").read()
        names = re.findall(r"^SYMBOL\((\w+)\)", names, re.M)
        self.assertGreater(len(names), 300)
        for name in names:
            getattr(self.library, name)
        self.assertEqual(self.call("nvmlDeviceGetNvLinkRemoteDeviceType", self.handle, 0, None), 3)

    def test_initialisations_are_counted(self):
        n = ctypes.c_uint()
        self.ok("nvmlInit_v2")
        self.ok("nvmlShutdown")
        self.ok("nvmlDeviceGetCount_v2", ctypes.byref(n))
        self.assertEqual(n.value, 1)
        self.ok("nvmlShutdown")
        self.assertEqual(self.call("nvmlDeviceGetCount_v2", ctypes.byref(n)), 1)
        self.assertEqual(self.call("nvmlShutdown"), 1)
        self.ok("nvmlInit_v2")
        self.ok("nvmlDeviceGetCount_v2", ctypes.byref(n))

    def test_errors_have_words(self):
        self.library.nvmlErrorString.restype = ctypes.c_char_p
        self.assertEqual(self.library.nvmlErrorString(3), b"Not Supported")
        self.assertEqual(self.library.nvmlErrorString(LOST), b"GPU is lost")
        self.assertEqual(self.library.nvmlErrorString(12345), b"Unknown Error")


class Use(Nvml):
    def memory(self):
        memory = Memory()
        self.ok("nvmlDeviceGetMemoryInfo", self.handle, ctypes.byref(memory))
        self.assertEqual(memory.total, memory.free + memory.used)
        return memory.used

    def test_memory_and_processes(self):
        sizes = (1 << 20, 3 << 20)
        both = [self.process(f"begin(); ok('cuMemAlloc_v2', by(pointer()), n({size})); say('ready'); wait()") for size in sizes]
        for p in both:
            self.hear(p, "ready")
        self.assertEqual(self.memory(), sum(sizes))
        n, found = ctypes.c_uint(8), (Process * 8)()
        for name in ("nvmlDeviceGetComputeRunningProcesses_v2", "nvmlDeviceGetComputeRunningProcesses_v3"):
            self.ok(name, self.handle, ctypes.byref(n), found)
            self.assertEqual({(p.pid, p.memory) for p in found[:n.value]}, {(p.pid, size) for p, size in zip(both, sizes)})
        old = (OldProcess * 8)()
        self.ok("nvmlDeviceGetComputeRunningProcesses", self.handle, ctypes.byref(n), old)
        self.assertEqual({(p.pid, p.memory) for p in old[:n.value]}, {(p.pid, size) for p, size in zip(both, sizes)})
        n.value = 1
        old[1].pid = 4711
        self.assertEqual(self.call("nvmlDeviceGetComputeRunningProcesses", self.handle, ctypes.byref(n), old), 7)
        self.assertEqual((n.value, old[1].pid), (2, 4711))   # how many there are; and nothing past the room
        both[0].kill()
        both[0].wait()
        n.value = 8
        self.ok("nvmlDeviceGetComputeRunningProcesses_v3", self.handle, ctypes.byref(n), found)
        self.assertEqual([p.pid for p in found[:n.value]], [both[1].pid])
        self.assertEqual(self.memory(), sizes[1])

    def test_utilisation_is_of_a_second_that_is_over(self):
        """However often one asks; the model's own test says of which second exactly."""
        rates = (ctypes.c_uint * 2)()
        self.ok("nvmlDeviceGetUtilizationRates", self.handle, rates)
        self.assertEqual(rates[0], 0)
        p = self.process("begin(); say('ready'); wait(); [launch() for _ in range(3000)]; say(call('cuCtxSynchronize')); wait()")
        self.hear(p, "ready")
        self.tell(p)
        self.hear(p, 0)   # three seconds of work without a pause: at least one whole second of them was looked at
        self.ok("nvmlDeviceGetUtilizationRates", self.handle, rates)
        self.assertEqual(rates[0], self.status()["busy_percent"])
        self.assertGreater(rates[0], 50)


class States(Nvml):
    def test_ecc_and_its_errors(self):
        n = ctypes.c_ulonglong()
        self.assertEqual(self.numbers("nvmlDeviceGetEccMode", 2, self.handle), [1, 1])
        self.simgpu("inject", "ecc", 3)
        self.ok("nvmlDeviceGetTotalEccErrors", self.handle, 1, 0, ctypes.byref(n))
        self.assertEqual(n.value, 3)
        self.ok("nvmlDeviceGetTotalEccErrors", self.handle, 0, 0, ctypes.byref(n))
        self.assertEqual(n.value, 0)   # those were uncorrected

    def confidential(self):
        state, ready = Confidential(7, 7, 7, 7), ctypes.c_uint(7)
        self.ok("nvmlSystemGetConfComputeState", ctypes.byref(state))
        self.ok("nvmlSystemGetConfComputeGpusReadyState", ctypes.byref(ready))
        return state.environment, state.feature, state.tools, state.behind, ready.value

    def test_confidential_computing_is_off(self):
        self.assertEqual(self.confidential(), (0, 0, 0, 7, 0))


class OtherStates(States):
    settings = {"SIMGPU_ECC": "off", "SIMGPU_CC": "on"}

    def test_ecc_and_its_errors(self):
        n = ctypes.c_ulonglong()
        self.assertEqual(self.numbers("nvmlDeviceGetEccMode", 2, self.handle), [0, 0])
        self.assertEqual(self.call("nvmlDeviceGetTotalEccErrors", self.handle, 1, 0, ctypes.byref(n)), 3)

    def test_confidential_computing_is_off(self):
        self.assertEqual(self.confidential(), (2, 1, 0, 7, 1))


class Events(Nvml):
    def setUp(self):
        super().setUp()
        self.set = self.new_set()

    def new_set(self, register=True):
        events = ctypes.c_void_p()
        self.ok("nvmlEventSetCreate", ctypes.byref(events))
        self.addCleanup(self.call, "nvmlEventSetFree", events)
        if register:
            self.ok("nvmlDeviceRegisterEvents", self.handle, ctypes.c_ulonglong(XID), events)
        return events

    def next(self, events=None, timeout_ms=0):
        event = Event()
        code = self.call("nvmlEventSetWait_v2", events or self.set, ctypes.byref(event), timeout_ms)
        self.assertTrue(code or (event.device, event.type) == (self.handle.value, XID))
        return code or event.data

    def test_each_is_told_once_in_order_to_each_set(self):
        other = self.new_set()
        for xid in (31, 48, 94):
            self.simgpu("inject", "xid", xid)
        for events in (self.set, other):
            self.assertEqual([self.next(events) for _ in range(4)], [31, 48, 94, TIMEOUT])

    def test_only_what_comes_after_registering(self):
        self.simgpu("inject", "xid", 31)
        late, never = self.new_set(), self.new_set(register=False)
        self.simgpu("inject", "xid", 48)
        self.assertEqual([self.next(late), self.next(late), self.next(never)], [48, TIMEOUT, TIMEOUT])

    def test_who_waits_is_woken(self):
        p = self.process(f"""
nvml = ctypes.CDLL({NVML!r})
assert nvml.nvmlInit_v2() == 0
events, event, handle = pointer(), (ctypes.c_ulonglong * 4)(), pointer()
nvml.nvmlDeviceGetHandleByIndex_v2(0, by(handle)); nvml.nvmlEventSetCreate(by(events))
nvml.nvmlDeviceRegisterEvents(handle, ctypes.c_ulonglong(8), events)
say('ready')
say(nvml.nvmlEventSetWait_v2(events, event, 60000), event[2])
""")
        self.hear(p, "ready")
        self.simgpu("inject", "xid", 63)
        self.hear(p, 0, 63)

    def test_other_types_are_refused(self):
        types = ctypes.c_ulonglong()
        self.ok("nvmlDeviceGetSupportedEventTypes", self.handle, ctypes.byref(types))
        self.assertEqual(types.value, XID)
        self.assertEqual(self.call("nvmlDeviceRegisterEvents", self.handle, ctypes.c_ulonglong(XID | 1), self.set), 3)

    def test_more_than_are_kept(self):
        for xid in range(100, 118):
            self.simgpu("inject", "xid", xid)
        self.assertEqual([self.next() for _ in range(17)], [*range(102, 118), TIMEOUT])   # the last 16

    def test_lost_device_says_why_and_nothing_else(self):
        self.simgpu("inject", "lose")
        self.assertEqual(self.next(), 79)
        n, memory = ctypes.c_uint(), Memory()
        self.assertEqual(self.call("nvmlDeviceGetMemoryInfo", self.handle, ctypes.byref(memory)), LOST)
        self.assertEqual(self.call("nvmlDeviceGetCount_v2", ctypes.byref(n)), LOST)
        self.assertEqual(self.call("nvmlDeviceGetUtilizationRates", self.handle, (ctypes.c_uint * 2)()), LOST)


class Two(Nvml):
    settings = {"SIMGPU_DEVICES": "2"}

    def setUp(self):
        super().setUp()
        self.addCleanup(self.simgpu, "--device", 1, "reset")
        self.second = ctypes.c_void_p()
        self.ok("nvmlDeviceGetHandleByIndex_v2", 1, ctypes.byref(self.second))

    def used(self, handle):
        memory = Memory()
        self.ok("nvmlDeviceGetMemoryInfo", handle, ctypes.byref(memory))
        return memory.used

    def test_the_same_two_as_the_drivers(self):
        self.assertEqual(self.numbers("nvmlDeviceGetCount_v2", 1), [2])
        self.assertEqual(self.numbers("nvmlDeviceGetIndex", 1, self.second), [1])
        drivers = self.output("ok('cuInit', 0); u = (ctypes.c_ubyte * 16)(); ok('cuDeviceGetUuid_v2', u, 1); say(bytes(u).hex())")
        uuid, found = self.text("nvmlDeviceGetUUID", self.second), ctypes.c_void_p()
        self.assertEqual(uuid[4:].replace("-", ""), drivers)
        self.assertNotEqual(uuid, self.text("nvmlDeviceGetUUID", self.handle))
        for name, text in (("UUID", uuid.encode()), ("PciBusId_v2", b"00000000:08:00.0")):
            found.value = None
            self.ok(f"nvmlDeviceGetHandleBy{name}", text, ctypes.byref(found))
            self.assertEqual(found.value, self.second.value)
        self.assertEqual(self.call("nvmlDeviceGetHandleByIndex_v2", 2, ctypes.byref(found)), 2)
        self.assertEqual(self.call("nvmlDeviceGetHandleByPciBusId_v2", b"00000000:09:00.0", ctypes.byref(found)), 6)

    def test_each_has_its_users(self):
        user = self.process("ok('cuInit', 0); c = pointer(); ok('cuDevicePrimaryCtxRetain', by(c), 1); ok('cuCtxSetCurrent', c)\n"
                            "ok('cuMemAlloc_v2', by(pointer()), n(5 << 20)); say('there'); wait()")
        self.hear(user, "there")
        self.assertEqual([self.used(handle) for handle in (self.handle, self.second)], [0, 5 << 20])
        for handle, count in ((self.handle, 0), (self.second, 1)):
            n, infos = ctypes.c_uint(4), (Process * 4)()
            self.ok("nvmlDeviceGetComputeRunningProcesses_v3", handle, ctypes.byref(n), infos)
            self.assertEqual(n.value, count)
        self.tell(user)

    def test_an_error_is_of_one(self):
        events, event = ctypes.c_void_p(), Event()
        self.ok("nvmlEventSetCreate", ctypes.byref(events))
        for handle in (self.handle, self.second):
            self.ok("nvmlDeviceRegisterEvents", handle, ctypes.c_ulonglong(XID), events)
        self.simgpu("--device", 1, "inject", "lose")
        self.ok("nvmlEventSetWait_v2", events, ctypes.byref(event), 10000)
        self.assertEqual((event.device, event.data), (self.second.value, 79))
        self.assertEqual(self.call("nvmlEventSetWait_v2", events, ctypes.byref(event), 0), TIMEOUT)
        self.assertEqual(self.call("nvmlDeviceGetMemoryInfo", self.second, ctypes.byref(Memory())), LOST)
        self.assertEqual(self.used(self.handle), 0)

    def test_one_that_is_lost_is_still_listed(self):
        self.simgpu("inject", "lose")
        self.assertEqual(self.numbers("nvmlDeviceGetCount_v2", 1), [2])
        self.assertEqual(self.used(self.second), 0)
        self.simgpu("--device", 1, "inject", "lose")
        self.assertEqual(self.call("nvmlDeviceGetCount_v2", ctypes.byref(ctypes.c_uint())), LOST)

    def test_no_handle_of_another_kind(self):
        text = ctypes.create_string_buffer(64)
        self.assertEqual(self.call("nvmlDeviceGetUUID", ctypes.c_void_p(self.second.value + 1), text, 64), 2)


if __name__ == "__main__":
    unittest.main()
