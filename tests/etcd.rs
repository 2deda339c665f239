//! Real etcd members and etcd's own client against the discovery door. Members need a binary,
//! of etcd 3.2 to 3.6 for the plain protocol and of 3.6 or later for gRPC:
//! `MAGNUMD_TEST_ETCD=/usr/bin/etcd MAGNUMD_TEST_ETCD_V3=… cargo test --test etcd -- --ignored`

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test panics, or says why not")]

use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use hyper::Method;
use magnumd::base::clock::Clock;
use magnumd::base::http::client::{HttpClient, Outgoing};
use magnumd::base::http::server::HttpListener;
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

/// How a member finds the others.
enum Discovered<'u> {
    ByUrl(&'u str),
    ByToken { endpoint: &'u str },
}

struct Member {
    client: u16,
    process: Child,
}

impl Member {
    fn start(folder: &Path, number: usize, ports: (u16, u16), by: &Discovered<'_>) -> Self {
        let (variable, how) = match by {
            Discovered::ByUrl(url) => {
                ("MAGNUMD_TEST_ETCD", ["--discovery", url, "--discovery-fallback", "exit"])
            }
            Discovered::ByToken { endpoint } => (
                "MAGNUMD_TEST_ETCD_V3",
                ["--discovery-token", TOKEN, "--discovery-endpoints", endpoint],
            ),
        };
        let binary = std::env::var(variable).unwrap_or_else(|_| "etcd".to_owned());
        let (client, peer) =
            (format!("http://127.0.0.1:{}", ports.0), format!("http://127.0.0.1:{}", ports.1));
        let log = folder.join(format!("m{number}.log"));
        let log = std::fs::File::options().create(true).append(true).open(log).unwrap();
        let process = Command::new(binary)
            .args(["--name", &format!("m{number}")])
            .args(how)
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

    /// Whether it has ended by itself.
    fn has_ended(&mut self) -> bool {
        self.process.try_wait().unwrap().is_some()
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

/// The discovery door with one token for three members, on a real state file.
struct Place {
    folder: tempfile::TempDir,
    store: Store,
    address: SocketAddr,
    stop: CancellationToken,
    serving: tokio::task::JoinHandle<()>,
}

impl Place {
    async fn open() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&folder.path().join("state.redb"), Sealer::new(&[1; 32])).unwrap();
        let now = Clock::real().now();
        let token = DiscoveryToken::issue(
            TOKEN,
            ClusterId::new(Uuid::from_u128(7)),
            3,
            ["m0", "m1", "m2"].map(str::to_owned).to_vec(),
            Some("10.0.0.0/24".to_owned()),
            now,
            now.plus(Duration::from_secs(3600)),
        );
        store.commit(Change::new().put(&token)).await.unwrap();
        let any = ([127, 0, 0, 1], 0).into();
        let (address, stop, serving) = serve(&store, any).await;
        Self { folder, store, address, stop, serving }
    }

    /// As after a kill: everything in memory is gone, the address is the same.
    async fn restart(self) -> Self {
        let Self { folder, store, address, stop, serving } = self;
        stop.cancel();
        serving.await.unwrap();
        drop(store);
        let store = Store::open(&folder.path().join("state.redb"), Sealer::new(&[1; 32])).unwrap();
        let (address, stop, serving) = serve(&store, address).await;
        Self { folder, store, address, stop, serving }
    }

    fn registered(&self) -> usize {
        self.store.read(|v| v.discovery(TOKEN)).unwrap().unwrap().members.len()
    }

    async fn wait_for(&self, count: usize) {
        for _ in 0..300 {
            if self.registered() == count {
                return;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        panic!("{} of {count} members registered\n{}", self.registered(), self.logs());
    }

    fn logs(&self) -> String {
        let log = |i| self.folder.path().join(format!("m{i}.log"));
        let logs = (0..3).map(|i| std::fs::read_to_string(log(i)).unwrap_or_default());
        logs.collect::<Vec<_>>().join("\n----\n")
    }
}

async fn serve(
    store: &Store,
    address: SocketAddr,
) -> (SocketAddr, CancellationToken, tokio::task::JoinHandle<()>) {
    let stop = CancellationToken::new();
    let service = Discovery::new(Parts {
        store: store.clone(),
        clock: Clock::real(),
        entropy: Entropy::new(),
        allow_loopback: true,
        trusted: Vec::new(),
        advertise_url: "http://127.0.0.1:9512/with/a/path".to_owned(),
        stop: stop.clone(),
    });
    let door = HttpListener::bind(address, limits()).await.unwrap();
    let address = door.address().unwrap();
    let serving = tokio::spawn(door.serve(Arc::new(service), stop.clone()));
    (address, stop, serving)
}

/// One is killed while it waits, then the service is; the third comes, all are healthy, and a
/// fourth finds no place.
async fn three_members_form_a_cluster(place: Place, by: &Discovered<'_>) {
    let folder = place.folder.path().to_owned();
    let ports = [free_ports(), free_ports(), free_ports(), free_ports()];
    let first = Member::start(&folder, 0, ports[0], by);
    let second = Member::start(&folder, 1, ports[1], by);
    place.wait_for(2).await;
    drop(second);
    let second = Member::start(&folder, 1, ports[1], by);
    tokio::time::sleep(Duration::from_secs(1)).await;
    let place = place.restart().await;
    let third = Member::start(&folder, 2, ports[2], by);
    place.wait_for(3).await;
    let client = HttpClient::new(pinned_client_config("").unwrap(), Duration::from_secs(2));
    for member in [&first, &second, &third] {
        let mut healthy = false;
        for _ in 0..300 {
            healthy = is_healthy(&client, member.client).await;
            if healthy {
                break;
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        assert!(healthy, "{}", place.logs());
    }
    let token = place.store.read(|v| v.discovery(TOKEN)).unwrap().unwrap();
    assert_eq!(token.state, TokenState::Complete);
    let mut fourth = Member::start(&folder, 3, ports[3], by);
    for _ in 0..100 {
        if fourth.has_ended() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert!(fourth.has_ended(), "a fourth member must not wait for ever");
    assert_eq!(place.registered(), 3);
    place.stop.cancel();
    place.serving.await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs an etcd binary"]
async fn members_of_the_plain_protocol_form_a_cluster() {
    let place = Place::open().await;
    let url = format!("http://{}/with/a/path/{TOKEN}", place.address);
    three_members_form_a_cluster(place, &Discovered::ByUrl(&url)).await;
}

#[cfg(feature = "etcd-v3")]
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a binary of etcd 3.6 or later"]
async fn members_of_the_grpc_protocol_form_a_cluster() {
    let place = Place::open().await;
    let endpoint = place.address.to_string();
    three_members_form_a_cluster(place, &Discovered::ByToken { endpoint: &endpoint }).await;
}

/// etcd's own client, which has spoken these messages since 3.4.
#[cfg(feature = "etcd-v3")]
#[tokio::test(flavor = "multi_thread")]
async fn etcdctl_reads_puts_and_watches() {
    if Command::new("etcdctl").arg("version").output().is_err() {
        println!("skipped: there is no etcdctl; Debian's package etcd-client has it");
        return;
    }
    let place = Place::open().await;
    let endpoint = place.address.to_string();
    let etcdctl = |words: &[&str]| {
        let mut command = Command::new("etcdctl");
        command.env("ETCDCTL_API", "3").args(["--endpoints", &endpoint]).args(words);
        command
    };
    let ran = |words: &[&str]| {
        let output = etcdctl(words).output().unwrap();
        let text = [output.stdout, output.stderr].concat();
        (output.status.success(), String::from_utf8(text).unwrap())
    };
    let key = |rest: &str| format!("/_etcd/registry/{TOKEN}/{rest}");
    let (size, members) = (key("_config/size"), key("members/"));
    let of = |number: u32| {
        (key(&format!("members/{number}")), format!("m{number}=http://10.0.0.1{number}:2380"))
    };
    assert_eq!(ran(&["get", &size, "--print-value-only"]), (true, "3\n".to_owned()));
    assert_eq!(ran(&["get", &members, "--prefix"]), (true, String::new()));
    let mut watch = etcdctl(&["watch", &members, "--prefix", "--rev=1"])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut told = std::io::BufReader::new(watch.stdout.take().unwrap());
    for number in 0..3 {
        let (key, value) = of(number);
        assert_eq!(ran(&["put", &key, &value]), (true, "OK\n".to_owned()));
        for expected in ["PUT", &key, &value] {
            let mut line = String::new();
            std::io::BufRead::read_line(&mut told, &mut line).unwrap();
            assert_eq!(line.trim_end(), expected);
        }
    }
    let (first, value) = of(0);
    assert_eq!(ran(&["put", &first, &value]), (true, "OK\n".to_owned()), "once more");
    let listed = ran(&["get", &members, "--prefix", "--sort-by=CREATE", "--print-value-only"]);
    let values: String = (0..3).map(|number| of(number).1 + "\n").collect();
    assert_eq!(listed, (true, values));
    for (words, reason) in [
        (vec!["put", &first, "m0=http://10.0.0.99:2380"], "another value"),
        (vec!["put", &size, "9"], "only /_etcd/registry/TOKEN/members/ID"),
        (vec!["del", &first], "Unimplemented"),
        (vec!["get", "", "--prefix"], "within one discovery token"),
    ] {
        let (succeeded, text) = ran(&words);
        assert!(!succeeded && text.contains(reason), "{words:?}: {text}");
    }
    let stranger = "/_etcd/registry/ffffffffffffffffffffffffffffffff/_config/size";
    assert_eq!(ran(&["get", stranger]), (true, String::new()));
    watch.kill().unwrap();
    watch.wait().unwrap();
    place.stop.cancel();
    place.serving.await.unwrap();
}
