//! Keystone: tokens, trustee users, trusts.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use hyper::Method;
use hyper::header::HeaderName;
use serde_json::{Value, json};
use tokio::sync::Mutex;

use super::call::{Call, Caller, SharedCaller, encode};
use super::catalog::Catalog;
use super::credentials::Credentials;
use super::error::{CloudError, Service};
use crate::base::clock::{Clock, Timestamp};
use crate::base::secret::Secret;
use crate::model::requester::{Requester, TrustScope};

/// A user or a project: by id, or by name and domain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    pub id: Option<String>,
    pub name: Option<String>,
    pub domain_id: Option<String>,
    pub domain_name: Option<String>,
}

impl Identity {
    pub(super) fn json(&self) -> Value {
        if let Some(id) = &self.id {
            return json!({ "id": id });
        }
        let mut domain = serde_json::Map::new();
        match (&self.domain_id, &self.domain_name) {
            (Some(id), _) => domain.insert("id".to_owned(), json!(id)),
            (None, Some(name)) => domain.insert("name".to_owned(), json!(name)),
            (None, None) => domain.insert("id".to_owned(), json!("default")),
        };
        json!({ "name": self.name, "domain": domain })
    }
}

/// The accounts magnumd has of its own.
#[derive(Clone, Debug)]
pub struct Accounts {
    pub auth_url: String,
    pub service_user: Identity,
    pub service_password: Secret<String>,
    pub service_project: Identity,
    pub trustee_domain_id: Option<String>,
    pub trustee_domain_name: Option<String>,
    pub domain_admin: Identity,
    pub domain_admin_password: Secret<String>,
}

/// A token of ours with what it came with.
#[derive(Clone, Debug)]
pub struct Session {
    pub token: Secret<String>,
    /// By Keystone's clock, in whole seconds.
    pub issued_at: Timestamp,
    pub expires_at: Timestamp,
    pub user_id: String,
    pub roles: Vec<String>,
    pub project_id: String,
    /// Set for a domain-scoped token.
    pub domain_id: String,
    pub catalog: Arc<Catalog>,
}

/// A user of the trustee domain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trustee {
    pub id: String,
    pub name: String,
    pub maker: Maker,
}

/// Who made a trustee, by its description.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Maker {
    /// A magnumd on this state.
    Us,
    /// A magnumd on another state, or on this one before it was lost.
    AnotherMagnumd,
    Somebody,
}

/// A trust as its trustee sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trust {
    pub id: String,
    pub trustor_user_id: String,
    pub project_id: String,
}

/// How the descriptions of trustees begin that a magnumd makes.
const TRUSTEE: &str = "Acts for a Magnum cluster through a trust.";

/// Speaks to Keystone as the service, as the domain's administrator, as trustees.
#[derive(Debug)]
pub struct Keystone {
    caller: SharedCaller,
    clock: Clock,
    accounts: Accounts,
    service: Mutex<Option<Arc<Session>>>,
    domain_admin: Mutex<Option<Arc<Session>>>,
    /// The name of the state that we work for.
    instance: OnceLock<String>,
}

const SUBJECT_TOKEN: HeaderName = HeaderName::from_static("x-subject-token");
/// A token is renewed this long before it ends.
const MARGIN: Duration = Duration::from_secs(60);

impl Keystone {
    pub(super) fn new(caller: SharedCaller, clock: Clock, accounts: Accounts) -> Self {
        Self {
            caller,
            clock,
            accounts,
            service: Mutex::new(None),
            domain_admin: Mutex::new(None),
            instance: OnceLock::new(),
        }
    }

    /// Marks the trustees made from now on, so that no other magnumd takes them for its own.
    pub fn works_for(&self, instance: &str) {
        self.instance.get_or_init(|| instance.to_owned());
    }

    fn description(&self) -> String {
        match self.instance.get() {
            Some(instance) => format!("{TRUSTEE} Made by magnumd {instance}."),
            None => TRUSTEE.to_owned(),
        }
    }

    pub fn auth_url(&self) -> &str {
        &self.accounts.auth_url
    }

