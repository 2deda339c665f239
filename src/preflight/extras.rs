//! Is anything asked for that costs time and is not needed?

use super::{Judgement, Look, Scene};

struct Facts {
    masters: u32,
    balancer: bool,
    docker_volume: Option<u32>,
    /// GiB of the smallest flavor.
    disk: u64,
    floating_ips: bool,
    nested: bool,
}

pub async fn check(scene: &Scene) -> Look {
    let drawing = scene.drawing_or_unseen().await?;
    let cluster_request = scene.cluster_request().expect("asked about one");
    Ok(judge(&Facts {
        masters: cluster_request.masters,
        balancer: cluster_request.template.master_lb_enabled,
        docker_volume: cluster_request.template.docker_volume_size.filter(|size| *size > 0),
        disk: drawing.flavors.values().map(|f| f.disk).min().unwrap_or(0),
        floating_ips: cluster_request.template.floating_ip_enabled,
        nested: scene.driver_settings.nested,
    }))
}

fn judge(facts: &Facts) -> Judgement {
    let mut all = vec![Judgement::ok("nothing is asked for that one could do without")];
    if facts.balancer && facts.masters == 1 {
        all.push(Judgement::warn(
            "a load balancer for one master: with Octavia's amphorae that is a server more to \
             boot, and nothing is balanced",
            "set master_lb_enabled to false",
        ));
    }
    if let Some(size) = facts.docker_volume
        && facts.disk >= 20
    {
        all.push(Judgement::warn(
            format!(
                "a docker volume of {size} GiB for every node, whose flavor has {} GiB of disk",
                facts.disk
            ),
            "leave docker_volume_size away",
        ));
    }
    if facts.floating_ips && facts.nested {
        all.push(Judgement::warn(
            "a floating IP for every node, in a nested cloud",
            "set floating_ip_enabled to false where nodes need not be reached from outside",
        ));
    }
    Judgement::worst(all)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::preflight::Verdict;

    #[test]
    fn what_one_could_do_without() {
        let of = |masters, balancer, docker_volume, disk, nested| {
            judge(&Facts { masters, balancer, docker_volume, disk, floating_ips: true, nested })
        };
        assert_eq!(of(3, true, None, 20, false).verdict, Verdict::Ok);
        assert!(of(1, true, None, 20, false).sentence.starts_with("a load balancer for one"));
        assert!(of(1, false, Some(5), 40, false).sentence.contains("docker volume of 5 GiB"));
        assert_eq!(of(1, false, Some(5), 10, false).verdict, Verdict::Ok);
        assert!(of(1, false, None, 10, true).sentence.contains("floating IP for every node"));
    }
}
