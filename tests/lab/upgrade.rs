//! Clusters follow another template, server by server: also when stopped anywhere, when a node
//! fails, and when it is tried again.

use hyper::{Method, StatusCode};
use serde_json::{Value, json};

use crate::crash::{Order, Ready, survives_a_stop_anywhere};
use crate::harness::{Lab, Running};

const OLD: &str = "ubuntu-v1.31.4";
const NEW: &str = "ubuntu-v1.32.1";

/// A cluster of three masters, which can do without one, and of two workers.
async fn built(daemon: &Running, token: &str) -> String {
    daemon.template_of(token, "old", OLD, json!({"was": "old", "kube_tag": "v1.31.4"})).await;
    let asked = json!({"name": "k1", "cluster_template_id": "old", "node_count": 2,
                       "master_count": 3, "labels": {"mine": "1"}, "merge_labels": true});
    let (status, body) = daemon.post(token, "/v1/clusters", asked).await;
    assert_eq!(status, StatusCode::ACCEPTED, "{body}");
    let uuid = body["uuid"].as_str().unwrap().to_owned();
    let cluster = daemon.settled(token, &uuid).await;
    assert_eq!(cluster["status"], "CREATE_COMPLETE", "{cluster}");
    daemon.template_of(token, "new", NEW, json!({"is": "new"})).await;
    uuid
}

async fn upgrade(daemon: &Running, token: &str, uuid: &str, order: Value) -> (StatusCode, Value) {
    let path = format!("/v1/clusters/{uuid}/actions/upgrade");
    daemon.ask(token, Method::POST, &path, Some(order)).await
}

