//! What an upgrade takes over of another template, and what it refuses.

use std::collections::BTreeSet;

use magnumd::driver::label::{Kind, Label};
use magnumd::model::labels::Labels;
use serde_json::Value;

use super::*;

/// What Heat changes without making the resource anew, in stacks of ours.
const IN_PLACE: &[(&str, &str)] = &[
    ("OS::Neutron::SecurityGroup", "rules"),
    ("OS::Neutron::Subnet", "dns_nameservers"),
    ("OS::Octavia::Listener", "allowed_cidrs"),
    ("OS::Octavia::Pool", "lb_algorithm"),
];
/// What may come and go without anybody's address or server.
const AT_WILL: &[&str] = &["OS::Octavia::HealthMonitor"];

fn upgraded(from: &ClusterPlan, change: impl FnOnce(&mut ClusterPlan)) -> ClusterPlan {
    let mut to = from.clone();
    "check".clone_into(&mut to.revision);
    to.template.name = "next".to_owned();
    change(&mut to);
    to
}

fn another_image(plan: &mut ClusterPlan) {
    "6b0a0b5e-0000-4000-8000-0000000000ff".clone_into(&mut plan.facts.image_id);
}

fn refusal(from: &ClusterPlan, to: &ClusterPlan) -> String {
    match driver().check_upgrade(from, to) {
        Err(DriverError::Unsuitable(sentence)) => sentence,
        other => panic!("{other:?}"),
    }
}

fn given(plan: &mut ClusterPlan, pairs: &[(&str, &str)]) {
    plan.cluster.labels = Labels::from_iter(pairs.iter().copied()).over(&plan.cluster.labels);
}

/// Values of a label beside its default.
fn values(label: &Label) -> Vec<String> {
    if let Some(all) = &label.spec.allowed {
        return all.iter().map(|scalar| scalar.0.clone()).collect();
    }
    let least = label.spec.min.unwrap_or(1).max(1);
    let one = match label.spec.kind {
        Kind::Bool => return vec!["true".to_owned(), "false".to_owned()],
        Kind::Int | Kind::Duration => (least + 1).to_string(),
        Kind::Cidr => "10.77.0.0/16".to_owned(),
        Kind::CidrList => "198.51.100.0/24".to_owned(),
        Kind::Tag | Kind::Version => "v1.31.4".to_owned(),
        Kind::ImagePrefix => "registry.example.org/other/".to_owned(),
        Kind::HostList => "api.example.org".to_owned(),
        Kind::Enum | Kind::List | Kind::String => "other".to_owned(),
    };
    vec![one]
}

/// What of a stack would be made anew, or go, or come.
fn made_anew(before: &str, after: &str) -> BTreeSet<String> {
    let read = |text: &str| serde_saphyr::from_str::<Value>(text).unwrap();
    let (before, after) = (read(before), read(after));
    let none = serde_json::Map::new();
    let of = |stack: &Value| stack["resources"].as_object().unwrap().clone();
    let (before, after) = (of(&before), of(&after));
    let mut found = BTreeSet::new();
    for name in before.keys().chain(after.keys()) {
        match (before.get(name), after.get(name)) {
            (Some(old), Some(new)) => {
                assert_eq!(old["type"], new["type"], "{name}");
                let kind = old["type"].as_str().unwrap();
                let properties = |r: &Value| r["properties"].as_object().cloned();
                let (old, new) = (properties(old), properties(new));
                let (old, new) = (old.unwrap_or(none.clone()), new.unwrap_or(none.clone()));
                for key in old.keys().chain(new.keys()).filter(|k| old.get(*k) != new.get(*k)) {
                    if !IN_PLACE.contains(&(kind, key.as_str())) {
                        found.insert(format!("{name}.{key}"));
                    }
                }
            }
            (one, other) => {
                let kind = one.or(other).unwrap()["type"].as_str().unwrap();
                if !AT_WILL.contains(&kind) {
                    found.insert(name.clone());
                }
            }
        }
    }
    found
}

