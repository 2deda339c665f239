//! How fast the API answers, beside a bare hyper server that answers the same bytes.
//!
//! `cargo bench --bench speed` prints a table: what was measured, the figure, the target.
//! Client and server share the machine, so the figures are lower bounds.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a benchmark prints and unwraps")]

mod craft;
mod load;
mod look;
mod seed;

use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use hyper::{Method, StatusCode};
use magnumd::base::http::client::{HttpClient, Outgoing};
use magnumd::base::http::server::{HttpListener, Limits, Request, Response, Service, response};
use magnumd::base::http::tls::{self, Trust};
use magnumd::lab::{LabCloud, LabOptions};
use seed::Credentials;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

const CLUSTERS: usize = 1000;
const MANY_CLUSTERS: usize = 100_000;

struct Row(&'static str, String, &'static str);

#[tokio::main]
async fn main() {
    tls::install_provider();
    let place = tempfile::tempdir().unwrap();
    let stop = CancellationToken::new();
    let port = free_port();
    let options = LabOptions {
        port: None,
        api_url: format!("http://127.0.0.1:{port}/v1"),
        speed: 1.0,
        faults: Vec::new(),
        ..LabOptions::default()
    };
    let cloud = LabCloud::start(options, stop.clone()).await.unwrap();
    let (token, project, user) = log_in(&cloud.identity_url()).await;
    let seeded = seed::clusters(place.path(), CLUSTERS, &project, &user, Credentials::None).await;
    let some = seeded.one.id;
    let config = configuration(place.path(), &cloud.identity_url(), port);

    let mut rows = Vec::new();
    let began = Instant::now();
    let mut daemon = Daemon::start(&config);
    let address: SocketAddr = ([127, 0, 0, 1], port).into();
    until_ready(address).await;
    let started = began.elapsed();
    rows.push(Row("start to ready, 1 000 clusters", millis(started), "≤ 300 ms"));
    tokio::time::sleep(Duration::from_secs(1)).await;
    rows.push(Row("resident memory, idle", daemon.resident(), "≤ 32 MB"));

    let show = load::get(&format!("/v1/clusters/{some}"), &token);
    load::one(address, &show, 200, 200).await;
    let times = load::one(address, &show, 200, 20_000).await;
    rows.push(Row("GET cluster, 1 connection, p50", millis(times.percentile(0.5)), "≤ 0.3 ms"));
    rows.push(Row("GET cluster, 1 connection, p99", millis(times.percentile(0.99)), ""));
    let rate = load::many(address, &show, 200, 16, Duration::from_secs(5)).await;
    rows.push(Row("GET cluster, 16 connections", format!("{rate:.0}/s"), "≥ 20 000/s"));

    let before = cloud.calls().len();
    let few = Pages::measure(address, &token, &seeded).await;
    assert_eq!(cloud.calls().len(), before, "a list asks OpenStack nothing");
    rows.push(Row("list of 1 000 clusters, p99", millis(few.list), "≤ 50 ms"));
    rows.push(Row("detail of 1 000 clusters, p99", millis(few.detail), ""));

    for (number, what) in [(0, "CSR, RSA-2048 authority"), (1, "CSR, P-256 authority")] {
        let asked = json!({"cluster_uuid": seeded.clusters[number], "csr": craft::csr()});
        let asked = load::post("/v1/certificates", &token, &asked.to_string());
        load::one(address, &asked, 201, 50).await;
        let rate = load::many(address, &asked, 201, 16, Duration::from_secs(5)).await;
        rows.push(Row(what, format!("{rate:.0}/s"), "≥ 1 000/s"));
    }
    rows.push(Row("POST cluster to 202, p99", post(address, &token).await, "≤ 20 ms"));

    let time = look::into_a_cluster(stop.clone()).await;
    rows.push(Row("look into a cluster of 3 nodes, p50", millis(time), ""));

    let body = load::Line::open(address).await.ask(&show).await.1;
    let bare = bare_hyper(body, stop.clone()).await;
    load::one(bare, &show, 200, 200).await;
    let times = load::one(bare, &show, 200, 20_000).await;
    rows.push(Row("bare hyper, 1 connection, p50", millis(times.percentile(0.5)), "(limit)"));
    let rate = load::many(bare, &show, 200, 16, Duration::from_secs(5)).await;
    rows.push(Row("bare hyper, 16 connections", format!("{rate:.0}/s"), "(limit)"));
    daemon.end();

    for (rsa, loads, signs) in [
        (true, "  load an RSA-2048 authority", "  sign with it, on one thread"),
        (false, "  load a P-256 authority", "  sign with it, on one thread"),
    ] {
        let craft::Signing { load, sign } = craft::signing(rsa).await;
        rows.push(Row(loads, millis(load), ""));
        rows.push(Row(signs, millis(sign), ""));
    }
    let (usual, slowest) = craft::policy(&seeded.one);
    rows.push(Row("rule cluster:get", micros(usual), "≤ 5 µs"));
    rows.push(Row("the slowest rule", micros(slowest), "≤ 5 µs"));
    let (largest, name) = craft::drawing(3, 100);
    rows.push(Row("draw 3+100, the slowest driver", millis(largest), "≤ 10 ms"));
    println!("the slowest driver is {name}");

    rows.extend(ten_thousand(&cloud.identity_url(), &project, &user).await);
    rows.extend(many_clusters(&cloud, &token, &project, &user, &few).await);
    stop.cancel();

    println!("\n{:<36} {:>14}   target", "what", "measured");
    for Row(what, figure, target) in rows {
        println!("{what:<36} {figure:>14}   {target}");
    }
}

