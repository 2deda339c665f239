//! Many at once: limits hold, and nothing that was accepted is lost.

use std::sync::Arc;

use hyper::{Method, StatusCode};
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::harness::{Lab, Running, template};

#[tokio::test(flavor = "multi_thread")]
async fn fifty_creations_under_a_quota_of_twenty_give_exactly_twenty() {
    let lab = Lab::new().await;
    let (demo, admin) = (lab.token("demo").await, lab.token("admin").await);
    let daemon = Arc::new(lab.daemon().await);
    let (status, made) = daemon.post(&demo, "/v1/clustertemplates", template()).await;
    assert_eq!(status, StatusCode::CREATED, "{made}");
    let project = made["project_id"].as_str().unwrap();

    // The configured limit, which is 20.
    let (accepted, refused) = create_fifty(&daemon, &demo).await;
    assert_eq!((accepted, refused.len()), (20, 30), "{refused:?}");
    assert!(refused.iter().all(|r| r.contains("Resource limit exceeded")), "{refused:?}");
    let (_, list) = daemon.get(&demo, "/v1/clusters").await;
    assert_eq!(list["clusters"].as_array().unwrap().len(), 20);

    // The project's own, read in the same moment.
    let quota = json!({"project_id": project, "resource": "Cluster", "hard_limit": 27});
    let (status, body) = daemon.post(&admin, "/v1/quotas", quota).await;
    assert_eq!(status, StatusCode::CREATED, "{body}");
    let (accepted, refused) = create_fifty(&daemon, &demo).await;
    assert_eq!((accepted, refused.len()), (7, 43), "{refused:?}");
    assert!(refused.iter().all(|r| r.contains("27")), "{refused:?}");
}

async fn create_fifty(daemon: &Arc<Running>, token: &str) -> (usize, Vec<String>) {
    let mut asked = JoinSet::new();
    for n in 0..50 {
        let (daemon, token) = (Arc::clone(daemon), token.to_owned());
        asked.spawn(async move {
            let body = json!({"name": format!("k{n}"), "cluster_template_id": "k8s"});
            daemon.post(&token, "/v1/clusters", body).await
        });
    }
    let (mut accepted, mut refused) = (0, Vec::new());
    while let Some(answer) = asked.join_next().await {
        let (status, body) = answer.unwrap();
        match status {
            StatusCode::ACCEPTED => accepted += 1,
            StatusCode::FORBIDDEN => refused.push(body.to_string()),
            other => panic!("{other}: {body}"),
        }
    }
    (accepted, refused)
}

/// The limit of templates is the project's, whoever of it asks and how many at once; administrators
/// are exempt, and what is deleted makes room.
#[tokio::test(flavor = "multi_thread")]
async fn thirty_templates_under_a_quota_of_five_give_exactly_five() {
    let mut lab = Lab::new().await;
    lab.configure("[quota]", "max_templates_per_project = 5");
    let (demo, alt, admin) =
        (lab.token("demo").await, lab.token("alt").await, lab.token("admin").await);
    let daemon = Arc::new(lab.daemon().await);
    let mut asked = JoinSet::new();
    for n in 0..30 {
        let (daemon, demo) = (Arc::clone(&daemon), demo.clone());
        asked.spawn(async move {
            let mut body = template();
            body["name"] = json!(format!("t{n}"));
            daemon.post(&demo, "/v1/clustertemplates", body).await
        });
    }
    let (made, refused): (Vec<_>, Vec<_>) =
        asked.join_all().await.into_iter().partition(|(status, _)| *status == StatusCode::CREATED);
    assert_eq!(made.len(), 5, "{refused:?}");
    for (status, body) in refused {
        assert_eq!(status, StatusCode::FORBIDDEN, "{body}");
        let said = "Resource limit exceeded: You have reached the maximum cluster templates per \
                    project, 5.";
        assert!(body.to_string().contains(said), "{body}");
    }
    let (status, _) = daemon.post(&alt, "/v1/clustertemplates", template()).await;
    assert_eq!(status, StatusCode::CREATED, "another project has room");
    for _ in 0..6 {
        let (status, body) = daemon.post(&admin, "/v1/clustertemplates", template()).await;
        assert_eq!(status, StatusCode::CREATED, "{body}");
    }
    let path = format!("/v1/clustertemplates/{}", made[0].1["uuid"].as_str().unwrap());
    assert_eq!(daemon.delete(&demo, &path).await, StatusCode::NO_CONTENT);
    let (status, _) = daemon.post(&demo, "/v1/clustertemplates", template()).await;
    assert_eq!(status, StatusCode::CREATED);
}

