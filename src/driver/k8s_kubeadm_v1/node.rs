//! What a booting node fetches: scripts, settings, keys and manifests.

use serde::Serialize;
use serde_json::{Value, json};

use super::options::{NetworkDriver, Options};
use super::{OLDEST_MINOR, counts};
use crate::base::secret::Secret;
use crate::driver::render::Templates;
use crate::driver::{BundleFile, ClusterPlan, DriverError, NodePlan};
use crate::model::name;
use crate::model::nodegroup::NodeGroup;

/// A file of the bundle that is the same for every node.
macro_rules! script {
    ($path:literal) => {
        include_str!(concat!("../../../templates/k8s_kubeadm_v1/", $path))
    };
}
pub(super) use script;

/// What every template of the bundle may use.
#[derive(Serialize)]
struct Context<'p> {
    name: &'p str,
    cluster: String,
    cluster_uuid: String,
    master_index: String,
    master_address: &'p str,
    api_endpoint: &'p str,
    api_host: &'p str,
    control_plane_endpoint: String,
    kube_version: &'p str,
    oldest_minor: String,
    network_driver: &'static str,
    needs_tools: &'static str,
    image_repository: &'p str,
    insecure_registry: &'p str,
    http_proxy: Option<&'p str>,
    https_proxy: Option<&'p str>,
    no_proxy: String,
    pods: String,
    services: String,
    dns_address: String,
    etcd_discovery: &'static str,
    /// `yes` or nothing, as shells like it.
    etcd_rejoin: &'static str,
    etcd_peers: String,
    drain_timeout: String,
    initial_cluster: Option<String>,
    etcd_heartbeat: u32,
    etcd_election: u32,
    probe_failures: u32,
    etcd_volume: String,
    docker_volume: String,
    node_labels: String,
    taints: Vec<Value>,
    patience: String,
    names: Vec<String>,
    flannel_image: String,
    flannel_cni_image: String,
    cni_conf: String,
    net_conf: String,
    /// The rest differs between the versions of kubeadm's own configuration.
    api_version: &'static str,
    kubelet_args: Value,
    controller_args: Value,
    timeouts: Option<Value>,
    control_plane_timeout: Option<String>,
    encryption_algorithm: Option<&'static str>,
}

/// The settings that the node's scripts read.
pub(super) fn env(
    templates: &Templates,
    plan: &ClusterPlan,
    options: &Options,
    node: &NodePlan,
) -> Result<BundleFile, DriverError> {
    Ok(file("env", 0o600, templates.render("env", &context(plan, options, node)?)?))
}

