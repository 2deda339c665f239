//! Options: what labels, flags and profile ask for, typed and with defaults filled in.

use crate::driver::DriverError;
use crate::driver::labels::{Cidr, KubeVersion, LabelReader, invalid};
use crate::driver::plan::ClusterPlan;
use crate::model::labels::Labels;

/// How pods of different nodes reach each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NetworkDriver {
    /// A daemon set with an overlay or host routes; two images.
    Flannel,
    /// The plain CNI bridge and host routes kept by a timer; no image at all.
    Bridge,
}

impl NetworkDriver {
    /// Names as templates spell them, the most usual first.
    pub const NAMES: &[&str] = &["flannel", "bridge"];

    fn parse(name: &str) -> Option<Self> {
        match name {
            "flannel" => Some(Self::Flannel),
            "bridge" => Some(Self::Bridge),
            _ => None,
        }
    }

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Flannel => "flannel",
            Self::Bridge => "bridge",
        }
    }
}

/// Everything that labels and flags decide.
#[derive(Clone, Debug)]
pub struct Options {
    /// From label `kube_tag`, else from the image; None lets the image decide on the node.
    pub kube_version: Option<KubeVersion>,
    pub network_driver: NetworkDriver,
    pub uses_discovery: bool,
    /// Of the subnet that the stack makes; without one, of the subnet given, where known.
    pub nodes: Option<Cidr>,
    pub pods: Cidr,
    /// The prefix length of one node's share of `pods`.
    pub pods_per_node: u32,
    pub services: Cidr,
    pub flannel_backend: &'static str,
    pub flannel_tag: String,
    pub flannel_cni_tag: String,
    /// Before every image's name; empty for the images' own registries.
    pub image_prefix: String,
    pub availability_zone: Option<String>,
    /// Nova's policy for a group of servers; None makes no group.
    pub affinity: Option<&'static str>,
    /// GiB, 0 for none; likewise the next two.
    pub boot_volume: u32,
    pub etcd_volume: u32,
    pub docker_volume: u32,
    pub boot_volume_type: Option<String>,
    pub etcd_volume_type: Option<String>,
    pub docker_volume_type: Option<String>,
    /// Whether masters, or else the load balancer in front of them, and workers are reachable
    /// from outside.
    pub floating_ips: bool,
    pub lb_floating_ip: bool,
    /// Who may reach SSH and the API; empty for everybody.
    pub allowed_cidrs: Vec<Cidr>,
    pub lb_provider: Option<String>,
    pub lb_algorithm: &'static str,
    pub lb_monitor: bool,
    pub nodeports_open: bool,
    /// Milliseconds.
    pub etcd_heartbeat: u32,
    pub etcd_election: u32,
    /// How long kubeadm waits for one thing, in seconds.
    pub kubeadm_timeout: u32,
    /// How long a node may take to get rid of its pods before an upgrade, in seconds.
    pub drain_timeout: u32,
    /// How many workers must be ready; None for all.
    pub ready_threshold: Option<u32>,
}

/// Values of labels that this driver knows but cannot honour, and what to do instead.
const UNSUPPORTED: &[(&str, &[&str], &str)] = &[
    ("bootstrap_mode", &["inline", "heat"], "fetch, the only mode built so far"),
    ("node_auth", &["token"], "csr, the only way built so far"),
];

