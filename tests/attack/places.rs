//! Row 4. Threat: a listener has no place for anybody else. Actor: an unauthenticated client with five
//! source addresses, each of which opens all the connections that one may have and opens them again
//! when they are cut. Target: whoever comes from elsewhere is answered, on every listener.
//!
//! `MAGNUMD_ATTACK_PLACES=4096` is the size of the API's listener by default; here it is smaller.
//! The latencies are printed (`--nocapture`).

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpSocket;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use crate::listeners::preface;
use crate::process::Site;

const SOURCES: u8 = 5;
/// What an honest client would wait at least if it had to wait until an attacker is cut: the time
/// that a request's head may take.
const HEAD: Duration = Duration::from_secs(10);

/// What the nth connection begins with, and never ends.
fn begins(number: usize) -> Vec<u8> {
    match number % 4 {
        0 => b"GET / HTTP/1.1\r\nHost: x\r\nX-Long: ".to_vec(),
        1 => b"POST /v1/clusters HTTP/1.1\r\nHost: x\r\nContent-Length: 900000\r\n\r\nx".to_vec(),
        2 => {
            let mut words = preface();
            words.extend([0, 0, 15, 1, 5, 0, 0, 0, 1, 0x82, 0x86, 0x41, 1, b'x', 0x04, 8]);
            words.extend(b"/metrics");
            words
        }
        _ => Vec::new(),
    }
}

/// Holds one connection after the other until all is over.
async fn hold(number: usize, at: SocketAddr, opened: Arc<AtomicUsize>, over: Arc<AtomicBool>) {
    let source = [127, 9, 0, (number % usize::from(SOURCES) + 1) as u8];
    while !over.load(Ordering::Relaxed) {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(4096).unwrap();
        socket.bind((source, 0).into()).unwrap();
        let connected = timeout(Duration::from_secs(5), socket.connect(at)).await;
        let Ok(Ok(mut stream)) = connected else { continue };
        opened.fetch_add(1, Ordering::Relaxed);
        if stream.write_all(&begins(number / usize::from(SOURCES))).await.is_ok() {
            let mut part = [0; 512];
            while stream.read(&mut part).await.is_ok_and(|read| read > 0) {}
        }
        sleep(Duration::from_millis(200)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn five_addresses_leave_places_for_others() {
    let most = getrlimit(Resource::Nofile).maximum;
    setrlimit(Resource::Nofile, Rlimit { current: most, maximum: most }).unwrap();
    let places = crate::size("MAGNUMD_ATTACK_PLACES", 200);
    let mut site = Site::new().await;
    site.configure("[api]", &format!("max_connections = {places}"));
    let magnumd = site.start(site.command()).await;
    let token = site.token().await;
    assert_eq!(magnumd.get("/v1/clusters", &token).await.0, 200);
    let at = SocketAddr::from(([127, 0, 0, 1], site.port));
    let (opened, over) = (Arc::<AtomicUsize>::default(), Arc::<AtomicBool>::default());
    // As many as five addresses may have: a quarter each, so more than there are places.
    let attackers = places / 4 * usize::from(SOURCES);
    let mut holding = JoinSet::new();
    for number in 0..attackers {
        holding.spawn(hold(number, at, Arc::clone(&opened), Arc::clone(&over)));
    }
    let began = Instant::now();
    while opened.load(Ordering::Relaxed) < places {
        assert!(began.elapsed() < 6 * HEAD, "{opened:?} connections are open");
        sleep(Duration::from_millis(20)).await;
    }
    let mut took = Vec::new();
    let began = Instant::now();
    while began.elapsed() < HEAD / 2 {
        // A new connection each time, as a command-line client makes.
        let socket = TcpSocket::new_v4().unwrap();
        let asked = Instant::now();
        let asks = async {
            let mut stream = socket.connect(at).await.unwrap();
            let words = format!(
                "GET /v1/clusters HTTP/1.1\r\nHost: x\r\nX-Auth-Token: {token}\r\n\
                 Connection: close\r\n\r\n"
            );
            stream.write_all(words.as_bytes()).await.unwrap();
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await.unwrap();
            assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        };
        timeout(HEAD / 2, asks).await.expect("an honest client waits as if there were no place");
        took.push(asked.elapsed());
        sleep(Duration::from_millis(20)).await;
    }
    over.store(true, Ordering::Relaxed);
    took.sort_unstable();
    println!(
        "{attackers} connections from {SOURCES} addresses on {places} places, {} opened; honest: {} \
         requests, p99 {:?}, longest {:?}",
        opened.load(Ordering::Relaxed),
        took.len(),
        took[(took.len() - 1) * 99 / 100],
        took[took.len() - 1],
    );
    let (_, figures) = magnumd.get("/metrics", "").await;
    let displaced = "magnumd_http_connections_cut_total{listener=\"api\",reason=\"displaced\"}";
    let displaced =
        figures.lines().find_map(|line| line.strip_prefix(displaced)?.trim().parse().ok());
    assert!(displaced.is_some_and(|number: u64| number > 0), "{figures}");
    holding.abort_all();
}
