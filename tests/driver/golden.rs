//! Golden files, and what must be true of them whatever their bytes are.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use serde_json::Value;

use magnumd::driver::Directory;
use magnumd::driver::count::Census;

use super::*;

/// Compares with `tests/golden/driver/NAME/`; with MAGNUMD_BLESS set, writes it instead.
fn compare(name: &str, files: &[(String, String)]) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/driver").join(name);
    let bless = std::env::var_os("MAGNUMD_BLESS").is_some();
    if bless {
        let _ = fs::remove_dir_all(&root);
    }
    for (file, text) in files {
        let path = root.join(file);
        if bless {
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, text).unwrap();
        }
        let wanted = fs::read_to_string(&path).unwrap_or_default();
        assert!(
            wanted == *text,
            "{} differs from what is rendered; if that is intended, run the tests with \
             MAGNUMD_BLESS=1 and read the difference",
            path.display()
        );
    }
    let mut stored = Vec::new();
    walk(&root, &mut stored);
    assert_eq!(stored.len(), files.len(), "stale golden files in {}", root.display());
}

fn walk(folder: &Path, found: &mut Vec<std::path::PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { walk(&path, found) } else { found.push(path) }
    }
}

/// The stack, the user data of one server of each kind, and the bundles of the first master
/// and of a worker without the scripts, which are the same for all.
fn rendered(plan: &ClusterPlan) -> Vec<(String, String)> {
    let driver = driver();
    let bundle = driver.bundle(plan).unwrap();
    let mut files = vec![("stack.yaml".to_owned(), bundle.template)];
    for (name, text) in bundle.files {
        if ["master-0.yaml", "worker.yaml", "kubeminion.yaml"].contains(&name.as_str()) {
            files.push((name, text));
        }
    }
    for (folder, index) in [("master-0", Some(0)), ("worker", None)] {
        for file in driver.node_files(plan, &node(plan, index)).unwrap() {
            if !file.path.ends_with(".sh") {
                let text = String::from_utf8(file.content).unwrap();
                files.push((format!("{folder}/{}", file.path), text));
            }
        }
    }
    files
}

#[test]
fn golden_files() {
    compare("1+1", &rendered(&plan(1, 1)));
    compare("3+10", &rendered(&plan(3, 10)));
    compare("public", &rendered(&public()));
    compare("existing", &rendered(&existing()));
    compare("everything", &rendered(&everything()));
    compare("nested", &rendered(&nested()));
}

fn yaml(text: &str) -> Value {
    serde_saphyr::from_str(text).unwrap_or_else(|e| panic!("{e}\n{text}"))
}

fn documents(text: &str) -> Vec<Value> {
    text.split("\n---\n").map(yaml).collect()
}

#[test]
fn every_rendered_yaml_parses() {
    for plan in [plan(1, 1), plan(3, 10), public(), everything(), nested()] {
        for (name, text) in rendered(&plan) {
            if name.ends_with(".yaml") || name.ends_with("kubelet.conf") {
                assert!(documents(&text).iter().all(Value::is_object), "{name}");
            }
        }
    }
}

#[test]
fn the_stack_has_as_many_resources_as_it_should() {
    for (plan, resources, counted) in [
        (plan(1, 1), 6 + 2 + 1, 6 + 2 + 1 + 1),
        (plan(3, 10), 6 + 6 + 1, 6 + 6 + 1 + 10),
        (plan(1, 0), 6 + 2 + 1, 6 + 2 + 1),
        // A worker counts five times: the member, its port, server and address, and the value
        // by which cluster-autoscaler sees that it is complete.
        (public(), 6 + 3 + 1, 6 + 3 + 1 + 10),
        (nested(), 2 + 6 + 1, 2 + 6 + 1),
        // Ports, servers, addresses, members, three volumes each; five for the balancer; two groups.
        (everything(), 6 + 21 + 5 + 2 + 1, 6 + 21 + 5 + 2 + 1 + 14),
    ] {
        let bundle = driver().bundle(&plan).unwrap();
        let template = yaml(&bundle.template);
        assert_eq!(template["resources"].as_object().unwrap().len(), resources);
        assert_eq!(Census::take(&bundle).unwrap().resources(), counted);
        // A YAML reader may take the last of two equal names; the text shows both.
        let lines: Vec<&str> = bundle.template.lines().filter(|l| is_name(l)).collect();
        let distinct: BTreeSet<&str> = lines.iter().copied().collect();
        assert_eq!(lines.len(), distinct.len() + shared_names(&bundle.template));
        assert_resolved(&template, &bundle.files.keys().map(String::as_str).collect());
    }
}

