//! What takes longer than its time: what works by then is shown, and what comes later counts.

use std::time::{Duration, Instant};

use hyper::{Method, StatusCode};
use serde_json::{Value, json};

use crate::harness::{Lab, PATIENCE, Running, template};

/// Asks for a cluster of one master and two workers that has two minutes; its uuid.
async fn hurried(daemon: &Running, token: &str) -> String {
    let (status, body) = daemon.post(token, "/v1/clustertemplates", template()).await;
    assert_eq!(status, StatusCode::CREATED, "{body}");
    let asked = json!({"name": "k1", "cluster_template_id": "k8s", "node_count": 2,
                       "create_timeout": 2});
    let (status, body) = daemon.post(token, "/v1/clusters", asked).await;
    assert_eq!(status, StatusCode::ACCEPTED, "{body}");
    body["uuid"].as_str().unwrap().to_owned()
}

/// Regression: a creation whose nodes were still booting ended as "Timed out" when a time service
/// corrected the clock.
#[tokio::test(flavor = "multi_thread")]
async fn who_sets_the_clock_ends_no_creation() {
    const HOURS: i64 = 2 * 3600 * 1_000_000;
    for ahead in [HOURS, -HOURS] {
        let lab = Lab::with_faults(&["guest:*-master-0:ready:delay=60s"]).await;
        let daemon = lab.daemon().await;
        let token = lab.token("demo").await;
        let uuid = daemon.create(&token, "k1").await;
        daemon.until(&token, &uuid, |c| c["api_address"].is_string()).await;
        lab.clock.set_ahead(ahead);
        let cluster = daemon.settled(&token, &uuid).await;
        assert_eq!(cluster["status"], "CREATE_COMPLETE", "{ahead}: {cluster}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_whose_nodes_are_late_is_complete_late() {
    let lab = Lab::with_faults(&["guest:*-node-1:certs:delay=200s"]).await;
    let token = lab.token("demo").await;
    let daemon = lab.daemon().await;
    let uuid = hurried(&daemon, &token).await;
    // The stack is there long before the last node.
    let early = daemon.until(&token, &uuid, |c| !c["api_address"].is_null()).await;
    assert_eq!(early["status"], "CREATE_IN_PROGRESS", "{early}");
    assert_eq!(early["node_addresses"].as_array().unwrap().len(), 2, "{early}");
    let failed = daemon.settled(&token, &uuid).await;
    assert_eq!(failed["status"], "CREATE_FAILED", "{failed}");
    assert!(failed["status_reason"].as_str().unwrap().starts_with("Timed out"), "{failed}");
    for shown in ["api_address", "master_addresses", "node_addresses"] {
        assert_eq!(failed[shown], early[shown], "{shown}");
    }
    let after = daemon.until(&token, &uuid, |c| c["status"] == "CREATE_COMPLETE").await;
    let reason = after["status_reason"].as_str().unwrap();
    assert!(reason.starts_with("Complete "), "{reason}");
    assert!(reason.contains(" after the creation was given up. (Timed out: "), "{reason}");
    daemon.resize(&token, &uuid, json!({"node_count": 1})).await;
    assert_eq!(daemon.settled(&token, &uuid).await["status"], "UPDATE_COMPLETE");
    daemon.delete(&token, &format!("/v1/clusters/{uuid}")).await;
    daemon.gone(&token, &uuid).await;
    assert_eq!(lab.cloud.leftovers(), Vec::<String>::new());
    daemon.end().await;
}

/// Also when magnumd was not there when the last node reported.
#[tokio::test(flavor = "multi_thread")]
async fn a_resize_whose_node_is_late_is_complete_late() {
    let lab = Lab::with_faults(&["guest:*-node-2:certs:delay=200s"]).await;
    let token = lab.token("demo").await;
    let daemon = lab.daemon().await;
    let uuid = hurried(&daemon, &token).await;
    let built = daemon.settled(&token, &uuid).await;
    assert_eq!(built["status"], "CREATE_COMPLETE", "{built}");
    daemon.resize(&token, &uuid, json!({"node_count": 3})).await;
    let failed = daemon.settled(&token, &uuid).await;
    assert_eq!(failed["status"], "UPDATE_FAILED", "{failed}");
    let reason = failed["faults"]["default-worker"].as_str().unwrap();
    assert!(reason.starts_with("Timed out: Stack UPDATE_COMPLETE; 2 of 3 nodes"), "{reason}");
    let after = daemon.until(&token, &uuid, |c| c["status"] == "UPDATE_COMPLETE").await;
    let reason = after["status_reason"].as_str().unwrap();
    assert!(reason.contains(" after the change was given up. (Timed out: "), "{reason}");
    assert_eq!(after["node_addresses"].as_array().unwrap().len(), 3, "{after}");
    daemon.end().await;
}

/// A resize that Heat never took is no late success, although all nodes are ready.
#[tokio::test(flavor = "multi_thread")]
async fn waiting_for_heat_ends_and_says_for_what() {
    let mut lab = Lab::new().await;
    lab.configure("[periodic]", "sync_interval = '2s'");
    let token = lab.token("demo").await;
    let daemon = lab.daemon().await;
    let uuid = hurried(&daemon, &token).await;
    assert_eq!(daemon.settled(&token, &uuid).await["status"], "CREATE_COMPLETE");
    lab.cloud.inject("heat:PATCH:/stacks/*:status=409".parse().unwrap());
    daemon.resize(&token, &uuid, json!({"node_count": 3})).await;
    let waiting = "waiting until Heat takes a change.";
    daemon
        .until(&token, &uuid, |c| c["status_reason"].as_str().is_some_and(|r| r.contains(waiting)))
        .await;
    let failed = daemon.settled(&token, &uuid).await;
    let reason = failed["faults"]["default-worker"].as_str().unwrap();
    assert!(reason.starts_with("Timed out: Stack "), "{reason}");
    assert!(reason.contains(waiting), "{reason}");
    tokio::time::sleep(Duration::from_secs(1)).await;
    let (_, still) = daemon.get(&token, &format!("/v1/clusters/{uuid}")).await;
    assert_eq!(still["status"], "UPDATE_FAILED", "{still}");
    assert_eq!(still["node_count"], 2, "{still}");
    daemon.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_stands_behind_a_failed_operation_begins_at_once() {
    let mut lab = Lab::new().await;
    // No periodic look comes to help.
    lab.configure("[periodic]", "sync_interval = '10h'");
    let token = lab.token("demo").await;
    let daemon = lab.daemon().await;
    let uuid = hurried(&daemon, &token).await;
    assert_eq!(daemon.settled(&token, &uuid).await["status"], "CREATE_COMPLETE");
    lab.cloud.inject("heat:PATCH:/stacks/*:status=409".parse().unwrap());
    daemon.resize(&token, &uuid, json!({"node_count": 3})).await;
    let path = format!("/v1/clusters/{uuid}/nodegroups");
    let order = json!({"name": "next", "node_count": 1, "flavor_id": "m1.small"});
    let (status, body) = daemon.ask(&token, Method::POST, &path, Some(order)).await;
    assert_eq!(status, StatusCode::ACCEPTED, "{body}");
    let began = Instant::now();
    let is = |group: &Value, status: &str| group["status"] == status;
    while !is(&daemon.group(&token, &uuid, "next").await, "CREATE_COMPLETE") {
        assert!(began.elapsed() < PATIENCE, "the next operation was never begun");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(is(&daemon.group(&token, &uuid, "default-worker").await, "UPDATE_FAILED"));
    daemon.end().await;
}
