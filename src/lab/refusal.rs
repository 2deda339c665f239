//! A service's "no", in the words of its real counterpart.

use super::heat::services::Refused;

pub(super) type Answer<T> = Result<T, Refused>;

impl Refused {
    pub(super) fn new(status: u16, kind: &'static str, message: impl Into<String>) -> Self {
        Self { status, kind, message: message.into() }
    }

    pub(super) fn bad(message: impl Into<String>) -> Self {
        Self::new(400, "BadRequest", message)
    }

    pub(super) fn forbidden(message: impl Into<String>) -> Self {
        Self::new(403, "Forbidden", message)
    }

    pub(super) fn missing(message: impl Into<String>) -> Self {
        Self::new(404, "NotFound", message)
    }

    pub(super) fn conflict(message: impl Into<String>) -> Self {
        Self::new(409, "Conflict", message)
    }

    /// Keystone's answer to whoever cannot prove who they are; it never says why.
    pub(super) fn unauthorised() -> Self {
        let message = "The request you have made requires authentication.";
        Self::new(401, "Unauthorized", message)
    }
}
