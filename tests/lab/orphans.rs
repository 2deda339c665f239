//! What a restore of an older backup has forgotten, and what can be done about it.

use hyper::{Method, StatusCode};
use magnumd::base::secret::Sealer;
use magnumd::model::ClusterId;
use magnumd::store::{Change, Store};
use redb::ReadableTable;
use serde_json::{Value, json};

use crate::harness::{Lab, ONE_CLUSTER, Running};

/// A backup of the daemon's state at this moment.
async fn back_up(lab: &Lab) -> String {
    let file = lab.folder().join("backup").to_str().unwrap().to_owned();
    let (code, _, complaint) = lab.magnumd(&["backup", &file, "--force"]).await;
    assert_eq!(code, 0, "{complaint}");
    file
}

/// Ends the daemon, goes back to the backup, starts another one.
async fn go_back(lab: &Lab, daemon: Running, file: &str) -> Running {
    daemon.end().await;
    let (code, _, complaint) = lab.magnumd(&["restore", file, "--force"]).await;
    assert_eq!(code, 0, "{complaint}");
    lab.daemon().await
}

async fn orphans(lab: &Lab) -> Value {
    let (code, said, complaint) = lab.magnumd(&["orphans", "list", "--output", "json"]).await;
    assert_eq!(code, 0, "{complaint}");
    serde_json::from_str(&said).unwrap()
}

fn of_cluster<'o>(orphans: &'o Value, uuid: &str) -> Vec<(&'o str, Option<&'o str>)> {
    let found = orphans["found"].as_array().unwrap().iter().filter(|o| o["cluster"] == uuid);
    found.map(|o| (o["kind"].as_str().unwrap(), o["kept"].as_str())).collect()
}

/// Makes a complete cluster.
async fn complete(daemon: &Running, token: &str, name: &str) -> String {
    let uuid = daemon.create(token, name).await;
    assert_eq!(daemon.settled(token, &uuid).await["status"], "CREATE_COMPLETE");
    uuid
}

