//! Can nodes reach discovery and bootstrap where they are told to, and fast enough?
//!
//! The addresses are asked for real. Where no daemon listens, a listener is opened for the
//! length of the question, so that the answer is the same before the first start.

use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use hyper::{Method, StatusCode};
use tokio::sync::watch;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::{Judgement, Look, Scene};
use crate::base::http::client::{HttpClient, Outgoing};
use crate::base::http::server::{self, HttpListener, Limits};
use crate::base::http::tls::{self, Trust};
use crate::pki::listener;

/// etcd gives a request to discovery this long, and no more.
const ETCD_PATIENCE: Duration = Duration::from_secs(5);
const SLOW: Duration = Duration::from_secs(1);
const TOO_SLOW: Duration = Duration::from_secs(4);

/// An address that nodes are told, and how it fared.
struct Facts<'f> {
    option: &'f str,
    url: &'f str,
    allow_loopback: bool,
    answer: Result<Duration, String>,
    /// Whether a daemon answered, or a listener of ours.
    daemon: bool,
}

pub async fn discovery(scene: &Scene) -> Look {
    let config = &scene.config.discovery;
    let asked = Asked {
        option: "discovery",
        url: config.advertise_url.trim_end_matches('/'),
        listen: config.listen,
        path: "/00000000000000000000000000000000/_config/size",
    };
    asked.look(scene).await
}

pub async fn bootstrap(scene: &Scene) -> Look {
    let config = &scene.config.bootstrap;
    let asked = Asked {
        option: "bootstrap",
        url: config.advertise_url.trim_end_matches('/'),
        listen: config.listen,
        path: "/bootstrap/v1/preflight/bundle",
    };
    asked.look(scene).await
}

struct Asked<'c> {
    option: &'static str,
    url: &'c str,
    listen: SocketAddr,
    path: &'static str,
}

impl Asked<'_> {
    async fn look(&self, scene: &Scene) -> Look {
        let Self { option, url, listen, path } = self;
        let opened = match HttpListener::bind(*listen, Limits::default()).await {
            Ok(door) => Some(self.open(scene, door)?),
            Err(e) if e.kind() == ErrorKind::AddrInUse => None,
            Err(e) => {
                return Ok(Judgement::fail(
                    format!("{option}.listen {listen} cannot be opened: {e}"),
                    "name an address of this machine and a free port above 1023",
                ));
            }
        };
        // Its certificate is of a CA that only nodes are told; here only the way counts.
        let anyone = Trust { ca_files: Vec::new(), insecure: true };
        let tls = tls::client_config(&anyone).map_err(|e| unusable(option, &e))?;
        let http = HttpClient::new(tls, ETCD_PATIENCE);
        let began = Instant::now();
        let ask = Outgoing::new(Method::GET, format!("{url}{path}")).deadline(ETCD_PATIENCE);
        let answer = http.send(ask).await;
        let facts = Facts {
            option,
            url,
            allow_loopback: scene.config.discovery.allow_loopback,
            answer: answer.map(|_| began.elapsed()).map_err(|e| e.to_string()),
            daemon: opened.is_none(),
        };
        Ok(judge(&facts))
    }

    /// Answers at the door, in TLS where the address says so, until the guard is dropped.
    fn open(&self, scene: &Scene, door: HttpListener) -> Result<Open, Judgement> {
        let stop = CancellationToken::new();
        let wrong = |e: &dyn std::fmt::Display| unusable(self.option, e);
        let (door, settings) = match self.url.starts_with("https") {
            false => (door, None),
            true => {
                let now = scene.clock.now();
                let ca = listener::authority(now, &scene.entropy).map_err(|e| wrong(&e))?;
                let host = host(self.url);
                let own = listener::certificate(&ca, &host, now, &scene.entropy);
                let own = own.map_err(|e| wrong(&e))?;
                let tls = tls::server_config(&own.pem, own.key.expose()).map_err(|e| wrong(&e))?;
                let (sender, receiver) = watch::channel(Arc::new(tls));
                (door.with_tls(receiver), Some(sender))
            }
        };
        tokio::spawn(door.serve(Arc::new(Nothing), stop.clone()));
        Ok(Open { _stop: stop.drop_guard(), _settings: settings })
    }
}

