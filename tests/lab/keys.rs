//! After first contact a node is its key: what a reader of the project knows opens nothing, at no
//! time and from nowhere, and a node that has its key is never lost.

use std::net::Ipv4Addr;

use hyper::{Method, StatusCode};
use magnumd::base::http::client::{Answer, Outgoing};
use magnumd::base::secret::Sealer;
use magnumd::lab::Lost;
use magnumd::model::ClusterId;
use magnumd::store::{Change, Store};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::first_contact::{ELSEWHERE, Loot, loot, request, said};
use crate::harness::{Lab, Running};

/// Everything but a claim that a node asks for, with a body that makes sense.
fn errands() -> Vec<(Method, &'static str, Option<Value>)> {
    let csr = json!({"purpose": "etcd-client", "csr": request()});
    let failed = json!({"phase": "ready", "state": "failed", "message": "by a reader"});
    let mut all = vec![
        (Method::GET, "bundle", None),
        (Method::GET, "duty", None),
        (Method::GET, "join", None),
        (Method::POST, "csr", Some(csr)),
        (Method::POST, "status", Some(failed)),
    ];
    all.extend(
        (1..4).map(|number| {
            (Method::POST, "duty", Some(json!({"number": number, "state": "failed"})))
        }),
    );
    all
}

/// It is refused, or is what everybody may have: how to make a claim.
fn is_nothing(answer: &Answer) -> bool {
    let says = |part: &[u8]| answer.body.windows(part.len()).any(|window| window == part);
    match answer.status.as_u16() {
        200 => says(b"claim.sh") && !says(b"PRIVATE KEY") && !says(b"BEGIN CERTIFICATE-"),
        status => matches!(status, 403 | 404 | 409 | 429 | 503),
    }
}

const BEFORE: &str = "before it has changed over";

/// Tries all errands and a claim from each address.
async fn attack(loot: &Loot, daemon: &Running, from: &[Ipv4Addr], when: &str) {
    for from in from {
        for (method, errand, body) in errands() {
            let answer = loot.ask(daemon, *from, method, errand, body, None).await;
            // What a ready node of before reports is taken, and changes nothing.
            let is_ignored = when == BEFORE && answer.status == StatusCode::NO_CONTENT;
            assert!(is_ignored || is_nothing(&answer), "{when}, {errand} from {from}: {answer:?}");
        }
        let answer = loot.claim(daemon, *from, None).await;
        assert!(!answer.status.is_success(), "{when}, a claim from {from}: {answer:?}");
    }
}

async fn shown(daemon: &Running, token: &str, uuid: &str) -> Value {
    daemon.get(token, &format!("/v1/clusters/{uuid}")).await.1
}

async fn rotate(daemon: &Running, token: &str, uuid: &str) {
    let path = format!("/v1/certificates/{uuid}");
    let (status, body) = daemon.ask(token, Method::PATCH, &path, None).await;
    assert_eq!(status, StatusCode::ACCEPTED, "{body}");
}

/// Every node does its duties, by its own certificate.
async fn rotates(daemon: &Running, token: &str, uuid: &str) {
    rotate(daemon, token, uuid).await;
    let cluster = daemon.settled(token, uuid).await;
    assert_eq!(cluster["status"], "UPDATE_COMPLETE", "{cluster}");
}

