//! What is known to be damaged: told once when it is found, shown until it is mended.
//!
//! A record that cannot be read is left out of what spans clusters and projects, and an error for
//! whoever asks for it by name: it is one tenant's harm and nobody else's.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tracing::{error, info};

use super::StoreError;
use super::table::{self, Key};

/// Most records that are remembered one by one; beyond that only verify has them all.
const MOST: usize = 1000;

/// Clones share what they know.
#[derive(Clone, Debug, Default)]
pub struct Damage(Arc<Mutex<Known>>);

#[derive(Debug, Default)]
struct Known {
    records: BTreeMap<(&'static str, Key), String>,
    file: Option<String>,
    lost: Option<String>,
    mark: bool,
}

/// All that is known now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Damages {
    /// Records that cannot be read: their table, and their key without any word of a tenant's.
    pub records: Vec<(&'static str, String)>,
    /// Why the file as a whole cannot be trusted any more.
    pub file: Option<String>,
    /// What was promised and is not there.
    pub lost: Option<String>,
    /// The mark beside the file said nothing when it was opened. It is written anew with the next
    /// change, and no request depends on it: for verify to name.
    pub mark: bool,
}

impl Damages {
    pub const fn is_empty(&self) -> bool {
        self.records.is_empty() && self.file.is_none() && self.lost.is_none()
    }
}

impl Damage {
    fn known(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn now(&self) -> Damages {
        let known = self.known();
        let named = |(table, key): &(&'static str, Key)| (*table, table::anonymous(&key.0));
        Damages {
            records: known.records.keys().map(named).collect(),
            file: known.file.clone(),
            lost: known.lost.clone(),
            mark: known.mark,
        }
    }

    /// A record cannot be read, or an index entry leads to none.
    pub fn record(&self, table: &'static str, key: &[u8], reason: &dyn Display) {
        let place = (table, Key(key.to_vec()));
        let mut known = self.known();
        if known.records.contains_key(&place) || known.records.len() >= MOST {
            return;
        }
        known.records.insert(place, reason.to_string());
        drop(known);
        let key = table::shown(table, key);
        error!(
            table, key, %reason,
            "an entry of the state is damaged and is left out; magnumd verify says what helps"
        );
    }

    /// Records were written anew or deleted: those of a table whose key is, or begins with, `key`.
    pub fn mended(&self, table: &'static str, key: &Key, is_prefix: bool) {
        let mut known = self.known();
        if known.records.is_empty() {
            return;
        }
        let fits = |place: &(&'static str, Key)| {
            place.0 == table && (place.1 == *key || (is_prefix && place.1.0.starts_with(&key.0)))
        };
        let before = known.records.len();
        known.records.retain(|place, _| !fits(place));
        if known.records.len() < before {
            info!(table, key = table::shown(table, &key.0), "a damaged record is no more");
        }
    }

    /// The file is not as it was written.
    pub fn file(&self, reason: &str) {
        let mut known = self.known();
        if known.file.is_none() {
            error!(reason, "the state file is damaged; stop magnumd and restore a backup");
        }
        known.file.get_or_insert_with(|| reason.to_owned());
    }

    /// What was answered is not in the file.
    pub fn lost(&self, what: &str) {
        error!(what, "the state has lost what was acknowledged");
        self.known().lost = Some(what.to_owned());
    }

    /// Nothing tells whether the file is as late as it should be.
    pub fn mark(&self) {
        self.known().mark = true;
    }

    /// Reads from the database, which panics at some pages that were damaged after it had been
    /// opened, and names others.
    pub fn guarded<T, E: Into<redb::Error>>(
        &self,
        read: impl FnOnce() -> Result<T, E>,
    ) -> Result<T, StoreError> {
        match catch_unwind(AssertUnwindSafe(read)) {
            Ok(Ok(found)) => Ok(found),
            Ok(Err(error)) => {
                let error: redb::Error = error.into();
                if matches!(error, redb::Error::Corrupted(_) | redb::Error::LockPoisoned(_)) {
                    self.file(&error.to_string());
                }
                Err(StoreError::Disk(error.to_string()))
            }
            Err(panic) => {
                let reason = said(&*panic);
                self.file(&reason);
                Err(StoreError::Disk(reason))
            }
        }
    }
}

/// What a panic says.
pub fn said(panic: &(dyn std::any::Any + Send)) -> String {
    let words = panic.downcast_ref::<String>().map(String::as_str);
    let words = words.or_else(|| panic.downcast_ref::<&str>().copied());
    format!("the database fell over what it read: {}", words.unwrap_or("it does not say why"))
}
