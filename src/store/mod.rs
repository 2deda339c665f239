//! The store: every fact magnumd must remember.
//!
//! Readers see one consistent moment and never wait. Writers hand in a
//! [`Change`] and are answered when it is on disk. Nothing outside this room
//! knows there is a redb file.

pub mod backup;
mod change;
mod damage;
pub mod directory;
pub mod dump;
mod earlier;
mod file;
mod former_shapes;
#[cfg(fuzzing)]
pub mod fuzzing;
mod integrity;
mod mark;
mod meta;
mod reading;
mod record;
mod record_kind;
pub mod repair;
pub mod restore;
pub mod summary;
mod table;
#[cfg(test)]
mod tests;
pub mod verify;
mod view;
mod writer;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use redb::{Database, ReadTransaction, ReadableDatabase};
use tokio::sync::mpsc;

use crate::base::clock::Timestamp;
use crate::base::heartbeat::Heartbeat;
use crate::base::secret::Sealer;
use crate::model::Sequence;
use damage::{Damage, said};
use file::StateFile;
use mark::{Mark, Said};
use meta::Meta;

pub use change::{Change, MOST_WRITES};
pub use damage::Damages;
pub use record::{CodecError, KeyringEntry, Record, Unfit};
pub use view::{Page, Scope, Stored, View};
pub use writer::WriterMetrics;

/// The schema this release writes. Earlier states are brought up to it when they are opened:
/// [`earlier`].
const SCHEMA: u64 = 4;

/// Why the store did not do it.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Something that the change relied on has changed meanwhile: read again.
    #[error("the record has changed meanwhile")]
    Conflict,
    /// The change would exceed a limit that it named.
    #[error("the limit of {limit} is reached")]
    Limit { limit: u32 },
    /// The disk refused; nothing of the change was kept.
    #[error("the state file cannot be written: {0}")]
    Disk(String),
    /// Nobody could read again what was to be written, or it is too much at once; nothing of the
    /// change was kept.
    #[error(transparent)]
    Unfit(#[from] Unfit),
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
    #[error("{0} is not there; check storage.path, or start magnumd once to make it")]
    Missing(PathBuf),
    /// The state, and the mark beside it.
    #[error(
        "{0} is gone, but {1} says that there was a state: put a backup in its place with magnumd \
         restore, or delete {1} to begin with nothing"
    )]
    Gone(PathBuf, PathBuf),
    #[error("{0} cannot be opened: {1}")]
    Disk(PathBuf, String),
    #[error(
        "{0} is damaged: {1}; put a backup in its place with magnumd restore --force, which keeps \
         the damaged file under another name"
    )]
    Damaged(PathBuf, String),
}

/// The open state file. Clones share it.
#[derive(Clone)]
pub struct Store {
    inner: Arc<Inner>,
}

struct Inner {
    file: Arc<StateFile>,
    writes: mpsc::Sender<writer::Job>,
    sequence: Arc<AtomicU64>,
    sealer: Sealer,
    writer: std::sync::Mutex<Option<std::thread::JoinHandle<()>>>,
    metrics: WriterMetrics,
    pulse: Heartbeat,
    damage: Damage,
}

/// A writer that is busy with one group for longer than this is stuck.
const STUCK: Duration = Duration::from_secs(30);

