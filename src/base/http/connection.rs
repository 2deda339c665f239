//! One connection: what it speaks, its requests, its end.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use hyper::Method;
use hyper::body::Incoming;
use hyper::header::{CONNECTION, HOST, HeaderValue};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tracing::debug;

use super::pace::{Pace, Wire};
use super::room::{self, Rooms};
use super::server::{BodyError, Limits, ListenerMetrics, Origin, Request, Service, Unread};
use super::sources::{Held, Reserved};

/// How long a connection that has said nothing yet may still begin once the listener closes.
const LAST_WORDS: Duration = Duration::from_secs(1);
/// How often HTTP/2 clients are asked whether they are still there.
const KEEP_ALIVE: Duration = Duration::from_secs(30);
/// The most of one stream's answer that HTTP/2 holds before it asks for more of it. With a part
/// on top, sixteen streams of a client that opens no window hold 192 KiB.
const STREAM_BUFFER: usize = 4 << 10;
/// What clients may send over HTTP/2 before somebody reads it: one stream, and all together.
const STREAM_WINDOW: u32 = 32 << 10;
const WINDOW: u32 = 64 << 10;
/// What HTTP/1 reads ahead, which is the most of a request's head, and holds of an answer.
const HTTP_1_BUFFER: usize = 16 << 10;
/// Of all header fields of a request, over HTTP/2.
const HEADERS: u32 = 16 << 10;
/// A body up to here is counted as part of its connection.
const SMALL_BODY: usize = 16 << 10;
/// What HTTP/2 begins with.
const PREFACE: &[u8] = b"PRI ";
/// The first byte of a TLS handshake.
const HANDSHAKE: u8 = 0x16;

/// HTTP/1 and HTTP/2, each ready to be spoken.
///
/// hyper can find out by itself which of the two a client means, but a connection on which it
/// is still finding out is cut when the listener closes; so we look.
pub(super) struct Protocols {
    one: auto::Builder<TokioExecutor>,
    two: auto::Builder<TokioExecutor>,
}

impl Protocols {
    pub fn new(limits: &Limits) -> Self {
        let mut http = auto::Builder::new(TokioExecutor::new());
        http.http1()
            .timer(TokioTimer::new())
            .header_read_timeout(limits.header_time)
            .max_buf_size(HTTP_1_BUFFER);
        // No pipeline_flush: it holds back the 400 for what is not HTTP until there is more.
        // A guest that vanished would hold its connection for ever: some requests never end.
        http.http2()
            .timer(TokioTimer::new())
            .keep_alive_interval(KEEP_ALIVE)
            .max_send_buf_size(STREAM_BUFFER)
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(WINDOW)
            .max_header_list_size(HEADERS)
            .max_local_error_reset_streams(64)
            .max_concurrent_streams(limits.streams);
        Self { one: http.clone().http1_only(), two: http.http2_only() }
    }

    fn of(&self, is_two: bool) -> &auto::Builder<TokioExecutor> {
        if is_two { &self.two } else { &self.one }
    }
}

/// How far a listener has closed; each step follows the one before.
#[derive(Clone)]
pub(super) struct Closing {
    /// Nobody new comes in, and answers are the last on their connection.
    pub stop: CancellationToken,
    /// Connections that are not in use end.
    pub leave: CancellationToken,
    /// All connections end.
    pub cut: CancellationToken,
}

impl Closing {
    pub fn new(stop: CancellationToken) -> Self {
        Self { stop, leave: CancellationToken::new(), cut: CancellationToken::new() }
    }
}

pub(super) struct Connection<S> {
    pub service: Arc<S>,
    pub limits: Limits,
    pub peer: SocketAddr,
    pub accepted: Instant,
    pub protocols: Arc<Protocols>,
    pub tls: Option<Arc<ServerConfig>>,
    pub closing: Closing,
    pub held: Arc<Held>,
    pub rooms: Rooms,
    pub pace: Arc<Pace>,
    pub name: &'static str,
    pub metrics: ListenerMetrics,
}

impl<S: Service> Connection<S> {
    pub async fn run(mut self, stream: TcpStream) {
        let peer = self.peer;
        let too_late = async {
            self.closing.leave.cancelled().await;
            tokio::time::sleep(LAST_WORDS).await;
        };
        let begins = tokio::select! {
            begins = timeout(self.limits.header_time, beginning(&stream)) => match begins {
                Ok(Ok(begins)) => begins,
                Ok(Err(error)) => return debug!(%peer, %error, "connection ended unused"),
                Err(_) => return debug!(%peer, "connection timed out unused"),
            },
            () = too_late => return,
        };
        // What follows is in the heap: a connection that has said nothing yet costs little.
        let pace = Arc::clone(&self.pace);
        match self.tls.take() {
            None => {
                let wire = Wire::new(stream, Arc::clone(&pace));
                Box::pin(self.speak(wire, begins == PREFACE, None, pace)).await;
            }
            Some(_) if begins.first() != Some(&HANDSHAKE) => {
                Box::pin(refuse_plaintext(stream, peer)).await;
            }
            Some(config) => Box::pin(self.within_tls(config, stream, pace)).await,
        }
    }

