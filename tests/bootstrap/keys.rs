//! First contact, and what a token opens after it.

use std::time::Duration;

use hyper::Method;
use hyper::header::HeaderName;
use magnumd::base::clock::Timestamp;
use magnumd::base::http::client::{Answer, Outgoing};
use magnumd::model::duty::{Duty, DutyKind, DutyState};
use magnumd::model::node::{Node, Phase, PhaseState};
use magnumd::model::node_key::NodeKey;
use magnumd::model::{ClusterId, Sequence};
use magnumd::store::Change;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::place::{INSTANCE, Place};
use crate::{csr, refusal};

const OTHER: &str = "99999999-2222-3333-4444-555555555555";
const ERRANDS: [&str; 7] = ["bundle", "artifact/", "csr", "status", "duty", "duty answer", "join"];

/// What is asked on an errand, by its method and with a body that makes sense.
fn question(place: &Place, node: &str, errand: &str, token: &str) -> Outgoing {
    let digest = "0".repeat(64);
    let (path, body) = match errand {
        "artifact/" => (format!("artifact/{digest}"), None),
        "csr" => (errand.into(), Some(json!({ "purpose": "kubelet", "csr": csr() }))),
        "status" => (errand.into(), Some(json!({ "phase": "booted", "state": "done" }))),
        "duty answer" => ("duty".into(), Some(json!({ "number": 1, "state": "failed" }))),
        _ => (errand.to_owned(), None),
    };
    let mut asked = place.ask(node, &path, token);
    asked.method = if body.is_some() { Method::POST } else { Method::GET };
    match &body {
        Some(body) => asked.json(body),
        None => asked,
    }
}

async fn ask(place: &Place, node: &str, errand: &str, token: &str, bare: bool) -> Answer {
    let asked = question(place, node, errand, token);
    match bare {
        true => place.send_bare(asked).await,
        false => place.send(asked).await,
    }
}

fn names(answer: &Answer) -> Vec<String> {
    let mut archive = tar::Archive::new(&answer.body[..]);
    let path = |e: std::io::Result<tar::Entry<'_, &[u8]>>| {
        e.unwrap().path().unwrap().display().to_string()
    };
    archive.entries().unwrap().map(path).collect()
}

#[tokio::test]
async fn a_token_opens_nothing_for_a_node_that_has_its_certificate() {
    let place = Place::new().await;
    let (m0, w0) = (place.master(0), place.worker(0));
    place.bind(&m0, "master").await;
    place.bind(&w0, "worker").await;
    for (node, token) in [(&m0, place.master_token(0)), (&w0, place.worker_token())] {
        for errand in ERRANDS {
            let refused = ask(&place, node, errand, &token, true).await;
            assert_eq!(refusal(&refused), 403, "{errand}");
            let body = String::from_utf8_lossy(&refused.body).into_owned();
            assert!(body.contains("certificate"), "{body}");
            // The same with the certificate is let in, whatever comes of it.
            let status = ask(&place, node, errand, "", false).await.status.as_u16();
            let expected = match errand {
                "artifact/" => 404,
                "join" => 403,
                // The node is not ready on record: it is asked whether it is.
                "bundle" | "csr" | "duty" => 200,
                _ => 204,
            };
            assert_eq!(status, expected, "{errand}");
        }
    }
}

