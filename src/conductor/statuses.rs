//! What a cluster and its groups show: the status that all of them amount to, addresses, reasons.

use std::collections::BTreeMap;

use super::addresses::remarked;
use super::decide::change::{Part, aggregate};
use super::snapshot::ClusterSnapshot;
use super::{Conductor, StepError};
use crate::model::cluster::Cluster;
use crate::model::nodegroup::NodeGroup;
use crate::model::operation::{Operation, OperationKind};
use crate::model::stack::Stack;
use crate::model::status::Status;
use crate::store::{Change, Stored};

impl Conductor {
    /// Adds to `change` the groups as they are now, without the one that goes, and the cluster
    /// with the status they amount to.
    pub(super) fn with_cluster(
        &self,
        snapshot: &ClusterSnapshot,
        change: Change,
        changed: &[NodeGroup],
        gone: Option<&NodeGroup>,
        reason: Option<String>,
    ) -> Change {
        let (change, cluster) = self.amount(snapshot, change, changed, gone, reason);
        change.expect(&snapshot.cluster).put(&cluster)
    }

    /// The same, with the cluster still to be written.
    pub(super) fn amount(
        &self,
        snapshot: &ClusterSnapshot,
        mut change: Change,
        changed: &[NodeGroup],
        gone: Option<&NodeGroup>,
        reason: Option<String>,
    ) -> (Change, Cluster) {
        let now = self.inner.clock.now();
        let mut groups: BTreeMap<_, NodeGroup> =
            snapshot.groups.iter().map(|g| (g.id, g.record.clone())).collect();
        for group in changed {
            groups.insert(group.id, group.clone());
            change = change.put(group);
        }
        if let Some(gone) = gone {
            groups.remove(&gone.id);
            change = change.delete(gone);
        }
        let mut cluster = snapshot.cluster.record.clone();
        let all = groups.values().map(|g| Part {
            name: &g.name,
            status: g.status,
            reason: g.status_reason.as_deref(),
        });
        let (status, failed) = aggregate(cluster.status, all);
        let (status, failed) = match snapshot.queued.is_empty() {
            true => match halted(snapshot) {
                Some(sentence) => (Status::UpdateFailed, Some(sentence)),
                None => (status, failed),
            },
            false => (Status::UpdateInProgress, None),
        };
        let rolled_back = changed.iter().any(|g| g.status == Status::RollbackComplete);
        cluster.status = match status {
            Status::UpdateComplete if rolled_back => Status::RollbackComplete,
            status => status,
        };
        cluster.status_reason = self.reason(snapshot, failed.or(reason));
        cluster.updated_at = Some(now);
        (change, cluster)
    }

    /// Adds to `change` the cluster and its default groups as CREATE_COMPLETE.
    pub(super) fn created(
        &self,
        snapshot: &ClusterSnapshot,
        change: Change,
        stack: &Stack,
        said: String,
    ) -> Result<Change, StepError> {
        let (mut cluster, groups, remark) = self.addressed(snapshot, stack)?;
        let said = remarked(Some(said.clone()), remark).unwrap_or(said);
        let now = self.inner.clock.now();
        cluster.status = Status::CreateComplete;
        cluster.status_reason = Some(self.with_warnings(snapshot, &said));
        let version = stack.parameters.get("kube_version").and_then(|v| v.as_str());
        cluster.coe_version = version.filter(|v| !v.is_empty()).map(str::to_owned);
        cluster.container_version = self.driver(snapshot)?.container_version().map(str::to_owned);
        cluster.updated_at = Some(now);
        let mut change = change.expect(&snapshot.cluster).put(&cluster);
        for mut group in groups {
            group.status = Status::CreateComplete;
            group.status_reason = Some(said.clone());
            group.version.clone_from(&cluster.coe_version);
            group.updated_at = Some(now);
            change = change.put(&group);
        }
        if let Some(node_wait) = &snapshot.node_wait {
            change = change.delete(&node_wait.record);
        }
        Ok(change)
    }

    /// Adds to `change` the addresses that the stack tells, and nothing else.
    pub(super) fn with_addresses(
        &self,
        snapshot: &ClusterSnapshot,
        change: Change,
        stack: &Stack,
    ) -> Result<Change, StepError> {
        let (cluster, groups, _) = self.addressed(snapshot, stack)?;
        let known = snapshot.groups.iter().filter(|g| g.is_default).map(|g| &g.record);
        if cluster == snapshot.cluster.record && groups.iter().eq(known) {
            return Ok(change);
        }
        let change = change.expect(&snapshot.cluster).put(&cluster);
        Ok(groups.iter().fold(change, |change, group| change.put(group)))
    }
}

/// What a rotation of the authorities has left half done, if that is not what is at work.
fn halted(snapshot: &ClusterSnapshot) -> Option<String> {
    let rotates = |o: &Stored<Operation>| matches!(o.kind, OperationKind::RotateCa(_));
    let is_halted = !snapshot.next_certificates.is_empty() && !snapshot.operations().any(rotates);
    is_halted.then(|| {
        format!(
            "A rotation of the CA has stopped half way. Go on with: openstack coe ca rotate {}",
            snapshot.cluster.name
        )
    })
}
