//! An operator's own driver: added, changed and taken away while clusters live on.

use std::fs;
use std::path::Path;

use hyper::{Method, StatusCode};
use serde_json::{Value, json};

use crate::harness::{Lab, Running};

const NAME: &str = "k8s_kubeadm_v1";

/// Puts the driver that comes with magnumd into the lab's folder for own ones, as an edition of
/// its own: its stacks say which.
fn edit(lab: &Lab, edition: &str) {
    let output = format!("\noutputs:\n  edition: {{value: {edition}}}\n");
    own(lab.folder(), "stack.yaml.tera", "\noutputs:\n", &output);
}

/// Puts the driver that comes with magnumd into `drivers` below a folder, as one that replaces it
/// and differs from it in one place.
pub fn own(folder: &Path, file: &str, from: &str, by: &str) {
    let builtin = Path::new(env!("CARGO_MANIFEST_DIR")).join("templates/k8s_kubeadm_v1");
    let to = folder.join("drivers/mine");
    copy(&builtin, &to);
    let change = |file: &str, from: &str, by: &str| {
        let path = to.join(file);
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.contains(from), "{file}");
        fs::write(&path, text.replacen(from, by, 1)).unwrap();
    };
    change("driver.yaml", "name: k8s_kubeadm_v1", "name: mine_v1\nreplaces: k8s_kubeadm_v1");
    change(file, from, by);
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let target = to.join(path.file_name().unwrap());
        if path.is_dir() {
            copy(&path, &target);
        } else {
            fs::copy(&path, &target).unwrap();
        }
    }
}

async fn built(lab: &Lab, daemon: &Running, name: &str) -> (String, Value) {
    let token = lab.token("demo").await;
    let uuid = daemon.create(&token, name).await;
    let cluster = daemon.settled(&token, &uuid).await;
    assert_eq!(cluster["status"], "CREATE_COMPLETE", "{cluster}");
    (uuid, cluster)
}

async fn edition(lab: &Lab, token: &str, cluster: &Value) -> Value {
    let (_, stack) = lab.stack(token, cluster).await;
    let outputs = stack["outputs"].as_array().cloned().unwrap_or_default();
    let said = outputs.into_iter().find(|o| o["output_key"] == "edition");
    said.map(|o| o["output_value"].clone()).unwrap_or_default()
}

