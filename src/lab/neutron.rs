//! Neutron's interface: six collections with filters, and what may be done to them.

use std::net::Ipv4Addr;

use serde_json::{Value, json};

use super::heat::services::Refused;
use super::network::{KINDS, Network, not_found};
use super::refusal::Answer;
use super::wire::{Ask, Reply};
use super::world::{Caller, World};

/// The body of every refusal.
pub(super) fn refuse(refused: &Refused) -> Reply {
    let body = match refused.status {
        401 => json!({"error": {"code": 401, "message": refused.message, "title": "Unauthorized"}}),
        _ => json!({"NeutronError": {
            "type": refused.kind, "message": refused.message, "detail": "",
        }}),
    };
    Reply::json(refused.status, &body)
}

/// The document at the root, which needs no token.
pub(super) fn versions(base: &str) -> Reply {
    Reply::json(
        200,
        &json!({"versions": [{
            "id": "v2.0",
            "status": "CURRENT",
            "links": [{"rel": "self", "href": format!("{base}/v2.0/")}],
        }]}),
    )
}

const EXTENSIONS: &[(&str, &str)] = &[
    ("external-net", "Neutron external network"),
    ("router", "Neutron L3 Router"),
    ("security-group", "security-group"),
    ("quotas", "Quota management support"),
    ("allowed-address-pairs", "Allowed Address Pairs"),
];

fn singular(kind: &str) -> String {
    kind.trim_end_matches('s').replace('-', "_")
}

