//! Who may speak for which node. Pure.

use hyper::StatusCode;

use super::http::Fault;
use crate::base::clock::Timestamp;
use crate::model::cluster::Cluster;
use crate::model::name;
use crate::model::nodegroup::NodeGroup;
use crate::model::status::Status;
use crate::pki::enrolment::Enrolment;

/// A node that we rendered, spoken for by a token that is its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeIdentity {
    pub name: String,
    pub nodegroup: String,
    /// Position among the masters; None for workers.
    pub master_index: Option<u32>,
}

impl NodeIdentity {
    pub const fn role(&self) -> &'static str {
        if self.master_index.is_some() { "master" } else { "worker" }
    }
}

/// Whether `claims` may speak for `node` of `cluster`.
pub fn admit(
    claims: &Enrolment,
    cluster: &Cluster,
    groups: &[NodeGroup],
    node: &str,
) -> Result<NodeIdentity, Fault> {
    if matches!(cluster.status, Status::DeleteInProgress | Status::DeleteComplete) {
        return Err(Fault::gone());
    }
    let group = groups.iter().find(|g| g.name == claims.nodegroup).ok_or_else(|| {
        Fault::forbidden("The enrolment token is for a node group that is no longer there.")
    })?;
    let stack = cluster.stack_name();
    let masters: u32 = groups.iter().filter(|g| g.is_master()).map(|g| g.node_count).sum();
    let master_index = (0..masters).find(|i| name::master_node(&stack, *i) == node);
    if master_index.is_none() && !is_worker(&group.stack_name(cluster), node) {
        return Err(Fault::forbidden("The path names a node that is not one of this cluster's."));
    }
    // Masters get the cluster's keys: their tokens are for one name each.
    let own = match &claims.node {
        Some(only) => only == node,
        None => master_index.is_none(),
    };
    let role = if master_index.is_some() { "master" } else { "worker" };
    if !own || claims.role != role || group.is_master() != master_index.is_some() {
        return Err(Fault::forbidden("The enrolment token is for another node or role."));
    }
    Ok(NodeIdentity { name: node.to_owned(), nodegroup: group.name.clone(), master_index })
}

/// Which node of `cluster` is called so: for whoever has shown in another way who it is.
pub fn known(cluster: &Cluster, groups: &[NodeGroup], node: &str) -> Result<NodeIdentity, Fault> {
    let mut refused = Fault::forbidden("The certificate is of a node that is no longer there.");
    for group in groups {
        let claims = Enrolment {
            cluster: cluster.id,
            nodegroup: group.name.clone(),
            role: if group.is_master() { "master" } else { "worker" }.to_owned(),
            node: Some(node.to_owned()),
            expires_at: Timestamp::EPOCH,
        };
        match admit(&claims, cluster, groups, node) {
            Ok(guest) => return Ok(guest),
            // The cluster is on its way out.
            Err(fault) if fault.status == StatusCode::NOT_FOUND => refused = fault,
            Err(_) => {}
        }
    }
    Err(refused)
}

/// Any index: groups grow and shrink, and Heat counts on.
fn is_worker(stack: &str, node: &str) -> bool {
    let index = node.strip_prefix(&name::worker_node_prefix(stack)).unwrap_or_default();
    let number: Option<u32> = index.parse().ok();
    number.is_some_and(|n| n.to_string() == index)
}
