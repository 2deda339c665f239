//! A further node group goes: stack deleted → gone.

use super::{Next, Run, Workflow};
use crate::conductor::StepError;
use crate::conductor::decide::creation::{GoneNext, gone};
use crate::conductor::snapshot::forget;
use crate::model::nodegroup::NodeGroup;
use crate::model::operation::{DeleteNodeGroup, DeleteNodeGroupStep};
use crate::model::stack_revision::StackRevision;
use crate::model::status::Status;
use crate::store::{Change, Stored};

type Outcome = Result<Next<DeleteNodeGroup>, StepError>;

impl Workflow for DeleteNodeGroup {
    async fn step(run: &Run<'_, Self>) -> Outcome {
        let group = run.group(run.work.nodegroup)?;
        match run.work.step {
            DeleteNodeGroupStep::Stack => run.delete_stack(group).await,
            DeleteNodeGroupStep::Gone => run.await_gone(group).await,
        }
    }

    fn failed(run: &Run<'_, Self>, reason: &str, _nodegroup: Option<&str>) -> Change {
        run.failed_of(run.work.nodegroup, Status::DeleteFailed, reason)
    }
}

impl Run<'_, DeleteNodeGroup> {
    async fn delete_stack(&self, group: &Stored<NodeGroup>) -> Outcome {
        let Self { conductor, snapshot, .. } = self;
        for stack in conductor.stacks_of_group(snapshot, group).await? {
            if gone(Some(&stack), false) == GoneNext::Delete
                && let Some(why) = conductor.delete_stack(snapshot, &stack).await?
            {
                return Ok(Next::wait(why));
            }
        }
        self.go(Change::new(), DeleteNodeGroupStep::Gone)
    }

    async fn await_gone(&self, group: &Stored<NodeGroup>) -> Outcome {
        let Self { conductor, snapshot, .. } = self;
        for stack in conductor.stacks_of_group(snapshot, group).await? {
            match gone(Some(&stack), true) {
                GoneNext::Gone => {}
                GoneNext::Wait => return Ok(Next::wait(format!("Stack {}.", stack.status))),
                // It came to be after we had asked: a late answer to our own request.
                GoneNext::Delete => return self.go(Change::new(), DeleteNodeGroupStep::Stack),
                GoneNext::Fail => return Err(conductor.deletion_failure(snapshot, &stack).await),
            }
        }
        if let Some(change) = forget(&snapshot.nodes_of(group)).into_iter().next() {
            return Ok(Next::Again(change));
        }
        let own = |r: &&Stored<StackRevision>| Some(&r.stack_id) == group.stack_id.as_ref();
        let revision = snapshot.stack_revisions.iter().find(own);
        let change = revision.map_or_else(Change::new, |r| Change::new().delete(&r.record));
        Ok(Next::Done(conductor.with_cluster(snapshot, change, &[], Some(group), None)))
    }
}
