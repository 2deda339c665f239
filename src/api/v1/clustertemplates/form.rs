//! What a tenant writes into a template: from fields to a [`ClusterTemplate`].

use std::net::IpAddr;

use super::super::super::coerce::{Fields, SHORT_TEXT, mandatory};
use super::super::super::error::{ApiError, Outcome};
use crate::base::clock::Timestamp;
use crate::model::cluster_template::{ClusterTemplate, Coe, ServerType};
use crate::model::{Sequence, TemplateId};

/// Every attribute that may stand in a request.
pub const KNOWN: [&str; 31] = [
    "uuid",
    "name",
    "coe",
    "image_id",
    "flavor_id",
    "master_flavor_id",
    "keypair_id",
    "external_network_id",
    "fixed_network",
    "fixed_subnet",
    "dns_nameserver",
    "network_driver",
    "volume_driver",
    "apiserver_port",
    "docker_volume_size",
    "docker_storage_driver",
    "cluster_distro",
    "http_proxy",
    "https_proxy",
    "no_proxy",
    "insecure_registry",
    "registry_enabled",
    "tls_disabled",
    "public",
    "hidden",
    "master_lb_enabled",
    "floating_ip_enabled",
    "labels",
    "server_type",
    "tags",
    "driver",
];

pub const READ_ONLY: [&str; 5] = ["links", "created_at", "updated_at", "project_id", "user_id"];

/// What is not in the request.
#[derive(Clone, Debug)]
pub struct Origin {
    pub id: TemplateId,
    pub sequence: Sequence,
    pub project_id: String,
    pub user_id: String,
    /// The name of a template that is given none.
    pub fallback_name: String,
    pub created_at: Timestamp,
}

/// Reads the fields and checks all that needs no cloud.
pub fn template(mut fields: Fields, origin: Origin) -> Outcome<ClusterTemplate> {
    let f = &mut fields;
    let image_id = f.required_text("image_id")?;
    let coe = f
        .choice("coe", &[Coe::Kubernetes.as_str(), Coe::SwarmMode.as_str()], Coe::parse)?
        .ok_or_else(|| mandatory("coe"))?;
    let vm_or_bm = [ServerType::Vm.as_str(), ServerType::Bm.as_str()];
    let port = f.whole("apiserver_port", 1024..=u32::from(u16::MAX))?;
    let mut optional = |name: &str| f.text(name, SHORT_TEXT);
    let template = ClusterTemplate {
        id: origin.id,
        sequence: origin.sequence,
        project_id: origin.project_id,
        user_id: origin.user_id,
        name: optional("name")?.unwrap_or(origin.fallback_name),
        coe,
        image_id,
        cluster_distro: optional("cluster_distro")?,
        flavor_id: optional("flavor_id")?,
        master_flavor_id: optional("master_flavor_id")?,
        keypair_id: optional("keypair_id")?,
        external_network_id: optional("external_network_id")?,
        fixed_network: optional("fixed_network")?,
        fixed_subnet: optional("fixed_subnet")?,
        dns_nameserver: optional("dns_nameserver")?,
        network_driver: optional("network_driver")?,
        volume_driver: optional("volume_driver")?,
        docker_storage_driver: optional("docker_storage_driver")?,
        http_proxy: optional("http_proxy")?,
        https_proxy: optional("https_proxy")?,
        no_proxy: optional("no_proxy")?,
        insecure_registry: optional("insecure_registry")?,
        driver: optional("driver")?,
        tags: f.text("tags", 0..=255)?,
        apiserver_port: port.and_then(|port| u16::try_from(port).ok()),
        docker_volume_size: f.whole("docker_volume_size", 1..=i32::MAX as u32)?,
        registry_enabled: f.flag("registry_enabled")?.unwrap_or(false),
        tls_disabled: f.flag("tls_disabled")?.unwrap_or(false),
        public: f.flag("public")?.unwrap_or(false),
        hidden: f.flag("hidden")?.unwrap_or(false),
        master_lb_enabled: f.flag("master_lb_enabled")?.unwrap_or(false),
        floating_ip_enabled: f.flag("floating_ip_enabled")?.unwrap_or(true),
        labels: f.labels("labels")?.unwrap_or_default(),
        server_type: f
            .choice("server_type", &vm_or_bm, ServerType::parse)?
            .unwrap_or(ServerType::Vm),
        created_at: origin.created_at,
        updated_at: None,
    };
    check(&template)?;
    Ok(template)
}

