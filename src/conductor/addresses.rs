//! Addresses that a stack tells: of the API, and of no more nodes than there are.

use tracing::warn;

use super::snapshot::ClusterSnapshot;
use super::{Conductor, StepError};
use crate::driver::{ClusterPlan, Outcome};
use crate::model::cluster::Cluster;
use crate::model::nodegroup::NodeGroup;
use crate::model::stack::Stack;
use crate::store::Stored;

impl Conductor {
    /// What Heat built, to be written down.
    pub(super) fn built(
        &self,
        snapshot: &ClusterSnapshot,
        plan: &ClusterPlan,
        stack: &Stack,
    ) -> Result<Outcome, StepError> {
        let outcome = self.driver(snapshot)?.outcome(plan, stack);
        if let Some(remark) = &outcome.remark {
            warn!(stack = stack.name, "{remark}");
        }
        Ok(outcome)
    }

    /// The cluster and its default groups with the addresses that the stack tells, and what is to
    /// be said of them.
    pub(super) fn addressed(
        &self,
        snapshot: &ClusterSnapshot,
        stack: &Stack,
    ) -> Result<(Cluster, Vec<NodeGroup>, Option<String>), StepError> {
        let outcome = self.built(snapshot, &self.plan(snapshot)?, stack)?;
        let mut cluster = snapshot.cluster.record.clone();
        cluster.api_address = outcome.api_address;
        let addressed = |group: &Stored<NodeGroup>| {
            let mut group = group.record.clone();
            let told = match group.is_master() {
                true => &outcome.master_addresses,
                false => &outcome.worker_addresses,
            };
            group.node_addresses = of_nodes(told.clone(), group.node_count);
            group
        };
        let groups = snapshot.groups.iter().filter(|g| g.is_default).map(addressed).collect();
        Ok((cluster, groups, outcome.remark))
    }
}

/// A status reason with the remark behind it.
pub(super) fn remarked(said: Option<String>, remark: Option<String>) -> Option<String> {
    match (said, remark) {
        (Some(said), Some(remark)) if !said.contains(&remark) => {
            Some(format!("{said} {remark}").trim_start().to_owned())
        }
        (said, remark) => said.or(remark),
    }
}

/// One address for each node; a list that a tenant has made longer is cut.
pub(super) fn of_nodes(mut told: Vec<String>, nodes: u32) -> Vec<String> {
    told.truncate(nodes as usize);
    told
}
