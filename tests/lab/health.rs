//! Health as the owner sees it: followed through the cluster's own API, told by whoever heals
//! the cluster, and never in the way of anything else.

use std::time::{Duration, Instant};

use hyper::{Method, StatusCode};
use serde_json::{Value, json};

use crate::harness::{Lab, Running, template};

/// What owners read whenever an API is not well.
const NO_ANSWER: &str = "The API does not answer at its address as a healthy one does.";

/// A lab whose clusters are looked into twice a second.
async fn lab() -> Lab {
    let mut lab = Lab::new().await;
    lab.configure("[periodic]", "health_interval = '5s'\nhealth_timeout = '1s'");
    lab
}

/// A cluster of a template with these changes.
async fn built_from(lab: &Lab, daemon: &Running, changes: Value) -> (String, String) {
    let token = lab.token("demo").await;
    let mut wanted = template();
    wanted.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
    let (status, body) = daemon.post(&token, "/v1/clustertemplates", wanted).await;
    assert_eq!(status, StatusCode::CREATED, "{body}");
    lab.built(daemon, "k1").await
}

async fn becomes(daemon: &Running, token: &str, uuid: &str, status: &str) -> Value {
    daemon.until(token, uuid, |c| c["health_status"] == status).await
}

/// What is said of every node, by the end of its name.
fn nodes(cluster: &Value) -> Vec<(String, &str)> {
    let reason = cluster["health_status_reason"].as_object().unwrap();
    let nodes = reason.iter().filter_map(|(key, said)| {
        let (_, node) = key.strip_suffix(".Ready")?.split_once('-')?;
        let (_, node) = node.split_once('-')?;
        Some((node.to_owned(), said.as_str().unwrap()))
    });
    nodes.collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_is_healthy_while_all_of_its_nodes_are_ready() {
    let lab = lab().await;
    let daemon = lab.daemon().await;
    let (token, uuid) = lab.built(&daemon, "k1").await;
    // The first look may have been before the last node came.
    let whole = |c: &Value| c["health_status"] == "HEALTHY" && nodes(c).len() == 3;
    let cluster = daemon.until(&token, &uuid, whole).await;
    assert_eq!(cluster["health_status_reason"]["api"], "ok", "{cluster}");
    assert!(nodes(&cluster).iter().all(|(_, said)| *said == "True"), "{cluster}");
    let (_, list) = daemon.get(&token, "/v1/clusters").await;
    assert_eq!(list["clusters"][0]["health_status"], "HEALTHY");

    for condition in ["not-ready", "unknown"] {
        lab.cloud.inject(format!("guest:*master-0:node:{condition}").parse().unwrap());
        let cluster = becomes(&daemon, &token, &uuid, "UNHEALTHY").await;
        assert_eq!(cluster["health_status_reason"]["api"], "ok", "{cluster}");
        for (node, said) in nodes(&cluster) {
            let wanted = if node.contains("master") { "False" } else { "True" };
            assert_eq!(said, wanted, "{node}, {condition}");
        }
        lab.cloud.clear_faults();
        becomes(&daemon, &token, &uuid, "HEALTHY").await;
    }

    daemon.resize(&token, &uuid, json!({"node_count": 4})).await;
    daemon.settled(&token, &uuid).await;
    daemon.until(&token, &uuid, |c| nodes(c).len() == 5).await;
    assert_eq!(becomes(&daemon, &token, &uuid, "HEALTHY").await["node_count"], 4);
    daemon.delete(&token, &format!("/v1/clusters/{uuid}")).await;
    daemon.gone(&token, &uuid).await;
    assert_eq!(lab.cloud.leftovers(), Vec::<String>::new());
    daemon.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_api_that_is_not_well_shows_and_nobody_else_waits_for_it() {
    let lab = lab().await;
    let daemon = lab.daemon().await;
    let (token, ill) = lab.built(&daemon, "ill").await;
    let (_, other) = lab.built(&daemon, "other").await;
    // An authority of the same name, but not the cluster's, is the last.
    for harm in ["dead", "refuse", "forge"] {
        becomes(&daemon, &token, &ill, "HEALTHY").await;
        becomes(&daemon, &token, &other, "HEALTHY").await;
        lab.cloud.inject(format!("guest:ill-*:api:{harm}").parse().unwrap());
        let began = Instant::now();
        let cluster = becomes(&daemon, &token, &ill, "UNHEALTHY").await;
        assert!(began.elapsed() < Duration::from_secs(4), "{:?}", began.elapsed());
        // Whatever it is, tenants read the same: magnumd is no scanner of ports.
        assert_eq!(cluster["health_status_reason"], json!({"api": NO_ANSWER}), "{harm}");

        // The other one is still looked into, and whatever is asked goes on.
        lab.cloud.inject("guest:other-*-master-0:node:not-ready".parse().unwrap());
        let cluster = becomes(&daemon, &token, &other, "UNHEALTHY").await;
        assert_eq!(cluster["health_status_reason"]["api"], "ok", "{cluster}");
        let count = daemon.get(&token, &format!("/v1/clusters/{ill}")).await.1["node_count"]
            .as_u64()
            .unwrap();
        daemon.resize(&token, &ill, json!({"node_count": count + 1})).await;
        let cluster = daemon.settled(&token, &ill).await;
        assert_eq!(cluster["status"], "UPDATE_COMPLETE", "{cluster}");
        lab.cloud.clear_faults();
    }
    // A look that has begun when its cluster is deleted brings nothing back.
    becomes(&daemon, &token, &ill, "HEALTHY").await;
    lab.cloud.inject("guest:*:api:dead".parse().unwrap());
    for uuid in [&ill, &other] {
        daemon.delete(&token, &format!("/v1/clusters/{uuid}")).await;
    }
    for uuid in [&ill, &other] {
        daemon.gone(&token, uuid).await;
    }
    tokio::time::sleep(Duration::from_millis(1500)).await;
    let (_, list) = daemon.get(&token, "/v1/clusters").await;
    assert_eq!(list["clusters"], json!([]));
    daemon.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_without_a_way_in_is_unknown() {
    let lab = lab().await;
    let daemon = lab.daemon().await;
    let (token, uuid) = built_from(&lab, &daemon, json!({"floating_ip_enabled": false})).await;
    let cluster = becomes(&daemon, &token, &uuid, "UNKNOWN").await;
    let said = json!({"api": "The cluster k1 is not accessible."});
    assert_eq!(cluster["health_status_reason"], said);
    daemon.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_that_heals_itself_is_believed() {
    let lab = lab().await;
    let daemon = lab.daemon().await;
    let labels = json!({
        "auto_healing_enabled": "true", "auto_healing_controller": "magnum-auto-healer",
    });
    let (token, uuid) = built_from(&lab, &daemon, json!({ "labels": labels })).await;
    let trustee = trustee_token(&lab, &uuid).await;
    let path = format!("/v1/clusters/{uuid}");
    let patch = |value: &str, node: &str| {
        json!([
            {"op": "replace", "path": "/health_status", "value": value},
            {"op": "replace", "path": "/health_status_reason", "value": node},
        ])
    };
    // The controller inside writes the map as text.
    for (token, health, said) in [
        (&trustee, "UNHEALTHY", "{'k1-node-0.Ready': 'False'}"),
        (&token, "HEALTHY", r#"{"k1-node-0.Ready": "True"}"#),
        (&trustee, "UNKNOWN", "{}"),
    ] {
        let (status, body) = daemon.patch(token, &path, patch(health, said)).await;
        assert_eq!(status, StatusCode::ACCEPTED, "{body}");
        // Long enough for several looks.
        tokio::time::sleep(Duration::from_secs(2)).await;
        let (_, cluster) = daemon.get(token, &path).await;
        assert_eq!(cluster["health_status"], health, "{cluster}");
        let said: Value = serde_json::from_str(&said.replace('\'', "\"")).unwrap();
        assert_eq!(cluster["health_status_reason"], said);
    }
    // More than its health a cluster's own user cannot change.
    let count = json!([{"op": "replace", "path": "/node_count", "value": 9}]);
    assert_eq!(daemon.patch(&trustee, &path, count).await.0, StatusCode::FORBIDDEN);
    daemon.end().await;
}

/// A token of the cluster's own user, without its trust and hence without a project.
async fn trustee_token(lab: &Lab, uuid: &str) -> String {
    let admin = lab.token("admin").await;
    let identity = lab.cloud.identity_url();
    let users = format!("{identity}/users");
    let (status, list) = lab.cloud_call(Method::GET, &users, &admin, None).await;
    assert_eq!(status, StatusCode::OK, "{list}");
    let mut all = list["users"].as_array().unwrap().iter();
    let user = all.find(|u| u["name"].as_str().unwrap().starts_with(uuid)).unwrap();
    let id = user["id"].as_str().unwrap();
    // Nobody but magnumd and the nodes know its password.
    let body = json!({"user": {"password": "known"}});
    let url = format!("{users}/{id}");
    let (status, body) = lab.cloud_call(Method::PATCH, &url, &admin, Some(body)).await;
    assert_eq!(status, StatusCode::OK, "{body}");
    // A token of the same second would count as one from before; the lab's second is shorter.
    tokio::time::sleep(Duration::from_secs(1)).await;
    lab.log_in(json!({"identity": {
        "methods": ["password"], "password": {"user": {"id": id, "password": "known"}}}}))
        .await
}