    async fn within_tls(self, config: Arc<ServerConfig>, stream: TcpStream, pace: Arc<Pace>) {
        let peer = self.peer;
        let handshake = TlsAcceptor::from(config).accept(Wire::new(stream, Arc::clone(&pace)));
        match timeout(self.limits.header_time, Box::pin(handshake)).await {
            Ok(Ok(stream)) => {
                let session = stream.get_ref().1;
                let is_two = session.alpn_protocol() == Some(b"h2");
                let shown = session.peer_certificates().and_then(|chain| chain.first());
                let certificate = shown.map(|leaf| Arc::from(leaf.as_ref()));
                Box::pin(self.speak(stream, is_two, certificate, pace)).await;
            }
            Ok(Err(error)) => debug!(%peer, %error, "TLS handshake failed"),
            Err(_) => debug!(%peer, "TLS handshake timed out"),
        }
    }

    async fn speak(
        self,
        stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
        is_two: bool,
        certificate: Option<Arc<[u8]>>,
        pace: Arc<Pace>,
    ) {
        let Self { service, limits, peer, accepted, protocols, closing, .. } = self;
        let (name, metrics, held, rooms) = (self.name, self.metrics, self.held, self.rooms);
        let Closing { stop, leave, .. } = closing;
        let in_use = CancellationToken::new();
        let used = in_use.clone();
        let asked = Arc::new(Notify::new());
        let asking = Arc::clone(&asked);
        let (paced, counted) = (Arc::clone(&pace), metrics.clone());
        let answer = service_fn(move |request: Unread| {
            let mut answering = paced.asked();
            let reserved = Reserved::none(Arc::clone(&held));
            let since = if used.is_cancelled() { Instant::now() } else { accepted };
            used.cancel();
            asking.notify_one();
            let (service, metrics) = (Arc::clone(&service), counted.clone());
            let (stop, certificate, rooms) = (stop.clone(), certificate.clone(), rooms.clone());
            // On its own in the heap: HTTP/2 keeps the place of what answers a request for as
            // long as the answer waits to be taken, and this is several times as large.
            Box::pin(async move {
                let (method, origin) = (word(request.method()), Origin { peer, since });
                let mut began = Instant::now();
                let (route, answered) = match service.streams(&request) {
                    Some(route) => {
                        answering.is_read();
                        (route, Some((service.stream(request, origin).await, None)))
                    }
                    None => {
                        let mut reserved = reserved;
                        let mut request = read(request, &limits, origin, &mut reserved).await;
                        answering.is_read();
                        request.certificate = certificate;
                        began = Instant::now();
                        let (route, patience) = (service.route(&request), limits.write_time / 3);
                        (route, room::answered(&*service, request, &rooms, patience).await)
                    }
                };
                let (mut response, large) = answered.unwrap_or_else(|| {
                    metrics.refused(name);
                    (room::refused(&*service), None)
                });
                if stop.is_cancelled() && !is_two {
                    response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
                }
                metrics.answered(name, route, method, response.status(), began.elapsed());
                Ok::<_, std::convert::Infallible>(
                    response.map(|body| answering.answer(body, large)),
                )
            })
        });
        let protocol = protocols.of(is_two);
        // A place of its own: as a local it would have two, before and after it is pinned.
        let mut connection = Box::pin(protocol.serve_connection(TokioIo::new(stream), answer));
        let leaves = async {
            leave.cancelled().await;
            // hyper would close a connection that nobody has used yet, whatever is on its way.
            let _silent = timeout(LAST_WORDS, in_use.cancelled()).await;
        };
        // HTTP/1 has its limit for each request's head.
        let falls_silent = async {
            if !is_two {
                return std::future::pending().await;
            }
            let first = limits.header_time.min(limits.idle_time);
            if timeout(first, asked.notified()).await.is_ok() {
                while timeout(limits.idle_time, asked.notified()).await.is_ok() {}
            }
        };
        let ends = async {
            tokio::select! {
                () = leaves => {}
                () = falls_silent => {}
            }
        };
        let mut fails = std::pin::pin!(pace.fails());
        let ended = tokio::select! {
            biased;
            ended = connection.as_mut() => Ok(ended),
            reason = fails.as_mut() => Err(reason),
            () = ends => {
                connection.as_mut().graceful_shutdown();
                // Whoever neither hangs up nor takes the end of his answers keeps nothing open.
                tokio::select! {
                    ended = connection.as_mut() => Ok(ended),
                    reason = fails.as_mut() => Err(reason),
                    () = pace.is_done() => Err("stays"),
                }
            }
        };
        match ended {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                debug!(%peer, %error, "connection ended");
                if pace.is_cut() {
                    metrics.cut(name, "untaken");
                }
            }
            Err(reason) => {
                debug!(%peer, reason, "connection cut");
                metrics.cut(name, reason);
                pace.cut();
            }
        }
    }
}

