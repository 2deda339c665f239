//! The credential is replaced; the cluster works on with the new one.

use hyper::{Method, StatusCode};
use magnumd::base::points::Points;

use serde_json::json;

use crate::crash::{in_turns, stopped};
use crate::harness::{Lab, ONE_CLUSTER, Running, template};

async fn built(lab: &Lab, daemon: &Running) -> (String, String) {
    let token = lab.token("demo").await;
    let uuid = daemon.create(&token, "k1").await;
    assert_eq!(daemon.settled(&token, &uuid).await["status"], "CREATE_COMPLETE");
    (token, uuid)
}

async fn rotate(daemon: &Running, token: &str, uuid: &str) {
    let path = format!("/v1/credentials/{uuid}");
    let (status, body) = daemon.ask(token, Method::PATCH, &path, None).await;
    assert_eq!(status, StatusCode::ACCEPTED, "{body}");
}

/// Regression, seen on a real Keystone: a token given in the second of the new password is
/// refused, and that was taken for "the former trust is gone", which stayed for ever. Whoever
/// gets a token through a trust knows that it is there, so the deletion is tried again.
#[tokio::test(flavor = "multi_thread")]
async fn a_credential_is_rotated_even_if_stopped_anywhere() {
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
    assert!(points >= 12, "four acts and three commits: {points}");
    in_turns(points, |stop| async move {
        let lab = Lab::new().await;
        let daemon = lab.daemon().await;
        let (token, uuid) = built(&lab, &daemon).await;
        daemon.end().await;
        let halt = Points::stopping_after(stop);
        let daemon = lab.daemon_with(halt.clone()).await;
        rotate(&daemon, &token, &uuid).await;
        stopped(&halt).await;
        daemon.end().await;

        let daemon = lab.daemon().await;
        let cluster = daemon.settled(&token, &uuid).await;
        assert_eq!(cluster["status"], "UPDATE_COMPLETE", "stopped at {stop}: {cluster}");
        for (kind, count) in ONE_CLUSTER {
            let count = if kind == "stacks" { continue } else { count };
            assert_eq!(lab.cloud.count(kind), count, "{kind}, stopped at {stop}");
        }
        daemon.resize(&token, &uuid, json!({"node_count": 1})).await;
        let cluster = daemon.settled(&token, &uuid).await;
        assert_eq!(cluster["status"], "UPDATE_COMPLETE", "the new one works: {cluster}");
        daemon.delete(&token, &format!("/v1/clusters/{uuid}")).await;
        daemon.gone(&token, &uuid).await;
        assert_eq!(lab.cloud.leftovers(), Vec::<String>::new(), "stopped at {stop}");
        daemon.end().await;
    })
    .await;
}

/// The guests log in to the lab's Keystone with what they are given, as the controllers would.
#[tokio::test(flavor = "multi_thread")]
async fn controllers_inside_a_cluster_are_given_the_new_credential() {
    let lab = Lab::with_faults(&["guest:*-master-0:renew-credentials:fail=no room:times=1"]).await;
    let daemon = lab.daemon().await;
    let token = lab.token("demo").await;
    let mut wanted = template();
    wanted["labels"] = json!({"cloud_provider_enabled": "true"});
    let (status, body) = daemon.post(&token, "/v1/clustertemplates", wanted).await;
    assert_eq!(status, StatusCode::CREATED, "{body}");
    let (token, uuid) = built(&lab, &daemon).await;

    rotate(&daemon, &token, &uuid).await;
    let failed = daemon.settled(&token, &uuid).await;
    assert_eq!(failed["status"], "UPDATE_FAILED", "{failed}");
    let reason = failed["status_reason"].as_str().unwrap();
    assert!(reason.contains("duty renew-credentials: no room"), "{reason}");

    rotate(&daemon, &token, &uuid).await;
    assert_eq!(daemon.settled(&token, &uuid).await["status"], "UPDATE_COMPLETE");
    for (kind, count) in ONE_CLUSTER {
        assert_eq!(lab.cloud.count(kind), count, "{kind}: the former ones are gone");
    }
    daemon.end().await;
}
