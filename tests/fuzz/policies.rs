//! Policy files.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use magnumd::api::PolicySource;
use magnumd::base::clock::Timestamp;
use magnumd::model::requester::Requester;

use crate::mutate;
use crate::run::Run;

/// Policy files: read or refused, and then asked.
#[test]
fn policy_files() {
    let mut run = Run::begin("policy_files", &[]);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("policy.yaml");
    let source = || PolicySource { file: Some(file.clone()), is_required: true, dirs: Vec::new() };
    let sample = magnumd::api::policy_sample();
    let lines: Vec<&str> = sample.lines().filter_map(|l| l.strip_prefix('#')).collect();
    let lines: Vec<&str> = lines.into_iter().filter(|l| l.starts_with('"')).collect();
    assert!(lines.len() > 50);
    const RULES: [&str; 14] = [
        "\"context_is_admin\": \"role:admin or rule:ours\"",
        "\"context_is_admin\": \"not (rule:ours and rule:admin_or_owner)\"",
        "\"ours\": \"rule:theirs or user_id:%(user_id)s\"",
        "\"theirs\": \"not rule:ours\"",
        "\"ours\": [[\"role:admin\", \"is_admin:True\"], \"@\", []]",
        "\"default\": \"rule:context_is_admin\"",
        "\"ours\": \"http://example.org/%(project_id)s\"",
        "\"ours\": &a \"@\"\n\"theirs\": *a",
        "\"ours\": !!binary aGk=",
        "\"ours\": |\n  role:a\n  or role:b",
        "\"ours\": \"'member':%(labels.x)s and 1.5:%(id)s and None:%(y)s\"",
        "ours: null",
        "? [a, b]\n: c",
        "<<: {\"ours\": \"!\"}",
    ];
    let requester = Requester {
        user_id: "u".to_owned(),
        user_name: "u".to_owned(),
        user_domain_id: "default".to_owned(),
        user_domain_name: "Default".to_owned(),
        project_id: Some("p".to_owned()),
        project_name: Some("p".to_owned()),
        project_domain_id: Some("default".to_owned()),
        domain_id: None,
        system_scope: false,
        roles: vec!["member".to_owned()],
        trust: None,
        restricted_credential: false,
        expires_at: Timestamp::from_micros(i64::MAX),
    };
    let (mut read, mut refused, mut admins) = (0_u64, 0_u64, 0_u64);
    while let Some((_, mut dice)) = run.next() {
        let mut text = String::new();
        for _ in 0..dice.below(8) {
            let rule = if dice.one_in(3) { *dice.pick(&lines) } else { *dice.pick(&RULES) };
            text += rule;
            text += "\n";
        }
        let mut bytes = match dice.below(3) {
            0 => text.into_bytes(),
            1 => {
                mutate::text(&mut dice, &mut text);
                text.into_bytes()
            }
            _ => {
                let mut bytes = text.into_bytes();
                mutate::bytes(&mut dice, &mut bytes);
                bytes
            }
        };
        bytes.truncate(1 << 20);
        std::fs::write(&file, &bytes).unwrap();
        let began = Instant::now();
        let outcome = catch_unwind(AssertUnwindSafe(|| {
            source().read().map(|policy| policy.is_admin(&requester))
        }));
        let shown = String::from_utf8_lossy(&bytes);
        match outcome {
            Err(_) => run.fail(&shown, "a panic"),
            Ok(Ok(is_admin)) => {
                read += 1;
                admins += u64::from(is_admin);
            }
            Ok(Err(_)) => refused += 1,
        }
        if began.elapsed() > Duration::from_secs(5) {
            run.fail(&shown, &format!("it took {:?}", began.elapsed()));
        }
    }
    eprintln!("policy files: {read} read, {refused} refused, {admins} made an administrator");
    assert!(read > 0 && refused > 0 && admins > 0 && admins < read);
    run.end();
}
