//! Every check of the preflight, made to fail once, with its sentence.
//!
//! One test of each line's here, and the pitfall of `tests/cloud/preflight` that brings a real
//! cloud to the same line. [`every_check_has_its_pitfalls`] keeps the table complete.
//!
//! | check | here | on a real cloud |
//! | --- | --- | --- |
//! | keystone | the_password_is_wrong | wrong password |
//! | clock | the_clocks_differ | Keystone lives in the past |
//! | roles | the_service_user_is_no_admin | a role taken away |
//! | trustee-domain | the_domain_has_no_administrator | wrong administrator |
//! | catalogue | the_catalogue_lacks_us | no catalogue entry |
//! | token-life | tokens_are_short | a very long creation |
//! | heat | heat_lacks_a_plugin | no Heat in that region |
//! | external-network | the_external_network_is_full | private network |
//! | discovery | discovery_that_is_slow | loopback for nodes |
//! | bootstrap | bootstrap_cannot_listen | an address that is not ours |
//! | first-contact | everybody_is_trusted | everybody is trusted |
//! | tls | the_api_s_certificate_has_expired | any certificate believed |
//! | disk | a_disk_that_is_nearly_full | a small disk |
//! | certificates | templates_certificates_and_times_of_a_state | certificates of a month |
//! | trust | an_application_credential_may_not_make_trusts | application credential |
//! | template | templates_certificates_and_times_of_a_state | no such template |
//! | image | an_image_without_os_distro | image without os_distro |
//! | flavor | the_flavor_is_tiny | tiny flavor |
//! | stack | no_octavia | TLS disabled |
//! | quota | no_quota_for_cores | few cores |
//! | extras | a_balancer_for_one | floating IPs in a nested cloud |
//! | dns | a_public_resolver | public resolver |
//! | config-drive | a_driver_without_config_drives | a driver without config drives |
//! | timeouts | templates_certificates_and_times_of_a_state | slow creations before |
//! | trial-trust | trials_clean_up_in_every_outcome | a trust that is refused |
//! | trial-boot | trials_clean_up_in_every_outcome | a trial without a network |

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use magnumd::base::clock::Clock;
use magnumd::base::http::server::{self, HttpListener, Limits, Request, Response, Service};
use magnumd::base::http::tls;
use magnumd::base::id::Entropy;
use magnumd::config::Config;
use magnumd::lab::{LabCloud, LabOptions};
use magnumd::openstack::Credentials;
use magnumd::preflight::{self, Finding, Options, Parts, Scene, Verdict, Wanted, trial};
use magnumd::{daemon, lab::Fault};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::harness::{Lab, free_port};

/// Of one look, by the lab's fast clock: 6 s on the wall.
const DEADLINE: Duration = Duration::from_secs(60);

/// A cloud, and an operator who looks at it.
struct Operator {
    cloud: LabCloud,
    place: TempDir,
    configuration: String,
    guest: Option<Credentials>,
}

fn variables(cloud: &LabCloud, user: &str, more: &[(&str, &str)]) -> Credentials {
    let identity = cloud.identity_url();
    let usual = [
        ("OS_AUTH_URL", identity.as_str()),
        ("OS_USERNAME", user),
        ("OS_PASSWORD", "secret"),
        ("OS_PROJECT_NAME", user),
        ("OS_USER_DOMAIN_NAME", "Default"),
        ("OS_PROJECT_DOMAIN_NAME", "Default"),
    ];
    let all: BTreeMap<String, String> = usual
        .iter()
        .chain(more)
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect();
    Credentials::of_variables(&all).unwrap().unwrap()
}

impl Operator {
    async fn new() -> Self {
        Self::at_speed(10.0).await
    }

    async fn at_speed(speed: f64) -> Self {
        tls::install_provider();
        let options = LabOptions { speed, ..LabOptions::default() };
        let cloud = LabCloud::start(options, CancellationToken::new()).await.unwrap();
        let place = tempfile::tempdir().unwrap();
        let configuration = format!(
            "[keystone]\nauth_url = '{identity}'\nusername = 'magnum'\npassword = 'secret'\n\
             [trust]\ndomain_name = 'magnum'\nadmin_name = 'magnum_domain_admin'\n\
             admin_password = 'secret'\n\
             [discovery]\nlisten = '127.0.0.1:{discovery}'\n\
             advertise_url = 'http://127.0.0.1:{discovery}'\nallow_loopback = true\n\
             [bootstrap]\nlisten = '127.0.0.1:{bootstrap}'\n\
             advertise_url = 'https://127.0.0.1:{bootstrap}'\n\
             [storage]\npath = '{state}'\n",
            identity = cloud.identity_url(),
            discovery = free_port(),
            bootstrap = free_port(),
            state = place.path().join("state").display(),
        );
        let guest = Some(variables(&cloud, "demo", &[]));
        Self { cloud, place, configuration, guest }
    }

    fn replace(&mut self, from: &str, to: &str) {
        assert!(self.configuration.contains(from), "{from}");
        self.configuration = self.configuration.replace(from, to);
    }

    fn parts(&self, wanted: Option<Wanted>) -> Parts {
        let path = self.place.path().join("magnumd.toml");
        let config = Config::parse(&path, &self.configuration).unwrap();
        let clock = self.cloud.clock();
        let (cloud, driver_settings) = daemon::preflight(&config, clock.clone()).unwrap();
        Parts {
            cloud,
            drivers: daemon::drivers(&config).unwrap(),
            config,
            driver_settings,
            clock,
            entropy: Entropy::new(),
            guest: self.guest.clone(),
            wanted,
        }
    }

    async fn look(&self, wanted: Option<Wanted>) -> Vec<Finding> {
        let scene = Arc::new(Scene::set(self.parts(wanted)).await);
        preflight::run(&scene, DEADLINE).await
    }

