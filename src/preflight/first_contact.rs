//! What does a server have to prove before it gets keys, and can it?

use super::{Judgement, Look, Scene};
use crate::model::first_contact::{FirstContact, Rules};
use crate::openstack::{Actor, Exit, Found};

pub async fn check(scene: &Scene) -> Look {
    let rules = scene.config.bootstrap.rules();
    let Some(template) = scene.template() else { return Ok(judge(&rules, None)) };
    let mut nodes = Nodes { floating: template.floating_ip_enabled, network: None };
    if let Some(name) = &template.fixed_network {
        let actor = Actor::from(&*scene.cloud.keystone().service().await?);
        // Where there is none, other lines say so.
        if let Found::One(network) = scene.cloud.network(&scene.actor().await?, name).await? {
            let project = scene.project().await?;
            let exit = scene.cloud.exit(&actor, &project, &network.id).await?;
            nodes.network = Some((network.name, exit));
        }
    }
    Ok(judge(&rules, Some(&nodes)))
}

/// Where the nodes of a template would be.
struct Nodes {
    floating: bool,
    /// A network that is there already; without it they get one of their own, with a router.
    network: Option<(String, Exit)>,
}

fn judge(rules: &Rules, nodes: Option<&Nodes>) -> Judgement {
    if let Some(wide) = rules.trusted.iter().find(|block| block.is_wide()) {
        return Judgement::warn(
            format!(
                "trusted_sources has {wide}: whoever asks from there, and can read a project's \
                 stacks, can be any node of it that boots"
            ),
            "name the addresses of the NAT or load balancer alone, or have Nova give servers \
             vendor data (SECURITY.md)",
        );
    }
    if rules.needs == FirstContact::VendorData {
        return Judgement::unseen(
            "nobody shows nova.conf: servers are believed by their vendor secret alone",
            "see that vendordata_dynamic_targets of Nova's API and compute hosts has magnumd@ and \
             the API's address with /vendordata; a cluster's status_reason says if one has none",
        );
    }
    let strict = rules.needs == FirstContact::OwnAddress;
    let cure = "have Nova give servers vendor data (SECURITY.md), or set floating_ip_enabled";
    let Some(nodes) = nodes else {
        return Judgement::ok(match strict {
            true => "servers are believed by an address of their own, or their vendor secret",
            false => {
                "servers are believed by an address of their own or their router's, or their \
                 vendor secret"
            }
        });
    };
    let exit = nodes.network.as_ref();
    let hides = exit.is_none_or(|(_, exit)| exit.hides);
    let is_crowded =
        exit.is_some_and(|(_, exit)| exit.routers.is_empty() && !exit.crowded.is_empty());
    let by = match () {
        () if nodes.floating => "their floating addresses",
        () if !hides => "their fixed addresses",
        () if strict => {
            return Judgement::fail(
                "nodes come from their router's address, which first_contact = \"own-address\" \
                 does not take",
                cure,
            );
        }
        () if is_crowded && rules.trusted.is_empty() => {
            let (name, exit) = exit.expect("a network is crowded");
            let router = exit.crowded.iter().map(ToString::to_string).collect::<Vec<_>>();
            return Judgement::fail(
                format!(
                    "nodes on network {name} come from {}, the address of a router behind which \
                     other projects may have machines: they would be refused",
                    router.join(", ")
                ),
                format!("{cure}, or name it in trusted_sources of [bootstrap]"),
            );
        }
        () if is_crowded => "what trusted_sources names",
        () => "their router, behind which are machines of their project alone",
    };
    Judgement::ok(format!("nodes are believed by {by}, or by their vendor secret"))
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::*;
    use crate::preflight::Verdict;

    #[test]
    fn which_nodes_would_be_let_in() {
        use FirstContact::{Address, OwnAddress, VendorData};
        let router: IpAddr = "203.0.113.2".parse().unwrap();
        let exit = |hides, own: bool| Exit {
            network: "n".to_owned(),
            hides,
            routers: if hides && own { vec![router] } else { Vec::new() },
            crowded: if hides && !own { vec![router] } else { Vec::new() },
        };
        let of = |needs, trusted: &[&str], floating, exit: Option<Exit>| {
            let trusted = trusted.iter().map(|block| block.parse().unwrap()).collect();
            let network = exit.map(|exit| ("private".to_owned(), exit));
            judge(&Rules { needs, trusted }, Some(&Nodes { floating, network }))
        };
        for (needs, trusted, floating, exit, verdict, part) in [
            (Address, &[][..], false, None, Verdict::Ok, "their router"),
            (Address, &[], true, None, Verdict::Ok, "floating"),
            (Address, &[], false, Some(exit(false, false)), Verdict::Ok, "fixed"),
            (Address, &[], false, Some(exit(true, true)), Verdict::Ok, "their router"),
            (Address, &[], false, Some(exit(true, false)), Verdict::Fail, "203.0.113.2"),
            (Address, &[], true, Some(exit(true, false)), Verdict::Ok, "floating"),
            (Address, &["203.0.113.2"], false, Some(exit(true, false)), Verdict::Ok, "names"),
            (Address, &["0.0.0.0/0"], false, None, Verdict::Warn, "has 0.0.0.0/0"),
            (OwnAddress, &[], false, None, Verdict::Fail, "own-address"),
            (OwnAddress, &[], false, Some(exit(true, true)), Verdict::Fail, "own-address"),
            (OwnAddress, &[], true, None, Verdict::Ok, "floating"),
            (VendorData, &[], false, None, Verdict::Warn, "not looked at"),
        ] {
            let said = of(needs, trusted, floating, exit);
            assert_eq!(said.verdict, verdict, "{said:?}");
            assert!(said.sentence.contains(part), "{part}: {said:?}");
        }
        assert_eq!(judge(&Rules::default(), None).verdict, Verdict::Ok);
    }
}
