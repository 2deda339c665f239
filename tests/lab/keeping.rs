//! Backup, restore and their like through the binary, beside a daemon at work and without one.

use std::os::unix::fs::PermissionsExt;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use hyper::StatusCode;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::harness::{Lab, PATIENCE, Running, template};

/// Creates clusters in four lines at once; `made` has the uuid of each one that was answered.
fn create_many(daemon: &Arc<Running>, token: &str, made: &Arc<Mutex<Vec<String>>>) -> JoinSet<()> {
    let mut lines = JoinSet::new();
    for line in 0..4 {
        let (daemon, token, made) = (Arc::clone(daemon), token.to_owned(), Arc::clone(made));
        lines.spawn(async move {
            for n in 0..8 {
                let name = format!("k{line}-{n}");
                let asked = json!({"name": name, "cluster_template_id": "k8s", "node_count": 1});
                let (status, body) = daemon.post(&token, "/v1/clusters", asked).await;
                assert_eq!(status, StatusCode::ACCEPTED, "{body}");
                made.lock().unwrap().push(body["uuid"].as_str().unwrap().to_owned());
            }
        });
    }
    lines
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_under_load_has_every_acknowledged_cluster() {
    let mut lab = Lab::new().await;
    lab.configure("[quota]", "max_clusters_per_project = 1000");
    let demo = lab.token("demo").await;
    let daemon = Arc::new(lab.daemon().await);
    let (status, body) = daemon.post(&demo, "/v1/clustertemplates", template()).await;
    assert_eq!(status, StatusCode::CREATED, "{body}");
    let made = Arc::new(Mutex::new(Vec::new()));
    let mut lines = create_many(&daemon, &demo, &made);
    let began = Instant::now();
    while made.lock().unwrap().len() < 8 {
        assert!(began.elapsed() < PATIENCE);
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    let file = lab.folder().join("hot.backup");
    let path = file.to_str().unwrap();
    let acknowledged = made.lock().unwrap().clone();
    let (code, said, complaint) = lab.magnumd(&["backup", path, "--output", "json"]).await;
    assert_eq!(code, 0, "{complaint}");
    let said: Value = serde_json::from_str(&said).unwrap();
    let inside = said["backup"]["clusters"].as_u64().unwrap();
    assert!(inside >= acknowledged.len() as u64, "{said}");
    let mode = std::fs::metadata(&file).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let socket = std::fs::metadata(lab.folder().join("control.sock")).unwrap();
    assert_eq!(socket.permissions().mode() & 0o777, 0o600);
    let (code, said, complaint) = lab.magnumd(&["verify"]).await;
    assert!(code == 0 && said.contains("all in order"), "live: {said}{complaint}");
    while let Some(line) = lines.join_next().await {
        line.unwrap();
    }
    let (code, said, complaint) = lab.magnumd(&["verify", path]).await;
    assert!(code == 0 && said.contains("all in order"), "backup: {said}{complaint}");
    Arc::into_inner(daemon).unwrap().end().await;

    let place = tempfile::tempdir().unwrap();
    std::fs::copy(lab.folder().join("sealing.key"), place.path().join("sealing.key")).unwrap();
    let into = place.path().to_str().unwrap().to_owned();
    let (code, said, complaint) = lab.magnumd(&["restore", path, "--into", &into]).await;
    assert_eq!(code, 0, "{said}{complaint}");
    lab.move_state(place.path());
    let (code, said, complaint) = lab.magnumd(&["verify"]).await;
    assert!(code == 0 && said.contains("all in order"), "restored: {said}{complaint}");
    let daemon = lab.daemon().await;
    for uuid in &acknowledged {
        let (status, body) = daemon.get(&demo, &format!("/v1/clusters/{uuid}")).await;
        assert_eq!(status, StatusCode::OK, "{body}");
    }
    // Where each stood at the moment of the backup is where it goes on.
    let cluster = daemon.settled(&demo, &acknowledged[0]).await;
    assert_eq!(cluster["status"], "CREATE_COMPLETE", "{cluster}");
    let (_, list) = daemon.get(&demo, "/v1/clusters").await;
    assert_eq!(list["clusters"].as_array().unwrap().len() as u64, inside);
    daemon.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_must_not_be_is_refused_in_one_sentence() {
    let lab = Lab::new().await;
    let demo = lab.token("demo").await;
    let daemon = lab.daemon().await;
    let uuid = daemon.create(&demo, "k1").await;
    let file = lab.folder().join("b");
    let path = file.to_str().unwrap().to_owned();
    let (code, _, complaint) = lab.magnumd(&["backup", &path]).await;
    assert_eq!(code, 0, "{complaint}");
    let good = std::fs::read(&file).unwrap();
    let refused = async |arguments: &[&str], wanted: &str| {
        let (code, said, complaint) = lab.magnumd(arguments).await;
        assert_eq!(code, 1, "{arguments:?}: {said}{complaint}");
        assert!(complaint.contains(wanted), "{arguments:?}: {complaint}");
        assert_eq!(complaint.trim_end().lines().count(), 1, "{complaint}");
    };
    refused(&["backup", &path], "is there already; take another name, or give --force").await;
    assert_eq!(std::fs::read(&file).unwrap(), good);
    refused(&["restore", &path, "--force"], "a magnumd runs on").await;
    refused(&["compact"], "a magnumd runs on").await;
    let nowhere = lab.folder().join("no/such/folder/b");
    refused(&["backup", nowhere.to_str().unwrap()], "No such file").await;
    let (code, _, _) = lab.magnumd(&["backup", &path, "--force"]).await;
    assert_eq!(code, 0);
    daemon.end().await;
    assert!(!lab.folder().join("control.sock").exists());

    // It is closed when the last of the daemon's tasks has let go of it.
    let began = Instant::now();
    while lab.magnumd(&["compact"]).await.0 != 0 {
        assert!(began.elapsed() < PATIENCE);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let state = std::fs::read(lab.state()).unwrap();
    let cut = lab.folder().join("cut");
    std::fs::write(&cut, &good[..good.len() / 2]).unwrap();
    refused(&["restore", cut.to_str().unwrap(), "--force"], "is cut off").await;
    refused(&["verify", cut.to_str().unwrap()], "is cut off").await;
    let mut flipped = good.clone();
    flipped[good.len() / 2] ^= 4;
    for (what, bytes, wanted) in [
        ("flipped", flipped, "does not have the checksum that it was written with"),
        ("state", state.clone(), "is not a backup of magnumd, but a state file"),
        ("text", b"not at all".to_vec(), "is not a backup of magnumd"),
        ("empty", Vec::new(), "is not a backup of magnumd"),
    ] {
        let other = lab.folder().join(what);
        std::fs::write(&other, bytes).unwrap();
        refused(&["restore", other.to_str().unwrap(), "--force"], wanted).await;
        refused(&["verify", other.to_str().unwrap()], wanted).await;
    }
    let key = lab.folder().join("other.key");
    std::fs::write(&key, [9; 32]).unwrap();
    let other = ["restore", &path, "--force", "--key", key.to_str().unwrap()];
    refused(&other, "was sealed with the key").await;
    refused(&other, "other.key").await;
    refused(&["restore", &path], "is there already; restore into an empty directory").await;
    assert_eq!(std::fs::read(lab.state()).unwrap(), state, "the old state is untouched");
    let drafts = std::fs::read_dir(lab.folder()).unwrap().map(|entry| entry.unwrap().file_name());
    let is_draft = |name: &std::ffi::OsString| {
        name.to_string_lossy().contains(".redb.") && name != "magnumd.redb.mark"
    };
    let drafts: Vec<_> = drafts.filter(is_draft).collect();
    assert!(drafts.is_empty(), "{drafts:?}");

    // The same verbs without a daemon.
    for verb in [&["verify"][..], &["compact"], &["backup", &path, "--force"], &["verify", &path]] {
        let (code, said, complaint) = lab.magnumd(verb).await;
        assert_eq!(code, 0, "{verb:?}: {said}{complaint}");
    }
    let (code, said, complaint) = lab.magnumd(&["restore", &path, "--force"]).await;
    assert!(code == 0 && said.contains("the former state is now"), "{said}{complaint}");
    let daemon = lab.daemon().await;
    assert_eq!(daemon.settled(&demo, &uuid).await["status"], "CREATE_COMPLETE");
    daemon.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_export_shows_no_secret_unless_asked_and_moves_to_another_key() {
    let mut lab = Lab::new().await;
    let demo = lab.token("demo").await;
    let daemon = lab.daemon().await;
    let uuid = daemon.create(&demo, "k1").await;
    assert_eq!(daemon.settled(&demo, &uuid).await["status"], "CREATE_COMPLETE");
    let (code, bare, complaint) = lab.magnumd(&["export", "--output", "json"]).await;
    assert_eq!(code, 0, "{complaint}");
    let lines: Vec<Value> = bare.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    assert_eq!(lines[0]["records"].as_u64().unwrap() as usize, lines.len() - 1);
    assert!(lines.iter().any(|l| l["record"]["name"] == "k1"));
    let keys: Vec<&Value> = lines.iter().filter(|l| l["table"] == "certificate").collect();
    assert!(keys.len() == 5 && keys.iter().all(|k| k["record"]["key"] == ""), "{keys:?}");
    let (code, plain, complaint) = lab.magnumd(&["export", "--with-secrets"]).await;
    assert_eq!(code, 0);
    assert!(complaint.contains("every private key and password in plain text"), "{complaint}");
    daemon.end().await;

    let place = tempfile::tempdir().unwrap();
    std::fs::write(place.path().join("sealing.key"), [9; 32]).unwrap();
    let file = lab.folder().join("export");
    let into = place.path().to_str().unwrap().to_owned();
    let import = ["import", file.to_str().unwrap(), "--into", &into];
    std::fs::write(&file, bare).unwrap();
    let (code, _, complaint) = lab.magnumd(&import).await;
    assert!(code == 1 && complaint.contains("export again with --with-secrets"), "{complaint}");
    std::fs::write(&file, plain).unwrap();
    let (code, _, complaint) = lab.magnumd(&import).await;
    assert_eq!(code, 0, "{complaint}");
    lab.move_state(place.path());
    let daemon = lab.daemon().await;
    daemon.delete(&demo, &format!("/v1/clusters/{uuid}")).await;
    daemon.gone(&demo, &uuid).await;
    assert_eq!(lab.cloud.leftovers(), Vec::<String>::new());
    daemon.end().await;
}
