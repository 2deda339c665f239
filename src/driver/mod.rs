//! The craft: a cluster goes in, what Heat shall build comes out. Pure.
//!
//! No client, no clock, no randomness: the same plan renders the same bytes, so
//! a golden file is the test.

pub mod bundle;
pub mod k8s_kubeadm_v1;
pub mod labels;
pub mod plan;
mod render;

use std::sync::Arc;

use crate::model::cluster_template::{Coe, ServerType};
use crate::model::labels::Labels;
use crate::model::stack::Stack;

pub use bundle::{Bundle, BundleFile};
pub use plan::{ClusterPlan, DutyPlan, NodePlan};

/// Why a driver does not render.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DriverError {
    /// What the tenant asked for cannot be built; the sentence names field, value and cure.
    #[error("{0}")]
    Unsuitable(String),
    /// The template is at fault, not the tenant.
    #[error("driver {driver}: {file}: {reason}")]
    Template { driver: String, file: String, reason: String },
}

/// What Heat built, read from a stack's outputs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// A URL such as `https://203.0.113.7:6443`.
    pub api_address: Option<String>,
    /// What `node_addresses` of the default groups show.
    pub master_addresses: Vec<String>,
    pub worker_addresses: Vec<String>,
    /// The masters' addresses inside the cluster's network, in order of their index;
    /// None until all of them are known.
    pub master_private: Option<Vec<String>>,
    /// Where nodes reach the API, without scheme or port; with a load balancer its address.
    pub api_internal: Option<String>,
    /// Every address by which somebody outside may call the API, so that its certificate
    /// can name them; None until all are known, empty when there are none.
    pub api_public: Option<Vec<String>>,
}

/// Builds one kind of cluster.
pub trait Driver: Send + Sync {
    fn name(&self) -> &str;

    /// Whether it builds this COE on servers of this type and images of this `os_distro`.
    fn provides(&self, server_type: ServerType, os_distro: &str, coe: Coe) -> bool;

    /// Names of network drivers it knows.
    fn network_drivers(&self) -> &[&str];

    /// What clusters show as `container_version`.
    fn container_version(&self) -> Option<&str>;

    /// Whether these labels, counts and flags can be built at all; before any side effect.
    fn check(&self, plan: &ClusterPlan) -> Result<(), DriverError>;

    /// The typed value of its label `etcd_bootstrap`.
    fn uses_discovery(&self, labels: &Labels) -> bool;

    /// The Kubernetes version of the plan's nodes, with its `v`; None where only the image knows.
    fn kube_version(&self, plan: &ClusterPlan) -> Option<String>;

    /// Whether the first master hands over secrets with which the other nodes join.
    fn joins_by_secrets(&self) -> bool {
        false
    }

    /// How many workers must be ready for the cluster to be complete; None means all.
    fn ready_threshold(&self, plan: &ClusterPlan) -> Option<u32>;

    /// What Heat should build.
    fn bundle(&self, plan: &ClusterPlan) -> Result<Bundle, DriverError>;

    /// What Heat built.
    fn outcome(&self, plan: &ClusterPlan, stack: &Stack) -> Outcome;

    /// The files that one node fetches while it boots.
    fn node_files(
        &self,
        plan: &ClusterPlan,
        node: &NodePlan,
    ) -> Result<Vec<BundleFile>, DriverError>;

    /// Whether a cluster, or a further group, that is `from` can be made `to` by rebuilding its
    /// servers one after the other.
    fn check_upgrade(&self, from: &ClusterPlan, to: &ClusterPlan) -> Result<(), DriverError>;

    /// The files with which a node does a duty; the node's certificates are those it shall have
    /// afterwards.
    fn duty_files(
        &self,
        plan: &ClusterPlan,
        node: &NodePlan,
        duty: &DutyPlan,
    ) -> Result<Vec<BundleFile>, DriverError>;
}

/// Every driver there is, in the order in which they are preferred.
#[derive(Clone, Default)]
pub struct Drivers {
    all: Vec<Arc<dyn Driver>>,
}

impl Drivers {
    /// The drivers that come with magnumd, without the `disabled` ones.
    pub fn builtin(disabled: &[String]) -> Self {
        let kubeadm = k8s_kubeadm_v1::KubeadmV1::new().expect("embedded templates that compile");
        let all: [Arc<dyn Driver>; 1] = [Arc::new(kubeadm)];
        let enabled = |d: &Arc<dyn Driver>| !disabled.iter().any(|name| name == d.name());
        Self { all: all.into_iter().filter(enabled).collect() }
    }

    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.all.iter().map(|d| d.name())
    }

    pub fn by_name(&self, name: &str) -> Option<Arc<dyn Driver>> {
        self.all.iter().find(|d| d.name() == name).cloned()
    }

    /// The driver for a cluster: the one requested, else the image's own wish, else the
    /// first that fits server type, `os_distro` and COE.
    pub fn select(
        &self,
        requested: Option<&str>,
        image_driver: Option<&str>,
        server_type: ServerType,
        os_distro: &str,
        coe: Coe,
    ) -> Result<Arc<dyn Driver>, DriverError> {
        if let Some(name) = requested.or(image_driver) {
            return self.by_name(name).ok_or_else(|| {
                DriverError::Unsuitable(format!("Cluster driver ({name}) not supported."))
            });
        }
        let fits = |d: &&Arc<dyn Driver>| d.provides(server_type, os_distro, coe);
        self.all.iter().find(fits).cloned().ok_or_else(|| {
            DriverError::Unsuitable(format!(
                "Cluster type ({server_type}, {os_distro}, {coe}) not supported."
            ))
        })
    }
}
