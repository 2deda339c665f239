//! Where log lines go.

use std::io::IsTerminal;

use magnumd::config::{Log, LogFormat};
use tracing::error;
use tracing_subscriber::prelude::*;
use tracing_subscriber::{EnvFilter, Registry, reload};

/// Why the log could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum LoggingError {
    #[error("RUST_LOG = '{0}' is not a filter: {1}")]
    Level(String, String),
    #[error("log.format = 'journald': {0}")]
    Journald(String),
}

/// The filter of a running log.
pub struct LogLevel(reload::Handle<EnvFilter, Registry>);

impl LogLevel {
    /// `RUST_LOG` overrides the configured level.
    pub fn filter(log: &Log) -> Result<EnvFilter, LoggingError> {
        let level = std::env::var("RUST_LOG").unwrap_or_else(|_| log.level.clone());
        EnvFilter::try_new(&level).map_err(|e| LoggingError::Level(level, e.to_string()))
    }

    pub fn replace(&self, filter: EnvFilter) {
        if let Err(error) = self.0.reload(filter) {
            error!(%error, "the log's level cannot be changed");
        }
    }
}

/// Installs the process's log.
pub fn start(log: &Log) -> Result<LogLevel, LoggingError> {
    let (filter, handle) = reload::Layer::new(LogLevel::filter(log)?);
    let registry = tracing_subscriber::registry().with(filter);
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    match log.format {
        LogFormat::Text => {
            let colours = std::io::stderr().is_terminal();
            registry.with(lines.with_ansi(colours)).init();
        }
        LogFormat::Json => registry.with(lines.json()).init(),
        #[cfg(feature = "journald")]
        LogFormat::Journald => {
            let layer =
                tracing_journald::layer().map_err(|e| LoggingError::Journald(e.to_string()))?;
            registry.with(layer).init();
        }
        #[cfg(not(feature = "journald"))]
        LogFormat::Journald => {
            let reason = "this magnumd was built without the feature journald";
            return Err(LoggingError::Journald(reason.to_owned()));
        }
    }
    Ok(LogLevel(handle))
}
