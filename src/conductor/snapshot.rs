//! What a run knows of its cluster at one moment, and what can be derived from it.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::base::secret::{CannotOpen, Secret};
use crate::driver::plan::{ClusterPlan, Enrolment, NodeFlavors, NodeImages, Trust};
use crate::model::certificate::NextCertificate;
use crate::model::cluster::Cluster;
use crate::model::cluster_template::ClusterTemplate;
use crate::model::credential::Credential;
use crate::model::discovery::DiscoveryToken;
use crate::model::driver::ClusterDriver;
use crate::model::duty::Duty;
use crate::model::facts::{CloudFacts, ClusterNetwork};
use crate::model::name;
use crate::model::node::Node;
use crate::model::node_key::NodeKey;
use crate::model::node_wait::NodeWait;
use crate::model::nodegroup::{DEFAULT_MASTER, NodeGroup, counts};
use crate::model::operation::Operation;
use crate::model::rollout::Rollout;
use crate::model::stack::{Stack, StackAction};
use crate::model::stack_revision::StackRevision;
use crate::model::{ClusterId, NodeGroupId, Sequence};
use crate::pki::enrolment::{Enrolment as EnrolmentClaim, EnrolmentKey};
use crate::store::{Change, MOST_WRITES, Store, StoreError, Stored};

use super::Settings;
use super::decide::change::{departed, servers, upcoming};

/// Everything stored about one cluster, read together.
#[derive(Debug)]
pub struct ClusterSnapshot {
    pub cluster: Stored<Cluster>,
    pub template: Option<Stored<ClusterTemplate>>,
    pub groups: Vec<Stored<NodeGroup>>,
    /// The operation at work.
    pub operation: Option<Stored<Operation>>,
    /// Those that wait behind it.
    pub queued: Vec<Stored<Operation>>,
    pub credential: Option<Stored<Credential>>,
    pub facts: Option<Stored<CloudFacts>>,
    pub nodes: Vec<Node>,
    pub duties: Vec<Stored<Duty>>,
    /// Discovery tokens; a cluster has one at most.
    pub tokens: Vec<Stored<DiscoveryToken>>,
    /// Since when its nodes are waited for.
    pub node_wait: Option<Stored<NodeWait>>,
    pub stack_revisions: Vec<Stored<StackRevision>>,
    /// Upgrades on their way, and failed ones.
    pub rollouts: Vec<Stored<Rollout>>,
    /// What a rotation has drawn and not put in place yet.
    pub next_certificates: Vec<Stored<NextCertificate>>,
    /// What it is made of; None for one that was made before that was kept.
    pub driver: Option<Stored<ClusterDriver>>,
    /// Whether what it is made of was kept and cannot be read.
    pub driver_is_damaged: bool,
    /// By which the members of its etcd find each other; None where there is none. A cluster whose
    /// own cannot be opened has no plan: nodes would be made anew without it.
    pub discovery_url: Result<Option<String>, CannotOpen>,
}

impl ClusterSnapshot {
    /// None when the cluster is no more.
    pub fn read(store: &Store, id: ClusterId) -> Result<Option<Self>, StoreError> {
        store.read(|view| {
            let Some(cluster) = view.cluster(id)? else { return Ok(None) };
            let mut operations = view.operations_of(id)?.into_iter();
            // Neither a template nor a driver that cannot be read keeps a cluster from being
            // deleted.
            let (driver, driver_is_damaged) = match view.cluster_driver(id) {
                Ok(driver) => (driver, false),
                Err(StoreError::Corrupt(_)) => (None, true),
                Err(e) => return Err(e),
            };
            Ok(Some(Self {
                template: view.template_of(&cluster)?,
                groups: view.nodegroups(id)?,
                operation: operations.next(),
                queued: operations.collect(),
                credential: view.credential(id)?,
                facts: view.facts(id)?,
                nodes: view.nodes(id)?.into_iter().map(|n| n.record).collect(),
                duties: view.duties(id)?,
                tokens: view.discovery_of(id)?,
                node_wait: view.node_wait(id)?,
                stack_revisions: view.stack_revisions(id)?,
                rollouts: view.rollouts(id)?,
                next_certificates: view.next_certificates(id)?,
                driver,
                driver_is_damaged,
                discovery_url: cluster.open_discovery_url(store.sealer()),
                cluster,
            }))
        })
    }

