//! Heat's "no": an exception's name, its sentence, and the body clients read.

use serde_json::{Value, json};

/// An error as Heat's API answers it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The exception's name, shown as `error.type`.
    pub kind: String,
    pub message: String,
    /// The parts of a validation failure, so that a parent can put its own path before it.
    invalid: Option<Box<Invalid>>,
}

impl Refusal {
    pub fn new(kind: &str, message: impl Into<String>) -> Self {
        Self { kind: kind.to_owned(), message: message.into(), invalid: None }
    }

    /// As seen from the stack around the one that failed.
    pub fn within(self, storeys: &[&str]) -> Self {
        let invalid = match self.invalid {
            Some(invalid) => *invalid,
            None if self.kind == "StackValidationFailed" => Invalid::new(self.message),
            None => Invalid::new(self.message).titled(&self.kind),
        };
        invalid.within(storeys).into()
    }

    /// What the API layer itself refuses.
    pub fn bad_request(message: impl Into<String>) -> Self {
        Self::new("HTTPBadRequest", message)
    }

    pub fn not_found(entity: &str, name: &str) -> Self {
        Self::new("EntityNotFound", format!("The {entity} ({name}) could not be found."))
    }

    pub fn limit(message: impl std::fmt::Display) -> Self {
        Self::new("RequestLimitExceeded", format!("Request limit exceeded: {message}"))
    }

    pub fn reference(name: &str, at: &str) -> Self {
        let message = format!("The specified reference \"{name}\" (in {at}) is incorrect.");
        Self::new("InvalidTemplateReference", message)
    }

    pub fn status(&self) -> u16 {
        match self.kind.as_str() {
            "EntityNotFound" | "NotFound" | "ResourceNotFound" | "HTTPNotFound" => 404,
            "Forbidden" | "InvalidTenant" | "HTTPForbidden" => 403,
            "ActionInProgress" | "StackExists" => 409,
            "HTTPMethodNotAllowed" => 405,
            "HTTPUnsupportedMediaType" => 415,
            "HTTPInternalServerError" | "RemoteError" => 500,
            _ => 400,
        }
    }

    pub fn body(&self) -> Value {
        let status = self.status();
        let (title, explanation) = match status {
            403 => ("Forbidden", "Access was denied to this resource."),
            404 => ("Not Found", "The resource could not be found."),
            405 => ("Method Not Allowed", "The method specified is not allowed for this resource."),
            409 => ("Conflict", "There was a conflict when trying to complete your request."),
            415 => ("Unsupported Media Type", "The request media type is not supported."),
            500 => (
                "Internal Server Error",
                "The server has either erred or is incapable of performing the requested operation.",
            ),
            _ => (
                "Bad Request",
                "The server could not comply with the request since it is either malformed or \
                 otherwise incorrect.",
            ),
        };
        let mut error = json!({"type": self.kind, "message": self.message, "traceback": null});
        // What the engine did not expect is not told to the world.
        if self.kind == "RemoteError"
            && let Some(error) = error.as_object_mut()
        {
            error.remove("message");
        }
        json!({"code": status, "title": title, "explanation": explanation, "error": error})
    }
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.message)
    }
}

/// A validation failure on its way up: every storey puts its own name before the path.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Invalid {
    pub error: Option<String>,
    pub path: Vec<String>,
    pub message: String,
}

impl Invalid {
    pub fn new(message: impl Into<String>) -> Self {
        Self { error: None, path: Vec::new(), message: message.into() }
    }

    pub fn within(mut self, storeys: &[&str]) -> Self {
        self.path.splice(0..0, storeys.iter().map(|s| (*s).to_owned()));
        self
    }

    pub fn titled(mut self, error: &str) -> Self {
        self.error.get_or_insert_with(|| error.to_owned());
        self
    }
}

impl std::fmt::Display for Invalid {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if let Some(error) = &self.error {
            write!(f, "{error}: ")?;
        }
        let path = join(&self.path);
        if !path.is_empty() {
            write!(f, "{path}: ")?;
        }
        f.write_str(&self.message)
    }
}

impl From<Invalid> for Refusal {
    fn from(invalid: Invalid) -> Self {
        let kind = "StackValidationFailed".to_owned();
        Self { kind, message: invalid.to_string(), invalid: Some(Box::new(invalid)) }
    }
}

/// `resources.group.resources[0]`: digits become indices.
pub fn join(path: &[String]) -> String {
    let mut out = String::new();
    for item in path {
        if !item.is_empty() && item.bytes().all(|b| b.is_ascii_digit()) {
            out.push('[');
            out.push_str(item);
            out.push(']');
        } else {
            if !out.is_empty() {
                out.push('.');
            }
            out.push_str(item);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_reads_as_heat_writes_it() {
        let invalid = Invalid::new("Unknown Property foo")
            .within(&["rules", "0"])
            .within(&["resources", "a", "properties"])
            .titled("Property error")
            .titled("ignored");
        let text = "Property error: resources.a.properties.rules[0]: Unknown Property foo";
        assert_eq!(invalid.to_string(), text);
        let refusal = Refusal::from(invalid);
        assert_eq!(refusal.status(), 400);
        assert_eq!(refusal.body()["error"]["type"], "StackValidationFailed");
        assert_eq!(refusal.body()["error"]["message"], text);
    }
}
