//! One call to one service: limits, deadline, and its answer as JSON.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use hyper::header::HeaderName;
use hyper::{Method, StatusCode};
use serde_json::Value;
use tracing::debug;

use super::error::{CloudError, Service};
use crate::base::http::client::{Answer, HttpClient, HttpError, Outgoing};
use crate::base::http::tls::{self, TlsError, Trust};
use crate::base::metrics::{
    Counter, Durations, EncodeLabelSet, Family, MetricSet, Registry, Unit, durations,
};
use crate::base::party::Party;
use crate::base::secret::Secret;
use crate::base::turns::{Place, Turns};

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
    metrics: CallMetrics,
}

#[derive(Debug)]
struct Line {
    client: HttpClient,
    places: Turns<Party>,
    /// Of nodes, who ask as often as they like: no operation and no request waits behind them.
    guests: Turns<Party>,
    /// Since when it has not answered, and what it said last; None while it answers.
    silent: Mutex<Option<(Instant, String)>>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Ended {
    service: &'static str,
    outcome: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct To {
    service: &'static str,
}

/// What is counted of calls to OpenStack. Clones count together.
#[derive(Clone, Debug)]
pub struct CallMetrics {
    calls: Family<Ended, Counter>,
    seconds: Durations<To>,
}

impl Default for CallMetrics {
    fn default() -> Self {
        Self { calls: Family::default(), seconds: durations() }
    }
}

impl MetricSet for CallMetrics {
    fn register(&self, registry: &mut Registry) {
        registry.register(
            "openstack_calls",
            "Calls to OpenStack by service and outcome: ok, missing, refused, unknown, busy",
            self.calls.clone(),
        );
        registry.register_with_unit(
            "openstack_call_duration",
            "How long OpenStack took to answer",
            Unit::Seconds,
            self.seconds.clone(),
        );
    }
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

impl Line {
    /// One place stays for whoever comes beside a party that has many calls to make.
    fn new(client: HttpClient, concurrency: usize) -> Self {
        let (places, guests) = (concurrency.max(1), (concurrency / 2).max(1));
        Self {
            client,
            places: Turns::new(places, places - usize::from(places > 1)),
            guests: Turns::new(guests, guests.div_ceil(2)),
            silent: Mutex::new(None),
        }
    }

    async fn place(&self) -> Place<Party> {
        let party = Party::current();
        match party {
            Party::Guests(_) => self.guests.take(party).await,
            Party::Own | Party::Project(_) => self.places.take(party).await,
        }
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
            lines.insert(service, Line::new(client, concurrency));
        }
        Ok(Self { lines, deadline, metrics: CallMetrics::default() })
    }

    pub fn metrics(&self) -> &CallMetrics {
        &self.metrics
    }

    /// How long a service has not answered, and what was heard of it last.
    pub fn silence(&self, service: Service) -> Option<(Duration, String)> {
        let silent = self.lines[&service].silent.lock().unwrap_or_else(PoisonError::into_inner);
        silent.as_ref().map(|(since, reason)| (since.elapsed(), reason.clone()))
    }

    /// Sends the call; a success is any 2xx.
    ///
    /// A read whose connection broke is asked once more: an idle connection may have been
    /// dropped by the far end just as we took it from the pool. Nothing else is repeated here.
    pub async fn send(&self, call: Call<'_>) -> Result<Answer, CloudError> {
        let line = &self.lines[&call.service];
        let _place = line.place().await;
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
        let began = Instant::now();
        let mut answer = line.client.send(ask()).await;
        if call.method == Method::GET && matches!(answer, Err(HttpError::Broken { .. })) {
            answer = line.client.send(ask()).await;
        }
        let took = began.elapsed();
        debug!(
            service = %call.service,
            method = %call.method,
            what = call.what,
            status = answer.as_ref().ok().map(|a| a.status.as_u16()),
            ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
            "asked OpenStack"
        );
        let outcome = match answer {
            Ok(answer) if answer.status.is_success() => Ok(answer),
            Ok(answer) => Err(CloudError::of_answer(call.service, call.what, &answer)),
            Err(error) => Err(CloudError::of_http(call.service, &error)),
        };
        self.count(line, call.service, outcome.as_ref().err(), took);
        outcome
    }

    fn count(&self, line: &Line, service: Service, error: Option<&CloudError>, took: Duration) {
        let (service, outcome) = (service.name(), error.map_or("ok", CloudError::kind));
        self.metrics.calls.get_or_create(&Ended { service, outcome }).inc();
        self.metrics.seconds.get_or_create(&To { service }).observe(took.as_secs_f64());
        let mut silent = line.silent.lock().unwrap_or_else(PoisonError::into_inner);
        *silent = match (error.filter(|e| e.is_passing()), silent.take()) {
            (None, _) => None,
            (Some(e), Some((since, _))) => Some((since, e.to_string())),
            (Some(e), None) => Some((Instant::now(), e.to_string())),
        };
    }

    /// Sends the call and reads its answer, which is an object of JSON; no content is null.
    pub async fn json(&self, call: Call<'_>) -> Result<Value, CloudError> {
        let service = call.service;
        let answer = self.send(call).await?;
        if answer.body.is_empty() || answer.status == StatusCode::NO_CONTENT {
            return Ok(Value::Null);
        }
        object(service, &answer.body)
    }
}

/// An answer's body: whatever a service answers with is an object.
pub(super) fn object(service: Service, body: &[u8]) -> Result<Value, CloudError> {
    // A body that is cut off, or another than was asked for, leaves it open whether the act was
    // performed.
    let unknown = |reason| CloudError::Unknown { service, reason };
    match serde_json::from_slice(body) {
        Ok(object @ Value::Object(_)) => Ok(object),
        Ok(_) => Err(unknown("its answer is JSON, but no object".to_owned())),
        Err(e) => Err(unknown(format!("not JSON: {e}"))),
    }
}

/// One field out of an answer. Indexing a value to change it panics where it is no object.
pub(super) fn field(service: Service, answer: Value, key: &str) -> Result<Value, CloudError> {
    let found = match answer {
        Value::Object(mut fields) => fields.remove(key),
        _ => None,
    };
    found.ok_or_else(|| {
        let reason = format!("its answer has no field {key}");
        CloudError::Unknown { service, reason }
    })
}

/// The list that an answer holds: one that was not understood is not taken for an empty one.
pub(super) fn list(service: Service, answer: Value, key: &str) -> Result<Value, CloudError> {
    match field(service, answer, key)? {
        list @ Value::Array(_) => Ok(list),
        _ => {
            let reason = format!("its answer has no list of {key}");
            Err(CloudError::Unknown { service, reason })
        }
    }
}

pub(super) type SharedCaller = Arc<Caller>;

/// Percent-encodes one path segment or query value.
pub(super) fn encode(text: &str) -> String {
    percent_encoding::utf8_percent_encode(text, percent_encoding::NON_ALPHANUMERIC).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_is_silent_from_its_first_missing_answer_to_its_next_one() {
        let trust = Trust { ca_files: Vec::new(), insecure: false };
        let settings = ServiceSettings { region: None, interface: "public".to_owned(), trust };
        let services = HashMap::from([(Service::Keystone, settings)]);
        let second = Duration::from_secs(1);
        let caller = Caller::new(&services, 1, second, second).unwrap();
        let line = &caller.lines[&Service::Keystone];
        let count =
            |error: Option<&CloudError>| caller.count(line, Service::Keystone, error, second);
        let silence = || caller.silence(Service::Keystone);
        let lost = |reason: &str| CloudError::Unknown {
            service: Service::Keystone,
            reason: reason.to_owned(),
        };
        count(None);
        assert!(silence().is_none());
        count(Some(&lost("first")));
        std::thread::sleep(Duration::from_millis(20));
        count(Some(&lost("second")));
        let (since, reason) = silence().unwrap();
        assert!(since >= Duration::from_millis(20) && reason.contains("second"), "{reason}");
        // To be refused is to be answered.
        let reason = "no".to_owned();
        count(Some(&CloudError::Refused { service: Service::Keystone, status: 403, reason }));
        assert!(silence().is_none());

        let mut registry = Registry::default();
        caller.metrics().register(&mut registry);
        let mut shown = String::new();
        crate::base::metrics::encode(&mut shown, &registry).unwrap();
        for (outcome, calls) in [("ok", 1), ("unknown", 2), ("refused", 1)] {
            let line = format!(
                "openstack_calls_total{{service=\"Keystone\",outcome=\"{outcome}\"}} {calls}\n"
            );
            assert!(shown.contains(&line), "{shown}");
        }
    }
}
