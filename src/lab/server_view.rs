//! Servers and flavors as Nova shows them in each of its versions.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};

use crate::base::clock::Timestamp;

use super::compute::{Flavor, Server};
use super::heat::services::Refused;
use super::network::Network;
use super::refusal::Answer;
use super::wire::{Ask, Reply};
use super::world::{Caller, State};

/// A microversion of Nova: the number after `2.`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Version(u16);

impl Version {
    pub const NEWEST: Self = Self(96);
    /// Administrators are told why an action failed.
    pub const WITH_DETAILS: Self = Self(84);

    /// What a request asks for; without a header the oldest.
    pub fn of(ask: &Ask) -> Answer<Self> {
        let new = ask.header("openstack-api-version").and_then(|v| v.strip_prefix("compute "));
        let Some(text) = new.or(ask.header("x-openstack-nova-api-version")) else {
            return Ok(Self(1));
        };
        if text == "latest" {
            return Ok(Self::NEWEST);
        }
        let minor = text.trim().strip_prefix("2.").and_then(|minor| minor.parse().ok());
        minor.filter(|m| (1..=Self::NEWEST.0).contains(m)).map(Self).ok_or_else(|| {
            Refused::new(
                406,
                "NotAcceptable",
                format!(
                    "Version {text} is not supported by the API. Minimum is 2.1 and maximum is {}.",
                    Self::NEWEST
                ),
            )
        })
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "2.{}", self.0)
    }
}

/// A page of a list, with a link to the next.
pub(super) fn list(ask: &Ask, key: &str, mut all: Vec<Value>) -> Reply {
    let id = |v: &Value| v["id"].as_str().or(v["keypair"]["name"].as_str()).map(str::to_owned);
    if let Some(marker) = ask.query("marker")
        && let Some(at) = all.iter().position(|v| id(v).as_deref() == Some(marker))
    {
        all.drain(..=at);
    }
    let mut body = json!({});
    if let Some(limit) = ask.query("limit").and_then(|n| n.parse::<usize>().ok())
        && limit > 0
        && limit < all.len()
    {
        all.truncate(limit);
        let last = all.last().and_then(id).unwrap_or_default();
        let href = format!("{}/{}?limit={limit}&marker={last}", ask.base, ask.path.join("/"));
        body[format!("{key}_links")] = json!([{"rel": "next", "href": href}]);
    }
    body[key] = Value::Array(all);
    Reply::json(200, &body)
}

pub(super) fn flavor_view(flavor: &Flavor, base: &str, version: Version, full: bool) -> Value {
    let mut view = json!({
        "id": flavor.id,
        "name": flavor.name,
        "links": [{"rel": "self", "href": format!("{base}/v2.1/flavors/{}", flavor.id)}],
    });
    if full {
        let more = json!({
            "vcpus": flavor.vcpus, "ram": flavor.ram, "disk": flavor.disk, "swap": "",
            "rxtx_factor": 1.0, "OS-FLV-EXT-DATA:ephemeral": 0,
            "OS-FLV-DISABLED:disabled": false, "os-flavor-access:is_public": true,
        });
        merge(&mut view, more);
        if version >= Version(61) {
            view["extra_specs"] = json!({});
        }
    }
    if version >= Version(55) {
        view["description"] = Value::Null;
    }
    view
}

fn merge(view: &mut Value, more: Value) {
    if let (Value::Object(view), Value::Object(more)) = (view, more) {
        view.extend(more);
    }
}

/// Addresses by network name, fixed ones with their floating ones after them.
pub(super) fn addresses(net: &Network, server: &str) -> Map<String, Value> {
    let mut by_network: Map<String, Value> = Map::new();
    for port in net.ports.values().filter(|p| p.device_id == server) {
        let name = net.nets.get(&port.network_id).map_or_else(String::new, |n| n.name.clone());
        let floating = net.floating.values();
        let floating = floating.filter(|f| f.port.as_ref().is_some_and(|(on, _)| *on == port.id));
        let fixed = port.fixed.iter().map(|(_, address)| (address.to_string(), "fixed"));
        let floating = floating.map(|f| (f.address.to_string(), "floating"));
        let list = by_network.entry(name).or_insert_with(|| json!([]));
        if let Value::Array(list) = list {
            list.extend(fixed.chain(floating).map(|(addr, kind)| {
                json!({"version": 4, "addr": addr, "OS-EXT-IPS:type": kind,
                       "OS-EXT-IPS-MAC:mac_addr": port.mac})
            }));
        }
    }
    by_network
}

