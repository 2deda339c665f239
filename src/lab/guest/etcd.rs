//! An etcd member that finds its peers: the client's side of the v2 discovery protocol, as
//! etcd 3.4 to 3.6 speak it.

use std::net::Ipv4Addr;
use std::time::Duration;

use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use hyper::Method;
use hyper::header::CONTENT_TYPE;
use serde_json::Value;

use crate::base::clock::Clock;
use crate::base::http::client::{Answer, HttpClient, HttpError, Outgoing};

/// etcd gives every question but the watch this long, and then dies.
const PATIENCE: Duration = Duration::from_secs(5);
/// A watch without an answer is begun anew after this.
const WATCH: Duration = Duration::from_secs(90);

/// Why the member gave up; etcd exits here.
pub(super) type Fatal = String;

/// What a question led to.
enum Asked {
    Answer(Answer),
    /// Ask again later, from the beginning.
    Again,
}

pub(super) struct Member<'m> {
    client: &'m HttpClient,
    clock: &'m Clock,
    url: &'m str,
    name: &'m str,
    peer_url: String,
    id: String,
}

impl<'m> Member<'m> {
    pub fn new(
        client: &'m HttpClient,
        clock: &'m Clock,
        url: &'m str,
        name: &'m str,
        address: Ipv4Addr,
    ) -> Self {
        let peer_url = format!("https://{address}:2380");
        let id = member_id(&peer_url, url);
        Self { client, clock, url, name, peer_url, id }
    }

    /// Registers and waits until all members are there; returns the initial cluster.
    pub async fn join(&self) -> Result<String, Fatal> {
        let mut pause = Duration::from_secs(2);
        loop {
            if let Some(cluster) = self.attempt().await? {
                return Ok(cluster);
            }
            self.clock.sleep(pause).await;
            pause = (pause * 2).min(Duration::from_secs(256));
        }
    }

    /// None: something was briefly gone.
    async fn attempt(&self) -> Result<Option<String>, Fatal> {
        let Some((size, known, _)) = self.look().await? else { return Ok(None) };
        if known.len() >= size && !known.iter().take(size).any(|m| m.key == self.id) {
            return Err("discovery: cluster is full".to_owned());
        }
        if !known.iter().any(|m| m.key == self.id) {
            self.register().await?;
        }
        let Some((size, mut known, index)) = self.look().await? else { return Ok(None) };
        let mut after = index + 1;
        while known.len() < size {
            let path = format!("?recursive=true&wait=true&waitIndex={after}");
            let answer = match self.ask(Method::GET, &path, "", WATCH).await {
                Ok(Asked::Answer(answer)) => answer,
                Ok(Asked::Again) | Err(None) => return Ok(None),
                Err(Some(fatal)) => return Err(fatal),
            };
            if answer.body.is_empty() {
                continue;
            }
            let event: Value = serde_json::from_slice(&answer.body)
                .map_err(|e| format!("discovery: a watch's answer is not JSON: {e}"))?;
            let member = Registered::of(&event["node"]);
            let member = member.ok_or("discovery: an event without a node crashes etcd")?;
            after = member.modified + 1;
            known.push(member);
        }
        known.truncate(size);
        let cluster: Vec<&str> = known.iter().map(|m| m.value.as_str()).collect();
        let cluster = cluster.join(",");
        if !cluster.contains(&self.peer_url) {
            return Err("discovery: the list lacks this member".to_owned());
        }
        Ok(Some(cluster))
    }

    /// The size, the members in the order of their registration, and the index of the list.
    async fn look(&self) -> Result<Option<(usize, Vec<Registered>, u64)>, Fatal> {
        const PLAIN: &str = "?quorum=false&recursive=false&sorted=false";
        let Some((size, _)) = self.read(&format!("/_config/size{PLAIN}")).await? else {
            return Ok(None);
        };
        let size = size["node"]["value"].as_str().and_then(|v| v.parse().ok());
        let size = size.ok_or("discovery: size key is bad")?;
        let Some((list, index)) = self.read(PLAIN).await? else { return Ok(None) };
        if !list["node"].is_object() {
            return Err("discovery: a list without a node crashes etcd".to_owned());
        }
        if index == 0 {
            return Err("discovery: the list carries no X-Etcd-Index".to_owned());
        }
        let nodes = list["node"]["nodes"].as_array().map(Vec::as_slice).unwrap_or_default();
        let mut members: Vec<Registered> = nodes.iter().filter_map(Registered::of).collect();
        members.retain(|m| m.key != "_config");
        members.sort_by_key(|m| m.created);
        Ok(Some((size, members, index)))
    }

