//! One listener: accept, limit, answer, close gracefully.

use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{Either, Full};
use hyper::header::{HeaderMap, HeaderValue};
use hyper::{Method, StatusCode};
use rustls::ServerConfig;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use super::connection::{Closing, Connection, Protocols};
use super::pace::{Crowd, Pace};
use super::room::{Room, Rooms};
use super::sources::{Displaced, Sources};
use crate::base::metrics::{
    Counter, Durations, EncodeLabelSet, Family, Gauge, MetricSet, Registry, Unit, durations,
};

/// A request whose body has been read.
#[derive(Clone, Debug)]
pub struct Request {
    pub method: Method,
    /// The path as sent, still percent-encoded.
    pub path: String,
    pub query: Option<String>,
    pub headers: HeaderMap,
    pub peer: SocketAddr,
    /// The client's certificate in DER, if it showed one: signed by an authority that the listener
    /// believes, and its key is the client's.
    pub certificate: Option<Arc<[u8]>>,
    /// When the connection was made, or the request before this one had been read.
    pub since: Instant,
    pub body: Result<Bytes, BodyError>,
}

impl Request {
    /// A header's text, if present and printable.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }
}

/// Why a request's body is not there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BodyError {
    #[error("The request body is larger than {limit} bytes.")]
    TooLarge { limit: usize },
    #[error("The request body did not arrive in time.")]
    Slow,
    #[error("The request body is incomplete.")]
    Broken,
    /// Too much is being read for others, or for this client, already.
    #[error("Too many large requests are being read at this moment; try again in a few seconds.")]
    Crowded,
}

/// An answer's body: whole, or a stream that may break off on purpose.
pub type Body = Either<Full<Bytes>, UnsyncBoxBody<Bytes, std::io::Error>>;
pub type Response = hyper::Response<Body>;

/// A whole body with a content type.
pub fn response(
    status: StatusCode,
    content_type: &'static str,
    body: impl Into<Bytes>,
) -> Response {
    let mut response = hyper::Response::new(Either::Left(Full::new(body.into())));
    *response.status_mut() = status;
    let value = HeaderValue::from_static(content_type);
    response.headers_mut().insert(hyper::header::CONTENT_TYPE, value);
    response
}

/// JSON with its content type.
pub fn json(status: StatusCode, body: &serde_json::Value) -> Response {
    response(status, "application/json", body.to_string())
}

/// A status and nothing else.
pub fn empty(status: StatusCode) -> Response {
    let mut response = hyper::Response::new(Either::Left(Full::default()));
    *response.status_mut() = status;
    response
}

/// Whoever answers requests.
pub trait Service: Send + Sync + 'static {
    fn handle(&self, request: Request) -> impl Future<Output = Response> + Send;

    /// The name under which a request is counted: of a route, never of what it names, so that
    /// there are few.
    fn route(&self, _request: &Request) -> &'static str {
        "any"
    }

    /// The route of a request that is to be answered while it is read; None for those that are
    /// handled once they are whole.
    fn streams(&self, _request: &Unread) -> Option<&'static str> {
        None
    }

    /// The answer to a request whose own found no room.
    fn crowded(&self) -> Response {
        let words = "Too many large answers are being sent at this moment; try again in a few \
                     seconds.\n";
        response(StatusCode::SERVICE_UNAVAILABLE, "text/plain; charset=UTF-8", words)
    }

    /// Answers a request that [`Service::streams`] has a route for.
    fn stream(&self, _request: Unread, _origin: Origin) -> Answering {
        Box::pin(std::future::ready(empty(StatusCode::NOT_IMPLEMENTED)))
    }
}

/// An answer on its way.
pub type Answering = Pin<Box<dyn Future<Output = Response> + Send>>;

/// A request of which only the head has been read.
pub type Unread = hyper::Request<hyper::body::Incoming>;

/// Where and when a request began.
#[derive(Clone, Copy, Debug)]
pub struct Origin {
    pub peer: SocketAddr,
    pub since: Instant,
}

