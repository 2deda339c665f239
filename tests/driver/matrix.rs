//! Every driver × every sample of its own × sizes: all is drawn, within Heat's limits, and the
//! bytes are those that were looked at last.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;

use aws_lc_rs::digest::{SHA256, digest};
use magnumd::driver::directory::Directory;
use magnumd::driver::lint;

use super::*;

const SIZES: [(u32, u32); 3] = [(1, 1), (3, 10), (3, 100)];

/// One line for each rendering: what it has, how large it is, and a digest of all its files.
fn line(rendered: &lint::Rendered) -> String {
    let mut all = Vec::new();
    for (path, file) in &rendered.files {
        all.extend_from_slice(path.as_bytes());
        all.extend_from_slice(format!("\0{:o}\0", file.mode).as_bytes());
        all.extend_from_slice(&file.content);
    }
    let hex = digest(&SHA256, &all).as_ref()[..8].iter().fold(String::new(), |mut hex, byte| {
        let _ = write!(hex, "{byte:02x}");
        hex
    });
    format!(
        "{} resources, stack {} bytes, user data {} bytes, {hex}",
        rendered.census.resources(),
        rendered.census.bytes,
        rendered.user_data_bytes
    )
}

/// Compares with `tests/golden/driver/matrix.txt`; with MAGNUMD_BLESS set, writes it instead.
#[test]
fn every_driver_and_every_option_at_every_size() {
    let mut table = BTreeMap::new();
    for driver in Drivers::builtin(&[]).iter() {
        let report = lint::lint(driver, None);
        assert_eq!(report.errors, [], "{}", driver.name());
        assert!(report.tried.len() >= 4, "{} has too few samples", driver.name());
        for (path, text) in driver.directory().samples() {
            let sample = Sample::parse(text).unwrap();
            if sample.expect.refused.is_some() || sample.group.is_some() {
                continue;
            }
            for (masters, workers) in SIZES {
                let mut sample = sample.clone();
                (sample.masters, sample.workers) = (masters, workers);
                let name = format!("{} {path} {masters}+{workers}", driver.name());
                match lint::render(driver, &sample.plan(driver)) {
                    Ok(rendered) => {
                        assert_eq!(lint::references(&rendered), [""; 0], "{name}");
                        assert!(rendered.census.resources() <= 1000, "{name}");
                        assert!(rendered.census.bytes <= 512 * 1024, "{name}");
                        assert!(rendered.user_data_bytes <= 48 * 1024, "{name}");
                        table.insert(name, line(&rendered));
                    }
                    // Upstream's rule about several masters without a load balancer.
                    Err(DriverError::Unsuitable(said)) => {
                        assert!(masters > 1, "{name}: {said}");
                        table.insert(name, format!("refused: {said}"));
                    }
                    Err(e) => panic!("{name}: {e}"),
                }
            }
        }
    }
    let text: String = table.iter().map(|(name, line)| format!("{name}: {line}\n")).collect();
    print!("{text}");
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/driver/matrix.txt");
    if std::env::var_os("MAGNUMD_BLESS").is_some() {
        std::fs::write(&golden, &text).unwrap();
    }
    let wanted = std::fs::read_to_string(&golden).unwrap_or_default();
    let changed: Vec<&str> = text.lines().filter(|l| !wanted.lines().any(|w| w == *l)).collect();
    assert!(
        changed.is_empty() && text.lines().count() == wanted.lines().count(),
        "rendered otherwise than before; if that is intended, run with MAGNUMD_BLESS=1:\n{}",
        changed.join("\n")
    );
}

#[test]
fn the_default_cluster_is_as_small_as_promised() {
    let resources = |masters, workers| {
        lint::render(&driver(), &plan(masters, workers)).unwrap().census.resources()
    };
    let counted = [(1, 1), (1, 10), (3, 10), (3, 100)].map(|(m, w)| resources(m, w));
    assert!(counted[0] <= 12 && counted[1] <= 21 && counted[2] <= 26, "{counted:?}");
    assert!(counted[3] <= 116, "{counted:?}");
}

