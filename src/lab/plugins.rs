//! What each of Heat's plugins makes of its properties, and reads back as attributes.

use serde_json::{Map, Value, json};

use super::compute::{Keypair, ServerGroup};
use super::heat::services::Refused;
use super::launch::{Interface, NewServer};
use super::network::{Network, not_found};
use super::refusal::Answer;
use super::server_view::{Version, addresses, server_view};
use super::services::{picked, set, texts};
use super::world::{Caller, State, World};
use crate::base::clock::Timestamp;

/// The id of a thing that a property names by id or name.
fn find(net: &Network, caller: &Caller, kind: &str, wanted: &str) -> Answer<String> {
    let usable = |id: &String| {
        net.owner(kind, id).is_some_and(|project| caller.sees(project))
            || net.nets.get(id).is_some_and(|n| n.shared || n.external)
            || net
                .subnets
                .get(id)
                .and_then(|s| net.nets.get(&s.network_id))
                .is_some_and(|n| n.shared)
    };
    let ids: Vec<String> = net.ids(kind).into_iter().filter(usable).collect();
    if let Some(id) = ids.iter().find(|id| *id == wanted) {
        return Ok(id.clone());
    }
    let name =
        |id: &String| super::neutron::view(net, kind, id).is_some_and(|v| v["name"] == wanted);
    let named: Vec<String> = ids.into_iter().filter(name).collect();
    let one = kind.trim_end_matches('s').replace('-', "_");
    match named.as_slice() {
        [id] => Ok(id.clone()),
        [] => Err(Refused::missing(format!("Unable to find {one} with name or id '{wanted}'"))),
        _ => {
            let message = format!(
                "Multiple {one}s matches found for name '{wanted}', use an ID to be more specific."
            );
            Err(Refused::conflict(message))
        }
    }
}

pub(super) fn router_of(properties: &Value) -> &str {
    set(properties, &["router", "router_id"]).unwrap_or_default()
}

pub(super) fn create(
    world: &World,
    caller: &Caller,
    kind: &str,
    collection: &str,
    name: &str,
    properties: &Value,
    build_fault: Option<String>,
) -> Answer<String> {
    if kind == "OS::Nova::Server" {
        let server = server(world, caller, name, properties, build_fault)?;
        return world.launch(caller, server);
    }
    let entropy = &world.entropy;
    let mut guard = world.lock();
    let state = &mut *guard;
    let net = &mut state.network;
    match kind {
        "OS::Neutron::RouterInterface" => {
            let router = find(net, caller, "routers", router_of(properties))?;
            let subnet = set(properties, &["subnet", "subnet_id"]).unwrap_or_default();
            let subnet = find(net, caller, "subnets", subnet)?;
            net.attach(entropy, caller, &router, &subnet)?;
            Ok(format!("{router}:subnet_id={subnet}"))
        }
        "OS::Neutron::FloatingIPAssociation" => {
            let floating = set(properties, &["floatingip_id"]).unwrap_or_default();
            let port = set(properties, &["port_id"]).unwrap_or_default();
            net.associate(floating, Some(port))?;
            Ok(format!("{floating}:{port}"))
        }
        "OS::Neutron::SecurityGroupRule" => {
            let mut rule = properties.clone();
            let group = set(properties, &["security_group"]).unwrap_or_default();
            rule["security_group_id"] = json!(find(net, caller, "security-groups", group)?);
            if let Some(remote) = set(properties, &["remote_group"]) {
                rule["remote_group_id"] = json!(find(net, caller, "security-groups", remote)?);
            }
            Ok(net.create_rule(entropy, &rule)?["id"].as_str().unwrap_or_default().to_owned())
        }
        "OS::Nova::ServerGroup" => {
            let group = ServerGroup {
                id: entropy.uuid().to_string(),
                name: name.to_owned(),
                project_id: caller.project_id.clone(),
                policy: properties["policies"][0].as_str().unwrap_or("anti-affinity").to_owned(),
            };
            let id = group.id.clone();
            state.compute.groups.insert(id.clone(), group);
            Ok(id)
        }
        "OS::Nova::KeyPair" => {
            if state.compute.keypair(&caller.user_id, name).is_some() {
                return Err(Refused::conflict(format!("Key pair '{name}' already exists.")));
            }
            state.compute.keypairs.push(Keypair {
                user_id: caller.user_id.clone(),
                name: name.to_owned(),
                public_key: set(properties, &["public_key"]).unwrap_or_default().to_owned(),
                fingerprint: "6c:61:62:6c:61:62:6c:61:62:6c:61:62:6c:61:62:6c".to_owned(),
            });
            Ok(name.to_owned())
        }
        _ => {
            let body = body(net, caller, kind, name, properties)?;
            let id = net.create(entropy, caller, collection, &body)?;
            if kind == "OS::Neutron::SecurityGroup" {
                set_rules(world, net, &id, &properties["rules"])?;
            }
            Ok(id)
        }
    }
}

