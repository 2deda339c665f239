//! The gRPC side of the listener, over loopback: by a client that knows only the wire.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::body::Incoming;
use hyper::client::conn::http2::{SendRequest, handshake};
use hyper::http::uri::PathAndQuery;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tonic::body::Body;
use tonic::client::Grpc;
use tonic::codegen::tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Request, Status, Streaming};
use tonic_prost::ProstCodec;

use super::message::*;
use crate::base::clock::Clock;
use crate::discovery::tests::{IDS, Place, TOKEN, body, value};
use crate::model::discovery::TokenState;

const STRANGER: &str = "ffffffffffffffffffffffffffffffff";
/// Longer than anything takes that happens at all.
const PATIENCE: Duration = Duration::from_secs(10);
/// Long enough to believe that nothing happens.
const QUIET: Duration = Duration::from_millis(200);

/// One HTTP/2 connection.
#[derive(Clone)]
struct Wire(SendRequest<Body>);

impl tonic::codegen::Service<hyper::Request<Body>> for Wire {
    type Response = hyper::Response<Incoming>;
    type Error = hyper::Error;
    type Future = Pin<Box<dyn Future<Output = hyper::Result<Self::Response>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<hyper::Result<()>> {
        self.0.poll_ready(cx)
    }

    fn call(&mut self, request: hyper::Request<Body>) -> Self::Future {
        Box::pin(self.0.send_request(request))
    }
}

/// A member, as far as discovery sees it.
struct Client(Grpc<Wire>);

struct Watching {
    asks: mpsc::Sender<WatchRequest>,
    answers: Streaming<WatchResponse>,
}

impl Client {
    async fn connect(place: &Place) -> Self {
        let stream = TcpStream::connect(place.address).await.unwrap();
        let (sender, connection) =
            handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection);
        let origin = format!("http://{}", place.address).parse().unwrap();
        Self(Grpc::with_origin(Wire(sender), origin))
    }

    async fn call<Q, A>(&mut self, path: &'static str, asked: Q) -> Result<A, Status>
    where
        Q: prost::Message + Send + Sync + 'static,
        A: prost::Message + Default + Send + Sync + 'static,
    {
        self.0.ready().await.unwrap();
        let path = PathAndQuery::from_static(path);
        let codec = ProstCodec::<Q, A>::default();
        self.0.unary(Request::new(asked), path, codec).await.map(tonic::Response::into_inner)
    }

    async fn range(&mut self, asked: RangeRequest) -> Result<RangeResponse, Status> {
        self.call("/etcdserverpb.KV/Range", asked).await
    }

    async fn members(&mut self) -> RangeResponse {
        self.range(RangeRequest {
            key: key("members"),
            range_end: key("membert"),
            ..Default::default()
        })
        .await
        .unwrap()
    }

    async fn put(&mut self, asked: PutRequest) -> Result<PutResponse, Status> {
        self.call("/etcdserverpb.KV/Put", asked).await
    }

    async fn register(&mut self, id: &str, value: &str) -> Result<i64, Status> {
        self.put(registration(id, value)).await.map(|answer| answer.header.unwrap().revision)
    }

    async fn watch(&mut self) -> Watching {
        self.0.ready().await.unwrap();
        let (asks, asked) = mpsc::channel(20);
        let path = PathAndQuery::from_static("/etcdserverpb.Watch/Watch");
        let codec = ProstCodec::<WatchRequest, WatchResponse>::default();
        let asked = Request::new(ReceiverStream::new(asked));
        let answers = self.0.streaming(asked, path, codec).await.unwrap().into_inner();
        Watching { asks, answers }
    }

    /// What etcd does at its first start, in its order; the members as it knows them then.
    async fn join(&mut self, id: &str, value: &str) -> Vec<(i64, String)> {
        self.size().await;
        self.members().await;
        self.register(id, value).await.unwrap();
        let size = self.size().await;
        let listed = self.members().await;
        let mut known: Vec<(i64, String)> = listed.kvs.iter().map(peer).collect();
        let mut watching = self.watch().await;
        watching.members(listed.header.unwrap().revision + 1).await;
        while known.len() < size {
            for event in watching.next().await.unwrap().events {
                known.push(peer(&event.kv.unwrap()));
            }
        }
        known.sort();
        known
    }

    async fn size(&mut self) -> usize {
        let asked = RangeRequest { key: key("_config/size"), ..Default::default() };
        let found = self.range(asked).await.unwrap();
        assert_eq!((found.count, found.kvs.len()), (1, 1));
        String::from_utf8(found.kvs[0].value.clone()).unwrap().parse().unwrap()
    }
}

