//! Quota: how many clusters one project may have, where an administrator said so.

use serde::{Deserialize, Serialize};

use super::Sequence;
use crate::base::clock::Timestamp;

/// The only thing that is limited, in Magnum's spelling.
pub const CLUSTER: &str = "Cluster";

/// One project's own limit; projects without one have the configured limit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Quota {
    /// Also the number under which clients know it.
    pub sequence: Sequence,
    pub project_id: String,
    pub hard_limit: u32,
    pub created_at: Timestamp,
    pub updated_at: Option<Timestamp>,
}
