//! Clients that mean harm, and slow ones that do not.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::Either;
use hyper::StatusCode;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::server::{
    Answering, BodyError, HttpListener, Limits, ListenerMetrics, Origin, Request, Response,
    Service, Unread, response,
};
use super::stream::fed;
use crate::base::metrics::{MetricSet, Registry, encode};

const BIG: usize = 1 << 20;
const PATIENCE: Duration = Duration::from_secs(20);
const SETTINGS: u8 = 4;
const PING: u8 = 6;

/// Answers much; counts what it was asked.
#[derive(Default)]
struct Generous(AtomicUsize);

impl Service for Generous {
    async fn handle(&self, request: Request) -> Response {
        self.0.fetch_add(1, Ordering::Relaxed);
        if request.path == "/slow" {
            sleep(PATIENCE).await;
        }
        let status = match request.body {
            Err(BodyError::Crowded) => StatusCode::SERVICE_UNAVAILABLE,
            _ => StatusCode::OK,
        };
        if request.path == "/hold" {
            sleep(Duration::from_secs(1)).await;
        }
        let length = if request.path == "/big" { BIG } else { 9 };
        response(status, "text/plain", vec![b'x'; length])
    }

    fn streams(&self, request: &Unread) -> Option<&'static str> {
        (request.uri().path() == "/watch").then_some("watch")
    }

    fn stream(&self, _: Unread, _: Origin) -> Answering {
        let (feed, body) = fed(1);
        tokio::spawn(async move {
            for _ in 0..2 {
                feed.send(Ok(Bytes::from_static(b"news"))).await.unwrap();
                sleep(Duration::from_millis(1500)).await;
            }
        });
        Box::pin(std::future::ready(Response::new(Either::Right(body))))
    }
}

/// A listener that is soon impatient.
struct Opened {
    address: SocketAddr,
    service: Arc<Generous>,
    registry: Registry,
    _stop: tokio_util::sync::DropGuard,
}

impl Opened {
    async fn new(limits: Limits) -> Self {
        let listener = HttpListener::bind(([127, 0, 0, 1], 0).into(), limits).await.unwrap();
        let (metrics, mut registry) = (ListenerMetrics::default(), Registry::default());
        metrics.register(&mut registry);
        let (address, stop) = (listener.address().unwrap(), CancellationToken::new());
        let service = Arc::<Generous>::default();
        let listener = listener.counted("tried", &metrics);
        tokio::spawn(listener.serve(Arc::clone(&service), stop.clone()));
        Self { address, service, registry, _stop: stop.drop_guard() }
    }

    fn shows(&self, line: &str) -> bool {
        let mut text = String::new();
        encode(&mut text, &self.registry).unwrap();
        text.lines().any(|shown| shown == line)
    }

    /// Nobody is connected any more, and this is why.
    async fn has_cut(&self, reason: &str) {
        let cut = format!("http_connections_cut_total{{listener=\"tried\",reason=\"{reason}\"}} 1");
        let began = Instant::now();
        while !self.shows(&cut) || !self.shows("http_connections{listener=\"tried\"} 0") {
            assert!(began.elapsed() < PATIENCE, "{:?}", self.registry);
            sleep(Duration::from_millis(20)).await;
        }
    }

    /// With a receive buffer so small that the kernel keeps little of an answer.
    async fn connect(&self) -> TcpStream {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(4096).unwrap();
        socket.connect(self.address).await.unwrap()
    }

    /// HTTP/2 with this window for each stream.
    async fn connect_2(&self, window: u32) -> TcpStream {
        let mut stream = self.connect().await;
        let mut words = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
        words.extend([0, 0, 6, SETTINGS, 0, 0, 0, 0, 0, 0, 4]);
        words.extend(window.to_be_bytes());
        stream.write_all(&words).await.unwrap();
        stream
    }
}

fn limits() -> Limits {
    let moment = Duration::from_millis(400);
    Limits { header_time: moment, idle_time: moment, write_time: moment, ..Limits::default() }
}

