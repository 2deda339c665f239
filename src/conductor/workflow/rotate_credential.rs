//! A new credential: new trust → stacks taken over → new password → old trust deleted → given to
//! the cluster's own controllers, if it has any. The old trust serves until the new one is on
//! record.
//!
//! With the new password a controller inside the cluster has lost its way into the cloud, and
//! finds it again when its master has done the duty: half a minute as a rule.

use tracing::{info, warn};

use super::duties::Ask;
use super::{Next, Run, Workflow};
use crate::conductor::StepError;
use crate::conductor::engine::AFTER_NEW_PASSWORD;
use crate::conductor::identity::DEAD_TRUST;
use crate::conductor::stacks::lapsed;
use crate::model::credential::Credential;
use crate::model::duty::DutyKind;
use crate::model::nodegroup::NodeGroup;
use crate::model::operation::{RotateCredential, RotateCredentialStep, Work};
use crate::model::status::Status;
use crate::openstack::Trust;
use crate::store::{Change, Stored};

type Outcome = Result<Next<RotateCredential>, StepError>;

impl Workflow for RotateCredential {
    async fn step(run: &Run<'_, Self>) -> Outcome {
        let lost = || StepError::failed("The cluster's credential was lost.");
        let credential = run.snapshot.credential.as_ref().ok_or_else(lost)?;
        match run.work.step {
            RotateCredentialStep::Trust => run.ensure_new_trust(credential).await,
            RotateCredentialStep::Stacks => run.take_stacks().await,
            RotateCredentialStep::Password => run.set_password(credential).await,
            RotateCredentialStep::FormerTrust => run.delete_former_trust(credential).await,
            RotateCredentialStep::Renew => run.renew(),
        }
    }

    fn failed(run: &Run<'_, Self>, reason: &str, _nodegroup: Option<&str>) -> Change {
        run.failed_without_group(reason)
    }
}

