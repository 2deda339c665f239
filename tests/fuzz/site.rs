//! A daemon with something in it, and requests as its clients write them.

use hyper::StatusCode;
use serde_json::{Value, json};

use crate::corpus::{Corpus, Names};
use crate::dice::Dice;
use crate::harness::{Lab, Running, template};
use crate::mutate;
use crate::wire::{Sent, Wire};

/// No body is longer: the door's own limit has tests of its own.
const MOST_BODY: usize = 1_000_000;

pub struct Site {
    // The cloud behind the daemon.
    _lab: Lab,
    pub daemon: Running,
    pub wire: Wire,
    pub corpus: Corpus,
    pub demo: String,
    pub admin: String,
    alt: String,
    pub cluster: String,
    /// A template that no cluster uses.
    pub spare: String,
    pub project: String,
}

impl Site {
    pub async fn new() -> Self {
        let lab = Lab::new().await;
        let daemon = lab.daemon().await;
        let (demo, admin) = (lab.token("demo").await, lab.token("admin").await);
        let alt = lab.token("alt").await;
        let cluster = daemon.create(&demo, "k1").await;
        let settled = daemon.settled(&demo, &cluster).await;
        let mut spare = template();
        spare["name"] = json!("spare");
        let (status, spare) = daemon.post(&demo, "/v1/clustertemplates", spare).await;
        assert_eq!(status, StatusCode::CREATED, "{spare}");
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let (of, project) = (text(&settled["cluster_template_id"]), text(&settled["project_id"]));
        let corpus = Corpus::read(&Names { template: &of, cluster: &cluster, project: &project });
        let wire = Wire::to(daemon.addresses.api);
        let spare = text(&spare["uuid"]);
        Self { _lab: lab, daemon, wire, corpus, demo, admin, alt, cluster, spare, project }
    }

    fn token(&self, dice: &mut Dice) -> &str {
        match dice.below(10) {
            0..=6 => &self.demo,
            7 | 8 => &self.admin,
            _ => &self.alt,
        }
    }

    /// A request with a body that is JSON, unless the dice say otherwise.
    pub fn json(&self, dice: &mut Dice, method: &str, path: &str, body: &Value) -> Sent {
        let version = match dice.below(8) {
            0 => format!("container-infra 1.{}", 1 + dice.below(14)),
            _ => "container-infra latest".to_owned(),
        };
        let kind = match dice.below(40) {
            0 => "text/plain",
            1 => "application/json; charset=utf-16",
            _ => "application/json",
        };
        let mut bytes = body.to_string().into_bytes();
        if dice.one_in(12) {
            mutate::bytes(dice, &mut bytes);
        }
        bytes.truncate(MOST_BODY);
        Sent::new(method, path)
            .header("x-auth-token", self.token(dice))
            .header("openstack-api-version", version)
            .header("content-type", kind)
            .body(bytes)
    }

    /// A request without a body.
    pub fn bare(&self, method: &str, path: &str) -> Sent {
        Sent::new(method, path).header("x-auth-token", self.demo.as_str())
    }

    /// Takes away what was made, so that there is a place for more.
    pub async fn tidy(&self) {
        let (_, list) = self.daemon.get(&self.admin, "/v1/clusters").await;
        for cluster in list["clusters"].as_array().unwrap() {
            let uuid = cluster["uuid"].as_str().unwrap();
            if uuid != self.cluster {
                self.daemon.delete(&self.admin, &format!("/v1/clusters/{uuid}")).await;
            }
        }
    }
}

/// Counts that the lab's cloud has room for. What no cluster may have is refused before.
pub fn tame(value: &mut Value) {
    const COUNTS: [&str; 3] = ["node_count", "master_count", "min_node_count"];
    match value {
        Value::Object(map) => {
            let path = map.get("path").and_then(Value::as_str).unwrap_or_default().to_owned();
            for (key, inner) in map.iter_mut() {
                let counts = COUNTS.contains(&key.as_str())
                    || (key == "value" && COUNTS.iter().any(|count| path.contains(count)));
                match counts.then(|| number(inner)).flatten() {
                    Some(many) if (4..=100_000).contains(&many) => *inner = json!(many % 4),
                    _ => tame(inner),
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(tame),
        _ => {}
    }
}

fn number(value: &Value) -> Option<i64> {
    match value {
        Value::Number(number) => number.as_i64().or(number.as_f64().map(|n| n as i64)),
        Value::String(text) => text.trim().parse().ok(),
        _ => None,
    }
}

/// Whatever a path may look like on the wire.
pub fn path(dice: &mut Dice, path: &str) -> String {
    let mut path = path.to_owned();
    if dice.one_in(2) {
        mutate::text(dice, &mut path);
    }
    let mut written = String::new();
    for character in path.chars().take(4000) {
        match character {
            c if c.is_ascii_graphic() && c != '#' => written.push(c),
            other => {
                let mut bytes = [0; 4];
                for byte in other.encode_utf8(&mut bytes).bytes() {
                    written += &format!("%{byte:02X}");
                }
            }
        }
    }
    if written.starts_with('/') { written } else { format!("/{written}") }
}
