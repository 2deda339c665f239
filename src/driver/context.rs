//! What templates are given: one set of names for every template and expression of every driver.

use serde::Serialize;
use serde_json::{Value, json};
use tera::Context;

use super::DriverError;
use super::label::listed;
use super::manifest::Manifest;
use super::network::Cidr;
use super::plan::{ClusterPlan, DutyPlan, NodeCertificates, NodePlan};
use crate::base::secret::Secret;
use crate::model::cluster_template::Coe;
use crate::model::name;
use crate::model::nodegroup::{self, DEFAULT_WORKER, NodeGroup};

/// The parameter with the workers' images, where they differ.
pub const WORKER_IMAGE: &str = "worker_image";
/// The parameter with the workers' flavors, where they differ.
pub const WORKER_FLAVOR: &str = "worker_flavor";

/// Every name that templates are given and, where that is always the same, its fields.
pub const SHAPES: &[(&str, &[&str])] = &[
    ("driver", &["name", "version"]),
    (
        "cluster",
        &[
            "uuid",
            "name",
            "stack_name",
            "project_id",
            "user_id",
            "keypair",
            "create_timeout",
            "master_lb_enabled",
            "floating_ip_enabled",
            "docker_volume_size",
            "fixed_network",
            "fixed_subnet",
            "discovery_url",
            "master_count",
        ],
    ),
    (
        "template",
        &[
            "name",
            "image_id",
            "coe",
            "server_type",
            "os_distro",
            "network_driver",
            "volume_driver",
            "docker_storage_driver",
            "dns_nameservers",
            "http_proxy",
            "https_proxy",
            "no_proxy",
            "insecure_registry",
            "registry_enabled",
            "tls_disabled",
            "apiserver_port",
        ],
    ),
    ("labels", &[]),
    ("values", &[]),
    (
        "facts",
        &[
            "image_id",
            "os_distro",
            "kube_version",
            "has_octavia",
            "has_cinder",
            "ssh_public_key",
            "region",
            "external_network_id",
            "fixed_network_id",
            "fixed_subnet_id",
            "fixed_subnet_cidr",
            "master_flavor",
            "worker_flavor",
        ],
    ),
    (
        "config",
        &[
            "auth_url",
            "magnum_url",
            "region",
            "bootstrap_url",
            "bootstrap_ca",
            "discovery_base",
            "nested",
            "openstack_ca",
        ],
    ),
    ("stack", &["name"]),
    ("net", &["own", "network", "subnet", "cidr", "external"]),
    ("masters", &[]),
    (
        "workers",
        &[
            "group",
            "role",
            "count",
            "min",
            "max",
            "name",
            "image",
            "images_differ",
            "flavor",
            "flavors_differ",
            "removals",
            "user_data",
            "node_labels",
            "taints",
        ],
    ),
    ("foundation", &["network", "subnet", "security_group"]),
    ("revision", &[]),
    ("trust", &["trustee_user_id", "trustee_username", "trustee_password", "trust_id"]),
    (
        "node",
        &[
            "name",
            "role",
            "index",
            "group",
            "enrolment_token",
            "files",
            "node_labels",
            "taints",
            "address",
            "master_addresses",
            "api_public",
            "api_endpoint",
            "api_host",
            "rejoins",
            "peers",
            "initial_cluster",
            "members",
        ],
    ),
    ("certificates", &["ca", "etcd_ca", "front_proxy_ca", "sa_pub"]),
    ("duty", &["kind", "number", "targets"]),
    ("from", &[]),
];

/// What stands in the place of credentials that a cluster to be has not got yet.
const NOT_YET: &str = "00000000000000000000000000000000";

/// One context and the little that must be known to read the rest into it.
pub struct Scene<'p> {
    pub plan: &'p ClusterPlan,
    pub manifest: &'p Manifest,
    /// Minutes for the creation.
    pub create_timeout: u32,
}

