//! The metadata service is closed to pods and containers: in the files of every node, whatever its
//! network driver, unless the label opens it.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use super::*;

const LABEL: &str = "metadata_access_enabled";
const DRIVERS_AND_NETWORKS: [(&str, &[&str]); 3] = [
    ("k8s_kubeadm_v1", &["flannel", "calico", "bridge"]),
    ("k8s_fedora_coreos_v1", &["flannel", "calico"]),
    ("swarm_mode_v1", &["docker"]),
];

/// A node's files by path.
fn files(
    name: &str,
    network: &str,
    given: &[(&str, &str)],
    index: Option<u32>,
) -> Vec<(String, String)> {
    let driver = DRIVERS.with(|all| all.by_name(name)).unwrap();
    let labels = labels(given.iter().copied());
    let mut plan = Sample { labels, ..Sample::default() }.plan(&driver);
    plan.template.network_driver = Some(network.to_owned());
    let files = driver.node_files(&plan, &node(&plan, index)).unwrap();
    files.into_iter().map(|f| (f.path, String::from_utf8(f.content).unwrap())).collect()
}

fn of<'f>(files: &'f [(String, String)], path: &str) -> Option<&'f str> {
    files.iter().find(|(known, _)| known == path).map(|(_, text)| text.as_str())
}

#[test]
fn every_node_of_every_network_driver_closes_it_unless_the_label_opens_it() {
    let mut scripts = BTreeSet::new();
    for (driver, networks) in DRIVERS_AND_NETWORKS {
        for network in networks {
            for index in [Some(0), None] {
                let case = format!("{driver} {network} {index:?}");
                let closed = files(driver, network, &[], index);
                let script = of(&closed, "close-metadata.sh").expect(&case);
                assert!(script.contains("169.254.169.254"), "{case}");
                let unit = of(&closed, "magnumd-metadata.service").expect(&case);
                assert!(unit.contains("/etc/magnumd/close-metadata.sh"), "{case}");
                assert!(unit.contains("WantedBy=multi-user.target"), "{case}: after a reboot too");
                let steps = of(&closed, "steps.sh").unwrap();
                assert!(steps.contains("step metadata close_metadata"), "{case}");
                scripts.insert((script.to_owned(), unit.to_owned()));
                let open = files(driver, network, &[(LABEL, "true")], index);
                assert_eq!(of(&open, "close-metadata.sh"), None, "{case}");
                assert_eq!(of(&open, "magnumd-metadata.service"), None, "{case}");
            }
        }
    }
    assert_eq!(scripts.len(), 1, "there is one source");
}

/// Those that put all into user data, and know flannel alone.
#[test]
fn so_do_the_drivers_whose_nodes_fetch_nothing() {
    for name in ["k8s_coreos_v1", "k8s_fedora_atomic_v1"] {
        let driver = DRIVERS.with(|all| all.by_name(name)).unwrap();
        for (given, access) in [(&[][..], "False"), (&[(LABEL, "true")][..], "True")] {
            let labels = labels(given.iter().copied());
            let plan = Sample { labels, ..Sample::default() }.plan(&driver);
            let files = driver.bundle(&plan).unwrap().files;
            let user_data: Vec<_> =
                files.iter().filter(|(_, text)| text.contains("METADATA_ACCESS=")).collect();
            assert!(user_data.len() >= 2, "{name}: masters and workers");
            for (path, text) in user_data {
                assert!(text.contains(&format!("METADATA_ACCESS='{access}'")), "{name} {path}");
                assert!(text.contains("step metadata close_metadata"), "{name} {path}");
                assert!(text.contains("-t raw -I PREROUTING -d 169.254.169.254"), "{name} {path}");
            }
        }
    }
}

/// The script itself, with programs that write down what they are told.
#[test]
fn what_comes_from_pods_is_dropped_before_anybody_accepts_it() {
    let folder = tempfile::tempdir().unwrap();
    let put = |name: &str, text: &str| {
        let path = folder.path().join(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    };
    let script = files("k8s_kubeadm_v1", "flannel", &[], None);
    put("close-metadata.sh", of(&script, "close-metadata.sh").unwrap());
    let said = || fs::read_to_string(folder.path().join("said")).unwrap_or_default();
    let run = || {
        let done = Command::new("/bin/bash")
            .arg(folder.path().join("close-metadata.sh"))
            .env("PATH", folder.path())
            .env("SAID", folder.path().join("said"))
            .output()
            .unwrap();
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    };
    put(
        "iptables",
        "#!/bin/bash\n[[ $* != *' -C '* ]] || exit \"$([[ -s $SAID ]] && echo 0 || echo 1)\"\n\
         echo \"iptables $*\" >>\"$SAID\"\n",
    );
    run();
    run();
    let rule = "iptables -w -t raw -I PREROUTING -d 169.254.169.254 -j DROP\n";
    assert_eq!(said(), rule, "once, however often it runs");
    put("nft", "#!/bin/bash\nwhile IFS= read -r line; do echo \"$line\"; done >\"$SAID\"\n");
    run();
    let rules = said();
    assert!(rules.contains("type filter hook prerouting priority -350;"), "{rules}");
    assert!(rules.contains("ip daddr 169.254.169.254 drop"), "{rules}");
    assert!(rules.contains("delete table ip magnumd_metadata"), "it begins anew: {rules}");
}
