//! The stack: HOT text, its parameters, and the user data of its servers.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::{Value, json};

use super::options::Options;
use super::{NAME, counts};
use crate::driver::render::Templates;
use crate::driver::{Bundle, ClusterPlan, DriverError};
use crate::model::name;
use crate::model::nodegroup::{DEFAULT_MASTER, DEFAULT_WORKER};

const LIB: &str = include_str!("../../../templates/k8s_kubeadm_v1/lib.sh");
const BOOTSTRAP: &str = include_str!("../../../templates/k8s_kubeadm_v1/bootstrap.sh");
const UNIT: &str = include_str!("../../../templates/k8s_kubeadm_v1/magnumd-bootstrap.service");

/// The parameter with the workers' images, where they differ.
const WORKER_IMAGE: &str = "worker_image";

/// What Nova takes, before base64 makes it a third longer.
const LARGEST_USER_DATA: usize = 16 * 1024;

/// What the stack's template knows. Values that may be functions of Heat are JSON.
#[derive(Serialize)]
struct Context<'p> {
    cluster: &'p str,
    stack: String,
    own_network: Option<OwnNetwork<'p>>,
    external_network: Option<&'p str>,
    network: Value,
    subnet: Option<Value>,
    /// Addresses beside its own that a node's port lets through.
    extra_addresses: Vec<Value>,
    master_rules: Vec<Value>,
    node_rules: Vec<Value>,
    masters: Vec<Master>,
    master_flavor: &'p str,
    workers: u32,
    worker_name: String,
    worker_image: Option<Value>,
    /// Whether members have different images.
    worker_images: bool,
    worker_flavor: &'p str,
    worker_devices: Vec<Value>,
    worker_member: bool,
    /// The security group of every node.
    node_group: Value,
    removals: &'p [String],
    availability_zone: Option<&'p str>,
    floating_ips: bool,
    master_affinity: Option<&'static str>,
    worker_affinity: Option<&'static str>,
    etcd_volume: Option<Volume<'p>>,
    docker_volume: Option<Volume<'p>>,
    lb: Option<Balancer<'p>>,
    outputs: Vec<Output>,
}

#[derive(Serialize)]
struct OwnNetwork<'p> {
    cidr: String,
    dns: Vec<&'p str>,
}

#[derive(Serialize)]
struct Master {
    index: u32,
    name: String,
    user_data: String,
    image: Option<String>,
    devices: Vec<Value>,
    metadata: Option<Value>,
}

#[derive(Serialize)]
struct Volume<'p> {
    size: u32,
    kind: Option<&'p str>,
}

#[derive(Serialize)]
struct Balancer<'p> {
    provider: Option<&'p str>,
    algorithm: &'p str,
    allowed: Vec<String>,
    monitor: bool,
    floating_ip: bool,
}

#[derive(Serialize)]
struct Output {
    name: &'static str,
    description: &'static str,
    value: Value,
}

pub fn bundle(
    templates: &Templates,
    plan: &ClusterPlan,
    options: &Options,
) -> Result<Bundle, DriverError> {
    let mut files = BTreeMap::new();
    let (masters, _) = counts(plan);
    for index in 0..masters {
        let token = plan.enrolment.masters.get(index as usize);
        let data = user_data(templates, plan, DEFAULT_MASTER, "master", token.map(|t| t.expose()))?;
        files.insert(master_user_data(index), data);
    }
    let worker = plan.groups.iter().find(|g| !g.is_master()).map_or(DEFAULT_WORKER, |g| &g.name);
    let token = plan.enrolment.workers.iter().find(|(group, _)| group == worker);
    let data = user_data(templates, plan, worker, "worker", token.map(|(_, t)| t.expose()))?;
    files.insert("worker.yaml".to_owned(), data);
    let context = context(plan, options);
    if context.worker_member {
        files.insert("kubeminion.yaml".to_owned(), templates.render("kubeminion.yaml", &context)?);
    }
    let version = options.kube_version.as_ref().map_or("", |version| version.as_str());
    let mut parameters = BTreeMap::from([
        ("cluster_uuid".to_owned(), json!(plan.cluster.id.to_string())),
        ("kube_version".to_owned(), json!(version)),
        ("revision".to_owned(), json!(plan.revision)),
    ]);
    if context.worker_images {
        parameters.insert(WORKER_IMAGE.to_owned(), worker_images(plan));
    }
    Ok(Bundle { template: templates.render("stack.yaml", &context)?, parameters, files })
}

/// The HOT alone: no token is needed for it.
pub fn template(
    templates: &Templates,
    plan: &ClusterPlan,
    options: &Options,
) -> Result<String, DriverError> {
    templates.render("stack.yaml", &context(plan, options))
}

