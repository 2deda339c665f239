//! Row 4. Threat: a listener is held by clients that take no answers, send no requests, or call off
//! what they ask for. Actor: an unauthenticated client with many source addresses. Target, with 4 000
//! connections of each kind: all are cut, an honest client's p99 is below 50 ms throughout, and no
//! more than 200 MB are resident.
//!
//! `MAGNUMD_ATTACK_CONNECTIONS=4000` has each kind come alone and in that number; the figures are
//! printed (`--nocapture`). `MAGNUMD_ATTACK_PROGRAM` names the release build that they are worth
//! something of, and of which the target is asserted. The attackers are in this process, magnumd is
//! another, whose memory is measured.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use crate::process::{Process, Site};

/// What the slowest limit allows, twice: the machine may be busy.
pub const SOON: Duration = Duration::from_secs(75);
/// What magnumd may hold for one connection.
pub const PER_CONNECTION: u64 = 256 << 10;
/// The target, of a release build on a machine that has nothing else to do.
pub const RESIDENT: u64 = 200 << 20;
const HONEST: Duration = Duration::from_millis(50);

#[derive(Clone, Copy, Debug)]
enum Kind {
    /// Asks for much, and reads nothing.
    Unread,
    SlowHeaders,
    SlowBody,
    /// HTTP/2 that opens no window, but answers every ping.
    NoWindow,
    /// HTTP/2 that calls off each request at once.
    RapidReset,
    /// Connects.
    Idle,
    /// Begins a TLS handshake.
    Handshake,
}

impl Kind {
    const ALL: [Self; 7] = [
        Self::Unread,
        Self::SlowHeaders,
        Self::SlowBody,
        Self::NoWindow,
        Self::RapidReset,
        Self::Idle,
        Self::Handshake,
    ];

    /// Beyond the API's port: discovery, and bootstrap with its TLS.
    const fn port(self) -> u16 {
        match self {
            Self::Idle => 1,
            Self::Handshake => 2,
            _ => 0,
        }
    }

    fn begins(self) -> Vec<u8> {
        match self {
            Self::Unread => b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n".repeat(100),
            Self::SlowHeaders => b"GET / HTTP/1.1\r\nHost: x\r\nX-Long: ".to_vec(),
            Self::SlowBody => b"POST /v1/clusters HTTP/1.1\r\nHost: x\r\n\
                                Content-Type: application/json\r\nContent-Length: 900000\r\n\r\n"
                .to_vec(),
            Self::NoWindow => {
                let mut words = preface();
                (0..16).for_each(|n| words.extend(get(2 * n + 1)));
                words
            }
            Self::RapidReset => preface(),
            Self::Idle => Vec::new(),
            Self::Handshake => vec![0x16, 3, 1, 2, 0, 1],
        }
    }

    /// Until it is cut.
    async fn goes_on(self, mut stream: TcpStream) {
        match self {
            Self::Unread | Self::SlowHeaders | Self::SlowBody | Self::Handshake => loop {
                sleep(Duration::from_secs(1)).await;
                // For a socket that takes nothing now the connection is not over.
                match stream.try_write(b"x") {
                    Err(e) if e.kind() != std::io::ErrorKind::WouldBlock => return,
                    _ => {}
                }
            },
            Self::Idle => while stream.read(&mut [0; 16]).await.is_ok_and(|n| n > 0) {},
            Self::NoWindow => {
                let mut head = [0; 9];
                while stream.read_exact(&mut head).await.is_ok() {
                    let mut payload = vec![0; usize::from(head[1]) << 8 | usize::from(head[2])];
                    if stream.read_exact(&mut payload).await.is_err() {
                        return;
                    }
                    if (head[3], head[4]) == (6, 0) {
                        let answer = [&[0, 0, 8, 6, 1, 0, 0, 0, 0][..], &payload].concat();
                        let _cut = stream.write_all(&answer).await;
                    }
                }
            }
            Self::RapidReset => {
                for number in 0..1 << 20 {
                    let id = 2 * number + 1;
                    let mut words = get(id);
                    words.extend([0, 0, 4, 3, 0]);
                    words.extend(u32::to_be_bytes(id));
                    words.extend([0, 0, 0, 8]);
                    if stream.write_all(&words).await.is_err() {
                        return;
                    }
                }
                panic!("a million requests were taken and called off");
            }
        }
    }
}

/// HTTP/2 begins, without a window for any stream.
pub fn preface() -> Vec<u8> {
    let mut words = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    words.extend([0, 0, 6, 4, 0, 0, 0, 0, 0, 0, 4, 0, 0, 0, 0]);
    words
}

