//! Clusters whose servers boot by Ignition and whose masters are given no authority's key: every
//! certificate of their control planes is asked for.

use hyper::{Method, StatusCode};
use serde_json::{Value, json};

use crate::harness::{Lab, Running, template};

async fn built(lab: &Lab, daemon: &Running, labels: Value) -> (String, String) {
    let token = lab.token("demo").await;
    let mut wanted = template();
    wanted["image_id"] = json!("fedora-coreos");
    wanted["labels"] = labels;
    let (status, body) = daemon.post(&token, "/v1/clustertemplates", wanted).await;
    assert_eq!(status, StatusCode::CREATED, "{body}");
    let (token, uuid) = lab.built(daemon, "k1").await;
    let (_, cluster) = daemon.get(&token, &format!("/v1/clusters/{uuid}")).await;
    assert_eq!(cluster["coe_version"], "v1.23.3-rancher1");
    (token, uuid)
}

/// The API is called by its floating IP, with a certificate that was asked for; then by one of the
/// next authorities.
#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_is_built_healthy_grows_and_gets_new_authorities() {
    let mut lab = Lab::new().await;
    lab.configure("[periodic]", "health_interval = '5s'\nhealth_timeout = '1s'");
    let daemon = lab.daemon().await;
    let (token, uuid) = built(&lab, &daemon, json!({"etcd_bootstrap": "discovery"})).await;
    let healthy = |c: &Value| c["health_status"] == "HEALTHY";
    let cluster = daemon.until(&token, &uuid, healthy).await;
    assert_eq!(cluster["health_status_reason"]["api"], "ok", "{cluster}");
    let (_, stack) = lab.stack(&token, &cluster).await;
    let outputs: Vec<&str> = stack["outputs"]
        .as_array()
        .unwrap()
        .iter()
        .map(|output| output["output_key"].as_str().unwrap())
        .collect();
    for output in ["registry_address", "kube_masters", "kube_minions_private", "kube_minions"] {
        assert!(outputs.contains(&output), "{output} is not in {outputs:?}");
    }

    daemon.resize(&token, &uuid, json!({"node_count": 3})).await;
    let cluster = daemon.settled(&token, &uuid).await;
    assert_eq!(cluster["node_addresses"].as_array().unwrap().len(), 3, "{cluster}");

    let path = format!("/v1/certificates/{uuid}");
    let (_, before) = daemon.get(&token, &path).await;
    let (status, body) = daemon.ask(&token, Method::PATCH, &path, None).await;
    assert_eq!(status, StatusCode::ACCEPTED, "{body}");
    let cluster = daemon.settled(&token, &uuid).await;
    assert_eq!(cluster["status"], "UPDATE_COMPLETE", "{cluster}");
    let (_, after) = daemon.get(&token, &path).await;
    assert_ne!(before["pem"], after["pem"]);
    daemon.until(&token, &uuid, healthy).await;

    daemon.delete(&token, &format!("/v1/clusters/{uuid}")).await;
    daemon.gone(&token, &uuid).await;
    daemon.end().await;
    assert_eq!(lab.cloud.leftovers(), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn several_masters_need_a_load_balancer_which_needs_octavia() {
    let lab = Lab::new().await;
    let daemon = lab.daemon().await;
    let token = lab.token("demo").await;
    daemon.template_of(&token, "t", "fedora-coreos", json!({})).await;
    for (balanced, sentence) in [(false, "master_lb_enabled"), (true, "Octavia")] {
        let asked = json!({"name": "k1", "cluster_template_id": "t", "master_count": 3,
                           "master_lb_enabled": balanced});
        let (status, body) = daemon.post(&token, "/v1/clusters", asked).await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{body}");
        assert!(body.to_string().contains(sentence), "{body}");
    }
    daemon.end().await;
    assert_eq!(lab.cloud.leftovers(), Vec::<String>::new());
}
