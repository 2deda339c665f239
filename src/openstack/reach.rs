//! From which addresses a server's packets may come, as Neutron knows it.

use std::collections::BTreeSet;
use std::net::IpAddr;

use serde_json::{Value, json};

use super::call::{self, encode};
use super::error::{CloudError, Service};
use super::{Actor, Cloud};
use crate::model::first_contact::Reach;

/// What a router's port on a network is called, in all its kinds.
const INTERFACES: [&str; 3] = [
    "network:router_interface",
    "network:router_interface_distributed",
    "network:ha_router_replicated_interface",
];

/// What Neutron shows of a server.
#[derive(Clone, Debug)]
pub struct Seen {
    pub reach: Reach,
    /// The networks that its ports are on, by id.
    pub networks: BTreeSet<String>,
}

impl Cloud {
    /// The addresses with which a server of `project` may reach us; None where Neutron shows no
    /// port of it. Our own account asks, for a tenant sees no router of somebody else's.
    ///
    /// Of ports only those of `project` count: any tenant may write any server's id on a port.
    pub async fn reach(&self, project: &str, server: &str) -> Result<Option<Seen>, CloudError> {
        let actor = Actor::from(&*self.keystone().service().await?);
        let (id, of) = (encode(server), encode(project));
        let ports = self.ask(&actor, "ports", &format!("device_id={id}&project_id={of}")).await?;
        let ports = own_ports(&ports, project, server);
        if ports.is_empty() {
            return Ok(None);
        }
        let ids = query("port_id", ports.iter().filter_map(|p| p["id"].as_str()));
        let floating = self.ask(&actor, "floatingips", &ids).await?;
        let (mut exits, networks) = (Vec::new(), networks(&ports));
        for network in &networks {
            exits.push(self.exit(&actor, project, network).await?);
        }
        Ok(Some(Seen { reach: assemble(&ports, &floating, &exits), networks }))
    }

    /// The way out of a network, remembered like other facts about networks.
    pub async fn exit(
        &self,
        actor: &Actor,
        project: &str,
        network: &str,
    ) -> Result<Exit, CloudError> {
        let facts = self
            .remembered(actor, "exit", network, async {
                let id = encode(network);
                let subnets = self.ask(actor, "subnets", &format!("network_id={id}")).await?;
                let owners = query("device_owner", INTERFACES);
                let asked = format!("network_id={id}&{owners}");
                let interfaces = self.ask(actor, "ports", &asked).await?;
                let list = interfaces.as_array().map(Vec::as_slice).unwrap_or_default();
                let ids: BTreeSet<&str> =
                    list.iter().filter_map(|p| p["device_id"].as_str()).collect();
                let routers = match ids.is_empty() {
                    true => json!([]),
                    false => self.ask(actor, "routers", &query("id", ids)).await?,
                };
                let outside = routers.as_array().into_iter().flatten();
                let outside =
                    outside.filter_map(|r| r["external_gateway_info"]["network_id"].as_str());
                let ids: BTreeSet<&str> = std::iter::once(network).chain(outside).collect();
                let networks = self.ask(actor, "networks", &query("id", ids)).await?;
                Ok(json!({"subnets": subnets, "interfaces": interfaces, "routers": routers,
                          "networks": networks}))
            })
            .await?;
        Ok(Exit::of(&facts, project, network))
    }

    /// Has the ways out of these networks be asked for anew: somebody was refused because of them,
    /// and may be mending it.
    pub async fn forget_exits(&self, networks: &BTreeSet<String>) -> Result<(), CloudError> {
        let project = &self.keystone().service().await?.project_id;
        for network in networks {
            self.inner.lookups.invalidate(&(project.clone(), "exit", network.clone())).await;
        }
        Ok(())
    }

    /// A list of Neutron's.
    async fn ask(&self, actor: &Actor, kind: &str, query: &str) -> Result<Value, CloudError> {
        let url = self.neutron_url(actor, &format!("{kind}?{query}")).await?;
        let body = self.get(Service::Neutron, url, actor, kind).await?;
        // Nobody is let in by what was not understood.
        call::list(Service::Neutron, body, kind)
    }
}

fn query<'v>(key: &str, values: impl IntoIterator<Item = &'v str>) -> String {
    let pairs = values.into_iter().map(|value| format!("{key}={}", encode(value)));
    pairs.collect::<Vec<_>>().join("&")
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map(Vec::as_slice).unwrap_or_default()
}

fn addresses(list: &Value, key: &str) -> Vec<IpAddr> {
    let all = list.as_array().into_iter().flatten();
    all.filter_map(|one| one[key].as_str()?.parse().ok()).collect()
}

