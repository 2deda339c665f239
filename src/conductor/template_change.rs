//! What an upgrade's template says otherwise than the one before: applied, or refused in words.
//!
//! An upgrade rebuilds servers with another image, resizes them, and has Heat change what it changes in place.
//! What follows from that for each field of a cluster template says [`super::template_fields`]:
//!
//! - image and labels are what an upgrade is about; the driver decides which labels may change;
//!   flavors are changed by a resize, which Heat does in place ([`super::resizing`]); further node
//!   groups have flavors of their own, and keep them;
//! - proxies, registry, volume driver, name servers and the like go into files of nodes or into
//!   the stack, where the driver decides the same; what changes nothing there is told in a line of
//!   warnings ([`crate::driver::Driver::undone`]);
//! - what networks, volumes and load balancers were made from is taken to nothing else by a rebuild
//!   or resize nor, by Heat, without new servers or addresses: here it is refused;
//! - what is said about the template itself concerns no cluster.
//!
//! A field that the cluster has for itself stays as it is, as with labels; that too is told.

use super::requests::actor;
use super::template_fields::{size, text};
use super::{Conductor, RequestContext, RequestError, StepError, UpgradeOrder, resizing};
use crate::model::cluster::Cluster;
use crate::model::cluster_template::ClusterTemplate;
use crate::model::facts::CloudFacts;
use crate::model::operation::Operation;
use crate::model::rollout::{RoleFlavors, Rollout};
use crate::model::{ClusterId, TemplateId};
use crate::openstack::{Actor, Image};
use crate::store::Stored;

/// What a template names, by its names or by what they mean in the cloud; None for what need not be
/// looked up.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Named<T> {
    flavor: Option<T>,
    master_flavor: Option<T>,
    external_network: Option<T>,
    fixed_network: Option<T>,
    fixed_subnet: Option<T>,
}

impl Conductor {
    /// Looks at the fields that no driver decides. The template that the cluster follows now, on
    /// which the answer hangs, and the flavors that its default groups shall have.
    pub(super) async fn check_template_change(
        &self,
        tenant: &RequestContext<'_>,
        id: ClusterId,
        order: &UpgradeOrder,
        image: &Image,
    ) -> Result<(TemplateId, RoleFlavors), RequestError> {
        let snapshot = self.snapshot(id)?;
        let (Some(old), Some(facts)) = (&snapshot.template, &snapshot.facts) else {
            // The order itself says what is the matter.
            return Ok((snapshot.cluster.template_id, RoleFlavors::default()));
        };
        let named = to_look_up(&snapshot.cluster, old, &order.template);
        let asker = actor(tenant)?;
        let means = self.look_up(&asker, named).await?;
        compare(&snapshot.cluster, facts, old, &order.template, &means)?;
        let is_default = snapshot.group(order.nodegroup).is_some_and(|g| g.is_default);
        let flavors = match is_default {
            true => {
                let means = (means.flavor.as_ref(), means.master_flavor.as_ref());
                resizing::asked_for(&snapshot.cluster, facts, old, means)
            }
            false => RoleFlavors::default(),
        };
        self.check_resize(&asker, &snapshot, &flavors, image).await?;
        Ok((snapshot.cluster.template_id, flavors))
    }

    /// Ids of what is named, all at once.
    async fn look_up(
        &self,
        actor: &Actor,
        names: Named<&str>,
    ) -> Result<Named<String>, RequestError> {
        let (flavor, master_flavor, external_network, fixed_network, fixed_subnet) = tokio::try_join!(
            self.flavor(actor, names.flavor),
            self.flavor(actor, names.master_flavor),
            self.network(actor, names.external_network, "external"),
            self.network(actor, names.fixed_network, "fixed"),
            self.subnet(actor, names.fixed_subnet),
        )?;
        Ok(Named {
            flavor: flavor.map(|f| f.id),
            master_flavor: master_flavor.map(|f| f.id),
            external_network: external_network.map(|n| n.id),
            fixed_network: fixed_network.map(|n| n.id),
            fixed_subnet: fixed_subnet.map(|s| s.id),
        })
    }

