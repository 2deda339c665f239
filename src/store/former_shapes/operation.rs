//! Version 1 of an operation: a kind, one of the steps of all kinds, and a detail of which each
//! kind used another part.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::base::clock::Timestamp;
use crate::base::secret::Sealed;
use crate::model::operation::{
    Create, CreateNodeGroup, CreateNodeGroupStep, CreateStep, Delete, DeleteNodeGroup,
    DeleteNodeGroupStep, DeleteStep, Operation, OperationKind, Resize, ResizeStep, RotateCa,
    RotateCaStep, RotateCredential, RotateCredentialStep, Upgrade, UpgradeStep,
};
use crate::model::{ClusterId, NodeGroupId, Sequence};
use crate::store::record::decode_body;

/// Reads the body of an operation of version 1.
pub fn operation(body: &[u8]) -> Result<Operation, String> {
    decode_body::<First>(body)?.try_into()
}

/// The same as an export of schema 3 or earlier has it.
pub fn operation_of_json(record: Value) -> Result<Operation, String> {
    serde_json::from_value::<First>(record).map_err(|e| e.to_string())?.try_into()
}

#[derive(Serialize, Deserialize)]
struct First {
    sequence: Sequence,
    cluster_id: ClusterId,
    kind: Kind,
    step: Step,
    attempt: u32,
    began: Timestamp,
    deadline: Option<Timestamp>,
    token: Option<Sealed>,
    roles: Vec<String>,
    user_id: String,
    request_id: String,
    detail: Detail,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Kind {
    Create,
    Delete,
    Resize,
    CreateGroup,
    DeleteGroup,
    RotateCredential,
    Upgrade,
    RotateAuthorities,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Step {
    Certificates,
    Trustee,
    Trust,
    Discovery,
    Stack,
    Await,
    DeleteStack,
    AwaitGone,
    DeleteTrust,
    DeleteTrustee,
    Forget,
    UpdateStack,
    AwaitUpdate,
    GroupStack,
    AwaitGroup,
    DeleteGroupStack,
    AwaitGroupGone,
    NewTrust,
    NewPassword,
    FormerTrust,
    BeginUpgrade,
    DrainNodes,
    RebuildNodes,
    AwaitNodes,
    DrawAuthorities,
    TrustAuthorities,
    IssueLeaves,
    DropAuthorities,
    RenewCredentials,
    TakeStacks,
}

#[derive(Serialize, Deserialize)]
struct Detail {
    nodegroup: Option<NodeGroupId>,
    before: u32,
    remove: Vec<String>,
    rollback: bool,
}

impl TryFrom<First> for Operation {
    type Error = String;

    fn try_from(first: First) -> Result<Self, String> {
        let kind = kind(first.kind, first.step, first.detail)?;
        Ok(Self {
            sequence: first.sequence,
            cluster_id: first.cluster_id,
            began: first.began,
            deadline: first.deadline,
            token: first.token,
            roles: first.roles,
            user_id: first.user_id,
            request_id: first.request_id,
            kind,
        })
    }
}

/// What could be written down and meant nothing is refused.
fn kind(kind: Kind, step: Step, detail: Detail) -> Result<OperationKind, String> {
    let Detail { nodegroup, before, remove, rollback } = detail;
    let group = || nodegroup.ok_or_else(|| format!("{kind:?} names no node group"));
    let nowhere = || format!("{kind:?} has no step {step:?}");
    Ok(match kind {
        Kind::Create => {
            let step = match step {
                Step::Certificates => CreateStep::Certificates,
                Step::Trustee => CreateStep::Trustee,
                Step::Trust => CreateStep::Trust,
                Step::Discovery => CreateStep::Discovery,
                Step::Stack => CreateStep::Stack,
                Step::Await => CreateStep::Await,
                _ => return Err(nowhere()),
            };
            Create { step }.into()
        }
        Kind::Delete => {
            let step = match step {
                Step::DeleteStack => DeleteStep::Stacks,
                Step::AwaitGone => DeleteStep::Gone,
                Step::DeleteTrust => DeleteStep::Trusts,
                Step::DeleteTrustee => DeleteStep::Trustee,
                Step::Forget => DeleteStep::Forget,
                _ => return Err(nowhere()),
            };
            Delete { step }.into()
        }
        Kind::Resize => {
            let step = match step {
                Step::UpdateStack => ResizeStep::Update,
                Step::AwaitUpdate => ResizeStep::Await,
                _ => return Err(nowhere()),
            };
            Resize { step, nodegroup: group()?, before, remove, rollback }.into()
        }
        Kind::CreateGroup => {
            let step = match step {
                Step::GroupStack => CreateNodeGroupStep::Stack,
                Step::AwaitGroup => CreateNodeGroupStep::Await,
                _ => return Err(nowhere()),
            };
            CreateNodeGroup { step, nodegroup: group()? }.into()
        }
        Kind::DeleteGroup => {
            let step = match step {
                Step::DeleteGroupStack => DeleteNodeGroupStep::Stack,
                Step::AwaitGroupGone => DeleteNodeGroupStep::Gone,
                _ => return Err(nowhere()),
            };
            DeleteNodeGroup { step, nodegroup: group()? }.into()
        }
        Kind::RotateCredential => {
            let step = match step {
                Step::NewTrust => RotateCredentialStep::Trust,
                Step::TakeStacks => RotateCredentialStep::Stacks,
                Step::NewPassword => RotateCredentialStep::Password,
                Step::FormerTrust => RotateCredentialStep::FormerTrust,
                Step::RenewCredentials => RotateCredentialStep::Renew,
                _ => return Err(nowhere()),
            };
            RotateCredential { step }.into()
        }
        Kind::Upgrade => {
            let step = match step {
                Step::BeginUpgrade => UpgradeStep::Begin,
                Step::DrainNodes => UpgradeStep::Drain,
                Step::RebuildNodes => UpgradeStep::Rebuild,
                Step::AwaitNodes => UpgradeStep::Await,
                _ => return Err(nowhere()),
            };
            // Before it had begun, the number of nodes stood there, which nobody reads.
            let behind = if step == UpgradeStep::Begin { 0 } else { before };
            Upgrade { step, nodegroup: group()?, behind }.into()
        }
        Kind::RotateAuthorities => {
            let step = match step {
                Step::DrawAuthorities => RotateCaStep::Draw,
                Step::TrustAuthorities => RotateCaStep::Trust,
                Step::IssueLeaves => RotateCaStep::Issue,
                Step::DropAuthorities => RotateCaStep::Drop,
                _ => return Err(nowhere()),
            };
            RotateCa { step }.into()
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use uuid::Uuid;

    const KINDS: [Kind; 8] = [
        Kind::Create,
        Kind::Delete,
        Kind::Resize,
        Kind::CreateGroup,
        Kind::DeleteGroup,
        Kind::RotateCredential,
        Kind::Upgrade,
        Kind::RotateAuthorities,
    ];
    const STEPS: [Step; 30] = [
        Step::Certificates,
        Step::Trustee,
        Step::Trust,
        Step::Discovery,
        Step::Stack,
        Step::Await,
        Step::DeleteStack,
        Step::AwaitGone,
        Step::DeleteTrust,
        Step::DeleteTrustee,
        Step::Forget,
        Step::UpdateStack,
        Step::AwaitUpdate,
        Step::GroupStack,
        Step::AwaitGroup,
        Step::DeleteGroupStack,
        Step::AwaitGroupGone,
        Step::NewTrust,
        Step::NewPassword,
        Step::FormerTrust,
        Step::BeginUpgrade,
        Step::DrainNodes,
        Step::RebuildNodes,
        Step::AwaitNodes,
        Step::DrawAuthorities,
        Step::TrustAuthorities,
        Step::IssueLeaves,
        Step::DropAuthorities,
        Step::RenewCredentials,
        Step::TakeStacks,
    ];

    fn first(kind: Kind, step: Step) -> First {
        First {
            sequence: Sequence(9),
            cluster_id: ClusterId::new(Uuid::from_u128(7)),
            kind,
            step,
            attempt: 0,
            began: Timestamp::EPOCH,
            deadline: Some(Timestamp::from_micros(1)),
            token: Some(Sealed::from_bytes(vec![1, 2])),
            roles: vec!["member".to_owned()],
            user_id: "u".to_owned(),
            request_id: "req-1".to_owned(),
            detail: Detail {
                nodegroup: Some(NodeGroupId::new(Uuid::from_u128(8))),
                before: 3,
                remove: vec!["s1".to_owned()],
                rollback: true,
            },
        }
    }

    /// `AwaitGroupGone` → `await-group-gone`, as the former release called it.
    fn dashed(name: &str) -> String {
        let mut dashed = String::new();
        for letter in name.chars() {
            if letter.is_uppercase() && !dashed.is_empty() {
                dashed.push('-');
            }
            dashed.extend(letter.to_lowercase());
        }
        dashed
    }

    /// Of 240 operations that could be written, 30 meant something.
    #[test]
    fn every_step_of_the_first_version_is_one_of_its_kind_today() {
        let mut read = Vec::new();
        for (kind, step) in KINDS.into_iter().flat_map(|k| STEPS.map(|step| (k, step))) {
            let body = crate::store::record::encode_body(&first(kind, step));
            match operation(&body) {
                Ok(today) => {
                    assert_eq!(today.kind.name(), dashed(&format!("{kind:?}")));
                    assert_eq!(today.kind.step_name(), dashed(&format!("{step:?}")));
                    assert_eq!((today.sequence, today.token.is_some()), (Sequence(9), true));
                    let json = serde_json::to_value(first(kind, step)).unwrap();
                    assert_eq!(operation_of_json(json).unwrap(), today);
                    read.push(step);
                }
                Err(why) => assert_eq!(why, format!("{kind:?} has no step {step:?}")),
            }
        }
        assert_eq!(read.len(), STEPS.len());
        assert!(STEPS.iter().all(|step| read.contains(step)));
    }

    #[test]
    fn what_an_operation_is_about_is_kept() {
        let of = |kind, step| Operation::try_from(first(kind, step)).unwrap();
        let nodegroup = NodeGroupId::new(Uuid::from_u128(8));
        let resize = of(Kind::Resize, Step::AwaitUpdate);
        let remove = vec!["s1".to_owned()];
        let wanted =
            Resize { step: ResizeStep::Await, nodegroup, before: 3, remove, rollback: true };
        assert_eq!(resize.kind, wanted.into());
        let upgrade = |step, behind| OperationKind::from(Upgrade { step, nodegroup, behind });
        assert_eq!(of(Kind::Upgrade, Step::AwaitNodes).kind, upgrade(UpgradeStep::Await, 3));
        assert_eq!(of(Kind::Upgrade, Step::BeginUpgrade).kind, upgrade(UpgradeStep::Begin, 0));
        let mut nameless = first(Kind::DeleteGroup, Step::AwaitGroupGone);
        nameless.detail.nodegroup = None;
        assert_eq!(Operation::try_from(nameless).unwrap_err(), "DeleteGroup names no node group");
    }
}
