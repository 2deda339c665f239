//! SIGHUP: the configuration is read again, and taken over as far as a running daemon can.

use magnumd::config::{Config, Layers, Loaded};
use magnumd::daemon::{Handle, RELOADABLE};
use tokio::signal::unix::Signal;
use tracing::{error, info, warn};

use super::logging::LogLevel;
use super::manager;

pub struct Reload {
    pub layers: Layers,
    /// What the daemon was started with.
    pub started: Loaded,
    pub handle: Handle,
    pub level: LogLevel,
}

impl Reload {
    /// Reloads at each signal; has no end.
    pub async fn at_each(self, mut hangups: Signal) {
        while hangups.recv().await.is_some() {
            manager::reloading();
            match self.reload().await {
                Ok(()) => info!("the configuration has been read again"),
                Err(reason) => {
                    error!(reason, "the configuration is not usable; the one before stays");
                }
            }
            manager::ready();
        }
    }

    /// Everything is read before anything is changed.
    async fn reload(&self) -> Result<(), String> {
        let (layers, handle) = (self.layers.clone(), self.handle.clone());
        let reading = tokio::task::spawn_blocking(move || {
            let loaded = layers.load().map_err(|e| e.to_string())?;
            let change = handle.prepare(&loaded.config).map_err(|e| e.to_string())?;
            Ok::<_, String>((loaded, change))
        });
        let (loaded, change) = reading.await.map_err(|e| e.to_string())??;
        let filter = LogLevel::filter(&loaded.config.log).map_err(|e| e.to_string())?;
        self.level.replace(filter);
        self.handle.apply(change);
        for warning in &loaded.warnings {
            warn!("{warning}");
        }
        let switched = speaks_tls(&loaded.config) != speaks_tls(&self.started.config);
        for key in loaded.changes_since(&self.started) {
            let is_taken_over = RELOADABLE.iter().any(|r| match r.strip_suffix('.') {
                Some(_) => key.starts_with(r),
                None => key == *r,
            });
            if !is_taken_over || (switched && key.starts_with("api.tls.")) {
                warn!(option = key, "a change that needs a restart; the value before stays");
            }
        }
        Ok(())
    }
}

const fn speaks_tls(config: &Config) -> bool {
    config.api.tls.cert.is_some()
}
