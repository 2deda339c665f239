//! What a stack will have, counted from its template: so that no driver has to say it twice.

use std::collections::BTreeMap;

use serde_json::Value;

use super::Bundle;

/// Counts of one bundle.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Census {
    counts: BTreeMap<String, u64>,
    /// Servers of each flavor.
    pub servers: BTreeMap<String, u64>,
    /// Volumes, and their GiB; those that Nova makes for its servers too.
    pub volumes: u64,
    pub gigabytes: u64,
    /// Servers that share a server group, of each group; those of nested stacks by their path.
    members: BTreeMap<String, u64>,
    /// Ports that Nova or Heat makes for servers that name a network and no port.
    implied_ports: u64,
    /// Bytes of the template.
    pub bytes: usize,
}

impl Census {
    pub fn take(bundle: &Bundle) -> Result<Self, String> {
        let template: Value =
            serde_saphyr::from_str(&bundle.template).map_err(|e| e.to_string())?;
        Self::of_stack(bundle, &template)
    }

    /// Of a bundle whose template has been parsed.
    pub fn of_stack(bundle: &Bundle, template: &Value) -> Result<Self, String> {
        let mut census = Self { bytes: bundle.template.len(), ..Self::default() };
        census.add_all(bundle, template, &Place::default())?;
        Ok(census)
    }

    /// How many servers the largest server group has.
    pub fn largest_group(&self) -> u64 {
        self.members.values().copied().max().unwrap_or(0)
    }

    /// How many there are of a resource type.
    pub fn of(&self, kind: &str) -> u64 {
        self.counts.get(kind).copied().unwrap_or(0)
    }

    /// All resource types in it, files of the bundle left out.
    pub fn kinds(&self) -> impl Iterator<Item = String> {
        self.counts.keys().filter(|kind| kind.contains("::")).cloned()
    }

    /// As Heat counts: members of groups and of nested stacks included.
    pub fn resources(&self) -> u64 {
        self.counts.values().sum()
    }

    pub fn ports(&self) -> u64 {
        // A router's interface is a port of the tenant.
        self.of("OS::Neutron::Port") + self.of("OS::Neutron::RouterInterface") + self.implied_ports
    }

    fn add_all(
        &mut self,
        bundle: &Bundle,
        template: &Value,
        place: &Place<'_>,
    ) -> Result<(), String> {
        let resources = template["resources"].as_object();
        for (name, resource) in resources.into_iter().flatten() {
            self.add(bundle, name, resource, place)?;
        }
        Ok(())
    }

    fn add(
        &mut self,
        bundle: &Bundle,
        name: &str,
        resource: &Value,
        place: &Place<'_>,
    ) -> Result<(), String> {
        let kind = resource["type"].as_str().unwrap_or_default();
        let properties = &resource["properties"];
        let times = place.times;
        *self.counts.entry(kind.to_owned()).or_default() += times;
        match kind {
            "OS::Heat::ResourceGroup" => {
                let members = number(&properties["count"]).unwrap_or(1);
                if members > 0 {
                    let inside = Place { times: times * members, ..place.clone() };
                    self.add(bundle, name, &properties["resource_def"], &inside)?;
                }
            }
            "OS::Nova::Server" => {
                let flavor = place.text(&properties["flavor"]).unwrap_or_default();
                *self.servers.entry(flavor.to_owned()).or_default() += times;
                if let Some((group, copies)) = place.find(&properties["scheduler_hints"]["group"]) {
                    *self.members.entry(group).or_default() += times / copies;
                }
                let networks = properties["networks"].as_array();
                let implied = |n: &&Value| n.get("port").is_none();
                self.implied_ports +=
                    times * networks.into_iter().flatten().filter(implied).count() as u64;
                let devices = properties["block_device_mapping_v2"].as_array();
                for size in devices.into_iter().flatten().filter_map(|d| number(&d["volume_size"]))
                {
                    self.volumes += times;
                    self.gigabytes += times * size;
                }
            }
            "OS::Cinder::Volume" => {
                self.volumes += times;
                self.gigabytes += times * number(&properties["size"]).unwrap_or(0);
            }
            // A template of the bundle is a stack of its own.
            file if bundle.files.contains_key(file) => {
                let nested: Value =
                    serde_saphyr::from_str(&bundle.files[file]).map_err(|e| e.to_string())?;
                let inside = Place {
                    path: format!("{}{name}/", place.path),
                    times,
                    copies: times,
                    given: Some((properties, place)),
                };
                self.add_all(bundle, &nested, &inside)?;
            }
            _ => {}
        }
        Ok(())
    }
}