    /// A line of the report about a cluster.
    async fn line(&self, check: &str, options: Options) -> (Verdict, String, String) {
        let wanted = Wanted { template: None, options };
        line(&self.look(Some(wanted)).await, check)
    }
}

/// A cluster that every lab can build.
fn options() -> Options {
    Options {
        image: Some("ubuntu".to_owned()),
        flavor: Some("m1.medium".to_owned()),
        external_network: Some("public".to_owned()),
        masters: 1,
        nodes: 2,
        ..Options::default()
    }
}

fn line(found: &[Finding], check: &str) -> (Verdict, String, String) {
    let finding = found.iter().find(|f| f.check == check);
    let judgement =
        finding.unwrap_or_else(|| panic!("{check} is not among {found:?}")).judgement.clone();
    (judgement.verdict, judgement.sentence, judgement.cure.unwrap_or_default())
}

#[tokio::test(flavor = "multi_thread")]
async fn all_is_well_in_an_untouched_lab() {
    let operator = Operator::new().await;
    for wanted in [None, Some(Wanted { template: None, options: options() })] {
        let found = operator.look(wanted).await;
        assert!(found.len() >= 13);
        let bad: Vec<_> = found.iter().filter(|f| f.judgement.verdict != Verdict::Ok).collect();
        assert!(bad.is_empty(), "{bad:#?}");
    }
    assert_eq!(operator.cloud.leftovers(), Vec::<String>::new());
}

/// One thing that is wrong, and the line that must say so.
macro_rules! pitfall {
    ($name:ident, $check:literal, $verdict:ident, $sentence:literal, $cure:literal,
     |$operator:ident, $options:ident| $spoil:block) => {
        #[tokio::test(flavor = "multi_thread")]
        async fn $name() {
            #[allow(unused_mut, reason = "not every pitfall changes everything")]
            let (mut $operator, mut $options) = (Operator::new().await, options());
            $spoil
            let (verdict, sentence, cure) = $operator.line($check, $options).await;
            assert!(sentence.contains($sentence), "{sentence}");
            assert!(cure.contains($cure), "{cure}");
            assert_eq!(verdict, Verdict::$verdict, "{sentence}");
        }
    };
}