impl Watching {
    async fn ask(&self, ask: WatchAsk) {
        self.asks.send(WatchRequest { ask: Some(ask) }).await.unwrap();
    }

    async fn next(&mut self) -> Result<WatchResponse, Status> {
        let answer = timeout(PATIENCE, self.answers.message()).await.expect("an answer");
        answer.map(|answer| answer.expect("the stream goes on"))
    }

    /// Watches the members as etcd does; answers the watch's id.
    async fn members(&mut self, start_revision: i64) -> i64 {
        self.ask(WatchAsk::Create(watch_of(TOKEN, start_revision))).await;
        let created = self.next().await.unwrap();
        assert!(created.created && !created.canceled && created.events.is_empty(), "{created:?}");
        assert!(created.header.unwrap().revision > 0);
        created.watch_id
    }

    async fn is_quiet(&mut self) -> bool {
        timeout(QUIET, self.answers.message()).await.is_err()
    }
}

fn key(rest: &str) -> Vec<u8> {
    format!("/_etcd/registry/{TOKEN}/{rest}").into_bytes()
}

fn registration(id: &str, value: &str) -> PutRequest {
    let key = key(&format!("members/{id}"));
    PutRequest { key, value: value.as_bytes().to_vec(), ..Default::default() }
}

fn watch_of(token: &str, start_revision: i64) -> WatchCreateRequest {
    let end = |last: &str| format!("/_etcd/registry/{token}/{last}").into_bytes();
    WatchCreateRequest {
        key: end("members"),
        range_end: end("membert"),
        start_revision,
        ..Default::default()
    }
}

fn peer(kv: &KeyValue) -> (i64, String) {
    assert_eq!((kv.mod_revision, kv.version), (kv.create_revision, 1));
    (kv.create_revision, String::from_utf8(kv.value.clone()).unwrap())
}

#[tokio::test]
async fn members_of_both_protocols_find_each_other() {
    let place = Place::new(Clock::real()).await;
    let (mut one, mut two) = (Client::connect(&place).await, Client::connect(&place).await);
    let values = [value(0), value(1), value(2)];
    let (a, b, c) = tokio::join!(
        one.join(IDS[0], &values[0]),
        two.join(IDS[1], &values[1]),
        place.join(IDS[2], &values[2]),
    );
    assert_eq!(a.iter().map(|(revision, _)| *revision).collect::<Vec<_>>(), [3, 4, 5]);
    assert_eq!(a, b);
    let plain: Vec<_> = c.into_iter().map(|(index, value)| (index as i64, value)).collect();
    assert_eq!(a, plain, "an index is a revision");
    let token = place.store.read(|v| v.discovery(TOKEN)).unwrap().unwrap();
    assert_eq!(token.state, TokenState::Complete);
    assert_eq!(one.register(IDS[0], &values[0]).await.unwrap(), 5, "once more");
    let fourth = one.register("4", "m4=http://10.0.0.44:2380").await.unwrap_err();
    assert_eq!(fourth.code(), Code::FailedPrecondition);
    assert!(fourth.message().contains("token is complete"), "{fourth}");
}

/// etcd 3.6 puts its value again whenever an earlier try had no answer in time; an event for it
/// would be harmless there, but members of the plain protocol count every event as one more.
#[tokio::test]
async fn putting_the_same_again_changes_nothing_and_another_value_is_refused() {
    let place = Place::new(Clock::real()).await;
    let mut client = Client::connect(&place).await;
    let mut watching = client.watch().await;
    watching.members(0).await;
    assert_eq!(client.register(IDS[0], &value(0)).await.unwrap(), 3);
    let told = watching.next().await.unwrap();
    assert_eq!(told.header.unwrap().revision, 3);
    assert_eq!(told.events.iter().map(|e| e.kind).collect::<Vec<_>>(), [0]);
    let before = client.members().await;
    assert_eq!(client.register(IDS[0], &value(0)).await.unwrap(), 3);
    assert_eq!(client.members().await, before);
    assert!(watching.is_quiet().await, "a repetition is no event");
    let other = client.register(IDS[0], "m0=http://10.0.0.99:2380").await.unwrap_err();
    assert_eq!(other.code(), Code::FailedPrecondition);
    let plain = place.put(IDS[0], "m0=http://10.0.0.99:2380").await;
    assert_eq!(plain.status.as_u16(), 412, "the same rule through the other protocol");
    let mut token = place.store.read(|v| v.discovery(TOKEN)).unwrap().unwrap().record;
    token.seal();
    place.store.commit(crate::store::Change::new().put(&token)).await.unwrap();
    let emptied = client.register(IDS[0], &value(0)).await.unwrap_err();
    assert_eq!(emptied.code(), Code::FailedPrecondition, "sealed");
}