pub(super) fn answer(world: &World, caller: &Caller, ask: &Ask) -> Answer<Reply> {
    let path = ask.path();
    let path: Vec<&str> = path.iter().map(|part| part.trim_end_matches(".json")).collect();
    let path = path.get(1..).unwrap_or_default();
    let mut guard = world.lock();
    let net = &mut guard.network;
    let entropy = &world.entropy;
    match (ask.method.as_str(), path) {
        ("GET", []) => {
            let resources = KINDS.iter().map(|(kind, _)| {
                json!({"name": singular(kind), "collection": kind.replace('-', "_"),
                       "links": [{"rel": "self", "href": format!("{}/v2.0/{kind}", ask.base)}]})
            });
            Ok(Reply::json(200, &json!({"resources": resources.collect::<Vec<_>>()})))
        }
        ("GET", ["extensions", rest @ ..]) => {
            let view = |(alias, name): &(&str, &str)| {
                json!({"alias": alias, "name": name, "description": name, "links": [],
                       "updated": "2013-01-20T00:00:00-00:00"})
            };
            match rest.first() {
                None => {
                    let all: Vec<Value> = EXTENSIONS.iter().map(view).collect();
                    Ok(Reply::json(200, &json!({"extensions": all})))
                }
                Some(alias) => {
                    let found = EXTENSIONS.iter().find(|(a, _)| a == alias).map(view);
                    let found = found.ok_or_else(|| {
                        let message = format!("Extension with alias {alias} does not exist");
                        Refused::new(404, "HTTPNotFound", message)
                    })?;
                    Ok(Reply::json(200, &json!({"extension": found})))
                }
            }
        }
        ("GET", ["network-ip-availabilities"]) => {
            let all = net.nets.values().filter(|n| caller.sees(&n.project_id));
            let wanted = ask.query("network_id");
            let all = all.filter(|n| wanted.is_none_or(|id| id == n.id));
            let views: Vec<Value> = all.map(|n| availability(net, &n.id, &n.name)).collect();
            Ok(Reply::json(200, &json!({ "network_ip_availabilities": views })))
        }
        ("GET", ["quotas", project, rest @ ..]) => {
            if !caller.sees(project) {
                return Err(Refused::new(
                    403,
                    "PolicyNotAuthorized",
                    "rule:get_quota is disallowed by policy",
                ));
            }
            let limits = KINDS.iter().map(|(kind, usual)| {
                let key = ((*project).to_owned(), (*kind).to_owned());
                let limit = net.quotas.get(&key).copied().unwrap_or(*usual);
                let owned = |id: &String| net.owner(kind, id) == Some(*project);
                let used = net.ids(kind).iter().filter(|id| owned(id)).count();
                let shown = match rest.first() {
                    Some(_) => json!({"limit": limit, "used": used, "reserved": 0}),
                    None => json!(limit),
                };
                (singular(kind), shown)
            });
            Ok(Reply::json(200, &json!({"quota": limits.collect::<serde_json::Map<_, _>>()})))
        }
        ("GET", [kind]) => list(net, caller, ask, known(kind)?),
        ("GET", [kind, id]) => {
            let kind = known(kind)?;
            let view = seen(net, caller, kind, id)?;
            Ok(Reply::json(200, &json!({ (singular(kind)): view })))
        }
        _ if !caller.may_write() => {
            Err(Refused::new(403, "PolicyNotAuthorized", "The request is disallowed by policy"))
        }
        ("POST", ["security-group-rules"]) => {
            let body = ask.body()?;
            let group = body["security_group_rule"]["security_group_id"].as_str();
            seen(net, caller, "security-groups", group.unwrap_or_default())?;
            let rule = net.create_rule(entropy, &body["security_group_rule"])?;
            Ok(Reply::json(201, &json!({"security_group_rule": rule})))
        }
        ("POST", [kind]) => {
            let kind = known(kind)?;
            let id = net.create(entropy, caller, kind, &ask.body()?[singular(kind)])?;
            let view = view(net, kind, &id).expect("just made");
            Ok(Reply::json(201, &json!({ (singular(kind)): view })))
        }
        ("PUT", ["routers", id, verb @ ("add_router_interface" | "remove_router_interface")]) => {
            seen(net, caller, "routers", id)?;
            let body = ask.body()?;
            let subnet = body["subnet_id"].as_str().ok_or_else(|| {
                Refused::bad(
                    "Either subnet_id or port_id must be specified; the lab wants subnet_id",
                )
            })?;
            let mut answer = json!({"id": id, "subnet_id": subnet});
            if *verb == "add_router_interface" {
                answer["port_id"] = json!(net.attach(entropy, caller, id, subnet)?);
            } else {
                net.detach(id, subnet)?;
            }
            Ok(Reply::json(200, &answer))
        }
        ("PUT", ["floatingips", id]) => {
            seen(net, caller, "floatingips", id)?;
            let port = ask.body()?["floatingip"]["port_id"].as_str().map(str::to_owned);
            net.associate(id, port.as_deref())?;
            let view = view(net, "floatingips", id).expect("looked up above");
            Ok(Reply::json(200, &json!({"floatingip": view})))
        }
        ("DELETE", [kind, id]) => {
            let kind = known(kind)?;
            seen(net, caller, kind, id)?;
            // What is shared may be seen but not taken away.
            if net.owner(kind, id).is_none_or(|project| !caller.sees(project)) {
                return Err(not_found(kind, id));
            }
            net.delete(kind, id)?;
            Ok(Reply::empty(204))
        }
        _ => Err(Refused::new(404, "HTTPNotFound", "The resource could not be found.")),
    }
}

/// How many addresses a network has and how many are taken.
fn availability(net: &Network, id: &str, name: &str) -> Value {
    let subnets = net.subnets.values().filter(|s| s.network_id == id);
    let pools = subnets.flat_map(|s| s.pools.iter());
    let total: u32 = pools.map(|(first, last)| u32::from(*last) - u32::from(*first) + 1).sum();
    let ports = net.ports.values().filter(|p| p.network_id == id).count();
    let gateways = net.routers.values().filter_map(|r| r.gateway.as_ref());
    let gateways = gateways.filter(|(network, _)| network == id).count();
    let floating = net.floating.values().filter(|f| f.network_id == id).count();
    json!({"network_id": id, "network_name": name, "total_ips": total,
           "used_ips": ports + gateways + floating, "subnet_ip_availability": []})
}

