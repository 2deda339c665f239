//! A group changes: stack updated → awaited → settled. Resizing is this.

use std::collections::BTreeMap;

use tracing::{info, warn};

use super::addresses::{of_nodes, remarked};
use super::identity::StackAct;
use super::moment::Moment;
use super::outlook::{
    ChangeNext, Changing, Part, UpdateNext, aggregate, change, departed, servers, update,
};
use super::rollout::{left_behind, make};
use super::{Conductor, Progress, StepError};
use crate::driver::ClusterPlan;
use crate::model::cluster::Cluster;
use crate::model::name;
use crate::model::node::Node;
use crate::model::node_key::NodeKey;
use crate::model::nodegroup::NodeGroup;
use crate::model::operation::{Operation, OperationKind, Step};
use crate::model::stack::Stack;
use crate::model::status::Status;
use crate::openstack::StackUpdate;
use crate::store::{Change, Stored};

impl Conductor {
    pub(super) async fn update_step(
        &self,
        moment: &Moment,
        operation: &Stored<Operation>,
    ) -> Result<Progress, StepError> {
        let group = concerned(moment, operation)?;
        match operation.step {
            Step::UpdateStack => self.ensure_updated(moment, operation, group).await,
            Step::AwaitUpdate => self.await_changed(moment, operation, group).await,
            other => Err(StepError::failed(format!(
                "The operation stands at {}, which no update has.",
                other.as_str()
            ))),
        }
    }

    /// Sends our update, unless Heat has it already.
    async fn ensure_updated(
        &self,
        moment: &Moment,
        operation: &Stored<Operation>,
        group: &Stored<NodeGroup>,
    ) -> Result<Progress, StepError> {
        let shown = self.look_at(moment, group, false).await?;
        let revision = revision(operation);
        match update(shown.as_ref(), &revision) {
            UpdateNext::Fail(reason) => return Err(for_group(reason, group)),
            UpdateNext::Wait => return Ok(awaiting_heat(shown.as_ref())),
            UpdateNext::Adopt => info!(revision, "update adopted"),
            UpdateNext::Send => {
                let mut plan = self.plan_of(moment, group)?;
                plan.revision = revision.clone();
                plan.removals.clone_from(&operation.detail.remove);
                if moment.rollout(group).is_some()
                    && let Some(stack) = self.look_at(moment, group, true).await?
                {
                    moment.give_makes(&mut plan, group, &stack, &operation.detail.remove);
                }
                if !self.send_update(moment, operation, group, plan).await? {
                    return Ok(awaiting_heat(shown.as_ref()));
                }
                info!(revision, group = group.name, "update sent");
            }
        }
        let mut next = operation.at(Step::AwaitUpdate);
        next.token = None;
        self.commit(Change::new().expect(operation).put(&next)).await?;
        Ok(Progress::Again)
    }

    /// False when Heat is busy with the stack.
    pub(super) async fn send_update(
        &self,
        moment: &Moment,
        operation: &Operation,
        group: &NodeGroup,
        mut plan: ClusterPlan,
    ) -> Result<bool, StepError> {
        let bundle = self.bundle(moment, &mut plan)?;
        let bundle = bundle.map_err(|e| for_group(e.to_string(), group))?;
        let update = StackUpdate {
            template: &bundle.template,
            parameters: &bundle.parameters,
            files: &bundle.files,
            timeout_minutes: self.driver(moment)?.create_timeout(&plan),
            rollback: operation.detail.rollback,
        };
        let id = group.stack_id.as_deref().unwrap_or_default();
        let act = StackAct::Change(&update);
        match self.on_stack(moment, &plan.stack_name(), id, act).await {
            Ok(()) => Ok(true),
            Err(StepError::Cloud(e)) if e.is_conflict() => Ok(false),
            Err(e) => Err(e),
        }
    }

