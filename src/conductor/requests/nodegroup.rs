//! Further node groups: made, changed and deleted.

use tracing::info;

use super::checks::{check_count, found, may_change, not_on_its_way, own_project};
use super::{MOST_GROUPS, ResizeOrder, actor, can_make_trusts, os_distro};
use crate::conductor::label_checks::own_labels;
use crate::conductor::snapshot::ClusterSnapshot;
use crate::conductor::{Conductor, RequestContext, RequestError};
use crate::driver::KubeVersion;
use crate::model::cluster::Cluster;
use crate::model::nodegroup::NodeGroup;
use crate::model::operation::{
    CreateNodeGroup, CreateNodeGroupStep, DeleteNodeGroup, DeleteNodeGroupStep, Operation,
    OperationKind,
};
use crate::model::status::Status;
use crate::store::{Change, StoreError, Stored};

impl Conductor {
    /// A further group, in a stack of its own.
    pub async fn create_nodegroup(
        &self,
        tenant: &RequestContext<'_>,
        cluster: &Stored<Cluster>,
        group: NodeGroup,
    ) -> Result<NodeGroup, RequestError> {
        // The tenant's own token makes the stack: Heat makes a trust of its own from it.
        own_project(tenant, cluster, "create a node group")?;
        can_make_trusts(tenant.requester)?;
        if group.is_master() {
            return Err(RequestError::Invalid(
                "Invalid input for field role. Value: 'master'. Masters are made with the \
                 cluster only; choose worker or another name."
                    .to_owned(),
            ));
        }
        check_count(&group, group.node_count)?;
        let asker = actor(tenant)?;
        let mut group = group;
        if let Some(wanted) = group.flavor_id.clone() {
            self.flavor(&asker, Some(&wanted)).await?;
        }
        // With its id and version: the cluster may move to another image while the group stays,
        // and a name may come to mean another one.
        let mut distro = None;
        if let Some(wanted) = group.image_id.clone() {
            let image = self.image(&asker, &wanted).await?;
            distro = Some(os_distro(&image, &wanted)?);
            (group.image, group.version) = (Some(image.id), image.kube_version);
        }
        group.is_default = false;
        group.stack_id = None;
        group.status = Status::CreateInProgress;
        group.status_reason = None;
        let id = cluster.id;
        self.order(id, |snapshot| {
            may_change(snapshot, None)?;
            if snapshot.groups.iter().any(|g| g.name == group.name) {
                return Err(RequestError::Conflict(format!(
                    "A node group with name {} already exists in the cluster {}.",
                    group.name, snapshot.cluster.name
                )));
            }
            if snapshot.groups.len() >= MOST_GROUPS {
                return Err(RequestError::Conflict(format!(
                    "Cluster {} has {MOST_GROUPS} node groups, and no cluster has more. Resize one \
                     of them, or delete one first.",
                    snapshot.cluster.name
                )));
            }
            let driver = self.driver_for_order(snapshot)?;
            driver.check_nodegroups()?;
            if let Some(distro) = &distro {
                check_group_image(snapshot, &group, distro)?;
            }
            let own = own_labels(&group.labels, &snapshot.cluster.labels);
            self.check_new_labels(&driver, &own)?;
            let plan = self.check_group(snapshot, &group)?;
            if let Some(mut cluster) = snapshot.plan(&self.inner.settings, &self.inner.enrolment) {
                plan.revision.clone_into(&mut cluster.revision);
                driver.check_group_labels(&cluster, &plan, &own)?;
            }
            let create = CreateNodeGroup { step: CreateNodeGroupStep::Stack, nodegroup: group.id };
            let mut operation = self.new_operation(tenant, snapshot, create)?;
            operation.token = self.lent_token(tenant, &snapshot.cluster);
            info!(cluster = %id, group = group.name, "node group accepted");
            let change = Change::new().expect_absent(&group).put(&group).put(&operation);
            Ok(self.in_progress(snapshot, change))
        })
        .await?;
        Ok(group)
    }