fn known(kind: &str) -> Answer<&'static str> {
    let found = KINDS.iter().find(|(name, _)| *name == kind).map(|(name, _)| *name);
    found.ok_or_else(|| Refused::new(404, "HTTPNotFound", "The resource could not be found."))
}

/// A thing the caller may see.
fn seen(net: &Network, caller: &Caller, kind: &str, id: &str) -> Answer<Value> {
    view(net, kind, id).filter(|v| visible(net, caller, kind, v)).ok_or_else(|| not_found(kind, id))
}

fn visible(net: &Network, caller: &Caller, kind: &str, view: &Value) -> bool {
    if caller.sees(view["project_id"].as_str().unwrap_or_default()) {
        return true;
    }
    match kind {
        "networks" => view["shared"] == true || view["router:external"] == true,
        "subnets" => {
            let network = view["network_id"].as_str().and_then(|id| net.nets.get(id));
            network.is_some_and(|n| n.shared)
        }
        _ => false,
    }
}

fn list(net: &Network, caller: &Caller, ask: &Ask, kind: &'static str) -> Answer<Reply> {
    let mut views: Vec<Value> = net.ids(kind).iter().filter_map(|id| view(net, kind, id)).collect();
    views.retain(|v| visible(net, caller, kind, v));
    let mut fields: Vec<&str> = Vec::new();
    let mut filters: Vec<(&str, Vec<&str>)> = Vec::new();
    for (key, value) in &ask.query {
        match key.as_str() {
            "fields" => fields.push(value),
            "limit" | "marker" | "page_reverse" | "sort_key" | "sort_dir" => {}
            key => match filters.iter_mut().find(|(k, _)| *k == key) {
                Some((_, values)) => values.push(value),
                None => filters.push((key, vec![value])),
            },
        }
    }
    views.retain(|view| filters.iter().all(|(key, wanted)| fits(view, key, wanted)));
    if let Some(marker) = ask.query("marker")
        && let Some(at) = views.iter().position(|v| v["id"] == marker)
    {
        views.drain(..=at);
    }
    if let Some(limit) = ask.query("limit").and_then(|n| n.parse().ok()) {
        views.truncate(limit);
    }
    if !fields.is_empty() {
        for map in views.iter_mut().filter_map(Value::as_object_mut) {
            map.retain(|key, _| fields.contains(&key.as_str()));
        }
    }
    Ok(Reply::json(200, &json!({ (kind.replace('-', "_")): views })))
}

/// Values of one filter are alternatives; `fixed_ips=ip_address=…` looks inside the list.
fn fits(view: &Value, key: &str, wanted: &[&str]) -> bool {
    let is = |value: &Value, wanted: &str| match value {
        Value::String(text) => text == wanted,
        Value::Bool(flag) => {
            wanted.eq_ignore_ascii_case(if *flag { "true" } else { "false" })
                || wanted == if *flag { "1" } else { "0" }
        }
        Value::Null => wanted.is_empty() || wanted == "None",
        Value::Array(list) => match wanted.split_once('=') {
            Some((inner, wanted)) => list.iter().any(|v| v[inner] == wanted),
            None => list.iter().any(|v| v == wanted),
        },
        other => serde_json::from_str(wanted).is_ok_and(|wanted: Value| *other == wanted),
    };
    view.get(key).is_none_or(|value| wanted.iter().any(|w| is(value, w)))
}

