//! Upgrades to templates with other flavors: servers are resized, a few at a time, and stay who they
//! are; what Nova cannot do is refused or fails in its words, and can be tried again.

use std::collections::BTreeMap;

use hyper::{Method, StatusCode};
use serde_json::{Value, json};

use crate::crash::{Order, Ready, survives_a_stop_anywhere};
use crate::harness::{Lab, Running, template};

const OLD: &str = "ubuntu-v1.31.4";
const NEW: &str = "ubuntu-v1.32.1";

async fn made(daemon: &Running, token: &str, name: &str, image: &str, change: Value) {
    let mut asked = template();
    (asked["name"], asked["image_id"]) = (json!(name), json!(image));
    for (field, value) in change.as_object().unwrap() {
        asked[field] = value.clone();
    }
    let (status, body) = daemon.post(token, "/v1/clustertemplates", asked).await;
    assert_eq!(status, StatusCode::CREATED, "{body}");
}

/// A cluster of small servers.
async fn built(daemon: &Running, token: &str, masters: u32, more: Value) -> String {
    made(daemon, token, "small", OLD, json!({})).await;
    let mut asked = json!({"name": "k1", "cluster_template_id": "small", "node_count": 2,
                           "master_count": masters});
    for (field, value) in more.as_object().unwrap() {
        asked[field] = value.clone();
    }
    let (status, body) = daemon.post(token, "/v1/clusters", asked).await;
    assert_eq!(status, StatusCode::ACCEPTED, "{body}");
    let uuid = body["uuid"].as_str().unwrap().to_owned();
    let cluster = daemon.settled(token, &uuid).await;
    assert_eq!(cluster["status"], "CREATE_COMPLETE", "{cluster}");
    uuid
}

async fn upgrade(daemon: &Running, token: &str, uuid: &str, order: Value) -> (StatusCode, Value) {
    let path = format!("/v1/clusters/{uuid}/actions/upgrade");
    daemon.ask(token, Method::POST, &path, Some(order)).await
}

async fn upgraded(daemon: &Running, token: &str, uuid: &str, order: Value) -> Value {
    let (status, body) = upgrade(daemon, token, uuid, order).await;
    assert_eq!(status, StatusCode::ACCEPTED, "{body}");
    let after = daemon.settled(token, uuid).await;
    assert_eq!(after["status"], "UPDATE_COMPLETE", "{after}");
    after
}

/// Every server's id, flavor and image, by its role and index: `master-0`.
async fn servers(lab: &Lab, token: &str) -> BTreeMap<String, (String, String, String)> {
    let ask = |service: &'static str, path: &'static str| async move {
        let (_, base) = lab.cloud.endpoints().into_iter().find(|e| e.0 == service).unwrap();
        lab.cloud_call(Method::GET, &format!("{base}{path}"), token, None).await.1
    };
    let (listed, flavors, images) = (
        ask("compute", "/servers/detail").await,
        ask("compute", "/flavors").await,
        ask("image", "/v2/images").await,
    );
    let name = |list: &Value, id: &Value| {
        let mut all = list.as_array().unwrap().iter();
        all.find(|i| i["id"] == *id).unwrap()["name"].as_str().unwrap().to_owned()
    };
    let servers = listed["servers"].as_array().unwrap().iter();
    servers
        .map(|s| {
            let parts: Vec<&str> = s["name"].as_str().unwrap().rsplitn(3, '-').collect();
            let flavor = name(&flavors["flavors"], &s["flavor"]["id"]);
            let image = name(&images["images"], &s["image"]["id"]);
            let id = s["id"].as_str().unwrap().to_owned();
            (format!("{}-{}", parts[1], parts[0]), (id, flavor, image))
        })
        .collect()
}

fn is_all(servers: &BTreeMap<String, (String, String, String)>, role: &str, flavor: &str) -> bool {
    let mut of = servers.iter().filter(|(name, _)| name.starts_with(role)).peekable();
    of.peek().is_some() && of.all(|(_, (_, has, _))| has == flavor)
}

fn updates(lab: &Lab) -> usize {
    lab.cloud.calls().iter().filter(|c| c.starts_with("PATCH heat")).count()
}

