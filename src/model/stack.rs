//! Stack: what Heat shows of one.

use std::collections::BTreeMap;
use std::fmt;

use serde_json::Value;

/// What Heat does with a stack, or did last, and how far that is. Heat shows `ACTION_STATE`
/// (`heat/engine/stack.py`, `ACTIONS` and `STATUSES`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StackStatus {
    pub action: StackAction,
    pub state: StackState,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StackAction {
    Create,
    Delete,
    Update,
    Rollback,
    Suspend,
    Resume,
    Adopt,
    Snapshot,
    Check,
    Restore,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StackState {
    InProgress,
    Failed,
    Complete,
}

const ACTIONS: [(StackAction, &str); 10] = [
    (StackAction::Create, "CREATE"),
    (StackAction::Delete, "DELETE"),
    (StackAction::Update, "UPDATE"),
    (StackAction::Rollback, "ROLLBACK"),
    (StackAction::Suspend, "SUSPEND"),
    (StackAction::Resume, "RESUME"),
    (StackAction::Adopt, "ADOPT"),
    (StackAction::Snapshot, "SNAPSHOT"),
    (StackAction::Check, "CHECK"),
    (StackAction::Restore, "RESTORE"),
];
const STATES: [(StackState, &str); 3] = [
    (StackState::InProgress, "IN_PROGRESS"),
    (StackState::Failed, "FAILED"),
    (StackState::Complete, "COMPLETE"),
];

impl StackStatus {
    /// None where Heat has no such status.
    pub fn parse(text: &str) -> Option<Self> {
        let (action, state) = text.split_once('_')?;
        let action = ACTIONS.iter().find(|(_, name)| *name == action)?.0;
        let state = STATES.iter().find(|(_, name)| *name == state)?.0;
        Some(Self { action, state })
    }

    /// A deletion that goes on.
    pub const fn is_going(self) -> bool {
        matches!(self, Self { action: StackAction::Delete, state: StackState::InProgress })
    }

    /// A deletion that Heat has given up.
    pub const fn cannot_go(self) -> bool {
        matches!(self, Self { action: StackAction::Delete, state: StackState::Failed })
    }

    /// Whether the last thing that Heat did was to change the stack, and it is done.
    pub const fn is_updated(self) -> bool {
        matches!(self, Self { action: StackAction::Update, state: StackState::Complete })
    }
}

impl fmt::Display for StackStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let action = ACTIONS.iter().find(|(action, _)| *action == self.action);
        let state = STATES.iter().find(|(state, _)| *state == self.state);
        let name = |found: Option<&'static str>| found.unwrap_or_default();
        write!(f, "{}_{}", name(action.map(|a| a.1)), name(state.map(|s| s.1)))
    }
}

/// A Heat stack at the moment of looking.
#[derive(Clone, Debug, PartialEq)]
pub struct Stack {
    pub id: String,
    pub name: String,
    pub status: StackStatus,
    pub status_reason: String,
    pub parameters: BTreeMap<String, Value>,
    /// Empty unless outputs were asked for; an output not yet known is null.
    pub outputs: BTreeMap<String, Value>,
    pub tags: Vec<String>,
}

impl Stack {
    pub fn is_in_progress(&self) -> bool {
        self.status.state == StackState::InProgress
    }

    pub fn is_complete(&self) -> bool {
        self.status.state == StackState::Complete
    }

    pub fn has_failed(&self) -> bool {
        self.status.state == StackState::Failed
    }

    pub fn is_deleting(&self) -> bool {
        self.status.action == StackAction::Delete
    }

    pub fn is_gone(&self) -> bool {
        self.is_deleting() && self.is_complete()
    }

    /// Whether the last update that was sent to it is marked like this.
    pub fn is_revision(&self, revision: &str) -> bool {
        self.revision() == Some(revision)
    }

    /// The mark of the last update that was sent to it; empty when it is as it was made.
    pub fn revision(&self) -> Option<&str> {
        self.parameters.get("revision").and_then(Value::as_str)
    }

    /// A text output, if it is known.
    pub fn text(&self, output: &str) -> Option<&str> {
        self.outputs.get(output)?.as_str().filter(|text| !text.is_empty())
    }

    /// A list output without the members that are not known yet.
    pub fn list(&self, output: &str) -> Vec<String> {
        let items = self.outputs.get(output).and_then(Value::as_array).map(Vec::as_slice);
        items.unwrap_or_default().iter().filter_map(Value::as_str).map(str::to_owned).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_status_of_heat_is_read_and_shown_alike() {
        for (action, _) in ACTIONS {
            for (state, _) in STATES {
                let status = StackStatus { action, state };
                assert_eq!(StackStatus::parse(&status.to_string()), Some(status));
            }
        }
        assert_eq!(
            StackStatus::parse("UPDATE_IN_PROGRESS").unwrap().to_string(),
            "UPDATE_IN_PROGRESS"
        );
        for text in
            ["", "CREATE", "CREATE_", "create_complete", "CREATE_COMPLETE ", "GONE_COMPLETE"]
        {
            assert_eq!(StackStatus::parse(text), None, "{text}");
        }
    }
}
