//! Making networks, subnets, ports, routers, groups and floating addresses, from bodies as
//! Neutron's interface takes them.

use std::net::Ipv4Addr;

use serde_json::{Value, json};

use crate::base::id::Entropy;

use super::cidr::Cidr;
use super::heat::services::Refused;
use super::network::{
    Floating, Group, Net, Network, Port, ROUTER_INTERFACE, Router, Subnet, not_found,
};
use super::refusal::Answer;
use super::world::Caller;

fn text(body: &Value, key: &str) -> String {
    body[key].as_str().unwrap_or_default().to_owned()
}

fn address(value: &Value, field: &str) -> Answer<Option<Ipv4Addr>> {
    match value.as_str().filter(|text| !text.is_empty()) {
        None => Ok(None),
        Some(text) => text.parse().map(Some).map_err(|_| {
            let message =
                format!("Invalid input for {field}. Reason: '{text}' is not a valid IP address.");
            Refused::new(400, "HTTPBadRequest", message)
        }),
    }
}

impl Network {
    /// Makes one thing of a kind for the caller's project; returns its id.
    pub fn create(
        &mut self,
        entropy: &Entropy,
        caller: &Caller,
        kind: &str,
        body: &Value,
    ) -> Answer<String> {
        if !body.is_object() {
            return Err(Refused::new(400, "HTTPBadRequest", "Resource body required"));
        }
        let asked = body["project_id"].as_str().or(body["tenant_id"].as_str());
        let project = match asked.filter(|p| !p.is_empty()) {
            Some(other) if other != caller.project_id && !caller.is_admin() => {
                return Err(Refused::forbidden("The request body may not name another project."));
            }
            Some(project) => project.to_owned(),
            None => caller.project_id.clone(),
        };
        self.check_quota(kind, &project)?;
        let id = entropy.uuid().to_string();
        match kind {
            "networks" => self.create_net(id.clone(), project, caller, body)?,
            "subnets" => self.create_subnet(id.clone(), project, caller, body)?,
            "ports" => self.create_port(id.clone(), project, caller, body, entropy)?,
            "routers" => self.create_router(id.clone(), project, body)?,
            "security-groups" => self.create_group(id.clone(), project, body, entropy),
            "floatingips" => self.create_floating(id.clone(), project, caller, body)?,
            _ => return Err(not_found(kind, "")),
        }
        Ok(id)
    }

    fn create_net(
        &mut self,
        id: String,
        project: String,
        caller: &Caller,
        body: &Value,
    ) -> Answer<()> {
        let flag = |key: &str| body[key].as_bool().unwrap_or(false);
        let (external, shared) = (flag("router:external"), flag("shared"));
        if (external || shared) && !caller.is_admin() {
            let message = "rule:create_network is disallowed by policy";
            return Err(Refused::new(403, "PolicyNotAuthorized", message));
        }
        let name = text(body, "name");
        self.nets.insert(id.clone(), Net { id, name, project_id: project, external, shared });
        Ok(())
    }

    /// A network the caller may use.
    fn usable_net(&self, id: &str, caller: &Caller) -> Answer<&Net> {
        let net = self.nets.get(id).ok_or_else(|| not_found("networks", id))?;
        match caller.sees(&net.project_id) || net.shared || net.external {
            true => Ok(net),
            false => Err(not_found("networks", id)),
        }
    }

    fn create_subnet(
        &mut self,
        id: String,
        project: String,
        caller: &Caller,
        body: &Value,
    ) -> Answer<()> {
        let network_id = self.usable_net(&text(body, "network_id"), caller)?.id.clone();
        let cidr: Cidr = text(body, "cidr").parse().map_err(|reason| {
            let message = format!("Invalid input for cidr. Reason: {reason}");
            Refused::new(400, "HTTPBadRequest", message)
        })?;
        let mut others = self.subnets.values().filter(|s| s.network_id == network_id);
        if others.any(|s| s.cidr.overlaps(cidr)) {
            let message = format!(
                "Invalid input for operation: Requested subnet with cidr: {cidr} for network: \
                 {network_id} overlaps with another subnet."
            );
            return Err(Refused::new(400, "InvalidInput", message));
        }
        let gateway = match body.get("gateway_ip") {
            None => Some(cidr.first_host()),
            Some(value) => address(value, "gateway_ip")?,
        };
        let mut pools = Vec::new();
        for pool in body["allocation_pools"].as_array().into_iter().flatten() {
            let first = address(&pool["start"], "allocation_pools")?;
            let last = address(&pool["end"], "allocation_pools")?;
            match first.zip(last).filter(|(a, b)| a <= b && cidr.contains(*a) && cidr.contains(*b))
            {
                Some(pool) => pools.push(pool),
                None => {
                    let message = format!("The allocation pool {pool} is not valid.");
                    return Err(Refused::new(400, "InvalidAllocationPool", message));
                }
            }
        }
        if pools.is_empty() {
            pools.push(cidr.hosts());
        }
        let dns = body["dns_nameservers"].as_array().into_iter().flatten();
        let subnet = Subnet {
            id: id.clone(),
            name: text(body, "name"),
            project_id: project,
            network_id,
            cidr,
            gateway,
            pools,
            dns: dns.filter_map(Value::as_str).map(str::to_owned).collect(),
            dhcp: body["enable_dhcp"].as_bool().unwrap_or(true),
        };
        self.subnets.insert(id, subnet);
        Ok(())
    }