/// The body that a plugin of Neutron sends.
fn body(
    net: &Network,
    caller: &Caller,
    kind: &str,
    name: &str,
    properties: &Value,
) -> Answer<Value> {
    let network =
        |keys: &[&str]| find(net, caller, "networks", set(properties, keys).unwrap_or_default());
    let mut body = match kind {
        "OS::Neutron::Net" => picked(properties, &["shared"]),
        "OS::Neutron::Subnet" => {
            let mut body =
                picked(properties, &["cidr", "allocation_pools", "dns_nameservers", "enable_dhcp"]);
            body["network_id"] = json!(network(&["network", "network_id"])?);
            // Heat says "no gateway" with an empty text; null means that nothing was said.
            if let Some(gateway) = properties["gateway_ip"].as_str() {
                body["gateway_ip"] = json!(gateway);
            }
            body
        }
        "OS::Neutron::Router" => {
            let gateway = &properties["external_gateway_info"];
            match set(gateway, &["network"]) {
                Some(wanted) => {
                    let id = find(net, caller, "networks", wanted)?;
                    json!({"external_gateway_info": {"network_id": id}})
                }
                None => json!({}),
            }
        }
        "OS::Neutron::Port" => {
            let mut body =
                picked(properties, &["allowed_address_pairs", "device_id", "device_owner"]);
            body["network_id"] = json!(network(&["network", "network_id"])?);
            let mut fixed = Vec::new();
            for wish in properties["fixed_ips"].as_array().into_iter().flatten() {
                let mut address = picked(wish, &["ip_address"]);
                if let Some(subnet) = set(wish, &["subnet", "subnet_id"]) {
                    address["subnet_id"] = json!(find(net, caller, "subnets", subnet)?);
                }
                fixed.push(address);
            }
            body["fixed_ips"] = json!(fixed);
            if let Some(wishes) = texts(&properties["security_groups"]) {
                let ids = wishes.iter().map(|wish| find(net, caller, "security-groups", wish));
                body["security_groups"] = json!(ids.collect::<Answer<Vec<_>>>()?);
            }
            body
        }
        "OS::Neutron::FloatingIP" => {
            let mut body = picked(properties, &["port_id", "floating_ip_address"]);
            let id = network(&["floating_network", "floating_network_id"])?;
            body["floating_network_id"] = json!(id);
            body
        }
        _ => picked(properties, &["description"]),
    };
    body["name"] = json!(name);
    Ok(body)
}

/// Gives a group the rules that its properties list, beside the two it is born with.
fn set_rules(world: &World, net: &mut Network, id: &str, rules: &Value) -> Answer<()> {
    for rule in rules.as_array().into_iter().flatten() {
        let mut rule = rule.clone();
        rule["security_group_id"] = json!(id);
        // Without a remote group the mode means the group itself.
        let own =
            rule["remote_mode"] == "remote_group_id" && set(&rule, &["remote_group_id"]).is_none();
        if own {
            rule["remote_group_id"] = json!(id);
        }
        // Heat, too, takes a rule that is already there for made.
        match net.create_rule(&world.entropy, &rule) {
            Err(no) if no.status != 409 => return Err(no),
            _ => {}
        }
    }
    Ok(())
}

