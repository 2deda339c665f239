//! Which files a cluster is made of: those that it was made with, whatever lies in the drivers'
//! directories now. An upgrade moves it to the present ones.

use std::sync::{Arc, PoisonError};

use tracing::{debug, info};

use super::snapshot::ClusterSnapshot;
use super::{Conductor, RequestError, StepError};
use crate::driver::{Directory, Driver, Drivers};
use crate::model::ClusterId;
use crate::model::driver::{ClusterDriver, StoredDriver};
use crate::model::nodegroup::NodeGroup;
use crate::store::{Change, StoreError};

impl Conductor {
    /// The drivers for clusters to be.
    pub fn drivers(&self) -> Drivers {
        self.inner.drivers.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The directories have been read again.
    pub fn replace_drivers(&self, drivers: Drivers) {
        *self.inner.drivers.write().unwrap_or_else(PoisonError::into_inner) = drivers;
    }

    /// The driver with the very files that a cluster was made with.
    pub(super) fn driver(&self, snapshot: &ClusterSnapshot) -> Result<Arc<Driver>, StepError> {
        let name = &snapshot.cluster.driver;
        let present = self.drivers().by_name(name);
        // Whether present files are those that it was made with nobody knows: with others every
        // server would be built anew.
        if snapshot.driver_is_damaged {
            return Err(StepError::failed(cannot_drive(snapshot)));
        }
        let Some(known) = &snapshot.driver else {
            return present
                .ok_or_else(|| StepError::failed(format!("Driver {name} is not there any more.")));
        };
        if let Some(present) = present.filter(|d| d.directory().digest() == known.digest) {
            return Ok(present);
        }
        let compiled = || self.inner.compiled.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(driver) = compiled().get(&known.digest) {
            return Ok(Arc::clone(driver));
        }
        let stored = match self.inner.store.read(|view| view.driver(&known.digest)) {
            Ok(Some(stored)) => stored,
            Ok(None) | Err(StoreError::Corrupt(_)) => {
                return Err(StepError::failed(cannot_drive(snapshot)));
            }
            Err(e) => return Err(e.into()),
        };
        let StoredDriver { name, files, .. } = stored.record;
        let driver = Directory::new(name, files).and_then(Driver::new);
        let driver = Arc::new(driver.map_err(|e| StepError::failed(e.to_string()))?);
        compiled().insert(known.digest.clone(), Arc::clone(&driver));
        Ok(driver)
    }

    /// The driver for what somebody asks for now: what it cannot do before anything is written is
    /// the cluster's state, and no failure of the service.
    pub(super) fn driver_for_order(
        &self,
        snapshot: &ClusterSnapshot,
    ) -> Result<Arc<Driver>, RequestError> {
        self.driver(snapshot).map_err(conflict)
    }

    /// The driver of a cluster once one of its groups has been upgraded: with the default groups
    /// the cluster moves to the present files of its driver.
    pub(super) fn driver_to_come(
        &self,
        snapshot: &ClusterSnapshot,
        group: &NodeGroup,
    ) -> Result<Arc<Driver>, RequestError> {
        let present = self.drivers().by_name(&snapshot.cluster.driver);
        match present.filter(|_| group.is_default) {
            Some(present) => Ok(present),
            None => self.driver_for_order(snapshot),
        }
    }

    /// Keeps a driver's files, so that clusters can be made of them: once, and again where they
    /// cannot be read. They are named by their digest, and go in a change of their own: they may
    /// have as many bytes as a change takes.
    pub(super) async fn keep_driver(&self, driver: &Driver) -> Result<(), StoreError> {
        let digest = driver.directory().digest();
        match self.inner.store.read(|view| view.has_driver(digest))? {
            true => Ok(()),
            false => self.inner.store.commit(Change::new().put(&stored(driver))).await,
        }
    }

    /// The change that also remembers of which files, kept before, a cluster is made.
    pub(super) fn remember(change: Change, cluster: ClusterId, driver: &Driver) -> Change {
        let digest = driver.directory().digest().to_owned();
        change.expect_driver(&digest).put(&ClusterDriver { cluster_id: cluster, digest })
    }

    /// Files go that no cluster is made of any more, nor will be.
    pub(super) async fn collect_drivers(&self) {
        let unused = self.inner.store.read(|view| view.unused_drivers());
        let unused = match unused {
            Ok(unused) => unused,
            Err(error) => return debug!(%error, "drivers cannot be looked through"),
        };
        for stored in unused {
            let (name, digest) = (&stored.name, &stored.digest);
            let present = self.drivers().by_name(name);
            if present.is_some_and(|driver| driver.directory().digest() == digest) {
                continue;
            }
            let change = Change::new().expect_driver_unused(digest).delete(&stored.record);
            match self.inner.store.commit(change).await {
                Ok(()) => {
                    let mut compiled =
                        self.inner.compiled.lock().unwrap_or_else(PoisonError::into_inner);
                    compiled.remove(digest);
                    info!(driver = name, digest, "files of a driver collected");
                }
                // A cluster has been made of them meanwhile.
                Err(StoreError::Conflict) => {}
                Err(error) => debug!(%error, "files of a driver cannot be collected"),
            }
        }
    }
}

/// Why there is no driver: what the cluster was made with is not there, or its record is damaged.
fn cannot_drive(snapshot: &ClusterSnapshot) -> String {
    format!(
        "The files of driver {}, which cluster {} was made with, are missing or damaged, and this \
         is made with them. The cluster can be upgraded, which takes the driver's present files, or \
         deleted; an administrator sees what is the matter with magnumd verify.",
        snapshot.cluster.driver, snapshot.cluster.name
    )
}

fn conflict(error: StepError) -> RequestError {
    match error {
        StepError::Failed { reason, .. } => RequestError::Conflict(reason),
        error => error.into(),
    }
}

fn stored(driver: &Driver) -> StoredDriver {
    let directory = driver.directory();
    StoredDriver {
        digest: directory.digest().to_owned(),
        name: driver.name().to_owned(),
        version: driver.manifest().version.clone(),
        files: directory.files().map(|(path, text)| (path.to_owned(), text.to_owned())).collect(),
    }
}
