//! Many at once: limits hold, and nothing that was accepted is lost.

use std::sync::Arc;

use hyper::StatusCode;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::harness::{Lab, template};

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

async fn create_fifty(daemon: &Arc<crate::harness::Running>, token: &str) -> (usize, Vec<String>) {
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

#[tokio::test(flavor = "multi_thread")]
async fn two_hundred_patches_of_one_cluster_lose_none() {
    let mut lab = Lab::new().await;
    // What the conductor finds would come between the patches.
    lab.configure("[periodic]", "health_interval = '0s'");
    let demo = lab.token("demo").await;
    let daemon = Arc::new(lab.daemon().await);
    let uuid = daemon.create(&demo, "k1").await;
    daemon.settled(&demo, &uuid).await;
    let path = format!("/v1/clusters/{uuid}");
    let mut asked = JoinSet::new();
    for n in 0..200 {
        let (daemon, token, path) = (Arc::clone(&daemon), demo.clone(), path.clone());
        asked.spawn(async move {
            let member = format!("/health_status_reason/node-{n}");
            let body = json!([
                {"op": "replace", "path": "/health_status", "value": "HEALTHY"},
                {"op": "add", "path": member, "value": "Ready"},
            ]);
            daemon.patch(&token, &path, body).await
        });
    }
    while let Some(answer) = asked.join_next().await {
        let (status, body) = answer.unwrap();
        assert_eq!(status, StatusCode::ACCEPTED, "{body}");
    }
    let (_, cluster) = daemon.get(&demo, &path).await;
    assert_eq!(cluster["health_status"], "HEALTHY");
    let reasons = cluster["health_status_reason"].as_object().unwrap();
    let kept =
        (0..200).filter(|n| reasons.get(&format!("node-{n}")) == Some(&Value::from("Ready")));
    assert_eq!(kept.count(), 200, "{cluster}");
    assert_eq!(cluster["status"], "CREATE_COMPLETE", "{cluster}");
}