pitfall!(
    keystone_is_away,
    "keystone",
    Fail,
    "does not answer: Keystone is unavailable",
    "auth_url",
    |operator, options| {
        operator.cloud.stop_service("keystone");
    }
);
pitfall!(
    the_password_is_wrong,
    "keystone",
    Fail,
    "does not accept the service account magnum",
    "magnumd setup",
    |operator, options| {
        operator.cloud.set_password("magnum", "other");
    }
);
pitfall!(
    another_line_is_blind_without_keystone,
    "roles",
    Warn,
    "not looked at, because Keystone",
    "see the line keystone",
    |operator, options| {
        operator.cloud.set_password("magnum", "other");
    }
);
pitfall!(the_clocks_differ, "clock", Fail, "clock is 9", "chrony", |operator, options| {
    operator.cloud.set_skew(Duration::from_secs(95));
});
pitfall!(
    the_service_user_is_no_admin,
    "roles",
    Fail,
    "magnum may not validate tokens",
    "openstack role add --user magnum --project service admin",
    |operator, options| {
        operator.cloud.give_role("magnum", "service", "reader");
        operator.cloud.take_role("magnum", "admin");
        operator.cloud.take_role("magnum", "service");
    }
);
pitfall!(
    the_domain_has_no_administrator,
    "trustee-domain",
    Fail,
    "lets nobody into domain magnum as magnum_domain_admin",
    "magnumd setup",
    |operator, options| {
        operator.cloud.take_role("magnum_domain_admin", "admin");
    }
);
pitfall!(
    the_catalogue_lacks_us,
    "catalogue",
    Fail,
    "has no entry container-infra",
    "magnumd setup",
    |operator, options| {
        operator.cloud.forget_service("container-infra");
    }
);
pitfall!(
    the_catalogue_lacks_glance,
    "catalogue",
    Fail,
    "has no endpoint of Glance",
    "catalog list",
    |operator, options| {
        operator.cloud.forget_service("image");
    }
);
pitfall!(
    several_regions_and_none_is_configured,
    "catalogue",
    Fail,
    "Heat, Nova, Neutron, Glance, Magnum in several regions (RegionOne and RegionTwo)",
    "set region in [clients.default]",
    |operator, options| {
        operator.cloud.add_region("RegionTwo");
    }
);
pitfall!(
    another_line_waits_for_the_region,
    "heat",
    Warn,
    "names none (region in [clients.default])",
    "see the line catalogue",
    |operator, options| {
        operator.cloud.add_region("RegionTwo");
    }
);
pitfall!(
    several_regions_and_one_is_configured,
    "catalogue",
    Ok,
    "magnumd is at ",
    "",
    |operator, options| {
        operator.cloud.add_region("RegionTwo");
        operator.configuration.push_str("[clients.default]\nregion = 'RegionOne'\n");
    }
);
pitfall!(
    nodes_would_have_to_guess_the_region,
    "catalogue",
    Warn,
    "nodes are told no region, and their controllers would have to guess between RegionOne and",
    "set region in [clients.default]",
    |operator, options| {
        operator.cloud.add_region("RegionTwo");
        for service in ["heat", "nova", "neutron", "glance", "magnum"] {
            let section = format!("[clients.{service}]\nregion = 'RegionOne'\n");
            operator.configuration.push_str(&section);
        }
    }
);
pitfall!(
    tokens_are_short,
    "token-life",
    Warn,
    "tokens live 10 min",
    "reauthentication_auth_method",
    |operator, options| {
        operator.cloud.set_token_life(Duration::from_secs(600));
    }
);
pitfall!(
    heat_lacks_a_plugin,
    "heat",
    Fail,
    "Heat lacks OS::Neutron::Router",
    "install Neutron",
    |operator, options| {
        operator.cloud.lose_resource_type("OS::Neutron::Router");
    }
);
pitfall!(
    heat_is_broken,
    "heat",
    Fail,
    "Heat gave no clear answer: 500",
    "see that Heat runs",
    |operator, options| {
        operator.fault("heat:GET:/resource_types:status=500");
    }
);
pitfall!(
    heat_is_silent,
    "heat",
    Fail,
    "no answer within 60s",
    "look at the service",
    |operator, options| {
        operator.fault("heat:GET:/resource_types:delay=600s");
    }
);
pitfall!(
    heat_refuses_the_stack,
    "stack",
    Fail,
    "Heat does not take the stack of driver k8s_kubeadm_v1",
    "look at the line heat",
    |operator, options| {
        operator.cloud.lose_resource_type("OS::Neutron::Router");
    }
);
pitfall!(no_image, "image", Fail, "there is no image nope", "image list", |operator, options| {
    options.image = Some("nope".to_owned());
});
pitfall!(
    an_image_without_os_distro,
    "image",
    Fail,
    "doesn't contain os_distro field",
    "openstack image set --property os_distro",
    |operator, options| {
        options.image = Some("no-distro".to_owned());
    }
);
pitfall!(
    an_image_that_no_driver_boots,
    "image",
    Fail,
    "no driver boots image opensuse",
    "another os_distro",
    |operator, options| {
        options.image = Some("opensuse".to_owned());
    }
);
pitfall!(
    image_and_label_disagree,
    "image",
    Fail,
    "but kube_tag asks for v1.30.2",
    "kube_tag",
    |operator, options| {
        operator.cloud.describe_image("ubuntu", 1, 0, "v1.31.4");
        options.labels = vec![("kube_tag".to_owned(), "v1.30.2".to_owned())];
    }
);
pitfall!(
    a_label_that_nobody_knows,
    "stack",
    Warn,
    "does not know the label kube_tga (did you mean kube_tag?): it has no effect",
    "driver show k8s_kubeadm_v1",
    |operator, options| {
        options.labels = vec![("kube_tga".to_owned(), "v1.30.2".to_owned())];
    }
);
pitfall!(
    a_label_that_the_operator_refuses,
    "stack",
    Fail,
    "knows no label kube_tga. Did you mean kube_tag?",
    "change the cluster template",
    |operator, options| {
        operator.configuration.push_str("[cluster]\nunknown_labels = 'refuse'\n");
        options.labels = vec![("kube_tga".to_owned(), "v1.30.2".to_owned())];
    }
);
pitfall!(
    fewer_workers_than_the_label_wants,
    "stack",
    Fail,
    "Invalid input for label min_node_count. Value: '50'. It must be at most node_count, 2",
    "change the cluster template",
    |operator, options| {
        options.labels = vec![("min_node_count".to_owned(), "50".to_owned())];
    }
);
pitfall!(
    limits_of_workers_that_are_no_numbers,
    "stack",
    Fail,
    "Invalid input for label max_node_count. Value: 'many'. It must be a whole number",
    "change the cluster template",
    |operator, options| {
        options.labels = vec![("max_node_count".to_owned(), "many".to_owned())];
    }
);
pitfall!(
    a_label_given_twice,
    "template",
    Fail,
    "the label kube_tag is given twice",
    "give it once",
    |operator, options| {
        let tag = |tag: &str| ("kube_tag".to_owned(), tag.to_owned());
        options.labels = vec![tag("v1.31.4"), tag("v1.30.2")];
    }
);
pitfall!(
    the_image_does_not_fit_the_flavor,
    "flavor",
    Fail,
    "image ubuntu needs 100 GiB of disk",
    "boot_volume_size",
    |operator, options| {
        operator.cloud.describe_image("ubuntu", 100, 0, "v1.31.4");
    }
);
pitfall!(
    the_flavor_is_tiny,
    "flavor",
    Fail,
    "a control plane needs 1700",
    "master_flavor_id",
    |operator, options| {
        options.master_flavor = Some("m1.tiny".to_owned());
    }
);
pitfall!(
    one_processor_is_slow,
    "flavor",
    Warn,
    "has 1 CPU",
    "master_flavor_id",
    |operator, options| {
        options.master_flavor = Some("m1.small".to_owned());
    }
);
pitfall!(
    no_flavor,
    "flavor",
    Fail,
    "there is no flavor nope",
    "flavor list",
    |operator, options| {
        options.flavor = Some("nope".to_owned());
    }
);
pitfall!(
    the_external_network_is_internal,
    "external-network",
    Fail,
    "private is not external",
    "external_network_id",
    |operator, options| {
        options.external_network = Some("private".to_owned());
    }
);
pitfall!(
    the_external_network_is_missing,
    "external-network",
    Fail,
    "there is no network nope",
    "one of: public",
    |operator, options| {
        options.external_network = Some("nope".to_owned());
    }
);
pitfall!(
    the_external_network_is_full,
    "external-network",
    Fail,
    "addresses free, and 4 are needed",
    "floating_ip_enabled",
    |operator, options| {
        operator.cloud.shrink_network("public", 3);
        options.floating_ips = true;
    }
);
pitfall!(
    no_quota_for_servers,
    "quota",
    Fail,
    "3 instances are needed and 2 left",
    "quota set",
    |operator, options| {
        operator.cloud.set_quota("demo", "instances", 2);
    }
);
pitfall!(
    no_quota_for_cores,
    "quota",
    Fail,
    "6 cores are needed and 5 left",
    "quota set",
    |operator, options| {
        operator.cloud.set_quota("demo", "cores", 5);
    }
);
pitfall!(
    no_quota_for_so_many_in_a_server_group,
    "quota",
    Fail,
    "3 servers would share a server group, and Nova allows 2 in one",
    "--server-group-members",
    |operator, options| {
        operator.cloud.set_quota("demo", "server_group_members", 2);
        options.nodes = 3;
        options.labels = vec![("nodes_affinity_policy".to_owned(), "anti-affinity".to_owned())];
    }
);
pitfall!(
    no_quota_for_ram,
    "quota",
    Fail,
    "12288 MiB of RAM are needed and 12000 left",
    "quota set",
    |operator, options| {
        operator.cloud.set_quota("demo", "ram", 12_000);
    }
);
pitfall!(
    no_quota_for_ports,
    "quota",
    Fail,
    "4 ports are needed and 3 left",
    "quota set",
    |operator, options| {
        operator.cloud.set_quota("demo", "ports", 3);
    }
);
pitfall!(
    no_quota_for_networks,
    "quota",
    Fail,
    "1 networks are needed and 0 left",
    "quota set",
    |operator, options| {
        operator.cloud.set_quota("demo", "networks", 0);
    }
);
pitfall!(
    no_quota_for_routers,
    "quota",
    Fail,
    "1 routers are needed and 0 left",
    "quota set",
    |operator, options| {
        operator.cloud.set_quota("demo", "routers", 0);
    }
);
pitfall!(
    no_quota_for_groups,
    "quota",
    Fail,
    "2 security groups are needed and 1 left",
    "quota set",
    |operator, options| {
        operator.cloud.set_quota("demo", "security-groups", 2);
    }
);
pitfall!(
    no_quota_for_floating_ips,
    "quota",
    Fail,
    "3 floating IPs are needed and 2 left",
    "quota set",
    |operator, options| {
        operator.cloud.set_quota("demo", "floatingips", 2);
        options.floating_ips = true;
    }
);
pitfall!(
    no_octavia,
    "stack",
    Fail,
    "master_lb_enabled needs the load balancer service (Octavia)",
    "Set master_lb_enabled to false",
    |operator, options| {
        options.master_lb = true;
    }
);
pitfall!(
    no_cinder,
    "stack",
    Fail,
    "docker_volume_size 5 needs the volume service (Cinder)",
    "Leave docker_volume_size away",
    |operator, options| {
        options.docker_volume_size = Some(5);
    }
);
pitfall!(
    an_unknown_volume_driver,
    "stack",
    Fail,
    "volume_driver rexray is not possible",
    "Change volume_driver",
    |operator, options| {
        options.volume_driver = Some("rexray".to_owned());
    }
);
pitfall!(
    no_tls,
    "stack",
    Fail,
    "tls_disabled is not possible",
    "Set tls_disabled to false",
    |operator, options| {
        options.tls_disabled = true;
    }
);
pitfall!(
    a_balancer_for_one,
    "extras",
    Warn,
    "a load balancer for one master",
    "master_lb_enabled",
    |operator, options| {
        operator.cloud.announce_service("octavia", "load-balancer");
        options.master_lb = true;
    }
);
pitfall!(
    heat_has_not_heard_of_octavia,
    "heat",
    Fail,
    "Heat lacks OS::Octavia::HealthMonitor, OS::Octavia::Listener",
    "install Octavia",
    |operator, options| {
        operator.cloud.announce_service("octavia", "load-balancer");
        options.master_lb = true;
    }
);
pitfall!(
    a_volume_beside_a_large_disk,
    "extras",
    Warn,
    "a docker volume of 5 GiB for every node, whose flavor has 40 GiB",
    "docker_volume_size",
    |operator, options| {
        operator.cloud.announce_service("cinder", "block-storage");
        options.docker_volume_size = Some(5);
    }
);
pitfall!(
    cinder_is_away,
    "quota",
    Fail,
    "Cinder is unavailable",
    "see that Cinder runs",
    |operator, options| {
        operator.cloud.announce_service("cinder", "block-storage");
        options.docker_volume_size = Some(5);
    }
);
pitfall!(
    a_floating_ip_for_every_node,
    "extras",
    Warn,
    "a floating IP for every node",
    "floating_ip_enabled",
    |operator, options| {
        operator.configuration.push_str("[cluster]\nprofile = 'nested'\n");
        options.floating_ips = true;
    }
);
pitfall!(
    a_public_resolver,
    "dns",
    Warn,
    "8.8.8.8 is a resolver of the internet",
    "of this site",
    |operator, options| {
        operator.configuration.push_str("[cluster]\nprofile = 'nested'\n");
        options.dns_nameserver = Some("8.8.8.8".to_owned());
    }
);
pitfall!(
    discovery_is_a_name,
    "discovery",
    Warn,
    "is a name",
    "an IP address",
    |operator, options| {
        operator.replace("advertise_url = 'http://127.0.0.1", "advertise_url = 'http://localhost");
    }
);
pitfall!(
    discovery_is_loopback,
    "discovery",
    Fail,
    "to them 127.0.0.1 is themselves",
    "discovery.advertise_url",
    |operator, options| {
        operator.replace("allow_loopback = true", "allow_loopback = false");
    }
);
pitfall!(
    discovery_listens_elsewhere,
    "discovery",
    Fail,
    "does not answer: cannot connect",
    "discovery.advertise_url",
    |operator, options| {
        operator
            .replace("advertise_url = 'http://127.0.0.1:", "advertise_url = 'http://127.0.0.1:1#");
    }
);
pitfall!(
    bootstrap_cannot_listen,
    "bootstrap",
    Fail,
    "bootstrap.listen 192.0.2.77:9513 cannot be opened",
    "address of this machine",
    |operator, options| {
        let listen = operator.configuration.split("[bootstrap]\nlisten = '").nth(1).unwrap();
        let listen = format!("[bootstrap]\nlisten = '{}'", listen.split('\'').next().unwrap());
        operator.replace(&listen, "[bootstrap]\nlisten = '192.0.2.77:9513'");
    }
);
pitfall!(
    the_api_s_certificate_is_missing,
    "tls",
    Fail,
    "/nowhere.pem is not usable",
    "PEM chain",
    |operator, options| {
        operator.configuration.push_str("[api.tls]\ncert = '/nowhere.pem'\nkey = '/nowhere.key'\n");
    }
);
pitfall!(
    anybody_is_believed,
    "tls",
    Warn,
    "clients.heat accepts any certificate",
    "ca_file",
    |operator, options| {
        operator.configuration.push_str("[clients.heat]\ninsecure = true\n");
    }
);
pitfall!(
    the_state_can_be_read_by_others,
    "disk",
    Warn,
    "can be read by others (mode 755)",
    "chmod 700",
    |operator, options| {
        use std::os::unix::fs::PermissionsExt;
        let mode = std::fs::Permissions::from_mode(0o755);
        let state = operator.place.path().join("state");
        std::fs::create_dir(&state).unwrap();
        std::fs::set_permissions(state, mode).unwrap();
    }
);
pitfall!(
    a_driver_without_config_drives,
    "config-drive",
    Warn,
    "master_0 get no config drive and need the metadata service",
    "a metadata agent runs",
    |operator, options| {
        let (file, from) = ("stack/master.yaml.tera", "config_drive: true");
        crate::drivers::own(operator.place.path(), file, from, "config_drive: false");
        operator.configuration.push_str("[drivers]\ndir = 'drivers'\n");
    }
);
pitfall!(
    everybody_is_trusted,
    "first-contact",
    Warn,
    "trusted_sources has 0.0.0.0/0",
    "NAT or load balancer alone",
    |operator, options| {
        operator.replace("[bootstrap]\n", "[bootstrap]\ntrusted_sources = ['0.0.0.0/0']\n");
    }
);
pitfall!(
    routers_are_not_nodes,
    "first-contact",
    Fail,
    "which first_contact = \"own-address\" does not take",
    "vendor data",
    |operator, options| {
        operator.replace("[bootstrap]\n", "[bootstrap]\nfirst_contact = 'own-address'\n");
        options.floating_ips = false;
    }
);
pitfall!(
    the_api_s_certificate_has_expired,
    "tls",
    Fail,
    "api.crt has expired",
    "renew it",
    |operator, options| {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut parameters = rcgen::CertificateParams::new(["127.0.0.1".to_owned()]).unwrap();
        parameters.not_after = rcgen::date_time_ymd(2026, 1, 31);
        let certificate = parameters.self_signed(&key).unwrap();
        let file = |name: &str, text: String| {
            let path = operator.place.path().join(name);
            std::fs::write(&path, text).unwrap();
            path.display().to_string()
        };
        let cert = file("api.crt", certificate.pem());
        let key = file("api.key", key.serialize_pem());
        let tls = format!("[api.tls]\ncert = '{cert}'\nkey = '{key}'\n");
        operator.configuration.push_str(&tls);
    }
);
pitfall!(
    the_tenant_s_password_is_wrong,
    "trust",
    Fail,
    "does not accept the user demo",
    "OS_CLOUD",
    |operator, options| {
        operator.cloud.set_password("demo", "other");
    }
);
pitfall!(
    nobody_lent_credentials,
    "trust",
    Warn,
    "no tenant's credentials were lent",
    "OS_CLOUD",
    |operator, options| {
        operator.guest = None;
    }
);
pitfall!(
    the_tenant_lacks_a_role,
    "trust",
    Fail,
    "lacks observer",
    "change trust.roles",
    |operator, options| {
        operator.replace("[trust]", "[trust]\nroles = ['observer']");
    }
);
pitfall!(
    no_such_driver,
    "image",
    Fail,
    "no driver boots image ubuntu",
    "drivers here: ",
    |operator, options| {
        operator.configuration.push_str("[drivers]\ndefault = 'nope'\n");
    }
);