/// Regression: an upgrade to a template with another octavia_provider had Heat make the load
/// balancer anew, so that the cluster got another address than its certificates and its users have;
/// another selinux_mode went into user data, which servers that exist never read again. Whatever label
/// a driver lets change must neither make anything anew nor go into user data.
#[test]
fn labels_that_an_upgrade_takes_over_make_nothing_anew() {
    for name in [NAME, "k8s_fedora_coreos_v1"] {
        let driver = DRIVERS.with(|all| all.by_name(name)).unwrap();
        let mut plans = Vec::new();
        for (balanced, floating, volume) in
            [(true, true, None), (true, false, Some(5)), (false, true, None), (false, false, None)]
        {
            let masters = if balanced || name == NAME { 3 } else { 1 };
            let labels = labels([("etcd_volume_size", "5")]);
            let mut plan =
                Sample { masters, workers: 2, labels, ..Sample::default() }.plan(&driver);
            plan.cluster.master_lb_enabled = balanced;
            plan.cluster.floating_ip_enabled = floating;
            plan.cluster.docker_volume_size = volume;
            plans.push(plan);
        }
        let (mut changed, mut wrong) = (BTreeSet::new(), BTreeSet::new());
        for from in &plans {
            let before = driver.bundle(from).unwrap();
            for label in driver.labels() {
                for value in values(label) {
                    let to = upgraded(from, |p| given(p, &[(&label.name, &value)]));
                    let rebuilt = upgraded(&to, another_image);
                    if driver.check_upgrade(from, &rebuilt).is_err() {
                        continue;
                    }
                    let after = driver.bundle(&to).unwrap();
                    let what = format!("{name}: {}={value}", label.name);
                    let anew = made_anew(&before.template, &after.template);
                    let files = if before.files == after.files { "" } else { " a file of it" };
                    if !anew.is_empty() || !files.is_empty() {
                        wrong.insert(format!("{what}:{files} {anew:?}"));
                    }
                    if before.template != after.template {
                        changed.insert(label.name.clone());
                    }
                }
            }
        }
        assert_eq!(wrong, [].into(), "{wrong:#?}");
        // The test sees what it looks for.
        for label in ["master_lb_allowed_cidrs", "octavia_lb_algorithm", "nodeport_open"] {
            assert!(changed.contains(label), "{name}: {label} changes nothing: {changed:?}");
        }
    }
}

#[test]
fn what_must_stay_is_named_with_both_values() {
    let mut from = labelled(3, 1, &[("octavia_provider", "amphora")]);
    from.cluster.master_lb_enabled = true;
    for (label, value, words) in [
        ("octavia_provider", "ovn", "the label octavia_provider from amphora to ovn."),
        ("flannel_network_cidr", "10.90.0.0/16", "from 10.100.0.0/16 to 10.90.0.0/16."),
        ("availability_zone", "az2", "the label availability_zone from none to az2."),
        ("master_lb_floating_ip_enabled", "true", "_enabled from false to true."),
    ] {
        let to = upgraded(&from, |p| {
            another_image(p);
            given(p, &[(label, value)]);
        });
        let said = refusal(&from, &to);
        assert!(said.contains(words) && said.contains("Choose a template"), "{said}");
    }
    let to = upgraded(&from, |p| {
        another_image(p);
        p.template.network_driver = Some("calico".to_owned());
    });
    assert!(refusal(&from, &to).contains("network_driver from flannel to calico."));
}

