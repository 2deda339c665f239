//! Change: what must hold, and what shall be written if it does.

use super::record::{self, Record, Unfit};
use super::record_kind;
use super::table::{self, Key};
use super::view::Stored;

/// The most writes of one change: a commit stays short for whoever waits for it, and would be one
/// transaction of an etcd as well, which takes 128 operations of 1.5 MiB.
pub const MOST_WRITES: usize = 100;
/// The most bytes of its keys and records.
const MOST_BYTES: usize = (1 << 20) + (1 << 14);

/// Expectations and writes that stand or fall together. Pure data: no caller's code
/// runs on the writer's thread.
#[derive(Clone, Debug, Default)]
pub struct Change {
    pub(super) expectations: Vec<Expectation>,
    pub(super) writes: Vec<Write>,
    /// The first record that nobody could read again; nothing is written then.
    unfit: Option<Unfit>,
}

#[derive(Clone, Debug)]
pub(super) enum Expectation {
    /// The record still has this revision.
    Revision { table: &'static str, key: Key, revision: u64 },
    /// There is no such record.
    Absent { table: &'static str, key: Key },
    /// There is such a record.
    Exists { table: &'static str, key: Key },
    /// The project has fewer clusters than its own quota says, or than `limit` without one.
    WithinQuota { project: String, limit: u32 },
    /// Fewer index entries than `limit` begin with `prefix`.
    Fewer { index: &'static str, prefix: Key, limit: u32 },
    /// No index entry begins with `prefix`.
    None { index: &'static str, prefix: Key },
    /// There is something in the record's place, and it cannot be read.
    Unreadable { table: &'static str, key: Key },
}

#[derive(Clone, Debug)]
pub(super) enum Write {
    Put {
        table: &'static str,
        key: Key,
        encoded: Vec<u8>,
        indexes: Vec<(&'static str, Key)>,
    },
    Delete {
        table: &'static str,
        key: Key,
    },
    /// Deletes every record whose key begins with `prefix`.
    DeleteAll {
        table: &'static str,
        prefix: Key,
    },
}

impl Change {
    pub fn new() -> Self {
        Self::default()
    }

    /// Only if the record is unchanged since it was read.
    pub fn expect<R: Record>(mut self, stored: &Stored<R>) -> Self {
        self.expectations.push(Expectation::Revision {
            table: R::TABLE,
            key: stored.key(),
            revision: stored.revision,
        });
        self
    }

    /// Only if no record with this one's key exists.
    pub fn expect_absent<R: Record>(mut self, record: &R) -> Self {
        self.expectations.push(Expectation::Absent { table: R::TABLE, key: record.key() });
        self
    }

    /// Only if a record with this one's key exists.
    pub fn expect_exists<R: Record>(mut self, record: &R) -> Self {
        self.expectations.push(Expectation::Exists { table: R::TABLE, key: record.key() });
        self
    }

    /// Only if the files of a driver are kept, by their digest.
    pub fn expect_driver(mut self, digest: &str) -> Self {
        self.expectations
            .push(Expectation::Exists { table: table::DRIVER, key: Key::new().text(digest) });
        self
    }

    /// Only if the project has fewer clusters than its own quota says, or than `limit` if it
    /// has none.
    pub fn expect_fewer_clusters(mut self, project: &str, limit: u32) -> Self {
        self.expectations.push(Expectation::WithinQuota { project: project.to_owned(), limit });
        self
    }

    /// Only if the project has fewer templates than `limit`.
    pub fn expect_fewer_templates(mut self, project: &str, limit: u32) -> Self {
        let (index, prefix) = (table::TEMPLATE_BY_PROJECT, Key::new().text(project));
        self.expectations.push(Expectation::Fewer { index, prefix, limit });
        self
    }

    /// Only if no cluster uses the template.
    pub fn expect_unused(mut self, template: crate::model::TemplateId) -> Self {
        self.expectations.push(Expectation::None {
            index: table::CLUSTER_BY_TEMPLATE,
            prefix: Key::new().uuid(template.uuid()),
        });
        self
    }

    /// Only if no cluster is made of these files.
    pub fn expect_driver_unused(mut self, digest: &str) -> Self {
        self.expectations.push(Expectation::None {
            index: table::CLUSTER_BY_DRIVER,
            prefix: Key::new().text(digest),
        });
        self
    }

    /// A record that could not be read again is refused when the change is committed.
    pub fn put<R: Record>(mut self, record: &R) -> Self {
        match record::encode(record) {
            Ok(encoded) => self.writes.push(Write::Put {
                table: R::TABLE,
                key: record.key(),
                encoded,
                indexes: record.indexes(),
            }),
            Err(unfit) => {
                self.unfit.get_or_insert(unfit);
            }
        }
        self
    }

    pub fn delete<R: Record>(mut self, record: &R) -> Self {
        self.writes.push(Write::Delete { table: R::TABLE, key: record.key() });
        self
    }

    /// Deletes all that belongs to a cluster, and the cluster; but for its operations and discovery
    /// tokens, whose keys are their own.
    pub fn delete_cluster(mut self, id: crate::model::ClusterId) -> Self {
        for kind in record_kind::KINDS.iter().filter(|kind| kind.of_cluster) {
            let prefix = Key::new().uuid(id.uuid());
            self.writes.push(Write::DeleteAll { table: kind.table, prefix });
        }
        self
    }

    /// Deletes what is in a record's place, only if it cannot be read.
    pub(super) fn delete_unreadable(mut self, table: &'static str, key: Key) -> Self {
        self.expectations.push(Expectation::Unreadable { table, key: key.clone() });
        self.delete_raw(table, key)
    }

    /// Deletes whatever is in a record's place.
    pub(super) fn delete_raw(mut self, table: &'static str, key: Key) -> Self {
        self.writes.push(Write::Delete { table, key });
        self
    }

    pub fn is_empty(&self) -> bool {
        self.writes.is_empty() && self.unfit.is_none()
    }

    /// That all of it could be read again, and is not too much at once.
    pub(super) fn check(&self) -> Result<(), Unfit> {
        if let Some(unfit) = &self.unfit {
            return Err(unfit.clone());
        }
        let (writes, bytes) = (self.writes.len(), self.writes.iter().map(Write::bytes).sum());
        match writes <= MOST_WRITES && bytes <= MOST_BYTES {
            true => Ok(()),
            false => Err(Unfit::Change { writes, bytes }),
        }
    }
}

impl Write {
    /// Of the key and of the record; what indexes take is little.
    fn bytes(&self) -> usize {
        match self {
            Self::Put { key, encoded, .. } => key.0.len() + encoded.len(),
            Self::Delete { key, .. } => key.0.len(),
            Self::DeleteAll { prefix, .. } => prefix.0.len(),
        }
    }
}
