//! A node's first boot: fetch the bundle, get certificates, find the peers, report.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use hyper::header::{AUTHORIZATION, HeaderName};
use hyper::{Method, StatusCode};
use serde_json::{Value, json};
use tokio::sync::{OnceCell, oneshot};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use crate::base::http::client::{Answer, HttpClient, Outgoing};
use crate::base::http::tls::{Trust, client_config, mutual_client_config, pinned_client_config};
use crate::base::secret::Secret;

use super::super::compute::Server;
use super::super::fault::GuestHarm;
use super::super::world::World;
use super::api::Api;
use super::bundle::Bundle;
use super::certificates::{self, Wanted};
use super::cloud;
use super::etcd::Member;
use super::line::{Line, outside};
use super::user_data::{Plan, Role, variables};

const INSTANCE: HeaderName = HeaderName::from_static("x-magnumd-instance");
const VENDOR_SECRET: HeaderName = HeaderName::from_static("x-magnumd-vendor-secret");
/// How long a phase takes by itself.
const WORK: Duration = Duration::from_millis(150);
/// The pause after a call that failed; it doubles up to the longest.
const FIRST_PAUSE: Duration = Duration::from_millis(300);
const LONGEST_PAUSE: Duration = Duration::from_secs(3);
/// One call; a real node's first-boot script waits as long.
const DEADLINE: Duration = Duration::from_secs(60);

/// What every node does until it has its bundle; what it does with that depends on both.
const FETCH: &[&str] = &["booted", "network", "runtime"];
const MASTER: &[&str] = &["certs", "etcd", "control-plane", "addons", "ready"];
const WORKER: &[&str] = &["certs", "ready"];
const SWARM: &[&str] = &["certs", "control-plane", "ready"];

pub(super) struct Node<'i> {
    pub(super) world: Arc<World>,
    instance: &'i str,
    /// Cancelled when this life of the machine ends; the server may have another one by then.
    power: CancellationToken,
    pub(super) name: String,
    pub(super) address: Option<Ipv4Addr>,
    pub(super) plan: Plan,
    /// With the certificate of its first contact.
    own: OnceCell<Line>,
    log: Vec<String>,
    /// `vendor_data2.json`, once it was read.
    vendor_data: OnceLock<Value>,
    pub(super) bundle: Bundle,
    /// The API server's certificate and key, where they are issued.
    pub(super) issued: Option<(String, String)>,
    /// What goes on when the boot is over; it ends with the node.
    services: JoinSet<()>,
}

/// What is left of a node when its machine is switched off.
#[derive(Clone, Debug)]
pub(in super::super) struct Disk {
    bundle: Bundle,
    issued: Option<(String, String)>,
    /// Authorities that it trusts, in the order in which they may be dropped.
    trusted: Vec<String>,
}

/// The key that a server has drawn, and what it was given for it.
#[derive(Clone, Debug)]
pub(in super::super) struct Identity {
    wanted: Arc<Wanted>,
    certificate: Option<String>,
}

impl Identity {
    pub(in super::super) fn without_certificate(self) -> Self {
        Self { certificate: None, ..self }
    }
}

/// The boot ends here: the sentence was reported, or there is nobody to report to.
struct Ended;

impl<'i> Node<'i> {
    pub fn new(
        world: Arc<World>,
        instance: &'i str,
        power: CancellationToken,
        name: String,
        address: Option<Ipv4Addr>,
        plan: Plan,
    ) -> Self {
        let (log, bundle, services) = (Vec::new(), Bundle::default(), JoinSet::new());
        let (own, vendor_data, issued) = (OnceCell::new(), OnceLock::new(), None);
        Self {
            world,
            instance,
            power,
            name,
            address,
            plan,
            own,
            log,
            vendor_data,
            bundle,
            issued,
            services,
        }
    }

    /// Boots until ready or failed, then serves; until switched off (this future is dropped).
    pub async fn run(mut self) {
        let Some(client) = self.client() else { return };
        for phase in FETCH {
            if self.pass(&client, phase).await.is_err() {
                return;
            }
        }
        let phases = match self.plan.role {
            _ if self.is_of_a_swarm() => SWARM,
            Role::Master => MASTER,
            Role::Worker => WORKER,
        };
        for phase in phases {
            if self.pass(&client, phase).await.is_err() {
                return;
            }
        }
        debug!(name = self.name, "a guest is ready");
        self.do_duties(&client, Vec::new()).await;
    }

