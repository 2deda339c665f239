//! The stacks of a cluster: found, looked at, deleted, and asked why they failed.

use tracing::{info, warn};

use super::identity::{StackAct, Viewer};
use super::snapshot::ClusterSnapshot;
use super::{Conductor, StepError};
use crate::driver::ClusterPlan;
use crate::model::name;
use crate::model::nodegroup::NodeGroup;
use crate::model::stack::Stack;
use crate::openstack::{Actor, CloudError, FailedResource, NewStack, Service, StackUpdate};

impl Conductor {
    /// Every live stack that carries a tag, with its parameters.
    pub(super) async fn tagged(&self, actor: &Actor, tag: &str) -> Result<Vec<Stack>, StepError> {
        let heat = self.inner.cloud.heat(actor).await?;
        let mut stacks = Vec::new();
        for (id, name) in heat.tagged(tag).await? {
            match heat.show(&name, &id, false).await {
                Ok(stack) => stacks.push(stack),
                Err(e) if e.is_missing() => {}
                Err(e) => return Err(e.into()),
            }
        }
        Ok(stacks)
    }

    /// The cluster's own stack; None when Heat does not have it.
    pub(super) async fn look(
        &self,
        snapshot: &ClusterSnapshot,
        outputs: bool,
    ) -> Result<Option<Stack>, StepError> {
        let Some(id) = &snapshot.cluster.stack_id else { return Ok(None) };
        self.look_for(snapshot, &snapshot.cluster.stack_name(), id, outputs).await
    }

    /// The stack of a group; None when Heat does not have it.
    pub(super) async fn look_at(
        &self,
        snapshot: &ClusterSnapshot,
        group: &NodeGroup,
        outputs: bool,
    ) -> Result<Option<Stack>, StepError> {
        let Some(id) = &group.stack_id else { return Ok(None) };
        self.look_for(snapshot, &group.stack_name(&snapshot.cluster), id, outputs).await
    }

    /// One that was in progress a moment ago is taken to be so still: nodes report more often
    /// than Heat should be asked.
    async fn look_for(
        &self,
        snapshot: &ClusterSnapshot,
        name: &str,
        id: &str,
        outputs: bool,
    ) -> Result<Option<Stack>, StepError> {
        if !outputs && let Some(stack) = self.inner.in_progress.get(id).await {
            return Ok(Some(stack));
        }
        let actor = self.reader(snapshot).await?;
        let heat = self.inner.cloud.heat(&actor).await?;
        let shown = found(heat.show(name, id, outputs).await)?;
        if let Some(stack) = shown.as_ref().filter(|s| s.is_in_progress()) {
            self.inner.in_progress.insert(id.to_owned(), stack.clone()).await;
        }
        Ok(shown)
    }

    /// Has Heat look at a stack that is to be made.
    pub(super) async fn validate_stack(
        &self,
        caller: &Actor,
        new: &NewStack<'_>,
    ) -> Result<(), StepError> {
        let heat = self.inner.cloud.heat(caller).await?;
        heat.validate(new).await.map_err(StepError::from).map_err(lapsed("the stack was created"))
    }