    /// The template that an upgrade begins with: as it was when the upgrade was accepted, for
    /// nothing keeps its owner from changing or deleting it until a cluster follows it.
    pub(super) fn template_to_follow(
        &self,
        operation: &Operation,
        rollout: &Rollout,
    ) -> Result<Stored<ClusterTemplate>, StepError> {
        let found = self.inner.store.read(|view| view.template(rollout.template_id))?;
        let template = found.ok_or_else(|| {
            StepError::failed(format!(
                "Cluster template {} was deleted before the upgrade began. Upgrade to another one.",
                rollout.template_id
            ))
        })?;
        match template.updated_at.is_some_and(|at| at > operation.began) {
            false => Ok(template),
            true => Err(StepError::failed(format!(
                "Cluster template {} was changed before the upgrade began. Ask for the upgrade again.",
                template.name
            ))),
        }
    }
}

/// Which of a cluster's fields are its template's, and not something of its own.
#[derive(Clone, Copy, Debug)]
pub(super) struct Followed {
    pub(super) flavor: bool,
    pub(super) master_flavor: bool,
    pub(super) keypair: bool,
    pub(super) fixed_network: bool,
    pub(super) fixed_subnet: bool,
    pub(super) docker_volume_size: bool,
    pub(super) floating_ip_enabled: bool,
    pub(super) master_lb_enabled: bool,
}

impl Followed {
    pub(super) fn of(cluster: &Cluster, old: &ClusterTemplate) -> Self {
        let fixed_subnet = cluster.fixed_subnet == old.fixed_subnet;
        // Of a subnet alone the network follows.
        let by_subnet = fixed_subnet && old.fixed_network.is_none() && old.fixed_subnet.is_some();
        Self {
            flavor: cluster.flavor_id == old.flavor_id,
            master_flavor: cluster.master_flavor_id == old.master_flavor_id,
            keypair: cluster.keypair == old.keypair_id,
            fixed_network: cluster.fixed_network == old.fixed_network || by_subnet,
            fixed_subnet,
            docker_volume_size: cluster.docker_volume_size == old.docker_volume_size,
            floating_ip_enabled: cluster.floating_ip_enabled == old.floating_ip_enabled,
            master_lb_enabled: cluster.master_lb_enabled == old.master_lb_enabled,
        }
    }
}

/// The names in `new` that may mean something else than what the cluster has.
fn to_look_up<'n>(
    cluster: &Cluster,
    old: &ClusterTemplate,
    new: &'n ClusterTemplate,
) -> Named<&'n str> {
    let followed = Followed::of(cluster, old);
    let other = |is_followed: bool, own: &Option<String>, new: &'n Option<String>| {
        new.as_deref().filter(|_| is_followed && own != new)
    };
    Named {
        flavor: other(followed.flavor, &cluster.flavor_id, &new.flavor_id),
        master_flavor: other(
            followed.master_flavor,
            &cluster.master_flavor_id,
            &new.master_flavor_id,
        ),
        // No cluster has an external network of its own.
        external_network: other(true, &old.external_network_id, &new.external_network_id),
        fixed_network: other(followed.fixed_network, &cluster.fixed_network, &new.fixed_network),
        fixed_subnet: other(followed.fixed_subnet, &cluster.fixed_subnet, &new.fixed_subnet),
    }
}

