//! The node bootstrap door as servers use it: over loopback, on a real state file, without a
//! cloud. What needs Nova, the first claim of a name, finds it unreachable here.

#![allow(clippy::unwrap_used, reason = "a test panics where it fails")]

mod keys;
mod place;

use std::sync::Arc;
use std::time::Duration;

use hyper::header::{CONTENT_TYPE, HeaderName};
use hyper::{Method, StatusCode};
use magnumd::base::http::client::{Answer, Outgoing};
use magnumd::model::ClusterId;
use magnumd::model::node::Phase;
use magnumd::model::nodegroup::{DEFAULT_MASTER, DEFAULT_WORKER};
use magnumd::model::status::Status;
use magnumd::pki::enrolment::{Enrolment, EnrolmentKey};
use magnumd::store::Change;
use place::{DAY, INSTANCE, KEY, Place, add_cluster};
use serde_json::{Value, json};
use tokio::task::JoinSet;
use uuid::Uuid;

/// The status; a refusal must carry the same number and a sentence.
fn refusal(answer: &Answer) -> u16 {
    let status = answer.status.as_u16();
    if status >= 300 {
        let body: Value = serde_json::from_slice(&answer.body).unwrap();
        assert_eq!(body["error"]["code"], status, "{body}");
        assert!(body["error"]["message"].as_str().unwrap().ends_with('.'), "{body}");
    }
    status
}

/// A request for somebody else's name, signed by its own key.
fn csr() -> String {
    let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
    let mut asked = rcgen::CertificateParams::new(vec!["evil.example.org".to_owned()]).unwrap();
    asked.distinguished_name.push(rcgen::DnType::CommonName, "system:masters");
    asked.serialize_request(&key).unwrap().pem().unwrap()
}

#[tokio::test]
async fn tokens_open_only_what_they_were_made_for() {
    let place = Place::new().await;
    let (m0, m1, w0) = (place.master(0), place.master(1), place.worker(0));
    let forged = EnrolmentKey::new(&[8; 32]).mint(&Enrolment {
        cluster: place.cluster.id,
        nodegroup: DEFAULT_MASTER.to_owned(),
        role: "master".to_owned(),
        node: Some(m0.clone()),
        expires_at: place.clock.now().plus(DAY),
    });
    let stranger = EnrolmentKey::new(&KEY).mint(&Enrolment {
        cluster: ClusterId::new(Uuid::from_u128(8)),
        nodegroup: DEFAULT_MASTER.to_owned(),
        role: "master".to_owned(),
        node: Some(m0.clone()),
        expires_at: place.clock.now().plus(DAY),
    });
    let elsewhere = add_cluster(&place.store, 9, place.clock.now()).await;
    let theirs = EnrolmentKey::new(&KEY).mint(&Enrolment {
        cluster: elsewhere.id,
        nodegroup: DEFAULT_WORKER.to_owned(),
        role: "worker".to_owned(),
        node: None,
        expires_at: place.clock.now().plus(DAY),
    });
    let (good, worker) = (place.master_token(0), place.worker_token());
    let expired = place.token(DEFAULT_MASTER, "master", Some(m0.clone()), Duration::ZERO);
    let unbound = place.token(DEFAULT_MASTER, "master", None, DAY);
    let no_group = place.token("gpu", "worker", None, DAY);
    for (case, node, token, expected) in [
        // It has come so far that Nova would be asked, which is unreachable here.
        ("its own", m0.as_str(), good.as_str(), 503),
        ("a worker", &w0, &worker, 503),
        ("a worker that was added later", &place.worker(4711), &worker, 503),
        ("no token", &m0, "", 401),
        ("nonsense", &m0, "a.b", 401),
        ("forged", &m0, forged.expose(), 401),
        ("expired", &m0, &expired, 401),
        ("another master", &m1, &good, 403),
        ("a master by a worker's token", &m0, &worker, 403),
        ("a worker by a master's token", &w0, &good, 403),
        ("a master's token for no name", &m0, &unbound, 403),
        ("a group that is gone", &w0, &no_group, 403),
        ("a master that was never rendered", &place.master(2), &good, 403),
        ("no node at all", "k1-master-0", &good, 403),
        ("a worker with a strange index", &(place.worker(0) + "0"), &worker, 403),
        ("another cluster's node", &w0, theirs.expose(), 403),
        ("a cluster that is gone", &m0, stranger.expose(), 404),
    ] {
        let claim = place.ask(node, "claim", token).json(&json!({ "csr": csr() }));
        assert_eq!(refusal(&place.send_bare(claim).await), expected, "{case}");
    }
}