fn is_name(line: &str) -> bool {
    line.starts_with("  ") && !line.starts_with("   ") && line.ends_with(':')
}

/// Names that are both a resource and an output, which is no clash.
fn shared_names(template: &str) -> usize {
    template.lines().filter(|line| *line == "  kube_minions:").count() - 1
}

/// Shows every member of every object in `value`.
fn every_member(value: &Value, seen: &mut dyn FnMut(&str, &Value)) {
    match value {
        Value::Object(map) => map.iter().for_each(|(key, value)| {
            seen(key, value);
            every_member(value, seen);
        }),
        Value::Array(items) => items.iter().for_each(|item| every_member(item, seen)),
        _ => {}
    }
}

/// Every reference of a template points at something that is there.
fn assert_resolved(template: &Value, files: &BTreeSet<&str>) {
    let resources = template["resources"].as_object().unwrap();
    let parameters = template["parameters"].as_object().unwrap();
    every_member(template, &mut |key, value| match key {
        "get_resource" | "depends_on" => {
            assert!(resources.contains_key(value.as_str().unwrap()), "{value}");
        }
        "get_attr" => assert!(resources.contains_key(value[0].as_str().unwrap()), "{value}"),
        "get_param" => assert!(parameters.contains_key(value.as_str().unwrap()), "{value}"),
        "get_file" => assert!(files.contains(value.as_str().unwrap()), "{value}"),
        "type" if value == "kubeminion.yaml" => assert!(files.contains("kubeminion.yaml")),
        _ => {}
    });
}

#[test]
fn members_with_floating_ips_and_volumes_are_templates_of_their_own() {
    let bundle = driver().bundle(&everything()).unwrap();
    let group = &yaml(&bundle.template)["resources"]["kube_minions"];
    assert_eq!(group["properties"]["resource_def"]["type"], "kubeminion.yaml");
    let member = yaml(&bundle.files["kubeminion.yaml"]);
    assert_resolved(&member, &bundle.files.keys().map(String::as_str).collect());
    let given = group["properties"]["resource_def"]["properties"].as_object().unwrap();
    let wanted = member["parameters"].as_object().unwrap();
    assert_eq!(
        given.keys().collect::<BTreeSet<_>>(),
        wanted.keys().collect::<BTreeSet<_>>(),
        "the group gives what the member wants"
    );
    assert_eq!(member["outputs"]["OS::stack_id"]["value"]["get_resource"], "kube-minion");
    let deployment = &member["resources"]["node_config_deployment"];
    assert_eq!(deployment["properties"]["value"]["get_resource"], "kube-minion");
    let server = &member["resources"]["kube-minion"]["properties"];
    assert!(server.get("image").is_none(), "Heat refuses an image beside a boot volume");
}

