"""Octavia's network driver for a cloud without amphorae: the load balancer's own port is a real one
of Neutron, so that it has an address of the subnet and may have a floating IP; nothing is plugged
into machines that are not there.

`cloud` installs this file into the venv under the entry point
octavia.network.drivers / loopback.
"""
from octavia.network import base
from octavia.network.drivers.neutron.allowed_address_pairs import AllowedAddressPairsDriver
from octavia.network.drivers.noop_driver.driver import NoopNetworkDriver


class LoopbackDriver(NoopNetworkDriver):

    def __init__(self):
        super().__init__()
        self.neutron = AllowedAddressPairsDriver()

    def allocate_vip(self, loadbalancer):
        return self.neutron.allocate_vip(loadbalancer)

    def deallocate_vip(self, vip):
        self.neutron.network_proxy.delete_port(vip.port_id, ignore_missing=True)

    def get_network(self, network_id, context=None):
        return self.neutron.get_network(network_id, context=context)

    def get_subnet(self, subnet_id, context=None):
        return self.neutron.get_subnet(subnet_id, context=context)

    def get_port(self, port_id, context=None):
        try:
            return self.neutron.get_port(port_id, context=context)
        except base.PortNotFound:  # of an amphora
            return super().get_port(port_id, context=context)
