//! What each room is told, read off the configuration and the files that it names.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use super::StartError;
use crate::api::PolicySource;
use crate::base::clock::Clock;
use crate::base::http::tls::{self, TlsError, Trust};
use crate::conductor;
use crate::config::{Config, Profile, folders};
use crate::driver::{Directory, Drivers, Wishes, plan};
use crate::model::name::endpoint_interface;
use crate::openstack::{Accounts, Cloud, CloudSettings, Identity, Service, ServiceSettings};
use crate::pki::csr;
use crate::pki::key_generator::Keys;

/// Addresses as others see us, with the ports that we really got.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Advertised {
    pub discovery: String,
    pub bootstrap: String,
    /// PEM; empty for plain HTTP.
    pub bootstrap_ca: String,
    /// Our own API for nodes, without its version.
    pub api: String,
    /// PEM; empty where the system's own authorities are enough.
    pub openstack_ca: String,
}

fn some(text: &str) -> Option<String> {
    (!text.is_empty()).then(|| text.to_owned())
}

/// Keystone as clients and nodes know it.
pub fn public_keystone(config: &Config) -> String {
    let url = some(&config.keystone.public_url).unwrap_or_else(|| config.keystone.auth_url.clone());
    url.trim_end_matches('/').to_owned()
}

/// Our own URL for clients that name no host.
pub fn own_url(config: &Config, bound: SocketAddr, host: &str) -> String {
    let scheme = if config.api.tls.cert.is_some() { "https" } else { "http" };
    match bound.ip().is_unspecified() {
        true => format!("{scheme}://{host}:{}", bound.port()),
        false => format!("{scheme}://{bound}"),
    }
}

/// Our API as nodes reach it: where the operator does not say, at the host at which they reach the
/// bootstrap interface.
pub fn advertised_api(config: &Config, port: u16) -> String {
    match config.api.advertise_url.as_str() {
        "" => {
            let scheme = if config.api.tls.cert.is_some() { "https" } else { "http" };
            format!("{scheme}://{}:{port}", host_of(&config.bootstrap.advertise_url))
        }
        url => with_port(url, port),
    }
}

/// The authorities of OpenStack's services, for nodes that call them; empty without any.
pub fn openstack_ca(config: &Config) -> Result<String, StartError> {
    let Some(path) = config.drivers.openstack_ca_file(&config.clients) else {
        return Ok(String::new());
    };
    let own = config.drivers.openstack_ca_file.as_ref().map(|_| "drivers.openstack_ca_file");
    let option = own.map_or_else(|| ca_option(config, path), str::to_owned);
    let fault =
        |reason: String| StartError::File { option: option.clone(), path: path.clone(), reason };
    let pem = std::fs::read_to_string(path).map_err(|e| fault(e.to_string()))?;
    // What no node could read would only show when one does not come up.
    tls::authorities(&pem).map_err(|e| fault(e.to_string()))?;
    Ok(pem)
}

/// The drivers that come with magnumd and the operator's own, which are read here.
pub fn drivers(config: &Config) -> Result<Drivers, StartError> {
    let wishes = &config.drivers;
    let mut own = Vec::new();
    if let Some(path) = &wishes.dir {
        let option = || "drivers.dir".to_owned();
        let fault = |(path, reason)| StartError::File { option: option(), path, reason };
        let beside = |included: &str| folders::included(path, included);
        for folder in folders::read_all(path).map_err(fault)? {
            own.push(Directory::of_bytes(&folder.name, folder.files)?.resolve(&beside)?);
        }
    }
    let wishes =
        Wishes { disabled: &wishes.disabled, enabled_beta: &wishes.enabled_beta, all: false };
    Ok(Drivers::load(own, wishes)?)
}

/// The clients of OpenStack's services. Opens no connection.
pub fn cloud(config: &Config, clock: Clock) -> Result<Cloud, StartError> {
    Cloud::new(cloud_settings(config), clock).map_err(|e| match e {
        TlsError::File { path, reason } => {
            StartError::File { option: ca_option(config, &path), path, reason }
        }
        e @ TlsError::Settings(_) => e.into(),
    })
}

/// The option that names this file of authorities.
fn ca_option(config: &Config, path: &Path) -> String {
    let mut each = config.clients.each().into_iter();
    let named = each.find(|(_, client)| client.ca_file.as_deref() == Some(path));
    named.map_or_else(|| "ca_file".to_owned(), |(name, _)| format!("clients.{name}.ca_file"))
}

