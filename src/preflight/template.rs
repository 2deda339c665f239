//! Which cluster is asked about: a template by name, options, or one laid over the other.

use serde_json::Value;
use uuid::Uuid;

use super::records::State;
use super::{Judgement, Look, Scene};
use crate::conductor::with_boot_volume;
use crate::model::TemplateId;
use crate::model::cluster_template::{ClusterTemplate, Coe, ServerType};

/// What the operator asked about.
#[derive(Clone, Debug, Default)]
pub struct Wanted {
    /// A name or a UUID.
    pub template: Option<String>,
    pub options: Options,
}

/// What is asked for beside or over a template; spelled as the `openstack` client does.
#[derive(Clone, Debug, Default)]
pub struct Options {
    pub image: Option<String>,
    pub flavor: Option<String>,
    pub master_flavor: Option<String>,
    pub external_network: Option<String>,
    pub fixed_network: Option<String>,
    pub fixed_subnet: Option<String>,
    pub network_driver: Option<String>,
    pub volume_driver: Option<String>,
    pub dns_nameserver: Option<String>,
    pub docker_volume_size: Option<u32>,
    pub floating_ips: bool,
    pub master_lb: bool,
    pub tls_disabled: bool,
    pub labels: Vec<(String, String)>,
    pub masters: u32,
    pub nodes: u32,
    /// Minutes; 0 means the configured default.
    pub timeout: u32,
}

/// A cluster that may be made.
#[derive(Clone, Debug)]
pub struct ClusterRequest {
    pub template: ClusterTemplate,
    pub masters: u32,
    pub nodes: u32,
    /// Minutes.
    pub timeout: u32,
    /// Where the template was found.
    pub origin: String,
}

pub async fn check(scene: &Scene) -> Look {
    match &scene.cluster_request {
        Some(Ok(cluster_request)) => Ok(Judgement::ok(format!(
            "{} with {} and {}",
            cluster_request.origin,
            super::judgement::count(u64::from(cluster_request.masters), "master"),
            super::judgement::count(u64::from(cluster_request.nodes), "worker"),
        ))),
        Some(Err(judgement)) => Ok(judgement.clone()),
        None => Ok(Judgement::ok("none is asked about")),
    }
}

/// Finds the template and lays the options over it.
pub async fn find(scene: &Scene, wanted: Wanted) -> Result<ClusterRequest, Judgement> {
    let (template, origin) = match &wanted.template {
        None => (blank(), "options".to_owned()),
        Some(name) => named(scene, name).await?,
    };
    let options = wanted.options;
    let timeout = match options.timeout {
        0 => scene.config.cluster.create_timeout(),
        minutes => minutes,
    };
    let (masters, nodes) = (options.masters, options.nodes);
    if let Some(name) = repeated(&options.labels) {
        return Err(Judgement::fail(
            format!("the label {name} is given twice"),
            "give it once, with the value meant",
        ));
    }
    let mut template = over(template, options);
    template.labels = with_boot_volume(&template.labels, scene.config.volumes.boot_size_gb);
    Ok(ClusterRequest { template, masters, nodes, timeout, origin })
}

async fn named(scene: &Scene, name: &str) -> Result<(ClusterTemplate, String), Judgement> {
    if let State::Seen { outline, of } = &scene.state {
        let uuid = Uuid::parse_str(name).ok().map(TemplateId::new);
        let fits = |t: &&ClusterTemplate| t.name == name || Some(t.id) == uuid;
        let found: Vec<&ClusterTemplate> = outline.templates.iter().filter(fits).collect();
        return match found.as_slice() {
            [one] => Ok(((*one).clone(), format!("template {name} of {of}"))),
            [] => Err(missing(name, outline.templates.iter().map(|t| t.name.as_str()))),
            _ => Err(Judgement::fail(
                format!("several templates are called {name}"),
                "give the UUID of one",
            )),
        };
    }
    if matches!(scene.state, State::New) {
        return Err(missing(name, std::iter::empty()));
    }
    // Whoever may not look at the state may still ask as a tenant.
    let actor = scene.actor().await?;
    let body = scene.cloud.own_template(&actor, name).await.map_err(|e| match e.is_missing() {
        true => missing(name, std::iter::empty()),
        false => Judgement::unseen(
            format!("the running magnumd did not show template {name}: {e}"),
            "set OS_CLOUD to its owner's credentials",
        ),
    })?;
    let template = of_api(&body).ok_or_else(|| {
        let cure = "see that the catalogue's container-infra entry leads to magnumd";
        Judgement::fail(format!("the template {name} that the API shows is incomplete"), cure)
    })?;
    Ok((template, format!("template {name} of the running magnumd")))
}

/// The first label that is given once more.
fn repeated(labels: &[(String, String)]) -> Option<&str> {
    let names = || labels.iter().map(|(name, _)| name.as_str());
    names().enumerate().find(|(at, name)| names().take(*at).any(|n| n == *name)).map(|(_, n)| n)
}

fn missing<'n>(name: &str, others: impl Iterator<Item = &'n str>) -> Judgement {
    let others: Vec<&str> = others.collect();
    let cure = match others.is_empty() {
        true => "openstack coe cluster template create, or ask with --image and other options",
        false => &format!("name one of: {}", others.join(", ")),
    };
    Judgement::fail(format!("there is no cluster template {name}"), cure)
}

