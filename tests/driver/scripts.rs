//! The scripts: that a shell can read them, and that critics find nothing.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::*;
use magnumd::driver::DutyPlan;
use magnumd::model::duty::DutyKind;

/// The bundle of a node as files below `folder`.
fn unpack(folder: &Path, plan: &ClusterPlan, index: Option<u32>) -> Vec<PathBuf> {
    write(folder, driver().node_files(plan, &node(plan, index)).unwrap())
}

fn write(folder: &Path, files: Vec<magnumd::driver::BundleFile>) -> Vec<PathBuf> {
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

/// A duty's files as files below `folder`.
fn unpack_duty(
    folder: &Path,
    plan: &ClusterPlan,
    index: Option<u32>,
    kind: DutyKind,
) -> Vec<PathBuf> {
    let duty = DutyPlan { number: 7, kind, targets: vec!["k1-node-0".to_owned()] };
    write(folder, driver().duty_files(plan, &node(plan, index), &duty).unwrap())
}

#[test]
fn a_duty_brings_all_that_it_needs_and_keys_only_where_they_are_needed() {
    let on_every_node = |kind: &DutyKind| *kind != DutyKind::RenewCredentials;
    for kind in DutyKind::ALL.iter().copied().filter(on_every_node) {
        for index in [Some(0), None] {
            let folder = tempfile::tempdir().unwrap();
            unpack_duty(folder.path(), &plan(3, 1), index, kind);
            let has = |path: &str| folder.path().join(path).exists();
            let leaves = kind == DutyKind::IssueLeaves && index.is_some();
            assert_eq!(has("pki/ca.key"), leaves, "{kind} {index:?}");
            let keyless = matches!(kind, DutyKind::Drain | DutyKind::Rejoin);
            assert_eq!(has("pki/ca.crt"), !keyless, "{kind} {index:?}");
            for script in ["duty.sh", "lib.sh", "steps.sh", "work.sh", "env", "duty.env"] {
                let script = folder.path().join(script);
                let checked = Command::new("bash").arg("-n").arg(&script).output().unwrap();
                assert!(checked.status.success(), "{kind}: {}", script.display());
            }
        }
    }
}

#[test]
fn shellcheck_finds_nothing() {
    if Command::new("shellcheck").arg("--version").output().is_err() {
        eprintln!("skipped: shellcheck is not installed");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    // All that any node or duty gets lies side by side, as it does on a node.
    let mut scripts = Vec::new();
    for index in [Some(0), None] {
        scripts.extend(unpack(folder.path(), &nested(), index));
        for kind in DutyKind::ALL {
            let of_kind = folder.path().join(kind.to_string());
            scripts.extend(unpack_duty(&of_kind, &nested(), index, *kind));
        }
    }
    scripts.retain(|path| is_script(path));
    scripts.sort();
    scripts.dedup();
    assert!(scripts.len() >= 14, "{scripts:?}");
    let checked =
        Command::new("shellcheck").args(["-x", "-P", "SCRIPTDIR"]).args(&scripts).output().unwrap();
    assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stdout));
}