/// Filters that a service does not know it may pass over: what it answers is looked at again.
fn own_ports(ports: &Value, project: &str, server: &str) -> Vec<Value> {
    let own = |p: &&Value| p["device_id"] == server && p["project_id"] == project;
    list(ports).iter().filter(own).cloned().collect()
}

fn networks(ports: &[Value]) -> BTreeSet<String> {
    ports.iter().filter_map(|p| p["network_id"].as_str().map(str::to_owned)).collect()
}

/// How packets leave a network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exit {
    pub network: String,
    /// Whether a router puts its own address in the place of every IPv4 address.
    pub hides: bool,
    /// Addresses of such routers, with machines of the project alone behind them.
    pub routers: Vec<IpAddr>,
    /// The same with machines of others.
    pub crowded: Vec<IpAddr>,
}

impl Exit {
    /// What Neutron says of a network amounts to, for servers of `project`.
    fn of(facts: &Value, project: &str, network: &str) -> Self {
        let net = |id: &Value| list(&facts["networks"]).iter().find(|n| n["id"] == *id);
        let own = net(&json!(network));
        // On a network of others' or for others, others may choose the same router.
        let is_private = own.is_some_and(|n| n["project_id"] == project && n["shared"] == false);
        let gateways = addresses(&facts["subnets"], "gateway_ip");
        let mut exit = Self {
            network: network.to_owned(),
            hides: false,
            routers: Vec::new(),
            crowded: Vec::new(),
        };
        let (mut translate, mut pass) = (false, false);
        for interface in list(&facts["interfaces"]) {
            if interface["network_id"] != network {
                continue;
            }
            let router = list(&facts["routers"]).iter().find(|r| r["id"] == interface["device_id"]);
            let is_own = router.is_some_and(|r| r["project_id"] == project);
            let leads = addresses(&interface["fixed_ips"], "ip_address");
            // Whoever may use a shared network may plug a router of his into it.
            if !is_own && !leads.iter().any(|address| gateways.contains(address)) {
                continue;
            }
            // A router of which nothing is shown: the worst is taken for true.
            let Some(router) = router else {
                translate = true;
                continue;
            };
            let outside = &router["external_gateway_info"];
            if outside.is_null() {
                pass = true;
                continue;
            }
            let scope = |n: Option<&Value>| {
                n.and_then(|n| n["ipv4_address_scope"].as_str()).map(str::to_owned)
            };
            // Within one address scope Neutron routes, whatever enable_snat says.
            let one_scope =
                scope(own).is_some_and(|s| Some(s) == scope(net(&outside["network_id"])));
            if outside["enable_snat"] == false || one_scope {
                pass = true;
                continue;
            }
            translate = true;
            let found = addresses(&outside["external_fixed_ips"], "ip_address");
            let found = found.into_iter().filter(IpAddr::is_ipv4);
            match is_own && is_private {
                true => exit.routers.extend(found),
                false => exit.crowded.extend(found),
            }
        }
        exit.hides = translate && !pass;
        exit
    }
}

