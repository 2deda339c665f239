//! Signals and the service manager.

use std::os::unix::net::UnixDatagram;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use hyper::{Method, StatusCode};
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::load::Load;
use crate::process::{PATIENCE, Site};

/// A service manager that hears what it is told.
struct Manager(mpsc::Receiver<String>);

impl Manager {
    fn listen(path: &std::path::Path) -> Self {
        let socket = UnixDatagram::bind(path).unwrap();
        let (told, heard) = mpsc::channel();
        std::thread::spawn(move || {
            let mut message = [0; 4096];
            while let Ok(length) = socket.recv(&mut message) {
                let text = String::from_utf8_lossy(&message[..length]).into_owned();
                if told.send(text).is_err() {
                    return;
                }
            }
        });
        Self(heard)
    }

    /// The next message with this line; those before it are forgotten.
    fn hears(&self, line: &str) -> String {
        let began = Instant::now();
        loop {
            let left = PATIENCE.saturating_sub(began.elapsed());
            let message = self.0.recv_timeout(left).unwrap_or_else(|_| panic!("never {line}"));
            if message.lines().any(|l| l == line) {
                return message;
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_service_manager_is_told_how_it_goes() {
    let site = Site::new().await;
    let socket = site.folder().join("notify");
    let manager = Manager::listen(&socket);
    let mut command = site.command();
    command.env("NOTIFY_SOCKET", &socket).env("WATCHDOG_USEC", "600000");
    let mut magnumd = site.start(command).await;
    manager.hears("READY=1");
    for _ in 0..3 {
        manager.hears("WATCHDOG=1");
    }
    let reloaded = [(); 2].map(|()| {
        magnumd.signal(Signal::HUP);
        let reloading = manager.hears("RELOADING=1");
        manager.hears("READY=1");
        let stamp = reloading.lines().find_map(|l| l.strip_prefix("MONOTONIC_USEC="));
        stamp.unwrap_or_else(|| panic!("{reloading}")).parse::<u64>().unwrap()
    });
    assert!(0 < reloaded[0] && reloaded[0] < reloaded[1], "{reloaded:?}");
    magnumd.signal(Signal::TERM);
    let stopping = manager.hears("STOPPING=1");
    assert!(stopping.contains("EXTEND_TIMEOUT_USEC=") && stopping.contains("STATUS=stopping"));
    assert_eq!(magnumd.wait(), 0);
    assert!(magnumd.log().contains("stopped"));
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_that_was_accepted_fails_when_it_reloads() {
    let site = Site::new().await;
    let magnumd = site.start(site.command()).await;
    let token = site.token().await;
    let address = format!("127.0.0.1:{}", site.port);
    let load = Load::start(address, "/v1/clusters", &token, 8);
    for turn in 1..=20 {
        tokio::time::sleep(Duration::from_millis(100)).await;
        // What is taken over, and what is refused.
        match turn % 3 {
            0 => site.write("[api"),
            _ => site.write(&site.with("[log]", LEVELS[turn % 2])),
        }
        magnumd.signal(Signal::HUP);
    }
    magnumd.says("the configuration has been read again").await;
    magnumd.says("the configuration is not usable; the one before stays").await;
    while load.answered() <= 200 {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let (answered, failed) = load.end().await;
    assert_eq!(failed, 0, "{}", magnumd.log());
    assert!(answered > 200, "{answered} answers are no load");
}

const LEVELS: [&str; 2] = ["level = 'info'", "level = 'info,magnumd=debug'"];

#[tokio::test(flavor = "multi_thread")]
async fn nothing_that_was_accepted_fails_when_it_stops() {
    let site = Site::with_faults(&["glance:GET:*:delay=1500ms"]).await;
    let mut magnumd = site.start(site.command()).await;
    let token = site.token().await;
    let made = magnumd.add_template(&token, "k8s", &json!({})).await;
    assert_eq!(made.status, StatusCode::CREATED, "{:?}", made.body);
    for round in 0..3 {
        let address = format!("127.0.0.1:{}", site.port);
        let mut load = Load::start(address, "/v1/clustertemplates", &token, 8);
        // Until it is a load, however slow this machine is.
        while load.answered() <= 100 {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        // Slow, and under way when the signal comes.
        let name = format!("slow-{round}");
        let asked = json!({
            "name": name, "coe": "kubernetes", "image_id": "ubuntu-2", "keypair_id": "default",
            "external_network_id": "public", "flavor_id": "m1.small", "network_driver": "flannel",
        });
        let path = "/v1/clustertemplates";
        let slow = magnumd.ask(Method::POST, path, &token, Some(&asked));
        let signalled = async {
            tokio::time::sleep(Duration::from_millis(700)).await;
            magnumd.signal(Signal::TERM);
        };
        let (slow, ()) = tokio::join!(slow, signalled);
        assert!(slow.status.as_u16() < 500, "{:?}", slow.body);
        let (answered, failed) = load.refused().await;
        assert_eq!(failed, 0, "{answered} answered; {}", magnumd.log());
        assert!(answered > 100, "{answered} answers are no load");
        assert_eq!(magnumd.wait(), 0);
        magnumd = site.start(site.command()).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_signal_stops_at_once() {
    let site = Site::with_faults(&["glance:GET:*:delay=20s"]).await;
    let mut magnumd = site.start(site.command()).await;
    let token = site.token().await;
    let address = format!("127.0.0.1:{}", site.port);
    // Keeps the door from closing.
    let body = json!({"name": "k8s", "coe": "kubernetes", "image_id": "ubuntu",
        "external_network_id": "public"})
    .to_string();
    let mut slow = std::net::TcpStream::connect(&address).unwrap();
    let request = format!(
        "POST /v1/clustertemplates HTTP/1.1\r\nHost: x\r\nX-Auth-Token: {token}\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    std::io::Write::write_all(&mut slow, request.as_bytes()).unwrap();
    tokio::time::sleep(Duration::from_millis(500)).await;
    magnumd.signal(Signal::TERM);
    magnumd.says("a second signal stops at once").await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    let began = Instant::now();
    magnumd.signal(Signal::TERM);
    assert_eq!(magnumd.wait(), 130);
    assert!(began.elapsed() < Duration::from_secs(2));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reload_takes_over_what_it_can_and_names_the_rest() {
    let site = Site::new().await;
    let magnumd = site.start(site.command()).await;
    let token = site.token().await;
    assert_eq!(magnumd.get("/v1/clustertemplates", &token).await.0, 200);
    assert!(!magnumd.log().contains("DEBUG"));

    let rules = site.folder().join("strict.yaml");
    std::fs::write(&rules, "\"clustertemplate:get_all\": \"!\"\n").unwrap();
    let strict = site.with("[policy]", "file = 'strict.yaml'\n[log]\nlevel = 'debug'");
    site.write(&strict.replace("[storage]", "[quota]\nmax_clusters_per_project = 1\n[storage]"));
    magnumd.signal(Signal::HUP);
    magnumd.says("the configuration has been read again").await;
    assert_eq!(magnumd.get("/v1/clustertemplates", &token).await.0, 403);
    let log = magnumd.log();
    assert!(log.contains("DEBUG"), "{log}");
    let rest: Vec<&str> = log.lines().filter(|l| l.contains("needs a restart")).collect();
    assert_eq!(rest.len(), 1, "{rest:?}");
    assert!(rest[0].contains("quota.max_clusters_per_project"), "{rest:?}");

    // Rules that are not there: nothing of this configuration counts, its level neither.
    site.write(&site.with("[policy]", "file = 'nowhere.yaml'\n[log]\nlevel = 'error'"));
    magnumd.signal(Signal::HUP);
    magnumd.says("the configuration is not usable; the one before stays").await;
    assert!(magnumd.log().contains("nowhere.yaml: there is no such file"), "{}", magnumd.log());
    assert_eq!(magnumd.get("/v1/clustertemplates", &token).await.0, 403);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_line_of_a_request_and_of_its_operation_carries_their_names() {
    let mut site = Site::new().await;
    site.configure("[log]", "format = 'json'\nlevel = 'magnumd=debug'");
    let magnumd = site.start(site.command()).await;
    let token = site.token().await;
    let labels = json!({"etcd_bootstrap": "discovery"});
    assert_eq!(magnumd.add_template(&token, "k8s", &labels).await.status, StatusCode::CREATED);
    let asked = json!({"name": "named", "cluster_template_id": "k8s", "node_count": 1});
    let answer = magnumd.ask(Method::POST, "/v1/clusters", &token, Some(&asked)).await;
    assert_eq!(answer.status, StatusCode::ACCEPTED, "{:?}", answer.body);
    let request_id = answer.header("x-openstack-request-id").unwrap().to_owned();
    let cluster: Value = serde_json::from_slice(&answer.body).unwrap();
    let cluster = cluster["uuid"].as_str().unwrap();

    // Heat is asked by the operation, long after the answer.
    let of_operation = |line: &&Value| line["fields"]["service"] == "Heat";
    let began = Instant::now();
    let lines = loop {
        let lines: Vec<Value> =
            magnumd.log().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        if lines.iter().any(|line| of_operation(&line)) {
            break lines;
        }
        assert!(began.elapsed() < PATIENCE, "{}", magnumd.log());
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    let has = |line: &Value, field: &str, value: &str| {
        line["spans"].as_array().is_some_and(|s| s.iter().any(|span| span[field] == value))
    };
    for line in lines.iter().filter(of_operation) {
        assert!(has(line, "cluster", cluster), "{line}");
        assert!(has(line, "operation", "create"), "{line}");
        assert!(has(line, "request_id", &request_id), "{line}");
    }
    let own =
        |line: &&Value| has(line, "request_id", &request_id) && line["span"]["name"] == "request";
    let of_request: Vec<&Value> = lines.iter().filter(own).collect();
    assert!(of_request.len() >= 2, "Nova was asked, and the request was answered: {of_request:?}");
    let last = of_request.iter().find(|l| l["fields"]["message"] == "request").unwrap();
    assert!(has(last, "cluster", cluster), "{last}");

    // What nodes do is a request like any other.
    for message in ["node claimed", "etcd member registered"] {
        magnumd.says(message).await;
        let log = magnumd.log();
        let line = log.lines().find(|line| line.contains(message)).unwrap();
        let line: Value = serde_json::from_str(line).unwrap();
        let id = line["span"]["request_id"].as_str().unwrap_or_else(|| panic!("{line}"));
        assert!(id.starts_with("req-") && id != request_id, "{line}");
        assert_eq!(line["fields"]["cluster"], cluster, "{line}");
    }
}