#[tokio::test]
async fn registrations_survive_a_restart_and_a_watch_goes_on() {
    let place = Place::new(Clock::real()).await;
    let mut client = Client::connect(&place).await;
    client.register(IDS[0], &value(0)).await.unwrap();
    let before = client.members().await;
    let mut watching = client.watch().await;
    watching.members(4).await;
    let (place, ended) = tokio::join!(place.restart(), watching.next());
    assert_eq!(ended.unwrap_err().code(), Code::Unavailable, "the client comes back by itself");
    let mut client = Client::connect(&place).await;
    assert_eq!(client.members().await, before);
    let mut watching = client.watch().await;
    client.register(IDS[1], &value(1)).await.unwrap();
    watching.members(4).await;
    let missed = watching.next().await.unwrap();
    assert_eq!(peer(missed.events[0].kv.as_ref().unwrap()), (4, value(1)));
}

#[tokio::test]
async fn what_may_not_be_put() {
    let place = Place::new(Clock::real()).await;
    let mut client = Client::connect(&place).await;
    client.register(IDS[0], &value(0)).await.unwrap();
    let under = |token: &str, rest: &str| PutRequest {
        key: format!("/_etcd/registry/{token}/{rest}").into_bytes(),
        value: value(1).into_bytes(),
        ..Default::default()
    };
    let with = |value: Vec<u8>| PutRequest { value, ..registration("b", "") };
    let good = || registration("b", &value(1));
    use Code::{InvalidArgument, PermissionDenied};
    for (case, asked, code) in [
        ("a stranger's token", under(STRANGER, "members/b"), PermissionDenied),
        ("no token", under("", "members/b"), PermissionDenied),
        ("capital letters", under(&TOKEN.to_uppercase(), "members/b"), PermissionDenied),
        ("the size", under(TOKEN, "_config/size"), PermissionDenied),
        ("the members' folder", under(TOKEN, "members"), PermissionDenied),
        ("no id", under(TOKEN, "members/"), PermissionDenied),
        ("a strange id", under(TOKEN, "members/xyz"), PermissionDenied),
        ("a long id", under(TOKEN, "members/00000000000000000"), PermissionDenied),
        ("deeper", under(TOKEN, "members/b/c"), PermissionDenied),
        ("elsewhere", PutRequest { key: b"foo".to_vec(), ..good() }, PermissionDenied),
        ("not UTF-8", PutRequest { key: [0xff; 90].to_vec(), ..good() }, PermissionDenied),
        ("nothing", PutRequest::default(), PermissionDenied),
        ("a lease", PutRequest { lease: 7, ..good() }, InvalidArgument),
        ("no value", PutRequest { ignore_value: true, ..good() }, InvalidArgument),
        ("a kept lease", PutRequest { ignore_lease: true, ..good() }, InvalidArgument),
        ("an empty value", with(Vec::new()), InvalidArgument),
        ("a value that is not UTF-8", with(b"m1=http://\xff".to_vec()), InvalidArgument),
        ("a long value", with(vec![b'a'; 4097]), InvalidArgument),
        ("a name in use", registration("b", "m0=http://10.0.0.12:2380"), InvalidArgument),
        ("an address in use", registration("b", "m1=https://10.0.0.10:2380"), InvalidArgument),
        ("outside", registration("b", "m1=http://10.0.9.12:2380"), InvalidArgument),
        ("metadata", registration("b", "m1=http://169.254.169.254:80"), InvalidArgument),
    ] {
        let refused = client.put(asked).await.unwrap_err();
        assert_eq!(refused.code(), code, "{case}: {refused}");
    }
    let unknown = client.put(under(STRANGER, "members/b")).await.unwrap_err();
    let malformed = client.put(under("x", "members/b")).await.unwrap_err();
    assert_eq!(unknown.message(), malformed.message(), "tokens cannot be found by asking");
    assert_eq!(client.members().await.count, 1);
    client.put(good()).await.unwrap();
}

#[tokio::test]
async fn only_one_token_can_be_read_at_a_time() {
    let place = Place::new(Clock::real()).await;
    let mut client = Client::connect(&place).await;
    client.register(IDS[0], &value(0)).await.unwrap();
    let all = RangeRequest { key: vec![0], range_end: vec![0], ..Default::default() };
    assert_eq!(client.range(all).await.unwrap_err().code(), Code::PermissionDenied);
    let nothing = client.range(RangeRequest::default()).await.unwrap_err();
    assert_eq!(nothing.code(), Code::InvalidArgument);
    for token in [STRANGER, "short", "0123456789ABCDEF0123456789ABCDEF"] {
        let key = format!("/_etcd/registry/{token}/_config/size").into_bytes();
        let asked = RangeRequest { key, ..Default::default() };
        let found = client.range(asked).await.unwrap();
        assert_eq!((found.count, found.kvs.len()), (0, 0), "{token}");
        assert_eq!(found.header.unwrap().revision, 1, "{token}");
    }
    let whole = RangeRequest { key: key(""), range_end: key("~"), ..Default::default() };
    assert_eq!(client.range(whole).await.unwrap().count, 2);
}

