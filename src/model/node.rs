//! What a node tells us while it boots.

use serde::{Deserialize, Serialize};

use super::ClusterId;
use super::status::spelled;
use crate::base::clock::Timestamp;
use std::fmt;

spelled! {
    /// The stations of a node's first boot, in order.
    Phase {
        Booted = "booted",
        Network = "network",
        Runtime = "runtime",
        Certs = "certs",
        Etcd = "etcd",
        ControlPlane = "control-plane",
        Addons = "addons",
        Ready = "ready",
    }
}

spelled! {
    /// How far a node is within a phase.
    PhaseState {
        Started = "started",
        Done = "done",
        Failed = "failed",
    }
}

/// The last report of one node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Node {
    pub cluster_id: ClusterId,
    /// The server's name.
    pub name: String,
    pub nodegroup: String,
    pub role: String,
    /// The Nova server that claimed this name first.
    pub instance: Option<String>,
    pub phase: Phase,
    pub state: PhaseState,
    pub message: String,
    /// At most the last 16 KiB.
    pub log_tail: String,
    pub first_seen: Timestamp,
    pub last_seen: Timestamp,
}

impl Node {
    pub fn is_ready(&self) -> bool {
        self.phase == Phase::Ready && self.state == PhaseState::Done
    }

    pub fn has_failed(&self) -> bool {
        self.state == PhaseState::Failed
    }
}
