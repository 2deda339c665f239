//! The state file: opened, and opened anew after the disk has refused.
//!
//! Once a write has failed, redb answers nothing more, reads included, until its file is
//! opened again. Opening writes only in place, so it succeeds on a full disk: reads go on, and
//! writes are tried again as soon as there may be room.

use std::fs::OpenOptions;
use std::io::ErrorKind;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::{Duration, Instant};

use redb::backends::FileBackend;
use redb::{Database, DatabaseError, StorageError};
use tracing::{error, info, warn};

use super::damage::{Damage, said};
use super::integrity::{self, FellBack};
use super::{OpenError, StoreError};

/// No commit needs more. With less on the disk none is begun, so that none fails half-way.
const ROOM: u64 = 8 << 20;
/// How long writes are refused unasked after one has failed: opening anew takes time.
const REST: Duration = Duration::from_secs(1);

pub struct StateFile {
    path: PathBuf,
    /// None while it cannot be opened.
    open: RwLock<Option<Arc<Database>>>,
    trouble: Mutex<Option<Trouble>>,
    damage: Damage,
}

/// Why nothing can be written, and since when that is known.
struct Trouble {
    reason: String,
    seen: Instant,
}

impl StateFile {
    /// With it, whether the last commit was damaged and left out.
    pub fn open(path: &Path, damage: Damage) -> Result<(Self, bool), OpenError> {
        let (database, fell_back) = open(path)?;
        let open = RwLock::new(Some(Arc::new(database)));
        Ok((Self { path: path.to_owned(), open, trouble: Mutex::new(None), damage }, fell_back))
    }

    /// Why the file's own checksums do not hold, if they do not. No commit begins meanwhile.
    pub fn check(&self) -> Result<Option<String>, StoreError> {
        let database = self.current()?;
        // Dropped without a commit, it writes nothing; until then nobody else does.
        let hold = self.damage.guarded(|| database.begin_write())?;
        let found = integrity::check(&self.path);
        self.damage.guarded(|| hold.abort())?;
        let found = found.map_err(|e| StoreError::Disk(e.to_string()))?;
        if let Some(reason) = &found {
            self.damage.file(reason);
        }
        Ok(found)
    }

    /// The open file. Whoever holds it for long keeps it from being opened anew.
    pub fn current(&self) -> Result<Arc<Database>, StoreError> {
        let open = self.open.read().unwrap_or_else(PoisonError::into_inner);
        open.clone().ok_or_else(|| StoreError::Disk(self.trouble().unwrap_or_default()))
    }

    /// Why nothing can be written, as far as is known.
    pub fn trouble(&self) -> Option<String> {
        self.noted().as_ref().map(|trouble| trouble.reason.clone())
    }

    /// Bytes of the file, and bytes free where it lies.
    pub fn sizes(&self) -> (Option<u64>, Option<u64>) {
        (std::fs::metadata(&self.path).ok().map(|m| m.len()), self.free())
    }

    fn free(&self) -> Option<u64> {
        let disk = rustix::fs::statvfs(&self.path).ok()?;
        Some(disk.f_bavail.saturating_mul(disk.f_frsize))
    }

    /// The open file for a commit, or why none is worth trying.
    pub fn for_writing(&self) -> Result<Arc<Database>, String> {
        if let Some(trouble) = &*self.noted()
            && trouble.seen.elapsed() < REST
        {
            return Err(trouble.reason.clone());
        }
        if self.free().is_some_and(|free| free < ROOM) {
            let path = self.path.display();
            let reason = format!("less than {} MiB are free on the disk of {path}", ROOM >> 20);
            self.note(&reason);
            return Err(reason);
        }
        if self.open.read().unwrap_or_else(PoisonError::into_inner).is_none() {
            self.reopen();
        }
        self.current().map_err(|e| e.to_string())
    }

    /// A commit has succeeded.
    pub fn works(&self) {
        if self.noted().take().is_some() {
            info!("the state file can be written again");
        }
    }

    /// A commit has failed; opens the file anew if redb has given up on it.
    pub fn failed(&self, database: Arc<Database>, reason: &str) {
        let has_given_up = match database.begin_write() {
            Ok(transaction) => transaction.abort().is_err(),
            Err(_) => true,
        };
        drop(database);
        if has_given_up {
            self.note(reason);
            self.reopen();
        }
    }

