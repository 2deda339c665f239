//! A cluster grows and shrinks, also when it is stopped anywhere, asked twice or refused.

use hyper::{Method, StatusCode};
use serde_json::{Value, json};

use crate::crash::{Order, Ready, survives_a_stop_anywhere};
use crate::harness::{Lab, ONE_CLUSTER, Running};

async fn worker_ids(lab: &Lab, token: &str, cluster: &Value) -> Value {
    let (_, stack) = lab.stack(token, cluster).await;
    let outputs = stack["outputs"].as_array().cloned().unwrap_or_default();
    let ids = outputs.into_iter().find(|o| o["output_key"] == "server_ids");
    ids.map(|o| o["output_value"]["workers"].clone()).unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_grows_shrinks_to_nothing_and_grows_again() {
    let lab = Lab::new().await;
    let daemon = lab.daemon().await;
    let (token, uuid) = lab.built(&daemon, "k1").await;
    for (count, servers) in [(4, 5), (0, 1), (2, 3)] {
        daemon.resize(&token, &uuid, json!({"node_count": count})).await;
        let (_, at_once) = daemon.get(&token, &format!("/v1/clusters/{uuid}")).await;
        assert_eq!(at_once["status"], "UPDATE_IN_PROGRESS");
        let cluster = daemon.settled(&token, &uuid).await;
        assert_eq!(cluster["status"], "UPDATE_COMPLETE", "{cluster}");
        assert_eq!(cluster["node_count"], count);
        assert_eq!(cluster["node_addresses"].as_array().unwrap().len(), count, "{cluster}");
        assert_eq!(lab.cloud.count("servers"), servers, "resized to {count}");
    }
    let patch = json!([{"op": "replace", "path": "/node_count", "value": 3}]);
    let path = format!("/v1/clusters/{uuid}");
    let (status, body) = daemon.ask(&token, Method::PATCH, &path, Some(patch)).await;
    assert_eq!(status, StatusCode::ACCEPTED, "{body}");
    assert_eq!(daemon.settled(&token, &uuid).await["node_count"], 3);
    assert_eq!(lab.cloud.count("servers"), 4);
    daemon.delete(&token, &path).await;
    daemon.gone(&token, &uuid).await;
    assert_eq!(lab.cloud.leftovers(), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_named_nodes_go_however_they_are_named() {
    let lab = Lab::new().await;
    let daemon = lab.daemon().await;
    let (token, uuid) = lab.built(&daemon, "k1").await;
    daemon.resize(&token, &uuid, json!({"node_count": 5})).await;
    let cluster = daemon.settled(&token, &uuid).await;
    let addresses = cluster["node_addresses"].as_array().unwrap().clone();
    let all = worker_ids(&lab, &token, &cluster).await;
    let (index, address, id) = (json!("0"), addresses[1].clone(), all["3"].clone());
    for (gone, count) in [(index, 4), (address, 3), (id, 2)] {
        let order = json!({"node_count": count, "nodes_to_remove": [gone]});
        daemon.resize(&token, &uuid, order).await;
    }
    let cluster = daemon.settled(&token, &uuid).await;
    assert_eq!(cluster["status"], "UPDATE_COMPLETE", "{cluster}");
    let left = worker_ids(&lab, &token, &cluster).await;
    assert_eq!(left, json!({"2": all["2"], "4": all["4"]}), "rapid requests add up");
    let path = format!("/v1/clusters/{uuid}/actions/resize");
    let order = json!({"node_count": 1, "nodes_to_remove": ["nobody"]});
    let (status, body) = daemon.ask(&token, Method::POST, &path, Some(order)).await;
    assert_eq!(status, StatusCode::BAD_REQUEST, "{body}");
    assert!(body.to_string().contains("nobody"), "{body}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_resize_is_told_and_can_be_tried_again() {
    let lab = Lab::new().await;
    let daemon = lab.daemon().await;
    let (token, uuid) = lab.built(&daemon, "k1").await;
    lab.cloud.inject("nova:POST:/servers:status=500:times=1".parse().unwrap());
    daemon.resize(&token, &uuid, json!({"node_count": 3})).await;
    let cluster = daemon.settled(&token, &uuid).await;
    assert_eq!(cluster["status"], "UPDATE_FAILED", "{cluster}");
    let reason = cluster["status_reason"].as_str().unwrap();
    assert!(reason.contains("default-worker failed: "), "{reason}");
    assert!(reason.contains("nova answered 500"), "{reason}");
    let group = daemon.group(&token, &uuid, "default-worker").await;
    assert!(group["status_reason"].as_str().unwrap().contains("nova answered 500"), "{group}");
    daemon.resize(&token, &uuid, json!({"node_count": 3})).await;
    let cluster = daemon.settled(&token, &uuid).await;
    assert_eq!(cluster["status"], "UPDATE_COMPLETE", "{cluster}");
    assert_eq!(lab.cloud.count("servers"), 4);
}

/// Nova has taken the order and found no host: Heat makes another server on the same port.
#[tokio::test(flavor = "multi_thread")]
async fn a_resize_for_which_there_was_no_host_can_be_asked_for_again() {
    let lab = Lab::new().await;
    let daemon = lab.daemon().await;
    let (token, uuid) = lab.built(&daemon, "k1").await;
    lab.cloud.inject("nova:POST:/servers:error=No valid host was found:times=1".parse().unwrap());
    daemon.resize(&token, &uuid, json!({"node_count": 3})).await;
    let failed = daemon.settled(&token, &uuid).await;
    assert_eq!(failed["status"], "UPDATE_FAILED", "{failed}");
    assert!(failed["status_reason"].to_string().contains("No valid host"), "{failed}");
    daemon.resize(&token, &uuid, json!({"node_count": 3})).await;
    let cluster = daemon.settled(&token, &uuid).await;
    assert_eq!(cluster["status"], "UPDATE_COMPLETE", "{cluster}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_resize_is_rolled_back_if_asked_to() {
    let lab = Lab::new().await;
    let daemon = lab.daemon().await;
    let (token, uuid) = lab.built(&daemon, "k1").await;
    lab.cloud.inject("nova:POST:/servers:status=500:times=1".parse().unwrap());
    let patch = json!([{"op": "replace", "path": "/node_count", "value": 3}]);
    let path = format!("/v1/clusters/{uuid}?rollback=True");
    let (status, body) = daemon.ask(&token, Method::PATCH, &path, Some(patch)).await;
    assert_eq!(status, StatusCode::ACCEPTED, "{body}");
    let cluster = daemon.settled(&token, &uuid).await;
    assert_eq!(cluster["status"], "ROLLBACK_COMPLETE", "{cluster}");
    assert_eq!(cluster["node_count"], 2, "{cluster}");
    assert_eq!(lab.cloud.count("servers"), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_order_is_refused_while_the_cluster_is_being_built() {
    let lab = Lab::new().await;
    let daemon = lab.daemon().await;
    let token = lab.token("demo").await;
    let uuid = daemon.create(&token, "k1").await;
    let path = format!("/v1/clusters/{uuid}/actions/resize");
    let order = json!({"node_count": 3});
    let (status, body) = daemon.ask(&token, Method::POST, &path, Some(order)).await;
    assert_eq!(status, StatusCode::CONFLICT, "{body}");
    assert!(body.to_string().contains("CREATE_IN_PROGRESS"), "{body}");
    let path = format!("/v1/clusters/{uuid}/nodegroups");
    let order = json!({"name": "gpu"});
    let (status, body) = daemon.ask(&token, Method::POST, &path, Some(order)).await;
    assert_eq!(status, StatusCode::CONFLICT, "{body}");
    for path in [format!("/v1/certificates/{uuid}"), format!("/v1/clusters/{uuid}/actions/upgrade")]
    {
        let method = if path.contains("upgrade") { Method::POST } else { Method::PATCH };
        let order = json!({"cluster_template": "k8s"});
        let (status, body) = daemon.ask(&token, method, &path, Some(order)).await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "as in Magnum: {body}");
        assert!(body.to_string().contains("CREATE_IN_PROGRESS"), "{body}");
    }
}

/// Grows by one while a node goes, so that both kinds of change are in flight.
async fn changed(daemon: &Running, token: &str, uuid: &str) {
    let order = json!({"node_count": 3, "nodes_to_remove": ["0"]});
    daemon.resize(token, uuid, order).await;
}

#[derive(Clone, Copy)]
struct Resizing;

impl Order for Resizing {
    async fn give(self, daemon: &Running, ready: &Ready) {
        changed(daemon, &ready.token, &ready.uuid).await;
    }

    async fn check(self, lab: &Lab, _: &Running, ready: &Ready, cluster: &Value) {
        assert_eq!(cluster["node_count"], 3);
        let left = worker_ids(lab, &ready.token, cluster).await;
        let left: Vec<&String> = left.as_object().unwrap().keys().collect();
        assert_eq!(left, ["1", "2", "3"]);
        assert_eq!(lab.cloud.count("servers"), 4);
        for (kind, count) in ONE_CLUSTER.into_iter().skip(1) {
            assert_eq!(lab.cloud.count(kind), count, "{kind}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn resize_survives_a_stop_anywhere() {
    // An act and two commits.
    survives_a_stop_anywhere(Resizing, 6).await;
}