/// A small driver: what a directory needs at least.
fn small(name: &str, more: &str) -> Directory {
    let manifest = format!(
        "api: 1\nname: {name}\nversion: '1'\ndescription: small\n\
         provides: [{{server_type: vm, coe: kubernetes, os: [minix]}}]\n\
         network_drivers: [flannel]\nmasters: {{without_load_balancer: true}}\n\
         user_data: {{master: u.tera, worker: u.tera, format: raw}}\n{more}"
    );
    let stack = "heat_template_version: '2018-08-31'\nparameters: {cluster_uuid: {type: string}, \
                 revision: {type: string}}\nresources:\n  r: {type: OS::Heat::Value, properties: \
                 {value: {{ labels.colour | q }}}}\n";
    let files = [
        ("driver.yaml", manifest.as_str()),
        ("u.tera", "{{ node.role }}"),
        ("stack.yaml.tera", stack),
    ];
    let files = files.map(|(path, text)| (path.to_owned(), text.to_owned()));
    Directory::new(name, files).unwrap()
}

const COLOUR: &str = "labels: {colour: {type: string, default: red, doc: d}}\n";

#[test]
fn what_is_wrong_with_a_directory_is_said_with_file_line_and_cure() {
    for (more, said) in [
        (
            "labels: {color: {type: string, doc: d}}\n",
            "driver x: stack.yaml.tera:4: label colour is not declared in driver.yaml; did you mean color?",
        ),
        ("lables: {}\n", "driver x: driver.yaml:9: unknown key lables; did you mean labels?"),
        (
            &format!("{COLOUR}values: [{{name: a, is: labels.colour | nofilter}}]\n"),
            "driver x: driver.yaml:10: ",
        ),
        (
            &format!("{COLOUR}values:\n- {{name: a, is: values.b}}\n"),
            "driver x: driver.yaml:11: values.a: there is no value b in driver.yaml, or only below",
        ),
        (
            &format!("{COLOUR}files:\n- {{path: /etc/x, file: u.tera}}\n"),
            "driver x: driver.yaml: file /etc/x: a path is relative",
        ),
        (
            &format!(
                "{COLOUR}files:\n- {{path: x, mode: '0644', content: ca_key, role: master}}\n"
            ),
            "driver x: driver.yaml:11: file x: others could read this key",
        ),
        (
            &format!("{COLOUR}files:\n- {{path: x, template: none.tera}}\n"),
            "driver x: driver.yaml: file x: the directory has no file none.tera",
        ),
        (
            &format!("{COLOUR}upgrade: {{strategy: rebuild, keep: [size]}}\n"),
            "driver x: driver.yaml:10: upgrade: keep: size is neither",
        ),
        (&format!("{COLOUR}api: 2\n"), "driver x: driver.yaml:10: "),
    ] {
        let found = Driver::new(small("x", more)).err().map(|e| e.to_string()).unwrap_or_default();
        assert!(found.starts_with(said), "{said}\n{found}");
    }
    assert!(Driver::new(small("x", COLOUR)).is_ok());
}

#[test]
fn labels_that_nobody_declares_follow_the_policy() {
    let with = |policy: &str| {
        let driver =
            Driver::new(small("x", &format!("{COLOUR}labels_policy: {policy}\n"))).unwrap();
        let labels = labels([("colur", "blue")]);
        driver.check(&Sample { labels, ..Sample::default() }.plan(&driver))
    };
    assert_eq!(with("ignore"), Ok(()));
    assert_eq!(with("warn"), Ok(()));
    let said = with("error").unwrap_err().to_string();
    assert_eq!(
        said,
        "Driver x knows no label colur. Did you mean colour? Otherwise leave it away."
    );
}