#[tokio::test(flavor = "multi_thread")]
async fn servers_are_resized_batch_by_batch_and_keep_their_disks() {
    let lab = Lab::new().await;
    let daemon = lab.daemon().await;
    let token = lab.token("demo").await;
    let uuid = built(&daemon, &token, 3, json!({})).await;
    let before = servers(&lab, &token).await;
    let shown = daemon.get(&token, &format!("/v1/clusters/{uuid}")).await.1;
    made(
        &daemon,
        &token,
        "big",
        OLD,
        json!({"flavor_id": "m1.medium", "master_flavor_id": "m1.large"}),
    )
    .await;
    let order = json!({"cluster_template": "big", "max_batch_size": 2});
    let after = upgraded(&daemon, &token, &uuid, order).await;
    assert_eq!(
        (&after["flavor_id"], &after["master_flavor_id"]),
        (&json!("m1.medium"), &json!("m1.large"))
    );
    for same in ["master_addresses", "node_addresses", "api_address", "node_count", "coe_version"] {
        assert_eq!(after[same], shown[same], "{same}");
    }
    let now = servers(&lab, &token).await;
    assert!(is_all(&now, "master", "m1.large") && is_all(&now, "node", "m1.medium"), "{now:?}");
    for (name, (id, _, image)) in &now {
        assert_eq!((id, image), (&before[name].0, &before[name].2), "{name} is who it was");
    }
    // Three masters one by one, both workers at once.
    assert_eq!(updates(&lab), 4);
    let rebuilds = lab.cloud.calls().iter().filter(|c| c.contains("/action 202")).count();
    assert_eq!(rebuilds, 5, "one resize for each server");
    for (group, flavor) in [("default-master", "m1.large"), ("default-worker", "m1.medium")] {
        assert_eq!(daemon.group(&token, &uuid, group).await["flavor_id"], flavor);
    }
    // Whoever comes later has the flavor, and the nodes answer as before.
    daemon.resize(&token, &uuid, json!({"node_count": 3})).await;
    assert_eq!(daemon.settled(&token, &uuid).await["status"], "UPDATE_COMPLETE");
    assert!(is_all(&servers(&lab, &token).await, "node", "m1.medium"));
    let healthy = |c: &Value| c["health_status"] != "UNHEALTHY";
    daemon.until(&token, &uuid, healthy).await;
    daemon.delete(&token, &format!("/v1/clusters/{uuid}")).await;
    daemon.gone(&token, &uuid).await;
    assert_eq!(lab.cloud.leftovers(), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn image_and_flavor_change_together_and_a_further_group_keeps_its_own_flavor() {
    let lab = Lab::new().await;
    let daemon = lab.daemon().await;
    let token = lab.token("demo").await;
    let uuid = built(&daemon, &token, 3, json!({})).await;
    let groups = format!("/v1/clusters/{uuid}/nodegroups");
    let asked = json!({"name": "more", "flavor_id": "ds4G"});
    let (status, body) = daemon.ask(&token, Method::POST, &groups, Some(asked)).await;
    assert_eq!(status, StatusCode::ACCEPTED, "{body}");
    assert_eq!(daemon.settled(&token, &uuid).await["status"], "UPDATE_COMPLETE");
    made(&daemon, &token, "big", NEW, json!({"flavor_id": "m1.medium"})).await;
    upgraded(&daemon, &token, &uuid, json!({"cluster_template": "big", "max_batch_size": 5})).await;
    assert_eq!(updates(&lab), 4);
    let order = json!({"cluster_template": "big", "nodegroup": "more"});
    upgraded(&daemon, &token, &uuid, order).await;
    let now = servers(&lab, &token).await;
    assert!(now.values().all(|(_, _, image)| image == NEW), "{now:?}");
    assert!(is_all(&now, "master", "m1.small"), "{now:?}");
    let mut flavors: Vec<&str> = now
        .iter()
        .filter(|(name, _)| !name.starts_with("master"))
        .map(|(_, (_, flavor, _))| flavor.as_str())
        .collect();
    flavors.sort_unstable();
    // Both groups have a node 0; the last one listed hides the other.
    assert!(flavors.contains(&"m1.medium"), "{now:?}");
    assert_eq!(daemon.group(&token, &uuid, "more").await["flavor_id"], "ds4G");
    let (_, base) = lab.cloud.endpoints().into_iter().find(|e| e.0 == "compute").unwrap();
    let url = format!("{base}/servers/detail");
    let all = lab.cloud_call(Method::GET, &url, &token, None).await.1.to_string();
    assert_eq!(all.matches("/flavors/6\"").count(), 1, "ds4G: {all}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_nova_would_not_do_is_refused_before_anything_begins() {
    let lab = Lab::new().await;
    let daemon = lab.daemon().await;
    let token = lab.token("demo").await;
    let uuid = built(&daemon, &token, 1, json!({})).await;
    made(&daemon, &token, "flat", OLD, json!({"flavor_id": "ds2G"})).await;
    made(&daemon, &token, "tiny", OLD, json!({"master_flavor_id": "m1.tiny"})).await;
    made(
        &daemon,
        &token,
        "big",
        OLD,
        json!({"flavor_id": "m1.medium", "master_flavor_id": "m1.medium"}),
    )
    .await;
    let (_, nova) = lab.cloud.endpoints().into_iter().find(|e| e.0 == "compute").unwrap();
    let cluster = daemon.get(&token, &format!("/v1/clusters/{uuid}")).await.1;
    let quota = format!("{nova}/os-quota-sets/{}", cluster["project_id"].as_str().unwrap());
    let admin = lab.token("admin").await;
    let limit = |cores: u64| {
        let (lab, quota, admin) = (&lab, &quota, &admin);
        async move {
            let body = json!({"quota_set": {"cores": cores}});
            lab.cloud_call(Method::PUT, quota, admin, Some(body)).await
        }
    };
    // Three servers of one core are to have two each.
    assert_eq!(limit(5).await.0, StatusCode::OK);
    for (to, status, words) in [
        ("flat", 400, "Its disk has 10 GiB and the servers' one 20"),
        ("tiny", 400, "master_flavor_id"),
        ("big", 403, "takes 3 more, and 2 are left"),
    ] {
        let (got, body) = upgrade(&daemon, &token, &uuid, json!({"cluster_template": to})).await;
        assert_eq!(got.as_u16(), status, "{to}: {body}");
        assert!(body.to_string().contains(words), "{to}: {body}");
    }
    let untouched = daemon.get(&token, &format!("/v1/clusters/{uuid}")).await.1;
    assert_eq!(untouched["status"], "CREATE_COMPLETE");
    // An only master that keeps its disk keeps its etcd.
    assert_eq!(limit(6).await.0, StatusCode::OK);
    upgraded(&daemon, &token, &uuid, json!({"cluster_template": "big"})).await;
    let now = servers(&lab, &token).await;
    assert!(is_all(&now, "master", "m1.medium") && is_all(&now, "node", "m1.medium"), "{now:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_resize_that_nova_refuses_or_gives_up_fails_in_its_words_and_works_later() {
    for (fault, words) in [
        // Heat hears of it, and is ready for the next try.
        ("nova:POST:/servers/*/action:status=403:times=1", "nova answered 403"),
        // Heat waits for it; Nova tells why.
        (
            "nova:POST:/servers/*/action:error=No valid host was found. Too full.:times=1",
            "No valid host was found. Too full. Heat waits for it",
        ),
    ] {
        let lab = Lab::with_faults(&[fault]).await;
        let daemon = lab.daemon().await;
        let token = lab.token("demo").await;
        let uuid = built(&daemon, &token, 1, json!({"create_timeout": 3})).await;
        made(&daemon, &token, "big", OLD, json!({"flavor_id": "m1.medium"})).await;
        let order = json!({"cluster_template": "big"});
        let (status, body) = upgrade(&daemon, &token, &uuid, order.clone()).await;
        assert_eq!(status, StatusCode::ACCEPTED, "{body}");
        let failed = daemon.settled(&token, &uuid).await;
        assert_eq!(failed["status"], "UPDATE_FAILED", "{failed}");
        assert!(failed["faults"].to_string().contains(words), "{failed}");
        let half = servers(&lab, &token).await;
        assert!(is_all(&half, "node", "m1.small"), "{half:?}");
        upgraded(&daemon, &token, &uuid, order).await;
        let now = servers(&lab, &token).await;
        assert!(is_all(&now, "node", "m1.medium"), "{now:?}");
        assert_eq!(
            half.values().map(|s| &s.0).collect::<Vec<_>>(),
            now.values().map(|s| &s.0).collect::<Vec<_>>()
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_does_not_come_back_fails_the_upgrade() {
    let lab = Lab::with_faults(&["guest:*-node-0:rejoin:fail=no kubelet:times=1"]).await;
    let daemon = lab.daemon().await;
    let token = lab.token("demo").await;
    let uuid = built(&daemon, &token, 1, json!({})).await;
    made(&daemon, &token, "big", OLD, json!({"flavor_id": "m1.medium"})).await;
    let order = json!({"cluster_template": "big"});
    let (status, body) = upgrade(&daemon, &token, &uuid, order.clone()).await;
    assert_eq!(status, StatusCode::ACCEPTED, "{body}");
    let failed = daemon.settled(&token, &uuid).await;
    assert_eq!(failed["status"], "UPDATE_FAILED", "{failed}");
    assert!(failed["faults"].to_string().contains("duty rejoin: no kubelet"), "{failed}");
    upgraded(&daemon, &token, &uuid, order).await;
    assert!(is_all(&servers(&lab, &token).await, "node", "m1.medium"));
}

#[derive(Clone, Copy)]
struct Resizing;

impl Order for Resizing {
    async fn prepare(self, lab: &Lab, daemon: &Running) -> Ready {
        let token = lab.token("demo").await;
        let uuid = built(daemon, &token, 1, json!({})).await;
        made(daemon, &token, "big", OLD, json!({"flavor_id": "m1.medium"})).await;
        Ready { token, uuid, before: Value::Null }
    }

    async fn give(self, daemon: &Running, ready: &Ready) {
        let order = json!({"cluster_template": "big", "max_batch_size": 2});
        upgrade(daemon, &ready.token, &ready.uuid, order).await;
    }

    async fn check(self, lab: &Lab, _: &Running, ready: &Ready, _: &Value) {
        let now = servers(lab, &ready.token).await;
        assert!(now.len() == 3 && is_all(&now, "node", "m1.medium"), "{now:?}");
        assert_eq!(updates(lab), 1, "nothing is asked of Heat twice");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_resize_survives_a_stop_anywhere() {
    survives_a_stop_anywhere(Resizing, 10).await;
}
