//! The lab, asked over loopback as a client asks it.

mod faults;
mod guests;
mod identity;
mod stacks;
mod tenants;

use std::time::Duration;

use hyper::Method;
use hyper::header::HeaderName;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::{LabCloud, LabError, LabOptions};
use crate::base::http::client::{HttpClient, HttpError, Outgoing};
use crate::base::http::tls::{Trust, client_config};

/// A client of one lab.
pub(super) struct Tenant {
    pub lab: LabCloud,
    http: HttpClient,
}

/// An answer with its body as JSON; null when it is none.
#[derive(Debug)]
pub(super) struct Told {
    pub status: u16,
    pub body: Value,
    pub text: String,
    pub subject: String,
}

impl Tenant {
    pub async fn new(options: LabOptions) -> Self {
        let lab = LabCloud::start(options, CancellationToken::new()).await.unwrap();
        let tls = client_config(&Trust::default()).unwrap();
        Self { lab, http: HttpClient::new(tls, Duration::from_secs(5)) }
    }

    /// A lab whose time flies, so that building is no wait.
    pub async fn quick() -> Self {
        Self::new(LabOptions { speed: 20.0, ..LabOptions::default() }).await
    }

    pub fn url(&self, kind: &str, path: &str) -> String {
        let found = self.lab.endpoints().into_iter().find(|(k, _)| *k == kind).unwrap();
        format!("{}{path}", found.1)
    }

    pub async fn try_send(
        &self,
        method: &str,
        url: String,
        token: &str,
        subject: &str,
        body: Option<Value>,
    ) -> Result<Told, HttpError> {
        let mut ask = Outgoing::new(Method::from_bytes(method.as_bytes()).unwrap(), url)
            .deadline(Duration::from_secs(10));
        for (name, value) in [("x-auth-token", token), ("x-subject-token", subject)] {
            if !value.is_empty() {
                ask = ask.header(HeaderName::from_static(name), value);
            }
        }
        if let Some(body) = body {
            ask = ask.json(&body);
        }
        let answer = self.http.send(ask).await?;
        Ok(Told {
            status: answer.status.as_u16(),
            body: serde_json::from_slice(&answer.body).unwrap_or_default(),
            text: String::from_utf8_lossy(&answer.body).into_owned(),
            subject: answer.header("x-subject-token").unwrap_or_default().to_owned(),
        })
    }

    pub async fn send(&self, method: &str, url: String, token: &str, body: Value) -> Told {
        let body = Some(body).filter(|b| !b.is_null());
        self.try_send(method, url, token, "", body).await.unwrap()
    }

    pub async fn get(&self, url: String, token: &str) -> Told {
        self.send("GET", url, token, Value::Null).await
    }

    pub async fn delete(&self, url: String, token: &str) -> u16 {
        self.send("DELETE", url, token, Value::Null).await.status
    }

    pub async fn login(&self, who: Value, scope: Value) -> Told {
        let mut auth = json!({"identity": {"methods": ["password"], "password": {"user": who}}});
        if !scope.is_null() {
            auth["scope"] = scope;
        }
        let url = self.url("identity", "/auth/tokens");
        self.send("POST", url, "", json!({ "auth": auth })).await
    }

    /// A project-scoped token of one of the seeded users.
    pub async fn token(&self, user: &str, project: &str) -> String {
        let domain = json!({"name": "Default"});
        let told = self
            .login(
                json!({"name": user, "domain": domain, "password": "secret"}),
                json!({"project": {"name": project, "domain": domain}}),
            )
            .await;
        assert_eq!(told.status, 201, "{}", told.text);
        told.subject
    }

    /// Waits for something to become true on the wall's clock.
    pub async fn until(&self, what: &str, mut holds: impl AsyncFnMut() -> bool) {
        for _ in 0..400 {
            if holds().await {
                return;
            }
            tokio::time::sleep(Duration::from_millis(25)).await;
        }
        panic!("never: {what}; calls: {:#?}", self.lab.calls());
    }
}

#[tokio::test]
async fn clients_find_their_way_from_the_roots() {
    let t = Tenant::quick().await;
    let root = |kind: &str| t.url(kind, "").rsplit_once('/').map(|(r, _)| r.to_owned()).unwrap();
    let identity = t.get(root("identity"), "").await;
    assert_eq!(identity.status, 300);
    assert_eq!(identity.body["versions"]["values"][0]["id"], "v3.14");
    assert_eq!(t.get(t.lab.identity_url(), "").await.body["version"]["status"], "stable");
    let compute = t.get(format!("{}/", root("compute")), "").await;
    assert_eq!(compute.body["versions"][0]["min_version"], "2.1");
    assert_eq!(t.get(t.url("compute", "/"), "").await.body["version"]["id"], "v2.1");
    assert_eq!(t.get(t.url("network", "/"), "").await.body["versions"][0]["id"], "v2.0");
    assert_eq!(t.get(t.url("image", "/"), "").await.body["versions"][0]["id"], "v2.16");
    for url in [t.url("compute", "/servers"), t.url("network", "/v2.0/ports")] {
        assert_eq!(t.get(url, "").await.status, 401);
    }
}

#[tokio::test]
async fn the_start_is_refused_with_a_cure() {
    let first = Tenant::quick().await;
    let port = first.lab.identity_url();
    let port: u16 = port.trim_end_matches("/v3").rsplit(':').next().unwrap().parse().unwrap();
    let start = |options| LabCloud::start(options, CancellationToken::new());
    let taken = LabOptions { port: Some(port), ..LabOptions::default() };
    let error = start(taken).await.unwrap_err();
    assert!(matches!(error, LabError::PortTaken { port: p, .. } if p == port), "{error}");
    assert!(error.to_string().contains("--port"));
    for (api_url, speed) in [
        ("http://192.0.2.1:9511/v1", 1.0),
        ("nonsense", 1.0),
        ("http://127.0.0.1:1/v1", 0.0),
        ("http://[::1]:1/v1", f64::NAN),
    ] {
        let options = LabOptions { api_url: api_url.to_owned(), speed, ..LabOptions::default() };
        assert!(start(options).await.is_err(), "{api_url} {speed}");
    }
}
