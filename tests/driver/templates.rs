//! What can be said of a cluster template before there is a cluster.

use super::*;

/// A template with these labels in a cloud without Cinder and Octavia, as `check_template` gets it.
fn template(given: &[(&str, &str)], change: impl FnOnce(&mut ClusterPlan)) -> ClusterPlan {
    let mut plan = labelled(1, 1, given);
    plan.template.labels = plan.cluster.labels.clone();
    (plan.facts.has_cinder, plan.facts.has_octavia) = (false, false);
    (plan.facts.external_network_id, plan.facts.kube_version) = (None, Some("v1.31.4".to_owned()));
    change(&mut plan);
    plan
}

fn nothing(_: &mut ClusterPlan) {}

fn volume(plan: &mut ClusterPlan) {
    plan.template.docker_volume_size = Some(5);
    plan.cluster.docker_volume_size = Some(5);
}

fn balancer(plan: &mut ClusterPlan) {
    plan.template.master_lb_enabled = true;
    plan.cluster.master_lb_enabled = true;
}

fn volumes(plan: &mut ClusterPlan) {
    plan.template.volume_driver = Some("cinder".to_owned());
}

#[test]
fn what_the_template_gives_and_no_cluster_can_mend_is_refused() {
    for (plan, said) in [
        (
            template(&[("etcd_volume_size", "soon")], nothing),
            "label etcd_volume_size. Value: 'soon'",
        ),
        (template(&[("etcd_bootstrap", "magic")], nothing), "It must be one of static, discovery."),
        (template(&[("etcd_volume_size", "5")], nothing), "needs the volume service (Cinder)"),
        (template(&[("api_server_cert_sans", "https://a")], nothing), "comma list of DNS names"),
        (template(&[("etcd_election_timeout", "600")], nothing), "five times"),
        (template(&[("auto_scaling_enabled", "true")], nothing), "cloud_provider_enabled"),
        (
            template(&[("flannel_network_cidr", "10.254.0.0/16")], nothing),
            "overlaps the services' network",
        ),
        (
            template(
                &[("octavia_provider", "ovn"), ("octavia_lb_algorithm", "ROUND_ROBIN")],
                nothing,
            ),
            "SOURCE_IP_PORT with octavia_provider ovn",
        ),
        (template(&[("octavia_provider", "OVN")], nothing), "in small letters: ovn."),
        (template(&[], volumes), "volume_driver cinder needs the volume service (Cinder)"),
        (template(&[], volume), "docker_volume_size 5 needs the volume service (Cinder)"),
        (template(&[], balancer), "master_lb_enabled needs the load balancer service (Octavia)"),
        (
            template(
                &[("octavia_provider", "ovn"), ("master_lb_allowed_cidrs", "10.0.0.0/8")],
                |p| {
                    balancer(p);
                    p.facts.has_octavia = true;
                },
            ),
            "label master_lb_allowed_cidrs. Value: '10.0.0.0/8'. It must be left away",
        ),
        (
            template(&[("cloud_provider_enabled", "false")], |p| {
                volumes(p);
                p.facts.has_cinder = true;
            }),
            "volume_driver cinder needs the cloud controller",
        ),
        (template(&[], |p| p.template.volume_driver = Some("rexray".to_owned())), "knows cinder"),
        // No cluster has these fields for itself.
        (template(&[], |p| p.template.registry_enabled = true), "registry_enabled is not possible"),
        (template(&[], |p| p.template.tls_disabled = true), "tls_disabled is not possible"),
        (template(&[], |p| p.template.apiserver_port = Some(8443)), "apiserver_port 8443 is not"),
        (
            template(&[], |p| p.template.insecure_registry = Some("http://a/".to_owned())),
            "insecure_registry http://a/ is not possible",
        ),
        (
            template(&[], |p| p.facts.os_distro = "fedora-coreos".to_owned()),
            "does not boot images with os_distro fedora-coreos",
        ),
        (
            template(&[], |p| p.template.http_proxy = Some("nonsense".to_owned())),
            "http_proxy nonsense of the cluster template is not possible. Give the URL",
        ),
        (
            template(&[], |p| p.template.no_proxy = Some("a.example.org b, c".to_owned())),
            "no_proxy of the cluster template has an entry 'a.example.org b'",
        ),
    ] {
        match driver().check_template(&plan) {
            Err(DriverError::Unsuitable(sentence)) => {
                assert!(sentence.contains(said), "{sentence}")
            }
            other => panic!("{said}: {other:?}"),
        }
    }
    let coreos = DRIVERS.with(|all| all.by_name("k8s_fedora_coreos_v1")).unwrap();
    let mut plan = Sample::default().plan(&coreos);
    volumes(&mut plan);
    let said = coreos.check_template(&plan).unwrap_err().to_string();
    assert!(said.contains("driver k8s_fedora_coreos_v1 does not deploy what it needs"), "{said}");
}

