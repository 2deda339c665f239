//! Load balancers that the cluster's own services have asked Octavia for. They go before the
//! stack: their ports hold on to its network, and nobody else remembers them.

use tracing::{info, warn};
use uuid::Uuid;

use super::snapshot::ClusterSnapshot;
use super::{Conductor, StepError};
use crate::model::ClusterId;
use crate::model::operation::Operation;
use crate::openstack::{Actor, Balancer, CloudError};

/// The cluster for which Kubernetes' cloud provider made something, by its description: one that
/// begins like `begins`, ends with `from cluster` and the cluster's uuid.
pub fn made_for(description: &str, begins: &str) -> Option<ClusterId> {
    let made = description.strip_prefix(begins)?;
    let (_, cluster) = made.rsplit_once(" from cluster ")?;
    Some(ClusterId::new(Uuid::parse_str(cluster).ok()?))
}

/// How a load balancer's description begins.
pub const BALANCER: &str = "Kubernetes external service ";
const FLOATING_IP: &str = "Floating IP for Kubernetes external service ";

/// Octavia remembers deleted ones for a while, and may be set up to show them.
const DELETED: &str = "DELETED";
const LEAVING: &str = "PENDING_DELETE";

impl Conductor {
    /// Deletes load balancers of the cluster's services and the floating IPs before them; how many
    /// are still there. None when they have been waited for long enough, or nobody may look.
    pub(super) async fn ensure_no_balancers(
        &self,
        snapshot: &ClusterSnapshot,
        operation: &Operation,
        actor: &Actor,
    ) -> Result<Option<usize>, StepError> {
        if !snapshot.facts.as_ref().is_some_and(|facts| facts.has_octavia) {
            return Ok(None);
        }
        let (id, cloud) = (snapshot.id(), &self.inner.cloud);
        let Some(all) = seen("load balancers", cloud.balancers(actor).await)? else {
            return Ok(None);
        };
        let is_own = |b: &Balancer| made_for(&b.description, BALANCER) == Some(id);
        let there: Vec<Balancer> =
            all.into_iter().filter(|b| is_own(b) && b.status != DELETED).collect();
        for balancer in there.iter().filter(|b| b.status != LEAVING) {
            info!(balancer = %balancer.id, name = balancer.name, "deleting a service's load balancer");
            gone(self.act(cloud.delete_balancer(actor, &balancer.id)).await)?;
        }
        if there.is_empty() {
            self.ensure_no_floating_ips(id, actor).await?;
            return Ok(None);
        }
        let waited = self.inner.clock.now().since(operation.began);
        if waited >= self.inner.settings.lb_delete_timeout {
            warn!(
                left = there.len(),
                ?waited,
                "load balancers of the cluster's services are still there; its network may stay"
            );
            return Ok(None);
        }
        Ok(Some(there.len()))
    }

    async fn ensure_no_floating_ips(&self, id: ClusterId, actor: &Actor) -> Result<(), StepError> {
        let cloud = &self.inner.cloud;
        let all = seen("floating IPs", cloud.floating_ips(actor).await)?.unwrap_or_default();
        for ip in all.iter().filter(|ip| made_for(&ip.description, FLOATING_IP) == Some(id)) {
            info!(address = ip.address, "deleting a service's floating IP");
            gone(self.act(cloud.delete_floating_ip(actor, &ip.id)).await)?;
        }
        Ok(())
    }
}

/// What a list shows; nothing where the actor may not look, which is no reason to keep a cluster.
fn seen<T>(what: &str, listed: Result<T, CloudError>) -> Result<Option<T>, StepError> {
    match listed {
        Ok(listed) => Ok(Some(listed)),
        Err(e) if e.is_passing() || e.is_unauthorised() => Err(e.into()),
        Err(error) => {
            warn!(%error, "{what} of the cluster's services cannot be looked for");
            Ok(None)
        }
    }
}

/// Missing is success; one that changes just now is asked again at the next look.
fn gone(deleted: Result<(), StepError>) -> Result<(), StepError> {
    match deleted {
        Err(StepError::Cloud(e)) if e.is_missing() || e.is_conflict() => Ok(()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn things_are_known_by_their_description() {
        let id = Uuid::from_u128(7);
        let ours = format!("Kubernetes external service default/web from cluster {id}");
        assert_eq!(made_for(&ours, BALANCER), Some(ClusterId::new(id)));
        assert_eq!(made_for(&ours, FLOATING_IP), None);
        assert_eq!(
            made_for(&format!("Floating IP for {ours}"), FLOATING_IP),
            Some(ClusterId::new(id))
        );
        for foreign in [
            "",
            "web",
            &ours[..ours.len() - 1],
            "Kubernetes external service a/b from cluster kubernetes",
        ] {
            assert_eq!(made_for(foreign, BALANCER), None, "{foreign}");
        }
    }
}