/// A listener that lives as long as this.
struct Open {
    _stop: DropGuard,
    _settings: Option<watch::Sender<Arc<rustls::ServerConfig>>>,
}

struct Nothing;

impl server::Service for Nothing {
    async fn handle(&self, _: server::Request) -> server::Response {
        server::empty(StatusCode::NO_CONTENT)
    }
}

fn unusable(option: &str, reason: &dyn std::fmt::Display) -> Judgement {
    let sentence = format!("{option}.advertise_url cannot be served: {reason}");
    Judgement::fail(sentence, "name an IP address of this machine")
}

fn host(url: &str) -> String {
    let uri = url.parse::<hyper::Uri>().ok();
    uri.and_then(|u| u.host().map(str::to_owned)).unwrap_or_default()
}

fn judge(facts: &Facts<'_>) -> Judgement {
    let Facts { option, url, allow_loopback, answer, daemon } = facts;
    let host = host(url);
    let address = host.trim_matches(['[', ']']).parse::<IpAddr>().ok();
    let cure = format!(
        "set {option}.advertise_url to an IP address of this machine that tenant networks reach, \
         and let its port through the firewall"
    );
    if address.is_some_and(|ip| ip.is_unspecified() || (ip.is_loopback() && !allow_loopback)) {
        let sentence = format!("{url} is for nodes, and to them {host} is themselves");
        return Judgement::fail(sentence, cure);
    }
    let took = match answer {
        Err(reason) => return Judgement::fail(format!("{url} does not answer: {reason}"), cure),
        Ok(took) => *took,
    };
    let ms = took.as_millis();
    if took > TOO_SLOW {
        return Judgement::fail(
            format!("{url} answers in {ms} ms, and etcd gives up after 5000"),
            "advertise an address that is nearer to the tenant networks",
        );
    }
    if took > SLOW {
        return Judgement::warn(
            format!("{url} answers in {ms} ms; etcd gives up after 5000"),
            "advertise an address that is nearer to the tenant networks",
        );
    }
    if address.is_none() {
        return Judgement::warn(
            format!("{url} is a name, which nodes can look up only with a working DNS"),
            format!("set {option}.advertise_url to an IP address"),
        );
    }
    let who = if *daemon { "" } else { "; opened for this check, no magnumd is listening" };
    Judgement::ok(format!("{url} answers in {ms} ms{who}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::preflight::Verdict;

    fn of(url: &str, answer: Result<u64, &str>) -> Judgement {
        let answer = answer.map(Duration::from_millis).map_err(str::to_owned);
        judge(&Facts { option: "discovery", url, allow_loopback: false, answer, daemon: true })
    }

    #[test]
    fn literal_reachable_and_fast() {
        let table = [
            ("http://192.0.2.1:9512", Ok(3), Verdict::Ok, "answers in 3 ms"),
            ("http://192.0.2.1:9512", Ok(1500), Verdict::Warn, "answers in 1500 ms"),
            ("http://192.0.2.1:9512", Ok(4500), Verdict::Fail, "etcd gives up after 5000"),
            ("http://192.0.2.1:9512", Err("refused"), Verdict::Fail, "does not answer: refused"),
            ("http://magnum.lab:9512", Ok(3), Verdict::Warn, "is a name"),
            ("http://127.0.0.1:9512", Ok(3), Verdict::Fail, "is themselves"),
            ("https://[::1]:9513", Ok(3), Verdict::Fail, "is themselves"),
            ("http://0.0.0.0:9512", Ok(3), Verdict::Fail, "is themselves"),
            ("https://[2001:db8::1]:9513", Ok(3), Verdict::Ok, "answers"),
        ];
        for (url, answer, verdict, part) in table {
            let said = of(url, answer);
            assert_eq!(said.verdict, verdict, "{url}: {said:?}");
            assert!(said.sentence.contains(part), "{said:?}");
        }
    }
}
