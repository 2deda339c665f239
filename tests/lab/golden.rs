//! Upstream's recorded answers against ours: what is not the same must be on the list of
//! `tests/golden/differences.toml`, with its reason, and what is on the list must differ.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use hyper::Method;
use hyper::header::HeaderName;
use magnumd::base::http::client::{Answer, Outgoing};
use serde::Deserialize;
use serde_json::Value;

use crate::harness::{Lab, PATIENCE, Running};

/// One recorded exchange.
#[derive(Debug, Deserialize)]
struct Exchange {
    n: u32,
    note: String,
    request: Request,
    response: Response,
}

#[derive(Debug, Deserialize)]
struct Request {
    method: String,
    path: String,
    headers: BTreeMap<String, String>,
    body: Option<Value>,
}

#[derive(Debug, Deserialize)]
struct Response {
    status: u16,
    headers: BTreeMap<String, String>,
    body: Value,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Listed {
    difference: Vec<Difference>,
}

/// Exchanges that we answer otherwise on purpose.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Difference {
    /// Their numbers in the recording.
    n: Vec<u32>,
    /// Of status, headers, body and detail those that differ.
    what: Vec<String>,
    reason: String,
}

/// The cluster whose life is recorded.
const K1: &str = "e6150d1f-3cbe-4585-afcf-807ecfd32d7e";
/// Asked as soon as possible after the one before: what they show is a cluster at work.
const AT_ONCE: [u32; 12] = [267, 268, 269, 270, 330, 331, 435, 436, 437, 481, 482, 483];
/// Maps whose keys are the tenant's or the moment's.
const FREE: [&str; 8] = [
    "labels",
    "labels_added",
    "labels_overridden",
    "labels_skipped",
    "health_status_reason",
    "faults",
    "node_addresses",
    "master_addresses",
];
/// Fields whose values name the same thing in the recording and here.
const IDENTITIES: [&str; 6] =
    ["uuid", "project_id", "user_id", "cluster_uuid", "cluster_template_id", "cluster_id"];
/// What of the headers clients look at.
const HEADERS: [&str; 8] = [
    "content-type",
    "openstack-api-minimum-version",
    "openstack-api-maximum-version",
    "openstack-api-version",
    "vary",
    "location",
    "www-authenticate",
    "allow",
];

/// A replay in progress.
struct Replay<'l> {
    lab: &'l Lab,
    daemon: Running,
    tokens: BTreeMap<&'static str, String>,
    /// Identities in the recording, and here.
    known: BTreeMap<String, String>,
}

