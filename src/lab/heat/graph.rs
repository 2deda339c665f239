//! Who needs whom: references in values, explicit dependencies, and those Heat adds by itself.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::functions;
use super::plan::{Plan, Values};
use super::refusal::{Refusal, join};
use super::template::Version;

/// One `get_resource` or `get_attr`.
#[derive(Debug)]
pub struct Reference {
    pub name: String,
    /// For `get_attr`, the attribute, when it is a plain name.
    pub attribute: Option<String>,
    pub is_attribute: bool,
    /// Where it is written, down to the function but without it.
    pub path: Vec<String>,
}

/// All references in a value.
pub fn references(version: Version, value: &Value) -> Vec<Reference> {
    let mut found = Vec::new();
    collect(version, value, &mut Vec::new(), &mut found);
    found
}

fn collect(version: Version, value: &Value, path: &mut Vec<String>, found: &mut Vec<Reference>) {
    if let Some((name, args)) = functions::call(version, value) {
        match name {
            "get_resource" if args.is_string() => found.push(Reference {
                name: args.as_str().unwrap_or_default().to_owned(),
                attribute: None,
                is_attribute: false,
                path: path.clone(),
            }),
            "get_attr" => {
                let list = match args {
                    Value::Array(list) => list.as_slice(),
                    one => std::slice::from_ref(one),
                };
                if let Some(Value::String(name)) = list.first() {
                    found.push(Reference {
                        name: name.clone(),
                        attribute: list.get(1).and_then(Value::as_str).map(str::to_owned),
                        is_attribute: true,
                        path: path.clone(),
                    });
                }
            }
            _ => {}
        }
        path.push(name.to_owned());
        inside(version, args, path, found);
        path.pop();
        return;
    }
    inside(version, value, path, found);
}

fn inside(version: Version, value: &Value, path: &mut Vec<String>, found: &mut Vec<Reference>) {
    let mut step = |key: String, item: &Value| {
        path.push(key);
        collect(version, item, path, found);
        path.pop();
    };
    match value {
        Value::Array(items) => {
            items.iter().enumerate().for_each(|(index, item)| step(index.to_string(), item));
        }
        Value::Object(map) => map.iter().for_each(|(key, item)| step(key.clone(), item)),
        _ => {}
    }
}

/// Every resource's requirements; refuses what does not exist and what goes in circles.
pub fn requirements(plan: &Plan) -> Result<BTreeMap<String, BTreeSet<String>>, Refusal> {
    let version = plan.template.version;
    let mut all: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for (name, definition) in &plan.definitions {
        let mut needs = BTreeSet::new();
        for other in &definition.depends_on {
            if plan.definitions.contains_key(other) {
                needs.insert(other.clone());
            } else if !plan.template.resources.iter().any(|r| r.name == *other) {
                return Err(Refusal::reference(other, name));
            }
        }
        for (section, value) in
            [("Properties", &definition.properties), ("Metadata", &definition.metadata)]
        {
            for reference in references(version, value) {
                if !plan.definitions.contains_key(&reference.name) {
                    let mut path = vec![name.clone(), section.to_owned()];
                    path.extend(reference.path);
                    return Err(Refusal::reference(&reference.name, &join(&path)));
                }
                needs.insert(reference.name);
            }
        }
        all.insert(name.clone(), needs);
    }
    refuse_circles(plan, &all)?;
    for (from, to) in implied(plan) {
        // An implied dependency never beats a written one.
        if from != to && !reaches(&all, &to, &from) {
            all.entry(from).or_default().insert(to);
        }
    }
    Ok(all)
}

fn reaches(all: &BTreeMap<String, BTreeSet<String>>, from: &str, to: &str) -> bool {
    let mut seen = BTreeSet::new();
    let mut open = vec![from];
    while let Some(at) = open.pop() {
        if at == to {
            return true;
        }
        if seen.insert(at) {
            open.extend(all.get(at).into_iter().flatten().map(String::as_str));
        }
    }
    false
}