/// Records of drivers' files in the state, by a look at it from outside.
async fn kept(lab: &Lab) -> usize {
    let (code, lines, said) = lab.magnumd(&["export"]).await;
    assert_eq!(code, 0, "{said}");
    lines.lines().filter(|line| line.contains("\"table\":\"driver\"")).count()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_keeps_the_files_it_was_made_with() {
    let mut lab = Lab::new().await;
    lab.configure("[drivers]", "dir = 'drivers'");
    edit(&lab, "first");
    let daemon = lab.daemon().await;
    let token = lab.token("demo").await;
    let (old, cluster) = built(&lab, &daemon, "old").await;
    assert_eq!(edition(&lab, &token, &cluster).await, "first");
    daemon.end().await;

    fs::remove_dir_all(lab.folder().join("drivers/mine")).unwrap();
    edit(&lab, "second");
    let daemon = lab.daemon().await;
    daemon.resize(&token, &old, json!({"node_count": 3})).await;
    let grown = daemon.settled(&token, &old).await;
    assert_eq!(grown["status"], "UPDATE_COMPLETE", "{grown}");
    assert_eq!(edition(&lab, &token, &grown).await, "first", "made of what it was made of");
    let (new, cluster) = built(&lab, &daemon, "new").await;
    assert_eq!(edition(&lab, &token, &cluster).await, "second");

    // An upgrade moves it, to the same image too.
    let order = json!({"cluster_template": cluster["cluster_template_id"]});
    let path = format!("/v1/clusters/{old}/actions/upgrade");
    let (status, body) = daemon.ask(&token, Method::POST, &path, Some(order)).await;
    assert_eq!(status, StatusCode::ACCEPTED, "{body}");
    let upgraded = daemon.settled(&token, &old).await;
    assert_eq!(upgraded["status"], "UPDATE_COMPLETE", "{upgraded}");
    assert_eq!(edition(&lab, &token, &upgraded).await, "second");
    daemon.end().await;
    assert_eq!(kept(&lab).await, 2, "both are kept until somebody collects");

    // A driver that is gone still shrinks and deletes what was made with it.
    lab.configure("[drivers]", "disabled = ['mine_v1']");
    let daemon = lab.daemon().await;
    daemon.resize(&token, &old, json!({"node_count": 1})).await;
    let shrunk = daemon.settled(&token, &old).await;
    assert_eq!(shrunk["status"], "UPDATE_COMPLETE", "{shrunk}");
    assert_eq!(edition(&lab, &token, &shrunk).await, "second");
    for uuid in [&old, &new] {
        daemon.delete(&token, &format!("/v1/clusters/{uuid}")).await;
        daemon.gone(&token, uuid).await;
    }
    daemon.end().await;
    assert_eq!(kept(&lab).await, 0);
    let (code, said, _) = lab.magnumd(&["verify"]).await;
    assert_eq!(code, 0, "{said}");
    assert_eq!(lab.cloud.leftovers(), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn drivers_that_clash_keep_the_daemon_from_starting_and_check_says_why() {
    let mut lab = Lab::new().await;
    lab.configure("[drivers]", "dir = 'drivers'");
    edit(&lab, "first");
    let manifest = lab.folder().join("drivers/mine/driver.yaml");
    let text = fs::read_to_string(&manifest).unwrap();
    fs::write(&manifest, text.replace("replaces: k8s_kubeadm_v1\n", "")).unwrap();
    let (code, _, said) = lab.magnumd(&["check"]).await;
    assert_eq!(code, 78, "{said}");
    assert!(said.contains("(vm, ubuntu, kubernetes) is what driver"), "{said}");
    let error = lab.try_daemon(Default::default()).await.err().unwrap().to_string();
    assert!(error.contains("write replaces: k8s_kubeadm_v1"), "{error}");
}

/// `magnumd driver …`: its exit code, and what it has written to either stream.
fn run_driver(arguments: &[&str]) -> (i32, String, String) {
    let done = std::process::Command::new(env!("CARGO_BIN_EXE_magnumd"))
        .arg("driver")
        .args(arguments)
        .output()
        .unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (done.status.code().unwrap(), text(done.stdout), text(done.stderr))
}

/// The verbs need no configuration and no cloud.
#[test]
fn drivers_are_listed_shown_linted_and_rendered() {
    let run = run_driver;
    let own = Path::new(env!("CARGO_MANIFEST_DIR")).join("templates/k8s_kubeadm_v1");
    let own = own.to_str().unwrap();
    let (code, text, _) = run(&["list"]);
    assert!(code == 0 && text.contains("k8s_kubeadm_v1 1.0.0: "), "{text}");
    let (code, text, _) = run(&["list", "--output", "json"]);
    let all: Value = serde_json::from_str(&text).unwrap();
    assert!(code == 0 && all.as_array().unwrap().iter().any(|d| d["name"] == "k8s_kubeadm_v1"));
    let (code, text, _) = run(&["show", "k8s_kubeadm_v1"]);
    assert_eq!(code, 0);
    let row = text.lines().find(|l| l.starts_with("etcd_heartbeat_interval")).unwrap();
    for part in ["int", "250", "500", "How often etcd's leader"] {
        assert!(row.contains(part), "{row}");
    }
    let (code, text, said) = run(&["lint", own]);
    assert_eq!(code, 0, "{text}{said}");
    assert!(text.contains("0 errors, 0 warnings"), "{text}");
    let (code, text, _) = run(&["lint", own, "--output", "json"]);
    let report: Value = serde_json::from_str(&text).unwrap();
    assert!(code == 0 && report["samples"].as_array().unwrap().len() >= 4);
    let (code, _, said) = run(&["show", "nobody"]);
    assert!(code == 1 && said.contains("there is no driver nobody"), "{said}");

    let place = tempfile::tempdir().unwrap();
    let broken = place.path().join("broken");
    copy(Path::new(own), &broken);
    fs::write(broken.join("node.env.tera"), "A={{ node.nmae | sh }}\n").unwrap();
    let (code, text, _) = run(&["lint", broken.to_str().unwrap()]);
    assert_eq!(code, 1);
    assert!(text.contains("node.env.tera:1: node has no nmae; did you mean name?"), "{text}");

    let context = format!("{own}/tests/3+10.yaml");
    let out = place.path().join("out");
    let out = out.to_str().unwrap();
    let (code, text, said) =
        run(&["render", "k8s_kubeadm_v1", "--context", &context, "--out", out]);
    assert_eq!(code, 0, "{said}");
    assert!(text.contains("23 resources"), "{text}");
    for file in ["stack.yaml", "parameters.json", "user_data/master-2.yaml", "node/worker/env"] {
        assert!(Path::new(out).join(file).is_file(), "{file}");
    }
    use std::os::unix::fs::PermissionsExt;
    let key = fs::metadata(Path::new(out).join("node/master-0/pki/ca.key")).unwrap();
    assert_eq!(key.permissions().mode() & 0o777, 0o600);
    let (code, _, said) = run(&["render", own, "--context", &context, "--out", out]);
    assert!(code == 1 && said.contains("not empty"), "{said}");
}

/// An operator's driver that is magnumd's own but for one file, and one that is written out whole.
#[test]
fn a_driver_includes_another_and_an_exported_one_stands_alone() {
    let run = |arguments: &[&str]| {
        let (code, text, said) = run_driver(arguments);
        (code, text + &said)
    };
    let place = tempfile::tempdir().unwrap();
    let exported = place.path().join("exported");
    let (code, said) = run(&["export", NAME, "--out", exported.to_str().unwrap()]);
    assert!(code == 0 && said.contains(&format!("{NAME}: ")), "{said}");
    let manifest = fs::read_to_string(exported.join("driver.yaml")).unwrap();
    assert!(manifest.contains("\n# include: [common/"), "{manifest}");
    assert!(exported.join("claim.sh").is_file() && exported.join("tests/1+1.yaml").is_file());
    let (code, said) = run(&["lint", exported.to_str().unwrap()]);
    assert!(code == 0 && said.contains("0 errors"), "{said}");
    let (code, said) = run(&["export", NAME, "--out", exported.to_str().unwrap()]);
    assert!(code == 1 && said.contains("not empty"), "{said}");

    let folder = place.path().join("drivers");
    let mine = folder.join("mine");
    fs::create_dir_all(mine.join("bundle")).unwrap();
    fs::create_dir_all(folder.join("common/ours")).unwrap();
    fs::write(folder.join("common/ours/motd.sh"), "echo ours\n").unwrap();
    let head = format!("name: mine_v1\nreplaces: {NAME}\ninclude: [common/ours, {NAME}]\n");
    let own = manifest.replace(&format!("name: {NAME}\n"), &head);
    fs::write(mine.join("driver.yaml"), own).unwrap();
    fs::write(mine.join("bundle/bridge.yaml"), "kind: List\nmine: true\n").unwrap();
    copy(&exported.join("tests"), &mine.join("tests"));
    let (code, said) = run(&["lint", mine.to_str().unwrap()]);
    assert_eq!(code, 0, "{said}");
    let note = format!("bundle/bridge.yaml: it takes the place of the one of {NAME}");
    assert!(said.contains(&note) && said.contains("0 errors"), "{said}");
    let (code, said) = run(&["list", "--dir", folder.to_str().unwrap()]);
    assert!(code == 0 && said.contains("mine_v1") && !said.contains("ours"), "{said}");
    let again = place.path().join("again");
    let (code, said) = run(&["export", mine.to_str().unwrap(), "--out", again.to_str().unwrap()]);
    assert!(code == 0 && again.join("motd.sh").is_file(), "{said}");
    fs::write(mine.join("driver.yaml"), "include: [common/theirs]\n").unwrap();
    let (code, said) = run(&["lint", mine.to_str().unwrap()]);
    let wanted = "driver mine: driver.yaml:1: include: there is no directory common/theirs";
    assert!(code == 1 && said.contains(wanted), "{said}");
}
