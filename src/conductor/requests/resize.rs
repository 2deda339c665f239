//! A new node count for a group, and the nodes that must go.

use tracing::info;

use super::checks::{check_count, check_limits_to_come, found, may_change};
use crate::conductor::{Conductor, RequestContext, RequestError};
use crate::model::NodeGroupId;
use crate::model::cluster::Cluster;
use crate::model::operation::{Resize, ResizeStep};
use crate::model::status::Status;
use crate::store::{Change, Stored};

/// How many nodes a group shall have, and which must not be among them.
#[derive(Clone, Debug)]
pub struct ResizeOrder {
    pub nodegroup: NodeGroupId,
    pub node_count: u32,
    /// Server ids, names, addresses or indexes.
    pub nodes_to_remove: Vec<String>,
    pub rollback: bool,
}

impl Conductor {
    /// A new node count, and the nodes that must go. While the group is being resized the
    /// newer count stands and the nodes to remove add up.
    pub async fn resize(
        &self,
        tenant: &RequestContext<'_>,
        cluster: &Stored<Cluster>,
        order: ResizeOrder,
    ) -> Result<(), RequestError> {
        let id = cluster.id;
        let snapshot = self.snapshot(id)?;
        let group = found(&snapshot, order.nodegroup)?;
        may_change(&snapshot, Some(group))?;
        check_count(group, order.node_count)?;
        let remove = self.resolve(&snapshot, group, &order.nodes_to_remove).await?;
        self.order(id, |snapshot| {
            let group = found(snapshot, order.nodegroup)?;
            may_change(snapshot, Some(group))?;
            check_limits_to_come(snapshot, group, order.node_count)?;
            let mut wanted = group.record.clone();
            wanted.node_count = order.node_count;
            self.check_group(snapshot, &wanted)?;
            let mut resize = Resize {
                step: ResizeStep::Update,
                nodegroup: group.id,
                before: group.node_count,
                remove: remove.clone(),
                rollback: order.rollback,
            };
            let mut change = Change::new();
            for overtaken in snapshot.operations() {
                let Some(earlier) = overtaken.resize_of(group.id) else { continue };
                resize.before = earlier.before;
                let mut all = earlier.remove.clone();
                all.extend(resize.remove.into_iter().filter(|id| !earlier.remove.contains(id)));
                resize.remove = all;
                change = change.expect(overtaken).delete(&overtaken.record);
            }
            let mut operation = self.new_operation(tenant, snapshot, resize)?;
            operation.token = self.lent_token(tenant, &snapshot.cluster);
            wanted.status = Status::UpdateInProgress;
            wanted.status_reason = None;
            wanted.updated_at = Some(operation.began);
            info!(cluster = %id, group = wanted.name, nodes = wanted.node_count, "resize accepted");
            let change = change.expect(group).put(&wanted).put(&operation);
            Ok(self.in_progress(snapshot, change))
        })
        .await
    }
}