async fn deleted(lab: &Lab, daemon: Running, token: &str, uuid: &str) {
    daemon.delete(token, &format!("/v1/clusters/{uuid}")).await;
    daemon.gone(token, uuid).await;
    assert_eq!(lab.cloud.leftovers(), Vec::<String>::new());
    daemon.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn orphans_are_shown_then_cleaned_and_nothing_else() {
    let lab = Lab::new().await;
    let demo = lab.token("demo").await;
    let daemon = lab.daemon().await;
    let kept = complete(&daemon, &demo, "k1").await;
    let file = back_up(&lab).await;
    let lost = complete(&daemon, &demo, "k2").await;
    assert_eq!(orphans(&lab).await["found"], json!([]));
    let daemon = go_back(&lab, daemon, &file).await;

    let found = orphans(&lab).await;
    let young = Some("its stack is younger than 3600 s");
    assert_eq!(of_cluster(&found, &lost), [("stack", young), ("trustee", young)]);
    assert_eq!(found["found"].as_array().unwrap().len(), 2, "{found}");
    assert_eq!(found["unseen"], json!([]));
    let (code, said, _) = lab.magnumd(&["orphans", "clean", "--yes"]).await;
    assert!(code == 0 && said.contains("nothing to clean"), "{said}");
    let (code, _, complaint) = lab.magnumd(&["orphans", "clean", "--grace", "0"]).await;
    assert!(code == 1 && complaint.contains("--yes carries the plan out"), "{complaint}");
    assert_eq!(lab.cloud.count("stacks"), 2);

    let (code, said, complaint) = lab.magnumd(&["orphans", "clean", "--grace", "0", "--yes"]).await;
    assert_eq!(code, 0, "{said}{complaint}");
    assert!(said.contains(&format!("trustee {lost}_")), "{said}");
    for (kind, count) in ONE_CLUSTER {
        assert_eq!(lab.cloud.count(kind), count, "{kind}");
    }
    let (code, said, _) = lab.magnumd(&["orphans", "clean", "--grace", "0", "--yes"]).await;
    assert!(code == 0 && said.contains("nothing to clean"), "{said}");
    let (status, cluster) = daemon.get(&demo, &format!("/v1/clusters/{kept}")).await;
    assert_eq!((status, &cluster["status"]), (StatusCode::OK, &json!("CREATE_COMPLETE")));

    // Somebody deletes the stack of a cluster that we know.
    let (url, _) = lab.stack(&demo, &cluster).await;
    let (status, body) = lab.cloud_call(Method::DELETE, &url, &demo, None).await;
    assert_eq!(status, StatusCode::NO_CONTENT, "{body}");
    while lab.cloud.count("stacks") > 0 {
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    let found = orphans(&lab).await;
    let [("record", Some(why))] = of_cluster(&found, &kept)[..] else { panic!("{found}") };
    assert!(why.contains("its owner must delete the cluster"), "{why}");
    deleted(&lab, daemon, &demo, &kept).await;
}

/// Turns one bit in the record of a cluster.
fn spoil(lab: &Lab, uuid: &str) {
    let table: redb::TableDefinition<'_, &[u8], &[u8]> = redb::TableDefinition::new("cluster");
    let key = uuid::Uuid::parse_str(uuid).unwrap();
    let database = redb::Database::open(lab.state()).unwrap();
    let write = database.begin_write().unwrap();
    {
        let mut open = write.open_table(table).unwrap();
        let mut value = open.get(key.as_bytes().as_slice()).unwrap().unwrap().value().to_vec();
        value[40] ^= 1;
        open.insert(key.as_bytes().as_slice(), value.as_slice()).unwrap();
    }
    write.commit().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_cluster_has_that_cannot_be_read_is_nobodys_orphan_until_its_record_is_deleted() {
    let lab = Lab::new().await;
    let demo = lab.token("demo").await;
    let daemon = lab.daemon().await;
    let kept = complete(&daemon, &demo, "k1").await;
    let bad = complete(&daemon, &demo, "k2").await;
    daemon.end().await;
    spoil(&lab, &bad);
    let daemon = lab.daemon().await;
    let (status, list) = daemon.get(&demo, "/v1/clusters").await;
    assert_eq!(status, StatusCode::OK, "{list}");
    assert_eq!(list["clusters"].as_array().unwrap().len(), 1, "{list}");
    assert_eq!(list["clusters"][0]["uuid"], kept.as_str());

    let found = orphans(&lab).await;
    assert_eq!(found["found"], json!([]), "its stack is in use");
    let unseen = found["unseen"].to_string();
    assert!(unseen.contains(&bad) && unseen.contains("magnumd damage list"), "{unseen}");
    let (code, said, _) = lab.magnumd(&["orphans", "clean", "--grace", "0", "--yes"]).await;
    assert!(code == 0 && said.contains("nothing to clean"), "{said}");
    assert_eq!(lab.cloud.count("stacks"), 2);

    let (code, said, complaint) =
        lab.magnumd(&["damage", "delete", "cluster", &bad, "--yes"]).await;
    assert!(code == 0 && said.contains("magnumd orphans list"), "{said}{complaint}");
    let (code, said, complaint) = lab.magnumd(&["verify"]).await;
    assert!(code == 0 && said.contains("all in order"), "{said}{complaint}");
    let (code, said, complaint) = lab.magnumd(&["orphans", "clean", "--grace", "0", "--yes"]).await;
    assert_eq!(code, 0, "{said}{complaint}");
    for (kind, count) in ONE_CLUSTER {
        assert_eq!(lab.cloud.count(kind), count, "{kind}");
    }
    deleted(&lab, daemon, &demo, &kept).await;
}

/// Kubernetes asks for load balancers with the tenant's trust; they outlive the cluster's record,
/// and their ports hold on to its network.
#[tokio::test(flavor = "multi_thread")]
async fn load_balancers_go_first_and_nobody_else_s() {
    let mut lab = Lab::new().await;
    lab.cloud.open_octavia().await.unwrap();
    let demo = lab.token("demo").await;
    let daemon = lab.daemon().await;
    let kept = complete(&daemon, &demo, "k1").await;
    let file = back_up(&lab).await;
    let lost = complete(&daemon, &demo, "k2").await;
    let subnets = format!("{}/v2.0/subnets", lab.cloud.endpoint("network"));
    let (_, body) = lab.cloud_call(Method::GET, &subnets, &demo, None).await;
    let subnet_of = |cluster: &str| {
        let subnets = body["subnets"].as_array().unwrap().iter();
        // The letters that were drawn for another one may hold this one's name.
        let beginning = format!("{cluster}-");
        let mut own = subnets.filter(|s| s["name"].as_str().unwrap().starts_with(&beginning));
        own.next().unwrap_or_else(|| panic!("{body}"))["id"].as_str().unwrap().to_owned()
    };
    let balancers = format!("{}/v2.0/lbaas/loadbalancers", lab.cloud.endpoint("load-balancer"));
    let nobody = "00000000-0000-4000-8000-000000000000";
    for (cluster, name) in [(kept.as_str(), "k1"), (&lost, "k2"), (nobody, "k2")] {
        let asked = json!({"loadbalancer": {
            "name": format!("kube_service_{cluster}_default_web"), "vip_subnet_id": subnet_of(name),
            "description": format!("Kubernetes external service default/web from cluster {cluster}"),
        }});
        let (status, body) = lab.cloud_call(Method::POST, &balancers, &demo, Some(asked)).await;
        assert_eq!(status, StatusCode::CREATED, "{body}");
    }
    let daemon = go_back(&lab, daemon, &file).await;
    let found = orphans(&lab).await;
    let kinds: Vec<&str> = of_cluster(&found, &lost).into_iter().map(|(kind, _)| kind).collect();
    assert_eq!(kinds, ["load_balancer", "stack", "trustee"], "{found}");
    assert_eq!(of_cluster(&found, &kept), []);
    // Of a cluster that has no trustee of ours: somebody else's, as far as we know.
    let [("load_balancer", Some(why))] = of_cluster(&found, nobody)[..] else { panic!("{found}") };
    assert!(why.contains("it may be another magnumd's"), "{why}");

    // Octavia refuses once: what has been done is said, and the next run goes on.
    lab.cloud.inject("octavia:DELETE:*:status=500:times=1".parse().unwrap());
    let clean = ["orphans", "clean", "--grace", "0", "--yes"];
    let (code, said, complaint) = lab.magnumd(&clean).await;
    assert_eq!(code, 1, "{said}{complaint}");
    assert!(said.contains("stopped: Octavia") && said.contains("run it again"), "{said}");
    assert_eq!((lab.cloud.count("stacks"), lab.cloud.count("balancers")), (2, 3));
    let (code, said, complaint) = lab.magnumd(&clean).await;
    assert_eq!(code, 1, "the network is held by the balancer that is not ours: {said}{complaint}");
    assert!(said.contains("load balancer ") && said.contains("cannot be deleted"), "{said}");
    assert_eq!(lab.cloud.count("balancers"), 2);
    // Somebody who knows whose it is removes that one.
    let (_, body) = lab.cloud_call(Method::GET, &balancers, &demo, None).await;
    for balancer in body["loadbalancers"].as_array().unwrap() {
        if balancer["description"].as_str().unwrap().ends_with(nobody) {
            let url = format!("{balancers}/{}?cascade=true", balancer["id"].as_str().unwrap());
            let (status, body) = lab.cloud_call(Method::DELETE, &url, &demo, None).await;
            assert_eq!(status, StatusCode::NO_CONTENT, "{body}");
        }
    }
    while lab.cloud.count("balancers") > 1 {
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    let (code, said, complaint) = lab.magnumd(&clean).await;
    assert_eq!(code, 0, "{said}{complaint}");
    assert_eq!((lab.cloud.count("stacks"), lab.cloud.count("balancers")), (1, 1));
    let (_, body) = lab.cloud_call(Method::GET, &balancers, &demo, None).await;
    assert!(body["loadbalancers"][0]["description"].as_str().unwrap().ends_with(&kept), "{body}");
    daemon.end().await;
}

/// The network would not go while a port of a balancer is in it, and Heat would say so for ever.
#[tokio::test(flavor = "multi_thread")]
async fn what_services_asked_for_goes_with_their_cluster() {
    let mut lab = Lab::new().await;
    lab.cloud.open_octavia().await.unwrap();
    let demo = lab.token("demo").await;
    let daemon = lab.daemon().await;
    let cluster = complete(&daemon, &demo, "k1").await;
    let network = lab.cloud.endpoint("network");
    let look = async |what: &str| {
        let url = format!("{network}/v2.0/{what}");
        lab.cloud_call(Method::GET, &url, &demo, None).await.1
    };
    let subnets = look("subnets").await;
    let mut own = subnets["subnets"].as_array().unwrap().iter();
    let own = own.find(|s| s["name"].as_str().unwrap().starts_with("k1-")).unwrap();
    let balancers = format!("{}/v2.0/lbaas/loadbalancers", lab.cloud.endpoint("load-balancer"));
    let service = format!("Kubernetes external service default/web from cluster {cluster}");
    let asked = json!({"loadbalancer": {
        "name": "kube_service_web", "vip_subnet_id": own["id"], "description": service,
    }});
    let (status, body) = lab.cloud_call(Method::POST, &balancers, &demo, Some(asked)).await;
    assert_eq!(status, StatusCode::CREATED, "{body}");
    let outside = look("networks?router:external=True").await["networks"][0]["id"].clone();
    for description in [format!("Floating IP for {service}"), "the tenant's own".to_owned()] {
        let asked = json!({"floatingip": {
            "floating_network_id": outside, "description": description,
        }});
        let url = format!("{network}/v2.0/floatingips");
        let (status, body) = lab.cloud_call(Method::POST, &url, &demo, Some(asked)).await;
        assert_eq!(status, StatusCode::CREATED, "{body}");
    }
    // The first try is refused by a balancer that changes just now.
    lab.cloud.inject("octavia:DELETE:*:status=409:times=1".parse().unwrap());
    daemon.delete(&demo, &format!("/v1/clusters/{cluster}")).await;
    daemon.gone(&demo, &cluster).await;
    assert_eq!(lab.cloud.count("balancers"), 0);
    let left = look("floatingips").await;
    let left: Vec<&str> = left["floatingips"]
        .as_array()
        .unwrap()
        .iter()
        .map(|f| f["description"].as_str().unwrap())
        .collect();
    assert_eq!(left, ["the tenant's own"]);
    daemon.end().await;
}

/// As on a cloud with Heat's own policy, where nobody lists the stacks of all projects.
#[tokio::test(flavor = "multi_thread")]
async fn without_a_view_of_all_projects_trusts_lead_to_the_stacks() {
    let mut lab = Lab::new().await;
    let (demo, alt, admin) =
        (lab.token("demo").await, lab.token("alt").await, lab.token("admin").await);
    let identity = lab.cloud.identity_url();
    let find = async |kind: &str, name: &str| {
        let url = format!("{identity}/{kind}?name={name}");
        let (_, body) = lab.cloud_call(Method::GET, &url, &admin, None).await;
        body[kind][0]["id"].as_str().unwrap().to_owned()
    };
    let (project, user, role) = (
        find("projects", "service").await,
        find("users", "magnum").await,
        find("roles", "admin").await,
    );
    let url = format!("{identity}/projects/{project}/users/{user}/roles/{role}");
    let (status, body) = lab.cloud_call(Method::DELETE, &url, &admin, None).await;
    assert_eq!(status, StatusCode::NO_CONTENT, "{body}");

    // Nor does it see the ports and routers of projects, so nodes prove nothing by their addresses.
    lab.configure("[bootstrap]", "trusted_sources = ['127.0.0.0/8']");
    let daemon = lab.daemon().await;
    let known = complete(&daemon, &demo, "k1").await;
    let file = back_up(&lab).await;
    let beside = complete(&daemon, &demo, "k2").await;
    let alone = complete(&daemon, &alt, "k3").await;
    let daemon = go_back(&lab, daemon, &file).await;
    let found = orphans(&lab).await;
    assert_eq!(of_cluster(&found, &beside).len(), 2, "{found}");
    // Nobody on record is in that project: its stack shows when its trustee is cleaned.
    assert_eq!(of_cluster(&found, &alone), [("trustee", None)], "{found}");
    let unseen = found["unseen"][0].as_str().unwrap();
    assert!(unseen.contains("stacks:global_index"), "{unseen}");
    // Young, which shows as late as that.
    let (code, said, _) = lab.magnumd(&["orphans", "clean", "--yes"]).await;
    assert!(code == 1 && said.contains("left alone: its stack is younger"), "{said}");
    assert_eq!(lab.cloud.count("stacks"), 3);
    daemon.end().await;
    // Without a daemon, too.
    let (code, said, complaint) = lab.magnumd(&["orphans", "clean", "--grace", "0", "--yes"]).await;
    assert_eq!(code, 0, "{said}{complaint}");
    for (kind, count) in ONE_CLUSTER {
        assert_eq!(lab.cloud.count(kind), count, "{kind}");
    }
    let daemon = lab.daemon().await;
    deleted(&lab, daemon, &demo, &known).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_finds_its_stack_again() {
    let lab = Lab::new().await;
    let demo = lab.token("demo").await;
    let daemon = lab.daemon().await;
    let uuid = complete(&daemon, &demo, "k1").await;
    let (_, before) = daemon.get(&demo, &format!("/v1/clusters/{uuid}")).await;
    daemon.end().await;
    {
        let key: [u8; 32] =
            std::fs::read(lab.folder().join("sealing.key")).unwrap().try_into().unwrap();
        let store = Store::open(&lab.state(), Sealer::new(&key)).unwrap();
        let id = ClusterId::new(uuid.parse().unwrap());
        let mut cluster = store.read(|v| v.cluster(id)).unwrap().unwrap().record;
        cluster.stack_id = Some("nonsense".to_owned());
        let mut change = Change::new().put(&cluster);
        for group in store.read(|v| v.nodegroups(id)).unwrap() {
            let mut group = group.record;
            group.stack_id = None;
            change = change.put(&group);
        }
        store.commit(change).await.unwrap();
    }
    let (code, said, complaint) = lab.magnumd(&["cluster", "adopt", &uuid]).await;
    assert_eq!(code, 0, "{said}{complaint}");
    assert!(said.contains("on record was nonsense"), "{said}");
    let daemon = lab.daemon().await;
    let (_, after) = daemon.get(&demo, &format!("/v1/clusters/{uuid}")).await;
    assert_eq!(after["stack_id"], before["stack_id"]);
    let (code, said, _) = lab.magnumd(&["cluster", "adopt", &uuid]).await;
    assert!(code == 0 && said.contains("is on record"), "{said}");
    deleted(&lab, daemon, &demo, &uuid).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_credential_that_was_rotated_after_the_backup_is_renewed() {
    let lab = Lab::new().await;
    let demo = lab.token("demo").await;
    let daemon = lab.daemon().await;
    let uuid = complete(&daemon, &demo, "k1").await;
    let file = back_up(&lab).await;
    let path = format!("/v1/credentials/{uuid}");
    let (status, body) = daemon.ask(&demo, Method::PATCH, &path, None).await;
    assert!(status.is_success(), "{status} {body}");
    daemon.settled(&demo, &uuid).await;
    let daemon = go_back(&lab, daemon, &file).await;
    let (code, said, complaint) = lab.magnumd(&["cluster", "adopt", &uuid]).await;
    assert_eq!(code, 0, "{said}{complaint}");
    assert!(said.contains("has a new password"), "{said}");
    let (code, said, _) = lab.magnumd(&["verify"]).await;
    assert_eq!(code, 0, "{said}");
    deleted(&lab, daemon, &demo, &uuid).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stack_without_a_record_gets_one_that_can_be_shown_and_deleted() {
    let lab = Lab::new().await;
    let demo = lab.token("demo").await;
    let daemon = lab.daemon().await;
    let first = complete(&daemon, &demo, "first").await;
    daemon.delete(&demo, &format!("/v1/clusters/{first}")).await;
    daemon.gone(&demo, &first).await;
    let file = back_up(&lab).await;
    let uuid = complete(&daemon, &demo, "k1").await;
    let daemon = go_back(&lab, daemon, &file).await;
    let (code, said, complaint) = lab.magnumd(&["cluster", "adopt", &uuid]).await;
    assert!(code == 1 && said.contains("give --template"), "{said}{complaint}");
    let (code, _, complaint) =
        lab.magnumd(&["cluster", "adopt", &uuid, "--template", "other"]).await;
    assert!(code == 1 && complaint.contains("--template other: there is no"), "{complaint}");
    let (code, said, complaint) =
        lab.magnumd(&["cluster", "adopt", &uuid, "--template", "k8s"]).await;
    assert_eq!(code, 0, "{said}{complaint}");
    assert!(said.contains("its CA and keys are lost"), "{said}");
    let (status, cluster) = daemon.get(&demo, &format!("/v1/clusters/{uuid}")).await;
    assert_eq!(status, StatusCode::OK, "{cluster}");
    assert_eq!(cluster["status"], "ADOPT_COMPLETE");
    assert_eq!((&cluster["name"], &cluster["node_count"]), (&json!("k1"), &json!(2)));
    assert_eq!(cluster["master_count"], json!(1));
    cannot_change(&daemon, &demo, &uuid).await;
    let (code, said, _) = lab.magnumd(&["verify"]).await;
    assert_eq!(code, 0, "{said}");
    assert_eq!(of_cluster(&orphans(&lab).await, &uuid), []);
    let nobody = "00000000-0000-4000-8000-000000000000";
    let (code, _, complaint) = lab.magnumd(&["cluster", "adopt", nobody]).await;
    assert!(code == 1 && complaint.contains("nothing can be adopted"), "{complaint}");
    deleted(&lab, daemon, &demo, &uuid).await;
}

/// Every order that would build on what is lost is refused before anything is touched.
async fn cannot_change(daemon: &Running, token: &str, uuid: &str) {
    let cluster = format!("/v1/clusters/{uuid}");
    let (_, before) = daemon.get(token, &cluster).await;
    let count = json!([{"op": "replace", "path": "/node_count", "value": 3}]);
    let upgrade = json!({"cluster_template": "k8s"});
    let group = json!({"name": "more", "node_count": 1});
    let orders = [
        (Method::POST, format!("{cluster}/actions/resize"), Some(json!({"node_count": 3}))),
        (Method::PATCH, cluster.clone(), Some(count)),
        (Method::POST, format!("{cluster}/actions/upgrade"), Some(upgrade)),
        (Method::POST, format!("{cluster}/nodegroups"), Some(group)),
        (Method::PATCH, format!("/v1/certificates/{uuid}"), None),
        (Method::PATCH, format!("/v1/credentials/{uuid}"), None),
    ];
    for (method, path, body) in orders {
        let (status, answer) = daemon.ask(token, method.clone(), &path, body).await;
        assert_eq!(status, StatusCode::CONFLICT, "{method} {path}: {answer}");
        let said = answer.to_string();
        assert!(said.contains("move what runs there to a new cluster"), "{method} {path}: {said}");
    }
    let (_, after) = daemon.get(token, &cluster).await;
    assert_eq!(before, after);
}