/// Refuses the first field of `new` that an upgrade could only leave undone.
fn compare(
    cluster: &Cluster,
    facts: &CloudFacts,
    old: &ClusterTemplate,
    new: &ClusterTemplate,
    means: &Named<String>,
) -> Result<(), RequestError> {
    let ClusterTemplate {
        coe,
        server_type,
        driver,
        keypair_id,
        external_network_id,
        fixed_network,
        fixed_subnet,
        docker_volume_size,
        master_lb_enabled,
        floating_ip_enabled,
        ..
    } = new;
    let followed = Followed::of(cluster, old);
    // What a template does not name it leaves to its clusters.
    let named = |own: &Option<String>, new: &Option<String>| new.is_some() && own != new;
    let of_external = old.external_network_id != *external_network_id
        && (external_network_id.is_none() || means.external_network != facts.external_network_id);
    // A network that is not named is made, unless a subnet says where.
    let of_network = match fixed_network {
        Some(_) => {
            cluster.fixed_network != *fixed_network && means.fixed_network != facts.fixed_network_id
        }
        None => cluster.fixed_network.is_some() && fixed_subnet.is_none(),
    };
    let differences = [
        ("coe", old.coe != *coe, coe.to_string(), old.coe.to_string()),
        (
            "server_type",
            old.server_type != *server_type,
            server_type.to_string(),
            old.server_type.to_string(),
        ),
        (
            "driver",
            old.driver != *driver && driver.as_ref().is_some_and(|d| *d != cluster.driver),
            text(driver),
            cluster.driver.clone(),
        ),
        (
            "keypair_id",
            followed.keypair && named(&cluster.keypair, keypair_id),
            text(keypair_id),
            text(&cluster.keypair),
        ),
        (
            "external_network_id",
            of_external,
            text(external_network_id),
            text(&old.external_network_id),
        ),
        (
            "fixed_network",
            followed.fixed_network && of_network,
            text(fixed_network),
            text(&cluster.fixed_network),
        ),
        (
            "fixed_subnet",
            followed.fixed_subnet
                && named(&cluster.fixed_subnet, fixed_subnet)
                && means.fixed_subnet != facts.fixed_subnet_id,
            text(fixed_subnet),
            text(&cluster.fixed_subnet),
        ),
        (
            "docker_volume_size",
            followed.docker_volume_size && cluster.docker_volume_size != *docker_volume_size,
            size(*docker_volume_size),
            size(cluster.docker_volume_size),
        ),
        (
            "floating_ip_enabled",
            followed.floating_ip_enabled && cluster.floating_ip_enabled != *floating_ip_enabled,
            floating_ip_enabled.to_string(),
            cluster.floating_ip_enabled.to_string(),
        ),
        (
            "master_lb_enabled",
            followed.master_lb_enabled && cluster.master_lb_enabled != *master_lb_enabled,
            master_lb_enabled.to_string(),
            cluster.master_lb_enabled.to_string(),
        ),
    ];
    match differences.into_iter().find(|(_, is_other, ..)| *is_other) {
        None => Ok(()),
        Some((field, _, asked, has)) => Err(RequestError::Invalid(format!(
            "Cluster {} cannot be upgraded to cluster template {}: its {field} is {asked}, the \
             cluster has {has}, and an upgrade only rebuilds servers with another image and \
             resizes them. Choose a template with {field} {has}, or create a new cluster from this one.",
            cluster.name, new.name
        ))),
    }
}