pub fn files(
    templates: &Templates,
    plan: &ClusterPlan,
    options: &Options,
    node: &NodePlan,
) -> Result<Vec<BundleFile>, DriverError> {
    let mut context = context(plan, options, node)?;
    let render = |file: &str, context: &Context<'_>| templates.render(file, context);
    let mut files = vec![
        file("lib.sh", 0o644, script!("lib.sh")),
        file("setup.sh", 0o755, script!("bundle/setup.sh")),
        file("steps.sh", 0o644, script!("bundle/steps.sh")),
        file("env", 0o600, render("env", &context)?),
        file("pki/ca.crt", 0o644, pem(&node.certificates.ca)),
        file("magnumd-duty.sh", 0o755, script!("bundle/magnumd-duty.sh")),
        file("magnumd-duty.service", 0o644, script!("bundle/magnumd-duty.service")),
        file("magnumd-duty.timer", 0o644, script!("bundle/magnumd-duty.timer")),
    ];
    if context.http_proxy.is_some() || context.https_proxy.is_some() {
        files.push(file("proxy.env", 0o600, render("proxy.env", &context)?));
    }
    if !context.insecure_registry.is_empty() {
        files.push(file("hosts.toml", 0o644, render("hosts.toml", &context)?));
    }
    if options.network_driver == NetworkDriver::Bridge {
        files.push(file("magnumd-routes", 0o755, render("magnumd-routes", &context)?));
        files.push(file("magnumd-routes.service", 0o644, script!("bundle/magnumd-routes.service")));
        files.push(file("magnumd-routes.timer", 0o644, script!("bundle/magnumd-routes.timer")));
    }
    let Some(index) = node.master_index else {
        files.push(file("worker.sh", 0o644, script!("bundle/worker.sh")));
        files.push(file("kubelet.yaml", 0o644, render("kubelet.yaml", &context)?));
        files.push(file("kubelet.conf", 0o600, render("kubelet.conf", &context)?));
        return Ok(files);
    };
    files.push(file("master.sh", 0o644, script!("bundle/master.sh")));
    files.push(file("etcd.yaml", 0o600, render("etcd.yaml", &context)?));
    files.extend(keys(node)?);
    // Without a version known beforehand the node chooses, by the kubeadm it has.
    for api in ["v1beta3", "v1beta4"] {
        let since_31 = options.kube_version.as_ref().map(|version| version.minor >= 31);
        if since_31.is_none_or(|since_31| since_31 == (api == "v1beta4")) {
            choose_api(&mut context, options, api);
            let text = render("kubeadm.yaml", &context)?;
            files.push(file(&format!("kubeadm/{api}.yaml"), 0o600, text));
        }
    }
    if index == 0 {
        files.push(match options.network_driver {
            NetworkDriver::Flannel => {
                file("addons/flannel.yaml", 0o644, render("flannel.yaml", &context)?)
            }
            NetworkDriver::Bridge => {
                file("addons/bridge.yaml", 0o644, script!("bundle/bridge.yaml"))
            }
        });
    }
    Ok(files)
}

pub(super) fn file(path: &str, mode: u32, content: impl Into<String>) -> BundleFile {
    BundleFile { path: path.to_owned(), mode, content: content.into().into_bytes() }
}

/// PEM ends with a line break, however it was stored.
pub(super) fn pem(text: &str) -> String {
    format!("{}\n", text.trim_end())
}

/// What kubeadm signs with. The etcd CA's key stays here: etcd's leaves are asked for.
pub(super) fn keys(node: &NodePlan) -> Result<Vec<BundleFile>, DriverError> {
    let given = &node.certificates;
    let secret = |path: &str, key: &Option<Secret<String>>| match key {
        Some(key) => Ok(file(path, 0o600, pem(key.expose()))),
        None => Err(DriverError::Template {
            driver: super::NAME.to_owned(),
            file: path.to_owned(),
            reason: "a master was to be given this key, and it is not there".to_owned(),
        }),
    };
    Ok(vec![
        secret("pki/ca.key", &given.ca_key)?,
        file("pki/front-proxy-ca.crt", 0o644, pem(&given.front_proxy_ca)),
        secret("pki/front-proxy-ca.key", &given.front_proxy_ca_key)?,
        secret("pki/sa.key", &given.service_account_key)?,
        file("pki/sa.pub", 0o644, pem(&given.service_account_public)),
        file("pki/etcd/ca.crt", 0o644, pem(&given.etcd_ca)),
    ])
}

