//! Row 1. Threat: a record that nobody can read takes lists, stats and health from everybody. Actor:
//! a hostile member, with the largest bodies that any field takes; or a disk that turns a bit.
//! Target: nothing unreadable is ever written, a bad record is its owner's harm alone, it is named,
//! and an administrator can delete it.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use hyper::Method;
use redb::{ReadableDatabase, ReadableTable, TableDefinition};
use rustix::process::Signal;
use serde_json::{Map, Value, json};

use crate::process::{PATIENCE, Process, Site};

/// In the view of a cluster.
const COMPLETE: &str = r#""status":"CREATE_COMPLETE""#;

type Table = TableDefinition<'static, &'static [u8], &'static [u8]>;

/// The end of a verb on the site's state: code, output, complaint.
pub fn verb(site: &Site, words: &[&str]) -> (i32, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_magnumd"));
    let config = site.config().display().to_string();
    let output =
        command.args(words).args(["--config", &config]).env_remove("RUST_LOG").output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap_or(-1), text(output.stdout), text(output.stderr))
}

pub async fn stop(mut magnumd: Process) {
    magnumd.signal(Signal::TERM);
    assert_eq!(magnumd.wait(), 0, "{}", magnumd.log());
}

pub fn state(site: &Site) -> PathBuf {
    site.state().join("magnumd.redb")
}

/// The record whose bytes hold `word`: key and value.
fn holder(database: &redb::Database, table: &'static str, word: &str) -> (Vec<u8>, Vec<u8>) {
    let definition: Table = TableDefinition::new(table);
    let read = database.begin_read().unwrap();
    let open = read.open_table(definition).unwrap();
    let all = open.iter().unwrap().map(|entry| {
        let (key, value) = entry.unwrap();
        (key.value().to_vec(), value.value().to_vec())
    });
    let holds = |v: &[u8]| v.windows(word.len()).any(|window| window == word.as_bytes());
    all.into_iter().find(|(_, value)| holds(value)).unwrap()
}

/// Turns one bit in the record whose bytes hold `word`; answers its key.
pub fn turn_a_bit(state: &Path, table: &'static str, word: &str) -> Vec<u8> {
    let definition: Table = TableDefinition::new(table);
    let database = redb::Database::open(state).unwrap();
    let (key, mut value) = holder(&database, table, word);
    let at = value.windows(word.len()).position(|window| window == word.as_bytes()).unwrap();
    value[at] ^= 1;
    let write = database.begin_write().unwrap();
    write.open_table(definition).unwrap().insert(key.as_slice(), value.as_slice()).unwrap();
    write.commit().unwrap();
    key
}

