//! Clients that ask without pause and keep count of what they were owed.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

/// What became of the requests.
#[derive(Debug, Default)]
struct Counts {
    answered: AtomicU64,
    /// Sent over a connection that was made, and never answered, or not with 200.
    failed: AtomicU64,
    enough: AtomicBool,
}

pub struct Load {
    counts: Arc<Counts>,
    clients: JoinSet<()>,
}

impl Load {
    /// `clients` of either kind: those that keep their connection and those that take a new one
    /// for every request. They go on until they are refused, or told to end.
    pub fn start(address: String, path: &str, token: &str, clients: usize) -> Self {
        let counts = Arc::new(Counts::default());
        let mut set = JoinSet::new();
        for number in 0..2 * clients {
            let keeps = number % 2 == 0;
            let connection = if keeps { "keep-alive" } else { "close" };
            let request = format!(
                "GET {path} HTTP/1.1\r\nHost: x\r\nX-Auth-Token: {token}\r\n\
                 Connection: {connection}\r\n\r\n"
            );
            set.spawn(client(address.clone(), request, keeps, Arc::clone(&counts)));
        }
        Self { counts, clients: set }
    }

    pub fn answered(&self) -> u64 {
        self.counts.answered.load(Ordering::Relaxed)
    }

    /// Answered and failed, when all have ended.
    pub async fn end(mut self) -> (u64, u64) {
        self.counts.enough.store(true, Ordering::Relaxed);
        self.refused().await
    }

    /// The same, when all have been refused.
    pub async fn refused(&mut self) -> (u64, u64) {
        while let Some(ended) = self.clients.join_next().await {
            ended.unwrap();
        }
        (self.answered(), self.counts.failed.load(Ordering::Relaxed))
    }
}

async fn client(address: String, request: String, keeps: bool, counts: Arc<Counts>) {
    while !counts.enough.load(Ordering::Relaxed) {
        // Whoever is refused has been promised nothing.
        let Ok(mut stream) = TcpStream::connect(&address).await else { return };
        loop {
            match exchange(&mut stream, &request).await {
                Some((200, goes_on)) => {
                    counts.answered.fetch_add(1, Ordering::Relaxed);
                    if !keeps || !goes_on || counts.enough.load(Ordering::Relaxed) {
                        break;
                    }
                }
                _ => {
                    counts.failed.fetch_add(1, Ordering::Relaxed);
                    break;
                }
            }
        }
    }
}

/// The status, and whether the connection may be used again.
async fn exchange(stream: &mut TcpStream, request: &str) -> Option<(u16, bool)> {
    stream.write_all(request.as_bytes()).await.ok()?;
    let mut seen = Vec::new();
    let mut part = [0; 8192];
    loop {
        let some = stream.read(&mut part).await.ok().filter(|n| *n > 0)?;
        seen.extend_from_slice(&part[..some]);
        let text = String::from_utf8_lossy(&seen);
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        let head = head.to_lowercase();
        let length = head.lines().find_map(|l| l.strip_prefix("content-length: "))?;
        if body.len() >= length.parse().ok()? {
            let status = head.split(' ').nth(1)?.parse().ok()?;
            return Some((status, !head.contains("connection: close")));
        }
    }
}
