//! What a resize and a new node group share: the wait for a group's stack and its new nodes, and
//! what the group shows then.

use tracing::warn;

use super::{Next, Run};
use crate::conductor::StepError;
use crate::conductor::addresses::{of_nodes, remarked};
use crate::conductor::decide::change::{ChangeNext, Changing, change};
use crate::conductor::rollout::{left_behind, make};
use crate::model::nodegroup::NodeGroup;
use crate::model::operation::Work;
use crate::model::stack::Stack;
use crate::model::status::Status;
use crate::store::{Change, Stored};

/// What a group's stack is to become.
#[derive(Clone, Copy, Debug)]
pub(super) struct GroupChange {
    /// How many of the group's nodes must be ready; 0 where the change brings no new ones.
    pub wanted: u32,
    /// How many nodes the change takes away.
    pub going: u32,
}

/// How far a group's stack has changed.
#[derive(Debug)]
pub(super) enum Changed<W> {
    NotYet(Next<W>),
    Complete(Stack),
    /// Heat has restored what was before.
    RolledBack(Stack),
    /// By an earlier update that was late: ours has to be sent again.
    TakenBack,
}

impl<W: Work> Run<'_, W> {
    /// Looks whether the stack has changed and its new nodes are ready.
    pub(super) async fn await_group(
        &self,
        group: &Stored<NodeGroup>,
        to: GroupChange,
    ) -> Result<Changed<W>, StepError> {
        let Self { conductor, snapshot, operation, .. } = self;
        let mut shown = conductor.look_at(snapshot, group, false).await?;
        if shown.as_ref().is_some_and(|s| !s.is_in_progress()) {
            shown = conductor.look_at(snapshot, group, true).await?;
            // A name that is used again must be free before its new server asks for it.
            if let Some(stack) = &shown
                && let Some(change) = snapshot.without_departed(group, stack).into_iter().next()
            {
                return Ok(Changed::NotYet(Next::Again(change)));
            }
        }
        if self.is_taken_back(group, shown.as_ref()) {
            return Ok(Changed::TakenBack);
        }
        let next = change(&Changing {
            stack: shown.as_ref(),
            nodes: &snapshot.nodes_of(group),
            wanted: to.wanted,
            going: to.going,
            began: operation.began,
            deadline: operation.deadline,
            now: self.now,
        });
        match (next, shown) {
            (ChangeNext::LookAgain(progress), _) => Ok(Changed::NotYet(Next::wait(progress))),
            (ChangeNext::Fail(reason), _) => Err(StepError::failed(reason)),
            (ChangeNext::StackFailed, Some(stack)) => Err(self.change_failure(&stack).await?),
            (ChangeNext::RolledBack, Some(stack)) => Ok(Changed::RolledBack(stack)),
            (ChangeNext::Settle, Some(stack)) => Ok(Changed::Complete(stack)),
            (_, shown) => Ok(Changed::NotYet(Next::wait_for_heat(shown.as_ref()))),
        }
    }

    /// Whether an earlier update has come after ours, which has to be sent again.
    pub(super) fn is_taken_back(&self, group: &NodeGroup, shown: Option<&Stack>) -> bool {
        let is_so = shown.is_some_and(|stack| self.snapshot.is_taken_back(stack));
        if is_so {
            warn!(group = group.name, "an earlier update was late; ours is sent again");
        }
        is_so
    }

    /// Why a stack that was being changed has failed.
    pub(super) async fn change_failure(&self, stack: &Stack) -> Result<StepError, StepError> {
        Ok(match self.conductor.first_failure(self.snapshot, stack).await? {
            Some(failure) => StepError::failed(format!(
                "Resource {} ({}) failed: {}",
                failure.name, failure.kind, failure.reason
            )),
            None => StepError::failed(stack.status_reason.clone()),
        })
    }

    /// Addresses, count and status of one group, the cluster's from all.
    pub(super) fn settle_group(
        &self,
        mut group: NodeGroup,
        stack: &Stack,
        status: Status,
    ) -> Result<Next<W>, StepError> {
        let Self { conductor, snapshot, .. } = self;
        if status != Status::RollbackComplete {
            group.status_reason =
                conductor.group_reason(snapshot, &group, stack.status_reason.clone());
        }
        let plan = conductor.plan_of(snapshot, &group)?;
        let outcome = conductor.built(snapshot, &plan, stack)?;
        group.node_addresses = of_nodes(outcome.worker_addresses, group.node_count);
        group.status_reason = remarked(group.status_reason.take(), outcome.remark);
        group.status = status;
        group.updated_at = Some(conductor.inner.clock.now());
        // An upgrade that has failed has not come to every node, whatever else succeeds.
        let rollout = snapshot.rollout(&group);
        if let Some(left) = rollout {
            group.status = Status::UpdateFailed;
            group.status_reason = Some(left_behind(left, make(snapshot, &group).as_ref()));
        }
        let mut changed = vec![group.clone()];
        // Heat says of the whole stack that it is complete: also of those who share it.
        let shares = |g: &&Stored<NodeGroup>| {
            group.is_default && g.is_default && g.id != group.id && g.status.is_failed()
        };
        if status == Status::UpdateComplete && rollout.is_none() {
            changed.extend(snapshot.groups.iter().filter(shares).map(|g| NodeGroup {
                status,
                status_reason: group.status_reason.clone(),
                updated_at: group.updated_at,
                ..g.record.clone()
            }));
        }
        let change = match (status, stack.revision()) {
            // What Heat has restored has the revision of its day.
            (Status::RollbackComplete, Some(restored)) => {
                snapshot.with_revision(Change::new(), Some(&stack.id), restored)
            }
            _ => Change::new(),
        };
        let reason = group.status_reason;
        Ok(Next::Done(conductor.with_cluster(snapshot, change, &changed, None, reason)))
    }
}