    fn create_port(
        &mut self,
        id: String,
        project: String,
        caller: &Caller,
        body: &Value,
        entropy: &Entropy,
    ) -> Answer<()> {
        let network_id = self.usable_net(&text(body, "network_id"), caller)?.id.clone();
        let wishes = body["fixed_ips"].as_array().cloned().unwrap_or_default();
        let mut fixed = Vec::new();
        for wish in &wishes {
            let wanted = address(&wish["ip_address"], "fixed_ips")?;
            fixed.push(self.allocate(&network_id, wish["subnet_id"].as_str(), wanted)?);
        }
        let has_subnet = self.subnets.values().any(|s| s.network_id == network_id);
        if wishes.is_empty() && has_subnet {
            fixed.push(self.allocate(&network_id, None, None)?);
        }
        let groups = match body["security_groups"].as_array() {
            Some(list) => list.iter().filter_map(Value::as_str).map(str::to_owned).collect(),
            None => vec![self.default_group(&project, entropy)],
        };
        if let Some(unknown) = groups.iter().find(|g| !self.groups.contains_key(*g)) {
            return Err(not_found("security-groups", unknown));
        }
        let [a, b, c]: [u8; 3] = entropy.bytes();
        let port = Port {
            id: id.clone(),
            name: text(body, "name"),
            project_id: project,
            network_id,
            mac: format!("fa:16:3e:{a:02x}:{b:02x}:{c:02x}"),
            fixed,
            device_id: text(body, "device_id"),
            device_owner: text(body, "device_owner"),
            groups,
            pairs: body.get("allowed_address_pairs").cloned().unwrap_or_else(|| json!([])),
            of_nova: false,
        };
        self.ports.insert(id, port);
        Ok(())
    }

    /// The group that every project has, made when it is first needed.
    pub fn default_group(&mut self, project: &str, entropy: &Entropy) -> String {
        let found = self.groups.values().find(|g| g.project_id == project && g.name == "default");
        if let Some(group) = found {
            return group.id.clone();
        }
        let id = entropy.uuid().to_string();
        let body = json!({"name": "default", "description": "Default security group"});
        self.create_group(id.clone(), project.to_owned(), &body, entropy);
        id
    }

    fn create_group(&mut self, id: String, project: String, body: &Value, entropy: &Entropy) {
        let mut rules = Vec::new();
        for ethertype in ["IPv4", "IPv6"] {
            let rule = json!({"direction": "egress", "ethertype": ethertype});
            rules.push(rule_view(&id, &project, &rule, entropy));
        }
        let (name, description) = (text(body, "name"), text(body, "description"));
        let group = Group { id: id.clone(), name, description, project_id: project, rules };
        self.groups.insert(id, group);
    }

    /// Adds a rule to a group; returns the rule as Neutron shows it.
    pub fn create_rule(&mut self, entropy: &Entropy, body: &Value) -> Answer<Value> {
        let group = text(body, "security_group_id");
        if let Some(remote) = body["remote_group_id"].as_str()
            && !self.groups.contains_key(remote)
        {
            return Err(not_found("security-groups", remote));
        }
        let found = self.groups.get_mut(&group);
        let found = found.ok_or_else(|| not_found("security-groups", &group))?;
        let rule = rule_view(&group, &found.project_id, body, entropy);
        let same = |other: &Value| {
            let mut other = other.clone();
            other["id"] = rule["id"].clone();
            other == rule
        };
        if let Some(twin) = found.rules.iter().find(|r| same(r)) {
            let message = format!("Security group rule already exists. Rule id is {}.", twin["id"]);
            return Err(Refused::new(409, "SecurityGroupRuleExists", message));
        }
        found.rules.push(rule.clone());
        Ok(rule)
    }

    fn create_router(&mut self, id: String, project: String, body: &Value) -> Answer<()> {
        let gateway = match body["external_gateway_info"]["network_id"].as_str() {
            None => None,
            Some(network) => {
                let net = self.nets.get(network).ok_or_else(|| not_found("networks", network))?;
                if !net.external {
                    let message = format!(
                        "Bad router request: Network {network} is not an external network."
                    );
                    return Err(Refused::new(400, "BadRequest", message));
                }
                Some((network.to_owned(), self.allocate(network, None, None)?.1))
            }
        };
        let name = text(body, "name");
        self.routers.insert(id.clone(), Router { id, name, project_id: project, gateway });
        Ok(())
    }

