//! Networks, subnets, ports, routers, groups and floating addresses: Neutron's facts, and which
//! of them must go before which.

use std::collections::{BTreeMap, HashMap};
use std::net::Ipv4Addr;

use serde_json::Value;

use super::cidr::Cidr;
use super::heat::services::Refused;
use super::refusal::Answer;

pub(super) const ROUTER_INTERFACE: &str = "network:router_interface";

#[derive(Clone, Debug)]
pub(super) struct Net {
    pub id: String,
    pub name: String,
    pub project_id: String,
    pub external: bool,
    pub shared: bool,
}

#[derive(Clone, Debug)]
pub(super) struct Subnet {
    pub id: String,
    pub name: String,
    pub project_id: String,
    pub network_id: String,
    pub cidr: Cidr,
    pub gateway: Option<Ipv4Addr>,
    pub pools: Vec<(Ipv4Addr, Ipv4Addr)>,
    pub dns: Vec<String>,
    pub dhcp: bool,
}

#[derive(Clone, Debug)]
pub(super) struct Port {
    pub id: String,
    pub name: String,
    pub project_id: String,
    pub network_id: String,
    pub mac: String,
    /// Subnet and address.
    pub fixed: Vec<(String, Ipv4Addr)>,
    pub device_id: String,
    pub device_owner: String,
    pub groups: Vec<String>,
    pub pairs: Value,
    /// Made by Nova, hence deleted with its server.
    pub of_nova: bool,
}

#[derive(Clone, Debug)]
pub(super) struct Router {
    pub id: String,
    pub name: String,
    pub project_id: String,
    /// External network and the address there.
    pub gateway: Option<(String, Ipv4Addr)>,
}

#[derive(Clone, Debug)]
pub(super) struct Group {
    pub id: String,
    pub name: String,
    pub description: String,
    pub project_id: String,
    /// As Neutron shows them.
    pub rules: Vec<Value>,
}

#[derive(Clone, Debug)]
pub(super) struct Floating {
    pub id: String,
    pub project_id: String,
    pub network_id: String,
    pub description: String,
    pub address: Ipv4Addr,
    /// Port and its fixed address.
    pub port: Option<(String, Ipv4Addr)>,
    pub router_id: Option<String>,
}

/// Everything Neutron knows.
#[derive(Debug, Default)]
pub(super) struct Network {
    pub nets: BTreeMap<String, Net>,
    pub subnets: BTreeMap<String, Subnet>,
    pub ports: BTreeMap<String, Port>,
    pub routers: BTreeMap<String, Router>,
    pub groups: BTreeMap<String, Group>,
    pub floating: BTreeMap<String, Floating>,
    /// Limits that differ from the defaults, by project and kind.
    pub quotas: HashMap<(String, String), usize>,
}

/// The collections, as Neutron's URLs name them, with their usual limits per project.
pub(super) const KINDS: [(&str, usize); 6] = [
    ("networks", 100),
    ("subnets", 100),
    ("ports", 1000),
    ("routers", 100),
    ("security-groups", 200),
    ("floatingips", 200),
];

impl Network {
    /// The project that owns a thing.
    pub fn owner(&self, kind: &str, id: &str) -> Option<&str> {
        Some(match kind {
            "networks" => &self.nets.get(id)?.project_id,
            "subnets" => &self.subnets.get(id)?.project_id,
            "ports" => &self.ports.get(id)?.project_id,
            "routers" => &self.routers.get(id)?.project_id,
            "security-groups" => &self.groups.get(id)?.project_id,
            "floatingips" => &self.floating.get(id)?.project_id,
            _ => return None,
        })
    }

    pub fn ids(&self, kind: &str) -> Vec<String> {
        match kind {
            "networks" => self.nets.keys().cloned().collect(),
            "subnets" => self.subnets.keys().cloned().collect(),
            "ports" => self.ports.keys().cloned().collect(),
            "routers" => self.routers.keys().cloned().collect(),
            "security-groups" => self.groups.keys().cloned().collect(),
            "floatingips" => self.floating.keys().cloned().collect(),
            _ => Vec::new(),
        }
    }

