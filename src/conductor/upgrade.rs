//! An upgrade: begun → nodes drained → rebuilt → awaited, batch by batch.
//!
//! Every batch is an update of the stack that changes the images of its servers and of no others;
//! Nova rebuilds them in place, with their addresses, volumes and names.

use std::collections::BTreeMap;

use tracing::info;

use super::admit::actor;
use super::authorities::masters;
use super::duties::{Ask, forgotten};
use super::label_checks::{Limits, own_labels};
use super::moment::Moment;
use super::orders::{busy, found, in_status};
use super::outlook::{ChangeNext, Changing, UpdateNext, change, servers, update};
use super::update::{awaiting_heat, concerned, for_group, nodes_of};
use super::{Conductor, Progress, Refusal, StepError, Tenant, UpgradeOrder, template_change};
use crate::model::cluster::Cluster;
use crate::model::duty::DutyKind;
use crate::model::labels::Labels;
use crate::model::name;
use crate::model::node::Node;
use crate::model::node_key::NodeKey;
use crate::model::nodegroup::{DEFAULT_WORKER, NodeGroup};
use crate::model::operation::{Detail, Operation, OperationKind, Step};
use crate::model::rollout::{Batch, Rollout};
use crate::model::status::Status;
use crate::openstack::Image;
use crate::store::{Change, Stored};

impl Conductor {
    /// A group, or with a default group the cluster itself, follows a template from now on.
    pub async fn upgrade(
        &self,
        tenant: &Tenant<'_>,
        cluster: &Stored<Cluster>,
        order: UpgradeOrder,
    ) -> Result<(), Refusal> {
        let id = cluster.id;
        let image = self.image(&actor(tenant)?, &order.template.image_id).await?;
        let followed = self.check_template_change(tenant, id, &order).await?;
        self.order(id, |moment| {
            in_status(moment, "Upgrading a cluster")?;
            if moment.cluster.template_id != followed {
                return Err(busy(moment, "it has just been upgraded by another request"));
            }
            let group = found(moment, order.nodegroup)?;
            let rollout = rollout(moment, group, &order, &image);
            rollout.labels.check_size().map_err(|why| {
                Refusal::Invalid(format!(
                    "Invalid input for field/attribute labels. The labels of {} and of cluster \
                     template {} are too many together: {why} Choose another template.",
                    group.name, order.template.name
                ))
            })?;
            self.check_upgrade(moment, group, &order, &rollout, &image)?;
            let detail =
                Detail { nodegroup: Some(group.id), before: group.node_count, ..Detail::default() };
            let (kind, step) = (OperationKind::Upgrade, Step::BeginUpgrade);
            let mut operation = self.new_order(tenant, moment, kind, step, detail);
            operation.token = self.lent_token(tenant, &moment.cluster);
            let mut changed = group.record.clone();
            changed.status = Status::UpdateInProgress;
            changed.status_reason = None;
            changed.updated_at = Some(operation.began);
            info!(cluster = %id, group = group.name, image = rollout.image_id, "upgrade accepted");
            let change = Change::new().expect(group).put(&changed).put(&rollout).put(&operation);
            let driver = self.driver_to_come(moment, group)?;
            let change = self.remember(change, id, &driver)?;
            Ok(self.in_progress(moment, change))
        })
        .await
    }

