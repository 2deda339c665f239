//! What tenants may ask of a cluster that exists: checked against its status, then durable.

use std::collections::BTreeMap;
use std::time::Duration;

use tracing::info;

use super::admit::{actor, can_make_trusts, os_distro};
use super::label_checks::{Limits, own_labels};
use super::moment::Moment;
use super::{Conductor, Refusal, Tenant};
use crate::driver::{ClusterPlan, KubeVersion};
use crate::model::cluster::Cluster;
use crate::model::cluster_template::ClusterTemplate;
use crate::model::facts::Foundation;
use crate::model::nodegroup::NodeGroup;
use crate::model::operation::{Detail, Operation, OperationKind, Step};
use crate::model::status::{HealthStatus, Status};
use crate::model::{ClusterId, NodeGroupId};
use crate::store::{Change, StoreError, Stored};

/// How many nodes a group shall have, and which must not be among them.
#[derive(Clone, Debug)]
pub struct ResizeOrder {
    pub nodegroup: NodeGroupId,
    pub node_count: u32,
    /// Server ids, names, addresses or indexes.
    pub nodes_to_remove: Vec<String>,
    pub rollback: bool,
}

/// Which template a group shall follow from now on.
#[derive(Clone, Debug)]
pub struct UpgradeOrder {
    pub template: ClusterTemplate,
    pub nodegroup: NodeGroupId,
    pub max_batch_size: u32,
}

impl Conductor {
    /// A new node count, and the nodes that must go. While the group is being resized the
    /// newer count stands and the nodes to remove add up.
    pub async fn resize(
        &self,
        tenant: &Tenant<'_>,
        cluster: &Stored<Cluster>,
        order: ResizeOrder,
    ) -> Result<(), Refusal> {
        let id = cluster.id;
        let moment = self.moment(id)?;
        let group = found(&moment, order.nodegroup)?;
        may_change(&moment, Some(group))?;
        check_count(group, order.node_count)?;
        let remove = self.resolve(&moment, group, &order.nodes_to_remove).await?;
        self.order(id, |moment| {
            let group = found(moment, order.nodegroup)?;
            may_change(moment, Some(group))?;
            check_limits_to_come(moment, group, order.node_count)?;
            let mut wanted = group.record.clone();
            wanted.node_count = order.node_count;
            self.check_group(moment, &wanted)?;
            let mut detail = Detail {
                nodegroup: Some(group.id),
                before: group.node_count,
                remove: remove.clone(),
                rollback: order.rollback,
            };
            let mut change = Change::new();
            let same = |o: &&Stored<Operation>| {
                o.kind == OperationKind::Resize && o.detail.nodegroup == Some(group.id)
            };
            for overtaken in moment.operations().filter(same) {
                detail.before = overtaken.detail.before;
                let mut all = overtaken.detail.remove.clone();
                all.extend(
                    detail.remove.into_iter().filter(|id| !overtaken.detail.remove.contains(id)),
                );
                detail.remove = all;
                change = change.expect(overtaken).delete(&overtaken.record);
            }
            let mut operation =
                self.new_order(tenant, moment, OperationKind::Resize, Step::UpdateStack, detail);
            operation.token = self.lent_token(tenant, &moment.cluster);
            wanted.status = Status::UpdateInProgress;
            wanted.status_reason = None;
            wanted.updated_at = Some(operation.began);
            info!(cluster = %id, group = wanted.name, nodes = wanted.node_count, "resize accepted");
            let change = change.expect(group).put(&wanted).put(&operation);
            Ok(self.in_progress(moment, change))
        })
        .await
    }