    pub fn id(&self) -> ClusterId {
        self.cluster.id
    }

    /// Why there is no plan: what a plan is made of is not there, or its record is damaged.
    pub fn cannot_plan(&self) -> String {
        match self.template {
            None => format!(
                "Cluster template {} of cluster {} is missing or damaged, and this is made of it. \
                 The cluster can be deleted; an administrator sees what is the matter with magnumd \
                 verify.",
                self.cluster.template_id, self.cluster.name
            ),
            Some(_) => format!("What cluster {} stands on is not on record.", self.cluster.name),
        }
    }

    /// Whether there is a plan of the cluster's own stack, and so of its nodes and their duties.
    pub fn can_plan(&self) -> bool {
        self.template.is_some() && self.facts.is_some()
    }

    /// Masters and workers wanted.
    pub fn counts(&self) -> (u32, u32) {
        counts(self.groups.iter().map(|g| &g.record))
    }

    /// The trustee's password, and its user id once it exists.
    pub fn trustee(&self, store: &Store) -> Result<(Option<&str>, Secret<String>), CannotOpen> {
        let credential = self.credential.as_ref().ok_or(CannotOpen)?;
        let owner = Credential::owner(self.id());
        let password = store.sealer().open_text(&owner, &credential.trustee_password)?;
        Ok((credential.trustee_user_id.as_deref(), password))
    }

    /// With what a server of the cluster may act in OpenStack, once all of it is there.
    pub fn entrusted(&self, store: &Store) -> Result<Option<Trust>, CannotOpen> {
        let (Some(credential), Some(trust)) = (&self.credential, self.trust()) else {
            return Ok(None);
        };
        let (Some(user), password) = self.trustee(store)? else { return Ok(None) };
        Ok(Some(Trust {
            trustee_user_id: user.to_owned(),
            trustee_username: credential.trustee_name.clone(),
            trustee_password: password,
            trust_id: trust.to_owned(),
        }))
    }

    pub fn trust(&self) -> Option<&str> {
        self.credential.as_ref()?.trust_id.as_deref()
    }

    /// The trust that a rotation is about to put on record.
    pub fn next_trust(&self) -> Option<&str> {
        self.credential.as_ref()?.next_trust.as_deref()
    }

    /// The token of the tenant who asked, while it is still needed.
    pub fn tenant_token(&self, store: &Store) -> Option<Secret<String>> {
        let sealed = self.operation.as_ref()?.token.as_ref()?;
        store.sealer().open_text(&Operation::token_owner(self.id()), sealed).ok()
    }

    /// The plan of the cluster's own stack. None when its template or facts are missing,
    /// which only a damaged state file can cause.
    pub fn plan(&self, settings: &Settings, key: &EnrolmentKey) -> Option<ClusterPlan> {
        let groups: Vec<NodeGroup> =
            self.groups.iter().filter(|g| g.is_default).map(|g| self.present(g)).collect();
        let enrolment = enrolment(&self.cluster, &groups, key);
        let own = self.groups.iter().find(|g| g.is_default).and_then(|g| self.rollout(g));
        let masters = own.map(|r| r.masters.clone()).unwrap_or_default();
        let flavors = own.map(|r| r.master_flavors.clone()).unwrap_or_default();
        Some(ClusterPlan {
            foundation: None,
            revision: String::new(),
            removals: Vec::new(),
            images: NodeImages { masters, ..NodeImages::default() },
            flavors: NodeFlavors { masters: flavors, ..NodeFlavors::default() },
            trust: None,
            inlined: None,
            discovery_url: self.discovery_url.clone().ok()?,
            cluster: self.cluster.record.clone(),
            template: self.template.as_ref()?.record.clone(),
            groups,
            facts: self.facts.as_ref()?.record.clone(),
            settings: settings.driver.clone(),
            enrolment,
        })
    }

    /// All operations, the one at work first.
    pub fn operations(&self) -> impl Iterator<Item = &Stored<Operation>> {
        self.operation.iter().chain(&self.queued)
    }