/// A rebuilt master asks the first of its peers that answers, takes the member that had its
/// address away, and joins as a new one.
#[test]
fn a_rebuilt_master_replaces_its_member_of_etcd() {
    let folder = tempfile::tempdir().unwrap();
    unpack(folder.path(), &plan(3, 1), Some(0));
    let curl = folder.path().join("curl");
    let members = r#"{"header":{"cluster_id":"9"},"members":[{"ID":"11","name":"m-0","peerURLs":["https://10.0.0.10:2380"],"clientURLs":["https://10.0.0.10:2379"]},{"ID":"12","name":"m-1","peerURLs":["https://10.0.0.11:2380"]}]}"#;
    let stub = format!(
        "#!/bin/bash\nprintf '%s\\n' \"${{@: -1}} ${{@: -2:1}}\" >>'{calls}'\ncase \"${{@: -1}}\" in\n\
         *10.0.0.11*) exit 7 ;;\n*list) printf '%s' '{members}' ;;\nesac\n",
        calls = folder.path().join("calls").display(),
    );
    fs::write(&curl, stub).unwrap();
    fs::set_permissions(&curl, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let script =
        "set -euo pipefail; log() { :; }; BUNDLE=$0 PKI=/x ROOT=; . \"$0/master.sh\"; rejoin_etcd";
    let done = Command::new("bash")
        .args(["-c", script])
        .arg(folder.path())
        .env("PATH", format!("{}:{}", folder.path().display(), std::env::var("PATH").unwrap()))
        .envs([("MASTER_ADDRESS", "10.0.0.10"), ("ETCD_PEERS", "10.0.0.11 10.0.0.12")])
        .output()
        .unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    let calls = fs::read_to_string(folder.path().join("calls")).unwrap();
    let peer = "https://10.0.0.12:2379/v3/cluster/member";
    let wanted = [
        "https://10.0.0.11:2379/v3/cluster/member/list {}".to_owned(),
        format!("{peer}/list {{}}"),
        format!("{peer}/remove {{\"ID\":\"11\"}}"),
        format!("{peer}/add {{\"peerURLs\":[\"https://10.0.0.10:2380\"]}}"),
    ];
    assert_eq!(calls.lines().collect::<Vec<_>>(), wanted);
}

/// Requests go to the masters that answer, in turn; when none does, the rules stay as they are.
#[test]
fn requests_are_spread_over_the_masters_that_answer() {
    let folder = tempfile::tempdir().unwrap();
    unpack(folder.path(), &labelled(3, 1, &[("api_spread", "true")]), None);
    let put = |name: &str, text: String| {
        let path = folder.path().join(name);
        fs::write(&path, format!("#!/bin/bash\n{text}\n")).unwrap();
        fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    };
    let rules = folder.path().join("rules");
    put("iptables-restore", format!("cat >'{}'", rules.display()));
    put("iptables", "exit 0".to_owned());
    let run = |dead: &str| {
        put("curl", format!("case \"${{@: -1}}\" in {dead}) exit 7 ;; esac"));
        let path = format!("{}:{}", folder.path().display(), std::env::var("PATH").unwrap());
        let script = folder.path().join("magnumd-api-spread");
        assert!(Command::new("bash").arg(script).env("PATH", path).status().unwrap().success());
        fs::read_to_string(&rules).unwrap()
    };
    let turn = |every: u32, master: &str| {
        format!("--mode nth --every {every} --packet 0 -j DNAT --to-destination {master}:6443\n")
    };
    let all = run("nobody");
    for (every, master) in [(3, "10.0.0.10"), (2, "10.0.0.11"), (1, "10.0.0.12")] {
        assert!(all.contains(&turn(every, master)), "{all}");
    }
    let two = run("*10.0.0.10:*");
    assert!(two.contains(&turn(2, "10.0.0.11")) && two.contains(&turn(1, "10.0.0.12")), "{two}");
    assert!(!two.contains("10.0.0.10"), "{two}");
    assert_eq!(run("*"), two);
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

/// One request as the server below saw it.
struct Seen {
    line: String,
    head: String,
    body: String,
}

/// Answers one connection after the other with `answers`, then ends.
fn serve(
    listener: std::net::TcpListener,
    answers: Vec<(&'static str, Vec<u8>)>,
) -> std::thread::JoinHandle<Vec<Seen>> {
    use std::io::{BufRead, BufReader, Read, Write};
    std::thread::spawn(move || {
        let answer = |(status, content): (&str, Vec<u8>)| {
            let (mut stream, _) = listener.accept().unwrap();
            let mut reader = BufReader::new(stream.try_clone().unwrap());
            let (mut line, mut head) = (String::new(), String::new());
            reader.read_line(&mut line).unwrap();
            while !head.ends_with("\r\n\r\n") && head != "\r\n" {
                reader.read_line(&mut head).unwrap();
            }
            let length = head.to_ascii_lowercase();
            let length = length.split("content-length: ").nth(1).unwrap_or("0");
            let length: usize = length.lines().next().unwrap().trim().parse().unwrap();
            let mut body = vec![0; length];
            reader.read_exact(&mut body).unwrap();
            let size = content.len();
            write!(stream, "HTTP/1.1 {status}\r\nContent-Length: {size}\r\n").unwrap();
            stream.write_all(b"Connection: close\r\n\r\n").unwrap();
            stream.write_all(&content).unwrap();
            Seen { line, head, body: String::from_utf8(body).unwrap() }
        };
        answers.into_iter().map(answer).collect()
    })
}

/// The scripts of the user data, run as cloud-init would, against a magnumd that is busy at
/// first: they report, wait, fetch the bundle and run what is in it.
#[test]
fn first_boot_reports_and_fetches_its_bundle() {
    if Command::new("curl").arg("--version").output().is_err() {
        eprintln!("skipped: curl is not installed");
        return;
    }
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let mut plan = plan(1, 1);
    plan.settings.bootstrap_url = format!("http://{}", listener.local_addr().unwrap());
    plan.settings.bootstrap_ca.clear();
    let mut tar = tar::Builder::new(Vec::new());
    let setup = b"#!/bin/bash\n. \"$MAGNUMD_LIB\"\nidentify\nPHASE=ready\nreport_surely done \"a \\\"b\\\"\"\n";
    let mut header = tar::Header::new_ustar();
    header.set_size(setup.len() as u64);
    header.set_mode(0o755);
    header.set_cksum();
    tar.append_data(&mut header, "setup.sh", &setup[..]).unwrap();
    let made = rcgen::generate_simple_self_signed(vec!["k1".to_owned()]).unwrap();
    let claimed = serde_json::json!({ "certificate": made.cert.pem().trim_end() });
    let claimed = claimed.to_string().into_bytes();
    let server = serve(
        listener,
        vec![
            ("200 OK", claimed),
            ("204 No Content", Vec::new()),
            ("503 Service Unavailable", b"{}".to_vec()),
            ("200 OK", tar.into_inner().unwrap()),
            ("204 No Content", Vec::new()),
        ],
    );

    let root = tempfile::tempdir().unwrap();
    let write = |path: &str, text: &str| {
        let path = root.path().join(path.trim_start_matches('/'));
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    };
    let bundle = driver().bundle(&plan).unwrap();
    let data: serde_json::Value = serde_saphyr::from_str(&bundle.files["worker.yaml"]).unwrap();
    for file in data["write_files"].as_array().unwrap() {
        write(file["path"].as_str().unwrap(), file["content"].as_str().unwrap());
    }
    let instance = "11111111-2222-3333-4444-555555555555";
    write("/var/lib/cloud/data/instance-id", &format!("{instance}\n"));
    write("/bin/hostname", "#!/bin/bash\necho k1-aaaaaaaaaaa7-node-0.novalocal\n");
    write("/bin/sleep", "#!/bin/bash\n");
    // What Nova gave the server is on its config drive.
    let drive = "openstack/latest/vendor_data2.json";
    write("/cd", r#"{"static": {}, "magnumd": {"secret": "a_B-9"}, "x": {"secret": "no"}}"#);
    let cd = root.path().join("cd");
    let mount = format!(
        "#!/bin/bash\nmkdir -p \"${{@: -1}}/openstack/latest\"\ncp '{}' \"${{@: -1}}/{drive}\"\n",
        cd.display()
    );
    write("/bin/mount", &mount);
    write("/bin/umount", "#!/bin/bash\n");
    let executable =
        Command::new("chmod").arg("-R").arg("+x").arg(root.path().join("bin")).status();
    assert!(executable.unwrap().success());
    let path = format!("{}:{}", root.path().join("bin").display(), std::env::var("PATH").unwrap());
    let run = Command::new("bash")
        .arg(root.path().join("usr/local/libexec/magnumd-bootstrap"))
        .env("PATH", path)
        .env("MAGNUMD_ROOT", root.path())
        .env("MAGNUMD_LIB", root.path().join("usr/local/libexec/magnumd-lib"))
        .output()
        .unwrap();
    let log = String::from_utf8_lossy(&run.stdout).into_owned();
    assert!(run.status.success(), "{log}{}", String::from_utf8_lossy(&run.stderr));

    let seen = server.join().unwrap();
    let node = "/bootstrap/v1/k1-aaaaaaaaaaa7-node-0";
    let lines: Vec<&str> = seen.iter().map(|s| s.line.trim_end()).collect();
    assert_eq!(
        lines,
        [
            format!("POST {node}/claim HTTP/1.1"),
            format!("POST {node}/status HTTP/1.1"),
            format!("GET {node}/bundle HTTP/1.1"),
            format!("GET {node}/bundle HTTP/1.1"),
            format!("POST {node}/status HTTP/1.1"),
        ]
    );
    let claim = &seen[0];
    assert!(claim.head.contains("Authorization: Bearer token-worker"), "{}", claim.head);
    assert!(claim.head.contains(&format!("X-Magnumd-Instance: {instance}")));
    let asked: serde_json::Value = serde_json::from_str(&claim.body).unwrap();
    assert!(asked["csr"].as_str().unwrap().starts_with("-----BEGIN CERTIFICATE REQUEST-----\n"));
    for request in &seen[1..] {
        assert!(!request.head.contains("Authorization"), "the token's time is over");
    }
    // Where it is asked who the node is, and no longer than that.
    let proves = |s: &Seen| s.head.contains("X-Magnumd-Vendor-Secret: a_B-9\r\n");
    assert_eq!(seen.iter().map(proves).collect::<Vec<_>>(), [true, false, false, false, false]);
    assert!(!log.contains("a_B-9"), "the secret stays out of the log");
    let identity = root.path().join("var/lib/magnumd/identity");
    let kept = fs::read_to_string(identity.join("certificate.pem")).unwrap();
    assert_eq!(kept.trim_end(), made.cert.pem().trim_end());
    let mode = fs::metadata(identity.join("key.pem")).unwrap();
    assert_eq!(std::os::unix::fs::PermissionsExt::mode(&mode.permissions()) & 0o777, 0o600);
    let left = fs::read_dir(&identity).unwrap().map(|e| e.unwrap().file_name());
    let mut left: Vec<String> = left.map(|name| name.into_string().unwrap()).collect();
    left.sort();
    assert_eq!(left, ["certificate.pem", "key.pem"], "neither token nor vendor secret stays");
    let first: serde_json::Value = serde_json::from_str(&seen[1].body).unwrap();
    assert_eq!((&first["phase"], &first["state"]), (&"booted".into(), &"started".into()));
    let last: serde_json::Value = serde_json::from_str(&seen[4].body).unwrap();
    assert_eq!((&last["phase"], &last["state"]), (&"ready".into(), &"done".into()));
    assert_eq!(last["message"], "a \"b\"");
    assert!(last["log_tail"].as_str().unwrap().contains("GET bundle: 503, trying again"));
    assert!(!log.contains("token-worker"), "the token stays out of the log");
}

/// Every driver whose nodes show the token makes first contact as magnumd's kit does for older ones.
#[test]
fn every_library_makes_first_contact_alike() {
    for driver in ["k8s_kubeadm_v1", "k8s_fedora_coreos_v1", "swarm_mode_v1"] {
        assert!(library(driver).contains(magnumd::bootstrap::CLAIM), "{driver}");
    }
}

/// The vendor secret as the scripts of every driver find it: on the config drive, else at the
/// metadata service, else not at all, and then no header is sent.
#[test]
fn a_node_finds_what_nova_gave_it() {
    let root = tempfile::tempdir().unwrap();
    let put = |path: &str, text: &str| {
        let path = root.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    };
    let drive = "var/lib/magnumd/config-drive/openstack/latest/vendor_data2.json";
    let path = format!("{}:{}", root.path().join("bin").display(), std::env::var("PATH").unwrap());
    put("etc/magnumd/node.env", "MAGNUMD_ENROLMENT_TOKEN='t'\n");
    put("var/lib/cloud/data/instance-id", "11111111-2222-3333-4444-555555555555\n");
    put("var/lib/magnumd/meta_data.json", r#"{"uuid": "1", "hostname": "h"}"#);
    put("bin/umount", "#!/bin/bash\n");
    for name in ["k8s_kubeadm_v1", "k8s_fedora_coreos_v1", "swarm_mode_v1"] {
        put("lib.sh", &library(name));
        let library = root.path().join("lib.sh");
        let header = || {
            let script =
                "set -euo pipefail; shopt -s inherit_errexit; . \"$0\"; identify; claim_headers";
            let done = Command::new("bash")
                .args(["-c", script])
                .arg(&library)
                .env("MAGNUMD_ROOT", root.path())
                .env("PATH", &path)
                .output()
                .unwrap();
            assert!(done.status.success(), "{name}: {}", String::from_utf8_lossy(&done.stderr));
            let headers = String::from_utf8(done.stdout).unwrap();
            assert!(headers.starts_with("Authorization: Bearer t\n"), "{name}: {headers}");
            let lines = headers.lines().filter_map(|l| l.strip_prefix("X-Magnumd-Vendor-Secret: "));
            lines.map(str::to_owned).collect::<Vec<_>>()
        };
        put("bin/mount", "#!/bin/bash\n");
        put("bin/curl", "#!/bin/bash\nexit 7\n");
        put(drive, r#"{"static": {}, "magnumd": {"secret": "a_B-9"}, "x": {"secret": "no"}}"#);
        assert_eq!(header(), ["a_B-9"], "{name}");
        put(drive, "{\n \"magnumd\":\n {\"secret\": \"c\"}\n}\n");
        assert_eq!(header(), ["c"], "{name}: in several lines");
        let metadata = "#!/bin/bash\n[ \"${@: -1}\" = http://169.254.169.254/openstack/latest/vendor_data2.json ] &&\n  \
                        echo '{\"magnumd\": {\"secret\": \"m\"}}'\n";
        for nothing in ["{}", "", r#"{"magnumd": {}}"#, r#"{"x": {"secret": "no"}}"#] {
            put(drive, nothing);
            put("bin/curl", "#!/bin/bash\nexit 7\n");
            assert_eq!(header(), Vec::<String>::new(), "{name}: {nothing}");
            put("bin/curl", metadata);
            assert_eq!(header(), ["m"], "{name}: {nothing}");
        }
        put("bin/mount", "#!/bin/bash\nexit 32\n");
        assert_eq!(header(), ["m"], "{name}: no config drive");
    }
}