fn cloud_settings(config: &Config) -> CloudSettings {
    let (keystone, trust) = (&config.keystone, &config.trust);
    let in_domain = |name: &str, domain: &str| Identity {
        id: None,
        name: some(name),
        domain_id: None,
        domain_name: some(domain),
    };
    let own_domain = trust.admin_domain_id.is_empty() && trust.admin_domain_name.is_empty();
    let (domain_id, domain_name) = match own_domain {
        true => (&trust.domain_id, &trust.domain_name),
        false => (&trust.admin_domain_id, &trust.admin_domain_name),
    };
    CloudSettings {
        accounts: Accounts {
            auth_url: keystone.auth_url.trim_end_matches('/').to_owned(),
            service_user: in_domain(&keystone.username, &keystone.user_domain),
            service_password: keystone.password.secret(),
            service_project: in_domain(&keystone.project, &keystone.project_domain),
            trustee_domain_id: some(&trust.domain_id),
            trustee_domain_name: some(&trust.domain_name),
            domain_admin: Identity {
                id: some(&trust.admin_id),
                name: some(&trust.admin_name),
                domain_id: some(domain_id),
                domain_name: some(domain_name),
            },
            domain_admin_password: trust.admin_password.secret(),
        },
        services: services(config),
        concurrency: config.clients.concurrency,
        connect_timeout: config.clients.connect_timeout.0,
        deadline: config.clients.timeout.0,
        remember_tokens: keystone.token_cache.0,
        remember_lookups: config.clients.lookup_cache.0,
    }
}

/// Each service's own section over the default one.
fn services(config: &Config) -> HashMap<Service, ServiceSettings> {
    let clients = &config.clients;
    let own = |service| match service {
        Service::Keystone => &clients.keystone,
        Service::Heat => &clients.heat,
        Service::Nova => &clients.nova,
        Service::Neutron => &clients.neutron,
        Service::Glance => &clients.glance,
        Service::Octavia => &clients.octavia,
        Service::Cinder => &clients.cinder,
        // Only looked up in the catalogue.
        Service::Barbican => &clients.default,
        Service::Magnum => &clients.magnum,
    };
    let settings = |service| {
        let (own, default) = (own(service), &clients.default);
        let interface = own.interface.as_deref().or(default.interface.as_deref());
        let ca_file = own.ca_file.clone().or_else(|| default.ca_file.clone());
        ServiceSettings {
            region: own.region.clone().or_else(|| default.region.clone()),
            interface: interface.and_then(endpoint_interface).unwrap_or("public").to_owned(),
            trust: Trust {
                ca_files: ca_file.into_iter().collect(),
                insecure: own.insecure.or(default.insecure).unwrap_or(false),
            },
        }
    };
    Service::ALL.into_iter().map(|service| (service, settings(service))).collect()
}

pub fn conductor(config: &Config, advertised: &Advertised, host: &str) -> conductor::Settings {
    conductor::Settings {
        driver: plan::Settings {
            auth_url: public_keystone(config),
            region: config.clients.default.region.clone(),
            bootstrap_url: advertised.bootstrap.clone(),
            bootstrap_ca: advertised.bootstrap_ca.clone(),
            magnum_url: format!("{}/v1", advertised.api),
            discovery_base: advertised.discovery.clone(),
            openstack_ca: advertised.openstack_ca.clone(),
            default_network_driver: config.kubernetes.default_network_driver.clone(),
            create_timeout: config.cluster.create_timeout(),
            nested: config.cluster.profile == Profile::Nested,
        },
        host: host.to_owned(),
        lanes: config.cluster.lanes,
        look_interval: config.periodic.status_interval.0,
        sync_interval: config.periodic.sync_interval.0,
        health_interval: config.periodic.health_interval.0,
        health_timeout: config.periodic.health_timeout.0,
        max_clusters_per_project: config.quota.max_clusters_per_project,
        trust_roles: config.trust.roles.clone(),
        certificate_validity: certificate_validity(config),
        boot_volume_size: config.volumes.boot_size_gb,
        allowed_network_drivers: config.kubernetes.allowed_network_drivers.clone(),
        default_driver: config.drivers.default.clone(),
        discovery_url: advertised.discovery.clone(),
        heat_reauthenticates: config.cluster.heat_reauthenticates,
        lb_delete_timeout: config.cluster.lb_delete_timeout.0,
        unknown_labels: config.cluster.unknown_labels,
        health_allow_loopback: config.periodic.health_allow_loopback,
        own_addresses: own_addresses(config),
        first_contact: config.bootstrap.rules(),
    }
}

/// Of the listeners and of the URLs by which they are called; names are not looked up.
fn own_addresses(config: &Config) -> Vec<IpAddr> {
    let listeners = [config.api.listen, config.discovery.listen, config.bootstrap.listen];
    let listeners = listeners.into_iter().chain(config.ops.listen).map(|at| at.ip());
    let urls = [
        &config.api.advertise_url,
        &config.discovery.advertise_url,
        &config.bootstrap.advertise_url,
    ];
    let urls = urls.into_iter().filter_map(|url| {
        let url: hyper::Uri = url.parse().ok()?;
        url.host()?.trim_start_matches('[').trim_end_matches(']').parse().ok()
    });
    listeners.chain(urls).filter(|address| !address.is_unspecified()).collect()
}

