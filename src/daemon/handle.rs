//! A running daemon as its process sees it: is it alive, and may it change its mind?

use std::sync::{Arc, Weak};

use super::certificate::{OwnCertificate, Presented};
use super::{StartError, settings};
use crate::api::{Api, Policy, PolicyWatch};
use crate::base::clock::Clock;
use crate::conductor::Conductor;
use crate::config::Config;
use crate::driver::Drivers;
use crate::store::Store;

/// The options that a running daemon takes over; a dot at the end stands for a whole section.
pub const RELOADABLE: [&str; 6] =
    ["log.level", "policy.", "api.tls.", "drivers.dir", "drivers.disabled", "drivers.enabled_beta"];

/// What of a daemon can be asked and changed while it runs.
pub(super) struct Vitals {
    pub store: Store,
    pub conductor: Conductor,
    pub api: Arc<Api>,
    pub certificate: Option<Arc<OwnCertificate>>,
    pub clock: Clock,
}

/// Does not keep the daemon from ending.
#[derive(Clone)]
pub struct Handle(Weak<Vitals>);

/// All that a new configuration changes, read and found usable.
pub struct Change {
    policy: Policy,
    watch: PolicyWatch,
    certificate: Option<Presented>,
    drivers: Drivers,
}

/// How much there is to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Load {
    pub waiting: usize,
    pub running: usize,
    pub is_writable: bool,
}

impl Handle {
    pub(super) fn new(vitals: &Arc<Vitals>) -> Self {
        Self(Arc::downgrade(vitals))
    }

    /// Whether the writer and the conductor still work; true for a daemon that has ended.
    pub fn is_alive(&self) -> bool {
        self.0.upgrade().is_none_or(|v| v.store.is_alive() && v.conductor.is_alive())
    }

    /// None when the daemon has ended.
    pub fn load(&self) -> Option<Load> {
        let vitals = self.0.upgrade()?;
        let (waiting, running) = vitals.conductor.load();
        Some(Load { waiting, running, is_writable: vitals.store.trouble().is_none() })
    }

    /// Reads what a new configuration names; changes nothing. Blocks on the disk.
    pub fn prepare(&self, config: &Config) -> Result<Change, StartError> {
        let (policy, watch) = settings::policy(config).watch()?;
        let now = self.0.upgrade().map(|v| v.clock.now());
        let certificate = now.map(|now| Presented::read(&config.api.tls, now)).transpose()?;
        let drivers = settings::drivers(config)?;
        Ok(Change { policy, watch, certificate: certificate.flatten(), drivers })
    }

    /// Cannot fail, so that a change is made whole or not at all.
    pub fn apply(&self, change: Change) {
        let Some(vitals) = self.0.upgrade() else { return };
        vitals.api.follow(change.policy, change.watch);
        vitals.conductor.replace_drivers(change.drivers);
        // Whether the port speaks TLS at all is decided at the start.
        if let (Some(own), Some(presented)) = (&vitals.certificate, change.certificate) {
            own.replace(presented);
        }
    }
}