    /// Goes on with what is on its disk; until switched off.
    pub async fn restart(mut self, disk: Disk) {
        let Some(client) = self.client() else { return };
        (self.bundle, self.issued) = (disk.bundle, disk.issued);
        if self.plan.role == Role::Master
            && !self.is_of_a_swarm()
            && let Err(reason) = self.start_api(&client).await
        {
            warn!(name = self.name, reason, "a guest's API does not start again");
            return;
        }
        self.join_cluster();
        self.do_duties(&client, disk.trusted).await;
    }

    fn client(&self) -> Option<Line> {
        let tls = match &self.plan.ca {
            Some(ca) => pinned_client_config(ca),
            None => client_config(&Trust::default()),
        };
        match tls {
            Ok(tls) => Some(Line::new(tls)),
            Err(error) => {
                warn!(name = self.name, %error, "a guest cannot trust its bootstrap CA");
                None
            }
        }
    }

    /// Whatever a machine that starts again finds.
    pub(super) fn save(&self, trusted: &[String]) {
        self.change_machine(|server| {
            server.disk = Some(Disk {
                bundle: self.bundle.clone(),
                issued: self.issued.clone(),
                trusted: trusted.to_vec(),
            });
        });
    }

    /// Not once it is switched off: what it still had in hand must not reach a rebuilt one.
    fn change_machine(&self, change: impl FnOnce(&mut Server)) {
        let mut state = self.world.lock();
        if !self.power.is_cancelled()
            && let Some(server) = state.compute.servers.get_mut(self.instance)
        {
            change(server);
        }
    }

    /// Whether the API of the cluster shows the node.
    pub(super) fn is_joined(&self) -> bool {
        let state = self.world.lock();
        state.compute.servers.get(self.instance).is_some_and(|server| server.joined.is_some())
    }