fn server(
    world: &World,
    caller: &Caller,
    name: &str,
    properties: &Value,
    fault: Option<String>,
) -> Answer<NewServer> {
    let state = world.lock();
    let image = match set(properties, &["image"]) {
        None => None,
        Some(wanted) => Some(image(&state, wanted)?),
    };
    let mut networks = Vec::new();
    for wish in properties["networks"].as_array().into_iter().flatten() {
        let mut interface = Interface {
            port: set(wish, &["port"]).map(str::to_owned),
            fixed_ip: set(wish, &["fixed_ip"]).map(str::to_owned),
            pairs: wish["port_extra_properties"]["allowed_address_pairs"].clone(),
            ..Interface::default()
        };
        if let Some(subnet) = set(wish, &["subnet"]) {
            let subnet = find(&state.network, caller, "subnets", subnet)?;
            interface.network = Some(state.network.subnets[&subnet].network_id.clone());
            interface.subnet = Some(subnet);
        }
        if let Some(network) = set(wish, &["network", "uuid"]) {
            interface.network = Some(find(&state.network, caller, "networks", network)?);
        }
        networks.push(interface);
    }
    let text = |key: &str| set(properties, &[key]).unwrap_or_default().to_owned();
    let plain = text("user_data");
    let user_data = match properties["user_data_format"].as_str() {
        Some("RAW" | "SOFTWARE_CONFIG") => plain,
        // What Heat's own tools would read: not for guests of the lab.
        _ => format!(
            "Content-Type: multipart/mixed; boundary=\"===\"\n\n--===\n\n{plain}\n--===--\n"
        ),
    };
    let flag = &properties["config_drive"];
    Ok(NewServer {
        name: name.to_owned(),
        image,
        flavor: text("flavor"),
        keypair: set(properties, &["key_name"]).map(str::to_owned),
        user_data,
        config_drive: flag
            .as_bool()
            .unwrap_or_else(|| flag.as_str().is_some_and(|t| t.eq_ignore_ascii_case("true"))),
        metadata: properties["metadata"].clone(),
        group: set(&properties["scheduler_hints"], &["group"]).map(str::to_owned),
        networks,
        security_groups: texts(&properties["security_groups"]).filter(|list| !list.is_empty()),
        fault,
    })
}

fn image(state: &State, wanted: &str) -> Answer<String> {
    let by_id = state.images.iter().find(|i| i.id == wanted);
    let found = by_id.or_else(|| state.images.iter().find(|i| i.name == wanted));
    let missing = || Refused::missing(format!("The Image ({wanted}) could not be found."));
    Ok(found.ok_or_else(missing)?.id.clone())
}

pub(super) fn is_there(state: &State, kind: &str, collection: &str, id: &str) -> bool {
    let net = &state.network;
    let (first, second) = id.split_once(':').unwrap_or((id, ""));
    match kind {
        "OS::Neutron::RouterInterface" => {
            let subnet = second.trim_start_matches("subnet_id=");
            net.ports
                .values()
                .any(|p| p.device_id == first && p.fixed.iter().any(|(on, _)| on == subnet))
        }
        "OS::Neutron::FloatingIPAssociation" => {
            let floating = net.floating.get(first);
            floating.and_then(|f| f.port.as_ref()).is_some_and(|(port, _)| port == second)
        }
        "OS::Neutron::SecurityGroupRule" => {
            net.groups.values().any(|g| g.rules.iter().any(|r| r["id"] == id))
        }
        "OS::Nova::ServerGroup" => state.compute.groups.contains_key(id),
        "OS::Nova::KeyPair" => state.compute.keypairs.iter().any(|k| k.name == id),
        _ => net.owner(collection, id).is_some(),
    }
}

