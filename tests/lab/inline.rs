//! Clusters whose servers never ask magnumd: everything is in their user data.

use std::time::Duration;

use hyper::Method;
use serde_json::{Value, json};

use crate::harness::{Lab, Running};

async fn ask(daemon: &Running, token: &str, labels: Value) -> (u16, Value) {
    let template = daemon.template_of(token, "inline", "ubuntu", labels).await;
    let asked = json!({"name": "k1", "cluster_template_id": template, "node_count": 2});
    let (status, body) = daemon.post(token, "/v1/clusters", asked).await;
    (status.as_u16(), body)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_is_there_when_its_stack_is() {
    // No server says a word, as where none reaches magnumd.
    let lab = Lab::with_faults(&["guest:*:booted:hang"]).await;
    let token = lab.token("demo").await;
    let daemon = lab.daemon().await;
    let (status, body) = ask(&daemon, &token, json!({"bootstrap_mode": "inline"})).await;
    assert_eq!(status, 202, "{body}");
    let uuid = body["uuid"].as_str().unwrap();
    let cluster = daemon.settled(&token, uuid).await;
    assert_eq!(cluster["status"], "CREATE_COMPLETE", "{cluster}");
    assert!(cluster["api_address"].as_str().unwrap().starts_with("https://"), "{cluster}");
    daemon.resize(&token, uuid, json!({"node_count": 3})).await;
    let cluster = daemon.until(&token, uuid, |c| c["status"] == "UPDATE_COMPLETE").await;
    assert_eq!(cluster["node_count"], 3, "{cluster}");
    // What needs the nodes' help is refused.
    let path = format!("/v1/certificates/{uuid}");
    let (status, body) = daemon.ask(&token, Method::PATCH, &path, None).await;
    assert_eq!(status.as_u16(), 409, "{body}");
    daemon.delete(&token, &format!("/v1/clusters/{uuid}")).await;
    daemon.gone(&token, uuid).await;
    assert_eq!(lab.cloud.leftovers(), Vec::<String>::new());
    daemon.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn heat_may_not_be_asked_to_wait_for_longer_than_its_token_lives() {
    let mut lab = Lab::new().await;
    lab.cloud.set_token_life(Duration::from_secs(1800));
    let token = lab.token("demo").await;
    let daemon = lab.daemon().await;
    let labels = json!({"bootstrap_mode": "heat", "wait_condition_timeout": "45m"});
    let (status, body) = ask(&daemon, &token, labels).await;
    assert_eq!(status, 400, "{body}");
    let said = body.to_string();
    for part in ["wait_condition_timeout", "'2700'", "heat_reauthenticates"] {
        assert!(said.contains(part), "{part}: {said}");
    }
    let labels = json!({"bootstrap_mode": "heat", "wait_condition_timeout": "2h"});
    let (status, body) = ask(&daemon, &token, labels).await;
    assert_eq!(status, 400, "{body}");
    assert!(body.to_string().contains("at most create_timeout, 3600 s"), "{body}");
    daemon.end().await;
    lab.configure("[cluster]", "heat_reauthenticates = true");
    let daemon = lab.daemon().await;
    let labels = json!({"bootstrap_mode": "heat", "wait_condition_timeout": "45m"});
    let (status, body) = ask(&daemon, &token, labels).await;
    assert_eq!(status, 202, "{body}");
    let uuid = body["uuid"].as_str().unwrap();
    daemon.delete(&token, &format!("/v1/clusters/{uuid}")).await;
    daemon.gone(&token, uuid).await;
    daemon.end().await;
}