    /// New limits and labels for nodes to come; a new count is a resize.
    pub async fn update_nodegroup(
        &self,
        tenant: &RequestContext<'_>,
        cluster: &Stored<Cluster>,
        group: &Stored<NodeGroup>,
        changed: NodeGroup,
    ) -> Result<(), RequestError> {
        check_count(&changed, changed.node_count)?;
        let id = cluster.id;
        self.order(id, |snapshot| {
            let now = found(snapshot, group.id)?;
            may_change(snapshot, Some(now))?;
            if now.revision != group.revision {
                // What shall be was made from what the caller read: laid over anything newer it
                // would undo that.
                return Err(StoreError::Conflict.into());
            }
            let mut next = now.record.clone();
            next.min_node_count = changed.min_node_count;
            next.max_node_count = changed.max_node_count;
            next.labels = changed.labels.clone();
            next.node_labels = changed.node_labels.clone();
            next.node_taints = changed.node_taints.clone();
            next.updated_at = Some(self.inner.clock.now());
            let new = own_labels(&next.labels, &now.labels);
            self.check_new_labels(&*self.driver_for_order(snapshot)?, &new)?;
            self.check_group(snapshot, &next)?;
            if now.status.is_complete() {
                next.status = Status::UpdateComplete;
            }
            let change = Change::new().expect(now);
            Ok(match snapshot.operation.is_some() {
                true => self.in_progress(snapshot, change.put(&next)),
                false => self.with_cluster(snapshot, change, &[next], None, None),
            })
        })
        .await?;
        if changed.node_count != group.node_count {
            let order = ResizeOrder {
                nodegroup: group.id,
                node_count: changed.node_count,
                nodes_to_remove: Vec::new(),
                rollback: false,
            };
            self.resize(tenant, cluster, order).await?;
        }
        Ok(())
    }

    /// Overtakes whatever is being done about the group; idempotent.
    pub async fn delete_nodegroup(
        &self,
        tenant: &RequestContext<'_>,
        cluster: &Stored<Cluster>,
        group: &Stored<NodeGroup>,
    ) -> Result<(), RequestError> {
        if group.is_default {
            return Err(RequestError::Invalid(
                "Deleting a default nodegroup is not supported.".to_owned(),
            ));
        }
        let id = cluster.id;
        self.order(id, |snapshot| {
            not_on_its_way(snapshot)?;
            let Some(group) = snapshot.group(group.id) else { return Ok(Change::new()) };
            let about = |o: &&Stored<Operation>| o.nodegroup() == Some(group.id);
            let mut change = Change::new();
            for overtaken in snapshot.operations().filter(about) {
                if matches!(overtaken.kind, OperationKind::DeleteNodeGroup(_)) {
                    return Ok(Change::new());
                }
                change = change.expect(overtaken).delete(&overtaken.record);
            }
            let delete = DeleteNodeGroup { step: DeleteNodeGroupStep::Stack, nodegroup: group.id };
            let mut operation = self.new_operation(tenant, snapshot, delete)?;
            // However long Heat is away, the group shall go.
            operation.deadline = None;
            operation.token = self.lent_token(tenant, &snapshot.cluster);
            let mut going = group.record.clone();
            going.status = Status::DeleteInProgress;
            going.status_reason = None;
            going.updated_at = Some(operation.began);
            info!(cluster = %id, group = going.name, "deletion of node group accepted");
            let change = change.expect(group).put(&going).put(&operation);
            Ok(self.in_progress(snapshot, change))
        })
        .await
    }
}

/// Whether nodes of a group's own image can join the cluster.
fn check_group_image(
    snapshot: &ClusterSnapshot,
    group: &NodeGroup,
    os_distro: &str,
) -> Result<(), RequestError> {
    // What is lost is told by whoever needs it.
    let Some(facts) = &snapshot.facts else { return Ok(()) };
    let image = group.image_id.as_deref().unwrap_or_default();
    let refused = |why: String| {
        Err(RequestError::Invalid(format!(
            "Invalid input for field/attribute image_id. Value: '{image}'. {why}"
        )))
    };
    if os_distro != facts.os_distro {
        return refused(format!(
            "It is {os_distro}, and the nodes of the cluster are {}. Choose an image of the same \
             os_distro.",
            facts.os_distro
        ));
    }
    let minor = |version: &Option<String>| {
        version.as_deref().and_then(|text| text.parse().ok()).map(|v: KubeVersion| v.minor)
    };
    match minor(&group.version).zip(minor(&facts.kube_version)) {
        // Kubernetes' version skew policy.
        Some((own, cluster)) if own > cluster => refused(format!(
            "It has Kubernetes {}, and the cluster {}: a kubelet may be older than its API server, \
             not newer. Upgrade the cluster first, or choose another image.",
            group.version.as_deref().unwrap_or_default(),
            facts.kube_version.as_deref().unwrap_or_default()
        )),
        _ => Ok(()),
    }
}
