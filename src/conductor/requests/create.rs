//! A new cluster. All that must hold before the intention is written: the cloud has what was
//! named, and the driver can build it.

use std::time::Duration;

use tracing::{info, warn};

use super::actor;
use crate::base::clock::Timestamp;
use crate::conductor::label_checks::{
    BOOT_VOLUME_SIZE, Limits, check_root_volume, with_boot_volume,
};
use crate::conductor::{Conductor, RequestContext, RequestError};
use crate::driver::plan::{ClusterPlan, Enrolment, NodeFlavors, NodeImages};
use crate::driver::{Driver, DriverError};
use crate::model::cluster::Cluster;
use crate::model::cluster_template::{ClusterTemplate, Coe, ServerType};
use crate::model::facts::CloudFacts;
use crate::model::labels::Labels;
use crate::model::nodegroup::{self, NodeGroup};
use crate::model::operation::{Create, CreateStep, Operation};
use crate::model::requester::Requester;
use crate::model::status::Status;
use crate::model::{ClusterId, NodeGroupId};
use crate::openstack::{Actor, Flavor, Image, Network, Service, Subnet};
use crate::store::Change;

/// A cluster as its tenant asked for it, syntactically checked, inheritance applied.
#[derive(Clone, Debug)]
pub struct ClusterOrder {
    pub cluster: Cluster,
    pub node_count: u32,
    pub master_count: u32,
}

/// What the image of a template says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TemplateIngredients {
    pub cluster_distro: String,
    /// The driver that will build its clusters.
    pub driver: String,
}

/// What a template or a cluster names.
#[derive(Clone, Copy, Debug, Default)]
struct Named<'n> {
    image: &'n str,
    flavor: Option<&'n str>,
    master_flavor: Option<&'n str>,
    external_network: Option<&'n str>,
    fixed_network: Option<&'n str>,
    fixed_subnet: Option<&'n str>,
}

/// What was found for it.
struct Ingredients {
    image: Image,
    os_distro: String,
    flavor: Option<Flavor>,
    master_flavor: Option<Flavor>,
    external_network: Option<Network>,
    fixed_network: Option<Network>,
    fixed_subnet: Option<Subnet>,
}

impl Conductor {
    /// Looks up everything a template names, side by side, with the tenant's token; resolves
    /// the driver; checks all that no cluster made from it decides for itself: network and volume
    /// drivers, labels, volumes, the load balancer, the root volume rule. Nothing is written.
    pub async fn check_template(
        &self,
        tenant: &RequestContext<'_>,
        template: &ClusterTemplate,
    ) -> Result<TemplateIngredients, RequestError> {
        let named = Named {
            image: &template.image_id,
            flavor: template.flavor_id.as_deref(),
            master_flavor: template.master_flavor_id.as_deref(),
            external_network: template.external_network_id.as_deref(),
            fixed_network: template.fixed_network.as_deref(),
            fixed_subnet: template.fixed_subnet.as_deref(),
        };
        let actor = actor(tenant)?;
        let (found, services) =
            tokio::try_join!(self.gather(&actor, named), self.optional_services())?;
        let driver = self.choose(template, &found.image, &found.os_distro)?;
        check_network_driver(template, &driver, &self.inner.settings.allowed_network_drivers)?;
        self.has_root(&driver, &self.with_boot_volume(&driver, &template.labels), &found)?;
        Limits::of(&template.labels)?;
        self.check_new_labels(&driver, &template.labels)?;
        driver.check_template(&self.plan_of_template(template, &found, services))?;
        let driver = driver.name().to_owned();
        Ok(TemplateIngredients { cluster_distro: found.os_distro, driver })
    }

    /// Whether the catalogue has Octavia, and whether it has Cinder.
    async fn optional_services(&self) -> Result<(bool, bool), RequestError> {
        let has = |service| async move { self.inner.cloud.has(service).await };
        Ok(tokio::try_join!(has(Service::Octavia), has(Service::Cinder))?)
    }

