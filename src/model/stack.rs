//! Stack: what Heat shows of one.

use std::collections::BTreeMap;

use serde_json::Value;

/// A Heat stack at the moment of looking.
#[derive(Clone, Debug, PartialEq)]
pub struct Stack {
    pub id: String,
    pub name: String,
    /// Such as `CREATE_IN_PROGRESS`, in Heat's spelling.
    pub status: String,
    pub status_reason: String,
    pub parameters: BTreeMap<String, Value>,
    /// Empty unless outputs were asked for; an output not yet known is null.
    pub outputs: BTreeMap<String, Value>,
    pub tags: Vec<String>,
}

impl Stack {
    pub fn is_in_progress(&self) -> bool {
        self.status.ends_with("_IN_PROGRESS")
    }

    pub fn is_gone(&self) -> bool {
        self.status == "DELETE_COMPLETE"
    }

    pub fn is_deleting(&self) -> bool {
        self.status.starts_with("DELETE_")
    }

    /// Whether the last update that was sent to it is marked like this.
    pub fn is_revision(&self, revision: &str) -> bool {
        self.revision() == Some(revision)
    }

    /// The mark of the last update that was sent to it; empty when it is as it was made.
    pub fn revision(&self) -> Option<&str> {
        self.parameters.get("revision").and_then(Value::as_str)
    }

    pub fn has_failed(&self) -> bool {
        self.status.ends_with("_FAILED")
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
