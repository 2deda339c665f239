//! What nodes ask of us while they boot.

use super::snapshot::ClusterSnapshot;
use super::{Conductor, RequestError};
use crate::driver::plan::NodePlan;
use crate::driver::{BundleFile, ClusterPlan};
use crate::model::ClusterId;
use crate::model::facts::CloudFacts;
use crate::model::name;
use crate::model::nodegroup::NodeGroup;
use crate::model::operation::OperationKind;
use crate::store::Change;

impl Conductor {
    /// Whether the server of a name that is new runs from the disk that it is to have. While an
    /// upgrade is about to rebuild it, what still runs on it is the node that goes.
    pub async fn is_rebuilt(
        &self,
        cluster: ClusterId,
        name: &str,
        instance: &str,
    ) -> Result<bool, RequestError> {
        let snapshot = self.snapshot(cluster)?;
        let Some(wanted) = image_to_come(&snapshot, name) else { return Ok(true) };
        let actor = self.reader(&snapshot).await?;
        let present = self.inner.cloud.image_of_server(&actor, instance).await?;
        Ok(present.is_none_or(|present| present == wanted))
    }

    /// The private addresses of the masters by index, asked of Heat until they are known.
    pub async fn master_addresses(&self, cluster: ClusterId) -> Result<Vec<String>, RequestError> {
        let snapshot = self.snapshot(cluster)?;
        Ok(self.addresses(&snapshot).await?.master_addresses)
    }

    /// Whether nodes join with secrets that the first master hands over to us.
    pub fn joins_by_secrets(&self, cluster: ClusterId) -> Result<bool, RequestError> {
        let snapshot = self.snapshot(cluster)?;
        Ok(self.driver(&snapshot)?.joins_by_secrets())
    }

    /// For which purposes a node of the cluster may have a certificate.
    pub fn purposes(
        &self,
        cluster: ClusterId,
        is_master: bool,
    ) -> Result<Vec<String>, RequestError> {
        let snapshot = self.snapshot(cluster)?;
        Ok(self.driver(&snapshot)?.purposes(is_master).to_vec())
    }

    /// Names and addresses by which a master's API is called, beside the node's own.
    pub async fn api_names(
        &self,
        cluster: ClusterId,
        node: &str,
    ) -> Result<Vec<String>, RequestError> {
        let snapshot = self.snapshot(cluster)?;
        let (plan, node) = self.node_plan(&snapshot, node).await?;
        Ok(self.driver(&snapshot)?.api_names(&plan, &node)?)
    }

    /// What a booting node fetches; [`RequestError::Unavailable`] while addresses are not known yet.
    pub async fn node_files(
        &self,
        cluster: ClusterId,
        node: &str,
    ) -> Result<Vec<BundleFile>, RequestError> {
        let snapshot = self.snapshot(cluster)?;
        let (plan, node) = self.node_plan(&snapshot, node).await?;
        let driver = self.driver(&snapshot)?;
        Ok(driver.node_files(&plan, &node)?)
    }

    /// The plan of the stack that holds a node, and the node's own.
    pub(super) async fn node_plan(
        &self,
        snapshot: &ClusterSnapshot,
        node: &str,
    ) -> Result<(ClusterPlan, NodePlan), RequestError> {
        let facts = self.addresses(snapshot).await?;
        let (masters, _) = snapshot.counts();
        let stack = snapshot.cluster.stack_name();
        let master_index = (0..masters).find(|i| name::master_node(&stack, *i) == node);
        let group = snapshot.groups.iter().find(|g| {
            let prefix = name::worker_node_prefix(&g.stack_name(&snapshot.cluster));
            !g.is_default && node.starts_with(&prefix)
        });
        let (settings, key) = (&self.inner.settings, &self.inner.enrolment);
        let plan = match group {
            Some(group) => snapshot.plan_of(group, settings, key),
            None => snapshot.plan(settings, key),
        };
        let mut plan = plan.ok_or_else(|| RequestError::Conflict(snapshot.cannot_plan()))?;
        if self.driver(snapshot)?.wants_trust() {
            let entrusted = snapshot.entrusted(&self.inner.store);
            plan.trust = entrusted.map_err(|e| RequestError::Internal(e.to_string()))?;
        }
        let host = facts.api_internal.clone().or_else(|| facts.master_addresses.first().cloned());
        let node = NodePlan {
            name: node.to_owned(),
            master_index,
            master_addresses: facts.master_addresses,
            api_public: facts.api_public,
            api_endpoint: format!("https://{}:6443", host.unwrap_or_default()),
            rejoins: !snapshot
                .operation
                .as_ref()
                .is_some_and(|o| matches!(o.kind, OperationKind::Create(_))),
            certificates: self.certificates(snapshot.id(), master_index.is_some())?,
        };
        Ok((plan, node))
    }

    /// The facts with the masters' addresses in them; remembered once Heat knows them all.
    async fn addresses(&self, snapshot: &ClusterSnapshot) -> Result<CloudFacts, RequestError> {
        let facts = snapshot
            .facts
            .as_ref()
            .ok_or_else(|| RequestError::Internal("the cluster's facts are lost".into()))?;
        if !facts.master_addresses.is_empty() {
            return Ok(facts.record.clone());
        }
        let later =
            || RequestError::Unavailable("The masters' addresses are not known yet.".into());
        let shown = self.look(snapshot, true).await?.ok_or_else(later)?;
        let plan = snapshot
            .plan(&self.inner.settings, &self.inner.enrolment)
            .ok_or_else(|| RequestError::Conflict(snapshot.cannot_plan()))?;
        let outcome = self.driver(snapshot)?.outcome(&plan, &shown);
        let mut known = facts.record.clone();
        known.master_addresses = outcome.master_private.ok_or_else(later)?;
        if snapshot.cluster.master_lb_enabled {
            known.api_internal = Some(outcome.api_internal.ok_or_else(later)?);
        }
        // The API's certificate is made with the first bundle and must name these too.
        known.api_public = outcome.api_public.ok_or_else(later)?;
        match self.inner.store.commit(Change::new().expect(facts).put(&known)).await {
            // Another node asked at the same time and was told the same.
            Ok(()) | Err(crate::store::StoreError::Conflict) => Ok(known),
            Err(e) => Err(e.into()),
        }
    }
}

/// From which image an upgrade that is on its way has a node's server rebuilt.
fn image_to_come(snapshot: &ClusterSnapshot, node: &str) -> Option<String> {
    let OperationKind::Upgrade(upgrade) = &snapshot.operation.as_ref()?.kind else { return None };
    let ordered = snapshot.group(upgrade.nodegroup)?;
    let stack = snapshot.cluster.stack_name();
    let master = (0..snapshot.counts().0).find(|i| name::master_node(&stack, *i) == node);
    let index = |group: &NodeGroup| {
        let prefix = name::worker_node_prefix(&group.stack_name(&snapshot.cluster));
        node.strip_prefix(&prefix)?.parse::<u32>().ok()
    };
    let group = snapshot.groups.iter().find(|g| match master {
        Some(_) => g.is_master(),
        None => !g.is_master() && index(g).is_some(),
    })?;
    if group.id != ordered.id && !(group.is_default && ordered.is_default) {
        return None;
    }
    let behind = snapshot.rollout(group)?;
    let own = match master {
        Some(index) => behind.masters.get(&index),
        None => behind.workers.get(&index(group)?),
    };
    own.map(String::as_str).or_else(|| snapshot.image_of(group)).map(str::to_owned)
}
