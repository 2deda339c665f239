//! The heartbeat that `mservices` shows.

use serde::{Deserialize, Serialize};

use crate::base::clock::Timestamp;

/// One conductor; this process has exactly one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Service {
    pub id: u64,
    pub host: String,
    pub report_count: u64,
    pub last_seen_up: Timestamp,
    pub created_at: Timestamp,
}