pub(super) fn delete(world: &World, kind: &str, collection: &str, id: &str) -> Answer<()> {
    if kind == "OS::Nova::Server" {
        return world.demolish(id);
    }
    let mut state = world.lock();
    if !is_there(&state, kind, collection, id) {
        return Err(not_found(collection, id));
    }
    let (first, second) = id.split_once(':').unwrap_or((id, ""));
    match kind {
        "OS::Neutron::RouterInterface" => {
            state.network.detach(first, second.trim_start_matches("subnet_id="))
        }
        "OS::Neutron::FloatingIPAssociation" => state.network.associate(first, None),
        "OS::Neutron::SecurityGroupRule" => {
            for group in state.network.groups.values_mut() {
                group.rules.retain(|r| r["id"] != id);
            }
            Ok(())
        }
        "OS::Nova::ServerGroup" => {
            state.compute.groups.remove(id);
            Ok(())
        }
        "OS::Nova::KeyPair" => {
            state.compute.keypairs.retain(|k| k.name != id);
            Ok(())
        }
        _ => state.network.delete(collection, id),
    }
}

/// What an update in place is about.
pub(super) struct Update<'u> {
    pub kind: &'u str,
    pub collection: &'u str,
    pub id: &'u str,
    /// All of the new ones, and the names of those that differ.
    pub properties: &'u Value,
    pub changed: &'u [String],
    /// A fault told beforehand that Nova gives up a resize.
    pub fault: Option<String>,
}

pub(super) fn update(world: &World, caller: &Caller, update: Update<'_>) -> Answer<()> {
    let Update { kind, collection, id, properties, changed, fault } = update;
    let mut guard = world.lock();
    let state = &mut *guard;
    if kind != "OS::Nova::Server" && !is_there(state, kind, collection, id) {
        return Err(not_found(collection, id));
    }
    let changed = |name: &str| changed.iter().any(|c| c == name);
    let name = set(properties, &["name"]).filter(|_| changed("name")).map(str::to_owned);
    match kind {
        "OS::Nova::Server" => {
            if let Some(server) = state.compute.servers.get_mut(id) {
                server.unresized = false;
            }
            // Heat's default policies for a new flavor and a new image; nobody here asks for others.
            // It resizes and confirms first.
            if let Some(wanted) = set(properties, &["flavor"]).filter(|_| changed("flavor")) {
                world.resize(state, id, wanted, fault, changed("image"))?;
                let server = state.compute.servers.get_mut(id);
                if let Some(server) = server.filter(|_| changed("image")) {
                    if server.resize.as_ref().is_some_and(|resize| resize.fault.is_some()) {
                        // It never comes to rebuild.
                        return Ok(());
                    }
                    // What starts in between would find its disk gone a moment later.
                    server.pass(Timestamp::from_micros(i64::MAX));
                }
            }
            if let Some(wanted) = set(properties, &["image"]).filter(|_| changed("image")) {
                let image = image(state, wanted)?;
                world.rebuild(state, id, &image)?;
            }
            let server = state.compute.servers.get_mut(id);
            let server = server.ok_or_else(|| super::launch::no_instance(id))?;
            if changed("metadata") {
                server.metadata = properties["metadata"].clone();
            }
            server.name = name.unwrap_or_else(|| server.name.clone());
        }
        "OS::Neutron::FloatingIP" if changed("port_id") => {
            state.network.associate(id, set(properties, &["port_id"]))?;
        }
        "OS::Neutron::SecurityGroup" if changed("rules") => {
            let net = &mut state.network;
            net.groups.get_mut(id).expect("is there").rules.truncate(2);
            set_rules(world, net, id, &properties["rules"])?;
        }
        "OS::Neutron::Subnet" if changed("dns_nameservers") => {
            let servers = texts(&properties["dns_nameservers"]).unwrap_or_default();
            state.network.subnets.get_mut(id).expect("is there").dns = servers;
        }
        "OS::Neutron::Port" => {
            let net = &mut state.network;
            let asked = body(net, caller, kind, "", properties)?;
            let port = net.ports.get_mut(id).expect("is there");
            if let Some(groups) = texts(&asked["security_groups"]) {
                port.groups = groups;
            }
            port.pairs = properties["allowed_address_pairs"].clone();
            port.name = name.unwrap_or_else(|| port.name.clone());
        }
        _ => {}
    }
    Ok(())
}

