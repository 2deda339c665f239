//! What nodes ask of us while they boot.

use super::moment::Moment;
use super::{Conductor, Refusal};
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
    ) -> Result<bool, Refusal> {
        let moment = self.moment(cluster)?;
        let Some(wanted) = image_to_come(&moment, name) else { return Ok(true) };
        let actor = self.reader(&moment).await?;
        let present = self.inner.cloud.image_of_server(&actor, instance).await?;
        Ok(present.is_none_or(|present| present == wanted))
    }

    /// The private addresses of the masters by index, asked of Heat until they are known.
    pub async fn master_addresses(&self, cluster: ClusterId) -> Result<Vec<String>, Refusal> {
        let moment = self.moment(cluster)?;
        Ok(self.addresses(&moment).await?.master_addresses)
    }

    /// Whether nodes join with secrets that the first master hands over to us.
    pub fn joins_by_secrets(&self, cluster: ClusterId) -> Result<bool, Refusal> {
        let moment = self.moment(cluster)?;
        Ok(self.driver(&moment)?.joins_by_secrets())
    }

    /// For which purposes a node of the cluster may have a certificate.
    pub fn purposes(&self, cluster: ClusterId, is_master: bool) -> Result<Vec<String>, Refusal> {
        let moment = self.moment(cluster)?;
        Ok(self.driver(&moment)?.purposes(is_master).to_vec())
    }

    /// Names and addresses by which a master's API is called, beside the node's own.
    pub async fn api_names(&self, cluster: ClusterId, node: &str) -> Result<Vec<String>, Refusal> {
        let moment = self.moment(cluster)?;
        let (plan, node) = self.node_plan(&moment, node).await?;
        Ok(self.driver(&moment)?.api_names(&plan, &node)?)
    }

    /// What a booting node fetches; [`Refusal::Unavailable`] while addresses are not known yet.
    pub async fn node_files(
        &self,
        cluster: ClusterId,
        node: &str,
    ) -> Result<Vec<BundleFile>, Refusal> {
        let moment = self.moment(cluster)?;
        let (plan, node) = self.node_plan(&moment, node).await?;
        let driver = self.driver(&moment)?;
        Ok(driver.node_files(&plan, &node)?)
    }

    /// The plan of the stack that holds a node, and the node's own.
    pub(super) async fn node_plan(
        &self,
        moment: &Moment,
        node: &str,
    ) -> Result<(ClusterPlan, NodePlan), Refusal> {
        let facts = self.addresses(moment).await?;
        let (masters, _) = moment.counts();
        let stack = moment.cluster.stack_name();
        let master_index = (0..masters).find(|i| name::master_node(&stack, *i) == node);
        let group = moment.groups.iter().find(|g| {
            let prefix = name::worker_node_prefix(&g.stack_name(&moment.cluster));
            !g.is_default && node.starts_with(&prefix)
        });
        let (settings, key) = (&self.inner.settings, &self.inner.enrolment);
        let plan = match group {
            Some(group) => moment.plan_of(group, settings, key),
            None => moment.plan(settings, key),
        };
        let mut plan = plan.ok_or_else(|| Refusal::Conflict(moment.cannot_plan()))?;
        if self.driver(moment)?.wants_trust() {
            let entrusted = moment.entrusted(&self.inner.store);
            plan.trust = entrusted.map_err(|e| Refusal::Internal(e.to_string()))?;
        }
        let host = facts.api_internal.clone().or_else(|| facts.master_addresses.first().cloned());
        let node = NodePlan {
            name: node.to_owned(),
            master_index,
            master_addresses: facts.master_addresses,
            api_public: facts.api_public,
            api_endpoint: format!("https://{}:6443", host.unwrap_or_default()),
            rejoins: !moment
                .operation
                .as_ref()
                .is_some_and(|o| matches!(o.kind, OperationKind::Create(_))),
            certificates: self.certificates(moment.id(), master_index.is_some())?,
        };
        Ok((plan, node))
    }

    /// The facts with the masters' addresses in them; remembered once Heat knows them all.
    async fn addresses(&self, moment: &Moment) -> Result<CloudFacts, Refusal> {
        let facts = moment
            .facts
            .as_ref()
            .ok_or_else(|| Refusal::Internal("the cluster's facts are lost".into()))?;
        if !facts.master_addresses.is_empty() {
            return Ok(facts.record.clone());
        }
        let later = || Refusal::Unavailable("The masters' addresses are not known yet.".into());
        let shown = self.look(moment, true).await?.ok_or_else(later)?;
        let plan = moment
            .plan(&self.inner.settings, &self.inner.enrolment)
            .ok_or_else(|| Refusal::Conflict(moment.cannot_plan()))?;
        let outcome = self.driver(moment)?.outcome(&plan, &shown);
        let mut known = facts.record.clone();
        known.master_addresses = outcome.master_private.ok_or_else(later)?;
        if moment.cluster.master_lb_enabled {
            known.api_internal = Some(outcome.api_internal.ok_or_else(later)?);
        }
        // The API's certificate is made with the first bundle and must name these too.
        known.api_public = outcome.api_public.ok_or_else(later)?;
        match self.inner.store.commit(Change::new().expect(facts).put(&known)).await {
            // Another node asked at the same time and was told the same.
            Ok(()) | Err(crate::store::StoreError::Stale) => Ok(known),
            Err(e) => Err(e.into()),
        }
    }
}

/// From which image an upgrade that is on its way has a node's server rebuilt.
fn image_to_come(moment: &Moment, node: &str) -> Option<String> {
    let OperationKind::Upgrade(upgrade) = &moment.operation.as_ref()?.kind else { return None };
    let ordered = moment.group(upgrade.nodegroup)?;
    let stack = moment.cluster.stack_name();
    let master = (0..moment.counts().0).find(|i| name::master_node(&stack, *i) == node);
    let index = |group: &NodeGroup| {
        let prefix = name::worker_node_prefix(&group.stack_name(&moment.cluster));
        node.strip_prefix(&prefix)?.parse::<u32>().ok()
    };
    let group = moment.groups.iter().find(|g| match master {
        Some(_) => g.is_master(),
        None => !g.is_master() && index(g).is_some(),
    })?;
    if group.id != ordered.id && !(group.is_default && ordered.is_default) {
        return None;
    }
    let behind = moment.rollout(group)?;
    let own = match master {
        Some(index) => behind.masters.get(&index),
        None => behind.workers.get(&index(group)?),
    };
    own.map(String::as_str).or_else(|| moment.image_of(group)).map(str::to_owned)
}