    /// Refuses what would exceed the project's limit.
    pub fn check_quota(&self, kind: &str, project: &str) -> Answer<()> {
        let usual = KINDS.iter().find(|(name, _)| *name == kind).map_or(usize::MAX, |(_, n)| *n);
        let limit = self.quotas.get(&(project.to_owned(), kind.to_owned())).copied();
        let used = self.ids(kind).iter().filter(|id| self.owner(kind, id) == Some(project)).count();
        if used < limit.unwrap_or(usual) {
            return Ok(());
        }
        let one = kind.trim_end_matches('s').replace('-', "_");
        let message = format!("Quota exceeded for resources: ['{one}'].");
        Err(Refused::new(409, "OverQuota", message))
    }

    fn is_taken(&self, network: &str, address: Ipv4Addr) -> bool {
        let on_port = |p: &Port| p.network_id == network && p.fixed.iter().any(|f| f.1 == address);
        self.ports.values().any(on_port)
            || self.floating.values().any(|f| f.network_id == network && f.address == address)
            || self
                .routers
                .values()
                .any(|r| r.gateway.as_ref().is_some_and(|(net, a)| net == network && *a == address))
    }

    /// A free address of one of the network's subnets, or of the one wished for.
    pub fn allocate(
        &self,
        network: &str,
        subnet: Option<&str>,
        wish: Option<Ipv4Addr>,
    ) -> Answer<(String, Ipv4Addr)> {
        let mine = self.subnets.values().filter(|s| s.network_id == network);
        let mut candidates: Vec<&Subnet> =
            mine.filter(|s| subnet.is_none_or(|wanted| wanted == s.id)).collect();
        if let Some(wish) = wish {
            candidates.retain(|s| s.cidr.contains(wish));
            let Some(subnet) = candidates.first() else {
                let message =
                    format!("IP address {wish} is not a valid IP for the specified subnet.");
                return Err(Refused::new(400, "InvalidIpForSubnet", message));
            };
            if self.is_taken(network, wish) {
                let message = format!(
                    "Unable to complete operation for network {network}. The IP address {wish} is \
                     in use."
                );
                return Err(Refused::new(409, "IpAddressInUse", message));
            }
            return Ok((subnet.id.clone(), wish));
        }
        for subnet in candidates {
            for (first, last) in &subnet.pools {
                let mut free = (first.to_bits()..=last.to_bits()).map(Ipv4Addr::from_bits);
                let fits = |a: &Ipv4Addr| Some(*a) != subnet.gateway && !self.is_taken(network, *a);
                if let Some(found) = free.find(fits) {
                    return Ok((subnet.id.clone(), found));
                }
            }
        }
        let message = format!("No more IP addresses available on network {network}.");
        Err(Refused::new(409, "IpAddressGenerationFailure", message))
    }

    /// Deletes a thing that nothing needs any more.
    pub fn delete(&mut self, kind: &str, id: &str) -> Answer<()> {
        let Some(_) = self.owner(kind, id) else { return Err(not_found(kind, id)) };
        self.check_unused(kind, id)?;
        match kind {
            "networks" => {
                self.nets.remove(id);
                self.subnets.retain(|_, s| s.network_id != id);
            }
            "subnets" => drop(self.subnets.remove(id)),
            "ports" => self.remove_port(id),
            "routers" => drop(self.routers.remove(id)),
            "security-groups" => drop(self.groups.remove(id)),
            _ => drop(self.floating.remove(id)),
        }
        Ok(())
    }

    /// Takes a port away; a floating address on it stays, unattached.
    pub fn remove_port(&mut self, id: &str) {
        self.ports.remove(id);
        for floating in self.floating.values_mut() {
            if floating.port.as_ref().is_some_and(|(port, _)| port == id) {
                (floating.port, floating.router_id) = (None, None);
            }
        }
    }