impl Options {
    pub fn read(plan: &ClusterPlan) -> Result<Self, DriverError> {
        let labels = LabelReader(&plan.cluster.labels);
        refuse_unsupported(labels)?;
        let nested = plan.settings.nested;
        let name = plan.template.network_driver.as_deref();
        let name = name.unwrap_or(&plan.settings.default_network_driver);
        let network_driver = NetworkDriver::parse(name).ok_or_else(|| {
            DriverError::Unsuitable(format!(
                "Network driver {name} is not supported by driver {}; set network_driver in the \
                 cluster template to one of {}.",
                super::NAME,
                NetworkDriver::NAMES.join(", ")
            ))
        })?;
        let floating_ips = plan.cluster.floating_ip_enabled;
        let heartbeat = labels.whole("etcd_heartbeat_interval", 50..=5000)?;
        let heartbeat = heartbeat.unwrap_or(if nested { 500 } else { 250 });
        let election = labels.whole("etcd_election_timeout", 500..=50_000)?;
        let election = election.unwrap_or(10 * heartbeat);
        if election < 5 * heartbeat {
            let cure = format!("at least five times etcd_heartbeat_interval, {}", 5 * heartbeat);
            return Err(invalid("etcd_election_timeout", &election.to_string(), &cure));
        }
        let affinity = labels
            .choice(
                "nodes_affinity_policy",
                &["none", "affinity", "anti-affinity", "soft-affinity", "soft-anti-affinity"],
            )?
            .filter(|policy| *policy != "none");
        let options = Self {
            kube_version: kube_version(plan, labels)?,
            network_driver,
            uses_discovery: uses_discovery(&plan.cluster.labels)?,
            nodes: nodes(plan, labels)?,
            pods: labels.cidr("flannel_network_cidr")?.unwrap_or(known_cidr("10.100.0.0/16")),
            pods_per_node: labels.whole("flannel_network_subnetlen", 9..=30)?.unwrap_or(24),
            services: labels
                .cidr("service_cluster_ip_range")?
                .unwrap_or(known_cidr("10.254.0.0/16")),
            flannel_backend: labels
                .choice("flannel_backend", &["vxlan", "host-gw"])?
                .unwrap_or("vxlan"),
            flannel_tag: labels.tag("flannel_tag")?.unwrap_or("v0.28.4").to_owned(),
            flannel_cni_tag: labels.tag("flannel_cni_tag")?.unwrap_or("v1.9.1-flannel1").to_owned(),
            image_prefix: labels
                .image_prefix("container_infra_prefix")?
                .unwrap_or_default()
                .to_owned(),
            availability_zone: labels.plain("availability_zone")?.map(str::to_owned),
            affinity,
            boot_volume: labels.whole("boot_volume_size", 0..=16_384)?.unwrap_or(0),
            etcd_volume: labels.whole("etcd_volume_size", 0..=16_384)?.unwrap_or(0),
            docker_volume: plan.cluster.docker_volume_size.unwrap_or(0),
            boot_volume_type: labels.plain("boot_volume_type")?.map(str::to_owned),
            etcd_volume_type: labels.plain("etcd_volume_type")?.map(str::to_owned),
            docker_volume_type: labels.plain("docker_volume_type")?.map(str::to_owned),
            floating_ips,
            lb_floating_ip: labels.flag("master_lb_floating_ip_enabled")?.unwrap_or(floating_ips),
            allowed_cidrs: labels.cidrs("master_lb_allowed_cidrs")?,
            lb_provider: labels.plain("octavia_provider")?.map(str::to_owned),
            lb_algorithm: labels
                .choice(
                    "octavia_lb_algorithm",
                    &["ROUND_ROBIN", "LEAST_CONNECTIONS", "SOURCE_IP", "SOURCE_IP_PORT"],
                )?
                .unwrap_or("ROUND_ROBIN"),
            lb_monitor: labels.flag("octavia_lb_healthcheck")?.unwrap_or(true),
            nodeports_open: labels.flag("nodeport_open")?.unwrap_or(true),
            etcd_heartbeat: heartbeat,
            etcd_election: election,
            kubeadm_timeout: labels.seconds("kubeadm_timeout", 60..=43_200)?.unwrap_or(if nested {
                1200
            } else {
                240
            }),
            drain_timeout: labels.seconds("drain_timeout", 30..=43_200)?.unwrap_or(600),
            ready_threshold: labels.whole("ready_threshold", 0..=u32::MAX)?,
        };
        options.check_networks()?;
        Ok(options)
    }

    /// Three networks that a packet must be able to tell apart.
    fn check_networks(&self) -> Result<(), DriverError> {
        let named = [
            ("the nodes' network (label fixed_subnet_cidr)", self.nodes),
            ("the pods' network (label flannel_network_cidr)", Some(self.pods)),
            ("the services' network (label service_cluster_ip_range)", Some(self.services)),
        ];
        for (i, (one, a)) in named.iter().enumerate() {
            for (other, b) in &named[i + 1..] {
                if let (Some(a), Some(b)) = (a, b)
                    && a.overlaps(*b)
                {
                    return Err(DriverError::Unsuitable(format!(
                        "{one}, {a}, overlaps {other}, {b}. Choose networks that do not overlap."
                    )));
                }
            }
        }
        let prefix = u32::from(self.pods.prefix);
        // Kubernetes refuses more than 2^16 shares of one network.
        if self.pods_per_node <= prefix || self.pods_per_node > prefix + 16 {
            let cure = format!(
                "from {} to {}, for the pods' network {}",
                prefix + 1,
                prefix + 16,
                self.pods
            );
            return Err(invalid(
                "flannel_network_subnetlen",
                &self.pods_per_node.to_string(),
                &cure,
            ));
        }
        if !(12..=28).contains(&self.services.prefix) {
            let cure = "an IPv4 network with a prefix from /12 to /28";
            return Err(invalid("service_cluster_ip_range", &self.services.to_string(), cure));
        }
        Ok(())
    }