/// What a listener puts up with.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    pub connections: usize,
    /// Of these, from one IPv4 address or one IPv6 /64; whoever comes with more is hung up on. Where
    /// all are taken, whoever comes from elsewhere has the place of one of those who hold most.
    /// Where it is `usize::MAX`, one source may have all of the bytes below too.
    pub per_source: usize,
    /// Requests at once on one HTTP/2 connection.
    pub streams: u32,
    pub body_bytes: usize,
    /// For all large bodies that are held at once; one source gets half of it.
    pub bodies_bytes: usize,
    /// For all answers that wait to be taken and are not small; one source gets half of it, one
    /// connection a quarter.
    pub answers_bytes: usize,
    pub header_time: Duration,
    /// After which time without a new request an HTTP/2 connection is closed; requests that are
    /// on their way are finished.
    pub idle_time: Duration,
    pub body_time: Duration,
    /// How long a client may take nothing of what it is sent, and how long it may take over each
    /// MiB of a large answer.
    pub write_time: Duration,
    /// How long open requests get when the listener closes.
    pub drain_time: Duration,
}

impl Limits {
    /// What one source gets of bytes that are for all.
    pub(super) const fn of_a_source(&self, bytes: usize) -> usize {
        match self.per_source {
            usize::MAX => bytes,
            _ => bytes / 2,
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 1024,
            per_source: usize::MAX,
            streams: 16,
            body_bytes: 1 << 20,
            bodies_bytes: 32 << 20,
            answers_bytes: 32 << 20,
            header_time: Duration::from_secs(10),
            idle_time: Duration::from_secs(75),
            body_time: Duration::from_secs(30),
            write_time: Duration::from_secs(30),
            drain_time: Duration::from_secs(30),
        }
    }
}

