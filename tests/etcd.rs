//! Real etcd members against the discovery door. Needs a binary of etcd 3.2 to 3.6:
//! `MAGNUMD_TEST_ETCD=/usr/bin/etcd cargo test --test etcd -- --ignored`

#![allow(clippy::unwrap_used, reason = "a test panics where it fails")]

use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use hyper::Method;
use magnumd::base::clock::Clock;
use magnumd::base::http::client::{HttpClient, Outgoing};
use magnumd::base::http::server::Door;
use magnumd::base::http::tls::pinned_client_config;
use magnumd::base::id::Entropy;
use magnumd::base::secret::Sealer;
use magnumd::discovery::{Discovery, Parts, limits};
use magnumd::model::ClusterId;
use magnumd::model::discovery::{DiscoveryToken, TokenState};
use magnumd::store::{Change, Store};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

const TOKEN: &str = "0123456789abcdef0123456789abcdef";

struct Member {
    client: u16,
    process: Child,
}

impl Member {
    fn start(folder: &Path, number: usize, ports: (u16, u16), url: &str) -> Self {
        let binary = std::env::var("MAGNUMD_TEST_ETCD").unwrap_or_else(|_| "etcd".to_owned());
        let (client, peer) =
            (format!("http://127.0.0.1:{}", ports.0), format!("http://127.0.0.1:{}", ports.1));
        let log = std::fs::File::create(folder.join(format!("m{number}.log"))).unwrap();
        let process = Command::new(binary)
            .args(["--name", &format!("m{number}"), "--discovery", url])
            .args(["--discovery-fallback", "exit"])
            .arg("--data-dir")
            .arg(folder.join(format!("m{number}")))
            .args(["--listen-client-urls", &client, "--advertise-client-urls", &client])
            .args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        Self { client: ports.0, process }
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }
}

fn free_ports() -> (u16, u16) {
    let [one, two] = [0, 0].map(|_| TcpListener::bind("127.0.0.1:0").unwrap());
    (one.local_addr().unwrap().port(), two.local_addr().unwrap().port())
}

async fn is_healthy(client: &HttpClient, port: u16) -> bool {
    let ask = Outgoing::new(Method::GET, format!("http://127.0.0.1:{port}/health"));
    match client.send(ask.deadline(Duration::from_secs(5))).await {
        Ok(answer) => answer.body.windows(6).any(|w| w == b"\"true\""),
        Err(_) => false,
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs an etcd binary"]
async fn three_members_form_a_cluster_though_one_is_killed_while_it_waits() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(&folder.path().join("state.redb"), Sealer::new(&[1; 32])).unwrap();
    let clock = Clock::real();
    let now = clock.now();
    let token = DiscoveryToken::issue(
        TOKEN.to_owned(),
        ClusterId::new(Uuid::from_u128(7)),
        3,
        ["m0", "m1", "m2"].map(str::to_owned).to_vec(),
        Some("10.0.0.0/24".to_owned()),
        now,
        now.plus(Duration::from_secs(3600)),
    );
    store.commit(Change::new().put(&token)).await.unwrap();
    let stop = CancellationToken::new();
    let service = Discovery::new(Parts {
        store: store.clone(),
        clock,
        entropy: Entropy::new(),
        allow_loopback: true,
        advertise_url: "http://127.0.0.1:9512/with/a/path".to_owned(),
        stop: stop.clone(),
    });
    let door = Door::bind(([127, 0, 0, 1], 0).into(), limits()).await.unwrap();
    let url = format!("http://{}/with/a/path/{TOKEN}", door.address().unwrap());
    let serving = tokio::spawn(door.serve(Arc::new(service), stop.clone()));
    let registered = || store.read(|v| v.discovery(TOKEN)).unwrap().unwrap().members.len();
    let wait_for = async |count: usize| {
        for _ in 0..100 {
            if registered() == count {
                return;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        panic!("{} of {count} members registered", registered());
    };
    let ports = [free_ports(), free_ports(), free_ports()];
    let first = Member::start(folder.path(), 0, ports[0], &url);
    let second = Member::start(folder.path(), 1, ports[1], &url);
    wait_for(2).await;
    drop(second);
    let second = Member::start(folder.path(), 1, ports[1], &url);
    tokio::time::sleep(Duration::from_secs(1)).await;
    let third = Member::start(folder.path(), 2, ports[2], &url);
    wait_for(3).await;
    let client = HttpClient::new(pinned_client_config("").unwrap(), Duration::from_secs(2));
    for member in [&first, &second, &third] {
        let mut healthy = false;
        for _ in 0..100 {
            healthy = is_healthy(&client, member.client).await;
            if healthy {
                break;
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        let logs: Vec<String> = (0..3)
            .map(|i| std::fs::read_to_string(folder.path().join(format!("m{i}.log"))).unwrap())
            .collect();
        assert!(healthy, "{}", logs.join("\n----\n"));
    }
    let token = store.read(|v| v.discovery(TOKEN)).unwrap().unwrap();
    assert_eq!(token.state, TokenState::Complete);
    stop.cancel();
    serving.await.unwrap();
}
