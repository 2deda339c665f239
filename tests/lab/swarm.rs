//! Clusters of Docker in swarm mode.

use hyper::{Method, StatusCode};
use serde_json::{Value, json};

use crate::harness::{Lab, Running, template};

/// A template for swarms, changed by `extra`.
fn swarm_template(extra: Value) -> Value {
    let mut asked = template();
    asked["name"] = json!("swarm");
    asked["coe"] = json!("swarm-mode");
    asked.as_object_mut().unwrap().remove("network_driver");
    for (field, value) in extra.as_object().unwrap() {
        asked[field] = value.clone();
    }
    asked
}

async fn ordered(daemon: &Running, token: &str, extra: Value) -> (StatusCode, Value) {
    let order = swarm_template(extra);
    let (status, body) = daemon.post(token, "/v1/clustertemplates", order).await;
    if status != StatusCode::CREATED {
        return (status, body);
    }
    let asked = json!({"name": "s1", "cluster_template_id": body["uuid"], "node_count": 2});
    daemon.post(token, "/v1/clusters", asked).await
}

async fn refused(daemon: &Running, token: &str, path: &str, method: Method, body: Value) -> String {
    let (status, body) = daemon.ask(token, method, path, Some(body)).await;
    assert_eq!(status, StatusCode::BAD_REQUEST, "{body}");
    body["errors"][0]["detail"].as_str().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_swarm_is_made_resized_and_deleted() {
    let lab = Lab::new().await;
    let daemon = lab.daemon().await;
    let token = lab.token("demo").await;
    let (status, body) = ordered(&daemon, &token, json!({})).await;
    assert_eq!(status, StatusCode::ACCEPTED, "{body}");
    let uuid = body["uuid"].as_str().unwrap();
    let cluster = daemon.settled(&token, uuid).await;
    assert_eq!(cluster["status"], "CREATE_COMPLETE", "{cluster}");
    let address = cluster["api_address"].as_str().unwrap();
    assert!(address.starts_with("tcp://127.") && address.ends_with(":2376"), "{address}");
    assert_eq!(cluster["discovery_url"], Value::Null, "{cluster}");
    let (_, template) = daemon.get(&token, "/v1/clustertemplates/swarm").await;
    assert_eq!(template["network_driver"], "docker", "{template}");

    for count in [4, 1] {
        daemon.resize(&token, uuid, json!({"node_count": count})).await;
        let cluster = daemon.settled(&token, uuid).await;
        assert_eq!(cluster["status"], "UPDATE_COMPLETE", "{cluster}");
        assert_eq!(lab.cloud.count("servers"), count + 1);
    }
    let path = format!("/v1/clusters/{uuid}");
    let group = json!({"name": "more", "node_count": 2, "flavor_id": "m1.small"});
    let (status, body) =
        daemon.ask(&token, Method::POST, &format!("{path}/nodegroups"), Some(group)).await;
    assert_eq!(status, StatusCode::ACCEPTED, "{body}");
    let cluster = daemon.settled(&token, uuid).await;
    assert_eq!(cluster["status"], "UPDATE_COMPLETE", "{cluster}");
    assert_eq!(lab.cloud.count("servers"), 4);

    // Nobody has looked into it as if it were Kubernetes.
    assert_eq!(cluster["health_status"], Value::Null, "{cluster}");
    assert_eq!(cluster["health_status_reason"], json!({}), "{cluster}");
    let rotate =
        refused(&daemon, &token, &format!("/v1/certificates/{uuid}"), Method::PATCH, json!({}))
            .await;
    assert!(rotate.contains("swarm_mode_v1"), "{rotate}");
    let order = json!({"cluster_template": "swarm"});
    let upgrade = format!("{path}/actions/upgrade");
    let upgrade = refused(&daemon, &token, &upgrade, Method::POST, order).await;
    assert!(upgrade.contains("swarm_mode_v1"), "{upgrade}");

    daemon.delete(&token, &path).await;
    daemon.gone(&token, uuid).await;
    assert_eq!(lab.cloud.leftovers(), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_swarm_cannot_be_is_refused_with_field_value_and_cure() {
    let lab = Lab::new().await;
    let daemon = lab.daemon().await;
    let token = lab.token("demo").await;
    for (extra, sentence) in [
        (json!({"network_driver": "flannel"}), "Network driver type flannel is not supported"),
        (json!({"volume_driver": "cinder"}), "expecting a rexray volume driver"),
        (json!({"tls_disabled": true}), "or the label allow_insecure to true"),
        (json!({"registry_enabled": true}), "registry_enabled is not possible"),
        (json!({"apiserver_port": 6443}), "apiserver_port 6443 is not possible"),
        (json!({"labels": {"overlay_network_cidr": "10.0.0.0/16"}}), "overlaps the nodes' network"),
    ] {
        let (status, body) = ordered(&daemon, &token, extra.clone()).await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{extra}: {body}");
        assert!(body.to_string().contains(sentence), "{extra}: {body}");
        let (_, made) = daemon.get(&token, "/v1/clustertemplates").await;
        for template in made["clustertemplates"].as_array().unwrap() {
            let uuid = template["uuid"].as_str().unwrap();
            daemon.delete(&token, &format!("/v1/clustertemplates/{uuid}")).await;
        }
    }
    let order = swarm_template(json!({}));
    let (status, body) = daemon.post(&token, "/v1/clustertemplates", order).await;
    assert_eq!(status, StatusCode::CREATED, "{body}");
    for (masters, sentence) in [(2, "cannot be an even number"), (3, "master_lb_enabled")] {
        let asked = json!({"name": "s", "cluster_template_id": "swarm", "master_count": masters});
        let (status, body) = daemon.post(&token, "/v1/clusters", asked).await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{body}");
        assert!(body.to_string().contains(sentence), "{body}");
    }
    daemon.delete(&token, "/v1/clustertemplates/swarm").await;
    let extra = json!({"tls_disabled": true, "labels": {"allow_insecure": "true"}});
    let (status, body) = ordered(&daemon, &token, extra).await;
    assert_eq!(status, StatusCode::ACCEPTED, "{body}");
    let cluster = daemon.settled(&token, body["uuid"].as_str().unwrap()).await;
    assert_eq!(cluster["status"], "CREATE_COMPLETE", "{cluster}");
    assert!(cluster["api_address"].as_str().unwrap().ends_with(":2375"), "{cluster}");
}