    /// Looks until the stack has changed and its new nodes are ready.
    pub(super) async fn await_changed(
        &self,
        moment: &Moment,
        operation: &Stored<Operation>,
        group: &Stored<NodeGroup>,
    ) -> Result<Progress, StepError> {
        let mut shown = self.look_at(moment, group, false).await?;
        if shown.as_ref().is_some_and(|s| !s.is_in_progress()) {
            shown = self.look_at(moment, group, true).await?;
            // A name that is used again must be free before its new server asks for it.
            if let Some(stack) = &shown
                && let Some(change) = forget_departed(moment, group, stack)
            {
                self.commit(change.expect(operation)).await?;
                return Ok(Progress::Again);
            }
        }
        let nodes = nodes_of(moment, group);
        let next = change(&Changing {
            stack: shown.as_ref(),
            nodes: &nodes,
            wanted: self.wanted(moment, operation, group),
            going: going(operation, group),
            began: operation.began,
            deadline: operation.deadline,
            now: self.time_of(operation),
        });
        match (next, shown) {
            (ChangeNext::LookAgain(progress), _) => Ok(Progress::Wait(progress)),
            (ChangeNext::Fail(reason), _) => Err(for_group(reason, group)),
            (ChangeNext::StackFailed, Some(stack)) => {
                Err(self.change_failure(moment, group, &stack).await)
            }
            (ChangeNext::RolledBack, Some(stack)) => {
                let mut group = group.record.clone();
                group.node_count = operation.detail.before;
                let failure = self.change_failure(moment, &group, &stack).await;
                group.status_reason = Some(format!("Rolled back: {failure}"));
                self.settle_group(moment, operation, group, &stack, Status::RollbackComplete).await
            }
            (ChangeNext::Settle, Some(stack)) => {
                let mut group = group.record.clone();
                group.status_reason =
                    self.group_reason(moment, &group, stack.status_reason.clone());
                let status = match operation.kind {
                    OperationKind::CreateGroup => Status::CreateComplete,
                    _ => Status::UpdateComplete,
                };
                self.settle_group(moment, operation, group, &stack, status).await
            }
            (_, shown) => Ok(awaiting_heat(shown.as_ref())),
        }
    }

    /// How many nodes must be ready: all, if the group grows, or as many as its labels say.
    fn wanted(&self, moment: &Moment, operation: &Operation, group: &NodeGroup) -> u32 {
        let grows = operation.kind == OperationKind::CreateGroup
            || group.node_count > operation.detail.before
            || !operation.detail.remove.is_empty();
        if grows { self.threshold(moment, group) } else { 0 }
    }

    /// How many of a group's workers must be ready for it to be complete.
    pub(super) fn threshold(&self, moment: &Moment, group: &NodeGroup) -> u32 {
        let count = moment.node_count(group);
        let Ok(driver) = self.driver(moment) else { return count };
        let plan = self.plan_of(moment, group).ok();
        if plan.as_ref().is_some_and(|plan| driver.waits_for_nodes(plan) == Ok(false)) {
            return 0;
        }
        let threshold = plan.and_then(|plan| driver.ready_threshold(&plan));
        threshold.unwrap_or(count).min(count)
    }

    /// Addresses, count and status of one group, the cluster's from all: one commit.
    async fn settle_group(
        &self,
        moment: &Moment,
        operation: &Stored<Operation>,
        mut group: NodeGroup,
        stack: &Stack,
        status: Status,
    ) -> Result<Progress, StepError> {
        let plan = self.plan_of(moment, &group)?;
        let outcome = self.built(moment, &plan, stack)?;
        group.node_addresses = of_nodes(outcome.worker_addresses, group.node_count);
        group.status_reason = remarked(group.status_reason.take(), outcome.remark);
        group.status = status;
        group.updated_at = Some(self.inner.clock.now());
        // An upgrade that has failed has not come to every node, whatever else succeeds.
        let mut status = status;
        if let Some(left) = moment.rollout(&group) {
            status = Status::UpdateFailed;
            group.status = status;
            let now = make(moment, &group);
            group.status_reason = Some(left_behind(left, now.as_ref()));
        }
        let mut changed = vec![group.clone()];
        // Heat says of the whole stack that it is complete: also of those who share it.
        let shares = |g: &&Stored<NodeGroup>| {
            group.is_default && g.is_default && g.id != group.id && g.status.is_failed()
        };
        if status == Status::UpdateComplete && moment.rollout(&group).is_none() {
            changed.extend(moment.groups.iter().filter(shares).map(|g| NodeGroup {
                status,
                status_reason: group.status_reason.clone(),
                updated_at: group.updated_at,
                ..g.record.clone()
            }));
        }
        let change = Change::new().expect(operation).delete(&operation.record);
        let reason = group.status_reason.clone();
        self.commit(self.with_cluster(moment, change, &changed, None, reason)).await?;
        info!(group = group.name, nodes = group.node_count, "{status}");
        Ok(Progress::Again)
    }

    /// Adds to `change` the groups as they are now, without the one that goes, and the cluster
    /// with the status they amount to.
    pub(super) fn with_cluster(
        &self,
        moment: &Moment,
        change: Change,
        changed: &[NodeGroup],
        gone: Option<&NodeGroup>,
        reason: Option<String>,
    ) -> Change {
        let (change, cluster) = self.amount(moment, change, changed, gone, reason);
        change.expect(&moment.cluster).put(&cluster)
    }

