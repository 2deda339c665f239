//! A cloud, a state directory, and daemons that come and go between the two.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use hyper::header::HeaderName;
use hyper::{Method, StatusCode};
use magnumd::base::clock::Clock;
use magnumd::base::fail_points::FailPoints;
use magnumd::base::http::client::{Answer, HttpClient, Outgoing};
use magnumd::base::http::tls::{self, Trust};
use magnumd::base::id::Entropy;
use magnumd::config::Config;
use magnumd::daemon::{Addresses, Daemon, Environment, Panicked, StartError};
use magnumd::lab::{Fault, LabCloud, LabOptions};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// How much faster than ours the lab's time runs.
const SPEED: f64 = 10.0;
/// Longer than anything here takes, on the wall.
pub const PATIENCE: Duration = Duration::from_secs(240);
/// What exactly one cluster has in the cloud: of trusts ours, and the one Heat makes for itself.
pub const ONE_CLUSTER: [(&str, usize); 3] = [("stacks", 1), ("trusts", 2), ("users", 1)];
const TOKEN: HeaderName = HeaderName::from_static("x-auth-token");
const VERSION: HeaderName = HeaderName::from_static("openstack-api-version");

/// A simulated cloud and the place where a magnumd keeps its state.
pub struct Lab {
    pub cloud: LabCloud,
    /// The daemons' own, which shows what the cloud's shows until it is set.
    pub clock: Clock,
    place: TempDir,
    stop: CancellationToken,
    http: HttpClient,
    configuration: String,
}

impl Lab {
    /// A complete cluster of this name and its owner's token: `(token, uuid)`.
    pub async fn built(&self, daemon: &Running, name: &str) -> (String, String) {
        let token = self.token("demo").await;
        let uuid = daemon.create(&token, name).await;
        let cluster = daemon.settled(&token, &uuid).await;
        assert_eq!(cluster["status"], "CREATE_COMPLETE", "{cluster}");
        (token, uuid)
    }

    pub async fn new() -> Self {
        Self::with_faults(&[]).await
    }

    pub async fn with_faults(faults: &[&str]) -> Self {
        tls::install_provider();
        log_if_asked();
        let stop = CancellationToken::new();
        let faults = faults.iter().map(|spec| spec.parse::<Fault>().unwrap()).collect();
        // The catalogue learns our port when a daemon starts.
        let api_url = "http://127.0.0.1:1/v1".to_owned();
        let options = LabOptions { api_url, speed: SPEED, faults, ..LabOptions::default() };
        let cloud = LabCloud::start(options, stop.clone()).await.unwrap();
        let place = tempfile::tempdir().unwrap();
        let configuration = format!(
            "[keystone]\nauth_url = '{identity}'\nusername = 'magnum'\npassword = 'secret'\n\
             [trust]\ndomain_name = 'magnum'\nadmin_name = 'magnum_domain_admin'\n\
             admin_password = 'secret'\n\
             [api]\nlisten = '127.0.0.1:0'\n\
             [discovery]\nlisten = '127.0.0.1:0'\nadvertise_url = 'http://127.0.0.1:0'\n\
             allow_loopback = true\n\
             [bootstrap]\nlisten = '127.0.0.1:{bootstrap}'\n\
             advertise_url = 'https://127.0.0.1:{bootstrap}'\n\
             [clients]\ntimeout = '3s'\n\
             [ca]\nkeys_ahead = 2\n\
             [periodic]\nstatus_interval = '1s'\nhealth_allow_loopback = true\n\
             [storage]\npath = '{state}'\n",
            identity = cloud.identity_url(),
            // The same at every start: nodes keep the address they booted with.
            bootstrap = free_port(),
            state = place.path().display(),
        );
        let trust = tls::client_config(&Trust::default()).unwrap();
        let http = HttpClient::new(trust, Duration::from_secs(5));
        let clock = cloud.clock().another();
        Self { cloud, clock, place, stop, http, configuration }
    }

    /// The folder of the configuration and the state.
    pub fn folder(&self) -> &std::path::Path {
        self.place.path()
    }

    pub fn state(&self) -> PathBuf {
        self.place.path().join("magnumd.redb")
    }

    /// A change to the configuration of daemons started from now on.
    pub fn configure(&mut self, section: &str, line: &str) {
        self.configuration = match self.configuration.contains(section) {
            true => self.configuration.replace(section, &format!("{section}\n{line}")),
            false => format!("{}{section}\n{line}\n", self.configuration),
        };
    }

