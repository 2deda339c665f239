//! Deleting orphans, cluster by cluster: load balancers, stacks, trusts, and last the trustee,
//! by which all the rest is reached. Nothing there is success, so it can be repeated.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tracing::info;

use super::orphans::{Orphan, OrphanKind, OrphanWish, Scene, decide};
use super::{Custodian, CustodyError, Spoken};
use crate::base::secret::Secret;
use crate::conductor::trustee::is_over;
use crate::model::ClusterId;
use crate::model::name::{tagged_cluster, tagged_group};
use crate::openstack::{Actor, Balancer, CloudError, ListedStack, Projects};

/// What came of one cluster's orphans.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cleaned {
    pub cluster: String,
    /// What was done and what stopped it, a sentence each.
    pub report: Vec<String>,
    /// Whether nothing of it is left.
    pub done: bool,
}

/// How long a stack may take to go before we come back another time.
const PATIENCE: Duration = Duration::from_secs(300);
const LOOK: Duration = Duration::from_secs(2);

/// Stops the cleaning of one cluster.
enum Halt {
    Kept(String),
    Failed(CustodyError),
}

impl<E: Into<CustodyError>> From<E> for Halt {
    fn from(e: E) -> Self {
        Self::Failed(e.into())
    }
}

impl Custodian {
    /// Deletes what is to be deleted of a plan, as far as it still is at this moment.
    pub async fn clean(
        &self,
        wish: &OrphanWish,
        plan: &[Orphan],
    ) -> Result<Vec<Cleaned>, CustodyError> {
        let wanted: BTreeSet<&str> =
            plan.iter().filter(|o| o.kept.is_none()).map(|o| o.cluster.as_str()).collect();
        let grace = wish.grace();
        let scene = self.look().await?;
        let mut clusters: BTreeMap<ClusterId, Vec<Orphan>> = BTreeMap::new();
        for orphan in decide(&scene, &self.known()?, wish, self.clock.now()) {
            let id = uuid::Uuid::parse_str(&orphan.cluster).map(ClusterId::new);
            if let (Ok(id), None, true) =
                (id, &orphan.kept, wanted.contains(orphan.cluster.as_str()))
            {
                clusters.entry(id).or_default().push(orphan);
            }
        }
        let mut cleaned = Vec::new();
        for (id, orphans) in clusters {
            let mut report = Vec::new();
            let outcome = self.clean_cluster(id, &orphans, &scene, grace, &mut report).await;
            let done = outcome.is_ok();
            match outcome {
                Ok(()) => {}
                Err(Halt::Kept(why)) => report.push(why),
                Err(Halt::Failed(e)) => report.push(format!("stopped: {e}; run it again")),
            }
            info!(cluster = %id, ?report, done, "orphans cleaned");
            cleaned.push(Cleaned { cluster: id.to_string(), report, done });
        }
        Ok(cleaned)
    }

    async fn clean_cluster(
        &self,
        id: ClusterId,
        orphans: &[Orphan],
        scene: &Scene,
        grace: Duration,
        report: &mut Vec<String>,
    ) -> Result<(), Halt> {
        let of = |kind| orphans.iter().filter(move |o| o.kind == kind);
        let balancers = of(OrphanKind::LoadBalancer).map(|o| o.id.as_str()).collect();
        self.delete_balancers(id, balancers, report).await?;
        let Some(trustee) = of(OrphanKind::Trustee).next() else { return Ok(()) };
        self.still_nobodys(id)?;
        let password = Secret::new(self.entropy.password());
        let spoken = self.speak_as(&trustee.id, password).await?;
        let mut reached = false;
        for trust in &spoken.trusts {
            match self.through(&spoken, &trust.id).await {
                Ok(actor) => {
                    self.clean_stacks(id, &actor, grace, report).await?;
                    reached = true;
                }
                Err(e) if is_over(&e) => report.push(format!("trust {} is void: {e}", trust.id)),
                Err(e) => return Err(e.into()),
            }
        }
        if !reached && of(OrphanKind::Stack).next().is_some() {
            let all = scene.stacks.iter().filter(|s| tagged_cluster(&s.listed.tags) == Some(id));
            match all.clone().all(|s| s.through.is_none()) {
                // The service account saw it, so it may try.
                true => {
                    let service = Actor::from(&*self.cloud.keystone().service().await?);
                    let stacks = all.map(|s| s.listed.clone()).collect();
                    self.delete_stacks(id, &service, stacks, report).await?;
                }
                false => {
                    return Err(Halt::Kept(
                        "its trust is void: a member of its project must delete its stack".into(),
                    ));
                }
            }
        }
        self.still_nobodys(id)?;
        self.end_trusts(&spoken, report).await?;
        gone(self.cloud.keystone().delete_trustee(&trustee.id).await)?;
        report.push(format!("trustee {} deleted", trustee.name));
        Ok(())
    }

