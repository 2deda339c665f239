//! What tenants may ask of a cluster: checked against what it is, then durable.

mod checks;
mod create;
mod delete;
mod nodegroup;
mod resize;
mod rotate;
mod upgrade;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::snapshot::ClusterSnapshot;
use super::{Conductor, RequestContext, RequestError};
use crate::model::ClusterId;
use crate::model::cluster::Cluster;
use crate::model::operation::{Operation, OperationKind};
use crate::model::status::{HealthStatus, Status};
use crate::openstack::Actor;
use crate::store::{Change, StoreError, Stored};

pub use create::{
    ClusterOrder, TemplateIngredients, can_make_trusts, check_network_driver, os_distro,
};
pub use resize::ResizeOrder;
pub use upgrade::UpgradeOrder;

/// The most node groups of a cluster, the two default ones included: what happens to a cluster
/// is written for all of them in one change of the state.
const MOST_GROUPS: usize = 32;
/// The most operations of a cluster that wait for their turn: a deletion takes all of them away in
/// one change.
const MOST_OPERATIONS: usize = 60;

/// How long a request tries again when others are faster.
const LONGEST: Duration = Duration::from_secs(30);

impl Conductor {
    /// What somebody who looked into the cluster found. Refused if the cluster has changed since
    /// it was read, because what is said may build on what was there.
    pub async fn set_health(
        &self,
        cluster: &Stored<Cluster>,
        status: Option<HealthStatus>,
        reason: BTreeMap<String, String>,
    ) -> Result<(), RequestError> {
        let mut changed = cluster.record.clone();
        changed.health_status = status;
        changed.health_status_reason = reason;
        // What is written was made from what the caller read: laid over anything newer it
        // would undo that.
        self.inner.store.commit(Change::new().expect(cluster).put(&changed)).await?;
        Ok(())
    }

    /// Writes what `build` makes of the cluster as it is now; again, if it changed meanwhile, as
    /// long as [`LONGEST`].
    async fn order(
        &self,
        id: ClusterId,
        build: impl Fn(&ClusterSnapshot) -> Result<Change, RequestError>,
    ) -> Result<(), RequestError> {
        let began = Instant::now();
        loop {
            let change = build(&self.snapshot(id)?)?;
            if change.is_empty() {
                return Ok(());
            }
            match self.intend(id, change).await {
                Ok(()) => return Ok(()),
                Err(StoreError::Conflict) if began.elapsed() < LONGEST => {}
                Err(e) => return Err(e.into()),
            }
        }
    }

    /// Makes an intention durable and has the conductor look at it. Both happen even when the
    /// request is given up meanwhile: hyper drops its future when the client goes away, and what
    /// has reached the disk by then must not wait for the next look.
    pub(in crate::conductor) async fn intend(
        &self,
        id: ClusterId,
        change: Change,
    ) -> Result<(), StoreError> {
        let conductor = self.clone();
        let kept = tokio::spawn(async move {
            conductor.inner.store.commit(change).await?;
            conductor.poke(id);
            Ok(())
        });
        // It is not cancelled and does not panic; a runtime that shuts down ends everything.
        kept.await.unwrap_or(Err(StoreError::Closed))
    }

    /// An operation that a tenant asks for, at its first step. Refused where too many wait
    /// already; a deletion takes their place.
    fn new_operation(
        &self,
        tenant: &RequestContext<'_>,
        snapshot: &ClusterSnapshot,
        kind: impl Into<OperationKind>,
    ) -> Result<Operation, RequestError> {
        let kind = kind.into();
        let waiting = snapshot.operations().count();
        if waiting >= MOST_OPERATIONS && !matches!(kind, OperationKind::Delete(_)) {
            return Err(RequestError::Conflict(format!(
                "{waiting} operations on cluster {} wait for their turn, and no more can be asked \
                 for; try again when some are done.",
                snapshot.cluster.name
            )));
        }
        let now = self.inner.clock.now();
        let minutes = self.minutes(snapshot);
        Ok(Operation {
            sequence: self.inner.store.next_sequence(),
            cluster_id: snapshot.id(),
            began: now,
            deadline: Some(now.plus(Duration::from_secs(60 * u64::from(minutes)))),
            token: None,
            roles: tenant.requester.roles.clone(),
            user_id: tenant.requester.user_id.clone(),
            request_id: tenant.request_id.to_owned(),
            kind,
        })
    }

    fn in_progress(&self, snapshot: &ClusterSnapshot, change: Change) -> Change {
        let mut cluster = snapshot.cluster.record.clone();
        cluster.status = Status::UpdateInProgress;
        cluster.status_reason = None;
        cluster.updated_at = Some(self.inner.clock.now());
        change.expect(&snapshot.cluster).put(&cluster)
    }
}

pub(super) fn actor(tenant: &RequestContext<'_>) -> Result<Actor, RequestError> {
    let project = tenant.requester.project_id.clone().ok_or_else(|| {
        RequestError::Forbidden("This needs a token that is scoped to a project.".to_owned())
    })?;
    Ok(Actor {
        token: tenant.token.clone(),
        project_id: project,
        user_id: tenant.requester.user_id.clone(),
    })
}
