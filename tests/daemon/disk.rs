//! Disks that are full, or not ours to write to.
//!
//! Each disk is a small one in memory, in a mount namespace of the daemon's own; where the system
//! allows nobody to have one, these tests say so and do nothing.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::process::{PATIENCE, Process, Site};

/// `unshare` and a shell that prepares a disk at $1 as `prepare` says, then becomes the rest.
fn on_a_disk(site: &Site, prepare: &str) -> Option<Vec<String>> {
    let flags = if rustix::process::geteuid().is_root() { "-m" } else { "-rm" };
    let probe = ["-c", "mount -t tmpfs none /mnt"];
    let may = Command::new("unshare").args([flags, "sh"]).args(probe).output();
    if !may.is_ok_and(|o| o.status.success()) {
        eprintln!("no mount namespaces here: not tried");
        return None;
    }
    let script = format!("disk=$1; shift; {prepare} && exec \"$@\"");
    let disk = site.state().display().to_string();
    std::fs::create_dir(site.state()).unwrap();
    let words = ["unshare", flags, "sh", "-c", &script, "sh", &disk];
    Some(words.map(str::to_owned).to_vec())
}

fn words(wrapper: &[String]) -> Vec<&str> {
    wrapper.iter().map(String::as_str).collect()
}

/// The disk as the daemon sees it.
fn inside(magnumd: &Process, site: &Site) -> PathBuf {
    let state = site.state();
    PathBuf::from(format!("/proc/{}/root", magnumd.pid())).join(state.strip_prefix("/").unwrap())
}