/// `GET /metrics` over HTTP/2.
fn get(stream: u32) -> Vec<u8> {
    let mut frame = vec![0, 0, 15, 1, 5];
    frame.extend(stream.to_be_bytes());
    frame.extend([0x82, 0x86, 0x41, 1, b'x', 0x04, 8]);
    frame.extend(b"/metrics");
    frame
}

/// Attacks; ends when the attacker has been cut.
async fn attack(kind: Kind, number: usize, at: SocketAddr, connected: Arc<AtomicUsize>) {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    let source = [127, 1, u8::try_from(number / 250).unwrap(), (number % 250 + 1) as u8];
    socket.bind((source, 0).into()).unwrap();
    let mut stream = socket.connect(at).await.unwrap();
    connected.fetch_add(1, Ordering::Relaxed);
    if stream.write_all(&kind.begins()).await.is_ok() {
        kind.goes_on(stream).await;
    }
}

pub fn resident(process: &Process) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", process.pid())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() << 10
}

/// Attacks with `connections` of each kind at once; all must be cut, and an honest client served.
async fn wave(site: &Site, magnumd: &Process, token: &str, kinds: &[Kind], connections: usize) {
    let (before, connected) = (resident(magnumd), Arc::<AtomicUsize>::default());
    let mut attackers = JoinSet::new();
    for &kind in kinds {
        let at = SocketAddr::from(([127, 0, 0, 1], site.port + kind.port()));
        for number in 0..connections {
            let attacks = attack(kind, number, at, Arc::clone(&connected));
            attackers.spawn(async move {
                // Sooner than the kernel's queue takes them they would only wait for each other.
                sleep(Duration::from_millis(2 * number as u64)).await;
                assert!(timeout(SOON, attacks).await.is_ok(), "{kind:?} is still connected");
            });
        }
    }
    let (mut most, mut took) = (before, Vec::new());
    let began = Instant::now();
    loop {
        let asked = Instant::now();
        let (status, body) = magnumd.get("/v1/clusters", token).await;
        assert_eq!(status, 200, "{body}");
        took.push(asked.elapsed());
        most = most.max(resident(magnumd));
        while let Some(ended) = attackers.try_join_next() {
            ended.unwrap();
        }
        if attackers.is_empty() {
            break;
        }
        sleep(Duration::from_millis(20)).await;
    }
    let all = kinds.len() * connections;
    assert_eq!(connected.load(Ordering::Relaxed), all);
    took.sort_unstable();
    let p99 = took[(took.len() - 1) * 99 / 100];
    println!(
        "{kinds:?}: {all} cut within {:?}; honest: {} requests, p99 {p99:?}, longest {:?}; \
         resident: {} MB before, {} at most, {} afterwards",
        began.elapsed(),
        took.len(),
        took[took.len() - 1],
        before >> 20,
        most >> 20,
        resident(magnumd) >> 20,
    );
    let bound = before + (all as u64 * PER_CONNECTION) + (32 << 20);
    assert!(most <= bound, "{most} bytes for {all} connections");
    if std::env::var_os("MAGNUMD_ATTACK_PROGRAM").is_some() {
        assert!(most <= RESIDENT && p99 <= HONEST, "{most} bytes, {p99:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn hostile_clients_are_cut_and_an_honest_one_is_served() {
    let most = getrlimit(Resource::Nofile).maximum;
    setrlimit(Resource::Nofile, Rlimit { current: most, maximum: most }).unwrap();
    let site = Site::new().await;
    let magnumd = site.start(site.command()).await;
    let token = site.token().await;
    assert_eq!(magnumd.get("/v1/clusters", &token).await.0, 200);
    match std::env::var("MAGNUMD_ATTACK_CONNECTIONS") {
        Ok(number) => {
            let connections = number.parse().expect("a number of connections");
            for kind in Kind::ALL {
                wave(&site, &magnumd, &token, &[kind], connections).await;
            }
        }
        Err(_) => wave(&site, &magnumd, &token, &Kind::ALL, 40).await,
    }
    let (_, figures) = magnumd.get("/metrics", "").await;
    let cut = "magnumd_http_connections_cut_total{listener=\"api\",reason=\"untaken\"}";
    let cut = figures.lines().find_map(|line| line.strip_prefix(cut)?.trim().parse::<u64>().ok());
    assert!(cut.is_some_and(|cut| cut >= 40), "{figures}");
}
