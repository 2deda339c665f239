//! The doors that machines knock at: etcd discovery and bootstrap.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use magnumd::base::clock::Clock;
use magnumd::base::http::server::HttpListener;
use magnumd::base::id::Entropy;
use magnumd::base::secret::Sealer;
use magnumd::discovery::{Discovery, Parts, limits};
use magnumd::model::ClusterId;
use magnumd::model::discovery::DiscoveryToken;
use magnumd::store::{Change, Store};
use rcgen::KeyPair;
use serde_json::json;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::corpus::{Corpus, Names};
use crate::mutate;
use crate::place::{INSTANCE, Place};
use crate::requests::{odd_request, written};
use crate::run::{Run, target};
use crate::site::path;
use crate::wire::{Sent, Wire};

const TOKEN: &str = "0123456789abcdef0123456789abcdef";

/// The door of etcd discovery.
#[test]
fn discovery() {
    target("discovery", &[200, 201, 400, 403, 404, 405], fuzz_discovery);
}

async fn fuzz_discovery(mut run: Run) {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(&folder.path().join("state.redb"), Sealer::new(&[1; 32])).unwrap();
    let clock = Clock::real();
    let stop = CancellationToken::new();
    let service = Discovery::new(Parts {
        store: store.clone(),
        clock: clock.clone(),
        entropy: Entropy::new(),
        allow_loopback: true,
        trusted: Vec::new(),
        advertise_url: "http://127.0.0.1:9512".to_owned(),
        stop: stop.clone(),
    });
    let address: SocketAddr = ([127, 0, 0, 1], 0).into();
    let door = HttpListener::bind(address, limits()).await.unwrap();
    let mut wire = Wire::to(door.address().unwrap());
    let serving = tokio::spawn(door.serve(Arc::new(service), stop.clone()));
    const PATHS: [&str; 9] = [
        "",
        "/",
        "/_config/size",
        "/1",
        "/8e9e05c52164694d",
        "/8E9E",
        "/_config",
        "/1?wait=true&waitIndex=1",
        "?recursive=true&quorum=false&sorted=true",
    ];
    const VALUES: [&str; 5] = [
        "m0=http://10.0.0.5:2380",
        "m0=https://10.0.0.5:2380,m0=http://10.0.0.6:2380",
        "m1=http://127.0.0.1:2380",
        "m2=http://[fd00::1]:2380",
        "=",
    ];
    while let Some((case, mut dice)) = run.next() {
        if case % 200 == 0 {
            let now = clock.now();
            let (cluster, life) = (ClusterId::new(Uuid::from_u128(7)), Duration::from_secs(3600));
            let token = DiscoveryToken::issue(
                TOKEN,
                cluster,
                5,
                Vec::new(),
                Some("10.0.0.0/24".to_owned()),
                now,
                now.plus(life),
            );
            store.commit(Change::new().put(&token)).await.unwrap();
        }
        let prefix = *dice.pick(&["/", "/", "/v2/keys/_etcd/registry/", "/v2/keys/", "//"]);
        let asked = format!("{prefix}{TOKEN}{}", dice.pick(&PATHS));
        let asked = path(&mut dice, &asked);
        let method = *dice.pick(&["GET", "PUT", "PUT", "PUT", "DELETE", "HEAD", "POST"]);
        let mut value = (*dice.pick(&VALUES)).to_owned();
        if dice.one_in(2) {
            mutate::text(&mut dice, &mut value);
        }
        let extra = *dice.pick(&["", "&prevExist=false", "&prevExist=x", "&ttl=1", "&value=y"]);
        let mut body = format!("value={value}{extra}").into_bytes();
        if dice.one_in(6) {
            mutate::bytes(&mut dice, &mut body);
        }
        body.truncate(8 << 10);
        let kind = match dice.below(12) {
            0 => "text/plain",
            _ => "application/x-www-form-urlencoded; param=value",
        };
        let sent = Sent::new(method, &asked).header("content-type", kind).body(body);
        // Whoever waits for others may wait for long.
        let patience = match asked.contains("wait") {
            true => Duration::from_millis(30),
            false => Duration::from_secs(30),
        };
        match wire.ask_within(&sent, patience).await {
            Ok(None) if asked.contains("wait") => {}
            Ok(None) => run.fail(&asked, "no answer"),
            Ok(Some(answer)) => drop(run.check(&sent, &Ok(answer))),
            Err(why) => drop(run.check(&sent, &Err(why))),
        }
    }
    stop.cancel();
    serving.await.unwrap();
    run.end();
}

