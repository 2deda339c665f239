//! What is refused, with a sentence that names field, value and cure.

use super::*;

fn refusal(plan: &ClusterPlan) -> String {
    match driver().check(plan) {
        Err(DriverError::Unsuitable(sentence)) => sentence,
        other => panic!("{other:?}"),
    }
}

fn changed(change: impl FnOnce(&mut ClusterPlan)) -> ClusterPlan {
    let mut plan = plan(1, 1);
    change(&mut plan);
    plan
}

#[test]
fn what_can_be_built_passes() {
    for plan in [plan(1, 0), plan(7, 100), everything(), nested()] {
        driver().check(&plan).unwrap();
        driver().bundle(&plan).unwrap();
    }
}

#[test]
fn labels_of_the_wrong_type() {
    for (label, value, cure) in [
        ("kube_tag", "1.31.4", "v1.31.4"),
        ("kube_tag", "v1.31.4; reboot", "v1.31.4"),
        ("etcd_bootstrap", "dynamic", "static, discovery"),
        ("etcd_volume_size", "-1", "whole number"),
        ("etcd_volume_size", "20000", "16384"),
        ("boot_volume_size", "ten", "whole number"),
        ("flannel_network_cidr", "10.100.0.0", "IPv4 network"),
        ("flannel_network_subnetlen", "16", "from 17 to 32"),
        ("flannel_backend", "udp", "vxlan, host-gw"),
        ("flannel_tag", "a b", "tag of a container image"),
        ("container_infra_prefix", "registry.example.org", "ends with '/'"),
        ("service_cluster_ip_range", "10.254.0.0/30", "/28"),
        ("fixed_subnet_cidr", "10.0.0.0/30", "/28"),
        ("master_lb_floating_ip_enabled", "perhaps", "true or false"),
        ("master_lb_allowed_cidrs", "10.0.0.0/8,all", "comma list"),
        ("octavia_lb_algorithm", "FAIR", "ROUND_ROBIN"),
        ("nodeport_open", "2", "true or false"),
        ("etcd_election_timeout", "600", "five times"),
        ("kubeadm_timeout", "4 minutes", "90s or 4m"),
        ("ready_threshold", "2", "node_count, 1"),
        ("nodes_affinity_policy", "close", "soft-anti-affinity"),
        ("bootstrap_mode", "push", "fetch, inline, heat"),
        ("wait_condition_timeout", "12h1m", "43200"),
        ("node_auth", "token", "csr"),
        ("ca_on_masters", "false", "true"),
        ("calico_tag", "v3.32.1", "v3.31"),
        ("calico_ipv4pool_ipip", "Sometimes", "CrossSubnet"),
        ("cinder_csi_enabled", "false", "volume_driver cinder"),
        ("cinder_csi_plugin_tag", "v1.29.0", "v1.31.0"),
        ("monitoring_enabled", "true", "prometheus_monitoring"),
        ("monitoring_interval_seconds", "1", "from 5"),
        ("ingress_controller", "octavia", "none"),
        ("cert_manager_api", "true", "false"),
        ("heapster_enabled", "true", "metrics_server_enabled"),
        ("auto_healing_enabled", "true", "magnum-auto-healer"),
        ("auto_scaling_enabled", "true", "cloud_provider_enabled"),
        ("availability_zone", "a\nb", "control character"),
    ] {
        let sentence = refusal(&labelled(1, 1, &[(label, value)]));
        assert!(sentence.contains(label) && sentence.contains(value), "{sentence}");
        assert!(sentence.contains(cure), "{sentence}");
    }
}

#[test]
fn labels_nobody_knows_are_tolerated() {
    driver().check(&labelled(1, 1, &[("colour", "blue"), ("kube_tag", "")])).unwrap();
}

#[test]
fn counts_that_cannot_work() {
    for masters in [0, 2, 4, 8, 9] {
        let sentence = refusal(&plan(masters, 1));
        assert!(sentence.contains(&format!("master_count {masters} ")), "{sentence}");
        assert!(sentence.contains("1, 3, 5 or 7"), "{sentence}");
    }
    assert!(refusal(&plan(1, 1000)).contains("do not fit the pods' network"));
    let wide = [("flannel_network_cidr", "10.96.0.0/12"), ("flannel_network_subnetlen", "24")];
    assert!(refusal(&labelled(1, 1000, &wide)).contains("1009 resources"));
    driver().check(&labelled(1, 991, &wide)).unwrap();
    assert!(refusal(&labelled(1, u32::MAX - 1, &wide)).contains("do not fit"));
}

#[test]
fn networks_that_overlap() {
    let sentence = refusal(&labelled(1, 1, &[("fixed_subnet_cidr", "10.100.4.0/24")]));
    assert!(sentence.contains("10.100.4.0/24") && sentence.contains("10.100.0.0/16"));
    let given = changed(|p| {
        p.cluster.fixed_network = Some("n".to_owned());
        p.facts.fixed_subnet_cidr = Some("10.254.3.0/24".to_owned());
    });
    assert!(refusal(&given).contains("service_cluster_ip_range"));
}

