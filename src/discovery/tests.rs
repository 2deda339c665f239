//! The listener as members use it: over loopback, on a real state file.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use hyper::header::CONTENT_TYPE;
use hyper::{Method, StatusCode};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::{Discovery, Parts, limits};
use crate::base::clock::Clock;
use crate::base::http::client::{Answer, HttpClient, Outgoing};
use crate::base::http::server::HttpListener;
use crate::base::http::tls::pinned_client_config;
use crate::base::id::Entropy;
use crate::base::secret::Sealer;
use crate::model::cluster::Cluster;
use crate::model::discovery::{DiscoveryToken, TokenState};
use crate::model::status::Status;
use crate::model::{ClusterId, TemplateId};
use crate::store::{Change, Store};

pub(super) const TOKEN: &str = "0123456789abcdef0123456789abcdef";
pub(super) const IDS: [&str; 3] = ["bd79e0ab770b6f12", "1", "c0ffee"];

/// A listener that is open, and the state file behind it.
pub(super) struct Place {
    _folder: tempfile::TempDir,
    pub(super) path: PathBuf,
    pub(super) store: Store,
    pub(super) clock: Clock,
    pub(super) address: SocketAddr,
    client: HttpClient,
    pub(super) stop: CancellationToken,
    pub(super) service: Arc<Discovery>,
    pub(super) serving: tokio::task::JoinHandle<()>,
}

impl Place {
    pub(super) async fn new(clock: Clock) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("magnumd.redb");
        let store = Store::open(&path, Sealer::new(&[1; 32])).unwrap();
        let now = clock.now();
        let token = DiscoveryToken::issue(
            TOKEN,
            ClusterId::new(Uuid::from_u128(7)),
            3,
            Vec::new(),
            Some("10.0.0.0/24".to_owned()),
            now,
            now.plus(Duration::from_secs(7200)),
        );
        store.commit(Change::new().put(&token)).await.unwrap();
        Self::open(folder, path, store, clock).await
    }

    async fn open(folder: tempfile::TempDir, path: PathBuf, store: Store, clock: Clock) -> Self {
        let stop = CancellationToken::new();
        let service = Arc::new(Discovery::new(Parts {
            store: store.clone(),
            clock: clock.clone(),
            entropy: Entropy::new(),
            allow_loopback: false,
            trusted: Vec::new(),
            advertise_url: "http://203.0.113.2:9512".to_owned(),
            stop: stop.clone(),
        }));
        let listener = HttpListener::bind(([127, 0, 0, 1], 0).into(), limits()).await.unwrap();
        let address = listener.address().unwrap();
        let serving = tokio::spawn(listener.serve(Arc::clone(&service), stop.clone()));
        let tls = pinned_client_config("").unwrap();
        let client = HttpClient::new(tls, Duration::from_secs(5));
        Self { _folder: folder, path, store, clock, address, client, stop, service, serving }
    }

    /// Stops everything, then starts again with the same file.
    pub(super) async fn restart(self) -> Self {
        let Self { _folder, path, store, clock, client, stop, service, serving, .. } = self;
        stop.cancel();
        serving.await.unwrap();
        drop((store, client, service));
        let store = Store::open(&path, Sealer::new(&[1; 32])).unwrap();
        Self::open(_folder, path, store, clock).await
    }

    async fn send(&self, method: Method, path: &str, body: Option<String>) -> Answer {
        let mut ask = Outgoing::new(method, format!("http://{}{path}", self.address));
        if let Some(body) = body {
            ask = ask.header(CONTENT_TYPE, "application/x-www-form-urlencoded").body(body);
        }
        self.client.send(ask.deadline(Duration::from_secs(20))).await.unwrap()
    }

    pub(super) async fn get(&self, path: &str) -> Answer {
        self.send(Method::GET, &format!("/{TOKEN}{path}"), None).await
    }

    pub(super) async fn put(&self, id: &str, value: &str) -> Answer {
        let value =
            percent_encoding::utf8_percent_encode(value, percent_encoding::NON_ALPHANUMERIC);
        let path = format!("/{TOKEN}/{id}?prevExist=false");
        self.send(Method::PUT, &path, Some(format!("value={value}"))).await
    }

    /// A whole member: register, see oneself, then wait until three are known.
    pub(super) async fn join(&self, id: &str, value: &str) -> Vec<(u64, String)> {
        let query = "quorum=false&recursive=false&sorted=false";
        let size = body(&self.get(&format!("/_config/size?{query}")).await);
        let size: usize = size["node"]["value"].as_str().unwrap().parse().unwrap();
        let put = self.put(id, value).await;
        assert_eq!(put.status, StatusCode::CREATED, "{put:?}");
        let created = body(&put)["node"]["createdIndex"].as_u64().unwrap();
        let own = format!("/{id}?recursive=false&wait=true&waitIndex={created}");
        assert_eq!(last(&body(&self.get(&own).await)["node"]["key"]), id);
        let listing = self.get(&format!("?{query}")).await;
        let mut next = index(&listing) + 1;
        let mut known: Vec<(u64, String)> =
            body(&listing)["node"]["nodes"].as_array().unwrap().iter().map(peer).collect();
        while known.len() < size {
            let watch = format!("?recursive=true&wait=true&waitIndex={next}");
            let event = self.get(&watch).await;
            if event.body.is_empty() {
                continue;
            }
            let event = body(&event);
            assert_eq!(event["action"], "create");
            next = event["node"]["modifiedIndex"].as_u64().unwrap() + 1;
            known.push(peer(&event["node"]));
        }
        known.sort();
        known
    }
}

