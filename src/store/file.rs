//! The state file: opened, and opened anew after the disk has refused.
//!
//! Once a write has failed, redb answers nothing more, reads included, until its file is
//! opened again. Opening writes only in place, so it succeeds on a full disk: reads go on, and
//! writes are tried again as soon as there may be room.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::{Duration, Instant};

use redb::{Database, DatabaseError};
use tracing::{error, info};

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
}

/// Why nothing can be written, and since when that is known.
struct Trouble {
    reason: String,
    seen: Instant,
}

impl StateFile {
    pub fn open(path: &Path) -> Result<Self, OpenError> {
        let open = RwLock::new(Some(Arc::new(open(path)?)));
        Ok(Self { path: path.to_owned(), open, trouble: Mutex::new(None) })
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
            Ok(database) => {
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

pub(super) fn open(path: &Path) -> Result<Database, OpenError> {
    Database::create(path).map_err(|e| match e {
        DatabaseError::DatabaseAlreadyOpen => OpenError::Locked(path.to_owned()),
        e => OpenError::Disk(path.to_owned(), e.to_string()),
    })
}