    pub fn group(&self, id: NodeGroupId) -> Option<&Stored<NodeGroup>> {
        self.groups.iter().find(|g| g.id == id)
    }

    /// The plan of the stack that holds a group: the cluster's own for a default group. None
    /// too where the foundation of a further group's stack is not known yet.
    pub fn plan_of(
        &self,
        group: &NodeGroup,
        settings: &Settings,
        key: &EnrolmentKey,
    ) -> Option<ClusterPlan> {
        if group.is_default {
            return self.plan(settings, key);
        }
        let foundation = self.facts.as_ref()?.foundation.clone()?;
        self.further(&self.present(group), foundation, settings, key)
    }

    /// How many nodes a group has for the operation at work. A resize that waits behind it has
    /// set the count on record already, and names the nodes that shall go then; whoever renders
    /// or waits for nodes before its turn must do so without it.
    pub fn node_count(&self, group: &NodeGroup) -> u32 {
        let resize = self.queued.iter().find_map(|o| o.resize_of(group.id));
        resize.map_or(group.node_count, |resize| resize.before)
    }

    /// A group as the operation at work has to see it.
    fn present(&self, group: &NodeGroup) -> NodeGroup {
        NodeGroup { node_count: self.node_count(group), ..group.clone() }
    }

    /// The plan of a further group's stack.
    pub fn further(
        &self,
        group: &NodeGroup,
        foundation: ClusterNetwork,
        settings: &Settings,
        key: &EnrolmentKey,
    ) -> Option<ClusterPlan> {
        let mut cluster = self.cluster.record.clone();
        // The cluster's labels say how its networks are; a group's own come before them.
        cluster.labels = group.labels.over(&cluster.labels);
        cluster.docker_volume_size = group.docker_volume_size;
        let mut facts = self.facts.as_ref()?.record.clone();
        facts.worker_flavor = group.flavor_id.clone().unwrap_or(facts.worker_flavor);
        if let Some(own) = group.image.as_ref().filter(|own| **own != facts.image_id) {
            facts.image_id.clone_from(own);
            facts.kube_version.clone_from(&group.version);
        }
        let groups = vec![group.clone()];
        let enrolment = enrolment(&self.cluster, &groups, key);
        Some(ClusterPlan {
            cluster,
            template: self.template.as_ref()?.record.clone(),
            groups,
            facts,
            settings: settings.driver.clone(),
            enrolment,
            foundation: Some(foundation),
            revision: String::new(),
            removals: Vec::new(),
            images: NodeImages::default(),
            flavors: NodeFlavors::default(),
            trust: None,
            inlined: None,
            discovery_url: self.discovery_url.clone().ok()?,
        })
    }

    /// Puts on record that this is the last update that one of the cluster's stacks got.
    pub fn with_revision(&self, change: Change, stack: Option<&str>, revision: &str) -> Change {
        let Some(stack) = stack else { return change };
        let revision = revision.to_owned();
        let (cluster_id, stack_id) = (self.id(), stack.to_owned());
        change.put(&StackRevision { cluster_id, stack_id, revision })
    }

    /// Whether Heat has carried out an update, at last, that a later one had followed already.
    pub fn is_taken_back(&self, stack: &Stack) -> bool {
        let own = self.stack_revisions.iter().find(|own| own.stack_id == stack.id);
        let is_over = stack.status.action == StackAction::Update && !stack.is_in_progress();
        let shown = stack.revision().filter(|_| is_over);
        own.zip(shown).is_some_and(|(own, shown)| own.is_behind(shown))
    }

    /// The nodes of a group that have been heard of.
    pub fn nodes_of(&self, group: &NodeGroup) -> Vec<&Node> {
        self.nodes.iter().filter(|n| n.nodegroup == group.name).collect()
    }

    /// The masters that have been heard of, in the order of their index.
    pub fn masters(&self) -> Vec<&Node> {
        let stack = self.cluster.stack_name();
        let (count, _) = self.counts();
        (0..count)
            .filter_map(|i| {
                let own = name::master_node(&stack, i);
                self.nodes.iter().find(|n| n.name == own)
            })
            .collect()
    }