pub(super) fn body(answer: &Answer) -> Value {
    serde_json::from_slice(&answer.body).unwrap_or_else(|e| panic!("{e}: {answer:?}"))
}

fn index(answer: &Answer) -> u64 {
    answer.header("x-etcd-index").unwrap().parse().unwrap()
}

fn last(key: &Value) -> &str {
    key.as_str().unwrap().rsplit('/').next().unwrap()
}

fn peer(node: &Value) -> (u64, String) {
    (node["createdIndex"].as_u64().unwrap(), node["value"].as_str().unwrap().to_owned())
}

pub(super) fn value(number: usize) -> String {
    format!("m{number}=http://10.0.0.1{number}:2380")
}

/// What an error answers: status and etcd's code.
fn fault(answer: &Answer) -> (u16, u64) {
    (answer.status.as_u16(), body(answer)["errorCode"].as_u64().unwrap())
}

#[tokio::test]
async fn three_members_find_each_other_in_the_same_order() {
    let place = Place::new(Clock::real()).await;
    let values = [value(0), value(1), value(2)];
    let (a, b, c) = tokio::join!(
        place.join(IDS[0], &values[0]),
        place.join(IDS[1], &values[1]),
        place.join(IDS[2], &values[2]),
    );
    assert_eq!(a.iter().map(|(index, _)| *index).collect::<Vec<_>>(), [3, 4, 5]);
    assert_eq!((&a, &a), (&b, &c), "all members see one cluster");
    assert_eq!(place.service.waiting(), 0);
    let token = place.store.read(|v| v.discovery(TOKEN)).unwrap().unwrap();
    assert_eq!(token.state, TokenState::Complete);
    let fourth = place.put("4", "m4=http://10.0.0.44:2380").await;
    assert_eq!(fault(&fourth), (412, 105));
    assert!(body(&fourth)["cause"].as_str().unwrap().contains("token is complete"));
}

