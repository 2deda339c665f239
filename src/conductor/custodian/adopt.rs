//! Linking records and stacks again: a record whose stack id is lost or wrong, as after the
//! restore of an older backup, and a stack whose record is gone.
//!
//! What lived only in the state cannot be had back: a cluster without a record has no CA
//! here any more. Its new record can be shown and deleted, and says so.

use serde::{Deserialize, Serialize};
use tracing::info;
use uuid::Uuid;

use super::{Custodian, CustodyError, Spoken};
use crate::base::secret::Secret;
use crate::conductor::decide::change::servers;
use crate::conductor::decide::creation::{StackNext, stack};
use crate::conductor::trustee::is_over;
use crate::driver::Drivers;
use crate::model::cluster::Cluster;
use crate::model::cluster_template::ClusterTemplate;
use crate::model::credential::Credential;
use crate::model::name;
use crate::model::nodegroup::{DEFAULT_MASTER, DEFAULT_WORKER, MASTER, NodeGroup, WORKER};
use crate::model::stack::Stack;
use crate::model::status::Status;
use crate::model::{ClusterId, NodeGroupId, TemplateId};
use crate::openstack::Actor;
use crate::store::{Change, StoreError, Stored};

/// What shall be adopted, and what only the operator can know.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct AdoptOrder {
    pub cluster: Uuid,
    /// The template of a cluster without a record: uuid or name.
    pub template: Option<String>,
    /// Its owner's user id; by default whoever gave the trust.
    pub owner: Option<String>,
    /// Its name; by default what its stack's name tells of it.
    pub name: Option<String>,
}

/// What came of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Adopted {
    /// Whether the record fits the stack now.
    pub done: bool,
    /// What was found and done, and what the operator must do, a sentence each.
    pub report: Vec<String>,
}

impl Adopted {
    fn say(&mut self, sentence: impl Into<String>) {
        self.report.push(sentence.into());
    }
}

/// The output with the addresses of workers.
const MINIONS: &str = "kube_minions";

/// What is left of a cluster whose record is gone.
struct Remnant {
    id: ClusterId,
    project: String,
    /// The trustee's user id.
    trustee: String,
    owner: Option<String>,
    main: Stack,
    /// The stacks of its further groups.
    groups: Vec<Stack>,
}

fn refused<T>(sentence: impl Into<String>) -> Result<T, CustodyError> {
    Err(CustodyError::Refused(sentence.into()))
}

impl Custodian {
    pub async fn adopt(&self, order: &AdoptOrder) -> Result<Adopted, CustodyError> {
        let id = ClusterId::new(order.cluster);
        let mut adopted = Adopted::default();
        let mut tries = 0;
        loop {
            let done = match self.store.read(|view| view.cluster(id))? {
                Some(cluster) => self.link(&cluster, &mut adopted).await,
                None => self.remake(id, order, &mut adopted).await,
            };
            match done {
                // The conductor has looked at it meanwhile; what is done already is found done.
                Err(CustodyError::Store(StoreError::Conflict)) if tries < 5 => tries += 1,
                done => break done?,
            }
        }
        info!(cluster = %id, done = adopted.done, report = ?adopted.report, "adoption");
        Ok(adopted)
    }