impl Scene<'_> {
    /// Everything that neither labels nor values decide.
    pub fn base(&self) -> Context {
        let (plan, manifest) = (self.plan, self.manifest);
        let (cluster, template, facts) = (&plan.cluster, &plan.template, &plan.facts);
        let settings = &plan.settings;
        let mut context = Context::new();
        put(&mut context, "driver", &json!({"name": manifest.name, "version": manifest.version}));
        put(
            &mut context,
            "cluster",
            &json!({
                "uuid": cluster.id.to_string(),
                "name": cluster.name,
                "stack_name": cluster.stack_name(),
                "project_id": cluster.project_id,
                "user_id": cluster.user_id,
                "keypair": cluster.keypair,
                "create_timeout": self.create_timeout,
                "master_lb_enabled": cluster.master_lb_enabled,
                "floating_ip_enabled": cluster.floating_ip_enabled,
                "docker_volume_size": cluster.docker_volume_size.unwrap_or(0),
                "fixed_network": cluster.fixed_network,
                "fixed_subnet": cluster.fixed_subnet,
                "discovery_url": cluster.discovery_url,
                "master_count": nodegroup::counts(&plan.groups).0,
            }),
        );
        put(
            &mut context,
            "template",
            &json!({
                "name": template.name,
                "image_id": template.image_id,
                "coe": template.coe.as_str(),
                "server_type": template.server_type.as_str(),
                "os_distro": facts.os_distro,
                "network_driver": network_driver(plan, manifest),
                "volume_driver": given(&template.volume_driver),
                "docker_storage_driver": given(&template.docker_storage_driver),
                "dns_nameservers":
                    listed(template.dns_nameserver.as_deref().unwrap_or_default()).collect::<Vec<_>>(),
                "http_proxy": given(&template.http_proxy),
                "https_proxy": given(&template.https_proxy),
                "no_proxy": given(&template.no_proxy),
                "insecure_registry": given(&template.insecure_registry),
                "registry_enabled": template.registry_enabled,
                "tls_disabled": template.tls_disabled,
                "apiserver_port": template.apiserver_port,
            }),
        );
        put(
            &mut context,
            "facts",
            &json!({
                "image_id": facts.image_id,
                "os_distro": facts.os_distro,
                "kube_version": facts.kube_version,
                "has_octavia": facts.has_octavia,
                "has_cinder": facts.has_cinder,
                "ssh_public_key": given(&facts.ssh_public_key),
                "region": facts.region,
                "external_network_id": facts.external_network_id,
                "fixed_network_id": facts.fixed_network_id,
                "fixed_subnet_id": facts.fixed_subnet_id,
                "fixed_subnet_cidr": facts.fixed_subnet_cidr,
                "master_flavor": facts.master_flavor,
                "worker_flavor": facts.worker_flavor,
            }),
        );
        put(&mut context, "config", settings);
        put(&mut context, "stack", &json!({"name": plan.stack_name()}));
        put(&mut context, "masters", &self.masters());
        put(&mut context, "workers", &self.workers());
        put(&mut context, "foundation", &plan.foundation);
        put(&mut context, "revision", &plan.revision);
        put(&mut context, "trust", &self.trust());
        for name in ["node", "certificates", "duty", "from"] {
            put(&mut context, name, &Value::Null);
        }
        context
    }

    fn trust(&self) -> Value {
        if self.manifest.secrets.is_empty() {
            return Value::Null;
        }
        let trust = self.plan.trust.as_ref();
        let text = |known: Option<&str>| known.unwrap_or(NOT_YET).to_owned();
        json!({
            "trustee_user_id": text(trust.map(|t| t.trustee_user_id.as_str())),
            "trustee_username": text(trust.map(|t| t.trustee_username.as_str())),
            "trustee_password": text(trust.map(|t| t.trustee_password.expose().as_str())),
            "trust_id": text(trust.map(|t| t.trust_id.as_str())),
        })
    }

    fn masters(&self) -> Vec<Value> {
        let plan = self.plan;
        let stack = plan.stack_name();
        let image = |i: u32| plan.images.masters.get(&i).unwrap_or(&plan.facts.image_id).clone();
        let flavor =
            |i: u32| plan.flavors.masters.get(&i).unwrap_or(&plan.facts.master_flavor).clone();
        let (masters, _) = nodegroup::counts(&plan.groups);
        (0..masters)
            .map(|index| {
                json!({
                    "index": index,
                    "name": name::master_node(&stack, index),
                    "image": image(index),
                    "flavor": flavor(index),
                    "user_data": master_user_data(index),
                })
            })
            .collect()
    }

    fn workers(&self) -> Value {
        let plan = self.plan;
        let group = plan.groups.iter().find(|g| !g.is_master());
        let image = match plan.images.workers.is_empty() {
            true => json!(plan.facts.image_id),
            false => json!({"get_param": WORKER_IMAGE}),
        };
        let flavor = match plan.flavors.workers.is_empty() {
            true => json!(plan.facts.worker_flavor),
            false => json!({"get_param": WORKER_FLAVOR}),
        };
        json!({
            "group": group.map_or(DEFAULT_WORKER, |g| &g.name),
            "role": group.map_or(nodegroup::WORKER, |g| &g.role),
            "count": nodegroup::counts(&plan.groups).1,
            "min": group.map_or(0, |g| g.min_node_count),
            "max": group.and_then(|g| g.max_node_count),
            "name": format!("{}%index%", name::worker_node_prefix(&plan.stack_name())),
            "image": image,
            "images_differ": !plan.images.workers.is_empty(),
            "flavor": flavor,
            "flavors_differ": !plan.flavors.workers.is_empty(),
            "removals": plan.removals,
            "user_data": WORKER_USER_DATA,
            "node_labels": group.map(|g| &g.node_labels),
            "taints": group.map(|g| &g.node_taints),
        })
    }

    /// The nodes' network; `own_cidr` is what the labels say of one that the stack makes.
    pub fn net(&self, own_cidr: Option<&str>) -> Value {
        let (cluster, facts) = (&self.plan.cluster, &self.plan.facts);
        let own = cluster.fixed_network.is_none() && self.plan.foundation.is_none();
        let (network, subnet) = match (&self.plan.foundation, own) {
            (Some(given), _) => (json!(given.network), json!(given.subnet)),
            (None, true) => (json!({"get_resource": "network"}), json!({"get_resource": "subnet"})),
            (None, false) => {
                let network = facts.fixed_network_id.as_ref().or(cluster.fixed_network.as_ref());
                (json!(network), json!(facts.fixed_subnet_id))
            }
        };
        let cidr = match cluster.fixed_network {
            // Where it is IPv6 there is nothing to compare and nothing to route.
            Some(_) => facts.fixed_subnet_cidr.as_deref().filter(|c| c.parse::<Cidr>().is_ok()),
            None => own_cidr,
        };
        json!({
            "own": own,
            "network": network,
            "subnet": subnet,
            "cidr": cidr,
            "external": facts.external_network_id,
        })
    }

    /// What the user data of a server knows of it.
    pub fn server(&self, index: Option<u32>, token: Option<&str>) -> Result<Value, DriverError> {
        let role = if index.is_some() { nodegroup::MASTER } else { nodegroup::WORKER };
        let group = self.group(index.is_some());
        Ok(json!({
            "name": index.map(|i| name::master_node(&self.plan.stack_name(), i)),
            "role": role,
            "index": index,
            "group": group.map_or_else(|| default_group(index), |g| g.name.clone()),
            "enrolment_token": token.unwrap_or_default(),
            "files": null,
            "node_labels": group.map(|g| self.node_labels(g)).transpose()?.unwrap_or_default(),
            "taints": group.map(|g| &g.node_taints),
            "address": null,
            "master_addresses": [],
            "api_public": [],
            "api_endpoint": null,
            "api_host": null,
            "rejoins": false,
            "peers": [],
            "initial_cluster": "",
            "members": [],
        }))
    }

    /// What the files of a booted node know of it.
    pub fn node(&self, node: &NodePlan) -> Result<Value, DriverError> {
        let index = node.master_index;
        let group = self.group(index.is_some());
        let own = index.and_then(|i| node.master_addresses.get(i as usize));
        let host = node.api_endpoint.split_once("://").map_or("", |(_, host)| host);
        let host = host.rsplit_once(':').map_or(host, |(host, _)| host);
        let others = node.master_addresses.iter().enumerate();
        let others = others.filter(|(i, _)| Some(*i) != index.map(|i| i as usize));
        let stack = self.plan.cluster.stack_name();
        let members: Vec<(String, &String)> = (0_u32..)
            .zip(&node.master_addresses)
            .map(|(i, address)| (name::master_node(&stack, i), address))
            .collect();
        let url = |(name, address): &(String, &String)| format!("{name}=https://{address}:2380");
        let initial: Vec<String> = members.iter().map(url).collect();
        Ok(json!({
            "name": node.name,
            "role": if index.is_some() { nodegroup::MASTER } else { nodegroup::WORKER },
            "index": index,
            "group": group.map_or_else(|| default_group(index), |g| g.name.clone()),
            "enrolment_token": null,
            "files": null,
            "node_labels": group.map(|g| self.node_labels(g)).transpose()?.unwrap_or_default(),
            "taints": group.map(|g| &g.node_taints).cloned().unwrap_or_default(),
            "address": own,
            "master_addresses": node.master_addresses,
            "api_public": node.api_public,
            "api_endpoint": node.api_endpoint,
            "api_host": host,
            "rejoins": node.rejoins && index.is_some(),
            "peers": others.map(|(_, address)| address).collect::<Vec<_>>(),
            "initial_cluster": initial.join(","),
            "members": members
                .iter()
                .map(|(name, address)| json!({"name": name, "address": address}))
                .collect::<Vec<_>>(),
        }))
    }

    fn group(&self, is_master: bool) -> Option<&NodeGroup> {
        self.plan.groups.iter().find(|g| g.is_master() == is_master)
    }

    /// As a kubelet registers itself; Magnum's own two first.
    pub fn node_labels(&self, group: &NodeGroup) -> Result<String, DriverError> {
        let mut labels = vec![
            ("magnum.openstack.org/role".to_owned(), group.role.clone()),
            ("magnum.openstack.org/nodegroup".to_owned(), group.name.clone()),
        ];
        labels.extend(group.node_labels.iter().map(|(k, v)| (k.clone(), v.clone())));
        let plain =
            |text: &str| text.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-/".contains(&b));
        let odd = labels.iter().find(|(key, value)| !plain(key) || !plain(value));
        match odd.filter(|_| self.plan.template.coe == Coe::Kubernetes) {
            Some((key, value)) => Err(DriverError::Unsuitable(format!(
                "Node label {key}={value} of node group {} is not a label of Kubernetes: only \
                 letters, digits, '.', '_', '-' and, in its name, '/' are possible.",
                group.name
            ))),
            None => {
                Ok(labels.iter().map(|(k, v)| format!("{k}={v}")).collect::<Vec<_>>().join(","))
            }
        }
    }
}