    /// Our own project-scoped session, renewed when it is about to end.
    pub async fn service(&self) -> Result<Arc<Session>, CloudError> {
        let scope = json!({ "project": self.accounts.service_project.json() });
        let (user, password) = (&self.accounts.service_user, &self.accounts.service_password);
        self.kept(&self.service, user, password, scope).await
    }

    /// What time it is at Keystone: when it says that it made a token, just now.
    pub async fn time(&self) -> Result<Timestamp, CloudError> {
        let scope = json!({ "project": self.accounts.service_project.json() });
        let (user, password) = (&self.accounts.service_user, &self.accounts.service_password);
        Ok(self.login(user, password, Some(scope)).await?.issued_at)
    }

    /// The session of the trustee domain's administrator.
    pub async fn domain_admin(&self) -> Result<Arc<Session>, CloudError> {
        let domain = match (&self.accounts.trustee_domain_id, &self.accounts.trustee_domain_name) {
            (Some(id), _) => json!({ "id": id }),
            (None, name) => json!({ "name": name }),
        };
        let (user, password) = (&self.accounts.domain_admin, &self.accounts.domain_admin_password);
        self.kept(&self.domain_admin, user, password, json!({ "domain": domain })).await
    }

    /// Forgets our sessions, after one was not accepted.
    pub async fn renew(&self) {
        *self.service.lock().await = None;
        *self.domain_admin.lock().await = None;
    }

    async fn kept(
        &self,
        place: &Mutex<Option<Arc<Session>>>,
        user: &Identity,
        password: &Secret<String>,
        scope: Value,
    ) -> Result<Arc<Session>, CloudError> {
        // The lock is held over the login: all who need the session share one.
        let mut kept = place.lock().await;
        if let Some(session) = kept.as_ref()
            && session.expires_at > self.clock.now().plus(MARGIN)
        {
            return Ok(Arc::clone(session));
        }
        let session = Arc::new(self.login(user, password, Some(scope)).await?);
        *kept = Some(Arc::clone(&session));
        Ok(session)
    }

    /// A session of a cluster's trustee: for its tenant's project with a trust, else unscoped.
    pub async fn trustee(
        &self,
        user_id: &str,
        password: &Secret<String>,
        trust: Option<&str>,
    ) -> Result<Session, CloudError> {
        let user = Identity {
            id: Some(user_id.to_owned()),
            name: None,
            domain_id: None,
            domain_name: None,
        };
        let scope = trust.map(|id| json!({ "OS-TRUST:trust": { "id": id } }));
        self.login(&user, password, scope).await
    }

    async fn login(
        &self,
        user: &Identity,
        password: &Secret<String>,
        scope: Option<Value>,
    ) -> Result<Session, CloudError> {
        let mut who = user.json();
        who["password"] = json!(password.expose());
        let mut auth = json!({
            "identity": { "methods": ["password"], "password": { "user": who } }
        });
        if let Some(scope) = scope {
            auth["scope"] = scope;
        }
        let (session, _) = log_in(&self.caller, &self.accounts.auth_url, auth).await?;
        Ok(session)
    }

    /// A session of somebody else, and who they are, as far as their token has a scope.
    pub async fn log_in(
        &self,
        credentials: &Credentials,
    ) -> Result<(Session, Option<Requester>), CloudError> {
        log_in(&self.caller, &credentials.auth_url, credentials.auth()).await
    }

    /// Who owns a token. [`CloudError::Missing`] means the token is not valid.
    pub async fn validate(&self, token: &Secret<String>) -> Result<Requester, CloudError> {
        match self.validate_once(token).await {
            // Our own session has been revoked: log in again, once.
            Err(e) if e.is_unauthorised() => {
                self.renew().await;
                self.validate_once(token).await
            }
            answer => answer,
        }
    }

    async fn validate_once(&self, token: &Secret<String>) -> Result<Requester, CloudError> {
        let service = self.service().await?;
        let url = format!("{}/auth/tokens?nocatalog", self.accounts.auth_url);
        let call = Call::get(Service::Keystone, url, &service.token, "the token")
            .header(SUBJECT_TOKEN, token.expose());
        let body = self.caller.json(call).await?;
        requester(&body["token"]).ok_or_else(|| CloudError::Unknown {
            service: Service::Keystone,
            reason: "the token's description is incomplete".to_owned(),
        })
    }