/// A member that was killed while it waited used to meet "key already exists" when it came
/// back, and could never join; worse, servers that simply overwrite told the others of a
/// second member of the same name, which killed them too.
#[tokio::test]
async fn a_member_that_comes_back_gets_its_first_answer_and_disturbs_nobody() {
    let place = Place::new(Clock::real()).await;
    let first = place.put(IDS[0], &value(0)).await;
    let (created, current) = (peer(&body(&first)["node"]), index(&first));
    let watch = format!("?recursive=true&wait=true&waitIndex={}", current + 1);
    let waiting = place.get(&watch);
    tokio::pin!(waiting);
    let early = tokio::time::timeout(Duration::from_millis(200), &mut waiting).await;
    assert!(early.is_err(), "nothing has happened yet");
    let again = place.put(IDS[0], &value(0)).await;
    assert_eq!(again.status, StatusCode::CREATED);
    assert_eq!((peer(&body(&again)["node"]), index(&again)), (created.clone(), current));
    let early = tokio::time::timeout(Duration::from_millis(200), &mut waiting).await;
    assert!(early.is_err(), "a repetition is no event");
    assert_eq!(fault(&place.put(IDS[0], "m0=http://10.0.0.99:2380").await), (412, 105));
    place.put(IDS[1], &value(1)).await;
    assert_eq!(peer(&body(&waiting.await)["node"]), (4, value(1)));
    // The event is there for whoever asks late, and from any earlier index.
    assert_eq!(peer(&body(&place.get(&watch).await)["node"]), (4, value(1)));
    let all = place.get("?recursive=true&wait=true&waitIndex=1").await;
    assert_eq!(peer(&body(&all)["node"]), created);
}

#[tokio::test]
async fn registrations_survive_a_restart() {
    let place = Place::new(Clock::real()).await;
    place.put(IDS[0], &value(0)).await;
    let before = place.get("").await;
    let place = place.restart().await;
    let after = place.get("/").await;
    assert_eq!((body(&before), index(&before)), (body(&after), index(&after)));
    assert_eq!(place.put(IDS[0], &value(0)).await.status, StatusCode::CREATED);
    assert_eq!(fault(&place.put(IDS[1], &value(0)).await), (400, 209), "the name is in use");
}

#[tokio::test]
async fn answers_have_the_shape_that_clients_insist_on() {
    let place = Place::new(Clock::real()).await;
    let size = place.get("/_config/size").await;
    let text = String::from_utf8(size.body.to_vec()).unwrap();
    assert_eq!(
        text.trim_end(),
        format!(
            "{{\"action\":\"get\",\"node\":{{\"key\":\"/_etcd/registry/{TOKEN}/_config/size\",\
             \"value\":\"3\",\"modifiedIndex\":2,\"createdIndex\":2}}}}"
        ),
        "also a Python literal"
    );
    assert_eq!((size.header("content-type"), index(&size)), (Some("application/json"), 2));
    let empty = body(&place.get("").await);
    assert_eq!(empty["node"]["dir"], true);
    assert_eq!(empty["node"]["nodes"], Value::Array(Vec::new()), "_config stays hidden");
    let alias = format!("/v2/keys/_etcd/registry/{TOKEN}/");
    assert_eq!(body(&place.send(Method::GET, &alias, None).await), empty);
    assert_eq!(fault(&place.get("/1").await), (404, 100));
    place.put(IDS[1], &value(1)).await;
    assert_eq!(peer(&body(&place.get("/1").await)["node"]), (3, value(1)));
}

#[tokio::test]
async fn unknown_and_malformed_tokens_look_the_same() {
    let place = Place::new(Clock::real()).await;
    let mut answers = Vec::new();
    for path in [
        "/ffffffffffffffffffffffffffffffff",
        "/ffffffffffffffffffffffffffffffff/_config/size",
        "/0123456789ABCDEF0123456789ABCDEF",
        "/short",
        "/new?size=3",
        "/health",
        "/",
        "/a/../0123456789abcdef0123456789abcdef",
        "//0123456789abcdef0123456789abcdef",
        "/0123456789abcdef0123456789abcdef%2F_config%2Fsize",
        "/0123456789abcdef0123456789abcdef%00",
    ] {
        let answer = place.send(Method::GET, path, None).await;
        assert_eq!((fault(&answer), index(&answer)), ((404, 100), 1), "{path}");
        answers.push(answer.body);
    }
    assert!(answers.windows(2).all(|two| two[0] == two[1]));
}

