//! A group follows a template: begun → nodes drained → rebuilt → awaited, batch by batch.
//!
//! Every batch is an update of the stack that changes the images and flavors of its servers and of
//! no others; Nova resizes and rebuilds them in place, with their addresses, volumes and names.
//!
//! The time that an operation has is for one batch: once until Heat has taken its update, and once
//! from then to its last ready node. With the next batch it begins anew. So a whole upgrade may
//! take longer the more nodes it has, and the first batch that is stuck is found early.

use std::collections::BTreeMap;

use tracing::info;

use super::duties::Ask;
use super::{Next, Run, Workflow};
use crate::conductor::decide::change::{ChangeNext, Changing, UpdateNext, change, servers, update};
use crate::conductor::label_checks::Limits;
use crate::conductor::resizing::{masters_of, server_of};
use crate::conductor::rollout::{
    behind, changes, done, goes_along, has_followed, make, masters_followed, names, with_images,
};
use crate::conductor::{StepError, template_change};
use crate::model::duty::DutyKind;
use crate::model::node::Node;
use crate::model::node_key::NodeKey;
use crate::model::nodegroup::{DEFAULT_WORKER, NodeGroup};
use crate::model::operation::{Upgrade, UpgradeStep};
use crate::model::rollout::{Batch, Disk, RoleFlavors, Rollout};
use crate::model::stack::Stack;
use crate::model::status::Status;
use crate::openstack::Actor;
use crate::store::{Change, Stored};

type Outcome = Result<Next<Upgrade>, StepError>;

impl Workflow for Upgrade {
    async fn step(run: &Run<'_, Self>) -> Outcome {
        let group = run.group(run.work.nodegroup)?;
        let lost = || StepError::failed("The rollout was lost.");
        let rollout = run.snapshot.rollout(group).ok_or_else(lost)?;
        match run.work.step {
            UpgradeStep::Begin => run.begin(group, rollout).await,
            UpgradeStep::Drain => run.drain_nodes(group, rollout),
            UpgradeStep::Rebuild => run.ensure_rebuilt(group, rollout).await,
            UpgradeStep::Await => run.await_nodes(group, rollout).await,
        }
    }

    fn failed(run: &Run<'_, Self>, reason: &str, _nodegroup: Option<&str>) -> Change {
        /// Characters of a cause: the whole of it is among the faults until the next order.
        const LONGEST: usize = 500;
        let change = run.failed_of(run.work.nodegroup, Status::UpdateFailed, reason);
        let group = run.snapshot.group(run.work.nodegroup);
        let Some(rollout) = group.and_then(|group| run.snapshot.rollout(group)) else {
            return change;
        };
        // Nodes stay behind whatever else succeeds from here on, and why is told until they follow.
        let why = reason.lines().next().unwrap_or_default().chars().take(LONGEST).collect();
        change.expect(rollout).put(&Rollout { failure: Some(why), ..rollout.record.clone() })
    }
}