    /// Asks for nothing but an answer.
    pub async fn ping(&self) -> Result<(), CloudError> {
        let call = Call {
            service: Service::Keystone,
            method: Method::GET,
            url: self.accounts.auth_url.clone(),
            token: None,
            headers: Vec::new(),
            body: None,
            what: "the identity API",
        };
        self.caller.send(call).await.map(drop)
    }

    /// Whether there is such a project.
    pub async fn has_project(&self, id: &str) -> Result<bool, CloudError> {
        let service = self.service().await?;
        let url = format!("{}/projects/{}", self.accounts.auth_url, encode(id));
        let call = Call::get(Service::Keystone, url, &service.token, "the project");
        match self.accepted(self.caller.json(call).await).await {
            Ok(_) => Ok(true),
            Err(e) if e.is_missing() => Ok(false),
            Err(e) => Err(e),
        }
    }

    /// The id of the trustee domain; known once its administrator has logged in.
    pub async fn trustee_domain_id(&self) -> Result<String, CloudError> {
        match &self.accounts.trustee_domain_id {
            Some(id) => Ok(id.clone()),
            None => Ok(self.domain_admin().await?.domain_id.clone()),
        }
    }

    /// The trustee user of that name, if there is one.
    pub async fn trustee_named(&self, name: &str) -> Result<Option<String>, CloudError> {
        let admin = self.domain_admin().await?;
        let url = format!(
            "{}/users?name={}&domain_id={}",
            self.accounts.auth_url,
            encode(name),
            encode(&self.trustee_domain_id().await?)
        );
        let call = Call::get(Service::Keystone, url, &admin.token, "the trustee");
        let body = self.accepted(self.caller.json(call).await).await?;
        Ok(body["users"][0]["id"].as_str().map(str::to_owned))
    }

    /// Every user of the trustee domain; false when Keystone shows no more than a part of them.
    pub async fn trustees(&self) -> Result<(Vec<Trustee>, bool), CloudError> {
        let admin = self.domain_admin().await?;
        let domain = self.trustee_domain_id().await?;
        let url = format!("{}/users?domain_id={}", self.accounts.auth_url, encode(&domain));
        let call = Call::get(Service::Keystone, url, &admin.token, "the trustee domain");
        let body = self.accepted(self.caller.json(call).await).await?;
        let own = self.description();
        let trustee = |user: &Value| Trustee {
            id: text(&user["id"]),
            name: text(&user["name"]),
            maker: match user["description"].as_str().unwrap_or_default() {
                text if text == own => Maker::Us,
                text if text.starts_with(TRUSTEE) => Maker::AnotherMagnumd,
                _ => Maker::Somebody,
            },
        };
        let users = body["users"].as_array().map(Vec::as_slice).unwrap_or_default();
        Ok((users.iter().map(trustee).collect(), !body["truncated"].as_bool().unwrap_or(false)))
    }

    pub async fn create_trustee(
        &self,
        name: &str,
        password: &Secret<String>,
    ) -> Result<String, CloudError> {
        let admin = self.domain_admin().await?;
        let body = json!({ "user": {
            "name": name,
            "password": password.expose(),
            "domain_id": self.trustee_domain_id().await?,
            "enabled": true,
            "description": self.description(),
        }});
        let url = format!("{}/users", self.accounts.auth_url);
        let call = Call::get(Service::Keystone, url, &admin.token, "the trustee domain")
            .method(Method::POST)
            .body(body);
        Ok(text(&self.accepted(self.caller.json(call).await).await?["user"]["id"]))
    }

    /// Setting the same password twice is harmless.
    pub async fn set_trustee_password(
        &self,
        user_id: &str,
        password: &Secret<String>,
    ) -> Result<(), CloudError> {
        let admin = self.domain_admin().await?;
        let url = format!("{}/users/{}", self.accounts.auth_url, encode(user_id));
        let body = json!({ "user": { "password": password.expose() } });
        let call = Call::get(Service::Keystone, url, &admin.token, "the trustee")
            .method(Method::PATCH)
            .body(body);
        self.accepted(self.caller.send(call).await).await.map(|_| ())
    }