/// Another tenant's deletion does not wait until all of one tenant's creations have been begun.
#[tokio::test(flavor = "multi_thread")]
async fn a_deletion_does_not_stand_behind_the_creations_of_another_tenant() {
    const MANY: usize = 60;
    let mut lab = Lab::new().await;
    lab.configure("[cluster]", "lanes = 2");
    lab.configure("[quota]", "max_clusters_per_project = 1000");
    let (demo, alt) = (lab.token("demo").await, lab.token("alt").await);
    let daemon = Arc::new(lab.daemon().await);
    let victim = daemon.create(&alt, "victim").await;
    daemon.settled(&alt, &victim).await;
    let mut asked = vec![daemon.create(&demo, "k0").await];
    for n in 1..MANY {
        asked.push(daemon.create(&demo, &format!("k{n}")).await);
    }
    let status = daemon.delete(&alt, &format!("/v1/clusters/{victim}")).await;
    assert_eq!(status, StatusCode::NO_CONTENT);
    daemon.gone(&alt, &victim).await;
    let begun = lab.cloud.count("stacks");
    assert!(begun < MANY, "all of the other's creations were begun before: {begun}");
}

/// A lab with one cluster in it: whose token, which daemon, which cluster.
async fn built() -> (Lab, String, Arc<Running>, String) {
    let mut lab = Lab::new().await;
    // What the conductor finds would come between the patches.
    lab.configure("[periodic]", "health_interval = '0s'");
    let demo = lab.token("demo").await;
    let daemon = Arc::new(lab.daemon().await);
    let uuid = daemon.create(&demo, "k1").await;
    daemon.settled(&demo, &uuid).await;
    (lab, demo, daemon, uuid)
}

/// So many at once, each with a patch of its own; all of them must be taken.
async fn patch_at_once(
    daemon: &Arc<Running>,
    token: &str,
    path: &str,
    status: StatusCode,
    patches: impl IntoIterator<Item = Value>,
) {
    let mut asked = JoinSet::new();
    for body in patches {
        let (daemon, token, path) = (Arc::clone(daemon), token.to_owned(), path.to_owned());
        asked.spawn(async move {
            let answer = daemon.ask(&token, Method::PATCH, &path, Some(body.clone())).await;
            (body, answer)
        });
    }
    while let Some(answer) = asked.join_next().await {
        let (body, (got, answer)) = answer.unwrap();
        assert_eq!(got, status, "{body}: {answer}");
    }
}

/// How many of the members 0 to `most` of a map are there with the value they were given.
fn kept(map: &Value, most: usize) -> usize {
    let map = map.as_object().unwrap();
    (0..most).filter(|n| map.get(&format!("node-{n}")) == Some(&Value::from("Ready"))).count()
}

#[tokio::test(flavor = "multi_thread")]
async fn two_hundred_patches_of_one_cluster_lose_none() {
    let (_lab, demo, daemon, uuid) = built().await;
    let path = format!("/v1/clusters/{uuid}");
    let health = |n: usize| {
        json!([
            {"op": "replace", "path": "/health_status", "value": "HEALTHY"},
            {"op": "add", "path": format!("/health_status_reason/node-{n}"), "value": "Ready"},
        ])
    };
    patch_at_once(&daemon, &demo, &path, StatusCode::ACCEPTED, (0..200).map(health)).await;
    let (_, cluster) = daemon.get(&demo, &path).await;
    assert_eq!(cluster["health_status"], "HEALTHY");
    assert_eq!(kept(&cluster["health_status_reason"], 200), 200, "{cluster}");
    assert_eq!(cluster["status"], "CREATE_COMPLETE", "{cluster}");
}