impl Operator {
    fn fault(&self, line: &str) {
        self.cloud.inject(line.parse::<Fault>().unwrap());
    }
}

struct Empty;

impl Service for Empty {
    async fn handle(&self, _: Request) -> Response {
        server::empty(hyper::StatusCode::NO_CONTENT)
    }
}

/// What nodes will believe is tried with what they are given, not with what magnumd believes.
#[tokio::test(flavor = "multi_thread")]
async fn nodes_believe_whom_the_operator_names() {
    let mut operator = Operator::new().await;
    let made = || rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned()]).unwrap();
    let (theirs, strange) = (made(), made());
    let settings = tls::server_config(&theirs.cert.pem(), &theirs.signing_key.serialize_pem());
    let (_held, settings) = watch::channel(Arc::new(settings.unwrap()));
    let door = HttpListener::bind(([127, 0, 0, 1], 0).into(), Limits::default()).await.unwrap();
    let address = door.address().unwrap();
    let stop = CancellationToken::new();
    tokio::spawn(door.with_tls(settings).serve(Arc::new(Empty), stop.clone()));
    let file = |name: &str, text: &str| {
        let path = operator.place.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    };
    let (right, wrong) =
        (file("theirs.pem", &theirs.cert.pem()), file("strange.pem", &strange.cert.pem()));
    let odd = file("odd.pem", "no certificate");
    let plain = operator.configuration.replace(
        "password = 'secret'\n[trust]",
        &format!("password = 'secret'\npublic_url = 'https://{address}/v3'\n[trust]"),
    );
    let ours = |file: &str| format!("[clients.default]\nca_file = '{file}'\n");
    let nodes = |file: &str| format!("[drivers]\nopenstack_ca_file = '{file}'\n");
    let unbelieved = format!("would not believe {address} (invalid peer certificate");
    let table = [
        (String::new(), Verdict::Warn, unbelieved.as_str()),
        (nodes(&right), Verdict::Ok, "nodes believe OpenStack by the authorities in"),
        (nodes(&wrong), Verdict::Fail, &unbelieved),
        (nodes("/nowhere.pem"), Verdict::Fail, "authorities in /nowhere.pem: No such file"),
        (nodes(&odd), Verdict::Fail, "holds no PEM certificate"),
        // What magnumd itself believes is theirs too, until it is said otherwise.
        (ours(&right), Verdict::Ok, "nodes believe OpenStack by the authorities in"),
        (ours(&right) + &nodes(&wrong), Verdict::Fail, &unbelieved),
        (ours(&right) + &nodes(""), Verdict::Warn, "the authorities of their image"),
    ];
    for (more, verdict, sentence) in table {
        operator.configuration = format!("{plain}{more}");
        let (found, said, _) = line(&operator.look(None).await, "tls");
        assert_eq!(found, verdict, "{more}: {said}");
        assert!(said.contains(sentence), "{more}: {said}");
    }
    // Nobody is no stranger.
    stop.cancel();
    let away = free_port();
    operator.configuration =
        plain.replace(&address.to_string(), &format!("127.0.0.1:{away}")) + &nodes(&right);
    let (found, said, _) = line(&operator.look(None).await, "tls");
    assert_eq!(found, Verdict::Warn, "{said}");
    assert!(said.contains("nobody answers where nodes are led: 127.0.0.1:"), "{said}");
}