    /// The record is there: finds its stacks by their tag and confirms them.
    async fn link(
        &self,
        cluster: &Stored<Cluster>,
        adopted: &mut Adopted,
    ) -> Result<(), CustodyError> {
        let id = cluster.id;
        if let Some(operation) = self.store.read(|view| view.operation_of(id))? {
            return refused(format!(
                "an operation is under way on cluster {id} (step {}): it finds its stack by \
                 itself; start magnumd and look again",
                operation.kind.step_name()
            ));
        }
        let actor = match self.actor_of(id).await {
            Ok(Some(actor)) => actor,
            Ok(None) => self.renew_credential(cluster, adopted).await?,
            Err(CustodyError::Cloud(e)) if is_over(&e) => {
                adopted.say(format!("the trustee on record is not accepted: {e}"));
                self.renew_credential(cluster, adopted).await?
            }
            Err(e) => return Err(e),
        };
        let (own, groups) = self.stacks(id, &actor).await?;
        let found = match stack(id, &own) {
            StackNext::Adopt(found) => found,
            StackNext::Fail(reason) => return refused(reason),
            StackNext::Create => {
                return refused(format!(
                    "no stack in project {} carries the tag {}: if it was deleted, the owner \
                     must delete the cluster",
                    cluster.project_id,
                    name::stack_tag(id)
                ));
            }
        };
        let mut change = Change::new().expect(cluster);
        let mut next = cluster.record.clone();
        let now = self.clock.now();
        match &cluster.stack_id {
            Some(known) if *known == found => adopted.say(format!("stack {found} is on record")),
            known => {
                let was = known.as_deref().unwrap_or("none");
                adopted.say(format!("stack {found} adopted; on record was {was}"));
                next.stack_id = Some(found.clone());
                next.status_reason = Some(format!("Stack {found} adopted."));
                next.updated_at = Some(now);
            }
        }
        for group in self.store.read(|view| view.nodegroups(id))? {
            let tag = name::group_tag(group.id);
            let stack = match group.is_default {
                true => Some(&found),
                false => groups.iter().find(|s| s.tags.contains(&tag)).map(|s| &s.id),
            };
            match stack {
                Some(stack) if group.stack_id.as_ref() == Some(stack) => {}
                Some(stack) => {
                    adopted.say(format!("node group {}: stack {stack} adopted", group.name));
                    let mut next = group.record.clone();
                    next.stack_id = Some(stack.clone());
                    next.updated_at = Some(now);
                    change = change.expect(&group).put(&next);
                }
                None => adopted.say(format!(
                    "node group {}: no stack carries its tag; its owner must delete it",
                    group.name
                )),
            }
        }
        if next != cluster.record {
            change = change.put(&next);
        }
        if !change.is_empty() {
            self.store.commit(change).await?;
        }
        adopted.done = true;
        Ok(())
    }

    /// The cluster's own stacks and those of its further groups, by tag.
    async fn stacks(
        &self,
        id: ClusterId,
        actor: &Actor,
    ) -> Result<(Vec<Stack>, Vec<Stack>), CustodyError> {
        let heat = self.cloud.heat(actor).await?;
        let mut all = Vec::new();
        for (stack, name) in heat.tagged(&name::stack_tag(id)).await? {
            match heat.show(&name, &stack, true).await {
                Ok(stack) => all.push(stack),
                Err(e) if e.is_missing() => {}
                Err(e) => return Err(e.into()),
            }
        }
        Ok(all.into_iter().partition(|s| name::tagged_group(&s.tags).is_none()))
    }

    /// The credential on record is void, as after a rotation that came after the backup: a
    /// new password, on record before Keystone knows it, and the trust that there is.
    async fn renew_credential(
        &self,
        cluster: &Stored<Cluster>,
        adopted: &mut Adopted,
    ) -> Result<Actor, CustodyError> {
        let id = cluster.id;
        let trustee_name = name::trustee_name(id, &cluster.project_id);
        let Some(user) = self.cloud.keystone().trustee_named(&trustee_name).await? else {
            return refused(format!(
                "trustee {trustee_name} is not in the trustee domain, so nothing can act for \
                 cluster {id}: its owner must delete it and make it anew"
            ));
        };
        let (mut credential, password) = self.credential(id, &cluster.project_id, &user);
        let mut next = cluster.record.clone();
        next.trustee_user_id = Some(user.clone());
        let change = Change::new().expect(cluster).put(&next).put(&credential);
        self.store.commit(change).await?;
        let spoken = self.speak_as(&user, password).await?;
        adopted.say(format!("trustee {trustee_name} has a new password"));
        let (trust, actor) = self.usable_trust(&spoken, &cluster.project_id).await?;
        adopted.say(format!("trust {trust} is used"));
        credential.trust_id = Some(trust);
        self.store.commit(Change::new().put(&credential)).await?;
        Ok(actor)
    }

    fn credential(&self, id: ClusterId, project: &str, user: &str) -> (Credential, Secret<String>) {
        let password = Secret::new(self.entropy.password());
        let owner = Credential::owner(id);
        let credential = Credential {
            cluster_id: id,
            trustee_name: name::trustee_name(id, project),
            trustee_password: self.store.sealer().seal(&owner, password.expose().as_bytes()),
            trustee_user_id: Some(user.to_owned()),
            trust_id: None,
            next_password: None,
            next_trust: None,
            former_trust: None,
        };
        (credential, password)
    }

