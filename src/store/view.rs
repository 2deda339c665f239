//! Typed reads of one moment.
//!
//! What spans clusters or projects leaves out a record that cannot be read, and remembers it as
//! [`super::Store::damage`]; what is of one cluster, or asked for by name, is an error then:
//! nobody may take a part of a cluster for the whole.

use std::collections::BTreeSet;
use std::ops::Deref;

use redb::ReadTransaction;

use super::StoreError;
use super::damage::Damage;
use super::reading::{behind_cluster, end_of_entry};
use super::record::{KeyringEntry, Record};
use super::table::{self, Key};
use crate::model::certificate::{Certificate, CertificateKind, NextCertificate};
use crate::model::cluster::Cluster;
use crate::model::cluster_template::ClusterTemplate;
use crate::model::credential::Credential;
use crate::model::discovery::DiscoveryToken;
use crate::model::driver::{ClusterDriver, StoredDriver};
use crate::model::duty::Duty;
use crate::model::facts::CloudFacts;
use crate::model::join::JoinSecrets;
use crate::model::node::Node;
use crate::model::node_key::NodeKey;
use crate::model::node_wait::NodeWait;
use crate::model::nodegroup::NodeGroup;
use crate::model::operation::Operation;
use crate::model::quota::Quota;
use crate::model::rollout::Rollout;
use crate::model::service::Service;
use crate::model::stack_revision::StackRevision;
use crate::model::{ClusterId, NodeGroupId, Sequence, TemplateId};

/// A record as it was read, with the revision that [`super::Change::expect`] compares.
#[derive(Clone, Debug, PartialEq)]
pub struct Stored<R> {
    pub record: R,
    pub revision: u64,
    /// Bytes that it takes in the state.
    pub size: usize,
}

impl<R: Record> Stored<R> {
    pub(super) fn key(&self) -> Key {
        self.record.key()
    }
}

impl<R> Deref for Stored<R> {
    type Target = R;

    fn deref(&self) -> &R {
        &self.record
    }
}

/// Whose records a list or a search by name covers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope<'s> {
    Project(&'s str),
    Everyone,
}

/// A part of a list in order of making.
#[derive(Clone, Copy, Debug)]
pub struct Page {
    /// Only what was made after this one (before it, when descending).
    pub after: Option<Sequence>,
    pub limit: usize,
    /// The page ends with the record that brings it to so many bytes.
    pub bytes: usize,
    pub descending: bool,
}

impl Page {
    pub const ALL: Self =
        Self { after: None, limit: usize::MAX, bytes: usize::MAX, descending: false };
}

/// One moment of the state.
pub struct View<'t> {
    pub(super) transaction: &'t ReadTransaction,
    pub(super) damage: &'t Damage,
}

pub(super) type Reads<T> = Result<T, StoreError>;

impl<'t> View<'t> {
    pub(super) const fn new(transaction: &'t ReadTransaction, damage: &'t Damage) -> Self {
        Self { transaction, damage }
    }

    pub fn cluster(&self, id: ClusterId) -> Reads<Option<Stored<Cluster>>> {
        self.get(&Key::new().uuid(id.uuid()))
    }

    pub fn clusters_named(&self, name: &str, scope: Scope<'_>) -> Reads<Vec<Stored<Cluster>>> {
        let name = Key::new().text(name);
        let found: Vec<Stored<Cluster>> = self.page(table::CLUSTER_BY_NAME, &name, Page::ALL)?;
        Ok(found.into_iter().filter(|c| scope.covers(&c.project_id)).collect())
    }

    /// Clusters in order of making.
    pub fn clusters(&self, scope: Scope<'_>, page: Page) -> Reads<Vec<Stored<Cluster>>> {
        let (index, prefix) = match scope {
            Scope::Project(project) => (table::CLUSTER_BY_PROJECT, Key::new().text(project)),
            Scope::Everyone => (table::CLUSTER_BY_SEQUENCE, Key::new()),
        };
        self.page(index, &prefix, page)
    }

    /// Where a list of clusters in order of making goes on behind one that is gone, drawn at
    /// this millisecond: [`Page::after`] for the rest of it.
    pub fn cluster_place(
        &self,
        scope: Scope<'_>,
        drawn: u64,
        descending: bool,
    ) -> Reads<Option<Sequence>> {
        let (index, prefix) = match scope {
            Scope::Project(project) => (table::CLUSTER_BY_PROJECT, Key::new().text(project)),
            Scope::Everyone => (table::CLUSTER_BY_SEQUENCE, Key::new()),
        };
        self.place(index, &prefix, drawn, descending)
    }

