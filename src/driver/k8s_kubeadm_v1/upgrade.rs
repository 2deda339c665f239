//! What rebuilding servers with another image can change, and what it cannot.

use super::check::unsuitable;
use super::options::Options;
use super::{NAME, check, counts};
use crate::driver::{ClusterPlan, DriverError};

pub fn check(from: &ClusterPlan, to: &ClusterPlan) -> Result<(), DriverError> {
    let (old, new) = (Options::read(from)?, check::check(to)?);
    if from.facts.os_distro != to.facts.os_distro {
        return unsuitable(format!(
            "The template's image is {}, and the nodes are {}. Choose a template with an image of \
             the same os_distro.",
            to.facts.os_distro, from.facts.os_distro
        ));
    }
    if let Some(what) = fixed(&old, &new) {
        return unsuitable(format!(
            "An upgrade rebuilds servers and cannot change {what}. Choose a template that has it \
             as the cluster does, or create a new cluster."
        ));
    }
    if old.boot_volume > 0 {
        return unsuitable(format!(
            "Driver {NAME} cannot rebuild servers that boot from volumes (label boot_volume_size \
             {}). Create a new cluster from the template.",
            old.boot_volume
        ));
    }
    let (masters, _) = counts(to);
    let same_image = from.facts.image_id == to.facts.image_id;
    if masters == 1 && old.etcd_volume == 0 && !same_image {
        return unsuitable(
            "The cluster's only master keeps etcd on the disk that an upgrade replaces, and all \
             that the cluster knows would be lost. Only clusters with three masters or more, or \
             with the label etcd_volume_size, can be upgraded.",
        );
    }
    versions(&old, &new, same_image)
}

/// What the servers, their networks and disks are made by, and stays.
fn fixed(old: &Options, new: &Options) -> Option<&'static str> {
    let same = [
        ("network_driver", old.network_driver == new.network_driver),
        ("the label fixed_subnet_cidr", old.nodes == new.nodes),
        ("the label flannel_network_cidr", old.pods == new.pods),
        ("the label flannel_network_subnetlen", old.pods_per_node == new.pods_per_node),
        ("the label service_cluster_ip_range", old.services == new.services),
        ("the label availability_zone", old.availability_zone == new.availability_zone),
        ("the label nodes_affinity_policy", old.affinity == new.affinity),
        ("the label boot_volume_size", old.boot_volume == new.boot_volume),
        ("the label etcd_volume_size", old.etcd_volume == new.etcd_volume),
        ("the label boot_volume_type", old.boot_volume_type == new.boot_volume_type),
        ("the label etcd_volume_type", old.etcd_volume_type == new.etcd_volume_type),
        ("the label docker_volume_type", old.docker_volume_type == new.docker_volume_type),
    ];
    same.into_iter().find(|(_, is_same)| !is_same).map(|(what, _)| what)
}

/// One minor version forward at most, never back (Kubernetes' version skew policy).
fn versions(old: &Options, new: &Options, same_image: bool) -> Result<(), DriverError> {
    let (Some(from), Some(to)) = (&old.kube_version, &new.kube_version) else { return Ok(()) };
    if same_image && !from.same_release(to) {
        return unsuitable(format!(
            "The template asks for Kubernetes {to}, but its image is the one that the nodes have, \
             with {from}. Choose a template whose image contains {to}."
        ));
    }
    match to.minor {
        minor if minor < from.minor => unsuitable(format!(
            "Kubernetes {from} cannot be turned back to {to}. Choose a template with {from} or \
             later."
        )),
        minor if minor > from.minor + 1 => unsuitable(format!(
            "Kubernetes {from} must become v1.{}, before it becomes {to}: no minor version can be \
             left out. Choose a template in between.",
            from.minor + 1
        )),
        _ => Ok(()),
    }
}