/// Clusters say more than their template: what they may say otherwise, and what an image that will
/// be there then may contain, is theirs.
#[test]
fn what_a_cluster_or_an_image_may_still_decide_is_left_to_them() {
    for (plan, what) in [
        (template(&[], nothing), "no network at all"),
        (template(&[("kube_tag", "v1.30.0")], nothing), "another version than today's image"),
        (template(&[("ready_threshold", "7")], nothing), "more nodes than the one of a plan"),
        (template(&[("fixed_subnet_cidr", "10.100.0.0/24")], nothing), "a network not used"),
        (template(&[], |p| p.cluster.master_lb_enabled = true), "a load balancer"),
        (template(&[], |p| p.cluster.docker_volume_size = Some(5)), "a volume"),
        (template(&[("colour", "blue"), ("etcd_volume_size", " ")], nothing), "nothing"),
        (
            template(
                &[("octavia_provider", "ovn"), ("master_lb_allowed_cidrs", "10.0.0.0/8")],
                nothing,
            ),
            "without a load balancer the security groups do it",
        ),
    ] {
        assert_eq!(driver().check_template(&plan), Ok(()), "{what}");
    }
}

/// A swarm without TLS is what its cluster may ask for with a label of its own.
#[test]
fn a_field_that_a_label_of_the_cluster_allows_is_left_to_it() {
    let swarm = DRIVERS.with(|all| all.by_name("swarm_mode_v1")).unwrap();
    let mut plan = Sample::default().plan(&swarm);
    plan.template.tls_disabled = true;
    assert_eq!(swarm.check_template(&plan), Ok(()));
    assert!(swarm.check(&plan).unwrap_err().to_string().contains("allow_insecure"));
}

#[test]
fn a_proxy_is_a_url_and_what_goes_past_it_hosts_and_networks() {
    let some = |text: &str| Some(text.to_owned());
    let with = |http: &str, https: &str, none: &str| {
        let plan = template(&[], |p| {
            let t = &mut p.template;
            (t.http_proxy, t.https_proxy) = (some(http), some(https));
            t.no_proxy = some(none);
        });
        // A new cluster of a template of an earlier release is told the same.
        let is_taken = driver().check_template(&plan).is_ok();
        let said = driver().check_new(&plan).err().map(|e| e.to_string()).unwrap_or_default();
        assert_eq!(is_taken, !said.contains("_proxy"), "{said}");
        is_taken
    };
    let good = "http://proxy:3128";
    for url in [good, "https://u:p@proxy.example.org", "http://[2001:db8::1]:80/", "HTTP://p"] {
        assert!(with(url, good, "") && with(good, url, ""), "{url}");
    }
    for url in ["proxy:3128", "socks5://proxy", "http://", "http://p:99999", "http://p:0", "a b"] {
        assert!(!with(url, good, "") && !with(good, url, ""), "{url}");
    }
    for none in [".example.org, 10.0.0.0/8,*", "2001:db8::/32,[::1]:80", "host_1:8080,", "*.a.b"] {
        assert!(with(good, good, none), "{none}");
    }
    for none in ["a b", "10.0.0.0/33", "http://a", "x,a;b"] {
        assert!(!with(good, good, none), "{none}");
    }
}