    pub fn count_clusters(&self, scope: Scope<'_>) -> Reads<u64> {
        let (index, prefix) = match scope {
            Scope::Project(project) => (table::CLUSTER_BY_PROJECT, Key::new().text(project)),
            Scope::Everyone => (table::CLUSTER_BY_SEQUENCE, Key::new()),
        };
        let mut count = 0;
        self.scan(index, &prefix, |_, _| {
            count += 1;
            Ok(())
        })?;
        Ok(count)
    }

    /// Shows `look` every cluster of the scope, one at a time and in no order.
    pub fn each_cluster(&self, scope: Scope<'_>, mut look: impl FnMut(&Cluster)) -> Reads<()> {
        let Scope::Project(project) = scope else { return self.each(&Key::new(), look) };
        let open = self.open(table::CLUSTER)?;
        self.scan(table::CLUSTER_BY_PROJECT, &Key::new().text(project), |key, _| {
            let index = table::CLUSTER_BY_PROJECT;
            if let Some(cluster) = self.led_to::<Cluster>(&open, index, key)? {
                look(&cluster.record);
            }
            Ok(())
        })
    }

    /// Shows `look` every node group of the scope, one at a time and in no order.
    pub fn each_nodegroup(&self, scope: Scope<'_>, mut look: impl FnMut(&NodeGroup)) -> Reads<()> {
        let Scope::Project(project) = scope else { return self.each(&Key::new(), look) };
        let open = self.open(table::NODEGROUP)?;
        self.scan(table::CLUSTER_BY_PROJECT, &Key::new().text(project), |key, _| {
            let cluster = Key(end_of_entry(key).to_vec());
            self.within(&open, &cluster, |key, value| {
                if let Some(group) = self.readable::<NodeGroup>(key, value) {
                    look(&group.record);
                }
                Ok(())
            })
        })
    }

    /// Clusters whose own record, or that of one of their groups, cannot be read: of these nobody
    /// may say what belongs to them and what does not.
    pub fn unreadable_clusters(&self) -> Reads<BTreeSet<ClusterId>> {
        let mut found = BTreeSet::new();
        let mut note = |key: &[u8]| {
            if let Some(id) = key.get(..16).and_then(|id| id.try_into().ok()) {
                found.insert(ClusterId::new(uuid::Uuid::from_bytes(id)));
            }
        };
        self.scan(table::CLUSTER, &Key::new(), |key, value| {
            if self.readable::<Cluster>(key, value).is_none() {
                note(key);
            }
            Ok(())
        })?;
        self.scan(table::NODEGROUP, &Key::new(), |key, value| {
            if self.readable::<NodeGroup>(key, value).is_none() {
                note(key);
            }
            Ok(())
        })?;
        Ok(found)
    }

    /// Clusters by uuid, in the order of `ids`, until they are so many bytes.
    pub fn clusters_of(&self, ids: &[ClusterId], bytes: usize) -> Reads<Vec<Stored<Cluster>>> {
        self.by_id(ids.iter().map(|id| id.uuid()), bytes)
    }

    pub fn template(&self, id: TemplateId) -> Reads<Option<Stored<ClusterTemplate>>> {
        self.get(&Key::new().uuid(id.uuid()))
    }

    /// The template that a cluster was made of. None too for one whose record cannot be read:
    /// the cluster is there without it, and can be shown and deleted.
    pub fn template_of(&self, cluster: &Cluster) -> Reads<Option<Stored<ClusterTemplate>>> {
        let open = self.open(table::CLUSTER_TEMPLATE)?;
        self.find_readable(&open, cluster.template_id.uuid().as_bytes())
    }

    /// Whether a project has a cluster of this UUID, though its record may not be readable.
    pub fn has_cluster(&self, project: &str, id: ClusterId) -> Reads<bool> {
        self.is_entered(table::CLUSTER_BY_PROJECT, &Key::new().text(project), id.uuid())
    }

    /// Whether a project sees a template of this UUID, though its record may not be readable.
    pub fn has_template(&self, project: &str, id: TemplateId) -> Reads<bool> {
        let own = Key::new().text(project);
        Ok(self.is_entered(table::TEMPLATE_BY_PROJECT, &own, id.uuid())?
            || self.is_entered(table::TEMPLATE_PUBLIC, &Key::new(), id.uuid())?)
    }

