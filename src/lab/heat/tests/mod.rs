//! Heat as its callers see it, over a small cloud that delays, refuses and fails on demand.

mod building;
mod changing;
mod failing;
mod functions;
mod groups;
mod interface;
mod refusals;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::header::{HeaderMap, HeaderValue};
use serde_json::{Value, json};

use super::services::{Owner, Refused, Services, State};
use super::{Caller, Heat};
use crate::base::clock::Clock;
use crate::base::http::server::{BodyError, Request};
use crate::base::id::Entropy;

/// One thing that was made.
#[derive(Clone, Debug)]
pub struct Thing {
    pub kind: String,
    pub name: String,
    pub properties: Value,
    pub looks: u32,
}

/// What happens to a kind of resource.
#[derive(Clone, Debug)]
pub enum Rule {
    /// Ready only after so many looks.
    Slow(u32),
    /// Ready never.
    Stuck,
    /// Not made.
    Refuse(Refused),
    /// Made, and broken.
    Break(String),
    /// Not deleted.
    Keep(Refused),
    /// No service for it.
    Absent,
    /// No such name: the constraint's verdict.
    Unknown(String),
}

#[derive(Debug, Default)]
pub struct Cloud {
    pub things: Mutex<BTreeMap<String, Thing>>,
    /// By kind, by part of a name, or by constraint.
    pub rules: Mutex<Vec<(String, Rule)>>,
    pub log: Mutex<Vec<String>>,
    pub trusts: Mutex<Vec<String>>,
    serial: Mutex<u32>,
}

impl Cloud {
    pub fn rule(&self, what: &str, rule: Rule) {
        self.rules.lock().unwrap().push((what.to_owned(), rule));
    }

    fn rules_for(&self, what: &[&str]) -> Vec<Rule> {
        let rules = self.rules.lock().unwrap();
        let fits = |key: &String| what.iter().any(|w| w.contains(key.as_str()));
        rules.iter().filter(|(key, _)| fits(key)).map(|(_, rule)| rule.clone()).collect()
    }

    pub fn log(&self) -> Vec<String> {
        self.log.lock().unwrap().clone()
    }

    pub fn of(&self, kind: &str) -> Vec<Thing> {
        self.things.lock().unwrap().values().filter(|t| t.kind == kind).cloned().collect()
    }
}

impl Services for Cloud {
    fn create(
        &self,
        _: &Owner,
        kind: &str,
        name: &str,
        properties: &Value,
    ) -> Result<String, Refused> {
        let own = properties["name"].as_str().filter(|n| !n.is_empty()).unwrap_or(name);
        for rule in self.rules_for(&[kind, own]) {
            if let Rule::Refuse(refused) = rule {
                return Err(refused);
            }
        }
        let mut serial = self.serial.lock().unwrap();
        *serial += 1;
        let id = format!("{}-{serial}", kind.rsplit("::").next().unwrap().to_lowercase());
        let thing = Thing {
            kind: kind.to_owned(),
            name: own.to_owned(),
            properties: properties.clone(),
            looks: 0,
        };
        self.things.lock().unwrap().insert(id.clone(), thing);
        self.log.lock().unwrap().push(format!("+{id}"));
        Ok(id)
    }

    fn state(&self, _: &str, id: &str) -> State {
        let mut things = self.things.lock().unwrap();
        let Some(thing) = things.get_mut(id) else { return State::Gone };
        thing.looks += 1;
        for rule in self.rules_for(&[&thing.kind, &thing.name]) {
            match rule {
                Rule::Slow(looks) if thing.looks < looks => return State::Building,
                Rule::Stuck => return State::Building,
                Rule::Break(message) => return State::Error(message),
                _ => {}
            }
        }
        State::Active
    }

    fn attribute(&self, _: &str, id: &str, name: &str) -> Option<Value> {
        let things = self.things.lock().unwrap();
        let thing = things.get(id)?;
        let number = id.rsplit('-').next().unwrap();
        let address = format!("10.0.0.{number}");
        Some(match name {
            "fixed_ips" => json!([{"ip_address": address, "subnet_id": "s"}]),
            "first_address" => json!(address),
            "addresses" => json!({"net": [{"addr": address}]}),
            "floating_ip_address" => json!(format!("172.24.4.{number}")),
            "show" => json!({"id": id, "name": thing.name, "status": "ACTIVE"}),
            "name" => json!(thing.name),
            _ => return None,
        })
    }

    fn delete(&self, kind: &str, id: &str) -> Result<(), Refused> {
        let mut things = self.things.lock().unwrap();
        let Some(thing) = things.get(id) else {
            return Err(Refused { status: 404, kind: "NotFound", message: "gone".to_owned() });
        };
        for rule in self.rules_for(&[kind, &thing.name]) {
            if let Rule::Keep(refused) = rule {
                return Err(refused);
            }
        }
        things.remove(id);
        self.log.lock().unwrap().push(format!("-{id}"));
        Ok(())
    }

    fn update(
        &self,
        _: &Owner,
        _: &str,
        id: &str,
        properties: &Value,
        changed: &[String],
    ) -> Result<(), Refused> {
        if let Some(thing) = self.things.lock().unwrap().get_mut(id) {
            thing.properties = properties.clone();
        }
        self.log.lock().unwrap().push(format!("~{id} {}", changed.join(",")));
        Ok(())
    }