    async fn usable_trust(
        &self,
        spoken: &Spoken,
        project: &str,
    ) -> Result<(String, Actor), CustodyError> {
        for trust in spoken.trusts.iter().filter(|t| t.project_id == project) {
            match self.through(spoken, &trust.id).await {
                Ok(actor) => return Ok((trust.id.clone(), actor)),
                Err(e) if is_over(&e) => {}
                Err(e) => return Err(e.into()),
            }
        }
        refused(format!(
            "no trust for project {project} is left to the trustee, so its stack can neither be \
             seen nor deleted by magnumd: a member of the project must delete the stack"
        ))
    }

    /// There is no record: reports what is there, and makes one when told of which template.
    async fn remake(
        &self,
        id: ClusterId,
        order: &AdoptOrder,
        adopted: &mut Adopted,
    ) -> Result<(), CustodyError> {
        let (trustees, _) = self.cloud.keystone().trustees().await?;
        let found = trustees.iter().find_map(|trustee| {
            let (cluster, project) = name::trustee_of(&trustee.name)?;
            (cluster == id).then(|| (trustee.id.clone(), project.to_owned()))
        });
        let Some((user, project)) = found else {
            return refused(format!(
                "cluster {id} has no record, and no trustee {id}_PROJECT is in the trustee \
                 domain: nothing can be adopted; a member of its project must delete its stack"
            ));
        };
        adopted.say(format!("cluster {id} of project {project} has no record, but a trustee"));
        let Some(template) = &order.template else {
            adopted.say(
                "its CA, its keys and its template are lost: they live in the state only; restore \
                 a backup that has the cluster, if there is one",
            );
            adopted.say(
                "otherwise give --template (and --owner, unless whoever gave the trust shall own \
                 it) for a record that can be shown and deleted; or delete all of it with: \
                 magnumd orphans clean",
            );
            return Ok(());
        };
        let template = self.template(template)?;
        // Nobody has the old password: it was lost with the record, so there is nothing to
        // break, and a second try draws another.
        let (mut credential, password) = self.credential(id, &project, &user);
        let spoken = self.speak_as(&user, password).await?;
        let (trust, actor) = self.usable_trust(&spoken, &project).await?;
        let trustor = spoken.trusts.iter().find(|t| t.id == trust);
        let owner = order.owner.clone().or(trustor.map(|t| t.trustor_user_id.clone()));
        credential.trust_id = Some(trust);
        let (own, groups) = self.stacks(id, &actor).await?;
        let main = match stack(id, &own) {
            StackNext::Adopt(found) => own.into_iter().find(|s| s.id == found),
            StackNext::Fail(reason) => return refused(reason),
            StackNext::Create => None,
        };
        let Some(main) = main else {
            return refused(format!(
                "no stack in project {project} carries the tag {}; magnumd orphans clean \
                 deletes the trustee",
                name::stack_tag(id)
            ));
        };
        let remnant = Remnant { id, project, trustee: user, owner, main, groups };
        let cluster = self.cluster(&remnant, order, &template)?;
        let mut change = Change::new().expect_absent(&cluster).put(&cluster).put(&credential);
        for group in self.groups(&cluster, &remnant) {
            change = change.put(&group);
        }
        self.store.commit(change).await?;
        adopted.done = true;
        adopted.say(format!("record made for stack {}: cluster {}", remnant.main.id, cluster.name));
        adopted.say(
            "it can be shown and deleted; its CA and keys are lost, so no certificate can be \
             signed, no node can join, and it cannot be resized",
        );
        adopted.say("its owner should move what runs there to a new cluster and delete this one");
        Ok(())
    }

    fn template(&self, wanted: &str) -> Result<ClusterTemplate, CustodyError> {
        let by_id = Uuid::parse_str(wanted).ok().map(TemplateId::new);
        let found = self.store.read(|view| match by_id {
            Some(id) => Ok(view.template(id)?.into_iter().collect()),
            None => view.templates_named(wanted),
        })?;
        match <[_; 1]>::try_from(found) {
            Ok([template]) => Ok(template.record),
            Err(found) if found.is_empty() => {
                refused(format!("--template {wanted}: there is no such template"))
            }
            Err(_) => {
                refused(format!("--template {wanted}: several have that name; give the uuid"))
            }
        }
    }

