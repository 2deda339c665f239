//! Parsers of what clients send, for fuzzing by coverage: `tests/libfuzzer` calls them.

use hyper::HeaderMap;
use hyper::header::HeaderValue;
use serde_json::{Map, Value, json};

use super::coerce::{self, Fields};
use super::patch::{Patch, Rules};
use super::policy::{self, Credentials, Policy, Target};
use super::{python_literal, version};
use crate::base::clock::Timestamp;
use crate::model::requester::Requester;

/// A policy file, and each of its rules and of ours asked about a member's own things.
pub fn policy(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let Ok(overrides) = policy::parse_file(text) else { return };
    let names: Vec<String> = overrides.keys().cloned().collect();
    let policy = Policy::with_overrides(overrides);
    let requester = Requester {
        user_id: "u".to_owned(),
        user_name: "demo".to_owned(),
        user_domain_id: "default".to_owned(),
        user_domain_name: "Default".to_owned(),
        project_id: Some("p".to_owned()),
        project_name: Some("demo".to_owned()),
        project_domain_id: Some("default".to_owned()),
        domain_id: None,
        system_scope: false,
        roles: vec!["member".to_owned()],
        trust: None,
        restricted_credential: false,
        expires_at: Timestamp::from_micros(0),
    };
    let is_admin = policy.is_admin(&requester);
    let who = Credentials { requester: &requester, is_admin };
    let target = Target::own(&requester, Some("trustees"));
    for rule in names.iter().map(String::as_str).chain(["cluster:create", "quota:delete"]) {
        policy.allows(rule, &who, &target);
    }
}

/// The body of a `PATCH`, applied to a resource that has a map.
pub fn patch(data: &[u8]) {
    let rules =
        Rules { internal: &["stack_id"], mandatory: &["image_id"], structured: &["labels"] };
    let Ok(body) = coerce::json(data, "patch") else { return };
    let Ok(patch) = Patch::read(&body, &rules) else { return };
    let known = json!({"name": "k1", "image_id": "i", "labels": {"a": "b"}, "node_count": 1});
    let Value::Object(known) = known else { return };
    if let Ok(patched) = patch.apply(known) {
        fields(patched);
    }
}

/// The body of a `POST`: whatever is in it, as every type that an attribute may have.
pub fn body(data: &[u8]) {
    if let Ok(Value::Object(map)) = coerce::json(data, "cluster") {
        fields(map);
    }
}

fn fields(map: Map<String, Value>) {
    let names: Vec<String> = map.keys().cloned().collect();
    for name in &names {
        let of = || Fields::of(map.clone());
        let _ignored = of().text(name, coerce::SHORT_TEXT);
        let _ignored = of().whole(name, 0..=1000);
        let _ignored = of().flag(name);
        let _ignored = of().uuid(name);
        let _ignored = of().texts(name, 16);
        if let Ok(Some(labels)) = of().labels(name) {
            let _ignored = coerce::check_size(name, &labels);
        }
    }
}

/// A literal of Python's, as old clients send maps.
pub fn literal(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Ok(value) = python_literal::parse(text) {
        // What was read is JSON; a number may come back with another last digit.
        assert!(serde_json::from_str::<Value>(&value.to_string()).is_ok(), "{value}");
    }
}

/// The header `OpenStack-API-Version`.
pub fn microversion(data: &[u8]) {
    let Ok(value) = HeaderValue::from_bytes(data) else { return };
    let headers = HeaderMap::from_iter([(version::ASKED, value)]);
    let _refused = version::negotiate(&headers);
}