    pub async fn delete_trustee(&self, user_id: &str) -> Result<(), CloudError> {
        let admin = self.domain_admin().await?;
        let url = format!("{}/users/{}", self.accounts.auth_url, encode(user_id));
        let call = Call::get(Service::Keystone, url, &admin.token, "the trustee");
        self.accepted(self.caller.send(call.method(Method::DELETE)).await).await.map(|_| ())
    }

    /// A session of ours that is no longer accepted is forgotten: the next try logs in again.
    async fn accepted<T>(&self, answer: Result<T, CloudError>) -> Result<T, CloudError> {
        match answer {
            Err(e) if e.is_unauthorised() => {
                self.renew().await;
                let reason = "our session had ended".to_owned();
                Err(CloudError::Busy { service: Service::Keystone, reason, retry_after: None })
            }
            answer => answer,
        }
    }

    /// Every trust given to a trustee, asked as the trustee: one of each user who owns a stack of
    /// its cluster, and while a rotation runs the next one.
    pub async fn trusts_of(
        &self,
        user_id: &str,
        password: &Secret<String>,
    ) -> Result<Vec<Trust>, CloudError> {
        let trustee = self.trustee(user_id, password, None).await?;
        self.trusts_given_to(user_id, &trustee.token).await
    }

    /// A trustee's trusts, for whoever may see them: the trustee and administrators.
    pub async fn trusts_given_to(
        &self,
        user_id: &str,
        token: &Secret<String>,
    ) -> Result<Vec<Trust>, CloudError> {
        let url = format!(
            "{}/OS-TRUST/trusts?trustee_user_id={}",
            self.accounts.auth_url,
            encode(user_id)
        );
        let body = self.caller.json(Call::get(Service::Keystone, url, token, "the trust")).await?;
        let trusts = body["trusts"].as_array().map(Vec::as_slice).unwrap_or_default();
        let trust = |trust: &Value| {
            Some(Trust {
                id: trust["id"].as_str()?.to_owned(),
                trustor_user_id: text(&trust["trustor_user_id"]),
                project_id: text(&trust["project_id"]),
            })
        };
        Ok(trusts.iter().filter_map(trust).collect())
    }

    /// Trusts from one user to another, asked by the first.
    pub async fn trusts_between(
        &self,
        token: &Secret<String>,
        trustor: &str,
        trustee: &str,
    ) -> Result<Vec<String>, CloudError> {
        let url = format!(
            "{}/OS-TRUST/trusts?trustor_user_id={}",
            self.accounts.auth_url,
            encode(trustor)
        );
        let call = Call::get(Service::Keystone, url, token, "the trusts");
        let body = self.caller.json(call).await?;
        let trusts = body["trusts"].as_array().map(Vec::as_slice).unwrap_or_default();
        let to = trusts.iter().filter(|t| t["trustee_user_id"] == trustee);
        Ok(to.filter_map(|t| t["id"].as_str()).map(str::to_owned).collect())
    }

    /// A trust from the token's owner to `trustee` for one project and some roles.
    pub async fn create_trust(
        &self,
        tenant: &Secret<String>,
        trustor: &str,
        trustee: &str,
        project: &str,
        roles: &[String],
    ) -> Result<String, CloudError> {
        let roles: Vec<Value> = roles.iter().map(|name| json!({ "name": name })).collect();
        let body = json!({ "trust": {
            "trustor_user_id": trustor,
            "trustee_user_id": trustee,
            "project_id": project,
            "impersonation": true,
            "allow_redelegation": false,
            "roles": roles,
        }});
        let url = format!("{}/OS-TRUST/trusts", self.accounts.auth_url);
        let call = Call::get(Service::Keystone, url, tenant, "the trustor, trustee or project")
            .method(Method::POST)
            .body(body);
        Ok(text(&self.caller.json(call).await?["trust"]["id"]))
    }