    /// Takes the records of nodes away whose servers are gone, in one change after the other.
    pub fn without_departed(&self, group: &NodeGroup, stack: &Stack) -> Vec<Change> {
        let prefix = name::worker_node_prefix(&group.stack_name(&self.cluster));
        let nodes = self.nodes_of(group);
        let Some(servers) = servers(stack) else { return Vec::new() };
        forget(&departed(&nodes, &prefix, &servers))
    }

    /// Adds the deletion of duties whose operation is over, but for those that are too many for
    /// one change: nobody heeds them, and they go with the next operation.
    pub fn without_stale_duties(&self, change: Change) -> Change {
        let open: BTreeSet<Sequence> = self.queued.iter().map(|o| o.sequence).collect();
        let stale = self.duties.iter().filter(|d| !open.contains(&d.operation));
        stale.take(MOST_WRITES / 2).fold(change, |change, duty| change.delete(&duty.record))
    }

    /// The upgrade of a group, on its way or failed; the default groups share one.
    pub fn rollout(&self, group: &NodeGroup) -> Option<&Stored<Rollout>> {
        let default = |id: NodeGroupId| self.group(id).is_some_and(|g| g.is_default);
        self.rollouts
            .iter()
            .find(|r| r.nodegroup == group.id || (group.is_default && default(r.nodegroup)))
    }

    /// The image of a group's nodes, by id.
    pub fn image_of<'m>(&'m self, group: &'m NodeGroup) -> Option<&'m str> {
        let common = || self.facts.as_ref().map(|facts| facts.image_id.as_str());
        match group.is_default {
            true => common(),
            false => group.image.as_deref().or_else(common),
        }
    }

    /// Tells a plan which images and flavors workers have that an upgrade has not reached, of those
    /// that the group will have once `removals` are gone from `stack`.
    pub fn give_makes(
        &self,
        plan: &mut ClusterPlan,
        group: &NodeGroup,
        stack: &Stack,
        removals: &[String],
    ) {
        let Some(rollout) = self.rollout(group).filter(|r| !r.workers.is_empty()) else { return };
        let image = |i: u32| rollout.workers.get(&i).unwrap_or(&plan.facts.image_id).clone();
        let members = upcoming(stack, self.node_count(group), removals);
        if !rollout.worker_flavors.is_empty() {
            let flavor = |i: u32| {
                rollout.worker_flavors.get(&i).unwrap_or(&plan.facts.worker_flavor).clone()
            };
            plan.flavors.workers = members.iter().map(|i| (*i, flavor(*i))).collect();
        }
        plan.images.workers = members.into_iter().map(|i| (i, image(i))).collect();
    }
}

/// Longer than any cluster lives: what a token opens ends with the cluster, and a node must be
/// able to ask for new certificates however often the authorities were rotated.
const ENROLMENT: Duration = Duration::from_secs(50 * 365 * 86_400);

/// The tokens that servers present when they report: the same for the same cluster, so that
/// a second rendering changes no server.
fn enrolment(cluster: &Cluster, groups: &[NodeGroup], key: &EnrolmentKey) -> Enrolment {
    let stack = cluster.stack_name();
    let claim = |group: &str, role: &str, node: Option<String>| {
        key.mint(&EnrolmentClaim {
            cluster: cluster.id,
            nodegroup: group.to_owned(),
            role: role.to_owned(),
            node,
            expires_at: cluster.created_at.plus(ENROLMENT),
        })
    };
    let (masters, _) = counts(groups);
    Enrolment {
        masters: (0..masters)
            .map(|i| claim(DEFAULT_MASTER, "master", Some(name::master_node(&stack, i))))
            .collect(),
        workers: groups
            .iter()
            .filter(|g| !g.is_master())
            .map(|g| (g.name.clone(), claim(&g.name, "worker", None)))
            .collect(),
    }
}

/// Deletes the records of nodes that are no more, and their keys, in changes that are not too large.
pub(super) fn forget(nodes: &[&Node]) -> Vec<Change> {
    let of_node = |change: Change, node: &&Node| change.delete(*node).delete(&NodeKey::of(node));
    let chunks = nodes.chunks(MOST_WRITES / 4);
    chunks.map(|nodes| nodes.iter().fold(Change::new(), of_node)).collect()
}