fn refuse_circles(plan: &Plan, all: &BTreeMap<String, BTreeSet<String>>) -> Result<(), Refusal> {
    let mut left: BTreeMap<&str, BTreeSet<&str>> = all
        .iter()
        .map(|(name, needs)| (name.as_str(), needs.iter().map(String::as_str).collect()))
        .collect();
    while let Some(free) = left.iter().find(|(_, n)| n.is_empty()).map(|(name, _)| *name) {
        // Many at once: a thousand resources must not cost a million steps.
        let free: Vec<&str> = std::iter::once(free)
            .chain(left.iter().filter(|(_, n)| n.is_empty()).map(|(name, _)| *name))
            .collect();
        for name in &free {
            left.remove(name);
        }
        for needs in left.values_mut() {
            for name in &free {
                needs.remove(name);
            }
        }
    }
    if left.is_empty() {
        return Ok(());
    }
    let shown = |name: &str| {
        let kind = plan.definitions.get(name).map_or("", |d| d.kind.as_str());
        // Heat shows the plugin's class, which is the type's last part with few exceptions.
        let class = match kind.rsplit("::").next().unwrap_or_default() {
            "None" => "NoneResource",
            other => other,
        };
        format!("{class} \"{name}\"")
    };
    let edges: Vec<String> = left
        .iter()
        .map(|(name, needs)| {
            let needs: Vec<String> = needs.iter().map(|n| shown(n)).collect();
            format!("{}: {{{}}}", shown(name), needs.join(", "))
        })
        .collect();
    Err(Refusal::new(
        "CircularDependencyException",
        format!("Circular Dependency Found: {{{}}}", edges.join(", ")),
    ))
}

/// Dependencies that Heat's plugins add without being told: whoever takes an address of a
/// network waits for the network's subnets, a floating IP waits for the way to the outside.
fn implied(plan: &Plan) -> Vec<(String, String)> {
    let property = |name: &str, keys: &[&str]| -> Option<Value> {
        let properties = &plan.definitions.get(name)?.properties;
        let raw = keys.iter().find_map(|key| properties.get(*key))?;
        // References compare as the names they refer to; what cannot be known is nobody's equal.
        functions::resolve(&Values(plan), raw).ok().filter(|v| !v.is_null())
    };
    let of = |kind: &str| -> Vec<&String> {
        plan.definitions.values().filter(|d| d.kind == kind).map(|d| &d.name).collect()
    };
    let network_keys = ["network", "network_id"];
    let subnets: Vec<(&String, Option<Value>)> = of("OS::Neutron::Subnet")
        .into_iter()
        .map(|name| (name, property(name, &network_keys)))
        .collect();
    let on = |network: Option<Value>| {
        subnets.iter().filter(move |(_, own)| network.is_some() && *own == network)
    };
    let mut out = Vec::new();
    for port in of("OS::Neutron::Port") {
        for (subnet, _) in on(property(port, &network_keys)) {
            out.push((port.clone(), (*subnet).clone()));
        }
    }
    for server in of("OS::Nova::Server") {
        let networks = property(server, &["networks"]);
        for entry in networks.iter().flat_map(|n| n.as_array().into_iter().flatten()) {
            let network = entry.get("network").or_else(|| entry.get("uuid"));
            for (subnet, _) in on(network.filter(|n| !n.is_null()).cloned()) {
                out.push((server.clone(), (*subnet).clone()));
            }
        }
    }
    let ways = [of("OS::Neutron::RouterInterface"), of("OS::Neutron::RouterGateway")].concat();
    for address in
        [of("OS::Neutron::FloatingIP"), of("OS::Neutron::FloatingIPAssociation")].concat()
    {
        out.extend(ways.iter().map(|way| (address.clone(), (*way).clone())));
    }
    out
}
