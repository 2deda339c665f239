//! A new credential: new trust → stacks taken over → new password → old trust deleted → given to
//! the cluster's own controllers, if it has any → settled. The old trust serves until the new one
//! is on record.
//!
//! With the new password a controller inside the cluster has lost its way into the cloud, and
//! finds it again when its master has done the duty: half a minute as a rule.

use std::time::Duration;

use tracing::{info, warn};

use super::authorities::masters;
use super::create::lapsed;
use super::duties::{Ask, forgotten};
use super::engine::AFTER_NEW_PASSWORD;
use super::identity::DEAD_TRUST;
use super::moment::Moment;
use super::update::{awaiting_heat, revision};
use super::{Conductor, Progress, StepError};
use crate::model::credential::Credential;
use crate::model::duty::DutyKind;
use crate::model::nodegroup::NodeGroup;
use crate::model::operation::{Operation, Step};
use crate::model::status::Status;
use crate::openstack::{CloudError, Service, Trust};
use crate::store::{Change, Stored};

impl Conductor {
    pub(super) async fn rotate_step(
        &self,
        moment: &Moment,
        operation: &Stored<Operation>,
    ) -> Result<Progress, StepError> {
        let lost = || StepError::failed("The cluster's credential was lost.");
        let credential = moment.credential.as_ref().ok_or_else(lost)?;
        match operation.step {
            Step::NewTrust => self.ensure_new_trust(moment, operation, credential).await,
            Step::TakeStacks => self.ensure_stacks_taken(moment, operation).await,
            Step::NewPassword => self.ensure_new_password(moment, operation, credential).await,
            Step::FormerTrust => self.ensure_no_former_trust(moment, operation, credential).await,
            Step::RenewCredentials => self.ensure_renewed(moment, operation).await,
            other => Err(StepError::failed(format!(
                "The operation stands at {}, which no rotation has.",
                other.as_str()
            ))),
        }
    }

    /// A trust of the trustee beside the one on record is ours.
    async fn ensure_new_trust(
        &self,
        moment: &Moment,
        operation: &Stored<Operation>,
        credential: &Stored<Credential>,
    ) -> Result<Progress, StepError> {
        let keystone = self.inner.cloud.keystone();
        let (user, password) = moment.trustee(&self.inner.store)?;
        let user = user.ok_or_else(|| StepError::failed("The trustee's id was lost."))?;
        let known = self.act(keystone.trusts_of(user, &password)).await?;
        let fits = |t: &Trust| {
            Some(&t.id) != credential.trust_id.as_ref() && t.trustor_user_id == operation.user_id
        };
        let trust = match known.into_iter().find(fits) {
            Some(trust) => trust.id,
            None => {
                let token = moment
                    .tenant_token(&self.inner.store)
                    .ok_or_else(|| StepError::failed("The tenant's token was lost."))?;
                self.make_trust(moment, operation, user, &token).await?
            }
        };
        let mut next = credential.record.clone();
        next.next_trust = Some(trust);
        let at = operation.at(Step::TakeStacks);
        self.commit(Change::new().expect(operation).expect(credential).put(&next).put(&at)).await?;
        Ok(Progress::Again)
    }

    /// Makes every stack of the cluster the caller's, so that the new trust can act on it: an
    /// update with the caller's token that changes nothing but the revision.
    ///
    /// A stack that Heat does not take it for stays with its owner until its next change. It is
    /// no reason to keep the old credential.
    async fn ensure_stacks_taken(
        &self,
        moment: &Moment,
        operation: &Stored<Operation>,
    ) -> Result<Progress, StepError> {
        let revision = revision(operation);
        let own = moment.groups.iter().filter(|g| g.is_default).take(1);
        for group in own.chain(moment.groups.iter().filter(|g| !g.is_default)) {
            let Some(id) = &group.stack_id else { continue };
            let shown = self.look_at(moment, group, false).await?;
            let Some(stack) = shown.filter(|s| !s.is_gone() && !s.is_deleting()) else { continue };
            if stack.is_in_progress() {
                return Ok(awaiting_heat(Some(&stack)));
            }
            // Heat would mend what has failed, which nobody has asked for.
            if stack.has_failed() || stack.is_revision(&revision) {
                continue;
            }
            let lost = || StepError::failed("The tenant's token was lost.");
            let caller = self.caller(moment).ok_or_else(lost)?;
            let heat = self.inner.cloud.heat(&caller).await?;
            match self.act(heat.mark(&stack.name, id, &revision)).await {
                Ok(()) => {
                    info!(stack = id, "stack taken");
                    self.inner.sessions.own(id, moment.next_trust()).await;
                    return Ok(awaiting_heat(Some(&stack)));
                }
                Err(StepError::Cloud(e)) if e.is_conflict() => {
                    return Ok(awaiting_heat(Some(&stack)));
                }
                Err(StepError::Cloud(e)) if !e.is_passing() && !e.is_unauthorised() => {
                    warn!(stack = id, error = %e, "the stack stays with its owner for now");
                }
                Err(e) => return Err(lapsed("the stacks were taken")(e)),
            }
        }
        let mut next = operation.at(Step::NewPassword);
        next.token = None;
        self.commit(Change::new().expect(operation).put(&next)).await?;
        Ok(Progress::Again)
    }