impl Store {
    /// Opens `path`, making it if it is not there, and checks every page of it and that `sealer`
    /// has its key.
    pub fn open(path: &Path, sealer: Sealer) -> Result<Self, OpenError> {
        let disk =
            |reason: &dyn std::fmt::Display| OpenError::Disk(path.to_owned(), reason.to_string());
        if !path.exists() && mark::path_of(path).exists() {
            return Err(OpenError::Gone(path.to_owned(), mark::path_of(path)));
        }
        let damage = Damage::default();
        let (file, fell_back) = StateFile::open(path, damage.clone())?;
        let file = Arc::new(file);
        let database = file.current().map_err(|e| disk(&e))?;
        let meta = catch_unwind(AssertUnwindSafe(|| prepare(&database, path, &sealer)))
            .unwrap_or_else(|panic| Err(OpenError::Damaged(path.to_owned(), said(&*panic))))?;
        drop(database);
        let (mark, said) = Mark::open(path, meta.instance.as_deref().unwrap_or_default());
        match said {
            Said::Told(told) if told > meta.commits => damage.lost(&format!(
                "its last change is number {}, but number {told} had been acknowledged: it was \
                 damaged, or an older file was put in its place",
                meta.commits
            )),
            Said::Told(_) if fell_back => {
                tracing::warn!("a change that nobody had been told of was cut off and is left out");
            }
            Said::Nothing | Said::Damaged if fell_back => damage.lost(
                "its last change was damaged and is left out, and nothing tells whether it had \
                 been acknowledged",
            ),
            Said::Damaged => damage.mark(),
            Said::Nothing => mark.write(meta.commits),
            Said::Told(_) => {}
        }
        let sequence = Arc::new(AtomicU64::new(meta.sequence));
        let (writes, jobs) = mpsc::channel(256);
        let (metrics, pulse) = (WriterMetrics::default(), Heartbeat::default());
        let thread = writer::Writer {
            file: Arc::clone(&file),
            jobs,
            sequence: Arc::clone(&sequence),
            commits: meta.commits,
            mark,
            damage: damage.clone(),
            metrics: metrics.clone(),
            pulse: pulse.clone(),
        };
        let writer = std::thread::Builder::new()
            .name("store-writer".to_owned())
            .spawn(move || thread.run())
            .map_err(|e| disk(&e))?;
        let writer = std::sync::Mutex::new(Some(writer));
        let inner = Inner { file, writes, sequence, sealer, writer, metrics, pulse, damage };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Opens what is there and makes nothing.
    pub fn open_existing(path: &Path, sealer: Sealer) -> Result<Self, OpenError> {
        match path.exists() {
            true => Self::open(path, sealer),
            false => Err(OpenError::Missing(path.to_owned())),
        }
    }

    /// Gives back what deleted records held; returns the file's size before and after. Nobody
    /// else may have it open, so this is for a process that does nothing else.
    pub fn compact(path: &Path, sealer: Sealer) -> Result<(u64, u64), OpenError> {
        // The writer has closed the file when this returns.
        drop(Self::open_existing(path, sealer)?);
        let disk = |e: &dyn std::fmt::Display| OpenError::Disk(path.to_owned(), e.to_string());
        let size = || std::fs::metadata(path).map(|m| m.len()).map_err(|e| disk(&e));
        let before = size()?;
        let (mut database, _) = file::open(path)?;
        // One pass frees what the next can give back.
        while database.compact().map_err(|e| disk(&e))? {}
        database.close().map_err(|e| disk(&e))?;
        Ok((before, size()?))
    }

    /// Writes one moment of the state to `out`, while others go on writing. Blocks.
    pub fn backup(
        &self,
        made_at: Timestamp,
        out: &mut dyn std::io::Write,
    ) -> Result<backup::Header, StoreError> {
        let (_open, transaction) = self.moment()?;
        self.whole(|| backup::write(&transaction, self.sealer(), made_at, out))
    }

    /// Checks the file's own checksums, then every record, index entry, secret and reference of
    /// one moment. Nothing is written while the file is checked. Blocks.
    pub fn verify(&self) -> Result<verify::Report, StoreError> {
        let checked = self.inner.file.check()?;
        let mut report = {
            let (_open, transaction) = self.moment()?;
            self.whole(|| verify::verify(&transaction, self.sealer()))?
        };
        report.findings.extend(verify::of_the_file(checked, &self.damage()));
        Ok(report)
    }

    /// What is known to be damaged, as far as it was read.
    pub fn damage(&self) -> Damages {
        self.inner.damage.now()
    }

    /// Reads all there is, so that damage is known before somebody needs what is damaged. Blocks.
    pub fn look_over(&self) -> Result<(), StoreError> {
        self.inner.file.check()?;
        self.read(|view| view.look_over())
    }

    /// Goes through the state as a whole; a database that falls meanwhile is damaged.
    fn whole<T>(&self, work: impl FnOnce() -> Result<T, StoreError>) -> Result<T, StoreError> {
        catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| {
            let reason = said(&*panic);
            self.inner.damage.file(&reason);
            Err(StoreError::Disk(reason))
        })
    }

    /// Writes one moment as JSON lines. Blocks.
    pub fn export(
        &self,
        secrets: dump::Secrets,
        made_at: Timestamp,
        out: &mut dyn std::io::Write,
    ) -> Result<dump::Header, StoreError> {
        let (_open, transaction) = self.moment()?;
        self.whole(|| dump::export(&transaction, self.sealer(), secrets, made_at, out))
    }

    /// One moment for a long read; while it lives the file cannot be opened anew.
    fn moment(&self) -> Result<(Arc<Database>, ReadTransaction), StoreError> {
        let database = self.inner.file.current()?;
        let transaction = self.inner.damage.guarded(|| database.begin_read())?;
        Ok((database, transaction))
    }

