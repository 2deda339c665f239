//! The sections and their defaults. What each option means is written in `config/magnumd.toml`.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use serde::Deserialize;

use super::option::{Item, Listed};
use super::value::{Every, Password, Span};
use crate::model::certificate::KeyAlgorithm;
use crate::model::first_contact::{FirstContact, Rules};
use crate::model::labels::UnknownLabels;

/// Declares a section: a struct whose missing keys take the default beside them, and whose
/// options stand in the table of options; what is `found` is no option.
macro_rules! section {
    (
        $(#[$doc:meta])* $name:ident { $($key:ident: $kind:ty = $default:expr),* $(,)? }
        $(found { $($(#[$found_doc:meta])* $found:ident: $found_kind:ty),* $(,)? })?
    ) => {
        $(#[$doc])*
        #[derive(Clone, Debug, Deserialize)]
        #[serde(default, deny_unknown_fields)]
        pub struct $name {
            $(pub $key: $kind,)*
            $($($(#[$found_doc])* #[serde(skip)] pub $found: $found_kind,)*)?
        }

        impl Default for $name {
            fn default() -> Self {
                Self { $($key: $default,)* $($($found: <$found_kind>::default(),)*)? }
            }
        }

        impl Listed for $name {
            fn list(&self, key: &str, items: &mut Vec<Item>) {
                $(
                    let own = stringify!($key);
                    let own = if key.is_empty() { own.to_owned() } else { format!("{key}.{own}") };
                    self.$key.list(&own, items);
                )*
            }
        }
    };
}

section! {
    /// Everything an operator may set.
    Config {
        api: Api = Api::default(),
        discovery: Discovery = Discovery::default(),
        bootstrap: Bootstrap = Bootstrap::default(),
        ops: Ops = Ops::default(),
        runtime: Runtime = Runtime::default(),
        storage: Storage = Storage::default(),
        log: Log = Log::default(),
        keystone: Keystone = Keystone::default(),
        trust: Trust = Trust::default(),
        clients: Clients = Clients::default(),
        cluster: Cluster = Cluster::default(),
        quota: Quota = Quota::default(),
        policy: Policy = Policy::default(),
        kubernetes: Kubernetes = Kubernetes::default(),
        drivers: Drivers = Drivers::default(),
        volumes: Volumes = Volumes::default(),
        ca: Ca = Ca::default(),
        periodic: Periodic = Periodic::default(),
    }
    found {
        /// The folder of the configuration, where relative names begin.
        base: PathBuf,
    }
}

const fn everywhere(port: u16) -> SocketAddr {
    SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), port)
}

section! {
    /// The REST listener.
    Api {
        listen: SocketAddr = everywhere(9511),
        advertise_url: String = String::new(),
        tls: Tls = Tls::default(),
        max_limit: usize = 1000,
        max_body_bytes: usize = 1 << 20,
        max_connections: usize = 4096,
        max_connections_per_source: Option<usize> = None,
        trust_proxy_headers: bool = false,
        healthcheck_disable_file: Option<PathBuf> = None,
        cors: Cors = Cors::default(),
    }
}

impl Api {
    /// How many connections one address may hold. A trusted proxy stands for all clients.
    pub fn connections_per_source(&self) -> usize {
        let usual = match self.trust_proxy_headers {
            true => usize::MAX,
            false => (self.max_connections / 4).max(1),
        };
        self.max_connections_per_source.unwrap_or(usual)
    }
}

section! {
    /// Whose web pages may ask the REST API.
    Cors {
        allowed_origins: Vec<String> = Vec::new(),
    }
}

section! {
    Tls {
        cert: Option<PathBuf> = None,
        key: Option<PathBuf> = None,
    }
}

section! {
    /// The etcd discovery listener.
    Discovery {
        listen: SocketAddr = everywhere(9512),
        advertise_url: String = String::new(),
        allow_loopback: bool = false,
        max_connections_per_source: usize = 256,
    }
}

section! {
    /// The node bootstrap listener.
    Bootstrap {
        listen: SocketAddr = everywhere(9513),
        advertise_url: String = String::new(),
        artifact_dir: Option<PathBuf> = None,
        max_connections_per_source: usize = 1024,
        first_contact: FirstContact = FirstContact::default(),
        trusted_sources: Vec<String> = Vec::new(),
    }
}

impl Bootstrap {
    /// What first contact needs; the check of the configuration has refused what is no network.
    pub fn rules(&self) -> Rules {
        let trusted = self.trusted_sources.iter().filter_map(|block| block.parse().ok());
        Rules { needs: self.first_contact, trusted: trusted.collect() }
    }
}

section! {
    /// The operators' listener.
    Ops {
        listen: Option<SocketAddr> = None,
    }
}

section! {
    Runtime {
        host: Option<String> = None,
        worker_threads: Option<usize> = None,
        service_down_time: Span = Span::secs(180),
    }
}

section! {
    Storage {
        path: PathBuf = PathBuf::from("/var/lib/magnumd"),
        sealing_key_file: Option<PathBuf> = None,
    }
}

/// How log lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    Text,
    Json,
    Journald,
}

impl LogFormat {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Json => "json",
            Self::Journald => "journald",
        }
    }
}

section! {
    Log {
        level: String = "info".to_owned(),
        format: LogFormat = LogFormat::Text,
    }
}

section! {
    /// The service account.
    Keystone {
        auth_url: String = String::new(),
        public_url: String = String::new(),
        username: String = String::new(),
        password: Password = Password::default(),
        password_file: Option<PathBuf> = None,
        project: String = "service".to_owned(),
        user_domain: String = "Default".to_owned(),
        project_domain: String = "Default".to_owned(),
        token_cache: Span = Span::secs(300),
    }
}

section! {
    /// The identity each cluster gets.
    Trust {
        domain_id: String = String::new(),
        domain_name: String = String::new(),
        admin_id: String = String::new(),
        admin_name: String = String::new(),
        admin_password: Password = Password::default(),
        admin_password_file: Option<PathBuf> = None,
        admin_domain_id: String = String::new(),
        admin_domain_name: String = String::new(),
        roles: Vec<String> = Vec::new(),
    }
}

section! {
    /// One OpenStack service, or the default of all.
    Client {
        region: Option<String> = None,
        interface: Option<String> = None,
        ca_file: Option<PathBuf> = None,
        insecure: Option<bool> = None,
    }
}

section! {
    Clients {
        default: Client = Client::default(),
        keystone: Client = Client::default(),
        heat: Client = Client::default(),
        nova: Client = Client::default(),
        neutron: Client = Client::default(),
        glance: Client = Client::default(),
        octavia: Client = Client::default(),
        cinder: Client = Client::default(),
        magnum: Client = Client::default(),
        connect_timeout: Span = Span::secs(5),
        timeout: Span = Span::secs(60),
        concurrency: usize = 8,
        lookup_cache: Span = Span::secs(60),
    }
}

impl Drivers {
    /// The file of the authorities whom nodes believe when they call OpenStack: the one that is
    /// named for them, else the one by which magnumd believes Keystone. None where the authorities
    /// of their image are enough, which an empty name says too.
    pub fn openstack_ca_file<'c>(&'c self, clients: &'c Clients) -> Option<&'c PathBuf> {
        let inherited = || clients.keystone.ca_file.as_ref().or(clients.default.ca_file.as_ref());
        let file = self.openstack_ca_file.as_ref().or_else(inherited)?;
        (!file.as_os_str().is_empty()).then_some(file)
    }
}

impl Clients {
    /// Every section by name, the default first.
    pub fn each(&self) -> [(&'static str, &Client); 9] {
        [
            ("default", &self.default),
            ("keystone", &self.keystone),
            ("heat", &self.heat),
            ("nova", &self.nova),
            ("neutron", &self.neutron),
            ("glance", &self.glance),
            ("octavia", &self.octavia),
            ("cinder", &self.cinder),
            ("magnum", &self.magnum),
        ]
    }
}

/// Which defaults labels have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Profile {
    Standard,
    Nested,
}

impl Profile {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Standard => "standard",
            Self::Nested => "nested",
        }
    }
}

section! {
    Cluster {
        profile: Profile = Profile::Standard,
        create_timeout_mins: Option<u32> = None,
        heat_reauthenticates: bool = false,
        lb_delete_timeout: Span = Span::secs(60),
        unknown_labels: UnknownLabels = UnknownLabels::Warn,
        lanes: usize = 32,
    }
}

impl Cluster {
    /// Minutes for creations whose tenant asked for no limit.
    pub fn create_timeout(&self) -> u32 {
        self.create_timeout_mins.unwrap_or(match self.profile {
            Profile::Standard => 60,
            Profile::Nested => 240,
        })
    }
}

section! {
    Quota {
        max_clusters_per_project: u32 = 20,
        max_templates_per_project: u32 = 100,
    }
}

section! {
    /// Who may do what, where it is not what magnumd comes with.
    Policy {
        file: Option<PathBuf> = None,
        dirs: Vec<PathBuf> = vec![PathBuf::from("policy.d")],
    }
}

section! {
    Kubernetes {
        allowed_network_drivers: Vec<String> = vec!["all".to_owned()],
        default_network_driver: String = "flannel".to_owned(),
    }
}

section! {
    Drivers {
        dir: Option<PathBuf> = None,
        disabled: Vec<String> = Vec::new(),
        enabled_beta: Vec<String> = Vec::new(),
        default: Option<String> = None,
        openstack_ca_file: Option<PathBuf> = None,
    }
}

section! {
    Volumes {
        boot_size_gb: u32 = 0,
    }
}

section! {
    /// The certificate authorities of clusters.
    Ca {
        authority_keys: KeyAlgorithm = KeyAlgorithm::EcdsaP256,
        rsa_bits: usize = 2048,
        keys_ahead: usize = 32,
        validity_days: u32 = 1825,
        allow_ca: bool = false,
        allowed_extensions: Vec<String> = [
            "keyUsage",
            "extendedKeyUsage",
            "subjectAltName",
            "basicConstraints",
            "subjectKeyIdentifier",
        ]
        .map(str::to_owned)
        .to_vec(),
        allowed_key_usage: Vec<String> =
            ["Digital Signature", "Key Encipherment", "Non Repudiation"].map(str::to_owned).to_vec(),
    }
}

section! {
    Periodic {
        status_interval: Span = Span::secs(1),
        sync_interval: Span = Span::secs(60),
        health_interval: Every = Every::secs(60),
        health_timeout: Span = Span::secs(10),
        health_allow_loopback: bool = false,
    }
}