    pub async fn delete_trust(
        &self,
        token: &Secret<String>,
        trust: &str,
    ) -> Result<(), CloudError> {
        let url = format!("{}/OS-TRUST/trusts/{}", self.accounts.auth_url, encode(trust));
        let call = Call::get(Service::Keystone, url, token, "the trust");
        self.caller.send(call.method(Method::DELETE)).await.map(|_| ())
    }
}

/// One login at one Keystone.
pub(super) async fn log_in(
    caller: &Caller,
    auth_url: &str,
    auth: Value,
) -> Result<(Session, Option<Requester>), CloudError> {
    let call = Call {
        service: Service::Keystone,
        method: Method::POST,
        url: format!("{auth_url}/auth/tokens"),
        token: None,
        headers: Vec::new(),
        body: Some(json!({ "auth": auth })),
        what: "the login",
    };
    let answer = caller.send(call).await?;
    let token = answer.header("x-subject-token").map(str::to_owned);
    let body: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
    let body = &body["token"];
    let date = |key: &str| body[key].as_str().and_then(Timestamp::parse);
    let (Some(token), Some(issued_at), Some(expires_at)) =
        (token, date("issued_at"), date("expires_at"))
    else {
        let reason = "the login's answer holds no token".to_owned();
        return Err(CloudError::Unknown { service: Service::Keystone, reason });
    };
    let project_id = text(&body["project"]["id"]);
    let session = Session {
        token: Secret::new(token),
        issued_at,
        expires_at,
        user_id: text(&body["user"]["id"]),
        roles: names(&body["roles"]),
        catalog: Arc::new(Catalog::parse(&body["catalog"], &project_id)),
        project_id,
        domain_id: text(&body["domain"]["id"]),
    };
    Ok((session, requester(body)))
}

fn names(list: &Value) -> Vec<String> {
    let list = list.as_array().map(Vec::as_slice).unwrap_or_default();
    list.iter().map(|one| text(&one["name"])).collect()
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

/// Reads the `token` object of a validation.
pub(super) fn requester(token: &Value) -> Option<Requester> {
    let user = &token["user"];
    let optional = |value: &Value| value.as_str().map(str::to_owned);
    let trust = optional(&token["OS-TRUST:trust"]["id"]).map(|id| TrustScope {
        id,
        trustee_user_id: text(&token["OS-TRUST:trust"]["trustee_user"]["id"]),
    });
    // Keystone omits the object for other methods; a restricted one may not make trusts.
    let credential = &token["application_credential"];
    Some(Requester {
        user_id: optional(&user["id"])?,
        user_name: text(&user["name"]),
        user_domain_id: text(&user["domain"]["id"]),
        user_domain_name: text(&user["domain"]["name"]),
        project_id: optional(&token["project"]["id"]),
        project_name: optional(&token["project"]["name"]),
        project_domain_id: optional(&token["project"]["domain"]["id"]),
        domain_id: optional(&token["domain"]["id"]),
        system_scope: token["system"].is_object(),
        roles: names(&token["roles"]),
        trust,
        restricted_credential: credential["restricted"].as_bool().unwrap_or(credential.is_object()),
        expires_at: token["expires_at"].as_str().and_then(Timestamp::parse)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_a_token_says_of_its_owner() {
        let token = json!({
            "expires_at": "2026-11-24T15:00:00.000000Z",
            "user": {"id": "u", "name": "demo", "domain": {"id": "default", "name": "Default"}},
            "project": {"id": "p", "name": "demo", "domain": {"id": "default"}},
            "roles": [{"id": "1", "name": "member"}],
            "OS-TRUST:trust": {"id": "t", "trustee_user": {"id": "x"}},
            "application_credential": {"id": "c", "restricted": true},
        });
        let who = requester(&token).unwrap();
        assert_eq!(who.project_id.as_deref(), Some("p"));
        assert!(who.has_role("Member") && who.restricted_credential);
        assert_eq!(who.trust.unwrap().trustee_user_id, "x");
        assert!(requester(&json!({"user": {}})).is_none());
    }
}