#[tokio::test]
async fn abuse_is_refused_without_harm() {
    let place = Place::new(Clock::real()).await;
    let path = format!("/{TOKEN}/{}", IDS[0]);
    let huge = "value=".to_owned() + &"x".repeat(8 << 10);
    assert_eq!(
        place.send(Method::PUT, &path, Some(huge)).await.status,
        StatusCode::PAYLOAD_TOO_LARGE
    );
    let twice = "value=m0%3Dhttp%3A%2F%2F10.0.0.1%3A2380&value=x".to_owned();
    assert_eq!(fault(&place.send(Method::PUT, &path, Some(twice)).await), (400, 209));
    for (id, bad) in [
        ("XYZ", value(0)),
        ("00000000000000001", value(0)),
        ("a", "m0=http://10.0.1.1:2380".to_owned()),
        ("a", "m0=http://127.0.0.1:2380".to_owned()),
        ("a", "m0=http://169.254.169.254:80".to_owned()),
        ("a", "m0=http://evil.example.org:2380".to_owned()),
        ("a", "m0=http://10.0.0.1:2380\r\nX: y".to_owned()),
    ] {
        assert_eq!(fault(&place.put(id, &bad).await), (400, 209), "{id} {bad}");
    }
    for method in [Method::DELETE, Method::POST, Method::PATCH, Method::OPTIONS] {
        let answer = place.send(method, &path, None).await;
        assert_eq!(fault(&answer), (405, 110));
        assert_eq!(answer.header("allow"), Some("GET, PUT"));
    }
    let head = place.send(Method::HEAD, &path, None).await;
    assert_eq!(head.status, StatusCode::METHOD_NOT_ALLOWED);
    assert_eq!(body(&place.get("").await)["node"]["nodes"], Value::Array(Vec::new()));
}