    fn check_upgrade(
        &self,
        moment: &Moment,
        group: &NodeGroup,
        order: &UpgradeOrder,
        rollout: &Rollout,
        image: &Image,
    ) -> Result<(), Refusal> {
        let (settings, key) = (&self.inner.settings, &self.inner.enrolment);
        let lost = || Refusal::Internal("the cluster's template or facts are lost".to_owned());
        let from = moment.plan_of(group, settings, key).ok_or_else(lost)?;
        let driver = self.driver_to_come(moment, group)?;
        let distro = image.os_distro.as_deref().unwrap_or_default();
        let template = &order.template;
        if !driver.provides(template.server_type, distro, template.coe) {
            return Err(Refusal::Invalid(format!(
                "Cluster {} is built by driver {}, which does not build ({}, {distro}, {}), as \
                 cluster template {} asks for. Choose another template.",
                moment.cluster.name,
                moment.cluster.driver,
                template.server_type,
                template.coe,
                template.name
            )));
        }
        let mut to = from.clone();
        to.template = template.clone();
        // The sizes that a cluster has been given may be smaller by now than at its creation.
        "check".clone_into(&mut to.revision);
        to.facts.image_id.clone_from(&rollout.image_id);
        to.facts.kube_version.clone_from(&rollout.kube_version);
        distro.clone_into(&mut to.facts.os_distro);
        self.check_new_labels(&driver, &own_labels(&template.labels, &moment.cluster.labels))?;
        if let Some(workers) = moment.groups.iter().find(|g| g.name == DEFAULT_WORKER)
            && group.is_default
        {
            let mut workers = workers.record.clone();
            Limits::of(&rollout.labels)?;
            Limits::follow(&mut workers, &moment.cluster.labels, &rollout.labels);
            let (min, max) = (workers.min_node_count, workers.max_node_count);
            Limits { min, max }.allow(workers.node_count)?;
        }
        to.cluster.labels = match group.is_default {
            true => rollout.labels.clone(),
            false => rollout.labels.over(&moment.cluster.labels),
        };
        Ok(driver.check_upgrade(&from, &to)?)
    }

    pub(super) async fn upgrade_step(
        &self,
        moment: &Moment,
        operation: &Stored<Operation>,
    ) -> Result<Progress, StepError> {
        let group = concerned(moment, operation)?;
        let rollout =
            moment.rollout(group).ok_or_else(|| for_group("The rollout was lost.", group))?;
        match operation.step {
            Step::BeginUpgrade => self.begin_upgrade(moment, operation, group, rollout).await,
            Step::DrainNodes => self.ensure_drained(moment, operation, group, rollout).await,
            Step::RebuildNodes => self.ensure_rebuilt(moment, operation, group, rollout).await,
            Step::AwaitNodes => self.await_rebuilt(moment, operation, group).await,
            other => Err(StepError::failed(format!(
                "The operation stands at {}, which no upgrade has.",
                other.as_str()
            ))),
        }
    }

    /// Finds out who has which image; from this commit on the cluster follows the new template.
    async fn begin_upgrade(
        &self,
        moment: &Moment,
        operation: &Stored<Operation>,
        group: &Stored<NodeGroup>,
        rollout: &Stored<Rollout>,
    ) -> Result<Progress, StepError> {
        let lost = || for_group("The cluster's facts were lost.", group);
        let facts = moment.facts.as_ref().ok_or_else(lost)?;
        let shown = self.look_at(moment, group, true).await?.filter(|s| !s.is_gone());
        let shown = shown.ok_or_else(|| for_group("The stack is not there any more.", group))?;
        if shown.is_in_progress() {
            return Ok(awaiting_heat(Some(&shown)));
        }
        let members = servers(&shown)
            .ok_or_else(|| for_group("The stack does not tell which servers it has.", group))?;
        let (masters, _) = moment.counts();
        let masters: Vec<u32> = if group.is_default { (0..masters).collect() } else { Vec::new() };
        let workers: Vec<u32> = members.into_keys().collect();
        let present = moment.image_of(group).ok_or_else(lost)?;
        let mut begun = rollout.record.clone();
        let target = begun.image_id.clone();
        begun.masters = behind(&masters, &begun.masters, present, &target);
        begun.workers = behind(&workers, &begun.workers, present, &target);
        let mut change = Change::new().expect(operation).expect(rollout);
        for changed in moment.groups.iter().filter(|g| goes_along(g, group)) {
            let mut next = changed.record.clone();
            if moment.image_of(changed) != Some(&target) {
                next.image_id = Some(target.clone());
            }
            next.image = Some(target.clone());
            next.version.clone_from(&begun.kube_version);
            next.labels = begun.labels.clone();
            if next.name == DEFAULT_WORKER {
                Limits::follow(&mut next, &moment.cluster.labels, &begun.labels);
            }
            change = change.expect(changed).put(&next);
        }
        if group.is_default {
            let template = self.template_to_follow(operation, rollout)?;
            let mut cluster = moment.cluster.record.clone();
            if let Some(old) = &moment.template {
                template_change::respell(&mut cluster, old, &template);
            }
            cluster.template_id = begun.template_id;
            change = change.expect(&template);
            cluster.labels = begun.labels.clone();
            let mut known = facts.record.clone();
            known.image_id = target;
            known.kube_version.clone_from(&begun.kube_version);
            change = change.expect(&moment.cluster).put(&cluster).expect(facts).put(&known);
        }
        info!(behind = begun.behind(), "upgrade begun");
        // What else the template says reaches the stack even if no server has to follow.
        let step = if begun.behind() == 0 { Step::RebuildNodes } else { Step::DrainNodes };
        self.commit(change.put(&begun).put(&operation.at(step))).await?;
        Ok(Progress::Again)
    }

