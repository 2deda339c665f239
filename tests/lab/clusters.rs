//! The life of a cluster as its owner sees it.

use std::time::Duration;

use hyper::StatusCode;
use serde_json::json;

use crate::harness::Lab;

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_is_built_followed_and_deleted() {
    let lab = Lab::new().await;
    let token = lab.token("demo").await;
    let daemon = lab.daemon().await;
    let uuid = daemon.create(&token, "k1").await;
    let (_, at_once) = daemon.get(&token, &format!("/v1/clusters/{uuid}")).await;
    assert_eq!(at_once["status"], "CREATE_IN_PROGRESS");

    let cluster = daemon.settled(&token, &uuid).await;
    assert_eq!(cluster["status"], "CREATE_COMPLETE", "{cluster}");
    assert_eq!((&cluster["master_count"], &cluster["node_count"]), (&json!(1), &json!(2)));
    assert_eq!(cluster["master_addresses"].as_array().unwrap().len(), 1, "{cluster}");
    assert_eq!(cluster["node_addresses"].as_array().unwrap().len(), 2, "{cluster}");
    let api = cluster["api_address"].as_str().unwrap();
    assert!(api.starts_with("https://") && api.ends_with(":6443"), "{api}");
    assert!(cluster["stack_id"].is_string());
    assert_eq!(lab.cloud.count("servers"), 3);

    let (_, list) = daemon.get(&token, "/v1/clusters").await;
    assert_eq!(list["clusters"][0]["uuid"], uuid);
    let (_, stats) = daemon.get(&token, "/v1/stats").await;
    assert_eq!(stats, json!({"clusters": 1, "nodes": 3}));

    assert_eq!(daemon.delete(&token, "/v1/clusters/k1").await, StatusCode::NO_CONTENT);
    assert_eq!(
        daemon.delete(&token, &format!("/v1/clusters/{uuid}")).await,
        StatusCode::NO_CONTENT,
        "deleting is idempotent"
    );
    daemon.gone(&token, &uuid).await;
    assert_eq!(lab.cloud.leftovers(), Vec::<String>::new());
    let template = daemon.delete(&token, "/v1/clustertemplates/k8s").await;
    assert_eq!(template, StatusCode::NO_CONTENT, "no longer in use");
}