/// The first bytes, left where they are: enough to tell HTTP/2 and TLS from the rest.
async fn beginning(stream: &TcpStream) -> std::io::Result<Vec<u8>> {
    let mut seen = [0; PREFACE.len()];
    let mut pause = Duration::from_millis(5);
    loop {
        match stream.peek(&mut seen).await? {
            0 => return Err(std::io::ErrorKind::UnexpectedEof.into()),
            some if some < seen.len() && PREFACE.starts_with(&seen[..some]) => {
                // A peek does not wait for more than there is. Those who send one byte and no
                // more are not looked after all the time.
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(Duration::from_millis(500));
            }
            some => return Ok(seen[..some].to_vec()),
        }
    }
}

/// Tells a client that speaks HTTP where TLS is spoken, in the words it understands.
async fn refuse_plaintext(mut stream: TcpStream, peer: SocketAddr) {
    debug!(%peer, "a plaintext request on a TLS port");
    const ANSWER: &str = "HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain; charset=UTF-8\r\n\
                          Content-Length: 38\r\nConnection: close\r\n\r\n\
                          This port speaks TLS: use https here.\n";
    let exchange = async {
        stream.write_all(ANSWER.as_bytes()).await?;
        stream.shutdown().await?;
        // What was sent is read, or the kernel would break off our answer.
        let mut rest = [0; 4096];
        for _ in 0..64 {
            if stream.read(&mut rest).await? == 0 {
                break;
            }
        }
        Ok::<_, std::io::Error>(())
    };
    // Whoever does not listen is not told.
    let _gone = timeout(LAST_WORDS, exchange).await;
}

/// Methods are invented by clients; those we count are not.
fn word(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::PATCH => "PATCH",
        Method::DELETE => "DELETE",
        Method::OPTIONS => "OPTIONS",
        _ => "other",
    }
}

async fn read(
    request: Unread,
    limits: &Limits,
    origin: Origin,
    reserved: &mut Reserved,
) -> Request {
    let (mut parts, body) = request.into_parts();
    // HTTP/2 says it in a pseudo-header; whoever reads requests looks for one thing only.
    if let Some(authority) = parts.uri.authority()
        && let Ok(value) = HeaderValue::from_str(authority.as_str())
    {
        parts.headers.entry(HOST).or_insert(value);
    }
    let body = match timeout(limits.body_time, gather(body, limits, reserved)).await {
        Ok(body) => body,
        Err(_) => Err(BodyError::Slow),
    };
    Request {
        method: parts.method,
        path: parts.uri.path().to_owned(),
        query: parts.uri.query().map(ToOwned::to_owned),
        headers: parts.headers,
        peer: origin.peer,
        certificate: None,
        since: origin.since,
        body,
    }
}

async fn gather(
    mut body: Incoming,
    limits: &Limits,
    reserved: &mut Reserved,
) -> Result<Bytes, BodyError> {
    let limit = limits.body_bytes;
    let own = limits.of_a_source(limits.bodies_bytes);
    let mut gathered = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame.map_err(|_| BodyError::Broken)?.into_data() else { continue };
        let length = gathered.len() + data.len();
        if length > limit {
            return Err(BodyError::TooLarge { limit });
        }
        if length > SMALL_BODY && !reserved.more(data.len(), own, limits.bodies_bytes) {
            return Err(BodyError::Crowded);
        }
        gathered.extend_from_slice(&data);
    }
    Ok(gathered.freeze())
}

#[cfg(test)]
mod tests {
    use tokio::sync::watch;

    use super::*;
    use crate::base::http::server::{HttpListener, Response, response};
    use crate::base::http::tls;

    /// Takes a moment, and says which path was asked for.
    struct Echo;

    impl Service for Echo {
        async fn handle(&self, request: Request) -> Response {
            tokio::time::sleep(Duration::from_millis(200)).await;
            response(hyper::StatusCode::OK, "text/plain", request.path)
        }
    }