/// Regression: with the image that nodes have already no server is rebuilt, and a proxy or a label
/// that stands in nodes' files alone was accepted and reached nobody.
#[test]
fn what_only_a_rebuild_brings_needs_another_image() {
    let from = plan(3, 1);
    let proxy = |p: &mut ClusterPlan| p.template.http_proxy = Some("http://p:3128".to_owned());
    let sans = |p: &mut ClusterPlan| given(p, &[("api_server_cert_sans", "api.example.org")]);
    let said = refusal(&from, &upgraded(&from, proxy));
    assert!(
        said.contains("http_proxy http://p:3128 instead of none would reach new nodes"),
        "{said}"
    );
    assert!(said.contains("cluster template next") && said.contains("another image"), "{said}");
    let said = refusal(&from, &upgraded(&from, sans));
    assert!(said.contains("api_server_cert_sans api.example.org instead of none"), "{said}");
    for change in [&proxy as &dyn Fn(&mut ClusterPlan), &sans] {
        let to = upgraded(&from, |p| {
            another_image(p);
            change(p);
        });
        assert_eq!(driver().check_upgrade(&from, &to), Ok(()));
    }
    // The stack takes these over without any server; a label that nobody reads changes nothing.
    for pairs in [
        &[("master_lb_allowed_cidrs", "198.51.100.0/24")][..],
        &[("nodeport_open", "false")],
        &[("colour", "blue"), ("kube_tag", "")],
    ] {
        let to = upgraded(&from, |p| given(p, pairs));
        assert_eq!(driver().check_upgrade(&from, &to), Ok(()), "{pairs:?}");
    }
    let to = upgraded(&from, |p| p.template.dns_nameserver = Some("192.0.2.99".to_owned()));
    assert_eq!(driver().check_upgrade(&from, &to), Ok(()));
}

#[test]
fn add_ons_come_and_do_not_go() {
    let without = plan(3, 1);
    let with = labelled(3, 1, &[("metrics_server_enabled", "true")]);
    let image = |plan: &ClusterPlan| upgraded(plan, another_image);
    assert_eq!(driver().check_upgrade(&without, &image(&with)), Ok(()));
    let said = refusal(&with, &image(&without));
    assert!(said.contains("what the label metrics_server_enabled true asks for"), "{said}");
    let volumes = |driver: Option<&str>| {
        let mut plan = labelled(3, 1, &[("cloud_provider_enabled", "true")]);
        plan.template.volume_driver = driver.map(str::to_owned);
        plan
    };
    assert_eq!(driver().check_upgrade(&volumes(None), &image(&volumes(Some("cinder")))), Ok(()));
    let said = refusal(&volumes(Some("cinder")), &image(&volumes(None)));
    assert!(said.contains("what volume_driver cinder asks for"), "{said}");
}

/// Regression: a template's label was called the cluster's.
#[test]
fn whose_bootstrap_mode_keeps_an_upgrade_from_the_nodes_is_told() {
    let from = plan(1, 1);
    let to = upgraded(&from, |p| {
        another_image(p);
        given(p, &[("bootstrap_mode", "inline")]);
    });
    let said = refusal(&from, &to);
    assert!(said.contains("the template's label bootstrap_mode inline they would not"), "{said}");
    assert!(said.contains("Choose a template with bootstrap_mode fetch"), "{said}");
    let said = refusal(&to, &upgraded(&to, another_image));
    assert!(said.contains("with bootstrap_mode inline they do not reach magnumd"), "{said}");
}

/// An image that tells no version was a way around both: down, and over a minor version.
#[test]
fn an_image_without_a_version_is_not_followed_by_nodes_that_have_one() {
    let at = |version: Option<&str>| {
        let mut plan = labelled(3, 1, &[]);
        plan.facts.kube_version = version.map(str::to_owned);
        plan
    };
    let from = at(Some("v1.32.1"));
    let unknown = upgraded(&from, |to| {
        another_image(to);
        to.facts.kube_version = None;
    });
    let said = refusal(&from, &unknown);
    assert!(
        said.contains("the nodes have v1.32.1: whether they may follow is not known"),
        "{said}"
    );
    let known = upgraded(&at(None), |to| {
        another_image(to);
        to.facts.kube_version = Some("v1.32.1".to_owned());
    });
    assert_eq!(driver().check_upgrade(&at(None), &known), Ok(()));
}
