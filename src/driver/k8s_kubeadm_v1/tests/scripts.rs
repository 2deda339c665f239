//! The scripts: that a shell can read them, and that critics find nothing.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::*;

/// The bundle of a node as files below `folder`.
fn unpack(folder: &Path, plan: &ClusterPlan, index: Option<u32>) -> Vec<PathBuf> {
    let files = driver().node_files(plan, &node(plan, index)).unwrap();
    files
        .into_iter()
        .map(|file| {
            let path = folder.join(&file.path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, &file.content).unwrap();
            path
        })
        .collect()
}

fn is_script(path: &Path) -> bool {
    fs::read_to_string(path).unwrap().starts_with("#!/bin/bash")
        || path.extension().is_some_and(|e| e == "sh")
}

#[test]
fn bash_reads_every_script() {
    for plan in [plan(1, 1), everything(), nested()] {
        for index in [Some(0), None] {
            let folder = tempfile::tempdir().unwrap();
            let mut scripts = unpack(folder.path(), &plan, index);
            scripts.retain(|path| is_script(path) || path.ends_with("env"));
            assert!(scripts.len() >= 4);
            for script in scripts {
                let checked = Command::new("bash").arg("-n").arg(&script).output().unwrap();
                let complaint = String::from_utf8_lossy(&checked.stderr).into_owned();
                assert!(checked.status.success(), "{}: {complaint}", script.display());
            }
        }
    }
}

#[test]
fn shellcheck_finds_nothing() {
    let templates =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("templates").join(super::super::NAME);
    if Command::new("shellcheck").arg("--version").output().is_err() {
        eprintln!("skipped: shellcheck is not installed");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let mut scripts = unpack(folder.path(), &nested(), None);
    scripts.retain(|path| path.ends_with("magnumd-routes"));
    for source in [templates.clone(), templates.join("bundle")] {
        let found = fs::read_dir(source).unwrap().map(|entry| entry.unwrap().path());
        scripts.extend(found.filter(|path| path.extension().is_some_and(|e| e == "sh")));
    }
    assert!(scripts.len() >= 7, "{scripts:?}");
    let checked =
        Command::new("shellcheck").args(["-x", "-P", "SCRIPTDIR"]).args(&scripts).output().unwrap();
    assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stdout));
}

/// What a shell reads from a node's environment is what was put in, whatever it is.
#[test]
fn a_shell_reads_back_what_was_written() {
    let mut plan = plan(1, 1);
    plan.settings.bootstrap_url = r#"http://x/'$(touch /tmp/pwned)`id`"\ end"#.to_owned();
    let bundle = driver().bundle(&plan).unwrap();
    let data: serde_json::Value = serde_saphyr::from_str(&bundle.files["worker.yaml"]).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let env = folder.path().join("node.env");
    fs::write(&env, data["write_files"][0]["content"].as_str().unwrap()).unwrap();
    let read = Command::new("bash")
        .args(["-c", ". \"$0\"; printf %s \"$MAGNUMD_BOOTSTRAP_URL\""])
        .arg(&env)
        .output()
        .unwrap();
    assert_eq!(String::from_utf8(read.stdout).unwrap(), plan.settings.bootstrap_url);
}
