//! Nodes that take too long, each for the limit that is its own: the cluster ends early and says
//! which node, where it stands and for how long.

use hyper::Method;
use serde_json::{Value, json};

use crate::harness::{Lab, Running};

/// Asks for a cluster with these labels and counts; its uuid.
async fn ask(daemon: &Running, token: &str, masters: u32, labels: Value) -> String {
    let template = daemon.template_of(token, "patient", "ubuntu", labels).await;
    let asked = json!({
        "name": "k1", "cluster_template_id": template, "master_count": masters, "node_count": 2,
    });
    let (status, body) = daemon.post(token, "/v1/clusters", asked).await;
    assert_eq!(status, 202, "{body}");
    body["uuid"].as_str().unwrap().to_owned()
}

/// Fails for the reason given, which the group concerned shows as its fault.
async fn fails(fault: &str, label: &str, group: &str, reason: &[&str]) {
    let lab = Lab::with_faults(&[fault]).await;
    let token = lab.token("demo").await;
    let daemon = lab.daemon().await;
    let uuid = ask(&daemon, &token, 1, json!({ label: "5m" })).await;
    let cluster = daemon.settled(&token, &uuid).await;
    assert_eq!(cluster["status"], "CREATE_FAILED", "{cluster}");
    let said = cluster["status_reason"].as_str().unwrap();
    for part in reason {
        assert!(said.contains(part), "{part}: {said}");
    }
    assert_eq!(cluster["faults"][group], cluster["status_reason"], "{cluster}");
    let order = json!({"node_count": 3});
    let path = format!("/v1/clusters/{uuid}/actions/resize");
    let (status, body) = daemon.ask(&token, Method::POST, &path, Some(order)).await;
    assert_eq!(status, 409, "{body}");
    assert!(body.to_string().contains("Delete it and create it again"), "{body}");
    daemon.delete(&token, &format!("/v1/clusters/{uuid}")).await;
    daemon.gone(&token, &uuid).await;
    assert_eq!(lab.cloud.leftovers(), Vec::<String>::new());
    daemon.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_never_reports_is_named() {
    let silent = ["-node-1 has not reported within 5m", "node_boot_timeout"];
    fails("guest:*-node-1:booted:hang", "node_boot_timeout", "default-worker", &silent).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_stops_on_its_way_is_named_with_its_phase() {
    let slow = ["-master-0 is not ready 5m after its first report", "ready_timeout", "phase certs"];
    fails("guest:*-master-0:etcd:hang", "ready_timeout", "default-master", &slow).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_that_is_missing_is_named_while_the_others_wait_for_it() {
    let lab = Lab::with_faults(&["guest:*-master-1:booted:hang"]).await;
    let token = lab.token("demo").await;
    let daemon = lab.daemon().await;
    let labels = json!({ "etcd_bootstrap": "discovery", "etcd_timeout": "5m" });
    let uuid = ask(&daemon, &token, 3, labels).await;
    let cluster = daemon
        .until(&token, &uuid, |c| {
            let reason = c["status_reason"].as_str().unwrap_or_default();
            reason.contains("; 2 of 3 etcd members registered after ")
        })
        .await;
    let reason = cluster["status_reason"].as_str().unwrap();
    assert!(reason.contains("-master-1 missing."), "{reason}");
    assert_eq!(cluster["status"], "CREATE_IN_PROGRESS", "{cluster}");
    let cluster = daemon.settled(&token, &uuid).await;
    let reason = cluster["status_reason"].as_str().unwrap();
    assert!(reason.contains("in phase etcd without a word for 5m"), "{reason}");
    assert_eq!(cluster["faults"]["default-master"], cluster["status_reason"], "{cluster}");
    daemon.end().await;
}