#[tokio::test]
async fn requests_that_make_no_sense() {
    let place = Place::new().await;
    let (m0, good) = (place.master(0), place.master_token(0));
    place.bind(&m0, "master").await;
    let body = json!({"phase": "booted", "state": "done"});
    for (path, method, expected) in [
        ("/".to_owned(), Method::GET, 404),
        ("/bootstrap/v1".to_owned(), Method::GET, 404),
        (format!("/bootstrap/v1/{m0}/artifacts/x"), Method::GET, 404),
        (format!("/bootstrap/v1/{m0}/artifact/x/y"), Method::GET, 404),
        (format!("/bootstrap/v1/{m0}/artifact/x"), Method::GET, 401),
        (format!("/bootstrap/v1/{m0}/artifact/x"), Method::PUT, 405),
        (format!("/bootstrap/v1/{m0}/bundle/"), Method::GET, 404),
        (format!("/bootstrap/v1/{m0}/bundle"), Method::POST, 405),
        (format!("/bootstrap/v1/{m0}/status"), Method::GET, 405),
        (format!("/bootstrap/v1/{m0}/csr"), Method::DELETE, 405),
        (format!("/bootstrap/v1/{m0}/status"), Method::POST, 401),
        ("/bootstrap/v1/..%2F..%2Fx/status".to_owned(), Method::POST, 401),
    ] {
        let answer = place.send_bare(Outgoing::new(method.clone(), place.url(&path))).await;
        assert_eq!(refusal(&answer), expected, "{method} {path}");
    }
    let instance = HeaderName::from_static("x-magnumd-instance");
    let claim = json!({ "csr": csr() });
    let strange = place.ask(&m0, "claim", &good).json(&claim).header(instance, "i-1");
    assert_eq!(refusal(&place.send_bare(strange).await), 400);
    for csr in ["", "garbage", &csr().replace('A', "B")] {
        let claim = place.ask(&m0, "claim", &good).json(&json!({ "csr": csr }));
        assert_eq!(refusal(&place.send_bare(claim).await), 400, "{csr}");
    }
    let form = place.ask(&m0, "status", &good).json(&body).header(CONTENT_TYPE, "text/plain");
    assert_eq!(refusal(&place.send(form).await), 415);
    let json_type = |body: Vec<u8>| {
        place.ask(&m0, "status", &good).header(CONTENT_TYPE, "application/json").body(body)
    };
    for (case, body, expected) in [
        ("nothing", Vec::new(), 400),
        ("not UTF-8", b"{\"phase\":\"b\xff\",\"state\":\"done\"}".to_vec(), 400),
        ("a list", b"[]".to_vec(), 400),
        ("unknown phase", br#"{"phase":"lunch","state":"done"}"#.to_vec(), 400),
        ("unknown state", br#"{"phase":"booted","state":"maybe"}"#.to_vec(), 400),
        ("unknown field", br#"{"phase":"booted","state":"done","x":1}"#.to_vec(), 400),
        ("a number", br#"{"phase":1,"state":"done"}"#.to_vec(), 400),
        ("deep", "[".repeat(60_000).into_bytes(), 400),
        ("too large", vec![b' '; (64 << 10) + 1], 413),
        ("good", br#"{"phase":"network","state":"done"}"#.to_vec(), 204),
    ] {
        assert_eq!(refusal(&place.send(json_type(body)).await), expected, "{case}");
    }
    assert_eq!(place.node(&m0).unwrap().phase, Phase::Network);
}

#[tokio::test]
async fn certificates_carry_our_words_and_the_cas_signature() {
    use x509_parser::prelude::{FromDer, X509Certificate};
    let place = Place::new().await;
    let (m1, w0) = (place.master(1), place.worker(0));
    place.bind(&m1, "master").await;
    place.bind(&w0, "worker").await;
    let (master, worker) = (place.master_token(1), place.worker_token());
    for (node, token, purpose, subject, names) in [
        (&m1, &master, "kubelet", format!("O=system:nodes, CN=system:node:{m1}"), 5),
        (&w0, &worker, "kubelet", format!("O=system:nodes, CN=system:node:{w0}"), 4),
        (&m1, &master, "etcd-server", format!("CN={m1}"), 5),
        (&m1, &master, "etcd-peer", format!("CN={m1}"), 5),
        (&m1, &master, "etcd-client", "CN=kube-apiserver-etcd-client".to_owned(), 0),
        (&m1, &master, "front-proxy-client", "CN=front-proxy-client".to_owned(), 0),
    ] {
        let answer = place.csr(node, token, purpose, &csr()).await;
        assert_eq!(refusal(&answer), 200, "{purpose}");
        let body: Value = serde_json::from_slice(&answer.body).unwrap();
        let der = |text: &Value| {
            let text = text.as_str().unwrap().as_bytes();
            x509_parser::pem::parse_x509_pem(text).unwrap().1.contents
        };
        let (made, ca) = (der(&body["certificate"]), der(&body["ca"]));
        let (_, made) = X509Certificate::from_der(&made).unwrap();
        let (_, ca) = X509Certificate::from_der(&ca).unwrap();
        made.verify_signature(Some(ca.public_key())).unwrap();
        assert_eq!(made.subject().to_string(), subject);
        let shown = made.subject_alternative_name().unwrap();
        let shown = shown.map_or(0, |s| s.value.general_names.len());
        assert_eq!(shown, names, "{purpose}: name, localhost, two loopbacks, its address");
        assert!(!made.is_ca());
        assert!(made.validity().not_after <= ca.validity().not_after);
    }
    for (purpose, request, expected) in [
        ("etcd-server", csr(), 403),
        ("etcd-peer", csr(), 403),
        ("etcd-client", csr(), 403),
        ("front-proxy-client", csr(), 403),
        ("admin", csr(), 403),
        ("king", csr(), 400),
        ("kubelet", String::new(), 400),
        ("kubelet", "garbage".to_owned(), 400),
        ("kubelet", csr().replace('A', "B"), 400),
        ("kubelet", csr().replace("CERTIFICATE REQUEST", "PRIVATE KEY"), 400),
    ] {
        let answer = place.csr(&w0, &worker, purpose, &request).await;
        assert_eq!(refusal(&answer), expected, "{purpose} {request}");
    }
}

#[tokio::test]
async fn a_bundle_holds_no_keys_for_workers_and_is_the_same_each_time() {
    let place = Place::new().await;
    let (m0, w0) = (place.master(0), place.worker(0));
    place.bind(&m0, "master").await;
    place.bind(&w0, "worker").await;
    for (node, token, keys) in
        [(&m0, place.master_token(0), true), (&w0, place.worker_token(), false)]
    {
        let answer = place.send(place.ask(node, "bundle", &token)).await;
        assert_eq!(refusal(&answer), 200);
        assert_eq!(answer.header("content-type"), Some("application/x-tar"));
        assert_eq!(answer.header("cache-control"), Some("no-store"));
        let again = place.send(place.ask(node, "bundle", &token)).await;
        assert_eq!(answer.body, again.body);
        let mut archive = tar::Archive::new(&answer.body[..]);
        let mut files = 0;
        for entry in archive.entries().unwrap() {
            let mut entry = entry.unwrap();
            let path = entry.path().unwrap().display().to_string();
            assert!(!path.starts_with('/') && !path.contains(".."), "{path}");
            let mut content = Vec::new();
            std::io::Read::read_to_end(&mut entry, &mut content).unwrap();
            let secret = content.windows(11).any(|w| w == b"PRIVATE KEY");
            assert!(keys || !secret, "{path} is not for workers");
            files += 1;
        }
        assert!(files > 0);
    }
}

#[tokio::test]
async fn a_node_goes_on_after_a_failure_and_gets_nothing_more_once_it_is_ready() {
    let place = Place::new().await;
    let (w0, token) = (place.worker(0), place.worker_token());
    place.bind(&w0, "worker").await;
    for (phase, state) in [("runtime", "failed"), ("runtime", "started"), ("ready", "done")] {
        assert_eq!(place.status(&w0, &token, phase, state).await, 204);
        let node = place.node(&w0).unwrap();
        assert_eq!((node.phase.as_str(), node.state.as_str()), (phase, state));
        assert_eq!(node.instance.as_deref(), Some(INSTANCE));
    }
    let ready = place.node(&w0).unwrap();
    assert_eq!(place.status(&w0, &token, "booted", "started").await, 204);
    let still = place.node(&w0).unwrap();
    assert!(still.is_ready(), "ready is final");
    assert_eq!(still.last_seen, ready.last_seen, "who repeats it is answered without a write");
    assert_eq!(refusal(&place.csr(&w0, &token, "kubelet", &csr()).await), 403);
    assert_eq!(refusal(&place.send(place.ask(&w0, "bundle", &token)).await), 403);
}

#[tokio::test]
async fn reports_do_not_bring_a_deleted_cluster_back() {
    let place = Place::new().await;
    let (w0, token) = (place.worker(0), place.worker_token());
    place.bind(&w0, "worker").await;
    let mut going = place.cluster.clone();
    going.status = Status::DeleteInProgress;
    place.store.commit(Change::new().put(&going)).await.unwrap();
    assert_eq!(place.status(&w0, &token, "ready", "done").await, 404);
    place.store.commit(Change::new().put(&place.cluster)).await.unwrap();
    let report = |state: &'static str| place.status(&w0, &token, "runtime", state);
    let deletion = place.store.commit(Change::new().delete_cluster(place.cluster.id));
    let (a, b, c, d, deleted) = tokio::join!(
        report("started"),
        report("done"),
        report("failed"),
        report("done"),
        deletion,
    );
    deleted.unwrap();
    assert!([a, b, c, d].iter().all(|status| [204, 404].contains(status)));
    assert_eq!(place.status(&w0, &token, "runtime", "done").await, 404);
    assert!(place.node(&w0).is_none());
}

#[tokio::test]
async fn the_answers_are_never_5xx_whatever_comes() {
    let place = Place::new().await;
    let (w0, token) = (place.worker(0), place.worker_token());
    place.bind(&w0, "worker").await;
    let valid = csr().trim_end().to_owned();
    let body = valid.rfind("-----END").unwrap();
    for at in (0..body).step_by(29) {
        let mut text = valid.clone().into_bytes();
        text[at] = if text[at] == b'A' { b'Q' } else { b'A' };
        let text = String::from_utf8(text).unwrap();
        let answer = place.csr(&w0, &token, "kubelet", &text).await;
        assert!(answer.status.as_u16() < 500, "{answer:?}");
        let cut = place.csr(&w0, &token, "kubelet", &valid[..at]).await;
        assert_eq!(cut.status, StatusCode::BAD_REQUEST);
    }
}

/// What a node joins with is for booting nodes of its role, and comes from the first master.
/// One token floods us under ever other names: what is too much is refused with a status that nodes
/// take for "later", and a node of the very cluster goes on meanwhile.
#[tokio::test]
async fn a_flood_with_one_token_is_refused_and_stops_no_node() {
    let place = Arc::new(Place::new().await);
    let (m0, good) = (place.master(0), place.master_token(0));
    place.bind(&m0, "master").await;
    let mut flood = JoinSet::new();
    for n in 0..100 {
        let place = Arc::clone(&place);
        flood.spawn(async move {
            let ask = place.ask(&place.worker(100 + n), "bundle", &place.worker_token());
            place.send(ask).await
        });
    }
    for _ in 0..20 {
        assert_eq!(place.status(&m0, &good, "runtime", "started").await, 204);
    }
    let answers = flood.join_all().await;
    let told = answers.iter().filter(|a| a.status.as_u16() == 429);
    let told: Vec<&Answer> = told.collect();
    assert!(told.len() >= 50, "{} of {} were refused", told.len(), answers.len());
    for answer in told {
        assert_eq!(refusal(answer), 429);
        assert!(answer.header("retry-after").is_some());
    }
}

#[tokio::test]
async fn nodes_get_what_their_role_joins_with() {
    let place = Place::new().await;
    let (m0, m1, w0) = (place.master(0), place.master(1), place.worker(0));
    for (name, role) in [(&m0, "master"), (&m1, "master"), (&w0, "worker")] {
        place.bind(name, role).await;
    }
    let (first, second) = (place.master_token(0), place.master_token(1));
    let worker = place.worker_token();
    let renewal = "0123456789abcdef0123456789abcdef";
    let secrets = |number: u32, renewal: &str| {
        let (master, worker) = (format!("m-{number}"), format!("w-{number}"));
        json!({"master": master, "worker": worker, "renewal": renewal})
    };
    let hand_over = async |node: &str, token: &str, body: Value| {
        refusal(&place.send(place.ask(node, "join", token).json(&body)).await)
    };
    let joins_with = async |node: &str, token: &str| {
        let mut asked = place.ask(node, "join", token);
        asked.method = Method::GET;
        let answer = place.send(asked).await;
        let body: Value = serde_json::from_slice(&answer.body).unwrap();
        match refusal(&answer) {
            200 => Ok(body["secret"].as_str().unwrap().to_owned()),
            status => Err(status),
        }
    };
    assert_eq!(hand_over(&m0, &first, secrets(1, renewal)).await, 403, "no driver asked for it");
    place.give_driver("swarm_mode_v1").await;
    assert_eq!(joins_with(&w0, &worker).await, Err(503), "nobody has handed anything over");
    for (case, node, token, body, expected) in [
        ("another master", &m1, &second, secrets(1, renewal), 403),
        ("a worker", &w0, &worker, secrets(1, renewal), 403),
        ("a short renewal", &m0, &first, secrets(1, "short"), 400),
        ("no secret", &m0, &first, json!({"master": "m", "renewal": renewal}), 400),
        ("the first master", &m0, &first, secrets(1, renewal), 204),
        ("once more", &m0, &first, secrets(2, renewal), 204),
    ] {
        assert_eq!(hand_over(node, token, body).await, expected, "{case}");
    }
    assert_eq!(joins_with(&w0, &worker).await, Ok("w-2".to_owned()));
    assert_eq!(joins_with(&m1, &second).await, Ok("m-2".to_owned()));
    for (node, token) in [(&m0, &first), (&w0, &worker)] {
        assert_eq!(place.status(node, token, "ready", "done").await, 204);
    }
    assert_eq!(joins_with(&w0, &worker).await, Err(403), "it has all it needs");
    let other = "fedcba9876543210fedcba9876543210";
    assert_eq!(hand_over(&m0, &first, secrets(3, other)).await, 403, "found in the user data");
    assert_eq!(joins_with(&m1, &second).await, Ok("m-2".to_owned()));
    assert_eq!(hand_over(&m0, &first, secrets(3, renewal)).await, 204, "its own to renew");
    assert_eq!(joins_with(&m1, &second).await, Ok("m-3".to_owned()));
}

/// The purposes of a driver whose CA opens a Docker daemon.
#[tokio::test]
async fn no_worker_of_a_swarm_gets_a_certificate() {
    let place = Place::new().await;
    let w0 = place.worker(0);
    place.bind(&w0, "worker").await;
    place.give_driver("swarm_mode_v1").await;
    for purpose in ["kubelet", "server", "docker-server"] {
        let body = json!({"purpose": purpose, "csr": csr()});
        let answer = place.send(place.ask(&w0, "csr", &place.worker_token()).json(&body)).await;
        assert_eq!(refusal(&answer), 403, "{purpose}");
    }
}

fn sha256(bytes: &[u8]) -> String {
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, bytes);
    digest.as_ref().iter().map(|b| format!("{b:02x}")).collect()
}

#[tokio::test]
async fn artifacts_are_fetched_by_digest_and_never_other_than_they_are_called() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str| folder.path().join(name);
    let large: Vec<u8> = (0..1_500_000_u32).flat_map(u32::to_le_bytes).collect();
    std::fs::write(file("images.tar"), &large).unwrap();
    std::fs::write(file("empty"), b"").unwrap();
    std::fs::write(file(".hidden"), b"hidden").unwrap();
    std::fs::create_dir(file("folder")).unwrap();
    std::fs::write(file("folder/deep"), b"deep").unwrap();
    let place = Place::offering(Some(folder.path().to_owned())).await;
    let (w0, token) = (place.worker(0), place.worker_token());
    place.bind(&w0, "worker").await;
    let fetch = async |digest: &str| {
        // The first to ask may come before the files have been read.
        for _ in 0..100 {
            let ask = place.ask(&w0, &format!("artifact/{digest}"), &token);
            let answer = place.send(ask).await;
            if answer.status != StatusCode::SERVICE_UNAVAILABLE {
                return answer;
            }
            assert_eq!(answer.header("retry-after"), Some("5"));
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        panic!("the artifacts are never read");
    };
    let whole = fetch(&sha256(&large)).await;
    assert_eq!((whole.status, whole.body.len()), (StatusCode::OK, large.len()));
    assert!(whole.body == large);
    assert_eq!(whole.header("content-type"), Some("application/octet-stream"));
    assert!(fetch(&sha256(b"")).await.body.is_empty());
    for (case, digest, status) in [
        ("never there", sha256(b"other"), 404),
        ("hidden", sha256(b"hidden"), 404),
        ("below", sha256(b"deep"), 404),
        ("capital letters", sha256(&large).to_uppercase(), 400),
        ("a name", "images.tar".to_owned(), 400),
        ("a way out", "..".to_owned(), 400),
    ] {
        assert_eq!(refusal(&fetch(&digest).await), status, "{case}");
    }
    let anybody = place.ask(&w0, &format!("artifact/{}", sha256(b"")), "a.b");
    assert_eq!(refusal(&place.send_bare(anybody).await), 401);
    // In place, with size and time as before: what was read is not what would be sent.
    let stamp = std::fs::metadata(file("images.tar")).unwrap().modified().unwrap();
    let mut forged = large.clone();
    forged[5] ^= 1;
    std::fs::write(file("images.tar"), &forged).unwrap();
    let open = std::fs::File::options().write(true).open(file("images.tar")).unwrap();
    open.set_modified(stamp).unwrap();
    let ask = place.ask(&w0, &format!("artifact/{}", sha256(&large)), &token);
    assert!(place.try_send(ask).await.is_err(), "it must break off");
}