fn assemble(ports: &[Value], floating: &Value, exits: &[Exit]) -> Reach {
    let mut reach = Reach::default();
    for port in ports {
        let hides = exits.iter().any(|e| port["network_id"] == e.network.as_str() && e.hides);
        for address in addresses(&port["fixed_ips"], "ip_address") {
            // Neutron translates no IPv6.
            match hides && address.is_ipv4() {
                true => reach.hidden.push(address),
                false => reach.fixed.push(address),
            }
        }
    }
    let on_own = |f: &&Value| {
        ports.iter().any(|p| p["id"] == f["port_id"] && p["project_id"] == f["project_id"])
    };
    let own = list(floating).iter().filter(on_own);
    reach.floating = own.filter_map(|f| f["floating_ip_address"].as_str()?.parse().ok()).collect();
    reach.routers = exits.iter().flat_map(|e| e.routers.iter().copied()).collect();
    reach.crowded = exits.iter().flat_map(|e| e.crowded.iter().copied()).collect();
    reach
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ips(list: &[&str]) -> Vec<IpAddr> {
        list.iter().map(|a| a.parse().unwrap()).collect()
    }

    /// A private network `n` with a router `r` that translates, as clusters make them.
    fn facts() -> Value {
        json!({
            "subnets": [{"gateway_ip": "10.0.0.1"}, {"gateway_ip": null}],
            "interfaces": [{"device_id": "r", "network_id": "n",
                            "fixed_ips": [{"ip_address": "10.0.0.1"}]}],
            "routers": [{"id": "r", "project_id": "p", "external_gateway_info": {
                "network_id": "x", "enable_snat": true, "external_fixed_ips": [
                    {"ip_address": "203.0.113.2"}, {"ip_address": "2001:db8::2"}]}}],
            "networks": [{"id": "n", "project_id": "p", "shared": false,
                          "ipv4_address_scope": null},
                         {"id": "x", "project_id": "admin", "shared": false,
                          "ipv4_address_scope": null}],
        })
    }

    fn exit(change: impl FnOnce(&mut Value)) -> (bool, Vec<IpAddr>, Vec<IpAddr>) {
        let mut facts = facts();
        change(&mut facts);
        let Exit { hides, routers, crowded, .. } = Exit::of(&facts, "p", "n");
        (hides, routers, crowded)
    }

    #[test]
    fn how_packets_leave_a_network() {
        let router = ips(&["203.0.113.2"]);
        let (none, private) = (Vec::new(), (true, router.clone(), Vec::new()));
        assert_eq!(exit(|_| {}), private, "IPv6 is not translated");
        let crowded = (true, none.clone(), router);
        assert_eq!(exit(|f| f["networks"][0]["shared"] = json!(true)), crowded);
        assert_eq!(exit(|f| f["networks"][0]["project_id"] = json!("q")), crowded);
        assert_eq!(exit(|f| f["routers"][0]["project_id"] = json!("q")), crowded);
        assert_eq!(exit(|f| f["networks"] = json!([])), crowded, "nothing is known of it");
        let passes = (false, none.clone(), none.clone());
        let gateway = |f: &mut Value| f["routers"][0]["external_gateway_info"].take();
        assert_eq!(exit(|f| drop(gateway(f))), passes);
        let snat = |f: &mut Value| {
            f["routers"][0]["external_gateway_info"]["enable_snat"] = json!(false);
        };
        assert_eq!(exit(snat), passes);
        let scopes = |inside: &'static str| {
            move |f: &mut Value| {
                f["networks"][0]["ipv4_address_scope"] = json!(inside);
                f["networks"][1]["ipv4_address_scope"] = json!("s");
            }
        };
        assert_eq!(exit(scopes("s")), passes);
        assert_eq!(exit(scopes("t")), private);
        assert_eq!(exit(|f| f["interfaces"] = json!([])), passes, "a provider network");
        assert_eq!(exit(|f| f["routers"] = json!([])), (true, none.clone(), none.clone()));
        // A tenant's own router on a shared network does not lead anybody else out.
        let stranger = |f: &mut Value| {
            f["routers"][0]["project_id"] = json!("q");
            f["interfaces"][0]["fixed_ips"][0]["ip_address"] = json!("10.0.0.66");
        };
        assert_eq!(exit(stranger), passes);
        let second = |f: &mut Value| {
            f["interfaces"][0]["fixed_ips"][0]["ip_address"] = json!("10.0.0.66");
        };
        assert_eq!(exit(second), private, "one of the project's own that is not the gateway");
    }

    #[test]
    fn what_a_server_has_and_what_was_put_on_it() {
        let port = |id: &str, project: &str, device: &str, address: &str| {
            json!({"id": id, "project_id": project, "device_id": device, "network_id": "n",
                   "fixed_ips": [{"ip_address": address}]})
        };
        let ports = json!([
            port("a", "p", "s", "10.0.0.5"),
            port("b", "p", "s", "2001:db8::5"),
            // Somebody else's, with the server's id on it.
            port("c", "q", "s", "198.51.100.7"),
            port("d", "p", "t", "10.0.0.6"),
        ]);
        let own = own_ports(&ports, "p", "s");
        assert_eq!(own.len(), 2);
        let floating = json!([
            {"port_id": "a", "project_id": "p", "floating_ip_address": "203.0.113.9"},
            {"port_id": "a", "project_id": "q", "floating_ip_address": "203.0.113.10"},
            {"port_id": "d", "project_id": "p", "floating_ip_address": "203.0.113.11"},
            {"port_id": null, "project_id": "p", "floating_ip_address": "203.0.113.12"},
        ]);
        let exits = [Exit::of(&facts(), "p", "n")];
        let reach = assemble(&own, &floating, &exits);
        assert_eq!(reach.hidden, ips(&["10.0.0.5"]));
        assert_eq!(reach.fixed, ips(&["2001:db8::5"]));
        assert_eq!(reach.floating, ips(&["203.0.113.9"]));
        assert_eq!(reach.routers, ips(&["203.0.113.2"]));
        assert_eq!(assemble(&own, &floating, &[]).fixed.len(), 2);
        assert_eq!(networks(&own).len(), 1);
    }
}
