//! Labels and fields that are known and have no effect as things are: whoever gives them is told.

use super::*;

fn said(plan: &ClusterPlan) -> String {
    driver().idle(plan).join(" ")
}

fn own_network(plan: &mut ClusterPlan) {
    plan.cluster.fixed_network = Some("private".to_owned());
    plan.facts.fixed_network_id = Some("net-1".to_owned());
    plan.facts.fixed_subnet_id = Some("subnet-1".to_owned());
    plan.facts.fixed_subnet_cidr = Some("192.0.2.0/24".to_owned());
}

/// What is told is so: without the label the same is drawn.
#[test]
fn a_label_without_an_effect_is_told_and_changes_nothing() {
    type Case = (&'static str, &'static str, fn(&mut ClusterPlan), &'static str);
    let cases: &[Case] = &[
        ("fixed_subnet_cidr", "10.9.0.0/24", own_network, "with fixed_network"),
        ("fixed_network_cidr", "10.9.0.0/24", own_network, "with fixed_network"),
        ("octavia_provider", "amphora", |_| {}, "without master_lb_enabled or cloud_provider"),
        ("master_lb_floating_ip_enabled", "true", |_| {}, "without master_lb_enabled."),
        ("calico_ipv4pool", "10.9.0.0/16", |_| {}, "with another network driver than calico"),
        ("volume_availability_zone", "az", |_| {}, "without volumes"),
        ("csi_cinder_availability_zone", "az", |_| {}, "without volume_driver cinder"),
        ("docker_volume_type", "fast", |_| {}, "without docker_volume_size"),
        ("api_spread", "true", |_| {}, "with one master"),
    ];
    for (label, value, change, why) in cases {
        let [mut with, mut without] = [labelled(1, 1, &[(label, value)]), labelled(1, 1, &[])];
        change(&mut with);
        change(&mut without);
        let told = said(&with);
        assert!(told.contains("has no effect") && told.contains(why), "{label}: {told}");
        assert_eq!(driver().bundle(&with), driver().bundle(&without), "{label}");
        assert_eq!(said(&without), "", "{label}");
    }
}

#[test]
fn where_the_stack_decides_nodes_are_not_waited_for() {
    let labels =
        |mode| [("bootstrap_mode", mode), ("ready_threshold", "1"), ("ready_timeout", "20m")];
    assert_eq!(said(&labelled(1, 1, &labels("fetch"))), "");
    let told =
        "The labels ready_threshold, ready_timeout have no effect without bootstrap_mode fetch.";
    assert_eq!(said(&labelled(1, 1, &labels("inline"))), told);
}

#[test]
fn a_label_with_an_effect_is_not_told_of() {
    let mut plan = labelled(1, 1, &[("fixed_subnet_cidr", "192.0.2.0/24")]);
    assert_eq!(said(&plan), "", "the cluster's own network");
    own_network(&mut plan);
    assert_eq!(said(&plan), "", "which is what the nodes get");
    let mut plan = labelled(1, 1, &[("octavia_provider", "amphora"), ("calico_tag", "v3.30.1")]);
    plan.cluster.master_lb_enabled = true;
    plan.template.network_driver = Some("calico".to_owned());
    assert_eq!(said(&plan), "");
    plan.template.network_driver = Some("bridge".to_owned());
    let told = "The label calico_tag has no effect with another network driver than calico.";
    assert_eq!(said(&plan), told);
    let off = labelled(1, 1, &[("master_lb_floating_ip_enabled", "false")]);
    assert_eq!(said(&off), "", "it asks for nothing");
}

#[test]
fn a_field_without_an_effect_is_told() {
    let mut plan = labelled(1, 1, &[]);
    plan.template.http_proxy = None;
    plan.template.no_proxy = Some("10.0.0.0/8".to_owned());
    plan.template.docker_storage_driver = Some("devicemapper".to_owned());
    let told = said(&plan);
    assert!(told.contains("no_proxy has no effect without http_proxy and https_proxy."), "{told}");
    assert!(told.contains("docker_storage_driver has no effect with this driver"), "{told}");
    plan.template.https_proxy = Some("http://p:3128".to_owned());
    plan.template.docker_storage_driver = Some("overlay2".to_owned());
    assert_eq!(said(&plan), "");
}
