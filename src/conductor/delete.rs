//! Delete: stack → gone → trust → trustee → forget. Missing is success everywhere.

use tracing::info;

use super::decide::{GoneNext, gone};
use super::identity::{StackAct, Viewer};
use super::moment::Moment;
use super::{Conductor, Progress, Refusal, StepError, Tenant};
use crate::model::cluster::Cluster;
use crate::model::name;
use crate::model::operation::{Detail, Operation, OperationKind, Step};
use crate::model::stack::Stack;
use crate::model::status::Status;
use crate::openstack::CloudError;
use crate::store::{Change, StoreError, Stored};

impl Conductor {
    /// DELETE_IN_PROGRESS and a durable operation; overtakes whatever runs; idempotent.
    pub async fn delete_cluster(
        &self,
        tenant: &Tenant<'_>,
        cluster: &Stored<Cluster>,
    ) -> Result<(), Refusal> {
        let id = cluster.id;
        loop {
            let Some(moment) = Moment::read(&self.inner.store, id)? else {
                return Ok(());
            };
            let change = match &moment.operation {
                Some(running) if running.kind == OperationKind::Delete => {
                    let Some(change) = self.lend_again(tenant, &moment, running) else {
                        self.poke(id);
                        return Ok(());
                    };
                    change
                }
                _ => {
                    info!(cluster = %id, name = moment.cluster.name, "deletion asked for");
                    self.deletion(tenant, &moment)
                }
            };
            match self.intend(id, change).await {
                Ok(()) => return Ok(()),
                // The conductor moved on meanwhile: look again, the wish stands.
                Err(StoreError::Stale) => {}
                Err(e) => return Err(e.into()),
            }
        }
    }

    /// A deletion that runs gets the token of whoever asks once more: the one it has may have
    /// expired. None where this caller has none to lend.
    fn lend_again(
        &self,
        tenant: &Tenant<'_>,
        moment: &Moment,
        running: &Stored<Operation>,
    ) -> Option<Change> {
        let mut again = running.record.clone();
        again.token = Some(self.lent_token(tenant, &moment.cluster)?);
        again.user_id.clone_from(&tenant.requester.user_id);
        again.roles.clone_from(&tenant.requester.roles);
        Some(Change::new().expect(running).put(&again))
    }

    fn deletion(&self, tenant: &Tenant<'_>, moment: &Moment) -> Change {
        let now = self.inner.clock.now();
        let id = moment.id();
        let mut cluster = moment.cluster.record.clone();
        cluster.status = Status::DeleteInProgress;
        cluster.status_reason = None;
        cluster.updated_at = Some(now);
        let mut change = Change::new().expect(&moment.cluster).put(&cluster);
        for group in &moment.groups {
            let mut group = group.record.clone();
            group.status = Status::DeleteInProgress;
            group.status_reason = None;
            group.updated_at = Some(now);
            change = change.put(&group);
        }
        for overtaken in moment.operations() {
            change = change.expect(overtaken).delete(&overtaken.record);
        }
        // It helps where the trust is dead or of another user than a stack; an administrator of
        // another project cannot lend theirs.
        let token = self.lent_token(tenant, &cluster);
        change.put(&Operation {
            sequence: self.inner.store.next_sequence(),
            cluster_id: id,
            kind: OperationKind::Delete,
            step: Step::DeleteStack,
            attempt: 0,
            began: now,
            deadline: None,
            token,
            roles: tenant.requester.roles.clone(),
            user_id: tenant.requester.user_id.clone(),
            request_id: tenant.request_id.to_owned(),
            detail: Detail::default(),
        })
    }

    pub(super) async fn delete_step(
        &self,
        moment: &Moment,
        operation: &Stored<Operation>,
    ) -> Result<Progress, StepError> {
        match operation.step {
            Step::DeleteStack => self.ensure_stack_deleted(moment, operation).await,
            Step::AwaitGone => self.await_gone(moment, operation).await,
            Step::DeleteTrust => self.ensure_no_trust(moment, operation).await,
            Step::DeleteTrustee => self.ensure_no_trustee(moment, operation).await,
            Step::Forget => self.forget(moment, operation).await,
            other => Err(StepError::failed(format!(
                "The operation stands at {}, which no deletion has.",
                other.as_str()
            ))),
        }
    }