fn check(template: &ClusterTemplate) -> Outcome<()> {
    if let Some(servers) = &template.dns_nameserver
        && !servers.split(',').all(|one| one.trim().parse::<IpAddr>().is_ok())
    {
        return Err(ApiError::invalid(format!(
            "Expected a single dns address or comma separated dns list, but received {servers}."
        )));
    }
    let possible = if template.coe == Coe::Kubernetes { "cinder" } else { "rexray" };
    if let Some(driver) = template.volume_driver.as_deref().filter(|d| *d != possible) {
        return Err(ApiError::invalid(format!(
            "Volume driver type {driver} is not supported, expecting a {possible} volume driver."
        )));
    }
    check_storage(template.docker_storage_driver.as_deref(), template.docker_volume_size)
}

/// devicemapper keeps its data in a volume of its own.
pub fn check_storage(driver: Option<&str>, size: Option<u32>) -> Outcome<()> {
    const LEAST: u32 = 3;
    if driver == Some("devicemapper") && size.is_none_or(|size| size < LEAST) {
        let shown = size.map_or_else(|| "None".to_owned(), |size| size.to_string());
        return Err(ApiError::invalid(format!(
            "docker volume size {shown} GB is not valid, expecting minimum value {LEAST}GB for \
             devicemapper storage driver."
        )));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};
    use uuid::Uuid;

    use super::*;

    fn origin() -> Origin {
        Origin {
            id: TemplateId::new(Uuid::nil()),
            sequence: Sequence(1),
            project_id: "p".to_owned(),
            user_id: "u".to_owned(),
            fallback_name: "alpha-1-template".to_owned(),
            created_at: Timestamp::EPOCH,
        }
    }

    fn read(extra: Value) -> Result<ClusterTemplate, String> {
        let mut body = json!({ "coe": "kubernetes", "image_id": "fedora-coreos" });
        for (name, value) in extra.as_object().unwrap() {
            body[name] = value.clone();
        }
        Fields::new("cluster_template", body, &KNOWN, &READ_ONLY)
            .and_then(|fields| template(fields, origin()))
            .map_err(|e| e.detail().to_owned())
    }

    #[test]
    fn defaults_are_magnums() {
        let made = read(json!({ "name": null, "labels": null, "driver": null })).unwrap();
        assert_eq!(made.name, "alpha-1-template");
        assert!(made.floating_ip_enabled && !made.public && !made.tls_disabled);
        assert_eq!(made.server_type, ServerType::Vm);
        let made = read(json!({
            "docker_volume_size": "5", "tls_disabled": "yes", "labels": { "a": 1 },
            "dns_nameserver": "1.1.1.1,2001:db8::1", "apiserver_port": 6443, "tags": "",
        }))
        .unwrap();
        assert_eq!(made.docker_volume_size, Some(5));
        assert!(made.tls_disabled);
        assert_eq!(made.labels.get("a"), Some("1"));
        assert_eq!(made.apiserver_port, Some(6443));
    }

    #[test]
    fn refusals_name_field_and_value() {
        let table = [
            (json!({ "image_id": null }), "attribute image_id. Value: 'None'. Mandatory"),
            (json!({ "coe": null }), "attribute coe. Value: 'None'. Mandatory"),
            (json!({ "coe": "pony" }), "attribute coe. Value: 'pony'. Value should be one of"),
            (json!({ "server_type": "container" }), "Value should be one of: vm, bm"),
            (json!({ "docker_volume_size": 0 }), "greater or equal to 1"),
            (json!({ "docker_volume_size": "big" }), "Value: 'big'. Value should be a whole"),
            (json!({ "apiserver_port": 80 }), "greater or equal to 1024"),
            (json!({ "apiserver_port": 70000 }), "lesser or equal to 65535"),
            (json!({ "public": "maybe" }), "attribute public. Value: 'maybe'"),
            (json!({ "name": 5 }), "attribute name. Value: '5'. Value should be string"),
            (json!({ "name": "" }), "minimum character requirement of 1"),
            (json!({ "name": "n".repeat(256) }), "maximum character requirement of 255"),
            (json!({ "labels": ["a"] }), "attribute labels"),
            (json!({ "labels": { "a": null } }), "attribute labels"),
            (json!({ "colour": "red" }), "Unknown attribute for argument cluster_template: colour"),
            (json!({ "links": [] }), "Cannot set read only field."),
            (json!({ "dns_nameserver": "not an ip" }), "but received not an ip."),
            (json!({ "coe": "mesos" }), "Value should be one of: kubernetes, swarm-mode"),
            (json!({ "volume_driver": "rexray" }), "rexray is not supported"),
            (
                json!({ "coe": "swarm-mode", "volume_driver": "cinder" }),
                "cinder is not supported, expecting a rexray volume driver.",
            ),
            (
                json!({ "docker_storage_driver": "devicemapper" }),
                "docker volume size None GB is not valid, expecting minimum value 3GB",
            ),
        ];
        for (extra, sentence) in table {
            let refused = read(extra.clone()).unwrap_err();
            assert!(refused.contains(sentence), "{extra}: {refused}");
        }
    }
}
