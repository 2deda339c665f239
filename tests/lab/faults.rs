//! Faults cost time, never truth.

use std::time::Duration;

use hyper::StatusCode;
use magnumd::base::fail_points::FailPoints;
use serde_json::json;

use crate::harness::{Lab, ONE_CLUSTER, template};

/// Builds and deletes a cluster under a fault; both must come out right, and nothing stay.
async fn survives(fault: &str) {
    let lab = Lab::new().await;
    let token = lab.token("demo").await;
    let daemon = lab.daemon().await;
    daemon.post(&token, "/v1/clustertemplates", template()).await;
    lab.cloud.inject(fault.parse().unwrap());
    let uuid = daemon.create(&token, "k1").await;
    let cluster = daemon.settled(&token, &uuid).await;
    assert_eq!(cluster["status"], "CREATE_COMPLETE", "{fault}: {cluster}");
    for (kind, count) in ONE_CLUSTER {
        assert_eq!(lab.cloud.count(kind), count, "{kind} under {fault}");
    }
    daemon.delete(&token, &format!("/v1/clusters/{uuid}")).await;
    daemon.gone(&token, &uuid).await;
    assert_eq!(lab.cloud.leftovers(), Vec::<String>::new(), "{fault}");
    daemon.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn heat_answers_badly_while_the_stack_is_made() {
    for fault in [
        "heat:POST:/stacks:status=409:times=1",
        "heat:POST:/stacks:status=500:times=2",
        "heat:POST:/stacks:status=503:times=2",
        // Made, but the answer never arrives: only a look can tell.
        "heat:POST:/stacks:after:drop:times=1",
        "heat:POST:/stacks:truncate:times=1",
        "heat:POST:/stacks:delay=60s:times=1",
        "heat:POST:/validate:status=500:times=1",
    ] {
        survives(fault).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn heat_answers_badly_while_it_is_watched() {
    for fault in [
        "heat:GET:*:status=500:times=3",
        "heat:GET:*:truncate:times=3",
        "heat:DELETE:*:status=409:times=2",
        "heat:DELETE:*:after:drop:times=1",
    ] {
        survives(fault).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn keystone_answers_badly() {
    for fault in [
        "keystone:POST:/users:status=503:times=2",
        "keystone:POST:/users:after:drop:times=1",
        "keystone:POST:/OS-TRUST/trusts:after:drop:times=1",
        "keystone:POST:/OS-TRUST/trusts:status=500:times=1",
        "keystone:DELETE:*:after:drop:times=2",
    ] {
        survives(fault).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_is_down_in_mid_create_costs_only_time() {
    for service in ["heat", "keystone"] {
        let lab = Lab::new().await;
        let token = lab.token("demo").await;
        let daemon = lab.daemon().await;
        let uuid = daemon.create(&token, "k1").await;
        lab.cloud.stop_service(service);
        tokio::time::sleep(Duration::from_millis(1500)).await;
        let (status, cluster) = daemon.get(&token, &format!("/v1/clusters/{uuid}")).await;
        assert_eq!(status, StatusCode::OK, "what is known is shown: {cluster}");
        assert_eq!(cluster["status"], "CREATE_IN_PROGRESS", "{service}: {cluster}");
        lab.cloud.start_service(service);
        let cluster = daemon.settled(&token, &uuid).await;
        assert_eq!(cluster["status"], "CREATE_COMPLETE", "{service}: {cluster}");
        daemon.end().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_daemon_starts_while_keystone_is_down() {
    let lab = Lab::new().await;
    let token = lab.token("demo").await;
    lab.cloud.stop_service("keystone");
    let daemon = lab.daemon().await;
    let (status, body) = daemon.get(&token, "/v1/clusters").await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE, "{body}");
    let (status, _) = daemon.get(&token, "/healthcheck").await;
    assert_eq!(status, StatusCode::OK);
    lab.cloud.start_service("keystone");
    let (status, body) = daemon.get(&token, "/v1/clusters").await;
    assert_eq!(status, StatusCode::OK, "{body}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_asked_for_while_heat_is_down_is_built_when_it_is_back() {
    let lab = Lab::new().await;
    let token = lab.token("demo").await;
    lab.cloud.stop_service("heat");
    let daemon = lab.daemon().await;
    let uuid = daemon.create(&token, "k1").await;
    let waiting = |c: &serde_json::Value| {
        c["status_reason"].as_str().is_some_and(|r| r.contains("Heat is unavailable"))
    };
    let cluster = daemon.until(&token, &uuid, waiting).await;
    assert_eq!(cluster["status"], "CREATE_IN_PROGRESS", "{cluster}");
    lab.cloud.start_service("heat");
    assert_eq!(daemon.settled(&token, &uuid).await["status"], "CREATE_COMPLETE");
    daemon.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_expired_token_is_refused_although_it_was_remembered() {
    let lab = Lab::new().await;
    lab.cloud.set_token_life(Duration::from_secs(20));
    let token = lab.token("demo").await;
    let daemon = lab.daemon().await;
    assert_eq!(daemon.get(&token, "/v1/clusters").await.0, StatusCode::OK);
    lab.cloud.clock().sleep(Duration::from_secs(21)).await;
    assert_eq!(daemon.get(&token, "/v1/clusters").await.0, StatusCode::UNAUTHORIZED);
    daemon.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_lapses_before_the_stack_is_said_to_have_lapsed() {
    let lab = Lab::new().await;
    let token = lab.token("demo").await;
    // Stopped before the trust, for longer than the token lives.
    let halt = FailPoints::stopping_after(4);
    let daemon = lab.daemon_with(halt.clone()).await;
    let uuid = daemon.create(&token, "k1").await;
    while !halt.has_stopped() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    daemon.end().await;
    lab.revoke(&token).await;

    let daemon = lab.daemon().await;
    let demo = lab.token("demo").await;
    let cluster = daemon.settled(&demo, &uuid).await;
    assert_eq!(cluster["status"], "CREATE_FAILED", "{cluster}");
    let reason = cluster["status_reason"].as_str().unwrap();
    assert!(reason.contains("expired or was revoked"), "{reason}");
    daemon.delete(&demo, &format!("/v1/clusters/{uuid}")).await;
    daemon.gone(&demo, &uuid).await;
    assert_eq!(lab.cloud.leftovers(), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_daemon_on_the_same_state_is_refused() {
    let lab = Lab::new().await;
    let daemon = lab.daemon().await;
    let refused = lab.try_daemon(FailPoints::none()).await.err().unwrap().to_string();
    assert!(refused.contains("in use by another magnumd"), "{refused}");
    assert!(refused.contains(&lab.state().display().to_string()), "{refused}");
    daemon.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn parallel_creations_cannot_pass_the_quota() {
    let mut lab = Lab::new().await;
    lab.configure("[quota]", "max_clusters_per_project = 3");
    let token = lab.token("demo").await;
    let daemon = lab.daemon().await;
    daemon.post(&token, "/v1/clustertemplates", template()).await;
    let ask = async |i: u8| {
        let body = json!({"name": format!("k{i}"), "cluster_template_id": "k8s"});
        daemon.post(&token, "/v1/clusters", body).await.0.as_u16()
    };
    let (a, b, c, d, e, f) = tokio::join!(ask(0), ask(1), ask(2), ask(3), ask(4), ask(5));
    let answers = [a, b, c, d, e, f];
    assert_eq!(answers.iter().filter(|s| **s == 202).count(), 3, "{answers:?}");
    assert_eq!(answers.iter().filter(|s| **s == 403).count(), 3, "{answers:?}");
}
