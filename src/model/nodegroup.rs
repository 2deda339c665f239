//! NodeGroup: servers of one cluster that are alike.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::cluster::Cluster;
use super::labels::Labels;
use super::name;
use super::status::Status;
use super::{ClusterId, NodeGroupId, Sequence};
use crate::base::clock::Timestamp;

/// The role of the group that runs the control plane.
pub const MASTER: &str = "master";
/// The role of ordinary groups; others are free text and count as workers.
pub const WORKER: &str = "worker";
pub const DEFAULT_MASTER: &str = "default-master";
pub const DEFAULT_WORKER: &str = "default-worker";
/// MiB of memory without which kubeadm makes no control plane.
pub const CONTROL_PLANE_RAM: u64 = 1700;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NodeGroup {
    pub id: NodeGroupId,
    pub sequence: Sequence,
    pub cluster_id: ClusterId,
    pub project_id: String,
    pub name: String,
    pub role: String,
    pub flavor_id: Option<String>,
    /// As it was asked for: a name or an id.
    pub image_id: Option<String>,
    /// Its id, which a further group keeps when the name comes to mean another image; None: that
    /// of the cluster.
    pub image: Option<String>,
    pub node_count: u32,
    pub min_node_count: u32,
    /// None means unbounded.
    pub max_node_count: Option<u32>,
    /// GiB.
    pub docker_volume_size: Option<u32>,
    pub labels: Labels,
    pub is_default: bool,
    pub stack_id: Option<String>,
    pub status: Status,
    pub status_reason: Option<String>,
    pub node_addresses: Vec<String>,
    pub version: Option<String>,
    pub node_labels: BTreeMap<String, String>,
    pub node_taints: Vec<Taint>,
    pub created_at: Timestamp,
    pub updated_at: Option<Timestamp>,
}

/// A Kubernetes taint.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Taint {
    pub key: String,
    pub value: String,
    pub effect: String,
}

impl NodeGroup {
    /// A new cluster's default group of masters or workers; its identity comes later.
    pub fn default_of(cluster: &Cluster, image: &str, role: &'static str, count: u32) -> Self {
        let (name, flavor) = match role {
            MASTER => (DEFAULT_MASTER, &cluster.master_flavor_id),
            _ => (DEFAULT_WORKER, &cluster.flavor_id),
        };
        Self {
            id: NodeGroupId::new(uuid::Uuid::nil()),
            sequence: Sequence(0),
            cluster_id: cluster.id,
            project_id: cluster.project_id.clone(),
            name: name.to_owned(),
            role: role.to_owned(),
            flavor_id: flavor.clone(),
            image_id: Some(image.to_owned()),
            image: None,
            node_count: count,
            min_node_count: 0,
            max_node_count: None,
            docker_volume_size: cluster.docker_volume_size,
            labels: cluster.labels.clone(),
            is_default: true,
            stack_id: None,
            status: Status::CreateInProgress,
            status_reason: None,
            node_addresses: Vec::new(),
            version: None,
            node_labels: BTreeMap::new(),
            node_taints: Vec::new(),
            created_at: cluster.created_at,
            updated_at: None,
        }
    }

    pub fn identified(self, id: NodeGroupId, sequence: Sequence) -> Self {
        Self { id, sequence, ..self }
    }

    /// The name of the stack that holds its servers.
    pub fn stack_name(&self, cluster: &Cluster) -> String {
        match self.is_default {
            true => cluster.stack_name(),
            false => name::group_stack_name(&cluster.name, &self.name, self.id),
        }
    }

    pub fn is_master(&self) -> bool {
        self.role == MASTER
    }
}

/// The master and worker counts that Magnum shows for a cluster.
pub fn counts<'g>(groups: impl IntoIterator<Item = &'g NodeGroup>) -> (u32, u32) {
    groups.into_iter().fold((0, 0), |(masters, workers), group| match group.is_master() {
        true => (masters + group.node_count, workers),
        false => (masters, workers + group.node_count),
    })
}