/// A template as our own API shows it.
fn of_api(body: &Value) -> Option<ClusterTemplate> {
    let text = |key: &str| body[key].as_str().filter(|t| !t.is_empty()).map(str::to_owned);
    let flag = |key: &str| body[key].as_bool().unwrap_or(false);
    let number = |key: &str| body[key].as_u64().and_then(|n| u32::try_from(n).ok());
    let labels = body["labels"].as_object();
    let labels = labels.into_iter().flatten().filter_map(|(k, v)| Some((k, v.as_str()?)));
    Some(ClusterTemplate {
        id: TemplateId::new(Uuid::parse_str(body["uuid"].as_str()?).ok()?),
        project_id: text("project_id").unwrap_or_default(),
        user_id: text("user_id").unwrap_or_default(),
        name: text("name").unwrap_or_default(),
        coe: Coe::parse(body["coe"].as_str()?)?,
        image_id: text("image_id")?,
        cluster_distro: text("cluster_distro"),
        flavor_id: text("flavor_id"),
        master_flavor_id: text("master_flavor_id"),
        keypair_id: text("keypair_id"),
        external_network_id: text("external_network_id"),
        fixed_network: text("fixed_network"),
        fixed_subnet: text("fixed_subnet"),
        dns_nameserver: text("dns_nameserver"),
        network_driver: text("network_driver"),
        volume_driver: text("volume_driver"),
        apiserver_port: number("apiserver_port").and_then(|n| u16::try_from(n).ok()),
        docker_volume_size: number("docker_volume_size"),
        docker_storage_driver: text("docker_storage_driver"),
        http_proxy: text("http_proxy"),
        https_proxy: text("https_proxy"),
        no_proxy: text("no_proxy"),
        insecure_registry: text("insecure_registry"),
        registry_enabled: flag("registry_enabled"),
        tls_disabled: flag("tls_disabled"),
        public: flag("public"),
        hidden: flag("hidden"),
        master_lb_enabled: flag("master_lb_enabled"),
        floating_ip_enabled: flag("floating_ip_enabled"),
        labels: labels.map(|(k, v)| (k.as_str(), v)).collect(),
        server_type: body["server_type"]
            .as_str()
            .and_then(ServerType::parse)
            .unwrap_or(ServerType::Vm),
        tags: text("tags"),
        driver: text("driver"),
        ..blank()
    })
}

/// A template that asks for nothing yet.
fn blank() -> ClusterTemplate {
    ClusterTemplate::plain(TemplateId::new(Uuid::nil()), "preflight", Coe::Kubernetes, "")
}

/// The template with what the options say instead.
fn over(mut template: ClusterTemplate, options: Options) -> ClusterTemplate {
    if let Some(image) = options.image {
        template.image_id = image;
    }
    let fields = [
        (&mut template.flavor_id, options.flavor),
        (&mut template.master_flavor_id, options.master_flavor),
        (&mut template.external_network_id, options.external_network),
        (&mut template.fixed_network, options.fixed_network),
        (&mut template.fixed_subnet, options.fixed_subnet),
        (&mut template.network_driver, options.network_driver),
        (&mut template.volume_driver, options.volume_driver),
        (&mut template.dns_nameserver, options.dns_nameserver),
    ];
    for (field, option) in fields {
        if option.is_some() {
            *field = option;
        }
    }
    if template.master_flavor_id.is_none() {
        template.master_flavor_id.clone_from(&template.flavor_id);
    }
    template.docker_volume_size = options.docker_volume_size.or(template.docker_volume_size);
    template.floating_ip_enabled |= options.floating_ips;
    template.master_lb_enabled |= options.master_lb;
    template.tls_disabled |= options.tls_disabled;
    for (name, value) in options.labels {
        template.labels.insert(name, value);
    }
    template
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_the_api_shows_is_read_whole() {
        let shown = json!({
            "uuid": "8f4f2a1e-0000-4000-8000-000000000001", "name": "k8s", "coe": "kubernetes",
            "image_id": "ubuntu", "flavor_id": "m1.small", "labels": {"kube_tag": "v1.31.4"},
            "docker_volume_size": 5, "master_lb_enabled": true, "server_type": "vm",
            "dns_nameserver": "192.0.2.53", "project_id": "p", "tls_disabled": false,
        });
        let template = of_api(&shown).unwrap();
        assert_eq!((template.name.as_str(), template.docker_volume_size), ("k8s", Some(5)));
        assert_eq!(template.labels.get("kube_tag"), Some("v1.31.4"));
        assert!(template.master_lb_enabled);
        assert!(of_api(&json!({"name": "k8s"})).is_none());
        let given = |names: &[&str]| -> Vec<(String, String)> {
            names.iter().map(|name| ((*name).to_owned(), "1".to_owned())).collect()
        };
        assert_eq!(repeated(&given(&["a", "b", "a"])), Some("a"));
        assert_eq!(repeated(&given(&["a", "b"])), None);
        let options = Options {
            flavor: Some("large".to_owned()),
            volume_driver: Some("cinder".to_owned()),
            labels: vec![("kube_tag".to_owned(), "v1.32.0".to_owned())],
            ..Options::default()
        };
        let both = over(template, options);
        assert_eq!(both.flavor_id.as_deref(), Some("large"));
        assert_eq!(both.volume_driver.as_deref(), Some("cinder"));
        assert_eq!(both.labels.get("kube_tag"), Some("v1.32.0"));
        assert_eq!(both.image_id, "ubuntu");
    }
}