/// The cluster's fields as the new template spells them, where they are the template's: what is the
/// cluster's own is told by that at the next upgrade.
pub(super) fn respell(cluster: &mut Cluster, old: &ClusterTemplate, new: &ClusterTemplate) {
    let followed = Followed::of(cluster, old);
    for (is_followed, field, spelling) in [
        (followed.flavor, &mut cluster.flavor_id, &new.flavor_id),
        (followed.master_flavor, &mut cluster.master_flavor_id, &new.master_flavor_id),
        (followed.fixed_network, &mut cluster.fixed_network, &new.fixed_network),
        (followed.fixed_subnet, &mut cluster.fixed_subnet, &new.fixed_subnet),
    ] {
        if is_followed && spelling.is_some() {
            field.clone_from(spelling);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::cluster_template::{Coe, ServerType};
    use uuid::Uuid;

    fn some(text: &str) -> Option<String> {
        Some(text.to_owned())
    }

    fn template() -> ClusterTemplate {
        ClusterTemplate {
            flavor_id: some("small"),
            master_flavor_id: some("small"),
            keypair_id: some("key"),
            external_network_id: some("public"),
            docker_volume_size: Some(5),
            floating_ip_enabled: true,
            ..ClusterTemplate::plain(
                TemplateId::new(Uuid::from_u128(2)),
                "old",
                Coe::Kubernetes,
                "image",
            )
        }
    }

    /// A cluster that has everything from its template.
    fn cluster(template: &ClusterTemplate) -> (Cluster, CloudFacts) {
        let id = ClusterId::new(Uuid::from_u128(1));
        let cluster = Cluster {
            driver: "d".to_owned(),
            keypair: template.keypair_id.clone(),
            docker_volume_size: template.docker_volume_size,
            master_flavor_id: template.master_flavor_id.clone(),
            flavor_id: template.flavor_id.clone(),
            fixed_network: template.fixed_network.clone(),
            fixed_subnet: template.fixed_subnet.clone(),
            floating_ip_enabled: template.floating_ip_enabled,
            master_lb_enabled: template.master_lb_enabled,
            ..Cluster::plain(id, "k1", template.id)
        };
        let facts = CloudFacts {
            external_network_id: some("public-id"),
            fixed_network_id: template.fixed_network.as_ref().map(|_| "net-id".to_owned()),
            fixed_subnet_id: template.fixed_network.as_ref().map(|_| "subnet-id".to_owned()),
            ..CloudFacts::plain(id, "image-id", "ubuntu", "small-id")
        };
        (cluster, facts)
    }

    /// Which field is refused; `means` is what the new names mean in the cloud.
    fn refused(
        own: impl FnOnce(&mut Cluster),
        old: impl FnOnce(&mut ClusterTemplate),
        new: impl FnOnce(&mut ClusterTemplate),
        means: Named<&str>,
    ) -> Option<String> {
        let mut before = template();
        old(&mut before);
        let mut after = before.clone();
        "new".clone_into(&mut after.name);
        new(&mut after);
        let (mut cluster, facts) = cluster(&before);
        own(&mut cluster);
        let text = |id: Option<&str>| id.map(str::to_owned);
        let looked_up = to_look_up(&cluster, &before, &after);
        let means = Named {
            flavor: looked_up.flavor.and(text(means.flavor)),
            master_flavor: looked_up.master_flavor.and(text(means.master_flavor)),
            external_network: looked_up.external_network.and(text(means.external_network)),
            fixed_network: looked_up.fixed_network.and(text(means.fixed_network)),
            fixed_subnet: looked_up.fixed_subnet.and(text(means.fixed_subnet)),
        };
        let said = compare(&cluster, &facts, &before, &after, &means).err()?.to_string();
        assert!(said.contains("cluster template new: its ") && said.contains("Choose a"), "{said}");
        let field = said.split("its ").nth(1).and_then(|rest| rest.split(' ').next());
        Some(field.unwrap_or_default().to_owned())
    }

    #[test]
    fn what_an_upgrade_cannot_do_is_refused_by_field() {
        type Change = fn(&mut ClusterTemplate);
        let changes: [(&str, Change); 11] = [
            ("coe", |t| t.coe = Coe::SwarmMode),
            ("server_type", |t| t.server_type = ServerType::Bm),
            ("driver", |t| t.driver = some("other")),
            ("keypair_id", |t| t.keypair_id = some("other")),
            ("external_network_id", |t| t.external_network_id = some("other")),
            ("external_network_id", |t| t.external_network_id = None),
            ("fixed_network", |t| t.fixed_network = some("net")),
            ("fixed_subnet", |t| t.fixed_subnet = some("sub")),
            ("docker_volume_size", |t| t.docker_volume_size = None),
            ("floating_ip_enabled", |t| t.floating_ip_enabled = false),
            ("master_lb_enabled", |t| t.master_lb_enabled = true),
        ];
        for field in super::super::template_fields::refused() {
            assert!(changes.iter().any(|(name, _)| *name == field), "{field} is not tried");
        }
        let other = || Named {
            flavor: Some("large-id"),
            master_flavor: Some("large-id"),
            external_network: Some("other-id"),
            fixed_network: Some("net-id"),
            fixed_subnet: Some("sub-id"),
        };
        for (field, change) in changes {
            assert_eq!(refused(|_| {}, |_| {}, change, other()).as_deref(), Some(field));
        }
        let balanced = refused(|_| {}, |_| {}, |t| t.master_lb_enabled = true, other());
        assert_eq!(balanced.as_deref(), Some("master_lb_enabled"));
    }

    #[test]
    fn what_is_the_clusters_own_or_means_the_same_is_no_difference() {
        type Own = fn(&mut Cluster);
        type Change = fn(&mut ClusterTemplate);
        let own: [(Own, Change); 7] = [
            (|c| c.flavor_id = some("own"), |t| t.flavor_id = some("large")),
            (|c| c.master_flavor_id = some("own"), |t| t.master_flavor_id = some("large")),
            (|c| c.keypair = some("own"), |t| t.keypair_id = some("other")),
            (|c| c.docker_volume_size = Some(9), |t| t.docker_volume_size = None),
            (|c| c.floating_ip_enabled = false, |t| t.floating_ip_enabled = true),
            (|c| c.master_lb_enabled = true, |t| t.master_lb_enabled = false),
            (|c| c.fixed_network = some("own"), |t| t.fixed_network = some("net")),
        ];
        for (i, (own, change)) in own.into_iter().enumerate() {
            let means = Named { fixed_network: Some("net-id"), ..Named::default() };
            assert_eq!(refused(own, |_| {}, change, means), None, "{i}");
        }
        let same = Named {
            flavor: Some("small-id"),
            master_flavor: Some("small-id"),
            external_network: Some("public-id"),
            ..Named::default()
        };
        let by_id: Change = |t| {
            (t.flavor_id, t.master_flavor_id) = (some("small-id"), some("small-id"));
            t.external_network_id = some("public-id");
        };
        assert_eq!(refused(|_| {}, |_| {}, by_id, same), None);
        let silent: Change = |t| (t.flavor_id, t.keypair_id) = (None, None);
        assert_eq!(refused(|_| {}, |_| {}, silent, Named::default()), None);
        let about_itself: Change = |t| (t.public, t.hidden, t.tags) = (true, true, some("a"));
        assert_eq!(refused(|_| {}, |_| {}, about_itself, Named::default()), None);
    }

    #[test]
    fn networks_and_subnets_belong_together() {
        type Change = fn(&mut ClusterTemplate);
        let both: Change = |t| (t.fixed_network, t.fixed_subnet) = (some("net"), some("sub"));
        let means = |network, subnet| Named {
            fixed_network: network,
            fixed_subnet: subnet,
            ..Named::default()
        };
        let leave = |t: &mut ClusterTemplate| t.fixed_subnet = None;
        assert_eq!(refused(|_| {}, both, leave, means(None, None)), None, "any of the network's");
        let network = |t: &mut ClusterTemplate| t.fixed_network = None;
        assert_eq!(refused(|_| {}, both, network, means(None, None)), None, "the subnet's");
        let neither = |t: &mut ClusterTemplate| (t.fixed_network, t.fixed_subnet) = (None, None);
        let said = refused(|_| {}, both, neither, means(None, None));
        assert_eq!(said.as_deref(), Some("fixed_network"));
        // The network of a subnet that was named alone is no wish of the cluster's own.
        let alone: Change = |t| t.fixed_subnet = some("sub");
        let placed = |c: &mut Cluster| c.fixed_network = some("net-id");
        let named = |t: &mut ClusterTemplate| t.fixed_network = some("other");
        let said = refused(placed, alone, named, means(Some("other-id"), None));
        assert_eq!(said.as_deref(), Some("fixed_network"));
    }

    #[test]
    fn another_spelling_is_the_clusters_own_spelling_from_then_on() {
        let old = template();
        let mut new = old.clone();
        (new.flavor_id, new.master_flavor_id) = (some("small-id"), None);
        let (mut cluster, _) = cluster(&old);
        cluster.fixed_network = some("own");
        new.fixed_network = some("net");
        respell(&mut cluster, &old, &new);
        assert_eq!(cluster.flavor_id, some("small-id"));
        assert_eq!(cluster.master_flavor_id, some("small"), "a template may say nothing");
        assert_eq!(cluster.fixed_network, some("own"));
    }
}
