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

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NodeGroup {
    pub id: NodeGroupId,
    pub sequence: Sequence,
    pub cluster_id: ClusterId,
    pub project_id: String,
    pub name: String,
    pub role: String,
    pub flavor_id: Option<String>,
    pub image_id: Option<String>,
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
