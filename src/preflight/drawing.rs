//! The stack that a cluster would be: drawn as the conductor draws it, and not built.

use std::collections::HashMap;

use super::scene::Scene;
use super::{Judgement, flavor, image};
use crate::base::secret::Secret;
use crate::conductor::{Limits, check_network_driver, check_root_volume, check_unknown};
use crate::driver::Bundle;
use crate::driver::count::Census;
use crate::driver::plan::{ClusterPlan, Enrolment, NodeFlavors, NodeImages};
use crate::model::ClusterId;
use crate::model::cluster::Cluster;
use crate::model::facts::CloudFacts;
use crate::model::nodegroup::{self, NodeGroup};
use crate::openstack::{Flavor, Found, Network, Service, Subnet};

pub struct Drawing {
    pub driver: String,
    pub bundle: Bundle,
    pub census: Census,
    /// The flavors in it, by id.
    pub flavors: HashMap<String, Flavor>,
    /// What is to be known of the template's labels.
    pub warnings: Option<String>,
}

impl Drawing {
    /// Looks up what the template names, chooses the driver, renders and counts.
    pub async fn make(scene: &Scene) -> Result<Self, Judgement> {
        let Some(cluster_request) = scene.cluster_request() else {
            return Err(Judgement::unseen("no template is asked about", "name one"));
        };
        let template = &cluster_request.template;
        let actor = scene.actor().await?;
        let (image, worker, master, external, network, subnet) = tokio::join!(
            image::find(scene, &actor),
            flavor::find(scene, &actor, template.flavor_id.as_deref()),
            flavor::find(scene, &actor, template.master_flavor_id.as_deref()),
            network(scene, template.external_network_id.as_deref(), "external_network_id"),
            network(scene, template.fixed_network.as_deref(), "fixed_network"),
            subnet(scene, template.fixed_subnet.as_deref()),
        );
        let (image, worker, master) = (image?, worker?, master?);
        let (external, mut network, mut subnet) = (external?, network?, subnet?);
        if let (None, Some(subnet)) = (&network, &subnet) {
            network = self::network(scene, Some(&subnet.network_id), "fixed_network").await?;
        }
        if let (Some(network), None) = (&network, &subnet)
            && let [only] = network.subnets.as_slice()
        {
            subnet = self::subnet(scene, Some(only)).await?;
        }
        let refused = |sentence: String| Judgement::fail(sentence, "change the cluster template");
        let driver = image::driver(scene, template, &image)?;
        let allowed = &scene.config.kubernetes.allowed_network_drivers;
        check_network_driver(template, &driver, allowed).map_err(|e| refused(e.to_string()))?;
        check_root_volume(&driver, &template.labels, &[Some(&worker), Some(&master)])
            .map_err(|e| refused(e.to_string()))?;
        Limits::of_new(&driver, &template.labels, cluster_request.nodes)
            .map_err(|e| refused(e.to_string()))?;
        let policy = scene.config.cluster.unknown_labels;
        let warnings =
            check_unknown(&driver, &template.labels, policy).map_err(|e| refused(e.to_string()))?;
        let id = ClusterId::new(scene.entropy.uuid());
        let facts = CloudFacts {
            cluster_id: id,
            image_id: image.id.clone(),
            os_distro: image.os_distro.clone().unwrap_or_default(),
            kube_version: image.kube_version.clone(),
            master_flavor: master.id.clone(),
            worker_flavor: worker.id.clone(),
            external_network_id: external.map(|n| n.id),
            fixed_network_id: network.map(|n| n.id),
            fixed_subnet_id: subnet.as_ref().map(|s| s.id.clone()),
            fixed_subnet_cidr: subnet.map(|s| s.cidr),
            ssh_public_key: None,
            region: scene.driver_settings.region.clone(),
            has_octavia: scene.cloud.has(Service::Octavia).await?,
            has_cinder: scene.cloud.has(Service::Cinder).await?,
            master_addresses: Vec::new(),
            api_internal: None,
            api_public: Vec::new(),
            foundation: None,
        };
        let mut cluster = cluster(scene, id, driver.name());
        cluster.fixed_network = cluster.fixed_network.or_else(|| facts.fixed_network_id.clone());
        let group = |role, count| NodeGroup::default_of(&cluster, &template.image_id, role, count);
        let groups = vec![
            group(nodegroup::MASTER, cluster_request.masters),
            group(nodegroup::WORKER, cluster_request.nodes),
        ];
        // As long as real ones, for the size of the user data.
        let token = || Secret::new("0".repeat(256));
        let plan = ClusterPlan {
            enrolment: Enrolment {
                masters: (0..cluster_request.masters).map(|_| token()).collect(),
                workers: vec![(nodegroup::DEFAULT_WORKER.to_owned(), token())],
            },
            cluster,
            template: template.clone(),
            groups,
            facts,
            settings: scene.driver_settings.clone(),
            foundation: None,
            revision: String::new(),
            removals: Vec::new(),
            images: NodeImages::default(),
            flavors: NodeFlavors::default(),
            trust: None,
            inlined: None,
            discovery_url: None,
        };
        let error = |e: crate::driver::DriverError| {
            let sentence = e.to_string();
            // What, and then what to do about it: the driver's sentences are made that way.
            let (what, cure) = sentence.rsplit_once(". ").unwrap_or((&sentence, "change it"));
            Judgement::fail(what, cure.trim_end_matches('.'))
        };
        driver.check(&plan).map_err(error)?;
        let bundle = driver.bundle(&plan).map_err(error)?;
        let census = Census::take(&bundle).map_err(|reason| {
            let cure = format!("mend the templates of driver {}", driver.name());
            Judgement::fail(format!("the stack's template is not usable: {reason}"), cure)
        })?;
        let flavors = [master, worker].into_iter().map(|f| (f.id.clone(), f)).collect();
        Ok(Self { driver: driver.name().to_owned(), bundle, census, flavors, warnings })
    }
}

