//! What one tenant's haste costs another: many creations at once, a node that asks without end,
//! lists of the largest templates.
//!
//! `cargo bench --bench fair [-- WHAT…]` prints a table; WHAT is any of `keys`, `creations`,
//! `flood`, `lists`. `MAGNUMD_BENCH_PROGRAM` measures another build than the one just made,
//! `MAGNUMD_BENCH_CREATIONS` fewer clusters than 300. The simulated cloud shares the machine, so the
//! figures are upper bounds.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a benchmark prints and unwraps")]

#[allow(dead_code, reason = "the other benchmark uses more of it")]
mod load;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hyper::header::{AUTHORIZATION, HeaderName};
use hyper::{Method, StatusCode};
use magnumd::base::http::client::{Answer, HttpClient, HttpError, Outgoing};
use magnumd::base::http::tls::{self, Trust};
use magnumd::base::id::Entropy;
use magnumd::lab::{LabCloud, LabOptions};
use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_RSA_SHA256, RsaKeySize};
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

const TOKEN: HeaderName = HeaderName::from_static("x-auth-token");
const INSTANCE: HeaderName = HeaderName::from_static("x-magnumd-instance");
/// Longer than anything here may take.
const PATIENCE: Duration = Duration::from_secs(900);
/// What one template may bring, nearly.
const LABEL_BYTES: usize = 63 << 10;
const TEMPLATES: usize = 200;
const LISTS: usize = 8;
const FLOODERS: usize = 64;

struct Row(String, String, &'static str);

#[tokio::main]
async fn main() {
    tls::install_provider();
    let wanted: Vec<String> = std::env::args().skip(1).filter(|a| !a.starts_with('-')).collect();
    let wants = |what: &str| wanted.is_empty() || wanted.iter().any(|w| w == what);
    let mut rows = Vec::new();
    if wants("keys") {
        rows.extend(keys());
    }
    if wants("creations") {
        rows.extend(creations().await);
    }
    if wants("flood") {
        rows.extend(flood().await);
    }
    if wants("lists") {
        rows.extend(lists().await);
    }
    println!("\n{:<58} {:>12}   target", "what", "measured");
    for Row(what, figure, target) in rows {
        println!("{what:<58} {figure:>12}   {target}");
    }
}

/// What a key costs, on one thread.
fn keys() -> Vec<Row> {
    let mean = |draw: &dyn Fn() -> KeyPair, count: u32| {
        let began = Instant::now();
        (0..count).for_each(|_| drop(draw()));
        format!("{:.2} ms", (began.elapsed() / count).as_secs_f64() * 1e3)
    };
    let rsa = |size| KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, size).unwrap();
    vec![
        Row("an RSA key of 2048 bits".into(), mean(&|| rsa(RsaKeySize::_2048), 40), ""),
        Row("an RSA key of 4096 bits".into(), mean(&|| rsa(RsaKeySize::_4096), 8), ""),
        Row(
            "an ECDSA key on P-256".into(),
            mean(&|| KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap(), 400),
            "",
        ),
    ]
}

