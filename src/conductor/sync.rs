//! Clusters at rest, looked at slowly: what happened behind our back shows.

use std::time::Duration;

use tracing::{debug, info, warn};

use super::moment::Moment;
use super::outlook::{at_rest, servers};
use super::update::forget_departed;
use super::{Conductor, StepError};
use crate::model::nodegroup::NodeGroup;
use crate::model::status::Status;
use crate::store::{Change, Scope};

/// At most so many looks begin in a second, however many clusters there are.
const SPACING: Duration = Duration::from_millis(50);

impl Conductor {
    /// Asks for one look at every cluster at rest, spread over the interval.
    pub(super) fn sync_soon(&self) {
        let mut resting = Vec::new();
        let read = self.inner.store.read(|view| {
            view.each_cluster(Scope::Everyone, |c| resting.extend(rests(c.status).then_some(c.id)))
        });
        if let Err(error) = read {
            return warn!(%error, "clusters at rest cannot be read");
        }
        let count = u32::try_from(resting.len()).unwrap_or(u32::MAX).max(1);
        let spacing = (self.inner.settings.sync_interval / count).max(SPACING).min(
            // A few clusters need not be spread.
            Duration::from_secs(1),
        );
        for (place, id) in (0u32..).zip(resting) {
            self.push(id, spacing * place);
        }
    }

    /// Compares a cluster at rest with its stacks. Whatever cannot be seen now is seen later.
    pub(super) async fn sync(&self, moment: &Moment) {
        if !rests(moment.cluster.status) {
            return;
        }
        match self.try_sync(moment).await {
            Ok(()) => {}
            Err(error) => debug!(%error, "the stacks cannot be looked at"),
        }
    }

    async fn try_sync(&self, moment: &Moment) -> Result<(), StepError> {
        let mut change = Change::new();
        let mut changed: Vec<NodeGroup> = Vec::new();
        let mut reason = None;
        for group in &moment.groups {
            let Some(stack_id) = &group.stack_id else { continue };
            let shown = self.look_at(moment, group, true).await?;
            let mut next = group.record.clone();
            if let Some((status, why)) = at_rest(group.status, stack_id, shown.as_ref()) {
                info!(group = group.name, %status, why, "the stack is not as it was");
                next.status = status;
                next.status_reason = Some(why.clone());
                reason = Some(why);
            }
            let still = shown.filter(|s| s.status.ends_with("_COMPLETE") && !s.is_gone());
            if let Some(stack) = still
                && !group.is_master()
                && let Some(servers) = servers(&stack)
            {
                let outcome = self.driver(moment)?.outcome(&self.plan_of(moment, group)?, &stack);
                next.node_count = u32::try_from(servers.len()).unwrap_or(u32::MAX);
                next.node_addresses = outcome.worker_addresses;
                if let Some(departed) = forget_departed(moment, group, &stack) {
                    self.inner.store.commit(departed).await?;
                }
            }
            if next != group.record {
                next.updated_at = Some(self.inner.clock.now());
                change = change.expect(group);
                changed.push(next);
            }
        }
        if changed.is_empty() {
            return Ok(());
        }
        let change = self.with_cluster(moment, change, &changed, None, reason);
        Ok(self.inner.store.commit(change).await?)
    }
}

/// Whether a cluster was built and nobody has asked for its end.
fn rests(status: Status) -> bool {
    let built = !matches!(status, Status::CreateInProgress | Status::CreateFailed);
    built && !status.as_str().starts_with("DELETE")
}
