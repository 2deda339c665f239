//! What is to be built: the plans of a cluster's stacks, and what its driver makes of them.

use super::snapshot::ClusterSnapshot;
use super::{Conductor, StepError};
use crate::driver::{Bundle, ClusterPlan, Waits};
use crate::model::nodegroup::NodeGroup;

/// For which nodes a creation waits, and how long for each.
pub(super) struct Awaits {
    pub waits: Waits,
    pub masters: u32,
    pub workers: u32,
    /// Workers that must be ready.
    pub threshold: u32,
}

impl Conductor {
    /// The plan of the cluster's own stack.
    pub(super) fn plan(&self, snapshot: &ClusterSnapshot) -> Result<ClusterPlan, StepError> {
        snapshot
            .plan(&self.inner.settings, &self.inner.enrolment)
            .ok_or_else(|| StepError::failed(snapshot.cannot_plan()))
    }

    /// What Heat should build, with the trustee's credentials where the driver wants them.
    pub(super) fn bundle(
        &self,
        snapshot: &ClusterSnapshot,
        plan: &mut ClusterPlan,
    ) -> Result<Bundle, StepError> {
        let driver = self.driver(snapshot)?;
        if driver.wants_trust() {
            plan.trust = snapshot.entrusted(&self.inner.store)?;
        }
        if driver.inlines(plan).is_ok_and(|inlines| inlines) {
            let inlined = self.inlined(snapshot.id());
            plan.inlined = Some(inlined.map_err(|e| StepError::failed(e.to_string()))?);
        }
        driver.bundle(plan).map_err(|e| StepError::failed(e.to_string()))
    }

    /// The plan of the stack that holds a group.
    pub(super) fn plan_of(
        &self,
        snapshot: &ClusterSnapshot,
        group: &NodeGroup,
    ) -> Result<ClusterPlan, StepError> {
        snapshot
            .plan_of(group, &self.inner.settings, &self.inner.enrolment)
            .ok_or_else(|| StepError::failed(snapshot.cannot_plan()))
    }

    /// For which nodes a creation waits.
    pub(super) fn awaits(&self, snapshot: &ClusterSnapshot) -> Result<Awaits, StepError> {
        let driver = self.driver(snapshot)?;
        let plan = snapshot.plan(&self.inner.settings, &self.inner.enrolment);
        let waits = plan.as_ref().and_then(|plan| driver.waits(plan).ok()).unwrap_or_default();
        // Without nodes that report there are none to wait for.
        let (masters, workers) = if waits.for_nodes { snapshot.counts() } else { (0, 0) };
        let threshold = plan.as_ref().and_then(|plan| driver.ready_threshold(plan));
        let threshold = threshold.unwrap_or(workers).min(workers);
        Ok(Awaits { waits, masters, workers, threshold })
    }

    /// How many of a group's workers must be ready for it to be complete.
    pub(super) fn threshold(&self, snapshot: &ClusterSnapshot, group: &NodeGroup) -> u32 {
        let count = snapshot.node_count(group);
        let Ok(driver) = self.driver(snapshot) else { return count };
        let plan = self.plan_of(snapshot, group).ok();
        if plan.as_ref().is_some_and(|plan| driver.waits_for_nodes(plan) == Ok(false)) {
            return 0;
        }
        let threshold = plan.and_then(|plan| driver.ready_threshold(&plan));
        threshold.unwrap_or(count).min(count)
    }

    /// How long an operation on the cluster, or a part of it that can be tried alone, may take.
    pub(super) fn minutes(&self, snapshot: &ClusterSnapshot) -> u32 {
        let plan = snapshot.plan(&self.inner.settings, &self.inner.enrolment);
        match (plan, self.driver(snapshot)) {
            (Some(plan), Ok(driver)) => driver.create_timeout(&plan),
            // What has no plan any more fails for another reason, and soon.
            _ => self.inner.settings.driver.create_timeout,
        }
    }
}