    async fn ensure_drained(
        &self,
        moment: &Moment,
        operation: &Stored<Operation>,
        group: &Stored<NodeGroup>,
        rollout: &Stored<Rollout>,
    ) -> Result<Progress, StepError> {
        let Some(batch) = rollout.next() else {
            return self.settle_upgrade(moment, operation, group, rollout).await;
        };
        let names = names(moment, group, &batch);
        // Pods do not run on masters.
        if matches!(batch, Batch::Workers(_)) {
            let Some(master) = masters(moment).into_iter().find(|n| n.is_ready()) else {
                return Err(for_group("No master is ready to drain the nodes.", group));
            };
            let kind = DutyKind::Drain;
            let ask = Ask { node: master.name.clone(), kind, targets: names.clone() };
            if let Some(progress) = self.ensure_duties(moment, operation, &[ask]).await? {
                return Ok(progress);
            }
        }
        // Whoever boots next under these names is new, and has another key.
        let stale = moment.nodes.iter().filter(|n| names.contains(&n.name));
        let forget = |change: Change, node: &Node| change.delete(node).delete(&NodeKey::of(node));
        let change = stale.fold(Change::new(), forget);
        let mut next = operation.at(Step::RebuildNodes);
        // Each batch has the time that the operation was given.
        next.deadline = self.another_deadline(moment, operation);
        let change = change.expect(operation).expect(rollout).put(&rollout.without(&batch));
        self.commit(change.put(&next)).await?;
        info!(nodes = names.join(", "), "nodes are rebuilt next");
        Ok(Progress::Again)
    }

    async fn ensure_rebuilt(
        &self,
        moment: &Moment,
        operation: &Stored<Operation>,
        group: &Stored<NodeGroup>,
        rollout: &Stored<Rollout>,
    ) -> Result<Progress, StepError> {
        let shown = self.look_at(moment, group, true).await?;
        // No two batches leave the same number of nodes behind.
        let revision = format!("{}-{}", operation.sequence.0, rollout.behind());
        match update(shown.as_ref(), &revision) {
            UpdateNext::Fail(reason) => return Err(for_group(reason, group)),
            UpdateNext::Wait => return Ok(awaiting_heat(shown.as_ref())),
            UpdateNext::Adopt => info!(revision, "update adopted"),
            UpdateNext::Send => {
                let mut plan = self.plan_of(moment, group)?;
                plan.revision.clone_from(&revision);
                if let Some(stack) = &shown {
                    moment.give_images(&mut plan, group, stack, &[]);
                }
                if !self.send_update(moment, operation, group, plan).await? {
                    return Ok(awaiting_heat(shown.as_ref()));
                }
                info!(revision, group = group.name, "update sent");
            }
        }
        let mut next = operation.at(Step::AwaitNodes);
        // From here on the stack belongs to somebody whose trust there is.
        next.token = None;
        self.commit(Change::new().expect(operation).put(&next)).await?;
        Ok(Progress::Again)
    }

