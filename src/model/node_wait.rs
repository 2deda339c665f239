//! Since when a cluster's nodes are waited for.

use serde::{Deserialize, Serialize};

use super::ClusterId;
use crate::base::clock::Timestamp;

/// Written when the stack of a new cluster is first seen complete: nodes that have not reported
/// by then have servers, and are given a time of their own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeWait {
    pub cluster_id: ClusterId,
    pub since: Timestamp,
}