    fn check_unused(&self, kind: &str, id: &str) -> Answer<()> {
        let refuse = |kind, message: String| Err(Refused::new(409, kind, message));
        let ports = || self.ports.values();
        match kind {
            "networks" => {
                let used: Vec<&str> =
                    ports().filter(|p| p.network_id == id).map(|p| p.id.as_str()).collect();
                let gateway = |r: &Router| r.gateway.as_ref().is_some_and(|(net, _)| net == id);
                if !used.is_empty()
                    || self.routers.values().any(gateway)
                    || self.floating.values().any(|f| f.network_id == id)
                {
                    return refuse(
                        "NetworkInUse",
                        format!(
                            "Unable to complete operation on network {id}. There are one or more \
                             ports still in use on the network, id(s): {}.",
                            used.join(",")
                        ),
                    );
                }
            }
            "subnets" if ports().any(|p| p.fixed.iter().any(|(subnet, _)| subnet == id)) => {
                return refuse(
                    "SubnetInUse",
                    format!(
                        "Unable to complete operation on subnet {id}: One or more ports have an \
                         IP allocation from this subnet."
                    ),
                );
            }
            "ports" if self.ports[id].device_owner == ROUTER_INTERFACE => {
                return refuse(
                    "ServicePortInUse",
                    format!(
                        "Port {id} cannot be deleted directly via the port API: has device owner \
                         {ROUTER_INTERFACE}."
                    ),
                );
            }
            "routers" if ports().any(|p| p.device_id == id) => {
                return refuse("RouterInUse", format!("Router {id} still has ports"));
            }
            "security-groups" if ports().any(|p| p.groups.iter().any(|g| g == id)) => {
                return refuse("SecurityGroupInUse", format!("Security Group {id} in use."));
            }
            "security-groups" if self.groups[id].name == "default" => {
                let message = "Insufficient rights for removing default security group.";
                return refuse("SecurityGroupCannotRemoveDefault", message.to_owned());
            }
            _ => {}
        }
        Ok(())
    }

    /// Takes a subnet off a router; floating addresses that pass through it forbid that.
    pub fn detach(&mut self, router: &str, subnet: &str) -> Answer<()> {
        let is_interface =
            |p: &&Port| p.device_id == router && p.fixed.iter().any(|(s, _)| s == subnet);
        let Some(port) = self.ports.values().find(is_interface).map(|p| p.id.clone()) else {
            let message = format!("Router {router} has no interface on subnet {subnet}");
            return Err(Refused::new(404, "RouterInterfaceNotFoundForSubnet", message));
        };
        let passes = |f: &Floating| {
            f.router_id.as_deref() == Some(router)
                && f.port
                    .as_ref()
                    .and_then(|(port, _)| self.ports.get(port))
                    .is_some_and(|p| p.fixed.iter().any(|(s, _)| s == subnet))
        };
        if self.floating.values().any(passes) {
            let message = format!(
                "Router interface for subnet {subnet} on router {router} cannot be deleted, as it \
                 is required by one or more floating IPs."
            );
            return Err(Refused::new(409, "RouterInterfaceInUseByFloatingIP", message));
        }
        self.ports.remove(&port);
        Ok(())
    }

    /// The floating addresses that lead to a server.
    pub fn floating_of(&self, server: &str) -> Vec<Ipv4Addr> {
        let leads = |f: &&Floating| {
            let port = f.port.as_ref().and_then(|(port, _)| self.ports.get(port));
            port.is_some_and(|port| port.device_id == server)
        };
        self.floating.values().filter(leads).map(|f| f.address).collect()
    }

    /// The router that leads from a subnet to an external network.
    pub fn router_between(&self, subnet: &str, external: &str) -> Option<&Router> {
        let leads = |r: &&Router| r.gateway.as_ref().is_some_and(|(net, _)| net == external);
        self.routers.values().filter(leads).find(|router| {
            let interface =
                |p: &Port| p.device_id == router.id && p.fixed.iter().any(|(s, _)| s == subnet);
            self.ports.values().any(interface)
        })
    }
}

pub(super) fn not_found(kind: &str, id: &str) -> Refused {
    let (kind, what) = match kind {
        "networks" => ("NetworkNotFound", "Network"),
        "subnets" => ("SubnetNotFound", "Subnet"),
        "ports" => ("PortNotFound", "Port"),
        "routers" => ("RouterNotFound", "Router"),
        "security-groups" => ("SecurityGroupNotFound", "Security group"),
        "floatingips" => ("FloatingIPNotFound", "Floating IP"),
        _ => ("HTTPNotFound", "The resource"),
    };
    let verb =
        if kind == "SecurityGroupNotFound" { "does not exist" } else { "could not be found" };
    Refused::new(404, kind, format!("{what} {id} {verb}."))
}