#[tokio::test]
async fn the_same_claim_again_has_the_same_answer_and_any_other_is_refused() {
    let place = Place::new().await;
    let (m0, token) = (place.master(0), place.master_token(0));
    place.bind_former(&m0, "master").await;
    let key = rcgen::KeyPair::generate().unwrap();
    let request = |key: &rcgen::KeyPair| {
        let asked = rcgen::CertificateParams::new(Vec::new()).unwrap();
        asked.serialize_request(key).unwrap().pem().unwrap()
    };
    let holder = place.hold(place.cluster.id, &m0, &key, place.clock.now());
    let known =
        NodeKey { holder: Some(holder.clone()), ..NodeKey::free(place.cluster.id, m0.clone()) };
    place.store.commit(Change::new().put(&known)).await.unwrap();
    let claim = async |csr: String, instance: &str| {
        let instance_header = HeaderName::from_static("x-magnumd-instance");
        let asked = place.ask(&m0, "claim", &token).json(&json!({ "csr": csr }));
        place.send_bare(asked.header(instance_header, instance)).await
    };
    // Another request of the same key: a node that was killed makes one anew.
    for _ in 0..2 {
        let again = claim(request(&key), INSTANCE).await;
        let body: Value = serde_json::from_slice(&again.body).unwrap();
        assert_eq!(
            (refusal(&again), body["certificate"].as_str()),
            (200, Some(&*holder.certificate))
        );
    }
    let other = rcgen::KeyPair::generate().unwrap();
    // Whether it is worth an alarm Nova must say, and it is unreachable here.
    for (case, csr, instance) in
        [("another key", request(&other), INSTANCE), ("another server", request(&key), OTHER)]
    {
        assert_eq!(refusal(&claim(csr, instance).await), 503, "{case}");
    }
    let disputed = magnumd::model::node_key::Dispute {
        address: "192.0.2.9".to_owned(),
        instance: OTHER.to_owned(),
        at: place.clock.now(),
        times: 1,
    };
    let known = NodeKey { dispute: Some(disputed), ..known };
    place.store.commit(Change::new().put(&known)).await.unwrap();
    assert_eq!(refusal(&claim(request(&other), INSTANCE).await), 409);
    assert_eq!(refusal(&claim(request(&key), OTHER).await), 409);
    assert_eq!(refusal(&claim(request(&key), INSTANCE).await), 200, "the holder still may");
    let kept = place.store.read(|v| v.node_key(place.cluster.id, &m0)).unwrap().unwrap();
    assert_eq!(kept.record, known);
}

#[tokio::test]
async fn a_certificate_is_good_for_its_node_its_cluster_and_its_time() {
    let place = Place::new().await;
    let (m0, m1, w0) = (place.master(0), place.master(1), place.worker(0));
    for (name, role) in [(&m0, "master"), (&m1, "master"), (&w0, "worker")] {
        place.bind(name, role).await;
    }
    let bundle = |node: &str| place.ask(node, "bundle", "");
    assert_eq!(refusal(&place.send_as(&m0, bundle(&m0)).await), 200);
    // Root on one node, who has read the user data of all: booting or ready, he is none of them.
    for phase in [Phase::Booted, Phase::Ready] {
        let nodes = [(&m0, place.master_token(0)), (&m1, place.master_token(1))];
        for (node, token) in nodes.into_iter().chain([(&w0, place.worker_token())]) {
            let record = Node { phase, state: PhaseState::Done, ..place.node(node).unwrap() };
            place.store.commit(Change::new().put(&record)).await.unwrap();
            for other in [&m0, &m1, &w0].into_iter().filter(|other| *other != node) {
                for errand in ERRANDS {
                    for token in ["", &token] {
                        let asked = question(&place, node, errand, token);
                        let status = refusal(&place.send_as(other, asked).await);
                        assert_eq!(status, 403, "{other} asks as {node}: {errand}");
                    }
                }
            }
            assert_eq!(place.node(node).unwrap(), record);
        }
    }
    // The listener's CA has signed it, and the name is right; the key is not the one on record.
    let fresh = rcgen::KeyPair::generate().unwrap();
    let minute = Duration::from_secs(60);
    let before = Timestamp::from_micros(place.clock.now().micros() - 60_000_000);
    place.hold(place.cluster.id, &m0, &fresh, before);
    assert_eq!(refusal(&place.send(bundle(&m0)).await), 403, "of before");
    // One that is later than the record, as after a restore: Nova has a say, and is silent here.
    place.hold(place.cluster.id, &m0, &fresh, place.clock.now().plus(minute));
    assert_eq!(refusal(&place.send(bundle(&m0)).await), 503, "of afterwards");
    let elsewhere = ClusterId::new(Uuid::from_u128(8));
    place.hold(elsewhere, &m1, &fresh, place.clock.now());
    assert_eq!(refusal(&place.send(bundle(&m1)).await), 404, "of a cluster that is gone");
    // Rebuilt: nobody has the name, and who had it is nobody.
    let record = place.node(&w0).unwrap();
    let (cluster, now) = (place.cluster.id, place.clock.now());
    let rebuilt = NodeKey::of_rebuilt(cluster, w0.clone(), now);
    place.store.commit(Change::new().delete(&record).put(&rebuilt)).await.unwrap();
    for errand in ERRANDS {
        assert_eq!(refusal(&ask(&place, &w0, errand, "", false).await), 403, "{errand}");
    }
    // Not on record at all: the state is older than the certificate.
    place.store.commit(Change::new().delete(&rebuilt)).await.unwrap();
    assert_eq!(refusal(&place.send(bundle(&w0)).await), 503, "restored");
    assert!(place.node(&w0).is_none());
}