/// Whether a worker is more than a server, and so needs a template of its own.
pub fn has_member_template(options: &Options) -> bool {
    options.floating_ips || options.docker_volume > 0
}

fn master_user_data(index: u32) -> String {
    format!("master-{index}.yaml")
}

fn context<'p>(plan: &'p ClusterPlan, options: &'p Options) -> Context<'p> {
    let (cluster, facts) = (&plan.cluster, &plan.facts);
    let (masters, workers) = counts(plan);
    let stack = plan.stack_name();
    let own_network = cluster.fixed_network.is_none() && plan.foundation.is_none();
    let id = |given: &Option<String>| given.as_ref().map(|id| json!(id));
    let (network, subnet) = match (&plan.foundation, own_network) {
        (Some(given), _) => (json!(given.network), id(&given.subnet)),
        (_, true) => (resource("network"), Some(resource("subnet"))),
        (_, false) => (
            id(&facts.fixed_network_id).or_else(|| id(&cluster.fixed_network)).unwrap_or_default(),
            id(&facts.fixed_subnet_id),
        ),
    };
    let member = has_member_template(options);
    let worker_volume = (options.docker_volume > 0).then_some("docker_volume");
    let worker_devices = devices(plan, options, None, worker_volume);
    Context {
        cluster: &cluster.name,
        own_network: own_network.then(|| OwnNetwork {
            cidr: options.nodes.map(|nodes| nodes.to_string()).unwrap_or_default(),
            dns: listed(plan.template.dns_nameserver.as_deref()),
        }),
        external_network: facts.external_network_id.as_deref(),
        network: network.clone(),
        subnet: subnet.clone(),
        extra_addresses: extra_addresses(options, cluster.fixed_network.is_none()),
        master_rules: master_rules(options),
        node_rules: node_rules(options),
        masters: (0..masters).map(|i| master(i, &stack, plan, options)).collect(),
        master_flavor: &facts.master_flavor,
        workers,
        worker_name: format!("{}%index%", name::worker_node_prefix(&stack)),
        worker_image: has_image(options).then(|| worker_image(plan)),
        worker_images: !plan.images.workers.is_empty(),
        worker_flavor: &facts.worker_flavor,
        worker_devices,
        worker_member: member,
        node_group: match &plan.foundation {
            Some(given) => json!(given.security_group),
            None => resource("sg_node"),
        },
        removals: &plan.removals,
        availability_zone: options.availability_zone.as_deref(),
        floating_ips: options.floating_ips,
        master_affinity: options.affinity.filter(|_| masters > 1),
        // Even for one worker: hints cannot be given to a server that exists.
        worker_affinity: options.affinity,
        etcd_volume: volume(options.etcd_volume, &options.etcd_volume_type),
        docker_volume: volume(options.docker_volume, &options.docker_volume_type),
        lb: cluster.master_lb_enabled.then(|| Balancer {
            provider: options.lb_provider.as_deref(),
            algorithm: options.lb_algorithm,
            allowed: allowed(options),
            monitor: options.lb_monitor,
            floating_ip: options.lb_floating_ip,
        }),
        outputs: outputs(plan, options, masters, &network, subnet.as_ref()),
        stack,
    }
}

fn master(index: u32, stack: &str, plan: &ClusterPlan, options: &Options) -> Master {
    let etcd = (options.etcd_volume > 0).then(|| format!("etcd_vol_{index}"));
    let docker = (options.docker_volume > 0).then(|| format!("docker_vol_{index}"));
    let mut metadata = serde_json::Map::new();
    // The guest finds the disk by the volume's id, which it reads from its config drive.
    for (key, volume) in [("magnumd_etcd_volume", &etcd), ("magnumd_docker_volume", &docker)] {
        if let Some(volume) = volume {
            metadata.insert(key.to_owned(), resource(volume));
        }
    }
    Master {
        index,
        name: name::master_node(stack, index),
        user_data: master_user_data(index),
        image: has_image(options)
            .then(|| plan.images.masters.get(&index).unwrap_or(&plan.facts.image_id).clone()),
        devices: devices(plan, options, etcd.as_deref(), docker.as_deref()),
        metadata: (!metadata.is_empty()).then_some(Value::Object(metadata)),
    }
}

/// A server that boots from a volume has its image there, and Heat refuses it twice.
fn has_image(options: &Options) -> bool {
    options.boot_volume == 0
}

/// The image of a member of the workers' group.
fn worker_image(plan: &ClusterPlan) -> Value {
    match plan.images.workers.is_empty() {
        true => json!(plan.facts.image_id),
        false => json!({"get_param": WORKER_IMAGE}),
    }
}

