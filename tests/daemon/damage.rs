//! Hostile sizes and damaged states: one tenant's record is nobody else's harm, and damage is seen.

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
fn verb(site: &Site, words: &[&str]) -> (i32, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_magnumd"));
    let config = site.config().display().to_string();
    let output =
        command.args(words).args(["--config", &config]).env_remove("RUST_LOG").output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap_or(-1), text(output.stdout), text(output.stderr))
}

async fn stop(mut magnumd: Process) {
    magnumd.signal(Signal::TERM);
    assert_eq!(magnumd.wait(), 0, "{}", magnumd.log());
}

fn state(site: &Site) -> PathBuf {
    site.state().join("magnumd.redb")
}

/// Turns one bit in the record whose bytes hold `word`; answers its key.
fn turn_a_bit(state: &Path, table: &'static str, word: &str) -> Vec<u8> {
    let definition: Table = TableDefinition::new(table);
    let database = redb::Database::open(state).unwrap();
    let (key, mut value) = {
        let read = database.begin_read().unwrap();
        let open = read.open_table(definition).unwrap();
        let all = open.iter().unwrap().map(|entry| {
            let (key, value) = entry.unwrap();
            (key.value().to_vec(), value.value().to_vec())
        });
        let holds = |v: &[u8]| v.windows(word.len()).any(|window| window == word.as_bytes());
        all.into_iter().find(|(_, value)| holds(value)).unwrap()
    };
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
    let (status, own) = magnumd.get(&format!("/v1/clustertemplates/{uuid}"), &token).await;
    assert_eq!(status, 500);
    assert!(own.contains("is damaged and cannot be read; others are not concerned"), "{own}");
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
    let (status, refusal) = ask(&magnumd, Method::PATCH, &path, &resize).await;
    let cause = format!("Cluster template {template} of cluster k1 is missing or damaged");
    assert!(status == 409 && refusal.contains(&cause), "{status} {refusal}");
    // To another tenant it does not exist, as before.
    let foreign = format!("/v1/clustertemplates/{template}");
    assert_eq!(magnumd.get(&foreign, &other).await.0, 404);
    assert_eq!(magnumd.get(&foreign, &token).await.0, 500);
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

#[tokio::test(flavor = "multi_thread")]
async fn a_state_that_is_not_as_it_was_written_is_never_served() {
    let site = Site::new().await;
    let magnumd = site.start(site.command()).await;
    let token = site.token().await;
    assert_eq!(magnumd.add_template(&token, "k8s", &json!({})).await.status.as_u16(), 201);
    stop(magnumd).await;
    let path = state(&site);
    let whole = std::fs::read(&path).unwrap();
    let mut turned = whole.clone();
    let label = turned.windows(7).position(|w| w == b"flannel").unwrap();
    turned[label] ^= 1;
    for (case, bytes) in [
        ("empty", &[][..]),
        ("cut short", &whole[..100]),
        ("cut in half", &whole[..whole.len() / 2]),
        ("one byte less", &whole[..whole.len() - 1]),
        ("a bit turned", &turned),
    ] {
        std::fs::write(&path, bytes).unwrap();
        let (code, log) = site.fails(site.command());
        assert_eq!(code, 65, "{case}: {log}");
        let last = log.lines().last().unwrap_or_default();
        assert!(last.contains("is damaged: ") && last.contains("magnumd restore --force"), "{log}");
        assert_eq!(std::fs::metadata(&path).unwrap().len(), bytes.len() as u64, "{case}");
        let (code, _, complaint) = verb(&site, &["verify"]);
        assert!(code == 65 && complaint.contains("is damaged: "), "{case}: {complaint}");
    }
    std::fs::write(&path, &whole).unwrap();
    let magnumd = site.start(site.command()).await;
    assert_eq!(magnumd.get("/v1/clustertemplates/k8s", &token).await.0, 200);
    stop(magnumd).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_is_spoiled_under_a_running_daemon_takes_it_out_of_service() {
    let site = Site::new().await;
    let mut magnumd = site.start(site.command()).await;
    let token = site.token().await;
    for n in 0..40 {
        let labels = json!({"padding": "x".repeat(20_000)});
        let made = magnumd.add_template(&token, &format!("t{n}"), &labels).await;
        assert_eq!(made.status.as_u16(), 201);
    }
    let mut bytes = std::fs::read(state(&site)).unwrap();
    bytes.iter_mut().skip(4096).for_each(|b| *b ^= 0x5a);
    // In place, as a disk spoils it: the daemon has this file open.
    let file = std::fs::OpenOptions::new().write(true).open(state(&site)).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&file, &bytes, 0).unwrap();
    let (code, said, complaint) = verb(&site, &["verify"]);
    assert_ne!(code, 0, "{said}{complaint}");
    let began = Instant::now();
    loop {
        let Ok(answer) = magnumd.try_get("/readyz").await else {
            assert_ne!(magnumd.wait(), 0, "{}", magnumd.log());
            break;
        };
        if answer.status.as_u16() == 503 {
            break;
        }
        assert!(began.elapsed() < PATIENCE, "{}", magnumd.log());
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert!(magnumd.log().contains("the state file is damaged"), "{}", magnumd.log());
}