    async fn await_rebuilt(
        &self,
        moment: &Moment,
        operation: &Stored<Operation>,
        group: &Stored<NodeGroup>,
    ) -> Result<Progress, StepError> {
        let shown = self.look_at(moment, group, false).await?;
        let mut nodes: Vec<&Node> = nodes_of(moment, group);
        let mut wanted = self.threshold(moment, group);
        if group.is_default {
            let both = moment.groups.iter().filter(|g| g.is_default);
            nodes = both.flat_map(|g| nodes_of(moment, g)).collect();
            wanted += moment.counts().0;
        }
        let next = change(&Changing {
            stack: shown.as_ref(),
            nodes: &nodes,
            wanted,
            began: operation.began,
            deadline: operation.deadline,
            now: self.inner.clock.now(),
        });
        match (next, shown) {
            (ChangeNext::LookAgain(progress), _) => Ok(Progress::Wait(progress)),
            (ChangeNext::Fail(reason), _) => Err(for_group(reason, group)),
            (ChangeNext::StackFailed | ChangeNext::RolledBack, Some(stack)) => {
                Err(self.change_failure(moment, group, &stack).await)
            }
            (ChangeNext::Settle, _) => {
                let mut next = operation.at(Step::DrainNodes);
                next.deadline = self.another_deadline(moment, operation);
                self.commit(Change::new().expect(operation).put(&next)).await?;
                Ok(Progress::Again)
            }
            (_, shown) => Ok(awaiting_heat(shown.as_ref())),
        }
    }

    /// All have followed.
    async fn settle_upgrade(
        &self,
        moment: &Moment,
        operation: &Stored<Operation>,
        group: &Stored<NodeGroup>,
        rollout: &Stored<Rollout>,
    ) -> Result<Progress, StepError> {
        let now = self.inner.clock.now();
        let plan = self.plan_of(moment, group)?;
        let version = self.driver(moment)?.coe_version(&plan);
        let said = format!("Upgraded to image {}.", rollout.image_id);
        let changed: Vec<NodeGroup> = moment
            .groups
            .iter()
            .filter(|g| goes_along(g, group))
            .map(|g| {
                let mut next = g.record.clone();
                next.status = Status::UpdateComplete;
                next.status_reason = Some(said.clone());
                next.updated_at = Some(now);
                next
            })
            .collect();
        let change = Change::new().expect(operation).delete(&operation.record);
        let change = forgotten(moment, change.expect(rollout).delete(&rollout.record));
        let (change, mut cluster) = self.amount(moment, change, &changed, None, Some(said));
        if group.is_default {
            cluster.coe_version = version.or(cluster.coe_version);
        }
        self.commit(change.expect(&moment.cluster).put(&cluster)).await?;
        info!(group = group.name, "upgraded");
        Ok(Progress::Again)
    }
}

/// What the order asks for; nodes that an earlier, failed upgrade left behind are still behind.
fn rollout(moment: &Moment, group: &NodeGroup, order: &UpgradeOrder, image: &Image) -> Rollout {
    let earlier = moment.rollout(group);
    let labels = match (group.is_default, &moment.template) {
        (true, Some(template)) => {
            followed(&moment.cluster.labels, &template.labels, &order.template.labels)
        }
        (true, None) => order.template.labels.clone(),
        (false, _) => versions_followed(&group.labels, &order.template.labels),
    };
    Rollout {
        cluster_id: moment.id(),
        nodegroup: group.id,
        template_id: order.template.id,
        image_id: image.id.clone(),
        kube_version: image.kube_version.clone(),
        labels,
        max_batch_size: order.max_batch_size,
        masters: earlier.map(|r| r.masters.clone()).unwrap_or_default(),
        workers: earlier.map(|r| r.workers.clone()).unwrap_or_default(),
    }
}