    /// Gives a router an interface on a subnet; returns the new port's id.
    pub fn attach(
        &mut self,
        entropy: &Entropy,
        caller: &Caller,
        router: &str,
        subnet: &str,
    ) -> Answer<String> {
        let project = self.owner("routers", router).filter(|p| caller.sees(p));
        let project = project.ok_or_else(|| not_found("routers", router))?.to_owned();
        let subnet = self.subnets.get(subnet).ok_or_else(|| not_found("subnets", subnet))?.clone();
        let bad = |reason: String| Refused::bad(format!("Bad router request: {reason}."));
        let Some(gateway) = subnet.gateway else {
            return Err(bad("Subnet for router interface must have a gateway IP".to_owned()));
        };
        for port in self.ports.values().filter(|p| p.device_id == router) {
            for (other, _) in &port.fixed {
                let other = &self.subnets[other];
                if other.cidr.overlaps(subnet.cidr) {
                    return Err(bad(format!(
                        "Cidr {} of subnet {} overlaps with cidr {} of subnet {}",
                        subnet.cidr, subnet.id, other.cidr, other.id
                    )));
                }
            }
        }
        let body = json!({
            "network_id": subnet.network_id,
            "fixed_ips": [{"subnet_id": subnet.id, "ip_address": gateway.to_string()}],
            "device_id": router,
            "device_owner": ROUTER_INTERFACE,
            "security_groups": [],
        });
        let id = entropy.uuid().to_string();
        self.create_port(id.clone(), project, caller, &body, entropy)?;
        Ok(id)
    }

    fn create_floating(
        &mut self,
        id: String,
        project: String,
        caller: &Caller,
        body: &Value,
    ) -> Answer<()> {
        let network = self.usable_net(&text(body, "floating_network_id"), caller)?;
        let network_id = network.id.clone();
        if !network.external {
            let message = format!("Network {network_id} is not a valid external network");
            return Err(Refused::bad(message));
        }
        let wish = address(&body["floating_ip_address"], "floating_ip_address")?;
        let address = self.allocate(&network_id, None, wish)?.1;
        let floating = Floating {
            id: id.clone(),
            project_id: project,
            network_id,
            description: text(body, "description"),
            address,
            port: None,
            router_id: None,
        };
        self.floating.insert(id.clone(), floating);
        if let Some(port) = body["port_id"].as_str().filter(|p| !p.is_empty())
            && let Err(refused) = self.associate(&id, Some(port))
        {
            self.floating.remove(&id);
            return Err(refused);
        }
        Ok(())
    }

    /// FailPoints a floating address at a port, or at nothing.
    pub fn associate(&mut self, id: &str, port: Option<&str>) -> Answer<()> {
        let network = self.floating.get(id).ok_or_else(|| not_found("floatingips", id))?;
        let network = network.network_id.clone();
        let mut target = (None, None);
        if let Some(port) = port {
            let port = self.ports.get(port).ok_or_else(|| not_found("ports", port))?;
            let Some((subnet, fixed)) = port.fixed.first() else {
                let message = format!("Port {} has no fixed address", port.id);
                return Err(Refused::bad(message));
            };
            let Some(router) = self.router_between(subnet, &network) else {
                let message = format!(
                    "External network {network} is not reachable from subnet {subnet}. Therefore, \
                     cannot associate Port {} with a Floating IP.",
                    port.id
                );
                return Err(Refused::new(404, "ExternalGatewayForFloatingIPNotFound", message));
            };
            target = (Some((port.id.clone(), *fixed)), Some(router.id.clone()));
        }
        let floating = self.floating.get_mut(id).expect("looked up above");
        (floating.port, floating.router_id) = target;
        Ok(())
    }
}

fn rule_view(group: &str, project: &str, body: &Value, entropy: &Entropy) -> Value {
    let or_null = |key: &str| body.get(key).cloned().unwrap_or(Value::Null);
    json!({
        "id": entropy.uuid().to_string(),
        "security_group_id": group,
        "project_id": project,
        "tenant_id": project,
        "direction": body["direction"].as_str().unwrap_or("ingress"),
        "ethertype": body["ethertype"].as_str().unwrap_or("IPv4"),
        "protocol": or_null("protocol"),
        "port_range_min": or_null("port_range_min"),
        "port_range_max": or_null("port_range_max"),
        "remote_ip_prefix": or_null("remote_ip_prefix"),
        "remote_group_id": or_null("remote_group_id"),
        "description": or_null("description"),
    })
}