    /// A cluster that says nothing of its own, for what its template alone decides.
    fn plan_of_template(
        &self,
        template: &ClusterTemplate,
        found: &Ingredients,
        (has_octavia, has_cinder): (bool, bool),
    ) -> ClusterPlan {
        let id = ClusterId::new(template.id.uuid());
        let cluster = Cluster {
            labels: template.labels.clone(),
            docker_volume_size: template.docker_volume_size,
            master_lb_enabled: template.master_lb_enabled,
            ..Cluster::plain(id, &template.name, template.id)
        };
        let group = |role| NodeGroup::default_of(&cluster, &template.image_id, role, 1);
        let groups = vec![group(nodegroup::MASTER), group(nodegroup::WORKER)];
        let image = &found.image;
        let facts = CloudFacts {
            kube_version: image.kube_version.clone(),
            region: self.inner.settings.driver.region.clone(),
            has_octavia,
            has_cinder,
            ..CloudFacts::plain(id, &image.id, &found.os_distro, "")
        };
        self.plan_to_be(cluster, template, groups, facts)
    }

    /// The plan of a cluster of which nothing has been made yet.
    fn plan_to_be(
        &self,
        cluster: Cluster,
        template: &ClusterTemplate,
        groups: Vec<NodeGroup>,
        facts: CloudFacts,
    ) -> ClusterPlan {
        ClusterPlan {
            cluster,
            template: template.clone(),
            groups,
            facts,
            settings: self.inner.settings.driver.clone(),
            enrolment: Enrolment::default(),
            foundation: None,
            revision: String::new(),
            removals: Vec::new(),
            images: NodeImages::default(),
            flavors: NodeFlavors::default(),
            trust: None,
            inlined: None,
            discovery_url: None,
        }
    }

    /// The driver that a template without an explicit or image-given driver would get.
    pub fn driver_for(
        &self,
        requested: Option<&str>,
        server_type: ServerType,
        os_distro: &str,
        coe: Coe,
    ) -> Result<String, RequestError> {
        let driver = self.drivers().select(requested, None, server_type, os_distro, coe)?;
        Ok(driver.name().to_owned())
    }

    /// Whether Keystone knows the project.
    pub async fn has_project(&self, id: &str) -> Result<bool, RequestError> {
        Ok(self.inner.cloud.keystone().has_project(id).await?)
    }

    /// The network driver of templates that name none, for this COE.
    pub fn default_network_driver(&self, coe: Coe) -> Option<String> {
        match coe {
            Coe::Kubernetes => Some(self.inner.settings.driver.default_network_driver.clone()),
            other => self.drivers().default_network_driver(other).map(str::to_owned),
        }
    }

    /// Checks everything that must hold, then makes the intention durable: cluster
    /// CREATE_IN_PROGRESS, two default groups, facts, operation. Returns when it is on disk.
    /// Quota is checked inside the same transaction.
    pub async fn create_cluster(
        &self,
        tenant: &RequestContext<'_>,
        order: ClusterOrder,
        template: &ClusterTemplate,
    ) -> Result<ClusterId, RequestError> {
        let actor = actor(tenant)?;
        can_make_trusts(tenant.requester)?;
        let cluster = &order.cluster;
        let named = Named {
            image: &template.image_id,
            flavor: cluster.flavor_id.as_deref(),
            master_flavor: cluster.master_flavor_id.as_deref(),
            external_network: template.external_network_id.as_deref(),
            fixed_network: cluster.fixed_network.as_deref(),
            fixed_subnet: cluster.fixed_subnet.as_deref(),
        };
        let (found, public_key, (has_octavia, has_cinder)) = tokio::try_join!(
            self.gather(&actor, named),
            self.public_key(&actor, cluster.keypair.as_deref()),
            self.optional_services(),
        )?;
        let driver = self.choose(template, &found.image, &found.os_distro)?;
        let labels = self.with_boot_volume(&driver, &cluster.labels);
        self.has_root(&driver, &labels, &found)?;
        let (Some(worker_flavor), Some(master_flavor)) = (&found.flavor, &found.master_flavor)
        else {
            return Err(RequestError::Invalid(
                "Unable to find flavor None. Give flavor_id and master_flavor_id, in the \
                 request or in the cluster template."
                    .to_owned(),
            ));
        };
        self.check_new_labels(&driver, &cluster.labels)?;
        let own_network = cluster.fixed_network.clone();
        let facts = CloudFacts {
            cluster_id: cluster.id,
            image_id: found.image.id,
            os_distro: found.os_distro,
            kube_version: found.image.kube_version,
            master_flavor: master_flavor.id.clone(),
            worker_flavor: worker_flavor.id.clone(),
            external_network_id: found.external_network.map(|n| n.id),
            fixed_network_id: found.fixed_network.map(|n| n.id),
            fixed_subnet_id: found.fixed_subnet.as_ref().map(|s| s.id.clone()),
            fixed_subnet_cidr: found.fixed_subnet.map(|s| s.cidr),
            ssh_public_key: public_key,
            region: self.inner.settings.driver.region.clone(),
            has_octavia,
            has_cinder,
            master_addresses: Vec::new(),
            api_internal: None,
            api_public: Vec::new(),
            foundation: None,
        };
        let mut order = order;
        order.cluster.labels = labels;
        // A subnet that is named without its network says which one it is.
        order.cluster.fixed_network = own_network.or_else(|| facts.fixed_network_id.clone());
        driver.name().clone_into(&mut order.cluster.driver);
        self.accept(tenant, order, template, facts, &driver).await
    }