    /// Waits until they are gone, because their ports hold on to the cluster's network.
    async fn delete_balancers(
        &self,
        id: ClusterId,
        mut balancers: BTreeSet<&str>,
        report: &mut Vec<String>,
    ) -> Result<(), Halt> {
        if balancers.is_empty() {
            return Ok(());
        }
        let service = Actor::from(&*self.cloud.keystone().service().await?);
        for balancer in &balancers {
            self.still_nobodys(id)?;
            match gone(self.cloud.delete_balancer(&service, balancer).await) {
                // It changes, or is on its way out already: seen below.
                Err(e) if e.is_conflict() => {}
                deleted => deleted?,
            }
        }
        let until = self.clock.now().plus(PATIENCE);
        loop {
            match self.cloud.balancers(&service).await {
                Ok(mut there) => {
                    // Octavia remembers those for a while, and may be set up to show them.
                    there.retain(|b| b.status != "DELETED");
                    let is_there = |id: &str| there.iter().any(|b| b.id == id);
                    let deleted = balancers.iter().filter(|id| !is_there(id));
                    report.extend(deleted.map(|id| format!("load balancer {id} deleted")));
                    balancers.retain(|id| is_there(id));
                    let stuck = |b: &&Balancer| {
                        balancers.contains(b.id.as_str()) && b.status != "PENDING_DELETE"
                    };
                    if let Some(stuck) = there.iter().find(stuck) {
                        return Err(Halt::Kept(format!(
                            "load balancer {} cannot be deleted while it is {}: run it again, or \
                             see Octavia's log",
                            stuck.id, stuck.status
                        )));
                    }
                }
                Err(e) if e.is_passing() => {}
                Err(e) => return Err(e.into()),
            }
            let Some(left) = balancers.first() else { return Ok(()) };
            if self.clock.now() >= until {
                return Err(Halt::Kept(format!(
                    "load balancer {left} is still there after {} s",
                    PATIENCE.as_secs()
                )));
            }
            self.clock.sleep(LOOK).await;
        }
    }

    async fn end_trusts(&self, spoken: &Spoken, report: &mut Vec<String>) -> Result<(), Halt> {
        for trust in &spoken.trusts {
            match self.through(spoken, &trust.id).await {
                Ok(holder) => {
                    gone(self.cloud.keystone().delete_trust(&holder.token, &trust.id).await)?;
                    report.push(format!("trust {} deleted", trust.id));
                }
                // It ends with its trustee.
                Err(e) if is_over(&e) => {}
                Err(e) => return Err(e.into()),
            }
        }
        Ok(())
    }

    async fn clean_stacks(
        &self,
        id: ClusterId,
        actor: &Actor,
        grace: Duration,
        report: &mut Vec<String>,
    ) -> Result<(), Halt> {
        let listed = self.cloud.heat(actor).await?.all(Projects::Own).await?;
        let ours: Vec<ListedStack> =
            listed.into_iter().filter(|s| tagged_cluster(&s.tags) == Some(id)).collect();
        let now = self.clock.now();
        if ours.iter().any(|s| s.created_at.is_some_and(|at| now.since(at) < grace)) {
            let grace = grace.as_secs();
            return Err(Halt::Kept(format!("left alone: its stack is younger than {grace} s")));
        }
        self.delete_stacks(id, actor, ours, report).await
    }

    /// Those of node groups first, because they use the cluster's network.
    async fn delete_stacks(
        &self,
        id: ClusterId,
        actor: &Actor,
        stacks: Vec<ListedStack>,
        report: &mut Vec<String>,
    ) -> Result<(), Halt> {
        let (groups, own): (Vec<_>, Vec<_>) =
            stacks.into_iter().partition(|s| tagged_group(&s.tags).is_some());
        for stacks in [groups, own] {
            for stack in &stacks {
                self.still_nobodys(id)?;
                let heat = self.cloud.heat(actor).await?;
                let shown = match heat.show(&stack.name, &stack.id, false).await {
                    Err(e) if e.is_missing() => continue,
                    shown => shown?,
                };
                let parameter = shown.parameters.get("cluster_uuid").and_then(|v| v.as_str());
                if parameter != Some(&id.to_string()) {
                    return Err(Halt::Kept(format!(
                        "left alone: stack {} carries the tag but was not made for the cluster",
                        stack.id
                    )));
                }
                gone(heat.delete(&stack.name, &stack.id).await)?;
            }
            for stack in &stacks {
                self.until_gone(actor, stack).await?;
                report.push(format!("stack {} ({}) deleted", stack.id, stack.name));
            }
        }
        Ok(())
    }

    async fn until_gone(&self, actor: &Actor, stack: &ListedStack) -> Result<(), Halt> {
        let until = self.clock.now().plus(PATIENCE);
        let heat = self.cloud.heat(actor).await?;
        loop {
            match heat.show(&stack.name, &stack.id, false).await {
                Err(e) if e.is_missing() => return Ok(()),
                Ok(shown) if shown.is_gone() => return Ok(()),
                Ok(shown) if shown.status.cannot_go() => {
                    return Err(Halt::Kept(format!(
                        "stack {} cannot be deleted: {}",
                        stack.id, shown.status_reason
                    )));
                }
                Ok(_) => {}
                Err(e) if e.is_passing() => {}
                Err(e) => return Err(e.into()),
            }
            if self.clock.now() >= until {
                return Err(Halt::Kept(format!(
                    "stack {} is still being deleted; run it again later",
                    stack.id
                )));
            }
            self.clock.sleep(LOOK).await;
        }
    }

    /// Asked before every act: a record may have come back by a restore or an adoption.
    fn still_nobodys(&self, id: ClusterId) -> Result<(), Halt> {
        match self.store.read(|view| view.cluster(id))? {
            None => Ok(()),
            Some(_) => Err(Halt::Kept("left alone: it has a record now".to_owned())),
        }
    }
}

/// Not being there is what was wanted.
fn gone(answer: Result<(), CloudError>) -> Result<(), CloudError> {
    match answer {
        Err(e) if e.is_missing() => Ok(()),
        answer => answer,
    }
}