/// A thing as Neutron shows it.
pub(super) fn view(net: &Network, kind: &str, id: &str) -> Option<Value> {
    let mut view = match kind {
        "networks" => {
            let n = net.nets.get(id)?;
            let subnets = net.subnets.values().filter(|s| s.network_id == id).map(|s| &s.id);
            json!({
                "id": n.id, "name": n.name, "project_id": n.project_id,
                "router:external": n.external, "shared": n.shared, "is_default": false,
                "subnets": subnets.collect::<Vec<_>>(), "status": "ACTIVE", "admin_state_up": true,
                "mtu": 1450, "port_security_enabled": true, "availability_zones": ["nova"],
                "availability_zone_hints": [], "qos_policy_id": null,
            })
        }
        "subnets" => {
            let s = net.subnets.get(id)?;
            let pools =
                s.pools.iter().map(|(a, b)| json!({"start": a.to_string(), "end": b.to_string()}));
            json!({
                "id": s.id, "name": s.name, "project_id": s.project_id,
                "network_id": s.network_id, "cidr": s.cidr.to_string(), "ip_version": 4,
                "gateway_ip": s.gateway.map(text), "enable_dhcp": s.dhcp,
                "dns_nameservers": s.dns, "host_routes": [], "subnetpool_id": null,
                "allocation_pools": pools.collect::<Vec<_>>(), "ipv6_address_mode": null,
                "ipv6_ra_mode": null, "segment_id": null, "service_types": [],
            })
        }
        "ports" => {
            let p = net.ports.get(id)?;
            let bound = !p.device_id.is_empty();
            json!({
                "id": p.id, "name": p.name, "project_id": p.project_id,
                "network_id": p.network_id, "mac_address": p.mac,
                "fixed_ips": p.fixed.iter().map(|(subnet, address)| {
                    json!({"subnet_id": subnet, "ip_address": text(*address)})
                }).collect::<Vec<_>>(),
                "device_id": p.device_id, "device_owner": p.device_owner,
                "status": if bound { "ACTIVE" } else { "DOWN" }, "admin_state_up": true,
                "security_groups": p.groups, "allowed_address_pairs": p.pairs,
                "binding:vnic_type": "normal", "port_security_enabled": true,
                "extra_dhcp_opts": [], "qos_policy_id": null, "dns_name": "",
            })
        }
        "routers" => {
            let r = net.routers.get(id)?;
            let gateway = r.gateway.as_ref().map(|(network, address)| {
                json!({"network_id": network, "enable_snat": true,
                       "external_fixed_ips": [{"ip_address": text(*address)}]})
            });
            json!({
                "id": r.id, "name": r.name, "project_id": r.project_id, "status": "ACTIVE",
                "admin_state_up": true, "external_gateway_info": gateway, "routes": [],
                "distributed": false, "ha": false, "availability_zones": [],
                "availability_zone_hints": [],
            })
        }
        "security-groups" => {
            let g = net.groups.get(id)?;
            json!({
                "id": g.id, "name": g.name, "project_id": g.project_id,
                "description": g.description, "security_group_rules": g.rules, "stateful": true,
                "shared": false,
            })
        }
        "floatingips" => {
            let f = net.floating.get(id)?;
            json!({
                "id": f.id, "project_id": f.project_id,
                "floating_network_id": f.network_id, "floating_ip_address": text(f.address),
                "port_id": f.port.as_ref().map(|(port, _)| port),
                "fixed_ip_address": f.port.as_ref().map(|(_, fixed)| text(*fixed)),
                "router_id": f.router_id, "port_details": null, "qos_policy_id": null,
                "status": if f.port.is_some() { "ACTIVE" } else { "DOWN" },
                "dns_name": "", "dns_domain": "", "description": f.description,
            })
        }
        _ => return None,
    };
    view["tenant_id"] = view["project_id"].clone();
    for (key, value) in [
        ("description", json!("")),
        ("tags", json!([])),
        ("revision_number", json!(1)),
        ("created_at", json!("2026-01-01T00:00:00Z")),
        ("updated_at", json!("2026-01-01T00:00:00Z")),
    ] {
        if view.get(key).is_none() {
            view[key] = value;
        }
    }
    Some(view)
}

fn text(address: Ipv4Addr) -> String {
    address.to_string()
}