    async fn pass(&mut self, client: &Line, phase: &str) -> Result<(), Ended> {
        match self.world.faults.of_guest(&self.name, phase) {
            Some(GuestHarm::Hang) => std::future::pending().await,
            Some(GuestHarm::Delay(length)) => self.world.clock.sleep(length).await,
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
            "certs" if self.is_of_a_swarm() => self.start_docker(client).await,
            "certs" => self.certificates(client).await,
            "control-plane" if self.is_of_a_swarm() => self.found_or_join(client).await,
            "etcd" => self.find_peers(client).await,
            "control-plane" => self.start_api(client).await,
            "addons" if self.bundle.text(cloud::FILE).is_ok() => cloud::log_in(&self.bundle).await,
            "ready" => {
                self.join_cluster();
                // Whoever hears that it is ready may switch it off at once.
                self.save(&[]);
                Ok(String::new())
            }
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

    async fn fetch_bundle(&mut self, client: &Line) -> Result<String, String> {
        self.bundle = Bundle::default();
        while self.bundle.count() == 0 {
            let answer = self.call(client, Method::GET, "bundle", None).await;
            self.bundle = Bundle::unpack(&answer.body)?;
            if self.learns(&self.bundle) {
                self.plan.claims = true;
                self.bundle = Bundle::default();
            }
        }
        Ok(format!("{} files", self.bundle.count()))
    }

    /// Also in the place of one that runs already: it has other authorities then.
    pub(super) async fn start_api(&mut self, client: &Line) -> Result<String, String> {
        let api = match self.bundle.text("pki/ca.key") {
            Ok(_) => Api::new(&self.bundle, &self.name, &self.plan.cluster)?,
            Err(_) => {
                if self.issued.is_none() {
                    let (wanted, certificate, _) =
                        self.certificate(client, "kube-apiserver").await?;
                    self.issued = Some((certificate, wanted.key_pem()));
                }
                let (certificate, key) = self.issued.as_ref().ok_or("no certificate was issued")?;
                Api::issued(&self.bundle, certificate, key, &self.name, &self.plan.cluster)?
            }
        };
        self.serve(api).await;
        Ok(String::new())
    }

    /// Returns when the API listens: who is told that a node is ready may call it at once.
    pub(super) async fn serve(&mut self, api: Api) {
        let (world, instance) = (Arc::clone(&self.world), self.instance.to_owned());
        let (listens, listening) = oneshot::channel();
        self.services.shutdown().await;
        self.services.spawn(api.serve(world, instance, listens));
        // An error is its end, which whoever calls it will notice.
        _ = listening.await;
    }

    /// From now on the API of the cluster shows the node.
    fn join_cluster(&mut self) {
        let version = self.bundle.version();
        self.change_machine(|server| {
            server.joined = Some(self.plan.cluster.clone());
            server.kubelet = Some(version);
        });
    }

    async fn certificates(&mut self, client: &Line) -> Result<String, String> {
        let (count, _) = self.issue(client).await?;
        Ok(format!("{count} certificates"))
    }

    /// Every certificate that the role needs, and the authorities that have signed them.
    pub(super) async fn issue(&mut self, client: &Line) -> Result<(usize, Vec<String>), String> {
        let purposes: &[&str] = match self.plan.role {
            Role::Master => &["etcd-server", "etcd-peer", "etcd-client"],
            Role::Worker => &["kubelet"],
        };
        let mut authorities = Vec::new();
        for purpose in purposes {
            authorities.push(self.certificate(client, purpose).await?.2);
        }
        Ok((purposes.len(), authorities))
    }

    /// A key, and the certificate and authority that came for it.
    pub(super) async fn certificate(
        &self,
        client: &Line,
        purpose: &str,
    ) -> Result<(Wanted, String, String), String> {
        let wanted = certificates::request(purpose, &self.name, self.address)?;
        let body = json!({"purpose": purpose, "csr": wanted.csr});
        let answer = self.call(client, Method::POST, "csr", Some(body)).await;
        let body: Value = serde_json::from_slice(&answer.body)
            .map_err(|e| format!("the answer for {purpose} is not JSON: {e}"))?;
        let text = |key: &str| body[key].as_str().unwrap_or_default().to_owned();
        let (certificate, ca) = (text("certificate"), text("ca"));
        wanted.check(&certificate, &ca).map_err(|reason| format!("{purpose}: {reason}"))?;
        Ok((wanted, certificate, ca))
    }

    async fn find_peers(&mut self, _: &Line) -> Result<String, String> {
        let env = variables(self.bundle.text("env").unwrap_or_default())?;
        if env.get("ETCD_REJOIN").is_some_and(|v| v == "yes") {
            return Ok("a member again".to_owned());
        }
        let Some(url) = self.plan.discovery.clone() else { return Ok("static members".to_owned()) };
        let Some(address) = self.address else {
            return Err("discovery: the node has no address".to_owned());
        };
        // The discovery client of etcd trusts the system's roots, never the bootstrap CA.
        let tls = client_config(&Trust::default()).map_err(|e| e.to_string())?;
        let source = outside(&self.world.lock(), self.instance).map(IpAddr::V4);
        let client = HttpClient::from_source(tls, Duration::from_secs(5), source);
        Member::new(&client, &self.world.clock, &url, &self.name, address).join().await
    }

    async fn report(&mut self, client: &Line, phase: &str, state: &str, message: &str) {
        self.log.push(format!("{phase} {state} {message}").trim_end().to_owned());
        let body = json!({
            "phase": phase, "state": state, "message": message, "log_tail": self.log.join("\n"),
        });
        self.call(client, Method::POST, "status", Some(body)).await;
    }

    /// Whether these files are no bundle and no duty, but how to make first contact by key: for
    /// nodes whose user data is older than that.
    pub(super) fn learns(&self, files: &Bundle) -> bool {
        !self.plan.claims && files.text("claim.sh").is_ok()
    }

    /// Reports once more that it is ready, as [`Self::run`] ends with.
    pub(super) async fn report_ready(&mut self, client: &Line) {
        self.report(client, "ready", "done", "").await;
    }

    /// What Nova gave the server for us: on its config drive, or, `again`, what the metadata
    /// service has by now.
    async fn vendor_secret(&self, again: bool) -> Option<String> {
        let read = |data: &Value| data["magnumd"]["secret"].as_str().map(str::to_owned);
        if !again && let Some(data) = self.vendor_data.get() {
            return read(data);
        }
        let data = self.world.vendor_data(self.instance).await;
        let found = read(&data);
        let _kept_already = self.vendor_data.set(data);
        found
    }

    /// Asks until the answer is a success, as the first-boot script does; with a certificate,
    /// which it asks for first.
    pub(super) async fn call(
        &self,
        client: &Line,
        method: Method,
        what: &str,
        body: Option<Value>,
    ) -> Answer {
        if !self.plan.claims {
            return self.insist(client, true, method, what, body).await;
        }
        let own = self.own.get_or_init(|| self.claim(client)).await;
        self.insist(own, false, method, what, body).await
    }

    /// First contact: the token for a certificate of a key that is drawn here, and is on the disk
    /// before it is shown.
    async fn claim(&self, client: &Line) -> Line {
        loop {
            match self.claimed(client).await {
                Ok(own) => return own,
                Err(reason) => warn!(name = self.name, reason, "a guest's first contact failed"),
            }
            self.world.clock.sleep(LONGEST_PAUSE).await;
        }
    }

    async fn claimed(&self, client: &Line) -> Result<Line, String> {
        let kept = self.kept(|identity| identity.clone()).flatten();
        let Identity { wanted, certificate } = match kept {
            Some(kept) => kept,
            None => {
                let wanted = certificates::request("claim", &self.name, None)?;
                Identity { wanted: Arc::new(wanted), certificate: None }
            }
        };
        let keep = |certificate: Option<String>| {
            let wanted = Arc::clone(&wanted);
            self.kept(|identity| *identity = Some(Identity { wanted, certificate }))
        };
        let certificate = match certificate {
            Some(certificate) => certificate,
            None => {
                keep(None);
                let body = json!({"csr": wanted.csr});
                let answer = self.insist(client, true, Method::POST, "claim", Some(body)).await;
                let body: Value = serde_json::from_slice(&answer.body)
                    .map_err(|e| format!("the answer to a claim is not JSON: {e}"))?;
                body["certificate"].as_str().unwrap_or_default().to_owned()
            }
        };
        let ca = self.plan.ca.as_deref().ok_or("without TLS no certificate can be shown")?;
        wanted.check(&certificate, ca)?;
        let tls = mutual_client_config(ca, &certificate, &Secret::new(wanted.key_pem()));
        let line = Line::new(tls.map_err(|e| e.to_string())?);
        keep(Some(certificate));
        Ok(line)
    }

    /// What is on the server's disk of who it is.
    fn kept<T>(&self, look: impl FnOnce(&mut Option<Identity>) -> T) -> Option<T> {
        let mut state = self.world.lock();
        state.compute.servers.get_mut(self.instance).map(|server| look(&mut server.identity))
    }

    async fn insist(
        &self,
        client: &Line,
        with_token: bool,
        method: Method,
        what: &str,
        body: Option<Value>,
    ) -> Answer {
        let url = format!("{}/bootstrap/v1/{}/{what}", self.plan.url, self.name);
        let mut pause = FIRST_PAUSE;
        let mut secret = match with_token {
            true => self.vendor_secret(false).await,
            false => None,
        };
        loop {
            let mut call = Outgoing::new(method.clone(), url.clone()).deadline(DEADLINE);
            if with_token {
                call = call
                    .header(AUTHORIZATION, &format!("Bearer {}", self.plan.token))
                    .header(INSTANCE, self.instance);
            }
            call.limit = 64 << 20;
            if let Some(body) = &body {
                call = call.json(body);
            }
            if let Some(secret) = &secret {
                call = call.header(VENDOR_SECRET, secret);
            }
            match client.send(&self.world, self.instance, call).await {
                Ok(answer) if answer.status.is_success() => return answer,
                // Older scripts report once while they boot, and go on.
                Ok(answer) if !self.plan.claims && answer.status == StatusCode::FORBIDDEN => {
                    return answer;
                }
                Ok(answer) => {
                    debug!(
                        name = self.name,
                        what,
                        status = answer.status.as_u16(),
                        answer = %String::from_utf8_lossy(&answer.body),
                        "a guest was refused"
                    );
                    let unproven = [StatusCode::FORBIDDEN, StatusCode::TOO_MANY_REQUESTS];
                    if with_token && unproven.contains(&answer.status) {
                        secret = self.vendor_secret(true).await;
                    }
                }
                Err(error) => debug!(name = self.name, what, %error, "a guest got no answer"),
            }
            self.world.clock.sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }
}