fn is_moving(cluster: &Value) -> bool {
    cluster["status"].as_str().unwrap_or_default().ends_with("_IN_PROGRESS")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_gets_nothing_from_creation_to_upgrade() {
    let lab = Lab::with_faults(&[
        "guest:*-master-0:booted:delay=20s",
        "guest:*-master-0:control-plane:delay=60s",
        "guest:*-master-0:issue-leaves:delay=30s",
    ])
    .await;
    let daemon = lab.daemon().await;
    let token = lab.token("demo").await;
    daemon.template_of(&token, "old", "ubuntu-v1.31.4", json!({})).await;
    let asked = json!({"name": "k1", "cluster_template_id": "old", "node_count": 1,
                       "master_count": 3});
    let (status, body) = daemon.post(&token, "/v1/clusters", asked).await;
    assert_eq!(status, StatusCode::ACCEPTED, "{body}");
    let uuid = body["uuid"].as_str().unwrap().to_owned();
    let loot = loot(&lab, &daemon, &uuid).await;
    let own = lab.cloud.seen_from(&loot.server).unwrap();
    let beside = Ipv4Addr::from_bits(own.to_bits() ^ 1);
    let (others, all) = ([ELSEWHERE, beside], [ELSEWHERE, beside, own]);
    attack(&loot, &daemon, &others, "at creation").await;

    // Its key is on record once the token is refused for what it was shown before.
    let began = std::time::Instant::now();
    loop {
        let answer = loot.ask(&daemon, ELSEWHERE, Method::GET, "duty", None, None).await;
        if answer.status == StatusCode::FORBIDDEN && said(&answer).contains("certificate") {
            break;
        }
        assert!(began.elapsed() < crate::harness::PATIENCE, "{answer:?}");
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    assert!(is_moving(&shown(&daemon, &token, &uuid).await), "the master is not ready yet");
    attack(&loot, &daemon, &all, "before it is ready").await;
    let built = daemon.settled(&token, &uuid).await;
    assert_eq!(built["status"], "CREATE_COMPLETE", "no report of his counts: {built}");
    attack(&loot, &daemon, &all, "when it is ready").await;
    // From the server's own address a claim is no stranger's: somebody should look.
    let told = shown(&daemon, &token, &uuid).await["faults"][&loot.node].clone();
    let told = told.as_str().unwrap_or_default();
    assert!(told.contains("was claimed twice") && told.contains("Replace it"), "{told}");

    rotate(&daemon, &token, &uuid).await;
    while is_moving(&shown(&daemon, &token, &uuid).await) {
        attack(&loot, &daemon, &all, "while authorities are rotated").await;
    }
    let rotated = shown(&daemon, &token, &uuid).await;
    assert_eq!(rotated["status"], "UPDATE_COMPLETE", "no answer of his counts: {rotated}");

    daemon.template_of(&token, "new", "ubuntu-v1.32.1", json!({})).await;
    let path = format!("/v1/clusters/{uuid}/actions/upgrade");
    let order = json!({"cluster_template": "new"});
    let (status, body) = daemon.ask(&token, Method::POST, &path, Some(order)).await;
    assert_eq!(status, StatusCode::ACCEPTED, "{body}");
    while is_moving(&shown(&daemon, &token, &uuid).await) {
        attack(&loot, &daemon, &others, "while it is rebuilt").await;
    }
    let upgraded = shown(&daemon, &token, &uuid).await;
    assert_eq!(upgraded["status"], "UPDATE_COMPLETE", "{upgraded}");
    attack(&loot, &daemon, &all, "when it is rebuilt").await;
    daemon.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_claims_at_the_same_time_one_wins_and_the_other_is_told_of() {
    let lab = Lab::with_faults(&["guest:*:booted:hang"]).await;
    let daemon = lab.daemon().await;
    let token = lab.token("demo").await;
    let uuid = daemon.create(&token, "k1").await;
    let loot = loot(&lab, &daemon, &uuid).await;
    let own = lab.cloud.seen_from(&loot.server).unwrap();
    let (one, two) = (json!({"csr": request()}), json!({"csr": request()}));
    let claim = async |body: &Value| {
        loot.ask(&daemon, own, Method::POST, "claim", Some(body.clone()), None).await
    };
    let (first, second) = tokio::join!(claim(&one), claim(&two));
    let (won, lost, winner) = match first.status {
        StatusCode::OK => (&first, &second, &one),
        _ => (&second, &first, &two),
    };
    assert_eq!((won.status, lost.status), (StatusCode::OK, StatusCode::CONFLICT));
    assert!(said(lost).contains("replace it"), "{}", said(lost));
    // A lost answer is given again, for the same key only.
    let again = claim(winner).await;
    assert_eq!((again.status, &again.body), (StatusCode::OK, &won.body));
    let told = shown(&daemon, &token, &uuid).await["faults"][&loot.node].clone();
    assert!(told.as_str().unwrap_or_default().contains("was claimed twice"), "{told}");
    daemon.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_lost_the_answer_claims_again_and_whoever_lost_the_key_is_replaced() {
    let lab = Lab::new().await;
    let daemon = lab.daemon().await;
    let token = lab.token("demo").await;
    let (status, body) =
        daemon.post(&token, "/v1/clustertemplates", crate::harness::template()).await;
    assert_eq!(status, StatusCode::CREATED, "{body}");
    let asked = json!({"name": "k1", "cluster_template_id": "k8s", "node_count": 2});
    let (_, body) = daemon.post(&token, "/v1/clusters", asked).await;
    let uuid = body["uuid"].as_str().unwrap().to_owned();
    assert_eq!(daemon.settled(&token, &uuid).await["status"], "CREATE_COMPLETE");
    lab.cloud.restart("", Lost::Certificate);
    rotates(&daemon, &token, &uuid).await;
    assert!(shown(&daemon, &token, &uuid).await.get("faults").is_none_or(Value::is_null));

    lab.cloud.restart("-node-1", Lost::Key);
    let disputed = |c: &Value| c["faults"].as_object().is_some_and(|f| f.len() == 1);
    let told = daemon.until(&token, &uuid, disputed).await["faults"].to_string();
    assert!(
        told.contains("-node-1 was claimed twice") && told.contains("nodes-to-remove"),
        "{told}"
    );
    let nova = lab.cloud.endpoint("compute");
    let url = format!("{nova}/servers/detail?name=-node-1");
    let (_, listed) = lab.cloud_call(Method::GET, &url, &token, None).await;
    let server = listed["servers"][0]["id"].clone();
    daemon.resize(&token, &uuid, json!({"node_count": 1, "nodes_to_remove": [server]})).await;
    let cluster = daemon.settled(&token, &uuid).await;
    assert_eq!(cluster["status"], "UPDATE_COMPLETE", "{cluster}");
    assert!(cluster.get("faults").is_none_or(Value::is_null), "{cluster}");
    rotates(&daemon, &token, &uuid).await;
    daemon.end().await;
}

/// All nodes claim and become ready after the backup was taken: their certificates are the record.
#[tokio::test(flavor = "multi_thread")]
async fn a_restore_from_before_first_contact_strands_no_node() {
    let mut lab = Lab::with_faults(&["guest:*:booted:delay=30s"]).await;
    let daemon = lab.daemon().await;
    let token = lab.token("demo").await;
    let uuid = daemon.create(&token, "k1").await;
    drop(loot(&lab, &daemon, &uuid).await);
    let file = lab.folder().join("early.backup");
    let path = file.to_str().unwrap().to_owned();
    let (code, _, complaint) = lab.magnumd(&["backup", &path]).await;
    assert_eq!(code, 0, "{complaint}");
    let built = daemon.settled(&token, &uuid).await;
    assert_eq!(built["status"], "CREATE_COMPLETE", "{built}");
    daemon.end().await;

    let place = tempfile::tempdir().unwrap();
    std::fs::copy(lab.folder().join("sealing.key"), place.path().join("sealing.key")).unwrap();
    let into = place.path().to_str().unwrap().to_owned();
    let (code, said, complaint) = lab.magnumd(&["restore", &path, "--into", &into]).await;
    assert_eq!(code, 0, "{said}{complaint}");
    lab.move_state(place.path());
    let daemon = lab.daemon().await;
    assert!(is_moving(&shown(&daemon, &token, &uuid).await), "as it was");
    let built = daemon.settled(&token, &uuid).await;
    assert_eq!(built["status"], "CREATE_COMPLETE", "{built}");
    assert!(built.get("faults").is_none_or(Value::is_null), "{built}");
    let asked = Outgoing::new(Method::GET, daemon.url("/metrics"));
    let metrics = String::from_utf8(daemon.send(asked).await.body.to_vec()).unwrap();
    let counted = "magnumd_bootstrap_claims_total{outcome=\"restored\"} ";
    let nodes = built["master_count"].as_u64().unwrap() + built["node_count"].as_u64().unwrap();
    let restored = metrics.lines().find_map(|line| line.strip_prefix(counted)?.parse().ok());
    assert_eq!(restored, Some(nodes), "{metrics}");
    rotates(&daemon, &token, &uuid).await;
    daemon.end().await;
}

/// A cluster that was made before nodes had keys: they are shown how at their next duty, and the
/// token is dead afterwards.
#[tokio::test(flavor = "multi_thread")]
async fn nodes_of_an_earlier_magnumd_change_over_by_themselves() {
    let lab = Lab::new().await;
    let daemon = lab.daemon().await;
    let (token, uuid) = lab.built(&daemon, "k1").await;
    daemon.end().await;
    let cluster = ClusterId::new(uuid.parse::<Uuid>().unwrap());
    {
        let key: [u8; 32] =
            std::fs::read(lab.folder().join("sealing.key")).unwrap().try_into().unwrap();
        let store = Store::open(&lab.state(), Sealer::new(&key)).unwrap();
        let keys = store.read(|view| view.node_keys(cluster)).unwrap();
        assert!(keys.len() > 1 && keys.iter().all(|key| key.record.holder.is_some()));
        let forget = keys.iter().fold(Change::new(), |change, key| change.delete(&key.record));
        store.commit(forget).await.unwrap();
    }
    lab.cloud.restart("", Lost::Knowledge);
    let daemon = lab.daemon().await;
    let loot = loot(&lab, &daemon, &uuid).await;
    let own = lab.cloud.seen_from(&loot.server).unwrap();
    attack(&loot, &daemon, &[ELSEWHERE], BEFORE).await;
    rotates(&daemon, &token, &uuid).await;
    attack(&loot, &daemon, &[ELSEWHERE, own], "when it has changed over").await;
    rotates(&daemon, &token, &uuid).await;
    daemon.end().await;
}
