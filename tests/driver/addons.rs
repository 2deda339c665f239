//! Add-ons: objects that Kubernetes knows, complete in themselves, and credentials that go to the
//! first master alone.

use std::collections::BTreeSet;
use std::fs;
use std::process::Command;

use magnumd::driver::DutyPlan;
use magnumd::model::duty::DutyKind;
use serde_json::Value;

use super::*;

/// All there is, with images from everywhere or from one place.
fn all(more: &[(&str, &str)]) -> ClusterPlan {
    let on = [
        "auto_scaling_enabled",
        "keystone_auth_enabled",
        "kube_dashboard_enabled",
        "metrics_server_enabled",
        "prometheus_monitoring",
    ];
    let labels: Vec<(&str, &str)> =
        on.into_iter().map(|label| (label, "true")).chain(more.iter().copied()).collect();
    let mut plan = labelled(3, 1, &labels);
    plan.template.network_driver = Some("calico".to_owned());
    plan.template.volume_driver = Some("cinder".to_owned());
    plan.settings.openstack_ca = "-----BEGIN CERTIFICATE-----\nMIIB\n".to_owned();
    plan
}

/// The manifests of the first master, by name.
fn manifests(plan: &ClusterPlan) -> Vec<(String, String)> {
    let files = driver().node_files(plan, &node(plan, Some(0))).unwrap();
    let addons = files.into_iter().filter_map(|file| {
        let name = file.path.strip_prefix("addons/")?.to_owned();
        Some((name, String::from_utf8(file.content).unwrap()))
    });
    addons.collect()
}

fn every_manifest() -> Vec<(String, String)> {
    let mut every = manifests(&all(&[]));
    every.extend(manifests(&plan(1, 1)));
    every.extend(manifests(&nested()));
    assert_eq!(every.len(), 10, "eight, flannel and bridge");
    every
}

fn objects(text: &str) -> Vec<Value> {
    serde_saphyr::from_multiple(text).unwrap()
}

fn text<'v>(object: &'v Value, pointer: &str) -> &'v str {
    object.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

/// The specification of the pods that a workload makes.
fn pods(object: &Value) -> Option<&Value> {
    object.pointer("/spec/template/spec")
}

#[test]
fn objects_are_complete_in_themselves() {
    for (name, manifest) in every_manifest() {
        let objects = objects(&manifest);
        let named = |kind: &str| -> BTreeSet<&str> {
            let of_kind = objects.iter().filter(|o| o["kind"] == kind);
            of_kind.map(|o| text(o, "/metadata/name")).collect()
        };
        let mut seen = BTreeSet::new();
        for object in &objects {
            let (kind, own) = (text(object, "/kind"), text(object, "/metadata/name"));
            let space = text(object, "/metadata/namespace");
            assert!(!text(object, "/apiVersion").is_empty() && !kind.is_empty(), "{name}");
            assert!(!own.is_empty() && seen.insert((kind, space, own)), "{name}: {kind} {own}");
            assert!(
                ["", "kube-system"].contains(&space) || named("Namespace").contains(space),
                "{name}: {kind} {own}: nobody makes its namespace"
            );
            for subject in object["subjects"].as_array().into_iter().flatten() {
                let account = text(subject, "/name");
                let is_there = named("ServiceAccount").contains(account);
                assert!(is_there || subject["kind"] == "Group", "{name}: {own}: {account}");
            }
            let role = text(object, "/roleRef/name");
            let known = named(text(object, "/roleRef/kind")).contains(role);
            let kubernetes = ["system:auth-delegator", "extension-apiserver-authentication-reader"];
            assert!(
                role.is_empty() || known || kubernetes.contains(&role),
                "{name}: {own}: {role}"
            );
            let Some(pods) = pods(object) else { continue };
            let labels = object.pointer("/spec/template/metadata/labels");
            assert_eq!(object.pointer("/spec/selector/matchLabels"), labels, "{name}: {own}");
            let account = text(pods, "/serviceAccountName");
            assert!(named("ServiceAccount").contains(account), "{name}: {own}: {account}");
            // A cluster without workers has tainted nodes only.
            let on_masters = pods["tolerations"].as_array().into_iter().flatten().any(|t| {
                t["key"] == "node-role.kubernetes.io/control-plane"
                    || t.as_object().unwrap().len() == 1 && t["operator"] == "Exists"
            });
            assert!(on_masters, "{name}: {own} runs on no master");
            for container in pods["containers"].as_array().unwrap() {
                let requests = &container["resources"]["requests"];
                assert!(requests["cpu"].is_string() && requests["memory"].is_string(), "{own}");
                let volumes: BTreeSet<&str> = pods["volumes"]
                    .as_array()
                    .into_iter()
                    .flatten()
                    .map(|v| text(v, "/name"))
                    .collect();
                for mount in container["volumeMounts"].as_array().into_iter().flatten() {
                    assert!(volumes.contains(text(mount, "/name")), "{name}: {own}: {mount}");
                }
            }
        }
    }
}

