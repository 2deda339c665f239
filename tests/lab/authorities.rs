//! New authorities for a cluster that works on: what was handed out before ends, what is handed
//! out afterwards is signed by the new ones.

use hyper::{Method, StatusCode};
use serde_json::{Value, json};

use crate::crash::{self, Order, Ready, survives_a_stop_anywhere};
use crate::harness::{Lab, Running};

async fn rotate(daemon: &Running, token: &str, uuid: &str) -> (StatusCode, Value) {
    daemon.ask(token, Method::PATCH, &format!("/v1/certificates/{uuid}"), None).await
}

/// The three authorities as the API shows them.
async fn authorities(daemon: &Running, token: &str, uuid: &str) -> Vec<String> {
    let mut all = Vec::new();
    for kind in ["kubernetes", "etcd", "front-proxy"] {
        let path = format!("/v1/certificates/{uuid}?ca_cert_type={kind}");
        let (status, body) = daemon.get(token, &path).await;
        assert_eq!(status, StatusCode::OK, "{body}");
        all.push(body["pem"].as_str().unwrap().to_owned());
    }
    all
}

#[tokio::test(flavor = "multi_thread")]
async fn every_authority_is_replaced_and_every_node_takes_part() {
    let lab = Lab::new().await;
    let daemon = lab.daemon().await;
    let (token, uuid) = lab.built(&daemon, "k1").await;
    let old = authorities(&daemon, &token, &uuid).await;
    let (status, body) = rotate(&daemon, &token, &uuid).await;
    assert_eq!(status, StatusCode::ACCEPTED, "{body}");
    let (status, body) = rotate(&daemon, &token, &uuid).await;
    assert_eq!(status, StatusCode::BAD_REQUEST, "one at a time: {body}");
    let cluster = daemon.settled(&token, &uuid).await;
    assert_eq!(cluster["status"], "UPDATE_COMPLETE", "{cluster}");
    let new = authorities(&daemon, &token, &uuid).await;
    for (old, new) in old.iter().zip(&new) {
        assert_ne!(old, new);
    }
    // Nodes that come later get the new ones, and are ready with them.
    daemon.resize(&token, &uuid, serde_json::json!({"node_count": 3})).await;
    assert_eq!(daemon.settled(&token, &uuid).await["status"], "UPDATE_COMPLETE");
    let (status, _) = rotate(&daemon, &token, &uuid).await;
    assert_eq!(status, StatusCode::ACCEPTED);
    assert_eq!(daemon.settled(&token, &uuid).await["status"], "UPDATE_COMPLETE");
    assert_ne!(authorities(&daemon, &token, &uuid).await, new);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_old_authorities_stay_until_every_node_has_left_them() {
    let lab = Lab::with_faults(&["guest:*-node-1:issue-leaves:fail=disk full:times=1"]).await;
    let daemon = lab.daemon().await;
    let (token, uuid) = lab.built(&daemon, "k1").await;
    let old = authorities(&daemon, &token, &uuid).await;
    rotate(&daemon, &token, &uuid).await;
    let failed = daemon.settled(&token, &uuid).await;
    assert_eq!(failed["status"], "UPDATE_FAILED", "{failed}");
    let reason = failed["status_reason"].as_str().unwrap();
    assert!(reason.contains("-node-1") && reason.contains("disk full"), "{reason}");
    assert_eq!(authorities(&daemon, &token, &uuid).await, old);
    // The guests check that it goes on with the same next authorities.
    let (status, body) = rotate(&daemon, &token, &uuid).await;
    assert_eq!(status, StatusCode::ACCEPTED, "{body}");
    assert_eq!(daemon.settled(&token, &uuid).await["status"], "UPDATE_COMPLETE");
    assert_ne!(authorities(&daemon, &token, &uuid).await, old);
}

#[derive(Clone, Copy)]
struct Rotating;

impl Order for Rotating {
    async fn prepare(self, lab: &Lab, daemon: &Running) -> Ready {
        let ready = crash::built(lab, daemon).await;
        let before = json!(authorities(daemon, &ready.token, &ready.uuid).await);
        Ready { before, ..ready }
    }

    async fn give(self, daemon: &Running, ready: &Ready) {
        rotate(daemon, &ready.token, &ready.uuid).await;
    }

    async fn check(self, _: &Lab, daemon: &Running, ready: &Ready, _: &Value) {
        let old = ready.before.as_array().unwrap();
        let new = authorities(daemon, &ready.token, &ready.uuid).await;
        assert!(old.iter().zip(&new).all(|(old, new)| old != new), "{new:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rotation_survives_a_stop_anywhere() {
    // Drawn, three times given to master and workers, settled.
    survives_a_stop_anywhere(Rotating, 18).await;
}
