//! Typed reads of one moment.
//!
//! What spans clusters or projects leaves out a record that cannot be read, and remembers it as
//! [`super::Store::damage`]; what is of one cluster, or asked for by name, is an error then:
//! nobody may take a part of a cluster for the whole.

use std::collections::BTreeSet;
use std::ops::Deref;

use redb::{AccessGuard, ReadTransaction};

use super::damage::Damage;
use super::kind::KINDS;
use super::record::{self, KeyringEntry, Record};
use super::table::{self, Key};
use super::{CodecError, StoreError};
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
use crate::model::nodegroup::NodeGroup;
use crate::model::operation::Operation;
use crate::model::quota::Quota;
use crate::model::rollout::Rollout;
use crate::model::service::Service;
use crate::model::vigil::Vigil;
use crate::model::{ClusterId, NodeGroupId, Sequence, TemplateId};

/// A record as it was read, with the revision that [`super::Change::expect`] compares.
#[derive(Clone, Debug, PartialEq)]
pub struct Stored<R> {
    pub record: R,
    pub revision: u64,
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
    pub descending: bool,
}

impl Page {
    pub const ALL: Self = Self { after: None, limit: usize::MAX, descending: false };
}

/// One moment of the state.
pub struct View<'t> {
    transaction: &'t ReadTransaction,
    damage: &'t Damage,
}

