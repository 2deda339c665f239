//! Has Heat what a cluster is made of?

use std::collections::BTreeSet;

use super::{Judgement, Look, Scene};

/// What every cluster of every driver is made of.
const ALWAYS: [&str; 9] = [
    "OS::Heat::ResourceGroup",
    "OS::Neutron::FloatingIP",
    "OS::Neutron::Net",
    "OS::Neutron::Port",
    "OS::Neutron::Router",
    "OS::Neutron::RouterInterface",
    "OS::Neutron::SecurityGroup",
    "OS::Neutron::Subnet",
    "OS::Nova::Server",
];

pub async fn check(scene: &Scene) -> Look {
    let actor = scene.actor().await?;
    let there = scene.cloud.resource_types(&actor).await?;
    let mut wanted: BTreeSet<String> = ALWAYS.iter().map(|kind| (*kind).to_owned()).collect();
    if scene.template().is_some()
        && let Ok(drawing) = scene.drawing().await
    {
        wanted.extend(drawing.census.kinds());
    }
    Ok(judge(&wanted, &there.into_iter().collect()))
}

fn judge(wanted: &BTreeSet<String>, there: &BTreeSet<String>) -> Judgement {
    let missing: Vec<&str> = wanted.difference(there).map(String::as_str).collect();
    if missing.is_empty() {
        return Judgement::ok(format!("Heat has all {} resource types needed", wanted.len()));
    }
    let services: BTreeSet<&str> = missing
        .iter()
        .filter_map(|kind| kind.split("::").nth(1))
        .filter(|s| *s != "Heat")
        .collect();
    let services: Vec<&str> = services.into_iter().collect();
    Judgement::fail(
        format!("Heat lacks {}", missing.join(", ")),
        format!(
            "install {} and its client library beside heat-engine, or leave away what asks for it",
            services.join(" and ")
        ),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::preflight::Verdict;

    #[test]
    fn a_missing_plugin_names_its_service() {
        let set = |kinds: &[&str]| kinds.iter().map(|k| (*k).to_owned()).collect::<BTreeSet<_>>();
        let there = set(&["OS::Nova::Server", "OS::Neutron::Net"]);
        assert_eq!(judge(&set(&["OS::Nova::Server"]), &there).verdict, Verdict::Ok);
        let said = judge(&set(&["OS::Octavia::Pool", "OS::Nova::Server"]), &there);
        assert_eq!(said.sentence, "Heat lacks OS::Octavia::Pool");
        assert!(said.cure.unwrap().starts_with("install Octavia"));
    }
}
