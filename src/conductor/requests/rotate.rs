//! New secrets for a cluster: its certificate authorities, and its credential.

use tracing::info;

use super::can_make_trusts;
use super::checks::{busy, has_plan, in_status, may_change, own_project};
use crate::conductor::{Conductor, RequestContext, RequestError};
use crate::model::cluster::Cluster;
use crate::model::credential::Credential;
use crate::model::operation::{
    Operation, OperationKind, RotateCa, RotateCaStep, RotateCredential, RotateCredentialStep,
};
use crate::store::{Change, Stored};

impl Conductor {
    /// The main, etcd and front-proxy authorities and everything they have signed.
    pub async fn rotate_ca(
        &self,
        tenant: &RequestContext<'_>,
        cluster: &Stored<Cluster>,
    ) -> Result<(), RequestError> {
        let id = cluster.id;
        self.order(id, |snapshot| {
            in_status(snapshot, "Rotating the CA of a cluster")?;
            self.driver_for_order(snapshot)?.check_rotation()?;
            has_plan(snapshot)?;
            let (masters, workers) = snapshot.counts();
            let ready = snapshot.nodes.iter().filter(|n| n.is_ready()).count();
            if ready < (masters + workers) as usize {
                return Err(busy(
                    snapshot,
                    &format!(
                        "{ready} of its {} nodes are ready, and a node that takes no part would \
                         be locked out",
                        masters + workers
                    ),
                ));
            }
            let rotate = RotateCa { step: RotateCaStep::Draw };
            let operation = self.new_operation(tenant, snapshot, rotate)?;
            info!(cluster = %id, "rotation of the authorities accepted");
            Ok(self.in_progress(snapshot, Change::new().put(&operation)))
        })
        .await
    }

    /// A new password for the trustee, and a new trust from the caller; the old trust goes.
    pub async fn rotate_credential(
        &self,
        tenant: &RequestContext<'_>,
        cluster: &Stored<Cluster>,
    ) -> Result<(), RequestError> {
        own_project(tenant, cluster, "rotate its credential")?;
        can_make_trusts(tenant.requester)?;
        let id = cluster.id;
        let password = self.inner.entropy.password();
        self.order(id, |snapshot| {
            may_change(snapshot, None)?;
            // The cluster's own controllers would lose their way into the cloud.
            has_plan(snapshot)?;
            self.driver_for_order(snapshot)?;
            let rotates =
                |o: &Stored<Operation>| matches!(o.kind, OperationKind::RotateCredential(_));
            if snapshot.operations().any(rotates) {
                return Err(busy(snapshot, "its credential is being rotated already"));
            }
            let Some(credential) = snapshot.credential.as_ref().filter(|c| c.trust_id.is_some())
            else {
                return Err(busy(snapshot, "it has no trust to replace"));
            };
            let sealer = self.inner.store.sealer();
            let mut next = credential.record.clone();
            next.next_password = Some(sealer.seal(&Credential::owner(id), password.as_bytes()));
            let rotate = RotateCredential { step: RotateCredentialStep::Trust };
            let mut operation = self.new_operation(tenant, snapshot, rotate)?;
            operation.token = self.lent_token(tenant, &snapshot.cluster);
            info!(cluster = %id, "rotation of the credential accepted");
            let change = Change::new().expect(credential).put(&next).put(&operation);
            Ok(self.in_progress(snapshot, change))
        })
        .await
    }
}
