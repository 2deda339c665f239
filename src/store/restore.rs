//! Puts a state into a directory: whole and verified, or not at all.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use redb::Database;
use redb::backends::FileBackend;

use super::backup::{Backup, BackupError, verified};
use super::directory as place;
use super::dump::{Import, ImportError};
use super::mark;
use super::verify::Report;
use crate::base::clock::Timestamp;
use crate::base::secret::Sealer;

/// The state's file in its directory.
pub const STATE: &str = "magnumd.redb";

/// Why nothing was restored; what was there is untouched.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    #[error(
        "{0} is there already; restore into an empty directory, or give --force to move it aside"
    )]
    Exists(PathBuf),
    #[error("{0} is in use by a running magnumd; stop it first")]
    Running(PathBuf),
    #[error(transparent)]
    Backup(#[from] BackupError),
    #[error(transparent)]
    Import(#[from] ImportError),
    #[error("{0}: {1}")]
    Disk(PathBuf, std::io::Error),
}

/// What came of it.
#[derive(Clone, Debug)]
pub struct Restored {
    pub state: PathBuf,
    /// Where the former state is now.
    pub aside: Option<PathBuf>,
    pub report: Report,
}

/// Where a state shall come from.
#[derive(Debug)]
pub enum Source {
    Backup(Backup),
    Import(Import),
}

/// Writes the state of `source` into `directory`. With `force` a state that is there is moved
/// aside, under a name with the time; it is never deleted.
pub fn restore(
    source: Source,
    sealer: &Sealer,
    directory: &Path,
    force: bool,
    now: Timestamp,
) -> Result<Restored, RestoreError> {
    let io = |path: &Path| {
        let path = path.to_owned();
        move |e| RestoreError::Disk(path, e)
    };
    if let Source::Backup(backup) = &source {
        backup.check_seal(sealer)?;
    }
    place::make(directory).map_err(io(directory))?;
    let owner = std::fs::metadata(directory).map_err(io(directory))?;
    let state = directory.join(STATE);
    // Held until the new state is in place: no magnumd starts meanwhile.
    let former = match File::open(&state) {
        Ok(_) if !force => return Err(RestoreError::Exists(state)),
        Ok(file) => {
            file.try_lock().map_err(|_| RestoreError::Running(state.clone()))?;
            Some(file)
        }
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => None,
        Err(e) => return Err(RestoreError::Disk(state, e)),
    };
    let draft = Draft(directory.join(format!("{STATE}.restoring")));
    let report = draft.fill(source, sealer)?;
    // What root restores must be readable for the daemon, whose the directory is.
    let made = std::fs::metadata(&draft.0).map_err(io(&draft.0))?;
    if (made.uid(), made.gid()) != (owner.uid(), owner.gid()) {
        std::os::unix::fs::chown(&draft.0, Some(owner.uid()), Some(owner.gid()))
            .map_err(io(&draft.0))?;
    }
    let aside = former.is_some().then(|| {
        let stamp: String =
            now.to_string().chars().take(19).filter(char::is_ascii_alphanumeric).collect();
        directory.join(format!("{STATE}.before-{stamp}"))
    });
    if let Some(aside) = &aside {
        if aside.exists() {
            return Err(RestoreError::Exists(aside.clone()));
        }
        std::fs::rename(&state, aside).map_err(io(&state))?;
    }
    // It is of the state that is no more, and would call the new one older than that.
    let mark = mark::path_of(&state);
    match std::fs::remove_file(&mark) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
            return Err(RestoreError::Disk(mark, e));
        }
        _ => {}
    }
    std::fs::rename(&draft.0, &state).map_err(io(&state))?;
    File::open(directory).and_then(|d| d.sync_all()).map_err(io(directory))?;
    drop(former);
    Ok(Restored { state, aside, report })
}

/// The new state before it is in place; gone when it does not get there.
struct Draft(PathBuf);

impl Draft {
    fn fill(&self, source: Source, sealer: &Sealer) -> Result<Report, RestoreError> {
        let io = |e| RestoreError::Disk(self.0.clone(), e);
        let state = |e: &dyn std::fmt::Display| BackupError::State(e.to_string());
        match std::fs::remove_file(&self.0) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(io(e)),
            _ => {}
        }
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&self.0)
            .map_err(io)?;
        let file = FileBackend::new(file).map_err(|e| state(&e))?;
        let database = Database::builder().create_with_backend(file).map_err(|e| state(&e))?;
        match source {
            Source::Backup(backup) => backup.load(&database)?,
            Source::Import(import) => import.load(&database, sealer)?,
        }
        let report = verified(&database, sealer)?;
        database.close().map_err(|e| state(&e))?;
        File::open(&self.0).and_then(|f| f.sync_all()).map_err(io)?;
        Ok(report)
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        if let Err(e) = std::fs::remove_file(&self.0)
            && e.kind() != std::io::ErrorKind::NotFound
        {
            tracing::warn!(path = %self.0.display(), error = %e, "a draft is left behind");
        }
    }
}
