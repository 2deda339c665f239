//! Why a resource failed, in the words that travel up from stack to stack.

use super::refusal::join;
use super::stack::Resource;

/// A resource's failure: exception, path down to the one at fault, sentence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// Which of the stack's own resources it is about.
    pub resource: String,
    kind: String,
    path: Vec<String>,
    message: String,
}

impl Failure {
    pub fn of(resource: &Resource, kind: &str, message: &str) -> Self {
        Self {
            resource: resource.name.clone(),
            kind: kind.to_owned(),
            path: vec!["resources".to_owned(), resource.name.clone()],
            message: message.to_owned(),
        }
    }

    /// A service reports the thing itself as broken.
    pub fn in_error(resource: &Resource, kind: &str, message: &str) -> Self {
        let because = match kind {
            "OS::Nova::Server" if !message.starts_with("Message:") => {
                format!("Message: {message}, Code: 500")
            }
            _ if message.is_empty() => "Unknown".to_owned(),
            _ => message.to_owned(),
        };
        let sentence = format!("Went to status ERROR due to \"{because}\"");
        Self::of(resource, "ResourceInError", &sentence)
    }

    /// What a nested stack says of itself, seen from the resource it hangs on. Heat takes the
    /// sentence apart at its colons, and so do we.
    pub fn lifted(resource: &Resource, reason: &str) -> Self {
        let mut own = Self::of(resource, "", reason);
        if !reason.contains(" failed: ") {
            return own;
        }
        let parts: Vec<&str> = reason.split(':').map(str::trim).collect();
        if let [_, kind, path, message @ ..] = parts.as_slice()
            && !message.is_empty()
        {
            own.kind = (*kind).to_owned();
            own.path.extend(path.split('.').map(str::to_owned));
            own.message = message.join(": ");
        }
        own
    }
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if !self.kind.is_empty() {
            write!(f, "{}: ", self.kind)?;
        }
        write!(f, "{}: {}", join(&self.path), self.message)
    }
}