    async fn accept(
        &self,
        tenant: &RequestContext<'_>,
        order: ClusterOrder,
        template: &ClusterTemplate,
        facts: CloudFacts,
        driver: &Driver,
    ) -> Result<ClusterId, RequestError> {
        let now = self.inner.clock.now();
        let store = &self.inner.store;
        let ClusterOrder { mut cluster, node_count, master_count } = order;
        cluster.status = Status::CreateInProgress;
        let group = |role: &'static str, count: u32| {
            let id = NodeGroupId::new(self.inner.entropy.record_id(now));
            NodeGroup::default_of(&cluster, &template.image_id, role, count)
                .identified(id, store.next_sequence())
        };
        let masters = group(nodegroup::MASTER, master_count);
        let mut workers = group(nodegroup::WORKER, node_count);
        let limits = Limits::of_new(driver, &cluster.labels, node_count)?;
        (workers.min_node_count, workers.max_node_count) = (limits.min, limits.max);
        // What the driver cannot build is refused before anything is written.
        let groups = vec![masters.clone(), workers.clone()];
        let plan = self.plan_to_be(cluster.clone(), template, groups, facts.clone());
        driver.check_new(&plan)?;
        cluster.status_reason = self.first_reason(driver, &plan);
        if let Some(wait) = driver.awaits_signals(&plan)? {
            self.check_signals(wait, tenant.requester.expires_at)?;
        }
        if driver.inlines(&plan)? {
            warn!(
                name = cluster.name,
                project = cluster.project_id,
                "the cluster's keys go into user data, which Heat and Nova store"
            );
        }
        let minutes = driver.create_timeout(&plan);
        let id = cluster.id;
        let operation = Operation {
            sequence: store.next_sequence(),
            cluster_id: id,
            began: now,
            deadline: Some(now.plus(Duration::from_secs(60 * u64::from(minutes)))),
            token: self.lent_token(tenant, &cluster),
            roles: tenant.requester.roles.clone(),
            user_id: tenant.requester.user_id.clone(),
            request_id: tenant.request_id.to_owned(),
            kind: Create { step: CreateStep::Certificates }.into(),
        };
        let limit = self.inner.settings.max_clusters_per_project;
        let change = Change::new()
            .expect_absent(&cluster)
            .expect_exists(template)
            .expect_fewer_clusters(&cluster.project_id, limit)
            .put(&cluster)
            .put(&masters)
            .put(&workers)
            .put(&facts)
            .put(&operation);
        self.keep_driver(driver).await?;
        self.intend(id, Self::remember(change, id, driver)).await?;
        info!(cluster = %id, name = cluster.name, project = cluster.project_id, "creation accepted");
        Ok(id)
    }

    /// Heat looks at a wait condition with the token that made the stack.
    fn check_signals(&self, wait: Duration, expires_at: Timestamp) -> Result<(), RequestError> {
        let left = expires_at.since(self.inner.clock.now());
        if wait <= left || self.inner.settings.heat_reauthenticates {
            return Ok(());
        }
        Err(RequestError::Invalid(format!(
            "Invalid input for label wait_condition_timeout. Value: '{}'. The token of the request \
             expires in {} s, and Heat cannot wait for longer: set the label to less, log in anew, \
             or let the operator set reauthentication_auth_method = trusts in heat.conf and \
             heat_reauthenticates = true for magnumd.",
            wait.as_secs(),
            left.as_secs()
        )))
    }

    fn has_root(
        &self,
        driver: &Driver,
        labels: &Labels,
        found: &Ingredients,
    ) -> Result<(), RequestError> {
        check_root_volume(driver, labels, &[found.flavor.as_ref(), found.master_flavor.as_ref()])
    }

    fn with_boot_volume(&self, driver: &Driver, labels: &Labels) -> Labels {
        match driver.declares(BOOT_VOLUME_SIZE) {
            true => with_boot_volume(labels, self.inner.settings.boot_volume_size),
            false => labels.clone(),
        }
    }

    /// Looks up all that is named, at once.
    async fn gather(&self, actor: &Actor, named: Named<'_>) -> Result<Ingredients, RequestError> {
        let (image, flavor, master_flavor, external_network, mut fixed_network, fixed_subnet) = tokio::try_join!(
            self.image(actor, named.image),
            self.flavor(actor, named.flavor),
            self.flavor(actor, named.master_flavor),
            self.network(actor, named.external_network, "external"),
            self.network(actor, named.fixed_network, "fixed"),
            self.subnet(actor, named.fixed_subnet),
        )?;
        if let Some(network) = external_network.as_ref().filter(|n| !n.external) {
            return Err(RequestError::Invalid(format!(
                "Unable to find external network {}. The network of that name is not \
                 router:external; external_network_id must name one that is.",
                network.name
            )));
        }
        if let (Some(network), Some(subnet)) = (&fixed_network, &fixed_subnet)
            && subnet.network_id != network.id
        {
            return Err(RequestError::Invalid(format!(
                "Fixed subnet {} is not part of fixed network {}. Choose one of its subnets.",
                subnet.id, network.name
            )));
        }
        // A subnet is in one network.
        if let (None, Some(subnet)) = (&fixed_network, &fixed_subnet) {
            fixed_network = self.network(actor, Some(&subnet.network_id), "fixed").await?;
        }
        let fixed_subnet = match (&fixed_network, fixed_subnet) {
            (Some(network), None) => self.only_subnet(actor, network, named.fixed_network).await?,
            (_, subnet) => subnet,
        };
        let os_distro = os_distro(&image, named.image)?;
        Ok(Ingredients {
            image,
            os_distro,
            flavor,
            master_flavor,
            external_network,
            fixed_network,
            fixed_subnet,
        })
    }

    fn choose(
        &self,
        template: &ClusterTemplate,
        image: &Image,
        os_distro: &str,
    ) -> Result<std::sync::Arc<Driver>, DriverError> {
        let fallback = self.inner.settings.default_driver.as_deref();
        self.drivers().select(
            template.driver.as_deref(),
            image.magnum_driver.as_deref().or(fallback),
            template.server_type,
            os_distro,
            template.coe,
        )
    }
}