/// The head of a GET over HTTP/2.
fn get(stream: u32, path: &str) -> Vec<u8> {
    let mut block = vec![0x82, 0x86, 0x41, 1, b'x', 0x04, u8::try_from(path.len()).unwrap()];
    block.extend(path.bytes());
    let mut frame = vec![0, 0, u8::try_from(block.len()).unwrap(), 1, 5];
    frame.extend(stream.to_be_bytes());
    frame.extend(block);
    frame
}

/// Acknowledges pings, as if all were well, until the connection ends; the data that came.
async fn plays_along(stream: &mut TcpStream) -> usize {
    let (mut head, mut data) = ([0; 9], 0);
    while stream.read_exact(&mut head).await.is_ok() {
        let length = usize::from(head[1]) << 8 | usize::from(head[2]);
        let mut payload = vec![0; length];
        if stream.read_exact(&mut payload).await.is_err() {
            break;
        }
        match head[3] {
            0 => data += length,
            PING if head[4] == 0 => {
                let answer = [&[0, 0, 8, PING, 1, 0, 0, 0, 0][..], &payload].concat();
                if stream.write_all(&answer).await.is_err() {
                    break;
                }
            }
            _ => {}
        }
    }
    data
}

#[tokio::test]
async fn whoever_asks_and_does_not_read_is_cut() {
    let opened = Opened::new(limits()).await;
    let mut stream = opened.connect().await;
    let request = "GET /big HTTP/1.1\r\nHost: x\r\n\r\n".repeat(16);
    stream.write_all(request.as_bytes()).await.unwrap();
    opened.has_cut("untaken").await;
    assert!(opened.service.0.load(Ordering::Relaxed) < 16, "nothing is prepared in vain");
}

#[tokio::test]
async fn the_more_take_nothing_the_shorter_each_is_waited_for() {
    let minute = Duration::from_secs(60);
    let patient = Limits { connections: 64, idle_time: minute, write_time: minute, ..limits() };
    let opened = Opened::new(patient).await;
    let mut crowd = Vec::new();
    for _ in 0..24 {
        let mut stream = opened.connect_2(0).await;
        stream.write_all(&get(1, "/big")).await.unwrap();
        crowd.push(stream);
    }
    let left =
        || (1..24).any(|n| opened.shows(&format!("http_connections{{listener=\"tried\"}} {n}")));
    let began = Instant::now();
    while !left() {
        assert!(began.elapsed() < PATIENCE, "all of them are waited for: {:?}", opened.registry);
        sleep(Duration::from_millis(20)).await;
    }
    assert!(began.elapsed() > Duration::from_secs(1), "each has a moment");
    drop(crowd);
}

#[tokio::test]
async fn whoever_opens_no_window_is_cut_however_alive_he_looks() {
    for window in [0, 1] {
        let opened = Opened::new(Limits { idle_time: PATIENCE, ..limits() }).await;
        let mut stream = opened.connect_2(window).await;
        stream.write_all(&get(1, "/big")).await.unwrap();
        let data = timeout(PATIENCE, plays_along(&mut stream)).await.expect("cut");
        assert_eq!(data, window as usize);
        opened.has_cut("untaken").await;
    }
}

#[tokio::test]
async fn whoever_calls_off_what_he_asks_for_is_cut() {
    let opened = Opened::new(limits()).await;
    let mut stream = opened.connect_2(9).await;
    let attack = async {
        for number in 0..500_u32 {
            let id = 2 * number + 1;
            if stream.write_all(&get(id, "/slow")).await.is_err() {
                return;
            }
            // Each is taken up before it is called off, so that h2 has nothing against it.
            sleep(Duration::from_millis(3)).await;
            let reset = [&[0, 0, 4, 3, 0][..], &id.to_be_bytes(), &[0, 0, 0, 8]].concat();
            if stream.write_all(&reset).await.is_err() {
                return;
            }
        }
        panic!("all were taken");
    };
    timeout(PATIENCE, attack).await.expect("cut");
    opened.has_cut("called-off").await;
    assert!(opened.service.0.load(Ordering::Relaxed) < 100);
}

