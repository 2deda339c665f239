//! `magnumd serve`: the daemon itself.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use magnumd::config::Config;
use magnumd::daemon::{Daemon, Environment};
use sd_notify::NotifyState;
use tokio_util::sync::CancellationToken;

use super::{WRONG_CONFIGURATION, complain, logging, signals};

#[derive(Debug, Args)]
pub struct Serve {
    /// The configuration.
    #[arg(long, value_name = "FILE", default_value = "/etc/magnumd/magnumd.toml")]
    config: PathBuf,
}

impl Serve {
    pub fn run(self) -> ExitCode {
        let config = match Config::load(&self.config) {
            Ok(config) => config,
            Err(e) => {
                complain(&e);
                return ExitCode::from(WRONG_CONFIGURATION);
            }
        };
        if let Err(e) = logging::start(&config.log) {
            complain(&e);
            return ExitCode::from(WRONG_CONFIGURATION);
        }
        let mut runtime = tokio::runtime::Builder::new_multi_thread();
        if let Some(threads) = config.runtime.worker_threads {
            runtime.worker_threads(threads.max(1));
        }
        let runtime = match runtime.enable_all().build() {
            Ok(runtime) => runtime,
            Err(e) => {
                complain(&e);
                return ExitCode::FAILURE;
            }
        };
        runtime.block_on(async {
            let stop = CancellationToken::new();
            signals::stop_on_signal(stop.clone());
            match Daemon::start(&config, Environment::default(), stop.clone()).await {
                Ok(daemon) => {
                    tell_service_manager(NotifyState::Ready);
                    let told = stop.clone();
                    tokio::spawn(async move {
                        told.cancelled().await;
                        tell_service_manager(NotifyState::Stopping);
                    });
                    daemon.run().await;
                    ExitCode::SUCCESS
                }
                Err(e) => {
                    complain(&e);
                    ExitCode::FAILURE
                }
            }
        })
    }
}

/// Does nothing where there is no service manager.
fn tell_service_manager(state: NotifyState<'_>) {
    if let Err(error) = sd_notify::notify(&[state]) {
        tracing::debug!(%error, "the service manager could not be told");
    }
}
