//! Operation: what a tenant asked for, on disk until it is done or has failed.

mod steps;

use serde::{Deserialize, Serialize};

pub use steps::{
    CreateNodeGroupStep, CreateStep, DeleteNodeGroupStep, DeleteStep, ResizeStep, RotateCaStep,
    RotateCredentialStep, Step, Traits, UpgradeStep,
};

use super::{ClusterId, NodeGroupId, Sequence};
use crate::base::clock::Timestamp;
use crate::base::secret::Sealed;

/// The durable intention. A cluster's operations are carried out one after the other, in the
/// order of their sequence.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Operation {
    pub sequence: Sequence,
    pub cluster_id: ClusterId,
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
    pub kind: OperationKind,
}

impl Operation {
    /// What the token is bound to when sealed.
    pub fn token_owner(cluster: ClusterId) -> String {
        format!("operation/{cluster}/token")
    }

    /// The group concerned; None for the whole cluster.
    pub const fn nodegroup(&self) -> Option<NodeGroupId> {
        match &self.kind {
            OperationKind::Resize(resize) => Some(resize.nodegroup),
            OperationKind::CreateNodeGroup(create) => Some(create.nodegroup),
            OperationKind::DeleteNodeGroup(delete) => Some(delete.nodegroup),
            OperationKind::Upgrade(upgrade) => Some(upgrade.nodegroup),
            OperationKind::Create(_)
            | OperationKind::Delete(_)
            | OperationKind::RotateCa(_)
            | OperationKind::RotateCredential(_) => None,
        }
    }

    /// The resize that it is, if it is one of this group.
    pub fn resize_of(&self, nodegroup: NodeGroupId) -> Option<&Resize> {
        match &self.kind {
            OperationKind::Resize(resize) if resize.nodegroup == nodegroup => Some(resize),
            _ => None,
        }
    }
}

/// What is to be done, and how far it is. Stored by position: append only.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum OperationKind {
    Create(Create),
    Delete(Delete),
    Resize(Resize),
    CreateNodeGroup(CreateNodeGroup),
    DeleteNodeGroup(DeleteNodeGroup),
    RotateCredential(RotateCredential),
    Upgrade(Upgrade),
    RotateCa(RotateCa),
}

/// One kind of operation: its steps, and the data that they need.
pub trait Work: Clone + Into<OperationKind> {
    type Step: Step;

    /// As logs and metrics call it.
    const NAME: &'static str;

    fn step(&self) -> Self::Step;

    /// The same at another step.
    fn at(&self, step: Self::Step) -> Self;
}