#[tokio::test]
async fn whoever_is_told_to_leave_and_stays_is_cut() {
    let opened = Opened::new(limits()).await;
    let mut stream = opened.connect_2(9).await;
    // It neither acknowledges the goodbye's ping nor hangs up.
    timeout(PATIENCE, stream.write_all(&get(1, "/"))).await.unwrap().unwrap();
    opened.has_cut("stays").await;
}

#[tokio::test]
async fn one_address_gets_a_part_of_the_places() {
    let opened = Opened::new(Limits { per_source: 2, ..limits() }).await;
    let held = [opened.connect().await, opened.connect().await];
    let mut third = opened.connect().await;
    let mut nothing = [0];
    let ended = timeout(Duration::from_millis(300), third.read(&mut nothing)).await.unwrap();
    assert!(matches!(ended, Ok(0) | Err(_)));
    assert!(opened.shows("http_connections_cut_total{listener=\"tried\",reason=\"source\"} 1"));
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(([127, 0, 0, 2], 0).into()).unwrap();
    let mut other = socket.connect(opened.address).await.unwrap();
    other.write_all(b"GET / HTTP/1.0\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    other.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.0 200"), "{answer}");
    drop(held);
}

/// Connects from an address, and says something.
async fn connect_from(opened: &Opened, from: u8, words: &[u8]) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    socket.bind(([127, 0, 0, from], 0).into()).unwrap();
    let mut stream = socket.connect(opened.address).await.unwrap();
    stream.write_all(words).await.unwrap();
    stream
}

