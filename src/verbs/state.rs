//! What the verbs about the state share: where it is, its key, and whether a magnumd has it open.

use std::cell::OnceCell;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use magnumd::base::secret::Sealer;
use magnumd::conductor::custodian::Custodian;
use magnumd::config::{Config, ConfigError};
use magnumd::daemon::{self, SEALING_KEY, StartError, read_sealer};
use magnumd::ops::control::{Client, ControlError};
use magnumd::store::restore::STATE;
use magnumd::store::{OpenError, Store};

use super::source::Source;
use super::{Output, UNUSABLE_STATE, WRONG_CONFIGURATION, complain};

/// Which state, and how to speak about it.
#[derive(Debug, Args)]
pub struct Place {
    #[command(flatten)]
    source: Source,
    /// The directory of the state, instead of the configuration's storage.path.
    #[arg(long, value_name = "DIR")]
    state: Option<PathBuf>,
    /// The sealing key, instead of the configuration's storage.sealing_key_file.
    #[arg(long, value_name = "FILE")]
    key: Option<PathBuf>,
    /// How to say it.
    #[arg(long, value_enum, default_value_t = Output::Text)]
    pub output: Output,
    /// The configuration, once it was read.
    #[arg(skip)]
    known: OnceCell<Option<Config>>,
}

/// Why a verb about the state did not do it.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error(transparent)]
    Key(#[from] StartError),
    #[error(transparent)]
    Open(#[from] OpenError),
    #[error(transparent)]
    Store(#[from] magnumd::store::StoreError),
    #[error(transparent)]
    Backup(#[from] magnumd::store::backup::BackupError),
    #[error(transparent)]
    Import(#[from] magnumd::store::dump::ImportError),
    #[error(transparent)]
    Restore(#[from] magnumd::store::restore::RestoreError),
    #[error(transparent)]
    Repair(#[from] magnumd::store::repair::RepairError),
    #[error(transparent)]
    Control(#[from] ControlError),
    #[error(transparent)]
    Custody(#[from] magnumd::conductor::custodian::CustodyError),
    #[error("{0}: {1}")]
    File(PathBuf, std::io::Error),
    #[error("{0}")]
    Other(String),
}

/// Runs a verb's work and turns its end into an exit code.
pub fn run(work: impl Future<Output = Result<ExitCode, Failure>>) -> ExitCode {
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(e) => {
            complain(&e);
            return ExitCode::FAILURE;
        }
    };
    match runtime.block_on(work) {
        Ok(code) => code,
        Err(e) => {
            complain(&e);
            match e {
                Failure::Config(_) => ExitCode::from(WRONG_CONFIGURATION),
                Failure::Open(OpenError::Damaged(..)) => ExitCode::from(UNUSABLE_STATE),
                _ => ExitCode::FAILURE,
            }
        }
    }
}

/// Whoever can read the state: the magnumd that has it open, or this process.
pub enum Reader {
    Daemon(Client),
    File(Box<Store>),
}

impl Place {
    /// The configuration; not needed where directory and key are given.
    fn config(&self) -> Result<Option<&Config>, Failure> {
        if let Some(known) = self.known.get() {
            return Ok(known.as_ref());
        }
        let config = match self.source.config() {
            Err(ConfigError::Unreadable { .. })
                if self.state.is_some() && !self.source.path().exists() =>
            {
                None
            }
            config => Some(config?),
        };
        Ok(self.known.get_or_init(|| config).as_ref())
    }

    pub fn directory(&self) -> Result<PathBuf, Failure> {
        if let Some(state) = &self.state {
            return Ok(state.clone());
        }
        Ok(self.config()?.map(|c| c.storage.path.clone()).unwrap_or_default())
    }

    /// The sealing key for a state in `directory`.
    pub fn key_for(&self, directory: &Path) -> Result<(PathBuf, Sealer), Failure> {
        let beside = directory.join(SEALING_KEY);
        let path = match &self.key {
            Some(key) => key.clone(),
            None => match self.config()?.map(|c| &c.storage) {
                // As the daemon does for its own state; elsewhere a key that lies there comes first.
                Some(storage) if storage.path == directory || !beside.exists() => {
                    let own = storage.sealing_key_file.clone();
                    own.unwrap_or_else(|| storage.path.join(SEALING_KEY))
                }
                _ => beside,
            },
        };
        let sealer = read_sealer(&path)?;
        Ok((path, sealer))
    }

    /// The sealing key of a backup: where it is said, no directory of a state is needed.
    pub fn backup_key(&self) -> Result<Sealer, Failure> {
        match &self.key {
            Some(key) => Ok(read_sealer(key)?),
            None => Ok(self.key_for(&self.directory()?)?.1),
        }
    }

    /// The magnumd that runs on the state, or the state itself.
    pub async fn reader(&self) -> Result<Reader, Failure> {
        let directory = self.directory()?;
        if let Some(client) = Client::connect(&directory).await? {
            return Ok(Reader::Daemon(client));
        }
        let (_, sealer) = self.key_for(&directory)?;
        let store = Store::open_existing(&directory.join(STATE), sealer)?;
        Ok(Reader::File(Box::new(store)))
    }

    /// Whoever looks after orphans while no magnumd runs; this needs OpenStack.
    pub fn custodian(&self, store: Store) -> Result<Custodian, Failure> {
        match self.config()? {
            Some(config) => Ok(daemon::custodian(config, store)?),
            // Says which file is missing.
            None => Ok(daemon::custodian(&self.source.config()?, store)?),
        }
    }

    /// Refuses while a magnumd runs on the state.
    pub async fn not_running(&self, directory: &Path, verb: &str) -> Result<(), Failure> {
        match Client::connect(directory).await? {
            None => Ok(()),
            Some(_) => Err(Failure::Other(format!(
                "a magnumd runs on {}; stop it, then {verb} (a running one can be backed up, \
                 verified and exported)",
                directory.display()
            ))),
        }
    }
}

/// A line on the terminal that shows how much has passed; nothing where there is no terminal.
pub fn bytes_passing(what: &str) -> ProgressBar {
    let bar = ProgressBar::new_spinner().with_message(what.to_owned());
    if let Ok(style) = ProgressStyle::with_template("{spinner} {msg}: {bytes} ({bytes_per_sec})") {
        bar.set_style(style);
    }
    bar.enable_steady_tick(Duration::from_millis(100));
    bar
}

/// 1234567 as 1.2 MB.
pub fn megabytes(bytes: u64) -> String {
    format!("{}.{} MB", bytes / 1_000_000, bytes % 1_000_000 / 100_000)
}