pub(super) fn attribute(
    world: &World,
    kind: &str,
    collection: &str,
    id: &str,
    name: &str,
) -> Option<Value> {
    let now = world.clock.now();
    let state = world.lock();
    if kind == "OS::Nova::Server" {
        let server = state.compute.servers.get(id)?;
        let caller = Caller {
            user_id: server.user_id.clone(),
            project_id: server.project_id.clone(),
            roles: Vec::new(),
        };
        let view = server_view(&state, server, now, &caller, "", Version::NEWEST);
        return Some(match name {
            "addresses" => detailed(&state.network, id),
            "networks" => by_network(&state.network, id),
            "first_address" => {
                let all = addresses(&state.network, id);
                let first = all.values().next().map_or("", |l| l[0]["addr"].as_str().unwrap_or(""));
                json!(first)
            }
            "instance_name" => json!("instance-00000001"),
            "show" => view,
            name => view.get(name)?.clone(),
        });
    }
    if kind == "OS::Nova::KeyPair" {
        let found = state.compute.keypairs.iter().find(|k| k.name == id)?;
        return match name {
            "public_key" => Some(json!(found.public_key)),
            "private_key" => Some(json!("")),
            _ => None,
        };
    }
    let view = super::neutron::view(&state.network, collection, id)?;
    match name {
        "show" => Some(view),
        // Heat shows whole subnets and networks here, not their ids alone.
        "subnets" => {
            let ids: Vec<&str> = match kind {
                "OS::Neutron::Port" => {
                    let fixed = view["fixed_ips"].as_array()?;
                    fixed.iter().filter_map(|f| f["subnet_id"].as_str()).collect()
                }
                _ => return view.get("subnets").cloned(),
            };
            let shown = |id: &&str| super::neutron::view(&state.network, "subnets", id);
            Some(ids.iter().filter_map(shown).collect())
        }
        name => view.get(name).cloned(),
    }
}

/// Heat's `networks`: plain addresses under the network's name and under its id.
fn by_network(net: &Network, server: &str) -> Value {
    let mut found: Map<String, Value> = Map::new();
    for (name, list) in addresses(net, server) {
        let plain: Value =
            list.as_array().into_iter().flatten().map(|a| a["addr"].clone()).collect();
        if let Some(id) = net.nets.values().find(|n| n.name == name).map(|n| n.id.clone()) {
            found.insert(id, plain.clone());
        }
        found.insert(name, plain);
    }
    Value::Object(found)
}

/// Heat's `addresses`: Nova's, each with the port it is on.
fn detailed(net: &Network, server: &str) -> Value {
    let mut all = addresses(net, server);
    for list in all.values_mut() {
        for entry in list.as_array_mut().into_iter().flatten() {
            let mac = entry["OS-EXT-IPS-MAC:mac_addr"].as_str().unwrap_or_default();
            let port = net.ports.values().find(|p| p.mac == mac).map(|p| p.id.clone());
            entry["port"] = json!(port);
        }
    }
    Value::Object(all)
}

/// Heat's constraints, with the sentence of each client library.
pub(super) fn exists(
    world: &World,
    caller: &Caller,
    constraint: &str,
    value: &str,
) -> Result<(), String> {
    let state = world.lock();
    let found = |yes: bool, what: &str| match yes {
        true => Ok(()),
        false => Err(format!("The {what} ({value}) could not be found.")),
    };
    let collection = match constraint {
        "nova.flavor" => return found(state.compute.flavor(value).is_some(), "Flavor"),
        "nova.keypair" => {
            return found(state.compute.keypair(&caller.user_id, value).is_some(), "Key");
        }
        "nova.server" => return found(state.compute.servers.contains_key(value), "Server"),
        "glance.image" => return found(image(&state, value).is_ok(), "Image"),
        "neutron.network" => "networks",
        "neutron.subnet" => "subnets",
        "neutron.port" => "ports",
        "neutron.router" => "routers",
        "neutron.security_group" => "security-groups",
        "neutron.floatingip" | "neutron.floating_ip" => "floatingips",
        _ => return Ok(()),
    };
    find(&state.network, caller, collection, value).map(|_| ()).map_err(|no| no.message)
}