impl Replay<'_> {
    /// Recorded text with our identities.
    fn ours(&self, text: &str) -> String {
        // The recording's driver builds from Fedora CoreOS, ours from Ubuntu.
        let mut text = text
            .replace("\"ubuntu\"", "\"opensuse\"")
            .replace("(vm, ubuntu,", "(vm, opensuse,")
            .replace("fedora-coreos", "ubuntu")
            .replace("k8s_fedora_coreos_v1", "k8s_kubeadm_v1")
            .replace("container-infra latest", "container-infra 1.12");
        for (recorded, own) in &self.known {
            text = text.replace(recorded, own);
            text = text.replace(&recorded.to_uppercase(), &own.to_uppercase());
        }
        text
    }

    async fn ask(&self, exchange: &Exchange) -> Answer {
        let Request { method, path, headers, body } = &exchange.request;
        let method = Method::from_bytes(method.as_bytes()).unwrap();
        let mut asked = Outgoing::new(method, self.daemon.url(&self.ours(path)));
        for (name, value) in headers {
            let name: HeaderName = name.parse().unwrap();
            let value = match value.strip_prefix("<token:").and_then(|v| v.strip_suffix('>')) {
                Some(user) => self.tokens[user].clone(),
                // One exchange is about the word itself; the recorded service ended at 1.12.
                None if exchange.note == "microversion latest" => value.clone(),
                None => self.ours(value),
            };
            asked = asked.header(name, &value);
        }
        let body = match body {
            None => String::new(),
            Some(Value::Object(map)) if map.contains_key("raw") => {
                self.ours(map["raw"].as_str().unwrap())
            }
            Some(body) => self.ours(&body.to_string()),
        };
        self.daemon.send(asked.body(body)).await
    }

    /// Waits until no cluster of the recording is in progress.
    async fn settle(&self) {
        let began = Instant::now();
        loop {
            let (_, list) = self.daemon.get(&self.tokens["demo"], "/v1/clusters").await;
            let clusters = list["clusters"].as_array().unwrap();
            let busy = |c: &Value| c["status"].as_str().unwrap().ends_with("_IN_PROGRESS");
            if !clusters.iter().any(busy) {
                return;
            }
            assert!(began.elapsed() < PATIENCE, "never at rest: {list}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// What the recorder took away between two exchanges.
    async fn tidy(&self, exchange: &Exchange, second: Option<&str>) {
        let demo = &self.tokens["demo"];
        if exchange.n == 293 {
            let second = second.expect("the second k1 was made before");
            self.daemon.delete(demo, &format!("/v1/clusters/{second}")).await;
            self.daemon.gone(demo, second).await;
        }
        let path = &exchange.request.path;
        let is_odd = exchange.note.starts_with("after ") && exchange.request.method == "GET";
        let is_main = path.ends_with(K1);
        if is_odd && !is_main && path.starts_with("/v1/clusters/") && exchange.n < 400 {
            let path = self.ours(path);
            self.daemon.delete_at(demo, &path, "1.12").await;
            let began = Instant::now();
            while self.daemon.get_at(demo, &path, "1.12").await != 404 {
                if began.elapsed() > Duration::from_secs(20) {
                    panic!("{path} does not go away");
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }

    /// Learns which of our identities stands for which recorded one.
    fn follow(&mut self, recorded: &Value, own: &Value) {
        match (recorded, own) {
            (Value::Object(recorded), Value::Object(own)) => {
                for (key, value) in recorded {
                    let Some(ours) = own.get(key) else { continue };
                    if let (Value::String(theirs), Value::String(ours)) = (value, ours)
                        && IDENTITIES.contains(&key.as_str())
                    {
                        self.known.entry(theirs.clone()).or_insert_with(|| ours.clone());
                    }
                }
            }
            // Groups have names that are the same on both sides.
            (Value::Array(recorded), Value::Array(own)) => {
                for theirs in recorded {
                    let same = own.iter().find(|ours| ours["name"] == theirs["name"]);
                    if let Some(ours) = same {
                        self.follow(theirs, ours);
                    }
                }
            }
            _ => {}
        }
    }

    fn differences(&self, exchange: &Exchange, answer: &Answer) -> BTreeMap<&'static str, String> {
        let mut found = BTreeMap::new();
        let recorded = &exchange.response;
        if answer.status.as_u16() != recorded.status {
            let text = String::from_utf8_lossy(&answer.body);
            let said = format!("{}, recorded {}: {text}", answer.status, recorded.status);
            found.insert("status", said);
            return found;
        }
        let headers = self.headers(exchange, answer);
        if !headers.is_empty() {
            found.insert("headers", headers.join("; "));
        }
        let own: Value = serde_json::from_slice(&answer.body).unwrap_or(Value::Null);
        let mut odd = Vec::new();
        compare("", &recorded.body, &own, &mut odd);
        if !odd.is_empty() {
            found.insert("body", odd.join("; "));
        }
        let detail = |body: &Value| {
            let text = body["errors"][0]["detail"].as_str().unwrap_or_default();
            self.ours(text).split_whitespace().take(4).collect::<Vec<_>>().join(" ")
        };
        let (theirs, ours) = (detail(&recorded.body), detail(&own));
        let plain = |text: &str| text.trim_end_matches(['.', ',']).to_owned();
        if plain(&theirs) != plain(&ours) {
            found.insert("detail", format!("'{ours}', recorded '{theirs}'"));
        }
        found
    }

    fn headers(&self, exchange: &Exchange, answer: &Answer) -> Vec<String> {
        let mut odd = Vec::new();
        for (name, theirs) in &exchange.response.headers {
            let name = name.to_ascii_lowercase();
            if !HEADERS.contains(&name.as_str()) {
                continue;
            }
            let Some(ours) = answer.header(&name) else {
                odd.push(format!("{name} is missing, recorded '{theirs}'"));
                continue;
            };
            let same = match name.as_str() {
                // Ours goes on to 1.14.
                "openstack-api-maximum-version" => ours.ends_with(" 1.14"),
                "openstack-api-version" if exchange.note == "microversion latest" => {
                    ours.ends_with(" 1.14")
                }
                "content-type" => ours.split(';').next() == theirs.split(';').next(),
                "location" => ours.starts_with("http://") && ours.contains("/v1/"),
                "www-authenticate" => ours.starts_with("Keystone uri=\"http"),
                _ => ours == theirs,
            };
            if !same {
                odd.push(format!("{name} is '{ours}', recorded '{theirs}'"));
            }
        }
        if answer.header("x-openstack-request-id").is_none() {
            odd.push("no request id".to_owned());
        }
        odd
    }
}

/// Same keys and same types; what is null on one side may be anything on the other.
fn compare(place: &str, recorded: &Value, own: &Value, odd: &mut Vec<String>) {
    let leaf = place.rsplit('/').next().unwrap_or_default();
    match (recorded, own) {
        (Value::Null, _) | (_, Value::Null) => {}
        (Value::Object(_), Value::Object(_)) | (Value::Array(_), Value::Array(_))
            if FREE.contains(&leaf) => {}
        (Value::Object(theirs), Value::Object(ours)) => {
            for (key, value) in theirs {
                match ours.get(key) {
                    Some(own) => compare(&format!("{place}/{key}"), value, own, odd),
                    // The next page, and the faults of a failure, are there when they are.
                    None if matches!(key.as_str(), "next" | "faults") => {}
                    None => odd.push(format!("{place}/{key} is missing")),
                }
            }
            let more = ours.keys().filter(|key| !theirs.contains_key(*key));
            odd.extend(
                more.filter(|key| !matches!(key.as_str(), "next" | "faults"))
                    .map(|key| format!("{place}/{key} is more")),
            );
        }
        (Value::Array(theirs), Value::Array(ours)) => match (theirs.first(), ours.first()) {
            (Some(theirs), Some(ours)) => compare(&format!("{place}[]"), theirs, ours, odd),
            (Some(_), None) => odd.push(format!("{place} is empty")),
            (None, Some(_)) => odd.push(format!("{place} is not empty")),
            (None, None) => {}
        },
        (Value::String(_), Value::String(_))
        | (Value::Number(_), Value::Number(_))
        | (Value::Bool(_), Value::Bool(_)) => {}
        (theirs, ours) => odd.push(format!("{place} is {ours}, recorded {theirs}")),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_recorded_exchange_is_answered_as_upstream_does_or_listed() {
    let lab = Lab::new().await;
    // Templates with volumes are among the exchanges.
    lab.cloud.announce_service("cinder", "block-storage");
    let mut tokens = BTreeMap::new();
    for user in ["demo", "admin", "reader", "alt"] {
        tokens.insert(user, lab.token(user).await);
    }
    let daemon = lab.daemon().await;
    let mut replay = Replay { lab: &lab, daemon, tokens, known: BTreeMap::new() };
    let listed: Listed = toml::from_str(include_str!("../golden/differences.toml")).unwrap();
    let mut expected: BTreeMap<u32, BTreeSet<&str>> = BTreeMap::new();
    for difference in &listed.difference {
        assert!(difference.reason.len() > 5, "{difference:?}");
        for n in &difference.n {
            expected.entry(*n).or_default().extend(difference.what.iter().map(String::as_str));
        }
    }
    let (mut wrong, mut equal, mut different) = (Vec::new(), 0, 0);
    let mut second = None;
    for line in include_str!("../golden/api.jsonl").lines() {
        let exchange: Exchange = serde_json::from_str(line).unwrap();
        let changes = exchange.request.method != "GET" && exchange.request.path.len() > 12;
        if (changes && exchange.n >= 226 && !AT_ONCE.contains(&exchange.n)) || exchange.n == 294 {
            replay.settle().await;
        }
        let began = Instant::now();
        let mut answer = replay.ask(&exchange).await;
        // What was taken away goes in its own time.
        while exchange.note.starts_with("after the delete")
            && answer.status.as_u16() != exchange.response.status
            && began.elapsed() < Duration::from_secs(10)
        {
            tokio::time::sleep(Duration::from_millis(50)).await;
            answer = replay.ask(&exchange).await;
        }
        let own: Value = serde_json::from_slice(&answer.body).unwrap_or(Value::Null);
        if exchange.n == 268 {
            second = own["uuid"].as_str().map(str::to_owned);
        }
        replay.follow(&exchange.response.body, &own);
        for list in ["clusters", "nodegroups", "clustertemplates"] {
            replay.follow(&exchange.response.body[list], &own[list]);
        }
        let found = replay.differences(&exchange, &answer);
        let what: BTreeSet<&str> = found.keys().copied().collect();
        let allowed = expected.remove(&exchange.n).unwrap_or_default();
        match what.is_empty() {
            true => equal += 1,
            false => different += 1,
        }
        if what != allowed {
            let found: Vec<String> = found
                .iter()
                .map(|(what, how)| format!("{what}: {}", how.chars().take(250).collect::<String>()))
                .collect();
            wrong.push(format!(
                "{} {} ({}): listed {allowed:?}, found {found:?}",
                exchange.n, exchange.note, exchange.request.method
            ));
        }
        replay.tidy(&exchange, second.as_deref()).await;
    }
    let leftover = replay.lab.cloud.leftovers();
    wrong.extend(expected.keys().map(|n| format!("{n} is listed, and not in the recording")));
    assert!(
        wrong.is_empty(),
        "{equal} equal, {different} different, {} wrong; in the cloud {leftover:?}\n{}",
        wrong.len(),
        wrong.join("\n")
    );
    assert!(equal > 350, "{equal} exchanges are answered as recorded, {different} differ");
}
