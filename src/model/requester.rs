//! Who asks.

use crate::base::clock::Timestamp;

/// The owner of a validated Keystone token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Requester {
    pub user_id: String,
    pub user_name: String,
    pub user_domain_id: String,
    pub user_domain_name: String,
    /// Absent for tokens scoped to a domain or to the system, and for unscoped ones.
    pub project_id: Option<String>,
    pub project_name: Option<String>,
    pub project_domain_id: Option<String>,
    /// Present when the token is scoped to a domain.
    pub domain_id: Option<String>,
    pub system_scope: bool,
    pub roles: Vec<String>,
    pub trust: Option<TrustScope>,
    /// The token was got with an application credential that may not create
    /// trusts or further credentials.
    pub restricted_credential: bool,
    pub expires_at: Timestamp,
}

/// What a trust-scoped token says of its trust.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrustScope {
    pub id: String,
    pub trustee_user_id: String,
}

impl Requester {
    pub fn has_role(&self, role: &str) -> bool {
        self.roles.iter().any(|r| r.eq_ignore_ascii_case(role))
    }
}
