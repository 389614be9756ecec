"""A process with two devices: what the daemon leases it waits at the gate and is counted, the other is as without Takt."""
import json
import unittest

from behind import Behind, Host
from takt import until

TWO = {"SIMGPU_DEVICES": "2"}
MIB = 1 << 20


class Devices(Behind):
    before_daemon = TWO

    def setUp(self):
        super().setUp()
        self.addCleanup(self.tool, "--device", "1", "reset")

    def simulated(self, device=0):
        return json.loads(self.tool("--device", str(device), "status", "--json"))

    def work(self, device):
        return [self.simulated(device)[what] for what in ("busy_ns", "copy_ns")]

    def rivals(self, device):
        """A tenant of a host's on that device, and a peer that holds its gate."""
        tenant, other = (self.daemon.tenant(name, device=device, memory_bytes=1 << 30, **{"class": "fair"}) for name in ("one", "two"))
        return tenant, self.peer(device, other)

    def account(self, tenant):
        return next(t for t in self.daemon.status()["tenants"] if t["tenant"] == tenant.answer["tenant"])

    def until_wants(self, tenant):
        until(self, lambda: self.account(tenant)["wants"], True)

    def one_of_two(self, leased):
        tenant, peer = self.rivals(leased)
        host = Host(self, "two-devices", tenant, LEASED=str(leased), **TWO)
        host.says("allocated")
        self.assertEqual(self.account(tenant)["memory_used"], 500 * MIB)
        self.assertEqual(self.simulated(leased)["memory_used"], 500 * MIB)
        self.assertEqual(self.simulated(1 - leased)["memory_used"], 2048 * MIB)
        peer.take()
        peer.busy()
        before = self.work(leased)
        host.goes_on()
        host.says("worked")
        self.until_wants(tenant)
        self.assertEqual(self.work(leased), before)
        peer.idle()
        host.goes_on()
        host.says("freed")
        self.assertNotEqual(self.work(leased), before)
        self.assertEqual(self.account(tenant)["memory_used"], 0)
        self.assertEqual([self.simulated(device)["memory_used"] for device in (0, 1)], [0, 0])
        host.ends()
        self.assertEqual([self.simulated(device)["processes"] for device in (0, 1)], [[], []])

    def test_the_first_is_leased(self):
        self.one_of_two(0)

    def test_the_second_is_leased(self):
        self.one_of_two(1)

    def test_one_that_is_lost_hides_no_other(self):
        host = Host(self, "loses-the-other", self.rivals(1)[0], **TWO)
        host.says("ready")
        self.tool("--device", "0", "inject", "lose")
        self.addCleanup(self.tool, "reset")
        host.goes_on()
        host.says("told")
        host.ends()

    def test_tenants_of_two_devices_do_not_meet(self):
        tenants, peers = zip(*(self.rivals(device) for device in (0, 1)))
        hosts = [Host(self, "two-devices", tenant, LEASED=str(device), **TWO) for device, tenant in enumerate(tenants)]
        for host in hosts:
            host.says("allocated")
        self.assertEqual([self.account(tenant)["memory_used"] for tenant in tenants], [500 * MIB, 500 * MIB])
        peers[0].take()
        peers[0].busy()
        for host in hosts:
            host.goes_on()
            host.says("worked")
        self.until_wants(tenants[0])
        hosts[1].goes_on()
        hosts[1].says("freed")
        self.assertTrue(self.account(tenants[0])["wants"])
        self.assertEqual([self.account(tenant)["memory_used"] for tenant in tenants], [500 * MIB, 0])
        peers[0].idle()
        hosts[0].goes_on()
        hosts[0].says("freed")
        for host in hosts:
            host.ends()


if __name__ == "__main__":
    unittest.main()