    /// A further group, in a stack of its own.
    pub async fn create_nodegroup(
        &self,
        tenant: &Tenant<'_>,
        cluster: &Stored<Cluster>,
        group: NodeGroup,
    ) -> Result<NodeGroup, Refusal> {
        // The tenant's own token makes the stack: Heat makes a trust of its own from it.
        own_project(tenant, cluster, "create a node group")?;
        can_make_trusts(tenant.requester)?;
        if group.is_master() {
            return Err(Refusal::Invalid(
                "Invalid input for field role. Value: 'master'. Masters are made with the \
                 cluster only; choose worker or another name."
                    .to_owned(),
            ));
        }
        check_count(&group, group.node_count)?;
        let asker = actor(tenant)?;
        let mut group = group;
        if let Some(wanted) = group.flavor_id.clone() {
            self.flavor(&asker, Some(&wanted)).await?;
        }
        // With its id and version: the cluster may move to another image while the group stays,
        // and a name may come to mean another one.
        let mut distro = None;
        if let Some(wanted) = group.image_id.clone() {
            let image = self.image(&asker, &wanted).await?;
            distro = Some(os_distro(&image, &wanted)?);
            (group.image, group.version) = (Some(image.id), image.kube_version);
        }
        group.is_default = false;
        group.stack_id = None;
        group.status = Status::CreateInProgress;
        group.status_reason = None;
        let id = cluster.id;
        self.order(id, |moment| {
            may_change(moment, None)?;
            if moment.groups.iter().any(|g| g.name == group.name) {
                return Err(Refusal::Conflict(format!(
                    "A node group with name {} already exists in the cluster {}.",
                    group.name, moment.cluster.name
                )));
            }
            let driver = self.driver_for_order(moment)?;
            driver.check_nodegroups()?;
            if let Some(distro) = &distro {
                check_group_image(moment, &group, distro)?;
            }
            let own = own_labels(&group.labels, &moment.cluster.labels);
            self.check_new_labels(&driver, &own)?;
            let plan = self.check_group(moment, &group)?;
            if let Some(mut cluster) = moment.plan(&self.inner.settings, &self.inner.enrolment) {
                plan.revision.clone_into(&mut cluster.revision);
                driver.check_group_labels(&cluster, &plan, &own)?;
            }
            let detail = Detail { nodegroup: Some(group.id), ..Detail::default() };
            let mut operation = self.new_order(
                tenant,
                moment,
                OperationKind::CreateGroup,
                Step::GroupStack,
                detail,
            );
            operation.token = self.lent_token(tenant, &moment.cluster);
            info!(cluster = %id, group = group.name, "node group accepted");
            let change = Change::new().expect_absent(&group).put(&group).put(&operation);
            Ok(self.in_progress(moment, change))
        })
        .await?;
        Ok(group)
    }

    /// New limits and labels for nodes to come; a new count is a resize.
    pub async fn update_nodegroup(
        &self,
        tenant: &Tenant<'_>,
        cluster: &Stored<Cluster>,
        group: &Stored<NodeGroup>,
        changed: NodeGroup,
    ) -> Result<(), Refusal> {
        check_count(&changed, changed.node_count)?;
        let id = cluster.id;
        self.order(id, |moment| {
            let now = found(moment, group.id)?;
            may_change(moment, Some(now))?;
            if now.revision != group.revision {
                // What shall be was made from what the caller read: laid over anything newer it
                // would undo that.
                return Err(StoreError::Stale.into());
            }
            let mut next = now.record.clone();
            next.min_node_count = changed.min_node_count;
            next.max_node_count = changed.max_node_count;
            next.labels = changed.labels.clone();
            next.node_labels = changed.node_labels.clone();
            next.node_taints = changed.node_taints.clone();
            next.updated_at = Some(self.inner.clock.now());
            let new = own_labels(&next.labels, &now.labels);
            self.check_new_labels(&*self.driver_for_order(moment)?, &new)?;
            self.check_group(moment, &next)?;
            if now.status.is_complete() {
                next.status = Status::UpdateComplete;
            }
            let change = Change::new().expect(now);
            Ok(match moment.operation.is_some() {
                true => self.in_progress(moment, change.put(&next)),
                false => self.with_cluster(moment, change, &[next], None, None),
            })
        })
        .await?;
        if changed.node_count != group.node_count {
            let order = ResizeOrder {
                nodegroup: group.id,
                node_count: changed.node_count,
                nodes_to_remove: Vec::new(),
                rollback: false,
            };
            self.resize(tenant, cluster, order).await?;
        }
        Ok(())
    }

