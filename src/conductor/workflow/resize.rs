//! A group gets more nodes, fewer, or others: stack updated → awaited.

use tracing::info;

use super::group_change::{Changed, GroupChange};
use super::{Next, Run, Workflow};
use crate::conductor::StepError;
use crate::conductor::decide::change::{UpdateNext, update};
use crate::model::nodegroup::NodeGroup;
use crate::model::operation::{Resize, ResizeStep};
use crate::model::status::Status;
use crate::store::{Change, Stored};

type Outcome = Result<Next<Resize>, StepError>;

impl Workflow for Resize {
    async fn step(run: &Run<'_, Self>) -> Outcome {
        let group = run.group(run.work.nodegroup)?;
        match run.work.step {
            ResizeStep::Update => run.ensure_updated(group).await,
            ResizeStep::Await => run.await_nodes(group).await,
        }
    }

    fn failed(run: &Run<'_, Self>, reason: &str, _nodegroup: Option<&str>) -> Change {
        let Some(group) = run.snapshot.group(run.work.nodegroup) else {
            return run.failed_without_group(reason);
        };
        let mut group = group.record.clone();
        // Heat never took the new count.
        if run.work.step == ResizeStep::Update {
            group.node_count = run.work.before;
        }
        run.group_failed(group, Status::UpdateFailed, reason)
    }
}

impl Run<'_, Resize> {
    /// Sends our update, unless Heat has it already.
    async fn ensure_updated(&self, group: &Stored<NodeGroup>) -> Outcome {
        let Self { conductor, snapshot, work, .. } = self;
        let shown = conductor.look_at(snapshot, group, false).await?;
        let revision = self.revision();
        match update(shown.as_ref(), &revision) {
            UpdateNext::Fail(reason) => return Err(StepError::failed(reason)),
            UpdateNext::Wait => return Ok(Next::wait_for_heat(shown.as_ref())),
            UpdateNext::Adopt => info!(revision, "update adopted"),
            UpdateNext::Send => {
                let mut plan = conductor.plan_of(snapshot, group)?;
                plan.revision.clone_from(&revision);
                plan.removals.clone_from(&work.remove);
                if snapshot.rollout(group).is_some()
                    && let Some(stack) = conductor.look_at(snapshot, group, true).await?
                {
                    snapshot.give_makes(&mut plan, group, &stack, &work.remove);
                }
                if !conductor.send_update(snapshot, group, plan, work.rollback).await? {
                    return Ok(Next::wait_for_heat(shown.as_ref()));
                }
                info!(revision, group = group.name, "update sent");
            }
        }
        let stack = group.stack_id.as_deref();
        self.go(snapshot.with_revision(Change::new(), stack, &revision), ResizeStep::Await)
    }

    /// Looks until the stack has changed and its new nodes are ready.
    async fn await_nodes(&self, group: &Stored<NodeGroup>) -> Outcome {
        let work = self.work;
        let grows = group.node_count > work.before || !work.remove.is_empty();
        let change = GroupChange {
            wanted: if grows { self.conductor.threshold(self.snapshot, group) } else { 0 },
            going: going(work, group),
        };
        match self.await_group(group, change).await? {
            Changed::NotYet(next) => Ok(next),
            Changed::Complete(stack) => {
                let changed = group.record.clone();
                self.settle_group(changed, &stack, Status::UpdateComplete)
            }
            Changed::RolledBack(stack) => {
                let mut changed = group.record.clone();
                changed.node_count = work.before;
                let failure = self.change_failure(&stack).await?;
                changed.status_reason = Some(format!("Rolled back: {failure}"));
                self.settle_group(changed, &stack, Status::RollbackComplete)
            }
            Changed::TakenBack => self.go(Change::new(), ResizeStep::Update),
        }
    }
}

/// How many nodes go: those that are named, or those that are too many.
fn going(resize: &Resize, group: &NodeGroup) -> u32 {
    let named = u32::try_from(resize.remove.len()).unwrap_or(u32::MAX);
    named.max(resize.before.saturating_sub(group.node_count))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::cluster::Cluster;
    use crate::model::{ClusterId, TemplateId, nodegroup};
    use uuid::Uuid;

    #[test]
    fn nodes_go_that_are_named_or_too_many() {
        let id = ClusterId::new(Uuid::from_u128(1));
        let cluster = Cluster::plain(id, "k1", TemplateId::new(Uuid::from_u128(2)));
        let of = |before: u32, now: u32, remove: &[&str]| {
            let group = NodeGroup::default_of(&cluster, "image", nodegroup::WORKER, now);
            let resize = Resize {
                step: ResizeStep::Await,
                nodegroup: group.id,
                before,
                remove: remove.iter().map(|id| (*id).to_owned()).collect(),
                rollback: false,
            };
            going(&resize, &group)
        };
        assert_eq!(of(4, 2, &[]), 2);
        assert_eq!(of(4, 2, &["a"]), 2);
        assert_eq!(of(2, 2, &["a"]), 1, "one is replaced");
        assert_eq!(of(2, 4, &[]), 0);
    }
}
