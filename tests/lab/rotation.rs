//! The credential is replaced; the cluster works on with the new one.

use hyper::{Method, StatusCode};

use serde_json::{Value, json};

use crate::crash::{Order, Ready, survives_a_stop_anywhere};
use crate::harness::{Lab, ONE_CLUSTER, Running, template};

async fn rotate(daemon: &Running, token: &str, uuid: &str) {
    let path = format!("/v1/credentials/{uuid}");
    let (status, body) = daemon.ask(token, Method::PATCH, &path, None).await;
    assert_eq!(status, StatusCode::ACCEPTED, "{body}");
}

#[derive(Clone, Copy)]
struct Rotating;

impl Order for Rotating {
    async fn give(self, daemon: &Running, ready: &Ready) {
        rotate(daemon, &ready.token, &ready.uuid).await;
    }

    async fn check(self, lab: &Lab, daemon: &Running, ready: &Ready, _: &Value) {
        for (kind, count) in ONE_CLUSTER.into_iter().filter(|(kind, _)| *kind != "stacks") {
            assert_eq!(lab.cloud.count(kind), count, "{kind}");
        }
        daemon.resize(&ready.token, &ready.uuid, json!({"node_count": 1})).await;
        let cluster = daemon.settled(&ready.token, &ready.uuid).await;
        assert_eq!(cluster["status"], "UPDATE_COMPLETE", "the new one works: {cluster}");
    }
}

/// Regression, seen on a real Keystone: a token given in the second of the new password is
/// refused, and that was taken for "the former trust is gone", which stayed for ever. Whoever
/// gets a token through a trust knows that it is there, so the deletion is tried again.
#[tokio::test(flavor = "multi_thread")]
async fn a_credential_is_rotated_even_if_stopped_anywhere() {
    // Four acts and three commits.
    survives_a_stop_anywhere(Rotating, 12).await;
}

/// The guests log in to the lab's Keystone with what they are given, as the controllers would.
#[tokio::test(flavor = "multi_thread")]
async fn controllers_inside_a_cluster_are_given_the_new_credential() {
    let lab = Lab::with_faults(&["guest:*-master-0:renew-credentials:fail=no room:times=1"]).await;
    let daemon = lab.daemon().await;
    let token = lab.token("demo").await;
    let mut wanted = template();
    wanted["labels"] = json!({"cloud_provider_enabled": "true"});
    let (status, body) = daemon.post(&token, "/v1/clustertemplates", wanted).await;
    assert_eq!(status, StatusCode::CREATED, "{body}");
    let (token, uuid) = lab.built(&daemon, "k1").await;

    rotate(&daemon, &token, &uuid).await;
    let failed = daemon.settled(&token, &uuid).await;
    assert_eq!(failed["status"], "UPDATE_FAILED", "{failed}");
    let reason = failed["status_reason"].as_str().unwrap();
    assert!(reason.contains("duty renew-credentials: no room"), "{reason}");

    rotate(&daemon, &token, &uuid).await;
    assert_eq!(daemon.settled(&token, &uuid).await["status"], "UPDATE_COMPLETE");
    for (kind, count) in ONE_CLUSTER {
        assert_eq!(lab.cloud.count(kind), count, "{kind}: the former ones are gone");
    }
    daemon.end().await;
}

/// The dashboard says that whoever rotates the credential becomes the cluster's owner: the trust is
/// theirs from then on, and so are the certificates that only an owner may have.
#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_belongs_to_the_member_who_has_rotated_its_credential() {
    let lab = Lab::new().await;
    let daemon = lab.daemon().await;
    let (demo, uuid) = lab.built(&daemon, "k1").await;
    let (id, mate) = lab.mate("mate").await;
    let (cluster, ca) = (format!("/v1/clusters/{uuid}"), format!("/v1/certificates/{uuid}"));
    let may = async |token: &str| daemon.get(token, &ca).await.0;
    let owner = async || daemon.get(&demo, &cluster).await.1["user_id"].clone();
    let first = owner().await;
    assert_ne!(first, json!(id));
    assert_eq!((may(&demo).await, may(&mate).await), (StatusCode::OK, StatusCode::FORBIDDEN));

    rotate(&daemon, &mate, &uuid).await;
    assert_eq!(daemon.settled(&demo, &uuid).await["status"], "UPDATE_COMPLETE");
    assert_eq!(owner().await, json!(id));
    assert_eq!((may(&demo).await, may(&mate).await), (StatusCode::FORBIDDEN, StatusCode::OK));
    // A rotation that fails gives it to nobody.
    lab.cloud.inject("keystone:POST:/OS-TRUST/trusts:status=403".parse().unwrap());
    rotate(&daemon, &demo, &uuid).await;
    assert_eq!(daemon.settled(&demo, &uuid).await["status"], "UPDATE_FAILED");
    assert_eq!(owner().await, json!(id));
    lab.cloud.clear_faults();
    rotate(&daemon, &demo, &uuid).await;
    assert_eq!(daemon.settled(&demo, &uuid).await["status"], "UPDATE_COMPLETE");
    assert_eq!(owner().await, first);
    daemon.end().await;
}