#[test]
fn every_image_has_a_tag_and_comes_from_where_it_shall() {
    let images = |plan: &ClusterPlan| -> Vec<String> {
        let mut images = Vec::new();
        for object in manifests(plan).iter().flat_map(|(_, text)| objects(text)) {
            let Some(pods) = pods(&object) else { continue };
            let containers = ["containers", "initContainers"].iter().filter_map(|k| pods.get(*k));
            let containers = containers.flat_map(|c| c.as_array().unwrap().clone());
            images.extend(containers.map(|c| c["image"].as_str().unwrap().to_owned()));
        }
        images
    };
    let own = images(&all(&[]));
    assert!(own.len() >= 19, "{own:?}");
    let named = |image: &str| {
        let (registry, rest) = image.split_once('/').unwrap();
        let tag = rest.rsplit_once(':').map_or("", |(_, tag)| tag);
        registry.contains('.') && tag.starts_with('v')
    };
    assert!(own.iter().all(|image| named(image)), "{own:?}");
    let prefix = "registry.example.org/magnum/";
    for image in images(&all(&[("container_infra_prefix", prefix)])) {
        let rest = image.strip_prefix(prefix).unwrap_or_else(|| panic!("{image}"));
        assert!(!rest.contains('/'), "{image}");
    }
    let changed = images(&all(&[("calico_tag", "v3.28.2"), ("prometheus_tag", "v3.0.0")]));
    assert_eq!(changed.iter().filter(|i| i.ends_with(":v3.28.2")).count(), 3);
    assert!(changed.iter().any(|i| i.ends_with("/prometheus:v3.0.0")));
}

/// The OpenAPI schemas of three Kubernetes, strictly: a field that Kubernetes does not know is an
/// error.
#[test]
fn kubernetes_knows_every_field() {
    let folder = tempfile::tempdir().unwrap();
    let paths: Vec<_> = every_manifest()
        .into_iter()
        .map(|(name, manifest)| {
            let path = folder.path().join(name);
            fs::write(&path, manifest).unwrap();
            path
        })
        .collect();
    let validate = |paths: &[std::path::PathBuf]| {
        let versions = ["-k", "1.29", "-k", "1.34", "-k", "1.37"];
        Command::new("kubernetes-validate").args(versions).arg("--strict").args(paths).output()
    };
    let Ok(checked) = validate(&paths) else {
        eprintln!("skipped: kubernetes-validate is not installed");
        return;
    };
    let said = String::from_utf8_lossy(&checked.stdout).into_owned();
    let complaints: Vec<&str> = said.lines().filter(|line| !line.starts_with("INFO ")).collect();
    assert!(checked.status.success() && complaints.is_empty(), "{complaints:#?}");
    let wrong = folder.path().join("wrong.yaml");
    let misspelt = "{apiVersion: v1, kind: ServiceAccount, metadata: {name: a}, secret: []}";
    fs::write(&wrong, misspelt).unwrap();
    assert!(!validate(&[wrong]).unwrap().status.success(), "it looks at nothing");
}

/// The trustee's password and the trust's id, wherever they are.
fn tells(text: &str) -> bool {
    text.contains("trustee-TOP-SECRET") || text.contains("fedcba9876543210fedcba9876543210")
}

#[test]
fn credentials_go_to_the_first_master_alone_and_never_to_heat() {
    let plan = all(&[]);
    let bundle = driver().bundle(&plan).unwrap();
    assert!(!tells(&bundle.template) && !bundle.files.values().any(|file| tells(file)));
    assert!(!bundle.parameters.values().any(|value| tells(&value.to_string())));
    let telling = |plan: &ClusterPlan, index: Option<u32>| -> Vec<(String, u32)> {
        let files = driver().node_files(plan, &node(plan, index)).unwrap();
        let telling = files.into_iter().filter(|f| tells(&String::from_utf8_lossy(&f.content)));
        telling.map(|f| (f.path, f.mode)).collect()
    };
    let first = [("cloud.conf".to_owned(), 0o600)];
    assert_eq!(telling(&plan, Some(0)), first);
    assert_eq!((telling(&plan, Some(1)), telling(&plan, None)), (vec![], vec![]));
    assert_eq!(telling(&labelled(3, 1, &[]), Some(0)), []);

    let renew = |plan: &ClusterPlan, index: Option<u32>| -> Vec<String> {
        let duty = DutyPlan { number: 7, kind: DutyKind::RenewCredentials, targets: Vec::new() };
        let files = driver().duty_files(plan, &node(plan, index), &duty).unwrap();
        let brought = files.into_iter().filter(|f| ["cloud.conf", "work.sh"].contains(&&*f.path));
        brought.map(|f| f.path).collect()
    };
    assert_eq!(renew(&plan, Some(2)), ["work.sh", "cloud.conf"], "whichever master is ready");
    assert_eq!(renew(&plan, None), [""; 0]);
    let has = |plan: &ClusterPlan| driver().has_duty(plan, DutyKind::RenewCredentials).unwrap();
    assert!(has(&plan) && !has(&labelled(3, 1, &[])));
}

/// What the policy lets the roles do is JSON that the webhook reads; nobody who may only read
/// reaches a subresource by which more can be done.
#[test]
fn roles_of_keystone_do_what_they_say() {
    let found = manifests(&all(&[])).into_iter().find(|(n, _)| n == "keystone-auth.yaml").unwrap();
    let objects = objects(&found.1);
    let policy = objects.iter().find(|o| o["kind"] == "ConfigMap").unwrap();
    let rules: Vec<Value> = serde_json::from_str(text(policy, "/data/policies")).unwrap();
    let of =
        |role: &str| rules.iter().filter(|r| r["users"]["roles"][0] == *role).collect::<Vec<_>>();
    assert_eq!(of("k8s_admin").len() + of("k8s_developer").len() + of("k8s_viewer").len(), 5);
    assert!(rules.iter().all(|r| r["users"]["projects"].as_array().unwrap().len() == 1));
    for rule in of("k8s_viewer") {
        assert_eq!(rule["resource"]["verbs"], serde_json::json!(["get", "list", "watch"]));
        let resources: Vec<&str> = rule["resource"]["resources"]
            .as_array()
            .unwrap()
            .iter()
            .map(|r| r.as_str().unwrap())
            .collect();
        assert!(!resources.contains(&"secrets") && !resources.contains(&"*"), "{resources:?}");
        let below: Vec<&&str> = resources.iter().filter(|r| r.contains('/')).collect();
        assert_eq!(below, [&"pods/log"]);
    }
}
