//! A further node group is built: stack → awaited.

use tracing::info;

use super::group_change::{Changed, GroupChange};
use super::{Next, Run, Workflow};
use crate::conductor::StepError;
use crate::conductor::decide::creation::{StackNext, stack};
use crate::model::facts::ClusterNetwork;
use crate::model::name;
use crate::model::nodegroup::NodeGroup;
use crate::model::operation::{CreateNodeGroup, CreateNodeGroupStep};
use crate::model::status::Status;
use crate::openstack::NewStack;
use crate::store::{Change, Stored};

type Outcome = Result<Next<CreateNodeGroup>, StepError>;

impl Workflow for CreateNodeGroup {
    async fn step(run: &Run<'_, Self>) -> Outcome {
        let group = run.group(run.work.nodegroup)?;
        match run.work.step {
            CreateNodeGroupStep::Stack => run.ensure_stack(group).await,
            CreateNodeGroupStep::Await => run.await_nodes(group).await,
        }
    }

    fn failed(run: &Run<'_, Self>, reason: &str, _nodegroup: Option<&str>) -> Change {
        run.failed_of(run.work.nodegroup, Status::CreateFailed, reason)
    }
}

impl Run<'_, CreateNodeGroup> {
    /// Looks for the group's stack by its tag, adopts it or makes it.
    async fn ensure_stack(&self, group: &Stored<NodeGroup>) -> Outcome {
        let Self { conductor, snapshot, .. } = self;
        if snapshot.facts.as_ref().is_some_and(|f| f.foundation.is_none()) {
            return self.find_foundation().await;
        }
        let reader = conductor.reader(snapshot).await?;
        let found = conductor.tagged(&reader, &name::group_tag(group.id)).await?;
        let id = match stack(snapshot.id(), &found) {
            StackNext::Adopt(id) => {
                info!(stack = %id, group = group.name, "stack adopted");
                id
            }
            StackNext::Fail(reason) => return Err(StepError::failed(reason)),
            StackNext::Create => self.make(group).await?,
        };
        let mut made = group.record.clone();
        made.stack_id = Some(id);
        self.go(Change::new().expect(group).put(&made), CreateNodeGroupStep::Await)
    }

    /// Remembers what the cluster's own stack has that servers outside it need.
    async fn find_foundation(&self) -> Outcome {
        let Self { conductor, snapshot, .. } = self;
        let lacks = || StepError::failed("The cluster's stack does not tell its network.");
        let facts = snapshot.facts.as_ref().ok_or_else(lacks)?;
        let shown = conductor.look(snapshot, true).await?;
        let shown = shown.ok_or_else(|| StepError::failed("The cluster's stack is gone."))?;
        let text = |output: &str| shown.text(output).map(str::to_owned);
        let mut known = facts.record.clone();
        known.foundation = Some(ClusterNetwork {
            network: text("node_network").ok_or_else(lacks)?,
            subnet: text("node_subnet"),
            security_group: text("node_security_group").ok_or_else(lacks)?,
        });
        Ok(Next::Again(Change::new().expect(facts).put(&known)))
    }

    async fn make(&self, group: &NodeGroup) -> Result<String, StepError> {
        let Self { conductor, snapshot, .. } = self;
        let mut plan = conductor.plan_of(snapshot, group)?;
        let bundle = conductor.bundle(snapshot, &mut plan)?;
        let lost = || StepError::failed("The tenant's token was lost.");
        let caller = conductor.caller(snapshot).ok_or_else(lost)?;
        // The stack will be the caller's, who need not be the one whose trust is on record.
        conductor.ensure_lent(snapshot, &caller.token).await?;
        let tag = format!("{},{}", name::stack_tag(snapshot.id()), name::group_tag(group.id));
        let new = NewStack {
            name: &plan.stack_name(),
            template: &bundle.template,
            parameters: &bundle.parameters,
            files: &bundle.files,
            timeout_minutes: conductor.driver(snapshot)?.create_timeout(&plan),
            tag: &tag,
        };
        conductor.make_stack(&caller, &new).await
    }

    /// Looks until the stack is complete and its nodes are ready.
    async fn await_nodes(&self, group: &Stored<NodeGroup>) -> Outcome {
        let wanted = self.conductor.threshold(self.snapshot, group);
        match self.await_group(group, GroupChange { wanted, going: 0 }).await? {
            Changed::NotYet(next) => Ok(next),
            Changed::Complete(stack) => {
                self.settle_group(group.record.clone(), &stack, Status::CreateComplete)
            }
            Changed::RolledBack(stack) => Err(self.change_failure(&stack).await?),
            // No update was sent.
            Changed::TakenBack => Ok(Next::wait_for_heat(None)),
        }
    }
}