/// A refusal that names the field and says how much is taken.
fn refused(answer: &magnumd::base::http::client::Answer, words: &[&str]) {
    let body = String::from_utf8(answer.body.to_vec()).unwrap();
    assert_eq!(answer.status.as_u16(), 400, "{body}");
    for word in words {
        assert!(body.contains(word), "{word}: {body}");
    }
    assert!(body.len() < 2000, "what was too long is not repeated");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_too_large_to_be_read_again_is_refused_at_every_door_with_its_size() {
    let site = Site::new().await;
    let magnumd = site.start(site.command()).await;
    let token = site.token().await;
    let long = |bytes: usize| json!({"padding": "x".repeat(bytes)});
    let tiny: Map<String, Value> = (0..60_000).map(|n| (n.to_string(), json!("x"))).collect();
    let tiny = Value::Object(tiny);
    let limit = "at most 65536 are kept";
    refused(
        &magnumd.add_template(&token, "huge", &long(600_000)).await,
        &["labels", "600007", limit],
    );
    refused(
        &magnumd.add_template(&token, "many", &tiny).await,
        &["labels", "60000 entries", "at most 512 are kept"],
    );
    assert_eq!(magnumd.add_template(&token, "half", &long(40_000)).await.status.as_u16(), 201);
    let cluster = |labels: &Value| {
        json!({"name": "k1", "cluster_template_id": "half", "node_count": 1,
               "labels": labels, "merge_labels": true})
    };
    let ask = async |method: Method, path: &str, body: &Value| {
        magnumd.ask(method, path, &token, Some(body)).await
    };
    let merged = json!({"other": "x".repeat(40_000)});
    let answer = ask(Method::POST, "/v1/clusters", &cluster(&merged)).await;
    refused(&answer, &["labels", "2 entries, 80012 bytes", limit]);
    let answer = ask(Method::POST, "/v1/clusters", &cluster(&json!({"kube_tag": "v1.31.1"}))).await;
    assert_eq!(answer.status.as_u16(), 202, "{:?}", answer.body);
    let made: Value = serde_json::from_slice(&answer.body).unwrap();
    let path = format!("/v1/clusters/{}", made["uuid"].as_str().unwrap());
    for (reason, words) in [
        (long(600_000), ["health_status_reason", "600007", limit]),
        (tiny.clone(), ["health_status_reason", "60000", "at most 512 are kept"]),
    ] {
        let patch = json!([{"op": "replace", "path": "/health_status_reason", "value": reason}]);
        let answer = ask(Method::PATCH, &path, &patch).await;
        refused(&answer, &words);
    }
    let patch = json!([{"op": "replace", "path": "/labels", "value": long(600_000)}]);
    let (_, list) = magnumd.get("/v1/clustertemplates", &token).await;
    let list: Value = serde_json::from_str(&list).unwrap();
    let template = list["clustertemplates"][0]["uuid"].as_str().unwrap();
    let template = format!("/v1/clustertemplates/{template}");
    refused(&ask(Method::PATCH, &template, &patch).await, &["labels", limit]);
    for name in ["name", "tags", "no_proxy", "http_proxy", "flavor_id", "dns_nameserver"] {
        let patch =
            json!([{"op": "replace", "path": format!("/{name}"), "value": "x".repeat(600_000)}]);
        let words = [name, "maximum character requirement of 255"];
        refused(&ask(Method::PATCH, &template, &patch).await, &words);
    }
    // Everybody's lists go on.
    for path in ["/v1/clusters/detail", "/v1/clustertemplates/detail", "/v1/stats", "/readyz"] {
        let (status, body) = magnumd.get(path, &token).await;
        assert_eq!(status, 200, "{path}: {body}");
    }
    assert_eq!(verb(&site, &["verify"]).0, 0);
    stop(magnumd).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_record_is_shown_and_deleted_while_magnumd_serves_all_others() {
    let site = Site::new().await;
    let magnumd = site.start(site.command()).await;
    let token = site.token().await;
    for name in ["first", "spoiled", "third"] {
        let labels = json!({"marker": name});
        assert_eq!(magnumd.add_template(&token, name, &labels).await.status.as_u16(), 201);
    }
    assert_eq!(magnumd.get("/readyz", "").await, (200, "ok\n".to_owned()));
    stop(magnumd).await;
    let key = turn_a_bit(&state(&site), "cluster_template", "marker\u{7}spoiled");
    let uuid = uuid::Uuid::from_slice(&key).unwrap().to_string();

    let magnumd = site.start(site.command()).await;
    magnumd.says("an entry of the state is damaged and is left out").await;
    let (status, list) = magnumd.get("/v1/clustertemplates", &token).await;
    assert_eq!(status, 200, "{list}");
    assert!(
        list.contains("first") && list.contains("third") && !list.contains("spoiled"),
        "{list}"
    );
    for _ in 0..3 {
        assert_eq!(magnumd.get("/v1/clustertemplates/detail", &token).await.0, 200);
    }
    assert_eq!(magnumd.log().matches("is damaged and is left out").count(), 1, "told once");
    let path = format!("/v1/clustertemplates/{uuid}");
    let (status, own) = magnumd.get(&path, &token).await;
    assert_eq!(status, 404);
    assert!(own.contains("could not be found: its record is damaged. Create another"), "{own}");
    assert_eq!(magnumd.ask(Method::DELETE, &path, &token, None).await.status.as_u16(), 404);
    // A namesake is made, shown and deleted by that name, and the other stays what it is.
    let named = "/v1/clustertemplates/spoiled";
    assert_eq!(magnumd.get(named, &token).await.0, 404);
    let made = magnumd.add_template(&token, "spoiled", &json!({})).await;
    assert_eq!(made.status.as_u16(), 201);
    assert_eq!(magnumd.get(named, &token).await.0, 200);
    assert_eq!(magnumd.ask(Method::DELETE, named, &token, None).await.status.as_u16(), 204);
    assert_eq!(magnumd.get(named, &token).await.0, 404);
    let admin = site.token_of("admin", "admin").await;
    let (status, shown) = magnumd.get(&path, &admin).await;
    assert_eq!(status, 500);
    assert!(shown.contains("is damaged and cannot be read; others are not concerned"), "{shown}");
    let (status, ready) = magnumd.get("/readyz", "").await;
    assert_eq!(status, 200, "load balancers go on: {ready}");
    let told = format!("[!] records: degraded: a record cannot be read: cluster_template {uuid}");
    assert!(ready.contains(&told), "{ready}");
    assert_eq!(magnumd.get("/livez", "").await, (200, "ok\n".to_owned()));
    assert!(magnumd.get("/metrics", "").await.1.contains("magnumd_state_damaged_records 1\n"));

    let (code, said, complaint) = verb(&site, &["verify"]);
    assert_eq!(code, 1, "{complaint}");
    let cure = format!("cure: magnumd damage delete cluster_template {uuid}: it forgets");
    assert!(said.contains(&cure) && said.contains(": 1 finding"), "{said}");
    let (code, said, _) = verb(&site, &["damage", "list"]);
    assert_eq!(code, 1);
    assert!(
        said.contains(&uuid) && said.contains("text in it: ") && said.contains("flannel"),
        "{said}"
    );
    let (code, export, _) = verb(&site, &["export"]);
    assert_eq!(code, 0);
    assert!(
        export.lines().next().unwrap().contains(&format!("cluster_template {uuid}")),
        "{export}"
    );

    let first: Value =
        serde_json::from_str(&magnumd.get("/v1/clustertemplates/first", &token).await.1).unwrap();
    let good = first["uuid"].as_str().unwrap();
    let delete = |key: &str| verb(&site, &["damage", "delete", "cluster_template", key, "--yes"]);
    let (code, _, complaint) = delete(good);
    assert!(code == 1 && complaint.contains("is not a record that cannot be read"), "{complaint}");
    let (code, said, complaint) = verb(&site, &["damage", "delete", "cluster_template", &uuid]);
    assert!(code == 1 && complaint.contains("nothing was deleted; --yes"), "{said}{complaint}");
    let (code, said, complaint) = delete(&uuid);
    assert!(code == 0 && said.contains("deleted"), "{said}{complaint}");
    assert_eq!(magnumd.get("/readyz", "").await, (200, "ok\n".to_owned()));
    assert_eq!(magnumd.get("/v1/clustertemplates/first", &token).await.0, 200);
    assert_eq!(magnumd.get(&format!("/v1/clustertemplates/{uuid}"), &token).await.0, 404);
    let (code, said, _) = verb(&site, &["verify"]);
    assert!(code == 0 && said.contains("all in order"), "{said}");
    stop(magnumd).await;

    // The same by an administrator's request.
    let key = turn_a_bit(&state(&site), "cluster_template", "marker\u{5}first");
    let path = format!("/v1/clustertemplates/{}", uuid::Uuid::from_slice(&key).unwrap());
    let magnumd = site.start(site.command()).await;
    assert_eq!(magnumd.ask(Method::DELETE, &path, &token, None).await.status.as_u16(), 404);
    let (one, two) = tokio::join!(
        magnumd.ask(Method::DELETE, &path, &admin, None),
        magnumd.ask(Method::DELETE, &path, &admin, None),
    );
    let mut both = [one.status.as_u16(), two.status.as_u16()];
    both.sort_unstable();
    assert_eq!(both[0], 204, "{both:?}");
    assert!([204, 404].contains(&both[1]), "{both:?}");
    assert_eq!(magnumd.get(&path, &admin).await.0, 404);
    assert_eq!(magnumd.get("/readyz", "").await, (200, "ok\n".to_owned()));
    stop(magnumd).await;

    // The same without a daemon.
    let key = turn_a_bit(&state(&site), "cluster_template", "marker\u{5}third");
    let uuid = uuid::Uuid::from_slice(&key).unwrap().to_string();
    let (code, said, _) = verb(&site, &["damage", "list", "--output", "json"]);
    assert!(code == 1 && said.contains(&uuid), "{said}");
    assert_eq!(verb(&site, &["damage", "delete", "cluster_template", &uuid, "--yes"]).0, 0);
    let (code, said, _) = verb(&site, &["damage", "list"]);
    assert!(code == 0 && said.contains("every record can be read"), "{said}");
    assert_eq!(verb(&site, &["verify"]).0, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_template_or_driver_leaves_its_clusters_alone_and_others_learn_nothing_of_it() {
    let site = Site::new().await;
    let magnumd = site.start(site.command()).await;
    let (token, other) = (site.token().await, site.token_of("alt", "alt").await);
    let ask = async |magnumd: &Process, method: Method, path: &str, body: &Value| {
        let answer = magnumd.ask(method, path, &token, Some(body)).await;
        (answer.status.as_u16(), String::from_utf8(answer.body.to_vec()).unwrap())
    };
    let create = |name: &str, template: &str| json!({"name": name, "cluster_template_id": template, "node_count": 1, "master_count": 1});
    for name in ["sound", "spoiled"] {
        let made = magnumd.add_template(&token, name, &json!({"marker": name})).await;
        assert_eq!(made.status.as_u16(), 201);
    }
    let (status, made) =
        ask(&magnumd, Method::POST, "/v1/clusters", &create("k1", "spoiled")).await;
    assert_eq!(status, 202, "{made}");
    let made: Value = serde_json::from_str(&made).unwrap();
    let uuid = made["uuid"].as_str().unwrap().to_owned();
    let path = format!("/v1/clusters/{uuid}");
    let show = async |magnumd: &Process, token: &str| magnumd.get(&path, token).await;
    let complete = async |magnumd: &Process| {
        let began = Instant::now();
        while !show(magnumd, &token).await.1.contains(COMPLETE) {
            assert!(began.elapsed() < PATIENCE, "{}", show(magnumd, &token).await.1);
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    complete(&magnumd).await;
    stop(magnumd).await;

    // Its template cannot be read, nor the files of the driver.
    let template = turn_a_bit(&state(&site), "cluster_template", "marker\u{7}spoiled");
    let template = uuid::Uuid::from_slice(&template).unwrap();
    turn_a_bit(&state(&site), "driver", "magnumd-bootstrap");
    let magnumd = site.start(site.command()).await;
    let (status, shown) = show(&magnumd, &token).await;
    assert!(status == 200 && shown.contains(&template.to_string()), "{shown}");
    let (status, list) = magnumd.get("/v1/clusters/detail", &token).await;
    assert!(status == 200 && list.contains(&uuid), "{list}");
    let resize = json!([{"op": "replace", "path": "/node_count", "value": 2}]);
    let cause = format!("Cluster template {template} of cluster k1 is missing or damaged");
    let worker = format!("{path}/nodegroups/default-worker");
    let taint = json!([{"op": "add", "path": "/node_labels", "value": {"a": "b"}}]);
    for (method, path, body) in [
        (Method::PATCH, path.clone(), resize),
        (Method::POST, format!("{path}/actions/resize"), json!({"node_count": 2})),
        (Method::POST, format!("{path}/actions/upgrade"), json!({"cluster_template": "sound"})),
        (Method::POST, format!("{path}/nodegroups"), json!({"name": "more"})),
        (Method::PATCH, worker, taint),
        (Method::PATCH, format!("/v1/certificates/{uuid}"), json!({})),
        (Method::PATCH, format!("/v1/credentials/{uuid}"), json!({})),
    ] {
        let answer = magnumd.ask_newest(method.clone(), &path, &token, Some(&body)).await;
        let (status, refusal) = (answer.status.as_u16(), String::from_utf8_lossy(&answer.body));
        assert!(status == 409 && refusal.contains(&cause), "{method} {path}: {status} {refusal}");
    }
    assert!(show(&magnumd, &token).await.1.contains(COMPLETE), "nothing was begun");
    // To another tenant it does not exist, as before.
    let foreign = format!("/v1/clustertemplates/{template}");
    assert_eq!(magnumd.get(&foreign, &other).await.0, 404);
    assert_eq!(magnumd.get(&foreign, &token).await.0, 404);
    // It has a cluster, so that not even an administrator deletes it.
    let admin = site.token_of("admin", "admin").await;
    let answer = magnumd.ask(Method::DELETE, &foreign, &admin, None).await;
    assert_eq!(answer.status.as_u16(), 400, "{answer:?}");
    let listed = magnumd.get(&format!("/v1/clustertemplates?marker={template}"), &other).await;
    assert!([200, 404].contains(&listed.0), "{}", listed.1);
    // Others are made of the driver's files, which are written anew.
    let (status, made) = ask(&magnumd, Method::POST, "/v1/clusters", &create("k2", "sound")).await;
    assert_eq!(status, 202, "{made}");
    let began = Instant::now();
    while !magnumd.get("/v1/clusters/k2", &token).await.1.contains(COMPLETE) {
        assert!(began.elapsed() < PATIENCE, "{}", magnumd.get("/v1/clusters/k2", &token).await.1);
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let (_, said, _) = verb(&site, &["verify"]);
    assert!(said.contains("1 finding") && said.contains("cluster_template"), "{said}");
    // And the one that has lost its template can be deleted.
    assert_eq!(magnumd.ask(Method::DELETE, &path, &token, None).await.status.as_u16(), 204);
    let began = Instant::now();
    while show(&magnumd, &token).await.0 != 404 {
        assert!(began.elapsed() < PATIENCE, "{}", show(&magnumd, &token).await.1);
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    stop(magnumd).await;

    // A cluster that cannot be read is its owner's harm; nobody else learns that it is there.
    let key = turn_a_bit(&state(&site), "cluster", "k2");
    let path = format!("/v1/clusters/{}", uuid::Uuid::from_slice(&key).unwrap());
    let magnumd = site.start(site.command()).await;
    assert_eq!(magnumd.get(&path, &other).await.0, 404);
    let (status, own) = magnumd.get(&path, &token).await;
    assert!(status == 500 && own.contains("is damaged and cannot be read"), "{own}");
    stop(magnumd).await;
}

/// Which files a cluster was made with is not known any more: with others its servers would be
/// built anew. An upgrade takes the present ones, and heals it.
#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_whose_driver_is_not_known_changes_only_by_an_upgrade() {
    let site = Site::new().await;
    let magnumd = site.start(site.command()).await;
    let token = site.token().await;
    for name in ["old", "new"] {
        let made = magnumd.add_template(&token, name, &json!({"marker": name})).await;
        assert_eq!(made.status.as_u16(), 201);
    }
    let body = json!({"name": "k1", "cluster_template_id": "old", "node_count": 1});
    let made = magnumd.ask(Method::POST, "/v1/clusters", &token, Some(&body)).await;
    assert_eq!(made.status.as_u16(), 202, "{made:?}");
    let made: Value = serde_json::from_slice(&made.body).unwrap();
    let uuid = made["uuid"].as_str().unwrap().to_owned();
    let path = format!("/v1/clusters/{uuid}");
    let until = async |magnumd: &Process, words: &str| {
        let began = Instant::now();
        loop {
            let (_, shown) = magnumd.get(&path, &token).await;
            if shown.contains(words) {
                return;
            }
            assert!(began.elapsed() < PATIENCE, "{shown}");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    until(&magnumd, COMPLETE).await;
    stop(magnumd).await;
    let (digest, _) = {
        let database = redb::Database::open(state(&site)).unwrap();
        holder(&database, "driver", "magnumd-bootstrap")
    };
    let digest = String::from_utf8_lossy(digest.get(..16).unwrap()).into_owned();
    turn_a_bit(&state(&site), "cluster_driver", &digest);

    let magnumd = site.start(site.command()).await;
    let cause = "which cluster k1 was made with, are missing or damaged";
    let worker = format!("{path}/nodegroups/default-worker");
    let upgrade =
        (Method::POST, format!("{path}/actions/upgrade"), json!({"cluster_template": "new"}));
    for (method, path, body) in [
        (Method::POST, format!("{path}/actions/resize"), json!({"node_count": 2})),
        (Method::POST, format!("{path}/nodegroups"), json!({"name": "more"})),
        (Method::PATCH, worker, json!([{"op": "replace", "path": "/max_node_count", "value": 7}])),
        (Method::PATCH, format!("/v1/certificates/{uuid}"), json!({})),
        (Method::PATCH, format!("/v1/credentials/{uuid}"), json!({})),
    ] {
        let answer = magnumd.ask_newest(method.clone(), &path, &token, Some(&body)).await;
        let (status, refusal) = (answer.status.as_u16(), String::from_utf8_lossy(&answer.body));
        assert!(status == 409 && refusal.contains(cause), "{method} {path}: {status} {refusal}");
    }
    until(&magnumd, COMPLETE).await;
    let (method, to, body) = upgrade;
    let answer = magnumd.ask_newest(method, &to, &token, Some(&body)).await;
    assert_eq!(answer.status.as_u16(), 202, "{answer:?}");
    until(&magnumd, r#""status":"UPDATE_COMPLETE""#).await;
    let (_, said, _) = verb(&site, &["verify"]);
    assert!(said.contains("all in order"), "{said}");
    assert_eq!(magnumd.ask(Method::DELETE, &path, &token, None).await.status.as_u16(), 204);
    let began = Instant::now();
    while magnumd.get(&path, &token).await.0 != 404 {
        assert!(began.elapsed() < PATIENCE, "{}", magnumd.get(&path, &token).await.1);
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    stop(magnumd).await;
}
