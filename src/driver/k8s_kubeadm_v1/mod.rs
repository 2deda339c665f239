//! Driver k8s_kubeadm_v1: Kubernetes by kubeadm on images that already contain it.
//!
//! One flat stack; all servers boot side by side and report to magnumd. Masters are rendered
//! one by one, because each has its own address and token; workers are one resource group,
//! because they share everything.

mod check;
mod duty;
mod node;
mod options;
mod outcome;
mod stack;
#[cfg(test)]
mod tests;
mod upgrade;

use super::render::Templates;
use super::{Bundle, BundleFile, ClusterPlan, Driver, DriverError, DutyPlan, NodePlan, Outcome};
use crate::model::cluster_template::{Coe, ServerType};
use crate::model::labels::Labels;
use crate::model::nodegroup;
use crate::model::stack::Stack;

use options::{NetworkDriver, Options};

pub const NAME: &str = "k8s_kubeadm_v1";

/// The oldest Kubernetes 1.x whose kubeadm reads what we write.
const OLDEST_MINOR: u32 = 25;

/// `os_distro` of the images it boots: those with systemd, cloud-init and bash.
const DISTROS: &[&str] =
    &["ubuntu", "debian", "rockylinux", "rocky", "rhel", "centos", "almalinux"];

/// A template by the name of what it renders.
macro_rules! template {
    ($name:literal, $path:literal) => {
        ($name, include_str!(concat!("../../../templates/k8s_kubeadm_v1/", $path, ".tera")))
    };
}

const TEMPLATES: &[(&str, &str)] = &[
    template!("stack.yaml", "stack.yaml"),
    template!("kubeminion.yaml", "kubeminion.yaml"),
    template!("userdata.yaml", "userdata.yaml"),
    template!("node.env", "node.env"),
    template!("env", "bundle/env"),
    template!("kubeadm.yaml", "bundle/kubeadm.yaml"),
    template!("etcd.yaml", "bundle/etcd.yaml"),
    template!("kubelet.yaml", "bundle/kubelet.yaml"),
    template!("kubelet.conf", "bundle/kubelet.conf"),
    template!("flannel.yaml", "bundle/flannel.yaml"),
    template!("magnumd-routes", "bundle/magnumd-routes"),
    template!("proxy.env", "bundle/proxy.env"),
    template!("hosts.toml", "bundle/hosts.toml"),
    template!("duty.env", "duty.env"),
];

/// The driver; holds nothing but its compiled templates.
pub struct KubeadmV1 {
    templates: Templates,
}

impl KubeadmV1 {
    pub fn new() -> Result<Self, DriverError> {
        Ok(Self { templates: Templates::new(NAME, TEMPLATES)? })
    }
}

impl Driver for KubeadmV1 {
    fn name(&self) -> &str {
        NAME
    }

    fn provides(&self, server_type: ServerType, os_distro: &str, coe: Coe) -> bool {
        server_type == ServerType::Vm && coe == Coe::Kubernetes && DISTROS.contains(&os_distro)
    }

    fn network_drivers(&self) -> &[&str] {
        NetworkDriver::NAMES
    }

    /// The image brings its own containerd; no version is chosen here.
    fn container_version(&self) -> Option<&str> {
        None
    }

    fn check(&self, plan: &ClusterPlan) -> Result<(), DriverError> {
        let options = check::check(plan)?;
        let template = stack::template(&self.templates, plan, &options)?;
        check::template_size(&template)
    }

    fn uses_discovery(&self, labels: &Labels) -> bool {
        // A wrong value was refused before the cluster was accepted.
        options::uses_discovery(labels).unwrap_or(false)
    }

    fn kube_version(&self, plan: &ClusterPlan) -> Option<String> {
        Some(Options::read(plan).ok()?.kube_version?.as_str().to_owned())
    }

    fn ready_threshold(&self, plan: &ClusterPlan) -> Option<u32> {
        Options::read(plan).ok()?.ready_threshold
    }

    fn bundle(&self, plan: &ClusterPlan) -> Result<Bundle, DriverError> {
        let options = check::check(plan)?;
        let bundle = stack::bundle(&self.templates, plan, &options)?;
        check::template_size(&bundle.template)?;
        Ok(bundle)
    }

    fn outcome(&self, plan: &ClusterPlan, stack: &Stack) -> Outcome {
        outcome::read(plan, stack)
    }

    fn node_files(
        &self,
        plan: &ClusterPlan,
        node: &NodePlan,
    ) -> Result<Vec<BundleFile>, DriverError> {
        let options = Options::read(plan)?;
        node::files(&self.templates, plan, &options, node)
    }

    fn check_upgrade(&self, from: &ClusterPlan, to: &ClusterPlan) -> Result<(), DriverError> {
        upgrade::check(from, to)
    }

    fn duty_files(
        &self,
        plan: &ClusterPlan,
        node: &NodePlan,
        duty: &DutyPlan,
    ) -> Result<Vec<BundleFile>, DriverError> {
        let options = Options::read(plan)?;
        duty::files(&self.templates, plan, &options, node, duty)
    }
}

/// Masters and workers of the stack.
fn counts(plan: &ClusterPlan) -> (u32, u32) {
    nodegroup::counts(&plan.groups)
}
