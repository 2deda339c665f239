//! A cluster's trustee and its trusts: found in Keystone, whoever made them, and deleted.

use std::time::Duration;

use tracing::{info, warn};

use super::snapshot::ClusterSnapshot;
use super::{Conductor, StepError};
use crate::base::secret::Secret;
use crate::openstack::{CloudError, Service};

impl Conductor {
    /// Says whose credentials were refused, where the tenant could not guess it.
    pub(super) async fn as_domain_admin<T>(
        &self,
        act: impl Future<Output = Result<T, CloudError>>,
    ) -> Result<T, StepError> {
        self.act(act).await.map_err(|e| match e {
            StepError::Cloud(CloudError::Refused {
                status: status @ (401 | 403), reason, ..
            }) => StepError::failed(format!(
                "Keystone refused the administrator of the trustee domain ({status}): \
                     {reason}. The operator must check [trust] in magnumd's configuration."
            )),
            // A name that is taken although we did not find it: look again.
            StepError::Cloud(e) if e.is_conflict() => StepError::Cloud(CloudError::Unknown {
                service: Service::Keystone,
                reason: e.reason(),
            }),
            other => other,
        })
    }

    /// Every trust of the trustee: the one on record, and those that were made, or were to be
    /// deleted, just before we were killed.
    pub(super) async fn known_trusts(
        &self,
        snapshot: &ClusterSnapshot,
    ) -> Result<Vec<String>, StepError> {
        let Some(user) = self.known_trustee(snapshot).await? else { return Ok(Vec::new()) };
        let (_, password) = snapshot.trustee(&self.inner.store)?;
        match self.inner.cloud.keystone().trusts_of(&user, &password).await {
            Ok(trusts) => Ok(trusts.into_iter().map(|trust| trust.id).collect()),
            Err(e) if is_over(&e) => Ok(snapshot.trust().map(str::to_owned).into_iter().collect()),
            Err(e) => Err(e.into()),
        }
    }

    /// A token that impersonates the trustor through the trust itself.
    pub(super) async fn trust_holder(
        &self,
        snapshot: &ClusterSnapshot,
        trust: &str,
    ) -> Result<Secret<String>, StepError> {
        let (_, password) = snapshot.trustee(&self.inner.store)?;
        let user = self.known_trustee(snapshot).await?;
        let user = user.ok_or_else(|| CloudError::Missing {
            service: Service::Keystone,
            what: "the trustee".to_owned(),
        })?;
        Ok(self.inner.cloud.keystone().trustee(&user, &password, Some(trust)).await?.token)
    }

    /// The trustee on record, or the one that was made just before we were killed.
    pub(super) async fn known_trustee(
        &self,
        snapshot: &ClusterSnapshot,
    ) -> Result<Option<String>, StepError> {
        let Some(credential) = &snapshot.credential else { return Ok(None) };
        match &credential.trustee_user_id {
            Some(user) => Ok(Some(user.clone())),
            None => {
                let keystone = self.inner.cloud.keystone();
                self.as_domain_admin(keystone.trustee_named(&credential.trustee_name)).await
            }
        }
    }

    /// A trust that is no more, or that Keystone does not accept, needs no deletion.
    pub(super) async fn delete_trust(
        &self,
        snapshot: &ClusterSnapshot,
        trust: &str,
    ) -> Result<(), StepError> {
        let token = match self.trust_holder(snapshot, trust).await {
            Ok(token) => token,
            Err(StepError::Cloud(e)) if is_over(&e) => return Ok(()),
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
            Err(StepError::Cloud(e)) if is_over(&e) => {}
            Err(e) => return Err(e),
        }
        Ok(())
    }

    /// Deletes the trustee's trusts beside the one on record.
    pub(super) async fn prune_trusts(&self, snapshot: &ClusterSnapshot) -> Result<(), StepError> {
        for stray in self.other_trusts(snapshot).await? {
            self.delete_trust(snapshot, &stray.id).await?;
        }
        Ok(())
    }

    /// Sets the trustee's password that is on record once more, where Keystone has another one: a
    /// request that was given up may be carried out after a later one, and locks the cluster out
    /// of its cloud. Returns whether that was so.
    ///
    /// Nobody else changes the cluster's credential meanwhile: this is part of a run.
    pub(super) async fn mend_trustee(&self, snapshot: &ClusterSnapshot) -> Result<bool, StepError> {
        let Some(credential) = &snapshot.credential else { return Ok(false) };
        // A rotation that is between two passwords goes on, and sets the right one.
        if credential.next_password.is_some() {
            return Ok(false);
        }
        let (Some(user), password) = snapshot.trustee(&self.inner.store)? else {
            return Ok(false);
        };
        let keystone = self.inner.cloud.keystone();
        match keystone.trusts_of(user, &password).await {
            Err(CloudError::Refused { status: 401, .. }) => {}
            // It is the trust that is dead.
            Ok(_) => return Ok(false),
            Err(error) => return Err(error.into()),
        }
        let known = keystone.trustee_named(&credential.trustee_name);
        if self.as_domain_admin(known).await?.as_deref() != Some(user) {
            return Ok(false);
        }
        self.as_domain_admin(keystone.set_trustee_password(user, &password)).await?;
        self.forget_session(snapshot.id()).await;
        warn!(trustee = user, "Keystone had another password than the one on record; set again");
        Ok(true)
    }
}

/// Whether Keystone says that user or trust are no more: it does not tell a deleted trustee
/// from a wrong password, and a trust whose trustor is gone is forbidden.
pub(super) fn is_over(error: &CloudError) -> bool {
    error.is_missing() || matches!(error, CloudError::Refused { status: 401 | 403, .. })
}
