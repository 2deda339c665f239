//! A node's first boot: fetch the bundle, get certificates, find the peers, report.

use std::collections::BTreeMap;
use std::io::Read;
use std::net::Ipv4Addr;
use std::time::Duration;

use hyper::Method;
use hyper::header::{AUTHORIZATION, HeaderName};
use serde_json::{Value, json};
use tracing::{debug, warn};

use crate::base::http::client::{Answer, HttpClient, Outgoing};
use crate::base::http::tls::{Trust, client_config, pinned_client_config};

use super::super::fault::GuestHarm;
use super::super::world::World;
use super::certificates;
use super::etcd::Member;
use super::user_data::{Plan, Role, variables};

const INSTANCE: HeaderName = HeaderName::from_static("x-magnumd-instance");
/// How long a phase takes by itself.
const WORK: Duration = Duration::from_millis(150);
/// The pause after a call that failed; it doubles up to the longest.
const FIRST_PAUSE: Duration = Duration::from_millis(300);
const LONGEST_PAUSE: Duration = Duration::from_secs(3);
/// One call; a real node's first-boot script waits as long.
const DEADLINE: Duration = Duration::from_secs(60);

const MASTER: &[&str] =
    &["booted", "network", "runtime", "certs", "etcd", "control-plane", "addons", "ready"];
const WORKER: &[&str] = &["booted", "network", "runtime", "certs", "ready"];

pub(super) struct Node<'w> {
    pub(super) world: &'w World,
    instance: &'w str,
    pub(super) name: String,
    address: Option<Ipv4Addr>,
    pub(super) plan: Plan,
    log: Vec<String>,
    /// Whether the cluster's etcd was there before this machine.
    rejoins: bool,
}

/// The boot ends here: the sentence was reported, or there is nobody to report to.
struct Ended;

impl<'w> Node<'w> {
    pub fn new(
        world: &'w World,
        instance: &'w str,
        name: String,
        address: Option<Ipv4Addr>,
        plan: Plan,
    ) -> Self {
        Self { world, instance, name, address, plan, log: Vec::new(), rejoins: false }
    }

    /// Boots until ready, failed or switched off (then this future is dropped).
    pub async fn run(mut self) {
        let tls = match &self.plan.ca {
            Some(ca) => pinned_client_config(ca),
            None => client_config(&Trust::default()),
        };
        let client = match tls {
            Ok(tls) => HttpClient::new(tls, Duration::from_secs(20)),
            Err(error) => {
                warn!(name = self.name, %error, "a guest cannot trust its bootstrap CA");
                return;
            }
        };
        let phases = match self.plan.role {
            Role::Master => MASTER,
            Role::Worker => WORKER,
        };
        for phase in phases {
            if self.pass(&client, phase).await.is_err() {
                return;
            }
        }
        debug!(name = self.name, "a guest is ready");
        self.serve(&client).await;
    }

    async fn pass(&mut self, client: &HttpClient, phase: &str) -> Result<(), Ended> {
        match self.world.faults.of_guest(&self.name, phase) {
            Some(GuestHarm::Hang) => std::future::pending().await,
            Some(GuestHarm::Fail(sentence)) => {
                self.report(client, phase, "failed", &sentence).await;
                return Err(Ended);
            }
            None => {}
        }
        if phase != "ready" {
            self.report(client, phase, "started", "").await;
        }
        self.world.clock.sleep(WORK).await;
        let worked = match phase {
            "runtime" => self.fetch_bundle(client).await,
            "certs" => self.certificates(client).await,
            "etcd" => self.find_peers(client).await,
            _ => Ok(String::new()),
        };
        match worked {
            Ok(message) => {
                self.report(client, phase, "done", &message).await;
                Ok(())
            }
            Err(reason) => {
                self.report(client, phase, "failed", &reason).await;
                Err(Ended)
            }
        }
    }

    async fn fetch_bundle(&mut self, client: &HttpClient) -> Result<String, String> {
        let answer = self.call(client, Method::GET, "bundle", None).await;
        let files = unpack(&answer.body)?;
        let env = variables(files.get("env").map(String::as_str).unwrap_or_default())?;
        self.rejoins = env.get("ETCD_REJOIN").is_some_and(|v| v == "yes");
        Ok(format!("{} files", files.len()))
    }

