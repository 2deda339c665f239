//! A cloud in which nobody has heard of magnumd: set up, served, set up again, taken back.

use std::path::Path;

use magnumd::base::http::tls;
use magnumd::base::id::Entropy;
use magnumd::config::Config;
use magnumd::lab::{Fault, LabCloud, LabOptions};
use magnumd::openstack::Credentials;
use magnumd::preflight::{self, Parts, Scene, Verdict};
use magnumd::setup::{Action, Line, Names, Setup};
use tokio_util::sync::CancellationToken;

async fn bare_cloud() -> LabCloud {
    tls::install_provider();
    let options = LabOptions { speed: 10.0, ..LabOptions::default() };
    let cloud = LabCloud::start(options, CancellationToken::new()).await.unwrap();
    cloud.forget_magnum();
    cloud
}

fn credentials(cloud: &LabCloud, user: &str) -> Credentials {
    Credentials::of_clouds_yaml(&cloud.clouds_yaml(), user).unwrap()
}

fn names() -> Names {
    Names {
        user: "magnum".to_owned(),
        project: "service".to_owned(),
        domain: "magnum".to_owned(),
        region: "RegionOne".to_owned(),
        address: [127, 0, 0, 1].into(),
    }
}

async fn setup<'s>(admin: &'s Credentials, file: &'s Path, names: Names) -> Setup<'s> {
    Setup::log_in(admin, names, file, Entropy::new()).await.unwrap()
}

fn count(lines: &[Line], action: Action) -> usize {
    lines.iter().filter(|line| line.action == action).count()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bare_cloud_is_made_ready_and_bare_again() {
    let cloud = bare_cloud().await;
    let before = cloud.registered();
    let place = tempfile::tempdir().unwrap();
    let file = place.path().join("magnumd.toml");
    let admin = credentials(&cloud, "admin");
    let work = setup(&admin, &file, names()).await;
    let plan = work.plan().await.unwrap();
    assert_eq!(count(&plan.lines, Action::Create), 8, "{:?}", plan.lines);
    assert!(plan.changes() && !file.exists());
    assert_eq!(cloud.registered(), before, "a plan changes nothing");
    work.carry_out(&plan).await.unwrap();

    let ready = cloud.registered();
    let again = work.plan().await.unwrap();
    assert!(!again.changes(), "{:?}", again.lines);
    work.carry_out(&again).await.unwrap();
    assert_eq!(cloud.registered(), ready, "a second run changes nothing");

    // What preflight has to say of accounts and catalogue, with the configuration as written.
    let config = Config::load(&file).unwrap();
    let clock = cloud.clock();
    let (clients, driver_settings) = magnumd::daemon::preflight(&config, clock.clone()).unwrap();
    let scene = Scene::set(Parts {
        cloud: clients,
        config,
        drivers: magnumd::driver::Drivers::builtin(&[]),
        driver_settings,
        clock,
        entropy: Entropy::new(),
        guest: None,
        wanted: None,
    });
    let found = preflight::run(&scene.await.into(), preflight::DEADLINE).await;
    for check in ["keystone", "roles", "trustee-domain", "catalogue"] {
        let finding = found.iter().find(|f| f.check == check).unwrap();
        assert_eq!(finding.judgement.verdict, Verdict::Ok, "{finding:?}");
    }

    let removal = work.plan_removal().await.unwrap();
    assert_eq!(count(&removal, Action::Remove), removal.len(), "{removal:?}");
    work.remove().await.unwrap();
    assert_eq!(cloud.registered(), before, "exactly what was made is gone");
    assert!(work.plan_removal().await.unwrap().is_empty());
    assert!(file.exists(), "the configuration is the operator's");
}

/// The only region is taken; between two the operator chooses.
#[tokio::test(flavor = "multi_thread")]
async fn a_region_is_chosen_where_there_are_two() {
    let cloud = bare_cloud().await;
    let place = tempfile::tempdir().unwrap();
    let file = place.path().join("magnumd.toml");
    let admin = credentials(&cloud, "admin");
    let unsaid = || Names { region: String::new(), ..names() };
    let work = setup(&admin, &file, unsaid()).await;
    work.carry_out(&work.plan().await.unwrap()).await.unwrap();
    let region = Config::load(&file).unwrap().clients.default.region;
    assert_eq!(region.as_deref(), Some("RegionOne"));

    cloud.add_region("RegionTwo");
    let refused = Setup::log_in(&admin, unsaid(), &file, Entropy::new()).await.err().unwrap();
    let refused = refused.to_string();
    assert!(refused.contains("several regions"), "{refused}");
    assert!(refused.ends_with("OS_REGION_NAME: RegionOne, RegionTwo"), "{refused}");
    let two = Names { region: "RegionTwo".to_owned(), ..names() };
    let plan = setup(&admin, &file, two).await.plan().await.unwrap();
    assert_eq!(count(&plan.lines, Action::Refuse), 0, "{:?}", plan.lines);
}

/// Cut off anywhere, the next run finishes: the passwords were on disk before Keystone heard them.
#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_was_cut_off_is_finished_by_the_next() {
    for fault in [
        "keystone:POST:/users:status=500:times=1",
        "keystone:POST:/users:after:status=500:times=1",
        "keystone:POST:/users:status=500:times=1:after=1",
        "keystone:PUT:/projects/*:status=500:times=1",
        "keystone:POST:/domains:after:drop:times=1",
        "keystone:PUT:/domains/*:status=500:times=1",
        "keystone:POST:/services:after:status=500:times=1",
        "keystone:POST:/endpoints:status=500:times=1:after=1",
    ] {
        let cloud = bare_cloud().await;
        let before = cloud.registered();
        let place = tempfile::tempdir().unwrap();
        let file = place.path().join("magnumd.toml");
        let admin = credentials(&cloud, "admin");
        let work = setup(&admin, &file, names()).await;
        cloud.inject(fault.parse::<Fault>().unwrap());
        let plan = work.plan().await.unwrap();
        let failure = work.carry_out(&plan).await.unwrap_err().to_string();
        assert!(failure.ends_with("run it again when that is mended"), "{fault}: {failure}");
        let plan = work.plan().await.unwrap();
        assert!(plan.changes(), "{fault}");
        assert_eq!(count(&plan.lines, Action::Refuse), 0, "{fault}: {:?}", plan.lines);
        work.carry_out(&plan).await.unwrap();
        let done = work.plan().await.unwrap();
        assert!(!done.changes(), "{fault}: {:?}", done.lines);
        work.remove().await.unwrap();
        assert_eq!(cloud.registered(), before, "{fault}");
    }
}