/// A node of a magnumd that knew tokens only: it is shown how to make its first contact by key,
/// and is given no authority's key and no duty before.
#[tokio::test]
async fn a_node_of_before_works_on_and_is_shown_how_to_have_a_key() {
    let place = Place::new().await;
    let (m0, token) = (place.master(0), place.master_token(0));
    place.bind_former(&m0, "master").await;
    for errand in ["bundle", "duty"] {
        let kit = ask(&place, &m0, errand, &token, true).await;
        assert_eq!(
            (refusal(&kit), names(&kit)),
            (200, ["claim.sh", "duty.sh", "setup.sh"].map(str::to_owned).to_vec())
        );
        assert!(!kit.body.windows(11).any(|w| w == b"PRIVATE KEY"), "{errand}");
    }
    // In its first boot it must prove itself, and Nova cannot be asked here; what it says of a
    // duty is not listened to.
    for (errand, expected) in [("status", 503), ("duty answer", 204), ("csr", 503)] {
        assert_eq!(refusal(&ask(&place, &m0, errand, &token, true).await), expected, "{errand}");
    }
    let mut ready = place.node(&m0).unwrap();
    (ready.phase, ready.state) = (Phase::Ready, PhaseState::Done);
    let duty = Duty {
        cluster_id: place.cluster.id,
        node: m0.clone(),
        number: Sequence(1),
        operation: Sequence(1),
        kind: DutyKind::TrustAuthorities,
        targets: Vec::new(),
        state: DutyState::Given,
        message: String::new(),
        given_at: place.clock.now(),
    };
    place.store.commit(Change::new().put(&ready).put(&duty)).await.unwrap();
    for (errand, expected) in [("status", 204), ("duty answer", 204), ("csr", 403), ("join", 403)] {
        assert_eq!(refusal(&ask(&place, &m0, errand, &token, true).await), expected, "{errand}");
    }
    let given = place.store.read(|view| view.duty(place.cluster.id, &m0)).unwrap().unwrap();
    assert!(given.is_open(), "whoever has read the token cannot fail it");
    let instance = HeaderName::from_static("x-magnumd-instance");
    let other = place.ask(&m0, "duty", &token).header(instance, OTHER);
    assert_eq!(refusal(&place.send_bare(other).await), 409);
    // It has its key: the token is dead.
    place.bind(&m0, "master").await;
    for errand in ERRANDS {
        assert_eq!(refusal(&ask(&place, &m0, errand, &token, true).await), 403, "{errand}");
    }
}

#[tokio::test]
async fn before_first_contact_a_token_opens_nothing_but_the_claim() {
    let place = Place::new().await;
    let (m0, token) = (place.master(0), place.master_token(0));
    for errand in ERRANDS {
        let answer = ask(&place, &m0, errand, &token, true).await;
        match errand {
            // For user data of before; there is no secret in it.
            "bundle" | "duty" => assert_eq!(names(&answer)[0], "claim.sh"),
            _ => assert_eq!(refusal(&answer), 403, "{errand}"),
        }
    }
    assert!(place.node(&m0).is_none());
}

/// Whoever is ready on record has no duty; whoever is not is asked whether it is, as after a
/// restore from before.
#[tokio::test]
async fn a_node_that_is_not_ready_on_record_is_asked_whether_it_is() {
    let place = Place::new().await;
    let m0 = place.master(0);
    place.bind(&m0, "master").await;
    let asked = place.send(place.ask(&m0, "duty", "")).await;
    assert_eq!((refusal(&asked), names(&asked)), (200, vec!["duty.sh".to_owned()]));
    assert_eq!(place.status(&m0, "", "ready", "done").await, 204);
    assert_eq!(place.send(place.ask(&m0, "duty", "")).await.status.as_u16(), 204);
}
