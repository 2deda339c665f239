//! Row 8. Threat: a state that is not as it was written is served as if it were. Actor: a disk, a
//! copy that was cut off, an operator's mistake. Target: of 10 000 random flips and truncations none
//! changes an answer unseen and none starts in silence. The random ones are beside the store
//! (`src/store/tests/random.rs`, as many as `MAGNUMD_DAMAGE_TRIALS` says), because a process for each
//! of them would take hours; here is what an operator sees of each kind.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::process::{PATIENCE, Site};
use crate::records::{state, stop, verb};

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
async fn a_damaged_mark_and_a_state_that_is_gone_are_told() {
    let site = Site::new().await;
    let magnumd = site.start(site.command()).await;
    let token = site.token().await;
    assert_eq!(magnumd.add_template(&token, "k8s", &json!({})).await.status.as_u16(), 201);
    assert!(!magnumd.log().contains("begins with nothing"), "a first start: {}", magnumd.log());
    stop(magnumd).await;
    let mark = site.state().join("magnumd.redb.mark");
    let whole = std::fs::read(&mark).unwrap();
    let mut turned = whole.clone();
    let digit = whole.iter().rposition(|b| *b == b' ').unwrap() - 1;
    turned[digit] ^= 1;
    for (case, bytes) in [
        ("emptied", &[][..]),
        ("cut in half", &whole[..whole.len() / 2]),
        ("garbage", b"\xff\xfe"),
        ("a digit changed", &turned),
    ] {
        std::fs::write(&mark, bytes).unwrap();
        let (code, said, _) = verb(&site, &["verify"]);
        assert!(
            code == 1 && said.contains("mark : is damaged, or another state's"),
            "{case}: {said}"
        );
        let magnumd = site.start(site.command()).await;
        let told = "the mark beside the state is damaged";
        assert!(magnumd.log().contains(told), "{case}: {}", magnumd.log());
        let (code, said, _) = verb(&site, &["verify"]);
        assert!(code == 1 && said.contains("mark : is damaged"), "{case}: {said}");
        assert_eq!(magnumd.add_template(&token, case, &json!({})).await.status.as_u16(), 201);
        stop(magnumd).await;
        let (code, said, _) = verb(&site, &["verify"]);
        assert!(code == 0 && said.contains("all in order"), "{case}: {said}");
    }
    // A mark may be missing, and is there again at once.
    std::fs::remove_file(&mark).unwrap();
    for _ in 0..2 {
        let (code, said, _) = verb(&site, &["verify"]);
        assert!(code == 0 && said.contains("all in order"), "{said}");
    }
    std::fs::remove_file(&mark).unwrap();
    std::fs::remove_file(state(&site)).unwrap();
    let magnumd = site.start(site.command()).await;
    let log = magnumd.log();
    let line = log.lines().find(|line| line.contains("begins with nothing")).expect(&log);
    assert!(line.contains("WARN") && line.contains("magnumd restore FILE"), "{line}");
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
