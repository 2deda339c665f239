//! What an administrator can do about records that cannot be read: see them, and delete them.

use serde::{Deserialize, Serialize};

use super::change::Change;
use super::record_kind::{KINDS, Kind};
use super::table::{self, Key};
use super::view::View;
use super::{CodecError, Store, StoreError, record};
use crate::model::ClusterId;

/// Words shown of a record, and the shortest and longest that are taken for one.
const MOST_WORDS: usize = 40;
const WORD: std::ops::RangeInclusive<usize> = 5..=80;

/// A record that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BadRecord {
    pub table: String,
    /// As verify and the log show it.
    pub key: String,
    pub problem: String,
    pub bytes: usize,
    pub revision: u64,
    /// What can be read in it as plain text, such as a name and a project. It may be damaged.
    pub words: Vec<String>,
}

/// Which record: table and key, as they are shown.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BadPlace {
    pub table: String,
    pub key: String,
}

/// What was deleted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Forgotten {
    pub table: String,
    pub key: String,
    /// Records that went with it, because they belong to it.
    pub with: usize,
}

/// Why nothing was deleted.
#[derive(Debug, thiserror::Error)]
pub enum RepairError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("there is no table {0}; magnumd damage list names tables and keys")]
    NoTable(String),
    #[error(
        "{table} {key} is not a record that cannot be read; magnumd damage list names those, and \
         nothing else is deleted here"
    )]
    NotBad { table: String, key: String },
}

impl Store {
    /// Every record that cannot be read. Blocks.
    pub fn bad_records(&self) -> Result<Vec<BadRecord>, StoreError> {
        let mut found = Vec::new();
        self.read(|view| {
            for kind in KINDS {
                view.each_unreadable(kind, |key, value, error| {
                    found.push(BadRecord {
                        table: kind.table.to_owned(),
                        key: table::shown(kind.table, key),
                        problem: error.to_string(),
                        bytes: value.len(),
                        revision: record::revision(value),
                        words: words(kind.table, value),
                    });
                })?;
            }
            Ok(())
        })?;
        Ok(found)
    }

    /// Deletes a record that cannot be read, with all that belongs to it; never one that can.
    pub async fn forget(&self, place: &BadPlace) -> Result<Forgotten, RepairError> {
        let BadPlace { table, key } = place.clone();
        let kind = Kind::named(&table).ok_or_else(|| RepairError::NoTable(table.clone()))?;
        let (store, shown) = (self.clone(), key.clone());
        let planned = tokio::task::spawn_blocking(move || {
            store.read(|view| {
                let Some(found) = find(view, kind, &shown)? else { return Ok(None) };
                view.belongings(kind.table, &found).map(|with| Some((found, with)))
            })
        });
        let planned = planned.await.map_err(|e| StoreError::Disk(e.to_string()))??;
        let not_bad = || RepairError::NotBad { table: table.clone(), key: key.clone() };
        let (found, with) = planned.ok_or_else(not_bad)?;
        let mut change = Change::new();
        if let (table::CLUSTER, Some(id)) = (kind.table, cluster_of(&found)) {
            change = change.delete_cluster(id);
        }
        for (table, key) in &with {
            change = change.delete_raw(table, key.clone());
        }
        match self.commit(change.delete_unreadable(kind.table, found)).await {
            Ok(()) => {}
            // It was written anew meanwhile.
            Err(StoreError::Conflict) => return Err(not_bad()),
            Err(e) => return Err(e.into()),
        }
        tracing::warn!(table, key, with = with.len(), "a record that could not be read is deleted");
        Ok(Forgotten { table, key, with: with.len() })
    }
}

/// The one that is shown so.
fn find(view: &View, kind: &'static Kind, shown: &str) -> Result<Option<Key>, StoreError> {
    let mut found = Vec::new();
    view.each_unreadable(kind, |key, _, _| {
        if table::shown(kind.table, key) == shown {
            found.push(Key(key.to_vec()));
        }
    })?;
    // Of several that look alike any will do: each of them cannot be read.
    Ok(found.pop())
}

fn cluster_of(key: &Key) -> Option<ClusterId> {
    let id: [u8; 16] = key.0.as_slice().try_into().ok()?;
    Some(ClusterId::new(uuid::Uuid::from_bytes(id)))
}

impl View<'_> {
    /// Shows `look` every record of a kind that cannot be read: key, value, and why.
    fn each_unreadable(
        &self,
        kind: &'static Kind,
        mut look: impl FnMut(&[u8], &[u8], &CodecError),
    ) -> Result<(), StoreError> {
        self.scan(kind.table, &Key::new(), |key, value| {
            if let Err(error) = kind.decode_at(key, value) {
                look(key, value, &error);
            }
            Ok(())
        })
    }

    /// What belongs to a cluster, beside itself: by key, because it may be damaged too.
    fn belongings(
        &self,
        table: &'static str,
        key: &Key,
    ) -> Result<Vec<(&'static str, Key)>, StoreError> {
        let mut found = Vec::new();
        if table != table::CLUSTER {
            return Ok(found);
        }
        for kind in KINDS.iter().filter(|kind| kind.table != table && is_of_clusters(kind.table)) {
            self.scan(kind.table, key, |key, _| {
                found.push((kind.table, Key(key.to_vec())));
                Ok(())
            })?;
        }
        for (index, table) in [
            (table::OPERATION_BY_CLUSTER, table::OPERATION),
            (table::DISCOVERY_BY_CLUSTER, table::DISCOVERY),
        ] {
            self.scan(index, key, |entry, _| {
                found.push((table, Key(entry[key.0.len()..].to_vec())));
                Ok(())
            })?;
        }
        Ok(found)
    }
}

/// Whether the keys of a table begin with a cluster's UUID.
fn is_of_clusters(table: &str) -> bool {
    matches!(
        table,
        table::NODEGROUP
            | table::CERTIFICATE
            | table::CREDENTIAL
            | table::FACTS
            | table::NODE
            | table::NODE_KEY
            | table::NODE_WAIT
            | table::DUTY
            | table::JOIN
            | table::ROLLOUT
            | table::NEXT_CERTIFICATE
            | table::CLUSTER_DRIVER
    )
}

/// What looks like text in a record; nothing of tables that hold secrets in the clear.
fn words(table: &str, value: &[u8]) -> Vec<String> {
    if table == table::DISCOVERY {
        return Vec::new();
    }
    let plain = |b: &u8| (0x20..0x7f).contains(b);
    let runs = value.split(|b| !plain(b)).filter(|run| run.len() >= *WORD.start());
    let shown = |run: &[u8]| {
        let cut = &run[..run.len().min(*WORD.end())];
        String::from_utf8_lossy(cut).into_owned()
    };
    runs.map(shown).take(MOST_WORDS).collect()
}
