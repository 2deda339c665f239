//! Which services are there, in which region, and do clients find us?

use std::collections::BTreeSet;

use super::{Judgement, Look, Scene};
use crate::openstack::{CloudError, Service};

const NEEDED: [Service; 4] = [Service::Heat, Service::Nova, Service::Neutron, Service::Glance];

/// What the catalogue shows.
struct Facts {
    missing: Vec<&'static str>,
    /// Services that are in several regions, of which the configuration names none.
    unclear: Vec<(&'static str, String)>,
    /// Regions between which nodes would have to guess.
    nodes: Vec<String>,
    /// Where it says that magnumd is.
    own: Option<String>,
    /// Services that a cluster may want, and whether they are there.
    optional: [(&'static str, bool); 3],
}

pub async fn check(scene: &Scene) -> Look {
    let session = scene.cloud.keystone().service().await?;
    let mut missing = Vec::new();
    for service in NEEDED {
        match scene.cloud.url(service, &session.project_id).await {
            Ok(_) | Err(CloudError::Unclear { .. }) => {}
            Err(_) => missing.push(service.name()),
        }
    }
    let unclear = scene.cloud.unclear().await?.into_iter().filter_map(|error| match error {
        CloudError::Unclear { service, regions } => Some((service.name(), regions)),
        _ => None,
    });
    let nodes = match scene.driver_settings.region {
        None => scene.cloud.regions_for_nodes().await?,
        Some(_) => Vec::new(),
    };
    let has = async |service| scene.cloud.has(service).await;
    let facts = Facts {
        missing,
        unclear: unclear.collect(),
        nodes,
        own: scene.cloud.url(Service::Magnum, &session.project_id).await.ok(),
        optional: [
            ("Octavia", has(Service::Octavia).await?),
            ("Cinder", has(Service::Cinder).await?),
            ("Barbican", has(Service::Barbican).await?),
        ],
    };
    Ok(judge(&facts))
}

fn judge(facts: &Facts) -> Judgement {
    if !facts.missing.is_empty() {
        return Judgement::fail(
            format!("the catalogue has no endpoint of {}", facts.missing.join(", ")),
            "look at: openstack catalog list; then set region and interface in \
             [clients.default], or add the endpoints",
        );
    }
    if !facts.unclear.is_empty() {
        let services: Vec<&str> = facts.unclear.iter().map(|(service, _)| *service).collect();
        let regions: BTreeSet<&str> = facts.unclear.iter().map(|(_, r)| r.as_str()).collect();
        let regions = regions.into_iter().collect::<Vec<_>>().join("; ");
        return Judgement::fail(
            format!(
                "the catalogue has {} in several regions ({regions}), and the configuration names \
                 none: magnumd calls none of them",
                services.join(", ")
            ),
            "set region in [clients.default]; openstack region list shows all",
        );
    }
    let Some(own) = &facts.own else {
        return Judgement::fail(
            "the catalogue has no entry container-infra: no client finds magnumd",
            "magnumd setup",
        );
    };
    if !facts.nodes.is_empty() {
        return Judgement::warn(
            format!(
                "nodes are told no region, and their controllers would have to guess between {}",
                facts.nodes.join(" and ")
            ),
            "set region in [clients.default], which nodes are told too",
        );
    }
    let named = |wanted: bool| -> Vec<&str> {
        facts.optional.iter().filter(|(_, there)| *there == wanted).map(|(name, _)| *name).collect()
    };
    let list = |names: Vec<&str>, word: &str| match names.is_empty() {
        true => String::new(),
        false => format!("; {word} {}", names.join(", ")),
    };
    Judgement::ok(format!(
        "magnumd is at {own}{}{}",
        list(named(true), "with"),
        list(named(false), "without")
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::preflight::Verdict;

    #[test]
    fn what_is_not_there_is_named() {
        let facts = |missing: &[&'static str], own: Option<&str>| Facts {
            missing: missing.to_vec(),
            unclear: Vec::new(),
            nodes: Vec::new(),
            own: own.map(str::to_owned),
            optional: [("Octavia", true), ("Cinder", false), ("Barbican", false)],
        };
        let without = judge(&facts(&["Heat"], None));
        assert_eq!(without.sentence, "the catalogue has no endpoint of Heat");
        assert_eq!(judge(&facts(&[], None)).cure.as_deref(), Some("magnumd setup"));
        let fine = judge(&facts(&[], Some("http://m:9511/v1")));
        assert_eq!(
            fine.sentence,
            "magnumd is at http://m:9511/v1; with Octavia; without Cinder, Barbican"
        );
        let both = || "One and Two".to_owned();
        let torn = Facts {
            unclear: vec![("Heat", both()), ("Nova", both())],
            ..facts(&[], Some("http://m:9511/v1"))
        };
        let said = judge(&torn);
        assert_eq!(said.verdict, Verdict::Fail);
        assert!(said.sentence.contains("Heat, Nova in several regions (One and Two)"), "{said:?}");
        let nodes = vec!["One".to_owned(), "Two".to_owned()];
        let said = judge(&Facts { nodes, ..facts(&[], Some("http://m:9511/v1")) });
        assert_eq!(said.verdict, Verdict::Warn);
        assert!(said.cure.unwrap().contains("[clients.default]"));
    }
}
