//! Who there is and what they may do: Keystone's facts and their rules.

use std::collections::BTreeMap;

use crate::base::clock::Timestamp;
use crate::base::id::Entropy;

use super::heat::services::Refused;
use super::refusal::Answer;

/// Roles that bring others along, strongest first.
const CHAIN: [&str; 4] = ["admin", "manager", "member", "reader"];

#[derive(Clone, Debug)]
pub(super) struct Domain {
    pub id: String,
    pub name: String,
    pub description: String,
    pub enabled: bool,
}

#[derive(Clone, Debug)]
pub(super) struct Project {
    pub id: String,
    pub name: String,
    pub domain_id: String,
    pub description: String,
}

#[derive(Clone, Debug)]
pub(super) struct User {
    pub id: String,
    pub name: String,
    pub domain_id: String,
    pub password: String,
    pub description: String,
    pub enabled: bool,
    pub password_changed: Option<Timestamp>,
}

impl User {
    /// Keystone counts a token's issue in whole seconds, so that a new password ends even those
    /// of its own second that are given after it.
    fn accepts(&self, issued: Timestamp) -> bool {
        let second = issued.micros() - issued.micros().rem_euclid(1_000_000);
        self.enabled && self.password_changed.is_none_or(|at| second > at.micros())
    }
}

#[derive(Clone, Debug)]
pub(super) struct Role {
    pub id: String,
    pub name: String,
}

/// What a token is good for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Scope {
    Unscoped,
    Project(String),
    Domain(String),
    System,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Grant {
    pub user: String,
    pub scope: Scope,
    /// By name.
    pub role: String,
}

#[derive(Clone, Debug)]
pub(super) struct Token {
    pub id: String,
    /// With a trust, the trustor.
    pub user_id: String,
    pub scope: Scope,
    pub roles: Vec<String>,
    pub methods: Vec<String>,
    pub issued_at: Timestamp,
    pub expires_at: Timestamp,
    pub audit_id: String,
    pub trust: Option<String>,
    pub credential: Option<String>,
}

#[derive(Clone, Debug)]
pub(super) struct Trust {
    pub id: String,
    pub trustor: String,
    pub trustee: String,
    pub project: String,
    pub roles: Vec<String>,
    pub impersonation: bool,
    pub expires_at: Option<Timestamp>,
}

#[derive(Clone, Debug)]
pub(super) struct Credential {
    pub id: String,
    pub name: String,
    pub secret: String,
    pub user_id: String,
    pub project_id: String,
    pub roles: Vec<String>,
    pub unrestricted: bool,
    pub expires_at: Option<Timestamp>,
}

/// Roles and all that they imply, sorted.
pub(super) fn with_implied(mut roles: Vec<String>) -> Vec<String> {
    if let Some(strongest) = CHAIN.iter().position(|r| roles.iter().any(|have| have == r)) {
        roles.extend(CHAIN[strongest..].iter().map(|r| (*r).to_owned()));
    }
    roles.sort();
    roles.dedup();
    roles
}

/// A new trust, as asked for.
#[derive(Clone, Debug)]
pub(super) struct NewTrust {
    pub trustor: String,
    pub trustee: String,
    pub project: String,
    pub roles: Vec<String>,
    pub impersonation: bool,
    pub expires_at: Option<Timestamp>,
}

/// Everything Keystone knows.
#[derive(Debug, Default)]
pub(super) struct Identity {
    pub domains: Vec<Domain>,
    pub projects: Vec<Project>,
    pub users: Vec<User>,
    pub roles: Vec<Role>,
    pub grants: Vec<Grant>,
    pub tokens: BTreeMap<String, Token>,
    pub trusts: BTreeMap<String, Trust>,
    pub credentials: BTreeMap<String, Credential>,
}

impl Identity {
    pub fn domain(&self, id: &str) -> Option<&Domain> {
        self.domains.iter().find(|d| d.id == id)
    }

    pub fn project(&self, id: &str) -> Option<&Project> {
        self.projects.iter().find(|p| p.id == id)
    }

    pub fn user(&self, id: &str) -> Option<&User> {
        self.users.iter().find(|u| u.id == id)
    }

    pub fn user_named(&self, name: &str, domain: &str) -> Option<&User> {
        self.users.iter().find(|u| u.name == name && u.domain_id == domain)
    }

    pub fn role(&self, name_or_id: &str) -> Option<&Role> {
        self.roles.iter().find(|r| r.id == name_or_id || r.name == name_or_id)
    }

    /// A user's roles there with all that they imply, in a fixed order.
    pub fn roles_of(&self, user: &str, scope: &Scope) -> Vec<String> {
        let granted = self.grants.iter().filter(|g| g.user == user && g.scope == *scope);
        with_implied(granted.map(|g| g.role.clone()).collect())
    }

    /// A token that is known, unexpired, and whose reasons still hold.
    pub fn token(&self, id: &str, now: Timestamp) -> Option<&Token> {
        let token = self.tokens.get(id)?;
        let user_holds = |id: &str| self.user(id).is_some_and(|user| user.accepts(token.issued_at));
        let trust_holds = token.trust.as_ref().is_none_or(|trust| {
            self.trusts.get(trust).is_some_and(|trust| user_holds(&trust.trustee))
        });
        let credential_holds =
            token.credential.as_ref().is_none_or(|c| self.credentials.contains_key(c));
        let valid =
            token.expires_at > now && trust_holds && credential_holds && user_holds(&token.user_id);
        valid.then_some(token)
    }

