//! Whose token is this? One validation for all who ask at once, then the cache.

use std::sync::Arc;

use crate::base::secret::Secret;
use crate::model::requester::Requester;

/// Why a token was not accepted.
#[derive(Clone, Debug, thiserror::Error)]
pub enum TokenError {
    /// Unknown, expired or revoked.
    #[error("The request you have made requires authentication.")]
    Invalid,
    /// Keystone gave no answer; the sentence says what happened.
    #[error("{0}")]
    Unavailable(String),
}

/// Validates tokens with the service account; clones share the cache.
#[derive(Clone)]
pub struct Tokens {}

impl Tokens {
    /// Who owns `token`.
    pub async fn validate(&self, _token: &Secret<String>) -> Result<Arc<Requester>, TokenError> {
        unimplemented!()
    }
}