#[tokio::test]
async fn a_few_addresses_cannot_keep_others_out() {
    let patient = Limits {
        connections: 12,
        per_source: 4,
        header_time: 3 * PATIENCE,
        body_time: 3 * PATIENCE,
        idle_time: 3 * PATIENCE,
        write_time: 3 * PATIENCE,
        ..limits()
    };
    let opened = Opened::new(patient).await;
    let mut no_window = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    no_window.extend([0, 0, 6, SETTINGS, 0, 0, 0, 0, 0, 0, 4, 0, 0, 0, 0]);
    no_window.extend(get(1, "/big"));
    let begun = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nx";
    let mut held = Vec::new();
    for (from, words) in [(2, &b""[..]), (3, &begun[..]), (4, &no_window[..])] {
        for _ in 0..4 {
            held.push(connect_from(&opened, from, words).await);
        }
    }
    let full = "http_connections{listener=\"tried\"} 12";
    let began = Instant::now();
    while !opened.shows(full) {
        assert!(began.elapsed() < PATIENCE, "{:?}", opened.registry);
        sleep(Duration::from_millis(10)).await;
    }
    // Whoever has come with few is let in, and keeps the place while others come.
    let mut kept = connect_from(&opened, 1, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").await;
    let mut status = [0; 12];
    timeout(PATIENCE, kept.read_exact(&mut status)).await.expect("a place").unwrap();
    assert_eq!(&status, b"HTTP/1.1 200");
    for from in [5, 6, 7, 1] {
        let answer = timeout(PATIENCE, asks(&opened, from, "GET /")).await.expect("a place");
        assert!(answer.starts_with("http/1.1 200"), "{answer}");
    }
    // The attackers lose by it what they come with again.
    for from in [2, 3, 4] {
        for _ in 0..4 {
            held.push(connect_from(&opened, from, b"").await);
        }
    }
    sleep(Duration::from_millis(200)).await;
    kept.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    let mut rest = [0; 512];
    assert!(kept.read(&mut rest).await.is_ok_and(|read| read > 0), "it has still its place");
    let answer = timeout(PATIENCE, asks(&opened, 8, "GET /")).await.expect("a place");
    assert!(answer.starts_with("http/1.1 200"), "{answer}");
    let none = "http_connections_cut_total{listener=\"tried\",reason=\"displaced\"} 0";
    assert!(!opened.shows(none), "{:?}", opened.registry);
    drop(held);
}

#[tokio::test]
async fn large_bodies_find_room_or_are_told_to_come_again() {
    let sizes = Limits { per_source: 9, bodies_bytes: 300 << 10, ..limits() };
    let opened = Opened::new(sizes).await;
    let send = |length: usize| {
        let address = opened.address;
        async move {
            let mut stream = TcpStream::connect(address).await.unwrap();
            let head = format!(
                "POST /hold HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\
                 Content-Length: {length}\r\n\r\n"
            );
            stream.write_all(head.as_bytes()).await.unwrap();
            stream.write_all(&vec![b'x'; length]).await.unwrap();
            let mut status = [0; 12];
            stream.read_exact(&mut status).await.unwrap();
            String::from_utf8(status.to_vec()).unwrap()
        }
    };
    // Half of all is for one source: the larger two do not fit together, small ones always do.
    let (first, second, small) = tokio::join!(
        send(100 << 10),
        async {
            sleep(Duration::from_millis(300)).await;
            send(100 << 10).await
        },
        async {
            sleep(Duration::from_millis(300)).await;
            send(10 << 10).await
        }
    );
    assert_eq!([first, second, small], ["HTTP/1.1 200", "HTTP/1.1 503", "HTTP/1.1 200"]);
    assert_eq!(send(100 << 10).await, "HTTP/1.1 200", "room was given back");
}

/// The head of the answer to a request from this address.
async fn asks(opened: &Opened, from: u8, request: &str) -> String {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(([127, 0, 0, from], 0).into()).unwrap();
    let mut stream = socket.connect(opened.address).await.unwrap();
    let request = format!("{request} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert_eq!(head.contains(" 200 ") && request.contains("/big"), body.len() == BIG, "{head}");
    head.to_lowercase()
}

#[tokio::test]
async fn large_answers_find_room_or_are_told_to_come_again() {
    let minute = Duration::from_secs(60);
    let limits = Limits {
        answers_bytes: 4 * BIG,
        per_source: 9,
        write_time: Duration::from_millis(900),
        idle_time: minute,
        ..limits()
    };
    let opened = Opened::new(limits).await;
    // The connection has room for one, its address for two.
    let mut held = Vec::new();
    for _ in 0..2 {
        let mut stream = opened.connect_2(0).await;
        stream.write_all(&get(1, "/big")).await.unwrap();
        held.push(stream);
    }
    while opened.service.0.load(Ordering::Relaxed) < 2 {
        sleep(Duration::from_millis(5)).await;
    }
    let refused = asks(&opened, 1, "GET /big").await;
    assert!(refused.starts_with("http/1.1 503"), "{refused}");
    assert!(refused.contains("retry-after: 5"), "{refused}");
    assert!(
        opened.shows("http_answers_refused_total{listener=\"tried\"} 1"),
        "{:?}",
        opened.registry
    );
    for (from, request) in [(1, "GET /"), (2, "GET /big"), (1, "POST /big")] {
        let answer = asks(&opened, from, request).await;
        assert!(answer.starts_with("http/1.1 200"), "{request} from {from}: {answer}");
    }
    // Who takes nothing is cut, and whoever waits then has the room.
    let answer = loop {
        let answer = asks(&opened, 1, "GET /big").await;
        if !answer.starts_with("http/1.1 503") {
            break answer;
        }
    };
    assert!(answer.starts_with("http/1.1 200"), "{answer}");
    drop(held);
}

#[tokio::test]
async fn a_connection_holds_few_answers_and_gets_all_it_asks_for() {
    let limits = Limits {
        answers_bytes: 8 * BIG,
        write_time: 3 * PATIENCE,
        idle_time: PATIENCE,
        ..limits()
    };
    let opened = Opened::new(limits).await;
    let mut stream = opened.connect_2(0).await;
    for n in 0..6 {
        stream.write_all(&get(2 * n + 1, "/big")).await.unwrap();
    }
    sleep(Duration::from_millis(100)).await;
    let mut more = Vec::new();
    for stream in [0_u32, 1, 3, 5, 7, 9, 11] {
        more.extend([0, 0, 4, 8, 0]);
        more.extend(stream.to_be_bytes());
        more.extend((1_u32 << 24).to_be_bytes());
    }
    stream.write_all(&more).await.unwrap();
    let (mut head, mut data) = ([0; 9], 0);
    while data < 6 * BIG {
        timeout(PATIENCE, stream.read_exact(&mut head)).await.unwrap().unwrap();
        let length = usize::from(head[1]) << 8 | usize::from(head[2]);
        stream.read_exact(&mut vec![0; length]).await.unwrap();
        data += if head[3] == 0 { length } else { 0 };
    }
    // Two were kept at once; the others were made again when there was room.
    assert_eq!(opened.service.0.load(Ordering::Relaxed), 10);
}

#[tokio::test]
async fn whoever_takes_a_large_answer_byte_by_byte_is_cut() {
    let opened = Opened::new(Limits { idle_time: PATIENCE, ..limits() }).await;
    let mut stream = opened.connect_2(0).await;
    stream.write_all(&get(1, "/big")).await.unwrap();
    let (mut reads, mut writes) = stream.split();
    let opens = async {
        loop {
            sleep(Duration::from_millis(50)).await;
            let mut more = Vec::new();
            for stream in [0_u32, 1] {
                more.extend([0, 0, 4, 8, 0]);
                more.extend(stream.to_be_bytes());
                more.extend((8_u32 << 10).to_be_bytes());
            }
            if writes.write_all(&more).await.is_err() {
                return;
            }
        }
    };
    let reads = async { while reads.read(&mut [0; 4096]).await.is_ok_and(|n| n > 0) {} };
    timeout(PATIENCE, async { tokio::join!(opens, reads) }).await.expect("cut");
    opened.has_cut("slow").await;
}

#[tokio::test]
async fn a_slow_reader_gets_all_of_it() {
    let opened = Opened::new(limits()).await;
    let mut stream = opened.connect().await;
    let request = b"GET /big HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    stream.write_all(request).await.unwrap();
    let (mut got, mut part) = (0, vec![0; 32 << 10]);
    let began = Instant::now();
    loop {
        match stream.read(&mut part).await.unwrap() {
            0 => break,
            some => got += some,
        }
        sleep(Duration::from_millis(5)).await;
    }
    assert!(got > BIG && began.elapsed() > limits().write_time, "{got} in {:?}", began.elapsed());
}

#[tokio::test]
async fn a_window_that_opens_slowly_is_enough() {
    let opened = Opened::new(limits()).await;
    let mut stream = opened.connect_2(0).await;
    stream.write_all(&get(1, "/big")).await.unwrap();
    let (mut reads, mut writes) = stream.split();
    let opens = async {
        loop {
            sleep(Duration::from_millis(20)).await;
            let mut more = Vec::new();
            for stream in [0_u32, 1] {
                more.extend([0, 0, 4, 8, 0]);
                more.extend(stream.to_be_bytes());
                more.extend((32_u32 << 10).to_be_bytes());
            }
            if writes.write_all(&more).await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    };
    let reads = async {
        let mut data = 0;
        while data < BIG {
            let mut head = [0; 9];
            reads.read_exact(&mut head).await.unwrap();
            let length = usize::from(head[1]) << 8 | usize::from(head[2]);
            reads.read_exact(&mut vec![0; length]).await.unwrap();
            data += if head[3] == 0 { length } else { 0 };
        }
    };
    tokio::select! {
        () = opens => {}
        all = timeout(PATIENCE, reads) => all.unwrap(),
    }
}

#[tokio::test]
async fn who_waits_for_us_is_not_cut() {
    let opened = Opened::new(limits()).await;
    let mut stream = opened.connect().await;
    stream.write_all(b"GET /watch HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await.unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).await.unwrap();
    assert_eq!(text.matches("news").count(), 2, "{text}");
    assert!(text.ends_with("0\r\n\r\n"), "{text}");
    let mut stream = opened.connect_2(1 << 16).await;
    stream.write_all(&get(1, "/watch")).await.unwrap();
    assert_eq!(timeout(PATIENCE, plays_along(&mut stream)).await.unwrap(), 8);
}
