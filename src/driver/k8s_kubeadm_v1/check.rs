//! What can be built at all; asked before anything is written anywhere.

use super::options::Options;
use super::{DISTROS, NAME, counts};
use crate::driver::{ClusterPlan, DriverError};

/// Heat's own limits, in its default configuration.
const MOST_RESOURCES: u32 = 1000;
const LARGEST_TEMPLATE: usize = 512 * 1024;

pub(super) fn unsuitable<T>(sentence: impl Into<String>) -> Result<T, DriverError> {
    Err(DriverError::Unsuitable(sentence.into()))
}

/// Everything that labels, counts and flags decide, or the first reason why not.
pub fn check(plan: &ClusterPlan) -> Result<Options, DriverError> {
    image(plan)?;
    let (masters, workers) = counts(plan);
    if plan.foundation.is_none() && (masters % 2 == 0 || masters > 7) {
        return unsuitable(format!(
            "master_count {masters} is not possible: etcd needs an odd number of masters, so \
             choose 1, 3, 5 or 7."
        ));
    }
    flags(plan)?;
    let options = Options::read(plan)?;
    if let Some(threshold) = options.ready_threshold.filter(|threshold| {
        // A cluster that is built may shrink below what its creation waited for.
        plan.foundation.is_none() && plan.revision.is_empty() && *threshold > workers
    }) {
        return unsuitable(format!(
            "Invalid input for label ready_threshold. Value: '{threshold}'. It must be a whole \
             number from 0 to node_count, {workers}."
        ));
    }
    for group in &plan.groups {
        super::node::node_labels(group)?;
    }
    networks(plan, &options)?;
    volumes(plan, &options)?;
    let nodes = masters.saturating_add(workers);
    if options.most_nodes() < nodes {
        return unsuitable(format!(
            "{} nodes do not fit the pods' network {}: with a /{} for each node there is room \
             for {}. Set the label flannel_network_cidr to a larger network, or \
             flannel_network_subnetlen to a larger number.",
            nodes,
            options.pods,
            options.pods_per_node,
            options.most_nodes()
        ));
    }
    let resources = resources(plan, &options);
    if resources > MOST_RESOURCES {
        return unsuitable(format!(
            "node_count {workers} gives {resources} resources in one stack, and Heat allows \
             {MOST_RESOURCES}. Choose a smaller node_count."
        ));
    }
    Ok(options)
}

/// Text that reached us whole may still be too much for Heat.
pub fn template_size(template: &str) -> Result<(), DriverError> {
    match template.len() {
        0..=LARGEST_TEMPLATE => Ok(()),
        bytes => unsuitable(format!(
            "The stack's template would have {bytes} bytes, and Heat allows {LARGEST_TEMPLATE}. \
             Shorten names and labels, or choose fewer masters."
        )),
    }
}

fn image(plan: &ClusterPlan) -> Result<(), DriverError> {
    let distro = plan.facts.os_distro.as_str();
    match distro {
        _ if DISTROS.contains(&distro) => Ok(()),
        "flatcar" => unsuitable(format!(
            "Driver {NAME} does not boot flatcar yet: it needs Ignition instead of cloud-init. \
             Choose an image whose os_distro is one of {}.",
            DISTROS.join(", ")
        )),
        _ => unsuitable(format!(
            "Driver {NAME} does not boot images with os_distro {distro}. Choose one of {}.",
            DISTROS.join(", ")
        )),
    }
}