    fn reopen(&self) {
        let former = self.open.write().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(mut former) = former {
            // Reads that have begun end soon, in an error if they need the disk.
            while let Err(shared) = Arc::try_unwrap(former) {
                std::thread::sleep(Duration::from_millis(1));
                former = shared;
            }
        }
        match open(&self.path) {
            // What it may have left out is the commit that has just failed.
            Ok((database, _)) => {
                let mut open = self.open.write().unwrap_or_else(PoisonError::into_inner);
                *open = Some(Arc::new(database));
            }
            Err(error) => self.note(&error.to_string()),
        }
    }

    fn note(&self, reason: &str) {
        let mut trouble = self.noted();
        if trouble.as_ref().is_none_or(|known| known.reason != reason) {
            error!(reason, "the state file cannot be written");
        }
        *trouble = Some(Trouble { reason: reason.to_owned(), seen: Instant::now() });
    }

    fn noted(&self) -> MutexGuard<'_, Option<Trouble>> {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Opens the file after every page of it was found to be as it was written; makes it if it is
/// not there. Answers too whether the last commit was damaged and therefore left out.
pub(super) fn open(path: &Path) -> Result<(Database, bool), OpenError> {
    if !path.exists() {
        make(path).map_err(|e| OpenError::Disk(path.to_owned(), e.to_string()))?;
    }
    let damaged = |reason: String| OpenError::Damaged(path.to_owned(), reason);
    let length = std::fs::metadata(path).map_err(|e| disk(path, &e))?.len();
    if length == 0 {
        return Err(damaged("it is empty, as magnumd never leaves it".to_owned()));
    }
    keep_private(path).map_err(|e| disk(path, &e))?;
    let fell_back = FellBack::default();
    let mut builder = Database::builder();
    builder.set_check_integrity_on_open(true).set_repair_callback(fell_back.observer());
    let opened = catch_unwind(AssertUnwindSafe(|| builder.open(path)));
    let database = match opened {
        Ok(Ok(database)) => database,
        Ok(Err(DatabaseError::DatabaseAlreadyOpen)) => {
            return Err(OpenError::Locked(path.to_owned()));
        }
        Ok(Err(DatabaseError::Storage(StorageError::Io(e)))) if !is_of_content(&e) => {
            return Err(disk(path, &e));
        }
        Ok(Err(error)) => return Err(damaged(error.to_string())),
        Err(panic) => return Err(damaged(said(&*panic))),
    };
    Ok((database, fell_back.has_happened()))
}

/// A state that was copied here may be open to others: it holds every cluster's keys, sealed, and
/// what its tenants wrote, as it is.
fn keep_private(path: &Path) -> std::io::Result<()> {
    let mut permissions = std::fs::metadata(path)?.permissions();
    if permissions.mode() & 0o077 == 0 {
        return Ok(());
    }
    warn!(path = %path.display(), mode = format!("{:o}", permissions.mode() & 0o777),
          "others could read the state file; now its owner alone can");
    permissions.set_mode(0o600);
    std::fs::set_permissions(path, permissions)
}

fn disk(path: &Path, error: &std::io::Error) -> OpenError {
    OpenError::Disk(path.to_owned(), error.to_string())
}

/// Whether the file could be read and what is in it is wrong.
fn is_of_content(error: &std::io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::InvalidData | ErrorKind::UnexpectedEof | ErrorKind::InvalidInput
    )
}

/// Makes an empty state for its owner alone, whole or not at all: what is there without content
/// was damaged, and is no state that begins.
fn make(path: &Path) -> std::io::Result<()> {
    let draft = path.with_extension(format!("new-{}", std::process::id()));
    let made = fill(&draft).and_then(|()| match std::fs::hard_link(&draft, path) {
        // Another magnumd was faster.
        Err(e) if e.kind() == ErrorKind::AlreadyExists => Ok(()),
        linked => linked,
    });
    match std::fs::remove_file(&draft) {
        Err(e) if e.kind() != ErrorKind::NotFound => made.and(Err(e)),
        _ => made,
    }
}

fn fill(draft: &Path) -> std::io::Result<()> {
    let mut options = OpenOptions::new();
    let options = options.read(true).write(true).create(true).truncate(true).mode(0o600);
    let file = options.open(draft)?;
    let other = |e: DatabaseError| match e {
        DatabaseError::Storage(StorageError::Io(e)) => e,
        e => std::io::Error::other(e.to_string()),
    };
    let backend = FileBackend::new(file).map_err(other)?;
    Database::builder().create_with_backend(backend).map_err(other)?.close().map_err(other)
}