    async fn certificates(&mut self, client: &HttpClient) -> Result<String, String> {
        let (count, _) = self.issue(client).await?;
        Ok(format!("{count} certificates"))
    }

    /// Every certificate that the role needs, and the authorities that have signed them.
    pub(super) async fn issue(
        &mut self,
        client: &HttpClient,
    ) -> Result<(usize, Vec<String>), String> {
        let purposes: &[&str] = match self.plan.role {
            Role::Master => &["etcd-server", "etcd-peer", "etcd-client"],
            Role::Worker => &["kubelet"],
        };
        let mut authorities = Vec::new();
        for purpose in purposes {
            let wanted = certificates::request(purpose, &self.name, self.address)?;
            let body = json!({"purpose": purpose, "csr": wanted.csr});
            let answer = self.call(client, Method::POST, "csr", Some(body)).await;
            let body: Value = serde_json::from_slice(&answer.body)
                .map_err(|e| format!("the answer for {purpose} is not JSON: {e}"))?;
            let text = |key: &str| body[key].as_str().unwrap_or_default();
            wanted
                .check(text("certificate"), text("ca"))
                .map_err(|reason| format!("{purpose}: {reason}"))?;
            authorities.push(text("ca").to_owned());
        }
        Ok((purposes.len(), authorities))
    }

    async fn find_peers(&mut self, _: &HttpClient) -> Result<String, String> {
        if self.rejoins {
            return Ok("a member again".to_owned());
        }
        let Some(url) = self.plan.discovery.clone() else { return Ok("static members".to_owned()) };
        let Some(address) = self.address else {
            return Err("discovery: the node has no address".to_owned());
        };
        // The discovery client of etcd trusts the system's roots, never the bootstrap CA.
        let tls = client_config(&Trust::default()).map_err(|e| e.to_string())?;
        let client = HttpClient::new(tls, Duration::from_secs(5));
        Member::new(&client, &self.world.clock, &url, &self.name, address).join().await
    }

    async fn report(&mut self, client: &HttpClient, phase: &str, state: &str, message: &str) {
        self.log.push(format!("{phase} {state} {message}").trim_end().to_owned());
        let body = json!({
            "phase": phase, "state": state, "message": message, "log_tail": self.log.join("\n"),
        });
        self.call(client, Method::POST, "status", Some(body)).await;
    }

    /// Asks until the answer is a success, as the first-boot script does.
    pub(super) async fn call(
        &self,
        client: &HttpClient,
        method: Method,
        what: &str,
        body: Option<Value>,
    ) -> Answer {
        let url = format!("{}/bootstrap/v1/{}/{what}", self.plan.url, self.name);
        let mut pause = FIRST_PAUSE;
        loop {
            let mut call = Outgoing::new(method.clone(), url.clone())
                .deadline(DEADLINE)
                .header(AUTHORIZATION, &format!("Bearer {}", self.plan.token))
                .header(INSTANCE, self.instance);
            call.limit = 64 << 20;
            if let Some(body) = &body {
                call = call.json(body);
            }
            match client.send(call).await {
                Ok(answer) if answer.status.is_success() => return answer,
                Ok(answer) => debug!(
                    name = self.name,
                    what,
                    status = answer.status.as_u16(),
                    answer = %String::from_utf8_lossy(&answer.body),
                    "a guest was refused"
                ),
                Err(error) => debug!(name = self.name, what, %error, "a guest got no answer"),
            }
            self.world.clock.sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }
}

/// Files by path. An archive is a tar of relative paths that stay inside.
pub(super) fn unpack(archive: &[u8]) -> Result<BTreeMap<String, String>, String> {
    let mut archive = tar::Archive::new(archive);
    let broken = |e: std::io::Error| format!("the bundle is no tar: {e}");
    let mut files = BTreeMap::new();
    for entry in archive.entries().map_err(broken)? {
        let mut entry = entry.map_err(broken)?;
        let path = entry.path().map_err(broken)?;
        let leads_out = path
            .components()
            .any(|c| !matches!(c, std::path::Component::Normal(_) | std::path::Component::CurDir));
        let path = path.display().to_string();
        if leads_out {
            return Err(format!("the bundle's '{path}' leads out of it"));
        }
        let mut content = String::new();
        entry.read_to_string(&mut content).map_err(broken)?;
        files.insert(path, content);
    }
    Ok(files)
}