/// etcd gives up after five seconds; a slow address is noticed before a cluster meets it.
#[tokio::test(flavor = "multi_thread")]
async fn discovery_that_is_slow() {
    let operator = Operator::new().await;
    let address = operator.configuration.split("[discovery]\nlisten = '").nth(1).unwrap();
    let address = address.split('\'').next().unwrap().to_owned();
    let listener = tokio::net::TcpListener::bind(&address).await.unwrap();
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            tokio::spawn(async move {
                use tokio::io::AsyncWriteExt;
                tokio::time::sleep(Duration::from_millis(1200)).await;
                let answer = b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n";
                stream.write_all(answer).await.unwrap();
            });
        }
    });
    let (verdict, sentence, _) = line(&operator.look(None).await, "discovery");
    assert!(sentence.contains("answers in 12"), "{sentence}");
    assert_eq!(verdict, Verdict::Warn);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_application_credential_may_not_make_trusts() {
    let mut operator = Operator::new().await;
    let application = |cloud: &LabCloud, unrestricted| {
        let (id, secret) = cloud.application_credential("demo", unrestricted);
        let all = BTreeMap::from([
            ("OS_AUTH_URL".to_owned(), cloud.identity_url()),
            ("OS_APPLICATION_CREDENTIAL_ID".to_owned(), id),
            ("OS_APPLICATION_CREDENTIAL_SECRET".to_owned(), secret),
        ]);
        Credentials::of_variables(&all).unwrap()
    };
    // Some Keystones let this one make trusts, newer ones do not.
    operator.guest = application(&operator.cloud, true);
    let (verdict, sentence, cure) = operator.line("trust", options()).await;
    assert_eq!(verdict, Verdict::Warn, "{sentence}");
    assert!(sentence.contains("is unrestricted, but newer Keystones"), "{sentence}");
    assert!(cure.contains("use a password"), "{cure}");

    operator.guest = application(&operator.cloud, false);
    let (verdict, sentence, cure) = operator.line("trust", options()).await;
    assert_eq!(verdict, Verdict::Fail);
    assert!(sentence.contains("restricted application credential"), "{sentence}");
    assert!(cure.contains("--unrestricted"), "{cure}");

    // Nor look at them; the trial takes its user back all the same.
    let scene = Scene::set(operator.parts(None)).await;
    let found = trial::run(&scene, &CancellationToken::new()).await;
    let (verdict, sentence, _) = line(&found, "trial-trust");
    assert_eq!(verdict, Verdict::Fail);
    assert!(sentence.contains("a trust could not be made and used"), "{sentence}");
    assert!(!sentence.contains("not removed"), "{sentence}");
    assert_eq!(operator.cloud.leftovers(), Vec::<String>::new());
}

