//! Delete: stack → gone → trust → trustee → forget. Missing is success everywhere.

use tracing::info;

use super::decide::{GoneNext, gone};
use super::moment::Moment;
use super::{Conductor, Progress, Refusal, StepError, Tenant};
use crate::model::cluster::Cluster;
use crate::model::name;
use crate::model::operation::{Detail, Operation, OperationKind, Step};
use crate::model::stack::Stack;
use crate::model::status::Status;
use crate::openstack::{Actor, CloudError};
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
            if moment.operation.as_ref().is_some_and(|o| o.kind == OperationKind::Delete) {
                self.poke(id);
                return Ok(());
            }
            match self.inner.store.commit(self.deletion(tenant, &moment)).await {
                Ok(()) => {
                    info!(cluster = %id, name = moment.cluster.name, "deletion accepted");
                    self.poke(id);
                    return Ok(());
                }
                // The conductor moved on meanwhile: look again, the wish stands.
                Err(StoreError::Stale) => {}
                Err(e) => return Err(e.into()),
            }
        }
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
        // The tenant's token helps where no trust was ever made; an administrator of
        // another project cannot lend theirs.
        let own = tenant.requester.project_id.as_deref() == Some(&cluster.project_id);
        let token = own.then(|| {
            let plain = tenant.token.expose().as_bytes();
            self.inner.store.sealer().seal(&Operation::token_owner(id), plain)
        });
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
        if let Some(actor) = self.deleting_actor(moment).await? {
            if let Some(left) = self.ensure_no_balancers(moment, operation, &actor).await? {
                self.note(moment, &format!("{left} load balancers of its services are leaving."))
                    .await;
                return Ok(Progress::Wait(self.inner.settings.look_interval));
            }
            let heat = self.inner.cloud.heat(&actor).await?;
            for stack in first_to_go(moment, self.stacks_of(moment, &actor).await?) {
                if gone(Some(&stack), false) != GoneNext::Delete {
                    continue;
                }
                info!(stack = %stack.id, "deleting the stack");
                match self.act(heat.delete(&stack.name, &stack.id)).await {
                    Err(StepError::Cloud(e)) if e.is_missing() => {}
                    // Something of Heat's own is under way on it: ask again soon.
                    Err(StepError::Cloud(e)) if e.is_conflict() => {
                        return Ok(Progress::Wait(self.inner.settings.look_interval));
                    }
                    other => other?,
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
        if let Some(actor) = self.deleting_actor(moment).await? {
            for stack in first_to_go(moment, self.stacks_of(moment, &actor).await?) {
                match gone(Some(&stack), true) {
                    GoneNext::Gone => {}
                    GoneNext::Wait => {
                        let sentence = format!("Stack {}.", stack.status);
                        self.note(moment, &sentence).await;
                        return Ok(Progress::Wait(self.inner.settings.look_interval));
                    }
                    // It came to be after we had asked: a late answer to our own request.
                    GoneNext::Delete => {
                        let back = operation.at(Step::DeleteStack);
                        self.commit(Change::new().expect(operation).put(&back)).await?;
                        return Ok(Progress::Again);
                    }
                    GoneNext::Fail => return Err(self.deletion_failure(&actor, &stack).await),
                }
            }
        }
        let change = Change::new().expect(operation).put(&operation.at(Step::DeleteTrust));
        self.commit(change).await?;
        Ok(Progress::Again)
    }

    pub(super) async fn deletion_failure(&self, actor: &Actor, stack: &Stack) -> StepError {
        let failures = match self.inner.cloud.heat(actor).await {
            Ok(heat) => heat.failures(&stack.name, &stack.id).await,
            Err(e) => Err(e),
        };
        match failures.ok().and_then(|found| found.into_iter().next()) {
            Some(failure) => StepError::failed(format!(
                "Resource {} ({}) could not be deleted: {}",
                failure.name, failure.kind, failure.reason
            )),
            None => StepError::failed(stack.status_reason.clone()),
        }
    }

    /// The stack we know by id, and whatever else carries our tag.
    async fn stacks_of(&self, moment: &Moment, actor: &Actor) -> Result<Vec<Stack>, StepError> {
        let heat = self.inner.cloud.heat(actor).await?;
        let mut stacks = self.tagged(actor, &name::stack_tag(moment.id())).await?;
        if let Some(id) = &moment.cluster.stack_id
            && !stacks.iter().any(|s| s.id == *id)
        {
            match heat.show(&moment.cluster.stack_name(), id, false).await {
                Ok(stack) => stacks.push(stack),
                Err(e) if e.is_missing() => {}
                Err(e) => return Err(e.into()),
            }
        }
        Ok(stacks)
    }

    /// Who may delete: the trustee; else, where the trust is gone or was never made, the
    /// tenant who asked. None when no stack can exist, because none is made before its trust.
    pub(super) async fn deleting_actor(&self, moment: &Moment) -> Result<Option<Actor>, StepError> {
        let by_trust = match moment.trust() {
            Some(_) => match self.trust_session(moment).await {
                Ok(actor) => return Ok(Some(actor)),
                Err(StepError::Cloud(e)) if e.is_passing() => return Err(e.into()),
                Err(error) => Some(error),
            },
            None => None,
        };
        let Some(error) = by_trust else { return Ok(None) };
        let project_id = moment.cluster.project_id.clone();
        let user_id = moment.cluster.user_id.clone();
        match moment.tenant_token(&self.inner.store) {
            Some(token) => Ok(Some(Actor { token, project_id, user_id })),
            None => Err(StepError::failed(format!(
                "The cluster's trust cannot be used any more ({error}). \
                 A member of its project must delete it."
            ))),
        }
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
            Ok(trusts) => Ok(trusts),
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

/// Whether Keystone says that user or trust are no more: it does not tell a deleted trustee
/// from a wrong password, and a trust whose trustor is gone is forbidden.
pub(super) fn is_over(error: &CloudError) -> bool {
    error.is_missing() || matches!(error, CloudError::Refused { status: 401 | 403, .. })
}