/// What nodes send while they boot.
#[test]
fn bootstrap() {
    target("bootstrap", &[200, 204, 400, 401, 403, 404], fuzz_bootstrap);
}

/// Fewer questions than a node may ask at once: what is too much is held back for a second.
const QUESTIONS: usize = 150;

/// Two nodes at an open door, and the connections that are made to it.
struct Nodes {
    place: Place,
    names: [String; 2],
    tokens: [String; 2],
    held: [Wire; 2],
    bare: Wire,
}

impl Nodes {
    async fn new() -> Self {
        let place = Place::new().await;
        let names = [place.master(0), place.worker(0)];
        let tokens = [place.master_token(0), place.worker_token()];
        for (name, role) in names.iter().zip(["master", "worker"]) {
            place.bind(name, role).await;
        }
        let wire = |node| Wire::within(Arc::new(place.tls(node)), place.address);
        let held = names.each_ref().map(|name| wire(Some(name)));
        Self { bare: wire(None), place, names, tokens, held }
    }
}

async fn fuzz_bootstrap(mut run: Run) {
    let corpus = Corpus::read(&Names { template: "t", cluster: "c", project: "p" });
    let key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
    let mut nodes = Nodes::new().await;
    let mut asked_so_far = 0;
    while let Some((case, mut dice)) = run.next() {
        if asked_so_far == QUESTIONS {
            (nodes, asked_so_far) = (Nodes::new().await, 0);
        }
        asked_so_far += 1;
        if case % 30 == 0 {
            // As good as new: a node that is ready is refused all it has had.
            for (name, role) in nodes.names.iter().zip(["master", "worker"]) {
                nodes.place.bind_former(name, role).await;
            }
        }
        let which = dice.below(2);
        let (node, token) = (&nodes.names[which], &nodes.tokens[which]);
        let errand = *dice.pick(&["status", "csr", "csr", "status", "bundle", "duty", "claim"]);
        let mut body = match errand {
            "csr" => {
                let purposes = ["kubelet", "etcd-peer", "etcd-server", "front-proxy-client"];
                let csr = odd_request(&mut dice, &key).map(|der| written(&mut dice, der));
                json!({ "purpose": dice.pick(&purposes), "csr": csr })
            }
            "claim" => {
                json!({ "csr": odd_request(&mut dice, &key).map(|der| written(&mut dice, der)) })
            }
            "duty" => json!({ "number": dice.below(3), "state": "done", "message": "m" }),
            _ => json!({
                "phase": dice.pick(&["booted", "network", "runtime", "certs", "etcd", "ready"]),
                "state": dice.pick(&["started", "done", "failed"]),
                "message": "m",
                "log_tail": "l",
            }),
        };
        if dice.one_in(2) {
            mutate::json(&mut dice, &corpus, &mut body);
        }
        let mut bytes = body.to_string().into_bytes();
        if dice.one_in(10) {
            mutate::bytes(&mut dice, &mut bytes);
        }
        // Less than this door reads.
        bytes.truncate(60_000);
        let mut token = format!("Bearer {token}").into_bytes();
        if dice.one_in(10) {
            mutate::bytes(&mut dice, &mut token);
        }
        let mut instance = INSTANCE.as_bytes().to_vec();
        if dice.one_in(20) {
            mutate::bytes(&mut dice, &mut instance);
        }
        let asked = path(&mut dice, &format!("/bootstrap/v1/{node}/{errand}"));
        let reads = errand == "bundle" || errand == "duty" && dice.one_in(2);
        let sent = Sent::new(if reads { "GET" } else { "POST" }, &asked)
            .header("authorization", token)
            .header("x-magnumd-instance", instance)
            .header("content-type", "application/json")
            .body(bytes);
        // Without a certificate a token opens a claim and the kit; with another's, nothing.
        let wire = match dice.below(8) {
            0 | 1 => &mut nodes.bare,
            2 => &mut nodes.held[1 - which],
            _ => &mut nodes.held[which],
        };
        let answer = wire.ask(&sent).await;
        run.check(&sent, &answer);
    }
    run.end();
}
