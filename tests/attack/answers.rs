//! Rows 4 and 5. Threat: answers that nobody takes fill the memory. Actor: a member of a project with
//! the largest templates and several addresses, over HTTP/2 without a window and over HTTP/1.1.
//! Target: no more than 256 KiB for each connection and the common room for answers, less than 200 MB
//! in all, given back afterwards; other tenants, and the same tenant's own lists, are answered.
//!
//! `MAGNUMD_ATTACK_ANSWERS=20` has each kind come alone and with so many connections.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use hyper::Method;
use magnumd::base::http::client::{HttpClient, Outgoing};
use magnumd::base::http::tls::{self, Trust};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpSocket;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use crate::listeners::{PER_CONNECTION, RESIDENT, SOON, preface, resident};
use crate::process::{Process, Site, TOKEN};
use crate::records::stop;

const LISTS: &str = "/v1/clustertemplates";
const TEMPLATES: usize = 60;
/// One page has all of them.
const LABEL_BYTES: usize = 60_000;
const STREAMS: u32 = 16;
/// What all answers of the API may take that wait, and what is being made meanwhile.
const ROOM: u64 = 32 << 20;
const MAKING: u64 = 48 << 20;
/// What an allocator may keep.
const KEPT: u64 = 32 << 20;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// HTTP/2 without a window.
    NoWindow,
    /// HTTP/1.1, several requests at once, nothing read.
    Unread,
    /// HTTP/2 that takes a little now and then, so that it always makes progress.
    Slow,
}

/// `GET` of the list over HTTP/2.
fn get(stream: u32, token: &str) -> Vec<u8> {
    let mut block = vec![0x82, 0x86, 0x41, 1, b'x', 0x04, u8::try_from(LISTS.len()).unwrap()];
    block.extend(LISTS.bytes());
    block.extend([0, 12]);
    block.extend(b"x-auth-token");
    // A length of 127 and more goes on in further bytes of seven bits.
    match token.len() {
        few @ 0..127 => block.push(u8::try_from(few).unwrap()),
        many => block.extend([127, (many - 127) as u8 & 127 | 128, ((many - 127) >> 7) as u8]),
    }
    block.extend(token.bytes());
    let mut frame = (block.len() as u32).to_be_bytes()[1..].to_vec();
    frame.extend([1, 5]);
    frame.extend(stream.to_be_bytes());
    frame.extend(block);
    frame
}

/// Attacks until it has been cut.
async fn attack(kind: Kind, number: usize, at: SocketAddr, token: String) {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    // A few addresses: one alone gets half of the room.
    socket.bind(([127, 2, 0, (number % 4 + 1) as u8], 0).into()).unwrap();
    let mut stream = socket.connect(at).await.unwrap();
    let words = match kind {
        Kind::Unread => {
            let head = format!("GET {LISTS} HTTP/1.1\r\nHost: x\r\nX-Auth-Token: {token}\r\n\r\n");
            head.repeat(5).into_bytes()
        }
        Kind::NoWindow | Kind::Slow => {
            let mut words = preface();
            (0..STREAMS).for_each(|n| words.extend(get(2 * n + 1, &token)));
            words
        }
    };
    if stream.write_all(&words).await.is_err() {
        return;
    }
    match kind {
        Kind::Unread => loop {
            sleep(Duration::from_millis(500)).await;
            match stream.try_write(b"x") {
                Err(e) if e.kind() != std::io::ErrorKind::WouldBlock => return,
                _ => {}
            }
        },
        Kind::NoWindow | Kind::Slow => {
            let (reads, mut writes) = stream.into_split();
            let is_open = Arc::new(AtomicBool::new(true));
            let open = Arc::clone(&is_open);
            tokio::spawn(async move {
                drain(reads).await;
                open.store(false, Ordering::Relaxed);
            });
            while is_open.load(Ordering::Relaxed) {
                sleep(Duration::from_millis(500)).await;
                if kind == Kind::Slow {
                    let mut more = Vec::new();
                    for stream in [0].into_iter().chain((0..STREAMS).map(|n| 2 * n + 1)) {
                        more.extend([0, 0, 4, 8, 0]);
                        more.extend(u32::to_be_bytes(stream));
                        more.extend(u32::to_be_bytes(8 << 10));
                    }
                    let _cut = writes.write_all(&more).await;
                }
            }
        }
    }
}

async fn drain(mut reads: tokio::net::tcp::OwnedReadHalf) {
    let mut part = vec![0; 64 << 10];
    while reads.read(&mut part).await.is_ok_and(|n| n > 0) {}
}

