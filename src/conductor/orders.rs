//! What tenants may ask of a cluster that exists: checked against its status, then durable.

use std::collections::BTreeMap;

use super::{Conductor, Refusal, Tenant};
use crate::model::NodeGroupId;
use crate::model::cluster::Cluster;
use crate::model::cluster_template::ClusterTemplate;
use crate::model::nodegroup::NodeGroup;
use crate::model::status::HealthStatus;
use crate::store::Stored;

/// How many nodes a group shall have, and which must not be among them.
#[derive(Clone, Debug)]
pub struct ResizeOrder {
    pub nodegroup: NodeGroupId,
    pub node_count: u32,
    /// Server ids, names, addresses or indexes.
    pub nodes_to_remove: Vec<String>,
    pub rollback: bool,
}

/// Which template a group shall follow from now on.
#[derive(Clone, Debug)]
pub struct UpgradeOrder {
    pub template: ClusterTemplate,
    pub nodegroup: NodeGroupId,
    pub max_batch_size: u32,
}

fn unsupported(what: &str) -> Refusal {
    Refusal::Invalid(format!("{what} is not supported by this driver."))
}

impl Conductor {
    pub async fn resize(
        &self,
        _tenant: &Tenant<'_>,
        _cluster: &Stored<Cluster>,
        _order: ResizeOrder,
    ) -> Result<(), Refusal> {
        Err(unsupported("Resizing"))
    }

    pub async fn upgrade(
        &self,
        _tenant: &Tenant<'_>,
        _cluster: &Stored<Cluster>,
        _order: UpgradeOrder,
    ) -> Result<(), Refusal> {
        Err(unsupported("Upgrading"))
    }

    pub async fn create_nodegroup(
        &self,
        _tenant: &Tenant<'_>,
        _cluster: &Stored<Cluster>,
        _group: NodeGroup,
    ) -> Result<NodeGroup, Refusal> {
        Err(unsupported("A further node group"))
    }

    pub async fn update_nodegroup(
        &self,
        _tenant: &Tenant<'_>,
        _cluster: &Stored<Cluster>,
        _group: &Stored<NodeGroup>,
        _changed: NodeGroup,
    ) -> Result<(), Refusal> {
        Err(unsupported("Changing a node group"))
    }

    pub async fn delete_nodegroup(
        &self,
        _tenant: &Tenant<'_>,
        _cluster: &Stored<Cluster>,
        _group: &Stored<NodeGroup>,
    ) -> Result<(), Refusal> {
        Err(unsupported("Deleting a node group"))
    }

    pub async fn rotate_ca(
        &self,
        _tenant: &Tenant<'_>,
        _cluster: &Stored<Cluster>,
    ) -> Result<(), Refusal> {
        Err(unsupported("Rotating the CA"))
    }

    pub async fn rotate_credential(
        &self,
        _tenant: &Tenant<'_>,
        _cluster: &Stored<Cluster>,
    ) -> Result<(), Refusal> {
        Err(unsupported("Rotating the credential"))
    }

    pub async fn set_health(
        &self,
        _cluster: &Stored<Cluster>,
        _status: Option<HealthStatus>,
        _reason: BTreeMap<String, String>,
    ) -> Result<(), Refusal> {
        Err(unsupported("Setting health"))
    }
}