/// A group has one definition for all its members. Heat resolves the functions in it before it
/// numbers the members, so none of them can tell one member from another; but a function that
/// comes out of a parameter is resolved where the members are, after numbering.
fn worker_images(plan: &ClusterPlan) -> Value {
    let images: serde_json::Map<String, Value> =
        plan.images.workers.iter().map(|(i, image)| (format!("[{i}]"), json!(image))).collect();
    json!({"str_replace": {"template": "[%index%]", "params": images}})
}

/// The disks of a server beyond the one its image is copied to.
fn devices(
    plan: &ClusterPlan,
    options: &Options,
    etcd: Option<&str>,
    docker: Option<&str>,
) -> Vec<Value> {
    let mut devices = Vec::new();
    if options.boot_volume > 0 {
        let mut boot = json!({
            "boot_index": 0,
            "image": plan.facts.image_id,
            "volume_size": options.boot_volume,
            "delete_on_termination": true,
        });
        if let Some(kind) = &options.boot_volume_type {
            boot["volume_type"] = json!(kind);
        }
        devices.push(boot);
    }
    for volume in [etcd, docker].into_iter().flatten() {
        devices.push(json!({"volume_id": resource(volume), "boot_index": -1}));
    }
    devices
}

fn volume<'p>(size: u32, kind: &'p Option<String>) -> Option<Volume<'p>> {
    (size > 0).then_some(Volume { size, kind: kind.as_deref() })
}

/// Who may reach SSH and the API: everybody, or the networks named and the nodes' own.
fn allowed(options: &Options) -> Vec<String> {
    if options.allowed_cidrs.is_empty() {
        return Vec::new();
    }
    options.allowed_cidrs.iter().chain(&options.nodes).map(ToString::to_string).collect()
}

/// `ports` of TCP for those who are allowed.
fn open(options: &Options, ports: (u16, u16)) -> Vec<Value> {
    let rule = json!({"protocol": "tcp", "port_range_min": ports.0, "port_range_max": ports.1});
    let allowed = allowed(options);
    if allowed.is_empty() {
        return vec![rule];
    }
    let with = |cidr: String| {
        let mut rule = rule.clone();
        rule["remote_ip_prefix"] = json!(cidr);
        rule
    };
    allowed.into_iter().map(with).collect()
}

/// Pods' addresses, where they are on the wire as they are. Neutron allows this to the owner
/// of a network only, so on an existing network, which may be somebody else's, it is asked
/// for only where nothing works without it.
fn extra_addresses(options: &Options, own_network: bool) -> Vec<Value> {
    match own_network || options.routes_pods() {
        true => vec![json!({"ip_address": options.pods.to_string()})],
        false => Vec::new(),
    }
}

fn master_rules(options: &Options) -> Vec<Value> {
    open(options, (6443, 6443))
}

/// Every node is in this group, masters too, so that one rule lets all of them talk.
fn node_rules(options: &Options) -> Vec<Value> {
    let mut rules = vec![
        json!({"remote_mode": "remote_group_id"}),
        // Pods' own addresses are on the wire with host routes, and OVN checks them.
        json!({"remote_ip_prefix": options.pods.to_string()}),
    ];
    rules.extend(open(options, (22, 22)));
    if options.nodeports_open {
        for protocol in ["tcp", "udp"] {
            rules.push(json!({
                "protocol": protocol, "port_range_min": 30_000, "port_range_max": 32_767,
            }));
        }
    }
    rules
}

