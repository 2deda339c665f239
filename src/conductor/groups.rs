//! Further node groups: stack → awaited → settled, and stack deleted → gone → forgotten.

use tracing::info;

use super::create::lapsed;
use super::decide::{GoneNext, StackNext, gone, stack};
use super::delete::found;
use super::identity::Viewer;
use super::moment::Moment;
use super::update::{concerned, for_group, nodes_of};
use super::{Conductor, Progress, StepError};
use crate::model::facts::Foundation;
use crate::model::name;
use crate::model::node_key::NodeKey;
use crate::model::nodegroup::NodeGroup;
use crate::model::operation::{Operation, Step};
use crate::model::stack::Stack;
use crate::openstack::{CloudError, NewStack, Service};
use crate::store::{Change, Stored};

impl Conductor {
    pub(super) async fn group_step(
        &self,
        moment: &Moment,
        operation: &Stored<Operation>,
    ) -> Result<Progress, StepError> {
        let group = concerned(moment, operation)?;
        match operation.step {
            Step::GroupStack => self.ensure_group_stack(moment, operation, group).await,
            Step::AwaitGroup => self.await_changed(moment, operation, group).await,
            Step::DeleteGroupStack => self.ensure_group_deleted(moment, operation, group).await,
            Step::AwaitGroupGone => self.await_group_gone(moment, operation, group).await,
            other => Err(StepError::failed(format!(
                "The operation stands at {}, which no order on a node group has.",
                other.as_str()
            ))),
        }
    }

    /// Looks for the group's stack by its tag, adopts it or makes it.
    async fn ensure_group_stack(
        &self,
        moment: &Moment,
        operation: &Stored<Operation>,
        group: &Stored<NodeGroup>,
    ) -> Result<Progress, StepError> {
        if moment.facts.as_ref().is_some_and(|f| f.foundation.is_none()) {
            return self.find_foundation(moment, group).await;
        }
        let reader = self.reader(moment).await?;
        let found = self.tagged(&reader, &name::group_tag(group.id)).await?;
        let id = match stack(moment.id(), &found) {
            StackNext::Adopt(id) => {
                info!(stack = %id, group = group.name, "stack adopted");
                id
            }
            StackNext::Fail(reason) => return Err(for_group(reason, group)),
            StackNext::Create => self.make_group_stack(moment, group).await?,
        };
        let mut made = group.record.clone();
        made.stack_id = Some(id);
        let mut next = operation.at(Step::AwaitGroup);
        next.token = None;
        self.commit(Change::new().expect(operation).expect(group).put(&made).put(&next)).await?;
        Ok(Progress::Again)
    }

    /// Remembers what the cluster's own stack has that servers outside it need.
    async fn find_foundation(
        &self,
        moment: &Moment,
        group: &NodeGroup,
    ) -> Result<Progress, StepError> {
        let lacks = || for_group("The cluster's stack does not tell its network.", group);
        let facts = moment.facts.as_ref().ok_or_else(lacks)?;
        let shown = self.look(moment, true).await?;
        let shown = shown.ok_or_else(|| for_group("The cluster's stack is gone.", group))?;
        let text = |output: &str| shown.text(output).map(str::to_owned);
        let mut known = facts.record.clone();
        known.foundation = Some(Foundation {
            network: text("node_network").ok_or_else(lacks)?,
            subnet: text("node_subnet"),
            security_group: text("node_security_group").ok_or_else(lacks)?,
        });
        self.commit(Change::new().expect(facts).put(&known)).await?;
        Ok(Progress::Again)
    }

    async fn make_group_stack(
        &self,
        moment: &Moment,
        group: &NodeGroup,
    ) -> Result<String, StepError> {
        let mut plan = self.plan_of(moment, group)?;
        let bundle = self.bundle(moment, &mut plan)?;
        let bundle = bundle.map_err(|e| for_group(e.to_string(), group))?;
        let lost = || for_group("The tenant's token was lost.", group);
        let caller = self.caller(moment).ok_or_else(lost)?;
        // The stack will be the caller's, who need not be the one whose trust is on record.
        self.ensure_lent(moment, &caller.token).await?;
        let heat = self.inner.cloud.heat(&caller).await?;
        let name = plan.stack_name();
        let tag = format!("{},{}", name::stack_tag(moment.id()), name::group_tag(group.id));
        let new = NewStack {
            name: &name,
            template: &bundle.template,
            parameters: &bundle.parameters,
            files: &bundle.files,
            timeout_minutes: self.driver(moment)?.create_timeout(&plan),
            tag: &tag,
        };
        match self.act(heat.create(&new)).await.map_err(lapsed("the stack was created")) {
            Ok(id) => {
                info!(stack = %id, group = group.name, "stack created");
                Ok(id)
            }
            // The name is taken: by our own earlier request, most likely. Look again.
            Err(StepError::Cloud(e)) if e.is_conflict() => {
                let reason = e.reason();
                Err(CloudError::Unknown { service: Service::Heat, reason }.into())
            }
            Err(e) => Err(e),
        }
    }

    /// What there is of a group's stack: whatever carries its tag, or for those who cannot list
    /// the project's stacks the one on record.
    async fn group_stacks(
        &self,
        moment: &Moment,
        group: &NodeGroup,
    ) -> Result<Vec<Stack>, StepError> {
        match self.deletion_viewer(moment).await? {
            None => Ok(Vec::new()),
            Some(Viewer::Member(actor)) => self.tagged(&actor, &name::group_tag(group.id)).await,
            Some(Viewer::Service(actor)) => {
                let Some(id) = &group.stack_id else { return Ok(Vec::new()) };
                let heat = self.inner.cloud.heat(&actor).await?;
                let shown = heat.show(&group.stack_name(&moment.cluster), id, false).await;
                found(shown).map(|stack| stack.into_iter().collect())
            }
        }
    }

    async fn ensure_group_deleted(
        &self,
        moment: &Moment,
        operation: &Stored<Operation>,
        group: &Stored<NodeGroup>,
    ) -> Result<Progress, StepError> {
        for stack in self.group_stacks(moment, group).await? {
            if gone(Some(&stack), false) == GoneNext::Delete
                && let Some(wait) = self.delete_stack(moment, &stack).await?
            {
                return Ok(wait);
            }
        }
        let next = operation.at(Step::AwaitGroupGone);
        self.commit(Change::new().expect(operation).put(&next)).await?;
        Ok(Progress::Again)
    }

    async fn await_group_gone(
        &self,
        moment: &Moment,
        operation: &Stored<Operation>,
        group: &Stored<NodeGroup>,
    ) -> Result<Progress, StepError> {
        for stack in self.group_stacks(moment, group).await? {
            match gone(Some(&stack), true) {
                GoneNext::Gone => {}
                GoneNext::Wait => return Ok(Progress::Wait(format!("Stack {}.", stack.status))),
                // It came to be after we had asked: a late answer to our own request.
                GoneNext::Delete => {
                    let back = operation.at(Step::DeleteGroupStack);
                    self.commit(Change::new().expect(operation).put(&back)).await?;
                    return Ok(Progress::Again);
                }
                GoneNext::Fail => return Err(self.deletion_failure(moment, &stack).await),
            }
        }
        let mut change = Change::new().expect(operation).delete(&operation.record);
        for node in nodes_of(moment, group) {
            change = change.delete(node).delete(&NodeKey::of(node));
        }
        self.commit(self.with_cluster(moment, change, &[], Some(group), None)).await?;
        info!(group = group.name, "node group deleted");
        Ok(Progress::Again)
    }
}
