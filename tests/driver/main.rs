//! The drivers that come with magnumd, from outside: plans go in, bundles come out.

#![allow(clippy::unwrap_used, reason = "a test panics where it fails")]
#![allow(clippy::print_stdout, reason = "the matrix shows sizes and counts to whoever looks")]

mod addons;
mod golden;
mod idle;
mod kit;
mod matrix;
mod metadata;
mod refusals;
mod schema;
mod scripts;
mod templates;
mod upgrade;

use std::sync::Arc;

use magnumd::driver::sample::{Sample, labels};
use magnumd::driver::{ClusterPlan, Driver, DriverError, Drivers, NodePlan};
use magnumd::model::cluster_template::{Coe, ServerType};
use magnumd::model::nodegroup::DEFAULT_WORKER;
use magnumd::model::stack::Stack;

const NAME: &str = "k8s_kubeadm_v1";

thread_local! {
    /// Compiled once for each thread: every test asks for it again and again.
    static DRIVERS: Drivers = Drivers::builtin(&[]);
}

fn driver() -> Arc<Driver> {
    DRIVERS.with(|all| all.by_name(NAME)).unwrap()
}

/// A cluster as the conductor would hand it over, on a cloud with every service.
pub fn plan(masters: u32, workers: u32) -> ClusterPlan {
    labelled(masters, workers, &[])
}

fn labelled(masters: u32, workers: u32, given: &[(&str, &str)]) -> ClusterPlan {
    let labels = labels(given.iter().copied());
    let mut plan = Sample { masters, workers, labels, ..Sample::default() }.plan(&driver());
    plan.template.image_id = "ubuntu".to_owned();
    plan
}

/// The certificates of a cluster: recognisable, not real.
pub fn node(plan: &ClusterPlan, master_index: Option<u32>) -> NodePlan {
    Sample::node(plan, master_index)
}

/// What a driver's nodes source: how they talk to magnumd.
fn library(name: &str) -> String {
    let driver = DRIVERS.with(|all| all.by_name(name)).unwrap();
    let plan = Sample::default().plan(&driver);
    let files = driver.node_files(&plan, &Sample::node(&plan, None)).unwrap();
    let library = files.into_iter().find(|file| file.path == "lib.sh").unwrap();
    String::from_utf8(library.content).unwrap()
}

/// Load balancer, floating IPs, every volume, a boot volume and server groups.
fn everything() -> ClusterPlan {
    let mut plan = labelled(
        3,
        2,
        &[
            ("etcd_volume_size", "5"),
            ("etcd_volume_type", "fast"),
            ("boot_volume_size", "20"),
            ("availability_zone", "nova"),
            ("nodes_affinity_policy", "soft-anti-affinity"),
            ("master_lb_allowed_cidrs", "198.51.100.0/24"),
            ("octavia_provider", "amphora"),
            ("container_infra_prefix", "registry.example.org/magnum/"),
            ("kube_tag", "v1.30.2"),
        ],
    );
    plan.facts.kube_version = None;
    plan.cluster.floating_ip_enabled = true;
    plan.cluster.master_lb_enabled = true;
    plan.cluster.docker_volume_size = Some(10);
    plan.template.http_proxy = Some("http://proxy.example.org:3128".to_owned());
    plan.template.insecure_registry = Some("192.0.2.7:5000".to_owned());
    plan
}

/// Floating IPs everywhere, so that workers are templates of their own; nothing else.
fn public() -> ClusterPlan {
    let mut plan = plan(1, 2);
    plan.cluster.floating_ip_enabled = true;
    plan
}

/// On a network that is there already and may belong to somebody else.
fn existing() -> ClusterPlan {
    let mut plan = plan(1, 1);
    plan.cluster.fixed_network = Some("private".to_owned());
    plan.facts.fixed_network_id = Some("6b0a0b5e-0000-4000-8000-000000000003".to_owned());
    plan.facts.fixed_subnet_id = Some("6b0a0b5e-0000-4000-8000-000000000004".to_owned());
    plan.facts.fixed_subnet_cidr = Some("192.168.7.0/24".to_owned());
    plan
}

/// No image but kubeadm's own, an existing network, discovery instead of a member list.
fn nested() -> ClusterPlan {
    let mut plan = labelled(3, 0, &[("etcd_bootstrap", "discovery"), ("nodeport_open", "false")]);
    plan.settings.nested = true;
    plan.facts.kube_version = None;
    plan.template.network_driver = Some("bridge".to_owned());
    plan.discovery_url = Some("http://203.0.113.2:9512/0123456789abcdef".to_owned());
    plan.cluster.fixed_network = Some("private".to_owned());
    plan.facts.fixed_network_id = Some("6b0a0b5e-0000-4000-8000-000000000003".to_owned());
    plan.facts.fixed_subnet_id = Some("6b0a0b5e-0000-4000-8000-000000000004".to_owned());
    plan.facts.fixed_subnet_cidr = Some("192.168.7.0/24".to_owned());
    plan
}
