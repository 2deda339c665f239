//! ClusterPlan: all that a template may know.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::base::secret::Secret;
use crate::model::cluster::Cluster;
use crate::model::cluster_template::ClusterTemplate;
use crate::model::duty::DutyKind;
use crate::model::facts::{CloudFacts, ClusterNetwork};
use crate::model::nodegroup::NodeGroup;

/// One cluster with everything resolved.
#[derive(Clone, Debug)]
pub struct ClusterPlan {
    pub cluster: Cluster,
    pub template: ClusterTemplate,
    /// The groups of the stack to render: both default ones for the cluster's own stack.
    pub groups: Vec<NodeGroup>,
    pub facts: CloudFacts,
    pub settings: Settings,
    /// What each server presents when it reports: one for every master by index, then one
    /// for each worker group by name.
    pub enrolment: Enrolment,
    /// Of whose stack this is the plan: the cluster's own, or a further group's.
    pub foundation: Option<ClusterNetwork>,
    /// By what an update is recognised; empty at creation.
    pub revision: String,
    /// Server ids of workers that must go.
    pub removals: Vec<String>,
    pub images: NodeImages,
    pub flavors: NodeFlavors,
    /// The trustee's credentials, once they are there and for drivers that want them.
    pub trust: Option<Trust>,
    /// Key material for servers that fetch nothing, once it is there.
    pub inlined: Option<Inlined>,
    /// By which the members of etcd find each other, once it is known.
    pub discovery_url: Option<String>,
}

/// What servers are given with their user data where they cannot fetch it.
#[derive(Clone, Debug)]
pub struct Inlined {
    pub certificates: NodeCertificates,
    /// With which a worker's kubelet asks the cluster for its own certificate.
    pub bootstrap: (String, Secret<String>),
}

/// With which a server may act for the cluster in OpenStack.
#[derive(Clone, Debug)]
pub struct Trust {
    pub trustee_user_id: String,
    pub trustee_username: String,
    pub trustee_password: Secret<String>,
    pub trust_id: String,
}

impl ClusterPlan {
    /// The name of the stack to render.
    pub fn stack_name(&self) -> String {
        match (&self.foundation, self.groups.first()) {
            (Some(_), Some(group)) => group.stack_name(&self.cluster),
            _ => self.cluster.stack_name(),
        }
    }
}

/// Images of single nodes by index, while an upgrade is on its way.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NodeImages {
    /// Of the masters whose image is not the one that the facts name.
    pub masters: BTreeMap<u32, String>,
    /// Of every worker, if their images differ; empty if all have the facts' one.
    pub workers: BTreeMap<u32, String>,
}

/// Flavors of single nodes by index, while an upgrade to others is on its way; by id.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NodeFlavors {
    /// Of the masters whose flavor is not the one that the facts name.
    pub masters: BTreeMap<u32, String>,
    /// Of every worker, if their flavors differ; empty if all have the facts' one.
    pub workers: BTreeMap<u32, String>,
}

/// What the operator configured that templates need.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Settings {
    /// Keystone's public URL ending in `/v3`.
    pub auth_url: String,
    pub region: Option<String>,
    /// The base of the node bootstrap interface, such as `https://203.0.113.2:9513`.
    pub bootstrap_url: String,
    /// The CA of that interface in PEM; empty for plain HTTP.
    pub bootstrap_ca: String,
    /// The base of this service's own API, ending in `/v1`.
    pub magnum_url: String,
    /// The base of the etcd discovery.
    pub discovery_base: String,
    /// The CA of OpenStack's services in PEM; empty where the system's are enough.
    pub openstack_ca: String,
    pub default_network_driver: String,
    /// Minutes for the whole creation when the tenant asked for 0.
    pub create_timeout: u32,
    pub nested: bool,
}

/// Enrolment tokens; secret, but they must reach the servers' user data.
#[derive(Clone, Debug, Default)]
pub struct Enrolment {
    pub masters: Vec<Secret<String>>,
    /// Worker group name and token.
    pub workers: Vec<(String, Secret<String>)>,
}

/// One node that asks for its files.
#[derive(Clone, Debug)]
pub struct NodePlan {
    pub name: String,
    /// Position among the masters; None for workers.
    pub master_index: Option<u32>,
    /// Private addresses of all masters by index.
    pub master_addresses: Vec<String>,
    /// Addresses by which the API is called from outside; its certificate must name them.
    pub api_public: Vec<String>,
    /// The API's URL as nodes should use it.
    pub api_endpoint: String,
    /// Whether the cluster was there before: a master then joins its etcd instead of founding it.
    pub rejoins: bool,
    pub certificates: NodeCertificates,
}

/// What a node is given of the cluster's key material; keys for masters only.
#[derive(Clone, Debug, Default)]
pub struct NodeCertificates {
    pub ca: String,
    pub etcd_ca: String,
    pub front_proxy_ca: String,
    pub service_account_public: String,
    pub ca_key: Option<Secret<String>>,
    pub etcd_ca_key: Option<Secret<String>>,
    pub front_proxy_ca_key: Option<Secret<String>>,
    pub service_account_key: Option<Secret<String>>,
    /// For workers that fetch nothing.
    pub bootstrap: Option<(String, Secret<String>)>,
}

/// Something that a node which is ready shall do once.
#[derive(Clone, Debug)]
pub struct DutyPlan {
    pub number: u64,
    pub kind: DutyKind,
    /// Names of the nodes that it is about.
    pub targets: Vec<String>,
}
