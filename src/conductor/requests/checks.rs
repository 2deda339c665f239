//! What must hold before a request is taken.

use crate::conductor::label_checks::Limits;
use crate::conductor::snapshot::ClusterSnapshot;
use crate::conductor::{Conductor, RequestContext, RequestError};
use crate::driver::ClusterPlan;
use crate::model::NodeGroupId;
use crate::model::cluster::Cluster;
use crate::model::facts::ClusterNetwork;
use crate::model::nodegroup::NodeGroup;
use crate::model::status::Status;
use crate::store::Stored;

impl Conductor {
    /// Whether the driver can build the cluster with this group as it shall be; what it would build.
    pub(super) fn check_group(
        &self,
        snapshot: &ClusterSnapshot,
        group: &NodeGroup,
    ) -> Result<ClusterPlan, RequestError> {
        let (settings, key) = (&self.inner.settings, &self.inner.enrolment);
        let plan = match group.is_default {
            true => snapshot.plan(settings, key).map(|mut plan| {
                for known in plan.groups.iter_mut().filter(|g| g.id == group.id) {
                    known.clone_from(group);
                }
                plan
            }),
            // What it stands on is looked up later and decides nothing here.
            false => {
                let (network, security_group) = (String::new(), String::new());
                let foundation = ClusterNetwork { network, subnet: None, security_group };
                snapshot.further(group, foundation, settings, key)
            }
        };
        let mut plan = plan.ok_or_else(|| RequestError::Conflict(snapshot.cannot_plan()))?;
        "check".clone_into(&mut plan.revision);
        self.driver_for_order(snapshot)?.check(&plan)?;
        Ok(plan)
    }
}

pub(super) fn found(
    snapshot: &ClusterSnapshot,
    id: NodeGroupId,
) -> Result<&Stored<NodeGroup>, RequestError> {
    snapshot
        .group(id)
        .ok_or_else(|| RequestError::Missing(format!("Nodegroup {id} could not be found.")))
}

pub(super) fn busy(snapshot: &ClusterSnapshot, why: &str) -> RequestError {
    RequestError::Conflict(format!(
        "Cluster {} is {}: {why}. Try again when this has changed.",
        snapshot.cluster.name, snapshot.cluster.status
    ))
}

/// Only a cluster at rest can be rebuilt or get new authorities; one whose last change failed may
/// need just that.
pub(super) fn in_status(snapshot: &ClusterSnapshot, what: &str) -> Result<(), RequestError> {
    more_than_a_record(snapshot)?;
    let status = snapshot.cluster.status;
    match status {
        Status::UpdateFailed => Ok(()),
        status if status.is_complete() && status != Status::DeleteComplete => Ok(()),
        _ => Err(RequestError::Invalid(format!(
            "{what} when status is \"{status}\" is not supported."
        ))),
    }
}

/// A record that was made anew for a stack lacks what building on it takes.
fn more_than_a_record(snapshot: &ClusterSnapshot) -> Result<(), RequestError> {
    match snapshot.facts {
        Some(_) => Ok(()),
        None => Err(RequestError::Conflict(format!(
            "Cluster {} was adopted from its Heat stack and its CA and keys are lost, so it can \
             only be shown and deleted; move what runs there to a new cluster.",
            snapshot.cluster.name
        ))),
    }
}

/// What nodes are given, and what they are asked to do, is made of template and facts.
pub(super) fn has_plan(snapshot: &ClusterSnapshot) -> Result<(), RequestError> {
    match snapshot.can_plan() {
        true => Ok(()),
        false => Err(RequestError::Conflict(snapshot.cannot_plan())),
    }
}

pub(super) fn not_on_its_way(snapshot: &ClusterSnapshot) -> Result<(), RequestError> {
    use Status::{CreateFailed, CreateInProgress, DeleteComplete, DeleteFailed, DeleteInProgress};
    // As in Magnum, what was never complete can only be deleted.
    let cure = match snapshot.cluster.status {
        CreateInProgress => "Try again when this has changed.",
        CreateFailed => {
            "Delete it and create it again; should all its nodes become ready yet, it becomes \
             complete by itself."
        }
        DeleteFailed => "Delete it again.",
        DeleteInProgress | DeleteComplete => "Create a new one.",
        _ => return Ok(()),
    };
    Err(RequestError::Conflict(format!(
        "Cluster {} is {}: only a cluster that was built and is not being deleted can change. {cure}",
        snapshot.cluster.name, snapshot.cluster.status
    )))
}

/// Complete, or an update that runs or has failed; of the cluster for orders about all of it,
/// of the group for orders about one.
pub(super) fn may_change(
    snapshot: &ClusterSnapshot,
    group: Option<&Stored<NodeGroup>>,
) -> Result<(), RequestError> {
    more_than_a_record(snapshot)?;
    not_on_its_way(snapshot)?;
    let Some(group) = group else { return Ok(()) };
    match group.status {
        Status::UpdateInProgress | Status::UpdateFailed | Status::RollbackFailed => Ok(()),
        status if status.is_complete() && status != Status::DeleteComplete => Ok(()),
        Status::CreateFailed | Status::DeleteFailed => Err(RequestError::Conflict(format!(
            "Node group {} is {}: only one that was built can change. Delete it and, if it is still \
             wanted, create it again.",
            group.name, group.status
        ))),
        status => Err(RequestError::Conflict(format!(
            "Node group {} is {status}: it can change when it is complete.",
            group.name
        ))),
    }
}

pub(super) fn own_project(
    tenant: &RequestContext<'_>,
    cluster: &Cluster,
    what: &str,
) -> Result<(), RequestError> {
    match tenant.requester.project_id.as_deref() == Some(&cluster.project_id) {
        true => Ok(()),
        false => Err(RequestError::Forbidden(format!(
            "Only a member of the project of cluster {} can {what}: the cloud is asked with \
             their token.",
            cluster.name
        ))),
    }
}

pub(super) fn check_count(group: &NodeGroup, wanted: u32) -> Result<(), RequestError> {
    if group.is_master() && wanted != group.node_count {
        return Err(RequestError::Invalid(format!(
            "Node group {} cannot be resized: masters are members of etcd.",
            group.name
        )));
    }
    let above = group.max_node_count.is_some_and(|most| wanted > most);
    match wanted < group.min_node_count || above {
        false => Ok(()),
        true => Err(RequestError::Invalid(format!(
            "Resizing {} outside the allowed range: min_node_count = {}, max_node_count = {}",
            group.name,
            group.min_node_count,
            group.max_node_count.map_or_else(|| "None".to_owned(), |most| most.to_string())
        ))),
    }
}

/// An upgrade that has not begun yet may bring other limits along.
pub(super) fn check_limits_to_come(
    snapshot: &ClusterSnapshot,
    group: &NodeGroup,
    wanted: u32,
) -> Result<(), RequestError> {
    let Some(rollout) = snapshot.rollout(group).filter(|_| group.is_default) else { return Ok(()) };
    let mut followed = group.clone();
    Limits::follow(&mut followed, &snapshot.cluster.labels, &rollout.labels);
    check_count(&followed, wanted)
}
