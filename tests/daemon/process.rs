//! A simulated cloud, and real magnumd processes that serve it.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use hyper::header::HeaderName;
use hyper::{Method, StatusCode};
use magnumd::base::http::client::{Answer, HttpClient, HttpError, Outgoing};
use magnumd::base::http::tls::{self, Trust};
use magnumd::lab::{Fault, LabCloud, LabOptions};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

/// Longer than anything here takes.
pub const PATIENCE: Duration = Duration::from_secs(60);
pub const TOKEN: HeaderName = HeaderName::from_static("x-auth-token");
const VERSION: HeaderName = HeaderName::from_static("openstack-api-version");

/// A cloud, and the folder of a magnumd with its configuration.
pub struct Site {
    pub cloud: LabCloud,
    pub port: u16,
    place: TempDir,
    configuration: String,
    stop: CancellationToken,
    pub http: HttpClient,
}

/// One magnumd.
pub struct Process {
    child: Child,
    log: PathBuf,
    pub url: String,
    http: HttpClient,
}

impl Site {
    pub async fn new() -> Self {
        Self::with_faults(&[]).await
    }

    pub async fn with_faults(faults: &[&str]) -> Self {
        tls::install_provider();
        let (port, stop) = (free_ports(), CancellationToken::new());
        let options = LabOptions {
            api_url: format!("http://127.0.0.1:{port}/v1"),
            speed: 1.0,
            faults: faults.iter().map(|spec| spec.parse::<Fault>().unwrap()).collect(),
            ..LabOptions::default()
        };
        let cloud = LabCloud::start(options, stop.clone()).await.unwrap();
        let place = tempfile::tempdir().unwrap();
        let configuration = format!(
            "[keystone]\nauth_url = '{identity}'\nusername = 'magnum'\npassword = 'secret'\n\
             [trust]\ndomain_name = 'magnum'\nadmin_name = 'magnum_domain_admin'\n\
             admin_password = 'secret'\n\
             [api]\nlisten = '127.0.0.1:{port}'\n\
             [discovery]\nlisten = '127.0.0.1:{discovery}'\n\
             advertise_url = 'http://127.0.0.1:{discovery}'\nallow_loopback = true\n\
             [bootstrap]\nlisten = '127.0.0.1:{bootstrap}'\n\
             advertise_url = 'https://127.0.0.1:{bootstrap}'\n\
             [ca]\nkeys_ahead = 2\n\
             [storage]\npath = '{state}'\n",
            identity = cloud.identity_url(),
            discovery = port + 1,
            bootstrap = port + 2,
            state = place.path().join("state").display(),
        );
        let trust = tls::client_config(&Trust::default()).unwrap();
        let http = HttpClient::new(trust, Duration::from_secs(5));
        let site = Self { cloud, port, place, configuration, stop, http };
        site.write(&site.configuration);
        site
    }

    pub fn folder(&self) -> &Path {
        self.place.path()
    }

    pub fn state(&self) -> PathBuf {
        self.folder().join("state")
    }

    pub fn config(&self) -> PathBuf {
        self.folder().join("magnumd.toml")
    }

    /// Replaces the configuration's file.
    pub fn write(&self, text: &str) {
        std::fs::write(self.config(), text).unwrap();
    }

    /// The configuration with more in one of its sections, or with a further one.
    pub fn with(&self, section: &str, lines: &str) -> String {
        match self.configuration.contains(section) {
            true => self.configuration.replace(section, &format!("{section}\n{lines}")),
            false => format!("{}{section}\n{lines}\n", self.configuration),
        }
    }

    pub fn configure(&mut self, section: &str, lines: &str) {
        self.configuration = self.with(section, lines);
        self.write(&self.configuration);
    }

    /// `magnumd serve`, not yet waited for.
    pub fn command(&self) -> Command {
        self.wrapped(&[])
    }

    /// The same under a program that replaces itself by it. `MAGNUMD_ATTACK_PROGRAM` has another
    /// build serve than the one just made, for figures.
    pub fn wrapped(&self, wrapper: &[&str]) -> Command {
        let program = std::env::var("MAGNUMD_ATTACK_PROGRAM");
        let program = program.unwrap_or_else(|_| env!("CARGO_BIN_EXE_magnumd").to_owned());
        let own = [program, "serve".to_owned(), "--config".to_owned()];
        let config = self.config().display().to_string();
        let mut words = wrapper.iter().map(|w| (*w).to_owned()).chain(own).chain([config]);
        let mut command = Command::new(words.next().unwrap());
        command.args(words).stdin(Stdio::null()).stdout(Stdio::null()).env_remove("RUST_LOG");
        command
    }

