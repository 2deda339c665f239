//! Magnum's options and what becomes of each.

/// What an option of theirs means to us.
#[derive(Clone, Copy, Debug)]
pub(super) enum To {
    Key(&'static str),
    /// A number of seconds.
    Seconds(&'static str),
    /// A URL of Keystone, with or without its version.
    KeystoneUrl(&'static str),
    /// A domain by id, where we want its name.
    DomainId(&'static str),
    /// Makes up an option of ours together with others.
    Together,
    /// Nothing, for this reason.
    Nothing(&'static str),
}

pub(super) struct Row {
    pub section: &'static str,
    pub option: &'static str,
    pub to: To,
}

impl Row {
    pub fn of(section: &str, option: &str) -> Option<&'static Self> {
        let at = |section| OPTIONS.iter().find(|r| r.section == section && r.option == option);
        // The service account is given in either, in the same words.
        at(section).or_else(|| at("keystone_authtoken").filter(|_| section == "keystone_auth"))
    }
}

const NO_BUS: &str = "API and conductor are one process, without a message bus";
const NO_DATABASE: &str = "magnumd keeps its state in a file of its own, in storage.path";
const NO_WSGI: &str = "magnumd serves HTTP itself";
const NO_POLLING: &str = "it has had no effect for long";

/// Sections of which nothing is used.
pub(super) const SECTIONS: &[(&str, &str)] = &[
    ("database", NO_DATABASE),
    ("oslo_messaging_rabbit", NO_BUS),
    ("oslo_messaging_amqp", NO_BUS),
    ("oslo_messaging_kafka", NO_BUS),
    ("oslo_messaging_notifications", "magnumd sends no notifications"),
    ("oslo_concurrency", "there are no lock files"),
    ("conductor", NO_BUS),
    ("certificates", "keys are sealed in the state file"),
    ("barbican_client", "keys are sealed in the state file"),
    ("profiler", "magnumd shows its metrics at /metrics"),
    ("docker", "it belongs to Docker Swarm"),
    ("docker_registry", "clusters have no registry of their own"),
    ("oslo_reports", "magnumd shows its metrics at /metrics"),
];

macro_rules! rows {
    ($([$section:literal] { $($option:literal => $to:expr,)* })*) => {
        &[$($(Row { section: $section, option: $option, to: $to },)*)*]
    };
}

use To::{DomainId, Key, KeystoneUrl, Nothing, Seconds, Together};

pub(super) const OPTIONS: &[Row] = rows! {
    ["DEFAULT"] {
        "host" => Key("runtime.host"),
        "state_path" => Key("storage.path"),
        "service_down_time" => Seconds("runtime.service_down_time"),
        "debug" => Together,
        "use_json" => Together,
        "use_journal" => Together,
        "log_file" => Nothing("lines go to standard error or, with log.format, to journald"),
        "log_dir" => Nothing("lines go to standard error or, with log.format, to journald"),
        "use_syslog" => Nothing("lines go to standard error or, with log.format, to journald"),
        "use_stderr" => Nothing("lines go to standard error or, with log.format, to journald"),
        "transport_url" => Nothing(NO_BUS),
        "rpc_response_timeout" => Nothing(NO_BUS),
        "control_exchange" => Nothing(NO_BUS),
        "periodic_enable" => Nothing("the periodic look cannot be switched off"),
        "periodic_interval_max" => Nothing("see periodic.sync_interval"),
        "rootwrap_config" => Nothing("magnumd runs no other program"),
        "pybasedir" => Nothing("magnumd has no Python"),
        "bindir" => Nothing("magnumd has no Python"),
    }
    ["api"] {
        "host" => Together,
        "port" => Together,
        "enabled_ssl" => Together,
        "ssl_cert_file" => Together,
        "ssl_key_file" => Together,
        "max_limit" => Key("api.max_limit"),
        "workers" => Key("runtime.worker_threads"),
        "api_paste_config" => Nothing(NO_WSGI),
    }
    ["oslo_middleware"] {
        "enable_proxy_headers_parsing" => Key("api.trust_proxy_headers"),
        "max_request_body_size" => Key("api.max_body_bytes"),
    }
    ["healthcheck"] {
        "disable_by_file_path" => Key("api.healthcheck_disable_file"),
    }
    ["oslo_policy"] {
        "policy_file" => Key("policy.file"),
        "policy_dirs" => Key("policy.dirs"),
        "enforce_scope" => Nothing("rules for projects are always enforced as such"),
        "enforce_new_defaults" => Nothing("the new defaults are the only ones"),
    }
    ["keystone_authtoken"] {
        "www_authenticate_uri" => KeystoneUrl("keystone.public_url"),
        "auth_uri" => KeystoneUrl("keystone.public_url"),
        "token_cache_time" => Seconds("keystone.token_cache"),
        "auth_url" => KeystoneUrl("keystone.auth_url"),
        "auth_type" => Together,
        "username" => Key("keystone.username"),
        "password" => Key("keystone.password"),
        "project_name" => Key("keystone.project"),
        "user_domain_name" => Key("keystone.user_domain"),
        "project_domain_name" => Key("keystone.project_domain"),
        "user_domain_id" => DomainId("keystone.user_domain"),
        "project_domain_id" => DomainId("keystone.project_domain"),
        "cafile" => Key("clients.keystone.ca_file"),
        "insecure" => Key("clients.keystone.insecure"),
        "region_name" => Key("clients.keystone.region"),
        "interface" => Key("clients.keystone.interface"),
        "memcached_servers" => Nothing("validated tokens are remembered in the process"),
        "memcache_servers" => Nothing("validated tokens are remembered in the process"),
        "memcache_security_strategy" => Nothing("validated tokens are remembered in the process"),
        "memcache_secret_key" => Nothing("validated tokens are remembered in the process"),
        "service_token_roles_required" => Nothing("service tokens are not asked for"),
        "service_token_roles" => Nothing("service tokens are not asked for"),
    }
    ["keystone_auth"] {
        "auth_section" => Together,
        "timeout" => Seconds("clients.timeout"),
    }
    ["trust"] {
        "trustee_domain_id" => Key("trust.domain_id"),
        "trustee_domain_name" => Key("trust.domain_name"),
        "trustee_domain_admin_id" => Key("trust.admin_id"),
        "trustee_domain_admin_name" => Key("trust.admin_name"),
        "trustee_domain_admin_password" => Key("trust.admin_password"),
        "trustee_domain_admin_domain_id" => Key("trust.admin_domain_id"),
        "trustee_domain_admin_domain_name" => Key("trust.admin_domain_name"),
        "roles" => Key("trust.roles"),
        "cluster_user_trust" => Nothing("masters hold the trust where label cloud_provider_enabled asks"),
        "trustee_keystone_interface" => Nothing("nodes are told keystone.public_url"),
        "trustee_keystone_region_name" => Nothing("nodes are told keystone.public_url"),
    }
    ["cluster_heat"] {
        "create_timeout" => Key("cluster.create_timeout_mins"),
        "max_attempts" => Nothing(NO_POLLING),
        "wait_interval" => Nothing(NO_POLLING),
    }
    ["cluster"] {
        "etcd_discovery_service_endpoint_format" =>
            Nothing("etcd discovery is magnumd's own, at discovery.advertise_url"),
        "temp_cache_dir" => Nothing("client certificates stay in memory"),
        "nodes_affinity_policy" => Nothing("the driver decides it"),
        "pre_delete_lb_timeout" => Seconds("cluster.lb_delete_timeout"),
    }
    ["quotas"] {
        "max_clusters_per_project" => Key("quota.max_clusters_per_project"),
    }
    ["cluster_template"] {
        "kubernetes_allowed_network_drivers" => Key("kubernetes.allowed_network_drivers"),
        "kubernetes_default_network_driver" => Key("kubernetes.default_network_driver"),
    }
    ["cors"] {
        "allowed_origin" => Key("api.cors.allowed_origins"),
        "allow_credentials" => Nothing("clients send their token in a header, never a cookie"),
        "expose_headers" => Nothing("browsers are shown the headers that clients read"),
        "allow_headers" => Nothing("browsers may send the headers that clients send"),
        "allow_methods" => Nothing("each path allows the methods that it has"),
        "max_age" => Nothing("browsers ask once an hour"),
    }
    ["kubernetes"] {
        "health_polling_interval" => Seconds("periodic.health_interval"),
    }
    ["drivers"] {
        "disabled_drivers" => Key("drivers.disabled"),
        "default_driver" => Key("drivers.default"),
        "enabled_beta_drivers" => Key("drivers.enabled_beta"),
        "verify_ca" => Nothing("nodes always verify; drivers.openstack_ca_file says whom they believe"),
        "openstack_ca_file" => Key("drivers.openstack_ca_file"),
        "send_cluster_metrics" => Nothing("magnumd sends no notifications"),
    }
    ["cinder"] {
        "default_boot_volume_size" => Key("volumes.boot_size_gb"),
        "default_docker_volume_type" => Nothing("Cinder's own default type is used"),
        "default_etcd_volume_type" => Nothing("Cinder's own default type is used"),
        "default_boot_volume_type" => Nothing("Cinder's own default type is used"),
    }
    ["x509"] {
        "allow_ca" => Key("ca.allow_ca"),
        "allowed_extensions" => Key("ca.allowed_extensions"),
        "allowed_key_usage" => Key("ca.allowed_key_usage"),
        "term_of_validity" => Key("ca.validity_days"),
        "rsa_key_size" => Key("ca.rsa_bits"),
    }
};