#[tokio::test]
async fn a_watch_tells_all_there_was_and_never_ends_by_itself() {
    let place = Place::new(Clock::fast(1000.0)).await;
    let mut client = Client::connect(&place).await;
    client.register(IDS[0], &value(0)).await.unwrap();
    let mut watching = client.watch().await;
    let everything = watching.members(1).await;
    let past = watching.next().await.unwrap();
    assert_eq!((past.watch_id, past.events.len()), (everything, 1));
    let ahead = watching.members(5).await;
    assert_ne!(everything, ahead);
    let own = WatchCreateRequest {
        key: key(&format!("members/{}", IDS[1])),
        watch_id: 77,
        ..Default::default()
    };
    watching.ask(WatchAsk::Create(own.clone())).await;
    assert_eq!(watching.next().await.unwrap().watch_id, 77);
    watching.ask(WatchAsk::Create(own)).await;
    let twice = watching.next().await.unwrap();
    assert!(twice.created && twice.canceled && twice.watch_id == -1, "{twice:?}");
    assert!(twice.cancel_reason.contains("in use"), "{twice:?}");
    // A thousand times longer for the service than for us: any poll would be over.
    assert!(watching.is_quiet().await);
    client.register(IDS[1], &value(1)).await.unwrap();
    let mut told = [watching.next().await.unwrap(), watching.next().await.unwrap()];
    told.sort_by_key(|t| t.watch_id);
    assert_eq!(told.each_ref().map(|t| t.watch_id), [everything, 77], "not the one ahead");
    watching.ask(WatchAsk::Cancel(WatchCancelRequest { watch_id: everything })).await;
    let cancelled = watching.next().await.unwrap();
    assert!(cancelled.canceled && !cancelled.created && cancelled.watch_id == everything);
    watching.ask(WatchAsk::Progress(WatchProgressRequest {})).await;
    let progress = watching.next().await.unwrap();
    assert_eq!((progress.watch_id, progress.header.unwrap().revision), (-1, 4));
    client.register(IDS[2], &value(2)).await.unwrap();
    let last = watching.next().await.unwrap();
    assert_eq!((last.watch_id, last.events.len()), (ahead, 1));
    assert_eq!(place.service.waiting(), 1, "one place for the stream");
    drop(watching);
    for _ in 0..500 {
        if place.service.waiting() == 0 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("the place was not given back");
}

#[tokio::test]
async fn watches_are_limited_and_tell_nothing_of_strangers() {
    let place = Place::new(Clock::real()).await;
    let mut client = Client::connect(&place).await;
    let mut watching = client.watch().await;
    for _ in 0..16 {
        watching.members(0).await;
    }
    let whole = WatchCreateRequest { key: vec![0], range_end: vec![0], ..Default::default() };
    for (asked, reason) in [
        (watch_of(TOKEN, 0), "16 watches"),
        (watch_of(STRANGER, 0), "one discovery token only"),
        (whole, "within one discovery token"),
        (WatchCreateRequest::default(), "key is missing"),
    ] {
        watching.ask(WatchAsk::Create(asked)).await;
        let refused = watching.next().await.unwrap();
        assert!(refused.canceled && refused.cancel_reason.contains(reason), "{refused:?}");
    }
    let mut other = client.watch().await;
    other.ask(WatchAsk::Create(watch_of(STRANGER, 1))).await;
    let created = other.next().await.unwrap();
    assert!(created.created && !created.canceled, "{created:?}");
    client.register(IDS[0], &value(0)).await.unwrap();
    assert!(other.is_quiet().await, "another token's news");
    let mut nothing = client.watch().await;
    nothing.asks.send(WatchRequest { ask: None }).await.unwrap();
    assert_eq!(nothing.next().await.unwrap_err().code(), Code::InvalidArgument);
}

#[tokio::test]
async fn too_many_watchers_of_one_token_are_sent_away_late() {
    let place = Place::new(Clock::fast(100.0)).await;
    let mut client = Client::connect(&place).await;
    let mut crowd = Vec::new();
    for _ in 0..10 {
        let mut watching = client.watch().await;
        watching.members(0).await;
        crowd.push(watching);
    }
    let mut late = client.watch().await;
    late.ask(WatchAsk::Create(watch_of(TOKEN, 0))).await;
    assert_eq!(late.next().await.unwrap_err().code(), Code::Unavailable, "2 × 3 + 4 are enough");
    crowd.pop();
    for _ in 0..500 {
        if place.service.waiting() < 10 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    client.watch().await.members(0).await;
}

#[tokio::test]
async fn large_messages_and_unknown_calls_are_refused() {
    let place = Place::new(Clock::real()).await;
    let mut client = Client::connect(&place).await;
    let large = RangeRequest { key: vec![b'a'; 64 << 10], ..Default::default() };
    assert_eq!(client.range(large).await.unwrap_err().code(), Code::OutOfRange);
    let mut watching = client.watch().await;
    let large = WatchCreateRequest { key: vec![b'a'; 64 << 10], ..Default::default() };
    watching.ask(WatchAsk::Create(large)).await;
    assert_eq!(watching.next().await.unwrap_err().code(), Code::OutOfRange);
    for path in [
        "/etcdserverpb.KV/DeleteRange",
        "/etcdserverpb.KV/Txn",
        "/etcdserverpb.Lease/LeaseGrant",
        "/etcdserverpb.Auth/Authenticate",
        "/etcdserverpb.Cluster/MemberList",
        "/grpc.health.v1.Health/Check",
        "/",
    ] {
        let asked: Result<RangeResponse, _> = client.call(path, RangeRequest::default()).await;
        assert_eq!(asked.unwrap_err().code(), Code::Unimplemented, "{path}");
    }
    assert_eq!(client.members().await.count, 0, "the connection has not suffered");
}

/// An HTTP/2 connection frame by frame.
struct Frames(TcpStream);

impl Frames {
    const SETTINGS: u8 = 4;
    const PING: u8 = 6;
    const ACK: u8 = 1;

    async fn connect(place: &Place) -> Self {
        let mut stream = TcpStream::connect(place.address).await.unwrap();
        stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await.unwrap();
        let mut this = Self(stream);
        this.send(Self::SETTINGS, 0, &[]).await;
        this
    }

    async fn send(&mut self, kind: u8, flags: u8, payload: &[u8]) {
        let length = u8::try_from(payload.len()).unwrap();
        let head = [0, 0, length, kind, flags, 0, 0, 0, 0];
        self.0.write_all(&[&head[..], payload].concat()).await.unwrap();
    }

    /// Kind, flags and payload of the next frame.
    async fn next(&mut self) -> (u8, u8, Vec<u8>) {
        let mut head = [0; 9];
        timeout(PATIENCE, self.0.read_exact(&mut head)).await.unwrap().unwrap();
        let mut payload = vec![0; u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize];
        self.0.read_exact(&mut payload).await.unwrap();
        (head[3], head[4], payload)
    }
}

/// etcd pings every few seconds while it waits; a server that finds this too much ends the
/// connection with ENHANCE_YOUR_CALM, and with it the watch.
#[tokio::test]
async fn pings_are_answered_however_many_and_streams_are_few() {
    let place = Place::new(Clock::real()).await;
    let mut frames = Frames::connect(&place).await;
    let (kind, flags, settings) = frames.next().await;
    assert_eq!((kind, flags & Frames::ACK), (Frames::SETTINGS, 0));
    let streams = settings.chunks(6).find(|s| s[..2] == [0, 3]).expect("a limit of streams");
    assert_eq!(streams[2..], [0, 0, 0, 16]);
    for number in 0..500_u64 {
        frames.send(Frames::PING, 0, &number.to_be_bytes()).await;
        loop {
            match frames.next().await {
                (Frames::PING, Frames::ACK, echo) if echo == number.to_be_bytes() => break,
                (kind @ (3 | 7), _, payload) => panic!("frame {kind} after {number}: {payload:?}"),
                _ => {}
            }
        }
    }
}

#[tokio::test]
async fn the_plain_protocol_is_spoken_over_http_2_as_well() {
    let place = Place::new(Clock::real()).await;
    let stream = TcpStream::connect(place.address).await.unwrap();
    let (mut sender, connection) =
        handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    let url = format!("http://{}/{TOKEN}/_config/size", place.address);
    let asked = hyper::Request::get(url).body(Body::empty()).unwrap();
    assert_eq!(sender.send_request(asked).await.unwrap().status(), 200);
    // And what is not HTTP/2 is never gRPC.
    let get = place.get("/_config/size").await;
    assert_eq!(body(&get)["node"]["value"], "3");
}