    /// Overtakes whatever is being done about the group; idempotent.
    pub async fn delete_nodegroup(
        &self,
        tenant: &Tenant<'_>,
        cluster: &Stored<Cluster>,
        group: &Stored<NodeGroup>,
    ) -> Result<(), Refusal> {
        if group.is_default {
            return Err(Refusal::Invalid(
                "Deleting a default nodegroup is not supported.".to_owned(),
            ));
        }
        let id = cluster.id;
        self.order(id, |moment| {
            not_on_its_way(moment)?;
            let Some(group) = moment.group(group.id) else { return Ok(Change::new()) };
            let about = |o: &&Stored<Operation>| o.detail.nodegroup == Some(group.id);
            let mut change = Change::new();
            for overtaken in moment.operations().filter(about) {
                if overtaken.kind == OperationKind::DeleteGroup {
                    return Ok(Change::new());
                }
                change = change.expect(overtaken).delete(&overtaken.record);
            }
            let detail = Detail { nodegroup: Some(group.id), ..Detail::default() };
            let (kind, step) = (OperationKind::DeleteGroup, Step::DeleteGroupStack);
            let mut operation = self.new_order(tenant, moment, kind, step, detail);
            // However long Heat is away, the group shall go.
            operation.deadline = None;
            operation.token = self.lent_token(tenant, &moment.cluster);
            let mut going = group.record.clone();
            going.status = Status::DeleteInProgress;
            going.status_reason = None;
            going.updated_at = Some(operation.began);
            info!(cluster = %id, group = going.name, "deletion of node group accepted");
            let change = change.expect(group).put(&going).put(&operation);
            Ok(self.in_progress(moment, change))
        })
        .await
    }

    /// A new password for the trustee, and a new trust from the caller; the old trust goes.
    pub async fn rotate_credential(
        &self,
        tenant: &Tenant<'_>,
        cluster: &Stored<Cluster>,
    ) -> Result<(), Refusal> {
        own_project(tenant, cluster, "rotate its credential")?;
        can_make_trusts(tenant.requester)?;
        let id = cluster.id;
        let password = self.inner.entropy.password();
        self.order(id, |moment| {
            may_change(moment, None)?;
            // The cluster's own controllers would lose their way into the cloud.
            has_plan(moment)?;
            self.driver_for_order(moment)?;
            let rotates = |o: &Stored<Operation>| o.kind == OperationKind::RotateCredential;
            if moment.operations().any(rotates) {
                return Err(busy(moment, "its credential is being rotated already"));
            }
            let Some(credential) = moment.credential.as_ref().filter(|c| c.trust_id.is_some())
            else {
                return Err(busy(moment, "it has no trust to replace"));
            };
            let sealer = self.inner.store.sealer();
            let mut next = credential.record.clone();
            next.next_password = Some(
                sealer.seal(&crate::model::credential::Credential::owner(id), password.as_bytes()),
            );
            let (kind, step) = (OperationKind::RotateCredential, Step::NewTrust);
            let mut operation = self.new_order(tenant, moment, kind, step, Detail::default());
            operation.token = self.lent_token(tenant, &moment.cluster);
            info!(cluster = %id, "rotation of the credential accepted");
            let change = Change::new().expect(credential).put(&next).put(&operation);
            Ok(self.in_progress(moment, change))
        })
        .await
    }

    /// What somebody who looked into the cluster found. Refused if the cluster has changed since
    /// it was read, because what is said may build on what was there.
    pub async fn set_health(
        &self,
        cluster: &Stored<Cluster>,
        status: Option<HealthStatus>,
        reason: BTreeMap<String, String>,
    ) -> Result<(), Refusal> {
        let mut changed = cluster.record.clone();
        changed.health_status = status;
        changed.health_status_reason = reason;
        // What is written was made from what the caller read: laid over anything newer it
        // would undo that.
        self.inner.store.commit(Change::new().expect(cluster).put(&changed)).await?;
        Ok(())
    }

    /// Writes what `build` makes of the cluster as it is now; again, if it changed meanwhile.
    pub(super) async fn order(
        &self,
        id: ClusterId,
        build: impl Fn(&Moment) -> Result<Change, Refusal>,
    ) -> Result<(), Refusal> {
        loop {
            let change = build(&self.moment(id)?)?;
            if change.is_empty() {
                return Ok(());
            }
            match self.intend(id, change).await {
                Ok(()) => return Ok(()),
                Err(StoreError::Stale) => {}
                Err(e) => return Err(e.into()),
            }
        }
    }

    /// Makes an intention durable and has the conductor look at it. Both happen even when the
    /// request is given up meanwhile: hyper drops its future when the client goes away, and what
    /// has reached the disk by then must not wait for the next look.
    pub(super) async fn intend(&self, id: ClusterId, change: Change) -> Result<(), StoreError> {
        let conductor = self.clone();
        let kept = tokio::spawn(async move {
            conductor.inner.store.commit(change).await?;
            conductor.poke(id);
            Ok(())
        });
        // It is not cancelled and does not panic; a runtime that shuts down ends everything.
        kept.await.unwrap_or(Err(StoreError::Closed))
    }

