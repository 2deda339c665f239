//! Typed reads of one moment.

use std::ops::Deref;

use redb::ReadTransaction;

use super::StoreError;
use super::record::{self, KeyringEntry, Record};
use super::table::{self, Key};
use crate::base::id::drawn_at;
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
}

type Reads<T> = Result<T, StoreError>;

impl<'t> View<'t> {
    pub(super) fn new(transaction: &'t ReadTransaction) -> Self {
        Self { transaction }
    }

    pub fn cluster(&self, id: ClusterId) -> Reads<Option<Stored<Cluster>>> {
        self.get(&Key::new().uuid(id.uuid()))
    }

    pub fn clusters_named(&self, name: &str, scope: Scope<'_>) -> Reads<Vec<Stored<Cluster>>> {
        let ids = self.leads(table::CLUSTER_BY_NAME, &Key::new().text(name), Page::ALL)?;
        let found: Vec<Stored<Cluster>> = self.get_all(ids)?;
        Ok(found.into_iter().filter(|c| scope.covers(&c.project_id)).collect())
    }

    /// Clusters in order of making.
    pub fn clusters(&self, scope: Scope<'_>, page: Page) -> Reads<Vec<Stored<Cluster>>> {
        let (index, prefix) = match scope {
            Scope::Project(project) => (table::CLUSTER_BY_PROJECT, Key::new().text(project)),
            Scope::Everyone => (table::CLUSTER_BY_SEQUENCE, Key::new()),
        };
        self.get_all(self.leads(index, &prefix, page)?)
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
            Ok(true)
        })?;
        Ok(count)
    }

    /// Shows `look` every cluster of the scope, one at a time and in no order.
    pub fn each_cluster(&self, scope: Scope<'_>, mut look: impl FnMut(&Cluster)) -> Reads<()> {
        let Scope::Project(project) = scope else {
            return self.scan(table::CLUSTER, &Key::new(), |_, value| {
                look(&stored(value)?.record);
                Ok(true)
            });
        };
        let open = self.open(table::CLUSTER)?;
        self.scan(table::CLUSTER_BY_PROJECT, &Key::new().text(project), |key, _| {
            if let Some(value) = open.get(&key[key.len() - 16..]).map_err(disk)? {
                look(&stored(value.value())?.record);
            }
            Ok(true)
        })
    }

    /// Shows `look` every node group of the scope, one at a time and in no order.
    pub fn each_nodegroup(&self, scope: Scope<'_>, mut look: impl FnMut(&NodeGroup)) -> Reads<()> {
        let open = self.open(table::NODEGROUP)?;
        let mut each = |_: &[u8], value: &[u8]| {
            look(&stored(value)?.record);
            Ok(true)
        };
        let Scope::Project(project) = scope else {
            return within(&open, &Key::new(), each);
        };
        self.scan(table::CLUSTER_BY_PROJECT, &Key::new().text(project), |key, _| {
            within(&open, &Key(key[key.len() - 16..].to_vec()), &mut each)?;
            Ok(true)
        })
    }

    /// Clusters by uuid, in the order of `ids`.
    pub fn clusters_of(&self, ids: &[ClusterId]) -> Reads<Vec<Stored<Cluster>>> {
        self.get_all(ids.iter().map(|id| Key::new().uuid(id.uuid())).collect())
    }

    pub fn template(&self, id: TemplateId) -> Reads<Option<Stored<ClusterTemplate>>> {
        self.get(&Key::new().uuid(id.uuid()))
    }

    /// Every template of that name, whoever owns it.
    pub fn templates_named(&self, name: &str) -> Reads<Vec<Stored<ClusterTemplate>>> {
        self.get_all(self.leads(table::TEMPLATE_BY_NAME, &Key::new().text(name), Page::ALL)?)
    }

    /// Templates of the scope in order of making; public ones of others are not among them.
    pub fn templates(&self, scope: Scope<'_>, page: Page) -> Reads<Vec<Stored<ClusterTemplate>>> {
        let (index, prefix) = match scope {
            Scope::Project(project) => (table::TEMPLATE_BY_PROJECT, Key::new().text(project)),
            Scope::Everyone => (table::TEMPLATE_BY_SEQUENCE, Key::new()),
        };
        self.get_all(self.leads(index, &prefix, page)?)
    }

    /// Public templates of all projects in order of making, hidden ones included.
    pub fn public_templates(&self, page: Page) -> Reads<Vec<Stored<ClusterTemplate>>> {
        self.get_all(self.leads(table::TEMPLATE_PUBLIC, &Key::new(), page)?)
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
            within(&open, &Key::new().uuid(cluster.uuid()), |_, value| {
                groups.push(stored(value)?.record);
                Ok(true)
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
    pub fn each_certificate(&self, mut each: impl FnMut(&Certificate)) -> Reads<()> {
        self.scan(table::CERTIFICATE, &Key::new(), |_, value| {
            each(&stored::<Certificate>(value)?.record);
            Ok(true)
        })
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
            Some(key) => self.get(&Key(key[16..].to_vec())),
            None => Ok(None),
        }
    }

    /// All of the cluster's unfinished operations, the one at work first.
    pub fn operations_of(&self, cluster: ClusterId) -> Reads<Vec<Stored<Operation>>> {
        let prefix = Key::new().uuid(cluster.uuid());
        let keys = self.keys(table::OPERATION_BY_CLUSTER, &prefix, Page::ALL)?;
        self.get_all(keys.into_iter().map(|key| Key(key[16..].to_vec())).collect())
    }

    pub fn operations(&self) -> Reads<Vec<Stored<Operation>>> {
        self.all(&Key::new())
    }

    pub fn discovery(&self, token: &str) -> Reads<Option<Stored<DiscoveryToken>>> {
        self.get(&Key::new().text(token))
    }

    pub fn discovery_of(&self, cluster: ClusterId) -> Reads<Vec<Stored<DiscoveryToken>>> {
        let prefix = Key::new().uuid(cluster.uuid());
        let keys = self.keys(table::DISCOVERY_BY_CLUSTER, &prefix, Page::ALL)?;
        self.get_all(keys.into_iter().map(|key| Key(key[16..].to_vec())).collect())
    }

    pub fn discoveries(&self) -> Reads<Vec<Stored<DiscoveryToken>>> {
        self.all(&Key::new())
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
        for driver in self.all::<StoredDriver>(&Key::new())? {
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
        self.all(&Key::new())
    }

    pub fn services(&self) -> Reads<Vec<Stored<Service>>> {
        self.all(&Key::new())
    }

    pub fn keyring(&self, name: &str) -> Reads<Option<Stored<KeyringEntry>>> {
        self.get(&Key::new().text(name))
    }

    fn get<R: Record>(&self, key: &Key) -> Reads<Option<Stored<R>>> {
        let open = self.open(R::TABLE)?;
        let found = open.get(key.0.as_slice()).map_err(disk)?;
        found.map(|value| stored(value.value())).transpose()
    }

    /// Records in the order of `keys`; a key without a record would be a broken index.
    fn get_all<R: Record>(&self, keys: Vec<Key>) -> Reads<Vec<Stored<R>>> {
        let open = self.open(R::TABLE)?;
        let mut found = Vec::with_capacity(keys.len());
        for key in keys {
            if let Some(value) = open.get(key.0.as_slice()).map_err(disk)? {
                found.push(stored(value.value())?);
            }
        }
        Ok(found)
    }

    fn all<R: Record>(&self, prefix: &Key) -> Reads<Vec<Stored<R>>> {
        let mut found = Vec::new();
        self.scan(R::TABLE, prefix, |_, value| {
            found.push(stored(value)?);
            Ok(true)
        })?;
        Ok(found)
    }

    /// The record keys at the ends of index entries that are prefix, sequence and UUID.
    fn leads(&self, index: &'static str, prefix: &Key, page: Page) -> Reads<Vec<Key>> {
        let keys = self.keys(index, prefix, page)?;
        Ok(keys.into_iter().map(|key| Key(key[key.len() - 16..].to_vec())).collect())
    }

    /// The last entry before those that were drawn at this millisecond or later (earlier, when
    /// descending), of an index whose entries are prefix, sequence and UUID. Whoever was made in
    /// the very millisecond comes again rather than never; ids that tell no time are passed over.
    fn place(
        &self,
        index: &'static str,
        prefix: &Key,
        drawn: u64,
        descending: bool,
    ) -> Reads<Option<Sequence>> {
        let open = self.open(index)?;
        let end = end_of(prefix);
        let mut range = open.range(prefix.0.as_slice()..end.0.as_slice()).map_err(disk)?;
        let mut place = None;
        while let Some(entry) = if descending { range.next_back() } else { range.next() } {
            let entry = entry.map_err(disk)?;
            let key = entry.0.value();
            let Some((&sequence, &id)) = key.split_last_chunk::<16>().and_then(|(rest, id)| {
                rest.split_last_chunk::<8>().map(|(_, sequence)| (sequence, id))
            }) else {
                continue;
            };
            let Some(at) = drawn_at(uuid::Uuid::from_bytes(id)) else { continue };
            let is_before = if descending { at > drawn } else { at < drawn };
            if !is_before {
                break;
            }
            place = Some(Sequence(u64::from_be_bytes(sequence)));
        }
        Ok(place)
    }

    fn keys(&self, index: &'static str, prefix: &Key, page: Page) -> Reads<Vec<Vec<u8>>> {
        let open = self.open(index)?;
        let end = end_of(prefix);
        let mut keys = Vec::new();
        let mut take = |key: &[u8]| {
            keys.push(key.to_vec());
            keys.len() < page.limit
        };
        if page.limit == 0 {
            return Ok(keys);
        }
        let first = match page.after {
            // The entry itself is the marker plus a UUID, so the next number starts behind it.
            Some(Sequence(n)) if !page.descending => prefix.clone().number(n.saturating_add(1)),
            _ => prefix.clone(),
        };
        let last = match page.after {
            Some(Sequence(n)) if page.descending => prefix.clone().number(n),
            _ => end,
        };
        if first >= last {
            return Ok(keys);
        }
        let range = open.range(first.0.as_slice()..last.0.as_slice()).map_err(disk)?;
        if page.descending {
            for entry in range.rev() {
                if !take(entry.map_err(disk)?.0.value()) {
                    break;
                }
            }
        } else {
            for entry in range {
                if !take(entry.map_err(disk)?.0.value()) {
                    break;
                }
            }
        }
        Ok(keys)
    }

    fn scan(
        &self,
        table: &'static str,
        prefix: &Key,
        each: impl FnMut(&[u8], &[u8]) -> Reads<bool>,
    ) -> Reads<()> {
        within(&self.open(table)?, prefix, each)
    }

    fn open(&self, name: &'static str) -> Reads<Open> {
        self.transaction.open_table(table::definition(name)).map_err(disk)
    }
}

/// An open table.
type Open = redb::ReadOnlyTable<&'static [u8], &'static [u8]>;

/// Shows `each` the entries whose keys begin with `prefix`, until it says no.
fn within(
    open: &Open,
    prefix: &Key,
    mut each: impl FnMut(&[u8], &[u8]) -> Reads<bool>,
) -> Reads<()> {
    let end = end_of(prefix);
    for entry in open.range(prefix.0.as_slice()..end.0.as_slice()).map_err(disk)? {
        let (key, value) = entry.map_err(disk)?;
        if !each(key.value(), value.value())? {
            break;
        }
    }
    Ok(())
}

impl Scope<'_> {
    pub fn covers(self, project: &str) -> bool {
        match self {
            Self::Project(own) => own == project,
            Self::Everyone => true,
        }
    }
}

/// A key behind every key that begins with `prefix`: no part of a key is 0xff × 17.
fn end_of(prefix: &Key) -> Key {
    let mut end = prefix.0.clone();
    end.extend([0xff; 17]);
    Key(end)
}

fn stored<R: Record>(encoded: &[u8]) -> Reads<Stored<R>> {
    let (record, revision) = record::decode(encoded)?;
    Ok(Stored { record, revision })
}

fn disk(error: impl std::fmt::Display) -> StoreError {
    StoreError::Disk(error.to_string())
}