/// All at once, and deletions of another tenant while they are built.
async fn creations() -> Vec<Row> {
    let count = std::env::var("MAGNUMD_BENCH_CREATIONS").map_or(300, |n| n.parse().unwrap());
    let site = Site::new().await;
    for (resource, each) in [("instances", 2), ("cores", 2), ("networks", 1), ("subnets", 1)] {
        site.cloud.set_quota("demo", resource, each * count + 10);
    }
    for (resource, each) in
        [("ports", 9), ("routers", 1), ("security-groups", 3), ("floatingips", 4)]
    {
        site.cloud.set_quota("demo", resource, each * count + 10);
    }
    let (demo, alt) = (site.token("demo").await, site.token("alt").await);
    site.template(&demo).await;
    site.template(&alt).await;
    let mut victims = Vec::new();
    for name in ["v0", "v1", "v2", "v3"] {
        victims.push(site.built(&alt, name).await);
    }
    let undisturbed = site.deleted(&alt, &victims[0]).await;

    let began = Instant::now();
    let mut asked = JoinSet::new();
    for line in 0..16 {
        let (site, demo) = (Arc::clone(&site), demo.clone());
        asked.spawn(async move {
            for n in (line..count).step_by(16) {
                site.create(&demo, &format!("k{n}")).await;
            }
        });
    }
    asked.join_all().await;
    let accepted = began.elapsed();
    let deletions = tokio::spawn({
        let (site, alt) = (Arc::clone(&site), alt.clone());
        async move {
            let mut longest = Duration::ZERO;
            for victim in &victims[1..] {
                let took = site.deleted(&alt, victim).await;
                println!("another tenant's deletion: {took:.2?} at {:.0?}", began.elapsed());
                longest = longest.max(took);
                tokio::time::sleep(Duration::from_secs(10)).await;
            }
            longest
        }
    });
    let (mut first, mut shown, mut failed) = (None, Instant::now(), 0);
    loop {
        let list = site.get(&demo, "/v1/clusters").await;
        let all = list["clusters"].as_array().unwrap();
        let of = |status: &str| all.iter().filter(|c| c["status"] == status).count();
        let complete = of("CREATE_COMPLETE");
        failed = failed.max(of("CREATE_FAILED"));
        if complete > 0 {
            first.get_or_insert(began.elapsed());
        }
        if shown.elapsed() > Duration::from_secs(10) {
            shown = Instant::now();
            println!(
                "{complete} of {count} complete, {failed} failed, {} servers at {:.0?}",
                site.cloud.count("servers"),
                began.elapsed()
            );
        }
        if complete + failed >= count || began.elapsed() > PATIENCE {
            println!("{complete} of {count} complete, {failed} failed");
            break;
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    let all = began.elapsed();
    let longest = deletions.await.unwrap();
    vec![
        Row("a deletion, undisturbed".into(), seconds(undisturbed), ""),
        Row(format!("{count} creations at once: accepted"), seconds(accepted), ""),
        Row(
            format!("{count} creations: first complete"),
            first.map_or("none".into(), seconds),
            "≤ 10 s",
        ),
        Row(format!("{count} creations: all complete ({failed} failed)"), seconds(all), "≤ 240 s"),
        Row("another tenant's deletion meanwhile, longest of 3".into(), seconds(longest), "≤ 2 s"),
    ]
}

/// Creations while somebody asks the bootstrap listener without end, with a worker's token.
async fn flood() -> Vec<Row> {
    let site = Site::new().await;
    let (demo, alt) = (site.token("demo").await, site.token("alt").await);
    site.template(&demo).await;
    site.template(&alt).await;
    let hostile = site.built(&alt, "hostile").await;
    let (node, enrolment) = site.enrolment(&alt, &hostile).await;
    let mean = async |name: &str| {
        let began = Instant::now();
        for n in 0..3 {
            site.built(&demo, &format!("{name}{n}")).await;
        }
        began.elapsed() / 3
    };
    let undisturbed = mean("calm").await;
    let mut rows =
        vec![Row("a creation, undisturbed (mean of 3)".into(), seconds(undisturbed), "")];
    for (what, errand) in [("bundle", None), ("csr", Some("csr"))] {
        let stop = Arc::new(AtomicBool::new(false));
        let (asked, refused) = (Arc::<AtomicU64>::default(), Arc::<AtomicU64>::default());
        let mut flooders = JoinSet::new();
        for n in 0..FLOODERS {
            let (site, stop, asked) = (Arc::clone(&site), Arc::clone(&stop), Arc::clone(&asked));
            let (enrolment, refused) = (enrolment.clone(), Arc::clone(&refused));
            // A name per flooder, as one token of a group speaks for every worker of it.
            let node = format!("{}{}", node.trim_end_matches('0'), 100 + n);
            flooders.spawn(async move {
                let http = HttpClient::new(tls::client_config(&INSECURE).unwrap(), PATIENCE);
                let (csr, entropy) = (certificate_request(), Entropy::new());
                while !stop.load(Ordering::Relaxed) {
                    let path = format!("/bootstrap/v1/{node}/{}", errand.unwrap_or("bundle"));
                    let url = format!("https://127.0.0.1:{}{path}", site.port + 2);
                    let method = if errand.is_some() { Method::POST } else { Method::GET };
                    let mut call = Outgoing::new(method, url)
                        .header(AUTHORIZATION, &format!("Bearer {enrolment}"))
                        .header(INSTANCE, &entropy.uuid().to_string());
                    if errand.is_some() {
                        call = call.json(&json!({"purpose": "kubelet", "csr": csr}));
                    }
                    asked.fetch_add(1, Ordering::Relaxed);
                    match http.send(call).await {
                        Ok(answer) if answer.status == StatusCode::TOO_MANY_REQUESTS => {
                            refused.fetch_add(1, Ordering::Relaxed);
                        }
                        Ok(_) | Err(_) => {}
                    }
                }
            });
        }
        tokio::time::sleep(Duration::from_secs(2)).await;
        let began = Instant::now();
        let before = asked.load(Ordering::Relaxed);
        let disturbed = mean(what).await;
        let rate = (asked.load(Ordering::Relaxed) - before) as f64 / began.elapsed().as_secs_f64();
        stop.store(true, Ordering::Relaxed);
        flooders.join_all().await;
        println!(
            "{what}: {rate:.0} questions a second, {} refused",
            refused.load(Ordering::Relaxed)
        );
        let ratio = disturbed.as_secs_f64() / undisturbed.as_secs_f64();
        rows.push(Row(
            format!("a creation while a worker's token floods ({what})"),
            format!("{} ({ratio:.1}×)", seconds(disturbed)),
            "≤ 2×",
        ));
    }
    rows
}

/// What another tenant's read costs while the largest templates are listed.
async fn lists() -> Vec<Row> {
    let site = Site::new().await;
    let (admin, alt) = (site.token("admin").await, site.token("alt").await);
    site.template(&alt).await;
    let value = "x".repeat(LABEL_BYTES);
    for n in 0..TEMPLATES {
        // Administrators are exempt from the quota.
        let mut template = template();
        (template["name"], template["labels"]) = (json!(format!("t{n}")), json!({"long": value}));
        let (status, body) = site.post(&admin, "/v1/clustertemplates", &template).await;
        assert_eq!(status, 201, "{body}");
    }
    let own = site.get(&alt, "/v1/clustertemplates").await;
    let own = own["clustertemplates"][0]["uuid"].as_str().unwrap().to_owned();
    let address: SocketAddr = ([127, 0, 0, 1], site.port).into();
    let read = load::get(&format!("/v1/clustertemplates/{own}"), &alt);
    let calm = reads(address, &read).await;
    let mut rows = vec![Row("a read, p99, undisturbed".into(), millis(calm.percentile(0.99)), "")];
    for path in ["/v1/clustertemplates", "/v1/clustertemplates?sort_key=name"] {
        let stop = Arc::new(AtomicBool::new(false));
        let (listed, bytes) = (Arc::<AtomicU64>::default(), Arc::<AtomicU64>::default());
        let mut lists = JoinSet::new();
        for _ in 0..LISTS {
            let (stop, asked) = (Arc::clone(&stop), load::get(path, &admin));
            let (listed, bytes) = (Arc::clone(&listed), Arc::clone(&bytes));
            lists.spawn(async move {
                let mut line = load::Line::open(address).await;
                while !stop.load(Ordering::Relaxed) {
                    let (status, body) = line.ask(&asked).await;
                    assert_eq!(status, 200, "{}", String::from_utf8_lossy(&body));
                    bytes.fetch_max(body.len() as u64, Ordering::Relaxed);
                    listed.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
        let began = Instant::now();
        let before = listed.load(Ordering::Relaxed);
        let times = reads(address, &read).await;
        let rate = (listed.load(Ordering::Relaxed) - before) as f64 / began.elapsed().as_secs_f64();
        stop.store(true, Ordering::Relaxed);
        lists.join_all().await;
        println!(
            "{path}: {rate:.1} lists a second, the longest of {} bytes",
            bytes.load(Ordering::Relaxed)
        );
        rows.push(Row(
            format!("a read, p99, while {LISTS} list ({path})"),
            millis(times.percentile(0.99)),
            "< 20 ms",
        ));
    }
    rows
}

/// How long each of the reads took that were made in ten seconds, one after the other.
async fn reads(address: SocketAddr, request: &[u8]) -> load::Times {
    let (began, mut line) = (Instant::now(), load::Line::open(address).await);
    let mut times = Vec::new();
    while began.elapsed() < Duration::from_secs(10) || times.is_empty() {
        let asked = Instant::now();
        assert_eq!(line.ask(request).await.0, 200);
        times.push(asked.elapsed());
        // As a client that looks now and then, not one that floods.
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    load::Times::of(times)
}

fn seconds(time: Duration) -> String {
    format!("{:.2} s", time.as_secs_f64())
}

fn millis(time: Duration) -> String {
    format!("{:.2} ms", time.as_secs_f64() * 1e3)
}

const INSECURE: Trust = Trust { ca_files: Vec::new(), insecure: true };

fn certificate_request() -> String {
    let params = rcgen::CertificateParams::new(Vec::new()).unwrap();
    params.serialize_request(&KeyPair::generate().unwrap()).unwrap().pem().unwrap()
}

fn template() -> Value {
    json!({
        "name": "k8s", "coe": "kubernetes", "image_id": "ubuntu", "keypair_id": "default",
        "external_network_id": "public", "flavor_id": "m1.small", "master_flavor_id": "m1.small",
        "network_driver": "flannel",
    })
}

/// A cloud, and a magnumd that serves it.
struct Site {
    cloud: LabCloud,
    port: u16,
    http: HttpClient,
    program: Child,
    _place: tempfile::TempDir,
}

impl Drop for Site {
    fn drop(&mut self) {
        self.program.kill().unwrap();
        self.program.wait().unwrap();
    }
}

impl Site {
    async fn new() -> Arc<Self> {
        let port = free_ports();
        let options = LabOptions {
            port: None,
            api_url: format!("http://127.0.0.1:{port}/v1"),
            speed: 1.0,
            faults: Vec::new(),
            vendor_data: false,
        };
        let cloud = LabCloud::start(options, CancellationToken::new()).await.unwrap();
        let place = tempfile::tempdir().unwrap();
        let config = configuration(place.path(), &cloud.identity_url(), port);
        let program = std::env::var("MAGNUMD_BENCH_PROGRAM")
            .unwrap_or_else(|_| env!("CARGO_BIN_EXE_magnumd").to_owned());
        let log =
            std::fs::File::create(std::env::temp_dir().join("magnumd-bench-fair.log")).unwrap();
        let program = Command::new(program)
            .args(["serve", "--config"])
            .arg(config)
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        let trust = tls::client_config(&Trust::default()).unwrap();
        let http = HttpClient::new(trust, Duration::from_secs(30));
        let site = Self { cloud, port, http, program, _place: place };
        let began = Instant::now();
        while site.ask(Method::GET, "", "/", None).await.is_err() {
            assert!(began.elapsed() < Duration::from_secs(30), "the daemon does not start");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Arc::new(site)
    }

    async fn ask(
        &self,
        method: Method,
        token: &str,
        path: &str,
        body: Option<&Value>,
    ) -> Result<Answer, HttpError> {
        let url = format!("http://127.0.0.1:{}{path}", self.port);
        let mut asked = Outgoing::new(method, url).header(TOKEN, token).deadline(PATIENCE);
        if let Some(body) = body {
            asked = asked.json(body);
        }
        self.http.send(asked).await
    }

    async fn get(&self, token: &str, path: &str) -> Value {
        let answer = self.ask(Method::GET, token, path, None).await.unwrap();
        serde_json::from_slice(&answer.body).unwrap()
    }

    async fn post(&self, token: &str, path: &str, body: &Value) -> (u16, Value) {
        let answer = self.ask(Method::POST, token, path, Some(body)).await.unwrap();
        (answer.status.as_u16(), serde_json::from_slice(&answer.body).unwrap())
    }

    async fn token(&self, user: &str) -> String {
        let body = json!({"auth": {
            "identity": {"methods": ["password"], "password": {"user": {
                "name": user, "domain": {"id": "default"}, "password": "secret"}}},
            "scope": {"project": {"name": user, "domain": {"id": "default"}}},
        }});
        let url = format!("{}/auth/tokens", self.cloud.identity_url());
        let answer = self.http.send(Outgoing::new(Method::POST, url).json(&body)).await.unwrap();
        answer.header("x-subject-token").unwrap().to_owned()
    }

    async fn template(&self, token: &str) {
        let (status, body) = self.post(token, "/v1/clustertemplates", &template()).await;
        assert_eq!(status, 201, "{body}");
    }

    async fn create(&self, token: &str, name: &str) -> String {
        let asked = json!({"name": name, "cluster_template_id": "k8s"});
        let (status, body) = self.post(token, "/v1/clusters", &asked).await;
        assert_eq!(status, 202, "{body}");
        body["uuid"].as_str().unwrap().to_owned()
    }

    /// A complete cluster.
    async fn built(&self, token: &str, name: &str) -> String {
        let uuid = self.create(token, name).await;
        let began = Instant::now();
        loop {
            let cluster = self.get(token, &format!("/v1/clusters/{uuid}")).await;
            match cluster["status"].as_str().unwrap_or_default() {
                "CREATE_COMPLETE" => return uuid,
                "CREATE_FAILED" => panic!("{cluster}"),
                _ => assert!(began.elapsed() < PATIENCE, "{cluster}"),
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// How long it takes until a cluster is no more.
    async fn deleted(&self, token: &str, uuid: &str) -> Duration {
        let (began, path) = (Instant::now(), format!("/v1/clusters/{uuid}"));
        self.ask(Method::DELETE, token, &path, None).await.unwrap();
        loop {
            let answer = self.ask(Method::GET, token, &path, None).await.unwrap();
            if answer.status == StatusCode::NOT_FOUND {
                return began.elapsed();
            }
            assert!(began.elapsed() < PATIENCE, "{:?}", answer.body);
            tokio::time::sleep(Duration::from_millis(25)).await;
        }
    }

    /// A worker's name and the token in its user data, as Heat shows it to the project.
    async fn enrolment(&self, token: &str, uuid: &str) -> (String, String) {
        let cluster = self.get(token, &format!("/v1/clusters/{uuid}")).await;
        let project = cluster["project_id"].as_str().unwrap();
        let heat = self.cloud.endpoint("orchestration").replace("%(tenant_id)s", project);
        let call = async |path: String| {
            let asked = Outgoing::new(Method::GET, format!("{heat}{path}")).header(TOKEN, token);
            serde_json::from_slice::<Value>(&self.http.send(asked).await.unwrap().body).unwrap()
        };
        let list = call("/stacks".to_owned()).await;
        let all = list["stacks"].as_array().unwrap();
        let own = all.iter().find(|s| s["id"] == cluster["stack_id"]).unwrap();
        let (name, id) = (own["stack_name"].as_str().unwrap(), own["id"].as_str().unwrap());
        let mut said = call(format!("/stacks/{name}/{id}/files")).await.to_string();
        said.push_str(&call(format!("/stacks/{name}/{id}/template")).await.to_string());
        said.push_str(&call(format!("/stacks/{name}/{id}")).await.to_string());
        let is_part = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        let found = said.split(|c| !is_part(c)).find(|word| {
            let claims = word.split_once('.').and_then(|(c, _)| URL_SAFE_NO_PAD.decode(c).ok());
            claims.is_some_and(|c| String::from_utf8_lossy(&c).contains(r#""r":"worker""#))
        });
        (format!("{name}-node-0"), found.expect("a worker's token").to_owned())
    }
}

fn configuration(place: &Path, identity: &str, port: u16) -> PathBuf {
    let text = format!(
        "[keystone]\nauth_url = '{identity}'\nusername = 'magnum'\npassword = 'secret'\n\
         [trust]\ndomain_name = 'magnum'\nadmin_name = 'magnum_domain_admin'\n\
         admin_password = 'secret'\n\
         [api]\nlisten = '127.0.0.1:{port}'\n\
         [discovery]\nlisten = '127.0.0.1:{discovery}'\n\
         advertise_url = 'http://127.0.0.1:{discovery}'\nallow_loopback = true\n\
         [bootstrap]\nlisten = '127.0.0.1:{bootstrap}'\n\
         advertise_url = 'https://127.0.0.1:{bootstrap}'\n\
         [quota]\nmax_clusters_per_project = 10000\n\
         [storage]\npath = '{place}'\n",
        discovery = port + 1,
        bootstrap = port + 2,
        place = place.display(),
    );
    let path = place.join("magnumd.toml");
    std::fs::write(&path, text).unwrap();
    path
}

/// The first of three ports that are free now.
fn free_ports() -> u16 {
    let mut port = 18_000 + u16::try_from(std::process::id() % 1000).unwrap();
    while !(port..port + 3).all(|p| std::net::TcpListener::bind(("127.0.0.1", p)).is_ok()) {
        port += 3;
    }
    port
}