    async fn listener(tls: bool) -> (SocketAddr, CancellationToken, tokio::task::JoinHandle<()>) {
        let limits = Limits { idle_time: Duration::from_millis(500), ..Limits::default() };
        let listener = HttpListener::bind(([127, 0, 0, 1], 0).into(), limits).await.unwrap();
        let (address, stop) = (listener.address().unwrap(), CancellationToken::new());
        let listener = match tls {
            true => {
                let names = vec!["127.0.0.1".to_owned()];
                let made = rcgen::generate_simple_self_signed(names).unwrap();
                let key = made.signing_key.serialize_pem();
                let config = tls::server_config(&made.cert.pem(), &key).unwrap();
                listener.with_tls(watch::channel(Arc::new(config)).1)
            }
            false => listener,
        };
        (address, stop.clone(), tokio::spawn(listener.serve(Arc::new(Echo), stop)))
    }

    async fn ask(stream: &mut TcpStream, path: &str) {
        let text = format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n");
        stream.write_all(text.as_bytes()).await.unwrap();
    }

    async fn rest(stream: &mut TcpStream) -> String {
        let mut text = Vec::new();
        stream.read_to_end(&mut text).await.unwrap();
        String::from_utf8(text).unwrap()
    }

    #[tokio::test]
    async fn whoever_has_asked_is_answered_though_the_door_closes() {
        let (address, stop, served) = listener(false).await;
        // Connected and asked, but not yet accepted: the listener's task has had no turn.
        let mut early = std::net::TcpStream::connect(address).unwrap();
        std::io::Write::write_all(&mut early, b"GET /early HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
        early.set_nonblocking(true).unwrap();
        let mut early = TcpStream::from_std(early).unwrap();
        // Connected, and silent for a while yet.
        let mut late = std::net::TcpStream::connect(address).unwrap();
        let silent = std::net::TcpStream::connect(address).unwrap();
        stop.cancel();
        tokio::time::sleep(Duration::from_millis(150)).await;
        std::io::Write::write_all(&mut late, b"GET /late HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
        late.set_nonblocking(true).unwrap();
        let mut late = TcpStream::from_std(late).unwrap();
        for (stream, path) in [(&mut early, "/early"), (&mut late, "/late")] {
            let answer = rest(stream).await;
            assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with(path), "{answer}");
            assert!(answer.to_lowercase().contains("connection: close"), "{answer}");
        }
        served.await.unwrap();
        assert!(TcpStream::connect(address).await.is_err());
        drop(silent);
    }

    #[tokio::test]
    async fn a_plaintext_request_to_a_tls_port_is_told_so() {
        let (address, stop, served) = listener(true).await;
        let mut stream = TcpStream::connect(address).await.unwrap();
        ask(&mut stream, "/").await;
        let answer = rest(&mut stream).await;
        assert!(answer.starts_with("HTTP/1.1 400 Bad Request\r\n"), "{answer}");
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        assert!(head.contains(&format!("Content-Length: {}\r\n", body.len())), "{answer}");
        assert_eq!(body, "This port speaks TLS: use https here.\n");
        stop.cancel();
        served.await.unwrap();
    }

    #[tokio::test]
    async fn http_2_is_known_by_its_first_words_however_they_arrive() {
        let (address, stop, served) = listener(false).await;
        let mut stream = TcpStream::connect(address).await.unwrap();
        for part in [&b"PR"[..], b"I * HTTP/2.0\r\n\r\nSM\r\n\r\n", &[0, 0, 0, 4, 0, 0, 0, 0, 0]] {
            stream.write_all(part).await.unwrap();
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let mut frame = [0; 9];
        stream.read_exact(&mut frame).await.unwrap();
        assert_eq!(frame[3], 4, "the server's settings");
        drop(stream);
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream
            .write_all(b"PRIVET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            .await
            .unwrap();
        assert!(rest(&mut stream).await.starts_with("HTTP/1.1 200"), "a method like any other");
        stop.cancel();
        served.await.unwrap();
    }

    #[tokio::test]
    async fn http_2_that_falls_silent_is_told_to_go() {
        const PING: u8 = 6;
        const GOAWAY: u8 = 7;
        let (address, stop, served) = listener(false).await;
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await.unwrap();
        stream.write_all(&[0, 0, 0, 4, 0, 0, 0, 0, 0]).await.unwrap();
        let mut kinds = Vec::new();
        let frames = async {
            let mut head = [0; 9];
            while stream.read_exact(&mut head).await.is_ok() {
                kinds.push(head[3]);
                let length = usize::from(head[1]) << 8 | usize::from(head[2]);
                let mut payload = vec![0; length];
                stream.read_exact(&mut payload).await.unwrap();
                if head[3] == PING {
                    // Acknowledged, as every client does.
                    stream.write_all(&[0, 0, 8, PING, 1, 0, 0, 0, 0]).await.unwrap();
                    stream.write_all(&payload).await.unwrap();
                }
            }
        };
        timeout(Duration::from_secs(20), frames).await.expect("the connection is closed");
        assert!(kinds.contains(&GOAWAY), "{kinds:?}");
        stop.cancel();
        served.await.unwrap();
    }
}
