//! Operation: a tenant's wish, on disk until it is fulfilled or refused.

use serde::{Deserialize, Serialize};

use super::{ClusterId, Sequence};
use crate::base::clock::Timestamp;
use crate::base::secret::Sealed;

/// What is to be done. Stored by position: append only.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum OperationKind {
    Create,
    Delete,
}

/// Where an operation stands: the next thing to do. Stored by position: append only.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Step {
    // Create.
    Certificates,
    Trustee,
    Trust,
    Discovery,
    Stack,
    Await,
    // Delete.
    DeleteStack,
    AwaitGone,
    DeleteTrust,
    DeleteTrustee,
    Forget,
}

impl Step {
    /// The steps of a creation, in order.
    pub const CREATE: [Self; 6] =
        [Self::Certificates, Self::Trustee, Self::Trust, Self::Discovery, Self::Stack, Self::Await];

    /// Whether the step changes something outside; the others only look.
    pub const fn is_act(self) -> bool {
        !matches!(self, Self::Await | Self::AwaitGone)
    }

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Certificates => "certificates",
            Self::Trustee => "trustee",
            Self::Trust => "trust",
            Self::Discovery => "discovery",
            Self::Stack => "stack",
            Self::Await => "await",
            Self::DeleteStack => "delete-stack",
            Self::AwaitGone => "await-gone",
            Self::DeleteTrust => "delete-trust",
            Self::DeleteTrustee => "delete-trustee",
            Self::Forget => "forget",
        }
    }
}

/// The durable intention; at most one per cluster.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Operation {
    pub sequence: Sequence,
    pub cluster_id: ClusterId,
    pub kind: OperationKind,
    pub step: Step,
    /// Failed tries of the current step, for backing off.
    pub attempt: u32,
    pub began: Timestamp,
    /// When to give up.
    pub deadline: Option<Timestamp>,
    /// The tenant's token, sealed for [`Operation::token_owner`]; erased as soon
    /// as no step needs it.
    pub token: Option<Sealed>,
    /// The tenant's roles, delegated to the trustee.
    pub roles: Vec<String>,
    /// Who asked.
    pub user_id: String,
    pub request_id: String,
}

impl Operation {
    /// What the token is bound to when sealed.
    pub fn token_owner(cluster: ClusterId) -> String {
        format!("operation/{cluster}/token")
    }
}