/// What one can do without is named where it is there, and where it is not.
#[tokio::test(flavor = "multi_thread")]
async fn the_catalogue_s_services_are_told() {
    let operator = Operator::new().await;
    let told = async || line(&operator.look(None).await, "catalogue").1;
    let said = told().await;
    assert!(said.ends_with("; without Octavia, Cinder, Barbican"), "{said}");
    operator.cloud.announce_service("barbican", "key-manager");
    operator.cloud.announce_service("cinder", "block-storage");
    let said = told().await;
    assert!(said.ends_with("; with Cinder, Barbican; without Octavia"), "{said}");
    operator.cloud.announce_service("octavia", "load-balancer");
    let said = told().await;
    assert!(said.ends_with("; with Octavia, Cinder, Barbican"), "{said}");
}

/// The table at the head of this file is true.
#[tokio::test(flavor = "multi_thread")]
async fn every_check_has_its_pitfalls() {
    let (here, cloud) = (include_str!("preflight.rs"), include_str!("../cloud/preflight"));
    let rows: Vec<[&str; 3]> = here
        .lines()
        .filter_map(|line| line.strip_prefix("//! | ")?.strip_suffix(" |"))
        .skip(2)
        .map(|row| row.split(" | ").collect::<Vec<_>>().try_into().unwrap())
        .collect();
    let operator = Operator::new().await;
    let wanted = || Some(Wanted { template: None, options: options() });
    let mut found = operator.look(wanted()).await;
    let scene = Scene::set(operator.parts(wanted())).await;
    found.extend(trial::run(&scene, &CancellationToken::new()).await);
    let checks: Vec<&str> = found.iter().map(|f| f.check).collect();
    assert_eq!(checks, rows.iter().map(|row| row[0]).collect::<Vec<_>>());
    for [check, test, pitfall] in rows {
        let is_there = [format!("async fn {test}("), format!("!({test}"), format!("    {test},\n")]
            .iter()
            .any(|start| here.contains(start));
        assert!(is_there, "{check}: there is no test {test}");
        let is_there = cloud.contains(&format!("\"{pitfall}\""));
        assert!(is_there, "{check}: nothing makes \"{pitfall}\"");
    }
}

