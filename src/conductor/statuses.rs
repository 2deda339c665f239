//! What a cluster and its groups show: the status that all of them amount to, addresses, reasons.

use std::collections::BTreeMap;

use super::addresses::remarked;
use super::moment::Moment;
use super::outlook::{Part, aggregate};
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
        moment: &Moment,
        change: Change,
        changed: &[NodeGroup],
        gone: Option<&NodeGroup>,
        reason: Option<String>,
    ) -> Change {
        let (change, cluster) = self.amount(moment, change, changed, gone, reason);
        change.expect(&moment.cluster).put(&cluster)
    }

    /// The same, with the cluster still to be written.
    pub(super) fn amount(
        &self,
        moment: &Moment,
        mut change: Change,
        changed: &[NodeGroup],
        gone: Option<&NodeGroup>,
        reason: Option<String>,
    ) -> (Change, Cluster) {
        let now = self.inner.clock.now();
        let mut groups: BTreeMap<_, NodeGroup> =
            moment.groups.iter().map(|g| (g.id, g.record.clone())).collect();
        for group in changed {
            groups.insert(group.id, group.clone());
            change = change.put(group);
        }
        if let Some(gone) = gone {
            groups.remove(&gone.id);
            change = change.delete(gone);
        }
        let mut cluster = moment.cluster.record.clone();
        let all = groups.values().map(|g| Part {
            name: &g.name,
            status: g.status,
            reason: g.status_reason.as_deref(),
        });
        let (status, failed) = aggregate(cluster.status, all);
        let (status, failed) = match moment.queued.is_empty() {
            true => match halted(moment) {
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
        cluster.status_reason = self.reason(moment, failed.or(reason));
        cluster.updated_at = Some(now);
        (change, cluster)
    }

    /// Adds to `change` the cluster and its default groups as CREATE_COMPLETE.
    pub(super) fn created(
        &self,
        moment: &Moment,
        change: Change,
        stack: &Stack,
        said: String,
    ) -> Result<Change, StepError> {
        let (mut cluster, groups, remark) = self.addressed(moment, stack)?;
        let said = remarked(Some(said.clone()), remark).unwrap_or(said);
        let now = self.inner.clock.now();
        cluster.status = Status::CreateComplete;
        cluster.status_reason = Some(self.with_warnings(moment, &said));
        let version = stack.parameters.get("kube_version").and_then(|v| v.as_str());
        cluster.coe_version = version.filter(|v| !v.is_empty()).map(str::to_owned);
        cluster.container_version = self.driver(moment)?.container_version().map(str::to_owned);
        cluster.updated_at = Some(now);
        let mut change = change.expect(&moment.cluster).put(&cluster);
        for mut group in groups {
            group.status = Status::CreateComplete;
            group.status_reason = Some(said.clone());
            group.version.clone_from(&cluster.coe_version);
            group.updated_at = Some(now);
            change = change.put(&group);
        }
        if let Some(vigil) = &moment.vigil {
            change = change.delete(&vigil.record);
        }
        Ok(change)
    }

    /// Adds to `change` the addresses that the stack tells, and nothing else.
    pub(super) fn with_addresses(
        &self,
        moment: &Moment,
        change: Change,
        stack: &Stack,
    ) -> Result<Change, StepError> {
        let (cluster, groups, _) = self.addressed(moment, stack)?;
        let known = moment.groups.iter().filter(|g| g.is_default).map(|g| &g.record);
        if cluster == moment.cluster.record && groups.iter().eq(known) {
            return Ok(change);
        }
        let change = change.expect(&moment.cluster).put(&cluster);
        Ok(groups.iter().fold(change, |change, group| change.put(group)))
    }
}

/// What a rotation of the authorities has left half done, if that is not what is at work.
fn halted(moment: &Moment) -> Option<String> {
    let rotates = |o: &Stored<Operation>| matches!(o.kind, OperationKind::RotateCa(_));
    let is_halted = !moment.next_certificates.is_empty() && !moment.operations().any(rotates);
    is_halted.then(|| {
        format!(
            "A rotation of the CA has stopped half way. Go on with: openstack coe ca rotate {}",
            moment.cluster.name
        )
    })
}
