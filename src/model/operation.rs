//! Operation: a tenant's wish, on disk until it is fulfilled or refused.

use serde::{Deserialize, Serialize};

use super::{ClusterId, NodeGroupId, Sequence};
use crate::base::clock::Timestamp;
use crate::base::secret::Sealed;

/// What is to be done. Stored by position: append only.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum OperationKind {
    Create,
    Delete,
    Resize,
    CreateGroup,
    DeleteGroup,
    RotateCredential,
    Upgrade,
    RotateAuthorities,
}

impl OperationKind {
    /// Where it begins.
    pub const fn first_step(self) -> Step {
        match self {
            Self::Create => Step::Certificates,
            Self::Delete => Step::DeleteStack,
            Self::Resize => Step::UpdateStack,
            Self::CreateGroup => Step::GroupStack,
            Self::DeleteGroup => Step::DeleteGroupStack,
            Self::RotateCredential => Step::NewTrust,
            Self::Upgrade => Step::BeginUpgrade,
            Self::RotateAuthorities => Step::DrawAuthorities,
        }
    }

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::Delete => "delete",
            Self::Resize => "resize",
            Self::CreateGroup => "create-group",
            Self::DeleteGroup => "delete-group",
            Self::RotateCredential => "rotate-credential",
            Self::Upgrade => "upgrade",
            Self::RotateAuthorities => "rotate-authorities",
        }
    }
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
    // An update of the cluster's or a group's stack.
    UpdateStack,
    AwaitUpdate,
    // A further node group.
    GroupStack,
    AwaitGroup,
    DeleteGroupStack,
    AwaitGroupGone,
    // A new credential.
    NewTrust,
    NewPassword,
    FormerTrust,
    // An upgrade: the first once, the others batch by batch.
    BeginUpgrade,
    DrainNodes,
    RebuildNodes,
    AwaitNodes,
    // New authorities.
    DrawAuthorities,
    TrustAuthorities,
    IssueLeaves,
    DropAuthorities,
    // A new credential, once it is the only one.
    RenewCredentials,
    // A new credential: the stacks become the caller's.
    TakeStacks,
}

impl Step {
    /// The steps of a creation, in order.
    pub const CREATE: [Self; 6] =
        [Self::Certificates, Self::Trustee, Self::Trust, Self::Discovery, Self::Stack, Self::Await];

    /// Whether the step changes something outside; the others only look.
    pub const fn is_act(self) -> bool {
        !matches!(
            self,
            Self::Await
                | Self::AwaitGone
                | Self::AwaitUpdate
                | Self::AwaitGroup
                | Self::AwaitGroupGone
                | Self::DrainNodes
                | Self::AwaitNodes
                | Self::TrustAuthorities
                | Self::IssueLeaves
                | Self::DropAuthorities
                | Self::RenewCredentials
        )
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
            Self::UpdateStack => "update-stack",
            Self::AwaitUpdate => "await-update",
            Self::GroupStack => "group-stack",
            Self::AwaitGroup => "await-group",
            Self::DeleteGroupStack => "delete-group-stack",
            Self::AwaitGroupGone => "await-group-gone",
            Self::NewTrust => "new-trust",
            Self::NewPassword => "new-password",
            Self::FormerTrust => "former-trust",
            Self::BeginUpgrade => "begin-upgrade",
            Self::DrainNodes => "drain-nodes",
            Self::RebuildNodes => "rebuild-nodes",
            Self::AwaitNodes => "await-nodes",
            Self::DrawAuthorities => "draw-authorities",
            Self::TrustAuthorities => "trust-authorities",
            Self::IssueLeaves => "issue-leaves",
            Self::DropAuthorities => "drop-authorities",
            Self::RenewCredentials => "renew-credentials",
            Self::TakeStacks => "take-stacks",
        }
    }
}

/// What an order says beyond its kind.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Detail {
    /// The group concerned; None for the whole cluster.
    pub nodegroup: Option<NodeGroupId>,
    /// Nodes of the group before the order; of an upgrade that has begun, how many nodes had
    /// another image.
    pub before: u32,
    /// Server ids of the nodes that must go.
    pub remove: Vec<String>,
    /// Whether Heat shall restore the stack if the update fails.
    pub rollback: bool,
}

/// The durable intention. A cluster's operations are carried out one after the other, in the
/// order of their sequence.
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
    pub detail: Detail,
}

impl Operation {
    /// What the token is bound to when sealed.
    pub fn token_owner(cluster: ClusterId) -> String {
        format!("operation/{cluster}/token")
    }
}
