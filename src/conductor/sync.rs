//! Clusters at rest, looked at slowly: what happened behind our back shows.

use std::time::Duration;

use tracing::{debug, info, warn};

use super::addresses::{of_nodes, remarked};
use super::decide::change::{at_rest, servers};
use super::decide::creation::{length, ready};
use super::snapshot::ClusterSnapshot;
use super::{Conductor, StepError};
use crate::base::clock::Timestamp;
use crate::model::nodegroup::NodeGroup;
use crate::model::operation::{Operation, Resize, ResizeStep};
use crate::model::stack::{Stack, StackAction};
use crate::model::status::Status;
use crate::store::{Change, Scope, Stored};

/// At most so many looks begin in a second, however many clusters there are.
const SPACING: Duration = Duration::from_millis(50);

impl Conductor {
    /// Asks for one look at every cluster at rest, spread over the interval.
    pub(super) fn sync_soon(&self) {
        let mut resting = Vec::new();
        let read = self.inner.store.read(|view| {
            // Whoever began an operation wakes the conductor; whatever kept that from happening,
            // none waits for longer than this.
            for operation in view.operations()? {
                self.poke(operation.cluster_id);
            }
            view.each_cluster(Scope::Everyone, |c| {
                if rests(c.status) {
                    self.queue().introduce(c.id, &c.project_id);
                    resting.push(c.id);
                }
            })
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
    pub(super) async fn sync(&self, snapshot: &ClusterSnapshot) {
        if !rests(snapshot.cluster.status) {
            return;
        }
        let synced = match snapshot.cluster.status {
            Status::CreateFailed => self.sync_failed_creation(snapshot).await,
            _ => self.try_sync(snapshot).await,
        };
        match synced {
            Ok(()) => {}
            Err(error) => debug!(%error, "the stacks cannot be looked at"),
        }
    }

    /// A creation that was given up, while Heat and the nodes may have gone on: its addresses are
    /// shown when the stack has them, and it is complete once all that it waited for is ready.
    async fn sync_failed_creation(&self, snapshot: &ClusterSnapshot) -> Result<(), StepError> {
        let awaits = self.awaits(snapshot)?;
        let (masters, workers) = ready(&snapshot.nodes);
        let is_ready = masters >= awaits.masters && workers >= awaits.threshold;
        if !is_ready && snapshot.cluster.api_address.is_some() {
            return Ok(());
        }
        let shown = self.look(snapshot, true).await?;
        let Some(stack) =
            shown.filter(|s| s.is_complete() && s.status.action == StackAction::Create)
        else {
            return Ok(());
        };
        let change = match is_ready {
            true => {
                let given_up = snapshot.cluster.updated_at.unwrap_or(snapshot.cluster.created_at);
                let late = length(self.inner.clock.now().since(given_up));
                let why = snapshot.cluster.status_reason.as_deref().unwrap_or_default();
                info!(late, "the cluster is complete after all");
                let said = format!("Complete {late} after the creation was given up. ({why})");
                self.created(snapshot, Change::new(), &stack, said)?
            }
            false => self.with_addresses(snapshot, Change::new(), &stack)?,
        };
        if change.is_empty() {
            return Ok(());
        }
        Ok(self.inner.store.commit(change).await?)
    }

    async fn try_sync(&self, snapshot: &ClusterSnapshot) -> Result<(), StepError> {
        let mut change = Change::new();
        let mut changed: Vec<NodeGroup> = Vec::new();
        let mut reason = None;
        for group in &snapshot.groups {
            let Some(stack_id) = &group.stack_id else { continue };
            let shown = self.look_at(snapshot, group, true).await?;
            if let Some(stack) = &shown
                && !group.is_master()
                && !group.status.is_failed()
                && snapshot.is_taken_back(stack)
            {
                return self.send_again(snapshot, group).await;
            }
            let mut next = group.record.clone();
            // Masters share their stack with workers, whose changes are what fails in it.
            let others = group.is_master()
                && !group.status.is_in_progress()
                && shown.as_ref().is_some_and(|s| s.has_failed() && !s.is_deleting());
            // Heat may go on with what an order has given up, which shows until the next order.
            let is_given_up = group.is_default
                && shown.as_ref().is_some_and(Stack::is_in_progress)
                && snapshot.groups.iter().any(|g| g.is_default && g.status.is_failed());
            let news = at_rest(group.status, stack_id, shown.as_ref());
            let news = news.filter(|_| !others && !is_given_up);
            if let Some((status, why)) = news {
                info!(group = group.name, %status, why, "the stack is not as it was");
                next.status = status;
                next.status_reason = Some(why.clone());
                reason = Some(why);
            }
            if let Some(stack) = &shown
                && let Some(since) = late(snapshot, group, stack)
            {
                let late = length(self.inner.clock.now().since(since));
                next.status = match group.status {
                    Status::CreateFailed => Status::CreateComplete,
                    _ => Status::UpdateComplete,
                };
                let why = group.status_reason.as_deref().unwrap_or_default();
                let said = format!("Complete {late} after the change was given up. ({why})");
                info!(group = group.name, late, "the group is complete after all");
                next.status_reason = Some(said.clone());
                reason = Some(said);
            }
            let still = shown.filter(|s| s.is_complete() && !s.is_gone());
            if let Some(stack) = still
                && !group.is_master()
                && let Some(servers) = servers(&stack)
            {
                let outcome =
                    self.driver(snapshot)?.outcome(&self.plan_of(snapshot, group)?, &stack);
                next.node_count = u32::try_from(servers.len()).unwrap_or(u32::MAX);
                next.node_addresses = of_nodes(outcome.worker_addresses, next.node_count);
                next.status_reason = remarked(next.status_reason.take(), outcome.remark);
                for departed in snapshot.without_departed(group, &stack) {
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
        // A failure that is no group's stays until the next operation.
        let failed = |g: &NodeGroup| g.status.is_failed();
        let is_own = snapshot.cluster.status.is_failed()
            && !snapshot.groups.iter().any(|g| failed(g))
            && !changed.iter().any(failed);
        let change = match is_own {
            true => changed.iter().fold(change, |change, group| change.put(group)),
            false => self.with_cluster(snapshot, change, &changed, None, reason),
        };
        Ok(self.inner.store.commit(change).await?)
    }
}

impl Conductor {
    /// What Heat has taken back is sent again, as a resize to what is there: an operation like any
    /// other, with a deadline and a sentence. One that fails is not begun again by itself.
    async fn send_again(
        &self,
        snapshot: &ClusterSnapshot,
        group: &Stored<NodeGroup>,
    ) -> Result<(), StepError> {
        let said = "Heat has carried out an earlier update after a later one; the later one is \
                    sent again.";
        warn!(group = group.name, "{said}");
        let now = self.inner.clock.now();
        let minutes = self.minutes(snapshot);
        let mut cluster = snapshot.cluster.record.clone();
        let mut changed = group.record.clone();
        cluster.status = Status::UpdateInProgress;
        cluster.status_reason = Some(said.to_owned());
        cluster.updated_at = Some(now);
        changed.status = Status::UpdateInProgress;
        changed.status_reason = Some(said.to_owned());
        changed.updated_at = Some(now);
        let resize = Resize {
            step: ResizeStep::Update,
            nodegroup: group.id,
            before: group.node_count,
            remove: Vec::new(),
            rollback: false,
        };
        let operation = Operation {
            sequence: self.inner.store.next_sequence(),
            cluster_id: snapshot.id(),
            began: now,
            deadline: Some(now.plus(Duration::from_secs(60 * u64::from(minutes)))),
            token: None,
            roles: Vec::new(),
            user_id: cluster.user_id.clone(),
            request_id: String::new(),
            kind: resize.into(),
        };
        let change = Change::new().expect(&snapshot.cluster).put(&cluster);
        let change = change.expect(group).put(&changed).put(&operation);
        Ok(self.intend(snapshot.id(), change).await?)
    }
}

/// Whether a cluster was built, or given up, and nobody has asked for its end.
fn rests(status: Status) -> bool {
    status != Status::CreateInProgress && !status.as_str().starts_with("DELETE")
}

/// Since when a change of a group counts as failed, if all of its nodes are ready by now and some
/// have become so only afterwards. One that Heat refused, or that has not come to every node,
/// stays failed.
fn late(snapshot: &ClusterSnapshot, group: &NodeGroup, stack: &Stack) -> Option<Timestamp> {
    let given_up = group.updated_at?;
    let wanted = match group.is_master() {
        true => group.node_count as usize,
        false => servers(stack)?.len(),
    };
    let nodes = snapshot.nodes_of(group);
    let is_whole = stack.is_complete()
        && wanted == group.node_count as usize
        && nodes.iter().filter(|n| n.is_ready()).count() >= wanted
        && snapshot.rollout(group).is_none();
    let afterwards = nodes.iter().any(|n| n.is_ready() && n.last_seen > given_up);
    (group.status.is_failed() && is_whole && afterwards).then_some(given_up)
}
