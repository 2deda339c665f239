//! Services that carry out what they were asked for after the request was given up, and after the
//! next one: such an act is found and put right.

use std::time::Duration;

use hyper::Method;
use serde_json::{Value, json};

use crate::harness::{Lab, ONE_CLUSTER, PATIENCE, Running};

async fn site() -> (Lab, Running, String, String) {
    let mut lab = Lab::new().await;
    lab.configure("[periodic]", "sync_interval = '1s'");
    let daemon = lab.daemon().await;
    let (token, uuid) = lab.built(&daemon, "k1").await;
    (lab, daemon, token, uuid)
}

async fn done(daemon: &Running, token: &str, uuid: &str) -> Value {
    let cluster = daemon.settled(token, uuid).await;
    assert_eq!(cluster["status"], "UPDATE_COMPLETE", "{cluster}");
    cluster
}

async fn rotate(daemon: &Running, token: &str, uuid: &str) {
    let path = format!("/v1/credentials/{uuid}");
    let (status, body) = daemon.ask(token, Method::PATCH, &path, None).await;
    assert!(status.is_success(), "{status} {body}");
    done(daemon, token, uuid).await;
}

/// How many calls of the cloud's record begin like this.
fn calls(lab: &Lab, beginning: &str) -> usize {
    lab.cloud.calls().iter().filter(|call| call.starts_with(beginning)).count()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_trust_does_not_stay() {
    let lab = Lab::with_faults(&["keystone:POST:/OS-TRUST/trusts:late=500ms:times=1"]).await;
    let daemon = lab.daemon().await;
    let (token, uuid) = lab.built(&daemon, "k1").await;
    assert_eq!(calls(&lab, "POST keystone /OS-TRUST/trusts late"), 1);
    assert_eq!(calls(&lab, "DELETE keystone /OS-TRUST/trusts/"), 1, "the late one");
    for (kind, count) in ONE_CLUSTER {
        assert_eq!(lab.cloud.count(kind), count, "{kind}");
    }
    // The one that stays is the one on record.
    daemon.resize(&token, &uuid, json!({"node_count": 2})).await;
    done(&daemon, &token, &uuid).await;
    daemon.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_password_that_comes_after_the_next_one_locks_nobody_out() {
    let (lab, daemon, token, uuid) = site().await;
    lab.cloud.inject("keystone:PATCH:/users/*:late:times=1".parse().unwrap());
    rotate(&daemon, &token, &uuid).await;
    rotate(&daemon, &token, &uuid).await;
    let before = calls(&lab, "PATCH keystone /users/");
    assert_eq!(before, 3, "the late one, the same again, the next one");
    lab.cloud.clear_faults();
    tokio::time::timeout(PATIENCE, async {
        while calls(&lab, "PATCH keystone /users/") == before {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    })
    .await
    .expect("Keystone carries it out");
    daemon.resize(&token, &uuid, json!({"node_count": 2})).await;
    done(&daemon, &token, &uuid).await;
    assert_eq!(calls(&lab, "PATCH keystone /users/"), before + 2, "set once more");
    daemon.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_update_that_comes_after_the_next_one_is_followed_by_it_again() {
    let (lab, daemon, token, uuid) = site().await;
    lab.cloud.inject("heat:PATCH:/stacks/*:late:times=1".parse().unwrap());
    for count in [3, 2] {
        daemon.resize(&token, &uuid, json!({"node_count": count})).await;
        done(&daemon, &token, &uuid).await;
    }
    lab.cloud.clear_faults();
    let again = "Heat has carried out an earlier update after a later one";
    daemon
        .until(&token, &uuid, |c| c["status_reason"].as_str().is_some_and(|r| r.contains(again)))
        .await;
    let cluster = done(&daemon, &token, &uuid).await;
    assert_eq!(cluster["node_count"], 2, "{cluster}");
    assert_eq!(lab.cloud.count("servers"), 3, "one master, two workers");
    daemon.delete(&token, &format!("/v1/clusters/{uuid}")).await;
    daemon.gone(&token, &uuid).await;
    assert_eq!(lab.cloud.leftovers(), Vec::<String>::new());
    daemon.end().await;
}
