//! The end of a cluster.

use tracing::info;

use super::MOST_GROUPS;
use crate::conductor::snapshot::ClusterSnapshot;
use crate::conductor::{Conductor, RequestContext, RequestError};
use crate::model::cluster::Cluster;
use crate::model::operation::{Delete, DeleteStep, Operation, OperationKind};
use crate::model::status::Status;
use crate::store::{Change, Stored};

impl Conductor {
    /// DELETE_IN_PROGRESS and a durable operation; overtakes whatever runs; idempotent.
    pub async fn delete_cluster(
        &self,
        tenant: &RequestContext<'_>,
        cluster: &Stored<Cluster>,
    ) -> Result<(), RequestError> {
        let id = cluster.id;
        let done = self
            .order(id, |snapshot| {
                Ok(match &snapshot.operation {
                    Some(running) if matches!(running.kind, OperationKind::Delete(_)) => {
                        self.lend_again(tenant, snapshot, running).unwrap_or_default()
                    }
                    _ => {
                        info!(cluster = %id, name = snapshot.cluster.name, "deletion asked for");
                        self.deletion(tenant, snapshot)?
                    }
                })
            })
            .await;
        match done {
            // It is no more.
            Err(RequestError::Missing(_)) => Ok(()),
            done => {
                self.poke(id);
                done
            }
        }
    }

    /// A deletion that runs gets the token of whoever asks once more: the one it has may have
    /// expired. None where this caller has none to lend.
    fn lend_again(
        &self,
        tenant: &RequestContext<'_>,
        snapshot: &ClusterSnapshot,
        running: &Stored<Operation>,
    ) -> Option<Change> {
        let mut again = running.record.clone();
        again.token = Some(self.lent_token(tenant, &snapshot.cluster)?);
        again.user_id.clone_from(&tenant.requester.user_id);
        again.roles.clone_from(&tenant.requester.roles);
        Some(Change::new().expect(running).put(&again))
    }

    fn deletion(
        &self,
        tenant: &RequestContext<'_>,
        snapshot: &ClusterSnapshot,
    ) -> Result<Change, RequestError> {
        let now = self.inner.clock.now();
        let mut cluster = snapshot.cluster.record.clone();
        cluster.status = Status::DeleteInProgress;
        cluster.status_reason = None;
        cluster.updated_at = Some(now);
        let mut change = Change::new().expect(&snapshot.cluster).put(&cluster);
        // One of before there was a limit may have more than go into one change; what is deleted does
        // not hang on what its groups show.
        for group in snapshot.groups.iter().take(MOST_GROUPS) {
            let mut group = group.record.clone();
            group.status = Status::DeleteInProgress;
            group.status_reason = None;
            group.updated_at = Some(now);
            change = change.put(&group);
        }
        for overtaken in snapshot.operations() {
            change = change.expect(overtaken).delete(&overtaken.record);
        }
        // It helps where the trust is dead or of another user than a stack; an administrator of
        // another project cannot lend theirs.
        let token = self.lent_token(tenant, &cluster);
        let delete = Delete { step: DeleteStep::Stacks };
        let operation =
            Operation { deadline: None, token, ..self.new_operation(tenant, snapshot, delete)? };
        Ok(change.put(&operation))
    }
}
