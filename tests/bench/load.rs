//! A load generator that costs as little as it can: prepared bytes out, counted bytes in.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

/// One kept-alive connection.
pub struct Line {
    stream: TcpStream,
    buffer: Vec<u8>,
}

/// Times of single requests, sorted.
pub struct Times(Vec<Duration>);

impl Times {
    pub fn of(mut times: Vec<Duration>) -> Self {
        times.sort_unstable();
        Self(times)
    }

    /// The time within which `share` of all requests were answered.
    pub fn percentile(&self, share: f64) -> Duration {
        let last = self.0.len().saturating_sub(1);
        self.0[((self.0.len() as f64 * share) as usize).min(last)]
    }
}

impl Line {
    pub async fn open(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        Self { stream, buffer: Vec::with_capacity(1 << 20) }
    }

    /// Sends prepared bytes; returns the status and the body of the answer.
    pub async fn ask(&mut self, request: &[u8]) -> (u16, Vec<u8>) {
        self.stream.write_all(request).await.unwrap();
        self.buffer.clear();
        loop {
            let read = self.stream.read_buf(&mut self.buffer).await.unwrap();
            assert!(read > 0, "the connection was closed");
            if let Some((status, start, length)) = head(&self.buffer)
                && self.buffer.len() >= start + length
            {
                return (status, self.buffer[start..start + length].to_vec());
            }
        }
    }
}

/// Status, start and length of the body, once the head is complete.
fn head(bytes: &[u8]) -> Option<(u16, usize, usize)> {
    let end = bytes.windows(4).position(|w| w == b"\r\n\r\n")?;
    let text = std::str::from_utf8(&bytes[..end]).unwrap();
    let status = text.split(' ').nth(1).unwrap().parse().unwrap();
    let length = text
        .lines()
        .filter_map(|line| line.split_once(':'))
        .find(|(name, _)| name.eq_ignore_ascii_case("content-length"))
        .map_or(0, |(_, value)| value.trim().parse().unwrap());
    Some((status, end + 4, length))
}

/// The same request over and over on one connection.
pub async fn one(address: SocketAddr, request: &[u8], wanted: u16, count: usize) -> Times {
    let mut line = Line::open(address).await;
    let mut times = Vec::with_capacity(count);
    for _ in 0..count {
        let began = Instant::now();
        let (status, body) = line.ask(request).await;
        times.push(began.elapsed());
        assert_eq!(status, wanted, "{}", String::from_utf8_lossy(&body));
    }
    Times::of(times)
}

/// Answers per second on `lines` connections.
pub async fn many(
    address: SocketAddr,
    request: &[u8],
    wanted: u16,
    lines: usize,
    length: Duration,
) -> f64 {
    let began = Instant::now();
    let mut running = JoinSet::new();
    for _ in 0..lines {
        let request = request.to_vec();
        running.spawn(async move {
            let mut line = Line::open(address).await;
            let mut count = 0_u64;
            while began.elapsed() < length {
                assert_eq!(line.ask(&request).await.0, wanted);
                count += 1;
            }
            count
        });
    }
    let total: u64 = running.join_all().await.into_iter().sum();
    total as f64 / began.elapsed().as_secs_f64()
}

pub fn get(path: &str, token: &str) -> Vec<u8> {
    format!("GET {path} HTTP/1.1\r\nhost: x\r\nx-auth-token: {token}\r\n\r\n").into_bytes()
}

pub fn post(path: &str, token: &str, body: &str) -> Vec<u8> {
    format!(
        "POST {path} HTTP/1.1\r\nhost: x\r\nx-auth-token: {token}\r\n\
         content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}