/// What the state tells: read where no daemon holds it, asked of the daemon where one does.
#[tokio::test(flavor = "multi_thread")]
async fn templates_certificates_and_times_of_a_state() {
    // Five seconds on the wall are fifty on the lab's clock.
    let slow = ["keystone:POST:/users:delay=2500ms", "heat:POST:/stacks:delay=2500ms"];
    let mut lab = Lab::with_faults(&slow).await;
    lab.configure("[ca]", "validity_days = 30");
    let token = lab.token("demo").await;
    let daemon = lab.daemon().await;
    let uuid = daemon.create(&token, "k1").await;
    daemon.settled(&token, &uuid).await;
    let guest = Some(variables(&lab.cloud, "demo", &[]));
    let look_at = async |template: &str, clock: Clock| {
        let config = lab.config();
        let (cloud, driver_settings) = daemon::preflight(&config, clock.clone()).unwrap();
        let options = Options { masters: 1, nodes: 1, timeout: 1, ..Options::default() };
        let scene = Scene::set(Parts {
            cloud,
            drivers: daemon::drivers(&config).unwrap(),
            config,
            driver_settings,
            clock,
            entropy: Entropy::new(),
            guest: guest.clone(),
            wanted: Some(Wanted { template: Some(template.to_owned()), options }),
        });
        preflight::run(&Arc::new(scene.await), DEADLINE).await
    };
    let look = async |template| look_at(template, lab.cloud.clock()).await;
    let running = look("k8s").await;
    let (verdict, sentence, _) = line(&running, "template");
    assert_eq!(
        (verdict, sentence.as_str()),
        (Verdict::Ok, "template k8s of the running magnumd with 1 master and 1 worker")
    );
    assert_eq!(line(&running, "stack").0, Verdict::Ok);
    tells_what_is_on_record(&running);
    tells_what_there_is(&look("nope").await);
    // Months later: a second is a hundred days.
    let hurried = Clock::fast(8_640_000.0);
    tokio::time::sleep(Duration::from_millis(500)).await;
    let (verdict, sentence, cure) = line(&look_at("k8s", hurried).await, "certificates");
    assert_eq!(verdict, Verdict::Fail, "{sentence}");
    assert!(sentence.contains("of cluster k1 ended ") && sentence.ends_with(" ago"), "{sentence}");
    assert_eq!(cure, "openstack coe ca rotate CLUSTER");
    // It may hold the state and yet not tell.
    let socket = lab.folder().join("control.sock");
    let aside = lab.folder().join("aside.sock");
    std::fs::rename(&socket, &aside).unwrap();
    let (verdict, sentence, _) = line(&look("k8s").await, "certificates");
    assert_eq!(verdict, Verdict::Warn);
    assert!(sentence.contains("not looked at, because"), "{sentence}");
    assert!(sentence.contains("is in use by another magnumd"), "{sentence}");
    std::fs::rename(&aside, &socket).unwrap();
    daemon.end().await;

    let stopped = look("k8s").await;
    assert_eq!(
        line(&stopped, "template").1,
        "template k8s of the state with 1 master and 1 worker"
    );
    tells_what_is_on_record(&stopped);
    tells_what_there_is(&look("nope").await);
}

/// A short-lived certificate, and a creation that was slow.
fn tells_what_is_on_record(found: &[Finding]) {
    let (verdict, sentence, cure) = line(found, "certificates");
    assert_eq!(verdict, Verdict::Warn, "{sentence}");
    assert!(sentence.contains("of cluster k1 ends in 29 days"), "{sentence}");
    assert_eq!(cure, "openstack coe ca rotate CLUSTER");
    let (verdict, sentence, _) = line(found, "timeouts");
    assert_eq!(verdict, Verdict::Warn, "{sentence}");
    assert!(sentence.starts_with("a creation may take 1 min, but earlier ones took"), "{sentence}");
}

fn tells_what_there_is(found: &[Finding]) {
    let (verdict, sentence, cure) = line(found, "template");
    assert_eq!((verdict, sentence.as_str()), (Verdict::Fail, "there is no cluster template nope"));
    assert_eq!(cure, "name one of: k8s");
}

#[tokio::test(flavor = "multi_thread")]
async fn trials_prove_trust_and_config_drive_and_leave_nothing() {
    let operator = Operator::new().await;
    let wanted = || Some(Wanted { template: None, options: options() });
    let scene = Scene::set(operator.parts(wanted())).await;
    let found = trial::run(&scene, &CancellationToken::new()).await;
    let (verdict, sentence, _) = line(&found, "trial-trust");
    assert_eq!(verdict, Verdict::Ok, "{sentence}");
    assert!(sentence.contains("a trust was made, delegates ") && sentence.contains("member"));
    let (verdict, sentence, _) = line(&found, "trial-boot");
    assert_eq!(verdict, Verdict::Ok, "{sentence}");
    assert!(sentence.contains("with a config drive"), "{sentence}");
    assert_eq!(operator.cloud.leftovers(), Vec::<String>::new());
    assert!(operator.cloud.calls().iter().any(|c| c.starts_with("POST nova /servers 2")));

    operator.cloud.lose_config_drives();
    let found = trial::run(&scene, &CancellationToken::new()).await;
    let (verdict, sentence, cure) = line(&found, "trial-boot");
    assert_eq!(verdict, Verdict::Fail);
    assert!(sentence.contains("without the config drive") && cure.contains("genisoimage"));
    assert_eq!(operator.cloud.leftovers(), Vec::<String>::new());
}

