//! Keystone's registers of users, domains, roles and services, as an administrator keeps them.

use std::collections::HashMap;
use std::time::Duration;

use hyper::Method;
use serde_json::{Value, json};

use super::call::{self, Call, Caller, ServiceSettings, encode};
use super::credentials::Credentials;
use super::error::{CloudError, Service};
use super::keystone::{Session, log_in};
use crate::base::http::tls::TlsError;

/// A register, by the name that Keystone's URLs give it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Register {
    Users,
    Projects,
    Domains,
    Roles,
    Services,
    Endpoints,
    Regions,
    /// Who has which role where; only to be listed.
    Assignments,
}

impl Register {
    const fn path(self) -> &'static str {
        match self {
            Self::Users => "users",
            Self::Projects => "projects",
            Self::Domains => "domains",
            Self::Roles => "roles",
            Self::Services => "services",
            Self::Endpoints => "endpoints",
            Self::Regions => "regions",
            Self::Assignments => "role_assignments",
        }
    }

    /// What one entry is called.
    pub const fn singular(self) -> &'static str {
        match self {
            Self::Users => "user",
            Self::Projects => "project",
            Self::Domains => "domain",
            Self::Roles => "role",
            Self::Services => "service",
            Self::Endpoints => "endpoint",
            Self::Regions => "region",
            Self::Assignments => "role assignment",
        }
    }
}

/// Where a role is given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    Project(String),
    Domain(String),
}

impl Place {
    fn path(&self) -> String {
        match self {
            Self::Project(id) => format!("projects/{}", encode(id)),
            Self::Domain(id) => format!("domains/{}", encode(id)),
        }
    }
}

/// Why an administrator could not log in.
#[derive(Debug, thiserror::Error)]
pub enum RegistrarError {
    #[error(transparent)]
    Tls(#[from] TlsError),
    #[error(transparent)]
    Cloud(#[from] CloudError),
}

/// An administrator at Keystone.
pub struct KeystoneAdmin {
    caller: Caller,
    session: Session,
    auth_url: String,
}

impl KeystoneAdmin {
    /// Prepares the connection; opens none.
    fn caller(credentials: &Credentials) -> Result<Caller, TlsError> {
        let settings = ServiceSettings {
            region: credentials.region.clone(),
            interface: credentials.interface.clone(),
            trust: credentials.trust.clone(),
        };
        let services = HashMap::from([(Service::Keystone, settings)]);
        Caller::new(&services, 8, Duration::from_secs(5), Duration::from_secs(30))
    }

    pub async fn log_in(credentials: &Credentials) -> Result<Self, RegistrarError> {
        let caller = Self::caller(credentials)?;
        let (session, _) = log_in(&caller, &credentials.auth_url, credentials.auth()).await?;
        Ok(Self { caller, session, auth_url: credentials.auth_url.clone() })
    }

    pub fn session(&self) -> &Session {
        &self.session
    }

    /// Entries that fit a query such as `name=magnum&domain_id=default`, as Keystone shows them.
    pub async fn list(
        &self,
        register: Register,
        query: &[(&str, &str)],
    ) -> Result<Vec<Value>, CloudError> {
        let query: Vec<String> = query.iter().map(|(k, v)| format!("{k}={}", encode(v))).collect();
        let path = format!("{}?{}", register.path(), query.join("&"));
        let body = self.caller.json(self.call(&path, register.singular())).await?;
        match call::list(Service::Keystone, body, register.path())? {
            Value::Array(list) => Ok(list),
            _ => Ok(Vec::new()),
        }
    }

    /// Makes an entry and returns its id.
    pub async fn create(&self, register: Register, entry: Value) -> Result<String, CloudError> {
        let call = self.call(register.path(), register.singular());
        let call = call.method(Method::POST).body(json!({ register.singular(): entry }));
        let body = self.caller.json(call).await?;
        let id = body[register.singular()]["id"].as_str();
        id.map(str::to_owned).ok_or_else(|| CloudError::Unknown {
            service: Service::Keystone,
            reason: format!("the new {} has no id", register.singular()),
        })
    }

    pub async fn change(
        &self,
        register: Register,
        id: &str,
        change: Value,
    ) -> Result<(), CloudError> {
        let path = format!("{}/{}", register.path(), encode(id));
        let call = self.call(&path, register.singular()).method(Method::PATCH);
        self.caller.send(call.body(json!({ register.singular(): change }))).await.map(|_| ())
    }

    /// What is gone already counts as removed.
    pub async fn remove(&self, register: Register, id: &str) -> Result<(), CloudError> {
        let path = format!("{}/{}", register.path(), encode(id));
        let call = self.call(&path, register.singular()).method(Method::DELETE);
        match self.caller.send(call).await {
            Err(e) if !e.is_missing() => Err(e),
            _ => Ok(()),
        }
    }

    pub async fn has_role(
        &self,
        user: &str,
        place: &Place,
        role: &str,
    ) -> Result<bool, CloudError> {
        let path = self.grant(user, place, role);
        match self.caller.send(self.call(&path, "the role").method(Method::HEAD)).await {
            Ok(_) => Ok(true),
            Err(e) if e.is_missing() => Ok(false),
            Err(e) => Err(e),
        }
    }

    pub async fn give_role(&self, user: &str, place: &Place, role: &str) -> Result<(), CloudError> {
        let path = self.grant(user, place, role);
        self.caller.send(self.call(&path, "the role").method(Method::PUT)).await.map(|_| ())
    }

    fn grant(&self, user: &str, place: &Place, role: &str) -> String {
        format!("{}/users/{}/roles/{}", place.path(), encode(user), encode(role))
    }

    fn call<'c>(&'c self, path: &str, what: &'c str) -> Call<'c> {
        let url = format!("{}/{path}", self.auth_url);
        Call::get(Service::Keystone, url, &self.session.token, what)
    }
}