    pub(super) fn new_order(
        &self,
        tenant: &Tenant<'_>,
        moment: &Moment,
        kind: OperationKind,
        step: Step,
        detail: Detail,
    ) -> Operation {
        let now = self.inner.clock.now();
        let minutes = self.minutes(moment);
        Operation {
            sequence: self.inner.store.next_sequence(),
            cluster_id: moment.id(),
            kind,
            step,
            attempt: 0,
            began: now,
            deadline: Some(now.plus(Duration::from_secs(60 * u64::from(minutes)))),
            token: None,
            roles: tenant.requester.roles.clone(),
            user_id: tenant.requester.user_id.clone(),
            request_id: tenant.request_id.to_owned(),
            detail,
        }
    }

    /// How long an operation on the cluster, or a part of it that can be tried alone, may take.
    pub(super) fn minutes(&self, moment: &Moment) -> u32 {
        let plan = moment.plan(&self.inner.settings, &self.inner.enrolment);
        match (plan, self.driver(moment)) {
            (Some(plan), Ok(driver)) => driver.create_timeout(&plan),
            // What has no plan any more fails for another reason, and soon.
            _ => self.inner.settings.driver.create_timeout,
        }
    }

    pub(super) fn in_progress(&self, moment: &Moment, change: Change) -> Change {
        let mut cluster = moment.cluster.record.clone();
        cluster.status = Status::UpdateInProgress;
        cluster.status_reason = None;
        cluster.updated_at = Some(self.inner.clock.now());
        change.expect(&moment.cluster).put(&cluster)
    }

    /// Whether the driver can build the cluster with this group as it shall be; what it would build.
    fn check_group(&self, moment: &Moment, group: &NodeGroup) -> Result<ClusterPlan, Refusal> {
        let (settings, key) = (&self.inner.settings, &self.inner.enrolment);
        let plan = match group.is_default {
            true => moment.plan(settings, key).map(|mut plan| {
                for known in plan.groups.iter_mut().filter(|g| g.id == group.id) {
                    known.clone_from(group);
                }
                plan
            }),
            // What it stands on is looked up later and decides nothing here.
            false => {
                let (network, security_group) = (String::new(), String::new());
                let foundation = Foundation { network, subnet: None, security_group };
                moment.further(group, foundation, settings, key)
            }
        };
        let mut plan = plan.ok_or_else(|| Refusal::Conflict(moment.cannot_plan()))?;
        "check".clone_into(&mut plan.revision);
        self.driver_for_order(moment)?.check(&plan)?;
        Ok(plan)
    }
}

/// Whether nodes of a group's own image can join the cluster.
fn check_group_image(moment: &Moment, group: &NodeGroup, os_distro: &str) -> Result<(), Refusal> {
    // What is lost is told by whoever needs it.
    let Some(facts) = &moment.facts else { return Ok(()) };
    let image = group.image_id.as_deref().unwrap_or_default();
    let refused = |why: String| {
        Err(Refusal::Invalid(format!(
            "Invalid input for field/attribute image_id. Value: '{image}'. {why}"
        )))
    };
    if os_distro != facts.os_distro {
        return refused(format!(
            "It is {os_distro}, and the nodes of the cluster are {}. Choose an image of the same \
             os_distro.",
            facts.os_distro
        ));
    }
    let minor = |version: &Option<String>| {
        version.as_deref().and_then(|text| text.parse().ok()).map(|v: KubeVersion| v.minor)
    };
    match minor(&group.version).zip(minor(&facts.kube_version)) {
        // Kubernetes' version skew policy.
        Some((own, cluster)) if own > cluster => refused(format!(
            "It has Kubernetes {}, and the cluster {}: a kubelet may be older than its API server, \
             not newer. Upgrade the cluster first, or choose another image.",
            group.version.as_deref().unwrap_or_default(),
            facts.kube_version.as_deref().unwrap_or_default()
        )),
        _ => Ok(()),
    }
}

pub(super) fn found(moment: &Moment, id: NodeGroupId) -> Result<&Stored<NodeGroup>, Refusal> {
    moment.group(id).ok_or_else(|| Refusal::Missing(format!("Nodegroup {id} could not be found.")))
}

pub(super) fn busy(moment: &Moment, why: &str) -> Refusal {
    Refusal::Conflict(format!(
        "Cluster {} is {}: {why}. Try again when this has changed.",
        moment.cluster.name, moment.cluster.status
    ))
}

