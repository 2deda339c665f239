//! Drivers as clusters remember them: an update of magnumd, or of an operator's directory, must
//! not change what a cluster is made of.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::ClusterId;

/// The files of a driver as they were when a cluster was made with them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredDriver {
    /// SHA-256 over names and contents, in hex.
    pub digest: String,
    pub name: String,
    pub version: String,
    /// By their path in the directory.
    pub files: BTreeMap<String, String>,
}

/// Which files a cluster is made of. A cluster without one was made before they were kept, and
/// follows the driver of its name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClusterDriver {
    pub cluster_id: ClusterId,
    pub digest: String,
}
