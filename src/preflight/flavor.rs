//! Are the flavors large enough for the image and for Kubernetes?

use super::{Judgement, Look, Scene};
use crate::openstack::{Actor, Flavor, Found, Image};

/// kubeadm's own least for a control plane.
use crate::model::nodegroup::CONTROL_PLANE_RAM as MASTER_RAM;
const MASTER_CPUS: u64 = 2;
/// What kubelet, the container runtime and a network daemon leave little of.
const WORKER_RAM: u64 = 1024;

pub async fn check(scene: &Scene) -> Look {
    let actor = scene.actor().await?;
    let template = scene.template().expect("asked about one");
    let (master, worker, image) = tokio::join!(
        find(scene, &actor, template.master_flavor_id.as_deref()),
        find(scene, &actor, template.flavor_id.as_deref()),
        super::image::find(scene, &actor),
    );
    let boot_volume = template.labels.get("boot_volume_size").and_then(|size| size.parse().ok());
    let boot_volume = boot_volume.unwrap_or(0);
    let image = image.ok();
    Ok(judge(&master?, &worker?, image.as_ref(), boot_volume))
}

/// A flavor by id or name.
pub async fn find(scene: &Scene, actor: &Actor, wanted: Option<&str>) -> Result<Flavor, Judgement> {
    let Some(wanted) = wanted else {
        return Err(Judgement::fail(
            "no flavor is named",
            "set flavor_id and master_flavor_id in the cluster template, or add --flavor",
        ));
    };
    match scene.cloud.flavor(actor, wanted).await? {
        Found::One(flavor) => Ok(flavor),
        Found::None => Err(Judgement::fail(
            format!("there is no flavor {wanted}"),
            "openstack flavor list; then correct the cluster template",
        )),
        Found::Several => Err(Judgement::fail(
            format!("several flavors are called {wanted}"),
            "give the id of one in the cluster template",
        )),
    }
}

fn judge(master: &Flavor, worker: &Flavor, image: Option<&Image>, boot_volume: u64) -> Judgement {
    let mut all = Vec::new();
    for flavor in [master, worker] {
        let name = &flavor.name;
        if let Some(image) = image {
            let disk = if boot_volume > 0 { boot_volume } else { flavor.disk };
            if disk < image.min_disk {
                all.push(Judgement::fail(
                    format!(
                        "image {} needs {} GiB of disk, and flavor {name} has {disk}",
                        image.name, image.min_disk
                    ),
                    "choose a larger flavor, or set the label boot_volume_size",
                ));
            }
            if flavor.ram < image.min_ram {
                all.push(Judgement::fail(
                    format!(
                        "image {} needs {} MiB of memory, and flavor {name} has {}",
                        image.name, image.min_ram, flavor.ram
                    ),
                    "choose a larger flavor",
                ));
            }
        }
    }
    if master.ram < MASTER_RAM {
        all.push(Judgement::fail(
            format!(
                "flavor {} has {} MiB of memory, and a control plane needs {MASTER_RAM}",
                master.name, master.ram
            ),
            "choose a larger master_flavor_id",
        ));
    }
    if worker.ram < WORKER_RAM {
        all.push(Judgement::warn(
            format!(
                "flavor {} has {} MiB of memory: few pods fit beside what a node runs itself",
                worker.name, worker.ram
            ),
            "choose a larger flavor_id",
        ));
    }
    if master.vcpus < MASTER_CPUS {
        all.push(Judgement::warn(
            format!(
                "flavor {} has 1 CPU, and kubeadm wants {MASTER_CPUS} for masters",
                master.name
            ),
            "choose a larger master_flavor_id; with one CPU masters start slowly",
        ));
    }
    if all.is_empty() {
        all.push(Judgement::ok(match master.name == worker.name {
            true => format!("{} is large enough", master.name),
            false => format!("{} and {} are large enough", master.name, worker.name),
        }));
    }
    Judgement::worst(all)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::preflight::Verdict;

    fn flavor(vcpus: u64, ram: u64, disk: u64) -> Flavor {
        Flavor { id: "1".to_owned(), name: format!("f{ram}"), disk, ram, vcpus }
    }

    #[test]
    fn large_enough_for_image_and_kubeadm() {
        let image = Image {
            id: "i".to_owned(),
            name: "ubuntu".to_owned(),
            status: "active".to_owned(),
            os_distro: None,
            kube_version: None,
            magnum_driver: None,
            min_disk: 10,
            min_ram: 512,
        };
        let of = |m: &Flavor, w: &Flavor, boot| judge(m, w, Some(&image), boot);
        let fine = flavor(2, 4096, 20);
        assert_eq!(of(&fine, &fine, 0), Judgement::ok("f4096 is large enough"));
        let small = of(&flavor(2, 512, 20), &fine, 0);
        assert_eq!(small.verdict, Verdict::Fail);
        assert!(small.sentence.contains("a control plane needs 1700"), "{}", small.sentence);
        let flat = of(&fine, &flavor(2, 4096, 1), 0);
        assert_eq!(flat.sentence, "image ubuntu needs 10 GiB of disk, and flavor f4096 has 1");
        assert_eq!(of(&fine, &flavor(2, 4096, 0), 20).verdict, Verdict::Ok);
        let slow = of(&flavor(1, 2048, 20), &fine, 0);
        assert_eq!((slow.verdict, slow.sentence.contains("1 CPU")), (Verdict::Warn, true));
        assert_eq!(of(&fine, &flavor(2, 512, 20), 0).verdict, Verdict::Warn);
    }
}