    /// Asks Heat to delete every stack that carries our tag.
    async fn ensure_stack_deleted(
        &self,
        moment: &Moment,
        operation: &Stored<Operation>,
    ) -> Result<Progress, StepError> {
        if let Some(viewer) = self.deletion_viewer(moment).await? {
            let left = self.ensure_no_balancers(moment, operation, viewer.actor()).await?;
            if let Some(left) = left {
                let sentence = format!("{left} load balancers of its services are leaving.");
                return Ok(Progress::Wait(sentence));
            }
            for stack in first_to_go(moment, self.stacks_of(moment, &viewer).await?) {
                if gone(Some(&stack), false) == GoneNext::Delete
                    && let Some(wait) = self.delete_stack(moment, &stack).await?
                {
                    return Ok(wait);
                }
            }
        }
        let change = Change::new().expect(operation).put(&operation.at(Step::AwaitGone));
        self.commit(change).await?;
        Ok(Progress::Again)
    }

    async fn await_gone(
        &self,
        moment: &Moment,
        operation: &Stored<Operation>,
    ) -> Result<Progress, StepError> {
        if let Some(viewer) = self.deletion_viewer(moment).await? {
            for stack in first_to_go(moment, self.stacks_of(moment, &viewer).await?) {
                match gone(Some(&stack), true) {
                    GoneNext::Gone => {}
                    GoneNext::Wait => {
                        return Ok(Progress::Wait(format!("Stack {}.", stack.status)));
                    }
                    // It came to be after we had asked: a late answer to our own request.
                    GoneNext::Delete => {
                        let back = operation.at(Step::DeleteStack);
                        self.commit(Change::new().expect(operation).put(&back)).await?;
                        return Ok(Progress::Again);
                    }
                    GoneNext::Fail => return Err(self.deletion_failure(moment, &stack).await),
                }
            }
        }
        let change = Change::new().expect(operation).put(&operation.at(Step::DeleteTrust));
        self.commit(change).await?;
        Ok(Progress::Again)
    }

    /// Asks Heat to delete one stack; what to wait for where it does not do so yet.
    pub(super) async fn delete_stack(
        &self,
        moment: &Moment,
        stack: &Stack,
    ) -> Result<Option<Progress>, StepError> {
        info!(stack = %stack.id, name = stack.name, "deleting the stack");
        match self.on_stack(moment, &stack.name, &stack.id, StackAct::Delete).await {
            Err(StepError::Cloud(e)) if e.is_missing() => Ok(None),
            // Something of Heat's own is under way on it: ask again soon.
            Err(StepError::Cloud(e)) if e.is_conflict() => {
                Ok(Some(Progress::Wait(format!("Stack {}.", stack.status))))
            }
            done => done.map(|()| None),
        }
    }