/// Waits until a template can be made again.
async fn recovers(magnumd: &Process, token: &str, name: &str) {
    let began = Instant::now();
    while magnumd.add_template(token, name, &json!({})).await.status.as_u16() != 201 {
        assert!(began.elapsed() < Duration::from_secs(10), "{}", magnumd.log());
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let began = Instant::now();
    while magnumd.get("/readyz", "").await.0 != 200 {
        assert!(began.elapsed() < PATIENCE, "{}", magnumd.log());
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert!(magnumd.log().contains("the state file can be written again"), "{}", magnumd.log());
}

/// Reads are answered, writes are refused with a time to come back.
async fn only_reads(magnumd: &Process, token: &str, known: &str) {
    let refused = magnumd.add_template(token, "refused", &json!({})).await;
    assert_eq!(refused.status.as_u16(), 503, "{:?}", refused.body);
    assert!(refused.header("retry-after").is_some());
    let sentence = String::from_utf8(refused.body.to_vec()).unwrap();
    assert!(sentence.contains("write its state now; try again"), "{sentence}");
    let (status, list) = magnumd.get("/v1/clustertemplates", token).await;
    assert_eq!(status, 200, "{list}");
    assert!(list.contains(known) && !list.contains("refused"), "{list}");
    let (status, body) = magnumd.get("/readyz", "").await;
    assert_eq!(status, 503);
    assert!(body.contains("[-] state: the state cannot be written"), "{body}");
    assert_eq!(magnumd.get("/livez", "").await.0, 200);
    assert!(magnumd.get("/metrics", "").await.1.contains("magnumd_state_writable 0\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_costs_writes_only_and_only_while_it_is_full() {
    let site = Site::new().await;
    let Some(wrapper) = on_a_disk(&site, "mount -t tmpfs -o size=48m none \"$disk\"") else {
        return;
    };
    let mut magnumd = site.start(site.wrapped(&words(&wrapper))).await;
    let token = site.token().await;
    assert_eq!(magnumd.add_template(&token, "before", &json!({})).await.status.as_u16(), 201);
    let filler = inside(&magnumd, &site).join("filler");
    let mut file = File::create(&filler).unwrap();
    while file.write_all(&[0; 64 << 10]).is_ok() {}
    only_reads(&magnumd, &token, "before").await;
    std::fs::remove_file(&filler).unwrap();
    drop(file);
    recovers(&magnumd, &token, "after").await;
    magnumd.signal(rustix::process::Signal::TERM);
    assert_eq!(magnumd.wait(), 0);
}

/// Some disks are full for us alone: quotas say so when a write has begun, and the free space
/// that the system tells of is somebody else's. Here a limit on the size of files does the same.
#[tokio::test(flavor = "multi_thread")]
async fn a_write_that_fails_half_way_costs_no_read_and_is_made_good() {
    let site = Site::new().await;
    // Ignored from the start: the signal would end the process before the write's error is seen.
    let wrapper = ["sh", "-c", "trap '' XFSZ; exec \"$@\"", "sh"];
    let mut magnumd = site.start(site.wrapped(&wrapper)).await;
    let token = site.token().await;
    assert_eq!(magnumd.add_template(&token, "before", &json!({})).await.status.as_u16(), 201);
    let limit = |size: String| {
        let pid = magnumd.pid().to_string();
        let done =
            Command::new("prlimit").args(["--pid", &pid, &format!("--fsize={size}:")]).status();
        assert!(done.unwrap().success());
    };
    let length = std::fs::metadata(site.state().join("magnumd.redb")).unwrap().len();
    limit((length + (2 << 20)).to_string());
    let large = json!({"padding": "x".repeat(60_000)});
    let mut made = 0;
    loop {
        let name = format!("large-{made}");
        let answer = magnumd.add_template(&token, &name, &large).await;
        match answer.status.as_u16() {
            201 => made += 1,
            503 => break,
            status => panic!("{status}: {:?}", answer.body),
        }
        assert!(made < 900, "the file has not grown");
    }
    assert!(made > 0, "there was room for some");
    assert!(magnumd.log().contains("a commit has failed"), "{}", magnumd.log());
    // Several times: each failure opens the file anew.
    for _ in 0..3 {
        only_reads_while_growing(&magnumd, &token, &large).await;
        tokio::time::sleep(Duration::from_millis(1100)).await;
    }
    limit("unlimited".to_owned());
    recovers(&magnumd, &token, "after").await;
    magnumd.signal(rustix::process::Signal::TERM);
    assert_eq!(magnumd.wait(), 0);
    let again = site.start(site.command()).await;
    let (_, list) = again.get("/v1/clustertemplates", &token).await;
    assert_eq!(list.matches("\"name\":\"large-").count(), made, "all that was acknowledged");
}

/// Small changes may still fit; large ones do not.
async fn only_reads_while_growing(magnumd: &Process, token: &str, large: &serde_json::Value) {
    let refused = magnumd.add_template(token, "refused", large).await;
    assert_eq!(refused.status.as_u16(), 503, "{:?}", refused.body);
    assert!(refused.header("retry-after").is_some());
    let (status, list) = magnumd.get("/v1/clustertemplates", token).await;
    assert_eq!(status, 200, "{list}");
    assert!(list.contains("before") && !list.contains("\"refused\""), "{list}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_directory_that_cannot_be_written_is_named() {
    let site = Site::new().await;
    let prepare = "mount -t tmpfs -o ro none \"$disk\"";
    let Some(wrapper) = on_a_disk(&site, prepare) else { return };
    let (code, log) = site.fails(site.wrapped(&words(&wrapper)));
    assert_eq!(code, 74, "{log}");
    let last = log.lines().last().unwrap();
    assert!(last.contains("the state cannot be kept there: Read-only file system"), "{log}");
    assert!(last.contains("check storage.path"), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_there_is_shown_although_the_disk_was_full_from_the_start() {
    let site = Site::new().await;
    let mut magnumd = site.start(site.command()).await;
    let token = site.token().await;
    assert_eq!(magnumd.add_template(&token, "before", &json!({})).await.status.as_u16(), 201);
    magnumd.signal(rustix::process::Signal::TERM);
    assert_eq!(magnumd.wait(), 0);
    let kept = site.folder().join("kept");
    std::fs::rename(site.state(), &kept).unwrap();
    let prepare = format!(
        "mount -t tmpfs -o size=16m none \"$disk\" && cp -a {}/. \"$disk\" && \
         {{ head -c 16M /dev/zero >\"$disk/filler\"; true; }}",
        kept.display()
    );
    let Some(wrapper) = on_a_disk(&site, &prepare) else { return };
    let magnumd = site.start(site.wrapped(&words(&wrapper))).await;
    only_reads(&magnumd, &token, "before").await;
    let filler = inside(&magnumd, &site).join("filler");
    OpenOptions::new().write(true).truncate(true).open(&filler).unwrap();
    recovers(&magnumd, &token, "after").await;
}
