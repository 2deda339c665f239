//! Duty: what a node that is ready is asked to do once, such as trusting a second authority.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::status::spelled;
use super::{ClusterId, Sequence};
use crate::base::clock::Timestamp;

spelled! {
    /// What is to be done. A master is asked to empty other nodes of their pods (`drain`). Every
    /// node is asked to trust the cluster's next authorities beside the present ones, then to
    /// have its certificates issued by them, then to trust no others. A master is asked to give
    /// the cluster's own controllers the credentials that they shall use (`renew-credentials`).
    /// A node whose server was resized is asked to see that it works in its cluster (`rejoin`).
    DutyKind {
        Drain = "drain",
        TrustAuthorities = "trust-authorities",
        IssueLeaves = "issue-leaves",
        DropAuthorities = "drop-authorities",
        RenewCredentials = "renew-credentials",
        Rejoin = "rejoin",
    }
}

spelled! {
    /// How far it is.
    DutyState {
        Given = "given",
        Done = "done",
        Failed = "failed",
    }
}

/// The last duty of one node; the node asks for it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Duty {
    pub cluster_id: ClusterId,
    /// The server's name.
    pub node: String,
    /// By this the node's answer is known to be about this duty and no earlier one.
    pub number: Sequence,
    /// The operation that needs it.
    pub operation: Sequence,
    pub kind: DutyKind,
    /// Names of the nodes concerned, where it is about others.
    pub targets: Vec<String>,
    pub state: DutyState,
    /// What the node said in the end.
    pub message: String,
    pub given_at: Timestamp,
}

impl Duty {
    pub fn is_open(&self) -> bool {
        self.state == DutyState::Given
    }
}