    /// Starts it and waits until it serves.
    pub async fn start(&self, command: Command) -> Process {
        let mut process = self.spawn(command);
        let began = Instant::now();
        while !process.log().contains("is ready") {
            if let Some(status) = process.child.try_wait().unwrap() {
                panic!("{status}: {}", process.log());
            }
            assert!(began.elapsed() < PATIENCE, "not ready: {}", process.log());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        process
    }

    /// Starts what is expected to end by itself; its exit code and its words.
    pub fn fails(&self, command: Command) -> (i32, String) {
        let mut process = self.spawn(command);
        let code = process.wait();
        (code, process.log())
    }

    fn spawn(&self, mut command: Command) -> Process {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("log-{}", NEXT.fetch_add(1, Ordering::Relaxed));
        let log = self.folder().join(name);
        let child = command.stderr(File::create(&log).unwrap()).spawn().unwrap();
        let url = format!("http://127.0.0.1:{}", self.port);
        Process { child, log, url, http: self.http.clone() }
    }

    /// A token of the lab's tenant.
    pub async fn token(&self) -> String {
        self.token_of("demo", "demo").await
    }

    pub async fn token_of(&self, user: &str, project: &str) -> String {
        let url = format!("{}/auth/tokens", self.cloud.identity_url());
        let asked = Outgoing::new(Method::POST, url).json(&json!({"auth": {
            "identity": {"methods": ["password"], "password": {"user": {
                "name": user, "domain": {"id": "default"}, "password": "secret"}}},
            "scope": {"project": {"name": project, "domain": {"id": "default"}}},
        }}));
        let answer = self.http.send(asked).await.unwrap();
        assert_eq!(answer.status, StatusCode::CREATED, "{:?}", answer.body);
        answer.header("x-subject-token").unwrap().to_owned()
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl Process {
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// Its exit code; it must end by itself.
    pub fn wait(&mut self) -> i32 {
        let began = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status.code().unwrap_or(-1);
            }
            assert!(began.elapsed() < PATIENCE, "it does not end: {}", self.log());
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap()
    }

    /// Waits until the log says `words`, which it did not say at first.
    pub async fn says(&self, words: &str) {
        let began = Instant::now();
        while !self.log().contains(words) {
            assert!(began.elapsed() < PATIENCE, "it never says '{words}': {}", self.log());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    pub async fn ask(
        &self,
        method: Method,
        path: &str,
        token: &str,
        body: Option<&Value>,
    ) -> Answer {
        let asked = Outgoing::new(method, format!("{}{path}", self.url)).header(TOKEN, token);
        self.send(asked, body).await
    }

    /// The same in the newest version of the API.
    pub async fn ask_newest(
        &self,
        method: Method,
        path: &str,
        token: &str,
        body: Option<&Value>,
    ) -> Answer {
        let asked = Outgoing::new(method, format!("{}{path}", self.url)).header(TOKEN, token);
        self.send(asked.header(VERSION, "container-infra latest"), body).await
    }

    async fn send(&self, mut asked: Outgoing, body: Option<&Value>) -> Answer {
        if let Some(body) = body {
            asked = asked.json(body);
        }
        self.http.send(asked).await.unwrap()
    }

    /// An answer, if it still gives one.
    #[allow(dead_code, reason = "the attacks use it")]
    pub async fn try_get(&self, path: &str) -> Result<Answer, HttpError> {
        self.http.send(Outgoing::new(Method::GET, format!("{}{path}", self.url))).await
    }

    pub async fn get(&self, path: &str, token: &str) -> (u16, String) {
        let answer = self.ask(Method::GET, path, token, None).await;
        (answer.status.as_u16(), String::from_utf8(answer.body.to_vec()).unwrap())
    }

    /// Makes a template; its labels make it as large as one likes.
    pub async fn add_template(&self, token: &str, name: &str, labels: &Value) -> Answer {
        let body = json!({
            "name": name, "coe": "kubernetes", "image_id": "ubuntu", "keypair_id": "default",
            "external_network_id": "public", "flavor_id": "m1.small",
            "master_flavor_id": "m1.small", "network_driver": "flannel", "labels": labels,
        });
        self.ask(Method::POST, "/v1/clustertemplates", token, Some(&body)).await
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if let Ok(None) = self.child.try_wait() {
            // A test that has failed half-way leaves nothing behind.
            self.child.kill().unwrap();
            self.child.wait().unwrap();
        }
    }
}

/// The first of four ports below those that the system gives to outgoing connections.
fn free_ports() -> u16 {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let first = std::process::id().wrapping_mul(97);
    loop {
        let turn = NEXT.fetch_add(4, Ordering::Relaxed);
        let port = 11_000 + u16::try_from(first.wrapping_add(turn) % 7_000).unwrap();
        if (port..port + 4).all(|p| std::net::TcpListener::bind(("127.0.0.1", p)).is_ok()) {
            return port;
        }
    }
}