/// TLS settings that may be replaced while serving.
pub type TlsSettings = watch::Receiver<Arc<ServerConfig>>;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Answered {
    listener: &'static str,
    route: &'static str,
    method: &'static str,
    status: u32,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Asked {
    listener: &'static str,
    route: &'static str,
    method: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct At {
    listener: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Cut {
    listener: &'static str,
    reason: &'static str,
}

/// What listeners count. Clones count together.
#[derive(Clone, Debug)]
pub struct ListenerMetrics {
    requests: Family<Answered, Counter>,
    seconds: Durations<Asked>,
    connections: Family<At, Gauge>,
    cut: Family<Cut, Counter>,
    refused: Family<At, Counter>,
}

impl Default for ListenerMetrics {
    fn default() -> Self {
        Self {
            requests: Family::default(),
            seconds: durations(),
            connections: Family::default(),
            cut: Family::default(),
            refused: Family::default(),
        }
    }
}

impl MetricSet for ListenerMetrics {
    fn register(&self, registry: &mut Registry) {
        registry.register(
            "http_requests",
            "Requests answered, by listener, route, method and status",
            self.requests.clone(),
        );
        registry.register_with_unit(
            "http_request_duration",
            "From the whole request to the head of its answer",
            Unit::Seconds,
            self.seconds.clone(),
        );
        registry.register("http_connections", "Open connections", self.connections.clone());
        registry.register(
            "http_connections_cut",
            "Connections hung up on for what the client did, by listener and reason",
            self.cut.clone(),
        );
        registry.register(
            "http_answers_refused",
            "Answers that were dropped because too much waited to be taken, by listener",
            self.refused.clone(),
        );
    }
}

impl ListenerMetrics {
    pub(super) fn answered(
        &self,
        listener: &'static str,
        route: &'static str,
        method: &'static str,
        status: StatusCode,
        took: Duration,
    ) {
        let status = u32::from(status.as_u16());
        self.requests.get_or_create(&Answered { listener, route, method, status }).inc();
        self.seconds.get_or_create(&Asked { listener, route, method }).observe(took.as_secs_f64());
    }

    pub(super) fn cut(&self, listener: &'static str, reason: &'static str) {
        self.cut.get_or_create(&Cut { listener, reason }).inc();
    }

    pub(super) fn refused(&self, listener: &'static str) {
        self.refused.get_or_create(&At { listener }).inc();
    }

    fn connections(&self, listener: &'static str) -> Gauge {
        self.connections.get_or_create_owned(&At { listener })
    }
}

/// How many clients the kernel lets wait to be accepted, if it allows as many: when they are too
/// many at once the others try again after a second only.
const BACKLOG: u32 = 4096;
/// How long connections in use have to learn that they end.
const LEAVING: Duration = Duration::from_millis(100);
/// How often it is looked whether somebody can go for one who waits for a place.
const LOOK: Duration = Duration::from_millis(50);

/// Has the kernel drop what comes to a listening socket; clients try again, and are refused
/// once it is closed. Connections that wait to be accepted are not touched.
fn turn_away(listener: &TcpListener) -> std::io::Result<()> {
    /// `BPF_RET | BPF_K`: return a constant, of which 0 means to keep nothing of a packet.
    const RETURN: u16 = 0x06;
    let nothing = [socket2::SockFilter::new(RETURN, 0, 0, 0)];
    socket2::SockRef::from(listener).attach_filter(&nothing)
}

/// A bound socket, not yet answering.
#[derive(Debug)]
pub struct HttpListener {
    listener: TcpListener,
    limits: Limits,
    tls: Option<TlsSettings>,
    name: &'static str,
    metrics: ListenerMetrics,
}

impl HttpListener {
    pub async fn bind(address: SocketAddr, limits: Limits) -> std::io::Result<Self> {
        let socket = match address {
            SocketAddr::V4(_) => TcpSocket::new_v4()?,
            SocketAddr::V6(_) => TcpSocket::new_v6()?,
        };
        socket.set_reuseaddr(true)?;
        socket.bind(address)?;
        let listener = socket.listen(BACKLOG)?;
        let metrics = ListenerMetrics::default();
        Ok(Self { listener, limits, tls: None, name: "unnamed", metrics })
    }

    /// Speak TLS; new connections use whatever settings are current.
    pub fn with_tls(mut self, settings: TlsSettings) -> Self {
        self.tls = Some(settings);
        self
    }

    /// Count in `metrics`, under `name`.
    pub fn counted(mut self, name: &'static str, metrics: &ListenerMetrics) -> Self {
        self.name = name;
        self.metrics = metrics.clone();
        // Shown as 0 from the start: a counter that appears late hides its first steps.
        for reason in ["source", "displaced", "crowded", "untaken", "slow", "called-off", "stays"] {
            drop(self.metrics.cut.get_or_create(&Cut { listener: name, reason }));
        }
        drop(self.metrics.refused.get_or_create(&At { listener: name }));
        self
    }

    pub fn address(&self) -> std::io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Answers until `stop` is cancelled, then lets open requests finish within their limit.
    pub async fn serve<S: Service>(self, service: Arc<S>, stop: CancellationToken) {
        let closing = Closing::new(stop.clone());
        let places = Arc::new(Semaphore::new(self.limits.connections));
        let protocols = Arc::new(Protocols::new(&self.limits));
        let room = Room::new(self.limits.answers_bytes);
        let sources = Sources::new(self.limits.of_a_source(self.limits.answers_bytes));
        let crowd = Crowd::new(self.limits.write_time, self.limits.connections, Arc::clone(&room));
        let open = |stream: TcpStream, peer: SocketAddr, place: OwnedSemaphorePermit| {
            let pace = Pace::new(Arc::clone(&crowd));
            let held = sources.enter(peer.ip(), &pace);
            if let Err(error) = stream.set_nodelay(true) {
                debug!(%error, "TCP_NODELAY refused");
            }
            let connection = Connection {
                service: Arc::clone(&service),
                limits: self.limits,
                peer,
                accepted: Instant::now(),
                protocols: Arc::clone(&protocols),
                tls: self.tls.as_ref().map(|current| Arc::clone(&current.borrow())),
                closing: closing.clone(),
                rooms: Rooms::new(&self.limits, Arc::clone(&held.room), Arc::clone(&room)),
                held,
                pace: Arc::clone(&pace),
                name: self.name,
                metrics: self.metrics.clone(),
            };
            let (open, cut) = (self.metrics.connections(self.name), closing.cut.clone());
            let (metrics, name) = (self.metrics.clone(), self.name);
            // In the heap: what is waited for as an argument has two places in its task.
            let runs = Box::pin(connection.run(stream));
            tokio::spawn(async move {
                open.inc();
                tokio::select! {
                    _ = cut.run_until_cancelled(runs) => {}
                    () = pace.has_to_go() => {
                        debug!(%peer, "another has the place of this connection");
                        metrics.cut(name, "displaced");
                    }
                }
                open.dec();
                drop(place);
            });
        };
        // A place for one who has come, in place of somebody else's if there is no other.
        let place_for = async |peer: SocketAddr| {
            let is_alone = self.limits.per_source == usize::MAX;
            let (most, all) = (self.limits.per_source, self.limits.connections);
            if sources.is_full(peer.ip(), most) {
                return Err("source");
            }
            loop {
                if let Ok(place) = Arc::clone(&places).try_acquire_owned() {
                    return Ok(place);
                }
                match sources.displace(peer.ip(), all) {
                    Displaced::Itself if !is_alone => return Err("crowded"),
                    // Behind a proxy all clients are one source, of which nobody is turned away.
                    Displaced::Itself | Displaced::Nobody | Displaced::Other => {}
                }
                // Whoever was told to go is gone in a moment.
                let place = Arc::clone(&places).acquire_owned();
                if let Ok(place) = tokio::time::timeout(LOOK, place).await {
                    return Ok(place.expect("never closed"));
                }
            }
        };
        let mut waits = None;
        loop {
            // No more than one is accepted beyond the places: where nobody can go for it, further
            // clients wait in the kernel's queue instead of costing memory here.
            let (stream, peer) = tokio::select! {
                accepted = self.listener.accept() => match accepted {
                    Ok(accepted) => accepted,
                    Err(error) => {
                        // Out of file descriptors, most likely: wait for some to return.
                        warn!(%error, "cannot accept a connection");
                        tokio::time::sleep(Duration::from_millis(100)).await;
                        continue;
                    }
                },
                () = stop.cancelled() => break,
            };
            let place = tokio::select! {
                place = place_for(peer) => place,
                () = stop.cancelled() => {
                    waits = Some((stream, peer));
                    break;
                }
            };
            match place {
                Ok(place) => open(stream, peer, place),
                Err(reason) => {
                    debug!(%peer, reason, "hung up on at once");
                    self.metrics.cut(self.name, reason);
                }
            }
        }
        // Whoever waits in the kernel's queue believes to be connected, and may have asked
        // already: closing the socket now would break off those requests. So nobody new comes
        // in, and those who are there are let in.
        if let Err(error) = turn_away(&self.listener) {
            debug!(%error, "new connections cannot be held off before closing");
        }
        while let Ok(place) = Arc::clone(&places).try_acquire_owned() {
            if let Some((stream, peer)) = waits.take() {
                open(stream, peer, place);
                continue;
            }
            match tokio::time::timeout(Duration::ZERO, self.listener.accept()).await {
                Ok(Ok((stream, peer))) => open(stream, peer, place),
                Ok(Err(_)) | Err(_) => break,
            }
        }
        drop(self.listener);
        let all = u32::try_from(self.limits.connections).unwrap_or(u32::MAX);
        if places.try_acquire_many(all).is_ok() {
            return;
        }
        // Answers say now that they are the last on their connection, so that whoever keeps one
        // busy leaves by himself: to close it would break off what is on its way to us.
        tokio::time::sleep(LEAVING).await;
        closing.leave.cancel();
        if tokio::time::timeout(self.limits.drain_time, places.acquire_many(all)).await.is_err() {
            warn!("connections are cut off at the end of the drain time");
            closing.cut.cancel();
        }
    }
}