/// The list as an honest client asks for it: again when it is told to.
async fn honest_list(http: &HttpClient, magnumd: &Process, token: &str) -> u32 {
    for refused in 0..20 {
        let url = format!("{}{LISTS}", magnumd.url);
        let asked = Outgoing::new(Method::GET, url).header(TOKEN, token);
        let answer = http.send(asked).await.unwrap();
        if answer.status == 200 {
            assert!(answer.body.len() > TEMPLATES * LABEL_BYTES, "a part of it");
            return refused;
        }
        assert_eq!(answer.status, 503, "{:?}", answer.body);
        let after = answer.header("retry-after").expect("when to come again");
        sleep(Duration::from_secs(after.parse().unwrap())).await;
    }
    panic!("an honest list is never answered");
}

async fn wave(kinds: &[Kind], each: usize, site: &Site, magnumd: &Arc<Process>) {
    let connections = kinds.len() * each;
    let (token, alt) = (site.token().await, site.token_of("alt", "alt").await);
    let trust = tls::client_config(&Trust::default()).unwrap();
    let http = HttpClient::new(trust, Duration::from_secs(180));
    let before = resident(magnumd);
    let at = SocketAddr::from(([127, 0, 0, 1], site.port));
    let mut attackers = JoinSet::new();
    for number in 0..connections {
        let kind = kinds[number % kinds.len()];
        let attacks = attack(kind, number, at, token.clone());
        attackers.spawn(async move {
            assert!(timeout(3 * SOON, attacks).await.is_ok(), "{kind:?} is still connected");
        });
    }
    let lists = {
        let (http, magnumd, token) = (http.clone(), Arc::clone(magnumd), token.clone());
        tokio::spawn(async move {
            let (mut took, mut refused) = (Vec::new(), 0);
            for _ in 0..4 {
                let asked = Instant::now();
                refused += honest_list(&http, &magnumd, &token).await;
                took.push(asked.elapsed());
            }
            (took, refused)
        })
    };
    let (mut most, mut took) = (before, Vec::new());
    let began = Instant::now();
    while !(attackers.is_empty() && lists.is_finished()) {
        let asked = Instant::now();
        let (status, body) = magnumd.get("/v1/clusters", &alt).await;
        assert_eq!(status, 200, "{body}");
        took.push(asked.elapsed());
        most = most.max(resident(magnumd));
        while let Some(ended) = attackers.try_join_next() {
            ended.unwrap();
        }
        sleep(Duration::from_millis(20)).await;
    }
    let (listed, refused) = lists.await.unwrap();
    took.sort_unstable();
    let p99 = took[(took.len() - 1) * 99 / 100];
    let lasted = began.elapsed();
    // Given back within a few seconds.
    let began = Instant::now();
    while resident(magnumd) > before + KEPT && began.elapsed() < Duration::from_secs(10) {
        sleep(Duration::from_millis(100)).await;
    }
    let after = resident(magnumd);
    println!(
        "{kinds:?}: {connections} cut within {lasted:?}; another tenant: {} requests, p99 {p99:?}; \
         own lists: {listed:?}, {refused} refused; resident: {} MB before, {} at most, {} after {:?}",
        took.len(),
        before >> 20,
        most >> 20,
        after >> 20,
        began.elapsed(),
    );
    let bound = before + connections as u64 * PER_CONNECTION + ROOM + MAKING;
    assert!(most <= bound.min(RESIDENT), "{most} bytes for {connections} connections");
    assert!(after <= before + KEPT, "{after} bytes are kept");
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_that_nobody_takes_have_little_room() {
    let site = Site::new().await;
    let magnumd = Arc::new(site.start(site.command()).await);
    let token = site.token().await;
    let labels = json!({"a": "x".repeat(LABEL_BYTES)});
    for n in 0..TEMPLATES {
        let answer = magnumd.add_template(&token, &format!("t{n}"), &labels).await;
        assert_eq!(answer.status, 201, "{:?}", answer.body);
    }
    let kinds = [Kind::NoWindow, Kind::Unread, Kind::Slow];
    match std::env::var_os("MAGNUMD_ATTACK_ANSWERS") {
        Some(_) => {
            for kind in kinds {
                wave(&[kind], crate::size("MAGNUMD_ATTACK_ANSWERS", 20), &site, &magnumd).await;
            }
        }
        None => wave(&kinds, 8, &site, &magnumd).await,
    }
    let (_, figures) = magnumd.get("/metrics", "").await;
    assert!(figures.contains("magnumd_http_answers_refused_total{listener=\"api\"}"), "{figures}");
    stop(Arc::into_inner(magnumd).unwrap()).await;
}
