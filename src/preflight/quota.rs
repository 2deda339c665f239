//! Is there quota left for the whole cluster?

use super::drawing::Drawing;
use super::{Judgement, Look, Scene};
use crate::openstack::{Actor, Allowances};

/// One resource: what the service calls it, what people do, how much is needed.
type Need = (&'static str, &'static str, u64);

pub async fn check(scene: &Scene) -> Look {
    let drawing = scene.drawing_or_unseen().await?;
    let project = scene.project().await?;
    // A tenant sees their own; for others' the service account must be an administrator.
    let actor: Actor = scene.actor().await?;
    let (compute, network, volume) = needs(&drawing);
    let (nova, neutron, cinder) = tokio::join!(
        scene.cloud.compute_quota(&actor, &project),
        scene.cloud.network_quota(&actor, &project),
        async {
            match drawing.census.volumes {
                0 => Ok(Allowances::new()),
                _ => scene.cloud.volume_quota(&actor, &project).await,
            }
        },
    );
    let (nova, neutron, cinder) = (nova?, neutron?, cinder?);
    let short = [(&nova, compute), (&neutron, network), (&cinder, volume)]
        .into_iter()
        .flat_map(|(allowances, needs)| short(allowances, &needs))
        .collect::<Vec<_>>();
    let crowd = crowd(&nova, drawing.census.largest_group());
    let all = std::iter::once(judge(&short, drawing.census.resources())).chain(crowd);
    Ok(Judgement::worst(all.collect()))
}

fn needs(drawing: &Drawing) -> (Vec<Need>, Vec<Need>, Vec<Need>) {
    let census = &drawing.census;
    let sum = |of: fn(&crate::openstack::Flavor) -> u64| -> u64 {
        let each = census.servers.iter();
        each.filter_map(|(id, n)| Some(n * of(drawing.flavors.get(id)?))).sum()
    };
    let compute = vec![
        ("instances", "instances", census.servers.values().sum()),
        ("cores", "cores", sum(|f| f.vcpus)),
        ("ram", "MiB of RAM", sum(|f| f.ram)),
        ("server_groups", "server groups", census.of("OS::Nova::ServerGroup")),
    ];
    let network = vec![
        ("network", "networks", census.of("OS::Neutron::Net")),
        ("subnet", "subnets", census.of("OS::Neutron::Subnet")),
        ("router", "routers", census.of("OS::Neutron::Router")),
        ("port", "ports", census.ports()),
        ("security_group", "security groups", census.of("OS::Neutron::SecurityGroup")),
        ("floatingip", "floating IPs", census.of("OS::Neutron::FloatingIP")),
    ];
    let volume =
        vec![("volumes", "volumes", census.volumes), ("gigabytes", "GiB", census.gigabytes)];
    (compute, network, volume)
}

/// What is left of a resource where less is left than needed: words, left, needed.
fn short(allowances: &Allowances, needs: &[Need]) -> Vec<(&'static str, u64, u64)> {
    let left = |name: &str| allowances.get(name).and_then(|allowance| allowance.left());
    needs
        .iter()
        .filter_map(|(name, words, needed)| Some((*words, left(name)?, *needed)))
        .filter(|(_, left, needed)| left < needed)
        .collect()
}

/// Whether one server group may have so many servers: a limit of each group, of which other groups
/// use up nothing.
fn crowd(allowances: &Allowances, members: u64) -> Option<Judgement> {
    let limit = allowances.get("server_group_members")?.limit?;
    (members > limit).then(|| {
        Judgement::fail(
            format!("{members} servers would share a server group, and Nova allows {limit} in one"),
            "openstack quota set --server-group-members, as an administrator; or ask for fewer \
             nodes; or set the label nodes_affinity_policy to none",
        )
    })
}

fn judge(short: &[(&'static str, u64, u64)], resources: u64) -> Judgement {
    if short.is_empty() {
        return Judgement::ok(format!("the project has quota for all {resources} resources"));
    }
    let each: Vec<String> = short
        .iter()
        .map(|(words, left, needed)| format!("{needed} {words} are needed and {left} left"))
        .collect();
    Judgement::fail(
        format!("the project's quota is too small: {}", each.join(", ")),
        "openstack quota set, as an administrator; or delete what is no longer used; or ask for \
         fewer nodes",
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::openstack::Allowance;
    use crate::preflight::Verdict;

    #[test]
    fn only_what_is_short_is_named() {
        let allowance = |limit, used| Allowance { limit, used };
        let nova = Allowances::from([
            ("cores".to_owned(), allowance(Some(10), 8)),
            ("instances".to_owned(), allowance(None, 99)),
        ]);
        let needs = [("cores", "cores", 4), ("instances", "instances", 2), ("ram", "MiB", 9)];
        let found = short(&nova, &needs);
        let said = judge(&found, 11);
        assert_eq!(said.verdict, Verdict::Fail);
        assert_eq!(
            said.sentence,
            "the project's quota is too small: 4 cores are needed and 2 left"
        );
        assert_eq!(judge(&[], 11).verdict, Verdict::Ok);
    }

    #[test]
    fn a_server_group_has_a_limit_of_its_own() {
        let with = |limit| {
            let allowance = Allowance { limit, used: 9 };
            Allowances::from([("server_group_members".to_owned(), allowance)])
        };
        assert_eq!(crowd(&with(Some(10)), 10), None, "what others use is another group's");
        assert_eq!(crowd(&with(None), 1000), None);
        assert_eq!(crowd(&Allowances::new(), 1000), None);
        let said = crowd(&with(Some(10)), 11).unwrap();
        assert_eq!(said.verdict, Verdict::Fail);
        assert!(said.sentence.starts_with("11 servers would share"), "{}", said.sentence);
    }
}
