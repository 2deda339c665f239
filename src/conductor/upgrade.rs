//! An upgrade: begun → nodes drained → rebuilt → awaited, batch by batch.
//!
//! Every batch is an update of the stack that changes the images and flavors of its servers and of
//! no others; Nova resizes and rebuilds them in place, with their addresses, volumes and names.
//!
//! The time that an operation has is for one batch: once until Heat has taken its update, and once
//! from then to its last ready node. With the next batch it begins anew. So a whole upgrade may
//! take longer the more nodes it has, and the first batch that is stuck is found early.

use std::collections::BTreeMap;

use tracing::info;

use super::admit::actor;
use super::authorities::masters;
use super::duties::{Ask, forgotten};
use super::label_checks::{Limits, own_labels};
use super::moment::Moment;
use super::orders::{busy, found, has_plan, in_status};
use super::outlook::{ChangeNext, Changing, UpdateNext, change, servers, update};
use super::rollout::{
    behind, changes, done, goes_along, has_followed, kept_labels, make, masters_followed, names,
    rollout, with_images,
};
use super::update::{awaiting_heat, concerned, for_group, nodes_of};
use super::{
    Conductor, Progress, Refusal, StepError, Tenant, UpgradeOrder, resizing, template_change,
    template_fields,
};
use crate::model::cluster::Cluster;
use crate::model::duty::DutyKind;
use crate::model::node::Node;
use crate::model::node_key::NodeKey;
use crate::model::nodegroup::{DEFAULT_WORKER, NodeGroup};
use crate::model::operation::{Detail, Operation, OperationKind, Step};
use crate::model::rollout::{Batch, Disk, RoleFlavors, Rollout};
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
        let (followed, flavors) = self.check_template_change(tenant, id, &order, &image).await?;
        self.order(id, |moment| {
            in_status(moment, "Upgrading a cluster")?;
            has_plan(moment)?;
            if moment.cluster.template_id != followed {
                return Err(busy(moment, "it has just been upgraded by another request"));
            }
            let group = found(moment, order.nodegroup)?;
            let mut rollout = rollout(moment, group, &order, &image, &flavors);
            rollout.labels.check_size().map_err(|why| {
                Refusal::Invalid(format!(
                    "Invalid input for field/attribute labels. The labels of {} and of cluster \
                     template {} are too many together: {why} Choose another template.",
                    group.name, order.template.name
                ))
            })?;
            rollout.undone = self.check_upgrade(moment, group, &order, &rollout, &image)?;
            if let Some(old) = moment.template.as_ref().filter(|_| group.is_default) {
                rollout.undone.extend(template_fields::kept(&moment.cluster, old, &order.template));
                let own = &moment.cluster.labels;
                rollout.undone.extend(kept_labels(own, old, &order.template));
            }
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

    /// What the driver would leave undone, if it can do the rest.
    fn check_upgrade(
        &self,
        moment: &Moment,
        group: &NodeGroup,
        order: &UpgradeOrder,
        rollout: &Rollout,
        image: &Image,
    ) -> Result<Vec<String>, Refusal> {
        let (settings, key) = (&self.inner.settings, &self.inner.enrolment);
        let lost = || Refusal::Conflict(moment.cannot_plan());
        let mut undone = Vec::new();
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
        let RoleFlavors { master, worker } = &rollout.flavors;
        master.iter().for_each(|id| to.facts.master_flavor.clone_from(id));
        worker.iter().for_each(|id| to.facts.worker_flavor.clone_from(id));
        resizing::check_driver(&driver, &to, &rollout.flavors)?;
        self.check_new_labels(&driver, &own_labels(&template.labels, &moment.cluster.labels))?;
        if let Some(workers) = moment.groups.iter().find(|g| g.name == DEFAULT_WORKER)
            && group.is_default
        {
            let mut workers = workers.record.clone();
            let asked = Limits::of(&rollout.labels)?;
            Limits::follow(&mut workers, &moment.cluster.labels, &rollout.labels);
            let kept = Limits { min: workers.min_node_count, max: workers.max_node_count };
            kept.allow(workers.node_count)?;
            if asked != kept && asked != Limits::of(&moment.cluster.labels).unwrap_or(asked) {
                undone.push(format!(
                    "min_node_count and max_node_count of cluster template {}: group {} has limits \
                     of its own, and keeps them.",
                    template.name, workers.name
                ));
            }
        }
        to.cluster.labels = match group.is_default {
            true => rollout.labels.clone(),
            false => rollout.labels.over(&moment.cluster.labels),
        };
        driver.check_upgrade(&from, &to)?;
        undone.extend(driver.undone(&from, &to));
        Ok(undone)
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
            Step::AwaitNodes => self.await_rebuilt(moment, operation, group, rollout).await,
            other => Err(StepError::failed(format!(
                "The operation stands at {}, which no upgrade has.",
                other.as_str()
            ))),
        }
    }

    /// Finds out who has which image and flavor; from this commit on the cluster follows the new template.
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
        let mut known = facts.record.clone();
        if group.is_default {
            let RoleFlavors { master, worker } = &begun.flavors;
            master.iter().for_each(|id| known.master_flavor.clone_from(id));
            worker.iter().for_each(|id| known.worker_flavor.clone_from(id));
        }
        let to_image =
            |indexes: &[u32], has: &BTreeMap<u32, String>| behind(indexes, has, present, &target);
        // A further group's flavor is its own.
        let to_flavor =
            |indexes: &[u32], has: &BTreeMap<u32, String>, from: &str, to: &str| match group
                .is_default
            {
                true => behind(indexes, has, from, to),
                false => BTreeMap::new(),
            };
        begun.master_flavors =
            to_flavor(&masters, &begun.master_flavors, &facts.master_flavor, &known.master_flavor);
        begun.worker_flavors =
            to_flavor(&workers, &begun.worker_flavors, &facts.worker_flavor, &known.worker_flavor);
        begun.masters =
            with_images(to_image(&masters, &begun.masters), &begun.master_flavors, &target);
        begun.workers =
            with_images(to_image(&workers, &begun.workers), &begun.worker_flavors, &target);
        let mut change = Change::new().expect(operation).expect(rollout);
        let mut cluster = moment.cluster.record.clone();
        if group.is_default {
            let template = self.template_to_follow(operation, rollout)?;
            if let Some(old) = &moment.template {
                template_change::respell(&mut cluster, old, &template);
            }
            change = change.expect(&template);
        }
        for changed in moment.groups.iter().filter(|g| goes_along(g, group)) {
            let mut next = changed.record.clone();
            match (group.is_default, next.is_master()) {
                (true, true) => next.flavor_id.clone_from(&cluster.master_flavor_id),
                (true, false) => next.flavor_id.clone_from(&cluster.flavor_id),
                (false, _) => {}
            }
            next.image = Some(target.clone());
            // What is shown follows when the nodes have; a further group's plan needs it now.
            if !next.is_default {
                next.version.clone_from(&begun.kube_version);
            }
            next.labels = begun.labels.clone();
            if next.name == DEFAULT_WORKER {
                Limits::follow(&mut next, &moment.cluster.labels, &begun.labels);
            }
            change = change.expect(changed).put(&next);
        }
        if group.is_default {
            // Who has not said which flavor keeps the one that it was made with.
            for further in moment.groups.iter().filter(|g| !g.is_default && g.flavor_id.is_none()) {
                let mut next = further.record.clone();
                next.flavor_id = Some(facts.worker_flavor.clone());
                change = change.expect(further).put(&next);
            }
            cluster.template_id = begun.template_id;
            cluster.labels = begun.labels.clone();
            known.image_id = target;
            known.kube_version.clone_from(&begun.kube_version);
            change = change.expect(&moment.cluster).put(&cluster).expect(facts).put(&known);
        }
        info!(behind = begun.behind(), "upgrade begun");
        // What else the template says reaches the stack even if no server has to follow.
        let step = if begun.behind() == 0 { Step::RebuildNodes } else { Step::DrainNodes };
        let mut next = operation.at(step);
        next.detail.before = u32::try_from(begun.behind()).unwrap_or(u32::MAX);
        self.commit(change.put(&begun).put(&next)).await?;
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
        let mut handed = rollout.without(&batch);
        let mut rebuilt = Vec::new();
        for (name, (is_resized, is_rebuilt)) in names.iter().zip(changes(rollout, &batch)) {
            match (is_resized, is_rebuilt) {
                (true, true) => _ = handed.resizing.insert(name.clone(), Disk::New),
                (true, false) => _ = handed.resizing.insert(name.clone(), Disk::Kept),
                (false, true) => _ = handed.resizing.remove(name),
                (false, false) => {}
            }
            rebuilt.extend(is_rebuilt.then_some(name));
        }
        // Whoever boots next under these names is new, and has another key; who is only resized
        // keeps its disk and stays who it is.
        let stale = moment.nodes.iter().filter(|n| rebuilt.contains(&&n.name));
        let change = stale.fold(Change::new(), |change, node| change.delete(node));
        let now = self.inner.clock.now();
        let open = |name: &&String| NodeKey::of_rebuilt(moment.id(), (*name).clone(), now);
        let change = rebuilt.iter().map(open).fold(change, |change, key| change.put(&key));
        let next = operation.at(Step::RebuildNodes);
        let change = change.expect(operation).expect(rollout).put(&handed);
        self.commit(change.put(&next)).await?;
        info!(nodes = names.join(", "), "nodes are rebuilt or resized next");
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
                    moment.give_makes(&mut plan, group, stack, &[]);
                }
                if !self.send_update(moment, operation, group, plan).await? {
                    return Ok(awaiting_heat(shown.as_ref()));
                }
                info!(revision, group = group.name, "update sent");
            }
        }
        let mut next = operation.at(Step::AwaitNodes);
        // What Heat did before, such as waiting for a server that no host takes, is none of its time.
        next.deadline = self.another_deadline(moment, operation);
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
        rollout: &Stored<Rollout>,
    ) -> Result<Progress, StepError> {
        let shown = self.look_at(moment, group, !rollout.resizing.is_empty()).await?;
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
            going: 0,
            began: operation.began,
            deadline: operation.deadline,
            now: self.time_of(operation),
        });
        match (next, shown) {
            (ChangeNext::LookAgain(progress), Some(stack)) if stack.is_in_progress() => {
                match self.failed_resize(moment, operation, group, rollout, &stack).await? {
                    Some(failed) => Err(failed),
                    None => Ok(Progress::Wait(progress)),
                }
            }
            (ChangeNext::LookAgain(progress), _) => Ok(Progress::Wait(progress)),
            (ChangeNext::Fail(reason), _) => Err(for_group(reason, group)),
            (ChangeNext::StackFailed | ChangeNext::RolledBack, Some(stack)) => {
                match self.failed_resize(moment, operation, group, rollout, &stack).await? {
                    Some(failed) => Err(failed),
                    None => Err(self.change_failure(moment, group, &stack).await),
                }
            }
            (ChangeNext::Settle, _) => {
                if let Some(progress) = self.ensure_rejoined(moment, operation, rollout).await? {
                    return Ok(progress);
                }
                let mut heard = rollout.record.clone();
                heard.resizing.clear();
                let mut next = operation.at(Step::DrainNodes);
                next.deadline = self.another_deadline(moment, operation);
                let change = Change::new().expect(operation).expect(rollout).put(&heard);
                let change = change.put(&next);
                self.commit(masters_followed(moment, operation, group, change)).await?;
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
        let rebuilt = operation.detail.before > 0;
        let lost = || for_group(moment.cannot_plan(), group);
        let present = make(moment, group).ok_or_else(lost)?;
        let template = moment.template.as_ref().map(|template| template.name.as_str());
        let said = done(rollout, &present, template, rebuilt);
        let changed: Vec<NodeGroup> = moment
            .groups
            .iter()
            .filter(|g| goes_along(g, group))
            .map(|g| {
                let mut next = match rebuilt {
                    true => has_followed(g, rollout),
                    false => {
                        NodeGroup { version: rollout.kube_version.clone(), ..g.record.clone() }
                    }
                };
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