type Reads<T> = Result<T, StoreError>;

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

    /// Clusters by uuid, in the order of `ids`.
    pub fn clusters_of(&self, ids: &[ClusterId]) -> Reads<Vec<Stored<Cluster>>> {
        let open = self.open(table::CLUSTER)?;
        let found = ids.iter().map(|id| self.find_readable(&open, id.uuid().as_bytes()));
        found.filter_map(Result::transpose).collect()
    }

    pub fn template(&self, id: TemplateId) -> Reads<Option<Stored<ClusterTemplate>>> {
        self.get(&Key::new().uuid(id.uuid()))
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

    /// Public templates of all projects in order of making, hidden ones included.
    pub fn public_templates(&self, page: Page) -> Reads<Vec<Stored<ClusterTemplate>>> {
        self.page(table::TEMPLATE_PUBLIC, &Key::new(), page)
    }

    pub fn is_template_used(&self, id: TemplateId) -> Reads<bool> {
        let page = Page { limit: 1, ..Page::ALL };
        let prefix = Key::new().uuid(id.uuid());
        Ok(!self.keys(table::CLUSTER_BY_TEMPLATE, &prefix, page)?.is_empty())
    }

    /// A cluster's groups in order of making: the default master group first.
    pub fn nodegroups(&self, cluster: ClusterId) -> Reads<Vec<Stored<NodeGroup>>> {
        let mut groups: Vec<Stored<NodeGroup>> = self.all(&Key::new().uuid(cluster.uuid()))?;
        groups.sort_by_key(|g| g.sequence);
        Ok(groups)
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
        self.get(&Key::new().text(token))
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

    pub fn vigil(&self, cluster: ClusterId) -> Reads<Option<Stored<Vigil>>> {
        self.get(&Key::new().uuid(cluster.uuid()))
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

    /// Reads every record, and for each index entry the record it leads to.
    pub(super) fn look_over(&self) -> Reads<()> {
        for kind in KINDS {
            let open = self.open(kind.table)?;
            self.within(&open, &Key::new(), |key, value| {
                if let Err(error) = kind.decode_at(key, value) {
                    self.damage.record(kind.table, key, &error);
                }
                Ok(())
            })?;
        }
        for name in [table::CLUSTER_BY_SEQUENCE, table::CLUSTER_BY_PROJECT, table::CLUSTER_BY_NAME]
        {
            self.page::<Cluster>(name, &Key::new(), Page::ALL)?;
        }
        for name in
            [table::TEMPLATE_BY_SEQUENCE, table::TEMPLATE_BY_PROJECT, table::TEMPLATE_BY_NAME]
        {
            self.page::<ClusterTemplate>(name, &Key::new(), Page::ALL)?;
        }
        Ok(())
    }

    fn get<R: Record>(&self, key: &Key) -> Reads<Option<Stored<R>>> {
        self.find(&self.open(R::TABLE)?, &key.0)
    }

    fn find<R: Record>(&self, open: &Open, key: &[u8]) -> Reads<Option<Stored<R>>> {
        let found = self.damage.guarded(|| open.get(key))?;
        let Some(value) = &found else { return Ok(None) };
        Ok(Some(self.stored(key, self.bytes(value)?)?))
    }

    /// None too for a record that cannot be read.
    fn find_readable<R: Record>(&self, open: &Open, key: &[u8]) -> Reads<Option<Stored<R>>> {
        let found = self.damage.guarded(|| open.get(key))?;
        let Some(value) = &found else { return Ok(None) };
        Ok(self.readable(key, self.bytes(value)?))
    }

    /// The record that an index entry leads to, if it can be read. One that does not ask for the
    /// entry is another's: the entry is damaged.
    fn led_to<R: Record>(
        &self,
        open: &Open,
        index: &'static str,
        entry: &[u8],
    ) -> Reads<Option<Stored<R>>> {
        let key = end_of_entry(entry);
        let found = self.damage.guarded(|| open.get(key))?;
        let Some(value) = found else {
            self.damage.record(index, entry, &"it leads to no record");
            return Ok(None);
        };
        let Some(found) = self.readable::<R>(key, self.bytes(&value)?) else { return Ok(None) };
        let asks = found.record.indexes().iter().any(|(i, k)| *i == index && k.0 == entry);
        if !asks {
            self.damage.record(index, entry, &"it leads to a record that does not ask for it");
        }
        Ok(asks.then_some(found))
    }

    /// Records in the order of `keys`; a key without a record would be a broken index.
    fn get_all<R: Record>(&self, keys: Vec<Key>) -> Reads<Vec<Stored<R>>> {
        let open = self.open(R::TABLE)?;
        let found = keys.into_iter().map(|key| self.find(&open, &key.0));
        found.filter_map(Result::transpose).collect()
    }

    /// All below a prefix, or an error.
    fn all<R: Record>(&self, prefix: &Key) -> Reads<Vec<Stored<R>>> {
        let mut found = Vec::new();
        self.scan(R::TABLE, prefix, |key, value| {
            found.push(self.stored(key, value)?);
            Ok(())
        })?;
        Ok(found)
    }

    /// All of a table that can be read.
    fn every<R: Record>(&self) -> Reads<Vec<Stored<R>>> {
        let mut found = Vec::new();
        self.scan(R::TABLE, &Key::new(), |key, value| {
            found.extend(self.readable(key, value));
            Ok(())
        })?;
        Ok(found)
    }

    /// Shows `look` what can be read below a prefix.
    fn each<R: Record>(&self, prefix: &Key, mut look: impl FnMut(&R)) -> Reads<()> {
        self.scan(R::TABLE, prefix, |key, value| {
            if let Some(found) = self.readable::<R>(key, value) {
                look(&found.record);
            }
            Ok(())
        })
    }

    /// What can be read of the records at the ends of index entries that are prefix, sequence
    /// and UUID. A record that cannot takes no place of the page.
    fn page<R: Record>(
        &self,
        index: &'static str,
        prefix: &Key,
        page: Page,
    ) -> Reads<Vec<Stored<R>>> {
        let open = self.open(R::TABLE)?;
        let mut found = Vec::new();
        self.walk(index, prefix, page, |key| {
            found.extend(self.led_to(&open, index, key)?);
            Ok(found.len() < page.limit)
        })?;
        Ok(found)
    }

    fn keys(&self, index: &'static str, prefix: &Key, page: Page) -> Reads<Vec<Vec<u8>>> {
        let mut keys = Vec::new();
        self.walk(index, prefix, page, |key| {
            keys.push(key.to_vec());
            Ok(keys.len() < page.limit)
        })?;
        Ok(keys)
    }

    /// Shows `each` the entries of a page of an index, until it says no.
    fn walk(
        &self,
        index: &'static str,
        prefix: &Key,
        page: Page,
        mut each: impl FnMut(&[u8]) -> Reads<bool>,
    ) -> Reads<()> {
        if page.limit == 0 {
            return Ok(());
        }
        let first = match page.after {
            // The entry itself is the marker plus a UUID, so the next number starts behind it.
            Some(Sequence(n)) if !page.descending => prefix.clone().number(n.saturating_add(1)),
            _ => prefix.clone(),
        };
        let last = match page.after {
            Some(Sequence(n)) if page.descending => prefix.clone().number(n),
            _ => end_of(prefix),
        };
        if first >= last {
            return Ok(());
        }
        let open = self.open(index)?;
        let mut range =
            self.damage.guarded(|| open.range(first.0.as_slice()..last.0.as_slice()))?;
        let mut next = || match page.descending {
            true => range.next_back().transpose(),
            false => range.next().transpose(),
        };
        while let Some((key, _)) = self.damage.guarded(&mut next)? {
            if !each(self.bytes(&key)?)? {
                break;
            }
        }
        Ok(())
    }

    /// Shows `each` the entries of a table whose keys begin with `prefix`.
    pub(super) fn scan(
        &self,
        table: &'static str,
        prefix: &Key,
        each: impl FnMut(&[u8], &[u8]) -> Reads<()>,
    ) -> Reads<()> {
        self.within(&self.open(table)?, prefix, each)
    }

    fn within(
        &self,
        open: &Open,
        prefix: &Key,
        mut each: impl FnMut(&[u8], &[u8]) -> Reads<()>,
    ) -> Reads<()> {
        let end = end_of(prefix);
        let mut range =
            self.damage.guarded(|| open.range(prefix.0.as_slice()..end.0.as_slice()))?;
        while let Some((key, value)) = self.damage.guarded(|| range.next().transpose())? {
            each(self.bytes(&key)?, self.bytes(&value)?)?;
        }
        Ok(())
    }

    fn open(&self, name: &'static str) -> Reads<Open> {
        self.damage.guarded(|| self.transaction.open_table(table::definition(name)))
    }

    /// What the database has found; it says how long that is only here.
    fn bytes<'g>(&self, found: &'g AccessGuard<'_, &'static [u8]>) -> Reads<&'g [u8]> {
        self.damage.guarded(|| Ok::<_, redb::Error>(found.value()))
    }

    /// The record of a key; remembered if it cannot be read.
    fn stored<R: Record>(&self, key: &[u8], encoded: &[u8]) -> Result<Stored<R>, CodecError> {
        match record::decode_at(key, encoded) {
            Ok((record, revision)) => Ok(Stored { record, revision }),
            Err(error) => {
                self.damage.record(R::TABLE, key, &error);
                Err(error)
            }
        }
    }

    fn readable<R: Record>(&self, key: &[u8], encoded: &[u8]) -> Option<Stored<R>> {
        self.stored(key, encoded).ok()
    }
}

/// An open table.
type Open = redb::ReadOnlyTable<&'static [u8], &'static [u8]>;

impl Scope<'_> {
    pub fn covers(self, project: &str) -> bool {
        match self {
            Self::Project(own) => own == project,
            Self::Everyone => true,
        }
    }
}

/// What follows the cluster's UUID in an index entry.
fn behind_cluster(entry: &[u8]) -> Key {
    Key(entry.get(16..).unwrap_or_default().to_vec())
}

/// The UUID at the end of an index entry.
fn end_of_entry(entry: &[u8]) -> &[u8] {
    entry.last_chunk::<16>().map_or(entry, |key| key.as_slice())
}

/// A key behind every key that begins with `prefix`: no part of a key is 0xff × 17.
fn end_of(prefix: &Key) -> Key {
    let mut end = prefix.0.clone();
    end.extend([0xff; 17]);
    Key(end)
}