/// The new template's labels, and those of the cluster's that were never the old template's.
fn followed(own: &Labels, old: &Labels, new: &Labels) -> Labels {
    let mut kept = own.clone();
    for (name, value) in old.iter() {
        if own.get(name) == Some(value) {
            kept.remove(name);
        }
    }
    new.over(&kept)
}

/// A further group's own labels, with those that say which version of a program runs as the
/// template has them; where it has none, the cluster's count.
fn versions_followed(own: &Labels, new: &Labels) -> Labels {
    let is_version = |name: &str| name.ends_with("_tag");
    let mut labels = Labels::default();
    let kept = own.iter().filter(|(name, _)| !is_version(name));
    let followed = new.iter().filter(|(name, _)| is_version(name));
    kept.chain(followed).for_each(|(name, value)| labels.insert(name, value));
    labels
}

/// Who still has another image than `target`, of those that are there.
fn behind(
    present: &[u32],
    known: &BTreeMap<u32, String>,
    image: &str,
    target: &str,
) -> BTreeMap<u32, String> {
    let of = |i: &u32| known.get(i).cloned().unwrap_or_else(|| image.to_owned());
    present.iter().map(|i| (*i, of(i))).filter(|(_, image)| image != target).collect()
}

/// A default group takes the other one along.
fn goes_along(other: &NodeGroup, ordered: &NodeGroup) -> bool {
    other.id == ordered.id || (other.is_default && ordered.is_default)
}

fn names(moment: &Moment, group: &NodeGroup, batch: &Batch) -> Vec<String> {
    let stack = group.stack_name(&moment.cluster);
    match batch {
        Batch::Master(index) => vec![name::master_node(&stack, *index)],
        Batch::Workers(indexes) => {
            let prefix = name::worker_node_prefix(&stack);
            indexes.iter().map(|i| format!("{prefix}{i}")).collect()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(pairs: &[(&str, &str)]) -> Labels {
        let mut labels = Labels::default();
        pairs.iter().for_each(|(k, v)| labels.insert(*k, *v));
        labels
    }

    #[test]
    fn labels_follow_the_template_and_keep_what_is_the_clusters_own() {
        let old = labels(&[("kube_tag", "v1.30.1"), ("gone", "x"), ("same", "1")]);
        let own = labels(&[("kube_tag", "v1.30.4"), ("gone", "x"), ("same", "1"), ("mine", "y")]);
        let new = labels(&[("kube_tag", "v1.31.1"), ("same", "1"), ("more", "z")]);
        let after = followed(&own, &old, &new);
        let wanted = [("kube_tag", "v1.31.1"), ("mine", "y"), ("more", "z"), ("same", "1")];
        assert_eq!(after, labels(&wanted));
        let group = labels(&[("zone", "a"), ("flannel_tag", "v1"), ("kube_tag", "v1.30.1")]);
        let wanted = labels(&[("zone", "a"), ("kube_tag", "v1.31.1")]);
        assert_eq!(versions_followed(&group, &new), wanted);
    }

    #[test]
    fn who_is_behind_is_known_across_a_failure() {
        let known = BTreeMap::from([(1, "first".to_owned()), (9, "first".to_owned())]);
        let after = behind(&[0, 1, 2], &known, "second", "third");
        let named = |pairs: &[(u32, &str)]| -> BTreeMap<u32, String> {
            pairs.iter().map(|(i, image)| (*i, (*image).to_owned())).collect()
        };
        assert_eq!(after, named(&[(0, "second"), (1, "first"), (2, "second")]), "9 is gone");
        assert_eq!(behind(&[0, 1, 2], &known, "second", "second"), named(&[(1, "first")]));
    }
}