    /// Makes a stack with the caller's own token: Heat makes a trust of its own from it, which
    /// Keystone forbids to a token that comes from a trust. Returns its id.
    pub(super) async fn make_stack(
        &self,
        caller: &Actor,
        new: &NewStack<'_>,
    ) -> Result<String, StepError> {
        let heat = self.inner.cloud.heat(caller).await?;
        match self.act(heat.create(new)).await.map_err(lapsed("the stack was created")) {
            Ok(id) => {
                info!(stack = %id, name = new.name, "stack created");
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

    /// Sends what the plan makes of a group's stack. False when Heat is busy with it.
    pub(super) async fn send_update(
        &self,
        snapshot: &ClusterSnapshot,
        group: &NodeGroup,
        mut plan: ClusterPlan,
        rollback: bool,
    ) -> Result<bool, StepError> {
        let bundle = self.bundle(snapshot, &mut plan)?;
        let update = StackUpdate {
            template: &bundle.template,
            parameters: &bundle.parameters,
            files: &bundle.files,
            timeout_minutes: self.driver(snapshot)?.create_timeout(&plan),
            rollback,
        };
        let id = group.stack_id.as_deref().unwrap_or_default();
        let act = StackAct::Change(&update);
        match self.on_stack(snapshot, &plan.stack_name(), id, act).await {
            Ok(()) => Ok(true),
            Err(StepError::Cloud(e)) if e.is_conflict() => Ok(false),
            Err(e) => Err(e),
        }
    }

    /// Asks Heat to delete one stack; what to wait for where it does not do so yet.
    pub(super) async fn delete_stack(
        &self,
        snapshot: &ClusterSnapshot,
        stack: &Stack,
    ) -> Result<Option<String>, StepError> {
        info!(stack = %stack.id, name = stack.name, "deleting the stack");
        match self.on_stack(snapshot, &stack.name, &stack.id, StackAct::Delete).await {
            Err(StepError::Cloud(e)) if e.is_missing() => Ok(None),
            // Something of Heat's own is under way on it: ask again soon.
            Err(StepError::Cloud(e)) if e.is_conflict() => {
                Ok(Some(format!("Stack {}.", stack.status)))
            }
            done => done.map(|()| None),
        }
    }

    /// The stacks that we know by their ids, and whatever else carries our tag.
    pub(super) async fn stacks_of(
        &self,
        snapshot: &ClusterSnapshot,
        viewer: &Viewer,
    ) -> Result<Vec<Stack>, StepError> {
        let heat = self.inner.cloud.heat(viewer.actor()).await?;
        let mut stacks = match viewer {
            Viewer::Member(actor) => self.tagged(actor, &name::stack_tag(snapshot.id())).await?,
            Viewer::Service(_) => Vec::new(),
        };
        let own = snapshot.cluster.stack_id.iter().map(|id| (snapshot.cluster.stack_name(), id));
        let further = snapshot.groups.iter().filter(|g| !g.is_default);
        let further =
            further.filter_map(|g| Some((g.stack_name(&snapshot.cluster), g.stack_id.as_ref()?)));
        for (name, id) in own.chain(further) {
            if !stacks.iter().any(|s| s.id == *id) {
                stacks.extend(found(heat.show(&name, id, false).await)?);
            }
        }
        Ok(stacks)
    }

    /// What there is of a group's stack: whatever carries its tag, or for those who cannot list
    /// the project's stacks the one on record.
    pub(super) async fn stacks_of_group(
        &self,
        snapshot: &ClusterSnapshot,
        group: &NodeGroup,
    ) -> Result<Vec<Stack>, StepError> {
        match self.deletion_viewer(snapshot).await? {
            None => Ok(Vec::new()),
            Some(Viewer::Member(actor)) => self.tagged(&actor, &name::group_tag(group.id)).await,
            Some(Viewer::Service(actor)) => {
                let Some(id) = &group.stack_id else { return Ok(Vec::new()) };
                let heat = self.inner.cloud.heat(&actor).await?;
                let shown = heat.show(&group.stack_name(&snapshot.cluster), id, false).await;
                found(shown).map(|stack| stack.into_iter().collect())
            }
        }
    }

    /// Which resource of a stack failed first, as Heat tells it. None where it does not tell, or
    /// does not let us look.
    pub(super) async fn first_failure(
        &self,
        snapshot: &ClusterSnapshot,
        stack: &Stack,
    ) -> Result<Option<FailedResource>, StepError> {
        let failures = async {
            let actor = self.reader(snapshot).await?;
            let heat = self.inner.cloud.heat(&actor).await?;
            Ok::<_, StepError>(heat.failures(&stack.name, &stack.id).await?)
        };
        match failures.await {
            Ok(failures) => Ok(failures.into_iter().next()),
            Err(StepError::Cloud(e)) if e.is_passing() => Err(e.into()),
            Err(error) => {
                warn!(%error, "the failed resources cannot be listed");
                Ok(None)
            }
        }
    }

    /// Why a stack could not be deleted.
    pub(super) async fn deletion_failure(
        &self,
        snapshot: &ClusterSnapshot,
        stack: &Stack,
    ) -> StepError {
        let failures = async {
            let viewer = self.deletion_viewer(snapshot).await.ok()??;
            let heat = self.inner.cloud.heat(viewer.actor()).await.ok()?;
            heat.failures(&stack.name, &stack.id).await.ok()
        };
        match failures.await.and_then(|found| found.into_iter().next()) {
            Some(failure) => StepError::failed(format!(
                "Resource {} ({}) could not be deleted: {}",
                failure.name, failure.kind, failure.reason
            )),
            None => StepError::failed(stack.status_reason.clone()),
        }
    }
}

/// A stack that was asked for; None when Heat does not have it.
fn found(shown: Result<Stack, CloudError>) -> Result<Option<Stack>, StepError> {
    match shown {
        Ok(stack) => Ok(Some(stack)),
        Err(e) if e.is_missing() => Ok(None),
        Err(e) => Err(e.into()),
    }
}

/// Turns "not authorised" into what the tenant must know.
pub(super) fn lapsed(before: &str) -> impl Fn(StepError) -> StepError + '_ {
    move |e| match e {
        StepError::Cloud(e) if e.is_unauthorised() => StepError::failed(format!(
            "The token of the request expired or was revoked before {before}. \
             Delete the cluster and create it again."
        )),
        other => other,
    }
}
