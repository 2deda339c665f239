//! Servers that an upgrade gives another flavor: whether Nova can, and whether it has.
//!
//! Heat resizes a server in place (`flavor_update_policy` is RESIZE by default) and confirms: the
//! server keeps its id, addresses and disk and starts again. Such a node does not bootstrap anew
//! and stays ready on record, so it is asked by a duty whether it works in its cluster as before.

use super::decide::change::members;
use super::label_checks::BOOT_VOLUME_SIZE;
use super::snapshot::ClusterSnapshot;
use super::template_change::Followed;
use super::{Conductor, RequestError};
use crate::driver::Driver;
use crate::model::cluster::Cluster;
use crate::model::cluster_template::{ClusterTemplate, Coe};
use crate::model::duty::DutyKind;
use crate::model::facts::CloudFacts;
use crate::model::name;
use crate::model::nodegroup::{CONTROL_PLANE_RAM, NodeGroup};
use crate::model::rollout::RoleFlavors;
use crate::model::stack::Stack;
use crate::openstack::{Actor, Allowances, CloudError, Flavor, Found, Image};

/// One role's servers on their way to another flavor.
#[derive(Debug)]
pub(super) struct Resized {
    /// The template's field.
    field: &'static str,
    is_master: bool,
    /// What they have; None where Nova does not know it any more.
    from: Option<Flavor>,
    to: Flavor,
    servers: u32,
    /// An upgrade has failed half-way: some may have another one than `from`.
    is_mixed: bool,
}

/// The flavors that a template gives the default groups, by id, where they are other ones. `means`
/// are the ids of the template's `flavor_id` and `master_flavor_id` where those are spelled
/// otherwise than the cluster's.
pub(super) fn asked_for(
    cluster: &Cluster,
    facts: &CloudFacts,
    old: &ClusterTemplate,
    (worker, master): (Option<&String>, Option<&String>),
) -> RoleFlavors {
    let followed = Followed::of(cluster, old);
    let other = |is_followed: bool, means: Option<&String>, has: &String| {
        means.filter(|id| is_followed && *id != has).cloned()
    };
    RoleFlavors {
        worker: other(followed.flavor, worker, &facts.worker_flavor),
        master: other(followed.master_flavor, master, &facts.master_flavor),
    }
}

impl Conductor {
    /// Refuses flavors that Nova would refuse, as far as can be told before: with the reason.
    pub(super) async fn check_resize(
        &self,
        actor: &Actor,
        snapshot: &ClusterSnapshot,
        asked: &RoleFlavors,
        image: &Image,
    ) -> Result<(), RequestError> {
        let Some(facts) = &snapshot.facts else { return Ok(()) };
        let (masters, workers) =
            snapshot.groups.iter().filter(|g| g.is_default).fold((0, 0), |(m, w), g| {
                match g.is_master() {
                    true => (m + g.node_count, w),
                    false => (m, w + g.node_count),
                }
            });
        let is_mixed =
            snapshot.groups.iter().any(|g| g.is_default && snapshot.rollout(g).is_some());
        let mut all = Vec::new();
        for (field, is_master, has, wanted, servers) in [
            ("master_flavor_id", true, &facts.master_flavor, &asked.master, masters),
            ("flavor_id", false, &facts.worker_flavor, &asked.worker, workers),
        ] {
            let Some(to) = self.flavor(actor, wanted.as_deref()).await? else { continue };
            // Servers outlive their flavor.
            let from = match self.inner.cloud.flavor(actor, has).await? {
                Found::One(flavor) => Some(flavor),
                Found::None | Found::Several => None,
            };
            all.push(Resized { field, is_master, from, to, servers, is_mixed });
        }
        if all.is_empty() {
            return Ok(());
        }
        let kubernetes =
            snapshot.template.as_ref().is_none_or(|template| template.coe == Coe::Kubernetes);
        let boots_from_volume = snapshot
            .cluster
            .labels
            .get(BOOT_VOLUME_SIZE)
            .is_some_and(|size| size.trim().parse::<u64>().is_ok_and(|gib| gib > 0));
        for one in &all {
            one.check(image, boots_from_volume, kubernetes)?;
        }
        let project = &snapshot.cluster.project_id;
        let allowances = match self.inner.cloud.compute_quota(actor, project).await {
            Ok(allowances) => allowances,
            // Who may not see the quota learns from Nova whether it suffices.
            Err(CloudError::Refused { .. } | CloudError::Missing { .. }) => return Ok(()),
            Err(e) => return Err(e.into()),
        };
        suffices(&all, &allowances)
    }
}

