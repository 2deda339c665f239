//! The fields of a cluster template, one by one: what an upgrade does about each. Pure.

use super::template_change::Followed;
use crate::model::cluster::Cluster;
use crate::model::cluster_template::ClusterTemplate;

/// What an upgrade does about a field in which the new template differs.
#[cfg(test)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    /// It is carried out.
    Applied,
    /// The driver carries it out, refuses it, or says that it comes to nothing.
    Driver,
    /// It is refused, where it is not the cluster's own.
    Refused,
    /// It says nothing of clusters.
    Own,
}

macro_rules! fates {
    ($($field:ident: $fate:ident),* $(,)?) => {
        /// Every field of a template.
        #[cfg(test)]
        const FATES: &[(&str, Fate)] = &[$((stringify!($field), Fate::$fate)),*];
        // A field that is added to templates does not compile before somebody has thought of it here.
        const _: fn(&ClusterTemplate) = |ClusterTemplate { $($field: _),* }| {};
    };
}

fates! {
    image_id: Applied,
    // The driver looks at the image's own.
    cluster_distro: Applied,
    flavor_id: Applied,
    master_flavor_id: Applied,
    labels: Applied,
    network_driver: Driver,
    volume_driver: Driver,
    docker_storage_driver: Driver,
    dns_nameserver: Driver,
    http_proxy: Driver,
    https_proxy: Driver,
    no_proxy: Driver,
    insecure_registry: Driver,
    registry_enabled: Driver,
    tls_disabled: Driver,
    apiserver_port: Driver,
    coe: Refused,
    server_type: Refused,
    driver: Refused,
    keypair_id: Refused,
    external_network_id: Refused,
    fixed_network: Refused,
    fixed_subnet: Refused,
    docker_volume_size: Refused,
    master_lb_enabled: Refused,
    floating_ip_enabled: Refused,
    id: Own,
    sequence: Own,
    project_id: Own,
    user_id: Own,
    name: Own,
    public: Own,
    hidden: Own,
    tags: Own,
    created_at: Own,
    updated_at: Own,
}

/// The fields in which a difference is refused.
#[cfg(test)]
pub(super) fn refused() -> impl Iterator<Item = &'static str> {
    FATES.iter().filter(|(_, fate)| *fate == Fate::Refused).map(|(name, _)| *name)
}

pub(super) fn text(value: &Option<String>) -> String {
    value.clone().unwrap_or_else(|| "none".to_owned())
}

pub(super) fn size(gib: Option<u32>) -> String {
    gib.map_or_else(|| "none".to_owned(), |gib| gib.to_string())
}

/// What of the change from one template to the other does not come to a cluster that has the field
/// for itself, one sentence each. Pure.
pub(super) fn kept(cluster: &Cluster, old: &ClusterTemplate, new: &ClusterTemplate) -> Vec<String> {
    let f = Followed::of(cluster, old);
    let fields = [
        ("flavor_id", f.flavor, &old.flavor_id, &new.flavor_id, &cluster.flavor_id),
        (
            "master_flavor_id",
            f.master_flavor,
            &old.master_flavor_id,
            &new.master_flavor_id,
            &cluster.master_flavor_id,
        ),
        ("keypair_id", f.keypair, &old.keypair_id, &new.keypair_id, &cluster.keypair),
        (
            "fixed_network",
            f.fixed_network,
            &old.fixed_network,
            &new.fixed_network,
            &cluster.fixed_network,
        ),
        (
            "fixed_subnet",
            f.fixed_subnet,
            &old.fixed_subnet,
            &new.fixed_subnet,
            &cluster.fixed_subnet,
        ),
    ];
    let fields = fields.map(|(name, followed, old, new, own)| {
        // What a template does not name it leaves to its clusters.
        let new = if new.is_some() { new } else { own };
        (name, followed, text(old), text(new), text(own))
    });
    let sizes = [(
        "docker_volume_size",
        f.docker_volume_size,
        size(old.docker_volume_size),
        size(new.docker_volume_size),
        size(cluster.docker_volume_size),
    )];
    // A switch that is not the former template's is as the new one wants it, or both did not change.
    let all = fields.into_iter().chain(sizes);
    let differs = all.filter(|(_, followed, old, new, own)| !followed && old != new && new != own);
    let said = differs.map(|(name, _, _, asked, own)| {
        format!(
            "{name} {asked} of cluster template {}: the cluster has its own, {own}, and keeps it.",
            new.name
        )
    });
    said.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::driver::fields_of_drivers;
    use crate::model::cluster_template::Coe;
    use crate::model::{ClusterId, TemplateId};
    use uuid::Uuid;

    fn template(name: &str) -> ClusterTemplate {
        let id = TemplateId::new(Uuid::from_u128(2));
        ClusterTemplate::plain(id, name, Coe::Kubernetes, "image")
    }

    #[test]
    fn what_drivers_decide_is_looked_at_by_them() {
        let ours: Vec<&str> =
            FATES.iter().filter(|(_, fate)| *fate == Fate::Driver).map(|(name, _)| *name).collect();
        let mut theirs: Vec<&str> = fields_of_drivers().collect();
        theirs.sort_by_key(|name| ours.iter().position(|ours| ours == name));
        assert_eq!(ours, theirs);
    }

    #[test]
    fn what_a_cluster_has_for_itself_it_keeps_and_that_is_told() {
        let some = |text: &str| Some(text.to_owned());
        let old = template("old");
        let mut new = template("new");
        let mut cluster = Cluster::plain(ClusterId::new(Uuid::from_u128(1)), "k1", old.id);
        assert_eq!(kept(&cluster, &old, &new), [""; 0]);
        (cluster.flavor_id, cluster.master_flavor_id) = (some("own"), some("own"));
        (cluster.keypair, cluster.fixed_network) = (some("own"), some("own"));
        (cluster.fixed_subnet, cluster.docker_volume_size) = (some("own"), Some(7));
        (cluster.floating_ip_enabled, cluster.master_lb_enabled) = (true, true);
        assert_eq!(kept(&cluster, &old, &new), [""; 0], "the template says what it said before");
        (new.flavor_id, new.master_flavor_id) = (some("other"), some("other"));
        (new.keypair_id, new.fixed_network) = (some("other"), some("other"));
        (new.fixed_subnet, new.docker_volume_size) = (some("other"), Some(9));
        let said = kept(&cluster, &old, &new);
        let named: Vec<&str> = said.iter().filter_map(|s| s.split(' ').next()).collect();
        let six = [
            "flavor_id",
            "master_flavor_id",
            "keypair_id",
            "fixed_network",
            "fixed_subnet",
            "docker_volume_size",
        ];
        assert_eq!(named, six);
        assert_eq!(
            said[5],
            "docker_volume_size 9 of cluster template new: the cluster has its own, 7, and keeps it."
        );
        let silent = template("new");
        cluster.docker_volume_size = None;
        assert_eq!(kept(&cluster, &new, &silent), [""; 0], "what it does not name it leaves");
    }
}