    /// The configuration of daemons started from now on.
    pub fn config(&self) -> Config {
        let path = self.place.path().join("magnumd.toml");
        Config::parse(&path, &self.configuration).unwrap()
    }

    /// Has daemons and verbs use another directory for the state from now on.
    pub fn move_state(&mut self, to: &std::path::Path) {
        let line =
            self.configuration.lines().find(|l| l.starts_with("path = ")).unwrap().to_owned();
        let moved = format!("path = '{}'", to.display());
        self.configuration = self.configuration.replace(&line, &moved);
    }

    /// Runs the binary with this lab's configuration: exit code, output, complaints.
    pub async fn magnumd(&self, arguments: &[&str]) -> (i32, String, String) {
        let path = self.place.path().join("magnumd.toml");
        std::fs::write(&path, &self.configuration).unwrap();
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_magnumd"));
        command.args(arguments).arg("--config").arg(path);
        let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
    }

    pub async fn daemon(&self) -> Running {
        self.daemon_with(FailPoints::none()).await
    }

    pub async fn daemon_with(&self, points: FailPoints) -> Running {
        // The file of a predecessor that is being dropped is free a moment later.
        let began = Instant::now();
        loop {
            match self.try_daemon(points.clone()).await {
                Ok(running) => return running,
                Err(StartError::Open(_)) if began.elapsed() < Duration::from_secs(5) => {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
                Err(e) => panic!("{e}"),
            }
        }
    }

    pub async fn try_daemon(&self, points: FailPoints) -> Result<Running, StartError> {
        let config = self.config();
        let environment =
            Environment { clock: self.clock.clone(), entropy: Entropy::new(), points };
        let stop = CancellationToken::new();
        let daemon = Daemon::start(&config, environment, stop.clone()).await?;
        let addresses = daemon.addresses();
        self.cloud.set_api_url(&format!("http://{}/v1", addresses.api));
        let task = tokio::spawn(daemon.run());
        Ok(Running { addresses, stop, task, http: self.http.clone() })
    }

    /// A token of one of the lab's users for their own project.
    pub async fn token(&self, user: &str) -> String {
        let project = match user {
            "demo2" | "reader" => "demo",
            other => other,
        };
        let scope = json!({"project": {"name": project, "domain": {"id": "default"}}});
        self.log_in(json!({
            "identity": {"methods": ["password"], "password": {"user": {
                "name": user, "domain": {"id": "default"}, "password": "secret"}}},
            "scope": scope,
        }))
        .await
    }

    /// A further member of the project of demo: id and token.
    pub async fn mate(&self, name: &str) -> (String, String) {
        let admin = self.token("admin").await;
        let url = format!("{}/users", self.cloud.identity_url());
        let asked = json!({"user": {"name": name, "password": "secret", "domain_id": "default"}});
        let (status, made) = self.cloud_call(Method::POST, &url, &admin, Some(asked)).await;
        assert_eq!(status, StatusCode::CREATED, "{made}");
        for role in ["member", "heat_stack_owner"] {
            self.cloud.give_role(name, "demo", role);
        }
        let token = self.log_in(json!({
            "identity": {"methods": ["password"], "password": {"user": {
                "name": name, "domain": {"id": "default"}, "password": "secret"}}},
            "scope": {"project": {"name": "demo", "domain": {"id": "default"}}},
        }));
        (made["user"]["id"].as_str().unwrap().to_owned(), token.await)
    }

    /// Has Keystone forget a user.
    pub async fn delete_user(&self, id: &str) {
        let url = format!("{}/users/{id}", self.cloud.identity_url());
        let admin = self.token("admin").await;
        let (status, body) = self.cloud_call(Method::DELETE, &url, &admin, None).await;
        assert_eq!(status, StatusCode::NO_CONTENT, "{body}");
    }

    pub async fn log_in(&self, auth: Value) -> String {
        let url = format!("{}/auth/tokens", self.cloud.identity_url());
        let asked = Outgoing::new(Method::POST, url).json(&json!({"auth": auth}));
        let answer = self.http.send(asked).await.unwrap();
        assert_eq!(answer.status, StatusCode::CREATED, "{:?}", answer.body);
        answer.header("x-subject-token").unwrap().to_owned()
    }

    /// Has Keystone take `token` back.
    pub async fn revoke(&self, token: &str) {
        let url = format!("{}/auth/tokens", self.cloud.identity_url());
        let asked = Outgoing::new(Method::DELETE, url)
            .header(TOKEN, token)
            .header(HeaderName::from_static("x-subject-token"), token);
        let answer = self.http.send(asked).await.unwrap();
        assert_eq!(answer.status, StatusCode::NO_CONTENT, "{:?}", answer.body);
    }

    /// A cluster's own stack: where it is, and what Heat shows of it.
    pub async fn stack(&self, token: &str, cluster: &Value) -> (String, Value) {
        let (_, heat) =
            self.cloud.endpoints().into_iter().find(|e| e.0 == "orchestration").unwrap();
        let heat = heat.replace("%(tenant_id)s", cluster["project_id"].as_str().unwrap());
        let (_, list) = self.cloud_call(Method::GET, &format!("{heat}/stacks"), token, None).await;
        let all = list["stacks"].as_array().unwrap_or_else(|| panic!("{list}"));
        let own = all.iter().find(|s| s["id"] == cluster["stack_id"]).unwrap();
        let name = own["stack_name"].as_str().unwrap();
        let url = format!("{heat}/stacks/{name}/{}", own["id"].as_str().unwrap());
        let (status, shown) = self.cloud_call(Method::GET, &url, token, None).await;
        assert_eq!(status, StatusCode::OK, "{shown}");
        (url, shown["stack"].clone())
    }

    /// A call to one of the cloud's own services.
    pub async fn cloud_call(
        &self,
        method: Method,
        url: &str,
        token: &str,
        body: Option<Value>,
    ) -> (StatusCode, Value) {
        call(&self.http, method, url, Some(token), body).await
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// A daemon at work.
pub struct Running {
    pub addresses: Addresses,
    stop: CancellationToken,
    task: JoinHandle<Result<(), Panicked>>,
    http: HttpClient,
}

impl Running {
    /// Ends it; the state is closed when this returns. A conductor that was stopped at a
    /// point does nothing more, so to the cloud this is a kill.
    pub async fn end(self) {
        self.stop.cancel();
        self.task.await.unwrap().unwrap();
    }

    pub fn url(&self, path: &str) -> String {
        let api: SocketAddr = self.addresses.api;
        format!("http://{api}{path}")
    }

    pub async fn get(&self, token: &str, path: &str) -> (StatusCode, Value) {
        call(&self.http, Method::GET, &self.url(path), Some(token), None).await
    }

    pub async fn post(&self, token: &str, path: &str, body: Value) -> (StatusCode, Value) {
        call(&self.http, Method::POST, &self.url(path), Some(token), Some(body)).await
    }

    pub async fn patch(&self, token: &str, path: &str, body: Value) -> (StatusCode, Value) {
        call(&self.http, Method::PATCH, &self.url(path), Some(token), Some(body)).await
    }

    pub async fn delete(&self, token: &str, path: &str) -> StatusCode {
        call(&self.http, Method::DELETE, &self.url(path), Some(token), None).await.0
    }

    /// A read in a version of the client's choice; what it shows does not matter.
    pub async fn get_at(&self, token: &str, path: &str, version: &str) -> StatusCode {
        self.at(Method::GET, token, path, version).await
    }

    pub async fn delete_at(&self, token: &str, path: &str, version: &str) -> StatusCode {
        self.at(Method::DELETE, token, path, version).await
    }

    async fn at(&self, method: Method, token: &str, path: &str, version: &str) -> StatusCode {
        let asked = Outgoing::new(method, self.url(path))
            .header(TOKEN, token)
            .header(VERSION, &format!("container-infra {version}"));
        self.send(asked).await.status
    }

    /// With the newest microversion.
    pub async fn ask(
        &self,
        token: &str,
        method: Method,
        path: &str,
        body: Option<Value>,
    ) -> (StatusCode, Value) {
        let mut asked = Outgoing::new(method, self.url(path))
            .header(TOKEN, token)
            .header(VERSION, "container-infra latest");
        if let Some(body) = &body {
            asked = asked.json(body);
        }
        let answer = self.http.send(asked).await.unwrap();
        let text = String::from_utf8_lossy(&answer.body).into_owned();
        (answer.status, serde_json::from_str(&text).unwrap_or(Value::String(text)))
    }

    /// A group as the API shows it.
    pub async fn group(&self, token: &str, uuid: &str, group: &str) -> Value {
        let path = format!("/v1/clusters/{uuid}/nodegroups/{group}");
        let (status, body) = self.ask(token, Method::GET, &path, None).await;
        assert_eq!(status, StatusCode::OK, "{body}");
        body
    }

    /// Asks for a new count and waits for nothing.
    pub async fn resize(&self, token: &str, uuid: &str, order: Value) {
        let path = format!("/v1/clusters/{uuid}/actions/resize");
        let (status, body) = self.ask(token, Method::POST, &path, Some(order)).await;
        assert_eq!(status, StatusCode::ACCEPTED, "{body}");
    }

    /// Whatever a client might send.
    pub async fn send(&self, asked: Outgoing) -> Answer {
        self.http.send(asked).await.unwrap()
    }

    /// Makes a template, if there is none, and a cluster of 1 master and 2 workers from it.
    pub async fn create(&self, token: &str, name: &str) -> String {
        let (status, body) = self.get(token, "/v1/clustertemplates/k8s").await;
        if status != StatusCode::OK {
            assert_eq!(status, StatusCode::NOT_FOUND, "{body}");
            let (status, body) = self.post(token, "/v1/clustertemplates", template()).await;
            assert_eq!(status, StatusCode::CREATED, "{body}");
        }
        let asked = json!({"name": name, "cluster_template_id": "k8s", "node_count": 2});
        let (status, body) = self.post(token, "/v1/clusters", asked).await;
        assert_eq!(status, StatusCode::ACCEPTED, "{body}");
        body["uuid"].as_str().unwrap().to_owned()
    }

    /// Makes a template from an image; the answer's id.
    pub async fn template_of(&self, token: &str, name: &str, image: &str, labels: Value) -> String {
        let mut asked = template();
        (asked["name"], asked["image_id"], asked["labels"]) = (json!(name), json!(image), labels);
        let (status, body) = self.post(token, "/v1/clustertemplates", asked).await;
        assert_eq!(status, StatusCode::CREATED, "{body}");
        body["uuid"].as_str().unwrap().to_owned()
    }

    /// Looks until the cluster is no longer in progress.
    pub async fn settled(&self, token: &str, uuid: &str) -> Value {
        self.until(token, uuid, |c| !c["status"].as_str().unwrap().ends_with("_IN_PROGRESS")).await
    }

    pub async fn until(&self, token: &str, uuid: &str, holds: impl Fn(&Value) -> bool) -> Value {
        let began = Instant::now();
        loop {
            let (status, cluster) = self.get(token, &format!("/v1/clusters/{uuid}")).await;
            assert_eq!(status, StatusCode::OK, "{cluster}");
            if holds(&cluster) {
                return cluster;
            }
            assert!(began.elapsed() < PATIENCE, "waited in vain: {cluster}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Looks until the cluster is no more.
    pub async fn gone(&self, token: &str, uuid: &str) {
        let began = Instant::now();
        loop {
            let (status, cluster) = self.get(token, &format!("/v1/clusters/{uuid}")).await;
            if status == StatusCode::NOT_FOUND {
                return;
            }
            assert_ne!(cluster["status"], "DELETE_FAILED", "{cluster}");
            assert!(began.elapsed() < PATIENCE, "still there: {cluster}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

/// What daemons and labs log goes to the standard error, filtered as `MAGNUMD_TEST_LOG` says.
fn log_if_asked() {
    if let Ok(filter) = std::env::var("MAGNUMD_TEST_LOG") {
        let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
        let _another_lab_has_begun_it = log.try_init();
    }
}

/// A template that every lab can build.
pub fn template() -> Value {
    json!({
        "name": "k8s",
        "coe": "kubernetes",
        "image_id": "ubuntu",
        "external_network_id": "public",
        "keypair_id": "default",
        "flavor_id": "m1.small",
        "master_flavor_id": "m1.small",
        "network_driver": "flannel",
    })
}

async fn call(
    http: &HttpClient,
    method: Method,
    url: &str,
    token: Option<&str>,
    body: Option<Value>,
) -> (StatusCode, Value) {
    let mut asked = Outgoing::new(method, url);
    if let Some(token) = token {
        asked = asked.header(TOKEN, token);
    }
    if let Some(body) = &body {
        asked = asked.json(body);
    }
    let answer = http.send(asked).await.unwrap();
    let text = String::from_utf8_lossy(&answer.body).into_owned();
    (answer.status, serde_json::from_str(&text).unwrap_or(Value::String(text)))
}

/// A port below those that the system gives to outgoing connections, different at every call.
pub fn free_port() -> u16 {
    static NEXT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
    let first = std::process::id().wrapping_mul(97);
    loop {
        let turn = NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let port = 20_000 + u16::try_from(first.wrapping_add(turn) % 10_000).unwrap();
        if std::net::TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}