#[test]
fn an_operators_directory_adds_replaces_or_clashes() {
    use magnumd::driver::Wishes;
    let load = |own: Directory| Drivers::load(vec![own], Wishes::default());
    let names = |all: Drivers| all.names().map(str::to_owned).collect::<Vec<_>>();
    let added = load(small("x", COLOUR)).unwrap();
    let chosen = added.select(None, None, ServerType::Vm, "minix", Coe::Kubernetes).unwrap();
    assert_eq!(chosen.name(), "x");
    assert!(added.by_name(NAME).is_some());
    let replaced = names(load(small("x", &format!("{COLOUR}replaces: {NAME}\n"))).unwrap());
    assert!(replaced.contains(&"x".to_owned()) && !replaced.contains(&NAME.to_owned()));
    let error = |own: Directory| load(own).err().unwrap().to_string();
    assert!(error(small(NAME, COLOUR)).contains("there is a driver k8s_kubeadm_v1 already"));
    let ubuntu = "provides: [{server_type: vm, coe: kubernetes, os: [ubuntu]}]\n";
    let twice = small("x", COLOUR);
    let files = twice.files().map(|(path, text)| {
        let line = "provides: [{server_type: vm, coe: kubernetes, os: [minix]}]\n";
        (path.to_owned(), text.replace(line, ubuntu))
    });
    let said = error(Directory::new("x", files.collect::<Vec<_>>()).unwrap());
    assert!(
        said.contains("(vm, ubuntu, kubernetes) is what driver k8s_kubeadm_v1 builds"),
        "{said}"
    );
    assert!(
        error(small("x", &format!("{COLOUR}replaces: nobody\n"))).contains("there is no nobody")
    );
    let beta = || vec![small("x", &format!("{COLOUR}beta: true\n"))];
    let off = Drivers::load(beta(), Wishes::default()).unwrap();
    assert!(off.by_name("x").is_none());
    let enabled = ["x".to_owned()];
    let on = Wishes { enabled_beta: &enabled, ..Wishes::default() };
    assert!(Drivers::load(beta(), on).unwrap().by_name("x").is_some());
    let said = off.select(Some("y"), None, ServerType::Vm, "minix", Coe::Kubernetes);
    let said = said.err().unwrap().to_string();
    assert!(said.starts_with("Cluster driver (y) not supported. Known are "), "{said}");
    assert!(said.contains(NAME), "{said}");
    let said = off.select(None, None, ServerType::Bm, "minix", Coe::Kubernetes);
    let sentence = "Cluster type (bm, minix, kubernetes) not supported. No driver builds \
                    kubernetes on bm; known are kubernetes on vm, swarm-mode on vm.";
    assert_eq!(said.err().unwrap().to_string(), sentence);
    let said = off.select(None, None, ServerType::Vm, "opensuse", Coe::Kubernetes);
    let sentence = "Cluster type (vm, opensuse, kubernetes) not supported. For kubernetes on vm \
                    these values of the image's property os_distro are known: almalinux, centos, \
                    coreos, debian, fedora-atomic, fedora-coreos, flatcar, rhel, rocky, \
                    rockylinux, ubuntu. Choose such an image, or correct the property.";
    assert_eq!(said.err().unwrap().to_string(), sentence);
}

/// A tenant's text is never a template, wherever it goes.
#[test]
fn braces_in_a_tenants_text_are_never_evaluated() {
    let evil = "{{ 7 * 7 }}{% for x in range(end=9) %}x{% endfor %}";
    let own = Driver::new(small("x", COLOUR)).unwrap();
    let labels = labels([("colour", evil)]);
    let bundle = own.bundle(&Sample { labels, ..Sample::default() }.plan(&own)).unwrap();
    let stack: serde_json::Value = serde_saphyr::from_str(&bundle.template).unwrap();
    assert_eq!(stack["resources"]["r"]["properties"]["value"], evil);
}