    pub(super) async fn deletion_failure(&self, moment: &Moment, stack: &Stack) -> StepError {
        let failures = async {
            let viewer = self.deletion_viewer(moment).await.ok()??;
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

    /// The stacks that we know by their ids, and whatever else carries our tag.
    async fn stacks_of(&self, moment: &Moment, viewer: &Viewer) -> Result<Vec<Stack>, StepError> {
        let heat = self.inner.cloud.heat(viewer.actor()).await?;
        let mut stacks = match viewer {
            Viewer::Member(actor) => self.tagged(actor, &name::stack_tag(moment.id())).await?,
            Viewer::Service(_) => Vec::new(),
        };
        let own = moment.cluster.stack_id.iter().map(|id| (moment.cluster.stack_name(), id));
        let further = moment.groups.iter().filter(|g| !g.is_default);
        let further =
            further.filter_map(|g| Some((g.stack_name(&moment.cluster), g.stack_id.as_ref()?)));
        for (name, id) in own.chain(further) {
            if !stacks.iter().any(|s| s.id == *id) {
                stacks.extend(found(heat.show(&name, id, false).await)?);
            }
        }
        Ok(stacks)
    }

    async fn ensure_no_trust(
        &self,
        moment: &Moment,
        operation: &Stored<Operation>,
    ) -> Result<Progress, StepError> {
        // Whatever Keystone does not accept any more, deleting its trustee ends.
        for trust in self.known_trusts(moment).await? {
            self.delete_trust(moment, &trust).await?;
        }
        self.forget_session(moment.id()).await;
        let change = Change::new().expect(operation).put(&operation.at(Step::DeleteTrustee));
        self.commit(change).await?;
        Ok(Progress::Again)
    }

    /// Every trust of the trustee: the one on record, and those that were made, or were to be
    /// deleted, just before we were killed.
    async fn known_trusts(&self, moment: &Moment) -> Result<Vec<String>, StepError> {
        let Some(user) = self.known_trustee(moment).await? else { return Ok(Vec::new()) };
        let (_, password) = moment.trustee(&self.inner.store)?;
        match self.inner.cloud.keystone().trusts_of(&user, &password).await {
            Ok(trusts) => Ok(trusts.into_iter().map(|trust| trust.id).collect()),
            Err(e) if is_over(&e) => Ok(moment.trust().map(str::to_owned).into_iter().collect()),
            Err(e) => Err(e.into()),
        }
    }

    /// A token that impersonates the trustor through the trust itself.
    pub(super) async fn trust_holder(
        &self,
        moment: &Moment,
        trust: &str,
    ) -> Result<crate::base::secret::Secret<String>, StepError> {
        let (_, password) = moment.trustee(&self.inner.store)?;
        let user = self.known_trustee(moment).await?;
        let user = user.ok_or_else(|| CloudError::Missing {
            service: crate::openstack::Service::Keystone,
            what: "the trustee".to_owned(),
        })?;
        Ok(self.inner.cloud.keystone().trustee(&user, &password, Some(trust)).await?.token)
    }

    /// The trustee on record, or the one that was made just before we were killed.
    async fn known_trustee(&self, moment: &Moment) -> Result<Option<String>, StepError> {
        let Some(credential) = &moment.credential else { return Ok(None) };
        match &credential.trustee_user_id {
            Some(user) => Ok(Some(user.clone())),
            None => {
                let keystone = self.inner.cloud.keystone();
                self.as_domain_admin(keystone.trustee_named(&credential.trustee_name)).await
            }
        }
    }

    async fn ensure_no_trustee(
        &self,
        moment: &Moment,
        operation: &Stored<Operation>,
    ) -> Result<Progress, StepError> {
        if let Some(user) = self.known_trustee(moment).await? {
            match self.as_domain_admin(self.inner.cloud.keystone().delete_trustee(&user)).await {
                Ok(()) => info!(trustee = %user, "trustee deleted"),
                Err(StepError::Cloud(e)) if e.is_missing() => {}
                Err(e) => return Err(e),
            }
        }
        let change = Change::new().expect(operation).put(&operation.at(Step::Forget));
        self.commit(change).await?;
        Ok(Progress::Again)
    }

    /// One last commit removes every record.
    async fn forget(
        &self,
        moment: &Moment,
        operation: &Stored<Operation>,
    ) -> Result<Progress, StepError> {
        let tokens = self.inner.store.read(|view| view.discovery_of(moment.id()))?;
        let mut change = Change::new().expect(operation).delete(&operation.record);
        for token in &tokens {
            change = change.delete(&token.record);
        }
        self.commit(change.delete_cluster(moment.id())).await?;
        self.collect_drivers().await;
        info!(name = moment.cluster.name, "cluster deleted");
        Ok(Progress::Done)
    }
}

/// Stacks of further groups use the cluster's network: while there are any, only they.
fn first_to_go(moment: &Moment, stacks: Vec<Stack>) -> Vec<Stack> {
    let own = moment.cluster.stack_name();
    let (main, groups): (Vec<_>, Vec<_>) =
        stacks.into_iter().filter(|s| !s.is_gone()).partition(|s| s.name == own);
    if groups.is_empty() { main } else { groups }
}

/// A stack that was asked for; None when Heat does not have it.
pub(super) fn found(shown: Result<Stack, CloudError>) -> Result<Option<Stack>, StepError> {
    match shown {
        Ok(stack) => Ok(Some(stack)),
        Err(e) if e.is_missing() => Ok(None),
        Err(e) => Err(e.into()),
    }
}

/// Whether Keystone says that user or trust are no more: it does not tell a deleted trustee
/// from a wrong password, and a trust whose trustor is gone is forbidden.
pub(super) fn is_over(error: &CloudError) -> bool {
    error.is_missing() || matches!(error, CloudError::Refused { status: 401 | 403, .. })
}