#[tokio::test(flavor = "multi_thread")]
async fn three_masters_find_each_other_by_discovery() {
    let lab = Lab::new().await;
    let token = lab.token("demo").await;
    let daemon = lab.daemon().await;
    let mut template = crate::harness::template();
    template["labels"] = json!({"etcd_bootstrap": "discovery"});
    let (status, body) = daemon.post(&token, "/v1/clustertemplates", template).await;
    assert_eq!(status, StatusCode::CREATED, "{body}");
    let asked = json!({"name": "ha", "cluster_template_id": "k8s", "master_count": 3});
    let (status, body) = daemon.post(&token, "/v1/clusters", asked).await;
    assert_eq!(status, StatusCode::ACCEPTED, "{body}");
    let uuid = body["uuid"].as_str().unwrap();
    let cluster = daemon.settled(&token, uuid).await;
    assert_eq!(cluster["status"], "CREATE_COMPLETE", "{cluster}");
    assert_eq!(cluster["master_addresses"].as_array().unwrap().len(), 3);
    let url = cluster["discovery_url"].as_str().unwrap();
    assert!(url.starts_with(&format!("http://{}/", daemon.addresses.discovery)), "{url}");
    daemon.delete(&token, &format!("/v1/clusters/{uuid}")).await;
    daemon.gone(&token, uuid).await;
    assert_eq!(lab.cloud.leftovers(), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_server_is_named_with_novas_own_sentence() {
    let lab = Lab::with_faults(&["nova:POST:/servers:status=500:times=1"]).await;
    let token = lab.token("demo").await;
    let daemon = lab.daemon().await;
    let uuid = daemon.create(&token, "k1").await;
    let cluster = daemon.settled(&token, &uuid).await;
    assert_eq!(cluster["status"], "CREATE_FAILED", "{cluster}");
    let reason = cluster["status_reason"].as_str().unwrap();
    assert!(reason.contains("OS::Nova::Server"), "{reason}");
    assert!(!cluster["faults"].as_object().unwrap().is_empty(), "{cluster}");
    daemon.delete(&token, &format!("/v1/clusters/{uuid}")).await;
    daemon.gone(&token, &uuid).await;
    assert_eq!(lab.cloud.leftovers(), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_gives_up_is_named_with_its_phase() {
    let lab = Lab::with_faults(&["guest:*-node-1:runtime:fail=containerd does not start"]).await;
    let token = lab.token("demo").await;
    let daemon = lab.daemon().await;
    let uuid = daemon.create(&token, "k1").await;
    let cluster = daemon.settled(&token, &uuid).await;
    assert_eq!(cluster["status"], "CREATE_FAILED", "{cluster}");
    let reason = cluster["status_reason"].as_str().unwrap();
    for part in ["-node-1", "runtime", "containerd does not start"] {
        assert!(reason.contains(part), "{part}: {reason}");
    }
    let faults = cluster["faults"].as_object().unwrap();
    assert!(faults.contains_key("default-worker"), "{cluster}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_create_timeout_is_kept_to_the_minute() {
    let lab = Lab::with_faults(&["guest:*:runtime:hang"]).await;
    let token = lab.token("demo").await;
    let daemon = lab.daemon().await;
    let (status, _) = daemon.post(&token, "/v1/clustertemplates", crate::harness::template()).await;
    assert_eq!(status, StatusCode::CREATED);
    let asked = json!({"name": "k1", "cluster_template_id": "k8s", "create_timeout": 1});
    let began = lab.cloud.clock().now();
    let (_, body) = daemon.post(&token, "/v1/clusters", asked).await;
    let uuid = body["uuid"].as_str().unwrap();
    // While its keys are drawn none of its time passes.
    let drawing = json!("Waiting for the cluster's keys to be drawn.");
    while daemon.get(&token, &format!("/v1/clusters/{uuid}")).await.1["status_reason"] == drawing {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let had_keys = lab.cloud.clock().now();
    let cluster = daemon.settled(&token, uuid).await;
    let (took, ended) = (lab.cloud.clock().now().since(began), lab.cloud.clock().now());
    assert_eq!(cluster["status"], "CREATE_FAILED", "{cluster}");
    let reason = cluster["status_reason"].as_str().unwrap();
    assert!(reason.contains("Timed out") && reason.contains("of 2 nodes ready"), "{reason}");
    assert!(took >= Duration::from_secs(60), "not before its minute: {took:?}");
    let took = ended.since(had_keys);
    assert!(took < Duration::from_secs(75), "and soon after it: {took:?}");
}

/// The operator's size of root volumes reaches the driver, and rebuilds no server of old ones.
#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_keeps_the_root_volume_it_was_made_with() {
    let mut lab = Lab::new().await;
    let token = lab.token("demo").await;
    let daemon = lab.daemon().await;
    let before = daemon.create(&token, "before").await;
    assert_eq!(daemon.settled(&token, &before).await["status"], "CREATE_COMPLETE");
    daemon.end().await;
    lab.configure("[volumes]", "boot_size_gb = 7");
    let daemon = lab.daemon().await;
    daemon.resize(&token, &before, json!({"node_count": 1})).await;
    let cluster = daemon.settled(&token, &before).await;
    assert_eq!(cluster["status"], "UPDATE_COMPLETE", "{cluster}");
    assert_eq!(cluster["labels"].get("boot_volume_size"), None, "{cluster}");
    // The lab has no Cinder, and the driver says so of the size that it was given.
    let body = json!({"name": "after", "cluster_template_id": "k8s", "node_count": 1});
    let (status, said) = daemon.post(&token, "/v1/clusters", body).await;
    assert_eq!(status, StatusCode::BAD_REQUEST, "{said}");
    assert!(said.to_string().contains("the label boot_volume_size 7 needs"), "{said}");
    daemon.delete(&token, &format!("/v1/clusters/{before}")).await;
    daemon.gone(&token, &before).await;
    daemon.end().await;
}