#[tokio::test]
async fn old_and_odd_http() {
    let place = Place::new(Clock::real()).await;
    let raw = async |text: String| {
        let mut stream = TcpStream::connect(place.address).await.unwrap();
        stream.write_all(text.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        let reading = stream.read_to_end(&mut answer);
        tokio::time::timeout(Duration::from_secs(5), reading).await.unwrap().unwrap();
        String::from_utf8_lossy(&answer).into_owned()
    };
    let old = raw(format!("GET /{TOKEN}/_config/size HTTP/1.0\r\n\r\n")).await;
    assert!(old.starts_with("HTTP/1.0 200"), "{old}");
    assert!(old.contains("\"value\":\"3\""));
    // Whoever we are called, the answer does not depend on it.
    let pipelined = raw(format!(
        "GET /{TOKEN} HTTP/1.1\r\nHost: evil.example.org\r\n\r\n\
         GET /{TOKEN}/_config/size HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    ))
    .await;
    assert_eq!(pipelined.matches("HTTP/1.1 200").count(), 2, "{pipelined}");
    assert!(!pipelined.contains("evil"));
    let gzip = raw(format!(
        "PUT /{TOKEN}/a HTTP/1.1\r\nHost: x\r\nContent-Encoding: gzip\r\nConnection: close\r\n\
         Content-Type: application/x-www-form-urlencoded\r\nContent-Length: 2\r\n\r\n\x1fx"
    ))
    .await;
    assert!(gzip.starts_with("HTTP/1.1 400"), "{gzip}");
    let nul = raw(format!("GET /{TOKEN}\0 HTTP/1.1\r\nHost: x\r\n\r\n")).await;
    assert!(nul.is_empty() || nul.starts_with("HTTP/1.1 400"), "{nul}");
    assert_eq!(place.get("").await.status, StatusCode::OK, "the listener is still open");
}

#[tokio::test]
async fn long_polls_end_empty_and_a_crowd_is_slowed_down() {
    // 30 s pass in 0.3 s.
    let place = Place::new(Clock::fast(100.0)).await;
    let watch = "?recursive=true&wait=true&waitIndex=3";
    let began = std::time::Instant::now();
    let answer = place.get(watch).await;
    assert!(began.elapsed() >= Duration::from_millis(290), "{:?}", began.elapsed());
    assert_eq!((answer.status, answer.body.len(), index(&answer)), (StatusCode::OK, 0, 2));
    let source = [127, 0, 0, 1].into();
    let crowd: Vec<_> = (0..10)
        .map(|_| place.service.registrar.registry().waiters().enter(TOKEN, 3, source).unwrap())
        .collect();
    let began = std::time::Instant::now();
    let answer = place.get(watch).await;
    assert_eq!((answer.status, answer.body.len()), (StatusCode::OK, 0));
    assert!((45..290).contains(&began.elapsed().as_millis()), "{:?}", began.elapsed());
    drop(crowd);
}

#[tokio::test]
async fn a_token_without_its_cluster_is_collected() {
    let place = Place::new(Clock::real()).await;
    place.service.collect().await;
    assert_eq!(fault(&place.get("").await), (404, 100));
}

#[tokio::test]
async fn a_running_cluster_seals_its_token() {
    let place = Place::new(Clock::real()).await;
    let mut cluster = cluster(&place.store, Status::CreateInProgress);
    place.store.commit(Change::new().put(&cluster)).await.unwrap();
    for (number, id) in IDS.into_iter().enumerate() {
        assert_eq!(place.put(id, &value(number)).await.status, StatusCode::CREATED);
    }
    place.service.collect().await;
    assert_eq!(place.put(IDS[0], &value(0)).await.status, StatusCode::CREATED, "not yet sealed");
    cluster.status = Status::CreateComplete;
    place.store.commit(Change::new().put(&cluster)).await.unwrap();
    let emptied = place.put(IDS[0], &value(0)).await;
    assert_eq!(fault(&emptied), (412, 105), "housekeeping is not waited for");
    place.service.collect().await;
    let emptied = place.put(IDS[0], &value(0)).await;
    assert_eq!(fault(&emptied), (412, 105), "a member that lost its disk must be replaced");
    assert_eq!(body(&place.get("").await)["node"]["nodes"].as_array().unwrap().len(), 3);
}

/// Closing the listener must not wait for long polls: members come back by themselves.
#[tokio::test]
async fn long_polls_end_when_the_door_closes() {
    let place = Place::new(Clock::real()).await;
    let (client, stop) = (place.client.clone(), place.stop.clone());
    let url = format!("http://{}/{TOKEN}?recursive=true&wait=true&waitIndex=3", place.address);
    let waiting = tokio::spawn(async move { client.send(Outgoing::new(Method::GET, url)).await });
    while place.service.waiting() == 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    stop.cancel();
    let answer = tokio::time::timeout(Duration::from_secs(5), waiting).await.unwrap();
    let answer = answer.unwrap().unwrap();
    assert_eq!((answer.status, answer.body.len()), (StatusCode::OK, 0));
    tokio::time::timeout(Duration::from_secs(5), place.serving).await.unwrap().unwrap();
}

/// A member that hangs up while it waits must not keep its place.
#[tokio::test]
async fn whoever_hangs_up_gives_its_place_back() {
    let place = Place::new(Clock::real()).await;
    let watch = place.get("?recursive=true&wait=true&waitIndex=3");
    assert!(tokio::time::timeout(Duration::from_millis(200), watch).await.is_err());
    for _ in 0..100 {
        if place.service.waiting() == 0 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("{} still wait", place.service.waiting());
}

fn cluster(store: &Store, status: Status) -> Cluster {
    Cluster {
        sequence: store.next_sequence(),
        project_id: "p".to_owned(),
        user_id: "u".to_owned(),
        floating_ip_enabled: true,
        create_timeout: 60,
        status,
        driver: "k8s_kubeadm_v1".to_owned(),
        ..Cluster::plain(
            ClusterId::new(Uuid::from_u128(7)),
            "k1",
            TemplateId::new(Uuid::from_u128(1)),
        )
    }
}