    /// The same, with the cluster still to be written.
    pub(super) fn amount(
        &self,
        moment: &Moment,
        mut change: Change,
        changed: &[NodeGroup],
        gone: Option<&NodeGroup>,
        reason: Option<String>,
    ) -> (Change, Cluster) {
        let now = self.inner.clock.now();
        let mut groups: BTreeMap<_, NodeGroup> =
            moment.groups.iter().map(|g| (g.id, g.record.clone())).collect();
        for group in changed {
            groups.insert(group.id, group.clone());
            change = change.put(group);
        }
        if let Some(gone) = gone {
            groups.remove(&gone.id);
            change = change.delete(gone);
        }
        let mut cluster = moment.cluster.record.clone();
        let all = groups.values().map(|g| Part {
            name: &g.name,
            status: g.status,
            reason: g.status_reason.as_deref(),
        });
        let (status, failed) = aggregate(cluster.status, all);
        let (status, failed) = match moment.queued.is_empty() {
            true => match halted(moment) {
                Some(sentence) => (Status::UpdateFailed, Some(sentence)),
                None => (status, failed),
            },
            false => (Status::UpdateInProgress, None),
        };
        let rolled_back = changed.iter().any(|g| g.status == Status::RollbackComplete);
        cluster.status = match status {
            Status::UpdateComplete if rolled_back => Status::RollbackComplete,
            status => status,
        };
        cluster.status_reason = self.reason(moment, failed.or(reason));
        cluster.updated_at = Some(now);
        (change, cluster)
    }

    /// The stack of a group; None when Heat does not have it.
    pub(super) async fn look_at(
        &self,
        moment: &Moment,
        group: &NodeGroup,
        outputs: bool,
    ) -> Result<Option<Stack>, StepError> {
        let Some(id) = &group.stack_id else { return Ok(None) };
        self.look_for(moment, &group.stack_name(&moment.cluster), id, outputs).await
    }

    pub(super) fn plan_of(
        &self,
        moment: &Moment,
        group: &NodeGroup,
    ) -> Result<ClusterPlan, StepError> {
        moment
            .plan_of(group, &self.inner.settings, &self.inner.enrolment)
            .ok_or_else(|| StepError::failed(moment.cannot_plan()))
    }

    pub(super) async fn change_failure(
        &self,
        moment: &Moment,
        group: &NodeGroup,
        stack: &Stack,
    ) -> StepError {
        let failures = async {
            let actor = self.reader(moment).await?;
            let heat = self.inner.cloud.heat(&actor).await?;
            Ok::<_, StepError>(heat.failures(&stack.name, &stack.id).await?)
        };
        match failures.await {
            Ok(failures) => match failures.first() {
                Some(failure) => for_group(
                    format!(
                        "Resource {} ({}) failed: {}",
                        failure.name, failure.kind, failure.reason
                    ),
                    group,
                ),
                None => for_group(stack.status_reason.clone(), group),
            },
            Err(StepError::Cloud(e)) if e.is_passing() => e.into(),
            Err(error) => {
                warn!(%error, "the failed resources cannot be listed");
                for_group(stack.status_reason.clone(), group)
            }
        }
    }

    /// Closes an operation on a group with a failure.
    pub(super) async fn fail_group(
        &self,
        moment: &Moment,
        operation: &Stored<Operation>,
        reason: &str,
    ) -> Result<(), StepError> {
        warn!(step = operation.step.as_str(), reason, "the order failed");
        let change = Change::new().expect(operation).delete(&operation.record);
        let group = operation.detail.nodegroup.and_then(|id| moment.group(id));
        let failed: Vec<NodeGroup> = group
            .map(|g| {
                let mut group = g.record.clone();
                group.status = match operation.kind {
                    OperationKind::CreateGroup => Status::CreateFailed,
                    OperationKind::DeleteGroup => Status::DeleteFailed,
                    _ => Status::UpdateFailed,
                };
                // Heat never took the new count.
                if operation.step == Step::UpdateStack {
                    group.node_count = operation.detail.before;
                }
                group.status_reason = Some(reason.to_owned());
                group.updated_at = Some(self.inner.clock.now());
                group
            })
            .into_iter()
            .collect();
        let said = Some(reason.to_owned());
        if !failed.is_empty() {
            return self.commit(self.with_cluster(moment, change, &failed, None, said)).await;
        }
        // No group shows it, so the cluster itself must.
        let mut cluster = moment.cluster.record.clone();
        cluster.status = match moment.queued.is_empty() {
            true => Status::UpdateFailed,
            false => Status::UpdateInProgress,
        };
        cluster.status_reason = said;
        cluster.updated_at = Some(self.inner.clock.now());
        self.commit(change.expect(&moment.cluster).put(&cluster)).await
    }
}