/// What every image must say of itself, so that a driver can be chosen.
pub fn os_distro(image: &Image, named: &str) -> Result<String, RequestError> {
    image.os_distro.clone().ok_or_else(|| {
        RequestError::Invalid(format!(
            "Image {named} doesn't contain os_distro field. Set it with: openstack image set \
             --property os_distro=ubuntu {named}"
        ))
    })
}

/// The network driver of a template must be one that the driver knows and the operator allows.
pub fn check_network_driver(
    template: &ClusterTemplate,
    driver: &Driver,
    allowed: &[String],
) -> Result<(), RequestError> {
    let Some(wanted) = template.network_driver.as_deref() else { return Ok(()) };
    let known = driver.network_drivers();
    if !known.iter().any(|known| known == wanted) {
        return Err(RequestError::Invalid(format!(
            "Network driver type {wanted} is not supported, expecting a {} network driver: {}.",
            template.coe,
            known.join(", ")
        )));
    }
    // What the operator allows is said of Kubernetes ([kubernetes] allowed_network_drivers).
    if template.coe == Coe::Kubernetes
        && !allowed.is_empty()
        && !allowed.iter().any(|a| a == wanted || a == "all")
    {
        return Err(RequestError::Invalid(format!(
            "Network driver type {wanted} is not an allowed {} network driver; allowed: {}.",
            template.coe,
            allowed.join(", ")
        )));
    }
    Ok(())
}

/// Keystone lets neither a restricted application credential nor a trust make a trust, and a
/// cluster cannot live without one.
pub fn can_make_trusts(requester: &Requester) -> Result<(), RequestError> {
    if requester.restricted_credential {
        return Err(RequestError::Forbidden(
            "The token was got with a restricted application credential, and Keystone does \
             not let it create the trust that a cluster needs. Use a password, or make the \
             credential with: openstack application credential create --unrestricted NAME"
                .to_owned(),
        ));
    }
    if requester.trust.is_some() {
        return Err(RequestError::Forbidden(
            "The token is scoped to a trust, and Keystone does not let it create the trust \
             that a cluster needs. Use the credentials of the user itself."
                .to_owned(),
        ));
    }
    Ok(())
}