    pub fn create_user(
        &mut self,
        entropy: &Entropy,
        name: &str,
        domain: &str,
        password: &str,
    ) -> Answer<User> {
        if name.is_empty() || name.len() > 255 {
            return Err(Refused::bad("Invalid input for field 'name': 1 to 255 characters."));
        }
        if self.domain(domain).is_none() {
            return Err(Refused::missing(format!("Could not find domain: {domain}.")));
        }
        if self.user_named(name, domain).is_some() {
            return Err(Refused::conflict(format!(
                "Conflict occurred attempting to store user - Duplicate entry found with name \
                 {name} at domain ID {domain}."
            )));
        }
        let user = User {
            id: entropy.hex_token(),
            name: name.to_owned(),
            domain_id: domain.to_owned(),
            password: password.to_owned(),
            description: String::new(),
            enabled: true,
            password_changed: None,
        };
        self.users.push(user.clone());
        Ok(user)
    }

    /// A new password ends the user's tokens, and so does it to be disabled.
    pub fn change_user(
        &mut self,
        id: &str,
        password: Option<&str>,
        enabled: Option<bool>,
        now: Timestamp,
    ) -> Answer<&User> {
        let missing = || Refused::missing(format!("Could not find user: {id}."));
        let user = self.users.iter_mut().find(|u| u.id == id).ok_or_else(missing)?;
        if let Some(password) = password {
            password.clone_into(&mut user.password);
            user.password_changed = Some(now);
        }
        if let Some(enabled) = enabled {
            user.enabled = enabled;
            if !enabled {
                // Revoked once and for all: to be enabled again brings no token back.
                self.tokens.retain(|_, t| t.user_id != id);
            }
        }
        self.user(id).ok_or_else(missing)
    }

    /// A user takes tokens, roles, credentials and trusts of either side along.
    pub fn delete_user(&mut self, id: &str) -> Answer<()> {
        if self.user(id).is_none() {
            return Err(Refused::missing(format!("Could not find user: {id}.")));
        }
        self.users.retain(|u| u.id != id);
        self.grants.retain(|g| g.user != id);
        self.credentials.retain(|_, c| c.user_id != id);
        self.tokens.retain(|_, t| t.user_id != id);
        let ended: Vec<String> = self
            .trusts
            .values()
            .filter(|t| t.trustor == id || t.trustee == id)
            .map(|t| t.id.clone())
            .collect();
        for trust in ended {
            self.end_trust(&trust);
        }
        Ok(())
    }

    /// With a role, the user's tokens and application credentials of that place end; trusts stay,
    /// and Keystone gives nothing for them any more.
    pub fn end_grant(&mut self, grant: &Grant) {
        self.grants.retain(|g| g != grant);
        self.tokens.retain(|_, t| t.user_id != grant.user || t.scope != grant.scope);
        let concerns = |c: &Credential| {
            c.user_id == grant.user && grant.scope == Scope::Project(c.project_id.clone())
        };
        self.credentials.retain(|_, c| !concerns(c));
    }

    pub fn end_trust(&mut self, id: &str) {
        self.trusts.remove(id);
        self.tokens.retain(|_, t| t.trust.as_deref() != Some(id));
    }

    /// Whether a token was got with a restricted application credential.
    pub fn is_restricted(&self, token: &Token) -> bool {
        let credential = token.credential.as_ref().and_then(|id| self.credentials.get(id));
        credential.is_some_and(|credential| !credential.unrestricted)
    }

    /// Makes a trust for whoever holds `token`.
    pub fn create_trust(
        &mut self,
        entropy: &Entropy,
        token: &Token,
        wanted: NewTrust,
    ) -> Answer<Trust> {
        if token.trust.is_some() {
            return Err(Refused::forbidden(
                "You are not authorized to perform the requested action: \
                 a trust may not be made with a trust-scoped token.",
            ));
        }
        if self.is_restricted(token) {
            return Err(Refused::forbidden(
                "Using method 'application_credential' is not allowed for managing trusts.",
            ));
        }
        if token.user_id != wanted.trustor {
            return Err(Refused::forbidden("The authenticated user should match the trustor."));
        }
        let missing =
            |what: &str, id: &str| Refused::missing(format!("Could not find {what}: {id}."));
        if self.user(&wanted.trustee).is_none() {
            return Err(missing("user", &wanted.trustee));
        }
        if self.project(&wanted.project).is_none() {
            return Err(missing("project", &wanted.project));
        }
        if wanted.roles.is_empty() {
            return Err(Refused::forbidden("At least one role should be specified."));
        }
        let own = self.roles_of(&wanted.trustor, &Scope::Project(wanted.project.clone()));
        let mut roles = Vec::new();
        for wish in &wanted.roles {
            match self.role(wish) {
                Some(role) if own.contains(&role.name) => roles.push(role.name.clone()),
                _ => return Err(missing("role", wish)),
            }
        }
        let trust = Trust {
            id: entropy.hex_token(),
            trustor: wanted.trustor,
            trustee: wanted.trustee,
            project: wanted.project,
            roles,
            impersonation: wanted.impersonation,
            expires_at: wanted.expires_at,
        };
        self.trusts.insert(trust.id.clone(), trust.clone());
        Ok(trust)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_role_brings_the_weaker_ones_along() {
        let mut identity = Identity::default();
        let scope = Scope::Project("p".to_owned());
        let grant = |role: &str| Grant {
            user: "u".to_owned(),
            scope: scope.clone(),
            role: role.to_owned(),
        };
        identity.grants.push(grant("member"));
        identity.grants.push(grant("creator"));
        assert_eq!(identity.roles_of("u", &scope), ["creator", "member", "reader"]);
        identity.grants.push(grant("admin"));
        assert_eq!(
            identity.roles_of("u", &scope),
            ["admin", "creator", "manager", "member", "reader"]
        );
        assert!(identity.roles_of("u", &Scope::System).is_empty());
    }
}