/// Every server's name and image, sorted.
async fn images(lab: &Lab, token: &str) -> Vec<(String, String)> {
    let ask = |service: &'static str, path: &'static str| async move {
        let (_, base) = lab.cloud.endpoints().into_iter().find(|e| e.0 == service).unwrap();
        lab.cloud_call(Method::GET, &format!("{base}{path}"), token, None).await.1
    };
    let (listed, known) =
        (ask("compute", "/servers/detail").await, ask("image", "/v2/images").await);
    let name = |id: &Value| {
        let mut all = known["images"].as_array().unwrap().iter();
        all.find(|i| i["id"] == *id).unwrap()["name"].as_str().unwrap().to_owned()
    };
    let servers = listed["servers"].as_array().unwrap().iter();
    let mut found: Vec<_> = servers
        .map(|s| (s["name"].as_str().unwrap().to_owned(), name(&s["image"]["id"])))
        .collect();
    found.sort();
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn every_server_gets_the_new_image_and_stays_who_it_is() {
    let lab = Lab::new().await;
    let daemon = lab.daemon().await;
    let token = lab.token("demo").await;
    let uuid = built(&daemon, &token).await;
    let before = daemon.get(&token, &format!("/v1/clusters/{uuid}")).await.1;
    assert_eq!(before["coe_version"], "v1.31.4");
    let names: Vec<String> = images(&lab, &token).await.into_iter().map(|(n, _)| n).collect();

    let order = json!({"cluster_template": "new", "max_batch_size": 2});
    let (status, body) = upgrade(&daemon, &token, &uuid, order).await;
    assert_eq!((status, body), (StatusCode::ACCEPTED, json!({"uuid": uuid})));
    let at_once = daemon.get(&token, &format!("/v1/clusters/{uuid}")).await.1;
    assert_eq!(at_once["status"], "UPDATE_IN_PROGRESS");
    let after = daemon.settled(&token, &uuid).await;
    assert_eq!(after["status"], "UPDATE_COMPLETE", "{after}");
    assert_eq!(after["coe_version"], "v1.32.1");
    assert_ne!(after["cluster_template_id"], before["cluster_template_id"]);
    assert_eq!(after["labels"], json!({"is": "new", "mine": "1"}), "the cluster's own label stays");
    for same in ["master_addresses", "node_addresses", "api_address", "node_count"] {
        assert_eq!(after[same], before[same], "{same}");
    }
    let now = images(&lab, &token).await;
    assert_eq!(now.iter().map(|(n, _)| n.clone()).collect::<Vec<_>>(), names);
    assert!(now.iter().all(|(_, image)| image == NEW), "{now:?}");
    // Three masters one by one, both workers at once; nothing was updated without need.
    let updates = lab.cloud.calls().iter().filter(|c| c.starts_with("PATCH heat")).count();
    assert_eq!(updates, 4);

    daemon.resize(&token, &uuid, json!({"node_count": 3})).await;
    assert_eq!(daemon.settled(&token, &uuid).await["status"], "UPDATE_COMPLETE");
    let now = images(&lab, &token).await;
    assert!(now.len() == 6 && now.iter().all(|(_, image)| image == NEW), "{now:?}");
    daemon.delete(&token, &format!("/v1/clusters/{uuid}")).await;
    daemon.gone(&token, &uuid).await;
    assert_eq!(lab.cloud.leftovers(), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_keeps_the_labels_that_are_its_own() {
    let lab = Lab::new().await;
    let daemon = lab.daemon().await;
    let token = lab.token("demo").await;
    let old = json!({"nodeport_open": "true", "flannel_network_cidr": "10.90.0.0/16"});
    daemon.template_of(&token, "old", OLD, old).await;
    let new = json!({"nodeport_open": "true", "flannel_network_cidr": "10.90.0.0/16",
                     "metadata_access_enabled": "true"});
    daemon.template_of(&token, "new", NEW, new).await;
    let own = json!({"nodeport_open": "false", "metadata_access_enabled": "false",
                     "flannel_network_cidr": "10.91.0.0/16"});
    let asked = json!({"name": "k1", "cluster_template_id": "old", "node_count": 1,
                       "master_count": 3, "labels": own, "merge_labels": true});
    let (status, body) = daemon.post(&token, "/v1/clusters", asked).await;
    assert_eq!(status, StatusCode::ACCEPTED, "{body}");
    let uuid = body["uuid"].as_str().unwrap().to_owned();
    assert_eq!(daemon.settled(&token, &uuid).await["status"], "CREATE_COMPLETE");
    let (status, body) = upgrade(&daemon, &token, &uuid, json!({"cluster_template": "new"})).await;
    assert_eq!(status, StatusCode::ACCEPTED, "what does not change is no obstacle: {body}");
    let after = daemon.settled(&token, &uuid).await;
    assert_eq!((&after["status"], &after["labels"]), (&json!("UPDATE_COMPLETE"), &own), "{after}");
    // Of the template's labels one has changed.
    let said = after["status_reason"].as_str().unwrap();
    let words = "label metadata_access_enabled of cluster template new: the cluster has its own";
    assert!(said.contains(words) && !said.contains("nodeport_open"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_upgrade_cannot_do_is_refused_in_words() {
    let lab = Lab::new().await;
    let daemon = lab.daemon().await;
    let token = lab.token("demo").await;
    let uuid = built(&daemon, &token).await;
    daemon.template_of(&token, "far", "ubuntu-v1.34.0", json!({})).await;
    daemon
        .template_of(&token, "other-net", NEW, json!({"flannel_network_cidr": "10.90.0.0/16"}))
        .await;
    daemon.template_of(&token, "same", OLD, json!({"kube_tag": "v1.31.4"})).await;
    for (template, status, words) in [
        ("far", 400, "v1.32"),
        ("other-net", 400, "flannel_network_cidr"),
        ("nobody", 404, "nobody"),
    ] {
        let (got, body) =
            upgrade(&daemon, &token, &uuid, json!({"cluster_template": template})).await;
        assert_eq!(got.as_u16(), status, "{template}: {body}");
        assert!(body.to_string().contains(words), "{template}: {body}");
    }
    let untouched = daemon.get(&token, &format!("/v1/clusters/{uuid}")).await.1;
    assert_eq!(untouched["status"], "CREATE_COMPLETE");
    // The same image in another template: nobody is rebuilt, the template is followed.
    let (status, body) = upgrade(&daemon, &token, &uuid, json!({"cluster_template": "same"})).await;
    assert_eq!(status, StatusCode::ACCEPTED, "{body}");
    let (status, body) = upgrade(&daemon, &token, &uuid, json!({"cluster_template": "new"})).await;
    assert_eq!(status, StatusCode::BAD_REQUEST, "{body}");
    assert!(body.to_string().contains("UPDATE_IN_PROGRESS"), "{body}");
    let after = daemon.settled(&token, &uuid).await;
    assert_eq!(after["status"], "UPDATE_COMPLETE", "{after}");
    assert_eq!(after["labels"], json!({"kube_tag": "v1.31.4", "mine": "1"}));
    let said = after["status_reason"].as_str().unwrap();
    assert!(said.contains("none was rebuilt; cluster template same is followed."), "{said}");
    assert!(images(&lab, &token).await.iter().all(|(_, image)| image == OLD));

    let (status, body) = daemon
        .post(
            &token,
            "/v1/clusters",
            json!({
                "name": "single", "cluster_template_id": "old", "node_count": 0,
            }),
        )
        .await;
    assert_eq!(status, StatusCode::ACCEPTED, "{body}");
    let single = body["uuid"].as_str().unwrap().to_owned();
    assert_eq!(daemon.settled(&token, &single).await["status"], "CREATE_COMPLETE");
    let (status, body) =
        upgrade(&daemon, &token, &single, json!({"cluster_template": "new"})).await;
    assert_eq!(status, StatusCode::BAD_REQUEST, "{body}");
    assert!(body.to_string().contains("etcd_volume_size"), "{body}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_upgrade_goes_on_where_it_stopped() {
    // A worker cannot be emptied, but only once.
    let lab = Lab::with_faults(&["guest:*-master-0:drain:fail=a budget forbids it:times=1"]).await;
    let daemon = lab.daemon().await;
    let token = lab.token("demo").await;
    let uuid = built(&daemon, &token).await;
    let order = json!({"cluster_template": "new"});
    let (status, body) = upgrade(&daemon, &token, &uuid, order.clone()).await;
    assert_eq!(status, StatusCode::ACCEPTED, "{body}");
    let failed = daemon.settled(&token, &uuid).await;
    assert_eq!(failed["status"], "UPDATE_FAILED", "{failed}");
    assert!(failed["faults"].to_string().contains("a budget forbids it"), "{failed}");
    let half = images(&lab, &token).await;
    let followed = |name: &str| half.iter().filter(|(n, i)| n.contains(name) && i == NEW).count();
    assert_eq!((followed("-master-"), followed("-node-")), (3, 0), "{half:?}");
    // Each group shows what its nodes have.
    let masters = daemon.group(&token, &uuid, "default-master").await;
    let workers = daemon.group(&token, &uuid, "default-worker").await;
    assert_eq!((&masters["version"], &workers["version"]), (&json!("v1.32.1"), &json!("v1.31.4")));
    assert_ne!(masters["image_id"], workers["image_id"], "{workers}");
    assert_eq!(workers["image_id"], OLD, "{workers}");

    // Half done, it can still grow: the new node has the new image, the old ones keep theirs.
    daemon.resize(&token, &uuid, json!({"node_count": 3})).await;
    let after = daemon.settled(&token, &uuid).await;
    assert_eq!(after["node_count"], 3);
    // Why the others are as they were is not lost behind what has succeeded.
    let said = after["status_reason"].as_str().unwrap();
    assert!(said.contains("has not reached 2 nodes: Node "), "{said}");
    assert!(said.contains("a budget forbids it. Ask for it again."), "{said}");
    let grown = images(&lab, &token).await;
    let workers: Vec<&str> =
        grown.iter().filter(|(n, _)| n.contains("-node-")).map(|(_, i)| i.as_str()).collect();
    assert_eq!(workers, [OLD, OLD, NEW], "{grown:?}");

    let (status, body) = upgrade(&daemon, &token, &uuid, order).await;
    assert_eq!(status, StatusCode::ACCEPTED, "{body}");
    let after = daemon.settled(&token, &uuid).await;
    assert_eq!(after["status"], "UPDATE_COMPLETE", "{after}");
    assert!(images(&lab, &token).await.iter().all(|(_, image)| image == NEW));
    let workers = daemon.group(&token, &uuid, "default-worker").await;
    assert_eq!(workers["version"], "v1.32.1", "{workers}");
    assert_eq!(workers["image_id"], masters["image_id"], "{workers}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_further_group_follows_its_cluster() {
    let lab = Lab::new().await;
    let daemon = lab.daemon().await;
    let token = lab.token("demo").await;
    let uuid = built(&daemon, &token).await;
    let groups = format!("/v1/clusters/{uuid}/nodegroups");
    let (status, body) =
        daemon.ask(&token, Method::POST, &groups, Some(json!({"name": "more"}))).await;
    assert_eq!(status, StatusCode::ACCEPTED, "{body}");
    assert_eq!(daemon.settled(&token, &uuid).await["status"], "UPDATE_COMPLETE");
    let order = json!({"cluster_template": "new", "nodegroup": "more"});
    let (status, body) = upgrade(&daemon, &token, &uuid, order.clone()).await;
    assert_eq!(status, StatusCode::CONFLICT, "the cluster first: {body}");
    for order in [json!({"cluster_template": "new"}), order] {
        let (status, body) = upgrade(&daemon, &token, &uuid, order).await;
        assert_eq!(status, StatusCode::ACCEPTED, "{body}");
        let after = daemon.settled(&token, &uuid).await;
        assert_eq!(after["status"], "UPDATE_COMPLETE", "{after}");
    }
    let now = images(&lab, &token).await;
    assert!(now.len() == 6 && now.iter().all(|(_, image)| image == NEW), "{now:?}");
}

#[derive(Clone, Copy)]
struct Upgrading;

impl Order for Upgrading {
    async fn prepare(self, lab: &Lab, daemon: &Running) -> Ready {
        let token = lab.token("demo").await;
        let uuid = built(daemon, &token).await;
        Ready { token, uuid, before: Value::Null }
    }

    async fn give(self, daemon: &Running, ready: &Ready) {
        let order = json!({"cluster_template": "new", "max_batch_size": 2});
        upgrade(daemon, &ready.token, &ready.uuid, order).await;
    }

    async fn check(self, lab: &Lab, _: &Running, ready: &Ready, _: &Value) {
        let now = images(lab, &ready.token).await;
        assert!(now.len() == 5 && now.iter().all(|(_, i)| i == NEW), "{now:?}");
        let updates = lab.cloud.calls().iter().filter(|c| c.starts_with("PATCH heat")).count();
        assert_eq!(updates, 4, "nothing is asked of Heat twice");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upgrade_survives_a_stop_anywhere() {
    // Four batches of three commits and an act.
    survives_a_stop_anywhere(Upgrading, 34).await;
}