impl Run<'_, RotateCredential> {
    /// A trust of the trustee beside the one on record is ours.
    async fn ensure_new_trust(&self, credential: &Stored<Credential>) -> Outcome {
        let Self { conductor, snapshot, operation, .. } = self;
        let keystone = conductor.inner.cloud.keystone();
        let (user, password) = snapshot.trustee(&conductor.inner.store)?;
        let user = user.ok_or_else(|| StepError::failed("The trustee's id was lost."))?;
        let known = conductor.act(keystone.trusts_of(user, &password)).await?;
        let fits = |t: &Trust| {
            Some(&t.id) != credential.trust_id.as_ref() && t.trustor_user_id == operation.user_id
        };
        let trust = match known.into_iter().find(fits) {
            Some(trust) => trust.id,
            None => {
                let token = snapshot
                    .tenant_token(&conductor.inner.store)
                    .ok_or_else(|| StepError::failed("The tenant's token was lost."))?;
                conductor.make_trust(snapshot, operation, user, &token).await?
            }
        };
        let mut next = credential.record.clone();
        next.next_trust = Some(trust);
        self.go(Change::new().expect(credential).put(&next), RotateCredentialStep::Stacks)
    }

    /// Makes every stack of the cluster the caller's, so that the new trust can act on it: an
    /// update with the caller's token that changes nothing but the revision.
    ///
    /// A stack that Heat does not take it for stays with its owner until its next change. It is
    /// no reason to keep the old credential.
    async fn take_stacks(&self) -> Outcome {
        let Self { conductor, snapshot, .. } = self;
        let revision = self.revision();
        let mut change = Change::new();
        let own = snapshot.groups.iter().filter(|g| g.is_default).take(1);
        for group in own.chain(snapshot.groups.iter().filter(|g| !g.is_default)) {
            let Some(id) = &group.stack_id else { continue };
            let shown = conductor.look_at(snapshot, group, false).await?;
            let Some(stack) = shown.filter(|s| !s.is_gone() && !s.is_deleting()) else { continue };
            if stack.is_in_progress() {
                return Ok(Next::wait_for_heat(Some(&stack)));
            }
            if stack.is_revision(&revision) {
                change = snapshot.with_revision(change, Some(id), &revision);
                continue;
            }
            // Heat would mend what has failed, which nobody has asked for.
            if stack.has_failed() {
                continue;
            }
            let lost = || StepError::failed("The tenant's token was lost.");
            let caller = conductor.caller(snapshot).ok_or_else(lost)?;
            let heat = conductor.inner.cloud.heat(&caller).await?;
            match conductor.act(heat.mark(&stack.name, id, &revision)).await {
                Ok(()) => {
                    info!(stack = id, "stack taken");
                    conductor.inner.sessions.own(id, snapshot.next_trust()).await;
                    return Ok(Next::wait_for_heat(Some(&stack)));
                }
                Err(StepError::Cloud(e)) if e.is_conflict() => {
                    return Ok(Next::wait_for_heat(Some(&stack)));
                }
                Err(StepError::Cloud(e)) if !e.is_passing() && !e.is_unauthorised() => {
                    warn!(stack = id, error = %e, "the stack stays with its owner for now");
                }
                Err(e) => return Err(lapsed("the stacks were taken")(e)),
            }
        }
        self.go(change, RotateCredentialStep::Password)
    }

    /// Whether every stack has become the caller's.
    async fn has_all_stacks(&self) -> Result<bool, StepError> {
        let Self { conductor, snapshot, .. } = self;
        let revision = self.revision();
        for group in snapshot.groups.iter().filter(|g| !g.is_master() && g.stack_id.is_some()) {
            let shown = conductor.look_at(snapshot, group, false).await?;
            if shown.is_some_and(|s| !s.is_gone() && !s.is_revision(&revision)) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Sets the password that was drawn; from then on the new trust is the one on record.
    async fn set_password(&self, credential: &Stored<Credential>) -> Outcome {
        let Self { conductor, snapshot, operation, .. } = self;
        let lost = || StepError::failed("The new password was lost.");
        let sealed = credential.next_password.as_ref().ok_or_else(lost)?;
        let user = credential.trustee_user_id.as_deref().ok_or_else(lost)?;
        let owner = Credential::owner(snapshot.id());
        let password = conductor.inner.store.sealer().open_text(&owner, sealed)?;
        let keystone = conductor.inner.cloud.keystone();
        conductor.as_domain_admin(keystone.set_trustee_password(user, &password)).await?;
        conductor.forget_session(snapshot.id()).await;
        let mut next = credential.record.clone();
        next.trustee_password = sealed.clone();
        next.next_password = None;
        next.former_trust = next.trust_id.take();
        next.trust_id = next.next_trust.take();
        // Who acts for the cluster from now on owns it: the member who asked for the rotation.
        let mut owned = snapshot.cluster.record.clone();
        owned.user_id.clone_from(&operation.user_id);
        let change = Change::new().expect(credential).put(&next);
        let change = change.expect(&snapshot.cluster).put(&owned);
        let next = self.work.at(RotateCredentialStep::FormerTrust);
        Ok(Next::GoAfter(AFTER_NEW_PASSWORD, change, next))
    }

    async fn delete_former_trust(&self, credential: &Stored<Credential>) -> Outcome {
        let Self { conductor, snapshot, .. } = self;
        if let Some(former) = &credential.former_trust {
            conductor.delete_trust(snapshot, former).await?;
        }
        // Members who have made a node group gave theirs, which nothing needs any more.
        if self.has_all_stacks().await? {
            conductor.prune_trusts(snapshot).await?;
        }
        let mut next = credential.record.clone();
        next.former_trust = None;
        self.go(Change::new().expect(credential).put(&next), RotateCredentialStep::Renew)
    }

    /// A master puts the new credentials in the place of those that stopped working.
    fn renew(&self) -> Outcome {
        let Self { conductor, snapshot, .. } = self;
        let kind = DutyKind::RenewCredentials;
        let needed = conductor.driver(snapshot)?.has_duty(&conductor.plan(snapshot)?, kind);
        if needed.map_err(|e| StepError::failed(e.to_string()))? {
            let Some(master) = snapshot.masters().into_iter().find(|n| n.is_ready()) else {
                return Err(StepError::failed(
                    "The credential was rotated, but no master is ready to give it to the \
                     cluster's controllers. Rotate it again when one is.",
                ));
            };
            let ask = Ask { node: master.name.clone(), kind, targets: Vec::new() };
            if let Some(next) = self.ensure_duties(&[ask])? {
                return Ok(next);
            }
        }
        let said = Some("The credential was rotated.".to_owned());
        // Their stacks were updated, and what failed for want of a trust can be asked for again.
        let is_well = |g: &NodeGroup| {
            let why = g.status_reason.as_deref().unwrap_or_default();
            g.status.is_complete() || g.status.is_failed() && why.starts_with(DEAD_TRUST)
        };
        let now = conductor.inner.clock.now();
        let renewed = snapshot.groups.iter().filter(|g| is_well(g)).map(|g| NodeGroup {
            status: Status::UpdateComplete,
            status_reason: said.clone(),
            updated_at: Some(now),
            ..g.record.clone()
        });
        let renewed: Vec<NodeGroup> = renewed.collect();
        let change = snapshot.without_stale_duties(Change::new());
        Ok(Next::Done(conductor.with_cluster(snapshot, change, &renewed, None, said)))
    }
}