/// Counts and reports of health cross each other and the conductor, who resizes meanwhile.
/// What was accepted last stands, in the record and in the cloud, and no report is undone.
#[tokio::test(flavor = "multi_thread")]
async fn two_hundred_patches_of_counts_and_health_end_in_one_cluster() {
    let (lab, demo, daemon, uuid) = built().await;
    let path = format!("/v1/clusters/{uuid}");
    let patch = |n: usize| match n % 2 {
        0 => json!([{"op": "replace", "path": "/node_count", "value": 1 + n / 2 % 5}]),
        _ => {
            let member = format!("/health_status_reason/node-{}", n / 2);
            json!([{"op": "add", "path": member, "value": "Ready"}])
        }
    };
    patch_at_once(&daemon, &demo, &path, StatusCode::ACCEPTED, (0..200).map(patch)).await;
    let (_, at_once) = daemon.get(&demo, &path).await;
    let count = at_once["node_count"].as_u64().unwrap();
    assert!((1..=5).contains(&count), "{at_once}");
    assert_eq!(kept(&at_once["health_status_reason"], 100), 100, "{at_once}");
    let cluster = daemon.settled(&demo, &uuid).await;
    assert_eq!(cluster["status"], "UPDATE_COMPLETE", "{cluster}");
    assert_eq!(cluster["node_count"], count, "what was accepted last");
    assert_eq!(cluster["node_addresses"].as_array().unwrap().len() as u64, count, "{cluster}");
    assert_eq!(lab.cloud.count("servers") as u64, count + 1, "a master, and no server too many");
    assert_eq!(kept(&cluster["health_status_reason"], 100), 100, "{cluster}");
    daemon.delete(&demo, &path).await;
    daemon.gone(&demo, &uuid).await;
    assert_eq!(lab.cloud.leftovers(), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_many_add_to_a_template_or_a_group_is_all_there() {
    let (lab, demo, daemon, uuid) = built().await;
    let admin = lab.token("admin").await;
    let spare = json!({"name": "spare", "coe": "kubernetes", "image_id": "ubuntu"});
    let (status, made) = daemon.post(&demo, "/v1/clustertemplates", spare).await;
    assert_eq!(status, StatusCode::CREATED, "{made}");
    let path = format!("/v1/clustertemplates/{}", made["uuid"].as_str().unwrap());
    let add = |map: &'static str| move |n: usize| json!([{"op": "add", "path": format!("/{map}/node-{n}"), "value": "Ready"}]);
    patch_at_once(&daemon, &demo, &path, StatusCode::OK, (0..200).map(add("labels"))).await;
    let (_, template) = daemon.get(&demo, &path).await;
    assert_eq!(kept(&template["labels"], 200), 200, "{template}");

    let path = format!("/v1/clusters/{uuid}/nodegroups/default-worker");
    let limit = json!([{"op": "replace", "path": "/max_node_count", "value": 9}]);
    let patches = (0..50).map(add("node_labels")).chain([limit]);
    patch_at_once(&daemon, &demo, &path, StatusCode::ACCEPTED, patches).await;
    let group = daemon.group(&demo, &uuid, "default-worker").await;
    assert_eq!(kept(&group["node_labels"], 50), 50, "{group}");
    assert_eq!(group["max_node_count"], 9);

    let project = made["project_id"].as_str().unwrap();
    let quota = json!({"project_id": project, "resource": "Cluster", "hard_limit": 1});
    daemon.post(&admin, "/v1/quotas", quota).await;
    let path = format!("/v1/quotas/{project}/Cluster");
    let limits = (0..50).map(|n| json!({"hard_limit": n}));
    patch_at_once(&daemon, &admin, &path, StatusCode::ACCEPTED, limits).await;
    let (status, quota) = daemon.patch(&admin, &path, json!({"hard_limit": 1})).await;
    assert_eq!((status, &quota["hard_limit"]), (StatusCode::ACCEPTED, &json!(1)), "{quota}");
    let asked = json!({"name": "k2", "cluster_template_id": "k8s"});
    let (status, body) = daemon.post(&demo, "/v1/clusters", asked).await;
    assert_eq!(status, StatusCode::FORBIDDEN, "the last limit stands: {body}");
}

/// Regression: a creation that waits until the keys of others are drawn said nothing, and when its
/// time was over it blamed the stack.
#[tokio::test(flavor = "multi_thread")]
async fn a_creation_that_waits_for_its_keys_says_so() {
    let lab = Lab::new().await;
    let token = lab.token("demo").await;
    let daemon = lab.daemon().await;
    let (status, made) = daemon.post(&token, "/v1/clustertemplates", template()).await;
    assert_eq!(status, StatusCode::CREATED, "{made}");
    let mut last = String::new();
    for n in 0..16 {
        let body = json!({"name": format!("k{n}"), "cluster_template_id": "k8s"});
        let (status, body) = daemon.post(&token, "/v1/clusters", body).await;
        assert_eq!(status, StatusCode::ACCEPTED, "{body}");
        body["uuid"].as_str().unwrap().clone_into(&mut last);
    }
    let waits = |c: &Value| {
        c["status_reason"] == "Waiting for the cluster's keys to be drawn."
            && c["status"] == "CREATE_IN_PROGRESS"
    };
    daemon.until(&token, &last, waits).await;
    daemon.end().await;
}