/// The public halves; what signs never passes through a template.
pub fn certificates(node: &NodePlan) -> Value {
    let given = &node.certificates;
    json!({
        "ca": pem(&given.ca),
        "etcd_ca": pem(&given.etcd_ca),
        "front_proxy_ca": pem(&given.front_proxy_ca),
        "sa_pub": pem(&given.service_account_public),
    })
}

pub fn duty(duty: &DutyPlan) -> Value {
    json!({"kind": duty.kind.as_str(), "number": duty.number, "targets": duty.targets})
}

/// In place of certificates and keys that are not drawn yet: as long, and as hard to compress.
pub fn stand_ins() -> NodeCertificates {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut state = 1_u64;
    let mut text = |bytes: usize| -> String {
        let letters = (0..bytes).map(|_| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            char::from(LETTERS[(state >> 58) as usize])
        });
        letters.collect()
    };
    // RSA of 2048 bits, in PEM.
    let (certificate, key) = (1200, 1750);
    NodeCertificates {
        ca: text(certificate),
        etcd_ca: text(certificate),
        front_proxy_ca: text(certificate),
        service_account_public: text(460),
        ca_key: Some(Secret::new(text(key))),
        etcd_ca_key: Some(Secret::new(text(key))),
        front_proxy_ca_key: Some(Secret::new(text(key))),
        service_account_key: Some(Secret::new(text(key))),
        bootstrap: Some((text(certificate), Secret::new(text(250)))),
    }
}

/// PEM ends with a line break, however it was stored.
pub fn pem(text: &str) -> String {
    format!("{}\n", text.trim_end())
}

pub fn put(context: &mut Context, name: &'static str, value: &impl Serialize) {
    context.insert(name, value);
}

/// The network driver that the plan's cluster has, whoever chose it.
pub fn network_driver<'p>(plan: &'p ClusterPlan, manifest: &'p Manifest) -> &'p str {
    let asked = plan.template.network_driver.as_deref();
    asked.unwrap_or_else(|| match plan.template.coe {
        Coe::Kubernetes => &plan.settings.default_network_driver,
        _ => manifest.network_drivers.first().map_or("", String::as_str),
    })
}

fn default_group(master: Option<u32>) -> String {
    match master {
        Some(_) => nodegroup::DEFAULT_MASTER.to_owned(),
        None => DEFAULT_WORKER.to_owned(),
    }
}

pub fn master_user_data(index: u32) -> String {
    format!("master-{index}.yaml")
}

pub const WORKER_USER_DATA: &str = "worker.yaml";

/// What was given in so many words.
fn given(text: &Option<String>) -> Option<&str> {
    text.as_deref().map(str::trim).filter(|text| !text.is_empty())
}
