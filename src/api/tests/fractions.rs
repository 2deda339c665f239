//! Regression: a fraction was cut off in silence, as upstream does it. A cluster that was resized to
//! `1.5` nodes lost those that it had above one.

use hyper::{Method, StatusCode};
use serde_json::{Value, json};

use super::place::{Place, admin, demo};
use super::quotas::quota;

/// The object with one attribute more.
fn with(mut object: Value, name: &str, value: Value) -> Value {
    object[name] = value;
    object
}

#[tokio::test]
async fn no_number_is_cut_in_silence() {
    let place = Place::new();
    place.put(&place.template(1, "p1", "base")).await;
    place.put(&place.template(2, "p1", "free")).await;
    place.cluster(7, "p1", "k1").await;
    quota(&place, "p1", 7).await;
    let before = place.get(demo(), "/v1/clusters/k1").await.text;
    let template =
        json!({ "name": "t", "image_id": "i", "external_network_id": "n", "coe": "kubernetes" });
    let bodies = [
        (
            "/v1/clusters",
            json!({ "cluster_template_id": "base" }),
            &["node_count", "master_count", "docker_volume_size", "create_timeout"][..],
        ),
        ("/v1/clusters/k1/actions/resize", json!({}), &["node_count"]),
        (
            "/v1/clusters/k1/actions/upgrade",
            json!({ "cluster_template": "free" }),
            &["max_batch_size"],
        ),
        (
            "/v1/clusters/k1/nodegroups",
            json!({ "name": "g" }),
            &["node_count", "min_node_count", "max_node_count", "docker_volume_size"],
        ),
        ("/v1/clustertemplates", template, &["apiserver_port", "docker_volume_size"]),
        ("/v1/quotas", json!({ "project_id": "p2", "resource": "Cluster" }), &["hard_limit"]),
    ];
    let mut asked = Vec::new();
    for (path, body, names) in bodies {
        for name in names {
            for value in [json!(2000.5), json!("2000.5")] {
                let body = with(body.clone(), name, value);
                asked.push((Method::POST, path, *name, body));
            }
        }
    }
    for (path, names) in [
        ("/v1/clusters/k1", &["node_count"][..]),
        ("/v1/clusters/k1/nodegroups/default-worker", &["min_node_count", "max_node_count"]),
        ("/v1/clustertemplates/free", &["apiserver_port", "docker_volume_size"]),
    ] {
        for name in names {
            let step = json!({ "op": "replace", "path": format!("/{name}"), "value": 2000.5 });
            asked.push((Method::PATCH, path, *name, json!([step])));
        }
    }
    asked.push((
        Method::PATCH,
        "/v1/quotas/p1/Cluster",
        "hard_limit",
        json!({ "hard_limit": 2000.5 }),
    ));
    for (method, path, name, body) in asked {
        let who = if path.contains("quotas") { admin() } else { demo() };
        let answer = place.send(who, method, path, &body).await;
        let expected = format!(
            "Invalid input for field/attribute {name}. Value: '2000.5'. Value should be a whole \
             number."
        );
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{path} {body}: {}", answer.text);
        assert_eq!(answer.detail(), expected, "{path} {body}");
    }
    assert_eq!(place.get(demo(), "/v1/clusters/k1").await.text, before);
}