/// Whatever goes wrong in the middle, the trial takes back what it made.
#[tokio::test(flavor = "multi_thread")]
async fn trials_clean_up_in_every_outcome() {
    let faults = [
        ("keystone:POST:/OS-TRUST/trusts:status=403:times=1", "trial-trust", "could not be made"),
        ("keystone:POST:/OS-TRUST/trusts:after:drop:times=1", "trial-trust", "could not be made"),
        ("keystone:POST:/users:after:drop:times=1", "trial-trust", "could not be made"),
        (
            "nova:POST:/servers:error=No valid host was found.",
            "trial-boot",
            "No valid host was found",
        ),
        ("heat:POST:/stacks:after:drop:times=1", "trial-boot", "could not be built"),
    ];
    for (fault, check, part) in faults {
        let operator = Operator::new().await;
        let wanted = Some(Wanted { template: None, options: options() });
        let scene = Scene::set(operator.parts(wanted)).await;
        operator.fault(fault);
        let found = trial::run(&scene, &CancellationToken::new()).await;
        let (verdict, sentence, _) = line(&found, check);
        assert_eq!(verdict, Verdict::Fail, "{fault}: {sentence}");
        assert!(sentence.contains(part), "{fault}: {sentence}");
        assert_eq!(operator.cloud.leftovers(), Vec::<String>::new(), "{fault}");
    }
    // An impatient operator.
    let operator = Operator::new().await;
    let wanted = Some(Wanted { template: None, options: options() });
    let scene = Scene::set(operator.parts(wanted)).await;
    let stop = CancellationToken::new();
    operator.fault("heat:GET:/stacks/*:delay=1s:times=1");
    let interrupt = async {
        tokio::time::sleep(Duration::from_millis(700)).await;
        stop.cancel();
    };
    let (found, ()) = tokio::join!(trial::run(&scene, &stop), interrupt);
    let (_, sentence, _) = line(&found, "trial-boot");
    assert!(sentence.contains("it was cut off"), "{sentence}");
    assert_eq!(operator.cloud.leftovers(), Vec::<String>::new());
}

/// The program itself, by way of a `wrapper` and in an empty environment.
fn verb(wrapper: &[&str], config: &Path) -> Command {
    let words = wrapper.iter().chain(&[env!("CARGO_BIN_EXE_magnumd")]).collect::<Vec<_>>();
    let mut command = Command::new(words[0]);
    command.args(&words[1..]).args(["preflight", "--output", "json", "--config"]).arg(config);
    command.env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
    command
}

/// Disks of several sizes, mounted where nobody else sees them; not every machine allows that.
#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_is_nearly_full() {
    let apart = if rustix::process::geteuid().is_root() { "-m" } else { "-rm" };
    let probe =
        Command::new("unshare").args([apart, "mount", "-t", "tmpfs", "none", "/mnt"]).output();
    if !probe.is_ok_and(|output| output.status.success()) {
        eprintln!("no mount namespaces here: not tried");
        return;
    }
    let operator = Operator::at_speed(1.0).await;
    let config = operator.place.path().join("magnumd.toml");
    std::fs::write(&config, &operator.configuration).unwrap();
    let state = operator.place.path().join("state");
    std::fs::create_dir(&state).unwrap();
    for (size, verdict, words, code) in [
        ("16m", "fail", "has 16 MiB left", 1),
        ("512m", "warn", "has only 512 MiB left", 0),
        ("2g", "ok", "has 2 GiB left", 0),
    ] {
        let mount = format!("mount -t tmpfs -o mode=700,size={size} none \"$1\" && shift");
        let script = format!("{mount} && exec \"$@\"");
        let state = state.to_str().unwrap();
        let mut command = verb(&["unshare", apart, "sh", "-c", &script, "sh", state], &config);
        let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
        let body: Value = serde_json::from_slice(&output.stdout).unwrap();
        let checks = body["checks"].as_array().unwrap();
        let disk = checks.iter().find(|c| c["check"] == "disk").unwrap();
        assert_eq!(disk["verdict"], verdict, "{disk}");
        assert!(disk["sentence"].as_str().unwrap().contains(words), "{disk}");
        assert_eq!(output.status.code(), Some(code), "{body}");
    }
}

/// What programs see: one JSON document, and an exit code.
#[tokio::test(flavor = "multi_thread")]
async fn the_verb_speaks_json_and_exit_codes() {
    // The program lives by the wall's clock.
    let operator = Operator::at_speed(1.0).await;
    let config = operator.place.path().join("magnumd.toml");
    std::fs::write(&config, &operator.configuration).unwrap();
    let run = async |config: std::path::PathBuf, more: &'static [&'static str]| {
        let mut command = verb(&[], &config);
        command.args(more).envs([
            ("OS_AUTH_URL", operator.cloud.identity_url().as_str()),
            ("OS_USERNAME", "demo"),
            ("OS_PASSWORD", "secret"),
            ("OS_PROJECT_NAME", "demo"),
        ]);
        let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
        let body: Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
        (output.status.code(), body, String::from_utf8(output.stderr).unwrap())
    };
    const CLUSTER: &[&str] =
        &["--image", "ubuntu", "--flavor", "m1.medium", "--external-network", "public"];
    let (code, body, _) = run(config.clone(), CLUSTER).await;
    assert_eq!((code, &body["verdict"]), (Some(0), &json!("ok")), "{body}");
    assert!(body["checks"].as_array().unwrap().len() > 20);
    let (code, body, _) = run(config.clone(), &["--image", "nope"]).await;
    assert_eq!((code, &body["verdict"]), (Some(1), &json!("fail")), "{body}");
    let image = body["checks"].as_array().unwrap().iter().find(|c| c["check"] == "image").unwrap();
    assert_eq!(image["sentence"], "there is no image nope");
    assert!(image["cure"].as_str().unwrap().contains("openstack image list"));
    std::fs::write(&config, "[keystone]\nuser = 'x'\n").unwrap();
    let (code, _, said) = run(config, &[]).await;
    assert_eq!(code, Some(78));
    assert!(
        said.contains("did you mean 'username'") || said.contains("unknown key 'user'"),
        "{said}"
    );
}
