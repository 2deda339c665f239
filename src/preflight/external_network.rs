//! Does the external network lead outside, and has it addresses left?

use super::{Judgement, Look, Scene};
use crate::openstack::{Addresses, Found};

/// What Neutron says of it.
struct Facts<'f> {
    name: &'f str,
    external: bool,
    /// None where only administrators may see them.
    addresses: Option<Addresses>,
    /// How many addresses the cluster takes.
    wanted: u64,
}

pub async fn check(scene: &Scene) -> Look {
    let actor = scene.actor().await?;
    let Some(template) = scene.template() else {
        return Ok(any(&scene.cloud.external_networks(&actor).await?));
    };
    let Some(name) = template.external_network_id.as_deref() else {
        return Ok(match &template.fixed_network {
            Some(network) => Judgement::ok(format!("none is asked for: nodes go to {network}")),
            None => Judgement::fail(
                "external_network_id is missing, and the cluster's own network needs a router to \
                 it",
                "set external_network_id in the cluster template to a network that is \
                 router:external",
            ),
        });
    };
    let network = match scene.cloud.network(&actor, name).await? {
        Found::One(network) => network,
        Found::None => {
            let others = scene.cloud.external_networks(&actor).await?;
            return Ok(Judgement::fail(
                format!("there is no network {name}"),
                format!("set external_network_id to one of: {}", others.join(", ")),
            ));
        }
        Found::Several => {
            return Ok(Judgement::fail(
                format!("several networks are called {name}"),
                "give its id in external_network_id",
            ));
        }
    };
    // The service account sees what tenants may not: asking it too costs one call.
    let own = scene.cloud.keystone().service().await?;
    let addresses = scene.cloud.addresses(&(&*own).into(), &network.id).await?;
    let drawing = scene.drawing().await.ok();
    let wanted = drawing.map_or(1, |d| d.census.of("OS::Neutron::FloatingIP"))
        + u64::from(template.fixed_network.is_none());
    Ok(judge(&Facts { name: &network.name, external: network.external, addresses, wanted }))
}

fn any(networks: &[String]) -> Judgement {
    match networks.is_empty() {
        true => Judgement::warn(
            "no network of this cloud is router:external: clusters need a fixed_network with a \
             router",
            "openstack network create --external public, with a subnet",
        ),
        false => Judgement::ok(format!("clusters can go outside by {}", networks.join(", "))),
    }
}

fn judge(facts: &Facts<'_>) -> Judgement {
    let Facts { name, external, addresses, wanted } = facts;
    if !external {
        return Judgement::fail(
            format!("network {name} is not external, so no router can lead to it"),
            format!(
                "name another one in external_network_id, or: openstack network set --external \
                 {name}"
            ),
        );
    }
    let Some(Addresses { total, used }) = *addresses else {
        return Judgement::warn(
            format!("network {name} is external; how many addresses are free could not be seen"),
            "give the service account the role admin in its project",
        );
    };
    let free = total.saturating_sub(used);
    match free {
        free if free < *wanted => Judgement::fail(
            format!("network {name} has {free} of {total} addresses free, and {wanted} are needed"),
            "release floating addresses, add a subnet or a range to the network, or set \
             floating_ip_enabled to false",
        ),
        free if free < 2 * wanted => Judgement::warn(
            format!("network {name} has {free} of {total} addresses free: enough for one cluster"),
            "add a subnet or a range to the network",
        ),
        free => Judgement::ok(format!("network {name} is external, {free} addresses are free")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::preflight::Verdict;

    #[test]
    fn external_and_roomy() {
        let of = |external, free: Option<u64>, wanted| {
            let addresses = free.map(|free| Addresses { total: 100, used: 100 - free });
            judge(&Facts { name: "public", external, addresses, wanted })
        };
        assert!(of(false, Some(9), 1).sentence.contains("is not external"));
        assert_eq!(of(true, Some(50), 3).verdict, Verdict::Ok);
        assert_eq!(of(true, Some(5), 3).verdict, Verdict::Warn);
        let full = of(true, Some(2), 3);
        assert_eq!(full.sentence, "network public has 2 of 100 addresses free, and 3 are needed");
        assert_eq!(full.verdict, Verdict::Fail);
        assert!(of(true, None, 1).sentence.contains("could not be seen"));
        assert_eq!(any(&[]).verdict, Verdict::Warn);
    }
}
