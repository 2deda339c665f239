//! Two operations at once on one cluster: every one that may stand in line behind another, behind
//! each that may run. Both are carried out, in their order, and neither waits for the other's.

use hyper::{Method, StatusCode};
use serde_json::{Value, json};

use crate::harness::{Lab, Running};

const OLD: &str = "ubuntu-v1.31.4";
const NEW: &str = "ubuntu-v1.32.1";

/// An order on a cluster with three masters, workers 0 and 1, and a group `g` of one node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Act {
    Grow,
    Shrink,
    /// The first worker goes, not the last one.
    RemoveFirst,
    GrowGroup,
    LimitGroup,
    MakeGroup,
    DropGroup,
    RotateCredential,
    Upgrade,
    RotateCa,
}

/// Those that may wait behind another one.
const LATER: [Act; 8] = [
    Act::Grow,
    Act::Shrink,
    Act::RemoveFirst,
    Act::GrowGroup,
    Act::LimitGroup,
    Act::MakeGroup,
    Act::DropGroup,
    Act::RotateCredential,
];

impl Act {
    async fn begin(self, daemon: &Running, token: &str, uuid: &str) {
        let resize = |body: Value| (Method::POST, "actions/resize".to_owned(), Some(body));
        let (method, path, body) = match self {
            Self::Grow => resize(json!({"node_count": 3})),
            Self::Shrink => resize(json!({"node_count": 1})),
            Self::RemoveFirst => resize(json!({"node_count": 1, "nodes_to_remove": ["0"]})),
            Self::GrowGroup => resize(json!({"node_count": 2, "nodegroup": "g"})),
            Self::LimitGroup => {
                let patch = json!([{"op": "replace", "path": "/max_node_count", "value": 5}]);
                (Method::PATCH, "nodegroups/g".to_owned(), Some(patch))
            }
            Self::MakeGroup => {
                let order = json!({"name": "more", "node_count": 1, "flavor_id": "m1.small"});
                (Method::POST, "nodegroups".to_owned(), Some(order))
            }
            Self::DropGroup => (Method::DELETE, "nodegroups/g".to_owned(), None),
            Self::Upgrade => {
                let order = json!({"cluster_template": "new"});
                (Method::POST, "actions/upgrade".to_owned(), Some(order))
            }
            Self::RotateCa => (Method::PATCH, format!("/v1/certificates/{uuid}"), None),
            Self::RotateCredential => (Method::PATCH, format!("/v1/credentials/{uuid}"), None),
        };
        let path = match path.starts_with('/') {
            true => path,
            false => format!("/v1/clusters/{uuid}/{path}"),
        };
        let (status, body) = daemon.ask(token, method, &path, body).await;
        assert!(status.is_success(), "{self:?}: {status} {body}");
    }

    /// Workers and nodes of groups afterwards, if it is the only one to change them.
    fn counts(self, (workers, groups): (usize, usize)) -> (usize, usize) {
        match self {
            Self::Grow => (3, groups),
            Self::Shrink | Self::RemoveFirst => (1, groups),
            Self::GrowGroup => (workers, groups + 1),
            Self::MakeGroup => (workers, groups + 1),
            Self::DropGroup => (workers, groups - 1),
            _ => (workers, groups),
        }
    }

    /// Whether the second is one that the first already is, or asks for what is gone by then.
    fn excludes(self, second: Self) -> bool {
        use Act::{DropGroup, GrowGroup, LimitGroup, MakeGroup, RotateCredential};
        matches!(
            (self, second),
            (MakeGroup, MakeGroup)
                | (DropGroup, DropGroup | GrowGroup | LimitGroup)
                | (RotateCredential, RotateCredential)
        )
    }
}

/// Every server's name and image's id.
async fn servers(lab: &Lab, token: &str) -> Vec<(String, Value)> {
    let (_, nova) = lab.cloud.endpoints().into_iter().find(|e| e.0 == "compute").unwrap();
    let url = format!("{nova}/servers/detail");
    let (_, listed) = lab.cloud_call(Method::GET, &url, token, None).await;
    let servers = listed["servers"].as_array().unwrap().iter();
    servers.map(|s| (s["name"].as_str().unwrap().to_owned(), s["image"]["id"].clone())).collect()
}

