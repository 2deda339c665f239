//! What nodes need to join a cluster, where only the cluster itself can make it.

use serde::{Deserialize, Serialize};

use super::ClusterId;
use crate::base::secret::Sealed;

/// The secrets of one cluster, handed over by its first master.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct JoinSecrets {
    pub cluster_id: ClusterId,
    /// With which a further master joins; sealed for [`JoinSecrets::owner`], as the others.
    pub master: Sealed,
    /// With which a worker joins.
    pub worker: Sealed,
    /// What the first master shows when it hands over others in their place.
    pub renewal: Sealed,
}

impl JoinSecrets {
    /// What each of them is bound to when sealed.
    pub fn owner(cluster: ClusterId, which: &str) -> String {
        format!("join/{cluster}/{which}")
    }
}
