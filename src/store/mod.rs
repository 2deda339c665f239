//! The store: every fact magnumd must remember.
//!
//! Readers see one consistent moment and never wait. Writers hand in a
//! [`Change`] and are answered when it is on disk. Nothing outside this room
//! knows there is a redb file.

mod change;
mod record;
mod table;
#[cfg(test)]
mod tests;
mod view;
mod writer;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use redb::{Database, DatabaseError, ReadableDatabase, TableError};
use tokio::sync::mpsc;

use crate::base::secret::{Sealed, Sealer};
use crate::model::Sequence;

pub use change::Change;
pub use record::{CodecError, KeyringEntry, Record};
pub use view::{Page, Scope, Stored, View};

/// The schema this release writes.
const SCHEMA: u64 = 1;
const KEY_CHECK: &[u8] = b"magnumd";

/// Why the store did not do it.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Something that the change relied on has changed meanwhile: read again.
    #[error("the record has changed meanwhile")]
    Stale,
    /// The change would exceed a limit that it named.
    #[error("the limit of {limit} is reached")]
    Limit { limit: u32 },
    /// The disk refused; nothing of the change was kept.
    #[error("the state file cannot be written: {0}")]
    Disk(String),
    /// A record cannot be understood.
    #[error("the state file holds a record that cannot be read: {0}")]
    Corrupt(#[from] CodecError),
    #[error("the store is closed")]
    Closed,
}

/// Why the state file could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error(
        "{0} is in use by another magnumd; stop it first, or give this one its own storage.path"
    )]
    Locked(PathBuf),
    #[error("{0} was written by a newer magnumd (schema {1}); install that release or a later one")]
    Newer(PathBuf, u64),
    #[error("the sealing key does not fit {0}; give the key with which it was made")]
    WrongKey(PathBuf),
    #[error("{0} cannot be opened: {1}")]
    Disk(PathBuf, String),
}

/// The open state file. Clones share it.
#[derive(Clone)]
pub struct Store {
    inner: Arc<Inner>,
}

struct Inner {
    database: Arc<Database>,
    writes: mpsc::Sender<writer::Job>,
    sequence: Arc<AtomicU64>,
    sealer: Sealer,
    writer: std::sync::Mutex<Option<std::thread::JoinHandle<()>>>,
    commits: Arc<writer::Counters>,
}

impl Store {
    /// Opens `path`, making it if it is not there, and checks that `sealer` has its key.
    pub fn open(path: &Path, sealer: Sealer) -> Result<Self, OpenError> {
        let disk =
            |reason: &dyn std::fmt::Display| OpenError::Disk(path.to_owned(), reason.to_string());
        let database = Database::create(path).map_err(|e| match e {
            DatabaseError::DatabaseAlreadyOpen => OpenError::Locked(path.to_owned()),
            e => disk(&e),
        })?;
        let sequence = prepare(&database, path, &sealer)?;
        let sequence = Arc::new(AtomicU64::new(sequence));
        let database = Arc::new(database);
        let (writes, jobs) = mpsc::channel(256);
        let commits = Arc::new(writer::Counters::default());
        let thread = writer::Writer {
            database: Arc::clone(&database),
            jobs,
            sequence: Arc::clone(&sequence),
            counters: Arc::clone(&commits),
        };
        let writer = std::thread::Builder::new()
            .name("store-writer".to_owned())
            .spawn(move || thread.run())
            .map_err(|e| disk(&e))?;
        let writer = std::sync::Mutex::new(Some(writer));
        Ok(Self { inner: Arc::new(Inner { database, writes, sequence, sealer, writer, commits }) })
    }

    /// Reads at one moment. The closure must not block: a view is of pages in memory and on disk.
    pub fn read<T>(
        &self,
        look: impl FnOnce(&View) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let transaction =
            self.inner.database.begin_read().map_err(|e| StoreError::Disk(e.to_string()))?;
        look(&View::new(&transaction))
    }

    /// Applies a change whole or not at all; on disk when this returns.
    pub async fn commit(&self, change: Change) -> Result<(), StoreError> {
        let (answer, answered) = tokio::sync::oneshot::channel();
        let job = writer::Job { change, answer };
        self.inner.writes.send(job).await.map_err(|_| StoreError::Closed)?;
        answered.await.map_err(|_| StoreError::Closed)?
    }

    /// The next number in order of making; never given twice, not even after a kill.
    pub fn next_sequence(&self) -> Sequence {
        Sequence(self.inner.sequence.fetch_add(1, Ordering::Relaxed) + 1)
    }

    pub fn sealer(&self) -> &Sealer {
        &self.inner.sealer
    }

    /// Commits and changes so far, for metrics.
    pub fn commits(&self) -> (u64, u64) {
        self.inner.commits.read()
    }
}

impl Drop for Inner {
    /// Lets the writer empty its channel and close the file before the process goes on.
    fn drop(&mut self) {
        let (closed, _) = mpsc::channel(1);
        self.writes = closed;
        let thread = self.writer.get_mut().ok().and_then(Option::take);
        if thread.is_some_and(|t| t.join().is_err()) {
            tracing::error!("the store's writer had panicked");
        }
    }
}

/// Makes the tables, checks schema and key; returns the last sequence given.
fn prepare(database: &Database, path: &Path, sealer: &Sealer) -> Result<u64, OpenError> {
    let disk = |e: &dyn std::fmt::Display| OpenError::Disk(path.to_owned(), e.to_string());
    let number = |bytes: &[u8]| bytes.try_into().map(u64::from_le_bytes).unwrap_or(0);
    let transaction = database.begin_read().map_err(|e| disk(&e))?;
    let existing = match transaction.open_table(table::META) {
        Ok(meta) => {
            let read = |key: &str| -> Result<Option<Vec<u8>>, OpenError> {
                Ok(meta.get(key).map_err(|e| disk(&e))?.map(|v| v.value().to_vec()))
            };
            let schema = read(table::SCHEMA)?.map_or(0, |v| number(&v));
            if schema > SCHEMA {
                return Err(OpenError::Newer(path.to_owned(), schema));
            }
            let check = read(table::KEY_CHECK)?
                .and_then(|v| record::decode_body::<Sealed>(&v).ok())
                .ok_or_else(|| OpenError::WrongKey(path.to_owned()))?;
            if sealer.open("meta/key_check", &check).is_err() {
                return Err(OpenError::WrongKey(path.to_owned()));
            }
            Some(read(table::SEQUENCE)?.map_or(0, |v| number(&v)))
        }
        Err(TableError::TableDoesNotExist(_)) => None,
        Err(e) => return Err(disk(&e)),
    };
    drop(transaction);
    let transaction = database.begin_write().map_err(|e| disk(&e))?;
    {
        let mut meta = transaction.open_table(table::META).map_err(|e| disk(&e))?;
        if existing.is_none() {
            let check = record::encode_body(&sealer.seal("meta/key_check", KEY_CHECK));
            let first = [
                (table::SCHEMA, SCHEMA.to_le_bytes().to_vec()),
                (table::SEQUENCE, 0_u64.to_le_bytes().to_vec()),
                (table::KEY_CHECK, check),
            ];
            for (key, value) in first {
                meta.insert(key, value.as_slice()).map_err(|e| disk(&e))?;
            }
        }
        for name in table::ALL {
            transaction.open_table(table::definition(name)).map_err(|e| disk(&e))?;
        }
    }
    transaction.commit().map_err(|e| disk(&e))?;
    Ok(existing.unwrap_or(0))
}