    /// Whether every stack has become the caller's.
    async fn has_all_stacks(
        &self,
        moment: &Moment,
        operation: &Operation,
    ) -> Result<bool, StepError> {
        let revision = revision(operation);
        for group in moment.groups.iter().filter(|g| !g.is_master() && g.stack_id.is_some()) {
            let shown = self.look_at(moment, group, false).await?;
            if shown.is_some_and(|s| !s.is_gone() && !s.is_revision(&revision)) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Sets the password that was drawn; from then on the new trust is the one on record.
    async fn ensure_new_password(
        &self,
        moment: &Moment,
        operation: &Stored<Operation>,
        credential: &Stored<Credential>,
    ) -> Result<Progress, StepError> {
        let lost = || StepError::failed("The new password was lost.");
        let sealed = credential.next_password.as_ref().ok_or_else(lost)?;
        let user = credential.trustee_user_id.as_deref().ok_or_else(lost)?;
        let owner = Credential::owner(moment.id());
        let password = self.inner.store.sealer().open_text(&owner, sealed)?;
        let keystone = self.inner.cloud.keystone();
        self.as_domain_admin(keystone.set_trustee_password(user, &password)).await?;
        let mut next = credential.record.clone();
        next.trustee_password = sealed.clone();
        next.next_password = None;
        next.former_trust = next.trust_id.take();
        next.trust_id = next.next_trust.take();
        let at = operation.at(Step::FormerTrust);
        // Who acts for the cluster from now on owns it: the member who asked for the rotation.
        let mut owned = moment.cluster.record.clone();
        owned.user_id.clone_from(&operation.user_id);
        let change = Change::new().expect(operation).expect(credential).put(&next).put(&at);
        self.commit(change.expect(&moment.cluster).put(&owned)).await?;
        self.forget_session(moment.id()).await;
        Ok(Progress::Pause(AFTER_NEW_PASSWORD))
    }

    async fn ensure_no_former_trust(
        &self,
        moment: &Moment,
        operation: &Stored<Operation>,
        credential: &Stored<Credential>,
    ) -> Result<Progress, StepError> {
        if let Some(former) = &credential.former_trust {
            self.delete_trust(moment, former).await?;
        }
        // Members who have made a node group gave theirs, which nothing needs any more.
        if self.has_all_stacks(moment, operation).await? {
            for stray in self.other_trusts(moment).await? {
                self.delete_trust(moment, &stray.id).await?;
            }
        }
        let mut next = credential.record.clone();
        next.former_trust = None;
        let change = Change::new().expect(operation).put(&operation.at(Step::RenewCredentials));
        self.commit(change.expect(credential).put(&next)).await?;
        Ok(Progress::Again)
    }

    /// A master puts the new credentials in the place of those that stopped working.
    async fn ensure_renewed(
        &self,
        moment: &Moment,
        operation: &Stored<Operation>,
    ) -> Result<Progress, StepError> {
        let kind = DutyKind::RenewCredentials;
        let plan = moment
            .plan(&self.inner.settings, &self.inner.enrolment)
            .ok_or_else(|| StepError::failed("The cluster's template or facts were lost."))?;
        let needed = self.driver(moment)?.has_duty(&plan, kind);
        if needed.map_err(|e| StepError::failed(e.to_string()))? {
            let ready = masters(moment).into_iter().find(|n| n.is_ready());
            let Some(master) = ready else {
                return Err(StepError::failed(
                    "The credential was rotated, but no master is ready to give it to the \
                     cluster's controllers. Rotate it again when one is.",
                ));
            };
            let ask = Ask { node: master.name.clone(), kind, targets: Vec::new() };
            if let Some(progress) = self.ensure_duties(moment, operation, &[ask]).await? {
                return Ok(progress);
            }
        }
        let change = Change::new().expect(operation).delete(&operation.record);
        let said = Some("The credential was rotated.".to_owned());
        // Their stacks were updated, and what failed for want of a trust can be asked for again.
        let is_well = |g: &NodeGroup| {
            let why = g.status_reason.as_deref().unwrap_or_default();
            g.status.is_complete() || g.status.is_failed() && why.starts_with(DEAD_TRUST)
        };
        let now = self.inner.clock.now();
        let renewed = moment.groups.iter().filter(|g| is_well(g)).map(|g| NodeGroup {
            status: Status::UpdateComplete,
            status_reason: said.clone(),
            updated_at: Some(now),
            ..g.record.clone()
        });
        let renewed: Vec<NodeGroup> = renewed.collect();
        let change = self.with_cluster(moment, forgotten(moment, change), &renewed, None, said);
        self.commit(change).await?;
        info!("credential rotated");
        Ok(Progress::Again)
    }

    /// A trust that is no more, or that Keystone does not accept, needs no deletion.
    pub(super) async fn delete_trust(&self, moment: &Moment, trust: &str) -> Result<(), StepError> {
        let over = |e: &CloudError| super::delete::is_over(e);
        let token = match self.trust_holder(moment, trust).await {
            Ok(token) => token,
            Err(StepError::Cloud(e)) if over(&e) => return Ok(()),
            Err(e) => return Err(e),
        };
        match self.act(self.inner.cloud.keystone().delete_trust(&token, trust)).await {
            Ok(()) => info!(%trust, "trust deleted"),
            // Keystone takes a token for revoked that it gave in the second of a new password.
            // The trust is there, or there would be no token.
            Err(StepError::Cloud(e)) if e.is_unauthorised() => {
                return Err(StepError::Cloud(CloudError::Busy {
                    service: Service::Keystone,
                    reason: "it does not accept the trustee's new token yet".to_owned(),
                    retry_after: Some(Duration::from_secs(1)),
                }));
            }
            Err(StepError::Cloud(e)) if over(&e) => {}
            Err(e) => return Err(e),
        }
        Ok(())
    }
}
