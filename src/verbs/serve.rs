//! `magnumd serve`: the daemon itself.

use std::process::ExitCode;

use clap::Args;
use magnumd::config::{Layers, Loaded};
use magnumd::daemon::{Daemon, Environment, Panicked, StartError};
use magnumd::store::{OpenError, StoreError};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use super::logging::{self, LogLevel};
use super::reload::Reload;
use super::source::Source;
use super::{UNUSABLE_STATE, WRONG_CONFIGURATION, complain, manager, signals};

/// As in sysexits.h: what the operator has to look at.
const NO_LISTENER: u8 = 69;
const SOFTWARE: u8 = 70;
const DISK: u8 = 74;
const IN_USE: u8 = 75;

#[derive(Debug, Args)]
#[command(after_help = "Signals: SIGTERM and SIGINT let what runs finish, a second one stops at \
once; SIGHUP reads log.level, the policy and the TLS files again.\n\nExit codes: 65 the state is \
of a newer release or damaged, 69 a listener is taken, 70 a part of magnumd panicked, 74 the disk refuses, 75 another magnumd \
uses the state, 78 the configuration or the sealing key is wrong.")]
pub struct Serve {
    #[command(flatten)]
    source: Source,
}

impl Serve {
    pub fn run(self) -> ExitCode {
        let layers = self.source.layers();
        let loaded = match layers.load() {
            Ok(loaded) => loaded,
            Err(e) => {
                complain(&e);
                return ExitCode::from(WRONG_CONFIGURATION);
            }
        };
        let level = match logging::start(&loaded.config.log) {
            Ok(level) => level,
            Err(e) => {
                complain(&e);
                return ExitCode::from(WRONG_CONFIGURATION);
            }
        };
        for warning in &loaded.warnings {
            warn!("{warning}");
        }
        for note in &loaded.notes {
            debug!("{note}");
        }
        let mut runtime = tokio::runtime::Builder::new_multi_thread();
        if let Some(threads) = loaded.config.runtime.worker_threads {
            runtime.worker_threads(threads.max(1));
        }
        let outcome =
            runtime.enable_all().build().map(|r| r.block_on(serve(layers, loaded, level)));
        match outcome {
            Ok(Ok(())) => ExitCode::SUCCESS,
            Ok(Err(e)) => {
                complain(&e);
                ExitCode::from(code(&e))
            }
            Err(e) => {
                complain(&e);
                ExitCode::FAILURE
            }
        }
    }
}

/// Why the daemon does not serve any more.
#[derive(Debug, thiserror::Error)]
enum Ended {
    #[error(transparent)]
    Start(#[from] StartError),
    #[error(transparent)]
    Panicked(#[from] Panicked),
}

async fn serve(layers: Layers, loaded: Loaded, level: LogLevel) -> Result<(), Ended> {
    let stop = CancellationToken::new();
    signals::stop_on_signal(stop.clone());
    // Before anything else: without a handler this signal ends the process.
    let hangups = signal(SignalKind::hangup());
    let daemon = Daemon::start(&loaded.config, Environment::default(), stop.clone()).await?;
    let handle = daemon.handle();
    manager::ready();
    tokio::spawn(manager::attend(handle.clone()));
    match hangups {
        Ok(hangups) => {
            let reload = Reload { layers, started: loaded, handle, level };
            tokio::spawn(reload.at_each(hangups));
        }
        Err(error) => warn!(%error, "SIGHUP cannot be caught; it ends the process"),
    }
    tokio::spawn(async move {
        stop.cancelled().await;
        manager::stopping();
    });
    Ok(daemon.run().await?)
}

/// The exit code tells a service manager whether trying again makes sense.
const fn code(error: &Ended) -> u8 {
    let error = match error {
        Ended::Start(error) => error,
        Ended::Panicked(_) => return SOFTWARE,
    };
    match error {
        StartError::Open(OpenError::Locked(_)) => IN_USE,
        StartError::Open(OpenError::Newer(..) | OpenError::Damaged(..) | OpenError::Gone(..))
        | StartError::Store(StoreError::Corrupt(_))
        | StartError::Keyring { .. } => UNUSABLE_STATE,
        StartError::Open(OpenError::Disk(..) | OpenError::Missing(_))
        | StartError::Directory { .. }
        | StartError::Store(_) => DISK,
        StartError::Listen { .. } => NO_LISTENER,
        // Of the documented ones none fits: the system is out of threads.
        StartError::Thread(_) => 1,
        StartError::Open(OpenError::WrongKey(_))
        | StartError::SealingKey { .. }
        | StartError::Tls(_)
        | StartError::ApiTls(_)
        | StartError::Pki(_)
        | StartError::Policy(_)
        | StartError::File { .. }
        | StartError::Drivers(_) => WRONG_CONFIGURATION,
    }
}