/// Another Magnum's accounts are in the way, and stay as they are.
#[tokio::test(flavor = "multi_thread")]
async fn what_others_made_is_neither_changed_nor_removed() {
    tls::install_provider();
    let options = LabOptions { speed: 10.0, ..LabOptions::default() };
    let cloud = LabCloud::start(options, CancellationToken::new()).await.unwrap();
    let before = cloud.registered();
    let place = tempfile::tempdir().unwrap();
    let file = place.path().join("magnumd.toml");
    let admin = credentials(&cloud, "admin");
    let work = setup(&admin, &file, names()).await;
    let plan = work.plan().await.unwrap();
    let refused: Vec<&str> = plan
        .lines
        .iter()
        .filter(|line| line.action == Action::Refuse)
        .map(|line| line.what.as_str())
        .collect();
    assert_eq!(refused.len(), 3, "{refused:?}");
    assert!(refused[0].contains("--user") && refused[1].contains("--domain"), "{refused:?}");
    assert!(refused[..2].iter().all(|line| line.contains("magnumd config import")), "{refused:?}");
    assert!(work.plan_removal().await.unwrap().is_empty());
    work.remove().await.unwrap();
    assert_eq!(cloud.registered(), before);

    // Under other names both live side by side; the catalogue's entry is the other's.
    let other = Names { user: "m2".to_owned(), domain: "m2".to_owned(), ..names() };
    let work = setup(&admin, &file, other).await;
    let plan = work.plan().await.unwrap();
    assert_eq!(count(&plan.lines, Action::Refuse), 0, "{:?}", plan.lines);
    assert_eq!(count(&plan.lines, Action::Create), 4, "{:?}", plan.lines);
    work.carry_out(&plan).await.unwrap();
    work.remove().await.unwrap();
    assert_eq!(cloud.registered(), before);

    let tenant = credentials(&cloud, "demo");
    let refused = Setup::log_in(&tenant, names(), &file, Entropy::new()).await.err().unwrap();
    assert!(refused.to_string().contains("is not an administrator"), "{refused}");
}

/// A script that forgets --yes must not go on as if its cloud were ready.
#[tokio::test(flavor = "multi_thread")]
async fn without_a_terminal_and_without_yes_setup_fails() {
    let cloud = bare_cloud().await;
    let before = cloud.registered();
    let place = tempfile::tempdir().unwrap();
    let (file, clouds) = (place.path().join("magnumd.toml"), place.path().join("clouds.yaml"));
    std::fs::write(&clouds, cloud.clouds_yaml()).unwrap();
    let run = async |more: &[&str]| {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_magnumd"));
        command.args(["setup", "--address", "127.0.0.1", "--config"]).arg(&file).args(more);
        command.env("OS_CLOUD", "admin").env("OS_CLIENT_CONFIG_FILE", &clouds);
        command.stdin(std::process::Stdio::null());
        let done = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
        (done.status.code().unwrap(), String::from_utf8(done.stdout).unwrap())
    };
    for how in [&[][..], &["--output", "json"]] {
        let (code, said) = run(how).await;
        assert_eq!(code, 1, "{said}");
        assert!(said.contains("nothing was changed; --yes does it"), "{said}");
        assert!(!file.exists());
        assert_eq!(cloud.registered(), before);
    }
    let (code, said) = run(&["--yes"]).await;
    assert_eq!(code, 0, "{said}");
    assert!(file.exists() && said.contains("done"), "{said}");
    let (code, said) = run(&[]).await;
    assert_eq!(code, 0, "what is ready needs no consent: {said}");
    assert!(said.contains("nothing is to be done"), "{said}");
    let (code, said) = run(&["--remove"]).await;
    assert_eq!(code, 1, "{said}");
    assert_eq!(run(&["--remove", "--yes"]).await.0, 0);
    assert_eq!(cloud.registered(), before);
}