/// Fields of the template that ask for what a kubeadm cluster has not got.
fn flags(plan: &ClusterPlan) -> Result<(), DriverError> {
    let template = &plan.template;
    if template.tls_disabled {
        return unsuitable(
            "tls_disabled is not possible: Kubernetes has no insecure port since v1.20. Set \
             tls_disabled to false in the cluster template.",
        );
    }
    if template.registry_enabled {
        return unsuitable(format!(
            "registry_enabled is not possible: driver {NAME} does not deploy a registry. Set \
             registry_enabled to false in the cluster template."
        ));
    }
    if let Some(driver) = template.volume_driver.as_deref().filter(|driver| !driver.is_empty()) {
        return unsuitable(format!(
            "volume_driver {driver} is not possible: driver {NAME} does not deploy the OpenStack \
             cloud provider that it needs. Leave volume_driver away in the cluster template."
        ));
    }
    if let Some(port) = template.apiserver_port.filter(|port| *port != 6443) {
        return unsuitable(format!(
            "apiserver_port {port} is not possible: driver {NAME} serves the API at 6443. Leave \
             apiserver_port away in the cluster template."
        ));
    }
    let registry = template.insecure_registry.as_deref().unwrap_or_default().trim();
    if registry.contains(|c: char| !c.is_ascii_alphanumeric() && !"._-:".contains(c)) {
        return unsuitable(format!(
            "insecure_registry {registry} is not possible. Give a host and perhaps a port, such \
             as 192.0.2.7:5000."
        ));
    }
    for (field, value) in [
        ("http_proxy", &template.http_proxy),
        ("https_proxy", &template.https_proxy),
        ("no_proxy", &template.no_proxy),
        ("dns_nameserver", &template.dns_nameserver),
    ] {
        if value.as_deref().is_some_and(|value| value.contains(|c: char| c.is_control())) {
            return unsuitable(format!(
                "{field} of the cluster template contains a line break or another control \
                 character. Write it as one line of plain text."
            ));
        }
    }
    Ok(())
}

fn networks(plan: &ClusterPlan, options: &Options) -> Result<(), DriverError> {
    let (cluster, facts) = (&plan.cluster, &plan.facts);
    let lacks_external = facts.external_network_id.is_none();
    if lacks_external && cluster.fixed_network.is_none() {
        return unsuitable(
            "external_network_id is missing in the cluster template: the cluster's own network \
             needs a router to it. Set it to a network that is router:external, or give \
             fixed_network an existing network that has a router.",
        );
    }
    if lacks_external && (options.floating_ips || wants_lb_address(plan, options)) {
        return unsuitable(
            "floating_ip_enabled needs external_network_id, which is missing in the cluster \
             template. Set it to a network that is router:external, or set floating_ip_enabled \
             to false.",
        );
    }
    if !cluster.master_lb_enabled {
        return Ok(());
    }
    if !facts.has_octavia {
        return unsuitable(
            "master_lb_enabled needs the load balancer service (Octavia), which this cloud does \
             not have. Set master_lb_enabled to false.",
        );
    }
    if cluster.fixed_network.is_some() && facts.fixed_subnet_id.is_none() {
        return unsuitable(
            "master_lb_enabled needs fixed_subnet when fixed_network has several subnets: the \
             load balancer's address comes from it. Set fixed_subnet.",
        );
    }
    Ok(())
}

fn wants_lb_address(plan: &ClusterPlan, options: &Options) -> bool {
    plan.cluster.master_lb_enabled && options.lb_floating_ip
}

fn volumes(plan: &ClusterPlan, options: &Options) -> Result<(), DriverError> {
    if plan.facts.has_cinder {
        return Ok(());
    }
    let asked = [
        ("docker_volume_size", options.docker_volume),
        ("the label etcd_volume_size", options.etcd_volume),
        ("the label boot_volume_size", options.boot_volume),
    ];
    match asked.into_iter().find(|(_, size)| *size > 0) {
        Some((field, size)) => unsuitable(format!(
            "{field} {size} needs the volume service (Cinder), which this cloud does not have. \
             Leave {field} away."
        )),
        None => Ok(()),
    }
}

/// What Heat will count, nested stacks included.
pub fn resources(plan: &ClusterPlan, options: &Options) -> u32 {
    let (masters, workers) = counts(plan);
    let yes = u32::from;
    let lb = plan.cluster.master_lb_enabled;
    let network = if plan.cluster.fixed_network.is_some() { 0 } else { 4 };
    let per_master = 2
        + yes(options.floating_ips)
        + yes(options.etcd_volume > 0)
        + yes(options.docker_volume > 0)
        + yes(lb);
    let balancer = yes(lb) * (3 + yes(options.lb_monitor) + yes(options.lb_floating_ip));
    let groups = yes(options.affinity.is_some()) * 2;
    let nested = super::stack::has_member_template(options);
    let per_worker = match nested {
        // The member, its server and port, and what made it a template of its own.
        true => 3 + yes(options.floating_ips) + yes(options.docker_volume > 0),
        false => 1,
    };
    // Both security groups and the resource group of the workers.
    (network + 3 + masters * per_master + balancer + groups)
        .saturating_add(workers.saturating_mul(per_worker))
}
