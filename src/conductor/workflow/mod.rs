//! Workflows: what is done about each kind of operation, one file each.
//!
//! A workflow is one function from a snapshot and a step to what comes [`Next`]. It acts outside,
//! and says what is to be committed. The engine alone commits, advances, waits, watches the
//! deadline, records a failure and wakes the operation behind. What workflows share are verbs of
//! the conductor; none calls another.

mod create;
mod create_nodegroup;
mod delete;
mod delete_nodegroup;
mod duties;
mod group_change;
mod resize;
mod rotate_ca;
mod rotate_credential;
mod upgrade;

use std::time::Duration;

use tracing::warn;

use super::snapshot::ClusterSnapshot;
use super::{Conductor, StepError};
use crate::base::clock::Timestamp;
use crate::model::NodeGroupId;
use crate::model::nodegroup::NodeGroup;
use crate::model::operation::{Operation, OperationKind, Work};
use crate::model::stack::Stack;
use crate::model::status::Status;
use crate::store::{Change, Stored};

/// What comes after a step. The engine adds the operation itself to every change: it must be as
/// it was read, and is written as it is from then on.
#[derive(Debug)]
pub(super) enum Next<W> {
    /// Commit, and go on at the step that is in here.
    Go(Change, W),
    /// The same, but not before this time has passed.
    GoAfter(Duration, Change, W),
    /// Commit, and take the step again with what is on record then.
    Again(Change),
    /// Look again after the interval; the operation's deadline ends it.
    Wait(Waiting),
    /// Somebody works on it who has the cluster looked at again when that is done. Should they
    /// be lost, the next round through all operations does.
    Aside(Waiting),
    /// Commit: the operation is finished.
    Done(Change),
}

/// What an operation waits for.
#[derive(Debug)]
pub(super) struct Waiting {
    /// In a sentence for the tenant.
    pub why: String,
    /// What may help if it does not come in time; empty, or a sentence after a blank.
    pub cure: &'static str,
}

impl From<String> for Waiting {
    fn from(why: String) -> Self {
        Self { why, cure: "" }
    }
}

impl<W> Next<W> {
    pub fn wait(why: impl Into<String>) -> Self {
        Self::Wait(why.into().into())
    }

    /// Keys are being drawn; whoever draws them has the cluster looked at again.
    pub fn drawing() -> Self {
        Self::Aside("Waiting for the cluster's keys to be drawn.".to_owned().into())
    }

    /// Heat does something else with the stack, or does not tell what it does.
    pub fn wait_for_heat(stack: Option<&Stack>) -> Self {
        Self::wait(match stack {
            Some(stack) => format!("Stack {}; waiting until Heat takes a change.", stack.status),
            None => "Heat does not show the stack.".to_owned(),
        })
    }
}

impl<W: Into<OperationKind>> Next<W> {
    /// The same for an operation of whichever kind.
    pub fn of_any_kind(self) -> Next<OperationKind> {
        match self {
            Self::Go(change, work) => Next::Go(change, work.into()),
            Self::GoAfter(pause, change, work) => Next::GoAfter(pause, change, work.into()),
            Self::Again(change) => Next::Again(change),
            Self::Wait(waiting) => Next::Wait(waiting),
            Self::Aside(waiting) => Next::Aside(waiting),
            Self::Done(change) => Next::Done(change),
        }
    }
}

/// One kind of operation, and what is done about it.
pub(super) trait Workflow: Work + Send + Sync {
    /// Takes the step at which the operation stands. Taken again after whatever went wrong, so
    /// that what is there already has to be found.
    fn step(run: &Run<'_, Self>) -> impl Future<Output = Result<Next<Self>, StepError>> + Send;

    /// What a failure leaves on record. `nodegroup` names the default group to blame, where it
    /// is known.
    fn failed(run: &Run<'_, Self>, reason: &str, nodegroup: Option<&str>) -> Change;
}

/// One step of one operation: whose, with what, seen when.
pub(super) struct Run<'a, W> {
    pub conductor: &'a Conductor,
    pub snapshot: &'a ClusterSnapshot,
    pub operation: &'a Stored<Operation>,
    pub work: &'a W,
    /// By which the operation's deadline is judged.
    pub now: Timestamp,
}

impl<'a, W: Work> Run<'a, W> {
    /// Commit, and go on at `step`.
    fn go(&self, change: Change, step: W::Step) -> Result<Next<W>, StepError> {
        Ok(Next::Go(change, self.work.at(step)))
    }

    fn group(&self, id: NodeGroupId) -> Result<&'a Stored<NodeGroup>, StepError> {
        let group = self.snapshot.group(id);
        group.ok_or_else(|| StepError::failed("The node group is not there any more."))
    }

    /// What our update of a stack is recognised by.
    fn revision(&self) -> String {
        self.operation.sequence.0.to_string()
    }

    /// The cluster and its default groups as they are after the failure of an operation on all of
    /// it; whatever was made stays until the owner deletes.
    fn cluster_failed(&self, status: Status, reason: &str, nodegroup: Option<&str>) -> Change {
        let Self { conductor, snapshot, .. } = self;
        let now = conductor.inner.clock.now();
        let mut cluster = snapshot.cluster.record.clone();
        cluster.status = status;
        cluster.status_reason = Some(conductor.with_warnings(snapshot, reason));
        cluster.updated_at = Some(now);
        let mut change = Change::new().expect(&snapshot.cluster).put(&cluster);
        for group in snapshot.groups.iter().filter(|g| g.is_default) {
            let mut group = group.record.clone();
            let concerned = nodegroup.is_none_or(|name| name == group.name);
            group.status = status;
            group.status_reason = Some(match concerned {
                true => reason.to_owned(),
                false => format!("{} failed.", nodegroup.unwrap_or_default()),
            });
            group.updated_at = Some(now);
            change = change.put(&group);
        }
        change
    }

    /// The group of an operation, as it is after its failure; the cluster shows it.
    fn group_failed(&self, group: NodeGroup, status: Status, reason: &str) -> Change {
        let failed = NodeGroup {
            status,
            status_reason: Some(reason.to_owned()),
            updated_at: Some(self.conductor.inner.clock.now()),
            ..group
        };
        let said = Some(reason.to_owned());
        self.conductor.with_cluster(self.snapshot, Change::new(), &[failed], None, said)
    }

    /// No group shows the failure, so the cluster itself must.
    fn failed_without_group(&self, reason: &str) -> Change {
        let mut cluster = self.snapshot.cluster.record.clone();
        cluster.status = match self.snapshot.queued.is_empty() {
            true => Status::UpdateFailed,
            false => Status::UpdateInProgress,
        };
        cluster.status_reason = Some(reason.to_owned());
        cluster.updated_at = Some(self.conductor.inner.clock.now());
        Change::new().expect(&self.snapshot.cluster).put(&cluster)
    }

    /// The failure of an operation on one group.
    fn failed_of(&self, nodegroup: NodeGroupId, status: Status, reason: &str) -> Change {
        match self.snapshot.group(nodegroup) {
            Some(group) => self.group_failed(group.record.clone(), status, reason),
            None => self.failed_without_group(reason),
        }
    }
}

/// Logs a failure that is about to be recorded.
pub(super) fn log_failure(operation: &Operation, reason: &str) {
    let (operation, step) = (operation.kind.name(), operation.kind.step_name());
    warn!(operation, step, reason, "the operation failed");
}