/// What a preflight needs to see the cloud as the daemon would, and to draw its stacks.
pub fn preflight(config: &Config, clock: Clock) -> Result<(Cloud, plan::Settings), StartError> {
    let advertised = Advertised {
        discovery: config.discovery.advertise_url.clone(),
        bootstrap: config.bootstrap.advertise_url.trim_end_matches('/').to_owned(),
        bootstrap_ca: String::new(),
        api: advertised_api(config, config.api.listen.port()),
        // Where it cannot be read, the line tls says so.
        openstack_ca: openstack_ca(config).unwrap_or_default(),
    };
    Ok((cloud(config, clock)?, conductor(config, &advertised, "").driver))
}

pub fn certificate_validity(config: &Config) -> Duration {
    Duration::from_secs(86_400 * u64::from(config.ca.validity_days))
}

pub fn keys(config: &Config) -> Keys {
    let ca = &config.ca;
    Keys { authorities: ca.authority_keys, rsa_bits: ca.rsa_bits, ahead: ca.keys_ahead }
}

/// Where the operator's policy lies.
pub fn policy(config: &Config) -> PolicySource {
    let file = config.policy.file.clone();
    PolicySource {
        is_required: file.is_some(),
        file: Some(file.unwrap_or_else(|| config.base.join("policy.yaml"))),
        dirs: config.policy.dirs.clone(),
    }
}

pub fn csr_rules(config: &Config) -> csr::Rules {
    csr::Rules {
        allow_ca: config.ca.allow_ca,
        allowed_extensions: config.ca.allowed_extensions.clone(),
        allowed_key_usage: config.ca.allowed_key_usage.clone(),
    }
}

/// `url` with the port that was really bound where it says 0, as tests do.
pub fn with_port(url: &str, bound: u16) -> String {
    let url = url.trim_end_matches('/');
    match url.strip_suffix(":0") {
        Some(rest) => format!("{rest}:{bound}"),
        None => url.to_owned(),
    }
}

/// The host part of a URL that the configuration has already accepted.
pub fn host_of(url: &str) -> String {
    let uri = url.parse::<hyper::Uri>().ok();
    uri.and_then(|u| u.host().map(str::to_owned)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    fn parsed(extra: &str) -> Config {
        let text = format!(
            "[keystone]\nauth_url = 'http://192.0.2.1:5000/v3/'\nusername = 'magnum'\npassword = 's'\n\
             [trust]\ndomain_name = 'magnum'\nadmin_name = 'a'\nadmin_password = 's'\n\
             [discovery]\nadvertise_url = 'http://192.0.2.1:9512'\n\
             [bootstrap]\nadvertise_url = 'https://192.0.2.1:9513'\n{extra}"
        );
        Config::parse(Path::new("x.toml"), &text).unwrap()
    }

    #[test]
    fn a_service_takes_its_own_section_over_the_default() {
        let config = parsed(
            "[clients.default]\nregion = 'R1'\ninterface = 'internalURL'\nca_file = '/ca.pem'\n\
             [clients.heat]\ninterface = 'admin'\ninsecure = true\n",
        );
        let services = cloud_settings(&config).services;
        let heat = &services[&Service::Heat];
        assert_eq!((heat.interface.as_str(), heat.region.as_deref()), ("admin", Some("R1")));
        assert!(heat.trust.insecure && heat.trust.ca_files.len() == 1);
        assert_eq!(services[&Service::Nova].interface, "internal");
        assert!(!services[&Service::Nova].trust.insecure);
    }

    #[test]
    fn the_authorities_of_nodes_are_certificates() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("nodes.pem");
        let config = parsed(&format!("[drivers]\nopenstack_ca_file = '{}'\n", path.display()));
        let said = || openstack_ca(&config).map_err(|e| e.to_string());
        assert!(said().unwrap_err().contains("nodes.pem: No such file"), "{:?}", said());
        for odd in
            ["", "no certificate", "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n"]
        {
            std::fs::write(&path, odd).unwrap();
            assert!(said().unwrap_err().contains("nodes.pem: "), "{odd}: {:?}", said());
        }
        let made = rcgen::generate_simple_self_signed(vec!["ca".to_owned()]).unwrap();
        std::fs::write(&path, made.cert.pem()).unwrap();
        assert_eq!(said().unwrap(), made.cert.pem());
        assert_eq!(openstack_ca(&parsed("")).unwrap(), "");
    }

    #[test]
    fn the_domain_administrator_lives_in_the_trustee_domain_unless_told_otherwise() {
        let admin = cloud_settings(&parsed("")).accounts.domain_admin;
        assert_eq!(admin.domain_name.as_deref(), Some("magnum"));
        assert_eq!(public_keystone(&parsed("")), "http://192.0.2.1:5000/v3");
    }

    #[test]
    fn a_port_of_zero_means_the_one_that_was_bound() {
        assert_eq!(with_port("http://127.0.0.1:0", 4242), "http://127.0.0.1:4242");
        assert_eq!(with_port("http://127.0.0.1:9512/", 4242), "http://127.0.0.1:9512");
        assert_eq!(host_of("https://[2001:db8::1]:9513"), "[2001:db8::1]");
    }
}
