//! Failed tries of the steps that are being taken.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::model::ClusterId;

/// By cluster, in a row. Lost with the process, which then is patient again.
#[derive(Default)]
pub(super) struct Attempts {
    by_cluster: Mutex<HashMap<ClusterId, u32>>,
}

impl Attempts {
    pub(super) fn of(&self, id: ClusterId) -> u32 {
        self.lock().get(&id).copied().unwrap_or_default()
    }

    /// Counts one more; returns how many there were before.
    pub(super) fn count(&self, id: ClusterId) -> u32 {
        let mut attempts = self.lock();
        let count = attempts.entry(id).or_default();
        *count = count.saturating_add(1);
        *count - 1
    }

    /// Something has gone well.
    pub(super) fn forget(&self, id: ClusterId) {
        self.lock().remove(&id);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<ClusterId, u32>> {
        self.by_cluster.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