impl Run<'_, Upgrade> {
    /// Finds out who has which image and flavor; from this commit on the cluster follows the new template.
    async fn begin(&self, group: &Stored<NodeGroup>, rollout: &Stored<Rollout>) -> Outcome {
        let Self { conductor, snapshot, operation, work, .. } = self;
        let lost = || StepError::failed("The cluster's facts were lost.");
        let facts = snapshot.facts.as_ref().ok_or_else(lost)?;
        let shown = conductor.look_at(snapshot, group, true).await?.filter(|s| !s.is_gone());
        let shown = shown.ok_or_else(|| StepError::failed("The stack is not there any more."))?;
        if shown.is_in_progress() {
            return Ok(Next::wait_for_heat(Some(&shown)));
        }
        let members = servers(&shown)
            .ok_or_else(|| StepError::failed("The stack does not tell which servers it has."))?;
        let (masters, _) = snapshot.counts();
        let masters: Vec<u32> = if group.is_default { (0..masters).collect() } else { Vec::new() };
        let workers: Vec<u32> = members.into_keys().collect();
        let present = snapshot.image_of(group).ok_or_else(lost)?;
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
        let mut change = Change::new().expect(rollout);
        let mut cluster = snapshot.cluster.record.clone();
        if group.is_default {
            let template = conductor.template_to_follow(operation, rollout)?;
            if let Some(old) = &snapshot.template {
                template_change::respell(&mut cluster, old, &template);
            }
            change = change.expect(&template);
        }
        for changed in snapshot.groups.iter().filter(|g| goes_along(g, group)) {
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
                Limits::follow(&mut next, &snapshot.cluster.labels, &begun.labels);
            }
            change = change.expect(changed).put(&next);
        }
        if group.is_default {
            // Who has not said which flavor keeps the one that it was made with.
            for further in snapshot.groups.iter().filter(|g| !g.is_default && g.flavor_id.is_none())
            {
                let mut next = further.record.clone();
                next.flavor_id = Some(facts.worker_flavor.clone());
                change = change.expect(further).put(&next);
            }
            cluster.template_id = begun.template_id;
            cluster.labels = begun.labels.clone();
            known.image_id = target;
            known.kube_version.clone_from(&begun.kube_version);
            change = change.expect(&snapshot.cluster).put(&cluster).expect(facts).put(&known);
        }
        info!(behind = begun.behind(), "upgrade begun");
        // What else the template says reaches the stack even if no server has to follow.
        let behind = u32::try_from(begun.behind()).unwrap_or(u32::MAX);
        let step = if behind == 0 { UpgradeStep::Rebuild } else { UpgradeStep::Drain };
        Ok(Next::Go(change.put(&begun), Upgrade { step, behind, ..**work }))
    }

    /// Has a master drain the next batch; nodes whose disk goes are forgotten. None left: settles.
    fn drain_nodes(&self, group: &Stored<NodeGroup>, rollout: &Stored<Rollout>) -> Outcome {
        let Self { conductor, snapshot, .. } = self;
        let Some(batch) = rollout.next() else { return self.settle(group, rollout) };
        let names = names(snapshot, group, &batch);
        // Pods do not run on masters.
        if matches!(batch, Batch::Workers(_)) {
            let Some(master) = snapshot.masters().into_iter().find(|n| n.is_ready()) else {
                return Err(StepError::failed("No master is ready to drain the nodes."));
            };
            let kind = DutyKind::Drain;
            let ask = Ask { node: master.name.clone(), kind, targets: names.clone() };
            if let Some(next) = self.ensure_duties(&[ask])? {
                return Ok(next);
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
        let stale = snapshot.nodes.iter().filter(|n| rebuilt.contains(&&n.name));
        let change = stale.fold(Change::new(), |change, node| change.delete(node));
        let now = conductor.inner.clock.now();
        let open = |name: &&String| NodeKey::of_rebuilt(snapshot.id(), (*name).clone(), now);
        let change = rebuilt.iter().map(open).fold(change, |change, key| change.put(&key));
        info!(nodes = names.join(", "), "nodes are rebuilt or resized next");
        self.go(change.expect(rollout).put(&handed), UpgradeStep::Rebuild)
    }

    /// Sends the images and flavors of the batch, unless Heat has them already.
    async fn ensure_rebuilt(
        &self,
        group: &Stored<NodeGroup>,
        rollout: &Stored<Rollout>,
    ) -> Outcome {
        let Self { conductor, snapshot, operation, .. } = self;
        let shown = conductor.look_at(snapshot, group, true).await?;
        // No two batches leave the same number of nodes behind.
        let revision = format!("{}-{}", operation.sequence.0, rollout.behind());
        match update(shown.as_ref(), &revision) {
            UpdateNext::Fail(reason) => return Err(StepError::failed(reason)),
            UpdateNext::Wait => return Ok(Next::wait_for_heat(shown.as_ref())),
            UpdateNext::Adopt => info!(revision, "update adopted"),
            UpdateNext::Send => {
                let mut plan = conductor.plan_of(snapshot, group)?;
                plan.revision.clone_from(&revision);
                if let Some(stack) = &shown {
                    snapshot.give_makes(&mut plan, group, stack, &[]);
                }
                if !conductor.send_update(snapshot, group, plan, false).await? {
                    return Ok(Next::wait_for_heat(shown.as_ref()));
                }
                info!(revision, group = group.name, "update sent");
            }
        }
        let stack = group.stack_id.as_deref();
        self.go(snapshot.with_revision(Change::new(), stack, &revision), UpgradeStep::Await)
    }

    /// Looks until the stack has changed and the batch is back.
    async fn await_nodes(&self, group: &Stored<NodeGroup>, rollout: &Stored<Rollout>) -> Outcome {
        let Self { conductor, snapshot, operation, .. } = self;
        let shown = conductor.look_at(snapshot, group, !rollout.resizing.is_empty()).await?;
        if self.is_taken_back(group, shown.as_ref()) {
            return self.go(Change::new(), UpgradeStep::Rebuild);
        }
        let mut nodes: Vec<&Node> = snapshot.nodes_of(group);
        let mut wanted = conductor.threshold(snapshot, group);
        if group.is_default {
            let both = snapshot.groups.iter().filter(|g| g.is_default);
            nodes = both.flat_map(|g| snapshot.nodes_of(g)).collect();
            wanted += snapshot.counts().0;
        }
        let next = change(&Changing {
            stack: shown.as_ref(),
            nodes: &nodes,
            wanted,
            going: 0,
            began: operation.began,
            deadline: operation.deadline,
            now: self.now,
        });
        match (next, shown) {
            (ChangeNext::LookAgain(progress), Some(stack)) if stack.is_in_progress() => {
                match self.failed_resize(group, rollout, &stack).await? {
                    Some(reason) => Err(StepError::failed(reason)),
                    None => Ok(Next::wait(progress)),
                }
            }
            (ChangeNext::LookAgain(progress), _) => Ok(Next::wait(progress)),
            (ChangeNext::Fail(reason), _) => Err(StepError::failed(reason)),
            (ChangeNext::StackFailed | ChangeNext::RolledBack, Some(stack)) => {
                Err(match self.failed_resize(group, rollout, &stack).await? {
                    Some(reason) => StepError::failed(reason),
                    None => self.change_failure(&stack).await?,
                })
            }
            (ChangeNext::Settle, _) => {
                if let Some(next) = self.ensure_rejoined(rollout)? {
                    return Ok(next);
                }
                let mut heard = rollout.record.clone();
                heard.resizing.clear();
                let change = Change::new().expect(rollout).put(&heard);
                let change = masters_followed(snapshot, self.work.behind, group, change);
                self.go(change, UpgradeStep::Drain)
            }
            (_, shown) => Ok(Next::wait_for_heat(shown.as_ref())),
        }
    }

    /// All have followed.
    fn settle(&self, group: &Stored<NodeGroup>, rollout: &Stored<Rollout>) -> Outcome {
        let Self { conductor, snapshot, .. } = self;
        let now = conductor.inner.clock.now();
        let plan = conductor.plan_of(snapshot, group)?;
        let version = conductor.driver(snapshot)?.coe_version(&plan);
        let rebuilt = self.work.behind > 0;
        let lost = || StepError::failed(snapshot.cannot_plan());
        let present = make(snapshot, group).ok_or_else(lost)?;
        let template = snapshot.template.as_ref().map(|template| template.name.as_str());
        let said = done(rollout, &present, template, rebuilt);
        let changed: Vec<NodeGroup> = snapshot
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
        let change = Change::new().expect(rollout).delete(&rollout.record);
        let change = snapshot.without_stale_duties(change);
        let (change, mut cluster) = conductor.amount(snapshot, change, &changed, None, Some(said));
        if group.is_default {
            cluster.coe_version = version.or(cluster.coe_version);
        }
        Ok(Next::Done(change.expect(&snapshot.cluster).put(&cluster)))
    }

    /// Why Nova does not resize a server that Heat waits for, if it has given up one.
    async fn failed_resize(
        &self,
        group: &NodeGroup,
        rollout: &Rollout,
        stack: &Stack,
    ) -> Result<Option<String>, StepError> {
        let Self { conductor, snapshot, operation, .. } = self;
        if rollout.resizing.is_empty() {
            return Ok(None);
        }
        let Some(facts) = &snapshot.facts else { return Ok(None) };
        let actor = conductor.reader(snapshot).await?;
        let admin = Actor::from(&*conductor.inner.cloud.keystone().service().await?);
        for name in rollout.resizing.keys() {
            let Some(server) = server_of(snapshot, group, stack, name) else { continue };
            let is_master = snapshot.nodes.iter().any(|n| n.name == *name && n.role == "master")
                || masters_of(stack).any(|(known, _)| known == name);
            let flavor = match is_master {
                true => &facts.master_flavor,
                false => &facts.worker_flavor,
            };
            let asked = conductor.inner.cloud.failed_resize(
                &actor,
                &admin,
                &server,
                flavor,
                operation.began,
            );
            if let Some(failed) = conductor.act(asked).await? {
                let reason = failed.reason.unwrap_or_else(|| {
                    format!(
                        "it does not tell magnumd why (openstack server event list {server}). Most \
                         often no host has room for the flavor, or there is one host only and \
                         nova.conf does not say allow_resize_to_same_host."
                    )
                });
                let waits = match stack.is_in_progress() {
                    true => {
                        " Heat waits for it until the stack's timeout, and an upgrade that is asked \
                         for again goes on after that."
                    }
                    false => "",
                };
                return Ok(Some(format!(
                    "Nova has not resized server {name} to flavor {flavor}: {}.{waits}",
                    reason.trim_end_matches('.')
                )));
            }
        }
        Ok(None)
    }

    /// Asks every node that was resized whether it works; None when all do.
    fn ensure_rejoined(&self, rollout: &Rollout) -> Result<Option<Next<Upgrade>>, StepError> {
        let kept = |node: &&Node| rollout.resizing.get(&node.name) == Some(&Disk::Kept);
        let nodes = &self.snapshot.nodes;
        let asked: Vec<Ask> = nodes
            .iter()
            .filter(kept)
            .filter(|node| node.is_ready())
            .map(|node| Ask {
                node: node.name.clone(),
                kind: DutyKind::Rejoin,
                targets: Vec::new(),
            })
            .collect();
        match asked.is_empty() {
            true => Ok(None),
            false => self.ensure_duties(&asked),
        }
    }
}