/// Whether a driver's nodes can be resized one after the other.
pub(super) fn check_driver(
    driver: &Driver,
    plan: &crate::driver::ClusterPlan,
    asked: &RoleFlavors,
) -> Result<(), RequestError> {
    if *asked == RoleFlavors::default() || driver.has_duty(plan, DutyKind::Rejoin)? {
        return Ok(());
    }
    Err(RequestError::Invalid(format!(
        "Driver {} declares no duty rejoin, by which nodes say that they are back after a resize: its \
         clusters keep their flavors. Choose a template with the flavors of the cluster, or create \
         a new cluster from this one.",
        driver.name()
    )))
}

impl Resized {
    fn check(
        &self,
        image: &Image,
        from_volume: bool,
        kubernetes: bool,
    ) -> Result<(), RequestError> {
        let Self { field, to, .. } = self;
        let invalid = |why: String| {
            Err(RequestError::Invalid(format!(
                "Invalid input for field {field} of the cluster template. Value: '{}'. {why} Choose a \
                 template with a larger flavor.",
                to.name
            )))
        };
        // Of those who have been left behind Nova knows the disk.
        let known = self.from.as_ref().filter(|_| !self.is_mixed);
        let has = known.map_or(0, |flavor| flavor.disk);
        if !from_volume && to.disk < has {
            return invalid(format!(
                "Its disk has {} GiB and the servers' one {has}: Nova makes no disk smaller.",
                to.disk
            ));
        }
        if !from_volume && to.disk < image.min_disk {
            return invalid(format!(
                "Its disk has {} GiB, and image {} needs {}.",
                to.disk, image.name, image.min_disk
            ));
        }
        if to.ram < image.min_ram {
            return invalid(format!(
                "It has {} MiB of memory, and image {} needs {}.",
                to.ram, image.name, image.min_ram
            ));
        }
        if kubernetes && self.is_master && to.ram < CONTROL_PLANE_RAM {
            return invalid(format!(
                "It has {} MiB of memory, and a control plane needs {CONTROL_PLANE_RAM}.",
                to.ram
            ));
        }
        Ok(())
    }

    /// What all its servers need more than they have.
    fn more(&self, of: fn(&Flavor) -> u64) -> u64 {
        let has = self.from.as_ref().map_or(0, of);
        of(&self.to).saturating_sub(has) * u64::from(self.servers)
    }
}

/// A quota, its unit, and how much of it a flavor takes.
type Resource = (&'static str, &'static str, fn(&Flavor) -> u64);

/// Nova refuses a resize beyond the quota by the difference.
fn suffices(all: &[Resized], allowances: &Allowances) -> Result<(), RequestError> {
    let kinds: [Resource; 2] = [("cores", "", |f| f.vcpus), ("ram", " MiB", |f| f.ram)];
    for (kind, unit, of) in kinds {
        let more: u64 = all.iter().map(|one| one.more(of)).sum();
        let left = allowances.get(kind).and_then(|allowance| allowance.left());
        if let Some(left) = left.filter(|left| *left < more) {
            let flavors: Vec<&str> = all.iter().map(|one| one.to.name.as_str()).collect();
            return Err(RequestError::Forbidden(format!(
                "Quota exceeded for {kind}: resizing the cluster's servers to {} takes {more}{unit} \
                 more, and {left}{unit} are left to the project. Ask for more quota, or choose a \
                 template with smaller flavors.",
                flavors.join(" and ")
            )));
        }
    }
    Ok(())
}

/// The masters that a stack's outputs show: name and server.
pub(super) fn masters_of(stack: &Stack) -> impl Iterator<Item = (&String, &str)> {
    let shown = stack.outputs.get("server_ids").and_then(|ids| ids.get("masters"));
    let shown = shown.and_then(|masters| masters.as_object());
    let is_id = |id: &&str| uuid::Uuid::parse_str(id).is_ok();
    shown
        .into_iter()
        .flatten()
        .filter_map(move |(name, id)| Some((name, id.as_str().filter(is_id)?)))
}