fn context<'p>(
    plan: &'p ClusterPlan,
    options: &'p Options,
    node: &'p NodePlan,
) -> Result<Context<'p>, DriverError> {
    let group = plan.groups.iter().find(|g| g.is_master() == node.master_index.is_some());
    let own = node.master_index.and_then(|i| node.master_addresses.get(i as usize));
    let host = node.api_endpoint.trim_start_matches("https://");
    let host = host.rsplit_once(':').map_or(host, |(host, _)| host);
    let rejoins = node.rejoins && node.master_index.is_some();
    let founds_by_discovery = options.uses_discovery && !rejoins;
    let template = &plan.template;
    let text =
        |value: &'p Option<String>| value.as_deref().map(str::trim).filter(|v| !v.is_empty());
    let (taints, node_labels) = match group {
        Some(group) => (taints(group), node_labels(group)?),
        None => (Vec::new(), String::new()),
    };
    Ok(Context {
        name: &node.name,
        // What the controllers write on things they make in the cloud; found again by it.
        cluster: plan.cluster.id.to_string(),
        cluster_uuid: plan.cluster.id.to_string(),
        master_index: node.master_index.map(|i| i.to_string()).unwrap_or_default(),
        master_address: own.map(String::as_str).unwrap_or_default(),
        api_endpoint: &node.api_endpoint,
        api_host: host,
        control_plane_endpoint: format!("{host}:6443"),
        kube_version: options.kube_version.as_ref().map_or("", |version| version.as_str()),
        oldest_minor: OLDEST_MINOR.to_string(),
        network_driver: options.network_driver.as_str(),
        needs_tools: match options.network_driver {
            NetworkDriver::Flannel => "",
            NetworkDriver::Bridge => "iptables",
        },
        image_repository: options.image_repository().unwrap_or_default(),
        insecure_registry: text(&template.insecure_registry).unwrap_or_default(),
        http_proxy: text(&template.http_proxy),
        https_proxy: text(&template.https_proxy),
        no_proxy: no_proxy(plan, options, node, host),
        pods: options.pods.to_string(),
        services: options.services.to_string(),
        dns_address: options.dns_address(),
        etcd_discovery: if founds_by_discovery { "yes" } else { "" },
        etcd_rejoin: if rejoins { "yes" } else { "" },
        etcd_peers: peers(node),
        drain_timeout: options.drain_timeout.to_string(),
        initial_cluster: (!founds_by_discovery).then(|| initial_cluster(plan, node)),
        etcd_heartbeat: options.etcd_heartbeat,
        etcd_election: options.etcd_election,
        probe_failures: options.kubeadm_timeout.div_ceil(10).max(24),
        etcd_volume: options.etcd_volume.to_string(),
        docker_volume: options.docker_volume.to_string(),
        node_labels,
        taints,
        // Three times as long as kubeadm waits for one thing: other nodes come up as well.
        patience: (3 * options.kubeadm_timeout).to_string(),
        names: names(node, host),
        flannel_image: options.image("ghcr.io/flannel-io/", "flannel", &options.flannel_tag),
        flannel_cni_image: options.image(
            "ghcr.io/flannel-io/",
            "flannel-cni-plugin",
            &options.flannel_cni_tag,
        ),
        cni_conf: pretty(&json!({
            "name": "cbr0",
            "cniVersion": "0.3.1",
            "plugins": [
                {"type": "flannel", "delegate": {"hairpinMode": true, "isDefaultGateway": true}},
                {"type": "portmap", "capabilities": {"portMappings": true}},
            ],
        })),
        net_conf: pretty(&json!({
            "Network": options.pods.to_string(),
            "SubnetLen": options.pods_per_node,
            "Backend": {"Type": options.flannel_backend},
        })),
        api_version: "",
        kubelet_args: Value::Null,
        controller_args: Value::Null,
        timeouts: None,
        control_plane_timeout: None,
        encryption_algorithm: None,
    })
}

/// v1beta4, of kubeadm 1.31, turned maps of arguments into lists and gathered all timeouts.
fn choose_api(context: &mut Context<'_>, options: &Options, api: &str) {
    let kubelet = [("node-ip", context.master_address), ("node-labels", &context.node_labels)];
    let share = options.pods_per_node.to_string();
    let controller = [("node-cidr-mask-size", share.as_str())];
    let wait = format!("{}s", options.kubeadm_timeout);
    let list = |pairs: &[(&str, &str)]| -> Value {
        pairs.iter().map(|(name, value)| json!({"name": name, "value": value})).collect()
    };
    let map = |pairs: &[(&str, &str)]| -> Value {
        Value::Object(pairs.iter().map(|(k, v)| ((*k).to_owned(), json!(v))).collect())
    };
    let (kubelet_args, controller_args) = match api {
        "v1beta4" => (list(&kubelet), list(&controller)),
        _ => (map(&kubelet), map(&controller)),
    };
    (context.kubelet_args, context.controller_args) = (kubelet_args, controller_args);
    match api {
        "v1beta4" => {
            context.api_version = "kubeadm.k8s.io/v1beta4";
            context.timeouts = Some(json!({
                "controlPlaneComponentHealthCheck": wait,
                "kubeletHealthCheck": wait,
                "kubernetesAPICall": wait,
            }));
            context.control_plane_timeout = None;
            context.encryption_algorithm = Some("ECDSA-P256");
        }
        _ => {
            context.api_version = "kubeadm.k8s.io/v1beta3";
            context.control_plane_timeout = Some(wait);
        }
    }
}