/// How long the 99th of a hundred pages of 1 000 clusters takes.
struct Pages {
    list: Duration,
    detail: Duration,
    /// Behind a marker in the middle.
    middle: Duration,
    by_name: Duration,
    stats: Duration,
}

impl Pages {
    async fn measure(address: SocketAddr, token: &str, seeded: &seed::Seeded) -> Self {
        let marker = seeded.clusters[seeded.clusters.len() / 2];
        let time = async |path: &str, count: usize| {
            let asked = load::get(path, token);
            load::one(address, &asked, 200, 10).await;
            load::one(address, &asked, 200, count).await.percentile(0.99)
        };
        Self {
            list: time("/v1/clusters", 200).await,
            detail: time("/v1/clusters/detail", 200).await,
            middle: time(&format!("/v1/clusters?marker={marker}"), 200).await,
            by_name: time("/v1/clusters?sort_key=name", 20).await,
            stats: time("/v1/stats", 20).await,
        }
    }
}

/// The same pages of a hundred times as many clusters.
async fn many_clusters(
    cloud: &LabCloud,
    token: &str,
    project: &str,
    user: &str,
    few: &Pages,
) -> Vec<Row> {
    let place = tempfile::tempdir().unwrap();
    let seeded =
        seed::clusters(place.path(), MANY_CLUSTERS, project, user, Credentials::None).await;
    let port = free_port();
    let config = configuration(place.path(), &cloud.identity_url(), port);
    let began = Instant::now();
    let mut daemon = Daemon::start(&config);
    let address: SocketAddr = ([127, 0, 0, 1], port).into();
    until_ready(address).await;
    let started = began.elapsed();
    // The conductor's first look at all of them is over.
    tokio::time::sleep(Duration::from_secs(2)).await;
    let many = Pages::measure(address, token, &seeded).await;
    let ratio = |many: Duration, few: Duration| {
        format!("{} ({:.1}×)", millis(many), many.as_secs_f64() / few.as_secs_f64())
    };
    let rows = vec![
        Row("start to ready, 100 000 clusters", millis(started), ""),
        Row("1 000 of 100 000, list, p99", ratio(many.list, few.list), "≤ 2×"),
        Row("1 000 of 100 000, detail, p99", ratio(many.detail, few.detail), "≤ 2×"),
        Row("1 000 from the middle, p99", ratio(many.middle, few.list), "≤ 2×"),
        Row("1 000 of 100 000 by name, p99", millis(many.by_name), ""),
        Row("stats of 100 000, p99", millis(many.stats), ""),
        Row("resident memory, after that", daemon.resident(), ""),
    ];
    daemon.end();
    rows
}

/// A start with many clusters, and backups while they are served.
async fn ten_thousand(identity: &str, project: &str, user: &str) -> [Row; 3] {
    let place = tempfile::tempdir().unwrap();
    let port = free_port();
    seed::clusters(place.path(), 10_000, project, user, Credentials::Seeded).await;
    let config = configuration(place.path(), identity, port);
    let began = Instant::now();
    let mut daemon = Daemon::start(&config);
    until_ready(([127, 0, 0, 1], port).into()).await;
    let started = began.elapsed();
    let verb = |arguments: &[&str]| {
        let began = Instant::now();
        let mut command = Command::new(env!("CARGO_BIN_EXE_magnumd"));
        let output = command.args(arguments).arg("--config").arg(&config).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        began.elapsed()
    };
    let file = place.path().join("backup");
    let times = [0; 3].map(|_| verb(&["backup", file.to_str().unwrap(), "--force"]));
    let verified = verb(&["verify"]);
    daemon.end();
    [
        Row("start to ready, 10 000 clusters", millis(started), "≤ 500 ms"),
        Row(
            "backup of 10 000 clusters, worst of 3",
            millis(times[0].max(times[1]).max(times[2])),
            "< 1 s",
        ),
        Row("verify of 10 000 clusters", millis(verified), ""),
    ]
}