/// The server of a node: as it has claimed its name, else as the stack shows it.
pub(super) fn server_of(
    snapshot: &ClusterSnapshot,
    group: &NodeGroup,
    stack: &Stack,
    node: &str,
) -> Option<String> {
    let claimed = snapshot.nodes.iter().find(|n| n.name == node);
    if let Some(id) = claimed.and_then(|n| n.instance.clone()) {
        return Some(id);
    }
    if let Some((_, id)) = masters_of(stack).find(|(name, _)| *name == node) {
        return Some(id.to_owned());
    }
    let prefix = name::worker_node_prefix(&group.stack_name(&snapshot.cluster));
    let index: u32 = node.strip_prefix(&prefix)?.parse().ok()?;
    members(stack)?.remove(&index)?
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::openstack::Allowance;

    fn flavor(name: &str, vcpus: u64, ram: u64, disk: u64) -> Flavor {
        Flavor { id: name.to_owned(), name: name.to_owned(), disk, ram, vcpus }
    }

    fn resized(is_master: bool, from: Option<Flavor>, to: Flavor) -> Resized {
        let field = if is_master { "master_flavor_id" } else { "flavor_id" };
        Resized { field, is_master, from, to, servers: 3, is_mixed: false }
    }

    #[test]
    fn what_nova_or_heat_would_refuse_is_refused_with_its_reason() {
        let image = Image {
            id: "i".to_owned(),
            name: "ubuntu".to_owned(),
            status: "active".to_owned(),
            os_distro: None,
            kube_version: None,
            magnum_driver: None,
            min_disk: 10,
            min_ram: 1024,
        };
        let small = || Some(flavor("small", 1, 2048, 20));
        let said = |one: &Resized, from_volume| {
            one.check(&image, from_volume, true).err().map(|refusal| refusal.to_string())
        };
        let to = |ram, disk| resized(true, small(), flavor("other", 1, ram, disk));
        assert_eq!(said(&to(4096, 20), false), None);
        for (one, words) in [
            (to(4096, 19), "Its disk has 19 GiB and the servers' one 20"),
            (to(4096, 0), "Nova makes no disk smaller"),
            (to(512, 20), "It has 512 MiB of memory, and image ubuntu needs 1024"),
            (to(1600, 20), "a control plane needs 1700"),
        ] {
            let said = said(&one, false).unwrap();
            assert!(said.contains(words) && said.contains("field master_flavor_id"), "{said}");
        }
        assert_eq!(said(&to(4096, 0), true), None, "the disk is a volume");
        let back = Resized { is_mixed: true, ..to(4096, 19) };
        assert_eq!(said(&back, false), None, "back from what has failed");
        let worker = resized(false, None, flavor("other", 1, 1600, 5));
        assert!(said(&worker, false).unwrap().contains("image ubuntu needs 10"));
        assert_eq!(said(&worker, true), None);
    }

    #[test]
    fn the_difference_must_be_left_of_the_quota() {
        let all = [
            resized(true, Some(flavor("s", 1, 2048, 20)), flavor("m", 2, 4096, 20)),
            resized(false, Some(flavor("l", 4, 8192, 20)), flavor("s", 1, 2048, 20)),
        ];
        let left = |cores: Option<u64>, ram: Option<u64>| -> Allowances {
            let of = |limit: Option<u64>| Allowance { limit, used: 0 };
            [("cores".to_owned(), of(cores)), ("ram".to_owned(), of(ram))].into()
        };
        assert!(suffices(&all, &left(Some(3), Some(6144))).is_ok(), "what shrinks gives nothing");
        assert!(suffices(&all, &left(None, None)).is_ok());
        let said = suffices(&all, &left(Some(2), None)).unwrap_err();
        assert!(
            matches!(said, RequestError::Forbidden(_))
                && said.to_string().contains("takes 3 more, and 2")
        );
        let said = suffices(&all, &left(None, Some(6143))).unwrap_err().to_string();
        assert!(
            said.contains("ram") && said.contains("6144 MiB more, and 6143 MiB are left"),
            "{said}"
        );
    }
}
