//! Requests as bytes, and what comes back: no client that would tidy them up.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

/// Longer than any answer takes, on the wall.
const PATIENCE: Duration = Duration::from_secs(60);

/// What is sent.
#[derive(Clone, Debug, Default)]
pub struct Sent {
    pub method: String,
    pub path: String,
    pub headers: Vec<(&'static str, Vec<u8>)>,
    pub body: Vec<u8>,
}

/// What comes back.
#[derive(Clone, Debug)]
pub struct Answer {
    pub status: u16,
    pub head: String,
    pub body: Vec<u8>,
}

impl Sent {
    pub fn new(method: &str, path: &str) -> Self {
        Self { method: method.to_owned(), path: path.to_owned(), ..Self::default() }
    }

    pub fn header(mut self, name: &'static str, value: impl Into<Vec<u8>>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    pub fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = body.into();
        self
    }

    fn bytes(&self) -> Vec<u8> {
        let mut bytes = format!("{} {} HTTP/1.1\r\n", self.method, self.path).into_bytes();
        if !self.headers.iter().any(|(name, _)| *name == "host") {
            bytes.extend_from_slice(b"host: magnum.example\r\n");
        }
        for (name, value) in &self.headers {
            // What would end a line ends the request, which is no input of ours.
            let value = value.iter().copied().filter(|b| !matches!(b, b'\r' | b'\n' | 0));
            bytes.extend_from_slice(name.as_bytes());
            bytes.extend_from_slice(b": ");
            bytes.extend(value);
            bytes.extend_from_slice(b"\r\n");
        }
        let length = self.body.len();
        bytes.extend_from_slice(format!("content-length: {length}\r\n\r\n").as_bytes());
        bytes.extend_from_slice(&self.body);
        bytes
    }
}

impl Answer {
    pub fn json(&self) -> Option<Value> {
        serde_json::from_slice(&self.body).ok()
    }

    /// Whether the request was no HTTP, so that nobody of ours has seen it.
    pub fn is_not_ours(&self) -> bool {
        matches!(self.status, 400 | 414 | 431) && self.body.is_empty()
    }
}

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

/// A connection that is opened again when it is closed.
pub struct Wire {
    address: SocketAddr,
    tls: Option<TlsConnector>,
    stream: Option<Box<dyn Stream>>,
}

impl Wire {
    pub const fn to(address: SocketAddr) -> Self {
        Self { address, tls: None, stream: None }
    }

    /// Within TLS, with the certificate that `tls` has, if any.
    pub fn within(tls: Arc<ClientConfig>, address: SocketAddr) -> Self {
        Self { tls: Some(TlsConnector::from(tls)), ..Self::to(address) }
    }

    async fn open(&self) -> Result<Box<dyn Stream>, String> {
        let stream = TcpStream::connect(self.address).await.map_err(|e| e.to_string())?;
        let Some(tls) = &self.tls else { return Ok(Box::new(stream)) };
        let name = ServerName::from(self.address.ip());
        Ok(Box::new(tls.connect(name, stream).await.map_err(|e| e.to_string())?))
    }

    /// Sends and reads; an error is a sentence about what did not come.
    pub async fn ask(&mut self, sent: &Sent) -> Result<Answer, String> {
        self.ask_within(sent, PATIENCE).await?.ok_or_else(|| format!("no answer in {PATIENCE:?}"))
    }

    /// Nothing, if no answer came in time.
    pub async fn ask_within(
        &mut self,
        sent: &Sent,
        patience: Duration,
    ) -> Result<Option<Answer>, String> {
        let bytes = sent.bytes();
        // A server may close a connection between two requests; then it is not the answer.
        for _ in 0..2 {
            let is_used = self.stream.is_some();
            let mut stream = match self.stream.take() {
                Some(stream) => stream,
                None => self.open().await?,
            };
            let asking = exchange(&mut *stream, &bytes, sent.method == "HEAD");
            match tokio::time::timeout(patience, asking).await {
                Err(_) => return Ok(None),
                Ok(Ok(answer)) => {
                    if !answer.head.contains("connection: close") {
                        self.stream = Some(stream);
                    }
                    return Ok(Some(answer));
                }
                Ok(Err(_)) if is_used => {}
                Ok(Err(e)) => return Err(e),
            }
        }
        Err("the connection is closed again and again".to_owned())
    }
}

async fn exchange(stream: &mut dyn Stream, bytes: &[u8], bare: bool) -> Result<Answer, String> {
    let broken = |e: std::io::Error| format!("the connection broke: {e}");
    // Whoever is refused early need not be read to the end.
    let written = stream.write_all(bytes).await;
    let mut buffer = Vec::new();
    loop {
        if let Some((answer, end)) = parse(&buffer, bare) {
            return if buffer.len() > end {
                Err("more than one answer".to_owned())
            } else {
                Ok(answer)
            };
        }
        let read = stream.read_buf(&mut buffer).await.map_err(broken)?;
        if read == 0 {
            written.map_err(broken)?;
            let got = String::from_utf8_lossy(&buffer);
            return Err(format!("the connection was closed after '{got}'"));
        }
    }
}

fn parse(bytes: &[u8], bare: bool) -> Option<(Answer, usize)> {
    let end = bytes.windows(4).position(|w| w == b"\r\n\r\n")?;
    let head = String::from_utf8_lossy(&bytes[..end]).to_ascii_lowercase();
    let status = head.split(' ').nth(1)?.parse().ok()?;
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
    let length: usize = if bare { 0 } else { length.map_or(0, |l| l.trim().parse().unwrap_or(0)) };
    let (start, stop) = (end + 4, end + 4 + length);
    let body = bytes.get(start..stop)?.to_vec();
    Some((Answer { status, head, body }, stop))
}
