//! Several members of one project use one cluster: Heat keeps every stack for one of them, and
//! Keystone lets no token that comes from a trust make the trust that another one would need.

use hyper::{Method, StatusCode};
use serde_json::{Value, json};

use crate::harness::{Lab, Running};

const OLD: &str = "ubuntu-v1.31.4";
const NEW: &str = "ubuntu-v1.32.1";

/// What one member may do to a cluster that another one has made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Act {
    Resize(u32),
    MakeGroup(&'static str),
    ResizeGroup(&'static str, u32),
    DropGroup(&'static str),
    Upgrade,
    RotateCa,
    RotateCredential,
}

impl Act {
    async fn begin(self, daemon: &Running, token: &str, uuid: &str) {
        let at = |rest: &str| format!("/v1/clusters/{uuid}/{rest}");
        let (method, path, body) = match self {
            Self::Resize(count) => {
                (Method::POST, at("actions/resize"), Some(json!({"node_count": count})))
            }
            Self::MakeGroup(name) => {
                let order = json!({"name": name, "node_count": 1, "flavor_id": "m1.small"});
                (Method::POST, at("nodegroups"), Some(order))
            }
            Self::ResizeGroup(name, count) => {
                let order = json!({"node_count": count, "nodegroup": name});
                (Method::POST, at("actions/resize"), Some(order))
            }
            Self::DropGroup(name) => (Method::DELETE, at(&format!("nodegroups/{name}")), None),
            Self::Upgrade => {
                (Method::POST, at("actions/upgrade"), Some(json!({"cluster_template": "new"})))
            }
            Self::RotateCa => (Method::PATCH, format!("/v1/certificates/{uuid}"), None),
            Self::RotateCredential => (Method::PATCH, format!("/v1/credentials/{uuid}"), None),
        };
        let (status, body) = daemon.ask(token, method, &path, body).await;
        assert!(status.is_success(), "{self:?}: {status} {body}");
    }

    async fn done(self, daemon: &Running, token: &str, uuid: &str) -> Value {
        self.begin(daemon, token, uuid).await;
        let cluster = daemon.settled(token, uuid).await;
        assert_eq!(cluster["status"], "UPDATE_COMPLETE", "{self:?}: {cluster}");
        cluster
    }
}

/// A cluster that can be upgraded, of one of them.
async fn built(daemon: &Running, token: &str, masters: u32) -> String {
    daemon.template_of(token, "old", OLD, json!({})).await;
    let asked = json!({"name": "k1", "cluster_template_id": "old", "node_count": 1,
                       "master_count": masters});
    let (status, body) = daemon.post(token, "/v1/clusters", asked).await;
    assert_eq!(status, StatusCode::ACCEPTED, "{body}");
    let uuid = body["uuid"].as_str().unwrap().to_owned();
    let cluster = daemon.settled(token, &uuid).await;
    assert_eq!(cluster["status"], "CREATE_COMPLETE", "{cluster}");
    daemon.template_of(token, "new", NEW, json!({})).await;
    uuid
}

/// Two members of a project, an administrator of another one, and a cluster of the first.
struct Site {
    lab: Lab,
    daemon: Running,
    one: String,
    two: String,
    admin: String,
    uuid: String,
}

impl Site {
    async fn with_masters(masters: u32) -> Self {
        let lab = Lab::new().await;
        let daemon = lab.daemon().await;
        let (one, two) = (lab.token("demo").await, lab.token("demo2").await);
        let admin = lab.token("admin").await;
        let uuid = built(&daemon, &one, masters).await;
        Self { lab, daemon, one, two, admin, uuid }
    }
}

async fn deleted(lab: &Lab, daemon: &Running, token: &str, uuid: &str) {
    let status = daemon.delete(token, &format!("/v1/clusters/{uuid}")).await;
    assert_eq!(status, StatusCode::NO_CONTENT);
    daemon.gone(token, uuid).await;
    assert_eq!(lab.cloud.leftovers(), Vec::<String>::new());
}

/// The user is deleted from Keystone, and with it every trust that it gave.
async fn leaves(lab: &Lab, user: &str) {
    let admin = lab.token("admin").await;
    let url = format!("{}/users?name={user}&domain_id=default", lab.cloud.identity_url());
    let (_, found) = lab.cloud_call(Method::GET, &url, &admin, None).await;
    let id = found["users"][0]["id"].as_str().unwrap();
    let url = format!("{}/users/{id}", lab.cloud.identity_url());
    let (status, body) = lab.cloud_call(Method::DELETE, &url, &admin, None).await;
    assert_eq!(status, StatusCode::NO_CONTENT, "{body}");
}

#[tokio::test(flavor = "multi_thread")]
async fn each_member_may_do_everything_to_what_another_has_made() {
    let Site { lab, daemon, one, two, uuid, .. } = Site::with_masters(3).await;
    // Each act by the one who made neither the cluster nor, where there is one, the group.
    Act::MakeGroup("two").done(&daemon, &two, &uuid).await;
    Act::ResizeGroup("two", 2).done(&daemon, &one, &uuid).await;
    Act::Resize(2).done(&daemon, &two, &uuid).await;
    Act::MakeGroup("one").done(&daemon, &one, &uuid).await;
    Act::ResizeGroup("one", 2).done(&daemon, &two, &uuid).await;
    Act::Upgrade.done(&daemon, &two, &uuid).await;
    Act::RotateCa.done(&daemon, &two, &uuid).await;
    Act::RotateCredential.done(&daemon, &two, &uuid).await;
    // All of it is the second one's now; the first acts on it, through trusts and not.
    assert_eq!(lab.cloud.count("trusts"), 1 + 3, "one of ours, one of Heat's for each stack");
    Act::ResizeGroup("one", 1).done(&daemon, &one, &uuid).await;
    Act::ResizeGroup("two", 1).done(&daemon, &one, &uuid).await;
    Act::Resize(1).done(&daemon, &one, &uuid).await;
    Act::DropGroup("two").done(&daemon, &one, &uuid).await;
    Act::RotateCredential.done(&daemon, &one, &uuid).await;
    Act::DropGroup("one").done(&daemon, &two, &uuid).await;
    deleted(&lab, &daemon, &two, &uuid).await;
    daemon.end().await;
}

/// An administrator of another project can lend nothing: only trusts act then.
#[tokio::test(flavor = "multi_thread")]
async fn trusts_alone_act_on_stacks_of_several_members() {
    let Site { lab, daemon, two, admin, uuid, .. } = Site::with_masters(1).await;
    Act::MakeGroup("two").done(&daemon, &two, &uuid).await;
    Act::ResizeGroup("two", 2).done(&daemon, &admin, &uuid).await;
    Act::Resize(2).done(&daemon, &admin, &uuid).await;
    Act::RotateCredential.done(&daemon, &two, &uuid).await;
    Act::Resize(1).done(&daemon, &admin, &uuid).await;
    Act::ResizeGroup("two", 1).done(&daemon, &admin, &uuid).await;
    deleted(&lab, &daemon, &admin, &uuid).await;
    daemon.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_outlives_its_creator() {
    let Site { lab, daemon, two, admin, uuid, .. } = Site::with_masters(1).await;
    leaves(&lab, "demo").await;

    // Nobody's token can be lent: the sentence says what is wrong and what cures it.
    Act::Resize(2).begin(&daemon, &admin, &uuid).await;
    let failed = daemon.settled(&admin, &uuid).await;
    let reason = failed["faults"]["default-worker"].as_str().unwrap_or_default();
    assert!(reason.contains("trust is dead"), "{failed}");
    assert!(reason.contains("openstack coe credential rotate k1"), "{failed}");

    Act::Resize(2).done(&daemon, &two, &uuid).await;
    Act::MakeGroup("two").done(&daemon, &two, &uuid).await;
    Act::RotateCredential.done(&daemon, &two, &uuid).await;
    Act::Resize(1).done(&daemon, &admin, &uuid).await;
    deleted(&lab, &daemon, &two, &uuid).await;
    daemon.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn everybody_may_delete_a_cluster_whose_members_have_left() {
    let Site { lab, daemon, two, admin, uuid, .. } = Site::with_masters(1).await;
    Act::MakeGroup("two").done(&daemon, &two, &uuid).await;
    leaves(&lab, "demo").await;
    leaves(&lab, "demo2").await;
    deleted(&lab, &daemon, &admin, &uuid).await;
    daemon.end().await;
}

/// Regression, on a real cloud: a group that was made before magnumd kept the trusts of those who
/// make groups. The deletion is on record with a token that has ended meanwhile.
#[tokio::test(flavor = "multi_thread")]
async fn a_deletion_that_was_stuck_comes_free() {
    let Site { lab, daemon, one, two, admin, uuid } = Site::with_masters(1).await;
    Act::MakeGroup("two").done(&daemon, &two, &uuid).await;
    let url = format!("{}/OS-TRUST/trusts", lab.cloud.identity_url());
    let (_, trusts) = lab.cloud_call(Method::GET, &url, &admin, None).await;
    let (_, cluster) = daemon.get(&one, &format!("/v1/clusters/{uuid}")).await;
    let to_trustee = |t: &&Value| {
        t["trustor_user_id"] != cluster["user_id"] && t["trustee_user_id"] != *heat_user(&trusts)
    };
    let lent = trusts["trusts"].as_array().unwrap().iter().find(to_trustee).unwrap();
    let url = format!("{url}/{}", lent["id"].as_str().unwrap());
    assert_eq!(lab.cloud_call(Method::DELETE, &url, &admin, None).await.0, StatusCode::NO_CONTENT);

    // What only a trust could do is told, and does not last for ever.
    Act::ResizeGroup("two", 2).begin(&daemon, &admin, &uuid).await;
    let failed = daemon.settled(&admin, &uuid).await;
    let reason = failed["faults"]["two"].as_str().unwrap_or_default();
    assert!(reason.contains("for another user"), "{failed}");
    // A member's own token does.
    Act::ResizeGroup("two", 2).done(&daemon, &one, &uuid).await;
    Act::ResizeGroup("two", 1).done(&daemon, &two, &uuid).await;

    daemon.end().await;
    let daemon = lab.daemon().await;
    let status = daemon.delete(&one, &format!("/v1/clusters/{uuid}")).await;
    assert_eq!(status, StatusCode::NO_CONTENT);
    lab.revoke(&one).await;
    daemon.gone(&admin, &uuid).await;
    assert_eq!(lab.cloud.leftovers(), Vec::<String>::new());
    daemon.end().await;
}

/// Whoever is the trustee of most trusts: Heat has one for every stack.
fn heat_user(trusts: &Value) -> &Value {
    let all = trusts["trusts"].as_array().unwrap();
    let count = |id: &Value| all.iter().filter(|t| t["trustee_user_id"] == *id).count();
    let most = all.iter().map(|t| &t["trustee_user_id"]).max_by_key(|id| count(id));
    most.unwrap()
}

/// What a reader may not do is refused before anybody lends anything.
#[tokio::test(flavor = "multi_thread")]
async fn a_reader_lends_nothing() {
    let lab = Lab::new().await;
    let daemon = lab.daemon().await;
    let (one, reader) = (lab.token("demo").await, lab.token("reader").await);
    let uuid = built(&daemon, &one, 1).await;
    let path = format!("/v1/clusters/{uuid}/actions/resize");
    let order = Some(json!({"node_count": 2}));
    let (status, body) = daemon.ask(&reader, Method::POST, &path, order).await;
    assert_eq!(status, StatusCode::FORBIDDEN, "{body}");
    let path = format!("/v1/credentials/{uuid}");
    let (status, body) = daemon.ask(&reader, Method::PATCH, &path, None).await;
    assert_eq!(status, StatusCode::FORBIDDEN, "{body}");
    daemon.end().await;
}