    async fn read(&self, path: &str) -> Result<Option<(Value, u64)>, Fatal> {
        match self.ask(Method::GET, path, "", PATIENCE).await {
            Ok(Asked::Answer(answer)) => {
                let body = serde_json::from_slice(&answer.body)
                    .map_err(|_| "discovery: bad discovery endpoint".to_owned())?;
                let index = answer.header("x-etcd-index").and_then(|v| v.parse().ok());
                Ok(Some((body, index.unwrap_or(0))))
            }
            Ok(Asked::Again) => Ok(None),
            Err(fatal) => {
                Err(fatal
                    .unwrap_or_else(|| format!("discovery: {path}: context deadline exceeded")))
            }
        }
    }

    /// Nothing about this may go wrong: etcd dies of any answer but a success.
    async fn register(&self) -> Result<(), Fatal> {
        let value = format!("{}={}", self.name, self.peer_url);
        let value =
            percent_encoding::utf8_percent_encode(&value, percent_encoding::NON_ALPHANUMERIC);
        let path = format!("/{}?prevExist=false", self.id);
        match self.ask(Method::PUT, &path, &format!("value={value}"), PATIENCE).await {
            Ok(Asked::Answer(_)) => Ok(()),
            Ok(Asked::Again) => Err("discovery: registration failed".to_owned()),
            Err(fatal) => Err(fatal.unwrap_or_else(|| {
                "discovery: registration: context deadline exceeded".to_owned()
            })),
        }
    }

    /// `Err(None)` is a deadline that passed.
    async fn ask(
        &self,
        method: Method,
        path: &str,
        form: &str,
        deadline: Duration,
    ) -> Result<Asked, Option<Fatal>> {
        let url = format!("{}{path}", self.url.trim_end_matches('/'));
        let mut question = Outgoing::new(method, url).deadline(deadline);
        if !form.is_empty() {
            question = question
                .header(CONTENT_TYPE, "application/x-www-form-urlencoded")
                .body(form.to_owned());
        }
        match self.client.send(question).await {
            Ok(answer) if answer.status.is_success() => Ok(Asked::Answer(answer)),
            Ok(answer) if answer.status.is_server_error() => Ok(Asked::Again),
            Ok(answer) => {
                let error: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
                Err(Some(match error["errorCode"].as_u64() {
                    Some(105) => "discovery: found duplicate id".to_owned(),
                    Some(code) => format!("discovery: {code}: {}", error["message"]),
                    None => "discovery: bad discovery endpoint".to_owned(),
                }))
            }
            Err(HttpError::Deadline { .. }) => Err(None),
            Err(HttpError::BadUrl { url }) => Err(Some(format!("discovery: '{url}' is no URL"))),
            Err(_) => Ok(Asked::Again),
        }
    }
}

/// One line of the registry.
#[derive(Debug)]
struct Registered {
    key: String,
    value: String,
    created: u64,
    modified: u64,
}

impl Registered {
    fn of(node: &Value) -> Option<Self> {
        let key = node["key"].as_str()?.rsplit('/').next()?.to_owned();
        let created = node["createdIndex"].as_u64().unwrap_or(0);
        Some(Self {
            key,
            value: node["value"].as_str().unwrap_or_default().to_owned(),
            created,
            modified: node["modifiedIndex"].as_u64().unwrap_or(created),
        })
    }
}

/// Eight bytes of SHA-1 over the peer URL and the token, which is the URL itself.
fn member_id(peer_url: &str, discovery_url: &str) -> String {
    let hash = digest(&SHA1_FOR_LEGACY_USE_ONLY, format!("{peer_url}{discovery_url}").as_bytes());
    let first: [u8; 8] = hash.as_ref()[..8].try_into().expect("SHA-1 has 20 bytes");
    format!("{:x}", u64::from_be_bytes(first))
}