    /// Whether an index, whose entries are prefix, sequence and UUID, has one of this UUID.
    fn is_entered(&self, index: &'static str, prefix: &Key, id: uuid::Uuid) -> Reads<bool> {
        let mut found = false;
        self.walk(index, prefix, Page::ALL, |entry| {
            found = end_of_entry(entry) == id.as_bytes();
            Ok(!found)
        })?;
        Ok(found)
    }

    /// Every template of that name, whoever owns it.
    pub fn templates_named(&self, name: &str) -> Reads<Vec<Stored<ClusterTemplate>>> {
        self.page(table::TEMPLATE_BY_NAME, &Key::new().text(name), Page::ALL)
    }

    /// Templates of the scope in order of making; public ones of others are not among them.
    pub fn templates(&self, scope: Scope<'_>, page: Page) -> Reads<Vec<Stored<ClusterTemplate>>> {
        let (index, prefix) = match scope {
            Scope::Project(project) => (table::TEMPLATE_BY_PROJECT, Key::new().text(project)),
            Scope::Everyone => (table::TEMPLATE_BY_SEQUENCE, Key::new()),
        };
        self.page(index, &prefix, page)
    }

    /// What other projects show to one, in order of making.
    pub fn templates_for(&self, project: &str, page: Page) -> Reads<Vec<Stored<ClusterTemplate>>> {
        let is_shown = |t: &ClusterTemplate| t.project_id != project && !t.hidden;
        self.page_of(table::TEMPLATE_PUBLIC, &Key::new(), page, is_shown)
    }

    /// Templates by uuid, in the order of `ids`, until they are so many bytes.
    pub fn templates_of(
        &self,
        ids: &[TemplateId],
        bytes: usize,
    ) -> Reads<Vec<Stored<ClusterTemplate>>> {
        self.by_id(ids.iter().map(|id| id.uuid()), bytes)
    }

    /// Shows `look` every template of the scope, and what others show to it, one at a time and in
    /// no order.
    pub fn each_template(
        &self,
        scope: Scope<'_>,
        mut look: impl FnMut(&ClusterTemplate),
    ) -> Reads<()> {
        let Scope::Project(project) = scope else { return self.each(&Key::new(), look) };
        let open = self.open(table::CLUSTER_TEMPLATE)?;
        let own = Key::new().text(project);
        for (index, prefix) in
            [(table::TEMPLATE_BY_PROJECT, own), (table::TEMPLATE_PUBLIC, Key::new())]
        {
            self.scan(index, &prefix, |key, _| {
                if let Some(found) = self.led_to::<ClusterTemplate>(&open, index, key)? {
                    let is_own = found.project_id == project;
                    if is_own == (index == table::TEMPLATE_BY_PROJECT) && (is_own || !found.hidden)
                    {
                        look(&found.record);
                    }
                }
                Ok(())
            })?;
        }
        Ok(())
    }

    /// Where a list of the scope's templates in order of making, public ones of others among
    /// them, goes on behind one that is gone, drawn at this millisecond.
    pub fn template_place(
        &self,
        scope: Scope<'_>,
        drawn: u64,
        descending: bool,
    ) -> Reads<Option<Sequence>> {
        let Scope::Project(project) = scope else {
            return self.place(table::TEMPLATE_BY_SEQUENCE, &Key::new(), drawn, descending);
        };
        let own = Key::new().text(project);
        let own = self.place(table::TEMPLATE_BY_PROJECT, &own, drawn, descending)?;
        let public = self.place(table::TEMPLATE_PUBLIC, &Key::new(), drawn, descending)?;
        let both = own.into_iter().chain(public);
        Ok(if descending { both.min() } else { both.max() })
    }

    /// Whether a cluster follows the template, or is about to: an upgrade that was accepted has
    /// not reached its cluster yet.
    pub fn is_template_used(&self, id: TemplateId) -> Reads<bool> {
        let page = Page { limit: 1, ..Page::ALL };
        let prefix = Key::new().uuid(id.uuid());
        let mut used = !self.keys(table::CLUSTER_BY_TEMPLATE, &prefix, page)?.is_empty();
        if !used {
            self.each::<Rollout>(&Key::new(), |rollout| used |= rollout.template_id == id)?;
        }
        Ok(used)
    }