/// Regression, seen on a real Neutron: a tenant's cluster on a shared network of another
/// project failed with "create_port:allowed_address_pairs is disallowed by policy". An overlay
/// needs no such pairs, nor a rule for pods' addresses, so both are there with routed pods only.
#[test]
fn pods_addresses_are_let_through_only_where_they_are_on_the_wire() {
    let template = |plan: &ClusterPlan| driver().bundle(plan).unwrap().template;
    for overlay in [existing(), plan(1, 1)] {
        let text = template(&overlay);
        assert!(!text.contains("allowed_address_pairs"), "{text}");
        assert!(!text.contains("10.100.0.0/16"), "{text}");
    }
    let routed = template(&nested());
    assert!(routed.contains("allowed_address_pairs"), "{routed}");
    assert!(routed.contains(r#"{"remote_ip_prefix": "10.100.0.0/16"}"#), "{routed}");
}

/// Heat pauses for a second after each resource of a stack that depends on nothing.
#[test]
fn one_resource_alone_depends_on_nothing() {
    for plan in [plan(1, 1), plan(3, 10), existing(), everything()] {
        let stack = yaml(&driver().bundle(&plan).unwrap().template);
        let resources = stack["resources"].as_object().unwrap();
        let depends = |resource: &Value| {
            let mut found = false;
            let words = ["depends_on", "get_resource", "get_attr"];
            every_member(resource, &mut |key, _| found |= words.contains(&key));
            found
        };
        let first: Vec<_> = resources.iter().filter(|(_, r)| !depends(r)).map(|r| r.0).collect();
        assert_eq!(first.len(), 1, "{first:?}");
    }
}

#[test]
fn a_large_cluster_stays_small() {
    let bundle = driver().bundle(&plan(3, 100)).unwrap();
    assert!(bundle.template.len() < 64 * 1024, "{}", bundle.template.len());
    assert_eq!(yaml(&bundle.template)["resources"]["kube_minions"]["properties"]["count"], 100);
    for (name, text) in &bundle.files {
        assert!(text.len() < 16 * 1024, "{name}: {}", text.len());
    }
}

#[test]
fn the_same_plan_renders_the_same_bytes() {
    for plan in [plan(3, 10), everything(), nested()] {
        let again = || Drivers::builtin(&[]).by_name(NAME).unwrap();
        let (one, other) = (again(), again());
        assert!(one.bundle(&plan).unwrap() == other.bundle(&plan).unwrap());
        let node = node(&plan, Some(0));
        assert_eq!(one.node_files(&plan, &node), other.node_files(&plan, &node));
    }
}

/// A cluster keeps a driver's files: alone they are the driver that it was made with.
#[test]
fn what_is_stored_of_a_driver_is_all_of_it() {
    for name in DRIVERS.with(|all| all.names().map(str::to_owned).collect::<Vec<_>>()) {
        let driver = DRIVERS.with(|all| all.by_name(&name)).unwrap();
        let files = driver.directory().files();
        let stored = files.map(|(path, text)| (path.to_owned(), text.to_owned()));
        let again = Driver::new(Directory::new(name.as_str(), stored).unwrap()).unwrap();
        assert_eq!(again.directory().digest(), driver.directory().digest(), "{name}");
        let plan = Sample::default().plan(&driver);
        assert!(again.bundle(&plan) == driver.bundle(&plan), "{name}");
        let node = Sample::node(&plan, Some(0));
        assert!(again.node_files(&plan, &node) == driver.node_files(&plan, &node), "{name}");
        assert!(!driver.manifest().parts.is_empty() && driver.manifest().include.is_empty());
    }
}

#[test]
fn nothing_secret_is_where_it_can_be_read() {
    let plan = everything();
    let bundle = driver().bundle(&plan).unwrap();
    let parameters = serde_json::to_string(&bundle.parameters).unwrap();
    assert_eq!(
        parameters,
        r#"{"cluster_uuid":"00000000-0000-0000-0000-00000000001f","kube_version":"v1.30.2","revision":""}"#
    );
    assert!(!bundle.template.contains("token-") && !format!("{bundle:?}").contains("token-"));
    // Each server gets its own token and nobody else's.
    assert!(bundle.files["master-1.yaml"].contains("'token-master-1'"));
    assert_eq!(bundle.files["master-1.yaml"].matches("token-").count(), 1);
    assert!(bundle.files["worker.yaml"].contains("'token-worker'"));
    for file in driver().node_files(&plan, &node(&plan, None)).unwrap() {
        assert!(!String::from_utf8_lossy(&file.content).contains("TOP-SECRET"), "{}", file.path);
    }
    for file in driver().node_files(&plan, &node(&plan, Some(1))).unwrap() {
        let text = String::from_utf8_lossy(&file.content).into_owned();
        assert!(!text.contains("etcd-ca-TOP"), "{}", file.path);
        assert!(
            !text.contains("TOP-SECRET") || file.mode == 0o600,
            "{} is {:o}",
            file.path,
            file.mode
        );
    }
}

#[test]
fn what_heat_built_is_read() {
    let stack = |outputs: Value| Stack {
        id: "1".to_owned(),
        name: "s".to_owned(),
        status: magnumd::model::stack::StackStatus::parse("CREATE_COMPLETE").unwrap(),
        status_reason: String::new(),
        parameters: Default::default(),
        outputs: outputs.as_object().unwrap().clone().into_iter().collect(),
        tags: Vec::new(),
    };
    let plan = plan(3, 2);
    let early = driver().outcome(
        &plan,
        &stack(serde_json::json!({
            "api_address": null, "api_public": [null], "kube_masters": ["203.0.113.9", null],
            "kube_masters_private": ["10.0.0.10", null, ""], "kube_minions": [""],
        })),
    );
    assert_eq!(early.master_private, None, "not before all are known");
    assert_eq!((early.api_address, early.api_public), (None, None));
    assert_eq!(early.master_addresses, ["203.0.113.9"]);
    assert!(early.worker_addresses.is_empty());
    let done = driver().outcome(
        &plan,
        &stack(serde_json::json!({
            "api_address": "203.0.113.9", "api_internal": "10.0.0.10", "api_public": [],
            "kube_masters": ["10.0.0.10", "10.0.0.11", "10.0.0.12"],
            "kube_masters_private": ["10.0.0.10", "10.0.0.11", "10.0.0.12"],
            "kube_minions": ["10.0.0.20", "10.0.0.21"],
        })),
    );
    assert_eq!(done.api_address.as_deref(), Some("https://203.0.113.9:6443"));
    assert_eq!(done.api_internal.as_deref(), Some("10.0.0.10"));
    assert_eq!(done.api_public, Some(Vec::new()));
    assert_eq!(done.master_private.unwrap().len(), 3);
    assert_eq!(done.worker_addresses.len(), 2);
}

/// Names and values that would break out of YAML, shell or TOML if they were pasted in.
#[test]
fn hostile_text_stays_text() {
    let hostile = r#"a: "b" #{{ ' $(x) `y` \\ %index% {% raw %} ä€😀"#;
    let mut plan = everything();
    plan.cluster.name = hostile.to_owned();
    plan.cluster.labels.insert("availability_zone", hostile);
    plan.cluster.labels.insert("etcd_volume_type", hostile);
    plan.cluster.labels.insert("nobody reads: this", "{{ broken");
    plan.facts.ssh_public_key = Some(format!("ssh-rsa AAAA {hostile}"));
    plan.facts.image_id = hostile.to_owned();
    plan.facts.external_network_id = Some(hostile.to_owned());
    plan.template.http_proxy = Some(hostile.to_owned());
    plan.template.no_proxy = Some(hostile.to_owned());
    plan.template.dns_nameserver = Some(format!("192.0.2.53, {hostile}"));
    plan.settings.bootstrap_url = format!("http://x/{hostile}");
    plan.settings.bootstrap_ca = hostile.to_owned();
    plan.groups[1].name = hostile.to_owned();
    plan.enrolment.workers[0].0 = hostile.to_owned();
    // The node group's name becomes a label of Kubernetes, which cannot take it.
    assert!(matches!(driver().check(&plan), Err(DriverError::Unsuitable(_))));
    plan.groups[1].name = DEFAULT_WORKER.to_owned();
    plan.enrolment.workers[0].0 = DEFAULT_WORKER.to_owned();
    driver().check(&plan).unwrap();
    let bundle = driver().bundle(&plan).unwrap();
    let stack = yaml(&bundle.template);
    assert_eq!(stack["description"], hostile);
    let resources = &stack["resources"];
    assert_eq!(resources["etcd_vol_0"]["properties"]["volume_type"], hostile);
    assert_eq!(resources["master_0"]["properties"]["availability_zone"], hostile);
    assert_eq!(resources["boot_vol_0"]["properties"]["image"], hostile);
    assert_eq!(resources["boot_vol_0"]["properties"]["availability_zone"], hostile);
    let mut nowhere = plan.clone();
    nowhere.cluster.labels.remove("availability_zone");
    let anywhere = yaml(&driver().bundle(&nowhere).unwrap().template);
    let master = &anywhere["resources"]["master_0"]["properties"];
    assert_eq!(master["block_device_mapping_v2"][0]["image"], hostile);
    assert_eq!(resources["subnet"]["properties"]["dns_nameservers"][1], hostile);
    let gateway = &resources["router"]["properties"]["external_gateway_info"];
    assert_eq!(gateway["network"], hostile);
    let data = yaml(&bundle.files["worker.yaml"]);
    assert_eq!(data["ssh_authorized_keys"][0], format!("ssh-rsa AAAA {hostile}"));
    let ca = data["write_files"].as_array().unwrap();
    let ca = ca.iter().find(|f| f["path"] == "/etc/magnumd/bootstrap-ca.pem").unwrap();
    assert_eq!(ca["content"], hostile);
    let env = data["write_files"][0]["content"].as_str().unwrap();
    let url = format!("http://x/{}", hostile.replace('\'', r"'\''"));
    let line = format!("MAGNUMD_BOOTSTRAP_URL='{url}'");
    assert!(env.lines().any(|l| l == line), "{env}");
    for index in [Some(0), None] {
        for file in driver().node_files(&plan, &node(&plan, index)).unwrap() {
            let text = String::from_utf8(file.content).unwrap();
            if file.path.ends_with(".yaml") {
                documents(&text);
            }
        }
    }
}
