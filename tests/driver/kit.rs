//! What magnumd gives nodes in the place of files that they asked for: run by a shell, with a curl
//! that writes down what it is asked.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

/// Answers every claim with a certificate, and everything with 200.
const CURL: &str = r#"#!/bin/bash
out=
while [ $# -gt 0 ]; do
  case $1 in
  --output) out=$2 ;;
  --data-binary) body=${2#@} ;;
  http://169.254.169.254*) exit 7 ;;
  https://*) url=$1 ;;
  esac
  shift
done
{ echo "${url#*/v1/}"; cat "$body"; echo; } >>"$ASKED"
awk 'BEGIN { printf "{\"certificate\":\"" } { printf "%s\\n", $0 } END { printf "\"}" }' \
  "$ISSUED" >"$out"
printf 200
"#;

/// A node's file system, with a library of before there were keys of nodes.
struct Root(TempDir);

impl Root {
    fn new(driver: &str) -> Self {
        let root = Self(tempfile::tempdir().unwrap());
        let library = super::library(driver);
        let before = library.replace(magnumd::bootstrap::CLAIM, "\ncall() { CODE=500; }\n");
        assert_ne!(before, library);
        let id = "11111111-2222-3333-4444-555555555555\n";
        let made = rcgen::generate_simple_self_signed(vec!["k1".to_owned()]).unwrap();
        root.put("lib.sh", &before);
        root.put("issued.pem", &made.cert.pem());
        root.put(
            "etc/magnumd/node.env",
            "MAGNUMD_ENROLMENT_TOKEN='t'\nMAGNUMD_BOOTSTRAP_URL='https://m'\n",
        );
        root.put("var/lib/cloud/data/instance-id", id);
        // Where there is no cloud-init, what its config drive said.
        let told = r#"{"uuid": "11111111-2222-3333-4444-555555555555", "hostname": "n0"}"#;
        root.put("var/lib/magnumd/meta_data.json", told);
        root.put("var/log/magnumd-bootstrap.log", "");
        root.put("bin/curl", CURL);
        root.put("bin/mount", "#!/bin/bash\nexit 32\n");
        root.put("bin/hostname", "#!/bin/bash\necho n0\n");
        root
    }

    fn path(&self, path: &str) -> PathBuf {
        self.0.path().join(path)
    }

    fn put(&self, path: &str, text: &str) {
        let path = self.path(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    }

    fn asked(&self) -> String {
        fs::read_to_string(self.path("asked")).unwrap_or_default()
    }

    /// Unpacks a file of the kit as the node does, and runs it: the exit code.
    fn run(&self, script: &str, name: &str) -> i32 {
        let kit = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/bootstrap/kit").join(script);
        let text = fs::read_to_string(kit).unwrap();
        self.put(&format!("var/lib/magnumd/duty/{name}"), &text);
        self.put("var/lib/magnumd/duty/claim.sh", magnumd::bootstrap::CLAIM);
        let path = format!("{}:{}", self.path("bin").display(), std::env::var("PATH").unwrap());
        let done = Command::new("bash")
            .arg(self.path("var/lib/magnumd/duty").join(name))
            .env("PATH", path)
            .env("MAGNUMD_ROOT", self.0.path())
            .env("MAGNUMD_LIB", self.path("lib.sh"))
            .env("ASKED", self.path("asked"))
            .env("ISSUED", self.path("issued.pem"))
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&done.stderr).into_owned();
        assert!(!self.path("var/lib/magnumd/duty").exists(), "it leaves nothing behind: {said}");
        done.status.code().unwrap_or_else(|| panic!("{said}"))
    }
}

/// Answers with one status after the other.
const MOODY: &str = r#"#!/bin/bash
sed -n 1p "$CODES" | tr -d '\n'
sed -i 1d "$CODES"
"#;

#[test]
fn a_node_asks_again_whatever_it_is_answered() {
    for driver in ["k8s_kubeadm_v1", "k8s_fedora_coreos_v1", "swarm_mode_v1"] {
        let root = Root::new(driver);
        root.put("lib.sh", &super::library(driver));
        root.put("bin/curl", MOODY);
        root.put("bin/sleep", "#!/bin/bash\n");
        root.put("var/lib/magnumd/identity/certificate.pem", "known");
        for phase in ["booted", "certs"] {
            root.put("codes", "000\n408\n429\n500\n503\n403\n409\n200\n404\n");
            let script = "set -euo pipefail; . \"$MAGNUMD_LIB\"; identify; PHASE=$1
                          call_surely GET bundle \"$ROOT/answer\"";
            let path = format!("{}:{}", root.path("bin").display(), std::env::var("PATH").unwrap());
            let done = Command::new("bash")
                .args(["-c", script, "bash", phase])
                .env("PATH", path)
                .env("MAGNUMD_ROOT", root.0.path())
                .env("MAGNUMD_LIB", root.path("lib.sh"))
                .env("CODES", root.path("codes"))
                .output()
                .unwrap();
            let said = String::from_utf8_lossy(&done.stderr);
            assert!(done.status.success(), "{driver}: {said}");
            let left = fs::read_to_string(root.path("codes")).unwrap();
            assert_eq!(left, "404\n", "{driver}: it stops at success");
        }
    }
}

#[test]
fn an_older_library_learns_to_claim_once_and_goes_on() {
    for driver in ["k8s_kubeadm_v1", "k8s_fedora_coreos_v1", "swarm_mode_v1"] {
        let root = Root::new(driver);
        assert_eq!(root.run("first.sh", "duty.sh"), 0, "{driver}: a timer asks again");
        let asked = root.asked();
        assert!(asked.starts_with("n0/claim\n{\"csr\":\"-----BEGIN CERT"), "{driver}: {asked}");
        let library = || fs::read_to_string(root.path("lib.sh")).unwrap();
        assert_eq!(library().matches("\nclaim() {\n").count(), 1, "{driver}");
        for (file, mode) in [("key.pem", 0o600), ("certificate.pem", 0o644)] {
            let kept = fs::metadata(root.path("var/lib/magnumd/identity").join(file)).unwrap();
            assert_eq!(kept.permissions().mode() & 0o777, mode, "{driver} {file}");
        }
        // Its key stays its key.
        let key = || fs::read_to_string(root.path("var/lib/magnumd/identity/key.pem")).unwrap();
        let drawn = key();
        assert_eq!(root.run("first.sh", "setup.sh"), 75, "{driver}: the first boot begins anew");
        assert_eq!((library().matches("\nclaim() {\n").count(), key()), (1, drawn), "{driver}");
        assert_eq!(root.asked(), asked, "{driver}: it has its certificate");
    }
}

#[test]
fn whoever_was_ready_says_so_again_and_nobody_else() {
    let root = Root::new("k8s_kubeadm_v1");
    assert_eq!(root.run("first.sh", "duty.sh"), 0);
    let before = root.asked();
    assert_eq!(root.run("again.sh", "duty.sh"), 0);
    assert_eq!(root.asked(), before, "it boots still");
    root.put("var/lib/magnumd/ready", "");
    assert_eq!(root.run("again.sh", "duty.sh"), 0);
    let said = root.asked().replace(&before, "");
    assert!(said.starts_with("n0/status\n{\"phase\":\"ready\",\"state\":\"done\","), "{said}");
}