#[test]
fn load_balancers_of_ovn() {
    let balanced = |given: &[(&str, &str)]| {
        let mut plan = labelled(3, 1, given);
        plan.cluster.master_lb_enabled = true;
        driver().check(&plan).map_err(|e| e.to_string())
    };
    let ovn = ("octavia_provider", "ovn");
    assert_eq!(balanced(&[ovn]), Ok(()));
    assert_eq!(balanced(&[ovn, ("octavia_lb_algorithm", "SOURCE_IP_PORT")]), Ok(()));
    let said = balanced(&[ovn, ("octavia_lb_algorithm", "ROUND_ROBIN")]).unwrap_err();
    assert!(said.contains("'ROUND_ROBIN'") && said.contains("SOURCE_IP_PORT"), "{said}");
    let said = balanced(&[ovn, ("master_lb_allowed_cidrs", "198.51.100.0/24")]).unwrap_err();
    assert!(said.contains("master_lb_allowed_cidrs. Value: '198.51.100.0/24'"), "{said}");
    assert!(said.contains("octavia_provider amphora"), "{said}");
    assert_eq!(balanced(&[("master_lb_allowed_cidrs", "198.51.100.0/24")]), Ok(()));
}

/// Octavia looks its providers up by their exact names, and so do the rules above.
#[test]
fn a_provider_in_other_letters_is_refused_by_every_driver() {
    let refused = |driver: &Driver, provider: &str| {
        let mut plan = Sample::default().plan(driver);
        plan.template.labels = [("octavia_provider", provider)].into_iter().collect();
        plan.cluster.labels = plan.template.labels.clone();
        plan.facts.has_octavia = true;
        driver.check_template(&plan).err().map(|e| e.to_string())
    };
    DRIVERS.with(|all| {
        for driver in all.iter() {
            for (provider, right) in [("OVN", "ovn"), ("Ovn", "ovn"), ("Amphora", "amphora")] {
                assert_eq!(
                    refused(driver, provider),
                    Some(format!(
                        "Invalid input for label octavia_provider. Value: '{provider}'. It must be \
                         written as Octavia writes its providers, in small letters: {right}."
                    )),
                    "{}",
                    driver.name()
                );
            }
            for provider in ["ovn", "amphora", " ovn ", "A10", ""] {
                assert_eq!(refused(driver, provider), None, "{}: {provider}", driver.name());
            }
        }
    });
}

/// Each setting by itself: a rule about several at once hangs on what a cluster may still give.
#[test]
fn what_needs_a_service_is_told_by_every_driver() {
    DRIVERS.with(|all| {
        for driver in all.iter() {
            let refused = |labels: &[(&str, &str)], change: fn(&mut ClusterPlan)| {
                let mut plan = Sample::default().plan(driver);
                plan.template.labels = labels.iter().copied().collect();
                plan.cluster.labels = plan.template.labels.clone();
                (plan.facts.has_cinder, plan.facts.has_octavia) = (false, false);
                change(&mut plan);
                driver.check_template(&plan).err().map(|e| e.to_string()).unwrap_or_default()
            };
            let said = refused(&[], volume);
            assert!(said.starts_with("docker_volume_size 5 "), "{}: {said}", driver.name());
            let said = refused(&[], balancer);
            assert!(said.starts_with("master_lb_enabled "), "{}: {said}", driver.name());
            assert!(said.contains("(Octavia)") && said.contains("to false"), "{said}");
            for label in ["etcd_volume_size", "boot_volume_size"] {
                if driver.labels().iter().any(|l| l.name == label) {
                    let said = refused(&[(label, "5")], nothing);
                    assert!(said.contains(&format!("label {label} 5 needs")), "{said}");
                }
            }
        }
    });
}