#[test]
fn fields_that_a_kubeadm_cluster_has_not_got() {
    let some = |text: &str| Some(text.to_owned());
    for (field, plan) in [
        ("tls_disabled", changed(|p| p.template.tls_disabled = true)),
        ("registry_enabled", changed(|p| p.template.registry_enabled = true)),
        ("volume_driver rexray", changed(|p| p.template.volume_driver = some("rexray"))),
        ("apiserver_port 8443", changed(|p| p.template.apiserver_port = Some(8443))),
        ("Network driver cilium", changed(|p| p.template.network_driver = some("cilium"))),
        ("http_proxy", changed(|p| p.template.http_proxy = some("http://a\nb"))),
        ("dns_nameserver", changed(|p| p.template.dns_nameserver = some("1.1.1.1\n"))),
        ("insecure_registry", changed(|p| p.template.insecure_registry = some("http://a/"))),
        ("opensuse", changed(|p| p.facts.os_distro = "opensuse".to_owned())),
        ("fedora-coreos", changed(|p| p.facts.os_distro = "fedora-coreos".to_owned())),
        ("external_network_id", changed(|p| p.facts.external_network_id = None)),
    ] {
        let sentence = refusal(&plan);
        assert!(sentence.contains(field), "{field}: {sentence}");
        assert!(sentence.ends_with('.'), "{sentence}");
    }
}

#[test]
fn services_that_the_cloud_has_not_got() {
    let no_octavia = changed(|p| {
        p.cluster.master_lb_enabled = true;
        p.facts.has_octavia = false;
    });
    assert!(refusal(&no_octavia).contains("Set master_lb_enabled to false."));
    let no_cinder = |label: &str| {
        let mut plan = labelled(1, 1, &[(label, "5")]);
        plan.facts.has_cinder = false;
        plan
    };
    assert!(refusal(&no_cinder("etcd_volume_size")).contains("etcd_volume_size 5"));
    assert!(refusal(&no_cinder("boot_volume_size")).contains("boot_volume_size 5"));
    let docker = changed(|p| {
        p.cluster.docker_volume_size = Some(7);
        p.facts.has_cinder = false;
    });
    assert!(refusal(&docker).contains("docker_volume_size 7"));
    let volumes = |cinder: bool, labels: &[(&str, &str)]| {
        let mut plan = labelled(1, 1, labels);
        plan.template.volume_driver = Some("cinder".to_owned());
        plan.facts.has_cinder = cinder;
        plan
    };
    driver().check(&volumes(true, &[])).unwrap();
    assert!(
        refusal(&volumes(false, &[])).contains("volume_driver cinder needs the volume service")
    );
    let alone = refusal(&volumes(true, &[("cloud_provider_enabled", "false")]));
    assert!(alone.contains("volume_driver cinder needs the cloud controller"), "{alone}");
    let closed = changed(|p| {
        p.cluster.fixed_network = Some("n".to_owned());
        p.cluster.floating_ip_enabled = true;
        p.facts.external_network_id = None;
    });
    assert!(refusal(&closed).contains("floating_ip_enabled"));
}

#[test]
fn versions_that_contradict_each_other() {
    let sentence = refusal(&labelled(1, 1, &[("kube_tag", "v1.30.0")]));
    assert!(sentence.contains("kube_tag asks for v1.30.0"), "{sentence}");
    assert!(sentence.contains("Kubernetes v1.31.4"), "{sentence}");
    driver().check(&labelled(1, 1, &[("kube_tag", "v1.31.4-vendor1")])).unwrap();
    let old = changed(|p| p.facts.kube_version = Some("v1.18.2".to_owned()));
    assert!(refusal(&old).contains("too old"));
    let odd = changed(|p| p.facts.kube_version = Some("latest".to_owned()));
    driver().check(&odd).unwrap();
}

#[test]
fn what_it_provides() {
    let driver = driver();
    let debians = ["ubuntu", "debian"];
    let others = ["rockylinux", "rocky", "rhel", "centos", "almalinux", "flatcar"];
    for distro in debians.into_iter().chain(others) {
        assert!(driver.provides(ServerType::Vm, distro, Coe::Kubernetes), "{distro}");
    }
    assert!(!driver.provides(ServerType::Vm, "opensuse", Coe::Kubernetes));
    assert!(!driver.provides(ServerType::Bm, "ubuntu", Coe::Kubernetes));
    assert!(!driver.provides(ServerType::Vm, "ubuntu", Coe::SwarmMode));
    let discovery = labelled(1, 1, &[("etcd_bootstrap", "discovery")]);
    assert_eq!(driver.uses_discovery(&discovery), Ok(true));
    assert_eq!(driver.uses_discovery(&plan(1, 1)), Ok(false));
    assert_eq!(driver.ready_threshold(&labelled(1, 3, &[("ready_threshold", "2")])), Some(2));
    assert_eq!(driver.ready_threshold(&plan(1, 3)), None);
    let all = Drivers::builtin(&[]);
    assert!(all.by_name(NAME).is_some());
    assert!(Drivers::builtin(&[NAME.to_owned()]).by_name(NAME).is_none());
}

/// A volume in another zone would be another volume, and etcd's is all that a cluster knows.
#[test]
fn an_upgrade_leaves_volumes_where_they_are() {
    let at = |zone: Option<&str>| {
        let mut plan = labelled(3, 1, &[("etcd_volume_size", "5"), ("availability_zone", "a")]);
        if let Some(zone) = zone {
            plan.cluster.labels.insert("volume_availability_zone", zone);
        }
        plan
    };
    assert_eq!(
        driver().check_upgrade(&at(None), &at(Some("a"))),
        Ok(()),
        "the same by another name"
    );
    let refused = driver().check_upgrade(&at(None), &at(Some("b"))).unwrap_err().to_string();
    assert!(refused.contains("cannot change the label volume_availability_zone"), "{refused}");
}