    /// Whether pods' packets travel between nodes without being wrapped in nodes' packets.
    pub fn routes_pods(&self) -> bool {
        self.network_driver == NetworkDriver::Bridge || self.flannel_backend == "host-gw"
    }

    /// How many nodes find a share of the pods' network.
    pub fn most_nodes(&self) -> u32 {
        1 << (self.pods_per_node - u32::from(self.pods.prefix))
    }

    /// The address of the cluster's DNS service: the tenth, as Magnum has it.
    pub fn dns_address(&self) -> String {
        self.services.host(10).map(|address| address.to_string()).unwrap_or_default()
    }

    /// Where control-plane images come from, as kubeadm wants it; None for its own default.
    pub fn image_repository(&self) -> Option<&str> {
        self.image_prefix.strip_suffix('/')
    }

    pub fn image(&self, own_registry: &str, name: &str, tag: &str) -> String {
        match self.image_prefix.is_empty() {
            true => format!("{own_registry}{name}:{tag}"),
            false => format!("{}{name}:{tag}", self.image_prefix),
        }
    }
}

/// The typed value of label `etcd_bootstrap`.
pub fn uses_discovery(labels: &Labels) -> Result<bool, DriverError> {
    let chosen = LabelReader(labels).choice("etcd_bootstrap", &["static", "discovery"])?;
    Ok(chosen == Some("discovery"))
}

fn refuse_unsupported(labels: LabelReader<'_>) -> Result<(), DriverError> {
    for (name, values, cure) in UNSUPPORTED {
        if let Some(value) = labels.text(name).filter(|value| values.contains(value)) {
            return Err(invalid(name, value, cure));
        }
    }
    if labels.flag("ca_on_masters")? == Some(false) {
        return Err(invalid("ca_on_masters", "false", "true, the only way built so far"));
    }
    if labels.flag("cloud_provider_enabled")? == Some(true) {
        let cure = "false: driver k8s_kubeadm_v1 does not deploy the OpenStack cloud provider";
        return Err(invalid("cloud_provider_enabled", "true", cure));
    }
    Ok(())
}

/// What the tenant asked for must be what the image contains: nothing is downloaded.
fn kube_version(
    plan: &ClusterPlan,
    labels: LabelReader<'_>,
) -> Result<Option<KubeVersion>, DriverError> {
    let asked = labels.kube_version("kube_tag")?;
    // A property that does not parse was not written for us.
    let baked: Option<KubeVersion> =
        plan.facts.kube_version.as_deref().and_then(|text| text.parse().ok());
    if let (Some(asked), Some(baked)) = (&asked, &baked)
        && !asked.same_release(baked)
    {
        return Err(DriverError::Unsuitable(format!(
            "Label kube_tag asks for {asked}, but image {} contains Kubernetes {baked} (its \
             property kube_version). Choose an image with {asked}, or leave kube_tag away.",
            plan.template.image_id
        )));
    }
    let version = asked.or(baked);
    match version.as_ref().filter(|version| version.minor < super::OLDEST_MINOR) {
        Some(old) => Err(DriverError::Unsuitable(format!(
            "Kubernetes {old} is too old for driver {}: it builds v1.{}.0 and later. Choose an \
             image with a later version.",
            super::NAME,
            super::OLDEST_MINOR
        ))),
        None => Ok(version),
    }
}

fn nodes(plan: &ClusterPlan, labels: LabelReader<'_>) -> Result<Option<Cidr>, DriverError> {
    if plan.cluster.fixed_network.is_some() {
        let given = plan.facts.fixed_subnet_cidr.as_deref();
        // An IPv6 subnet shows up here; the network check then has nothing to compare.
        return Ok(given.and_then(|text| text.parse().ok()));
    }
    // The second name is what Magnum's templates called it before.
    let asked = match labels.cidr("fixed_subnet_cidr")? {
        Some(asked) => Some(asked),
        None => labels.cidr("fixed_network_cidr")?,
    };
    let nodes = asked.unwrap_or(known_cidr("10.0.0.0/24"));
    match nodes.prefix {
        8..=28 => Ok(Some(nodes)),
        _ => Err(invalid(
            "fixed_subnet_cidr",
            &nodes.to_string(),
            "an IPv4 network with a prefix from /8 to /28",
        )),
    }
}

fn known_cidr(text: &str) -> Cidr {
    text.parse().expect("a well-formed network")
}