/// The struct of a kind with its `step` first, and its [`Work`].
macro_rules! work {
    ($($(#[$doc:meta])* $kind:ident $name:literal $step:ident {
        $($(#[$field_doc:meta])* $field:ident: $type:ty,)*
    })+) => {
        $(
            $(#[$doc])*
            #[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
            pub struct $kind {
                pub step: $step,
                $($(#[$field_doc])* pub $field: $type,)*
            }

            impl Work for $kind {
                type Step = $step;

                const NAME: &'static str = $name;

                fn step(&self) -> $step {
                    self.step
                }

                fn at(&self, step: $step) -> Self {
                    let mut moved = self.clone();
                    moved.step = step;
                    moved
                }
            }

            impl From<$kind> for OperationKind {
                fn from(work: $kind) -> Self {
                    Self::$kind(work)
                }
            }
        )+

        /// Each kind's name and its steps: name, what is done, and what the engine knows of it.
        #[cfg(test)]
        fn all() -> Vec<(&'static str, Vec<(&'static str, &'static str, Traits)>)> {
            let mut all = Vec::new();
            $(
                let steps = $step::ALL.iter().map(|s| (s.name(), s.about(), s.traits()));
                all.push(($kind::NAME, steps.collect()));
            )+
            all
        }

        impl OperationKind {
            /// As logs and metrics call it.
            pub const fn name(&self) -> &'static str {
                match self {
                    $(Self::$kind(_) => $kind::NAME,)+
                }
            }

            /// The name of the step at which it stands.
            pub fn step_name(&self) -> &'static str {
                match self {
                    $(Self::$kind(work) => work.step.name(),)+
                }
            }

            /// What the engine has to know of the step at which it stands.
            pub fn traits(&self) -> Traits {
                match self {
                    $(Self::$kind(work) => work.step.traits(),)+
                }
            }

            /// Whether nothing has been done about it yet.
            pub fn is_at_its_beginning(&self) -> bool {
                match self {
                    $(Self::$kind(work) => work.step == $step::ALL[0],)+
                }
            }
        }
    };
}

work! {
    /// A cluster is built.
    Create "create" CreateStep {}
    /// A cluster goes.
    Delete "delete" DeleteStep {}
    /// A group gets more nodes, fewer, or others.
    Resize "resize" ResizeStep {
        nodegroup: NodeGroupId,
        /// Its nodes before it was asked for.
        before: u32,
        /// Server ids of the nodes that must go.
        remove: Vec<String>,
        /// Whether Heat shall restore the stack if the update fails.
        rollback: bool,
    }
    /// A further group is built.
    CreateNodeGroup "create-group" CreateNodeGroupStep {
        nodegroup: NodeGroupId,
    }
    /// A further group goes.
    DeleteNodeGroup "delete-group" DeleteNodeGroupStep {
        nodegroup: NodeGroupId,
    }
    /// The trustee gets a new password, and a trust from the caller.
    RotateCredential "rotate-credential" RotateCredentialStep {}
    /// A group follows a template; a default group takes the other one along.
    Upgrade "upgrade" UpgradeStep {
        nodegroup: NodeGroupId,
        /// How many nodes had to follow when it began; 0 before.
        behind: u32,
    }
    /// The cluster gets new certificate authorities.
    RotateCa "rotate-authorities" RotateCaStep {}
}

#[cfg(test)]
mod tests {
    use std::fmt::Write;
    use std::fs;
    use std::path::Path;

    const BEGIN: &str = "<!-- workflows: written by the test of src/model/operation -->\n";
    const END: &str = "<!-- end of workflows -->\n";

    fn table() -> String {
        let mut table = String::new();
        for (kind, steps) in super::all() {
            writeln!(table, "**{kind}**\n\n| step | what is done | |\n|---|---|---|").unwrap();
            for (name, about, traits) in steps {
                let known = [
                    (!traits.looks, "acts"),
                    (traits.renews_deadline, "deadline anew"),
                    (traits.drops_token, "without token"),
                ];
                let known: Vec<&str> =
                    known.into_iter().filter(|(is, _)| *is).map(|(_, word)| word).collect();
                writeln!(table, "| `{name}` | {about} | {} |", known.join(", ")).unwrap();
            }
            table.push('\n');
        }
        table
    }

    /// ARCHITECTURE.md shows every workflow as it is; `MAGNUMD_BLESS=1` writes it.
    #[test]
    fn the_workflows_are_shown_as_they_are() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("ARCHITECTURE.md");
        let text = fs::read_to_string(&path).unwrap();
        let (before, rest) = text.split_once(BEGIN).expect("where they begin");
        let (shown, after) = rest.split_once(END).expect("where they end");
        let wanted = format!("\n{}", table());
        if std::env::var_os("MAGNUMD_BLESS").is_some() {
            fs::write(&path, [before, BEGIN, &wanted, END, after].concat()).unwrap();
            return;
        }
        assert_eq!(shown, wanted, "write it anew with MAGNUMD_BLESS=1");
    }

    /// Names are labels of metrics: none may mean two things.
    #[test]
    fn no_two_steps_share_a_name() {
        let mut names: Vec<&str> = super::all()
            .into_iter()
            .flat_map(|(_, steps)| steps.into_iter().map(|(name, ..)| name))
            .collect();
        let count = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), count);
    }
}
