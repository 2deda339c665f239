//! How a template is shown.

use serde::Serialize;

use super::super::super::link::{Link, links};
use super::super::text;
use crate::model::TemplateId;
use crate::model::cluster_template::ClusterTemplate;
use crate::model::labels::Labels;

#[derive(Serialize)]
pub struct TemplateView<'t> {
    uuid: TemplateId,
    name: &'t str,
    coe: &'static str,
    image_id: &'t str,
    flavor_id: Option<&'t str>,
    master_flavor_id: Option<&'t str>,
    dns_nameserver: Option<&'t str>,
    keypair_id: Option<&'t str>,
    external_network_id: Option<&'t str>,
    fixed_network: Option<&'t str>,
    fixed_subnet: Option<&'t str>,
    network_driver: Option<&'t str>,
    apiserver_port: Option<u16>,
    docker_volume_size: Option<u32>,
    cluster_distro: Option<&'t str>,
    links: [Link; 2],
    http_proxy: Option<&'t str>,
    https_proxy: Option<&'t str>,
    no_proxy: Option<&'t str>,
    volume_driver: Option<&'t str>,
    registry_enabled: bool,
    labels: &'t Labels,
    tls_disabled: bool,
    public: bool,
    server_type: &'static str,
    insecure_registry: Option<&'t str>,
    docker_storage_driver: Option<&'t str>,
    master_lb_enabled: bool,
    floating_ip_enabled: bool,
    project_id: &'t str,
    user_id: &'t str,
    hidden: bool,
    tags: Option<&'t str>,
    driver: Option<&'t str>,
    created_at: String,
    updated_at: Option<String>,
}

/// The same form for lists, details and one template, in every version.
pub fn template_view<'t>(template: &'t ClusterTemplate, base: &str) -> TemplateView<'t> {
    let t = template;
    TemplateView {
        uuid: t.id,
        name: &t.name,
        coe: t.coe.as_str(),
        image_id: &t.image_id,
        flavor_id: t.flavor_id.as_deref(),
        master_flavor_id: t.master_flavor_id.as_deref(),
        dns_nameserver: t.dns_nameserver.as_deref(),
        keypair_id: t.keypair_id.as_deref(),
        external_network_id: t.external_network_id.as_deref(),
        fixed_network: t.fixed_network.as_deref(),
        fixed_subnet: t.fixed_subnet.as_deref(),
        network_driver: t.network_driver.as_deref(),
        apiserver_port: t.apiserver_port,
        docker_volume_size: t.docker_volume_size,
        cluster_distro: t.cluster_distro.as_deref(),
        links: links(base, &format!("clustertemplates/{}", t.id)),
        http_proxy: t.http_proxy.as_deref(),
        https_proxy: t.https_proxy.as_deref(),
        no_proxy: t.no_proxy.as_deref(),
        volume_driver: t.volume_driver.as_deref(),
        registry_enabled: t.registry_enabled,
        labels: &t.labels,
        tls_disabled: t.tls_disabled,
        public: t.public,
        server_type: t.server_type.as_str(),
        insecure_registry: t.insecure_registry.as_deref(),
        docker_storage_driver: t.docker_storage_driver.as_deref(),
        master_lb_enabled: t.master_lb_enabled,
        floating_ip_enabled: t.floating_ip_enabled,
        project_id: &t.project_id,
        user_id: &t.user_id,
        hidden: t.hidden,
        tags: t.tags.as_deref(),
        driver: t.driver.as_deref(),
        created_at: t.created_at.to_string(),
        updated_at: text(t.updated_at),
    }
}

#[derive(Serialize)]
pub struct TemplateList<'t> {
    pub clustertemplates: Vec<TemplateView<'t>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}