async fn both(first: Act, second: Act) {
    let lab = Lab::new().await;
    let daemon = lab.daemon().await;
    let token = lab.token("demo").await;
    daemon.template_of(&token, "old", OLD, json!({})).await;
    daemon.template_of(&token, "new", NEW, json!({})).await;
    // Only an upgrade needs more than one master, and each of them costs time.
    let masters = if first == Act::Upgrade { 3 } else { 1 };
    let asked = json!({"name": "k1", "cluster_template_id": "old", "node_count": 2,
                       "master_count": masters});
    let (status, body) = daemon.post(&token, "/v1/clusters", asked).await;
    assert_eq!(status, StatusCode::ACCEPTED, "{body}");
    let uuid = body["uuid"].as_str().unwrap().to_owned();
    assert_eq!(daemon.settled(&token, &uuid).await["status"], "CREATE_COMPLETE");
    let path = format!("/v1/clusters/{uuid}/nodegroups");
    let order = json!({"name": "g", "node_count": 1, "flavor_id": "m1.small"});
    let (status, body) = daemon.ask(&token, Method::POST, &path, Some(order)).await;
    assert_eq!(status, StatusCode::ACCEPTED, "{body}");
    assert_eq!(daemon.settled(&token, &uuid).await["status"], "UPDATE_COMPLETE");

    first.begin(&daemon, &token, &uuid).await;
    second.begin(&daemon, &token, &uuid).await;
    let after = daemon.settled(&token, &uuid).await;
    assert_eq!(after["status"], "UPDATE_COMPLETE", "{first:?}, {second:?}: {after}");

    let overtaken = matches!(first, Act::Grow | Act::Shrink | Act::RemoveFirst)
        && matches!(second, Act::Grow | Act::Shrink | Act::RemoveFirst);
    let mut wanted = (2, 1);
    for act in [first, second].into_iter().skip(usize::from(overtaken)) {
        wanted = act.counts(wanted);
    }
    let there = servers(&lab, &token).await;
    let of = |part: &str| there.iter().filter(|(name, _)| name.contains(part)).count();
    // Nodes of the cluster's own stack, of `g` and of `more`.
    let workers = there.len() - masters - of("-g-") - of("-more-");
    assert_eq!(workers, wanted.0, "{first:?}, {second:?}: {there:?}");
    assert_eq!(of("-g-") + of("-more-"), wanted.1, "{first:?}, {second:?}: {there:?}");
    if first == Act::Upgrade {
        let own: Vec<&Value> = there
            .iter()
            .filter(|(name, _)| !name.contains("-g-") && !name.contains("-more-"))
            .map(|(_, image)| image)
            .collect();
        assert!(own.iter().all(|image| *image == own[0]), "{second:?}: {there:?}");
        assert_eq!(after["coe_version"], "v1.32.1", "{second:?}: {after}");
    }
    if second == Act::RemoveFirst && !overtaken {
        let own = there.iter().filter(|(n, _)| !n.contains("-g-") && !n.contains("-more-"));
        let names: Vec<&str> = own.map(|(name, _)| name.as_str()).collect();
        assert!(names.iter().all(|n| !n.ends_with("-node-0")), "{first:?}: {names:?}");
    }
    daemon.delete(&token, &format!("/v1/clusters/{uuid}")).await;
    daemon.gone(&token, &uuid).await;
    assert_eq!(lab.cloud.leftovers(), Vec::<String>::new(), "{first:?}, {second:?}");
    daemon.end().await;
}

async fn behind(first: Act) {
    for second in LATER.into_iter().filter(|second| !first.excludes(*second)) {
        both(first, second).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn behind_an_upgrade() {
    behind(Act::Upgrade).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn behind_a_rotation_of_the_ca() {
    behind(Act::RotateCa).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn behind_a_rotation_of_the_credential() {
    behind(Act::RotateCredential).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn behind_a_growing_group() {
    behind(Act::Grow).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn behind_a_shrinking_group() {
    behind(Act::RemoveFirst).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn behind_a_new_group() {
    behind(Act::MakeGroup).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn behind_a_group_that_goes() {
    behind(Act::DropGroup).await;
}
