//! Which files a cluster is made of: those that it was made with, whatever lies in the drivers'
//! directories now. An upgrade moves it to the present ones.

use std::sync::{Arc, PoisonError};

use tracing::{debug, info};

use super::moment::Moment;
use super::{Conductor, StepError};
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
    pub(super) fn driver(&self, moment: &Moment) -> Result<Arc<Driver>, StepError> {
        let name = &moment.cluster.driver;
        let present = self.drivers().by_name(name);
        let Some(known) = &moment.driver else {
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
        let stored = self.inner.store.read(|view| view.driver(&known.digest))?;
        let stored = stored.ok_or_else(|| {
            StepError::failed(format!("The files of driver {name} ({}) were lost.", known.digest))
        })?;
        let StoredDriver { name, files, .. } = stored.record;
        let driver = Directory::new(name, files).and_then(Driver::new);
        let driver = Arc::new(driver.map_err(|e| StepError::failed(e.to_string()))?);
        compiled().insert(known.digest.clone(), Arc::clone(&driver));
        Ok(driver)
    }

    /// The driver of a cluster once one of its groups has been upgraded: with the default groups
    /// the cluster moves to the present files of its driver.
    pub(super) fn driver_to_come(
        &self,
        moment: &Moment,
        group: &NodeGroup,
    ) -> Result<Arc<Driver>, StepError> {
        let present = self.drivers().by_name(&moment.cluster.driver);
        match present.filter(|_| group.is_default) {
            Some(present) => Ok(present),
            None => self.driver(moment),
        }
    }

    /// The change that also remembers what a cluster is made of. A driver's files are written
    /// once, and again where they cannot be read; where somebody collects them at this moment the
    /// change is stale.
    pub(super) fn remember(
        &self,
        change: Change,
        cluster: ClusterId,
        driver: &Driver,
    ) -> Result<Change, StoreError> {
        let digest = driver.directory().digest();
        let change = change.put(&ClusterDriver { cluster_id: cluster, digest: digest.to_owned() });
        Ok(match self.inner.store.read(|view| view.has_driver(digest))? {
            true => change.expect_exists(&stored(driver)),
            false => change.put(&stored(driver)),
        })
    }

    /// Files that no cluster is made of any more go.
    pub(super) async fn collect_drivers(&self) {
        let unused = self.inner.store.read(|view| view.unused_drivers());
        let unused = match unused {
            Ok(unused) => unused,
            Err(error) => return debug!(%error, "drivers cannot be looked through"),
        };
        for stored in unused {
            let (name, digest) = (&stored.name, &stored.digest);
            let change = Change::new().expect_driver_unused(digest).delete(&stored.record);
            match self.inner.store.commit(change).await {
                Ok(()) => {
                    let mut compiled =
                        self.inner.compiled.lock().unwrap_or_else(PoisonError::into_inner);
                    compiled.remove(digest);
                    info!(driver = name, digest, "files of a driver collected");
                }
                // A cluster has been made of them meanwhile.
                Err(StoreError::Stale) => {}
                Err(error) => debug!(%error, "files of a driver cannot be collected"),
            }
        }
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