    fn exists(&self, _: &Owner, constraint: &str, value: &str) -> Result<(), String> {
        for rule in self.rules_for(&[constraint]) {
            if let Rule::Unknown(name) = rule
                && name == value
            {
                return Err(format!("Unable to find network with name or id '{name}'"));
            }
        }
        Ok(())
    }

    fn has_kind(&self, kind: &str) -> bool {
        !self.rules_for(&[kind]).iter().any(|rule| matches!(rule, Rule::Absent))
    }

    fn stack_trust(&self, token: &str) -> Result<String, Refused> {
        if token == "trust-scoped" {
            let message = "You are not authorized to perform the requested action.".to_owned();
            return Err(Refused { status: 403, kind: "Forbidden", message });
        }
        self.trusts.lock().unwrap().push(token.to_owned());
        Ok(token.to_owned())
    }

    fn has_stack_trust(&self, id: &str) -> bool {
        self.trusts.lock().unwrap().iter().any(|trust| trust == id)
    }

    fn drop_stack_trust(&self, id: &str) {
        self.trusts.lock().unwrap().retain(|trust| trust != id);
    }
}

/// A Heat over such a cloud; a thousand of its seconds pass in one.
pub struct Lab {
    pub cloud: Arc<Cloud>,
    pub heat: Heat<Cloud>,
    pub caller: Caller,
}

impl Lab {
    pub fn new() -> Self {
        let cloud = Arc::new(Cloud::default());
        let heat = Heat::new(Arc::clone(&cloud), Clock::fast(1000.0), Entropy::new());
        let owner = Owner {
            project_id: "p".to_owned(),
            user_id: "u".to_owned(),
            roles: vec!["member".to_owned()],
        };
        let caller = Caller {
            owner,
            token: "t".to_owned(),
            username: Some("demo".to_owned()),
            admin: false,
        };
        Self { cloud, heat, caller }
    }

    pub async fn raw(&self, method: &str, path: &str, body: Vec<u8>) -> (u16, HeaderMap, Vec<u8>) {
        let mut headers = HeaderMap::new();
        headers.insert("host", HeaderValue::from_static("heat.example:8004"));
        if !body.is_empty() {
            headers.insert("content-type", HeaderValue::from_static("application/json"));
        }
        let (path, query) = match path.split_once('?') {
            Some((path, query)) => (path, Some(query.to_owned())),
            None => (path, None),
        };
        let request = Request {
            method: method.parse().unwrap(),
            path: format!("/v1/p{path}"),
            query,
            headers,
            certificate: None,
            peer: "127.0.0.1:1".parse().unwrap(),
            since: std::time::Instant::now(),
            body: Ok::<_, BodyError>(Bytes::from(body)),
        };
        let response = self.heat.handle(self.caller.clone(), &request).await;
        let (parts, body) = response.into_parts();
        let bytes = body.collect().await.unwrap().to_bytes().to_vec();
        (parts.status.as_u16(), parts.headers, bytes)
    }

    pub async fn call(&self, method: &str, path: &str, body: Value) -> (u16, Value) {
        let body = if body.is_null() { Vec::new() } else { body.to_string().into_bytes() };
        let (status, _, bytes) = self.raw(method, path, body).await;
        (status, serde_json::from_slice(&bytes).unwrap_or(Value::Null))
    }

    pub async fn get(&self, path: &str) -> Value {
        let (status, body) = self.call("GET", path, Value::Null).await;
        assert_eq!(status, 200, "{path}: {body}");
        body
    }

    /// `POST /stacks` with whatever else the body needs; the stack's path.
    pub async fn create(&self, template: &str, more: Value) -> String {
        let mut body = json!({"stack_name": "s", "template": template});
        body.as_object_mut().unwrap().extend(more.as_object().cloned().unwrap_or_default());
        let (status, answer) = self.call("POST", "/stacks", body.clone()).await;
        assert_eq!(status, 201, "{answer}");
        format!(
            "/stacks/{}/{}",
            body["stack_name"].as_str().unwrap(),
            answer["stack"]["id"].as_str().unwrap()
        )
    }

    /// The stack once nothing goes on in it.
    pub async fn settled(&self, path: &str) -> Value {
        for _ in 0..5000 {
            let stack = self.get(path).await["stack"].clone();
            if !stack["stack_status"].as_str().unwrap().ends_with("IN_PROGRESS") {
                return stack;
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        panic!("the stack never settles: {}", self.get(path).await);
    }

    /// Makes a stack and waits.
    pub async fn made(&self, template: &str, more: Value) -> (String, Value) {
        let path = self.create(template, more).await;
        let stack = self.settled(&path).await;
        (path, stack)
    }

    pub async fn resources(&self, path: &str) -> BTreeMap<String, Value> {
        let list = self.get(&format!("{path}/resources?nested_depth=3")).await;
        let list = list["resources"].as_array().unwrap().clone();
        let key = |r: &Value| match r["parent_resource"].as_str() {
            Some(parent) => format!("{parent}.{}", r["resource_name"].as_str().unwrap()),
            None => r["resource_name"].as_str().unwrap().to_owned(),
        };
        list.into_iter().map(|r| (key(&r), r)).collect()
    }
}

/// A template of version 2018-08-31.
pub fn hot(rest: &str) -> String {
    format!("heat_template_version: '2018-08-31'\n{rest}")
}