    /// A cluster's groups in order of making: the default master group first.
    pub fn nodegroups(&self, cluster: ClusterId) -> Reads<Vec<Stored<NodeGroup>>> {
        let mut groups: Vec<Stored<NodeGroup>> = self.all(&Key::new().uuid(cluster.uuid()))?;
        groups.sort_by_key(|g| g.sequence);
        Ok(groups)
    }

    /// Shows `look` every group of a cluster that can be read, one at a time.
    pub fn each_of_its_nodegroups(
        &self,
        cluster: ClusterId,
        look: impl FnMut(&NodeGroup),
    ) -> Reads<()> {
        self.each(&Key::new().uuid(cluster.uuid()), look)
    }

    /// Those with these ids that can be read, in that order, until they are so many bytes.
    pub fn nodegroups_by_id(
        &self,
        cluster: ClusterId,
        ids: &[NodeGroupId],
        bytes: usize,
    ) -> Reads<Vec<Stored<NodeGroup>>> {
        let key = |id: &NodeGroupId| Key::new().uuid(cluster.uuid()).uuid(id.uuid()).0;
        self.by_key(ids.iter().map(key), bytes)
    }

    /// The groups of several clusters, from a table that is opened once.
    pub fn nodegroups_of<'c>(
        &self,
        clusters: impl IntoIterator<Item = &'c ClusterId>,
    ) -> Reads<Vec<Vec<NodeGroup>>> {
        let open = self.open(table::NODEGROUP)?;
        let of = |cluster: &ClusterId| {
            let mut groups: Vec<NodeGroup> = Vec::new();
            self.within(&open, &Key::new().uuid(cluster.uuid()), |key, value| {
                groups.extend(self.readable(key, value).map(|group| group.record));
                Ok(())
            })?;
            groups.sort_by_key(|g| g.sequence);
            Ok(groups)
        };
        clusters.into_iter().map(of).collect()
    }

    pub fn nodegroup(
        &self,
        cluster: ClusterId,
        id: NodeGroupId,
    ) -> Reads<Option<Stored<NodeGroup>>> {
        self.get(&Key::new().uuid(cluster.uuid()).uuid(id.uuid()))
    }

    pub fn certificate(
        &self,
        cluster: ClusterId,
        kind: CertificateKind,
    ) -> Reads<Option<Stored<Certificate>>> {
        self.get(&Key::new().uuid(cluster.uuid()).byte(kind.tag()))
    }

    /// Every certificate in turn, because all at once would be too many.
    pub fn each_certificate(&self, each: impl FnMut(&Certificate)) -> Reads<()> {
        self.each(&Key::new(), each)
    }

    pub fn credential(&self, cluster: ClusterId) -> Reads<Option<Stored<Credential>>> {
        self.get(&Key::new().uuid(cluster.uuid()))
    }

    pub fn facts(&self, cluster: ClusterId) -> Reads<Option<Stored<CloudFacts>>> {
        self.get(&Key::new().uuid(cluster.uuid()))
    }

    /// The cluster's operation at work: the oldest unfinished one.
    pub fn operation_of(&self, cluster: ClusterId) -> Reads<Option<Stored<Operation>>> {
        let prefix = Key::new().uuid(cluster.uuid());
        let page = Page { limit: 1, ..Page::ALL };
        let keys = self.keys(table::OPERATION_BY_CLUSTER, &prefix, page)?;
        match keys.first() {
            Some(key) => self.get(&behind_cluster(key)),
            None => Ok(None),
        }
    }

    /// All of the cluster's unfinished operations, the one at work first.
    pub fn operations_of(&self, cluster: ClusterId) -> Reads<Vec<Stored<Operation>>> {
        let prefix = Key::new().uuid(cluster.uuid());
        let keys = self.keys(table::OPERATION_BY_CLUSTER, &prefix, Page::ALL)?;
        self.get_all(keys.iter().map(|key| behind_cluster(key)).collect())
    }

    pub fn operations(&self) -> Reads<Vec<Stored<Operation>>> {
        self.every()
    }

    pub fn discovery(&self, token: &str) -> Reads<Option<Stored<DiscoveryToken>>> {
        self.get(&Key::new().text(&DiscoveryToken::name_of(token)))
    }

    pub fn discovery_of(&self, cluster: ClusterId) -> Reads<Vec<Stored<DiscoveryToken>>> {
        let prefix = Key::new().uuid(cluster.uuid());
        let keys = self.keys(table::DISCOVERY_BY_CLUSTER, &prefix, Page::ALL)?;
        self.get_all(keys.iter().map(|key| behind_cluster(key)).collect())
    }

    pub fn discoveries(&self) -> Reads<Vec<Stored<DiscoveryToken>>> {
        self.every()
    }

    pub fn node(&self, cluster: ClusterId, name: &str) -> Reads<Option<Stored<Node>>> {
        self.get(&Key::new().uuid(cluster.uuid()).text(name))
    }

    pub fn nodes(&self, cluster: ClusterId) -> Reads<Vec<Stored<Node>>> {
        self.all(&Key::new().uuid(cluster.uuid()))
    }

    pub fn node_key(&self, cluster: ClusterId, name: &str) -> Reads<Option<Stored<NodeKey>>> {
        self.get(&Key::new().uuid(cluster.uuid()).text(name))
    }

    pub fn node_keys(&self, cluster: ClusterId) -> Reads<Vec<Stored<NodeKey>>> {
        self.all(&Key::new().uuid(cluster.uuid()))
    }

    pub fn node_wait(&self, cluster: ClusterId) -> Reads<Option<Stored<NodeWait>>> {
        self.get(&Key::new().uuid(cluster.uuid()))
    }

    pub fn stack_revisions(&self, cluster: ClusterId) -> Reads<Vec<Stored<StackRevision>>> {
        self.all(&Key::new().uuid(cluster.uuid()))
    }

    pub fn duty(&self, cluster: ClusterId, node: &str) -> Reads<Option<Stored<Duty>>> {
        self.get(&Key::new().uuid(cluster.uuid()).text(node))
    }

    pub fn duties(&self, cluster: ClusterId) -> Reads<Vec<Stored<Duty>>> {
        self.all(&Key::new().uuid(cluster.uuid()))
    }

    pub fn join_secrets(&self, cluster: ClusterId) -> Reads<Option<Stored<JoinSecrets>>> {
        self.get(&Key::new().uuid(cluster.uuid()))
    }

    pub fn cluster_driver(&self, cluster: ClusterId) -> Reads<Option<Stored<ClusterDriver>>> {
        self.get(&Key::new().uuid(cluster.uuid()))
    }

    pub fn driver(&self, digest: &str) -> Reads<Option<Stored<StoredDriver>>> {
        self.get(&Key::new().text(digest))
    }

    /// Whether a driver's files are there and can be read.
    pub fn has_driver(&self, digest: &str) -> Reads<bool> {
        let open = self.open(table::DRIVER)?;
        let key = Key::new().text(digest);
        Ok(self.find_readable::<StoredDriver>(&open, &key.0)?.is_some())
    }

    /// Drivers' files that no cluster is made of.
    pub fn unused_drivers(&self) -> Reads<Vec<Stored<StoredDriver>>> {
        let mut unused = Vec::new();
        for driver in self.every::<StoredDriver>()? {
            let page = Page { limit: 1, ..Page::ALL };
            let prefix = Key::new().text(&driver.digest);
            if self.keys(table::CLUSTER_BY_DRIVER, &prefix, page)?.is_empty() {
                unused.push(driver);
            }
        }
        Ok(unused)
    }

    pub fn rollouts(&self, cluster: ClusterId) -> Reads<Vec<Stored<Rollout>>> {
        self.all(&Key::new().uuid(cluster.uuid()))
    }

    pub fn next_certificate(
        &self,
        cluster: ClusterId,
        kind: CertificateKind,
    ) -> Reads<Option<Stored<NextCertificate>>> {
        self.get(&Key::new().uuid(cluster.uuid()).byte(kind.tag()))
    }

    /// What a rotation has drawn and not yet put in place.
    pub fn next_certificates(&self, cluster: ClusterId) -> Reads<Vec<Stored<NextCertificate>>> {
        self.all(&Key::new().uuid(cluster.uuid()))
    }

    /// A project's own quota, if an administrator gave it one.
    pub fn quota(&self, project: &str) -> Reads<Option<Stored<Quota>>> {
        self.get(&Quota::key_of(project))
    }

    pub fn quotas(&self) -> Reads<Vec<Stored<Quota>>> {
        self.every()
    }

    pub fn services(&self) -> Reads<Vec<Stored<Service>>> {
        self.every()
    }

    pub fn keyring(&self, name: &str) -> Reads<Option<Stored<KeyringEntry>>> {
        self.get(&Key::new().text(name))
    }
}

impl Scope<'_> {
    pub fn covers(self, project: &str) -> bool {
        match self {
            Self::Project(own) => own == project,
            Self::Everyone => true,
        }
    }
}
