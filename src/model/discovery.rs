//! What the etcd discovery service remembers of one token.

use serde::{Deserialize, Serialize};

use super::ClusterId;
use crate::base::clock::Timestamp;

/// Where a token stands. Stored by position: append only.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum TokenState {
    /// Fewer members than its size.
    Open,
    /// All members are known; the same ones may repeat themselves.
    Complete,
    /// The cluster runs: nobody registers any more.
    Sealed,
}

/// One discovery token with everything its members were told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DiscoveryToken {
    /// 32 lower-case hex digits.
    pub token: String,
    pub cluster_id: ClusterId,
    pub size: u8,
    pub created_at: Timestamp,
    pub completed_at: Option<Timestamp>,
    pub expires_at: Timestamp,
    pub state: TokenState,
    /// The index that the next registration takes.
    pub next_index: u64,
    pub members: Vec<DiscoveryMember>,
    /// Member names that may register; empty means any.
    pub expected: Vec<String>,
    /// The network the members' addresses must lie in, as CIDR.
    pub subnet: Option<String>,
}

/// One registered etcd member.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DiscoveryMember {
    /// Lower-case hex without padding, as etcd prints it.
    pub id: String,
    /// `name=url[,name=url…]`
    pub value: String,
    pub created_index: u64,
    pub first_seen: Timestamp,
    pub last_seen: Timestamp,
    pub source: String,
}

impl DiscoveryToken {
    /// A token that nobody has used yet. Index 2 is the size's, so members begin at 3.
    pub fn issue(
        token: String,
        cluster_id: ClusterId,
        size: u8,
        expected: Vec<String>,
        subnet: Option<String>,
        now: Timestamp,
        expires_at: Timestamp,
    ) -> Self {
        Self {
            token,
            cluster_id,
            size,
            created_at: now,
            completed_at: None,
            expires_at,
            state: TokenState::Open,
            next_index: 3,
            members: Vec::new(),
            expected,
            subnet,
        }
    }
}
