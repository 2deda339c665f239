//! One call to one service: limits, deadline, and its answer as JSON.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use hyper::header::HeaderName;
use hyper::{Method, StatusCode};
use serde_json::Value;
use tokio::sync::Semaphore;
use tracing::debug;

use super::error::{CloudError, Service};
use crate::base::http::client::{Answer, HttpClient, HttpError, Outgoing};
use crate::base::http::tls::{self, TlsError, Trust};
use crate::base::secret::Secret;

const AUTH_TOKEN: HeaderName = HeaderName::from_static("x-auth-token");

/// How to reach one service.
#[derive(Clone, Debug)]
pub struct ServiceSettings {
    pub region: Option<String>,
    /// `public`, `internal` or `admin`.
    pub interface: String,
    pub trust: Trust,
}

/// The pools and limits of all services.
#[derive(Debug)]
pub(super) struct Caller {
    lines: HashMap<Service, Line>,
    deadline: Duration,
}

#[derive(Debug)]
struct Line {
    client: HttpClient,
    places: Semaphore,
    calls: AtomicU64,
    failures: AtomicU64,
}

/// What to ask of a service.
#[derive(Debug)]
pub(super) struct Call<'c> {
    pub service: Service,
    pub method: Method,
    pub url: String,
    pub token: Option<&'c Secret<String>>,
    pub headers: Vec<(HeaderName, &'c str)>,
    pub body: Option<Value>,
    /// What is asked for, in words, for a "could not be found".
    pub what: &'c str,
}

impl<'c> Call<'c> {
    pub fn get(service: Service, url: String, token: &'c Secret<String>, what: &'c str) -> Self {
        Self {
            service,
            method: Method::GET,
            url,
            token: Some(token),
            headers: Vec::new(),
            body: None,
            what,
        }
    }

    pub fn method(mut self, method: Method) -> Self {
        self.method = method;
        self
    }

    pub fn body(mut self, body: Value) -> Self {
        self.body = Some(body);
        self
    }

    pub fn header(mut self, name: HeaderName, value: &'c str) -> Self {
        self.headers.push((name, value));
        self
    }
}

impl Caller {
    /// One pool for all services that agree on whom to trust.
    pub fn new(
        services: &HashMap<Service, ServiceSettings>,
        concurrency: usize,
        connect_timeout: Duration,
        deadline: Duration,
    ) -> Result<Self, TlsError> {
        let mut pools: HashMap<Trust, HttpClient> = HashMap::new();
        let mut lines = HashMap::new();
        for (&service, settings) in services {
            let client = match pools.get(&settings.trust) {
                Some(pool) => pool.clone(),
                None => {
                    let config = tls::client_config(&settings.trust)?;
                    let pool = HttpClient::new(config, connect_timeout);
                    pools.insert(settings.trust.clone(), pool.clone());
                    pool
                }
            };
            let line = Line {
                client,
                places: Semaphore::new(concurrency),
                calls: AtomicU64::new(0),
                failures: AtomicU64::new(0),
            };
            lines.insert(service, line);
        }
        Ok(Self { lines, deadline })
    }

    /// Sends the call; a success is any 2xx.
    ///
    /// A read whose connection broke is asked once more: an idle connection may have been
    /// dropped by the far end just as we took it from the pool. Nothing else is repeated here.
    pub async fn send(&self, call: Call<'_>) -> Result<Answer, CloudError> {
        let line = &self.lines[&call.service];
        let _place = line.places.acquire().await.expect("never closed");
        let ask = || {
            let mut outgoing =
                Outgoing::new(call.method.clone(), call.url.clone()).deadline(self.deadline);
            if let Some(token) = call.token {
                outgoing = outgoing.header(AUTH_TOKEN, token.expose());
            }
            for (name, value) in &call.headers {
                outgoing = outgoing.header(name.clone(), value);
            }
            match &call.body {
                Some(body) => outgoing.json(body),
                None => outgoing,
            }
        };
        let began = std::time::Instant::now();
        let mut answer = line.client.send(ask()).await;
        if call.method == Method::GET && matches!(answer, Err(HttpError::Broken { .. })) {
            answer = line.client.send(ask()).await;
        }
        line.calls.fetch_add(1, Ordering::Relaxed);
        debug!(
            service = %call.service,
            method = %call.method,
            what = call.what,
            status = answer.as_ref().ok().map(|a| a.status.as_u16()),
            ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX),
            "asked OpenStack"
        );
        let outcome = match answer {
            Ok(answer) if answer.status.is_success() => Ok(answer),
            Ok(answer) => Err(CloudError::of_answer(call.service, call.what, &answer)),
            Err(error) => Err(CloudError::of_http(call.service, &error)),
        };
        if outcome.as_ref().is_err_and(CloudError::is_passing) {
            line.failures.fetch_add(1, Ordering::Relaxed);
        }
        outcome
    }

    /// Sends the call and reads its answer as JSON; no content is null.
    pub async fn json(&self, call: Call<'_>) -> Result<Value, CloudError> {
        let service = call.service;
        let answer = self.send(call).await?;
        if answer.body.is_empty() || answer.status == StatusCode::NO_CONTENT {
            return Ok(Value::Null);
        }
        // A body that is cut off leaves it open whether the act was performed.
        serde_json::from_slice(&answer.body)
            .map_err(|e| CloudError::Unknown { service, reason: format!("not JSON: {e}") })
    }
}

pub(super) type SharedCaller = Arc<Caller>;

/// Percent-encodes one path segment or query value.
pub(super) fn encode(text: &str) -> String {
    percent_encoding::utf8_percent_encode(text, percent_encoding::NON_ALPHANUMERIC).to_string()
}