/// How many nodes the operation takes away: those that are named, or those that are too many.
fn going(operation: &Operation, group: &NodeGroup) -> u32 {
    let named = u32::try_from(operation.detail.remove.len()).unwrap_or(u32::MAX);
    match operation.kind {
        OperationKind::Resize => {
            named.max(operation.detail.before.saturating_sub(group.node_count))
        }
        _ => 0,
    }
}

/// What a rotation of the authorities has left half done, if that is not what is at work.
fn halted(moment: &Moment) -> Option<String> {
    let rotates = |o: &Stored<Operation>| o.kind == OperationKind::RotateAuthorities;
    let is_halted = !moment.next_certificates.is_empty() && !moment.operations().any(rotates);
    is_halted.then(|| {
        format!(
            "A rotation of the CA has stopped half way. Go on with: openstack coe ca rotate {}",
            moment.cluster.name
        )
    })
}

/// Heat does something else with the stack, or does not tell what it does.
pub(super) fn awaiting_heat(stack: Option<&Stack>) -> Progress {
    Progress::Wait(match stack {
        Some(stack) => format!("Stack {}; waiting until Heat takes a change.", stack.status),
        None => "Heat does not show the stack.".to_owned(),
    })
}

/// What our update of a stack is recognised by.
pub(super) fn revision(operation: &Operation) -> String {
    operation.sequence.0.to_string()
}

pub(super) fn concerned<'m>(
    moment: &'m Moment,
    operation: &Operation,
) -> Result<&'m Stored<NodeGroup>, StepError> {
    let group = operation.detail.nodegroup.and_then(|id| moment.group(id));
    group.ok_or_else(|| StepError::failed("The node group is not there any more."))
}

pub(super) fn for_group(reason: impl Into<String>, group: &NodeGroup) -> StepError {
    StepError::Failed { reason: reason.into(), nodegroup: Some(group.name.clone()) }
}

pub(super) fn nodes_of<'m>(moment: &'m Moment, group: &NodeGroup) -> Vec<&'m Node> {
    moment.nodes.iter().filter(|n| n.nodegroup == group.name).collect()
}

/// Takes the records of nodes away whose servers are gone; None when there are none.
pub(super) fn forget_departed(moment: &Moment, group: &NodeGroup, stack: &Stack) -> Option<Change> {
    let prefix = name::worker_node_prefix(&group.stack_name(&moment.cluster));
    let nodes = nodes_of(moment, group);
    let departed = departed(&nodes, &prefix, &servers(stack)?);
    let forget = |change: Change, node: &&Node| change.delete(*node).delete(&NodeKey::of(node));
    let change = departed.iter().fold(Change::new(), forget);
    (!change.is_empty()).then_some(change)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::clock::Timestamp;
    use crate::model::nodegroup;
    use crate::model::operation::Detail;
    use crate::model::{ClusterId, Sequence, TemplateId};
    use uuid::Uuid;

    #[test]
    fn nodes_go_that_are_named_or_too_many() {
        let id = ClusterId::new(Uuid::from_u128(1));
        let cluster = Cluster::plain(id, "k1", TemplateId::new(Uuid::from_u128(2)));
        let of = |kind, before: u32, now: u32, remove: &[&str]| {
            let group = NodeGroup::default_of(&cluster, "image", nodegroup::WORKER, now);
            let remove = remove.iter().map(|id| (*id).to_owned()).collect();
            let operation = Operation {
                sequence: Sequence(1),
                cluster_id: id,
                kind,
                step: Step::AwaitUpdate,
                attempt: 0,
                began: Timestamp::EPOCH,
                deadline: None,
                token: None,
                roles: Vec::new(),
                user_id: String::new(),
                request_id: String::new(),
                detail: Detail { before, remove, ..Detail::default() },
            };
            going(&operation, &group)
        };
        let resize = OperationKind::Resize;
        assert_eq!(of(resize, 4, 2, &[]), 2);
        assert_eq!(of(resize, 4, 2, &["a"]), 2);
        assert_eq!(of(resize, 2, 2, &["a"]), 1, "one is replaced");
        assert_eq!(of(resize, 2, 4, &[]), 0);
        assert_eq!(of(OperationKind::CreateGroup, 2, 0, &[]), 0);
    }
}
