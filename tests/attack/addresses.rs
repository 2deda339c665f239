//! Row 6. Threat: magnumd connects to what a tenant cannot reach, and tells what is there. Actor: a
//! hostile member, who changes their stack's outputs behind magnumd's back. Target: it calls only an
//! address that Neutron knows as the cluster's, at the driver's port, and owners read one sentence
//! for every failure.
//!
//! Which addresses are taken is decided in `src/conductor/reachable.rs`, with a table of its own.

use std::time::Duration;

use hyper::{Method, StatusCode};
use serde_json::{Value, json};

use crate::harness::Lab;

/// What owners read whenever an API is not well.
const NO_ANSWER: &str = "The API does not answer at its address as a healthy one does.";

/// Every member of a project can have its stacks say what they like.
async fn lies(lab: &Lab, token: &str, cluster: &Value, outputs: &[(&str, Value)]) {
    let url = loop {
        let (url, stack) = lab.stack(token, cluster).await;
        if stack["stack_status"] == "CREATE_COMPLETE" {
            break url;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    let get = |part: &'static str| {
        let url = format!("{url}/{part}");
        async move { lab.cloud_call(Method::GET, &url, token, None).await.1 }
    };
    let (mut template, files) = (get("template").await, get("files").await);
    for (output, value) in outputs {
        template["outputs"][output] = json!({ "value": value });
    }
    let body = json!({"existing": true, "template": template, "files": files});
    let (status, body) = lab.cloud_call(Method::PATCH, &url, token, Some(body)).await;
    assert_eq!(status, StatusCode::ACCEPTED, "{body}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_that_is_a_lie_is_never_called() {
    const LIE: &str = "127.255.0.9";
    let mut lab = Lab::new().await;
    lab.configure("[periodic]", "health_interval = '5s'\nhealth_timeout = '1s'");
    lab.cloud.inject("guest:*-master-0:ready:delay=40s".parse().unwrap());
    let daemon = lab.daemon().await;
    let victim = tokio::net::TcpListener::bind((LIE, 6443)).await.unwrap();
    let token = lab.token("demo").await;
    let uuid = daemon.create(&token, "k1").await;
    let cluster = daemon.until(&token, &uuid, |c| c["stack_id"].is_string()).await;
    lies(&lab, &token, &cluster, &[("api_address", json!(LIE))]).await;
    // It is read again when the creation ends.
    daemon.until(&token, &uuid, |c| c["api_address"] == format!("https://{LIE}:6443")).await;
    let cluster = daemon.until(&token, &uuid, |c| c["health_status"] == "UNHEALTHY").await;
    assert_eq!(cluster["health_status_reason"], json!({"api": NO_ANSWER}));
    // Several more looks.
    let called = tokio::time::timeout(Duration::from_secs(2), victim.accept()).await;
    assert!(called.is_err(), "magnumd has called {LIE}: {called:?}");
    daemon.end().await;
}

/// What is stored and shown of outputs are addresses, and no more than there are nodes.
#[tokio::test(flavor = "multi_thread")]
async fn outputs_that_are_no_addresses_are_not_shown_and_told() {
    let lab = Lab::new().await;
    lab.cloud.inject("guest:*-master-0:ready:delay=20s".parse().unwrap());
    let daemon = lab.daemon().await;
    let token = lab.token("demo").await;
    let uuid = daemon.create(&token, "k1").await;
    let cluster = daemon.until(&token, &uuid, |c| c["stack_id"].is_string()).await;
    let mut minions = vec![json!("x".repeat(100_000)), json!("10.0.0.7/../x")];
    minions.extend((0..200).map(|n| json!(format!("10.9.9.{n}"))));
    let outputs = [
        ("api_address", json!("127.254.0.4:18711/v1/#")),
        ("kube_minions", Value::Array(minions)),
        ("kube_masters", json!(["A".repeat(100_000)])),
    ];
    lies(&lab, &token, &cluster, &outputs).await;
    let cluster = daemon.settled(&token, &uuid).await;
    assert_eq!(cluster["status"], "CREATE_COMPLETE", "{cluster}");
    assert_eq!(cluster["api_address"], Value::Null);
    assert_eq!(cluster["master_addresses"], json!([]));
    let nodes = cluster["node_count"].as_u64().unwrap() as usize;
    assert_eq!(cluster["node_addresses"].as_array().unwrap().len(), nodes, "{cluster}");
    let said = cluster["status_reason"].as_str().unwrap();
    let remark = "What is no address in the stack's output api_address, kube_masters, kube_minions \
                  is not shown.";
    assert!(said.contains(remark), "{said}");
    daemon.end().await;
}