/// Every name and address by which the API may be called; kubeadm adds its own.
fn names(node: &NodePlan, host: &str) -> Vec<String> {
    let mut names = vec!["localhost".to_owned(), "127.0.0.1".to_owned(), host.to_owned()];
    names.extend(node.master_addresses.iter().chain(&node.api_public).cloned());
    let mut seen = std::collections::BTreeSet::new();
    names.retain(|name| !name.is_empty() && seen.insert(name.clone()));
    names
}

/// The other masters, for one that has lost its etcd.
fn peers(node: &NodePlan) -> String {
    let own = node.master_index.map(|i| i as usize);
    let others = node.master_addresses.iter().enumerate().filter(|(i, _)| Some(*i) != own);
    others.map(|(_, address)| address.as_str()).collect::<Vec<_>>().join(" ")
}

/// The members of etcd, which all boot at once and know each other from the start.
fn initial_cluster(plan: &ClusterPlan, node: &NodePlan) -> String {
    let (masters, _) = counts(plan);
    let stack = plan.cluster.stack_name();
    let members: Vec<String> = (0..masters)
        .zip(&node.master_addresses)
        .map(|(i, address)| format!("{}=https://{address}:2380", name::master_node(&stack, i)))
        .collect();
    members.join(",")
}

fn no_proxy(plan: &ClusterPlan, options: &Options, node: &NodePlan, host: &str) -> String {
    let given = plan.template.no_proxy.as_deref().unwrap_or_default();
    let mut hosts: Vec<String> = given
        .split(',')
        .map(str::trim)
        .filter(|host| !host.is_empty())
        .map(str::to_owned)
        .collect();
    hosts.extend(["localhost", "127.0.0.1", ".svc", ".cluster.local", host].map(str::to_owned));
    hosts.extend(options.nodes.map(|nodes| nodes.to_string()));
    hosts.extend([options.pods.to_string(), options.services.to_string()]);
    hosts.extend(node.master_addresses.iter().cloned());
    hosts.join(",")
}

/// As the kubelet registers itself; Magnum's own two first.
pub fn node_labels(group: &NodeGroup) -> Result<String, DriverError> {
    let mut labels = vec![
        ("magnum.openstack.org/role".to_owned(), group.role.clone()),
        ("magnum.openstack.org/nodegroup".to_owned(), group.name.clone()),
    ];
    labels.extend(group.node_labels.iter().map(|(k, v)| (k.clone(), v.clone())));
    let plain =
        |text: &str| text.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-/".contains(&b));
    match labels.iter().find(|(key, value)| !plain(key) || !plain(value)) {
        Some((key, value)) => Err(DriverError::Unsuitable(format!(
            "Node label {key}={value} of node group {} is not a label of Kubernetes: only letters, \
             digits, '.', '_', '-' and, in its name, '/' are possible.",
            group.name
        ))),
        None => Ok(labels.iter().map(|(k, v)| format!("{k}={v}")).collect::<Vec<_>>().join(",")),
    }
}

fn taints(group: &NodeGroup) -> Vec<Value> {
    let taint = |t: &crate::model::nodegroup::Taint| json!({"key": t.key, "value": t.value, "effect": t.effect});
    group.node_taints.iter().map(taint).collect()
}

fn pretty(value: &Value) -> String {
    format!("{value:#}\n")
}
