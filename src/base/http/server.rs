//! One door: accept, limit, read the request, answer, close gracefully.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Either, Full, Limited};
use hyper::header::{HOST, HeaderMap, HeaderValue};
use hyper::service::service_fn;
use hyper::{Method, StatusCode};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::server::graceful::GracefulShutdown;
use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

/// A request whose body has been read.
#[derive(Debug)]
pub struct Request {
    pub method: Method,
    /// The path as sent, still percent-encoded.
    pub path: String,
    pub query: Option<String>,
    pub headers: HeaderMap,
    pub peer: SocketAddr,
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
}

/// An answer's body: whole, or a stream that may break off on purpose.
pub type Body = Either<Full<Bytes>, BoxBody<Bytes, std::io::Error>>;
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
}

/// What a door puts up with.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    pub connections: usize,
    pub body_bytes: usize,
    pub header_time: Duration,
    pub body_time: Duration,
    /// How long open requests get when the door closes.
    pub drain_time: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 1024,
            body_bytes: 1 << 20,
            header_time: Duration::from_secs(10),
            body_time: Duration::from_secs(30),
            drain_time: Duration::from_secs(30),
        }
    }
}

/// TLS settings that may be replaced while serving.
pub type TlsSettings = watch::Receiver<Arc<ServerConfig>>;

/// A bound socket, not yet answering.
#[derive(Debug)]
pub struct Door {
    listener: TcpListener,
    limits: Limits,
    tls: Option<TlsSettings>,
}

impl Door {
    pub async fn bind(address: SocketAddr, limits: Limits) -> std::io::Result<Self> {
        let listener = TcpListener::bind(address).await?;
        Ok(Self { listener, limits, tls: None })
    }

    /// Speak TLS; new connections use whatever settings are current.
    pub fn with_tls(mut self, settings: TlsSettings) -> Self {
        self.tls = Some(settings);
        self
    }

    pub fn address(&self) -> std::io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Answers until `stop` is cancelled, then lets open requests finish within their limit.
    pub async fn serve<S: Service>(self, service: Arc<S>, stop: CancellationToken) {
        let graceful = GracefulShutdown::new();
        let places = Arc::new(Semaphore::new(self.limits.connections));
        let mut http = auto::Builder::new(TokioExecutor::new());
        http.http1()
            .timer(TokioTimer::new())
            .header_read_timeout(self.limits.header_time)
            .max_buf_size(16 << 10);
        http.http2().timer(TokioTimer::new()).max_concurrent_streams(64);
        let http = Arc::new(http);
        loop {
            // A place is taken before accepting: further clients wait in the
            // kernel's queue instead of costing memory here.
            let place = tokio::select! {
                place = Arc::clone(&places).acquire_owned() => place.expect("never closed"),
                () = stop.cancelled() => break,
            };
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
            if let Err(error) = stream.set_nodelay(true) {
                debug!(%error, "TCP_NODELAY refused");
            }
            let tls = self.tls.as_ref().map(|current| Arc::clone(&current.borrow()));
            let connection = Connection {
                service: Arc::clone(&service),
                limits: self.limits,
                peer,
                http: Arc::clone(&http),
            };
            let watcher = graceful.watcher();
            tokio::spawn(async move {
                connection.run(stream, tls, watcher).await;
                drop(place);
            });
        }
        drop(self.listener);
        if tokio::time::timeout(self.limits.drain_time, graceful.shutdown()).await.is_err() {
            warn!("connections were cut off at the end of the drain time");
        }
    }
}

struct Connection<S> {
    service: Arc<S>,
    limits: Limits,
    peer: SocketAddr,
    http: Arc<auto::Builder<TokioExecutor>>,
}

impl<S: Service> Connection<S> {
    async fn run(
        self,
        stream: TcpStream,
        tls: Option<Arc<ServerConfig>>,
        watcher: hyper_util::server::graceful::Watcher,
    ) {
        let Some(config) = tls else {
            return self.speak(stream, watcher).await;
        };
        let handshake = TlsAcceptor::from(config).accept(stream);
        match tokio::time::timeout(self.limits.header_time, handshake).await {
            Ok(Ok(stream)) => self.speak(stream, watcher).await,
            Ok(Err(error)) => debug!(peer = %self.peer, %error, "TLS handshake failed"),
            Err(_) => debug!(peer = %self.peer, "TLS handshake timed out"),
        }
    }

    async fn speak(
        self,
        stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
        watcher: hyper_util::server::graceful::Watcher,
    ) {
        let Self { service, limits, peer, http } = self;
        let answer = service_fn(move |request: hyper::Request<hyper::body::Incoming>| {
            let service = Arc::clone(&service);
            async move {
                let request = read(request, limits, peer).await;
                Ok::<_, std::convert::Infallible>(service.handle(request).await)
            }
        });
        let connection = http.serve_connection(TokioIo::new(stream), answer);
        if let Err(error) = watcher.watch(connection.into_owned()).await {
            debug!(%peer, %error, "connection ended");
        }
    }
}

async fn read(
    request: hyper::Request<hyper::body::Incoming>,
    limits: Limits,
    peer: SocketAddr,
) -> Request {
    let (mut parts, body) = request.into_parts();
    // HTTP/2 says it in a pseudo-header; whoever reads requests looks for one thing only.
    if let Some(authority) = parts.uri.authority()
        && let Ok(value) = HeaderValue::from_str(authority.as_str())
    {
        parts.headers.entry(HOST).or_insert(value);
    }
    let reading = Limited::new(body, limits.body_bytes).collect();
    let body = match tokio::time::timeout(limits.body_time, reading).await {
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(e)) if e.is::<http_body_util::LengthLimitError>() => {
            Err(BodyError::TooLarge { limit: limits.body_bytes })
        }
        Ok(Err(_)) => Err(BodyError::Broken),
        Err(_) => Err(BodyError::Slow),
    };
    Request {
        method: parts.method,
        path: parts.uri.path().to_owned(),
        query: parts.uri.query().map(ToOwned::to_owned),
        headers: parts.headers,
        peer,
        body,
    }
}