    fn cluster(
        &self,
        remnant: &Remnant,
        order: &AdoptOrder,
        template: &ClusterTemplate,
    ) -> Result<Cluster, CustodyError> {
        let Remnant { id, project, trustee, owner, main, .. } = remnant;
        let id = *id;
        let derived = main.name.strip_suffix(&format!("-{}", id.short()));
        let name = order.name.as_deref().or(derived).unwrap_or_default().to_owned();
        if !name::is_cluster_name(&name) {
            return refused(format!("'{name}' is no name for a cluster; give one with --name"));
        }
        let Some(user_id) = owner.clone() else {
            return refused("nobody is known as its owner; give a user id with --owner");
        };
        // It decides nothing any more: such a cluster can only be shown and deleted.
        let (distro, wanted) = (template.cluster_distro.as_deref(), template.driver.as_deref());
        let driver = Drivers::builtin(&[])
            .select(wanted, None, template.server_type, distro.unwrap_or_default(), template.coe)
            .map_or_else(|_| wanted.unwrap_or_default().to_owned(), |d| d.name().to_owned());
        let now = self.clock.now();
        Ok(Cluster {
            id,
            sequence: self.store.next_sequence(),
            project_id: project.clone(),
            user_id,
            name,
            template_id: template.id,
            keypair: template.keypair_id.clone(),
            docker_volume_size: template.docker_volume_size,
            labels: template.labels.clone(),
            master_flavor_id: template.master_flavor_id.clone(),
            flavor_id: template.flavor_id.clone(),
            fixed_network: template.fixed_network.clone(),
            fixed_subnet: template.fixed_subnet.clone(),
            floating_ip_enabled: template.floating_ip_enabled,
            master_lb_enabled: template.master_lb_enabled,
            create_timeout: 0,
            discovery_url: None,
            api_address: main.text("api_address").map(|address| format!("https://{address}:6443")),
            coe_version: None,
            container_version: None,
            stack_id: Some(main.id.clone()),
            status: Status::AdoptComplete,
            status_reason: Some(
                "Adopted from its Heat stack: its CA and keys are lost, so it can only be shown \
                 and deleted."
                    .to_owned(),
            ),
            health_status: None,
            health_status_reason: Default::default(),
            driver,
            trustee_user_id: Some(trustee.clone()),
            created_at: now,
            updated_at: Some(now),
        })
    }

    fn groups(&self, cluster: &Cluster, remnant: &Remnant) -> Vec<NodeGroup> {
        let main = &remnant.main;
        let workers = |stack: &Stack| servers(stack).map_or(0, |servers| servers.len());
        let masters = (main.list("kube_masters_private").len(), main.list("kube_masters"));
        let mut groups = vec![
            self.group(cluster, main, DEFAULT_MASTER, MASTER, masters),
            self.group(cluster, main, DEFAULT_WORKER, WORKER, (workers(main), main.list(MINIONS))),
        ];
        for stack in &remnant.groups {
            let Some(id) = name::tagged_group(&stack.tags) else { continue };
            // The stack has up to nine characters of the group's name, before the id.
            let known = stack.name.strip_suffix(&format!("-{}", id.short()));
            let name = known.unwrap_or(&stack.name).rsplit('-').next().unwrap_or_default();
            let nodes = (workers(stack), stack.list(MINIONS));
            let group = self.group(cluster, stack, name, WORKER, nodes);
            groups.push(NodeGroup { id, is_default: false, ..group });
        }
        groups
    }

    fn group(
        &self,
        cluster: &Cluster,
        stack: &Stack,
        name: &str,
        role: &str,
        (node_count, node_addresses): (usize, Vec<String>),
    ) -> NodeGroup {
        NodeGroup {
            id: NodeGroupId::new(self.entropy.record_id(cluster.created_at)),
            sequence: self.store.next_sequence(),
            cluster_id: cluster.id,
            project_id: cluster.project_id.clone(),
            name: name.to_owned(),
            role: role.to_owned(),
            flavor_id: match role {
                MASTER => cluster.master_flavor_id.clone(),
                _ => cluster.flavor_id.clone(),
            },
            image_id: None,
            image: None,
            node_count: u32::try_from(node_count).unwrap_or(u32::MAX),
            min_node_count: 0,
            max_node_count: None,
            docker_volume_size: cluster.docker_volume_size,
            labels: cluster.labels.clone(),
            is_default: true,
            stack_id: Some(stack.id.clone()),
            status: Status::AdoptComplete,
            status_reason: cluster.status_reason.clone(),
            node_addresses,
            version: None,
            node_labels: Default::default(),
            node_taints: Vec::new(),
            created_at: cluster.created_at,
            updated_at: cluster.updated_at,
        }
    }
}