pub(super) fn server_view(
    state: &State,
    server: &Server,
    now: Timestamp,
    caller: &Caller,
    base: &str,
    version: Version,
) -> Value {
    let status = server.status(now);
    let (task, vm, power) = match status {
        _ if server.gone_at.is_some() => (json!("deleting"), "active", 1),
        "BUILD" => (json!("spawning"), "building", 0),
        "RESIZE" => (json!("resize_migrating"), "active", 1),
        "ERROR" => (Value::Null, "error", 0),
        _ => (Value::Null, "active", 1),
    };
    let date = |at: Timestamp| format!("{}Z", &at.to_string()[..19]);
    let image = match server.image_id.as_str() {
        "" => json!(""),
        id => {
            json!({"id": id, "links": [{"rel": "bookmark", "href": format!("{base}/images/{id}")}]})
        }
    };
    let flavor = &server.flavor;
    let flavor = match version >= Version(47) {
        true => json!({
            "original_name": flavor.name, "vcpus": flavor.vcpus, "ram": flavor.ram,
            "disk": flavor.disk, "ephemeral": 0, "swap": 0, "extra_specs": {},
        }),
        false => json!({"id": flavor.id, "links": [
            {"rel": "bookmark", "href": format!("{base}/flavors/{}", flavor.id)}]}),
    };
    let metadata = match &server.metadata {
        Value::Object(map) => json!(map),
        _ => json!({}),
    };
    let mut view = json!({
        "id": server.id,
        "name": server.name,
        "status": status,
        "tenant_id": server.project_id,
        "user_id": server.user_id,
        "metadata": metadata,
        "hostId": if status == "ACTIVE" { "6c6162" } else { "" },
        "image": image,
        "flavor": flavor,
        "created": date(server.created_at),
        "updated": date(server.built_at.min(now)),
        "addresses": addresses(&state.network, &server.id),
        "accessIPv4": "",
        "accessIPv6": "",
        "links": [{"rel": "self", "href": format!("{base}/v2.1/servers/{}", server.id)}],
        "OS-DCF:diskConfig": "MANUAL",
        "OS-EXT-AZ:availability_zone": "nova",
        "OS-EXT-STS:task_state": task,
        "OS-EXT-STS:vm_state": vm,
        "OS-EXT-STS:power_state": power,
        "OS-SRV-USG:launched_at": (status == "ACTIVE").then(|| date(server.built_at)),
        "OS-SRV-USG:terminated_at": null,
        "config_drive": if server.config_drive { "True" } else { "" },
        "key_name": server.keypair,
        "progress": if status == "ACTIVE" { 100 } else { 0 },
        "os-extended-volumes:volumes_attached": [],
    });
    if status != "ERROR" {
        view["security_groups"] = security_groups(&state.network, &server.id);
    }
    if let Some(fault) = server.fault.as_ref().filter(|_| status == "ERROR") {
        view["fault"] = json!({"code": 500, "message": fault, "created": date(server.built_at)});
    }
    if caller.is_admin() {
        merge(
            &mut view,
            json!({
                "OS-EXT-SRV-ATTR:host": "lab",
                "OS-EXT-SRV-ATTR:hypervisor_hostname": "lab",
                "OS-EXT-SRV-ATTR:instance_name": "instance-00000001",
            }),
        );
        if version >= Version(3) {
            let data = (!server.user_data.is_empty()).then(|| STANDARD.encode(&server.user_data));
            view["OS-EXT-SRV-ATTR:user_data"] = json!(data);
            view["OS-EXT-SRV-ATTR:hostname"] = json!(server.name);
        }
    }
    for (since, key, value) in [
        (9, "locked", json!(false)),
        (19, "description", Value::Null),
        (26, "tags", json!([])),
        (63, "trusted_image_certificates", Value::Null),
        (71, "server_groups", json!(server.group.iter().collect::<Vec<_>>())),
    ] {
        if version >= Version(since) {
            view[key] = value;
        }
    }
    view
}

fn security_groups(net: &Network, server: &str) -> Value {
    let ports = net.ports.values().filter(|p| p.device_id == server);
    let groups = ports.flat_map(|p| &p.groups).filter_map(|id| net.groups.get(id));
    let mut names: Vec<&str> = groups.map(|g| g.name.as_str()).collect();
    names.sort_unstable();
    names.dedup();
    names.iter().map(|name| json!({ "name": name })).collect()
}
