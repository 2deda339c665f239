//! A group, or the whole cluster, follows another template.

use tracing::info;

use super::actor;
use super::checks::{busy, found, has_plan, in_status};
use crate::conductor::label_checks::{Limits, own_labels};
use crate::conductor::rollout::{kept_labels, rollout};
use crate::conductor::snapshot::ClusterSnapshot;
use crate::conductor::{Conductor, RequestContext, RequestError, resizing, template_fields};
use crate::model::NodeGroupId;
use crate::model::cluster::Cluster;
use crate::model::cluster_template::ClusterTemplate;
use crate::model::nodegroup::{DEFAULT_WORKER, NodeGroup};
use crate::model::operation::{Upgrade, UpgradeStep};
use crate::model::rollout::{RoleFlavors, Rollout};
use crate::model::status::Status;
use crate::openstack::Image;
use crate::store::{Change, Stored};

/// Which template a group shall follow from now on.
#[derive(Clone, Debug)]
pub struct UpgradeOrder {
    pub template: ClusterTemplate,
    pub nodegroup: NodeGroupId,
    pub max_batch_size: u32,
}

impl Conductor {
    /// A group, or with a default group the cluster itself, follows a template from now on.
    pub async fn upgrade(
        &self,
        tenant: &RequestContext<'_>,
        cluster: &Stored<Cluster>,
        order: UpgradeOrder,
    ) -> Result<(), RequestError> {
        let id = cluster.id;
        let image = self.image(&actor(tenant)?, &order.template.image_id).await?;
        let (followed, flavors) = self.check_template_change(tenant, id, &order, &image).await?;
        let snapshot = self.snapshot(id)?;
        let driver = self.driver_to_come(&snapshot, found(&snapshot, order.nodegroup)?)?;
        self.keep_driver(&driver).await?;
        self.order(id, |snapshot| {
            in_status(snapshot, "Upgrading a cluster")?;
            has_plan(snapshot)?;
            if snapshot.cluster.template_id != followed {
                return Err(busy(snapshot, "it has just been upgraded by another request"));
            }
            let group = found(snapshot, order.nodegroup)?;
            let mut rollout = rollout(snapshot, group, &order, &image, &flavors);
            rollout.labels.check_size().map_err(|why| {
                RequestError::Invalid(format!(
                    "Invalid input for field/attribute labels. The labels of {} and of cluster \
                     template {} are too many together: {why} Choose another template.",
                    group.name, order.template.name
                ))
            })?;
            rollout.undone = self.check_upgrade(snapshot, group, &order, &rollout, &image)?;
            if let Some(old) = snapshot.template.as_ref().filter(|_| group.is_default) {
                rollout.undone.extend(template_fields::kept(
                    &snapshot.cluster,
                    old,
                    &order.template,
                ));
                let own = &snapshot.cluster.labels;
                rollout.undone.extend(kept_labels(own, old, &order.template));
            }
            let upgrade = Upgrade { step: UpgradeStep::Begin, nodegroup: group.id, behind: 0 };
            let mut operation = self.new_operation(tenant, snapshot, upgrade)?;
            operation.token = self.lent_token(tenant, &snapshot.cluster);
            let mut changed = group.record.clone();
            changed.status = Status::UpdateInProgress;
            changed.status_reason = None;
            changed.updated_at = Some(operation.began);
            info!(cluster = %id, group = group.name, image = rollout.image_id, "upgrade accepted");
            let change = Change::new().expect(group).put(&changed).put(&rollout).put(&operation);
            let driver = self.driver_to_come(snapshot, group)?;
            let change = Self::remember(change, id, &driver);
            Ok(self.in_progress(snapshot, change))
        })
        .await
    }

    /// What the driver would leave undone, if it can do the rest.
    fn check_upgrade(
        &self,
        snapshot: &ClusterSnapshot,
        group: &NodeGroup,
        order: &UpgradeOrder,
        rollout: &Rollout,
        image: &Image,
    ) -> Result<Vec<String>, RequestError> {
        let (settings, key) = (&self.inner.settings, &self.inner.enrolment);
        let lost = || RequestError::Conflict(snapshot.cannot_plan());
        let mut undone = Vec::new();
        let from = snapshot.plan_of(group, settings, key).ok_or_else(lost)?;
        let driver = self.driver_to_come(snapshot, group)?;
        let distro = image.os_distro.as_deref().unwrap_or_default();
        let template = &order.template;
        if !driver.provides(template.server_type, distro, template.coe) {
            return Err(RequestError::Invalid(format!(
                "Cluster {} is built by driver {}, which does not build ({}, {distro}, {}), as \
                 cluster template {} asks for. Choose another template.",
                snapshot.cluster.name,
                snapshot.cluster.driver,
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
        self.check_new_labels(&driver, &own_labels(&template.labels, &snapshot.cluster.labels))?;
        if let Some(workers) = snapshot.groups.iter().find(|g| g.name == DEFAULT_WORKER)
            && group.is_default
        {
            let mut workers = workers.record.clone();
            let asked = Limits::of(&rollout.labels)?;
            Limits::follow(&mut workers, &snapshot.cluster.labels, &rollout.labels);
            let kept = Limits { min: workers.min_node_count, max: workers.max_node_count };
            kept.allow(workers.node_count)?;
            if asked != kept && asked != Limits::of(&snapshot.cluster.labels).unwrap_or(asked) {
                undone.push(format!(
                    "min_node_count and max_node_count of cluster template {}: group {} has limits \
                     of its own, and keeps them.",
                    template.name, workers.name
                ));
            }
        }
        to.cluster.labels = match group.is_default {
            true => rollout.labels.clone(),
            false => rollout.labels.over(&snapshot.cluster.labels),
        };
        driver.check_upgrade(&from, &to)?;
        undone.extend(driver.undone(&from, &to));
        Ok(undone)
    }
}
