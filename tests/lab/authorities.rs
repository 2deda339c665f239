//! New authorities for a cluster that works on: what was handed out before ends, what is handed
//! out afterwards is signed by the new ones.

use hyper::{Method, StatusCode};
use magnumd::base::points::Points;
use serde_json::Value;

use crate::crash::{in_turns, stopped};
use crate::harness::{Lab, Running};

async fn built(lab: &Lab, daemon: &Running) -> (String, String) {
    let token = lab.token("demo").await;
    let uuid = daemon.create(&token, "k1").await;
    assert_eq!(daemon.settled(&token, &uuid).await["status"], "CREATE_COMPLETE");
    (token, uuid)
}

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
    let (token, uuid) = built(&lab, &daemon).await;
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
    let (token, uuid) = built(&lab, &daemon).await;
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

#[tokio::test(flavor = "multi_thread")]
async fn a_rotation_survives_a_stop_anywhere() {
    let counting = Points::counting();
    let lab = Lab::new().await;
    let daemon = lab.daemon().await;
    let (token, uuid) = built(&lab, &daemon).await;
    daemon.end().await;
    let daemon = lab.daemon_with(counting.clone()).await;
    rotate(&daemon, &token, &uuid).await;
    assert_eq!(daemon.settled(&token, &uuid).await["status"], "UPDATE_COMPLETE");
    daemon.end().await;
    let points = counting.passed();
    assert!(points >= 18, "drawn, three times given to master and workers, settled: {points}");
    in_turns(points, |stop| async move {
        let lab = Lab::new().await;
        let daemon = lab.daemon().await;
        let (token, uuid) = built(&lab, &daemon).await;
        let old = authorities(&daemon, &token, &uuid).await;
        daemon.end().await;
        let halt = Points::stopping_after(stop);
        let daemon = lab.daemon_with(halt.clone()).await;
        rotate(&daemon, &token, &uuid).await;
        stopped(&halt).await;
        daemon.end().await;

        let daemon = lab.daemon().await;
        let cluster = daemon.settled(&token, &uuid).await;
        assert_eq!(cluster["status"], "UPDATE_COMPLETE", "stopped at {stop}: {cluster}");
        let new = authorities(&daemon, &token, &uuid).await;
        assert!(old.iter().zip(&new).all(|(old, new)| old != new), "stopped at {stop}");
        daemon.delete(&token, &format!("/v1/clusters/{uuid}")).await;
        daemon.gone(&token, &uuid).await;
        assert_eq!(lab.cloud.leftovers(), Vec::<String>::new(), "stopped at {stop}");
        daemon.end().await;
    })
    .await;
}
