//! What no driver needs to say itself: images, counts and fields that it does not provide for,
//! and what is too much for Heat.

use std::net::IpAddr;

use hyper::Uri;

use super::context::network_driver;
use super::manifest::{ImageProperty, Manifest};
use super::plan::ClusterPlan;
use super::{Bundle, DriverError};
use crate::model::cluster_template::ClusterTemplate;
use crate::model::nodegroup::counts;

/// Heat's own limits, in its default configuration.
pub const MOST_RESOURCES: u64 = 1000;
pub const LARGEST_TEMPLATE: usize = 512 * 1024;

pub fn unsuitable<T>(sentence: impl Into<String>) -> Result<T, DriverError> {
    Err(DriverError::Unsuitable(sentence.into()))
}

/// Everything that can be said before labels are read.
pub fn suits(plan: &ClusterPlan, manifest: &Manifest) -> Result<(), DriverError> {
    distro(plan, manifest)?;
    image(plan, manifest)?;
    masters(plan, manifest)?;
    drivers(plan, manifest)?;
    plain_text(&plan.template)
}

/// Text that nodes' files and the stack take over as one line.
pub fn plain_text(template: &ClusterTemplate) -> Result<(), DriverError> {
    for (field, value) in [
        ("http_proxy", &template.http_proxy),
        ("https_proxy", &template.https_proxy),
        ("no_proxy", &template.no_proxy),
        ("dns_nameserver", &template.dns_nameserver),
        ("insecure_registry", &template.insecure_registry),
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

/// Values that tools on the nodes would take in silence and could not use.
pub fn proxies(template: &ClusterTemplate) -> Result<(), DriverError> {
    for (field, value) in
        [("http_proxy", &template.http_proxy), ("https_proxy", &template.https_proxy)]
    {
        let given = value.as_deref().filter(|value| !value.is_empty());
        if let Some(value) = given.filter(|value| !is_proxy(value)) {
            return unsuitable(format!(
                "{field} {value} of the cluster template is not possible. Give the URL of a proxy, \
                 such as http://proxy.example.org:3128."
            ));
        }
    }
    let mut exempt = template.no_proxy.iter().flat_map(|all| all.split(',')).map(str::trim);
    match exempt.find(|entry| !entry.is_empty() && !is_exempt(entry)) {
        Some(entry) => unsuitable(format!(
            "no_proxy of the cluster template has an entry '{entry}', which is no host and no \
             network. Give a comma list such as .example.org,192.0.2.7,10.0.0.0/8."
        )),
        None => Ok(()),
    }
}

fn is_proxy(text: &str) -> bool {
    let Ok(url) = text.parse::<Uri>() else { return false };
    let is_web = url
        .scheme_str()
        .is_some_and(|scheme| ["http", "https"].iter().any(|web| scheme.eq_ignore_ascii_case(web)));
    let Some(authority) = url.authority().filter(|_| is_web) else { return false };
    let (_, place) = authority.as_str().rsplit_once('@').unwrap_or(("", authority.as_str()));
    let host = authority.host();
    let is_port =
        |rest: &str| rest.strip_prefix(':').is_some_and(|p| p.parse::<u16>().is_ok_and(|p| p > 0));
    !host.is_empty()
        && place.strip_prefix(host).is_some_and(|rest| rest.is_empty() || is_port(rest))
        && matches!(url.path_and_query().map(|p| p.as_str()), None | Some("" | "/"))
}

/// Hosts, domains and networks as curl, Go and Python read them, perhaps with a port.
fn is_exempt(entry: &str) -> bool {
    match entry.split_once('/') {
        Some((address, prefix)) => address.parse::<IpAddr>().is_ok_and(|address| {
            let most = if address.is_ipv4() { 32 } else { 128 };
            prefix.parse::<u8>().is_ok_and(|prefix| prefix <= most)
        }),
        None => entry.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-*:[]".contains(&b)),
    }
}

/// Whether the driver boots what the template's image is.
pub fn distro(plan: &ClusterPlan, manifest: &Manifest) -> Result<(), DriverError> {
    let distro = plan.facts.os_distro.as_str();
    let distros = manifest.distros();
    if !distros.contains(&distro) {
        return unsuitable(format!(
            "Driver {} does not boot images with os_distro {distro}. Choose one of {}.",
            manifest.name,
            distros.join(", ")
        ));
    }
    Ok(())
}

fn image(plan: &ClusterPlan, manifest: &Manifest) -> Result<(), DriverError> {
    let wanted = manifest.requires.image_properties.contains(&ImageProperty::KubeVersion);
    if wanted && plan.facts.kube_version.is_none() {
        return unsuitable(format!(
            "Image {} has no property kube_version, which driver {} needs. Set it with: \
             openstack image set --property kube_version=VERSION {}",
            plan.template.image_id, manifest.name, plan.template.image_id
        ));
    }
    Ok(())
}

fn masters(plan: &ClusterPlan, manifest: &Manifest) -> Result<(), DriverError> {
    if plan.foundation.is_some() {
        return Ok(());
    }
    let (masters, _) = counts(&plan.groups);
    let rule = &manifest.masters;
    let possible =
        |n: u32| (rule.min..=rule.max).contains(&n) && !(rule.odd && n.is_multiple_of(2));
    if !possible(masters) {
        let choices: Vec<String> =
            (rule.min..=rule.max).filter(|n| possible(*n)).map(|n| n.to_string()).collect();
        let choices = match choices.split_last() {
            Some((last, [])) => last.clone(),
            Some((last, others)) => format!("{} or {last}", others.join(", ")),
            None => String::new(),
        };
        let why = match rule.odd {
            true => "etcd needs an odd number of masters".to_owned(),
            false => {
                format!("driver {} builds {} to {} masters", manifest.name, rule.min, rule.max)
            }
        };
        return unsuitable(format!(
            "master_count {masters} is not possible: {why}, so choose {choices}."
        ));
    }
    if masters > 1 && !plan.cluster.master_lb_enabled && !rule.without_load_balancer {
        return unsuitable(format!(
            "master_count {masters} needs master_lb_enabled: master_count must be 1 when \
             master_lb_enabled is False with driver {}. Set master_lb_enabled to true, or \
             master_count to 1.",
            manifest.name
        ));
    }
    Ok(())
}

/// The network and volume drivers that a template asks for.
pub fn drivers(plan: &ClusterPlan, manifest: &Manifest) -> Result<(), DriverError> {
    let network = network_driver(plan, manifest);
    if !manifest.network_drivers.iter().any(|known| known == network) {
        return unsuitable(format!(
            "Network driver {network} is not supported by driver {}; set network_driver in the \
             cluster template to one of {}.",
            manifest.name,
            manifest.network_drivers.join(", ")
        ));
    }
    let volume = plan.template.volume_driver.as_deref().filter(|driver| !driver.is_empty());
    match volume.filter(|volume| !manifest.volume_drivers.iter().any(|known| known == volume)) {
        Some(volume) if manifest.volume_drivers.is_empty() => unsuitable(format!(
            "volume_driver {volume} is not possible: driver {} does not deploy what it needs. \
             Leave volume_driver away in the cluster template.",
            manifest.name
        )),
        Some(volume) => unsuitable(format!(
            "volume_driver {volume} is not possible: driver {} knows {}. Change volume_driver in \
             the cluster template, or leave it away.",
            manifest.name,
            manifest.volume_drivers.join(", ")
        )),
        None => Ok(()),
    }
}

/// Text that reached us whole may still be too much for Heat.
pub fn fits_heat(plan: &ClusterPlan, bundle: &Bundle, resources: u64) -> Result<(), DriverError> {
    let (_, workers) = counts(&plan.groups);
    if resources > MOST_RESOURCES {
        return unsuitable(format!(
            "node_count {workers} gives {resources} resources in one stack, and Heat allows \
             {MOST_RESOURCES}. Choose a smaller node_count."
        ));
    }
    match bundle.template.len() {
        0..=LARGEST_TEMPLATE => Ok(()),
        bytes => unsuitable(format!(
            "The stack's template would have {bytes} bytes, and Heat allows {LARGEST_TEMPLATE}. \
             Shorten names and labels, or choose fewer masters."
        )),
    }
}