/// Where a resource stands.
#[derive(Clone, Debug)]
struct Place<'t> {
    /// Of the stack it is in; empty for the outermost.
    path: String,
    /// How many there are of the resource.
    times: u64,
    /// How many there are of its stack.
    copies: u64,
    /// What the stack was given as parameters, and where that was written.
    given: Option<(&'t Value, &'t Place<'t>)>,
}

impl Default for Place<'_> {
    fn default() -> Self {
        Self { path: String::new(), times: 1, copies: 1, given: None }
    }
}

impl<'t> Place<'t> {
    /// A text, also one that the stack was given; None where only Heat will know it.
    fn text(&self, value: &'t Value) -> Option<&'t str> {
        if let Some(text) = value.as_str() {
            return Some(text);
        }
        let (given, outside) = self.given?;
        outside.text(&given[value["get_param"].as_str()?])
    }

    /// The resource that a property refers to, by its path, and how many there are of its stack;
    /// None for what is not made in this stack.
    fn find(&self, reference: &Value) -> Option<(String, u64)> {
        if let Some(name) = reference["get_resource"].as_str() {
            return Some((format!("{}{name}", self.path), self.copies));
        }
        let (given, outside) = self.given?;
        outside.find(&given[reference["get_param"].as_str()?])
    }
}

fn number(value: &Value) -> Option<u64> {
    value.as_u64().or_else(|| value.as_str()?.parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bundle(template: &str, files: &[(&str, &str)]) -> Bundle {
        Bundle {
            template: template.to_owned(),
            parameters: BTreeMap::new(),
            files: files.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect(),
        }
    }

    #[test]
    fn servers_that_share_a_server_group_are_counted_wherever_they_stand() {
        let member = "
resources:
  own: {type: 'OS::Nova::ServerGroup'}
  one: {type: 'OS::Nova::Server', properties: {scheduler_hints: {group: {get_param: shared}}}}
  two: {type: 'OS::Nova::Server', properties: {scheduler_hints: {group: {get_resource: own}}}}
  three: {type: 'OS::Nova::Server', properties: {scheduler_hints: {group: {get_resource: own}}}}
";
        let template = "
parameters: {existing: {type: string}}
resources:
  masters: {type: 'OS::Nova::ServerGroup'}
  nodes: {type: 'OS::Nova::ServerGroup'}
  m0: {type: 'OS::Nova::Server', properties: {scheduler_hints: {group: {get_resource: masters}}}}
  m1: {type: 'OS::Nova::Server', properties: {scheduler_hints: {group: {get_resource: masters}}}}
  lone: {type: 'OS::Nova::Server', properties: {scheduler_hints: {group: {get_param: existing}}}}
  plain: {type: 'OS::Nova::Server'}
  workers:
    type: OS::Heat::ResourceGroup
    properties:
      count: 7
      resource_def: {type: member.yaml, properties: {shared: {get_resource: nodes}}}
";
        let census = Census::take(&bundle(template, &[("member.yaml", member)])).unwrap();
        let members: Vec<(&str, u64)> =
            census.members.iter().map(|(group, n)| (group.as_str(), *n)).collect();
        assert_eq!(members, [("masters", 2), ("nodes", 7), ("workers/own", 2)]);
        assert_eq!(census.largest_group(), 7);
        let none = Census::take(&bundle("resources: {}", &[])).unwrap();
        assert_eq!(none.largest_group(), 0);
    }

    #[test]
    fn members_of_groups_and_nested_stacks_are_counted() {
        let member = "resources:\n  node:\n    type: OS::Nova::Server\n    properties:\n      \
                      flavor: {get_param: size}\n      networks: [{network: n}]\n  fip: {type: \
                      'OS::Neutron::FloatingIP'}\n";
        let template = "
resources:
  m:
    type: OS::Nova::Server
    properties:
      flavor: big
      networks: [{port: p}]
      block_device_mapping_v2: [{volume_size: 20}, {volume_id: v}]
  p: {type: 'OS::Neutron::Port'}
  v: {type: 'OS::Cinder::Volume', properties: {size: 5}}
  r: {type: 'OS::Neutron::RouterInterface'}
  workers:
    type: OS::Heat::ResourceGroup
    properties: {count: 3, resource_def: {type: member.yaml, properties: {size: small}}}
";
        let census = Census::take(&bundle(template, &[("member.yaml", member)])).unwrap();
        assert_eq!((census.servers["big"], census.servers["small"]), (1, 3));
        assert_eq!((census.ports(), census.of("OS::Neutron::FloatingIP")), (5, 3));
        assert_eq!((census.volumes, census.gigabytes), (2, 25));
        assert_eq!(census.resources(), 5 + 3 + 6);
        assert!(census.kinds().all(|kind| kind != "member.yaml"));
        assert!(Census::take(&bundle("a: [", &[])).is_err());
    }
}