/// Only a cluster at rest can be rebuilt or get new authorities; one whose last change failed may
/// need just that.
pub(super) fn in_status(moment: &Moment, what: &str) -> Result<(), Refusal> {
    more_than_a_record(moment)?;
    let status = moment.cluster.status;
    match status {
        Status::UpdateFailed => Ok(()),
        status if status.is_complete() && status != Status::DeleteComplete => Ok(()),
        _ => Err(Refusal::Invalid(format!("{what} when status is \"{status}\" is not supported."))),
    }
}

/// A record that was made anew for a stack lacks what building on it takes.
fn more_than_a_record(moment: &Moment) -> Result<(), Refusal> {
    match moment.facts {
        Some(_) => Ok(()),
        None => Err(Refusal::Conflict(format!(
            "Cluster {} was adopted from its Heat stack and its CA and keys are lost, so it can \
             only be shown and deleted; move what runs there to a new cluster.",
            moment.cluster.name
        ))),
    }
}

/// What nodes are given, and what they are asked to do, is made of template and facts.
pub(super) fn has_plan(moment: &Moment) -> Result<(), Refusal> {
    match moment.can_plan() {
        true => Ok(()),
        false => Err(Refusal::Conflict(moment.cannot_plan())),
    }
}

fn not_on_its_way(moment: &Moment) -> Result<(), Refusal> {
    use Status::{CreateFailed, CreateInProgress, DeleteComplete, DeleteFailed, DeleteInProgress};
    // As in Magnum, what was never complete can only be deleted.
    let cure = match moment.cluster.status {
        CreateInProgress => "Try again when this has changed.",
        CreateFailed => {
            "Delete it and create it again; should all its nodes become ready yet, it becomes \
             complete by itself."
        }
        DeleteFailed => "Delete it again.",
        DeleteInProgress | DeleteComplete => "Create a new one.",
        _ => return Ok(()),
    };
    Err(Refusal::Conflict(format!(
        "Cluster {} is {}: only a cluster that was built and is not being deleted can change. {cure}",
        moment.cluster.name, moment.cluster.status
    )))
}

/// Complete, or an update that runs or has failed; of the cluster for orders about all of it,
/// of the group for orders about one.
fn may_change(moment: &Moment, group: Option<&Stored<NodeGroup>>) -> Result<(), Refusal> {
    more_than_a_record(moment)?;
    not_on_its_way(moment)?;
    let Some(group) = group else { return Ok(()) };
    match group.status {
        Status::UpdateInProgress | Status::UpdateFailed | Status::RollbackFailed => Ok(()),
        status if status.is_complete() && status != Status::DeleteComplete => Ok(()),
        Status::CreateFailed | Status::DeleteFailed => Err(Refusal::Conflict(format!(
            "Node group {} is {}: only one that was built can change. Delete it and, if it is still \
             wanted, create it again.",
            group.name, group.status
        ))),
        status => Err(Refusal::Conflict(format!(
            "Node group {} is {status}: it can change when it is complete.",
            group.name
        ))),
    }
}

fn check_count(group: &NodeGroup, wanted: u32) -> Result<(), Refusal> {
    if group.is_master() && wanted != group.node_count {
        return Err(Refusal::Invalid(format!(
            "Node group {} cannot be resized: masters are members of etcd.",
            group.name
        )));
    }
    let above = group.max_node_count.is_some_and(|most| wanted > most);
    match wanted < group.min_node_count || above {
        false => Ok(()),
        true => Err(Refusal::Invalid(format!(
            "Resizing {} outside the allowed range: min_node_count = {}, max_node_count = {}",
            group.name,
            group.min_node_count,
            group.max_node_count.map_or_else(|| "None".to_owned(), |most| most.to_string())
        ))),
    }
}

/// An upgrade that has not begun yet may bring other limits along.
fn check_limits_to_come(moment: &Moment, group: &NodeGroup, wanted: u32) -> Result<(), Refusal> {
    let Some(rollout) = moment.rollout(group).filter(|_| group.is_default) else { return Ok(()) };
    let mut followed = group.clone();
    Limits::follow(&mut followed, &moment.cluster.labels, &rollout.labels);
    check_count(&followed, wanted)
}

fn own_project(tenant: &Tenant<'_>, cluster: &Cluster, what: &str) -> Result<(), Refusal> {
    match tenant.requester.project_id.as_deref() == Some(&cluster.project_id) {
        true => Ok(()),
        false => Err(Refusal::Forbidden(format!(
            "Only a member of the project of cluster {} can {what}: the cloud is asked with \
             their token.",
            cluster.name
        ))),
    }
}