fn outputs(
    plan: &ClusterPlan,
    options: &Options,
    masters: u32,
    network: &Value,
    subnet: Option<&Value>,
) -> Vec<Output> {
    let lb = plan.cluster.master_lb_enabled;
    let private: Vec<Value> = (0..masters).map(port_address).collect();
    let public: Vec<Value> = (0..masters)
        .map(|i| attribute(&format!("master_{i}_fip"), "floating_ip_address"))
        .collect();
    let vip = attribute("lb", "vip_address");
    let lb_public = attribute("lb_fip", "floating_ip_address");
    let with_lb_fip = lb && options.lb_floating_ip;
    let internal = if lb { vip.clone() } else { port_address(0) };
    let api = match (with_lb_fip, lb, options.floating_ips) {
        (true, ..) => lb_public.clone(),
        (_, true, _) => vip,
        (_, _, true) => attribute("master_0_fip", "floating_ip_address"),
        _ => port_address(0),
    };
    let mut outside: Vec<Value> = with_lb_fip.then_some(lb_public).into_iter().collect();
    if options.floating_ips {
        outside.extend(public.iter().cloned());
    }
    let of_workers = |public: &str| match (has_member_template(options), options.floating_ips) {
        (true, true) => attribute("kube_minions", public),
        (true, false) => attribute("kube_minions", "kube_minion_ip"),
        (false, _) => attribute("kube_minions", "first_address"),
    };
    let servers: serde_json::Map<String, Value> = (0..masters)
        .map(|i| {
            let stack = plan.cluster.stack_name();
            (name::master_node(&stack, i), resource(&format!("master_{i}")))
        })
        .collect();
    let output = |name, description, value| Output { name, description, value };
    let mut foundation = vec![
        output("node_network", "The nodes' network", network.clone()),
        output("node_security_group", "The security group of every node", resource("sg_node")),
    ];
    if let Some(subnet) = subnet {
        foundation.push(output("node_subnet", "The nodes' subnet", subnet.clone()));
    }
    let mut outputs = vec![
        output("api_address", "Where the API is reached from outside the cluster", api),
        output("api_internal", "Where nodes reach the API", internal),
        output(
            "api_public",
            "Every address that the API must be valid for outside the cluster",
            Value::Array(outside),
        ),
        output(
            "kube_masters",
            "Addresses of the masters",
            Value::Array(if options.floating_ips { public } else { private.clone() }),
        ),
        output(
            "kube_masters_private",
            "Addresses of the masters inside the cluster's network",
            Value::Array(private),
        ),
        output("kube_minions", "Addresses of the workers", of_workers("kube_minion_external_ip")),
        output(
            "kube_minions_private",
            "Addresses of the workers inside the cluster's network",
            of_workers("kube_minion_ip"),
        ),
        output(
            "server_ids",
            "Nova's ids of the masters by name and of the workers by index, and indexes gone for good",
            json!({
                "masters": servers,
                "workers": attribute("kube_minions", "refs_map"),
                "removed": attribute("kube_minions", "removed_rsrc_list"),
            }),
        ),
    ];
    outputs.extend(foundation);
    // A further group's stack has workers and nothing else.
    if plan.foundation.is_some() {
        outputs
            .retain(|o| matches!(o.name, "kube_minions" | "kube_minions_private" | "server_ids"));
    }
    outputs
}

fn resource(name: &str) -> Value {
    json!({"get_resource": name})
}

fn attribute(resource: &str, name: &str) -> Value {
    json!({"get_attr": [resource, name]})
}

fn port_address(master: u32) -> Value {
    json!({"get_attr": [format!("master_{master}_port"), "fixed_ips", 0, "ip_address"]})
}

/// A comma list without its blanks.
fn listed(text: Option<&str>) -> Vec<&str> {
    text.unwrap_or_default().split(',').map(str::trim).filter(|item| !item.is_empty()).collect()
}

/// What servers of one kind get: who they are, whom to report to, and how.
#[derive(Serialize)]
struct UserData<'p> {
    ssh_keys: Vec<&'p str>,
    bootstrap_ca: &'p str,
    node_env: String,
    lib: &'static str,
    bootstrap: &'static str,
    unit: &'static str,
}

#[derive(Serialize)]
struct NodeEnv<'p> {
    bootstrap_url: &'p str,
    enrolment_token: &'p str,
    cluster_uuid: String,
    role: &'p str,
    nodegroup: &'p str,
    discovery_url: &'p str,
}

fn user_data(
    templates: &Templates,
    plan: &ClusterPlan,
    group: &str,
    role: &str,
    token: Option<&String>,
) -> Result<String, DriverError> {
    let discovery = plan.cluster.discovery_url.as_deref().filter(|_| role == "master");
    let node_env = templates.render(
        "node.env",
        &NodeEnv {
            bootstrap_url: &plan.settings.bootstrap_url,
            enrolment_token: token.map(String::as_str).unwrap_or_default(),
            cluster_uuid: plan.cluster.id.to_string(),
            role,
            nodegroup: group,
            discovery_url: discovery.unwrap_or_default(),
        },
    )?;
    let key = plan.facts.ssh_public_key.as_deref().map(str::trim).filter(|key| !key.is_empty());
    let context = UserData {
        ssh_keys: key.into_iter().collect(),
        bootstrap_ca: &plan.settings.bootstrap_ca,
        node_env,
        lib: LIB,
        bootstrap: BOOTSTRAP,
        unit: UNIT,
    };
    let data = templates.render("userdata.yaml", &context)?;
    match data.len() {
        0..=LARGEST_USER_DATA => Ok(data),
        bytes => Err(DriverError::Unsuitable(format!(
            "The user data of a {role} would have {bytes} bytes, more than the {LARGEST_USER_DATA} \
             that driver {NAME} allows itself. Use a shorter key pair, such as ed25519."
        ))),
    }
}