    /// Reads at one moment. The closure must not block: a view is of pages in memory and on disk.
    pub fn read<T>(
        &self,
        look: impl FnOnce(&View) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let (_open, transaction) = self.moment()?;
        look(&View::new(&transaction, &self.inner.damage))
    }

    /// Applies a change whole or not at all; on disk when this returns.
    pub async fn commit(&self, change: Change) -> Result<(), StoreError> {
        change.check()?;
        let (answer, answered) = tokio::sync::oneshot::channel();
        let job = writer::Job { change, answer };
        self.inner.writes.send(job).await.map_err(|_| StoreError::Closed)?;
        answered.await.map_err(|_| StoreError::Closed)?
    }

    /// The next number in order of making; never given twice, not even after a kill.
    pub fn next_sequence(&self) -> Sequence {
        Sequence(self.inner.sequence.fetch_add(1, Ordering::Relaxed) + 1)
    }

    /// The last number that was given.
    pub fn last_sequence(&self) -> Sequence {
        Sequence(self.inner.sequence.load(Ordering::Relaxed))
    }

    pub fn sealer(&self) -> &Sealer {
        &self.inner.sealer
    }

    /// The name that this state was given when it was made.
    pub fn instance(&self) -> Result<String, StoreError> {
        let disk = |e: &dyn std::fmt::Display| StoreError::Disk(e.to_string());
        let (_open, transaction) = self.moment()?;
        let meta = self.whole(|| Meta::read(&transaction).map_err(|e| disk(&e)))?;
        Ok(meta.and_then(|meta| meta.instance).unwrap_or_default())
    }

    pub fn metrics(&self) -> &WriterMetrics {
        &self.inner.metrics
    }

    /// Bytes of the state file and bytes free on its disk, where they can be told.
    pub fn sizes(&self) -> (Option<u64>, Option<u64>) {
        self.inner.file.sizes()
    }

    /// Why nothing can be written, if that is so; a commit of nothing finds out anew.
    pub fn trouble(&self) -> Option<String> {
        self.inner.file.trouble()
    }

    /// Whether the writer has ended before its time: the database fell over what it read.
    pub fn has_fallen(&self) -> bool {
        let thread = self.inner.writer.lock().unwrap_or_else(PoisonError::into_inner);
        thread.as_ref().is_some_and(std::thread::JoinHandle::is_finished)
    }

    /// Whether the writer would answer.
    pub fn is_alive(&self) -> bool {
        let thread = self.inner.writer.lock().unwrap_or_else(PoisonError::into_inner);
        thread.as_ref().is_some_and(|t| !t.is_finished()) && self.inner.pulse.is_alive(STUCK)
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

/// Makes the tables, checks schema and key, brings an older state up to date.
fn prepare(database: &Database, path: &Path, sealer: &Sealer) -> Result<Meta, OpenError> {
    let disk = |e: &dyn std::fmt::Display| OpenError::Disk(path.to_owned(), e.to_string());
    let transaction = database.begin_read().map_err(|e| disk(&e))?;
    let existing = Meta::read(&transaction).map_err(|e| disk(&e))?;
    if let Some(meta) = &existing {
        if meta.schema > SCHEMA {
            return Err(OpenError::Newer(path.to_owned(), meta.schema));
        }
        if !meta.fits(sealer) {
            return Err(OpenError::WrongKey(path.to_owned()));
        }
        if meta.schema == SCHEMA
            && meta.instance.is_some()
            && record_kind::tables()
                .all(|name| transaction.open_table(table::definition(name)).is_ok())
        {
            return Ok(meta.clone());
        }
    }
    drop(transaction);
    let meta = existing.unwrap_or_else(|| Meta::first(sealer)).named();
    let (from, meta) = (meta.schema, Meta { schema: SCHEMA, ..meta });
    let transaction = database.begin_write().map_err(|e| disk(&e))?;
    meta.write(&transaction).map_err(|e| disk(&e))?;
    for name in record_kind::tables() {
        transaction.open_table(table::definition(name)).map_err(|e| disk(&e))?;
    }
    if from < SCHEMA {
        let renewed = earlier::renew(&transaction, from, sealer).map_err(|e| disk(&e))?;
        tracing::info!(from, to = SCHEMA, records = renewed, "the state was brought up to date");
    }
    transaction.commit().map_err(|e| disk(&e))?;
    Ok(meta)
}
