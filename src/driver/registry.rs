//! Every driver there is, and which of them a cluster gets.

use std::collections::BTreeSet;
use std::sync::{Arc, OnceLock};

use super::DriverError;
use super::craft::Driver;
use super::directory::Directory;
use crate::model::cluster_template::{Coe, ServerType};

/// Every driver there is, in the order in which they are preferred.
#[derive(Clone, Default)]
pub struct Drivers {
    all: Vec<Arc<Driver>>,
}

/// What an operator wants of the drivers.
#[derive(Clone, Copy, Debug, Default)]
pub struct Wishes<'w> {
    /// Names that are not to be used.
    pub disabled: &'w [String],
    /// Names of drivers in beta that are.
    pub enabled_beta: &'w [String],
    /// Everything that there is, in beta or not.
    pub all: bool,
}

impl Wishes<'_> {
    pub const fn everything() -> Self {
        Self { disabled: &[], enabled_beta: &[], all: true }
    }
}

impl Drivers {
    /// The drivers that come with magnumd, without the `disabled` ones and those in beta.
    pub fn builtin(disabled: &[String]) -> Self {
        Self::load(Vec::new(), Wishes { disabled, ..Wishes::default() })
            .expect("embedded manifests that are whole and do not clash")
    }

    /// Those that come with magnumd and an operator's own, which come first.
    pub fn load(own: Vec<Directory>, wishes: Wishes<'_>) -> Result<Self, DriverError> {
        Self::assemble(made(own, Driver::new)?, embedded()?, wishes)
    }

    fn assemble(
        own: Vec<Arc<Driver>>,
        embedded: Vec<Arc<Driver>>,
        wishes: Wishes<'_>,
    ) -> Result<Self, DriverError> {
        for driver in &own {
            let Some(replaced) = &driver.manifest().replaces else { continue };
            if !embedded.iter().any(|e| e.name() == replaced) {
                let known = embedded.iter().map(|e| e.name()).collect::<Vec<_>>().join(", ");
                let reason = format!("replaces: there is no {replaced}; choose from {known}");
                return Err(driver.manifest().fault(None, reason));
            }
        }
        let replaced: BTreeSet<String> =
            own.iter().filter_map(|d| d.manifest().replaces.clone()).collect();
        let is_wanted = |driver: &Arc<Driver>| {
            let named = |names: &[String]| names.iter().any(|name| name == driver.name());
            !named(wishes.disabled)
                && (wishes.all || !driver.manifest().beta || named(wishes.enabled_beta))
        };
        let kept = embedded.into_iter().filter(|d| !replaced.contains(d.name()));
        let all: Vec<Arc<Driver>> = own.into_iter().chain(kept).filter(is_wanted).collect();
        // An operator's own come first: the fault is theirs, and so is the cure.
        for (i, driver) in all.iter().enumerate() {
            for later in &all[i + 1..] {
                if let Some(reason) = clash(later, driver) {
                    return Err(driver.manifest().fault(None, reason));
                }
            }
        }
        Ok(Self { all })
    }

    pub fn iter(&self) -> impl Iterator<Item = &Arc<Driver>> {
        self.all.iter()
    }

    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.all.iter().map(|d| d.name())
    }

    pub fn by_name(&self, name: &str) -> Option<Arc<Driver>> {
        self.all.iter().find(|d| d.name() == name).cloned()
    }

    /// The first network driver of the first driver for a COE.
    pub fn default_network_driver(&self, coe: Coe) -> Option<&str> {
        let builds = |d: &&Arc<Driver>| d.manifest().provides.iter().any(|p| p.coe == coe);
        self.all.iter().find(builds)?.network_drivers().first().map(String::as_str)
    }

    /// The driver for a cluster: the one requested, else the image's own wish, else the
    /// first that fits server type, `os_distro` and COE.
    pub fn select(
        &self,
        requested: Option<&str>,
        image_driver: Option<&str>,
        server_type: ServerType,
        os_distro: &str,
        coe: Coe,
    ) -> Result<Arc<Driver>, DriverError> {
        if let Some(name) = requested.or(image_driver) {
            return self.by_name(name).ok_or_else(|| {
                DriverError::Unsuitable(format!(
                    "Cluster driver ({name}) not supported. Known are {}.",
                    self.names().collect::<Vec<_>>().join(", ")
                ))
            });
        }
        let fits = |d: &&Arc<Driver>| d.provides(server_type, os_distro, coe);
        self.all.iter().find(fits).cloned().ok_or_else(|| {
            DriverError::Unsuitable(format!(
                "Cluster type ({server_type}, {os_distro}, {coe}) not supported. {}",
                self.known(server_type, coe)
            ))
        })
    }

    /// What can be built instead, in a sentence.
    fn known(&self, server_type: ServerType, coe: Coe) -> String {
        let provided = || self.all.iter().flat_map(|d| &d.manifest().provides);
        let fit = provided().filter(|p| p.server_type == server_type && p.coe == coe);
        let distros: BTreeSet<&str> = fit.flat_map(|p| &p.os).map(String::as_str).collect();
        if distros.is_empty() {
            let kinds: BTreeSet<String> =
                provided().map(|p| format!("{} on {}", p.coe, p.server_type)).collect();
            let kinds = kinds.into_iter().collect::<Vec<_>>().join(", ");
            return format!("No driver builds {coe} on {server_type}; known are {kinds}.");
        }
        let distros = distros.into_iter().collect::<Vec<_>>().join(", ");
        format!(
            "For {coe} on {server_type} these values of the image's property os_distro are known: \
             {distros}. Choose such an image, or correct the property."
        )
    }
}

/// A driver of each directory.
fn made(
    directories: Vec<Directory>,
    make: fn(Directory) -> Result<Driver, DriverError>,
) -> Result<Vec<Arc<Driver>>, DriverError> {
    directories.into_iter().map(|directory| make(directory).map(Arc::new)).collect()
}

/// Those that come with magnumd, each compiled at most once in the life of the process.
fn embedded() -> Result<Vec<Arc<Driver>>, DriverError> {
    static KNOWN: OnceLock<Vec<Arc<Driver>>> = OnceLock::new();
    if let Some(known) = KNOWN.get() {
        return Ok(known.clone());
    }
    let made = made(Directory::embedded()?, Driver::unproven)?;
    Ok(KNOWN.get_or_init(|| made).clone())
}

/// Why two drivers cannot be there side by side.
pub fn clash(one: &Driver, other: &Driver) -> Option<String> {
    if one.name() == other.name() {
        return Some(format!(
            "there is a driver {} already; write replaces: {0} to take its place",
            one.name()
        ));
    }
    for theirs in &other.manifest().provides {
        for os in &theirs.os {
            if one.provides(theirs.server_type, os, theirs.coe) {
                return Some(format!(
                    "({}, {os}, {}) is what driver {} builds already; write replaces: {} to take \
                     its place, or disable it",
                    theirs.server_type,
                    theirs.coe,
                    one.name(),
                    one.name()
                ));
            }
        }
    }
    None
}