/// The cluster that a tenant would get by naming nothing but the template.
fn cluster(scene: &Scene, id: ClusterId, driver: &str) -> Cluster {
    let cluster_request = scene.cluster_request().expect("a drawing is made of one");
    let template = &cluster_request.template;
    Cluster {
        project_id: template.project_id.clone(),
        user_id: template.user_id.clone(),
        keypair: template.keypair_id.clone(),
        docker_volume_size: template.docker_volume_size,
        labels: template.labels.clone(),
        master_flavor_id: template.master_flavor_id.clone(),
        flavor_id: template.flavor_id.clone(),
        fixed_network: template.fixed_network.clone(),
        fixed_subnet: template.fixed_subnet.clone(),
        floating_ip_enabled: template.floating_ip_enabled,
        master_lb_enabled: template.master_lb_enabled,
        create_timeout: cluster_request.timeout,
        driver: driver.to_owned(),
        created_at: scene.clock.now(),
        ..Cluster::plain(id, "preflight", template.id)
    }
}

async fn network(
    scene: &Scene,
    wanted: Option<&str>,
    field: &str,
) -> Result<Option<Network>, Judgement> {
    let Some(wanted) = wanted else { return Ok(None) };
    let actor = scene.actor().await?;
    match scene.cloud.network(&actor, wanted).await? {
        Found::One(network) => Ok(Some(network)),
        Found::None => Err(Judgement::fail(
            format!("there is no network {wanted}"),
            format!("set {field} in the cluster template to one that is there"),
        )),
        Found::Several => Err(Judgement::fail(
            format!("several networks are called {wanted}"),
            format!("give an id in {field} of the cluster template"),
        )),
    }
}

async fn subnet(scene: &Scene, wanted: Option<&str>) -> Result<Option<Subnet>, Judgement> {
    let Some(wanted) = wanted else { return Ok(None) };
    let actor = scene.actor().await?;
    match scene.cloud.subnet(&actor, wanted).await? {
        Found::One(subnet) => Ok(Some(subnet)),
        Found::None | Found::Several => Err(Judgement::fail(
            format!("there is not exactly one subnet {wanted}"),
            "give the id of a subnet of fixed_network in fixed_subnet of the cluster template",
        )),
    }
}
