//! Further node groups: made, resized, deleted, with and without a stop anywhere.

use std::time::{Duration, Instant};

use hyper::{Method, StatusCode};
use serde_json::{Value, json};

use crate::crash::{self, Order, Ready, survives_a_stop_anywhere};
use crate::harness::{Lab, PATIENCE, Running};

async fn make(daemon: &Running, token: &str, uuid: &str) {
    let path = format!("/v1/clusters/{uuid}/nodegroups");
    let order = json!({"name": "gpu", "node_count": 2, "flavor_id": "m1.small"});
    let (status, body) = daemon.ask(token, Method::POST, &path, Some(order)).await;
    assert_eq!(status, StatusCode::ACCEPTED, "{body}");
    assert_eq!(body["status"], "CREATE_IN_PROGRESS", "{body}");
}

async fn drop_group(daemon: &Running, token: &str, uuid: &str) {
    let path = format!("/v1/clusters/{uuid}/nodegroups/gpu");
    let (status, body) = daemon.ask(token, Method::DELETE, &path, None).await;
    assert_eq!(status, StatusCode::NO_CONTENT, "{body}");
}

async fn group_gone(daemon: &Running, token: &str, uuid: &str) -> Value {
    let began = Instant::now();
    let path = format!("/v1/clusters/{uuid}/nodegroups/gpu");
    while daemon.ask(token, Method::GET, &path, None).await.0 != StatusCode::NOT_FOUND {
        assert!(began.elapsed() < PATIENCE, "the group is still there");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    daemon.settled(token, uuid).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_is_made_resized_and_deleted() {
    let lab = Lab::new().await;
    let daemon = lab.daemon().await;
    let (token, uuid) = lab.built(&daemon, "k1").await;
    make(&daemon, &token, &uuid).await;
    let (_, at_once) = daemon.get(&token, &format!("/v1/clusters/{uuid}")).await;
    assert_eq!(at_once["status"], "UPDATE_IN_PROGRESS");
    let cluster = daemon.settled(&token, &uuid).await;
    assert_eq!(cluster["status"], "UPDATE_COMPLETE", "{cluster}");
    let group = daemon.group(&token, &uuid, "gpu").await;
    assert_eq!(group["status"], "CREATE_COMPLETE", "{group}");
    assert_eq!(group["node_addresses"].as_array().unwrap().len(), 2, "{group}");
    assert_ne!(group["stack_id"], cluster["stack_id"], "a stack of its own");
    assert_eq!(lab.cloud.count("servers"), 5);

    for count in [0, 1] {
        let order = json!({"node_count": count, "nodegroup": "gpu"});
        daemon.resize(&token, &uuid, order).await;
        let cluster = daemon.settled(&token, &uuid).await;
        assert_eq!(cluster["status"], "UPDATE_COMPLETE", "{cluster}");
        assert_eq!(lab.cloud.count("servers"), 3 + count);
    }
    let patch = json!([{"op": "replace", "path": "/max_node_count", "value": 4}]);
    let path = format!("/v1/clusters/{uuid}/nodegroups/gpu");
    let (status, body) = daemon.ask(&token, Method::PATCH, &path, Some(patch)).await;
    assert_eq!(status, StatusCode::ACCEPTED, "{body}");
    daemon.settled(&token, &uuid).await;
    assert_eq!(daemon.group(&token, &uuid, "gpu").await["max_node_count"], 4);

    drop_group(&daemon, &token, &uuid).await;
    let cluster = group_gone(&daemon, &token, &uuid).await;
    assert_eq!(cluster["status"], "UPDATE_COMPLETE", "{cluster}");
    assert_eq!(lab.cloud.count("servers"), 3);

    make(&daemon, &token, &uuid).await;
    daemon.settled(&token, &uuid).await;
    daemon.delete(&token, &format!("/v1/clusters/{uuid}")).await;
    daemon.gone(&token, &uuid).await;
    assert_eq!(lab.cloud.leftovers(), Vec::<String>::new(), "group stacks go before the main one");
}

/// Regression: a label that says something of the cluster alone was taken for a further group, and
/// came to nothing.
#[tokio::test(flavor = "multi_thread")]
async fn a_label_that_comes_to_nothing_in_a_group_is_refused() {
    let lab = Lab::new().await;
    lab.cloud.announce_service("cinder", "block-storage");
    let daemon = lab.daemon().await;
    let (token, uuid) = lab.built(&daemon, "k1").await;
    let path = format!("/v1/clusters/{uuid}/nodegroups");
    let ask = async |name: &str, labels: Value| {
        let order = json!({"name": name, "labels": labels, "node_count": 1});
        let (status, body) = daemon.ask(&token, Method::POST, &path, Some(order)).await;
        (status, body["errors"][0]["detail"].as_str().unwrap_or_default().to_owned())
    };
    for (labels, words) in [
        (json!({"min_node_count": "1"}), "give the group's own field min_node_count instead."),
        (json!({"max_node_count": "9"}), "give the group's own field max_node_count instead."),
        (json!({"etcd_volume_size": "5"}), "label etcd_volume_size. Value: '5'. It must be left"),
        (
            json!({"etcd_timeout": "600"}),
            "It must be left away: it is about the cluster and changes",
        ),
        (json!({"availability_zone": "nova\u{200b}"}), "without U+200B"),
    ] {
        let (status, said) = ask("no", labels.clone()).await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{labels}: {said}");
        assert!(said.contains(words), "{labels}: {said}");
    }
    // What says something of its nodes, or what the cluster has anyway, is taken.
    for (n, labels) in [
        json!({"availability_zone": "nova"}),
        json!({"etcd_volume_size": "0"}),
        json!({"min_node_count": ""}),
    ]
    .into_iter()
    .enumerate()
    {
        let (status, said) = ask(&format!("yes{n}"), labels.clone()).await;
        assert_eq!(status, StatusCode::ACCEPTED, "{labels}: {said}");
        let cluster = daemon.settled(&token, &uuid).await;
        assert_eq!(cluster["status"], "UPDATE_COMPLETE", "{cluster}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_changes_nothing_in_a_group_is_told_and_an_image_that_does_not_fit_refused() {
    let lab = Lab::new().await;
    let daemon = lab.daemon().await;
    let token = lab.token("demo").await;
    daemon.template_of(&token, "k8s", "ubuntu-v1.31.4", json!({})).await;
    let asked = json!({"name": "k1", "cluster_template_id": "k8s", "node_count": 1});
    let (_, body) = daemon.post(&token, "/v1/clusters", asked).await;
    let uuid = body["uuid"].as_str().unwrap().to_owned();
    assert_eq!(daemon.settled(&token, &uuid).await["status"], "CREATE_COMPLETE");
    let path = format!("/v1/clusters/{uuid}/nodegroups");
    for (image, words) in [
        ("fedora-atomic", "nodes of the cluster are ubuntu. Choose an image of the same os_distro"),
        ("no-distro", "doesn't contain os_distro"),
        ("ubuntu-v1.34.0", "may be older than its API server, not newer"),
    ] {
        let order = json!({"name": "no", "image_id": image, "node_count": 1});
        let (status, body) = daemon.ask(&token, Method::POST, &path, Some(order)).await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{image}: {body}");
        assert!(body.to_string().contains(words), "{image}: {body}");
    }
    let labels = json!({"octavia_provider": "ovn", "octavia_lb_healthcheck": "false"});
    let order = json!({"name": "idle", "labels": labels, "node_count": 1});
    let (status, body) = daemon.ask(&token, Method::POST, &path, Some(order)).await;
    assert_eq!(status, StatusCode::ACCEPTED, "{body}");
    assert_eq!(daemon.settled(&token, &uuid).await["status"], "UPDATE_COMPLETE");
    let said = daemon.group(&token, &uuid, "idle").await["status_reason"].to_string();
    let words = "The labels octavia_provider, octavia_lb_healthcheck change nothing in this";
    assert!(said.contains(words), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn orders_on_different_groups_stand_in_line() {
    let lab = Lab::new().await;
    let daemon = lab.daemon().await;
    let (token, uuid) = lab.built(&daemon, "k1").await;
    make(&daemon, &token, &uuid).await;
    daemon.resize(&token, &uuid, json!({"node_count": 3})).await;
    let cluster = daemon.settled(&token, &uuid).await;
    assert_eq!(cluster["status"], "UPDATE_COMPLETE", "{cluster}");
    assert_eq!(daemon.group(&token, &uuid, "gpu").await["status"], "CREATE_COMPLETE");
    assert_eq!(lab.cloud.count("servers"), 6);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_that_cannot_be_made_fails_alone_and_can_be_deleted() {
    let lab = Lab::new().await;
    let daemon = lab.daemon().await;
    let (token, uuid) = lab.built(&daemon, "k1").await;
    lab.cloud.inject("nova:POST:/servers:status=500:times=1".parse().unwrap());
    make(&daemon, &token, &uuid).await;
    let cluster = daemon.settled(&token, &uuid).await;
    assert_eq!(cluster["status"], "UPDATE_FAILED", "{cluster}");
    let reason = cluster["status_reason"].as_str().unwrap();
    assert!(reason.starts_with("gpu failed: ") && reason.contains("nova answered 500"), "{reason}");
    assert_eq!(daemon.group(&token, &uuid, "gpu").await["status"], "CREATE_FAILED");
    drop_group(&daemon, &token, &uuid).await;
    let cluster = group_gone(&daemon, &token, &uuid).await;
    assert_eq!(cluster["status"], "UPDATE_COMPLETE", "{cluster}");
    daemon.delete(&token, &format!("/v1/clusters/{uuid}")).await;
    daemon.gone(&token, &uuid).await;
    assert_eq!(lab.cloud.leftovers(), Vec::<String>::new());
}

#[derive(Clone, Copy)]
struct Making;

impl Order for Making {
    async fn give(self, daemon: &Running, ready: &Ready) {
        make(daemon, &ready.token, &ready.uuid).await;
    }

    async fn check(self, lab: &Lab, _: &Running, _: &Ready, _: &Value) {
        assert_eq!(lab.cloud.count("servers"), 5);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn making_a_group_survives_a_stop_anywhere() {
    // An act and three commits.
    survives_a_stop_anywhere(Making, 6).await;
}

#[derive(Clone, Copy)]
struct Dropping;

impl Order for Dropping {
    async fn prepare(self, lab: &Lab, daemon: &Running) -> Ready {
        let ready = crash::built(lab, daemon).await;
        Making.give(daemon, &ready).await;
        daemon.settled(&ready.token, &ready.uuid).await;
        ready
    }

    async fn give(self, daemon: &Running, ready: &Ready) {
        drop_group(daemon, &ready.token, &ready.uuid).await;
    }

    async fn end(self, daemon: &Running, ready: &Ready) -> Value {
        group_gone(daemon, &ready.token, &ready.uuid).await
    }

    async fn check(self, lab: &Lab, _: &Running, _: &Ready, _: &Value) {
        assert_eq!(lab.cloud.count("servers"), 3);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn deleting_a_group_survives_a_stop_anywhere() {
    // An act and two commits.
    survives_a_stop_anywhere(Dropping, 6).await;
}
