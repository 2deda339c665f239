//! Which services are there, and do clients find us?

use super::{Judgement, Look, Scene};
use crate::openstack::Service;

const NEEDED: [Service; 4] = [Service::Heat, Service::Nova, Service::Neutron, Service::Glance];

/// What the catalogue shows.
struct Facts {
    missing: Vec<&'static str>,
    /// Where it says that magnumd is.
    own: Option<String>,
    /// Services that a cluster may want, and whether they are there.
    optional: [(&'static str, bool); 3],
}

pub async fn check(scene: &Scene) -> Look {
    let session = scene.cloud.keystone().service().await?;
    let mut missing = Vec::new();
    for service in NEEDED {
        if scene.cloud.url(service, &session.project_id).await.is_err() {
            missing.push(service.name());
        }
    }
    let has = |service| session.catalog.has(service);
    let facts = Facts {
        missing,
        own: scene.cloud.url(Service::Magnum, &session.project_id).await.ok(),
        optional: [
            ("Octavia", has(Service::Octavia)),
            ("Cinder", has(Service::Cinder)),
            ("Barbican", has(Service::Barbican)),
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
    let Some(own) = &facts.own else {
        return Judgement::fail(
            "the catalogue has no entry container-infra: no client finds magnumd",
            "magnumd setup",
        );
    };
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

    #[test]
    fn what_is_not_there_is_named() {
        let facts = |missing: &[&'static str], own: Option<&str>| Facts {
            missing: missing.to_vec(),
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
    }
}