/// Creations of clusters without end; each answer is durable when it comes.
async fn post(address: SocketAddr, token: &str) -> String {
    let mut line = load::Line::open(address).await;
    let template = json!({
        "name": "speed", "coe": "kubernetes", "image_id": "ubuntu", "keypair_id": "default",
        "external_network_id": "public", "flavor_id": "m1.small", "master_flavor_id": "m1.small",
    });
    let asked = load::post("/v1/clustertemplates", token, &template.to_string());
    let (status, body) = line.ask(&asked).await;
    assert_eq!(status, 201, "{}", String::from_utf8_lossy(&body));
    let asked = json!({"cluster_template_id": "speed", "node_count": 1}).to_string();
    let asked = load::post("/v1/clusters", token, &asked);
    // Fewer than lanes, so that what is measured is the answer and not the building.
    let times = load::one(address, &asked, 202, 100).await;
    format!("{} (p50 {})", millis(times.percentile(0.99)), millis(times.percentile(0.5)))
}

fn millis(time: Duration) -> String {
    format!("{:.2} ms", time.as_secs_f64() * 1e3)
}

fn micros(time: Duration) -> String {
    format!("{:.2} µs", time.as_secs_f64() * 1e6)
}

/// Answers every request with the same bytes.
struct Echo(Vec<u8>);

impl Service for Echo {
    async fn handle(&self, _: Request) -> Response {
        response(StatusCode::OK, "application/json", self.0.clone())
    }
}

async fn bare_hyper(body: Vec<u8>, stop: CancellationToken) -> SocketAddr {
    let listener = HttpListener::bind(([127, 0, 0, 1], 0).into(), Limits::default()).await.unwrap();
    let address = listener.address().unwrap();
    tokio::spawn(listener.serve(Arc::new(Echo(body)), stop));
    address
}

struct Daemon(Child);

impl Daemon {
    fn start(config: &Path) -> Self {
        let child = Command::new(env!("CARGO_BIN_EXE_magnumd"))
            .args(["serve", "--config"])
            .arg(config)
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        Self(child)
    }

    /// VmRSS of proc(5).
    fn resident(&self) -> String {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.0.id())).unwrap();
        let line = status.lines().find(|l| l.starts_with("VmRSS")).unwrap();
        let kib: f64 = line.split_whitespace().nth(1).unwrap().parse().unwrap();
        format!("{:.1} MB", kib * 1024.0 / 1e6)
    }

    fn end(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

async fn until_ready(address: SocketAddr) {
    let began = Instant::now();
    loop {
        if tokio::net::TcpStream::connect(address).await.is_ok() {
            let (status, _) = load::Line::open(address).await.ask(&load::get("/", "")).await;
            assert!(status < 500, "{status}");
            return;
        }
        assert!(began.elapsed() < Duration::from_secs(20), "the daemon does not start");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

/// A token of `demo`, its project and its user.
async fn log_in(identity: &str) -> (String, String, String) {
    let http =
        HttpClient::new(tls::client_config(&Trust::default()).unwrap(), Duration::from_secs(5));
    let user = json!({"name": "demo", "domain": {"id": "default"}, "password": "secret"});
    let body = json!({"auth": {
        "identity": {"methods": ["password"], "password": {"user": user}},
        "scope": {"project": {"name": "demo", "domain": {"id": "default"}}},
    }});
    let asked = Outgoing::new(Method::POST, format!("{identity}/auth/tokens")).json(&body);
    let answer = http.send(asked).await.unwrap();
    let token = answer.header("x-subject-token").unwrap().to_owned();
    let body: Value = serde_json::from_slice(&answer.body).unwrap();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    (token, text(&body["token"]["project"]["id"]), text(&body["token"]["user"]["id"]))
}

fn configuration(place: &Path, identity: &str, port: u16) -> std::path::PathBuf {
    let (discovery, bootstrap) = (free_port(), free_port());
    let text = format!(
        "[keystone]\nauth_url = '{identity}'\nusername = 'magnum'\npassword = 'secret'\n\
         [trust]\ndomain_name = 'magnum'\nadmin_name = 'magnum_domain_admin'\n\
         admin_password = 'secret'\n\
         [api]\nlisten = '127.0.0.1:{port}'\n\
         [discovery]\nlisten = '127.0.0.1:{discovery}'\n\
         advertise_url = 'http://127.0.0.1:{discovery}'\n\
         [bootstrap]\nlisten = '127.0.0.1:{bootstrap}'\n\
         advertise_url = 'https://127.0.0.1:{bootstrap}'\n\
         [quota]\nmax_clusters_per_project = 100000\n\
         [periodic]\nhealth_interval = '0s'\n\
         [storage]\npath = '{place}'\n",
        place = place.display(),
    );
    let path = place.join("magnumd.toml");
    std::fs::write(&path, text).unwrap();
    path
}

fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}
